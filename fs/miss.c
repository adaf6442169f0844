/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/miss.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "common/io.h"
#include "common/limits.h"
#include "fs/ahead.h"
#include "fs/fill.h"
#include "fs/run.h"
#include "fs/wait.h"
#define LOG_MOD "miss"
#include "common/log.h"

/* An interrupted read waits on for so long. The kernel says the same of a signal
 * that kills and of one that is merely pending, as those are by which Go's
 * runtime preempts threads; and to give up the latter is SIGBUS where a mapped
 * page is wanted, SIGSEGV in the middle of an execve(2). */
#define INTERRUPTED_NS (10 * NSEC_PER_SEC)
#define TICK_MS 200
#define IDLE_TICK_MS 5000

void miss_poke(int event_fd)
{
	const uint64_t one = 1;

	/* A full counter is as good as a poke. */
	if (write(event_fd, &one, sizeof(one)) < 0)
		return;
}

void miss_want_tick(struct miss *m)
{
	if (m->ticking)
		return;
	m->ticking = true;
	miss_poke(m->main_fd);
}

void miss_answer(struct miss *m, struct lane *lane, struct waiter *list)
{
	while (list != NULL) {
		struct waiter *w = list;

		list = w->next;
		if (w->error != 0) {
			stats_add(w->error == -EINTR ? &m->st->interrupted
						     : &m->st->errors_eio,
				  1);
			m->ops.failed(m->ops.arg, w);
		} else {
			stats_latency(m->st, io_now_ns() - w->start_ns);
			m->ops.ready(m->ops.arg, lane, w);
		}
		wait_free(w);
	}
}

uint64_t miss_next_id(struct miss *m)
{
	uint64_t id;

	(void)pthread_mutex_lock(&m->lock);
	id = ++m->next_waiter;
	(void)pthread_mutex_unlock(&m->lock);
	return id;
}

/* Locked. Whether an interrupt for this id came before it was enqueued. */
static bool was_interrupted(const struct miss *m, uint64_t id)
{
	for (unsigned i = 0; i < ARRAY_SIZE(m->interrupted); i++) {
		if (m->interrupted[i] == id)
			return true;
	}
	return false;
}

static void interrupt(struct waiter *w, uint64_t now_ns)
{
	w->interrupted = true;
	w->deadline_ns = MIN(w->deadline_ns, now_ns + INTERRUPTED_NS);
}

void miss_wait(struct miss *m, struct waiter *w)
{
	struct waiter *list = NULL;
	uint64_t now = io_now_ns();

	w->start_ns = now;
	w->deadline_ns = now + m->read_timeout_ns;
	(void)pthread_mutex_lock(&m->lock);
	if (was_interrupted(m, w->id))
		interrupt(w, now);
	if (wait_ready(m, w)) {
		list = w;
	} else {
		if (!w->unsure)
			m->demand_ns = now;
		if (m->events != NULL)
			w->class_ = run_class(m, w);
		w->next = m->waiters;
		m->waiters = w;
		/* Where memory is short it is tried again at the tick. */
		(void)run_ensure(m, w->first, w->end, wait_class(w),
				 UINT64_MAX);
		if (!w->unsure)
			ahead_read(m, w->nid, w->first, w->end, true);
		miss_want_tick(m);
	}
	(void)pthread_mutex_unlock(&m->lock);
	miss_answer(m, NULL, list);
}

bool miss_starts(const struct miss *m)
{
	uint64_t until_ns =
		atomic_load_explicit(&m->start_until_ns, memory_order_relaxed);

	return until_ns != 0 && io_now_ns() < until_ns;
}

void miss_hit(struct miss *m, uint64_t nid, uint64_t first, uint64_t end)
{
	(void)pthread_mutex_lock(&m->lock);
	ahead_read(m, nid, first, end, false);
	(void)pthread_mutex_unlock(&m->lock);
}

void miss_interrupt(struct miss *m, uint64_t id)
{
	struct waiter *w;

	(void)pthread_mutex_lock(&m->lock);
	for (w = m->waiters; w != NULL && w->id != id; w = w->next)
		;
	if (w != NULL)
		interrupt(w, io_now_ns());
	else
		m->interrupted[m->interrupted_at++ %
			       ARRAY_SIZE(m->interrupted)] = id;
	(void)pthread_mutex_unlock(&m->lock);
}

void miss_ensure_waiters(struct miss *m)
{
	for (struct waiter *w = m->waiters; w != NULL; w = w->next)
		(void)run_ensure(m, w->first, w->end, wait_class(w),
				 UINT64_MAX);
}

