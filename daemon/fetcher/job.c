/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: a job of the scheduler on the network: which host, which URL, and what
 * becomes of the pieces when it ends. What comes meanwhile is answer.c's.
 */
#include "config.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define LOG_MOD "job"
#include "common/log.h"
#include "daemon/fetcher/answer.h"
#include "daemon/registry/hosts.h"

#define JOB_TRIES_ONE 5u /* without a byte, of a READ with the flag ONE */
#define JOB_DRAIN_NS (500 * NSEC_PER_MSEC)

/* ---- pieces that are left ---- */

static void again(struct read_piece *p, uint64_t not_before_ns)
{
	struct read *r = p->read;
	struct blob *b = r->blob;

	if (b->fd >= 0) {
		read_go_local(r);
		return;
	}
	/* The size may have become known meanwhile. */
	if (p->sp.suffix && (b->size_known || r->expect_size != 0)) {
		sched_remove(&b->d->sched, &p->sp);
		r->n_pieces = 0;
		read_go_network(r, not_before_ns);
		return;
	}
	if (!p->sp.suffix && b->size_known &&
	    p->sp.off + p->sp.got >= b->size) {
		read_piece_eof(p);
		return;
	}
	p->sp.not_before_ns = not_before_ns;
	sched_add(&b->d->sched, &p->sp);
}

/* All pieces of left, again and at once. */
static void requeue(struct list *left)
{
	while (!list_empty(left)) {
		struct read_piece *p = read_piece_of(left->next);

		list_del(&p->sp.node);
		again(p, 0);
	}
}

/* How often a read is tried in vain. */
static unsigned tries_max(const struct read *r)
{
	if (r->hint)
		return (unsigned)r->blob->hosts->n;
	/* Somebody stands there and waits for a mount. */
	return r->one ? JOB_TRIES_ONE : UINT_MAX;
}

static void give_up(struct read_piece *p, const struct err *e)
{
	if (read_elsewhere(p->read))
		return;
	read_fail(p->read, e->code, e->text);
}

static void retry(struct job *j, struct list *left, const struct exch_end *end,
		  const struct err *e)
{
	struct fetchd *d = j->b->d;
	uint64_t now = loop_now(d->loop);

	j->b->soft_ns[j->host] = now + BLOB_SOFT_NS;
	(void)blob_pick_host(j->b, 0);
	while (!list_empty(left)) {
		struct read_piece *p = read_piece_of(left->next);

		list_del(&p->sp.node);
		p->tries++;
		p->read->last = *e;
		if (blob_is_down(j->b) && read_elsewhere(p->read))
			continue;
		if (p->tries >= tries_max(p->read)) {
			give_up(p, e);
			continue;
		}
		d->stats.retries++;
		again(p,
		      now + registry_backoff_ns(p->tries, end->retry_after_s));
	}
}

/* The host refuses for good: the pieces go to another one, or fail. */
static void refused(struct job *j, struct list *left, const struct err *e)
{
	while (!list_empty(left)) {
		struct read_piece *p = read_piece_of(left->next);

		list_del(&p->sp.node);
		p->sp.avoid |= 1u << j->host;
		if (blob_pick_host(j->b, p->sp.avoid) < j->b->hosts->n)
			again(p, 0);
		else
			give_up(p, e);
	}
	(void)blob_pick_host(j->b, 0);
}

/* ---- the end ---- */

static void job_free(struct job *j)
{
	loop_timer_clear(&j->over);
	exch_stop(&j->x);
	list_del(&j->node);
	free(j);
}

/* Whether several ranges were answered with all there is of them. */
static bool had_all(const struct job *j, const struct list *left)
{
	const struct blob *b = j->b;

	if (j->in_parts && !byteranges_over(&j->parts))
		return false;
	LIST_EACH(n, left)
	{
		const struct sched_piece *p = &read_piece_of(n)->sp;

		if (!b->size_known || p->off + p->got < b->size)
			return false;
	}
	return true;
}

/* The body was complete, as far as HTTP goes. */
static void job_complete(struct job *j, struct list *left,
			 const struct exch_end *end)
{
	struct blob *b = j->b;

	if (j->sj.whole) {
		(void)blob_learn_size(b, j->sj.pos);
		if (b->spooler == j) {
			b->spooler = NULL;
			b->fd_whole = b->size == b->fd_have;
			if (!b->fd_whole)
				blob_spool_drop(b, loop_now(b->d->loop) +
							   NSEC_PER_SEC);
			blob_local_kick(b);
		}
	}
	if (j->several && !had_all(j, left))
		answer_no_several(j);
	else if (j->sj.pos == j->first && !list_empty(left)) {
		struct err e = {0};

		err_set(&e, -EIO, "%s: empty response",
			b->hosts->v[j->host].authority);
		retry(j, left, end, &e);
	}
	requeue(left);
}

