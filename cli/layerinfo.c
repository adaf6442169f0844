/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/layerinfo.h"

#include <inttypes.h>
#include <string.h>

#include "common/limits.h"

#define MAGIC_BYTES 4u

const char *layer_format_name(enum layer_format f)
{
	static const char *const names[] = {
		[LAYER_TAR] = "tar",
		[LAYER_GZIP] = "gzip",
		[LAYER_ZSTD] = "zstd",
		[LAYER_STARGZ] = "stargz",
		[LAYER_ESTARGZ] = "estargz",
		[LAYER_ZSTD_CHUNKED] = "zstd:chunked",
	};

	return names[f];
}

enum codec_kind layer_codec(enum layer_format f)
{
	if (f == LAYER_TAR)
		return (enum codec_kind)0;
	return f == LAYER_ZSTD || f == LAYER_ZSTD_CHUNKED ? CODEC_ZSTD
							  : CODEC_GZIP;
}

uint64_t layer_tail_bytes(uint64_t size)
{
	if (size == 0)
		return TAIL_BYTES_UNKNOWN;
	size = MAX(size / TAIL_FRACTION, TAIL_BYTES_MIN);
	return MIN(size, TAIL_BYTES_MAX);
}

void layerinfo_done(struct layerinfo *l)
{
	toc_free(l->toc);
	free(l->parsed);
	free(l->chunks);
	buf_done(&l->json);
	*l = (struct layerinfo){0};
}

static int find_format(const struct layer_in *in, struct layerinfo *l,
		       struct err *e)
{
	CLEANUP_BUF struct buf head = BUF_INIT(MAGIC_BYTES);
	uint64_t size;
	int r = 0;

	l->format = LAYER_TAR;
	if (l->size >= MAGIC_BYTES)
		r = in->range(in->arg, 0, MAGIC_BYTES, &head, &size, e);
	if (r < 0 || head.len < MAGIC_BYTES)
		return r;
	if (memcmp(head.p, "\x1f\x8b", 2) == 0)
		l->format = LAYER_GZIP;
	/* Or a skippable frame, 0x184d2a50 to 5f. */
	else if (memcmp(head.p, "\x28\xb5\x2f\xfd", 4) == 0 ||
		 (memcmp(head.p + 1, "\x2a\x4d\x18", 3) == 0 &&
		  ((uint8_t)head.p[0] & 0xf0) == 0x50))
		l->format = LAYER_ZSTD;
	return 0;
}

static uint64_t chunk_len(const struct toc_entry *t, const struct toc_entry *f)
{
	return t->chunk_size != 0 ? t->chunk_size : f->size - t->chunk_offset;
}

static int find_chunks(struct layerinfo *l, struct err *e)
{
	const struct toc *toc = l->toc;
	uint32_t file = 0;

	l->chunks = calloc((size_t)toc->n_entries + 1, sizeof(*l->chunks));
	if (l->chunks == NULL)
		return err_no_memory(e);
	for (uint32_t i = 0; i < toc->n_entries; i++) {
		const struct toc_entry *t = &toc->entries[i];

		if (t->type != TOC_CHUNK)
			file = i;
		if ((t->type != TOC_REG && t->type != TOC_CHUNK) ||
		    chunk_len(t, &toc->entries[file]) == 0)
			continue;
		l->chunks[l->n_chunks++] = (struct layer_chunk){
			.t = t,
			.entry = file,
			.at = t->chunk_offset,
			.len = chunk_len(t, &toc->entries[file]),
		};
	}
	return 0;
}

/* As common/index.c: the landmark is a file of the root. */
static void find_landmark(struct layerinfo *l)
{
	const struct toc_entry *mark = NULL;
	uint32_t n = 0;

	for (uint32_t i = 0; i < l->toc->n_entries; i++) {
		const struct toc_entry *t = &l->toc->entries[i];

		if (t->type != TOC_REG)
			continue;
		if (strcmp(t->name, TOC_NO_LANDMARK_NAME) == 0)
			return;
		if (strcmp(t->name, TOC_LANDMARK_NAME) == 0 && mark == NULL)
			mark = t;
		else if (mark == NULL)
			n++;
	}
	if (mark == NULL || mark->offset > l->footer.toc_off)
		return;
	l->prioritised = mark->offset;
	l->n_prioritised = n;
}

