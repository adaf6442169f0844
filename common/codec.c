/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzip: libdeflate where a whole member fits in the caller's room, else zlib,
 * which can stop anywhere but takes 2 to 3 times as long. zstd: one shot
 * where a whole frame fits, else streamed, with a bound on the window.
 */
#include "config.h"

#define ZLIB_CONST

#include "common/codec.h"

#include <libdeflate.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "common/limits.h"
#include "common/rd.h"

/* zlib counts in unsigned int. */
#define ZLIB_PIECE_BYTES_MAX ((size_t)1 << 30)
#define CODEC_SCRATCH_BYTES 65536u
/* 15: the window of deflate; 16: gzip and nothing else. */
#define ZLIB_GZIP_WINDOW_BITS (15 + 16)

struct codec_stream {
	enum codec_kind kind;
	bool between; /* a member has ended, none has begun */
	bool flushed; /* zstd holds no output that it had no room for */
	z_stream z;
	ZSTD_DCtx *zstd;
};

struct codec {
	struct libdeflate_decompressor *deflate;
	ZSTD_DCtx *zstd;
	struct codec_stream *stream[CODEC_ZSTD + 1];
	uint8_t *scratch;
	uint64_t n_oneshot;
	uint64_t n_streamed;
};

/* One call's input and output. */
struct run {
	const uint8_t *src;
	size_t src_len;
	uint8_t *dst;
	size_t dst_cap;
	size_t need;
	size_t in;  /* bytes consumed */
	size_t out; /* bytes decoded */
};

static int zstd_errno(size_t code)
{
	return ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation
		       ? -ENOMEM
		       : -EBADMSG;
}

struct codec_stream *codec_stream_new(enum codec_kind kind)
{
	struct codec_stream *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->kind = kind;
	s->flushed = true;
	if (kind == CODEC_GZIP) {
		if (inflateInit2(&s->z, ZLIB_GZIP_WINDOW_BITS) != Z_OK) {
			free(s);
			return NULL;
		}
		return s;
	}
	assert(kind == CODEC_ZSTD);
	s->zstd = ZSTD_createDCtx();
	if (s->zstd == NULL ||
	    ZSTD_isError(ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax,
						CODEC_ZSTD_WINDOW_LOG_MAX))) {
		codec_stream_free(s);
		return NULL;
	}
	return s;
}

void codec_stream_free(struct codec_stream *s)
{
	if (s == NULL)
		return;
	if (s->kind == CODEC_GZIP)
		(void)inflateEnd(&s->z);
	(void)ZSTD_freeDCtx(s->zstd);
	free(s);
}

static void stream_restart(struct codec_stream *s)
{
	s->between = false;
	s->flushed = true;
	if (s->kind == CODEC_GZIP)
		(void)inflateReset(&s->z);
	else
		(void)ZSTD_DCtx_reset(s->zstd, ZSTD_reset_session_only);
}

/* Up to the end of a member, of the input or of the room. */
static int gzip_step(struct codec_stream *s, struct run *u)
{
	uint8_t none[1];
	size_t in = MIN(u->src_len - u->in, ZLIB_PIECE_BYTES_MAX);
	size_t out = MIN(u->dst_cap - u->out, ZLIB_PIECE_BYTES_MAX);
	int r;

	s->z.next_in = u->src + u->in;
	s->z.avail_in = (uInt)in;
	/* With no room left the checksum behind the data can be read yet. */
	s->z.next_out = out > 0 ? u->dst + u->out : none;
	s->z.avail_out = (uInt)out;
	r = inflate(&s->z, Z_NO_FLUSH);
	u->in += in - s->z.avail_in;
	u->out += out - s->z.avail_out;
	s->z.next_in = NULL;
	s->z.next_out = NULL;
	if (r == Z_STREAM_END)
		s->between = true;
	else if (r == Z_MEM_ERROR)
		return -ENOMEM;
	else if (r != Z_OK && r != Z_BUF_ERROR)
		return -EBADMSG;
	return 0;
}

static int zstd_step(struct codec_stream *s, struct run *u)
{
	ZSTD_inBuffer in = {u->src + u->in, u->src_len - u->in, 0};
	ZSTD_outBuffer out = {u->dst, u->dst_cap, u->out};
	size_t r;

	/* The library takes too many calls without progress for an error. */
	if (u->out == u->dst_cap || (u->in == u->src_len && s->flushed))
		return 0;
	r = ZSTD_decompressStream(s->zstd, &out, &in);
	if (ZSTD_isError(r))
		return zstd_errno(r);
	u->in += in.pos;
	u->out = out.pos;
	s->flushed = out.pos < out.size;
	s->between = r == 0;
	return 0;
}

/* One step; a member is begun where the last one has ended. */
static int stream_step(struct codec_stream *s, struct run *u)
{
	if (s->between) {
		if (u->in == u->src_len)
			return 0;
		stream_restart(s);
	}
	return s->kind == CODEC_GZIP ? gzip_step(s, u) : zstd_step(s, u);
}

int codec_stream_run(struct codec_stream *s, const void *src, size_t *src_len,
		     void *dst, size_t dst_cap, size_t *ret_len)
{
	struct run u = {
		.src = src,
		.src_len = *src_len,
		.dst = dst,
		.dst_cap = dst_cap,
	};
	size_t in, out;
	bool between;
	int r;

	do {
		in = u.in;
		out = u.out;
		between = s->between;
		r = stream_step(s, &u);
		if (r < 0)
			return r;
	} while (u.in != in || u.out != out || s->between != between);
	*src_len = u.in;
	*ret_len = u.out;
	return 0;
}

struct codec *codec_new(void)
{
	return calloc(1, sizeof(struct codec));
}

