/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/grpc.h"

#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#define LOG_MOD "grpc"
#include "common/io.h"
#include "common/log.h"
#include "daemon/snapshotter/grpcmsg.h"
#include "daemon/snapshotter/h2.h"
#include "daemon/snapshotter/pool.h"

/* So much of a reply is worth waking the loop before its end. */
#define NEWS_BYTES KIB(64)
/* After so long without a call memory is given back: the pool's threads, each
 * of which keeps some, have gone by then. */
#define REST_NS (10 * NSEC_PER_SEC)

struct grpc {
	struct loop *loop;
	struct pool *pool;
	const struct grpc_method *methods;
	size_t n_methods;
	void *arg;

	/* loop thread only */
	struct h2 *h2;
	struct loop_io wake; /* eventfd: there is news */
	unsigned n_calls;
	struct loop_timer rest;
	struct loop_timer cut; /* of the shutdown */
	void (*done)(void *arg);
	void *done_arg;

	pthread_mutex_t lock;
	/* guarded by lock */
	pthread_cond_t room; /* in a queue, or its call is gone */
	struct list news;    /* calls that the loop should look at */
	size_t held;         /* bytes of requests and replies */
};

/* A message of the reply, behind its prefix. */
struct chunk {
	struct chunk *next;
	size_t len;
	size_t off;
	uint8_t p[];
};

/* What the headers of a request say. */
struct request {
	const struct grpc_method *method;
	bool post;
	bool content_type;
	bool timeout_bad;
	uint64_t timeout_ns; /* 0: none */
	char *path;          /* of a method that is not known */
};

struct grpc_call {
	struct h2_stream st; /* first */
	struct grpc *g;
	struct pool_job job;

	/* loop thread only, but while the method runs: it may read in */
	struct request rq;
	struct grpcmsg_in in;
	struct loop_timer deadline;
	uint64_t begun_ns;
	bool attached; /* the stream is there */
	bool running;  /* the method is queued or runs */
	bool replied;  /* headers are out */
	bool ended;    /* so are trailers, or will be: see code */
	bool failed;   /* by us, not by the method: code and why */
	enum grpc_code code;
	const char *why;

	/* guarded by g->lock */
	struct list news;
	bool noted; /* in g->news */
	bool gone;  /* nobody wants the reply */
	bool done;  /* the method has returned: result, e */
	struct chunk *head;
	struct chunk **tail;
	size_t queued; /* bytes */
	int result;
	struct err e;
};

static void lock(struct grpc *g)
{
	(void)pthread_mutex_lock(&g->lock);
}

static void unlock(struct grpc *g)
{
	(void)pthread_mutex_unlock(&g->lock);
}

/* ---- shared by the loop and the methods; with the lock held ---- */

/* Whether so many bytes more may be kept. */
static bool hold(struct grpc *g, size_t n)
{
	if (n > GRPC_HELD_BYTES_MAX - g->held)
		return false;
	g->held += n;
	return true;
}

/* Return: the eventfd is to be written. */
static bool note(struct grpc_call *c)
{
	bool first = list_empty(&c->g->news);

	if (c->noted)
		return false;
	c->noted = true;
	list_add(&c->g->news, &c->news);
	return first;
}

static void wake_loop(struct grpc *g)
{
	uint64_t one = 1;

	/* It fails only where the loop has not read 2^64 - 2 of them. */
	(void)!write(g->wake.fd, &one, sizeof(one));
}

static void drop_chunks(struct grpc_call *c)
{
	while (c->head != NULL) {
		struct chunk *k = c->head;

		c->head = k->next;
		free(k);
	}
	c->tail = &c->head;
	c->g->held -= c->queued;
	c->queued = 0;
}

static void give_up(struct grpc_call *c)
{
	lock(c->g);
	c->gone = true;
	drop_chunks(c);
	(void)pthread_cond_broadcast(&c->g->room);
	unlock(c->g);
}

/* ---- the method's side ---- */

