/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/registry/auth.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>
#include <openssl/evp.h>

#define LOG_MOD "auth"
#include "common/buf.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/loop.h"
#include "daemon/registry/creds.h"
#include "daemon/registry/headers.h"
#include "daemon/registry/hosts.h"
#include "daemon/registry/http.h"
#include "daemon/registry/registry.h"

struct auth {
	struct registry *g;
	struct list entries;
};

struct auth_entry {
	struct auth *auth;
	struct list node;
	struct origin *origin;
	const struct host *host; /* TLS settings, while busy */
	char *repo;
	char *from; /* may be NULL */
	bool push;
	char *server; /* name for the credentials */
	struct challenge ch;
	char *header;
	uint64_t expires_ns;
	unsigned gen;
	bool anonymous; /* no credentials: Basic cannot be answered */
	/* while a header is being made */
	bool busy;
	struct list waits;
	struct creds_query *query;
	struct http_req *req;
	struct buf body;
	unsigned status;
};

int auth_new(struct registry *g, struct auth **ret)
{
	struct auth *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return -ENOMEM;
	a->g = g;
	list_init(&a->entries);
	*ret = a;
	return 0;
}

static void wipe_free(char *s)
{
	if (s != NULL)
		explicit_bzero(s, strlen(s));
	free(s);
}

static void wipe_body(struct auth_entry *en)
{
	if (en->body.p != NULL)
		explicit_bzero(en->body.p, en->body.cap);
	buf_done(&en->body);
}

static void entry_free(struct auth_entry *en)
{
	list_del(&en->node);
	creds_cancel(en->query);
	http_cancel(en->req);
	if (en->host != NULL)
		hosts_free(en->host->all);
	origin_unref(en->origin);
	wipe_body(en);
	wipe_free(en->header);
	free(en->repo);
	free(en->from);
	free(en->server);
	free(en);
}

void auth_free(struct auth *a)
{
	if (a == NULL)
		return;
	LIST_EACH_SAFE(n, &a->entries)
	entry_free(LIST_ENTRY(n, struct auth_entry, node));
	free(a);
}

static int scope_set(struct auth_entry *en)
{
	int n = snprintf(en->ch.scope, sizeof(en->ch.scope),
			 "repository:%s:pull%s%s%s%s", en->repo,
			 en->push ? ",push" : "",
			 en->from != NULL ? " repository:" : "",
			 en->from != NULL ? en->from : "",
			 en->from != NULL ? ":pull" : "");

	return n > 0 && (size_t)n < sizeof(en->ch.scope) ? 0 : -EBADMSG;
}

static bool entry_is(const struct auth_entry *en, const struct auth_scope *s)
{
	if (strcmp(en->repo, s->repo) != 0 || en->push != s->push ||
	    (en->from == NULL) != (s->from == NULL))
		return false;
	return en->from == NULL || strcmp(en->from, s->from) == 0;
}

static struct auth_entry *entry_new(struct auth *a, const struct host *h,
				    const char *ns,
				    const struct auth_scope *scope)
{
	struct auth_entry *en = calloc(1, sizeof(*en));

	if (en == NULL)
		return NULL;
	en->auth = a;
	en->origin = origin_ref(h->origin);
	en->body = BUF_INIT(TOKEN_BYTES_MAX);
	en->repo = strdup(scope->repo);
	en->from = scope->from != NULL ? strdup(scope->from) : NULL;
	en->push = scope->push;
	/* The registry is known by its own name, a mirror by its address. */
	en->server = strdup(h->mirror ? h->authority : ns);
	list_init(&en->waits);
	list_add(&a->entries, &en->node);
	if (en->repo != NULL && en->server != NULL &&
	    (en->from != NULL || scope->from == NULL))
		return en;
	entry_free(en);
	return NULL;
}