void miss_deliver(struct miss *m, uint64_t i, const uint8_t *p)
{
	struct chunk c;

	chunks_get(m->ch, i, &c);
	(void)pthread_mutex_lock(&m->lock);
	for (struct waiter *w = m->waiters; w != NULL; w = w->next) {
		uint64_t a, z;

		if (i < w->first || i >= w->end)
			continue;
		if (w->bounce == NULL && !wait_bounce(w))
			continue; /* its deadline will find it */
		a = MAX(c.image_off, w->image_off);
		z = MIN(c.image_off + c.len, w->image_off + w->size);
		if (a < z)
			memcpy(w->bounce + (a - w->image_off),
			       p + (a - c.image_off), (size_t)(z - a));
		w->mem[i - w->first] = true;
	}
	(void)pthread_mutex_unlock(&m->lock);
}

void miss_present(struct miss *m, uint64_t i)
{
	struct chunk c;
	uint64_t mf, mn;

	if (!present_set(m->pr, i))
		return;
	stats_add(&m->st->chunks_have, 1);
	chunks_member(m->ch, i, &mf, &mn);
	if (mf + mn - 1 == i) {
		chunks_get(m->ch, i, &c);
		stats_add(&m->st->blob_bytes_have, c.blob_len);
	}
}

int miss_init(struct miss *m, struct err *e)
{
	struct epoll_event ev = {.events = EPOLLIN};

	memset(m, 0, sizeof(*m));
	(void)pthread_mutex_init(&m->lock, NULL);
	m->link.sock = -1;
	m->link.arena_fd = -1;
	m->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	m->main_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->epoll_fd < 0 || m->wake_fd < 0 || m->main_fd < 0)
		return err_set(e, -errno, "eventfd: %s", err_name(errno));
	ev.data.fd = m->wake_fd;
	if (epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, m->wake_fd, &ev) < 0)
		return err_set(e, -errno, "epoll: %s", err_name(errno));
	return link_init(&m->link, e);
}

void miss_free(struct miss *m)
{
	while (m->runs != NULL) {
		struct run *r = m->runs;

		m->runs = r->link;
		fill_stream_free(r->stream);
		free(r);
	}
	while (m->waiters != NULL) {
		struct waiter *w = m->waiters;

		m->waiters = w->next;
		wait_free(w);
	}
	link_done(&m->link);
	(void)close(m->epoll_fd);
	(void)close(m->wake_fd);
	(void)close(m->main_fd);
	(void)pthread_mutex_destroy(&m->lock);
}

/* Locked. */
static void listen_to_link(struct miss *m)
{
	struct epoll_event ev = {.events = EPOLLIN};

	ev.data.fd = m->link.sock;
	if (epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, m->link.sock, &ev) < 0)
		return;
	m->link_up = true;
	atomic_store_explicit(&m->st->fetcher_up, 1, memory_order_relaxed);
}

void miss_start(struct miss *m)
{
	(void)pthread_mutex_lock(&m->lock);
	m->demand_ns = io_now_ns();
	m->pump_prefetch = !m->noprefetch && m->ch->prefetch_end > 0;
	m->pump_done = present_next_missing(m->pr, 0) >= m->ch->n ||
		       (m->nobackground && !m->pump_prefetch);
	if (m->link.sock >= 0)
		listen_to_link(m);
	ahead_hints(m, io_now_ns());
	ahead_pump(m, io_now_ns());
	miss_want_tick(m);
	(void)pthread_mutex_unlock(&m->lock);
}

void miss_again(struct miss *m)
{
	(void)pthread_mutex_lock(&m->lock);
	m->pump_done = m->nobackground && !m->pump_prefetch && !m->pump_hints;
	m->pump_next = 0;
	miss_want_tick(m);
	(void)pthread_mutex_unlock(&m->lock);
}

void miss_stop(struct miss *m)
{
	const uint64_t many = 64;

	(void)pthread_mutex_lock(&m->lock);
	m->stop = true;
	(void)pthread_mutex_unlock(&m->lock);
	if (write(m->wake_fd, &many, sizeof(many)) < 0)
		return;
}

bool miss_link_wanted(struct miss *m)
{
	bool wanted;

	(void)pthread_mutex_lock(&m->lock);
	wanted = !m->link_up &&
		 (m->runs != NULL || m->waiters != NULL || !m->pump_done);
	(void)pthread_mutex_unlock(&m->lock);
	return wanted;
}

void miss_link_up(struct miss *m, struct link *link)
{
	(void)pthread_mutex_lock(&m->lock);
	if (m->link_up)
		run_link_lost(m);
	link_detach(&m->link);
	m->link.sock = link->sock;
	m->link.handle = link->handle;
	link_take_hints(&m->link, link);
	listen_to_link(m);
	run_send_all(m);
	ahead_hints(m, io_now_ns());
	ahead_pump(m, io_now_ns());
	(void)pthread_mutex_unlock(&m->lock);
	miss_poke(m->wake_fd);
}

