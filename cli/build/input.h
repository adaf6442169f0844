/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The uncompressed bytes of a layer, however it came: a tar, gzip members or
 * zstd frames, told by the first bytes.
 *
 * Behind the last gzip member zeros may stand, and anything else, which is
 * ignored as gzip(1) does: input_trailing() says so, because only where the
 * tar is over that is nothing lost. Between zstd frames nothing may stand.
 */
#ifndef CLI_BUILD_INPUT_H
#define CLI_BUILD_INPUT_H

#include "cli/build/build.h"

struct input;
/**
 * input_new() - a source over a compressed one
 * @raw:	borrowed; read to its end, not only to that of the data
 * @o:		borrowed; for @max_bytes and @progress
 *
 * Return: NULL where there is no memory
 */
struct input *input_new(const struct build_in *raw, const struct build_opts *o);
void input_free(struct input *in);
DEFINE_CLEANUP(struct input, input_free);

/* > 0 bytes, 0 at the end, -EBADMSG, -EOPNOTSUPP, -EOVERFLOW (max_bytes),
 * -ENOMEM, what the raw one says. */
ssize_t input_read(struct input *in, void *p, size_t n, struct err *e);

/* Whether something that is no gzip member followed. After the end only. */
bool input_trailing(const struct input *in);

/* Of the bytes read so far, which are all of them at the end. */
uint64_t input_bytes(const struct input *in);
void input_digest(struct input *in, struct digest *ret);

#endif
