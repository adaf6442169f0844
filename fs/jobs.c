/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/miss.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/io.h"
#include "common/limits.h"
#include "fs/ahead.h"
#include "fs/fill.h"
#include "fs/run.h"
#include "fs/wait.h"
#define LOG_MOD "miss"
#include "common/log.h"

#define NO_SPACE_PAUSE_NS (10 * NSEC_PER_SEC)

/* Locked. Runs that end by what comes in: *ret_dropped. Return: whether there
 * may be more. */
static bool receive(struct miss *m, struct waiter **list, char *text,
		    size_t text_bytes, bool *ret_dropped)
{
	struct link_event ev;
	unsigned part;
	int n;

	if (!m->link_up)
		return false;
	n = link_recv(&m->link, &ev, MSG_DONTWAIT);
	if (n == -EAGAIN)
		return false;
	if (n <= 0) {
		run_link_lost(m);
		return false;
	}
	if (ev.type == PROTO_FAILED && ev.code != -ECANCELED)
		(void)snprintf(text, text_bytes, "%s",
			       ev.text[0] != '\0' ? ev.text
						  : err_name(ev.code));
	if (ev.type == PROTO_HINT) {
		ahead_hints(m, io_now_ns());
		ahead_pump(m, io_now_ns());
		return true;
	}
	part = (unsigned)(ev.id & ((1u << RUN_PART_BITS) - 1));
	if (part >= RUN_WINDOWS) {
		run_link_lost(m); /* no id of ours */
		return false;
	}
	for (struct run *r = m->runs; r != NULL; r = r->link) {
		if (r->seq != ev.id >> RUN_PART_BITS)
			continue;
		run_event(m, r, part, &ev, list);
		if (run_over(r)) {
			run_drop(m, r);
			*ret_dropped = true;
		}
		break;
	}
	return true;
}

/**
 * struct job - a piece of decoding that a fill thread has claimed
 * @v:		[@n] members of @r; one, where @r is no RUN_FETCH
 */
struct job {
	struct run *r;
	unsigned n;
	struct fill_member v[FILL_MEMBERS];
};

/* Locked. Claims members of a run that have arrived whole: all that one job may
 * have, or half of what there is where another thread has nothing to do. */
static bool claim_members(struct miss *m, struct run *r, struct job *j)
{
	const struct run_part *p = &r->parts[0];
	uint64_t next = r->next, bytes = 0;
	bool full = false;
	unsigned n = 0;

	while (next < r->end && !full) {
		struct chunk c, last;
		uint64_t mf, mn;

		chunks_member(m->ch, next, &mf, &mn);
		next = mf + mn;
		if (present_test_range(m->pr, mf, mn))
			continue; /* another process was faster */
		chunks_get(m->ch, mf, &c);
		chunks_get(m->ch, next - 1, &last);
		if (c.blob_off + c.blob_len - r->blob_off > p->got) {
			next = mf;
			break;
		}
		bytes += last.inner_off + last.len;
		if (n > 0 && bytes > FILL_GROUP_BYTES) {
			full = true;
			break;
		}
		j->v[n++] = (struct fill_member){
			.first = mf,
			.n = mn,
			.src = m->link.arena + p->arena_off +
			       (c.blob_off - r->blob_off),
			.len = (size_t)c.blob_len,
		};
		full = n == FILL_MEMBERS;
	}
	if (n == 0) {
		r->next = next;
		return false;
	}
	if (!full && m->idle_threads > 0)
		n = (n + 1) / 2;
	r->next = j->v[n - 1].first + j->v[n - 1].n;
	r->claims++;
	j->r = r;
	j->n = n;
	return true;
}

static bool claim_stream(struct miss *m, struct run *r, struct job *j)
{
	const struct run_part *p = &r->parts[r->head];

	if (r->claims > 0 || r->next >= r->end || p->got <= p->consumed)
		return false;
	*j = (struct job){
		.r = r,
		.n = 1,
		.v[0] = {.first = r->first,
			 .n = r->end - r->first,
			 .src = m->link.arena + p->arena_off + p->consumed,
			 .len = (size_t)(p->got - p->consumed)},
	};
	r->claims++;
	return true;
}