static void job_eof(struct list *left)
{
	while (!list_empty(left)) {
		struct read_piece *p = read_piece_of(left->next);

		list_del(&p->sp.node);
		/* Ranges beyond the size expected are not asked for. */
		if (p->read->expect_size != 0)
			read_fail(p->read, -ESTALE,
				  "the blob ends before the size expected");
		else
			read_piece_eof(p);
	}
}

/* Asking for the size has failed in one way: go on to the next. */
static bool next_way(struct job *j)
{
	struct blob *b = j->b;

	if (!j->sj.suffix || b->size_known)
		return true;
	if (j->how == b->size_how)
		b->size_how = j->how + 1;
	return b->size_how < SIZE_UNKNOWABLE;
}

static void job_failed(struct job *j, struct list *left, struct exch_end *end)
{
	struct blob *b = j->b;
	struct err e = {0};
	bool moved = false;

	if (j->why.code != 0)
		e = j->why;
	else
		exch_status_error(&j->x, end, &e);
	log_debug("msg=\"%s\" tries=%u", e.text,
		  list_empty(left) ? 0 : read_piece_of(left->next)->tries);
	if (j->x.away && (end->code < 0 || end->status >= 400)) {
		blob_redirect_drop(b);
		moved = j->cached_redirect;
	}
	if (b->spooler == j)
		blob_spool_drop(b, loop_now(b->d->loop) + NSEC_PER_SEC);
	/* That may be why: it is found out again with the next trace. */
	if (j->several && j->sj.host->several == SCHED_SEVERAL_YES)
		j->sj.host->several = SCHED_SEVERAL_UNKNOWN;
	if (moved)
		requeue(left); /* the place was remembered: ask again */
	else if (end->permanent && j->why.code == 0)
		refused(j, left, &e);
	else if (j->why.code == -ESTALE)
		refused(j, left, &e);
	else
		retry(j, left, end, &e);
}

static void on_done(struct exch *x, const struct exch_end *he)
{
	struct job *j = job_of(x);
	struct fetchd *d = j->b->d;
	struct exch_end end = *he;
	struct list left;

	list_init(&left);
	sched_job_end(&j->sj, loop_now(d->loop), &left);
	if (j->requeue) {
		if (j->b->spooler == j)
			blob_spool_drop(j->b, 0);
		if (next_way(j)) {
			requeue(&left);
		} else {
			struct err e = {0};

			err_set(&e, -EOPNOTSUPP,
				"%s: does not tell the size of the blob",
				j->b->hosts->v[j->host].authority);
			refused(j, &left, &e);
		}
	} else if (j->why.code != 0) {
		job_failed(j, &left, &end);
	} else if (j->accepted && end.code == 0) {
		job_complete(j, &left, &end);
	} else if (j->eof && end.code == 0) {
		job_eof(&left);
	} else {
		job_failed(j, &left, &end);
	}
	job_free(j);
	job_dispatch_soon(d);
}

/* A connection that crawls, or one nobody reads from, is worth less than its
 * place among those that the host may have. */
static void on_over(struct loop_timer *t)
{
	struct job *j = LIST_ENTRY(t, struct job, over);
	struct blob *b = j->b;
	struct fetchd *d = b->d;
	struct list left;

	j->drained = false;
	if (!j->late && !list_empty(&j->sj.pieces))
		return;
	if (j->late) {
		b->soft_ns[j->host] = loop_now(d->loop) + BLOB_SOFT_NS;
		(void)blob_pick_host(b, 0);
	}
	list_init(&left);
	sched_job_end(&j->sj, loop_now(b->d->loop), &left);
	job_free(j);
	requeue(&left);
	job_dispatch_soon(d);
}

void job_left(struct sched_job *sj, bool late)
{
	struct job *j = LIST_ENTRY(sj, struct job, sj);
	struct loop *l = j->b->d->loop;

	if (sj->whole || j->b->spooler == j)
		return;
	if (late) {
		j->late = true;
		loop_timer_set(l, &j->over, loop_now(l));
	} else if (!j->late && !j->drained && list_empty(&sj->pieces)) {
		j->drained = true;
		loop_timer_set(l, &j->over, loop_now(l) + JOB_DRAIN_NS);
	}
}

static const struct exch_ops ops = {
	.headers = answer_headers,
	.data = answer_data,
	.done = on_done,
};

/* ---- the start ---- */