/* Return: 0 there is room, -ECANCELED nobody reads. */
static int wait_room(struct grpc_call *c)
{
	uint64_t ns = io_now_ns() + GRPC_QUEUED_WAIT_MS_MAX * NSEC_PER_MSEC;
	struct timespec until = {
		.tv_sec = (time_t)(ns / NSEC_PER_SEC),
		.tv_nsec = (long)(ns % NSEC_PER_SEC),
	};
	int r = 0;

	while (c->queued > GRPC_QUEUED_BYTES_MAX && !c->gone && r == 0)
		r = pthread_cond_timedwait(&c->g->room, &c->g->lock, &until);
	return c->gone || r != 0 ? -ECANCELED : 0;
}

int grpc_reply(struct grpc_call *c, const void *msg, size_t len)
{
	struct chunk *k = NULL;
	bool wake = false;
	int r = len > UINT32_MAX ? -EOVERFLOW : 0;

	if (r == 0)
		k = malloc(sizeof(*k) + GRPC_PREFIX_BYTES + len);
	if (k == NULL)
		return r < 0 ? r : -ENOMEM;
	*k = (struct chunk){.len = GRPC_PREFIX_BYTES + len};
	grpcmsg_put_prefix(k->p, (uint32_t)len);
	if (len > 0)
		memcpy(k->p + GRPC_PREFIX_BYTES, msg, len);
	lock(c->g);
	r = wait_room(c);
	if (r == 0 && !hold(c->g, k->len))
		r = -ENOMEM;
	if (r == 0) {
		*c->tail = k;
		c->tail = &k->next;
		c->queued += k->len;
		wake = c->queued >= NEWS_BYTES && note(c);
		k = NULL;
	}
	unlock(c->g);
	free(k);
	if (wake)
		wake_loop(c->g);
	return r;
}

static int run_method(struct grpc_call *c, struct err *e)
{
	const uint8_t *msg = (const uint8_t *)c->in.body.p;

	return c->rq.method->fn(c->g->arg, c, msg, c->in.body.len, e);
}

static void on_job(struct pool_job *job)
{
	struct grpc_call *c = LIST_ENTRY(job, struct grpc_call, job);
	struct grpc *g = c->g;
	struct err e = {0};
	int r = -ECANCELED;
	bool gone, wake;

	lock(g);
	gone = c->gone;
	unlock(g);
	if (!gone)
		r = run_method(c, &e);
	lock(g);
	c->result = r;
	c->e = e;
	c->done = true;
	wake = note(c);
	unlock(g);
	/* From here on the call is the loop's. */
	if (wake)
		wake_loop(g);
}

/* ---- the loop's side ---- */

static void call_free(struct grpc_call *c)
{
	assert(!c->attached);
	assert(!c->running);
	lock(c->g);
	c->g->held -= c->in.body.len;
	drop_chunks(c);
	list_del(&c->news);
	unlock(c->g);
	loop_timer_clear(&c->deadline);
	buf_done(&c->in.body);
	free(c->rq.path);
	c->g->n_calls--;
	if (c->g->n_calls == 0)
		loop_timer_set(c->g->loop, &c->g->rest,
			       loop_now(c->g->loop) + REST_NS);
	free(c);
}

static void on_rest(struct loop_timer *t)
{
	if (LIST_ENTRY(t, struct grpc, rest)->n_calls == 0)
		(void)malloc_trim(0);
}

static void log_call(const struct grpc_call *c, enum grpc_code code,
		     const char *why)
{
	const char *path = c->rq.method != NULL ? c->rq.method->path
			   : c->rq.path != NULL ? c->rq.path
						: "";
	uint64_t now = io_now_ns(), us = (now - c->begun_ns) / 1000;
	bool trouble = code == GRPC_UNKNOWN || code == GRPC_UNAVAILABLE ||
		       code == GRPC_RESOURCE_EXHAUSTED ||
		       code == GRPC_DEADLINE_EXCEEDED;
	static struct log_limit limit;
	unsigned n = 0;

	/* What other codes are worth is the client's to say. */
	if (trouble && log_allow(&limit, now, &n))
		log_warn("msg=\"call failed: %s\" method=%s code=%u us=%" PRIu64
			 " suppressed=%u",
			 why, path, (unsigned)code, us, n);
	else
		log_debug("msg=\"call: %s\" method=%s code=%u us=%" PRIu64, why,
			  path, (unsigned)code, us);
}

