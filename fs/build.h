/* SPDX-License-Identifier: Apache-2.0 */
/* Making a layer's cache files: the tail of the blob, its TOC, the index. */
#ifndef FS_BUILD_H
#define FS_BUILD_H

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"
#include "fs/layer.h"
#include "fs/link.h"

/* A range of the blob that was fetched, and when. */
struct built_fetch {
	uint64_t off;
	uint64_t len;
	uint64_t start_ns;
	uint64_t end_ns;
};

/**
 * struct built - what came of it
 * @fetched:	the tail, and what of the TOC it had not; @len 0: nothing
 * @tail_len:	the tail of the blob is still in the arena at @tail_arena, its
 *		first byte being the blob's @tail_off; 0: it is not
 */
struct built {
	struct digest toc_digest;
	bool unverified;
	uint64_t image_bytes;
	uint64_t tail_off;
	uint64_t tail_len;
	uint64_t tail_arena;
	struct built_fetch fetched[2];
};

/**
 * build_index() - fetch the TOC, check its digest, write the three files
 * @l:		open; usually one READ, one more where the TOC is longer than
 *		the tail
 * @fds:	layer.erofs, chunks, present: empty, open for writing
 *
 * Nothing of the TOC is parsed before its digest is right (unless @no_verify
 * and there is none to check).
 * Return: 0, -errno with @e
 */
int build_index(struct link *l, const struct layer *layer, bool opaque_user,
		bool no_verify, const int fds[3], const uint8_t boot_id[16],
		struct built *ret, struct err *e);

#endif
