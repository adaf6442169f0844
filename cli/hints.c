/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/hints.h"

#include <string.h>

#include "common/checked.h"

#define NONE UINT32_MAX

/**
 * struct blob - a layer's table of contents, and what of it is in the trace
 * @names:	[@n_names] numbers of the entries that files begin with, sorted by
 *		name
 * @members:	[@n_members] where members begin, sorted; and the end
 * @taken:	[@n_members]
 * @number:	of the layer in the trace, NONE: not yet
 */
struct blob {
	struct layerinfo info;
	const struct toc *toc;
	uint32_t *names;
	size_t n_names;
	uint64_t *members;
	size_t n_members;
	bool *taken;
	uint32_t number;
};

static void blob_done(struct blob *b)
{
	layerinfo_done(&b->info);
	free(b->names);
	free(b->members);
	free(b->taken);
	*b = (struct blob){0};
}

/* ---- a layer's TOC ----------------------------------------------------- */

static int by_name(const void *pa, const void *pb, void *arg)
{
	const struct toc_entry *entries = arg;
	uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
	int c = strcmp(entries[a].name, entries[b].name);

	/* The last of a name is what it means. */
	return c != 0 ? c : (a < b ? -1 : a > b);
}

static int by_offset(const void *pa, const void *pb)
{
	uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;

	return a < b ? -1 : a > b;
}

/* Lists where members begin, each once, and where the last one ends. */
static void list_members(struct blob *b, uint64_t end)
{
	size_t n = 0;

	for (uint32_t i = 0; i < b->toc->n_entries; i++) {
		const struct toc_entry *t = &b->toc->entries[i];

		if (t->offset > 0 && t->offset < end)
			b->members[n++] = t->offset;
	}
	b->members[n++] = end;
	qsort(b->members, n, sizeof(*b->members), by_offset);
	for (size_t i = 0; i < n; i++) {
		if (b->n_members == 0 ||
		    b->members[b->n_members - 1] != b->members[i])
			b->members[b->n_members++] = b->members[i];
	}
	/* The end is no member. */
	b->n_members--;
}

static int load(struct blob *b, const struct hints_layer *l, struct err *e)
{
	uint64_t end;
	size_t n;
	int r = layerinfo_read(&l->in, l->size, &l->toc, &b->info, e);

	if (r < 0)
		return r;
	if (b->info.toc == NULL)
		return err_set(e, -EBADMSG, "no eStargz: %.200s",
			       b->info.why_not.text);
	b->toc = b->info.toc;
	end = b->info.footer.toc_off;
	n = (size_t)b->toc->n_entries + 1;
	b->names = calloc(n, sizeof(*b->names));
	b->members = calloc(n, sizeof(*b->members));
	b->taken = calloc(n, sizeof(*b->taken));
	if (b->names == NULL || b->members == NULL || b->taken == NULL)
		return err_no_memory(e);
	for (uint32_t i = 0; i < b->toc->n_entries; i++) {
		if (b->toc->entries[i].type != TOC_CHUNK)
			b->names[b->n_names++] = i;
	}
	qsort_r(b->names, b->n_names, sizeof(*b->names), by_name,
		b->toc->entries);
	list_members(b, end);
	return 0;
}

/* A file of the record: its entry and those of its further chunks. */
struct file {
	uint32_t entry; /* NONE: it is not in the layer */
	uint32_t n_chunks;
};

static struct file file_at(const struct blob *b, uint32_t entry)
{
	struct file f = {.entry = entry, .n_chunks = 1};

	while (entry + f.n_chunks < b->toc->n_entries &&
	       b->toc->entries[entry + f.n_chunks].type == TOC_CHUNK)
		f.n_chunks++;
	return f;
}

/* The file that a name means, links followed. */
static struct file find_file(const struct blob *b, const char *name)
{
	const struct file none = {.entry = NONE};
	const struct toc_entry *all = b->toc->entries;

