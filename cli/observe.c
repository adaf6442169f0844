/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/observe.h"

#include <string.h>

#include "common/toc_text.h"

#define NO_LAYER UINT32_MAX

/**
 * struct seen - a read
 * @path:	cleaned; owned by the log
 * @start:	when it was asked for; then its number among all, from 1 on
 * @file:	in the record, before that is sorted
 */
struct seen {
	const char *path;
	uint64_t off;
	uint64_t len;
	uint64_t start;
	uint32_t layer;
	uint32_t file;
};

struct all_seen {
	struct seen *v;
	size_t n;
};

/* The number of the layer that was mounted. */
static uint32_t find_layer(const struct observe_layer *layers, size_t n,
			   const struct evlog_layer *l)
{
	while (n-- > 0) {
		char hex[DIGEST_HEX_BYTES + 1];

		if (strncmp(digest_hex(&layers[n].toc, hex), l->id, EVLOG_ID) ==
		    0)
			return layers[n].index;
	}
	return NO_LAYER;
}

static bool is_path(const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);
	size_t len = strlen(path);

	return copy != NULL && toc_path_clean(copy, &len) == 0 && len > 0 &&
	       strcmp(copy, path) == 0;
}

/* The reads of all layers that are asked about. */
static int collect(const struct evlog *log, const struct observe_layer *layers,
		   size_t n_layers, struct all_seen *all)
{
	CLEANUP_FREE uint32_t *of = calloc(log->n_layers + 1, sizeof(*of));
	CLEANUP_FREE bool *ok = calloc(log->n_files + 1, sizeof(*ok));

	all->v = calloc((size_t)log->n_items + 1, sizeof(*all->v));
	if (of == NULL || ok == NULL || all->v == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < log->n_layers; i++)
		of[i] = find_layer(layers, n_layers, &log->layers[i]);
	for (uint32_t i = 0; i < log->n_files; i++)
		ok[i] = is_path(log->files[i]->path);
	for (uint32_t i = 0; i < log->n_items; i++) {
		const struct evlog_item *x = &log->items[i];

		if (x->kind != EVLOG_READ || x->len == 0 ||
		    of[x->layer] == NO_LAYER || !ok[x->file])
			continue;
		all->v[all->n++] = (struct seen){
			.path = log->files[x->file]->path,
			.off = x->off,
			.len = x->len,
			.start = x->end_us - x->us,
			.layer = of[x->layer],
		};
	}
	return 0;
}

/* ---- order ------------------------------------------------------------- */

