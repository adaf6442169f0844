/* SPDX-License-Identifier: Apache-2.0 */
/* The data of a trace: what it has, and how it is read. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "cli/hints.h"

#define LAYERS 2u
#define BLOB_BYTES MIB(12)

/* How layers were read; the layers are numbers of their bytes. */
static struct {
	unsigned asked;
	size_t longest;
	unsigned fail_at; /* that request; 0: none */
} seen;

static char byte_of(unsigned layer, uint64_t off)
{
	return (char)(off * 7 + (off >> 9) + layer * 101);
}

static int range(void *arg, uint64_t off, size_t n, struct buf *ret,
		 uint64_t *ret_size, struct err *e)
{
	const unsigned *layer = arg;

	seen.longest = MAX(seen.longest, n);
	if (++seen.asked == seen.fail_at)
		return err_set(e, -EIO, "registry: status 503");
	assert_true(off <= BLOB_BYTES && n <= BLOB_BYTES - off);
	assert_int_equal(buf_reserve(ret, n), 0);
	for (size_t i = 0; i < n; i++)
		ret->p[ret->len++] = byte_of(*layer, off + i);
	*ret_size = BLOB_BYTES;
	return 0;
}

/* As hints_data(), of two layers. What it makes is compared. */
static int data_of(struct trace_read *v, size_t n, struct buf *ret,
		   struct err *e)
{
	/* The trace counts them in another order. */
	unsigned numbers[LAYERS] = {1, 0};
	struct digest blobs[LAYERS] = {{{2}}, {{1}}};
	struct hints_layer layers[LAYERS] = {
		{.blob = blobs[1], .in = {range, &numbers[0]}},
		{.blob = blobs[0], .in = {range, &numbers[1]}},
	};
	const struct trace t = {
		.layers = blobs, .n_layers = LAYERS, .reads = v, .n_reads = n};
	int r;

	seen.asked = 0;
	seen.longest = 0;
	r = hints_data(&t, layers, ret, e);
	if (r <= 0)
		assert_int_equal(ret->len, 0);
	for (size_t i = 0, at = 0; r == 1 && i < n; i++) {
		for (uint64_t k = 0; k < v[i].len; k++, at++)
			assert_int_equal(ret->p[at],
					 byte_of(v[i].layer, v[i].off + k));
		if (i + 1 == n)
			assert_int_equal(ret->len, at);
	}
	return r;
}

/* In the order of the trace; what is near is read once. */
static void test_neighbours_are_read_together(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	struct trace_read v[] = {
		{0, 9000, 1000},
		{1, 5000, 100},
		{0, 0, 1000},
		{0, 10000, 500},
		{0, 500, 700}, /* some of it again */
		{1, 5100 + HINTS_DATA_NEAR_BYTES, 10},
		{1, 5111 + 2 * HINTS_DATA_NEAR_BYTES, 10},
	};

	(void)state;
	assert_int_equal(data_of(v, ARRAY_SIZE(v), &b, NULL), 1);
	assert_int_equal(seen.asked, 3);
}

/* Many of them in some order, and one that is longer than what is read at a time. */
static void test_reading_is_bounded(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(20));
	struct trace_read v[101];

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		v[i] = (struct trace_read){0, (i * 37 % 100) * 100000ull,
					   70000};
	v[100] = (struct trace_read){1, 17, MIB(9)};
	assert_int_equal(data_of(v, ARRAY_SIZE(v), &b, NULL), 1);
	assert_true(seen.longest <= HINTS_DATA_STEP_BYTES);
	assert_int_equal(seen.asked, 3 + 3);
}

static void test_more_than_fits(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(1000);
	struct trace_read v[] = {{0, 0, 500}, {0, 500, 501}};

	(void)state;
	assert_int_equal(data_of(v, ARRAY_SIZE(v), &b, NULL), 0);
	assert_int_equal(seen.asked, 0);
	v[1].len = 500;
	assert_int_equal(data_of(v, ARRAY_SIZE(v), &b, NULL), 1);
}

static void test_what_cannot_be_read(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	struct trace_read v[] = {{0, 0, 500}, {1, 500, 501}};
	struct err e = {0};

	(void)state;
	seen.fail_at = 2;
	assert_int_equal(data_of(v, ARRAY_SIZE(v), &b, &e), -EIO);
	assert_string_equal(e.text, "registry: status 503");
	seen.fail_at = 0;
	assert_int_equal(data_of(v, ARRAY_SIZE(v), &b, NULL), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_neighbours_are_read_together),
		cmocka_unit_test(test_reading_is_bounded),
		cmocka_unit_test(test_more_than_fits),
		cmocka_unit_test(test_what_cannot_be_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