static struct auth_entry *entry_get(struct auth *a, const struct host *h,
				    const char *ns,
				    const struct auth_scope *scope)
{
	struct auth_entry *en, *sibling = NULL, *oldest = NULL;
	unsigned n_entries = 0;

	LIST_EACH(n, &a->entries)
	{
		en = LIST_ENTRY(n, struct auth_entry, node);
		n_entries++;
		if (!en->busy && oldest == NULL)
			oldest = en;
		if (en->origin != h->origin)
			continue;
		if (entry_is(en, scope))
			return en;
		sibling = en;
	}
	en = entry_new(a, h, ns, scope);
	if (en == NULL)
		return NULL;
	/* What needs a login elsewhere may be open to everybody here. */
	if (sibling != NULL &&
	    (sibling->ch.scheme == AUTH_BEARER || sibling->header != NULL)) {
		en->ch = sibling->ch;
		if (scope_set(en) < 0)
			en->ch.scheme = AUTH_NONE;
	}
	if (n_entries >= AUTH_ENTRIES_MAX && oldest != NULL)
		entry_free(oldest);
	return en;
}

/* The header is there, or is not to be had: tell those who wait. */
static void settle(struct auth_entry *en, const struct err *e, bool permanent)
{
	struct list waits;

	en->busy = false;
	if (en->host != NULL)
		hosts_free(en->host->all);
	en->host = NULL;
	list_init(&waits);
	list_splice(&waits, &en->waits);
	while (!list_empty(&waits)) {
		struct auth_wait *w =
			LIST_ENTRY(waits.next, struct auth_wait, node);

		list_del(&w->node);
		w->fn(w, e, permanent);
	}
}

static void fail(struct auth_entry *en, int code, bool permanent,
		 const char *what)
{
	struct err e = {0};

	err_set(&e, code, "%s: %s: %s", en->origin->name, en->repo, what);
	settle(en, &e, permanent);
}

static uint64_t now_of(const struct auth_entry *en)
{
	return loop_now(en->auth->g->loop);
}

/* Takes over token. */
static void set_header(struct auth_entry *en, const char *scheme, char *token,
		       uint64_t expires_ns)
{
	char *h = NULL;

	if (token == NULL || strpbrk(token, "\r\n") != NULL ||
	    asprintf(&h, "Authorization: %s %s", scheme, token) < 0) {
		wipe_free(token);
		fail(en, -EBADMSG, false, "no usable token");
		return;
	}
	wipe_free(token);
	wipe_free(en->header);
	en->header = h;
	en->expires_ns = expires_ns;
	en->gen++;
	settle(en, NULL, false);
}

static char *basic_of(const struct cred *c)
{
	CLEANUP_FREE char *pair = NULL;
	char *out;
	size_t n;

	if (asprintf(&pair, "%s:%s", c->user,
		     c->secret != NULL ? c->secret : "") < 0) {
		pair = NULL;
		return NULL;
	}
	n = strlen(pair);
	out = malloc(n / 3 * 4 + 8);
	if (out != NULL)
		(void)EVP_EncodeBlock((unsigned char *)out,
				      (const unsigned char *)pair, (int)n);
	explicit_bzero(pair, n);
	return out;
}

/* ---- the token endpoint ---- */

int auth_token_parse(const char *json, size_t len, char **ret_token,
		     uint64_t *ret_expires_s)
{
	struct json_tokener *t = json_tokener_new_ex(JSON_DEPTH_MAX);
	struct json_object *o, *v = NULL;
	int r = -EBADMSG;

	if (t == NULL)
		return -ENOMEM;
	o = len <= TOKEN_BYTES_MAX ? json_tokener_parse_ex(t, json, (int)len)
				   : NULL;
	*ret_expires_s = AUTH_EXPIRES_DEFAULT_S;
	if (json_object_is_type(o, json_type_object)) {
		if (!json_object_object_get_ex(o, "token", &v) ||
		    !json_object_is_type(v, json_type_string) ||
		    json_object_get_string_len(v) == 0)
			(void)json_object_object_get_ex(o, "access_token", &v);
		if (json_object_is_type(v, json_type_string) &&
		    json_object_get_string_len(v) > 0) {
			uintptr_t p = (uintptr_t)json_object_get_string(v);

			*ret_token = strdup((const char *)p);
			explicit_bzero((void *)p,
				       (size_t)json_object_get_string_len(v));
			r = *ret_token != NULL ? 0 : -ENOMEM;
		}
		if (json_object_object_get_ex(o, "expires_in", &v) &&
		    json_object_is_type(v, json_type_int) &&
		    json_object_get_int64(v) > 0)
			*ret_expires_s = (uint64_t)MIN(json_object_get_int64(v),
						       (int64_t)86400);
	}
	json_object_put(o);
	json_tokener_free(t);
	return r;
}

