/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what the response to a job means, and where its bytes go.
 *
 * What a response can be:
 *   206   checked against what was asked; a part of it is accepted
 *   200   the whole blob: taken if that is what was wanted, else the server
 *         ignores ranges: the one response is spooled (blob.h); where that
 *         cannot be, it serves whatever pieces it passes
 *   416   the blob ends before the range; its size may be told
 *   else  an error: for good (next host, then the read fails), or for now
 *         (next host, back-off, until the read's deadline)
 *
 * To a request of several ranges it is a 206 whose body has one part for each,
 * in their order (byteranges.h). A host that answers in any other way is asked
 * for one range at a time from then on, and at once for what is still missing.
 */
#ifndef FETCHER_ANSWER_H
#define FETCHER_ANSWER_H

#include "daemon/fetcher/blob.h"
#include "daemon/registry/byteranges.h"
#include "daemon/registry/exch.h"

/* Private to job.c and answer.c. */
struct job {
	struct sched_job sj; /* first */
	struct exch x;
	struct blob *b;
	struct list node; /* in b->jobs */
	size_t host;
	enum size_how how; /* SIZE_PROBE, SIZE_HEAD: only asks the size */
	bool several;      /* ranges were asked for */
	bool accepted;
	bool cached_redirect;
	bool requeue;  /* ended by us: ask in another way */
	bool eof;      /* 416: there is nothing there */
	bool late;     /* a reader has given up waiting for it */
	bool in_parts; /* the body has them: @parts */
	struct byteranges parts;
	uint64_t first; /* pos where the body began */
	struct err why; /* what is wrong with the response */
	bool drained;   /* nobody waits for it: it ends at @over */
	struct loop_timer over;
};

static inline struct job *job_of(struct exch *x)
{
	return LIST_ENTRY(x, struct job, x);
}

static inline struct read_piece *read_piece_of(struct list *n)
{
	return LIST_ENTRY(n, struct read_piece, sp.node);
}

/* The callbacks of struct exch_ops. */
int answer_headers(struct exch *x, const struct http_resp *resp);
int answer_data(struct exch *x, const void *p, size_t n);

/* The job's host does not take requests of several ranges. */
void answer_no_several(struct job *j);

#endif