static void set_ranges(struct sched_job *sj, char *s, size_t size)
{
	size_t at = 0;

	for (unsigned i = 0; i < sj->n_ranges; i++) {
		const struct sched_range *v = &sj->ranges[i];

		at += (size_t)snprintf(
			s + at, size - at, "%s%" PRIu64 "-%" PRIu64,
			i > 0 ? "," : "", v->off, v->off + v->len - 1);
		assert(at < size);
	}
}

static void set_range(struct job *j)
{
	struct sched_job *sj = &j->sj;
	char *s = j->x.range;
	size_t n = sizeof(j->x.range);

	if (sj->n_ranges > 0)
		set_ranges(sj, s, n);
	else if (sj->suffix && j->how == SIZE_PROBE)
		(void)snprintf(s, n, "0-0");
	else if (sj->suffix && j->how == SIZE_SUFFIX)
		(void)snprintf(s, n, "-%" PRIu64, sj->len);
	else if (!sj->suffix && !sj->whole)
		(void)snprintf(s, n, "%" PRIu64 "-%" PRIu64, sj->off,
			       sj->off + sj->len - 1);
	if (sj->suffix && j->how == SIZE_HEAD)
		j->x.method = HTTP_HEAD;
	j->x.bulk = sj->n_ranges == 0 && sj->len >= KIB(256);
}

static char *start_url(struct job *j)
{
	struct blob *b = j->b;

	if (b->redirect != NULL && b->redirect_host == j->host &&
	    loop_now(b->d->loop) < b->redirect_until_ns) {
		j->cached_redirect = true;
		j->x.away = true;
		return strdup(b->redirect);
	}
	if (b->kind == PROTO_BLOB_URL)
		return strdup(b->name);
	return hosts_url(b->hosts, &b->hosts->v[j->host], b->repo, "blobs",
			 b->digest);
}

static void job_start(struct fetchd *d, struct job *j)
{
	struct blob *b = (struct blob *)(void *)j->sj.blob;
	struct err e = {0};
	struct list left;
	char *url = NULL;

	j->b = b;
	j->over.fn = on_over;
	j->host = blob_pick_host(b, j->sj.avoid);
	j->how = j->sj.suffix ? b->size_how : SIZE_SUFFIX;
	j->several = j->sj.n_ranges > 0;
	list_add(&b->jobs, &j->node);
	list_init(&left);
	if (j->several && b->sb.host != j->sj.host) {
		/* Of this one nobody knows whether it takes them. */
		sched_job_end(&j->sj, loop_now(d->loop), &left);
		job_free(j);
		requeue(&left);
		return;
	}
	if (j->host < b->hosts->n && j->how < SIZE_UNKNOWABLE) {
		j->x.g = &d->reg;
		j->x.ops = &ops;
		j->x.host = &b->hosts->v[j->host];
		j->x.ns = b->hosts->ns;
		j->x.repo = b->repo;
		b->last_host = j->host;
		set_range(j);
		url = start_url(j);
	}
	if (url != NULL) {
		d->stats.requests[j->sj.class_]++;
		exch_start(&j->x, url);
		return;
	}
	if (j->host >= b->hosts->n)
		err_set(&e, -ENOENT, "%s: no host offers it", b->name);
	else if (j->how >= SIZE_UNKNOWABLE)
		err_set(&e, -EOPNOTSUPP, "no host tells the size of the blob");
	else
		err_no_memory(&e);
	sched_job_end(&j->sj, loop_now(b->d->loop), &left);
	while (!list_empty(&left)) {
		struct read_piece *p = read_piece_of(left.next);

		list_del(&p->sp.node);
		give_up(p, &e);
	}
	job_free(j);
}

void job_dispatch(struct fetchd *d)
{
	uint64_t wake = UINT64_MAX;

	for (;;) {
		struct job *j = calloc(1, sizeof(*j));

		if (j == NULL) {
			wake = loop_now(d->loop) + NSEC_PER_SEC;
			break;
		}
		list_init(&j->node);
		if (!sched_next(&d->sched, loop_now(d->loop), &j->sj, &wake)) {
			free(j);
			break;
		}
		job_start(d, j);
	}
	if (wake == UINT64_MAX)
		loop_timer_clear(&d->dispatch_timer);
	else
		loop_timer_set(d->loop, &d->dispatch_timer, wake);
}

void job_dispatch_soon(struct fetchd *d)
{
	loop_task_add(d->loop, &d->dispatch);
}

void job_stop_all(struct blob *b)
{
	while (!list_empty(&b->jobs)) {
		struct job *j = LIST_ENTRY(b->jobs.next, struct job, node);
		struct list left;

		list_init(&left);
		sched_job_end(&j->sj, loop_now(b->d->loop), &left);
		assert(list_empty(&left));
		if (b->spooler == j)
			b->spooler = NULL;
		job_free(j);
	}
	job_dispatch_soon(b->d);
}
