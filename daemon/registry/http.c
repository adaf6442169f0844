/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/registry/http.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <time.h>

#include <curl/curl.h>

#include "common/io.h"
#include "common/limits.h"
#include "common/loop.h"
#include "daemon/registry/hosts.h"
#include "daemon/registry/registry.h"

#define HTTP_CONNECTIONS_KEPT 32L
#define HTTP_BULK_BUFFER 131072L
#define HTTP_UPLOAD_BUFFER 262144L
#define HTTP_PATIENCE_S 600L

struct http_sock {
	struct loop_io io; /* first */
	struct http *http;
};

struct http {
	struct loop *loop;
	const struct registry_settings *set;
	CURLM *multi;
	CURLSH *share; /* TLS sessions; the rest is the multi handle's */
	struct loop_timer timer;
	uint64_t bytes;
};

struct http_req {
	struct http *http;
	CURL *easy;
	struct curl_slist *headers;
	const struct http_ops *ops;
	void *ctx;
	struct http_resp resp;
	struct http_body body;
	uint64_t body_at;
	bool partial;   /* PATCH, PUT */
	int body_errno; /* the file could not be read */
	bool complete;  /* the final headers were seen */
	bool refused;   /* a callback ended it */
	char error[CURL_ERROR_SIZE];
};

/* Headers whose value is kept as it is. */
static const struct {
	const char *name;
	size_t at;
} kept[] = {
	{"location", offsetof(struct http_resp, location)},
	{"docker-content-digest", offsetof(struct http_resp, digest)},
	{"oci-subject", offsetof(struct http_resp, subject)},
	{"oci-chunk-min-length", offsetof(struct http_resp, chunk_min)},
	{"range", offsetof(struct http_resp, upload)},
	{"link", offsetof(struct http_resp, link)},
	{"content-type", offsetof(struct http_resp, content_type)},
};

static char **kept_at(struct http_resp *r, size_t i)
{
	return (char **)(void *)((char *)r + kept[i].at);
}

void http_resp_done(struct http_resp *r)
{
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		free(*kept_at(r, i));
	free(r->www);
	*r = (struct http_resp){0};
}

void http_resp_copy(const struct http_resp *r, struct http_resp *ret)
{
	*ret = *r;
	ret->www = r->www != NULL ? strdup(r->www) : NULL;
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		const char *s = *kept_at(ret, i);

		*kept_at(ret, i) = s != NULL ? strdup(s) : NULL;
	}
}

static void req_free(struct http_req *r)
{
	if (r == NULL)
		return;
	if (r->easy != NULL)
		curl_easy_cleanup(r->easy);
	curl_slist_free_all(r->headers);
	http_resp_done(&r->resp);
	free(r);
}

/* ---- headers ---- */

static void keep(char **dst, const char *value)
{
	char *s = strdup(value);

	/* Without memory the header counts as absent. */
	free(*dst);
	*dst = s;
}

static void keep_challenge(struct http_resp *r, const char *value)
{
	char *s;

	if (r->www == NULL) {
		keep(&r->www, value);
		return;
	}
	if (strlen(r->www) + strlen(value) > HTTP_CHALLENGES_MAX ||
	    asprintf(&s, "%s, %s", r->www, value) < 0)
		return;
	free(r->www);
	r->www = s;
}

static void header_line(struct http_resp *r, const char *name, size_t n,
			const char *value)
{
	if (n == 14 && strncasecmp(name, "content-length", n) == 0) {
		r->has_length = headers_u64(value, &r->length) == 0;
	} else if (n == 13 && strncasecmp(name, "content-range", n) == 0) {
		r->has_range = headers_content_range(value, &r->range) == 0;
		r->bad_range = !r->has_range;
	} else if (n == 16 && strncasecmp(name, "www-authenticate", n) == 0) {
		keep_challenge(r, value);
	} else if (n == 11 && strncasecmp(name, "retry-after", n) == 0) {
		if (headers_retry_after(value, (int64_t)time(NULL),
					&r->retry_after_s) < 0)
			r->retry_after_s = 0;
	} else if (n == 16 && strncasecmp(name, "content-encoding", n) == 0) {
		r->has_encoding = strcasecmp(value, "identity") != 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		if (n == strlen(kept[i].name) &&
		    strncasecmp(name, kept[i].name, n) == 0)
			keep(kept_at(r, i), value);
	}
}

