/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/image/client.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/io.h"
#include "common/limits.h"
#include "daemon/registry/hosts.h"
#include "daemon/registry/reply.h"

/* ---- clients ---- */

static char *copy(const char *s)
{
	return s != NULL ? strdup(s) : NULL;
}

int clients_init(struct clients *p, const struct oci_ref *ref,
		 const struct image_opts *o, struct err *e)
{
	const char *dir =
		o->hosts_dir != NULL ? o->hosts_dir : REGISTRY_HOSTS_DIR;

	*p = (struct clients){
		.ns = strdup(ref->host),
		.repo = strdup(ref->repo),
		.hosts_dir = strdup(dir),
		.docker_config = copy(o->docker_config),
		.plain_http = o->plain_http,
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	if (p->ns == NULL || p->repo == NULL || p->hosts_dir == NULL ||
	    (p->docker_config == NULL && o->docker_config != NULL))
		return err_no_memory(e);
	return 0;
}

static void client_free(struct client *c)
{
	hosts_free(c->hosts);
	registry_done(&c->reg);
	loop_free(c->loop);
	free(c);
}

void clients_done(struct clients *p)
{
	while (p->idle != NULL) {
		struct client *c = p->idle;

		p->idle = c->next;
		client_free(c);
	}
	free(p->ns);
	free(p->repo);
	free(p->hosts_dir);
	free(p->docker_config);
}

static void on_timer(struct loop_timer *t)
{
	loop_stop(LIST_ENTRY(t, struct client, timer)->loop);
}

static int client_new(struct clients *p, struct client **ret, struct err *e)
{
	const struct registry_settings set = {
		.agent = "estargz",
		.hosts_dir = p->hosts_dir,
		.docker_config = p->docker_config,
		.connect_timeout_ms = REGISTRY_CONNECT_TIMEOUT_MS,
		.stall_timeout_s = REGISTRY_STALL_TIMEOUT_S,
	};
	struct client *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (c == NULL)
		return err_no_memory(e);
	c->all = p;
	c->timer.fn = on_timer;
	c->loop = loop_new();
	if (c->loop != NULL)
		r = registry_init(&c->reg, c->loop, &set);
	if (r < 0)
		err_set(e, r, "cannot set up HTTP");
	else
		r = hosts_load(&c->reg, p->ns, p->plain_http, &c->hosts, e);
	if (r < 0) {
		client_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

static int client_get(struct clients *p, struct client **ret, struct err *e)
{
	struct client *c;

	(void)pthread_mutex_lock(&p->lock);
	c = p->idle;
	if (c != NULL)
		p->idle = c->next;
	(void)pthread_mutex_unlock(&p->lock);
	if (c == NULL)
		return client_new(p, ret, e);
	*ret = c;
	return 0;
}

static void client_put(struct client *c)
{
	struct clients *p = c->all;

	(void)pthread_mutex_lock(&p->lock);
	c->next = p->idle;
	p->idle = c;
	(void)pthread_mutex_unlock(&p->lock);
}

/* TLS writes to sockets whose other end may be gone. */
int client_turn(struct client *c, struct err *e)
{
	const struct timespec now = {0};
	sigset_t set, old;
	int r;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGPIPE);
	(void)pthread_sigmask(SIG_BLOCK, &set, &old);
	r = loop_run(c->loop);
	if (sigismember(&old, SIGPIPE) == 0) {
		(void)sigtimedwait(&set, NULL, &now);
		(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	return r < 0 ? err_set(e, r, "event loop: %s", err_name(r)) : 0;
}

int client_wait(struct client *c, unsigned tries, uint64_t retry_after_s,
		struct err *e)
{
	uint64_t until =
		io_now_ns() + registry_backoff_ns(tries + 1, retry_after_s);
	int r = 0;

	while (r == 0 && io_now_ns() < until) {
		loop_timer_set(c->loop, &c->timer, until);
		r = client_turn(c, e);
	}
	loop_timer_clear(&c->timer);
	return r;
}

/* ---- calls ---- */

static struct call *call_of(struct exch *x)
{
	return (struct call *)(void *)x;
}

static int on_headers(struct exch *x, const struct http_resp *r)
{
	struct call *q = call_of(x);
	int rc = 1;

	http_resp_done(&q->resp);
	http_resp_copy(r, &q->resp);
	q->streaming =
		q->data != NULL && (r->status == 200 || r->status == 206);
	buf_clear(&q->reply);
	if (q->streaming && q->headers != NULL)
		rc = q->headers(q->arg, r);
	loop_stop(q->c->loop);
	return rc;
}

static int on_data(struct exch *x, const void *p, size_t n)
{
	struct call *q = call_of(x);

	if (!q->streaming)
		return buf_add(&q->reply, p, n);
	loop_stop(q->c->loop);
	return q->data(q->arg, p, n);
}

static void on_sent(struct exch *x, size_t n)
{
	struct call *q = call_of(x);

	if (q->sent != NULL)
		q->sent(q->arg, n);
}

static void on_done(struct exch *x, const struct exch_end *end)
{
	struct call *q = call_of(x);

	q->end = *end;
	q->running = false;
	loop_stop(q->c->loop);
}

static const struct exch_ops ops = {
	.headers = on_headers,
	.data = on_data,
	.sent = on_sent,
	.done = on_done,
};

int call_open(struct call *q, struct clients *p, struct err *e)
{
	if (q->reply.max == 0)
		q->reply.max = REPLY_BYTES_MAX;
	return client_get(p, &q->c, e);
}

void call_done(struct call *q)
{
	if (q->x.g != NULL)
		exch_stop(&q->x);
	if (q->c != NULL)
		client_put(TAKE_PTR(q->c));
	http_resp_done(&q->resp);
	buf_done(&q->reply);
}

int call_start(struct call *q, char *url, struct err *e)
{
	struct client *c = q->c;

	assert(!q->running);
	if (url == NULL)
		return err_no_memory(e);
	buf_clear(&q->reply);
	http_resp_done(&q->resp);
	q->end = (struct exch_end){0};
	q->streaming = false;
	q->enough = false;
	q->why = NULL;
	q->x.g = &c->reg;
	q->x.ops = &ops;
	q->x.host = &c->hosts->v[q->host];
	q->x.ns = c->hosts->ns;
	q->x.repo = c->all->repo;
	q->x.away = q->away;
	q->running = true;
	exch_start(&q->x, url);
	return 0;
}

int call_run(struct call *q, char *url, struct err *e)
{
	int r = call_start(q, url, e);

	while (r == 0 && q->running)
		r = client_turn(q->c, e);
	return r;
}

/* An answer that is an error is one even where its body breaks off. */
static bool answered(const struct call *q)
{
	return q->end.code == 0 || q->end.status >= 300;
}

bool call_transient(const struct call *q)
{
	if (!answered(q))
		return !q->end.permanent && q->end.code != -ECANCELED;
	return !call_ok(q) && !exch_status_permanent(q->end.status);
}

int call_error(const struct call *q, const char *what, struct err *e)
{
	const char *host = q->c->hosts->v[q->host].authority;
	const char *repo = q->c->all->repo;
	unsigned status = q->end.status;
	char said[120];
	int code = -EIO;

	if (q->why != NULL)
		return err_set(e, -EBADMSG, "%s/%.80s: %s: %s", host, repo,
			       what, q->why);
	if (!answered(q) && q->end.code == -ECANCELED)
		return err_set(e, -EOVERFLOW, "%s/%.80s: %s: too large", host,
			       repo, what);
	if (!answered(q))
		return err_set(e, q->end.code, "%s/%.80s: %s: %.120s", host,
			       repo, what, q->end.text);
	if (status == 401 || status == 403)
		code = -EACCES;
	else if (status == 404 || status == 410)
		code = -ENOENT;
	(void)reply_error(q->reply.p != NULL ? q->reply.p : "", q->reply.len,
			  said, sizeof(said));
	return err_set(e, code, "%s/%.80s: %s: status %u%s%s%s%s", host, repo,
		       what, status, exch_status_words(status),
		       said[0] != '\0' ? " (" : "", said,
		       said[0] != '\0' ? ")" : "");
}

int url_add(char **url, const char *key, const char *value)
{
	CLEANUP_BUF struct buf b = BUF_INIT(URL_BYTES_MAX);
	int r = *url != NULL
			? buf_addf(&b, "%s%s%s=", *url,
				   strchr(*url, '?') != NULL ? "&" : "?", key)
			: -ENOMEM;

	for (const char *p = value; r == 0 && *p != '\0'; p++) {
		bool plain =
			(*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			(*p >= '0' && *p <= '9') || strchr("-._~", *p) != NULL;

		r = plain ? buf_add(&b, p, 1)
			  : buf_addf(&b, "%%%02X", (unsigned char)*p);
	}
	free(*url);
	*url = r == 0 ? TAKE_PTR(b.p) : NULL;
	return r == 0 ? 0 : -ENOMEM;
}

/* ---- pulling ---- */

bool call_may_pull(const struct client *c, size_t host, const char *what,
		   const char *name)
{
	const struct host *h = &c->hosts->v[host];

	/* A digest says itself whether what comes is right. */
	if (strcmp(what, "blobs") == 0 || strchr(name, ':') != NULL)
		return h->can_pull;
	return h->can_resolve;
}

/* One host. Return: 0, 1 (transient), -errno */
static int pull_one(struct call *q, const char *what, const char *name,
		    const struct digest *want, struct err *e)
{
	struct client *c = q->c;
	char *url = hosts_url(c->hosts, &c->hosts->v[q->host], c->all->repo,
			      what, name);
	char shown[100];
	struct sha256 *h;
	struct digest is;
	int r = call_run(q, url, e);

	if (r < 0)
		return r;
	/* "manifests" is the word of the URL. */
	(void)snprintf(shown, sizeof(shown), "%.*s %.80s",
		       (int)strlen(what) - 1, what, name);
	if (!call_ok(q)) {
		r = call_error(q, shown, e);
		return call_transient(q) ? 1 : r;
	}
	if (want == NULL)
		return 0;
	h = sha256_new();
	if (h == NULL)
		return err_no_memory(e);
	sha256_all(h, q->reply.p != NULL ? q->reply.p : "", q->reply.len, &is);
	sha256_free(h);
	if (digest_equal(&is, want))
		return 0;
	return err_set(e, -EBADMSG,
		       "%s/%.80s: %s: sent bytes of another digest",
		       c->hosts->v[q->host].authority, c->all->repo, shown);
}

int call_pull(struct call *q, const char *what, const char *name,
	      const struct digest *want, struct err *e)
{
	struct client *c = q->c;
	struct err last = {0};

	err_set(&last, -ENOENT, "%s: no host may be asked for %s", c->all->ns,
		name);
	for (unsigned tries = 1;; tries++) {
		uint64_t retry_after_s = 0;
		bool transient = false;
		int r;

		for (q->host = 0; q->host < c->hosts->n; q->host++) {
			if (!call_may_pull(c, q->host, what, name))
				continue;
			r = pull_one(q, what, name, want, &last);
			if (r == 0)
				return 0;
			transient |= r > 0;
			retry_after_s =
				MAX(retry_after_s, q->end.retry_after_s);
		}
		if (!transient || tries == CLIENT_TRIES_MAX)
			return err_set(e, last.code, "%s", last.text);
		r = client_wait(c, tries, retry_after_s, e);
		if (r < 0)
			return r;
	}
}
