/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/build.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "common/buf.h"
#include "common/chunks.h"
#include "common/index.h"
#include "common/io.h"
#include "common/limits.h"
#include "common/present.h"
#include "common/toc.h"

#define PIECE_BYTES MIB(8)

static uint64_t tail_bytes(const struct layer *l)
{
	uint64_t n = l->tail;

	if (n != 0)
		n = MAX(n, (uint64_t)TOC_FOOTER_BYTES_MAX);
	else if (l->size == 0)
		n = TAIL_BYTES_UNKNOWN;
	else
		n = MIN(MAX(l->size / TAIL_FRACTION, TAIL_BYTES_MIN),
			TAIL_BYTES_MAX);
	return l->size == 0 ? n : MIN(n, l->size);
}

/* Footer and, with luck, the TOC: one request. */
static int fetch_tail(struct link *l, const struct layer *layer,
		      struct built *b, uint64_t *ret_size, struct err *e)
{
	uint64_t len = tail_bytes(layer);
	bool known = layer->size > 0;
	struct built_fetch *f = &b->fetched[0];
	struct link_event ev;
	int r;

	if (!link_alloc(l, len, &b->tail_arena))
		return err_set(e, -ENOMEM, "arena is full");
	f->start_ns = io_now_ns();
	r = link_fetch(l, !known, known ? layer->size - len : 0, len,
		       b->tail_arena, &ev, e);
	if (r < 0)
		return r;
	f->end_ns = io_now_ns();
	if (ev.blob_size == 0 || ev.got == 0 || ev.off > ev.blob_size ||
	    ev.blob_size - ev.off != ev.got)
		return err_set(e, -EBADMSG,
			       ev.blob_size == 0 || ev.got == 0
				       ? "not an eStargz blob: it is empty"
				       : "the server sent another range than "
					 "asked for");
	/* The arena space was taken for len; a short blob leaves some over. */
	f->off = ev.off;
	f->len = ev.got;
	b->tail_off = ev.off;
	b->tail_len = len;
	*ret_size = ev.blob_size;
	return 0;
}

/* The compressed TOC, of which the part before the tail is fetched now. */
static int fetch_toc(struct link *l, struct built *b,
		     const struct toc_footer *f, uint8_t **ret, struct err *e)
{
	CLEANUP_FREE uint8_t *p = malloc((size_t)f->toc_len);
	uint64_t have = f->toc_off,
		 end = MIN(b->tail_off, f->toc_off + f->toc_len);
	struct built_fetch *part = &b->fetched[1];
	uint64_t arena;

	if (p == NULL)
		return err_no_memory(e);
	part->off = have;
	part->start_ns = io_now_ns();
	while (have < end) {
		uint64_t n = MIN(end - have, PIECE_BYTES);
		struct link_event ev;
		int r;

		if (!link_alloc(l, n, &arena))
			return err_set(e, -ENOMEM, "arena is full");
		r = link_fetch(l, false, have, n, arena, &ev, e);
		if (r == 0 && ev.got != n)
			r = err_set(e, -EBADMSG, "the blob ends in its TOC");
		if (r == 0)
			memcpy(p + (have - f->toc_off), l->arena + arena,
			       (size_t)n);
		link_free(l, arena, n);
		if (r < 0)
			return r;
		have += n;
		part->len += n;
		part->end_ns = io_now_ns();
	}
	memcpy(p + (have - f->toc_off),
	       l->arena + b->tail_arena + (have - b->tail_off),
	       (size_t)(f->toc_off + f->toc_len - have));
	*ret = TAKE_PTR(p);
	return 0;
}

static int check_digest(const struct layer *layer, bool no_verify,
			const struct buf *json, struct built *b, struct err *e)
{
	struct sha256 *h CLEANUP(sha256_free_cleanup) = sha256_new();
	char want[DIGEST_STR_BYTES], got[DIGEST_STR_BYTES];

	if (h == NULL)
		return err_set(e, -ENOMEM, "SHA-256 is not available");
	sha256_all(h, json->p, json->len, &b->toc_digest);
	if (!layer->has_toc_digest) {
		if (no_verify)
			return 0;
		return err_set(e, -EACCES, "no TOC digest to check against");
	}
	if (digest_equal(&b->toc_digest, &layer->toc_digest))
		return 0;
	return err_set(e, -EBADMSG, "TOC digest is %s, expected %s",
		       digest_str(&b->toc_digest, got),
		       digest_str(&layer->toc_digest, want));
}

