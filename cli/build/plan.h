/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: where the chunks of a file begin and end.
 *
 * Every chunk_bytes; and where a run is known to have read parts of the file,
 * around those, in whole pages, so that the next run fetches them without the
 * rest. What lies between two of them is worth a chunk of its own only where
 * it is more than PLAN_GAP_BYTES: a request, and a table that is lost, cost as
 * much. So of a chunk at least one page in three has been read.
 */
#ifndef CLI_BUILD_PLAN_H
#define CLI_BUILD_PLAN_H

#include "cli/build/build.h"

#define PLAN_PAGE_BYTES UINT64_C(4096)
#define PLAN_GAP_BYTES KIB(8)

/**
 * struct plan - the chunks of a file
 * @i:		the first range that does not end before the last offset asked
 *		for
 */
struct plan {
	const struct build_range *ranges;
	size_t n;
	size_t i;
	uint64_t chunk_bytes;
	uint64_t size;
};

/* @wanted: may be NULL; borrowed. */
struct plan plan_init(const struct build_wanted *wanted, uint64_t chunk_bytes,
		      uint64_t size);

/* Where the chunk ends that begins at @off, which is less than the size. To be
 * called with offsets that only grow. */
uint64_t plan_next(struct plan *p, uint64_t off);
/* Whether the run has read some of the chunk that begins at @off, for which
 * plan_next() was called last. */
bool plan_was_read(const struct plan *p, uint64_t off);

#endif
