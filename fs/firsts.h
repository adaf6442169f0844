/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: which chunks are read first after a mount, for the next one
 * (common/lastrun.h).
 *
 * From the first read on, for FIRSTS_NS or until as many chunks as a file holds were
 * read, each chunk that is read is noted once, on the thread that took the read;
 * then they are written, by the main thread, to a descriptor that the monitor has
 * opened. A mount that ends before writes what there is; a worker that relieves
 * another goes on from there.
 */
#ifndef FS_FIRSTS_H
#define FS_FIRSTS_H

#include <stdatomic.h>

#include "common/base.h"
#include "common/chunks.h"
#include "fs/link.h"

#define FIRSTS_NS (15 * NSEC_PER_SEC)

/**
 * struct firsts - zero-initialised: nothing is noted
 * @fd:		owned
 * @wake_fd:	eventfd: the first one was noted
 * @seen:	a bit a chunk
 * @v:		[LASTRUN_CHUNKS_MAX] their numbers; of the first @n of them the last
 *		ones may not be there yet
 * @since_ns:	when the first was; 0: none was
 */
struct firsts {
	/* immutable */
	const struct chunks *ch;
	int fd;
	int wake_fd;
	_Atomic bool on;
	_Atomic uint64_t *seen;
	_Atomic uint32_t *v;
	_Atomic uint32_t n;
	_Atomic uint64_t since_ns;
};

/* Begins to note. Return: 0, -ENOMEM: nothing will be noted */
int firsts_start(struct firsts *f, int fd, const struct chunks *ch,
		 int wake_fd);

#define FIRSTS_NOT_ON UINT64_MAX

/* For who goes on: since when it is noted, 0: nothing yet, FIRSTS_NOT_ON: it is not,
 * or not any more. */
uint64_t firsts_since(const struct firsts *f);
/* Goes on where that was: with what firsts_end() has written. Context: nothing is
 * read yet */
void firsts_resume(struct firsts *f, struct sha256 *h, uint64_t since_ns);

/* Chunks [first, end) are read. Context: any thread */
void firsts_note(struct firsts *f, uint64_t first, uint64_t end);
static inline void firsts_read(struct firsts *f, uint64_t first, uint64_t end)
{
	if (atomic_load_explicit(&f->on, memory_order_acquire))
		firsts_note(f, first, end);
}

/* Writes them when it is time. Return: milliseconds until then; -1: it was, or
 * nobody knows. Context: the main thread, as of the next one */
int firsts_tick(struct firsts *f, struct sha256 *h, uint64_t now_ns);
void firsts_end(struct firsts *f, struct sha256 *h);

/**
 * firsts_load() - what the last run has read, as what is to be prefetched
 * @ret:	its ranges, whole members; left alone where there are none
 *
 * Return: how many
 */
size_t firsts_load(int fd, const struct chunks *ch, struct sha256 *h,
		   struct link_hints *ret);

#endif