	for (unsigned links = 0; links < 16; links++) {
		size_t lo = 0, hi = b->n_names;

		/* Behind the last entry of that name. */
		while (lo < hi) {
			size_t mid = lo + (hi - lo) / 2;

			if (strcmp(all[b->names[mid]].name, name) <= 0)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (lo == 0 || strcmp(all[b->names[lo - 1]].name, name) != 0)
			return none;
		if (all[b->names[lo - 1]].type == TOC_REG)
			return file_at(b, b->names[lo - 1]);
		if (all[b->names[lo - 1]].type != TOC_HARDLINK)
			return none;
		name = all[b->names[lo - 1]].link;
	}
	return none;
}

/* ---- the trace --------------------------------------------------------- */

/**
 * struct hints - the trace while it is made
 * @blobs:	[@n] of the layers
 * @files:	[files of the record]
 */
struct hints {
	const struct hints_layer *layers;
	struct blob *blobs;
	size_t n;
	struct file *files;
	struct trace trace;
	bool full;
};

static void number_layer(struct hints *h, uint32_t layer)
{
	struct blob *b = &h->blobs[layer];

	if (b->number != NONE)
		return;
	b->number = (uint32_t)h->trace.n_layers;
	h->trace.layers[h->trace.n_layers++] = h->layers[layer].blob;
}

/* A member is wanted now, if it was not before. */
static void want(struct hints *h, uint32_t layer, size_t member)
{
	struct blob *b = &h->blobs[layer];
	uint64_t off = b->members[member], end = b->members[member + 1];
	struct trace_read *was;

	if (b->taken[member])
		return;
	number_layer(h, layer);
	b->taken[member] = true;
	was = h->trace.n_reads > 0 ? &h->trace.reads[h->trace.n_reads - 1]
				   : NULL;
	if (was != NULL && was->layer == b->number &&
	    was->off + was->len == off) {
		was->len = end - was->off;
	} else if (h->trace.n_reads == TRACE_READS_MAX) {
		h->full = true;
	} else {
		h->trace.reads[h->trace.n_reads++] = (struct trace_read){
			.layer = b->number,
			.off = off,
			.len = end - off,
		};
	}
}

static size_t member_at(const struct blob *b, uint64_t off)
{
	const uint64_t *at =
		bsearch(&off, b->members, b->n_members, sizeof(off), by_offset);

	return at != NULL ? (size_t)(at - b->members) : SIZE_MAX;
}

/* The chunks of a file that a read needs: they are in the order of the file. */
static void want_read(struct hints *h, uint32_t layer, const struct file *f,
		      const struct observed_read *v)
{
	const struct blob *b = &h->blobs[layer];
	const struct toc_entry *chunks = b->toc->entries + f->entry;
	uint32_t lo = 0, hi = f->n_chunks;

	/* The last one that begins at the read, or in front of it. */
	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (chunks[mid].chunk_offset <= v->off)
			lo = mid;
		else
			hi = mid;
	}
	for (uint32_t i = lo;
	     i < f->n_chunks && chunks[i].chunk_offset < v->off + v->len; i++) {
		size_t m = member_at(b, chunks[i].offset);

		if (m != SIZE_MAX)
			want(h, layer, m);
	}
}

/* Finds the files of the record in their layers. */
static int find_files(struct hints *h, const struct record *rec, struct err *e)
{
	for (size_t i = 0; i < rec->n_files; i++) {
		uint32_t layer = rec->files[i].layer;
		int r = 0;

		h->files[i].entry = NONE;
		if (layer >= h->n || h->layers[layer].in.range == NULL)
			continue;
		if (h->blobs[layer].toc == NULL)
			r = load(&h->blobs[layer], &h->layers[layer], e);
		if (r < 0)
			return err_wrap(e, "layer %u", layer);
		h->files[i] = find_file(&h->blobs[layer], rec->files[i].path);
	}
	return 0;
}

static int fill(struct hints *h, const struct observed *o, struct err *e)
{
	int r = find_files(h, &o->record, e);

	for (size_t i = 0; r == 0 && i < o->n_reads && !h->full; i++) {
		const struct observed_read *v = &o->reads[i];

		if (h->files[v->file].entry != NONE)
			want_read(h, o->record.files[v->file].layer,
				  &h->files[v->file], v);
	}
	return r;
}

/* What the chunks have that are in the trace. */
static uint64_t chunk_bytes(const struct hints *h)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < h->n; i++) {
		const struct blob *b = &h->blobs[i];

		for (size_t k = 0; k < b->info.n_chunks; k++) {
			const struct layer_chunk *c = &b->info.chunks[k];
			size_t m = member_at(b, c->t->offset);

			if (m != SIZE_MAX && b->taken[m] &&
			    !checked_add_u64(sum, c->len, &sum))
				return UINT64_MAX;
		}
	}
	return sum;
}

static int make(struct hints *h, const struct observed *o, uint64_t *ret_bytes,
		struct err *e)
{
	int r;

	for (size_t i = 0; i < h->n; i++)
		h->blobs[i].number = NONE;
	r = fill(h, o, e);
	if (r == 0)
		*ret_bytes = chunk_bytes(h);
	for (size_t i = 0; i < h->n; i++)
		blob_done(&h->blobs[i]);
	return r;
}

