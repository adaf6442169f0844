/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/cache.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/io.h"

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
	return 0;
}

void lane_done(struct lane *l)
{
	if (l->scratch == NULL)
		return;
	(void)munmap(l->scratch, l->scratch_bytes);
	(void)pthread_mutex_destroy(&l->busy);
	l->scratch = NULL;
}

void lane_set_file(struct lane *l, int fd)
{
	l->fd = fd;
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

ssize_t lane_read(const struct lane *l, void *p, size_t len, uint64_t off)
{
	uint8_t *at = p;
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(l->fd, at + done, len - done,
				  (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
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
