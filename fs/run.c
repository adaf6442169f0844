/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/run.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/io.h"
#include "common/limits.h"
#include "fs/ahead.h"
#include "fs/events.h"
#include "fs/fill.h"
#include "fs/miss.h"
#include "fs/wait.h"

#define AHEAD_DEADLINE_NS (120 * NSEC_PER_SEC)
#define LATE_NS (30 * NSEC_PER_SEC) /* grace over what the fetcher was told */

static_assert(RUN_WINDOWS <= 1u << RUN_PART_BITS, "a part fits its bits");

static uint64_t run_bytes(const struct run *r)
{
	return r->blob_end - r->blob_off;
}

static unsigned run_parts(const struct run *r)
{
	return r->kind == RUN_STREAM ? RUN_WINDOWS : 1;
}

/* No more is to come of a READ, or not of this one. */
static void note_arrived(const struct miss *m, const struct run *r,
			 struct run_part *p)
{
	if (m->events == NULL || p->got == p->noted)
		return;
	events_fetch(m->events, r->asked, p->off + p->noted, p->got - p->noted,
		     p->sent_ns, io_now_ns());
	p->noted = p->got;
}

struct run *run_covering(const struct miss *m, uint64_t i)
{
	for (struct run *r = m->runs; r != NULL; r = r->link) {
		if (r->first <= i && i < r->end)
			return r;
	}
	return NULL;
}

/* Sends part @k where it has arena space and there is a link. */
static void part_send(struct miss *m, struct run *r, unsigned k)
{
	struct run_part *p = &r->parts[k];
	struct link_read rd;
	uint64_t wait_ns = r->class_ == PROTO_CLASS_DEMAND ? m->read_timeout_ns
							   : AHEAD_DEADLINE_NS;

	if (!m->link_up || p->sent || p->ended)
		return;
	if (!p->live) {
		/* A demand that found no room is not overtaken by less. */
		if (m->parked && r->class_ != PROTO_CLASS_DEMAND)
			return;
		if (!link_alloc(&m->link, p->len, &p->arena_off)) {
			m->parked = r->class_ == PROTO_CLASS_DEMAND;
			return; /* when some is freed, it is tried again */
		}
		p->live = true;
	}
	rd = (struct link_read){
		.id = r->seq << RUN_PART_BITS | k,
		.off = p->off + p->got,
		.len = p->len - p->got,
		.arena_off = p->arena_off + p->got,
		.deadline_ms = (uint32_t)MIN(wait_ns / NSEC_PER_MSEC,
					     (uint64_t)UINT32_MAX),
		.flags = r->attempt > 0 ? PROTO_READ_OTHER_SOURCE : 0,
		.class_ = r->class_,
	};
	if (link_send_read(&m->link, &rd) < 0)
		return; /* full, or gone: tried again at the tick */
	p->base = p->got;
	p->sent_ns = io_now_ns();
	p->until_ns = p->sent_ns + wait_ns;
	p->late_ns = p->until_ns + LATE_NS;
	p->sent = true;
	stats_add(&m->st->fetch_requests, 1);
}

void run_send_all(struct miss *m)
{
	m->parked = false;
	for (uint8_t c = 0; c < PROTO_CLASS_N_; c++) {
		for (struct run *r = m->runs; r != NULL; r = r->link) {
			if (r->class_ != c || r->error != 0 ||
			    r->kind == RUN_VERIFY)
				continue;
			/* A stream's head first: the rest waits for it. */
			for (unsigned i = 0; i < run_parts(r); i++) {
				unsigned k = (r->head + i) % run_parts(r);

				if (r->parts[k].len > 0)
					part_send(m, r, k);
			}
		}
	}
}

static void part_free(struct miss *m, struct run_part *p)
{
	if (p->live)
		link_free(&m->link, p->arena_off, p->len);
	*p = (struct run_part){0};
}

