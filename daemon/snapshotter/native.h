/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: layers that are complete: mounted on ROOT/e/<layer> by the kernel's EROFS,
 * with no process behind them.
 *
 *            it is complete           of whoever is first
 *   NONE ──────────────────────► DUE ────────────────────► CHECKING
 *    ▲                          ▲ ▲ │                       │ │ │
 *    │       not, after all     │ │ │                       │ │ │
 *    ├──────────────────────────┼─┼─┼───────────────────────┘ │ │
 *    │     it is said again,    │ │ │   it is not as it       │ │
 *    │     or time has passed   │ │ │   should be             │ │
 *    │   BAD ───────────────────┘ │ │ ◄─────── BAD ◄──────────┘ │
 *    │                            │                             ▼
 *    └──── the layer is dropped ──┴──── is not in place ───── READY
 *
 * CHECKING: a process that can do nothing else looks through the layer's files
 * (common/meta.h), then the kernel is given the image. Done by a thread that needs
 * the layer, or by one that comes for those that nobody waits for. Whatever
 * goes wrong is logged once, and the layer stays on FUSE, until another try, of
 * which each is later than the last one. What is said meanwhile counts behind it.
 *
 * READY: replies name it instead of the FUSE mount. That one's estargzfs is ended
 * when no reply names it any more; a restart, or a boot, finds the layer complete, and
 * starts none. The mount stays as long as the layer has a row.
 *
 * No process holds a lock on the layer's directory then: its pin keeps it
 * (common/layerdir.h), which is set under that lock, before the mount is made.
 */
#ifndef SNAPSHOTTER_NATIVE_H
#define SNAPSHOTTER_NATIVE_H

#include <pthread.h>
#include <sys/types.h>
#include <time.h>

#include "common/base.h"
#include "common/err.h"

struct layer;
struct layers;

enum native_state {
	NATIVE_NONE,
	NATIVE_DUE,
	NATIVE_CHECKING,
	NATIVE_READY,
	NATIVE_BAD,
};

/* Of a layer; guarded by layers.lock, but for @target. */
struct native {
	char *target; /* immutable */
	enum native_state state;
	dev_t dev; /* READY */
	bool said; /* CHECKING: that it is complete */
	/* BAD: how often in a row, why last, when it is tried again */
	unsigned n_bad;
	int code;
	uint64_t retry_ns;
};

/* Of all layers. */
struct natives {
	char *dir; /* ROOT/e; immutable */
	/* guarded by layers.lock */
	bool running; /* the thread that nobody waits for */
	bool ending;
	bool unknown; /* to the kernel */
	/* the loop's thread */
	bool has_thread; /* to be joined */
	pthread_t thread;
};

/**
 * native_open() - find what is mounted, and what could be
 *
 * Mounts of before that are what they should be are READY; complete layers
 * are DUE; all else is taken away.
 * Context: there is only one thread
 */
void native_open(struct layers *ls);
/* Waits for the thread; the mounts stay. */
void native_close(struct layers *ls);
/* Starts the thread where there is something to do. Return: when to be called
 * again, 0: never. Context: the loop's thread */
uint64_t native_turn(struct layers *ls);

/* Until a layer is tried again that has been BAD @n_bad times before: 4 s to 68
 * minutes. */
#define NATIVE_PAUSE_MIN_NS (4 * NSEC_PER_SEC)
#define NATIVE_PAUSE_DOUBLINGS 10u
uint64_t native_pause_ns(unsigned n_bad);

/* Whether replies may name it. Context: layers.lock is held */
bool native_is_ready(const struct layer *l);
/* Whether it may yet be. Context: layers.lock is held */
bool native_is_under_way(const struct layer *l);

/* It is said that the layer is complete; @now: it has become so, and what was found
 * before is not true any more. Any thread, layers.lock not held */
void native_complete(struct layer *l, bool now);

/**
 * native_obtain() - have a layer mounted, where it is complete
 * @until:	of CLOCK_MONOTONIC
 *
 * It is where it is said to be. Where it is served by FUSE, nothing is waited for.
 * Context: any thread but the loop's; the layer is held
 */
bool native_obtain(struct layer *l, const struct timespec *until);

/* Takes the mount away. Context: the loop's thread, or there is no other */
void native_end(struct layer *l);

#endif