static size_t on_header(char *p, size_t size, size_t n, void *ctx)
{
	struct http_req *r = ctx;
	const char *colon;
	size_t len = size * n;
	char *line;

	if (r->complete)
		return n; /* a trailer */
	while (len > 0 &&
	       (p[len - 1] == '\n' || p[len - 1] == '\r' || p[len - 1] == ' '))
		len--;
	if (len >= 5 && strncasecmp(p, "http/", 5) == 0) {
		const char *sp = memchr(p, ' ', len);

		http_resp_done(&r->resp);
		if (sp != NULL)
			r->resp.status = (unsigned)strtoul(sp, NULL, 10);
		return n;
	}
	if (len == 0) {
		if (r->resp.status < 200)
			return n;
		r->complete = true;
		if (r->ops->headers(r->ctx, &r->resp) < 0) {
			r->refused = true;
			return 0;
		}
		return n;
	}
	colon = memchr(p, ':', len);
	if (colon == NULL)
		return n;
	line = strndup(colon + 1, len - (size_t)(colon + 1 - p));
	if (line != NULL)
		header_line(&r->resp, p, (size_t)(colon - p),
			    line + strspn(line, " \t"));
	free(line);
	return n;
}

static size_t on_data(char *p, size_t size, size_t n, void *ctx)
{
	struct http_req *r = ctx;
	int rc = r->ops->data(r->ctx, p, size * n);

	if (rc == HTTP_PAUSE)
		return CURL_WRITEFUNC_PAUSE;
	r->http->bytes += size * n;
	if (rc < 0) {
		r->refused = true;
		return 0;
	}
	return size * n;
}

/* ---- what is sent ---- */

static size_t on_read(char *p, size_t size, size_t n, void *ctx)
{
	struct http_req *r = ctx;
	const struct http_body *b = &r->body;
	size_t len = (size_t)MIN((uint64_t)(size * n), b->len - r->body_at);

	if (b->data != NULL) {
		memcpy(p, (const char *)b->data + r->body_at, len);
	} else if (len > 0) {
		r->body_errno =
			io_pread_all(b->fd, p, len, b->off + r->body_at);
		if (r->body_errno < 0)
			return CURL_READFUNC_ABORT;
	}
	r->body_at += len;
	if (r->ops->sent != NULL && len > 0)
		r->ops->sent(r->ctx, len);
	return len;
}

/* A connection that was kept turned out to be dead: once more, but for what
 * may have been taken in part. */
static int on_seek(void *ctx, curl_off_t off, int whence)
{
	struct http_req *r = ctx;

	if (whence != SEEK_SET || off < 0 || (uint64_t)off > r->body.len ||
	    r->partial)
		return CURL_SEEKFUNC_FAIL;
	r->body_at = (uint64_t)off;
	return CURL_SEEKFUNC_OK;
}

/* ---- the multi handle and the loop ---- */

/* Theirs or ours. */
static bool is_of_certificates(CURLcode rc)
{
	return rc == CURLE_PEER_FAILED_VERIFICATION ||
	       rc == CURLE_SSL_CERTPROBLEM || rc == CURLE_SSL_CACERT_BADFILE ||
	       /* curl 8, of a private key that it cannot read */
	       rc == CURLE_BAD_FUNCTION_ARGUMENT;
}

static void end_of(struct http_req *r, CURLcode rc, struct http_end *end)
{
	const char *text =
		r->error[0] != '\0' ? r->error : curl_easy_strerror(rc);

	if (rc == CURLE_OK)
		return;
	end->code = -EIO;
	if (r->refused) {
		end->code = -ECANCELED;
	} else if (r->body_errno < 0) {
		end->code = r->body_errno;
		end->permanent = true;
		text = "cannot read what is to be sent";
	} else if (rc == CURLE_COULDNT_CONNECT ||
		   rc == CURLE_COULDNT_RESOLVE_HOST ||
		   rc == CURLE_COULDNT_RESOLVE_PROXY) {
		end->connect_failed = true;
	} else if (rc == CURLE_OPERATION_TIMEDOUT) {
		long connected_us = 0;

		(void)curl_easy_getinfo(r->easy, CURLINFO_CONNECT_TIME_T,
					&connected_us);
		end->connect_failed = connected_us == 0;
		end->code = -ETIMEDOUT;
	} else if (is_of_certificates(rc)) {
		end->code = -EACCES;
		end->permanent = true;
	} else if (strstr(text, "wrong version number") != NULL) {
		/* OpenSSL, of bytes that are no TLS at all. */
		text = "the server does not speak TLS (is it plain HTTP?)";
		end->permanent = true;
	} else if (rc == CURLE_OUT_OF_MEMORY) {
		end->code = -ENOMEM;
	} else if (rc == CURLE_URL_MALFORMAT) {
		end->code = -EBADMSG;
		end->permanent = true;
	}
	(void)snprintf(end->text, sizeof(end->text), "%s", text);
	err_sanitize(end->text);
}