static int parse(struct layerinfo *l, struct err *e)
{
	int r;

	l->parsed = malloc(l->json.len + 1);
	if (l->parsed == NULL)
		return err_no_memory(e);
	memcpy(l->parsed, l->json.p, l->json.len + 1);
	r = toc_parse(l->parsed, l->json.len, &l->toc, &l->why_not);
	if (r < 0)
		return r == -ENOMEM ? err_no_memory(e) : 0;
	find_landmark(l);
	return find_chunks(l, e);
}

/* The compressed TOC, of which @tail has the end. */
static int toc_bytes(const struct layer_in *in, const struct layerinfo *l,
		     const struct buf *tail, struct buf *ret, struct err *e)
{
	const struct toc_footer *f = &l->footer;
	uint64_t tail_off = l->size - tail->len;
	uint64_t end = f->toc_off + f->toc_len, size;
	int r = 0;

	if (f->toc_off < tail_off)
		r = in->range(in->arg, f->toc_off,
			      (size_t)(MIN(end, tail_off) - f->toc_off), ret,
			      &size, e);
	if (r == 0 && end > tail_off) {
		uint64_t from = MAX(f->toc_off, tail_off);

		r = buf_add(ret, tail->p + (from - tail_off),
			    (size_t)(end - from));
		if (r < 0)
			return err_set(e, r, "TOC: %s", err_name(r));
	}
	return r;
}

static int read_toc(const struct layer_in *in, const struct buf *tail,
		    const struct digest *want, struct layerinfo *l,
		    struct err *e)
{
	CLEANUP(sha256_free_cleanup) struct sha256 *h = sha256_new();
	CLEANUP_BUF struct buf packed = BUF_INIT(TOC_BLOB_BYTES_MAX);
	char is[DIGEST_STR_BYTES], said[DIGEST_STR_BYTES];
	int r;

	if (h == NULL)
		return err_no_memory(e);
	r = toc_bytes(in, l, tail, &packed, e);
	if (r < 0)
		return r;
	r = toc_decode(&l->footer, (const uint8_t *)packed.p, packed.len,
		       &l->json, &l->why_not);
	if (r < 0)
		return r == -ENOMEM ? err_no_memory(e) : 0;
	sha256_all(h, l->json.p, l->json.len, &l->toc_digest);
	if (want != NULL && !digest_equal(want, &l->toc_digest)) {
		(void)err_set(&l->why_not, -EBADMSG, "TOC is %s, not %s",
			      digest_str(&l->toc_digest, is),
			      digest_str(want, said));
		return 0;
	}
	return parse(l, e);
}

/* Whether a footer was meant to be there. */
static bool claims_toc(const struct err *why)
{
	return why->code != -EBADMSG ||
	       strncmp(why->text, "footer: none", 12) != 0;
}

int layerinfo_read(const struct layer_in *in, uint64_t size,
		   const struct digest *toc_digest, struct layerinfo *ret,
		   struct err *e)
{
	CLEANUP_LAYERINFO struct layerinfo l = {0};
	CLEANUP_BUF struct buf tail = BUF_INIT(TAIL_BYTES_MAX);
	size_t n;
	int r = in->range(in->arg, UINT64_MAX, (size_t)layer_tail_bytes(size),
			  &tail, &l.size, e);

	if (r == 0)
		r = find_format(in, &l, e);
	if (r < 0)
		return r;
	n = MIN(tail.len, (size_t)TOC_FOOTER_BYTES_MAX);
	r = toc_footer_parse((const uint8_t *)tail.p + tail.len - n, n, l.size,
			     &l.footer, &l.why_not);
	if (r == 0) {
		l.format = l.footer.format == TOC_ESTARGZ  ? LAYER_ESTARGZ
			   : l.footer.format == TOC_STARGZ ? LAYER_STARGZ
							   : LAYER_ZSTD_CHUNKED;
		r = read_toc(in, &tail, toc_digest, &l, e);
		if (r < 0)
			return r;
	} else if (!claims_toc(&l.why_not)) {
		l.why_not = (struct err){0};
	}
	*ret = l;
	l = (struct layerinfo){0};
	return 0;
}
