/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the one event loop: epoll, timers, and work that is left for the end
 * of a turn. Everything of a daemon that is not said to be elsewhere runs on its thread; nothing here takes
 * a lock. With no descriptor ready, no timer set and no task, it sleeps.
 */
#ifndef COMMON_LOOP_H
#define COMMON_LOOP_H

#include "common/base.h"
#include "common/list.h"

struct loop;

/* A descriptor to watch; embedded in its owner, which keeps the descriptor. */
struct loop_io {
	int fd;
	void (*fn)(struct loop_io *io, uint32_t events);
};

/* A timer; zero-initialise, set fn. */
struct loop_timer {
	uint64_t at_ns;
	void (*fn)(struct loop_timer *t);
	struct list node;
};

/* Runs once at the end of the turn in which it was queued. */
struct loop_task {
	void (*fn)(struct loop_task *t);
	struct list node;
};

/* Return: NULL when out of memory or descriptors. */
struct loop *loop_new(void);
void loop_free(struct loop *l);

/* events: EPOLLIN…; Return: 0 or -errno. */
int loop_io_add(struct loop *l, struct loop_io *io, uint32_t events);
int loop_io_mod(struct loop *l, struct loop_io *io, uint32_t events);
void loop_io_del(struct loop *l, struct loop_io *io);

/* Sets or moves a timer. */
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t at_ns);
void loop_timer_clear(struct loop_timer *t);

void loop_task_add(struct loop *l, struct loop_task *t);
void loop_task_del(struct loop_task *t);

/* The time this turn began, CLOCK_MONOTONIC. */
uint64_t loop_now(const struct loop *l);

/* Return: 0 after loop_stop(), -errno; it may be run again. */
int loop_run(struct loop *l);
void loop_stop(struct loop *l);

#endif