static bool claim_verify(struct run *r, struct job *j)
{
	if (r->claims > 0 || r->next >= r->end)
		return false;
	*j = (struct job){
		.r = r,
		.n = 1,
		.v[0] = {.first = r->first, .n = r->end - r->first},
	};
	r->next = r->end;
	r->claims++;
	return true;
}

static bool claim_from(struct miss *m, struct run *r, struct job *j)
{
	switch (r->kind) {
	case RUN_FETCH:
		return claim_members(m, r, j);
	case RUN_STREAM:
		return claim_stream(m, r, j);
	case RUN_VERIFY:
		return claim_verify(r, j);
	}
	return false;
}

/* Locked. The most wanted piece of work. Runs that turn out to have nothing
 * left, because another process was faster, are dropped: *ret_dropped. */
static bool claim(struct miss *m, struct job *j, bool *ret_dropped)
{
	for (uint8_t c = 0; c < PROTO_CLASS_N_; c++) {
		for (struct run *r = m->runs, *next; r != NULL; r = next) {
			next = r->link;
			if (r->class_ != c || r->error != 0)
				continue;
			if (claim_from(m, r, j))
				return true;
			if (run_over(r)) {
				run_drop(m, r);
				*ret_dropped = true;
			}
		}
	}
	return false;
}

/* Unlocked. The members' rc is 0, 1 a stream that is done, or -errno. Return: 0;
 * -errno the cache cannot be written */
static int do_job(struct miss *m, struct fill *f, struct job *j)
{
	struct fill_member *v = &j->v[0];
	struct run *r = j->r;
	int disk = 0;

	switch (r->kind) {
	case RUN_FETCH:
		return fill_members(f, m, j->v, j->n);
	case RUN_VERIFY:
		for (uint64_t i = v->first; i < v->first + v->n; i++) {
			if (present_test(m->pr, i) ||
			    !present_suspect(m->pr, i))
				continue;
			if (fill_verify(f, m, i) == 0)
				miss_present(m, i);
			else
				present_clear_suspect(m->pr, i);
		}
		break;
	case RUN_STREAM:
		/* claims keeps other threads away from r->stream. */
		if (r->stream == NULL)
			r->stream = fill_stream_new(m, f->lane.fd, r->first,
						    r->end);
		v->rc = r->stream == NULL
				? -ENOMEM
				: fill_stream_run(f, r->stream, v->src, v->len,
						  &disk);
		break;
	}
	return disk;
}

/* Locked. The bytes of [first, end) were wrong: asked for once more, from
 * elsewhere, where somebody waits for them or a trace names them, because its data
 * may be what is wrong (common/trace.h); then it is a failure for those who wait. */
static void corrupt(struct miss *m, uint64_t first, uint64_t end,
		    uint8_t attempt, struct waiter **list)
{
	bool waited_for = wait_anyone(m, first, end);
	enum run_kind kind;

	stats_add(&m->st->errors_verify, 1);
	if (attempt == 0 && (waited_for || m->pump_hints)) {
		(void)run_extend(m, first, end, &kind);
		if (kind != RUN_VERIFY &&
		    run_new(m, kind,
			    waited_for ? PROTO_CLASS_DEMAND
				       : PROTO_CLASS_PREFETCH,
			    first, end, 1) != NULL)
			return;
	}
	wait_take_failed(m, first, end, UINT64_MAX, -EIO, list);
	ahead_pause(m, io_now_ns());
}

/* Locked. What a stream's job leads to. Return: @v->rc, -EBADMSG where the member
 * ended too early */
static int stream_done(struct miss *m, struct run *r,
		       const struct fill_member *v)
{
	struct run_part *p = &r->parts[r->head];
	int rc = v->rc;

	if (r->error != 0)
		return r->error;
	p->consumed += v->len;
	if (rc == 1)
		r->next = r->end;
	else if (rc == 0 && p->consumed == p->len && !run_next_window(m, r))
		rc = -EBADMSG;
	if (rc < 0)
		r->error = rc;
	return rc;
}

