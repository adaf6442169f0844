/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/cache.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/io.h"

#define RING_TRIES 1000u

/* io_uring_register(2); Debian 12's liburing does not export the wrappers of
 * the two operations used here. */
static int ring_register(const struct io_uring *ring, unsigned op,
			 const void *arg, unsigned n)
{
	long r = syscall(__NR_io_uring_register, ring->ring_fd, op, arg, n);

	return r < 0 ? -errno : (int)r;
}

/* A ring that can only read, and only one registered file. */
static int ring_init(struct io_uring *ring)
{
	struct io_uring_restriction allow[3];
	int r;

	r = io_uring_queue_init(CACHE_RING_ENTRIES, ring,
				IORING_SETUP_R_DISABLED |
					IORING_SETUP_SINGLE_ISSUER);
	if (r == -EINVAL)
		r = io_uring_queue_init(CACHE_RING_ENTRIES, ring,
					IORING_SETUP_R_DISABLED);
	if (r < 0)
		return r;
	memset(allow, 0, sizeof(allow));
	allow[0].opcode = IORING_RESTRICTION_SQE_OP;
	allow[0].sqe_op = IORING_OP_READ;
	allow[1].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
	allow[1].sqe_flags = IOSQE_FIXED_FILE;
	allow[2].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	allow[2].sqe_flags = IOSQE_FIXED_FILE;
	r = ring_register(ring, IORING_REGISTER_RESTRICTIONS, allow,
			  ARRAY_SIZE(allow));
	if (r < 0)
		io_uring_queue_exit(ring);
	return r;
}

int lane_init(struct lane *l, size_t scratch_bytes)
{
	void *p;

	memset(l, 0, sizeof(*l));
	l->fd = -1;
	l->wake_fd = -1;
	p = mmap(NULL, scratch_bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	l->scratch = p;
	l->scratch_bytes = scratch_bytes;
	(void)pthread_mutex_init(&l->busy, NULL);
	l->has_ring = ring_init(&l->ring) == 0;
	return 0;
}

void lane_done(struct lane *l)
{
	if (l->scratch == NULL)
		return;
	if (l->has_ring)
		io_uring_queue_exit(&l->ring);
	(void)munmap(l->scratch, l->scratch_bytes);
	(void)pthread_mutex_destroy(&l->busy);
	l->scratch = NULL;
}

int lane_set_file(struct lane *l, int fd)
{
	l->fd = fd;
	if (!l->has_ring)
		return 0;
	return io_uring_register_files(&l->ring, &l->fd, 1);
}

void lane_lock(struct lane *l)
{
	const uint64_t one = 1;

	(void)pthread_mutex_lock(&l->busy);
	lane_let_go(l);
	atomic_store_explicit(&l->used, true, memory_order_relaxed);
	if (!atomic_exchange_explicit(&l->dirty, true, memory_order_relaxed) &&
	    l->wake_fd >= 0 && write(l->wake_fd, &one, sizeof(one)) < 0)
		return; /* a full counter is as good */
}

void lane_unlock(struct lane *l)
{
	(void)pthread_mutex_unlock(&l->busy);
}

bool lane_trim(struct lane *l)
{
	if (!atomic_load_explicit(&l->dirty, memory_order_relaxed))
		return false;
	if (atomic_exchange_explicit(&l->used, false, memory_order_relaxed) ||
	    pthread_mutex_trylock(&l->busy) != 0)
		return true;
	(void)madvise(l->scratch, l->scratch_bytes, MADV_DONTNEED);
	atomic_store_explicit(&l->dirty, false, memory_order_relaxed);
	(void)pthread_mutex_unlock(&l->busy);
	return false;
}

void lane_hold(struct lane *l, const uint8_t *p, size_t len, uint64_t off)
{
	l->held = p;
	l->held_len = len;
	l->held_off = off;
}

void lane_let_go(struct lane *l)
{
	l->held_len = 0;
}

const uint8_t *lane_held(const struct lane *l, uint64_t off, size_t len)
{
	if (off < l->held_off || off - l->held_off > l->held_len ||
	    l->held_len - (off - l->held_off) < len)
		return NULL;
	return l->held + (off - l->held_off);
}

/* The thread that enables a SINGLE_ISSUER ring is the one that may use it. */
static bool ring_ready(struct lane *l)
{
	if (l->has_ring && !l->enabled) {
		if (ring_register(&l->ring, IORING_REGISTER_ENABLE_RINGS, NULL,
				  0) < 0)
			l->has_ring = false;
		l->enabled = true;
	}
	return l->has_ring;
}

/**
 * reap() - send the request, wait until it is done
 *
 * Passing errors of io_uring_enter(2) are tried again: a request that stays
 * queued would otherwise be carried out later, into a buffer in other use.
 * Return: its result; ring errors as -errno with the ring given up
 */
static int reap(struct lane *l)
{
	for (unsigned tries = 0;; tries++) {
		struct io_uring_cqe *cqe;
		int r = io_uring_submit_and_wait(&l->ring, 1);

		if (r == -EINTR ||
		    ((r == -EAGAIN || r == -EBUSY || r == -ENOMEM) &&
		     tries < RING_TRIES)) {
			if (r != -EINTR)
				(void)sched_yield();
			continue;
		}
		if (r >= 0)
			r = io_uring_peek_cqe(&l->ring, &cqe);
		if (r == -EAGAIN)
			continue;
		if (r < 0) {
			io_uring_queue_exit(&l->ring);
			l->has_ring = false;
			return r;
		}
		r = cqe->res;
		io_uring_cqe_seen(&l->ring, cqe);
		return r;
	}
}

static ssize_t read_some(struct lane *l, void *p, size_t len, uint64_t off)
{
	ssize_t n;

	if (ring_ready(l)) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);

		assert(sqe != NULL); /* never more than one in flight */
		io_uring_prep_read(sqe, 0, p, (unsigned)len, off);
		sqe->flags |= IOSQE_FIXED_FILE;
		n = reap(l);
		if (l->has_ring)
			return n;
	}
	n = pread(l->fd, p, len, (off_t)off);
	return n < 0 ? -errno : n;
}

ssize_t lane_read(struct lane *l, void *p, size_t len, uint64_t off)
{
	uint8_t *at = p;
	size_t done = 0;

	while (done < len) {
		size_t k = MIN(len - done, (size_t)MIB(64));
		ssize_t n = read_some(l, at + done, k, off + done);

		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int lane_write(const struct lane *l, const void *p, size_t len, uint64_t off)
{
	return io_pwrite_all(l->fd, p, len, off);
}
