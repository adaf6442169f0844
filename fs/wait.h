/* SPDX-License-Identifier: Apache-2.0 */
/* Reads that wait for missing chunks: the list of them in struct miss. */
#ifndef FS_WAIT_H
#define FS_WAIT_H

#include "common/base.h"
#include "common/proto.h"

struct miss;

/* So long a reader who may be none waits for what is more urgent. */
#define WAIT_UNSURE_NS (100 * NSEC_PER_MSEC)

/**
 * struct waiter - a read that waits
 * @req:	the caller's, handed back to its callbacks
 * @image_off:	and @size: what to read from layer.erofs
 * @nid:	inode that is read
 * @first:	and @end: the chunks it needs, [first, end)
 * @class_:	of what it waits for, as found
 * @unsure:	maybe nobody waits for it: fetched as prefetch for a while, and
 *		alone
 * @bounce:	[@size] the bytes, where the cache could not be written; @mem
 *		[@end - @first] says for which chunks
 */
struct waiter {
	struct waiter *next;
	uint64_t id;
	void *req;
	uint64_t nid;
	uint64_t image_off;
	uint64_t first;
	uint64_t end;
	uint64_t start_ns;
	uint64_t deadline_ns;
	size_t size;
	uint8_t *bounce;
	bool *mem;
	uint8_t class_;
	bool unsure;
	bool interrupted; /* its deadline is an early one */
	int error;
};

/* As what its bytes are asked for. */
static inline uint8_t wait_class(const struct waiter *w)
{
	return w->unsure ? PROTO_CLASS_PREFETCH : PROTO_CLASS_DEMAND;
}

void wait_free(struct waiter *w);
/* Gives @w its bounce. Return: false: no memory, and it has none. */
bool wait_bounce(struct waiter *w);

/* All below: with miss.lock held. */

bool wait_ready(const struct miss *m, const struct waiter *w);

/* Moves the waiters that [first, end) made ready to *list. */
void wait_take_ready(struct miss *m, uint64_t first, uint64_t end,
		     struct waiter **list);

/* Moves those that began to wait by @since_ns and need a missing chunk of
 * [first, end) to *list, with @error. */
void wait_take_failed(struct miss *m, uint64_t first, uint64_t end,
		      uint64_t since_ns, int error, struct waiter **list);

/* Whether any waiter needs a chunk of [first, end). */
bool wait_anyone(const struct miss *m, uint64_t first, uint64_t end);

#endif
