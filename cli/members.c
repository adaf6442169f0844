/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/members.h"

#include <inttypes.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "common/limits.h"

#define IN_BYTES KIB(128)
#define WINDOW_BITS_GZIP (15 + 16)

/**
 * struct start - where a member begins
 * @off:	in the blob
 * @at:		in what it decodes to
 */
struct start {
	uint64_t off;
	uint64_t at;
};

/**
 * struct members - the decoder
 * @in:		[@in_len] bytes of the blob not yet consumed, from @in_at
 * @in_off:	where the next of them is in the blob
 * @inside:	a member has begun and not ended
 * @eof:	the blob has no more
 * @starts:	[@n_starts] members that may still be asked for
 */
struct members {
	enum codec_kind kind;
	const struct build_in *blob;
	z_stream z;
	bool z_ready;
	ZSTD_DCtx *zstd;
	uint8_t *in;
	size_t in_at;
	size_t in_len;
	uint64_t in_off;
	uint64_t out_at;
	bool inside;
	bool eof;
	struct start *starts;
	size_t n_starts;
	size_t cap_starts;
};

void members_free(struct members *m)
{
	if (m == NULL)
		return;
	if (m->z_ready)
		(void)inflateEnd(&m->z);
	(void)ZSTD_freeDCtx(m->zstd);
	free(m->in);
	free(m->starts);
	free(m);
}

struct members *members_new(enum codec_kind kind, const struct build_in *blob)
{
	CLEANUP(members_free_cleanup)
	struct members *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return NULL;
	m->kind = kind;
	m->blob = blob;
	m->in = malloc(IN_BYTES);
	if (m->in == NULL)
		return NULL;
	if (kind == CODEC_GZIP) {
		if (inflateInit2(&m->z, WINDOW_BITS_GZIP) != Z_OK)
			return NULL;
		m->z_ready = true;
	} else if (kind == CODEC_ZSTD) {
		m->zstd = ZSTD_createDCtx();
		if (m->zstd == NULL || ZSTD_isError(ZSTD_DCtx_setParameter(
					       m->zstd, ZSTD_d_windowLogMax,
					       CODEC_ZSTD_WINDOW_LOG_MAX)))
			return NULL;
	}
	return TAKE_PTR(m);
}

uint64_t members_tell(const struct members *m)
{
	return m->out_at;
}

uint64_t members_consumed(const struct members *m)
{
	return m->in_off;
}

uint64_t members_offset(const struct members *m)
{
	return m->n_starts > 0 ? m->starts[m->n_starts - 1].off : m->in_off;
}

/* Some bytes of the blob. Return: 1, 0 at its end, -errno */
static int more(struct members *m, struct err *e)
{
	ssize_t n;

	if (m->in_at < m->in_len)
		return 1;
	if (m->eof)
		return 0;
	n = m->blob->read(m->blob->arg, m->in, IN_BYTES, e);
	if (n < 0)
		return (int)n;
	m->in_at = 0;
	m->in_len = (size_t)n;
	m->eof = n == 0;
	return n > 0 ? 1 : 0;
}

static void consumed(struct members *m, size_t n)
{
	m->in_at += n;
	m->in_off += n;
}

static int begin(struct members *m)
{
	if (m->n_starts == m->cap_starts) {
		size_t cap = MAX(m->cap_starts * 2, (size_t)64);
		struct start *p = reallocarray(m->starts, cap, sizeof(*p));

		if (p == NULL)
			return -ENOMEM;
		m->starts = p;
		m->cap_starts = cap;
	}
	m->starts[m->n_starts++] =
		(struct start){.off = m->in_off, .at = m->out_at};
	m->inside = true;
	if (m->kind == CODEC_GZIP)
		(void)inflateReset(&m->z);
	else if (m->kind == CODEC_ZSTD)
		(void)ZSTD_DCtx_reset(m->zstd, ZSTD_reset_session_only);
	return 0;
}

/* Return: bytes decoded, -EBADMSG; *@ret_end: the member ended */
static ssize_t gunzip(struct members *m, void *p, size_t n, bool *ret_end)
{
	int r;

	m->z.next_in = m->in + m->in_at;
	m->z.avail_in = (uInt)(m->in_len - m->in_at);
	m->z.next_out = p;
	m->z.avail_out = (uInt)MIN(n, (size_t)MIB(16));
	n = m->z.avail_out;
	r = inflate(&m->z, Z_NO_FLUSH);
	consumed(m, m->in_len - m->in_at - m->z.avail_in);
	*ret_end = r == Z_STREAM_END;
	if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
		return -EBADMSG;
	return (ssize_t)(n - m->z.avail_out);
}

static ssize_t unzstd(struct members *m, void *p, size_t n, bool *ret_end)
{
	ZSTD_inBuffer in = {.src = m->in + m->in_at,
			    .size = m->in_len - m->in_at};
	ZSTD_outBuffer out = {.dst = p, .size = n};
	size_t r = ZSTD_decompressStream(m->zstd, &out, &in);

	consumed(m, in.pos);
	*ret_end = r == 0;
	return ZSTD_isError(r) ? -EBADMSG : (ssize_t)out.pos;
}

static ssize_t decode(struct members *m, void *p, size_t n, bool *ret_end)
{
	if (m->kind == CODEC_GZIP)
		return gunzip(m, p, n, ret_end);
	if (m->kind == CODEC_ZSTD)
		return unzstd(m, p, n, ret_end);
	n = MIN(n, m->in_len - m->in_at);
	memcpy(p, m->in + m->in_at, n);
	consumed(m, n);
	*ret_end = false;
	return (ssize_t)n;
}

static const char *unit(const struct members *m)
{
	return m->kind == CODEC_ZSTD ? "zstd frame" : "gzip member";
}

ssize_t members_read(struct members *m, void *p, size_t n, struct err *e)
{
	for (;;) {
		int r = more(m, e);
		bool end;
		ssize_t got;

		if (r < 0)
			return r;
		if (r == 0 && (!m->inside || m->kind == 0))
			return 0;
		if (r == 0)
			return err_set(e, -EBADMSG,
				       "%s at %" PRIu64
				       ": the blob ends before it does",
				       unit(m), members_offset(m));
		if (!m->inside && begin(m) < 0)
			return err_no_memory(e);
		got = decode(m, p, n, &end);
		if (got < 0)
			return err_set(e, (int)got,
				       "%s at %" PRIu64
				       ": corrupt, found at %" PRIu64,
				       unit(m), members_offset(m), m->in_off);
		if (end)
			m->inside = false;
		m->out_at += (uint64_t)got;
		if (got > 0)
			return got;
	}
}

void members_find(struct members *m, uint64_t at, uint64_t *ret_off,
		  uint64_t *ret_inner)
{
	size_t i = 0;

	while (i + 1 < m->n_starts && m->starts[i + 1].at <= at)
		i++;
	assert(i < m->n_starts);
	*ret_off = m->starts[i].off;
	*ret_inner = at - m->starts[i].at;
	if (i > 0) {
		memmove(m->starts, m->starts + i,
			(m->n_starts - i) * sizeof(*m->starts));
		m->n_starts -= i;
	}
}

int members_skip_to(struct members *m, uint64_t off, struct err *e)
{
	assert(off >= m->in_off);
	m->n_starts = 0;
	m->out_at = 0;
	m->inside = false;
	while (m->in_off < off) {
		int r = more(m, e);

		if (r <= 0)
			return r;
		consumed(m, (size_t)MIN(off - m->in_off,
					(uint64_t)(m->in_len - m->in_at)));
	}
	return 1;
}
