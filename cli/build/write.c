/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/build/write.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "cli/build/compress.h"
#include "cli/build/plan.h"
#include "cli/build/pool.h"
#include "cli/build/toc_write.h"
#include "common/io.h"
#include "common/limits.h"

#define BATCH_BYTES KIB(512)
#define TAIL_BYTES KIB(64)
#define RING_BYTES MIB(96)
#define PIECE_BYTES KIB(256)
#define LANDMARK_BYTE "\xf"
#define FOOTER_BYTES 51u
#define TOC_BEST_BYTES_MAX MIB(8) /* a second and more */

/**
 * struct writer - the blob in work
 * @b:		batch that is filled, NULL: none
 * @chunk_end:	where in it the last chunk ended, or its member began
 * @blob_off:	bytes written
 * @diff_bytes:	bytes handed to the pool
 * @traced:	a run has read some of it
 * @open:	the file in work has several chunks; its first note is number
 *		@open_note of @open_batch, or, where that is NULL, written, and
 *		its digest is to go to @open_place of the TOC
 */
struct writer {
	const struct build_opts *o;
	int fd;
	int toc_fd;
	uint64_t total;
	struct pool *pool;
	struct pool_batch *b;
	size_t chunk_end;
	struct toc_writer *toc;
	struct sha256 *diff;
	struct sha256 *blob;
	struct sha256 *file;
	uint64_t blob_off;
	uint64_t diff_bytes;
	uint64_t n_entries;
	uint64_t n_chunks;
	bool traced;
	bool open;
	struct pool_batch *open_batch;
	size_t open_note;
	uint64_t open_place;
};

void writer_free(struct writer *w)
{
	if (w == NULL)
		return;
	pool_free(w->pool);
	toc_writer_free(w->toc);
	sha256_free(w->diff);
	sha256_free(w->blob);
	sha256_free(w->file);
	if (w->toc_fd >= 0)
		(void)close(w->toc_fd);
	free(w);
}

/* As many batches as the threads can use and the memory allows. */
static struct pool *make_pool(const struct build_opts *o)
{
	uint64_t member = o->chunk_bytes + o->min_chunk_bytes + TAIL_BYTES;
	uint64_t n =
		RING_BYTES / (2 * (MAX(member, BATCH_BYTES) + BATCH_BYTES));

	n = MAX(MIN(n, (uint64_t)o->jobs * 3), UINT64_C(2));
	return pool_new((unsigned)MIN((uint64_t)o->jobs, n), (size_t)n,
			o->level, o->slots);
}

int writer_new(const struct build_opts *o, int out_fd, uint64_t total,
	       struct writer **ret, struct err *e)
{
	CLEANUP(writer_free_cleanup) struct writer *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return err_no_memory(e);
	*w = (struct writer){.o = o, .fd = out_fd, .total = total};
	w->toc_fd = io_open_temp(o->tmp_dir, e);
	if (w->toc_fd < 0)
		return w->toc_fd;
	w->toc = toc_writer_new(w->toc_fd, TAR_BLOCK_BYTES);
	w->diff = sha256_new();
	w->blob = sha256_new();
	w->file = sha256_new();
	w->pool = make_pool(o);
	if (w->toc == NULL || w->diff == NULL || w->blob == NULL ||
	    w->file == NULL || w->pool == NULL)
		return err_no_memory(e);
	sha256_start(w->diff);
	sha256_start(w->blob);
	*ret = TAKE_PTR(w);
	return 0;
}

/* Bytes of the blob. */
static int out(struct writer *w, const void *p, size_t n, struct err *e)
{
	int r = io_write_all(w->fd, p, n);

	if (r < 0)
		return err_set(e, r, "writing the layer: %s", err_name(r));
	sha256_add(w->blob, p, n);
	w->blob_off += n;
	return 0;
}

static int toc_note(struct writer *w, const struct pool_batch *b,
		    const struct pool_note *n, uint64_t member_off,
		    struct err *e)
{
	bool whole = n->chunk_off == 0 && n->chunk_size == 0;
	struct toc_place p = {.has_chunk = n->len > 0,
			      .first = n->first,
			      .chunk_off = n->chunk_off,
			      .chunk_size = n->chunk_size,
			      .chunk = &n->digest};
	bool later = n->first && !whole && !n->file_known;