/* The next window of a stream; empty where its member has no more. */
static void set_window(struct run *r, unsigned k)
{
	uint64_t n = MIN(r->blob_end - r->stream_next, RUN_WINDOW_BYTES);

	r->parts[k] = (struct run_part){.off = r->stream_next, .len = n};
	r->stream_next += n;
}

bool run_next_window(struct miss *m, struct run *r)
{
	part_free(m, &r->parts[r->head]);
	set_window(r, r->head);
	r->head = (r->head + 1) % RUN_WINDOWS;
	run_send_all(m);
	return r->parts[r->head].len > 0;
}

struct run *run_new(struct miss *m, enum run_kind kind, uint8_t class_,
		    uint64_t first, uint64_t end, uint8_t attempt)
{
	struct run *r = calloc(1, sizeof(*r));
	struct run **at = &m->runs;
	struct chunk a, z;

	if (r == NULL)
		return NULL;
	chunks_get(m->ch, first, &a);
	chunks_get(m->ch, end - 1, &z);
	r->kind = kind;
	r->class_ = class_;
	r->asked = class_;
	r->seq = ++m->next_seq;
	r->start_ns = io_now_ns();
	r->attempt = attempt;
	r->first = first;
	r->next = first;
	r->end = end;
	r->blob_off = a.blob_off;
	r->blob_end = z.blob_off + z.blob_len;
	r->stream_next = r->blob_off;
	if (kind == RUN_STREAM) {
		for (unsigned k = 0; k < RUN_WINDOWS; k++)
			set_window(r, k);
	} else if (kind == RUN_FETCH) {
		r->parts[0].off = r->blob_off;
		r->parts[0].len = run_bytes(r);
	}
	if (class_ != PROTO_CLASS_DEMAND) {
		r->ahead = true;
		m->ahead_bytes += run_bytes(r);
	}
	/* Oldest first. */
	while (*at != NULL)
		at = &(*at)->link;
	*at = r;
	if (kind == RUN_VERIFY)
		miss_poke(m->wake_fd);
	for (unsigned k = 0; k < run_parts(r); k++) {
		if (r->parts[k].len > 0)
			part_send(m, r, k);
	}
	miss_want_tick(m);
	return r;
}

bool run_over(const struct run *r)
{
	if (r->claims > 0)
		return false;
	if (r->error != 0)
		return true;
	return r->next >= r->end;
}

void run_drop(struct miss *m, struct run *r)
{
	struct run **at = &m->runs;

	assert(r->claims == 0);
	while (*at != r)
		at = &(*at)->link;
	*at = r->link;
	if (r->ahead)
		m->ahead_bytes -= run_bytes(r);
	for (unsigned k = 0; k < RUN_WINDOWS; k++) {
		/* The fetcher may still write there: only what has ended may
		 * be given out again. A cancelled READ is answered. */
		if (r->parts[k].sent && !r->parts[k].ended && m->link_up) {
			uint64_t id = r->seq << RUN_PART_BITS | k;

			/* Without it the piece would be written to. */
			if (link_send_cancel(&m->link, id) < 0)
				run_link_lost(m);
		}
		note_arrived(m, r, &r->parts[k]);
		part_free(m, &r->parts[k]);
	}
	fill_stream_free(r->stream);
	free(r);
	run_send_all(m);
}

static bool chunk_is_large(const struct chunk *c)
{
	return c->blob_len > MISS_ONESHOT_BLOB_BYTES ||
	       c->len > CHUNK_ONESHOT_BYTES_MAX ||
	       c->inner_off > CHUNK_ONESHOT_BYTES_MAX;
}

/* Whether the member [first, first + n) must be streamed. */
static bool member_is_large(const struct miss *m, uint64_t first, uint64_t n)
{
	struct chunk c;

	/* The last one has the largest inner offset. */
	chunks_get(m->ch, first + n - 1, &c);
	if (chunk_is_large(&c))
		return true;
	for (uint64_t i = first; i + 1 < first + n; i++) {
		chunks_get(m->ch, i, &c);
		if (chunk_is_large(&c))
			return true;
	}
	return false;
}

