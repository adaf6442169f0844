/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a blob. Layouts, in bytes:
 *
 * eStargz, 51: an empty gzip member with an extra field.
 *   gzip header 10, XLEN 2 = 26, "SG", LEN 2 = 22, "%016xSTARGZ" 22,
 *   an empty stored block 5, CRC and size 8
 * stargz, 47: the same without "SG" and LEN, so XLEN = 22.
 * eStargz with the TOC elsewhere, 46: "SG", LEN = 17, "STARGZEXTERNALTOC".
 * zstd:chunked, 40, in a skippable frame: offset, compressed length, length,
 *   type 1, all 64-bit, "GnUlInUx".
 * zstd:chunked, 64, the same: ..., type 1, the three numbers of the tar-split
 *   data, "GNUlInUx".
 *
 * Source: eStargz specification, "Footer" and "Notes on backward
 * compatibility"; containers/storage docs/containers-storage-zstd-chunked.md.
 */
#include "config.h"

#include <inttypes.h>
#include <string.h>

#include "common/checked.h"
#include "common/limits.h"
#include "common/rd.h"
#include "common/toc.h"

#define ESTARGZ_FOOTER_BYTES 51u
#define STARGZ_FOOTER_BYTES 47u
#define EXTERNAL_FOOTER_BYTES 46u
#define ZSTD_FOOTER_BYTES 40u
#define ZSTD_SPLIT_FOOTER_BYTES 64u
#define ZSTD_FRAME_HEADER_BYTES 8u
#define ZSTD_SKIPPABLE_MAGIC 0x184d2a50u
#define ZSTD_TYPE_TOC 1u
#define GZIP_HEADER_BYTES 10u
#define GZIP_END_BYTES 13u

/*
 * The extra field of the empty gzip member that the last n bytes are, or NULL.
 * Time, level and system of the header may be anything.
 */
static const uint8_t *gzip_extra(const uint8_t *tail, size_t len, size_t n)
{
	static const uint8_t start[] = {0x1f, 0x8b, 8, 4};
	static const uint8_t end[GZIP_END_BYTES] = {1, 0, 0, 0xff, 0xff};
	const uint8_t *p;
	size_t extra = n - GZIP_HEADER_BYTES - 2 - GZIP_END_BYTES;

	if (len < n)
		return NULL;
	p = tail + len - n;
	if (memcmp(p, start, sizeof(start)) != 0 ||
	    le16_load(p + GZIP_HEADER_BYTES) != extra ||
	    memcmp(p + n - GZIP_END_BYTES, end, GZIP_END_BYTES) != 0)
		return NULL;
	return p + GZIP_HEADER_BYTES + 2;
}

/* Steps over "SG" and the length of its subfield, which is to be n. */
static const uint8_t *subfield(const uint8_t *extra, uint16_t n)
{
	if (extra == NULL || extra[0] != 'S' || extra[1] != 'G' ||
	    le16_load(extra + 2) != n)
		return NULL;
	return extra + 4;
}

/* "%016xSTARGZ": digits as written by printf, so no sign and no capitals. */
static bool stargz_offset(const uint8_t *p, uint64_t *ret)
{
	uint64_t v = 0;

	if (p == NULL || memcmp(p + 16, "STARGZ", 6) != 0)
		return false;
	for (size_t i = 0; i < 16; i++) {
		if (p[i] >= '0' && p[i] <= '9')
			v = v << 4 | (uint64_t)(p[i] - '0');
		else if (p[i] >= 'a' && p[i] <= 'f')
			v = v << 4 | (uint64_t)(p[i] - 'a' + 10);
		else
			return false;
	}
	*ret = v;
	return true;
}

/* The TOC lies before what ends the blob, @end_bytes long. */
static int footer_check(const struct toc_footer *f, uint64_t blob_size,
			uint64_t end_bytes, struct err *e)
{
	uint64_t end = blob_size - end_bytes;

	if (f->toc_len == 0 || !checked_range(f->toc_off, f->toc_len, end))
		return err_set(e, -EBADMSG,
			       "footer: TOC at %" PRIu64 "+%" PRIu64
			       " is not inside the blob of %" PRIu64 " bytes",
			       f->toc_off, f->toc_len, blob_size);
	if (f->toc_len > TOC_BLOB_BYTES_MAX)
		return err_set(e, -EOVERFLOW,
			       "footer: TOC of %" PRIu64
			       " bytes is over the limit",
			       f->toc_len);
	return 0;
}

