/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: one exchange with a host: a request with what it takes to get an answer,
 * that is authentication (renewed once) and redirects (at most five; neither
 * Authorization nor the configured headers go to another server; with a body
 * only those that say that the method stays). Retries and other hosts are the
 * caller's affair.
 */
#ifndef REGISTRY_EXCH_H
#define REGISTRY_EXCH_H

#include "common/base.h"
#include "common/err.h"
#include "common/loop.h"
#include "daemon/registry/auth.h"
#include "daemon/registry/http.h"

#define EXCH_REDIRECTS_MAX 5u
#define EXCH_DRAIN_BYTES_MAX KIB(64)
#define EXCH_RANGE_BYTES 704u /* 16 of two numbers of 64 bits */

struct exch;

/**
 * struct exch_end - how it ended
 * @code:	0: @status and its body are complete; else negative
 * @status:	of the final response, 0 where there was none
 * @retry_after_s: what the server asked for
 */
struct exch_end {
	int code;
	unsigned status;
	bool connect_failed;
	bool permanent;
	uint64_t retry_after_s;
	char text[ERR_TEXT_BYTES];
};

struct exch_ops {
	/* The final response: 1 the body is wanted, 0 not, < 0 end here. */
	int (*headers)(struct exch *x, const struct http_resp *r);
	/* HTTP_PAUSE: not taken, comes again after exch_resume(). */
	int (*data)(struct exch *x, const void *p, size_t n);
	/* May be NULL: n more bytes of the body were handed over. */
	void (*sent)(struct exch *x, size_t n);
	/* The exchange is over; it may be freed or started again. */
	void (*done)(struct exch *x, const struct exch_end *end);
};

/**
 * struct exch - zero-initialise, fill in the first part, exch_start()
 * @host:	outlives it, as do @ns and @repo
 * @repo:	NULL: no authentication
 * @away:	@url is a remembered redirect: not the host's own
 * @accept:	value of Accept, NULL for none
 * @push, @from: as in struct auth_scope
 * @body:	of POST, PUT and PATCH; borrowed
 * @content_type, @content_range: of @body, NULL for none
 * @patient:	as in struct http_opts
 */
struct exch {
	struct registry *g;
	const struct exch_ops *ops;
	const struct host *host;
	const char *ns;
	const char *repo;
	const char *accept;
	const char *from;
	bool push;
	bool away;
	bool bulk;
	bool patient;
	enum http_method method;
	struct http_body body;
	const char *content_type;
	const char *content_range;
	char range[EXCH_RANGE_BYTES];
	/* private; url may be read in headers() and done() */
	char *url;
	struct http_req *req;
	struct auth_wait wait;
	struct loop_timer start;
	unsigned gen;
	unsigned redirects;
	unsigned auth_tries;
	unsigned status;
	uint64_t retry_after_s;
	uint64_t drained;
	bool want_body;
	bool again; /* a redirect or a renewed token: send once more */
	char *next;
	bool next_away;
};

/* url: taken over. Return: 0; callbacks come later, errors included. */
void exch_start(struct exch *x, char *url);
/* Stops it, if it runs, with no callback; releases what it holds. */
void exch_stop(struct exch *x);
/* After HTTP_PAUSE; data() may be called before this returns. */
void exch_resume(struct exch *x);

/* What a bad status means to a person: ", not found" and the like, or "". */
const char *exch_status_words(unsigned status);
/* Whether a status means that trying again does not help. */
bool exch_status_permanent(unsigned status);

/* Turns a bad status into an error: -EACCES, -ENOENT or -EIO, a text that
 * names host, repository and status, and whether it is permanent. */
void exch_status_error(const struct exch *x, struct exch_end *end,
		       struct err *e);

#endif