uint64_t run_oneshot_end(const struct miss *m, uint64_t first)
{
	uint64_t i = first, mf, mn;

	while (i < m->ch->n) {
		chunks_member(m->ch, i, &mf, &mn);
		if (member_is_large(m, mf, mn))
			break;
		i = mf + mn;
	}
	return i;
}

static bool any_suspect(const struct miss *m, uint64_t first, uint64_t n)
{
	for (uint64_t i = first; i < first + n; i++) {
		if (!present_test(m->pr, i) && present_suspect(m->pr, i))
			return true;
	}
	return false;
}

uint64_t run_extend(struct miss *m, uint64_t first, uint64_t limit,
		    enum run_kind *ret_kind)
{
	uint64_t at = first, mf, mn, off;
	struct chunk c;

	chunks_get(m->ch, first, &c);
	off = c.blob_off;
	*ret_kind = RUN_FETCH;
	while (at < limit) {
		chunks_member(m->ch, at, &mf, &mn);
		chunks_get(m->ch, mf, &c);
		if (at > first &&
		    (present_test_range(m->pr, mf, mn) ||
		     run_covering(m, mf) != NULL ||
		     c.blob_off + c.blob_len - off > MISS_RUN_BYTES))
			break;
		if (any_suspect(m, mf, mn)) {
			if (at > first)
				break;
			*ret_kind = RUN_VERIFY;
			return mf + mn;
		}
		if (member_is_large(m, mf, mn)) {
			if (at > first)
				break;
			*ret_kind = RUN_STREAM;
			return mf + mn;
		}
		at = mf + mn;
	}
	return at;
}

/* A reader wants what a run of a lower class brings. */
static void run_raise(struct miss *m, struct run *r, uint8_t class_)
{
	if (r->class_ <= class_)
		return;
	r->class_ = class_;
	if (r->ahead && class_ == PROTO_CLASS_DEMAND) {
		r->ahead = false;
		m->ahead_bytes -= run_bytes(r);
	}
	for (unsigned k = 0; k < run_parts(r); k++) {
		if (r->parts[k].sent && !r->parts[k].ended)
			(void)link_send_prio(
				&m->link, r->seq << RUN_PART_BITS | k, class_);
	}
}

uint64_t run_ensure(struct miss *m, uint64_t first, uint64_t end,
		    uint8_t class_, uint64_t ahead_max)
{
	uint64_t i = first, mf, mn, to;

	while (i < end) {
		enum run_kind kind;
		struct run *r;

		if (present_test(m->pr, i)) {
			i++;
			continue;
		}
		r = run_covering(m, i);
		if (r != NULL && r->error == 0) {
			run_raise(m, r, class_);
			i = r->end;
			continue;
		}
		if (r != NULL || m->ahead_bytes >= ahead_max)
			return i;
		chunks_member(m->ch, i, &mf, &mn);
		to = run_extend(m, mf, end, &kind);
		r = run_new(m, kind, class_, mf, to, 0);
		if (r == NULL)
			return i;
		if (class_ != PROTO_CLASS_DEMAND)
			r->asked = EVENTS_CLASS_AHEAD;
		i = r->end;
	}
	return i;
}

uint8_t run_class(const struct miss *m, const struct waiter *w)
{
	uint8_t none = w->unsure ? EVENTS_CLASS_AHEAD : PROTO_CLASS_DEMAND;
	uint8_t class_ = PROTO_CLASS_DEMAND;

	for (uint64_t i = w->first; i < w->end; i++) {
		const struct run *r;

		if (present_test(m->pr, i))
			continue;
		r = run_covering(m, i);
		if (r == NULL)
			return none;
		if (r->asked > class_)
			class_ = r->asked;
	}
	return class_;
}