static void reap(struct http *h)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(h->multi, &left)) != NULL) {
		struct http_req *r = NULL;
		struct http_end end = {0};

		if (m->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE,
					(char **)&r);
		end_of(r, m->data.result, &end);
		(void)curl_multi_remove_handle(h->multi, r->easy);
		/* A response without headers is none. */
		if (end.code == 0 && !r->complete) {
			end.code = -EIO;
			(void)snprintf(end.text, sizeof(end.text),
				       "no response");
		}
		r->ops->done(r->ctx, &end);
		req_free(r);
	}
}

static void on_sock_ready(struct loop_io *io, uint32_t events)
{
	struct http_sock *s = (struct http_sock *)(void *)io;
	struct http *h = s->http;
	int running, mask = 0;

	if ((events & EPOLLIN) != 0)
		mask |= CURL_CSELECT_IN;
	if ((events & EPOLLOUT) != 0)
		mask |= CURL_CSELECT_OUT;
	if ((events & (EPOLLERR | EPOLLHUP)) != 0)
		mask |= CURL_CSELECT_ERR | CURL_CSELECT_IN;
	(void)curl_multi_socket_action(h->multi, io->fd, mask, &running);
	reap(h);
}

static int on_sock_change(CURL *easy, curl_socket_t fd, int what, void *ctx,
			  void *sock)
{
	struct http *h = ctx;
	struct http_sock *s = sock;
	uint32_t events = 0;
	bool new = s == NULL;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s != NULL)
			loop_io_del(h->loop, &s->io);
		free(s);
		return 0;
	}
	if ((what & CURL_POLL_IN) != 0)
		events |= EPOLLIN;
	if ((what & CURL_POLL_OUT) != 0)
		events |= EPOLLOUT;
	if (!new)
		return loop_io_mod(h->loop, &s->io, events) < 0 ? -1 : 0;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return -1;
	s->http = h;
	s->io.fd = fd;
	s->io.fn = on_sock_ready;
	if (loop_io_add(h->loop, &s->io, events) < 0) {
		free(s);
		return -1;
	}
	(void)curl_multi_assign(h->multi, fd, s);
	return 0;
}

static void on_timer(struct loop_timer *t)
{
	struct http *h = LIST_ENTRY(t, struct http, timer);
	int running;

	(void)curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0,
				       &running);
	reap(h);
}

static int on_timer_change(CURLM *multi, long ms, void *ctx)
{
	struct http *h = ctx;

	(void)multi;
	if (ms < 0)
		loop_timer_clear(&h->timer);
	else
		loop_timer_set(h->loop, &h->timer,
			       loop_now(h->loop) +
				       (uint64_t)ms * NSEC_PER_MSEC);
	return 0;
}

int http_new(struct registry *g, struct http **ret)
{
	struct http *h;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	h = calloc(1, sizeof(*h));
	if (h == NULL)
		return -ENOMEM;
	h->loop = g->loop;
	h->set = &g->set;
	h->timer.fn = on_timer;
	h->multi = curl_multi_init();
	h->share = curl_share_init();
	if (h->multi == NULL || h->share == NULL ||
	    curl_share_setopt(h->share, CURLSHOPT_SHARE,
			      CURL_LOCK_DATA_SSL_SESSION) != CURLSHE_OK ||
	    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION,
			      on_sock_change) != CURLM_OK ||
	    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h) != CURLM_OK ||
	    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION,
			      on_timer_change) != CURLM_OK ||
	    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h) != CURLM_OK ||
	    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS,
			      HTTP_CONNECTIONS_KEPT) != CURLM_OK) {
		http_free(h);
		return -ENOMEM;
	}
	*ret = h;
	return 0;
}

void http_free(struct http *h)
{
	if (h == NULL)
		return;
	if (h->multi != NULL)
		(void)curl_multi_cleanup(h->multi);
	if (h->share != NULL)
		(void)curl_share_cleanup(h->share);
	loop_timer_clear(&h->timer);
	free(h);
	curl_global_cleanup();
}

uint64_t http_bytes(const struct http *h)
{
	return h->bytes;
}

/* ---- one request ---- */

static int add_headers(struct http_req *r, const struct http_opts *o)
{
	static const char *const usual[] = {"Accept-Encoding: identity",
					    "Expect:"};

	for (size_t i = 0; i < ARRAY_SIZE(usual) + o->n_headers; i++) {
		const char *line = i < ARRAY_SIZE(usual)
					   ? usual[i]
					   : o->headers[i - ARRAY_SIZE(usual)];
		struct curl_slist *l = curl_slist_append(r->headers, line);

		if (l == NULL)
			return -ENOMEM;
		r->headers = l;
	}
	return 0;
}

#define SET(opt, v) bad |= curl_easy_setopt(c, opt, v) != CURLE_OK

