/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/build/input.h"

#include <inttypes.h>
#include <isa-l.h>
#include <string.h>
#include <zstd.h>

#define RAW_BYTES KIB(128)
#define MAX_BYTES_DEFAULT (UINT64_C(1) << 40)

enum kind {
	KIND_UNKNOWN,
	KIND_TAR,
	KIND_GZIP,
	KIND_ZSTD
};

/**
 * struct input - the source
 * @buf:	[@len] raw bytes, consumed up to @pos
 * @between:	the next byte is the first of a member or frame, or behind all
 * @ended:	no more uncompressed bytes
 */
struct input {
	const struct build_in *raw;
	const struct build_opts *o;
	enum kind kind;
	uint8_t *buf;
	size_t pos;
	size_t len;
	uint64_t raw_bytes;
	uint64_t bytes;
	bool raw_end;
	bool between;
	bool ended;
	bool trailing;
	struct sha256 *hash;
	ZSTD_DCtx *zstd;
	struct inflate_state inflate;
};

struct input *input_new(const struct build_in *raw, const struct build_opts *o)
{
	struct input *in = calloc(1, sizeof(*in));

	if (in == NULL)
		return NULL;
	in->raw = raw;
	in->o = o;
	in->buf = malloc(RAW_BYTES);
	in->hash = sha256_new();
	if (in->buf == NULL || in->hash == NULL) {
		input_free(in);
		return NULL;
	}
	sha256_start(in->hash);
	return in;
}

void input_free(struct input *in)
{
	if (in == NULL)
		return;
	(void)ZSTD_freeDCtx(in->zstd);
	sha256_free(in->hash);
	free(in->buf);
	free(in);
}

bool input_trailing(const struct input *in)
{
	return in->trailing;
}

uint64_t input_bytes(const struct input *in)
{
	return in->bytes;
}

void input_digest(struct input *in, struct digest *ret)
{
	sha256_end(in->hash, ret);
}

/* Moves what is left to the front and reads more behind it. Return: bytes
 * there are now, -errno */
static ssize_t refill(struct input *in, struct err *e)
{
	ssize_t got;

	in->len -= in->pos;
	memmove(in->buf, in->buf + in->pos, in->len);
	in->pos = 0;
	if (!in->raw_end && in->len < RAW_BYTES) {
		got = in->raw->read(in->raw->arg, in->buf + in->len,
				    RAW_BYTES - in->len, e);
		if (got < 0)
			return got;
		in->raw_end = got == 0;
		in->len += (size_t)got;
		in->raw_bytes += (uint64_t)got;
		if (got > 0 && in->o->progress != NULL) {
			int r = in->o->progress(in->o->progress_arg,
						in->raw_bytes, 0);

			if (r < 0)
				return err_set(e, r, "%s", err_name(r));
		}
	}
	return (ssize_t)in->len;
}

/* At least n raw bytes, fewer only at the end. Return: as refill() */
static ssize_t want(struct input *in, size_t n, struct err *e)
{
	while (in->len - in->pos < n && !in->raw_end) {
		ssize_t r = refill(in, e);

		if (r < 0)
			return r;
	}
	return (ssize_t)(in->len - in->pos);
}

static bool starts(const struct input *in, const char *magic, size_t n)
{
	return in->len >= n && memcmp(in->buf, magic, n) == 0;
}

static int detect(struct input *in, struct err *e)
{
	ssize_t n = want(in, 6, e);

	if (n < 0)
		return (int)n;
	if (n == 0)
		return err_set(e, -EBADMSG, "layer: there is nothing in it");
	in->between = true;
	if (starts(in, "\x1f\x8b", 2)) {
		in->kind = KIND_GZIP;
		return 0;
	}
	/* A frame, or a skippable one. */
	if (starts(in, "\x28\xb5\x2f\xfd", 4) ||
	    (n >= 4 && (in->buf[0] & 0xf0) == 0x50 &&
	     memcmp(in->buf + 1, "\x2a\x4d\x18", 3) == 0)) {
		in->kind = KIND_ZSTD;
		in->zstd = ZSTD_createDCtx();
		return in->zstd != NULL ? 0 : err_no_memory(e);
	}
	if (starts(in, "BZh", 3) || starts(in,
					   "\xfd"
					   "7zXZ",
					   5))
		return err_set(e, -EOPNOTSUPP,
			       "layer: compressed with bzip2 or xz, which "
			       "is not supported");
	in->kind = KIND_TAR;
	return 0;
}

static ssize_t tar_read_some(struct input *in, void *p, size_t n, struct err *e)
{
	ssize_t r = want(in, 1, e);

	if (r <= 0)
		return r;
	n = MIN(n, (size_t)r);
	memcpy(p, in->buf + in->pos, n);
	in->pos += n;
	return (ssize_t)n;
}