void miss_link_close(struct miss *m)
{
	(void)pthread_mutex_lock(&m->lock);
	if (m->link_up)
		run_link_lost(m);
	link_detach(&m->link);
	(void)pthread_mutex_unlock(&m->lock);
}

void miss_adopt(struct miss *m, uint64_t off, uint64_t len, uint64_t arena_off)
{
	uint64_t first = chunks_find_blob(m->ch, off);
	uint64_t end = run_oneshot_end(m, first);
	struct run *r;

	(void)pthread_mutex_lock(&m->lock);
	if (first >= end || off + len < m->ch->toc_off) {
		link_free(&m->link, arena_off, len);
		(void)pthread_mutex_unlock(&m->lock);
		return;
	}
	r = calloc(1, sizeof(*r));
	if (r == NULL) {
		link_free(&m->link, arena_off, len);
		(void)pthread_mutex_unlock(&m->lock);
		return;
	}
	*r = (struct run){
		.kind = RUN_FETCH,
		.class_ = PROTO_CLASS_PREFETCH,
		.asked = PROTO_CLASS_PREFETCH,
		.seq = ++m->next_seq,
		.first = first,
		.next = first,
		.end = end,
		.blob_off = off,
		.blob_end = off + len,
		.link = m->runs,
		.ahead = true,
	};
	r->parts[0] = (struct run_part){
		.off = off,
		.len = len,
		.arena_off = arena_off,
		.got = len,
		.noted = len, /* as the tail */
		.live = true,
		.sent = true,
		.ended = true,
	};
	m->ahead_bytes += len;
	m->runs = r;
	miss_poke(m->wake_fd);
	(void)pthread_mutex_unlock(&m->lock);
}

/* Locked. A fetcher that has said nothing of a READ for longer than it was
 * given is as good as gone. */
static bool link_is_stuck(const struct miss *m, uint64_t now_ns)
{
	for (const struct run *r = m->runs; r != NULL; r = r->link) {
		for (unsigned k = 0; k < RUN_WINDOWS; k++) {
			const struct run_part *p = &r->parts[k];

			if (p->sent && !p->ended && now_ns > p->late_ns)
				return true;
		}
	}
	return false;
}

/* Locked. Return: what miss_tick() does. */
static int next_tick_ms(struct miss *m, uint64_t now_ns)
{
	uint64_t after;

	if (m->runs != NULL || m->waiters != NULL)
		return TICK_MS;
	if (m->pump_done)
		return -1;
	after = MAX(m->pump_after_ns, m->no_space_until_ns);
	if (after <= now_ns)
		return m->link_up ? TICK_MS : IDLE_TICK_MS;
	return (int)MIN((after - now_ns) / NSEC_PER_MSEC + 1,
			(uint64_t)IDLE_TICK_MS);
}

int miss_tick(struct miss *m, struct lane *lane, uint64_t now_ns)
{
	struct waiter *list = NULL;
	struct waiter **at;
	uint64_t waiting = 0;
	bool late = false;
	int ms;

	(void)pthread_mutex_lock(&m->lock);
	at = &m->waiters;
	while (*at != NULL) {
		struct waiter *w = *at;

		/* It may have come since. */
		if (now_ns >= w->start_ns + WAIT_UNSURE_NS)
			w->unsure = false;
		if (now_ns < w->deadline_ns) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		w->error = w->interrupted ? -EINTR : -ETIMEDOUT;
		if (!w->interrupted) {
			late = true;
			run_outwaited(m, w->first, w->end, now_ns);
		}
		w->next = list;
		list = w;
	}
	if (m->link_up && link_is_stuck(m, now_ns))
		run_link_lost(m);
	wait_take_ready(m, 0, m->ch->n, &list);
	miss_ensure_waiters(m);
	run_send_all(m);
	ahead_pump(m, now_ns);
	ms = next_tick_ms(m, now_ns);
	for (const struct waiter *w = m->waiters; w != NULL; w = w->next)
		waiting++;
	stats_set(&m->st->waiting, waiting);
	if (m->runs == NULL && m->waiters == NULL && link_idle(&m->link))
		link_trim(&m->link);
	m->ticking = ms >= 0;
	(void)pthread_mutex_unlock(&m->lock);
	if (late) {
		stats_error(m->st, "a read waited longer than read_timeout");
		log_warn("err=ETIMEDOUT msg=\"a read waited longer than "
			 "read_timeout\"");
	}
	if (list != NULL) {
		lane_lock(lane);
		miss_answer(m, lane, list);
		lane_unlock(lane);
	}
	return ms;
}
