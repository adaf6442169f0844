/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: which chunks of a layer were read first when it was last mounted on this
 * node, in that order (docs/FORMAT.md §7):
 *
 *   ROOT/traces/sha256/<hex of the TOC digest>
 *
 * It is prefetched by the next time, where the image has no trace of its own. Apart
 * from the layer's cache, so that it is there when that has been evicted. Only a
 * hint, and not synced: what is torn is as good as not there.
 */
#ifndef COMMON_LASTRUN_H
#define COMMON_LASTRUN_H

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"

#define LASTRUN_HEADER_BYTES 128u
#define LASTRUN_CHUNKS_MAX 16384u
#define LASTRUN_BYTES_MAX \
	(LASTRUN_HEADER_BYTES + LASTRUN_CHUNKS_MAX * sizeof(uint32_t))
#define LASTRUN_FILES_MAX 1024u

/**
 * struct lastrun - what a file says
 * @toc:	digest of the TOC whose chunks these are
 * @n_chunks:	that there are
 * @v:		[@n] numbers of them, each once
 */
struct lastrun {
	struct digest toc;
	uint64_t n_chunks;
	uint32_t *v;
	uint32_t n;
};

/**
 * lastrun_print() - the bytes of a file
 * @ret:	[LASTRUN_HEADER_BYTES + 4 * l->n]
 */
void lastrun_print(const struct lastrun *l, struct sha256 *h, uint8_t *ret);

/**
 * lastrun_parse() - read them back
 * @ret:	@toc and @n_chunks: what it must be of; @v: [LASTRUN_CHUNKS_MAX]
 *
 * What is behind its end is left over from a longer one.
 * Return: 0, -EBADMSG (torn, or of something else)
 */
int lastrun_parse(const uint8_t *p, size_t len, struct sha256 *h,
		  struct lastrun *ret);

/* Opens the file of a layer for both, and makes it where it is not there. Return:
 * a descriptor, -errno */
int lastrun_open(const char *root, const struct digest *toc);

/* Removes all but the @keep files that were written last. */
void lastrun_trim(const char *root, size_t keep);

#endif
