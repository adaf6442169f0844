/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: HTTP requests over one curl multi handle driven by the loop. All
 * connections, TLS sessions and DNS answers are shared by all requests.
 * Redirects are not followed here, and nothing is authenticated here.
 */
#ifndef REGISTRY_HTTP_H
#define REGISTRY_HTTP_H

#include "common/base.h"
#include "common/err.h"
#include "daemon/registry/headers.h"

struct registry;
struct host;
struct http;
struct http_req;

#define HTTP_CHALLENGES_MAX 8192u

enum http_method {
	HTTP_GET,
	HTTP_HEAD,
	HTTP_POST,
	HTTP_PUT,
	HTTP_PATCH,
	HTTP_DELETE,
	HTTP_METHOD_N_
};

/**
 * struct http_body - what POST, PUT and PATCH send; borrowed
 * @data:	[@len], NULL: [@off, @off + @len) of @fd, read by pread(2)
 */
struct http_body {
	const void *data;
	int fd;
	uint64_t off;
	uint64_t len;
};

/**
 * struct http_resp - status line and headers of a response
 * @www:	all WWW-Authenticate values, joined by ", "; "" where none
 * @retry_after_s: 0 where none
 * @location, …: NULL where none
 */
struct http_resp {
	unsigned status;
	bool has_length;
	bool has_range;
	bool bad_range;    /* a Content-Range that does not parse */
	bool has_encoding; /* a Content-Encoding other than identity */
	uint64_t length;
	struct content_range range;
	uint64_t retry_after_s;
	char *location;
	char *www;
	char *digest;    /* Docker-Content-Digest */
	char *subject;   /* OCI-Subject */
	char *chunk_min; /* OCI-Chunk-Min-Length */
	char *upload;    /* Range, of an upload */
	char *link;
	char *content_type;
};

/* Without memory a header counts as absent. */
void http_resp_copy(const struct http_resp *r, struct http_resp *ret);
void http_resp_done(struct http_resp *r);

/**
 * struct http_end - how a request ended
 * @code:	0 the body is complete; -ECANCELED a callback said so; else
 *		-EIO, -ETIMEDOUT, -EACCES (TLS), …
 * @connect_failed: the server was not reached at all
 * @permanent:	trying again does not help
 */
struct http_end {
	int code;
	bool connect_failed;
	bool permanent;
	char text[ERR_TEXT_BYTES];
};

struct http_ops {
	/* The headers are complete (1xx aside). < 0 ends the request. */
	int (*headers)(void *ctx, const struct http_resp *r);
	/* HTTP_PAUSE: not taken, comes again after http_resume(). */
	int (*data)(void *ctx, const void *p, size_t n);
	/* May be NULL: n more bytes of the body were handed over. */
	void (*sent)(void *ctx, size_t n);
	/* The request is freed after this returns. */
	void (*done)(void *ctx, const struct http_end *end);
};

#define HTTP_PAUSE 1

/**
 * struct http_opts - a request; everything is copied but @host and @body
 * @range:	"0-99" or "-100", NULL for none
 * @headers:	[@n_headers]
 * @post:	form to POST, whatever @method is; NULL: none
 * @host:	TLS settings, NULL for the usual; outlives the request
 * @bulk:	much data is expected
 * @patient:	the server may think for minutes before it answers
 */
struct http_opts {
	const char *url;
	const char *range;
	const char *const *headers;
	size_t n_headers;
	const char *post;
	const struct host *host;
	enum http_method method;
	struct http_body body;
	bool bulk;
	bool patient;
};

/* g: its loop and settings are used; outlives it. Return: 0, -ENOMEM. */
int http_new(struct registry *g, struct http **ret);
void http_free(struct http *h);

/* Return: 0, -ENOMEM, -EBADMSG. Callbacks come from the loop, later. */
int http_start(struct http *h, const struct http_opts *o,
	       const struct http_ops *ops, void *ctx, struct http_req **ret);
/* Ends a request with no callback. Not from its own callbacks. */
void http_cancel(struct http_req *r);
/* Callbacks may come before it returns, but not done(). */
void http_resume(struct http_req *r);

/* Bytes received in all. */
uint64_t http_bytes(const struct http *h);

#endif
