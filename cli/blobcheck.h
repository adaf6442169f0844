/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: whether a layer's blob is what its TOC says. The blob is read once, from
 * its first byte to its last: its members are decoded, the tar in them is
 * walked entry by entry beside the TOC, and each chunk is hashed where the tar
 * has it. Where a member is corrupt, or the tar is, the rest of the chunks is
 * still checked, at the places that the TOC names. Memory: the TOC's.
 */
#ifndef CLI_BLOBCHECK_H
#define CLI_BLOBCHECK_H

#include "cli/build/build.h"
#include "cli/layerinfo.h"

#define BLOBCHECK_NOWHERE UINT64_MAX

/**
 * struct blobcheck_opts - what else is known of the blob
 * @diff_id:	of the tar in it; may be NULL
 * @uncompressed: bytes of the tar, where @has_uncompressed
 * @found:	told of everything that is wrong: the entry, NULL where it is of
 *		none; the place in the blob, BLOBCHECK_NOWHERE where it has none
 */
struct blobcheck_opts {
	const struct digest *diff_id;
	uint64_t uncompressed;
	bool has_uncompressed;
	void (*found)(void *arg, const char *entry, uint64_t off,
		      const char *text);
	void *arg;
};

/**
 * struct blobcheck_result - what was looked at
 * @diff_id:	where @complete: all of it could be decoded
 */
struct blobcheck_result {
	uint64_t n_entries;
	uint64_t n_chunks;
	uint64_t uncompressed;
	struct digest diff_id;
	bool complete;
};

/* Return: 0, whatever was found; -errno where the blob cannot be read, -ENOMEM */
int blobcheck(const struct layerinfo *l, const struct build_in *blob,
	      const struct blobcheck_opts *o, struct blobcheck_result *ret,
	      struct err *e);

#endif
