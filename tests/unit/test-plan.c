/* SPDX-License-Identifier: Apache-2.0 */
/* From a trace to ranges: merged, disjoint, bounded, in order. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/fetcher/plan.h"

#define N_LAYERS 3u

static struct plan make_plan(const struct trace_read *reads, size_t n,
			     size_t opened, bool has_data)
{
	struct trace t = {
		.has_data = has_data,
		.layers = calloc(N_LAYERS, sizeof(struct digest)),
		.n_layers = N_LAYERS,
		.reads = calloc(n, sizeof(*reads)),
		.n_reads = n,
	};
	struct plan p = {0};

	assert_non_null(t.layers);
	assert_non_null(t.reads);
	for (uint8_t i = 0; i < N_LAYERS; i++)
		t.layers[i].b[0] = i;
	memcpy(t.reads, reads, n * sizeof(*reads));
	assert_int_equal(plan_make(&t, opened, &p), 0);
	trace_done(&t);
	return p;
}

static struct plan make_opened(const struct trace_read *reads, size_t n,
			       size_t opened)
{
	return make_plan(reads, n, opened, false);
}

static struct plan make(const struct trace_read *reads, size_t n)
{
	return make_opened(reads, n, N_LAYERS);
}

/* Ranges of a layer are in order, apart, and of a bounded length. */
static void sound(const struct plan *p)
{
	assert_int_equal(p->first[0], 0);
	assert_int_equal(p->first[p->n_layers], p->n);
	for (size_t k = 0; k < p->n_layers; k++) {
		uint64_t end = 0;

		for (uint32_t i = p->first[k]; i < p->first[k + 1]; i++) {
			const struct plan_range *r = &p->v[p->by_place[i]];

			assert_int_equal(r->layer, k);
			assert_true(r->off >= end);
			assert_in_range(r->len, 1, PLAN_RANGE_BYTES_MAX);
			assert_true(r->rank > 0);
			end = r->off + r->len;
		}
	}
	for (size_t i = 1; i < p->n; i++)
		assert_true(p->v[i - 1].rank <= p->v[i].rank);
}

static void is_range(const struct plan *p, size_t i, uint32_t layer,
		     uint64_t off, uint64_t len)
{
	assert_true(i < p->n);
	assert_int_equal(p->v[i].layer, layer);
	assert_int_equal(p->v[i].off, off);
	assert_int_equal(p->v[i].len, len);
}

static void test_in_the_order_of_the_trace(void **state)
{
	static const struct trace_read t[] = {
		{2, MIB(7), KIB(400)},
		{0, MIB(9), KIB(400)},
		{2, MIB(1), KIB(400)},
		{1, 0, KIB(400)},
	};
	struct plan p = make(t, ARRAY_SIZE(t));

	(void)state;
	sound(&p);
	assert_int_equal(p.n, 4);
	for (size_t i = 0; i < 4; i++)
		is_range(&p, i, t[i].layer, t[i].off, t[i].len);
	assert_int_equal(p.v[0].rank, 1);
	assert_int_equal(p.v[3].rank, 1201);
	plan_done(&p);
}

static void test_neighbours_are_one_range(void **state)
{
	static const struct trace_read t[] = {
		{0, KIB(100), KIB(20)}, {1, 0, KIB(20)},
		{0, KIB(80), KIB(20)},  /* touches */
		{0, KIB(128), KIB(20)}, /* near */
		{0, KIB(180), KIB(4)},  /* not near */
		{0, KIB(192), KIB(4)},  /* as near as anything */
	};
	struct plan p = make(t, ARRAY_SIZE(t));

	(void)state;
	sound(&p);
	assert_int_equal(p.n, 3);
	is_range(&p, 0, 0, KIB(80), KIB(68));
	is_range(&p, 1, 1, 0, KIB(20));
	is_range(&p, 2, 0, KIB(180), KIB(16));
	plan_done(&p);
}

/* What is wanted much later is not fetched with what is wanted now. */
static void test_late_neighbours_stay_apart(void **state)
{
	static const struct trace_read t[] = {
		{0, 0, KIB(100)},
		{1, 0, MIB(2)},
		{0, KIB(100), KIB(100)},
	};
	struct plan p = make(t, ARRAY_SIZE(t));

	(void)state;
	sound(&p);
	assert_int_equal(p.n, 6);
	is_range(&p, 0, 0, 0, KIB(100));
	for (size_t i = 0; i < 4; i++)
		is_range(&p, 1 + i, 1, i * KIB(512), KIB(512));
	is_range(&p, 5, 0, KIB(100), KIB(100));
	plan_done(&p);
}

/* But for what is not worth a request. */
static void test_small_late_neighbours(void **state)
{
	static const struct trace_read t[] = {
		{0, KIB(100), KIB(100)},         {1, 0, MIB(1)},
		{0, KIB(208), PLAN_SMALL_BYTES}, {0, KIB(90), 100},
		{0, KIB(250), KIB(1)},
	};
	struct plan p = make(t, ARRAY_SIZE(t));

	(void)state;
	sound(&p);
	assert_int_equal(p.n, 4);
	is_range(&p, 0, 0, KIB(90), KIB(134));
	is_range(&p, 3, 0, KIB(250), KIB(1));
	plan_done(&p);
}

/* What was asked for before there was a trace is the first range, as far as it is
 * named; the rest of a read that begins there has its own place. */
