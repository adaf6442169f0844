/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: which bytes are asked for next. Pure: no socket, no clock.
 *
 * A client's READ becomes one to four *pieces*, each a range of one blob. The
 * scheduler turns queued pieces into *jobs*, each one range request:
 *   - demand before prefetch before background, over all blobs; a lower class
 *     may not use the last connections of a host, so demand never waits for
 *     it;
 *   - fair inside a class: the blob that got the fewest bytes is next; but of
 *     prefetch, the ends of blobs come first, because mounts wait for them,
 *     and then what has a rank, in that order over all blobs;
 *   - pieces that touch, or lie at most SCHED_GAP_BYTES apart, share a job; those
 *     with a rank that are as near as they say, or, of a host that takes requests of several
 *     ranges, those with the next ranks, wherever they lie;
 *   - a piece that a running job will soon pass is served by that job;
 *   - a host has at most max jobs running, one while it is on probation, and
 *     none before its not_before_ns;
 *   - what nobody waits for is asked for as the link brings it (pace.h), so
 *     that demand finds it nearly free; of what has a rank at least
 *     SCHED_RANKED_BYTES_MIN;
 *   - background is paced by a token bucket as well, and waits while anything
 *     else is fetched from its host, because what starts up needs all of the
 *     link; until SCHED_QUIET_NS after that it gets one small job each
 *     SCHED_QUIET_STEP_NS.
 * A blob whose server ignores ranges (sched_job_whole()) gets one job at a
 * time, which serves whatever piece it passes.
 *
 * The pieces of a job receive its bytes through sched_job_data(). A job that
 * ends hands what is left of its pieces back to the caller, which adds them
 * again or fails them.
 */
#ifndef FETCHER_SCHED_H
#define FETCHER_SCHED_H

#include "common/base.h"
#include "common/list.h"
#include "common/proto.h"
#include "daemon/fetcher/pace.h"

struct breaker;

#define SCHED_GAP_BYTES KIB(64)
#define SCHED_JOB_BYTES_MAX MIB(8)  /* of merged pieces */
#define SCHED_JOIN_BYTES_MAX MIB(1) /* how far ahead of a job demand waits */
#define SCHED_SPLIT_MAX 4u
#define SCHED_PACED_BYTES_MAX MIB(1) /* one background job under a limit */
#define SCHED_QUIET_NS (500 * NSEC_PER_MSEC)
#define SCHED_QUIET_STEP_NS (125 * NSEC_PER_MSEC)
#define SCHED_QUIET_BYTES_MAX KIB(256) /* one background job meanwhile */
#define SCHED_JOB_PIECES_MAX 64u
#define SCHED_SUFFIX_BYTES KIB(256)   /* of a blob's end, at most, is paced */
#define SCHED_RANKED_BYTES_MIN MIB(1) /* under way, whatever the pace */
#define SCHED_RANGES_MAX 16u          /* of one request */
#define SCHED_SEVERAL_BYTES_MAX KIB(256) /* of them: they come one by one */
#define SCHED_SEVERAL_RANKS_MAX 1024u    /* between them */
/* What lies between two parts and is no longer than what a part begins with;
 * a server may leave that out and send one part. */
#define SCHED_SEVERAL_GAP_BYTES 128u

/* Whether a host takes requests of several ranges. */
enum sched_several {
	SCHED_SEVERAL_UNKNOWN,
	SCHED_SEVERAL_ASKED, /* somebody is finding out */
	SCHED_SEVERAL_YES,
	SCHED_SEVERAL_NO
};

/**
 * struct sched_host - what is known of a host's patience
 * @breaker:	of its origin
 * @max:	jobs at the same time
 * @quiet_until_ns: demand or prefetch was fetched: background keeps quiet
 * @step_ns: the next background job until then
 * @still_until_ns: no background: something starts up by a trace
 */
struct sched_host {
	const struct breaker *breaker;
	enum sched_several several;
	struct pace pace;
	unsigned running;
	unsigned running_bg;
	unsigned max;
	uint64_t quiet_until_ns;
	uint64_t step_ns;
	uint64_t still_until_ns;
};

struct sched_blob {
	struct sched_host *host;
	bool whole; /* the server ignores ranges */
	/* private */
	struct list queued[PROTO_CLASS_N_];
	uint64_t served[PROTO_CLASS_N_];
	struct list jobs;
	struct list node; /* in sched.active while a piece is queued */
};

struct sched_job;

