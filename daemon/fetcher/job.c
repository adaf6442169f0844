/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: a job of the scheduler on the network: which host, which URL, what the
 * response means, and what becomes of the pieces when it fails.
 *
 * What a response can be:
 *   206   checked against what was asked; a part of it is accepted
 *   200   the whole blob: taken if that is what was wanted, else the server
 *         ignores ranges: the one response is spooled (blob.h); where that
 *         cannot be, it serves whatever pieces it passes
 *   416   the blob ends before the range; its size may be told
 *   else  an error: for good (next host, then the read fails), or for now
 *         (next host, back-off, until the read's deadline)
 */
#include "config.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define LOG_MOD "job"
#include "common/io.h"
#include "common/log.h"
#include "daemon/fetcher/blob.h"
#include "daemon/fetcher/conf.h"
#include "daemon/registry/exch.h"
#include "daemon/registry/hosts.h"

#define JOB_TRIES_ONE 5u /* without a byte, of a READ with the flag ONE */
/* What is left of a range nobody waits for any more, to be read anyway. */
#define JOB_DRAIN_BYTES KIB(256)
#define JOB_DRAIN_NS (500 * NSEC_PER_MSEC)

struct job {
	struct sched_job sj; /* first */
	struct exch x;
	struct blob *b;
	struct list node; /* in b->jobs */
	size_t host;
	enum size_how how; /* SIZE_PROBE, SIZE_HEAD: only asks the size */
	bool accepted;
	bool cached_redirect;
	bool requeue;   /* ended by us: ask in another way */
	bool eof;       /* 416: there is nothing there */
	bool late;      /* a reader has given up waiting for it */
	uint64_t first; /* pos where the body began */
	struct err why; /* what is wrong with the response */
	bool drained;   /* nobody waits for it: it ends at @over */
	struct loop_timer over;
};

static struct job *job_of(struct exch *x)
{
	return LIST_ENTRY(x, struct job, x);
}

static struct read_piece *piece_of(struct list *n)
{
	return LIST_ENTRY(n, struct read_piece, sp.node);
}

/* The response is no good. */
static int refuse(struct job *j, int code, const char *what)
{
	err_set(&j->why, code, "%s: %s", j->b->hosts->v[j->host].authority,
		what);
	return -ECANCELED;
}

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
		struct read_piece *p = piece_of(left->next);

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
		struct read_piece *p = piece_of(left->next);

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
		struct read_piece *p = piece_of(left->next);

		list_del(&p->sp.node);
		p->sp.avoid |= 1u << j->host;
		if (blob_pick_host(j->b, p->sp.avoid) < j->b->hosts->n)
			again(p, 0);
		else
			give_up(p, e);
	}
	(void)blob_pick_host(j->b, 0);
}

/* ---- the spool ---- */

static int spool_open(struct blob *b, const struct http_resp *resp)
{
	const struct config *cfg = &b->d->cfg;
	uint64_t want = resp->has_length ? resp->length : 1;

	if (b->no_spool || want > cfg->spool_bytes_max ||
	    b->d->spool_bytes > cfg->spool_bytes_max - want)
		return -EOVERFLOW;
	b->fd = open(cfg->spool_dir, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC,
		     0600);
	return b->fd < 0 ? -errno : 0;
}

static int spool_add(struct job *j, const void *p, size_t n)
{
	struct blob *b = j->b;
	int r = -EOVERFLOW;

	if (b->d->spool_bytes + n <= b->d->cfg.spool_bytes_max)
		r = io_pwrite_all(b->fd, p, n, b->fd_have);
	if (r < 0) {
		log_warn("msg=\"spool: %s\"", err_name(r));
		b->no_spool = true;
		j->requeue = true;
		return -ECANCELED;
	}
	b->fd_have += n;
	b->d->spool_bytes += n;
	blob_local_kick(b);
	return 0;
}

/* Every read of the blob is served from the spool from now on. */
static void spool_take_reads(struct blob *b)
{
	for (int c = 0; c < PROTO_CLASS_N_; c++) {
		while (!list_empty(&b->sb.queued[c]))
			read_go_local(piece_of(b->sb.queued[c].next)->read);
	}
	LIST_EACH(n, &b->jobs)
	{
		struct job *j = LIST_ENTRY(n, struct job, node);

		while (!list_empty(&j->sj.pieces))
			read_go_local(piece_of(j->sj.pieces.next)->read);
	}
}

/* ---- what a response means ---- */