	if (p.has_chunk) {
		p.offset = member_off;
		p.inner_offset = n->in_off - b->members[n->member].in_off;
		p.file = whole ? &n->digest : n->file_known ? &n->file : NULL;
		w->n_chunks++;
	}
	if (later)
		w->open_batch = NULL;
	return toc_entry(w->toc, b->text.p + n->text_off, n->text_len, &p,
			 later ? &w->open_place : NULL, e);
}

/* Writes the oldest batch, and its entries of the TOC. Return: 1, 0 where there
 * is none, -errno */
static int retire(struct writer *w, struct err *e)
{
	struct pool_batch *b = pool_wait(w->pool);
	uint64_t off = w->blob_off;
	size_t member = 0;
	int r;

	if (b == NULL)
		return 0;
	r = out(w, b->out, b->out_len, e);
	for (size_t i = 0; r == 0 && i < b->n_notes; i++) {
		while (member < b->notes[i].member)
			off += b->members[member++].out_len;
		r = toc_note(w, b, &b->notes[i], off, e);
	}
	pool_release(w->pool, b);
	if (r == 0 && w->o->progress != NULL && w->total > 0) {
		r = w->o->progress(w->o->progress_arg,
				   MIN(w->diff_bytes, w->total), w->total);
		if (r < 0)
			(void)err_set(e, r, "%s", err_name(r));
	}
	return r < 0 ? r : 1;
}

static int submit(struct writer *w, struct err *e)
{
	struct pool_batch *b = w->b;

	w->b = NULL;
	return pool_submit(w->pool, b) < 0 ? err_no_memory(e) : 0;
}

/* There is a batch to fill. */
static int batch_ready(struct writer *w, struct err *e)
{
	while (w->b == NULL) {
		int r;

		w->b = pool_take(w->pool);
		if (w->b != NULL)
			break;
		r = retire(w, e);
		if (r < 0)
			return r;
		if (r == 0)
			return err_no_memory(e);
	}
	return 0;
}

/* Begins a member, in another batch where this one is full. */
static int member_new(struct writer *w, struct err *e)
{
	int r;

	if (w->b != NULL && w->b->in_len >= BATCH_BYTES) {
		r = submit(w, e);
		if (r < 0)
			return r;
	}
	r = batch_ready(w, e);
	if (r < 0)
		return r;
	if (pool_member_add(w->b) == NULL)
		return err_no_memory(e);
	w->chunk_end = w->b->in_len;
	return 0;
}

static struct pool_member *member(const struct writer *w)
{
	return w->b != NULL && w->b->n_members > 0
		       ? &w->b->members[w->b->n_members - 1]
		       : NULL;
}

/* Room for n bytes at the end of the member. */
static uint8_t *room(struct writer *w, size_t n)
{
	return pool_in(w->b, n);
}

/* n bytes that have been put there are part of it. */
static void took(struct writer *w, size_t n)
{
	sha256_add(w->diff, w->b->in + w->b->in_len, n);
	w->b->members[w->b->n_members - 1].in_len += n;
	w->b->in_len += n;
	w->diff_bytes += n;
}

/* Headers and padding. */
static int add_bytes(struct writer *w, const void *p, size_t n, struct err *e)
{
	uint8_t *at;
	int r;

	if (member(w) == NULL || w->b->in_len - w->chunk_end >= TAIL_BYTES) {
		r = member_new(w, e);
		if (r < 0)
			return r;
	}
	at = room(w, n);
	if (at == NULL)
		return err_no_memory(e);
	memcpy(at, p, n);
	took(w, n);
	return 0;
}

static int add_padding(struct writer *w, uint64_t size, struct err *e)
{
	static const uint8_t zeros[TAR_BLOCK_BYTES];
	size_t n = (size_t)(-size % TAR_BLOCK_BYTES);

	return n > 0 ? add_bytes(w, zeros, n, e) : 0;
}

/* The first part of an entry of the TOC. Return: its note, NULL: no memory */
static struct pool_note *note_new(struct writer *w, const struct tar_entry *x,
				  bool first)
{
	struct pool_note *n = pool_note_add(w->b);
	int r;

	if (n == NULL)
		return NULL;
	r = first ? toc_text(&w->b->text, x) : toc_text_chunk(&w->b->text, x);
	if (r < 0)
		return NULL;
	n->text_len = w->b->text.len - n->text_off;
	n->member = w->b->n_members - 1;
	n->in_off = w->b->in_len;
	n->first = first;
	return n;
}