static int on_token_headers(void *ctx, const struct http_resp *resp)
{
	struct auth_entry *en = ctx;

	en->status = resp->status;
	return 0;
}

static int on_token_data(void *ctx, const void *p, size_t n)
{
	struct auth_entry *en = ctx;

	return buf_add(&en->body, p, n);
}

static void on_token_done(void *ctx, const struct http_end *end)
{
	struct auth_entry *en = ctx;
	char text[ERR_TEXT_BYTES];
	uint64_t expires_s = 0;
	char *token = NULL;
	int r;

	en->req = NULL;
	if (end->code < 0) {
		(void)snprintf(text, sizeof(text), "token endpoint: %.200s",
			       end->text);
		wipe_body(en);
		fail(en, end->code == -ECANCELED ? -EBADMSG : end->code,
		     end->permanent, text);
		return;
	}
	if (en->status != 200) {
		bool refused = en->status == 400 || en->status == 401 ||
			       en->status == 403 || en->status == 404;

		(void)snprintf(text, sizeof(text),
			       "token endpoint answers status %u", en->status);
		wipe_body(en);
		fail(en, refused ? -EACCES : -EIO, refused, text);
		return;
	}
	r = auth_token_parse(en->body.p != NULL ? en->body.p : "", en->body.len,
			     &token, &expires_s);
	wipe_body(en);
	if (r < 0) {
		fail(en, r, false, "token endpoint sends no token");
		return;
	}
	en->auth->g->stats.tokens++;
	set_header(en, "Bearer", token,
		   now_of(en) + (expires_s -
				 MIN(expires_s / 5, (uint64_t)AUTH_SLACK_S)) *
					NSEC_PER_SEC);
}

static const struct http_ops token_ops = {
	.headers = on_token_headers,
	.data = on_token_data,
	.done = on_token_done,
};

/* Appends "name=value", value escaped. */
static int form_add(struct buf *b, const char *name, const char *value)
{
	char *esc;
	int r;

	if (value[0] == '\0')
		return 0;
	esc = curl_easy_escape(NULL, value, 0);
	if (esc == NULL)
		return -ENOMEM;
	r = buf_addf(b, "%s%s=%s", b->len > 0 ? "&" : "", name, esc);
	curl_free(esc);
	return r;
}

/* One parameter for each of the scopes, as docker's token servers want it. */
static int scopes_add(struct buf *b, const char *scopes)
{
	CLEANUP_FREE char *first = strdup(scopes);
	char *second;
	int r;

	if (first == NULL)
		return -ENOMEM;
	second = strchr(first, ' ');
	if (second != NULL)
		*second++ = '\0';
	r = form_add(b, "scope", first);
	return r == 0 && second != NULL ? form_add(b, "scope", second) : r;
}

static int token_request(struct auth_entry *en, struct cred *c)
{
	CLEANUP_BUF struct buf form = BUF_INIT(TOKEN_BYTES_MAX);
	CLEANUP_BUF struct buf url = BUF_INIT(URL_BYTES_MAX);
	CLEANUP_FREE char *basic = NULL;
	char *header = NULL;
	bool post = c->identity_token != NULL;
	struct http_opts o = {.host = en->host};
	int r = 0;

	if (post) {
		r = form_add(&form, "grant_type", "refresh_token");
		if (r == 0)
			r = form_add(&form, "refresh_token", c->identity_token);
		if (r == 0)
			r = form_add(&form, "client_id",
				     en->auth->g->set.agent);
	} else if (c->user != NULL) {
		r = form_add(&form, "account", c->user);
		basic = basic_of(c);
		if (basic == NULL ||
		    asprintf(&header, "Authorization: Basic %s", basic) < 0)
			return -ENOMEM;
		explicit_bzero(basic, strlen(basic));
	}
	if (r == 0)
		r = form_add(&form, "service", en->ch.service);
	if (r == 0)
		r = post ? form_add(&form, "scope", en->ch.scope)
			 : scopes_add(&form, en->ch.scope);
	if (r == 0 && post)
		r = buf_add_str(&url, en->ch.realm);
	else if (r == 0)
		r = buf_addf(&url, "%s%s%s", en->ch.realm,
			     strchr(en->ch.realm, '?') != NULL ? "&" : "?",
			     form.p != NULL ? form.p : "");
	if (r == 0) {
		const char *headers[] = {header};

		o.url = url.p;
		o.post = post ? form.p : NULL;
		o.headers = headers;
		o.n_headers = header != NULL ? 1 : 0;
		r = http_start(en->auth->g->http, &o, &token_ops, en, &en->req);
	}
	wipe_free(header);
	if (form.p != NULL)
		explicit_bzero(form.p, form.len);
	return r;
}

