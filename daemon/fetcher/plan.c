/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/plan.h"

#include <errno.h>
#include <string.h>

#define RANK_BYTES KIB(1)

/**
 * struct item - a range on its way into a plan
 * @at:		in the trace's data
 * @pos:	bytes of the trace before it
 */
struct item {
	uint64_t off;
	uint64_t at;
	uint64_t len;
	uint64_t pos;
	uint32_t layer;
};

/* Room for ranges that are cut: each is full but for one a read. */
#define ITEMS_MAX (1 + TRACE_READS_MAX + PLAN_BYTES_MAX / PLAN_RANGE_BYTES_MAX)

void plan_done(struct plan *p)
{
	free(p->v);
	free(p->by_place);
	free(p->first);
	free(p->layers);
	*p = (struct plan){0};
}

static int compare_place(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->layer != y->layer)
		return x->layer < y->layer ? -1 : 1;
	if (x->off != y->off)
		return x->off < y->off ? -1 : 1;
	return x->pos < y->pos ? -1 : x->pos > y->pos;
}

/* By rank; of the same, by place. */
static int compare_rank(const void *a, const void *b)
{
	const struct plan_range *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	if (x->layer != y->layer)
		return x->layer < y->layer ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

/* Not its first bytes. */
static void leave_out(struct item *it, uint64_t n)
{
	it->off += n;
	it->at += n;
	it->len -= n;
}

/* Takes the opening out of a read of its blob. Return: where its last byte in
 * there ends, 0: it has none */
static uint64_t leave_opening(struct item *it)
{
	uint64_t cut;

	if (it->off >= PLAN_OPENING_BYTES)
		return 0;
	cut = MIN(it->len, PLAN_OPENING_BYTES - it->off);
	leave_out(it, cut);
	return it->off;
}

/* All but what is in the opening of layer @opened, of which @ret_opening bytes
 * are named. Return: number of items */
static size_t take_reads(const struct trace *t, size_t opened, struct item *v,
			 uint64_t *ret_opening)
{
	uint64_t pos = 0;
	size_t n = 0;

	*ret_opening = 0;
	for (size_t i = 0; i < t->n_reads && pos < PLAN_BYTES_MAX; i++) {
		const struct trace_read *r = &t->reads[i];
		struct item it = {
			.off = r->off,
			.at = pos,
			.len = MIN(r->len, PLAN_BYTES_MAX - pos),
			.pos = pos,
			.layer = r->layer,
		};

		pos += it.len;
		if (it.layer == opened)
			*ret_opening = MAX(*ret_opening, leave_opening(&it));
		if (it.len > 0)
			v[n++] = it;
	}
	return n;
}

/* Takes out what is named twice; in place, sorted. Return: how many are left */
static size_t make_disjoint(struct item *v, size_t n)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		struct item *last = out > 0 ? &v[out - 1] : NULL;
		struct item it = v[i];

		if (last != NULL && last->layer == it.layer &&
		    it.off < last->off + last->len) {
			uint64_t cut = last->off + last->len - it.off;

			if (cut >= it.len)
				continue;
			leave_out(&it, cut);
		}
		v[out++] = it;
	}
	return out;
}

static bool may_merge(const struct item *a, const struct item *b)
{
	const struct item *late = a->pos > b->pos ? a : b;

	return a->layer == b->layer &&
	       (late->len <= PLAN_SMALL_BYTES ||
		a->pos / PLAN_EPOCH_BYTES == b->pos / PLAN_EPOCH_BYTES) &&
	       b->off - (a->off + a->len) <= PLAN_GAP_BYTES &&
	       b->off + b->len - a->off <= PLAN_RANGE_BYTES_MAX;
}

/* In place, sorted and disjoint. Return: how many are left */
static size_t merge(struct item *v, size_t n)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		struct item *last = out > 0 ? &v[out - 1] : NULL;

		if (last == NULL || !may_merge(last, &v[i])) {
			v[out++] = v[i];
			continue;
		}
		last->len = v[i].off + v[i].len - last->off;
		last->pos = MIN(last->pos, v[i].pos);
	}
	return out;
}

/* Ranges of a bounded length. Return: how many */
static size_t cut(const struct item *v, size_t n, struct plan_range *ret)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		for (uint64_t at = 0; at < v[i].len; out++) {
			uint64_t len = MIN(v[i].len - at, PLAN_RANGE_BYTES_MAX);

			ret[out] = (struct plan_range){
				.off = v[i].off + at,
				.at = v[i].at + at,
				.len = (uint32_t)len,
				.layer = v[i].layer,
				.rank = (uint32_t)((v[i].pos + at) /
						   RANK_BYTES) +
					1,
			};
			at += len;
		}
	}
	return out;
}

static int compare_number(const void *a, const void *b, void *arg)
{
	const struct plan_range *v = arg;
	const struct plan_range *x = &v[*(const uint32_t *)a];
	const struct plan_range *y = &v[*(const uint32_t *)b];

	if (x->layer != y->layer)
		return x->layer < y->layer ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

static void index_places(struct plan *p)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < p->n; i++)
		p->by_place[i] = i;
	qsort_r(p->by_place, p->n, sizeof(*p->by_place), compare_number, p->v);
	for (size_t layer = 0; layer <= p->n_layers; layer++) {
		while (at < p->n && p->v[p->by_place[at]].layer < layer)
			at++;
		p->first[layer] = at;
	}
}

int plan_make(struct trace *t, size_t opened, struct plan *ret)
{
	struct plan p = {.n_layers = t->n_layers};
	CLEANUP_FREE struct item *items =
		calloc(t->n_reads + 1, sizeof(*items));
	struct plan_range *shrunk;
	uint64_t opening;
	size_t n;

	p.v = calloc(ITEMS_MAX, sizeof(*p.v));
	p.first = calloc(t->n_layers + 1, sizeof(*p.first));
	if (items != NULL && p.v != NULL) {
		n = take_reads(t, opened, items, &opening);
		qsort(items, n, sizeof(*items), compare_place);
		n = make_disjoint(items, n);
		if (!t->has_data)
			n = merge(items, n);
		if (opening > 0)
			p.v[p.n++] = (struct plan_range){
				.len = (uint32_t)opening,
				.layer = (uint32_t)opened,
				.rank = 1,
			};
		p.n += cut(items, n, p.v + p.n);
		assert(p.n <= ITEMS_MAX);
	}
	p.by_place = calloc(p.n + 1, sizeof(*p.by_place));
	if (items == NULL || p.v == NULL || p.first == NULL ||
	    p.by_place == NULL) {
		plan_done(&p);
		return -ENOMEM;
	}
	shrunk = realloc(p.v, (p.n + 1) * sizeof(*p.v));
	if (shrunk != NULL)
		p.v = shrunk;
	qsort(p.v, p.n, sizeof(*p.v), compare_rank);
	index_places(&p);
	p.layers = TAKE_PTR(t->layers);
	*ret = p;
	return 0;
}

size_t plan_layer(const struct plan *p, const struct digest *blob)
{
	size_t i = 0;

	while (i < p->n_layers && !digest_equal(&p->layers[i], blob))
		i++;
	return i;
}

uint32_t plan_place(const struct plan *p, size_t layer, uint64_t off)
{
	uint32_t lo = p->first[layer], hi = p->first[layer + 1];

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		const struct plan_range *r = &p->v[p->by_place[mid]];

		if (r->off + r->len <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}