static int learn(struct job *j, uint64_t size)
{
	struct blob *b = j->b;
	bool failed;

	if (!blob_learn_size(b, size))
		return refuse(j, -ESTALE, "the blob has changed its size");
	/* Reads that expected another size are over. One that fails takes
	 * all its pieces along: start anew. */
	do {
		failed = false;
		LIST_EACH(n, &j->sj.pieces)
		{
			struct read *r = piece_of(n)->read;

			if (r->expect_size == 0 || r->expect_size == size)
				continue;
			read_fail(r, -ESTALE,
				  "the blob does not have the size expected");
			failed = true;
			break;
		}
	} while (failed);
	return 0;
}

static int accept_range(struct job *j, uint64_t off, uint64_t len)
{
	bool suffix = j->sj.suffix;

	if (suffix) {
		LIST_EACH(n, &j->sj.pieces)
		{
			struct read *r = piece_of(n)->read;

			r->suffix = false;
			r->off = off;
			r->len = len;
		}
	}
	sched_job_range(&j->sj, off, len);
	j->first = off;
	j->accepted = true;
	return 1;
}

static int on_206(struct job *j, const struct http_resp *resp)
{
	const struct content_range *cr = &resp->range;
	uint64_t len, total;
	int r = 0;

	if (!resp->has_range || !cr->has_range)
		return refuse(j, -EBADMSG, "206 without a valid Content-Range");
	len = cr->end - cr->start + 1;
	if (resp->has_encoding || (resp->has_length && resp->length != len))
		return refuse(j, -EBADMSG, "206 with the wrong length");
	/* A suffix ends where the blob does. */
	total = cr->has_total ? cr->total : cr->end + 1;
	if (j->how == SIZE_PROBE || j->how == SIZE_HEAD) {
		if (cr->has_total)
			r = learn(j, cr->total);
		j->requeue = true;
		return r;
	}
	if (cr->has_total || j->sj.suffix)
		r = learn(j, total);
	if (r < 0)
		return r;
	if (j->sj.suffix) {
		if (cr->end != total - 1 || len != MIN(j->sj.len, total))
			return refuse(j, -EBADMSG, "206 with another range");
	} else if (j->sj.whole || cr->start != j->sj.off) {
		return refuse(j, -EBADMSG, "206 with another range");
	}
	return accept_range(j, cr->start, len);
}

/* The server ignores ranges. */
static int on_whole(struct job *j, const struct http_resp *resp)
{
	static struct log_limit limit;
	struct blob *b = j->b;
	unsigned missed = 0;

	b->sb.whole = true;
	if (b->fd >= 0 || !sched_job_whole(&b->d->sched, &j->sj)) {
		/* One such body is enough. */
		j->requeue = true;
		return -ECANCELED;
	}
	if (log_allow(&limit, loop_now(b->d->loop), &missed))
		log_info("msg=\"server ignores ranges\" host=%s suppressed=%u",
			 b->hosts->v[j->host].authority, missed);
	j->accepted = true;
	j->first = 0;
	if (spool_open(b, resp) == 0) {
		b->spooler = j;
		spool_take_reads(b);
	}
	return 1;
}

static int on_200(struct job *j, const struct http_resp *resp)
{
	int r = 0;

	if (resp->has_encoding)
		return refuse(j, -EBADMSG,
			      "an encoding that was not asked for");
	if (resp->has_length)
		r = learn(j, resp->length);
	if (r < 0)
		return r;
	if (j->how == SIZE_PROBE || j->how == SIZE_HEAD) {
		j->requeue = true;
		return j->how == SIZE_PROBE ? -ECANCELED : 0;
	}
	/* The whole may be just what was asked for. */
	if (resp->has_length && !j->sj.whole &&
	    (j->sj.suffix || j->sj.off == 0) && resp->length > 0 &&
	    j->sj.len >= resp->length)
		return accept_range(j, 0, resp->length);
	if (j->sj.suffix) {
		if (j->b->size_how == SIZE_SUFFIX)
			j->b->size_how = SIZE_PROBE;
		j->requeue = true;
		return -ECANCELED;
	}
	return on_whole(j, resp);
}

static int on_416(struct job *j, const struct http_resp *resp)
{
	if (resp->has_range && resp->range.has_total) {
		int r = learn(j, resp->range.total);

		if (r < 0)
			return r;
	}
	if (j->sj.suffix) {
		j->requeue = true;
		return 0;
	}
	if (j->b->size_known && j->sj.off < j->b->size)
		return refuse(j, -EBADMSG, "416 for a range inside the blob");
	j->eof = true;
	return 0;
}