static int write_files(const struct buf *meta, const struct buf *table,
		       const int fds[3], const uint8_t boot_id[16],
		       struct built *b, struct err *e)
{
	struct chunks ch;
	uint64_t bytes;
	void *map;
	int r = chunks_open(&ch, table->p, table->len, e);

	if (r < 0)
		return r;
	b->image_bytes = ch.image_bytes;
	b->unverified = (ch.flags & CHUNKS_F_UNVERIFIED) != 0;
	bytes = present_file_bytes(ch.n);
	r = io_pwrite_all(fds[0], meta->p, meta->len, 0);
	if (r == 0 && ftruncate(fds[0], (off_t)ch.image_bytes) < 0)
		r = -errno;
	if (r == 0)
		r = io_pwrite_all(fds[1], table->p, table->len, 0);
	/* Blocks for the bitmap now: a store to a hole of a full disk would
	 * be SIGBUS later. */
	if (r == 0 && fallocate(fds[2], 0, 0, (off_t)bytes) < 0 &&
	    (errno != EOPNOTSUPP || ftruncate(fds[2], (off_t)bytes) < 0))
		r = -errno;
	if (r < 0)
		return err_set(e, r, "cache: %s", err_name(r));
	map = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		   fds[2], 0);
	if (map == MAP_FAILED)
		return err_set(e, -errno, "cache: %s", err_name(errno));
	present_init(map, (size_t)bytes, ch.n, ch.index_digest.b, boot_id);
	(void)munmap(map, (size_t)bytes);
	return 0;
}

/* From the right TOC to the files. */
static int build_files(const struct layer *layer, bool opaque_user,
		       bool no_verify, const struct toc_footer *f,
		       uint64_t blob_size, struct buf *json, const int fds[3],
		       const uint8_t boot_id[16], struct built *b,
		       struct err *e)
{
	struct toc *toc CLEANUP(toc_free_cleanup) = NULL;
	CLEANUP_BUF struct buf meta = BUF_INIT(EROFS_META_BYTES_MAX);
	CLEANUP_BUF struct buf table = BUF_INIT(EROFS_META_BYTES_MAX);
	int r = toc_parse(json->p, json->len, &toc, e);

	if (r == 0) {
		const struct index_in in = {
			.toc = toc,
			.toc_digest = &b->toc_digest,
			.blob_digest =
				layer->has_digest ? &layer->digest : NULL,
			.blob_size = blob_size,
			.toc_off = f->toc_off,
			.codec = f->format == TOC_ZSTD_CHUNKED ? CODEC_ZSTD
							       : CODEC_GZIP,
			.opaque_user = opaque_user,
			.allow_unverified = no_verify && !layer->has_toc_digest,
		};

		r = index_build(&in, &meta, &table, e);
	}
	if (r == 0)
		r = write_files(&meta, &table, fds, boot_id, b, e);
	return r;
}

int build_index(struct link *l, const struct layer *layer, bool opaque_user,
		bool no_verify, const int fds[3], const uint8_t boot_id[16],
		struct built *ret, struct err *e)
{
	CLEANUP_BUF struct buf json = BUF_INIT(0);
	CLEANUP_FREE uint8_t *packed = NULL;
	struct toc_footer f;
	uint64_t size = 0, n;
	int r;

	*ret = (struct built){0};
	r = fetch_tail(l, layer, ret, &size, e);
	if (r < 0)
		return r;
	n = MIN(size - ret->tail_off, (uint64_t)TOC_FOOTER_BYTES_MAX);
	r = toc_footer_parse(l->arena + ret->tail_arena +
				     (size - ret->tail_off - n),
			     (size_t)n, size, &f, e);
	if (r == 0)
		r = fetch_toc(l, ret, &f, &packed, e);
	if (r == 0)
		r = toc_decode(&f, packed, (size_t)f.toc_len, &json, e);
	if (r == 0)
		r = check_digest(layer, no_verify, &json, ret, e);
	if (r == 0)
		r = build_files(layer, opaque_user, no_verify, &f, size, &json,
				fds, boot_id, ret, e);
	return r;
}
