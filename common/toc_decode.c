/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the compressed TOC to its JSON. In the gzip formats it is a tar of one
 * entry, stargz.index.json; in zstd:chunked it is the frame's content.
 */
#include "config.h"

#include <inttypes.h>
#include <string.h>

#include "common/codec.h"
#include "common/limits.h"
#include "common/toc.h"

#define TAR_BLOCK_BYTES 512u
/* The entry's header, and a PAX header with its records in front of it. */
#define TAR_HEADER_BYTES_MAX 8192u
/* What follows the JSON in the member: padding, two blocks of zeros; more
 * from other writers. With room for it the fast decoder can be used. */
#define TAR_END_BYTES 65536u
/* Deflate cannot do better: 258 bytes in 2 bits. */
#define DEFLATE_RATIO_MAX 1032u

/* Fields of a tar header that matter here: offset and length. */
enum {
	TAR_NAME = 0,
	TAR_NAME_LEN = 100,
	TAR_SIZE = 124,
	TAR_SIZE_LEN = 12,
	TAR_CHECKSUM = 148,
	TAR_CHECKSUM_LEN = 8,
	TAR_TYPE = 156,
	TAR_MAGIC = 257,
	TAR_MAGIC_LEN = 8,
	TAR_PREFIX = 345,
	TAR_PREFIX_LEN = 155,
};

/**
 * struct tar - the entry found
 * @off:	where its data is in the decoded bytes
 * @size:	bytes of data
 * @pax_size:	size from a PAX record, which overrides the header's
 * @pax_name:	a PAX record names the entry, rightly
 */
struct tar {
	uint64_t off;
	uint64_t size;
	uint64_t pax_size;
	bool has_pax_size;
	bool pax_name;
};

/* Octal digits up to a NUL or space, after spaces. */
static bool octal(const uint8_t *p, size_t n, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i = 0, start;

	while (i < n && p[i] == ' ')
		i++;
	start = i;
	for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
		v = v << 3 | (uint64_t)(p[i] - '0');
	if (i == start || (i < n && p[i] != '\0' && p[i] != ' '))
		return false;
	*ret = v;
	return true;
}

/* Octal, or GNU's big-endian binary with the top bit set. */
static bool tar_number(const uint8_t *p, size_t n, uint64_t *ret)
{
	uint64_t v = 0;

	if (p[0] != 0x80)
		return octal(p, n, ret);
	for (size_t i = 1; i < n; i++) {
		if (v >> 56 != 0)
			return false;
		v = v << 8 | p[i];
	}
	*ret = v;
	return true;
}

static bool checksum_ok(const uint8_t *h)
{
	uint64_t want, sum = 0;

	for (size_t i = 0; i < TAR_BLOCK_BYTES; i++) {
		bool own = i - TAR_CHECKSUM < TAR_CHECKSUM_LEN;

		sum += own ? (uint8_t)' ' : h[i];
	}
	return octal(h + TAR_CHECKSUM, TAR_CHECKSUM_LEN, &want) && want == sum;
}

static bool field_is(const uint8_t *p, size_t n, const char *s)
{
	size_t len = strlen(s);

	return len < n && memcmp(p, s, len) == 0 && p[len] == '\0';
}

/* "<length> <key>=<value>\n", length counting all of it; 0: it is not. */
static size_t pax_record(const uint8_t *p, size_t n, struct tar *t)
{
	size_t len = 0, i = 0;
	const uint8_t *eq;

	for (; i < n && i < 5 && p[i] >= '0' && p[i] <= '9'; i++)
		len = len * 10 + (size_t)(p[i] - '0');
	if (i == 0 || i == n || p[i] != ' ' || len > n || len < i + 3 ||
	    p[len - 1] != '\n')
		return 0;
	p += i + 1;
	n = len - i - 2;
	eq = memchr(p, '=', n);
	if (eq == NULL)
		return 0;
	if (eq - p == 4 && memcmp(p, "path", 4) == 0) {
		n -= 5;
		if (n != strlen(TOC_TAR_NAME) ||
		    memcmp(eq + 1, TOC_TAR_NAME, n) != 0)
			return 0;
		t->pax_name = true;
	} else if (eq - p == 4 && memcmp(p, "size", 4) == 0) {
		t->pax_size = 0;
		t->has_pax_size = n > 5 && n < 5 + 16;
		for (i = 5; i < n && p[i] >= '0' && p[i] <= '9'; i++)
			t->pax_size = t->pax_size * 10 + (uint64_t)(p[i] - '0');
		if (!t->has_pax_size || i != n)
			return 0;
	}
	return len;
}

static bool pax_records(const uint8_t *p, uint64_t n, struct tar *t)
{
	while (n > 0) {
		size_t len = pax_record(p, (size_t)n, t);

		if (len == 0)
			return false;
		p += len;
		n -= len;
	}
	return true;
}

static const char *header_check(const uint8_t *h)
{
	if (memcmp(h + TAR_MAGIC,
		   "ustar\0"
		   "00",
		   TAR_MAGIC_LEN) != 0 &&
	    memcmp(h + TAR_MAGIC, "ustar  ", TAR_MAGIC_LEN) != 0)
		return "not a tar";
	if (!checksum_ok(h))
		return "wrong tar checksum";
	return NULL;
}