static bool no_suffix_status(unsigned status)
{
	return status == 400 || status == 405 || status == 416 || status == 501;
}

static int on_headers(struct exch *x, const struct http_resp *resp)
{
	struct job *j = job_of(x);

	if (x->away && !j->cached_redirect &&
	    (resp->status == 200 || resp->status == 206))
		blob_redirect_set(j->b, j->host, x->url);
	if (resp->status == 206)
		return on_206(j, resp);
	if (resp->status == 200)
		return on_200(j, resp);
	if (resp->status == 416)
		return on_416(j, resp);
	if (j->sj.suffix && no_suffix_status(resp->status) &&
	    !j->cached_redirect)
		j->requeue = true;
	return 0;
}

static void deliver(struct sched_piece *sp, uint64_t at, const void *data,
		    size_t n)
{
	struct read_piece *p = LIST_ENTRY(sp, struct read_piece, sp);
	struct read *r = p->read;

	memcpy(r->dst + (sp->off - r->off) + at, data, n);
	if (!r->hint)
		r->blob->d->stats.bytes[r->class_] += n;
	p->tries = 0;
	read_advance(r);
}

static int on_data(struct exch *x, const void *p, size_t n)
{
	struct job *j = job_of(x);
	struct blob *b = j->b;
	uint64_t end = j->sj.whole ? UINT64_MAX : j->sj.off + j->sj.len, left;
	bool full = pace_full(&j->sj.host->pace);

	assert(j->sj.pos <= end);
	/* A server may send more than it announced. */
	n = (size_t)MIN((uint64_t)n, end - j->sj.pos);
	if (b->spooler == j) {
		j->sj.pos += n;
		return spool_add(j, p, n);
	}
	sched_job_data(&j->sj, p, n, loop_now(b->d->loop), deliver);
	if (full && !pace_full(&j->sj.host->pace))
		job_dispatch_soon(b->d);
	left = end - j->sj.pos;
	if (!list_empty(&j->sj.pieces))
		return 0;
	/* Everybody has gone. */
	job_left(&j->sj, false);
	if (left <= JOB_DRAIN_BYTES)
		return 0;
	j->requeue = true;
	return -ECANCELED;
}

/* ---- the end ---- */

static void job_free(struct job *j)
{
	loop_timer_clear(&j->over);
	exch_stop(&j->x);
	list_del(&j->node);
	free(j);
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
	if (j->sj.pos == j->first && !list_empty(left)) {
		struct err e = {0};

		err_set(&e, -EIO, "%s: empty response",
			b->hosts->v[j->host].authority);
		retry(j, left, end, &e);
		return;
	}
	requeue(left);
}

static void job_eof(struct list *left)
{
	while (!list_empty(left)) {
		struct read_piece *p = piece_of(left->next);

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
		  list_empty(left) ? 0 : piece_of(left->next)->tries);
	if (j->x.away && (end->code < 0 || end->status >= 400)) {
		blob_redirect_drop(b);
		moved = j->cached_redirect;
	}
	if (b->spooler == j)
		blob_spool_drop(b, loop_now(b->d->loop) + NSEC_PER_SEC);
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
	.headers = on_headers,
	.data = on_data,
	.done = on_done,
};

/* ---- the start ---- */

static void set_range(struct job *j)
{
	struct sched_job *sj = &j->sj;
	char *s = j->x.range;
	size_t n = sizeof(j->x.range);

	if (sj->suffix && j->how == SIZE_PROBE)
		(void)snprintf(s, n, "0-0");
	else if (sj->suffix && j->how == SIZE_SUFFIX)
		(void)snprintf(s, n, "-%" PRIu64, sj->len);
	else if (!sj->suffix && !sj->whole)
		(void)snprintf(s, n, "%" PRIu64 "-%" PRIu64, sj->off,
			       sj->off + sj->len - 1);
	if (sj->suffix && j->how == SIZE_HEAD)
		j->x.method = HTTP_HEAD;
	j->x.bulk = sj->len >= KIB(256);
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
	list_add(&b->jobs, &j->node);
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
	list_init(&left);
	sched_job_end(&j->sj, loop_now(b->d->loop), &left);
	while (!list_empty(&left)) {
		struct read_piece *p = piece_of(left.next);

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
