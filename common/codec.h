/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding of gzip members and zstd frames: one shot, and streamed. */
#ifndef COMMON_CODEC_H
#define COMMON_CODEC_H

#include "common/base.h"
#include "common/err.h"

enum codec_kind {
	CODEC_GZIP = 1,
	CODEC_ZSTD = 2
};

/**
 * struct codec - decoder state of one thread; re-usable
 */
struct codec;
struct codec *codec_new(void);
void codec_free(struct codec *c);
DEFINE_CLEANUP(struct codec, codec_free);
/* Gives back what it can of its memory; the next use takes it again. */
void codec_trim(struct codec *c);

/**
 * codec_decode() - the first @need bytes of what @src decodes to
 * @src:	[@src_len] starts with a gzip member (zstd frame); what follows
 *		the bytes needed, in the member or after it, is ignored.
 *		Where the first member ends before @need bytes, the next
 *		one goes on.
 * @dst:	[@dst_cap], @dst_cap >= @need. More than @need may be written:
 *		the tar header behind a file is in the member, and the fast
 *		decoder (libdeflate) works on whole members. Room of some 64
 *		KiB to 1 MiB beyond @need makes that path likely; without it
 *		the streaming one (zlib) stops at @need.
 * @full:	verify the member's own checksum too (needed where there is
 *		no digest): decodes to the member's end. Without it a wrong
 *		checksum may be found all the same.
 *
 * Return: 0, -EBADMSG (corrupt, or fewer than @need bytes), -ENOMEM
 */
int codec_decode(struct codec *c, enum codec_kind kind, const void *src,
		 size_t src_len, void *dst, size_t dst_cap, size_t need,
		 bool full);

/* Members decoded by the fast decoder, and by the streaming one, since
 * codec_new(). */
void codec_counts(const struct codec *c, uint64_t *ret_oneshot,
		  uint64_t *ret_streamed);

/**
 * struct codec_stream - a decoder fed piece by piece, for chunks that are too
 * large for one shot
 */
struct codec_stream;
struct codec_stream *codec_stream_new(enum codec_kind kind);
void codec_stream_free(struct codec_stream *s);
DEFINE_CLEANUP(struct codec_stream, codec_stream_free);

/**
 * codec_stream_run() - decode some
 * @src:	in: [*@src_len] input; out: bytes consumed
 * @dst:	[@dst_cap], @dst_cap > 0
 * @ret_len:	bytes written to @dst
 *
 * A member that ends is followed by the next one. Return: 0, -EBADMSG,
 * -ENOMEM. Neither consuming nor producing means more input is needed.
 */
int codec_stream_run(struct codec_stream *s, const void *src, size_t *src_len,
		     void *dst, size_t dst_cap, size_t *ret_len);

#endif
