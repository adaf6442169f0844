/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what is missing, who waits for it, and what is asked for next.
 *
 * A *run* is one contiguous range of the blob, whole members, that is being
 * fetched into one piece of the arena. At most one run covers a chunk, so a
 * chunk is fetched once and decoded once however many readers want it. Runs
 * have a class (demand, prefetch, background); a reader that meets a run of a
 * lower class raises it. Members are claimed and decoded while the rest of
 * the run is still arriving.
 *
 * A *waiter* is one read that cannot be answered yet. It is answered when all
 * its chunks are there, or with an error at its deadline, or when a chunk has
 * failed for good.
 *
 * Who may do what: FUSE threads call miss_wait(); fill threads live in
 * miss_fill_loop(); the main thread calls the rest. One lock guards all of
 * it; it is never held over decoding, disk, a reply or a log line. Packets
 * are sent and received under it, never blocking.
 *
 * Lock order: miss.lock, inside it only that of events.h.
 */
#ifndef FS_MISS_H
#define FS_MISS_H

#include <pthread.h>

#include "common/base.h"
#include "common/chunks.h"
#include "common/erofs.h"
#include "common/present.h"
#include "fs/link.h"
#include "fs/stats.h"
#include "fs/wait.h"

#define MISS_RUN_BYTES MIB(4)           /* compressed; one member may be more */
#define MISS_ONESHOT_BLOB_BYTES MIB(20) /* compressed; above: streamed */
#define MISS_BACKGROUND_BYTES MIB(8)    /* outstanding, prefetch/background */
#define MISS_AHEAD_BYTES MIB(16)        /* outstanding at most, read-ahead */
#define MISS_CURSORS 8u

struct events;
struct lane;
struct run;

/* A stretch of sequential reading, in blob offsets. */
struct miss_cursor {
	uint64_t next;   /* where the reader is expected to go on */
	uint64_t edge;   /* asked for up to here */
	uint64_t window; /* how far ahead; 0: not sequential yet */
	uint64_t used_ns;
};

/**
 * struct miss_dir - files that are read one after the other, as a directory has
 * them
 * @nid:	of the last one
 * @edge:	asked for up to that one
 * @misses:	so far
 * @window:	bytes of files to be ahead; 0: not yet
 * @ahead:	of those asked for, behind the last one
 */
struct miss_dir {
	uint64_t nid;
	uint64_t edge;
	unsigned misses;
	uint64_t window;
	uint64_t ahead;
	uint64_t used_ns;
};

/**
 * struct miss_ops - what the engine needs done
 * @ready:	all bytes of @w are in the cache (or its bounce): answer it
 * @failed:	answer it with @w->error, a negative errno
 * Both own @w->req from then on, are called without the lock, on any thread
 * of ours; @lane is the calling thread's, locked, or NULL on a FUSE thread.
 */
struct miss_ops {
	void (*ready)(void *arg, struct lane *lane, struct waiter *w);
	void (*failed)(void *arg, struct waiter *w);
	void *arg;
};

struct miss {
	/* immutable once running */
	const struct erofs_image
		*im; /* or NULL: who follows whom is not known */
	const struct chunks *ch;
	struct present *pr;
	struct stats *st;
	struct events *events; /* or NULL */
	struct miss_ops ops;
	uint64_t read_timeout_ns;
	bool unverified;
	bool noprefetch;
	bool nobackground;
	int epoll_fd; /* fill threads wait here: link, wake_fd */
	int wake_fd;  /* semaphore: one more fill thread is wanted */
	int main_fd;  /* eventfd: the main thread has something to do */

