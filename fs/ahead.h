/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what is fetched before anybody waits for it: read-ahead behind
 * sequential readers (in the order of the blob, which is that of the image, and
 * of small files in the order of their directory: nextfiles.h),
 * what the image's trace names or else the prioritised range, and in the end
 * everything else. Part of the miss engine: every function here is called with
 * miss.lock held.
 */
#ifndef FS_AHEAD_H
#define FS_AHEAD_H

#include "common/base.h"

struct miss;

/* A read of chunks [first, end) of a file, which missed or not. */
void ahead_read(struct miss *m, uint64_t nid, uint64_t first, uint64_t end,
		bool missed);

/* More is known of the trace (link.hints), or that it will be. */
void ahead_hints(struct miss *m, uint64_t now_ns);

/* Asks for more, as far as the link, the disk and the limits allow. */
void ahead_pump(struct miss *m, uint64_t now_ns);

/* Something that nobody waited for has failed: not again at once. */
void ahead_pause(struct miss *m, uint64_t now_ns);

#endif
