/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/registry/exch.h"

#include <stdio.h>
#include <string.h>

#define LOG_MOD "http"
#include "common/log.h"
#include "daemon/registry/hosts.h"
#include "daemon/registry/registry.h"

static void send_request(struct exch *x);

static void finish(struct exch *x, struct exch_end *end)
{
	end->status = x->status;
	end->retry_after_s = x->retry_after_s;
	x->ops->done(x, end);
}

static void finish_err(struct exch *x, int code, bool permanent,
		       const char *text)
{
	struct exch_end end = {.code = code, .permanent = permanent};

	(void)snprintf(end.text, sizeof(end.text), "%s", text);
	finish(x, &end);
}

static bool is_redirect(const struct exch *x, const struct http_resp *r)
{
	if (r->location == NULL)
		return false;
	if (r->status == 307 || r->status == 308)
		return true;
	/* Of another method these would make a GET. */
	return x->method <= HTTP_HEAD &&
	       (r->status == 301 || r->status == 302 || r->status == 303);
}

static struct auth_scope scope_of(const struct exch *x)
{
	return (struct auth_scope){
		.repo = x->repo, .from = x->from, .push = x->push};
}

/* Where a redirect leads. */
static int redirect(struct exch *x, const char *location)
{
	bool same = false;
	int r;

	if (x->redirects >= EXCH_REDIRECTS_MAX)
		return -ELOOP;
	free(TAKE_PTR(x->next));
	r = headers_location(x->url, location, &x->next, &same);
	if (r < 0)
		return r;
	x->next_away = x->away || !same;
	x->redirects++;
	x->g->stats.redirects++;
	x->again = true;
	return 0;
}

static bool renew(struct exch *x, const struct http_resp *r)
{
	struct auth_scope scope = scope_of(x);

	if (x->away || x->repo == NULL || x->auth_tries >= 2 ||
	    (r->status != 401 && r->status != 403))
		return false;
	x->auth_tries++;
	return auth_refused(x->g->auth, x->host, x->ns, &scope, r->status,
			    r->www, x->gen);
}

static int on_headers(void *ctx, const struct http_resp *r)
{
	struct exch *x = ctx;
	int want;

	x->status = r->status;
	x->retry_after_s = r->retry_after_s;
	x->want_body = false;
	x->drained = 0;
	x->again = false;
	if (is_redirect(x, r)) {
		int rc = redirect(x, r->location);

		if (rc < 0 && rc != -ELOOP)
			log_debug("msg=\"bad redirect\" host=%s",
				  x->host->authority);
		/* The rest of a body would be sent in vain. */
		return x->again && x->body.len > 0 ? -1 : 0;
	}
	if (renew(x, r)) {
		x->again = true;
		return x->body.len > 0 ? -1 : 0;
	}
	want = x->ops->headers(x, r);
	x->want_body = want > 0;
	return want < 0 ? want : 0;
}

static int on_data(void *ctx, const void *p, size_t n)
{
	struct exch *x = ctx;

	if (x->want_body)
		return x->ops->data(x, p, n);
	/* A short error page is worth its connection, a long one is not. */
	x->drained += n;
	return x->drained > EXCH_DRAIN_BYTES_MAX ? -ECANCELED : 0;
}

static void on_sent(void *ctx, size_t n)
{
	struct exch *x = ctx;

	if (x->ops->sent != NULL)
		x->ops->sent(x, n);
}

static void on_done(void *ctx, const struct http_end *he)
{
	struct exch *x = ctx;
	struct exch_end end = {
		.code = he->code,
		.connect_failed = he->connect_failed,
		.permanent = he->permanent,
	};

	x->req = NULL;
	log_debug("msg=request host=%s away=%d range=%s status=%u err=%s",
		  x->host->authority, x->away, x->range, x->status,
		  he->code < 0 ? err_symbol(he->code) : "0");
	if (!x->away && he->connect_failed)
		origin_failed(x->host->origin, loop_now(x->g->loop));
	else if (!x->away && x->status != 0)
		origin_worked(x->host->origin);
	if (x->again) {
		x->again = false;
		if (x->next != NULL) {
			free(x->url);
			x->url = TAKE_PTR(x->next);
			x->away = x->next_away;
		}
		send_request(x);
		return;
	}
	(void)snprintf(end.text, sizeof(end.text), "%.250s", he->text);
	/* Headers are all there is to a response whose body is not wanted. */
	if (end.code == -ECANCELED && !x->want_body &&
	    x->drained > EXCH_DRAIN_BYTES_MAX)
		end.code = 0;
	finish(x, &end);
}

static const struct http_ops ops = {
	.headers = on_headers,
	.data = on_data,
	.sent = on_sent,
	.done = on_done,
};

#define EXCH_HEADERS_MAX 36u

