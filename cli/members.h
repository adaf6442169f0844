/* SPDX-License-Identifier: Apache-2.0 */
/* A compressed layer as one stream, with where its gzip members (zstd frames)
 * begin: what a TOC's offsets are measured by. */
#ifndef CLI_MEMBERS_H
#define CLI_MEMBERS_H

#include "cli/build/build.h"
#include "common/codec.h"

struct members;

/**
 * members_new() - over a blob from its first byte
 * @kind:	0: not compressed
 * @blob:	must outlive it
 */
struct members *members_new(enum codec_kind kind, const struct build_in *blob);
void members_free(struct members *m);
DEFINE_CLEANUP(struct members, members_free);

/* Return: > 0 bytes; 0 at the end of the blob, where a member ends as well;
 * -EBADMSG (corrupt, or cut short; @e says where), what the blob says */
ssize_t members_read(struct members *m, void *p, size_t n, struct err *e);

/* Bytes given out so far. */
uint64_t members_tell(const struct members *m);
/* Where in the blob the member begins that is being read. */
uint64_t members_offset(const struct members *m);

/* The member that byte @at was in, one of those given out of late; what is
 * before @at is forgotten. */
void members_find(struct members *m, uint64_t at, uint64_t *ret_off,
		  uint64_t *ret_inner);

/* Goes on with the member at @off of the blob, not before what was read of it;
 * all else starts over. Return: 1, 0 where the blob ends before, -errno */
int members_skip_to(struct members *m, uint64_t off, struct err *e);
/* Bytes of the blob consumed. */
uint64_t members_consumed(const struct members *m);

#endif
