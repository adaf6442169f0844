/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/answer.h"

#include <fcntl.h>
#include <string.h>

#define LOG_MOD "job"
#include "common/io.h"
#include "common/log.h"
#include "daemon/fetcher/conf.h"
#include "daemon/fetcher/several.h"
#include "daemon/registry/hosts.h"

/* What is left of a range nobody waits for any more, to be read anyway. */
#define DRAIN_BYTES KIB(256)

/* The response is no good. */
static int refuse(struct job *j, int code, const char *what)
{
	err_set(&j->why, code, "%s: %s", j->b->hosts->v[j->host].authority,
		what);
	return -ECANCELED;
}

void answer_no_several(struct job *j)
{
	log_debug("msg=\"no several ranges\" host=%s",
		  j->b->hosts->v[j->host].authority);
	j->sj.host->several = SCHED_SEVERAL_NO;
}

/* This is not how several ranges are answered: one at a time, then. */
static int refuse_several(struct job *j)
{
	answer_no_several(j);
	j->requeue = true;
	return -ECANCELED;
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
			read_go_local(
				read_piece_of(b->sb.queued[c].next)->read);
	}
	LIST_EACH(n, &b->jobs)
	{
		struct job *j = LIST_ENTRY(n, struct job, node);

		while (!list_empty(&j->sj.pieces))
			read_go_local(read_piece_of(j->sj.pieces.next)->read);
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
			struct read *r = read_piece_of(n)->read;

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
			struct read *r = read_piece_of(n)->read;

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

/* Whether what is said of a part goes with what is known. */
static bool is_right(const struct job *j, const struct content_range *cr)
{
	return cr->has_range &&
	       (!cr->has_total || !j->b->size_known || cr->total == j->b->size);
}

/* A 206 to a request of several ranges: in parts, or the first one alone,
 * because the blob ends before the others. */
static int on_206_several(struct job *j, const struct http_resp *resp)
{
	const struct content_range *cr = &resp->range;
	uint64_t len;
	int r;

	if (resp->has_encoding)
		return refuse_several(j);
	if (byteranges_init(&j->parts, resp->content_type) == 0) {
		j->in_parts = true;
		j->accepted = true;
		j->first = j->sj.off;
		return 1;
	}
	if (!resp->has_range || !is_right(j, cr) ||
	    cr->start != j->sj.ranges[0].off)
		return refuse_several(j);
	len = cr->end - cr->start + 1;
	if (len > j->sj.ranges[0].len ||
	    (resp->has_length && resp->length != len))
		return refuse_several(j);
	r = cr->has_total ? learn(j, cr->total) : 0;
	return r < 0 ? r : accept_range(j, cr->start, len);
}

/* Whether a 416 says that all ranges lie behind the end, and may be right. */
static bool behind_end(const struct job *j, const struct http_resp *resp)
{
	const struct content_range *cr = &resp->range;

	return resp->has_range && cr->has_total && cr->total <= j->sj.off &&
	       (!j->b->size_known || cr->total == j->b->size);
}

/* A response to a request of several ranges. */
static int on_several(struct job *j, const struct http_resp *resp)
{
	if (resp->status == 206)
		return on_206_several(j, resp);
	if (resp->status == 416 && behind_end(j, resp))
		return on_416(j, resp);
	/* The place that was remembered may be no more. */
	if (resp->status == 403 || resp->status == 400)
		return j->cached_redirect ? 0 : refuse_several(j);
	return several_refused(resp->status) ? refuse_several(j) : 0;
}

int answer_headers(struct exch *x, const struct http_resp *resp)
{
	struct job *j = job_of(x);

	if (x->away && !j->cached_redirect &&
	    (resp->status == 200 || resp->status == 206))
		blob_redirect_set(j->b, j->host, x->url);
	if (j->several)
		return on_several(j, resp);
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

/* Bytes of the blob. */
static int take(struct job *j, const void *p, size_t n)
{
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
	left = j->in_parts ? j->sj.asked : end - j->sj.pos;
	if (!list_empty(&j->sj.pieces))
		return 0;
	/* Everybody has gone. */
	job_left(&j->sj, false);
	if (left <= DRAIN_BYTES)
		return 0;
	j->requeue = true;
	return -ECANCELED;
}

static int on_part(struct job *j)
{
	const struct content_range *cr = &j->parts.range;

	if (!is_right(j, cr) ||
	    !sched_job_part(&j->sj, cr->start, cr->end - cr->start + 1))
		return refuse_several(j);
	return cr->has_total ? learn(j, cr->total) : 0;
}

static int take_parts(struct job *j, const uint8_t *p, size_t n)
{
	int r = 0;

	while (n > 0 && r == 0) {
		const uint8_t *data = NULL;
		size_t n_data = 0;

		r = byteranges_next(&j->parts, &p, &n, &data, &n_data);
		if (r < 0)
			r = refuse_several(j);
		else if (r == BYTERANGES_PART)
			r = on_part(j);
		else if (r == BYTERANGES_DATA)
			r = take(j, data, n_data);
	}
	return r;
}

int answer_data(struct exch *x, const void *p, size_t n)
{
	struct job *j = job_of(x);

	return j->in_parts ? take_parts(j, p, n) : take(j, p, n);
}