/**
 * struct sched_piece - a range somebody waits for
 * @off:	first byte; moves nowhere while the piece lives
 * @len:	bytes wanted
 * @got:	bytes delivered, from @off on
 * @rank:	of prefetch: the smaller the sooner; 0: none
 * @gap:	with a rank: bytes between it and what shares its job, at most
 * @suffix:	the last @len bytes; @off is not known yet
 * @alone:	not to be merged (a part of a split READ)
 * @avoid:	sources not to ask, one bit each, the caller's meaning; pieces
 *		are merged only where it is equal
 * @not_before_ns: back-off
 */
struct sched_piece {
	struct sched_blob *blob;
	uint64_t off;
	uint64_t len;
	uint64_t got;
	uint64_t not_before_ns;
	uint32_t avoid;
	uint32_t rank;
	uint32_t gap;
	enum proto_class class_;
	bool suffix;
	bool alone;
	/* private */
	struct sched_job *job;
	struct list node;
};

/* Bytes [off, off + len) of a blob. */
struct sched_range {
	uint64_t off;
	uint64_t len;
};

/**
 * struct sched_job - one request
 * @ranges:	[@n_ranges] ascending, apart; @n_ranges is 0 where one range is
 *		asked for, or is what came: [@off, @off + @len)
 * @pos:	next byte of the blob to arrive
 * @len:	bytes from @off on, UINT64_MAX for the whole blob
 * @asked:	bytes of it that count in the host's pace
 * @start_ns:	0: the first byte is here
 */
struct sched_job {
	struct sched_blob *blob;
	struct sched_host *host;
	enum proto_class class_;
	bool suffix;
	bool whole;
	uint32_t avoid;
	uint64_t off;
	uint64_t len;
	uint64_t pos;
	uint64_t asked;
	uint64_t start_ns;
	struct sched_range ranges[SCHED_RANGES_MAX];
	unsigned n_ranges;
	struct list pieces;
	struct list node; /* in blob->jobs */
};

struct sched {
	struct list active;
	uint64_t vtime[PROTO_CLASS_N_];
	uint64_t bg_rate; /* bytes a second, 0: no limit */
	int64_t bg_tokens;
	uint64_t bg_last_ns;
};

void sched_init(struct sched *s, uint64_t bg_bytes_per_s);
void sched_blob_init(struct sched_blob *b, struct sched_host *host);

/**
 * sched_split() - into how many parts a READ is fetched
 * @ret_len:	[SCHED_SPLIT_MAX] receives their lengths
 *
 * Return: number of parts, 1 to SCHED_SPLIT_MAX
 */
unsigned sched_split(uint64_t len, enum proto_class class_, uint64_t *ret_len);

/* Queues a piece, or lets a running job serve it. @p->len > @p->got, and it
 * was zero-initialised before its first use. */
void sched_add(struct sched *s, struct sched_piece *p);
/* Forgets a piece, queued, running or neither. */
void sched_remove(struct sched *s, struct sched_piece *p);
void sched_set_class(struct sched *s, struct sched_piece *p,
		     enum proto_class class_);
static inline bool sched_piece_done(const struct sched_piece *p)
{
	return !p->suffix && p->got >= p->len;
}

/**
 * sched_next() - the next job to start
 * @ret:	filled in when there is one; it counts as running from now on
 * @ret_wake_ns: when to ask again although nothing else has happened,
 *		UINT64_MAX: not needed
 */
bool sched_next(struct sched *s, uint64_t now_ns, struct sched_job *ret,
		uint64_t *ret_wake_ns);

/**
 * sched_job_range() - the response says what it carries
 *
 * For a suffix job this is where its offset becomes known; its piece gets
 * off and len. Otherwise off must be the job's.
 */
void sched_job_range(struct sched_job *j, uint64_t off, uint64_t len);

/* The response to a job of several ranges goes on with a part. False: it is not
 * what a range that is still to come begins with. */
bool sched_job_part(struct sched_job *j, uint64_t off, uint64_t len);

/* The response is the whole blob: take over all queued pieces of it. False
 * where another such job runs already (the caller ends this one). */
bool sched_job_whole(struct sched *s, struct sched_job *j);

/**
 * sched_job_data() - bytes [@j->pos, @j->pos + n) have arrived
 * @deliver:	called for every piece that wants some of them: [@n] bytes for
 *		offset @at of the piece; its got is moved on already. It may
 *		remove any piece of this job but must not end the job.
 *
 * Pieces that are complete leave the job.
 */
void sched_job_data(struct sched_job *j, const void *data, size_t n,
		    uint64_t now_ns,
		    void (*deliver)(struct sched_piece *p, uint64_t at,
				    const void *data, size_t n));

/* Ends a job; pieces not complete are moved to @left. */
void sched_job_end(struct sched_job *j, uint64_t now_ns, struct list *left);
/* As if demand had just been fetched from the host. */
void sched_keep_quiet(struct sched_host *h, uint64_t now_ns);

#endif