static void on_creds(void *ctx, struct cred *c)
{
	struct auth_entry *en = ctx;
	bool any = c->user != NULL || c->identity_token != NULL;
	int r;

	en->query = NULL;
	if (c->registry_token != NULL && en->ch.scheme == AUTH_BEARER) {
		set_header(en, "Bearer", TAKE_PTR(c->registry_token),
			   UINT64_MAX);
		return;
	}
	if (en->ch.scheme == AUTH_BASIC) {
		en->anonymous = c->user == NULL;
		if (en->anonymous)
			fail(en, -EACCES, true,
			     "needs a login, and there are no credentials");
		else
			set_header(en, "Basic", basic_of(c), UINT64_MAX);
		return;
	}
	/* Secrets that came over TLS are not asked for in the clear. */
	if (any && strncasecmp(en->ch.realm, "https://", 8) != 0 &&
	    (strncasecmp(en->ch.realm, "http://", 7) != 0 ||
	     !hosts_is_local(en->ch.realm + 7)) &&
	    strncmp(en->origin->name, "https://", 8) == 0) {
		fail(en, -EACCES, true, "token endpoint is not https");
		return;
	}
	r = token_request(en, c);
	if (r < 0)
		fail(en, r, false, "cannot ask for a token");
}

int auth_header(struct auth *a, const struct host *h, const char *ns,
		const struct auth_scope *scope, struct auth_wait *w,
		const char **ret_header, unsigned *ret_gen)
{
	struct auth_entry *en = entry_get(a, h, ns, scope);

	if (en == NULL)
		return -ENOMEM;
	if (en->header != NULL && loop_now(a->g->loop) < en->expires_ns) {
		*ret_header = en->header;
		*ret_gen = en->gen;
		return 0;
	}
	if (en->ch.scheme == AUTH_NONE) {
		*ret_header = NULL;
		*ret_gen = en->gen;
		return 0;
	}
	list_add(&en->waits, &w->node);
	if (!en->busy) {
		struct creds_query *q = NULL;

		en->busy = true;
		en->host = h;
		(void)hosts_ref(h->all);
		creds_ask(a->g->loop, a->g->set.docker_config, en->server,
			  on_creds, en, &q);
		/* Answered at once, the entry may have moved on. */
		if (q != NULL)
			en->query = q;
	}
	return 1;
}

void auth_wait_cancel(struct auth_wait *w)
{
	if (w->node.next != NULL)
		list_del(&w->node);
}

bool auth_refused(struct auth *a, const struct host *h, const char *ns,
		  const struct auth_scope *scope, unsigned status,
		  const char *www, unsigned gen)
{
	struct auth_entry *en = entry_get(a, h, ns, scope);
	struct challenge ch;

	if (en == NULL)
		return false;
	/* Another request has had it renewed meanwhile. */
	if (en->busy || (en->header != NULL && en->gen != gen))
		return true;
	if (www != NULL && headers_challenge(www, &ch) == 0) {
		en->ch = ch;
		/* A challenge for less than we need would get us nowhere. */
		if (scope_set(en) < 0)
			return false;
	} else if (status == 401 || en->header == NULL) {
		return false;
	}
	wipe_free(TAKE_PTR(en->header));
	return true;
}