/* The data entry's header. */
static const char *entry_check(const uint8_t *h, struct tar *t)
{
	if (h[TAR_TYPE] != '0' && h[TAR_TYPE] != '\0')
		return "tar entry is not a file";
	if (!t->pax_name &&
	    (!field_is(h + TAR_NAME, TAR_NAME_LEN, TOC_TAR_NAME) ||
	     h[TAR_PREFIX] != '\0'))
		return "tar entry is not " TOC_TAR_NAME;
	if (t->has_pax_size)
		t->size = t->pax_size;
	return NULL;
}

/*
 * Finds the entry from the first n bytes of the tar.
 * Return: NULL, or what is wrong
 */
static const char *tar_find(const uint8_t *p, size_t n, struct tar *t)
{
	const char *why;
	uint64_t pad;

	*t = (struct tar){0};
	for (;;) {
		const uint8_t *h = p + t->off;
		char type;

		if (n - t->off < TAR_BLOCK_BYTES)
			return "tar header cut off, or too long";
		why = header_check(h);
		if (why != NULL)
			return why;
		if (!tar_number(h + TAR_SIZE, TAR_SIZE_LEN, &t->size))
			return "bad tar size";
		t->off += TAR_BLOCK_BYTES;
		type = (char)h[TAR_TYPE];
		if (type != 'x' && type != 'g')
			return entry_check(h, t);
		if (t->size > n - t->off)
			return "PAX header cut off, or too long";
		if (type == 'x' && !pax_records(p + t->off, t->size, t))
			return "bad PAX header";
		pad = ALIGN_UP(t->size, (uint64_t)TAR_BLOCK_BYTES);
		if (pad > n - t->off)
			return "PAX header cut off, or too long";
		t->off += pad;
	}
}

/* Decodes the start of the TOC and reads the tar headers there. */
static int gzip_probe(const uint8_t *p, size_t len, struct tar *ret,
		      struct err *e)
{
	CLEANUP(codec_stream_free_cleanup)
	struct codec_stream *s = codec_stream_new(CODEC_GZIP);
	uint8_t start[TAR_HEADER_BYTES_MAX];
	const char *why;
	size_t n;
	int r;

	if (s == NULL)
		return err_no_memory(e);
	/* A fault further on is found when it all is decoded. */
	len = MIN(len, (size_t)(2 * TAR_HEADER_BYTES_MAX));
	r = codec_stream_run(s, p, &len, start, sizeof(start), &n);
	if (r < 0)
		return err_set(e, r, "TOC: corrupt gzip member");
	why = tar_find(start, n, ret);
	if (why != NULL)
		return err_set(e, -EBADMSG, "TOC: %s", why);
	return 0;
}

/*
 * Decodes need bytes into the buffer, which for this while may hold more than
 * its maximum.
 */
static int decode_into(enum codec_kind kind, const uint8_t *p, size_t len,
		       size_t need, size_t slack, struct buf *b, struct err *e)
{
	CLEANUP(codec_free_cleanup) struct codec *c = codec_new();
	int r;

	if (c == NULL)
		return err_no_memory(e);
	b->max = need + slack;
	r = buf_reserve(b, need + slack);
	b->max = TOC_JSON_BYTES_MAX;
	if (r < 0)
		return err_set(e, r, "TOC: no memory for %zu bytes", need);
	/* No check of the member's end: the TOC's digest tells more. */
	r = codec_decode(c, kind, p, len, b->p, need + slack, need, false);
	if (r < 0)
		return err_set(e, r, "TOC: corrupt, or shorter than stated");
	return 0;
}

static int gzip_toc(const uint8_t *p, size_t len, struct buf *b, struct err *e)
{
	struct tar t;
	int r;

	r = gzip_probe(p, len, &t, e);
	if (r < 0)
		return r;
	if (t.size > TOC_JSON_BYTES_MAX)
		return err_set(e, -EOVERFLOW,
			       "TOC: %" PRIu64 " bytes are over the limit",
			       t.size);
	if (t.size / DEFLATE_RATIO_MAX > len)
		return err_set(e, -EBADMSG, "TOC: shorter than stated");
	r = decode_into(CODEC_GZIP, p, len, (size_t)(t.off + t.size),
			TAR_END_BYTES, b, e);
	if (r < 0)
		return r;
	memmove(b->p, b->p + t.off, (size_t)t.size);
	b->len = (size_t)t.size;
	return 0;
}

static int zstd_toc(const struct toc_footer *f, const uint8_t *p, size_t len,
		    struct buf *b, struct err *e)
{
	int r;

	if (f->toc_json_len > TOC_JSON_BYTES_MAX)
		return err_set(e, -EOVERFLOW,
			       "TOC: %" PRIu64 " bytes are over the limit",
			       f->toc_json_len);
	r = decode_into(CODEC_ZSTD, p, len, (size_t)f->toc_json_len, 0, b, e);
	if (r < 0)
		return r;
	b->len = (size_t)f->toc_json_len;
	return 0;
}

int toc_decode(const struct toc_footer *f, const uint8_t *p, size_t len,
	       struct buf *ret_json, struct err *e)
{
	struct buf b = BUF_INIT(TOC_JSON_BYTES_MAX);
	int r;

	if (len != f->toc_len)
		return err_set(e, -EBADMSG,
			       "TOC: %zu bytes, the footer says %" PRIu64, len,
			       f->toc_len);
	r = f->format == TOC_ZSTD_CHUNKED ? zstd_toc(f, p, len, &b, e)
					  : gzip_toc(p, len, &b, e);
	if (r < 0) {
		buf_done(&b);
		return r;
	}
	b.p[b.len] = '\0';
	buf_done(ret_json);
	*ret_json = b;
	return 0;
}
