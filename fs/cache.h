/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: a lane is what one thread needs to move bytes between the cache file
 * and memory: an io_uring of its own (SINGLE_ISSUER: no shared ring lock) and
 * a scratch buffer. Rings are made before the sandbox is entered and may do
 * nothing but read the registered cache file. Where the kernel refuses io_uring,
 * pread does the same.
 *
 * Writes are pwrite's: ext4 has no buffered write that does not block, so a ring
 * hands each to a thread of the kernel, on a CPU whose cache has not what was just
 * decoded.
 */
#ifndef FS_CACHE_H
#define FS_CACHE_H

#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>

#include "common/base.h"

#define CACHE_RING_ENTRIES 1u

/**
 * struct lane - of one thread
 * @fd:		layer.erofs, borrowed
 * @unique:	number of the request that its FUSE thread answers, as it came
 * @scratch:	[@scratch_bytes] mapped, untouched pages cost nothing
 * @busy:	held by the owner while it uses @scratch, so that
 *		lane_trim() from another thread can give idle pages back
 * @dirty:	@scratch holds pages; @used: since the last lane_trim()
 * @held:	[@held_len] in @scratch: verified bytes of the image, from
 *		@held_off on; until the scratch is used for something else
 * @wake_fd:	eventfd that is told when a clean lane becomes dirty, so that
 *		somebody trims it later; -1: nobody
 */
struct lane {
	int fd;
	bool has_ring;
	bool enabled;
	struct io_uring ring;
	uint64_t unique;
	uint8_t *scratch;
	size_t scratch_bytes;
	const uint8_t *held;
	size_t held_len;
	uint64_t held_off;
	pthread_mutex_t busy;
	int wake_fd;
	_Atomic bool dirty;
	_Atomic bool used;
};

/* @scratch_bytes of address space. Return: 0 or -errno. */
int lane_init(struct lane *l, size_t scratch_bytes);
void lane_done(struct lane *l);
/* Says which file; once, before the first use. Return: 0 or -errno. */
int lane_set_file(struct lane *l, int fd);

/* Between these the scratch belongs to the calling thread. */
void lane_lock(struct lane *l);
void lane_unlock(struct lane *l);
/* Any thread: gives the scratch's pages back if it was not used since the last
 * call. Return: whether it still holds some. */
bool lane_trim(struct lane *l);

/**
 * lane_read() - read the cache file
 *
 * Context: the lane's thread
 * Return: bytes, less than @len only at the end of the file; -errno
 */
ssize_t lane_read(struct lane *l, void *p, size_t len, uint64_t off);

/* The scratch has, or has no more, verified bytes of the image. */
void lane_hold(struct lane *l, const uint8_t *p, size_t len, uint64_t off);
void lane_let_go(struct lane *l);
/* Return: where it has [@off, @off + @len) of the image; NULL: it has not */
const uint8_t *lane_held(const struct lane *l, uint64_t off, size_t len);

/* Writes to it, all of [@p, @p + @len). Context: as above. Return: 0, -errno */
int lane_write(const struct lane *l, const void *p, size_t len, uint64_t off);

#endif
