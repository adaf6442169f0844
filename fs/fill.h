/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: from fetched bytes to verified bytes in the cache: decode, hash,
 * write. Runs on fill threads, without any lock; tells miss.c of each chunk.
 */
#ifndef FS_FILL_H
#define FS_FILL_H

#include "common/base.h"
#include "common/codec.h"
#include "common/digest.h"
#include "fs/cache.h"

/* What is decoded before it is hashed, all of it side by side (sha256_lanes.h),
 * and written. In the second-level cache of its CPU there is room for it. */
#define FILL_MEMBERS 16u
#define FILL_GROUP_BYTES MIB(1)

/* Scratch of a fill thread: one member, and the headers behind it. */
#define FILL_SCRATCH_BYTES (2 * CHUNK_ONESHOT_BYTES_MAX + MIB(2))

struct miss;
struct run;
struct fill_stream;

/**
 * struct fill - a fill thread's tools
 */
struct fill {
	struct lane lane;
	struct codec *codec;
	struct sha256 *sha;
};

int fill_init(struct fill *f);
void fill_done(struct fill *f);
/* Any thread: gives idle memory back, as lane_trim(). */
bool fill_trim(struct fill *f);

/**
 * struct fill_member - of the blob, fetched
 * @first:	and @n: its chunks
 * @src:	[@len] its bytes
 * @rc:		0; -EBADMSG corrupt or wrong digest; -ENOMEM
 */
struct fill_member {
	uint64_t first;
	uint64_t n;
	const uint8_t *src;
	size_t len;
	int rc;
};

/**
 * fill_members() - decode members and cache their missing chunks
 * @v:		[@n], @n <= FILL_MEMBERS; says how it went in @rc of each. Several
 *		decode to FILL_GROUP_BYTES together at most.
 *
 * Return: 0; a cache that cannot be written is no error of the members: the
 * readers get their bytes from memory, and this is the -errno.
 */
int fill_members(struct fill *f, struct miss *m, struct fill_member *v,
		 unsigned n);

/* Chunk @i, suspect, is hashed where it is. Return: 0, -EBADMSG, -errno. */
int fill_verify(struct fill *f, struct miss *m, uint64_t i);

/* For members too large for one shot: chunks [@first, @end) one behind the
 * other. @fd: layer.erofs, borrowed. */
struct fill_stream *fill_stream_new(struct miss *m, int fd, uint64_t first,
				    uint64_t end);
void fill_stream_free(struct fill_stream *s);

/**
 * fill_stream_run() - decode more of the member
 * @src:	[@len] the bytes that follow those given before
 *
 * A cache that cannot be written is an error here: there is no memory for
 * chunks of this size. *@ret_disk is the errno then.
 * Return: 1 all chunks are done, 0 more is needed, -EBADMSG, -ENOMEM, a disk
 * errno
 */
int fill_stream_run(struct fill *f, struct fill_stream *s, const uint8_t *src,
		    size_t len, int *ret_disk);

/* A predecessor who was killed while it streamed left its locks on the open
 * file, which the monitor keeps: they are ours to drop. */
void fill_drop_locks(int fd);

#endif