static bool set_tls(CURL *c, const struct host *h)
{
	bool bad = false;

	if (h->skip_verify) {
		SET(CURLOPT_SSL_VERIFYPEER, 0L);
		SET(CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (h->ca_pem != NULL) {
		/* Besides these, curl's directory of authorities counts. */
		struct curl_blob pem = {
			.data = h->ca_pem,
			.len = strlen(h->ca_pem),
			.flags = CURL_BLOB_COPY,
		};

		SET(CURLOPT_CAINFO_BLOB, &pem);
	}
	if (h->client_cert != NULL)
		SET(CURLOPT_SSLCERT, h->client_cert);
	if (h->client_key != NULL)
		SET(CURLOPT_SSLKEY, h->client_key);
	return bad;
}

static bool set_method(struct http_req *r, const struct http_opts *o)
{
	static const char *const names[] = {
		[HTTP_GET] = "GET",     [HTTP_HEAD] = "HEAD",
		[HTTP_POST] = "POST",   [HTTP_PUT] = "PUT",
		[HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE",
	};
	CURL *c = r->easy;
	bool bad = false;

	static_assert(ARRAY_SIZE(names) == HTTP_METHOD_N_, "a name for each");
	if (o->post != NULL) {
		SET(CURLOPT_COPYPOSTFIELDS, o->post);
		return bad;
	}
	if (o->method == HTTP_HEAD)
		SET(CURLOPT_NOBODY, 1L);
	if (o->method == HTTP_POST || o->method == HTTP_PUT ||
	    o->method == HTTP_PATCH) {
		r->body = o->body;
		r->partial = o->method != HTTP_POST;
		SET(CURLOPT_UPLOAD, 1L);
		SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)o->body.len);
		SET(CURLOPT_READFUNCTION, on_read);
		SET(CURLOPT_READDATA, r);
		SET(CURLOPT_SEEKFUNCTION, on_seek);
		SET(CURLOPT_SEEKDATA, r);
		if (o->body.len >= (uint64_t)HTTP_UPLOAD_BUFFER)
			SET(CURLOPT_UPLOAD_BUFFERSIZE, HTTP_UPLOAD_BUFFER);
	}
	if (o->method > HTTP_HEAD)
		SET(CURLOPT_CUSTOMREQUEST, names[o->method]);
	return bad;
}

static int set_up(struct http_req *r, const struct http_opts *o)
{
	const struct registry_settings *set = r->http->set;
	CURL *c = r->easy;
	char agent[64];
	bool bad = false;

	SET(CURLOPT_URL, o->url);
	SET(CURLOPT_PRIVATE, (char *)r);
	SET(CURLOPT_SHARE, r->http->share);
	SET(CURLOPT_ERRORBUFFER, r->error);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_NOSIGNAL, 1L);
	/* A look-up of a name that nobody waits for any more goes on by itself;
	 * else libcurl waits for its end, and all requests with it. */
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)set->connect_timeout_ms);
	SET(CURLOPT_LOW_SPEED_LIMIT, 512L);
	SET(CURLOPT_LOW_SPEED_TIME,
	    o->patient ? HTTP_PATIENCE_S : (long)set->stall_timeout_s);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	(void)snprintf(agent, sizeof(agent), "%s/" VERSION, set->agent);
	SET(CURLOPT_USERAGENT, agent);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, r);
	SET(CURLOPT_WRITEFUNCTION, on_data);
	SET(CURLOPT_WRITEDATA, r);
	SET(CURLOPT_HTTPHEADER, r->headers);
	if (o->bulk)
		SET(CURLOPT_BUFFERSIZE, HTTP_BULK_BUFFER);
	if (o->range != NULL)
		SET(CURLOPT_RANGE, o->range);
	bad |= set_method(r, o);
	if (o->host != NULL)
		bad |= set_tls(c, o->host);
	return bad ? -EBADMSG : 0;
}

int http_start(struct http *h, const struct http_opts *o,
	       const struct http_ops *ops, void *ctx, struct http_req **ret)
{
	struct http_req *r;
	int rc;

	if (strlen(o->url) > URL_BYTES_MAX)
		return -EBADMSG;
	r = calloc(1, sizeof(*r));
	if (r == NULL)
		return -ENOMEM;
	r->http = h;
	r->ops = ops;
	r->ctx = ctx;
	r->easy = curl_easy_init();
	rc = r->easy != NULL ? add_headers(r, o) : -ENOMEM;
	if (rc == 0)
		rc = set_up(r, o);
	if (rc == 0 && curl_multi_add_handle(h->multi, r->easy) != CURLM_OK)
		rc = -ENOMEM;
	if (rc < 0) {
		req_free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

void http_cancel(struct http_req *r)
{
	if (r == NULL)
		return;
	(void)curl_multi_remove_handle(r->http->multi, r->easy);
	req_free(r);
}

void http_resume(struct http_req *r)
{
	(void)curl_easy_pause(r->easy, CURLPAUSE_CONT);
}