/* "name: value" at the end of lines, owned by *keep. Return: 0, -ENOMEM. */
static int add_line(struct http_opts *o, const char **lines, char **keep,
		    const char *name, const char *value)
{
	if (value == NULL)
		return 0;
	if (asprintf(keep, "%s: %s", name, value) < 0) {
		*keep = NULL;
		return -ENOMEM;
	}
	lines[o->n_headers++] = *keep;
	return 0;
}

static void send_with(struct exch *x, const char *authorization)
{
	const char *lines[EXCH_HEADERS_MAX];
	CLEANUP_FREE char *accept = NULL, *type = NULL, *range = NULL;
	struct http_opts o = {
		.url = x->url,
		.range = x->range[0] != '\0' ? x->range : NULL,
		.headers = lines,
		.host = x->host,
		.method = x->method,
		.body = x->body,
		.bulk = x->bulk,
		.patient = x->patient,
	};
	int r;

	r = add_line(&o, lines, &accept, "Accept", x->accept);
	if (r == 0)
		r = add_line(&o, lines, &type, "Content-Type", x->content_type);
	if (r == 0)
		r = add_line(&o, lines, &range, "Content-Range",
			     x->content_range);
	if (r < 0) {
		finish_err(x, r, false, "out of memory");
		return;
	}
	if (authorization != NULL && !x->away)
		lines[o.n_headers++] = authorization;
	for (size_t i = 0; i < x->host->n_headers && !x->away &&
			   o.n_headers < EXCH_HEADERS_MAX;
	     i++)
		lines[o.n_headers++] = x->host->headers[i];
	x->status = 0;
	if (!x->away)
		x->host->origin->requests++;
	r = http_start(x->g->http, &o, &ops, x, &x->req);
	if (r < 0)
		finish_err(x, r, r != -ENOMEM, "cannot send the request");
}

static void on_auth(struct auth_wait *w, const struct err *e, bool permanent)
{
	struct exch *x = LIST_ENTRY(w, struct exch, wait);

	if (e != NULL)
		finish_err(x, e->code, permanent, e->text);
	else
		loop_timer_set(x->g->loop, &x->start, 0);
}

static void send_request(struct exch *x)
{
	struct auth_scope scope = scope_of(x);
	const char *authorization = NULL;
	int r = 0;

	if (x->repo != NULL && !x->away)
		r = auth_header(x->g->auth, x->host, x->ns, &scope, &x->wait,
				&authorization, &x->gen);
	if (r < 0)
		finish_err(x, r, false, "out of memory");
	else if (r == 0)
		send_with(x, authorization);
}

static void on_start(struct loop_timer *t)
{
	send_request(LIST_ENTRY(t, struct exch, start));
}

void exch_start(struct exch *x, char *url)
{
	free(x->url);
	x->url = url;
	x->wait.fn = on_auth;
	x->start.fn = on_start;
	x->redirects = 0;
	x->auth_tries = 0;
	x->again = false;
	loop_timer_set(x->g->loop, &x->start, 0);
}

void exch_stop(struct exch *x)
{
	loop_timer_clear(&x->start);
	auth_wait_cancel(&x->wait);
	http_cancel(TAKE_PTR(x->req));
	free(TAKE_PTR(x->url));
	free(TAKE_PTR(x->next));
}

void exch_resume(struct exch *x)
{
	if (x->req != NULL)
		http_resume(x->req);
}

const char *exch_status_words(unsigned status)
{
	switch (status) {
	case 401:
		return ", credentials are missing or not accepted";
	case 403:
		return ", access is denied";
	case 404:
	case 410:
		return ", not found";
	case 429:
		return ", too many requests";
	default:
		return status >= 500 ? ", the server is in trouble" : "";
	}
}

/* 4xx means us, but for the ones that mean "later". */
bool exch_status_permanent(unsigned status)
{
	return status >= 300 && status < 500 && status != 408 &&
	       status != 425 && status != 429;
}

void exch_status_error(const struct exch *x, struct exch_end *end,
		       struct err *e)
{
	const char *slash = x->repo != NULL ? "/" : "";
	const char *repo = x->repo != NULL ? x->repo : "";
	const char *why = x->away ? " (redirected)" : "";
	int code = -EIO;

	if (end->code < 0) {
		err_set(e, end->code, "%s%s%s: %.180s", x->host->authority,
			slash, repo, end->text);
		return;
	}
	if (end->status == 401 || end->status == 403)
		code = -EACCES;
	else if (end->status == 404 || end->status == 410)
		code = -ENOENT;
	else if (end->status >= 300 && end->status < 400)
		why = " (a redirect that leads nowhere)";
	end->permanent = exch_status_permanent(end->status);
	err_set(e, code, "%s%s%s: status %u%s%s", x->host->authority, slash,
		repo, end->status, exch_status_words(end->status), why);
}
