/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte of flags, two of bytes needed, two of room beyond, and input. What
 * is decoded in one go is what is decoded piece by piece.
 */
#include "config.h"

#include <string.h>

#include "common/codec.h"
#include "common/rd.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

/* Up to need bytes, input and room a few bytes at a time. */
static size_t in_pieces(enum codec_kind kind, const uint8_t *p, size_t len,
			uint8_t *dst, size_t need, size_t step, bool *ret_bad)
{
	struct codec_stream *s = codec_stream_new(kind);
	size_t out = 0, in = 0;

	assert(s != NULL);
	*ret_bad = false;
	while (out < need) {
		size_t n = MIN(step, len - in), room = MIN(step, need - out);
		size_t k, given = n;

		if (codec_stream_run(s, p + in, &n, dst + out, room, &k) < 0) {
			*ret_bad = true;
			break;
		}
		assert(n <= given);
		assert(k <= room);
		if (n == 0 && k == 0)
			break;
		in += n;
		out += k;
	}
	codec_stream_free(s);
	return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	static struct codec *c;
	enum codec_kind kind;
	size_t need, cap, step, n;
	uint8_t *a, *b;
	bool full, bad;
	int r;

	if (len < 5)
		return 0;
	if (c == NULL)
		c = codec_new();
	assert(c != NULL);
	kind = (p[0] & 1) != 0 ? CODEC_ZSTD : CODEC_GZIP;
	full = (p[0] & 2) != 0;
	step = (size_t)1 << (p[0] >> 4);
	need = le16_load(p + 1);
	cap = need + le16_load(p + 3);
	p += 5;
	len -= 5;
	a = malloc(cap + 1);
	b = malloc(need + 1);
	assert(a != NULL);
	assert(b != NULL);
	r = codec_decode(c, kind, p, len, a, cap, need, full);
	assert(r == 0 || r == -EBADMSG);
	n = in_pieces(kind, p, len, b, need, step, &bad);
	if (r == 0)
		assert(memcmp(a, b, MIN(n, need)) == 0);
	/* zstd may look at a checksum that is right behind. */
	if (n == need && !full && kind == CODEC_GZIP)
		assert(r == 0);
	/* Not bad and not enough: the input is cut off. */
	if (n < need && !bad)
		assert(r != 0);
	if ((p[-5] & 4) != 0)
		codec_trim(c);
	free(a);
	free(b);
	return 0;
}