static int cmp_u64(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int by_start(const void *pa, const void *pb)
{
	const struct seen *a = pa, *b = pb;
	int c = cmp_u64(a->start, b->start);

	/* Of the same microsecond, what is the same on every machine. */
	if (c == 0)
		c = cmp_u64(a->layer, b->layer);
	if (c == 0)
		c = strcmp(a->path, b->path);
	return c != 0 ? c : cmp_u64(a->off, b->off);
}

static int by_place(const void *pa, const void *pb)
{
	const struct seen *a = pa, *b = pb;
	int c = cmp_u64(a->layer, b->layer);

	if (c == 0)
		c = strcmp(a->path, b->path);
	return c != 0 ? c : cmp_u64(a->off, b->off);
}

static bool same_file(const struct seen *a, const struct seen *b)
{
	return a->layer == b->layer && strcmp(a->path, b->path) == 0;
}

/* A range while it grows. */
struct span {
	uint64_t off;
	uint64_t end;
	uint64_t read; /* of it */
	uint64_t first;
};

/* Takes the next read into the span. Return: whether it did */
static bool span_add(struct span *s, const struct seen *v)
{
	uint64_t gap = v->off > s->end ? v->off - s->end : 0;
	uint64_t end = v->off + v->len;
	uint64_t fresh = end > s->end ? MIN(v->len, end - s->end) : 0;

	if (gap > OBSERVE_GAP_BYTES ||
	    s->end - s->off - s->read + gap > s->read + fresh)
		return false;
	s->end = MAX(s->end, end);
	s->read += fresh;
	s->first = MIN(s->first, v->start);
	return true;
}

static int cmp_span(const void *pa, const void *pb)
{
	const struct span *a = pa, *b = pb;

	return cmp_u64(a->first, b->first);
}

/* The ranges of a file, of its reads [@n] in the order of their places. */
static int add_file(struct observed *o, const struct seen *v, size_t n,
		    const struct digest *manifest)
{
	struct record_file *f = record_add(&o->record, v->path);
	CLEANUP_FREE struct span *spans = calloc(n, sizeof(*spans));
	size_t n_spans = 0;
	int r = 0;

	if (f == NULL || spans == NULL)
		return -ENOMEM;
	f->manifest = *manifest;
	f->layer = v->layer;
	for (size_t i = 0; i < n; i++) {
		if (n_spans > 0 && span_add(&spans[n_spans - 1], &v[i]))
			continue;
		spans[n_spans++] = (struct span){
			.off = v[i].off,
			.end = v[i].off + v[i].len,
			.read = v[i].len,
			.first = v[i].start,
		};
	}
	qsort(spans, n_spans, sizeof(*spans), cmp_span);
	for (size_t i = 0; r == 0 && i < n_spans; i++) {
		o->bytes += spans[i].read;
		r = record_add_range(f, spans[i].off,
				     spans[i].end - spans[i].off,
				     spans[i].first);
	}
	return r;
}

/* Sorts the files by their first read. @order: [n] of each its place. */
static int sort_files(struct record *rec, uint32_t *order)
{
	size_t n = rec->n_files;
	CLEANUP_FREE struct span *keys = calloc(n, sizeof(*keys));
	CLEANUP_FREE struct record_file *sorted = calloc(n, sizeof(*sorted));

	if (keys == NULL || sorted == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		keys[i] = (struct span){
			.first = rec->files[i].first[0],
			.off = i,
		};
	qsort(keys, n, sizeof(*keys), cmp_span);
	for (size_t i = 0; i < n; i++) {
		sorted[i] = rec->files[keys[i].off];
		order[keys[i].off] = (uint32_t)i;
	}
	memcpy(rec->files, sorted, n * sizeof(*sorted));
	return 0;
}

/* The reads, each with the file that it is of. */
static int list_reads(struct all_seen *all, struct observed *o)
{
	CLEANUP_FREE uint32_t *order =
		calloc(o->record.n_files, sizeof(*order));
	int r;

	o->reads = calloc(all->n, sizeof(*o->reads));
	if (order == NULL || o->reads == NULL)
		return -ENOMEM;
	r = sort_files(&o->record, order);
	if (r < 0)
		return r;
	for (size_t i = 0; i < all->n; i++)
		o->reads[all->v[i].start - 1] = (struct observed_read){
			.off = all->v[i].off,
			.len = all->v[i].len,
			.file = order[all->v[i].file],
		};
	o->n_reads = all->n;
	return 0;
}

static int make_record(struct all_seen *all, const struct digest *manifest,
		       struct observed *o)
{
	struct record *rec = &o->record;
	int r = 0;

	if (all->n == 0)
		return 0;
	qsort(all->v, all->n, sizeof(*all->v), by_start);
	for (size_t i = 0; i < all->n; i++)
		all->v[i].start = i + 1;
	qsort(all->v, all->n, sizeof(*all->v), by_place);
	for (size_t i = 0, n; r == 0 && i < all->n; i += n) {
		for (n = 0;
		     i + n < all->n && same_file(&all->v[i], &all->v[i + n]);
		     n++)
			all->v[i + n].file = (uint32_t)rec->n_files;
		r = add_file(o, &all->v[i], n, manifest);
	}
	return r == 0 ? list_reads(all, o) : r;
}

void observed_done(struct observed *o)
{
	record_done(&o->record);
	free(o->reads);
	*o = (struct observed){0};
}

int observe(const struct evlog *log, const struct observe_layer *layers,
	    size_t n_layers, const struct digest *manifest,
	    struct observed *ret)
{
	CLEANUP_OBSERVED struct observed o = {0};
	struct all_seen all = {0};
	int r = collect(log, layers, n_layers, &all);

	if (r == 0)
		r = make_record(&all, manifest, &o);
	free(all.v);
	if (r < 0)
		return r;
	*ret = o;
	o = (struct observed){0};
	return 0;
}
