/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: blobs and the reads of them.
 *
 * A blob is shared by all clients that opened it. A read is one READ of a
 * client; it is served in one of two ways:
 *   - from the network: its pieces are in the scheduler (job.c);
 *   - locally: the blob is a descriptor the client passed, or a spool: what a
 *     server that ignores Range sent, kept in an unnamed file so that it is
 *     asked only once. A local read copies what is there and waits for more.
 */
#ifndef FETCHER_BLOB_H
#define FETCHER_BLOB_H

#include "common/base.h"
#include "common/err.h"
#include "common/list.h"
#include "common/loop.h"
#include "common/proto.h"
#include "daemon/fetcher/fetchd.h"
#include "daemon/fetcher/sched.h"

struct hosts;
struct job;
struct warm;

#define BLOB_IDLE_MAX 64u
#define BLOB_FINISH_BYTES MIB(64)
#define BLOB_REDIRECT_NS (600 * NSEC_PER_SEC)
#define BLOB_SOFT_NS (10 * NSEC_PER_SEC)
#define BLOB_REFUSED_NS (60 * NSEC_PER_SEC)

/* How the size of a blob is asked for when nobody told it, in this order. */
enum size_how {
	SIZE_SUFFIX,
	SIZE_PROBE,
	SIZE_HEAD,
	SIZE_UNKNOWABLE
};

/**
 * struct blob - content that can be read
 * @name:	what the client called it; the digest or the URL too
 * @size:	as a server said, if @size_known
 * @fd:		local content, -1 where there is none
 * @fd_have:	bytes of it that are there
 * @fd_whole:	all are
 * @spooler:	the job that fills it
 * @soft_ns:	[hosts->n] a host that failed is asked last until then
 * @warm:	its end in memory, or on its way there (warm.h); NULL
 * @plays:	traces that are followed for it (play.h)
 * @stand_in:	the same content by another name, which is asked until
 *		@refused_until_ns; counted; NULL
 * @redirect:	where host number @redirect_host sent us, NULL
 */
struct blob {
	struct sched_blob sb; /* first */
	struct fetchd *d;
	struct list node; /* in d->blobs */
	struct list idle; /* in d->idle_blobs while refs is 0 */
	unsigned refs;
	enum proto_blob_kind kind;
	bool plain_http;
	char *name;
	struct hosts *hosts;
	char *repo;
	char *digest;
	bool size_known;
	uint64_t size;
	enum size_how size_how;
	int fd;
	bool fd_whole;
	bool no_spool;
	uint64_t fd_have;
	struct job *spooler;
	struct list locals; /* reads that are served locally */
	struct loop_task local_task;
	struct list jobs; /* all that run for it */
	uint64_t *soft_ns;
	size_t last_host;
	struct warm *warm;
	struct list plays;
	struct blob *stand_in;
	uint64_t refused_until_ns;
	char *redirect;
	size_t redirect_host;
	uint64_t redirect_until_ns;
};

struct read;

/**
 * struct read_piece - a part of a read in the scheduler
 * @tries:	failures in a row
 */
struct read_piece {
	struct sched_piece sp; /* first */
	struct read *read;
	unsigned tries;
};

/**
 * struct read - one READ; zero-initialise, fill in the first part
 * @dst:	[@len]
 * @off:	of the first byte; unknown while @suffix
 * @suffix:	the last @len bytes
 * @rank:	of the class prefetch: its place in a trace; 0: in none
 * @gap:	with a rank: how far its neighbours in a request may be
 * @other_source: what came was wrong: not of a trace's data, nor of a request that
 *		is under way
 * @hint:	nobody waits: it fails early, and is not counted
 * @expect_size: of the blob, 0 where not known
 * @progress:	more bytes are there (@got)
 * @done:	all are, or it failed; it may be freed by this
 */
struct read {
	struct blob *blob;
	uint8_t *dst;
	uint64_t off;
	uint64_t len;
	uint64_t expect_size;
	uint64_t deadline_ns;
	enum proto_class class_;
	uint32_t rank;
	uint32_t gap;
	bool suffix;
	bool other_source;
	bool one; /* not to be split */
	bool hint;
	void (*progress)(struct read *r);
	void (*done)(struct read *r, int code, const char *text);
	/* private, but for got */
	uint64_t got;
	uint64_t held; /* of the end: there already */
	bool local;
	bool running;
	struct list node; /* in blob->locals, or waiting: warm.h, play.h */
	struct loop_timer deadline;
	unsigned n_pieces;
	struct read_piece pieces[SCHED_SPLIT_MAX];
	struct err last;
};

/**
 * blob_open() - the blob a client means, made or found
 * @fd:		for PROTO_BLOB_FD, taken over in any case; else -1
 *
 * Asks nothing of the network. Return: 0, -EBADMSG, -EOPNOTSUPP, -ENOMEM, …
 */
int blob_open(struct fetchd *d, enum proto_blob_kind kind, const char *name,
	      bool plain_http, int fd, struct blob **ret, struct err *e);
/* Drops a reference; some unused blobs are remembered for their redirects. */
void blob_unref(struct blob *b);
void blob_free(struct blob *b);

/* A server told the size. False: it told another one before. */
bool blob_learn_size(struct blob *b, uint64_t size);
/* The host to ask, not one of the set refused; hosts->n: none is left. */
size_t blob_pick_host(struct blob *b, uint32_t refused);
/* No host of it is reached at present. */
bool blob_is_down(const struct blob *b);
void blob_redirect_set(struct blob *b, size_t host, const char *url);
void blob_redirect_drop(struct blob *b);

void read_start(struct read *r);
/* Goes on after waiting. @join: a request that is under way may serve it. */
void read_go_on(struct read *r, bool join);
/**
 * read_elsewhere() - no host has anything for a read: ask by another name
 *
 * Of the names by which clients have blobs of the same digest open. (What a
 * client gets by that he could read through the other's mount as well: equal
 * layers share it.)
 * Return: false: there is none
 */
bool read_elsewhere(struct read *r);
/* Applies what is known of the size. False: the read is over by that. */
bool read_fit(struct read *r);
/* Stops it, with no callback. */
void read_stop(struct read *r);
void read_set_class(struct read *r, enum proto_class class_);
/* Ends it with an error; it may be freed by this. */
void read_fail(struct read *r, int code, const char *text);
/* Moves got on after a piece got more; ends the read when it is complete. */
void read_advance(struct read *r);
/* Nothing follows the bytes that piece p has: the blob ends there. */
void read_piece_eof(struct read_piece *p);

/* Serves from blob->fd from now on, or no longer. */
void read_go_local(struct read *r);
void read_go_network(struct read *r, uint64_t not_before_ns);
/* Throws the spool away; what waits for it goes back to the network. */
void blob_spool_drop(struct blob *b, uint64_t not_before_ns);
/* There is more in blob->fd than before. */
void blob_local_kick(struct blob *b);

/* job.c: asks the scheduler and starts what it says. */
void job_dispatch(struct fetchd *d);
void job_dispatch_soon(struct fetchd *d);
/* Somebody does not wait for the job any more: what nobody waits for soon ends,
 * and what let a deadline pass (@late) at once: the others' pieces are asked for anew. */
void job_left(struct sched_job *sj, bool late);
/* Stops all jobs of a blob that nobody reads. */
void job_stop_all(struct blob *b);

#endif