/* The payload of a chunk, hashed while it is in the cache. */
static int chunk_bytes(struct writer *w, struct tar *t, size_t len,
		       struct err *e)
{
	uint8_t *p = room(w, len);

	if (p == NULL)
		return err_no_memory(e);
	while (len > 0) {
		size_t n = MIN(len, (size_t)PIECE_BYTES);
		ssize_t got = tar_read(t, w->b->in + w->b->in_len, n, e);

		if (got < 0)
			return (int)got;
		/* tar_read() gives all that is asked for, within the size. */
		assert((size_t)got == n);
		if (w->open)
			sha256_add(w->file, w->b->in + w->b->in_len, n);
		took(w, n);
		len -= n;
	}
	w->chunk_end = w->b->in_len;
	return 0;
}

/* @best: a run has read some of it: its size is what counts */
static int chunk(struct writer *w, struct tar *t, const struct tar_entry *x,
		 const struct build_range *v, bool best, struct err *e)
{
	uint64_t off = v->off, len = v->len;
	const struct pool_member *m = member(w);
	struct pool_note *n;
	int r;

	if (m == NULL || m->in_len >= w->o->min_chunk_bytes) {
		r = member_new(w, e);
		if (r < 0)
			return r;
	}
	w->b->members[w->b->n_members - 1].best |= best;
	w->traced |= best;
	n = note_new(w, x, off == 0);
	if (n == NULL)
		return err_no_memory(e);
	n->len = (size_t)len;
	n->chunk_off = off;
	n->chunk_size = off + len < x->size ? len : 0;
	if (off == 0 && len < x->size) {
		w->open = true;
		w->open_batch = w->b;
		w->open_note = w->b->n_notes - 1;
		sha256_start(w->file);
	}
	return chunk_bytes(w, t, (size_t)len, e);
}

/* The digest of a file of several chunks goes where its first note is. */
static int file_end(struct writer *w, struct err *e)
{
	struct digest d;

	w->open = false;
	sha256_end(w->file, &d);
	if (w->open_batch == NULL)
		return toc_set_digest(w->toc, w->open_place, &d, e);
	w->open_batch->notes[w->open_note].file = d;
	w->open_batch->notes[w->open_note].file_known = true;
	return 0;
}

int writer_entry(struct writer *w, struct tar *t, const struct tar_entry *x,
		 const struct build_wanted *wanted, struct err *e)
{
	struct plan plan = plan_init(wanted, w->o->chunk_bytes, x->size);
	uint64_t off = 0;
	int r = add_bytes(w, x->head, x->head_len, e);

	if (r < 0 || x->type == 0)
		return r;
	w->n_entries++;
	if (x->size == 0)
		return note_new(w, x, true) != NULL ? 0 : err_no_memory(e);
	while (off < x->size) {
		const struct build_range v = {
			.off = off, .len = plan_next(&plan, off) - off};

		r = chunk(w, t, x, &v, plan_was_read(&plan, off), e);
		if (r < 0)
			return r;
		off += v.len;
	}
	if (w->open) {
		r = file_end(w, e);
		if (r < 0)
			return r;
	}
	return add_padding(w, x->size, e);
}

static int landmark_entry(struct writer *w, const char *name, const void *head,
			  size_t len, struct err *e)
{
	const struct tar_entry x = {.type = TOC_REG,
				    .name = name,
				    .name_len = strlen(name),
				    .uname = "",
				    .gname = "",
				    .mode = 0444,
				    .size = 1};
	struct pool_note *n;
	uint8_t *p;
	int r = add_bytes(w, head, len, e);

	/* Readers prefetch up to where its member begins. */
	if (r == 0)
		r = member_new(w, e);
	if (r < 0)
		return r;
	w->n_entries++;
	n = note_new(w, &x, true);
	p = room(w, 1);
	if (n == NULL || p == NULL)
		return err_no_memory(e);
	n->len = 1;
	memcpy(p, LANDMARK_BYTE, 1);
	took(w, 1);
	w->chunk_end = w->b->in_len;
	return add_padding(w, 1, e);
}

