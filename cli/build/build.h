/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: from a layer, however it is compressed, to an eStargz blob.
 *
 * The tar is read once, as a stream: inflated, hashed for the diff_id of what
 * came in, and written as it was, behind a landmark that says that nothing goes
 * in front. Where something may, it is spooled to an unnamed file first, and
 * its entries noted; then the output is made in its order: entries that are
 * prioritised, the landmark, the rest as it was. Header bytes are as they came
 * (what must change is in tar.h). Landmarks and TOCs of earlier conversions are
 * dropped, and so is what is behind the end of the tar. Chunks are compressed by @jobs threads and written in order, so that
 * the number of threads cannot be seen in the bytes. Memory: a few chunks a
 * thread, and some 200 bytes an entry.
 *
 * Spec: eStargz (stargz-snapshotter docs/estargz.md); RFC 1952; POSIX pax
 */
#ifndef CLI_BUILD_BUILD_H
#define CLI_BUILD_BUILD_H

#include <semaphore.h>

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"

/* As bench/convert has it of a Debian root file system: level 9 takes three
 * times the time of 6 for 0.4 % of the size; chunks of 64 KiB are 1.2 % larger
 * than those of 4 MiB, chunks of 32 KiB 3 %. */
#define BUILD_LEVEL_DEFAULT 6
#define BUILD_CHUNK_BYTES_DEFAULT KIB(64)

/**
 * struct build_range - bytes of a file that a recorded run has read
 */
struct build_range {
	uint64_t off;
	uint64_t len;
};

/**
 * struct build_wanted - a file that goes in front, in the order of the array
 * @path:	cleaned, as in toc.h
 * @ranges:	[@n_ranges] sorted, disjoint: chunks begin and end there, so
 *		that what was read comes without what was not. 0: chunks of
 *		chunk_bytes as everywhere
 */
struct build_wanted {
	const char *path;
	const struct build_range *ranges;
	size_t n_ranges;
};

/**
 * struct build_opts - how; zero is the default but for @jobs
 * @chunk_bytes: 0: BUILD_CHUNK_BYTES_DEFAULT
 * @min_chunk_bytes: several files go into one gzip member until it has as many
 *		bytes (readers that know innerOffset); 0: a member a chunk
 * @level:	1 to 9, 0: the default
 * @jobs:	threads that compress, >= 1
 * @slots:	may be NULL: one is held by a thread while it compresses a chunk,
 *		so that builds beside each other use so many CPUs together
 * @wanted:	[@n_wanted]; what the layer does not have is skipped
 * @choose:	may be NULL: called once, when all entries are known, and says
 *		what is wanted, instead of @wanted. @paths: [@n] of them, cleaned,
 *		in the order of the tar, none twice. *@ret: [*@ret_n], the
 *		caller's until build_layer() returns. Return: 0, -errno with @e
 * @tmp_dir:	for the spool, NULL: $TMPDIR, /var/tmp
 * @max_bytes:	of the uncompressed layer; 0: 1 TiB. More is -EOVERFLOW
 * @progress:	may be NULL: while the input is read (@total 0) bytes of it as
 *		they came, then, where it was spooled, uncompressed bytes that
 *		are written of @total; from the calling thread. Return: 0;
 *		-errno ends the build
 */
struct build_opts {
	uint64_t chunk_bytes;
	uint64_t min_chunk_bytes;
	int level;
	unsigned jobs;
	sem_t *slots;
	const struct build_wanted *wanted;
	size_t n_wanted;
	int (*choose)(void *arg, const char *const *paths, size_t n,
		      const struct build_wanted **ret, size_t *ret_n,
		      struct err *e);
	void *choose_arg;
	const char *tmp_dir;
	uint64_t max_bytes;
	int (*progress)(void *arg, uint64_t done, uint64_t total);
	void *progress_arg;
};

/* Where the layer comes from: > 0 bytes, 0 at the end, -errno with @e. */
struct build_in {
	ssize_t (*read)(void *arg, void *p, size_t n, struct err *e);
	void *arg;
};

/**
 * struct build_result - what was made
 * @in_diff_id:	of the uncompressed input
 * @diff_id:	of the uncompressed output
 * @landmark:	something was prioritised
 */
struct build_result {
	struct digest in_diff_id;
	struct digest blob;
	struct digest diff_id;
	struct digest toc;
	uint64_t blob_bytes;
	uint64_t tail_bytes; /* TOC and footer */
	uint64_t in_bytes;   /* uncompressed */
	uint64_t uncompressed_bytes;
	uint64_t n_entries;
	uint64_t n_chunks;
	bool landmark;
};

/**
 * build_layer() - convert a layer
 * @out_fd:	an empty file, written from its first byte on
 *
 * The input may be a tar, gzip of any number of members, or zstd frames; it is
 * told by its first bytes. Return: 0, -EBADMSG (malformed, truncated; @e names
 * the entry and where in the tar), -EOPNOTSUPP (compression or entry type),
 * -EOVERFLOW, -ENOSPC, -ENOMEM, what @in says
 */
int build_layer(const struct build_in *in, const struct build_opts *o,
		int out_fd, struct build_result *ret, struct err *e);

#endif
