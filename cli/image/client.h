/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: blocking calls to a registry. A client is a loop with all it takes to
 * speak to the hosts of one registry; it runs on the thread that calls, and
 * only while it calls. Clients are kept in a pool, so that who reads several
 * blobs at a time has a client for each, whose connections and tokens serve
 * the next one, too.
 *
 * A call is tried again after a while where that may help: on the other hosts
 * first (pulling), then CLIENT_TRIES_MAX times in all.
 */
#ifndef CLI_IMAGE_CLIENT_H
#define CLI_IMAGE_CLIENT_H

#include <pthread.h>

#include "cli/image/image.h"
#include "common/loop.h"
#include "daemon/registry/exch.h"
#include "daemon/registry/registry.h"

#define CLIENT_TRIES_MAX 6u

struct hosts;

/**
 * struct clients - pool
 * @lock:	guards @idle, which clients stay in between their uses
 */
struct clients {
	char *ns; /* the registry, as in image references */
	char *repo;
	char *hosts_dir;
	char *docker_config;
	bool plain_http;
	pthread_mutex_t lock;
	struct client *idle;
};

/**
 * struct client - used by one thread at a time
 * @hosts:	of the registry, as hosts.toml has them
 */
struct client {
	struct clients *all;
	struct loop *loop;
	struct registry reg;
	struct hosts *hosts;
	struct loop_timer timer;
	struct client *next;
};

/* Return: 0, -ENOMEM; clients_done() in either case. */
int clients_init(struct clients *p, const struct oci_ref *ref,
		 const struct image_opts *o, struct err *e);
/* All clients were given back. */
void clients_done(struct clients *p);

/* Runs the loop until a callback stops it. */
int client_turn(struct client *c, struct err *e);
/* Waits before try number @tries (from 1 on) of something. */
int client_wait(struct client *c, unsigned tries, uint64_t retry_after_s,
		struct err *e);

/**
 * struct call - one request and its answer, or several, one after the other
 * @x:		method, accept, range, body and so on are the caller's
 * @host:	number in @c->hosts
 * @away:	the URL is of another server: no Authorization
 * @reply:	body of the answer; its maximum is the caller's, 0: REPLY_BYTES_MAX
 * @sent:	may be NULL: @n more bytes of the body were handed over
 * @headers, @data: may be NULL: like those of struct exch_ops, for answers with
 *		status 200 and 206; such bodies do not go into @reply. Where
 *		they return < 0, they have set @why, static text, or @enough
 *
 * Afterwards @end.status and @resp say what was answered.
 */
struct call {
	struct exch x; /* first */
	struct client *c;
	size_t host;
	bool away;
	struct buf reply;
	void (*sent)(void *arg, size_t n);
	int (*headers)(void *arg, const struct http_resp *r);
	int (*data)(void *arg, const void *p, size_t n);
	void *arg;
	/* the answer */
	struct exch_end end;
	struct http_resp resp;
	bool running;
	bool streaming;  /* the body goes to data() */
	bool enough;     /* data() has seen all that it wants */
	const char *why; /* the answer is none of what was asked for */
};

/* Takes a client for a call, of which all but what is asked is zero. Context:
 * any thread. Return: 0, what hosts_load() returns; call_done() in either case */
int call_open(struct call *q, struct clients *p, struct err *e);
/* Stops it, and gives the client back. */
void call_done(struct call *q);
#define CLEANUP_CALL CLEANUP(call_done)

/* Begins a call, of which nothing runs; url is taken over, NULL: -ENOMEM. */
int call_start(struct call *q, char *url, struct err *e);
/* A call to its end, whatever that is. Return: 0, -ENOMEM, -errno of the loop */
int call_run(struct call *q, char *url, struct err *e);

static inline bool call_ok(const struct call *q)
{
	return q->enough || (q->end.code == 0 && q->end.status >= 200 &&
			     q->end.status < 300);
}
/* Whether it may help to try again. */
bool call_transient(const struct call *q);

/* What went wrong, as a line: "HOST/REPO: what: status …". Return: its code:
 * -EACCES (401, 403), -ENOENT (404, 410), -EIO, … */
int call_error(const struct call *q, const char *what, struct err *e);

/**
 * call_pull() - GET from the first host that has it
 * @q:		its @x has accept, range
 * @what:	"manifests", "blobs", "referrers"
 * @want:	of the body, NULL where not known: a host with another one does
 *		not have it
 *
 * Return: 0 (status 200 or 206, the body is in @q->reply), as call_error(),
 * -EBADMSG (@want)
 */
int call_pull(struct call *q, const char *what, const char *name,
	      const struct digest *want, struct err *e);

/* Whether a host may be asked for such a thing: by name or by digest. */
bool call_may_pull(const struct client *c, size_t host, const char *what,
		   const char *name);

/* Appends a parameter, escaped, to a heap URL. Return: 0, -ENOMEM (the URL is
 * freed and NULL) */
int url_add(char **url, const char *key, const char *value);

#endif