int writer_landmark(struct writer *w, const char *name, struct err *e)
{
	CLEANUP_BUF struct buf head = BUF_INIT(TAR_BLOCK_BYTES);
	int r = tar_make(&head, name, 1);

	return r < 0 ? err_no_memory(e)
		     : landmark_entry(w, name, head.p, head.len, e);
}

/* The blob's last bytes: an empty gzip member whose extra field says where the
 * TOC is. */
static int footer(struct writer *w, uint64_t toc_off, struct err *e)
{
	static const uint8_t start[] = {0x1f, 0x8b, 8,  4, 0,   0,   0,  0,
					0,    0xff, 26, 0, 'S', 'G', 22, 0};
	static const uint8_t end[] = {1, 0, 0, 0xff, 0xff};
	uint8_t f[FOOTER_BYTES] = {0};
	char text[24];

	memcpy(f, start, sizeof(start));
	(void)snprintf(text, sizeof(text), "%016" PRIx64 "STARGZ", toc_off);
	memcpy(f + sizeof(start), text, 22);
	memcpy(f + sizeof(start) + 22, end, sizeof(end));
	return out(w, f, sizeof(f), e);
}

/* [len] of the TOC's tar entry and of the tar's end. */
static int toc_member(struct writer *w, const uint8_t *p, size_t len,
		      struct err *e)
{
	bool best = w->traced && len <= TOC_BEST_BYTES_MAX;
	CLEANUP(comp_free_cleanup)
	struct comp *c = comp_new(best ? COMP_LEVEL_BEST : w->o->level);
	CLEANUP_FREE uint8_t *z = malloc(comp_bound(len));
	size_t n;

	if (c == NULL || z == NULL)
		return err_no_memory(e);
	sha256_add(w->diff, p, len);
	w->diff_bytes += len;
	n = comp_member(c, p, len, z);
	if (n > TOC_BLOB_BYTES_MAX)
		return err_set(e, -EOVERFLOW,
			       "layer: its table of contents would have %zu "
			       "bytes, compressed, which no reader takes",
			       n);
	return out(w, z, n, e);
}

static int toc_out(struct writer *w, struct digest *ret, struct err *e)
{
	CLEANUP_BUF struct buf head = BUF_INIT(TAR_BLOCK_BYTES);
	uint64_t json, len;
	uint8_t *p;
	int r = toc_finish(w->toc, &json, e);

	if (r < 0)
		return r;
	len = ALIGN_UP(json, TAR_BLOCK_BYTES) + UINT64_C(3) * TAR_BLOCK_BYTES;
	r = tar_make(&head, TOC_TAR_NAME, json);
	if (r == 0)
		r = io_pwrite_all(w->toc_fd, head.p, head.len, 0);
	if (r == 0 && ftruncate(w->toc_fd, (off_t)len) < 0)
		r = -errno;
	if (r < 0)
		return err_set(e, r, "temporary file: %s", err_name(r));
	p = mmap(NULL, (size_t)len, PROT_READ, MAP_PRIVATE, w->toc_fd, 0);
	if (p == MAP_FAILED)
		return err_no_memory(e);
	sha256_all(w->file, p + TAR_BLOCK_BYTES, (size_t)json, ret);
	r = toc_member(w, p, (size_t)len, e);
	(void)munmap(p, (size_t)len);
	return r;
}

int writer_finish(struct writer *w, struct build_result *ret, struct err *e)
{
	uint64_t toc_off;
	int r = w->b != NULL ? submit(w, e) : 0;

	if (r < 0)
		return r;
	do
		r = retire(w, e);
	while (r > 0);
	if (r < 0)
		return r;
	/* Its memory is for the TOC now. */
	pool_free(TAKE_PTR(w->pool));
	toc_off = w->blob_off;
	r = toc_out(w, &ret->toc, e);
	if (r == 0)
		r = footer(w, toc_off, e);
	if (r < 0)
		return r;
	sha256_end(w->diff, &ret->diff_id);
	sha256_end(w->blob, &ret->blob);
	ret->blob_bytes = w->blob_off;
	ret->tail_bytes = w->blob_off - toc_off;
	ret->uncompressed_bytes = w->diff_bytes;
	ret->n_entries = w->n_entries;
	ret->n_chunks = w->n_chunks;
	return 0;
}
