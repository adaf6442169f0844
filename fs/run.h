/* SPDX-License-Identifier: Apache-2.0 */
/* A range of the blob on its way: what miss.c and fill.c share. */
#ifndef FS_RUN_H
#define FS_RUN_H

#include "common/base.h"
#include "common/chunks.h"
#include "common/proto.h"

#define RUN_PART_BITS 3u /* of a READ's id: which part of the run */
#define RUN_WINDOWS 4u
#define RUN_WINDOW_BYTES MIB(2)

enum run_kind {
	RUN_FETCH,  /* whole members, decoded as they arrive */
	RUN_STREAM, /* one member too large for that: windows, in order */
	RUN_VERIFY, /* no fetch: suspect chunks, hashed where they are */
};

/**
 * struct run_part - one READ of a run
 * @got:	contiguous bytes there; kept over a lost connection
 * @base:	bytes that were there before the READ now open was sent
 * @noted:	bytes that an event has told of
 * @sent_ns:	when that was
 * @until_ns:	when the fetcher gives it up
 * @late_ns:	when the fetcher should have said something of it
 */
struct run_part {
	uint64_t off;
	uint64_t len;
	uint64_t arena_off;
	uint64_t got;
	uint64_t base;
	uint64_t noted;
	uint64_t consumed; /* RUN_STREAM */
	uint64_t sent_ns;
	uint64_t until_ns;
	uint64_t late_ns;
	bool live; /* holds arena space */
	bool sent;
	bool ended;
};

struct fill_stream;
struct link_event;
struct miss;
struct waiter;

/**
 * struct run - see miss.h
 * @first:	and @end: its chunks
 * @next:	first chunk not claimed yet
 * @n_parts:	1, or RUN_WINDOWS for RUN_STREAM
 * @asked:	class it was made with, or one of fs/events.h
 * @claims:	jobs that decode some of it now
 * @start_ns:	when it was made; who waits since before then has waited for
 *		all its tries
 * @attempt:	0, 1: asked again because it was corrupt
 * @error:	negative errno: it failed and asks for nothing more
 */
struct run {
	struct run *link;
	uint64_t seq;
	uint64_t start_ns;
	uint64_t first;
	uint64_t end;
	uint64_t next;
	uint64_t blob_off;
	uint64_t blob_end;
	uint64_t stream_next; /* RUN_STREAM: blob offset of the next window */
	struct fill_stream *stream;
	struct run_part parts[RUN_WINDOWS];
	unsigned head; /* RUN_STREAM: window being decoded */
	unsigned claims;
	int error;
	enum run_kind kind;
	uint8_t class_;
	uint8_t asked;
	uint8_t attempt;
	bool ahead; /* its bytes count in miss.ahead_bytes */
};

/* All below: with miss.lock held. */

/* Makes a run over chunks [first, end), whole members, and sends it. Return:
 * NULL where memory is short. */
struct run *run_new(struct miss *m, enum run_kind kind, uint8_t class_,
		    uint64_t first, uint64_t end, uint8_t attempt);
/* Takes @r out and frees it, its arena space included. */
void run_drop(struct miss *m, struct run *r);
/* Whether nothing is left to do for @r. */
bool run_over(const struct run *r);
/* The run that covers chunk @i, NULL where none does. */
struct run *run_covering(const struct miss *m, uint64_t i);

/**
 * run_extend() - how far a run that starts with chunk @first may go
 * @first:	first chunk of a member
 * @limit:	chunk not to pass, except to finish a member
 * @ret_kind:	what kind of run it must be
 *
 * Stops at what is there, what another run covers, and at MISS_RUN_BYTES.
 * Return: end of the run
 */
uint64_t run_extend(struct miss *m, uint64_t first, uint64_t limit,
		    enum run_kind *ret_kind);

/**
 * run_ensure() - have chunks [first, end) fetched, in a class
 * @ahead_max:	stop where this much is outstanding; UINT64_MAX: never
 *
 * Return: the chunk it got to: @end, or less at @ahead_max or when memory is
 * short
 */
uint64_t run_ensure(struct miss *m, uint64_t first, uint64_t end,
		    uint8_t class_, uint64_t ahead_max);

/* What the fetch was made as that brings what a reader misses, the least wanted of
 * several; what the reader is where nobody has asked for some of it. */
uint8_t run_class(const struct miss *m, const struct waiter *w);

/* The first chunk from @first on whose member must be streamed; m->ch->n
 * where none must. */
uint64_t run_oneshot_end(const struct miss *m, uint64_t first);

/* Sends what is not sent yet: demand first, it gets what arena there is. */
void run_send_all(struct miss *m);

/* RUN_STREAM: the window at its head is decoded; asks for the next. Return:
 * false where the member has no more. */
bool run_next_window(struct miss *m, struct run *r);

/* What the fetcher said of part @k. Readers that fail go to *list. */
void run_event(struct miss *m, struct run *r, unsigned k,
	       const struct link_event *ev, struct waiter **list);

/* A reader has waited in vain for chunks [first, end). What was asked for ahead of
 * need may wait for longer than readers do; where it crawls it is given up, or the
 * next reader would wait for it in vain as well. */
void run_outwaited(struct miss *m, uint64_t first, uint64_t end,
		   uint64_t now_ns);

/* Everything open is asked for again on the next connection. */
void run_link_lost(struct miss *m);

#endif