static void test_opening(void **state)
{
	static const struct trace_read t[] = {
		{0, 100, 100},
		{1, KIB(64), KIB(4)},
		{1, PLAN_OPENING_BYTES - KIB(4), KIB(100)},
		{1, 0, 1},
		{1, PLAN_OPENING_BYTES, KIB(8)},
	};
	struct plan p = make_opened(t, ARRAY_SIZE(t), 1);

	(void)state;
	sound(&p);
	assert_int_equal(p.n, 3);
	is_range(&p, 0, 0, 100, 100);
	is_range(&p, 1, 1, 0, PLAN_OPENING_BYTES);
	is_range(&p, 2, 1, PLAN_OPENING_BYTES, KIB(96));
	plan_done(&p);

	p = make_opened(t, 2, 1);
	assert_int_equal(p.n, 2);
	is_range(&p, 1, 1, 0, KIB(68));
	plan_done(&p);

	p = make_opened(t, 2, 2);
	assert_int_equal(p.n, 2);
	is_range(&p, 1, 1, KIB(64), KIB(4));
	plan_done(&p);
}

/* Of data, each range is where its read is: nothing between two is fetched. */
static void test_data(void **state)
{
	static const struct trace_read t[] = {
		{1, PLAN_OPENING_BYTES - 100, 3000},
		{0, KIB(100), KIB(600)},
		{0, KIB(90), KIB(20)}, /* of which half is named already */
		{0, KIB(702), 1},
	};
	struct plan p = make_plan(t, ARRAY_SIZE(t), 1, true);

	(void)state;
	sound(&p);
	assert_int_equal(p.n, 6);
	is_range(&p, 0, 1, 0, PLAN_OPENING_BYTES);
	for (size_t i = 1; i < p.n; i++) {
		const struct plan_range *v = &p.v[i];
		uint64_t at = 0;
		bool found = false;

		for (size_t k = 0; k < ARRAY_SIZE(t); at += t[k++].len)
			found = found ||
				(v->layer == t[k].layer && v->off >= t[k].off &&
				 v->off + v->len <= t[k].off + t[k].len &&
				 v->at == at + v->off - t[k].off);
		assert_true(found);
	}
	plan_done(&p);
}

static void test_nothing_twice(void **state)
{
	static const struct trace_read t[] = {
		{0, 100, 100}, {0, 100, 100}, {0, 150, 100},
		{0, 0, 1000},  {0, 0, 1},     {0, 999, 2},
	};
	struct plan p = make(t, ARRAY_SIZE(t));

	(void)state;
	sound(&p);
	assert_int_equal(p.n, 1);
	is_range(&p, 0, 0, 0, 1001);
	plan_done(&p);
}

static void test_huge(void **state)
{
	static const struct trace_read t[] = {
		{0, 1, INT64_MAX - 1}, {1, 0, 1}, /* after too much */
	};
	struct plan p = make(t, ARRAY_SIZE(t));

	(void)state;
	sound(&p);
	assert_int_equal(p.n, PLAN_BYTES_MAX / PLAN_RANGE_BYTES_MAX);
	plan_done(&p);
}

static void test_many(void **state)
{
	struct trace_read *t = calloc(TRACE_READS_MAX, sizeof(*t));
	struct plan p;

	(void)state;
	assert_non_null(t);
	for (uint32_t i = 0; i < TRACE_READS_MAX; i++)
		t[i] = (struct trace_read){
			.layer = i % N_LAYERS,
			.off = (uint64_t)(i * 2654435761u),
			.len = i % 7 == 0 ? MIB(600) : i % 50000 + 1,
		};
	p = make(t, TRACE_READS_MAX);
	sound(&p);
	plan_done(&p);
	p = make(t + 1, 6);
	sound(&p);
	plan_done(&p);
	free(t);
}

static void test_empty(void **state)
{
	static const struct trace_read none[1];
	struct plan p = make(none, 0);

	(void)state;
	sound(&p);
	assert_int_equal(p.n, 0);
	assert_int_equal(plan_place(&p, 1, 0), 0);
	plan_done(&p);
}

static void test_places(void **state)
{
	static const struct trace_read t[] = {
		{1, MIB(3), 100}, {1, MIB(1), 100}, {2, 0, 100}};
	struct digest d = {.b = {1}};
	struct plan p = make(t, ARRAY_SIZE(t));

	(void)state;
	assert_int_equal(plan_layer(&p, &d), 1);
	d.b[0] = 9;
	assert_int_equal(plan_layer(&p, &d), N_LAYERS);
	assert_int_equal(plan_place(&p, 1, 0), 0);
	assert_int_equal(plan_place(&p, 1, MIB(1) + 99), 0);
	assert_int_equal(plan_place(&p, 1, MIB(1) + 100), 1);
	assert_int_equal(plan_place(&p, 1, MIB(4)), 2);
	assert_int_equal(p.v[p.by_place[1]].off, MIB(3));
	plan_done(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_the_order_of_the_trace),
		cmocka_unit_test(test_neighbours_are_one_range),
		cmocka_unit_test(test_late_neighbours_stay_apart),
		cmocka_unit_test(test_small_late_neighbours),
		cmocka_unit_test(test_opening),
		cmocka_unit_test(test_data),
		cmocka_unit_test(test_nothing_twice),
		cmocka_unit_test(test_huge),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
