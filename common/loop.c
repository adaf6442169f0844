/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/loop.h"

#include <errno.h>
#include <sys/epoll.h>

#include "common/io.h"

#define LOOP_BATCH 32

struct loop {
	int epfd;
	bool stopped;
	uint64_t now_ns;
	struct list timers; /* soonest first */
	struct list tasks;
	struct epoll_event batch[LOOP_BATCH];
	int n_batch;
};

struct loop *loop_new(void)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	list_init(&l->timers);
	list_init(&l->tasks);
	l->now_ns = io_now_ns();
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0) {
		free(l);
		return NULL;
	}
	return l;
}

void loop_free(struct loop *l)
{
	if (l == NULL)
		return;
	(void)close(l->epfd);
	free(l);
}

static int ctl(struct loop *l, int op, struct loop_io *io, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data = {.ptr = io}};

	return epoll_ctl(l->epfd, op, io->fd, &ev) < 0 ? -errno : 0;
}

int loop_io_add(struct loop *l, struct loop_io *io, uint32_t events)
{
	return ctl(l, EPOLL_CTL_ADD, io, events);
}

int loop_io_mod(struct loop *l, struct loop_io *io, uint32_t events)
{
	return ctl(l, EPOLL_CTL_MOD, io, events);
}

void loop_io_del(struct loop *l, struct loop_io *io)
{
	(void)ctl(l, EPOLL_CTL_DEL, io, 0);
	/* What this turn has already reported of it is void. */
	for (int i = 0; i < l->n_batch; i++) {
		if (l->batch[i].data.ptr == io)
			l->batch[i].data.ptr = NULL;
	}
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t at_ns)
{
	struct list *at = &l->timers;

	loop_timer_clear(t);
	t->at_ns = at_ns;
	/* Most timers are the latest so far: look from the end. */
	while (at->prev != &l->timers &&
	       LIST_ENTRY(at->prev, struct loop_timer, node)->at_ns > at_ns)
		at = at->prev;
	list_add(at, &t->node);
}

void loop_timer_clear(struct loop_timer *t)
{
	if (t->node.next == NULL)
		list_init(&t->node);
	list_del(&t->node);
}

void loop_task_add(struct loop *l, struct loop_task *t)
{
	loop_task_del(t);
	list_add(&l->tasks, &t->node);
}

void loop_task_del(struct loop_task *t)
{
	if (t->node.next == NULL)
		list_init(&t->node);
	list_del(&t->node);
}

uint64_t loop_now(const struct loop *l)
{
	return l->now_ns;
}

static int wait_ms(struct loop *l)
{
	const struct loop_timer *t;
	uint64_t ms;

	if (!list_empty(&l->tasks))
		return 0;
	if (list_empty(&l->timers))
		return -1;
	t = LIST_ENTRY(l->timers.next, struct loop_timer, node);
	if (t->at_ns <= l->now_ns)
		return 0;
	ms = (t->at_ns - l->now_ns + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
	return (int)MIN(ms, (uint64_t)3600000);
}

static void run_timers(struct loop *l)
{
	while (!list_empty(&l->timers)) {
		struct loop_timer *t =
			LIST_ENTRY(l->timers.next, struct loop_timer, node);

		if (t->at_ns > l->now_ns)
			return;
		list_del(&t->node);
		t->fn(t);
	}
}

static void run_tasks(struct loop *l)
{
	struct list now;

	/* What a task queues runs in the next turn. */
	list_init(&now);
	list_splice(&now, &l->tasks);
	while (!list_empty(&now)) {
		struct loop_task *t =
			LIST_ENTRY(now.next, struct loop_task, node);

		list_del(&t->node);
		t->fn(t);
	}
}

int loop_run(struct loop *l)
{
	while (!l->stopped) {
		int n = epoll_wait(l->epfd, l->batch, LOOP_BATCH, wait_ms(l));

		if (n < 0 && errno != EINTR)
			return -errno;
		l->n_batch = MAX(n, 0);
		l->now_ns = io_now_ns();
		for (int i = 0; i < l->n_batch; i++) {
			struct loop_io *io = l->batch[i].data.ptr;

			if (io != NULL)
				io->fn(io, l->batch[i].events);
		}
		l->n_batch = 0;
		run_timers(l);
		run_tasks(l);
	}
	l->stopped = false;
	return 0;
}

void loop_stop(struct loop *l)
{
	l->stopped = true;
}