/* Behind a member: another one, or the end. Return: 1, 0, -errno */
static int gzip_member(struct input *in, struct err *e)
{
	bool zeros = false;
	ssize_t n;

	while ((n = want(in, 2, e)) > 0 && in->buf[in->pos] == 0) {
		zeros = true;
		in->pos++;
	}
	if (n <= 0)
		return (int)n;
	if (zeros || n < 2 || in->buf[in->pos] != 0x1f ||
	    in->buf[in->pos + 1] != 0x8b) {
		in->trailing = true;
		return 0;
	}
	isal_inflate_init(&in->inflate);
	in->inflate.crc_flag = ISAL_GZIP;
	in->between = false;
	return 1;
}

static ssize_t gzip_read(struct input *in, uint8_t *p, size_t n, struct err *e)
{
	struct inflate_state *s = &in->inflate;
	size_t out = 0;

	while (out == 0) {
		ssize_t r = in->between ? gzip_member(in, e) : want(in, 1, e);
		int q;

		if (r < 0 || (r == 0 && in->between))
			return r;
		s->next_in = in->buf + in->pos;
		s->avail_in = (uint32_t)(in->len - in->pos);
		s->next_out = p;
		s->avail_out = (uint32_t)n;
		q = isal_inflate(s);
		if (q < 0)
			return err_set(e, -EBADMSG,
				       "layer: bad gzip data before byte "
				       "%" PRIu64,
				       in->raw_bytes);
		out = n - s->avail_out;
		in->pos = in->len - s->avail_in;
		in->between = s->block_state == ISAL_BLOCK_FINISH;
		if (out == 0 && r == 0 && !in->between)
			return err_set(e, -EBADMSG,
				       "layer: the gzip data ends early, at "
				       "byte %" PRIu64,
				       in->raw_bytes);
	}
	return (ssize_t)out;
}

static ssize_t zstd_read(struct input *in, void *p, size_t n, struct err *e)
{
	ZSTD_outBuffer out = {p, n, 0};

	while (out.pos == 0) {
		ZSTD_inBuffer src = {in->buf, in->len, in->pos};
		ssize_t r;
		size_t q;

		if (in->pos == in->len) {
			r = want(in, 1, e);
			if (r < 0 || (r == 0 && in->between))
				return r;
			src = (ZSTD_inBuffer){in->buf, in->len, in->pos};
		}
		q = ZSTD_decompressStream(in->zstd, &out, &src);
		if (ZSTD_isError(q))
			return err_set(e, -EBADMSG,
				       "layer: bad zstd data before byte "
				       "%" PRIu64 ": %s",
				       in->raw_bytes, ZSTD_getErrorName(q));
		if (out.pos == 0 && src.pos == in->pos && in->raw_end)
			return err_set(e, -EBADMSG,
				       "layer: the zstd data ends early, at "
				       "byte %" PRIu64,
				       in->raw_bytes);
		in->pos = src.pos;
		in->between = q == 0;
	}
	return (ssize_t)out.pos;
}

static ssize_t read_some(struct input *in, void *p, size_t n, struct err *e)
{
	switch (in->kind) {
	case KIND_GZIP:
		return gzip_read(in, p, n, e);
	case KIND_ZSTD:
		return zstd_read(in, p, n, e);
	case KIND_TAR:
	case KIND_UNKNOWN:
		break;
	}
	return tar_read_some(in, p, n, e);
}

/* What is behind the data is read as well: the caller may want a digest of it. */
static ssize_t end(struct input *in, struct err *e)
{
	ssize_t r;

	in->ended = true;
	do {
		in->pos = in->len;
		r = refill(in, e);
	} while (r > 0);
	return r;
}

ssize_t input_read(struct input *in, void *p, size_t n, struct err *e)
{
	uint64_t max =
		in->o->max_bytes != 0 ? in->o->max_bytes : MAX_BYTES_DEFAULT;
	ssize_t r;

	if (in->ended)
		return 0;
	if (in->kind == KIND_UNKNOWN) {
		r = detect(in, e);
		if (r < 0)
			return r;
	}
	r = read_some(in, p, MIN(n, (size_t)MIB(1)), e);
	if (r == 0)
		return end(in, e);
	if (r < 0)
		return r;
	if ((uint64_t)r > max - in->bytes)
		return err_set(
			e, -EOVERFLOW,
			"layer: more than %" PRIu64 " bytes uncompressed", max);
	in->bytes += (uint64_t)r;
	sha256_add(in->hash, p, (size_t)r);
	return r;
}