/* grpc-status and grpc-message: trailers, or headers where there is no reply. */
static void send_status(struct grpc_call *c)
{
	enum grpc_code code =
		c->failed ? c->code : (enum grpc_code)grpc_status(c->result);
	const char *why = c->failed ? c->why : c->e.text;
	char digits[4];
	CLEANUP_FREE char *text = NULL;
	struct h2_header v[4] = {
		{":status", "200"},
		{"content-type", "application/grpc"},
		{"grpc-status", digits},
	};
	size_t n = 3;

	c->ended = true;
	if (!c->failed && c->result < 0 && why[0] == '\0')
		why = err_name(c->result);
	(void)snprintf(digits, sizeof(digits), "%u", (unsigned)code);
	/* Out of memory the code has to do. */
	if (code != GRPC_OK)
		text = grpcmsg_escape(why);
	if (text != NULL)
		v[n++] = (struct h2_header){"grpc-message", text};
	if (c->replied)
		h2_trailers(&c->st, v + 2, n - 2);
	else
		h2_respond(&c->st, v, n, false);
	log_call(c, code, why);
}

/* Sends what is there. */
static void progress(struct grpc_call *c, bool reply, bool done)
{
	static const struct h2_header headers[] = {
		{":status", "200"},
		{"content-type", "application/grpc"},
	};

	if (c->ended)
		return;
	if (c->replied) {
		h2_resume(&c->st);
	} else if (reply) {
		c->replied = true;
		h2_respond(&c->st, headers, ARRAY_SIZE(headers), true);
	} else if (done) {
		send_status(c);
	}
}

/* The call ends here, whatever the method does. */
static void fail(struct grpc_call *c, enum grpc_code code, const char *why)
{
	if (c->failed || c->ended)
		return;
	c->failed = true;
	c->code = code;
	c->why = why;
	loop_timer_clear(&c->deadline);
	give_up(c);
	progress(c, false, true);
}

/* A refusal that is not gRPC. */
static void fail_http(struct grpc_call *c, const char *status)
{
	const struct h2_header v[] = {{":status", status}};

	c->failed = true;
	c->ended = true;
	h2_respond(&c->st, v, ARRAY_SIZE(v), false);
}

static void on_deadline(struct loop_timer *t)
{
	struct grpc_call *c = LIST_ENTRY(t, struct grpc_call, deadline);

	fail(c, GRPC_DEADLINE_EXCEEDED, "the deadline has passed");
}

static void take_news(struct grpc *g)
{
	lock(g);
	while (!list_empty(&g->news)) {
		struct grpc_call *c =
			LIST_ENTRY(g->news.next, struct grpc_call, news);
		bool reply = c->head != NULL, done = c->done;

		list_del(&c->news);
		c->noted = false;
		unlock(g);
		if (done)
			c->running = false;
		if (c->attached)
			progress(c, reply, done);
		else if (done)
			call_free(c);
		lock(g);
	}
	unlock(g);
}

static void on_wake(struct loop_io *io, uint32_t events)
{
	uint64_t count;

	(void)events;
	(void)!read(io->fd, &count, sizeof(count));
	take_news(LIST_ENTRY(io, struct grpc, wake));
}

static void dispatch(struct grpc_call *c)
{
	struct grpc *g = c->g;

	if (c->rq.method->quick || g->pool == NULL) {
		c->result = run_method(c, &c->e);
		c->done = true;
		progress(c, c->head != NULL, true);
		return;
	}
	c->running = true;
	c->job.fn = on_job;
	if (pool_run(g->pool, &c->job) < 0) {
		c->running = false;
		fail(c, GRPC_RESOURCE_EXHAUSTED, "no thread can be made");
	}
}