void codec_trim(struct codec *c)
{
	libdeflate_free_decompressor(c->deflate);
	c->deflate = NULL;
	(void)ZSTD_freeDCtx(c->zstd);
	c->zstd = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(c->stream); i++) {
		codec_stream_free(c->stream[i]);
		c->stream[i] = NULL;
	}
	free(c->scratch);
	c->scratch = NULL;
}

void codec_free(struct codec *c)
{
	if (c == NULL)
		return;
	codec_trim(c);
	free(c);
}

void codec_counts(const struct codec *c, uint64_t *ret_oneshot,
		  uint64_t *ret_streamed)
{
	*ret_oneshot = c->n_oneshot;
	*ret_streamed = c->n_streamed;
}

/* Decodes on until the member ends, and forgets what comes out. */
static int stream_drain(struct codec *c, struct codec_stream *s, struct run *u)
{
	struct run rest = *u;
	size_t in;
	int r;

	if (c->scratch == NULL)
		c->scratch = malloc(CODEC_SCRATCH_BYTES);
	if (c->scratch == NULL)
		return -ENOMEM;
	rest.dst = c->scratch;
	rest.dst_cap = CODEC_SCRATCH_BYTES;
	while (!s->between) {
		in = rest.in;
		rest.out = 0;
		r = stream_step(s, &rest);
		if (r < 0)
			return r;
		if (!s->between && rest.in == in && rest.out == 0)
			return -EBADMSG;
	}
	return 0;
}

/* From where the run stands, which is the start of a member. */
static int decode_streamed(struct codec *c, enum codec_kind kind, struct run *u,
			   bool full)
{
	struct codec_stream *s = c->stream[kind];
	size_t in, out;
	int r;

	if (s == NULL)
		s = c->stream[kind] = codec_stream_new(kind);
	if (s == NULL)
		return -ENOMEM;
	c->n_streamed++;
	stream_restart(s);
	u->dst_cap = u->need;
	while (u->out < u->need) {
		in = u->in;
		out = u->out;
		r = stream_step(s, u);
		/* A bad checksum behind all that is needed is not looked at. */
		if (r == -EBADMSG && u->out == u->need && !full)
			return 0;
		if (r < 0)
			return r;
		if (u->in == in && u->out == out)
			return -EBADMSG;
	}
	return full ? stream_drain(c, s, u) : 0;
}

/*
 * One gzip member in one shot.
 * Return: 1 done, 0 it has to be streamed, -ENOMEM, -EBADMSG
 */
static int gzip_oneshot(struct codec *c, struct run *u, bool full)
{
	enum libdeflate_result r;
	size_t in = 0, out = 0;

	/*
	 * A member ends in its decoded size. Where the input ends with the
	 * member, as it mostly does, that tells beforehand that the room is
	 * too small. If it is something else, only time is lost.
	 */
	if (u->in == 0 && u->src_len >= 4) {
		uint32_t isize = le32_load(u->src + u->src_len - 4);

		if (isize > u->dst_cap && isize / 1032 <= u->src_len)
			return 0;
	}
	if (c->deflate == NULL)
		c->deflate = libdeflate_alloc_decompressor();
	if (c->deflate == NULL)
		return -ENOMEM;
	r = libdeflate_gzip_decompress_ex(c->deflate, u->src + u->in,
					  u->src_len - u->in, u->dst + u->out,
					  u->dst_cap - u->out, &in, &out);
	if (r == LIBDEFLATE_BAD_DATA && full)
		return -EBADMSG;
	/* Cut off or corrupt behind the bytes needed: zlib will tell. */
	if (r != LIBDEFLATE_SUCCESS)
		return 0;
	u->in += in;
	u->out += out;
	return 1;
}

/* One zstd frame in one shot; same returns. */
static int zstd_oneshot(struct codec *c, struct run *u)
{
	const uint8_t *src = u->src + u->in;
	size_t in = ZSTD_findFrameCompressedSize(src, u->src_len - u->in), r;
	unsigned long long size;

	if (ZSTD_isError(in))
		return 0;
	size = ZSTD_getFrameContentSize(src, in);
	if (size == ZSTD_CONTENTSIZE_ERROR ||
	    (size != ZSTD_CONTENTSIZE_UNKNOWN && size > u->dst_cap - u->out))
		return 0;
	if (c->zstd == NULL)
		c->zstd = ZSTD_createDCtx();
	if (c->zstd == NULL)
		return -ENOMEM;
	r = ZSTD_decompressDCtx(c->zstd, u->dst + u->out, u->dst_cap - u->out,
				src, in);
	if (ZSTD_isError(r))
		return zstd_errno(r) == -ENOMEM ? -ENOMEM : 0;
	u->in += in;
	u->out += r;
	return 1;
}

int codec_decode(struct codec *c, enum codec_kind kind, const void *src,
		 size_t src_len, void *dst, size_t dst_cap, size_t need,
		 bool full)
{
	struct run u = {
		.src = src,
		.src_len = src_len,
		.dst = dst,
		.dst_cap = dst_cap,
		.need = need,
	};
	int r;

	assert(need <= dst_cap);
	assert(kind == CODEC_GZIP || kind == CODEC_ZSTD);
	if (need == 0 && !full)
		return 0;
	do {
		if (u.in == u.src_len)
			return -EBADMSG;
		r = kind == CODEC_GZIP ? gzip_oneshot(c, &u, full)
				       : zstd_oneshot(c, &u);
		if (r < 0)
			return r;
		if (r == 0)
			return decode_streamed(c, kind, &u, full);
		c->n_oneshot++;
	} while (u.out < need);
	return 0;
}