void run_link_lost(struct miss *m)
{
	if (!m->link_up)
		return;
	m->link_up = false;
	atomic_store_explicit(&m->st->fetcher_up, 0, memory_order_relaxed);
	(void)epoll_ctl(m->epoll_fd, EPOLL_CTL_DEL, m->link.sock, NULL);
	link_detach(&m->link);
	for (struct run *r = m->runs; r != NULL; r = r->link) {
		for (unsigned k = 0; k < run_parts(r); k++) {
			note_arrived(m, r, &r->parts[k]);
			r->parts[k].sent = false;
		}
	}
	m->ticking = true;
	miss_poke(m->main_fd);
}

/* The first chunk of a member of @r that has not arrived whole. */
static uint64_t first_not_arrived(const struct miss *m, const struct run *r)
{
	uint64_t i = r->first, mf, mn;
	struct chunk c;

	while (i < r->end) {
		chunks_member(m->ch, i, &mf, &mn);
		chunks_get(m->ch, mf, &c);
		if (c.blob_off + c.blob_len - r->blob_off > r->parts[0].got)
			break;
		i = mf + mn;
	}
	return i;
}

/* A READ failed for good. What has arrived is still decoded. Readers who did
 * not ask for it themselves, because it was read-ahead, or who came later,
 * get a run of their own (run_ensure() by the caller's caller). */
static void run_failed(struct miss *m, struct run *r, int code,
		       struct waiter **list)
{
	uint64_t end = r->end;
	bool passing = code == -EIO || code == -ETIMEDOUT || code == -ECANCELED;

	stats_add(&m->st->errors_fetch, 1);
	if (r->kind == RUN_FETCH)
		r->end = MAX(first_not_arrived(m, r), r->next);
	else
		r->error = code;
	if (r->class_ != PROTO_CLASS_DEMAND)
		ahead_pause(m, io_now_ns());
	else
		wait_take_failed(m, r->kind == RUN_FETCH ? r->end : r->first,
				 end, passing ? r->start_ns : UINT64_MAX, -EIO,
				 list);
}

/* Whether the rest will take longer than a reader waits, if it goes on so. */
static bool part_crawls(const struct miss *m, const struct run_part *p,
			uint64_t now_ns)
{
	return now_ns > p->sent_ns &&
	       (double)(p->len - p->got) * (double)(now_ns - p->sent_ns) >
		       (double)(p->got - p->base) * (double)m->read_timeout_ns;
}

void run_outwaited(struct miss *m, uint64_t first, uint64_t end,
		   uint64_t now_ns)
{
	for (const struct run *r = m->runs; r != NULL; r = r->link) {
		if (r->first >= end || r->end <= first)
			continue;
		for (unsigned k = 0; m->link_up && k < run_parts(r); k++) {
			const struct run_part *p = &r->parts[k];
			uint64_t id = r->seq << RUN_PART_BITS | k;

			/* Answered as a failure, as any other. */
			if (p->sent && !p->ended && p->until_ns > now_ns &&
			    part_crawls(m, p, now_ns))
				(void)link_send_cancel(&m->link, id);
		}
	}
}

void run_event(struct miss *m, struct run *r, unsigned k,
	       const struct link_event *ev, struct waiter **list)
{
	struct run_part *p = &r->parts[k];
	uint64_t got;

	if (!p->sent || p->ended)
		return;
	if (ev->type == PROTO_FAILED) {
		p->ended = true;
		note_arrived(m, r, p);
		if (r->error == 0)
			run_failed(m, r, ev->code, list);
		return;
	}
	got = p->base + ev->got;
	if (got < p->got || got > p->len) {
		run_link_lost(m); /* it does not keep to the protocol */
		return;
	}
	stats_add(&m->st->fetched_bytes, got - p->got);
	p->got = got;
	p->late_ns = io_now_ns() + MAX(AHEAD_DEADLINE_NS, m->read_timeout_ns) +
		     LATE_NS;
	if (ev->end || p->got == p->len)
		note_arrived(m, r, p);
	if (!ev->end)
		return;
	p->ended = true;
	if (p->got < p->len && r->error == 0)
		run_failed(m, r, -ESTALE, list); /* the blob is shorter */
}