	pthread_mutex_t lock;
	/* guarded by lock */
	struct link link;
	bool link_up;
	bool stop;
	bool ticking;
	struct run *runs;
	struct waiter *waiters;
	uint64_t next_seq;
	uint64_t next_waiter;
	uint64_t interrupted[16]; /* waiter ids, interrupted while not in the
				     list; the oldest is overwritten */
	unsigned interrupted_at;
	unsigned idle_threads;
	bool parked;          /* a demand run found no room in the arena */
	uint64_t ahead_bytes; /* outstanding, not demand */
	uint64_t demand_ns;   /* a reader missed, or the mount began */
	uint64_t pump_next;   /* chunk */
	bool pump_done;
	bool traced;     /* the trace is known */
	bool own_hints;  /* link.hints are of the last run, not of a trace */
	bool pump_hints; /* still in what it names, or waiting for it */
	size_t pump_hint;
	uint64_t hints_until_ns; /* waiting no longer than that */
	/* atomic: something starts by a trace until then; 0: by none */
	_Atomic uint64_t start_until_ns;
	bool pump_prefetch;     /* still in the prioritised range */
	uint64_t pump_after_ns; /* paused until; 0: not */
	uint64_t pump_backoff_ns;
	uint64_t no_space_until_ns;
	struct miss_cursor cursors[MISS_CURSORS];
	struct miss_dir dirs[MISS_CURSORS];
};

int miss_init(struct miss *m, struct err *e);
void miss_free(struct miss *m);

/* Sets it going: a link (up or not), the chunk table and so on are set. */
void miss_start(struct miss *m);
/* Wakes every fill thread so that it returns. */
void miss_stop(struct miss *m);

/* A waiter id for miss_wait(); made first, because an interrupt may come
 * before the wait does. */
uint64_t miss_next_id(struct miss *m);

/**
 * miss_wait() - enqueue a read; takes @w (heap) over
 *
 * It may be answered on another thread before this returns.
 */
void miss_wait(struct miss *m, struct waiter *w);

/* Whether something starts by the trace of the image. Any thread */
bool miss_starts(const struct miss *m);

/* A read that hit: moves the read-ahead along. */
void miss_hit(struct miss *m, uint64_t nid, uint64_t first, uint64_t end);

/* A wait is given up soon (FUSE_INTERRUPT); the fetch goes on. */
void miss_interrupt(struct miss *m, uint64_t id);

/* What a fill thread does until miss_stop(). */
struct fill;
void miss_fill_loop(struct miss *m, struct fill *f);

/* Main thread: a new connection is attached in @link; what was open is asked
 * for again. */
void miss_link_up(struct miss *m, struct link *link);
bool miss_link_wanted(struct miss *m);
/* Nothing will be asked for any more. */
void miss_link_close(struct miss *m);

/**
 * miss_tick() - deadlines, pauses that end, what other processes brought
 * @lane:	the main thread's, not locked
 *
 * Return: milliseconds until it is wanted again, -1: when poked
 */
int miss_tick(struct miss *m, struct lane *lane, uint64_t now_ns);

/* Something that was there is not any more: the background goes over it. */
void miss_again(struct miss *m);

/* Main thread, before the threads run: members that lie wholly in
 * [@off, @off + @len) of the blob are already at @arena_off (the tail that
 * brought the TOC). Takes over that piece of the arena. */
void miss_adopt(struct miss *m, uint64_t off, uint64_t len, uint64_t arena_off);

/* For the engine's own files, with the lock held: the main thread is to tick
 * from now on; wake whoever waits on an eventfd. */
void miss_want_tick(struct miss *m);
void miss_poke(int event_fd);

/* With the lock held: asks for chunks that someone waits for and that no run
 * brings, after a failed read-ahead or verification, or when memory was short. */
void miss_ensure_waiters(struct miss *m);
/* Under no lock: answers waiters that nobody else can reach any more; @lane as
 * for struct miss_ops. */
void miss_answer(struct miss *m, struct lane *lane, struct waiter *list);

/* For fill.c, under no lock: chunk @i's bytes could not be cached (disk):
 * hands them to those who wait. @p holds chunk @i whole. */
void miss_deliver(struct miss *m, uint64_t i, const uint8_t *p);
/* For fill.c: chunk @i is in the cache and verified. */
void miss_present(struct miss *m, uint64_t i);

#endif