/* ---- what the connection tells ---- */

static struct grpc_call *call_of(struct h2_stream *s)
{
	return (struct grpc_call *)(void *)s;
}

static struct h2_stream *on_open(void *arg)
{
	struct grpc *g = arg;
	struct grpc_call *c;

	if (g->n_calls >= GRPC_CALLS_MAX)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return NULL;
	c->g = g;
	c->attached = true;
	c->begun_ns = io_now_ns();
	c->deadline.fn = on_deadline;
	c->in.body = BUF_INIT(GRPC_MESSAGE_BYTES_MAX);
	c->tail = &c->head;
	list_init(&c->news);
	g->n_calls++;
	return &c->st;
}

static void on_header(struct h2_stream *s, const char *name, const char *value)
{
	struct grpc_call *c = call_of(s);
	struct request *rq = &c->rq;

	if (strcmp(name, ":method") == 0) {
		rq->post = strcmp(value, "POST") == 0;
	} else if (strcmp(name, "content-type") == 0) {
		rq->content_type = grpcmsg_content_type(value);
	} else if (strcmp(name, "grpc-timeout") == 0) {
		rq->timeout_bad = grpcmsg_timeout(value, &rq->timeout_ns) < 0;
		/* 0 is none here, and as good as nothing there. */
		rq->timeout_ns = MAX(rq->timeout_ns, UINT64_C(1));
	} else if (strcmp(name, ":path") == 0) {
		for (size_t i = 0; i < c->g->n_methods; i++) {
			if (strcmp(value, c->g->methods[i].path) == 0)
				rq->method = &c->g->methods[i];
		}
		if (rq->method == NULL)
			rq->path = strdup(value);
	}
}

static void on_headers(struct h2_stream *s)
{
	struct grpc_call *c = call_of(s);
	const struct request *rq = &c->rq;

	if (!rq->post) {
		fail_http(c, "405");
	} else if (!rq->content_type) {
		fail_http(c, "415");
	} else if (rq->method == NULL) {
		fail(c, GRPC_UNIMPLEMENTED, "unknown method");
	} else if (rq->timeout_bad) {
		fail(c, GRPC_INTERNAL, "malformed grpc-timeout");
	} else if (rq->timeout_ns > 0) {
		loop_timer_set(c->g->loop, &c->deadline,
			       c->begun_ns + rq->timeout_ns);
	}
}

static void on_data(struct h2_stream *s, const uint8_t *p, size_t n)
{
	struct grpc_call *c = call_of(s);
	size_t before = c->in.body.len;
	enum grpc_code code;
	const char *why;
	bool held;

	if (c->failed || c->ended)
		return;
	code = grpcmsg_add(&c->in, p, n, &why);
	if (code != GRPC_OK) {
		fail(c, code, why);
		return;
	}
	n = c->in.body.len - before;
	lock(c->g);
	held = hold(c->g, n);
	unlock(c->g);
	if (held)
		return;
	c->in.body.len = before;
	fail(c, GRPC_RESOURCE_EXHAUSTED, "too many requests at once");
}

static void on_end(struct h2_stream *s)
{
	struct grpc_call *c = call_of(s);
	enum grpc_code code;
	const char *why;

	if (c->failed || c->ended)
		return;
	code = grpcmsg_end(&c->in, &why);
	if (code == GRPC_OK)
		dispatch(c);
	else
		fail(c, code, why);
}

static size_t on_body(struct h2_stream *s, uint8_t *to, size_t n, bool *ret_end)
{
	struct grpc_call *c = call_of(s);
	size_t used = 0;
	bool done;

	lock(c->g);
	while (used < n && c->head != NULL) {
		struct chunk *k = c->head;
		size_t part = MIN(n - used, k->len - k->off);

		memcpy(to + used, k->p + k->off, part);
		used += part;
		k->off += part;
		if (k->off < k->len)
			break;
		c->head = k->next;
		if (c->head == NULL)
			c->tail = &c->head;
		c->queued -= k->len;
		c->g->held -= k->len;
		free(k);
		(void)pthread_cond_broadcast(&c->g->room);
	}
	done = c->failed || (c->done && c->head == NULL);
	unlock(c->g);
	if (done) {
		send_status(c);
		*ret_end = true;
	}
	return used;
}