int hints_make(const struct observed *o, const struct hints_layer *layers,
	       size_t n_layers, struct trace *ret, uint64_t *ret_bytes,
	       struct err *e)
{
	struct hints h = {
		.layers = layers,
		.blobs = calloc(n_layers + 1, sizeof(*h.blobs)),
		.n = n_layers,
		.files = calloc(o->record.n_files + 1, sizeof(*h.files)),
		.trace =
			{
				.layers = calloc(n_layers + 1,
						 sizeof(struct digest)),
				.reads = calloc(TRACE_READS_MAX,
						sizeof(struct trace_read)),
			},
	};
	int r;

	if (h.blobs != NULL && h.files != NULL && h.trace.layers != NULL &&
	    h.trace.reads != NULL)
		r = make(&h, o, ret_bytes, e);
	else
		r = err_no_memory(e);
	free(h.blobs);
	free(h.files);
	if (r < 0) {
		trace_done(&h.trace);
		return r;
	}
	*ret = h.trace;
	return 0;
}

/* ---- its data ---------------------------------------------------------- */

/* A read: bytes of @layer that are to be @at in the data. */
struct piece {
	uint32_t layer;
	uint64_t off;
	uint64_t len;
	uint64_t at;
};

static int by_place(const void *pa, const void *pb)
{
	const struct piece *a = pa, *b = pb;

	if (a->layer != b->layer)
		return a->layer < b->layer ? -1 : 1;
	return a->off < b->off ? -1 : a->off > b->off;
}

/* How many of the @n pieces at @v, sorted, are read together with the first, and
 * where they end. */
static size_t group(const struct piece *v, size_t n, uint64_t *ret_end)
{
	uint64_t end = v->off + v->len;
	size_t i = 1;

	while (i < n && v[i].layer == v->layer &&
	       (v[i].off <= end || v[i].off - end <= HINTS_DATA_NEAR_BYTES) &&
	       v[i].off + v[i].len - v->off <= HINTS_DATA_STEP_BYTES) {
		end = MAX(end, v[i].off + v[i].len);
		i++;
	}
	*ret_end = end;
	return i;
}

/* Bytes [off, off + len) of a layer are in @from: what @v wants of them goes where it
 * belongs in @data. */
static void put(const struct piece *v, uint64_t off, uint64_t len,
		const char *from, char *data)
{
	uint64_t a = MAX(v->off, off);
	uint64_t z = MIN(v->off + v->len, off + len);

	if (a < z)
		memcpy(data + v->at + (a - v->off), from + (a - off),
		       (size_t)(z - a));
}

/* Reads bytes up to @end, which the @n pieces at @v want. */
static int read_group(const struct layer_in *in, const struct piece *v,
		      size_t n, uint64_t end, char *data, struct err *e)
{
	CLEANUP_BUF struct buf b = BUF_INIT(HINTS_DATA_STEP_BYTES);

	for (uint64_t off = v->off, len; off < end; off += len) {
		uint64_t size;
		int r;

		len = MIN(end - off, HINTS_DATA_STEP_BYTES);
		buf_clear(&b);
		r = in->range(in->arg, off, (size_t)len, &b, &size, e);
		if (r < 0)
			return r;
		assert(b.len == len);
		for (size_t i = 0; i < n; i++)
			put(&v[i], off, len, b.p, data);
	}
	return 0;
}

static const struct layer_in *layer_of(const struct trace *t, uint32_t i,
				       const struct hints_layer *layers)
{
	while (!digest_equal(&layers->blob, &t->layers[i]))
		layers++;
	return &layers->in;
}

int hints_data(const struct trace *t, const struct hints_layer *layers,
	       struct buf *ret, struct err *e)
{
	CLEANUP_FREE struct piece *v = calloc(t->n_reads + 1, sizeof(*v));
	uint64_t total = 0, end;
	int r = 0;

	if (v == NULL)
		return err_no_memory(e);
	for (size_t i = 0; i < t->n_reads; i++) {
		const struct trace_read *rd = &t->reads[i];

		v[i] = (struct piece){rd->layer, rd->off, rd->len, total};
		if (rd->len > ret->max - total)
			return 0;
		total += rd->len;
	}
	if (buf_reserve(ret, (size_t)total) < 0)
		return err_no_memory(e);
	qsort(v, t->n_reads, sizeof(*v), by_place);
	for (size_t i = 0, n; r == 0 && i < t->n_reads; i += n) {
		n = group(v + i, t->n_reads - i, &end);
		r = read_group(layer_of(t, v[i].layer, layers), v + i, n, end,
			       ret->p, e);
	}
	if (r < 0)
		return r;
	ret->len = (size_t)total;
	return 1;
}