static int zstd_footer(const uint8_t *tail, size_t len, uint64_t blob_size,
		       size_t n, struct toc_footer *f, struct err *e)
{
	const uint8_t *p = tail + len - n;
	uint64_t end_bytes = n + ZSTD_FRAME_HEADER_BYTES;

	if (blob_size < end_bytes)
		return err_set(e, -EBADMSG, "footer: not in a zstd frame");
	/* The header of its frame is in front, if the caller has that. */
	if (len >= end_bytes &&
	    (le32_load(p - 8) != ZSTD_SKIPPABLE_MAGIC || le32_load(p - 4) != n))
		return err_set(e, -EBADMSG, "footer: not in a zstd frame");
	if (le64_load(p + 24) != ZSTD_TYPE_TOC)
		return err_set(e, -EBADMSG,
			       "footer: TOC of unknown type %" PRIu64,
			       le64_load(p + 24));
	f->format = TOC_ZSTD_CHUNKED;
	f->toc_off = le64_load(p);
	f->toc_len = le64_load(p + 8);
	f->toc_json_len = le64_load(p + 16);
	if (f->toc_json_len > TOC_JSON_BYTES_MAX)
		return err_set(e, -EOVERFLOW,
			       "footer: TOC of %" PRIu64
			       " bytes is over the limit",
			       f->toc_json_len);
	if (f->toc_off < ZSTD_FRAME_HEADER_BYTES || f->toc_json_len == 0)
		return err_set(e, -EBADMSG, "footer: no TOC");
	return footer_check(f, blob_size, end_bytes, e);
}

static int gzip_footer(enum toc_format format, uint64_t off, uint64_t blob_size,
		       struct toc_footer *f, struct err *e)
{
	uint64_t n = format == TOC_ESTARGZ ? ESTARGZ_FOOTER_BYTES
					   : STARGZ_FOOTER_BYTES;

	f->format = format;
	f->toc_off = off;
	if (off > blob_size - n)
		return err_set(e, -EBADMSG,
			       "footer: TOC at %" PRIu64
			       " is not inside the blob of %" PRIu64 " bytes",
			       off, blob_size);
	f->toc_len = blob_size - n - off;
	return footer_check(f, blob_size, n, e);
}

static bool ends_with(const uint8_t *tail, size_t len, const char *magic)
{
	return memcmp(tail + len - 8, magic, 8) == 0;
}

static int footer_find(const uint8_t *tail, size_t len, uint64_t blob_size,
		       struct toc_footer *f, struct err *e)
{
	const uint8_t *extra;
	uint64_t off;

	if (len >= ZSTD_FOOTER_BYTES && ends_with(tail, len, "GnUlInUx"))
		return zstd_footer(tail, len, blob_size, ZSTD_FOOTER_BYTES, f,
				   e);
	if (len >= ZSTD_SPLIT_FOOTER_BYTES && ends_with(tail, len, "GNUlInUx"))
		return zstd_footer(tail, len, blob_size,
				   ZSTD_SPLIT_FOOTER_BYTES, f, e);
	extra = subfield(gzip_extra(tail, len, ESTARGZ_FOOTER_BYTES), 22);
	if (stargz_offset(extra, &off))
		return gzip_footer(TOC_ESTARGZ, off, blob_size, f, e);
	extra = gzip_extra(tail, len, STARGZ_FOOTER_BYTES);
	if (stargz_offset(extra, &off))
		return gzip_footer(TOC_STARGZ, off, blob_size, f, e);
	extra = subfield(gzip_extra(tail, len, EXTERNAL_FOOTER_BYTES), 17);
	if (extra != NULL && memcmp(extra, "STARGZEXTERNALTOC", 17) == 0)
		return err_set(e, -EOPNOTSUPP,
			       "footer: the TOC is in another image (external "
			       "TOC), which is not supported");
	return err_set(e, -EBADMSG,
		       "footer: none; not an eStargz or zstd:chunked blob");
}

int toc_footer_parse(const uint8_t *tail, size_t len, uint64_t blob_size,
		     struct toc_footer *ret, struct err *e)
{
	struct toc_footer f = {0};
	int r;

	assert(len <= blob_size);
	r = footer_find(tail, len, blob_size, &f, e);
	if (r < 0)
		return r;
	*ret = f;
	return 0;
}