static void on_closed(struct h2_stream *s)
{
	struct grpc_call *c = call_of(s);

	c->attached = false;
	loop_timer_clear(&c->deadline);
	if (c->running)
		give_up(c);
	else
		call_free(c);
}

static void finish(struct grpc *g)
{
	void (*done)(void *arg) = g->done;

	loop_timer_clear(&g->cut);
	g->done = NULL;
	if (done != NULL)
		done(g->done_arg);
}

static void on_idle(void *arg)
{
	finish(arg);
}

/* ---- the server ---- */

static const struct h2_ops ops = {
	.open = on_open,
	.header = on_header,
	.headers = on_headers,
	.data = on_data,
	.end = on_end,
	.body = on_body,
	.closed = on_closed,
	.idle = on_idle,
};

static void on_cut(struct loop_timer *t)
{
	struct grpc *g = LIST_ENTRY(t, struct grpc, cut);

	if (h2_n_conns(g->h2) > 0)
		log_warn("msg=\"clients are cut off\" clients=%u calls=%u",
			 h2_n_conns(g->h2), g->n_calls);
	h2_close_all(g->h2);
	finish(g);
}

void grpc_shutdown(struct grpc *g, unsigned timeout_ms, void (*done)(void *arg),
		   void *arg)
{
	g->done = done;
	g->done_arg = arg;
	h2_drain(g->h2);
	if (h2_n_conns(g->h2) == 0)
		timeout_ms = 0;
	loop_timer_set(g->loop, &g->cut,
		       loop_now(g->loop) + timeout_ms * NSEC_PER_MSEC);
}

struct h2 *grpc_h2(struct grpc *g)
{
	return g->h2;
}

int grpc_new(struct grpc **ret, struct loop *loop, struct pool *pool,
	     int listen_fd, const struct grpc_method *methods, size_t n,
	     void *arg, struct err *e)
{
	struct grpc *g = calloc(1, sizeof(*g));
	pthread_condattr_t ca;
	int r = 0;

	if (g == NULL)
		return err_no_memory(e);
	g->loop = loop;
	g->pool = pool;
	g->methods = methods;
	g->n_methods = n;
	g->arg = arg;
	g->rest.fn = on_rest;
	g->cut.fn = on_cut;
	list_init(&g->news);
	/* None of these fails on Linux. */
	(void)pthread_condattr_init(&ca);
	(void)pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&g->room, &ca);
	(void)pthread_condattr_destroy(&ca);
	(void)pthread_mutex_init(&g->lock, NULL);
	g->wake.fn = on_wake;
	g->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (g->wake.fd < 0)
		r = -errno;
	if (r == 0)
		r = loop_io_add(loop, &g->wake, EPOLLIN);
	if (r < 0)
		r = err_set(e, r, "eventfd: %s", err_name(r));
	else
		r = h2_new(&g->h2, loop, listen_fd, GRPC_CONNECTIONS_MAX,
			   GRPC_STREAMS_MAX, &ops, g, e);
	if (r < 0) {
		grpc_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

void grpc_free(struct grpc *g)
{
	if (g == NULL)
		return;
	g->done = NULL;
	h2_free(g->h2);
	/* Calls that ended after their clients did. */
	take_news(g);
	assert(g->n_calls == 0);
	if (g->wake.fd >= 0) {
		loop_io_del(g->loop, &g->wake);
		(void)close(g->wake.fd);
	}
	loop_timer_clear(&g->rest);
	loop_timer_clear(&g->cut);
	(void)pthread_mutex_destroy(&g->lock);
	(void)pthread_cond_destroy(&g->room);
	free(g);
}