/* Locked. What follows from a finished job; drops its run when that is over. */
static void job_done(struct miss *m, struct job *j, struct waiter **list)
{
	struct run *r = j->r;
	uint8_t attempt = r->attempt;

	r->claims--;
	if (r->kind == RUN_STREAM)
		j->v[0].rc = stream_done(m, r, &j->v[0]);
	if (run_over(r))
		run_drop(m, r);
	for (unsigned k = 0; k < j->n; k++) {
		const struct fill_member *v = &j->v[k];
		uint64_t end = v->first + v->n;

		if (v->rc == -EBADMSG)
			corrupt(m, v->first, end, attempt, list);
		else if (v->rc < 0)
			wait_take_failed(m, v->first, end, UINT64_MAX, -EIO,
					 list);
		else
			m->pump_backoff_ns = 0;
		wait_take_ready(m, v->first, end, list);
	}
}

/* @rc: of the member that begins with @chunk; @disk: 0, or that of the cache. */
static void note_error(struct miss *m, uint64_t chunk, int rc, int disk)
{
	static struct log_limit limit;
	char text[STATS_ERROR_BYTES];
	struct chunk c;
	unsigned n;

	chunks_get(m->ch, chunk, &c);
	if (disk < 0)
		(void)snprintf(text, sizeof(text),
			       "cache cannot be written: %s", err_name(disk));
	else
		(void)snprintf(text, sizeof(text),
			       "chunk %" PRIu64 " at blob offset %" PRIu64
			       ": %s",
			       chunk, c.blob_off,
			       rc == -EBADMSG ? "corrupt data" : err_name(rc));
	stats_error(m->st, text);
	if (log_allow(&limit, io_now_ns(), &n))
		log_warn("chunk=%" PRIu64 " blob_off=%" PRIu64
			 " err=%s msg=\"%s\" suppressed=%u",
			 chunk, c.blob_off, err_symbol(disk < 0 ? disk : rc),
			 text, n);
}

static void run_job(struct miss *m, struct fill *f, struct job *j)
{
	struct waiter *list = NULL;
	int disk;

	lane_lock(&f->lane);
	disk = do_job(m, f, j);
	if (disk < 0)
		note_error(m, j->v[0].first, 0, disk);
	for (unsigned k = 0; k < j->n; k++) {
		if (j->v[k].rc < 0 && disk == 0)
			note_error(m, j->v[k].first, j->v[k].rc, 0);
	}

	(void)pthread_mutex_lock(&m->lock);
	if (disk < 0) {
		stats_add(&m->st->errors_disk, 1);
		m->no_space_until_ns = io_now_ns() + NO_SPACE_PAUSE_NS;
		miss_want_tick(m);
	}
	job_done(m, j, &list);
	miss_ensure_waiters(m);
	ahead_pump(m, io_now_ns());
	(void)pthread_mutex_unlock(&m->lock);
	miss_answer(m, &f->lane, list);
	lane_unlock(&f->lane);
}

static void wait_for_work(struct miss *m)
{
	struct epoll_event ev;
	uint64_t v;

	if (epoll_wait(m->epoll_fd, &ev, 1, -1) > 0 &&
	    ev.data.fd == m->wake_fd && read(m->wake_fd, &v, sizeof(v)) < 0)
		return; /* somebody else took it */
}

void miss_fill_loop(struct miss *m, struct fill *f)
{
	(void)pthread_mutex_lock(&m->lock);
	while (!m->stop) {
		char text[ERR_TEXT_BYTES] = "";
		struct waiter *list = NULL;
		struct job j = {0};
		bool found, dropped = false;

		while (receive(m, &list, text, sizeof(text), &dropped))
			;
		found = claim(m, &j, &dropped);
		if (dropped) {
			wait_take_ready(m, 0, m->ch->n, &list);
			ahead_pump(m, io_now_ns());
		}
		if (dropped || text[0] != '\0' || list != NULL)
			miss_ensure_waiters(m);
		if (found && m->idle_threads > 0)
			miss_poke(m->wake_fd); /* there may be more */
		if (!found)
			m->idle_threads++;
		(void)pthread_mutex_unlock(&m->lock);
		if (text[0] != '\0') {
			stats_error(m->st, text);
			log_warn("msg=\"fetch failed: %s\"", text);
		}
		if (list != NULL) {
			lane_lock(&f->lane);
			miss_answer(m, &f->lane, list);
			lane_unlock(&f->lane);
		}
		if (found)
			run_job(m, f, &j);
		else
			wait_for_work(m);
		(void)pthread_mutex_lock(&m->lock);
		if (!found)
			m->idle_threads--;
	}
	(void)pthread_mutex_unlock(&m->lock);
}
