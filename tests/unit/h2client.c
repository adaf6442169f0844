/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/unit/h2client.h"

#include <stdio.h>
#include <string.h>

static int client_on_header(nghttp2_session *s, const nghttp2_frame *f,
			    const uint8_t *name, size_t n_name,
			    const uint8_t *value, size_t n_value, uint8_t flags,
			    void *arg)
{
	struct client *c = arg;
	struct {
		const char *name;
		char *to;
		size_t max;
	} fields[] = {
		{":status", c->out.http, sizeof(c->out.http)},
		{"content-type", c->out.type, sizeof(c->out.type)},
		{"grpc-status", c->out.status, sizeof(c->out.status)},
		{"grpc-message", c->out.message, sizeof(c->out.message)},
	};

	(void)s;
	(void)n_name;
	(void)flags;
	if (f->hd.stream_id != c->stream)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (strcmp((const char *)name, fields[i].name) == 0)
			(void)snprintf(fields[i].to, fields[i].max, "%.*s",
				       (int)n_value, (const char *)value);
	}
	return 0;
}

static int client_on_frame(nghttp2_session *s, const nghttp2_frame *f,
			   void *arg)
{
	struct client *c = arg;

	(void)s;
	if (f->hd.type == NGHTTP2_GOAWAY)
		c->goaway = true;
	if (f->hd.stream_id == c->stream && f->hd.type == NGHTTP2_HEADERS &&
	    f->headers.cat == NGHTTP2_HCAT_RESPONSE)
		c->out.trailers_only =
			(f->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
	return 0;
}

static int client_on_data(nghttp2_session *s, uint8_t flags, int32_t id,
			  const uint8_t *p, size_t n, void *arg)
{
	struct client *c = arg;

	(void)flags;
	if (!c->deaf)
		assert(nghttp2_session_consume(s, id, n) == 0);
	if (id != c->stream)
		return 0;
	assert(n <= sizeof(c->out.body) - c->out.n_body);
	memcpy(c->out.body + c->out.n_body, p, n);
	c->out.n_body += n;
	return 0;
}

static int client_on_close(nghttp2_session *s, int32_t id, uint32_t code,
			   void *arg)
{
	struct client *c = arg;

	(void)s;
	if (id != c->stream)
		return 0;
	c->out.closed = true;
	c->out.code = code;
	return 0;
}

void client_open(struct client *c, struct grpc *g)
{
	nghttp2_session_callbacks *cb;
	nghttp2_option *option;

	*c = (struct client){.g = g, .stream = -1};
	c->conn = h2_conn_new(grpc_h2(g), -1);
	assert(c->conn != NULL);
	assert(nghttp2_session_callbacks_new(&cb) == 0);
	nghttp2_session_callbacks_set_on_header_callback(cb, client_on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb,
							     client_on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
		cb, client_on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb,
							       client_on_close);
	assert(nghttp2_option_new(&option) == 0);
	nghttp2_option_set_no_auto_window_update(option, 1);
	assert(nghttp2_session_client_new2(&c->session, cb, c, option) == 0);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(cb);
	assert(nghttp2_submit_settings(c->session, 0, NULL, 0) == 0);
}

void client_close(struct client *c)
{
	if (c->conn != NULL)
		h2_conn_free(c->conn);
	c->conn = NULL;
	nghttp2_session_del(c->session);
	c->session = NULL;
}

/* To the server, in steps. Return: 0, -errno of h2_feed() */
static int client_feed(struct client *c, const uint8_t *p, size_t n)
{
	int r = 0;

	while (n > 0 && r == 0) {
		size_t part = c->step > 0 ? MIN(n, (size_t)c->step) : n;

		r = h2_feed(c->conn, p, part);
		p += part;
		n -= part;
	}
	return r;
}

int client_pump(struct client *c)
{
	bool moved = true;
	int r = 0;

	while (moved && r == 0 && !c->over) {
		const uint8_t *p;
		ssize_t n = nghttp2_session_mem_send(c->session, &p);

		assert(n >= 0);
		moved = n > 0;
		if (n > 0)
			r = client_feed(c, p, (size_t)n);
		n = r == 0 ? h2_pull(c->conn, &p) : 0;
		if (n == -EPIPE)
			c->over = true;
		if (n <= 0)
			continue;
		moved = true;
		assert(nghttp2_session_mem_recv(c->session, p, (size_t)n) == n);
	}
	return r;
}

static ssize_t client_read_body(nghttp2_session *s, int32_t id, uint8_t *to,
				size_t n, uint32_t *flags,
				nghttp2_data_source *source, void *arg)
{
	struct client *c = source->ptr;

	(void)s;
	(void)id;
	(void)arg;
	n = MIN(n, c->n - c->off);
	memcpy(to, c->p + c->off, n);
	c->off += n;
	if (c->off == c->n && c->open_end)
		return n > 0 ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
	if (c->off == c->n)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

static nghttp2_nv client_nv(const char *name, const char *value)
{
	union {
		const char *from;
		uint8_t *to;
	} n = {name}, v = {value};

	return (nghttp2_nv){n.to, v.to, strlen(name), strlen(value),
			    NGHTTP2_NV_FLAG_NONE};
}

void client_send(struct client *c, const char *path, const void *p, size_t n,
		 const char *const *extra)
{
	const char *usual[] = {
		":method",      "POST",
		":scheme",      "http",
		":path",        path,
		":authority",   "localhost",
		"content-type", "application/grpc",
		"te",           "trailers",
	};
	nghttp2_data_provider from = {{.ptr = c}, client_read_body};
	nghttp2_nv nv[CLIENT_HEADERS_MAX];
	size_t k = 0;

	for (size_t i = 0; i < ARRAY_SIZE(usual); i += 2) {
		const char *value = usual[i + 1];

		for (size_t x = 0; extra != NULL && extra[x] != NULL; x += 2) {
			if (strcmp(extra[x], usual[i]) == 0)
				value = extra[x + 1];
		}
		if (value != NULL)
			nv[k++] = client_nv(usual[i], value);
	}
	for (size_t x = 0; extra != NULL && extra[x] != NULL; x += 2) {
		bool known = false;

		for (size_t i = 0; i < ARRAY_SIZE(usual); i += 2)
			known |= strcmp(extra[x], usual[i]) == 0;
		assert(k < ARRAY_SIZE(nv));
		if (!known)
			nv[k++] = client_nv(extra[x], extra[x + 1]);
	}
	c->p = p;
	c->n = n;
	c->off = 0;
	c->out = (struct outcome){0};
	c->stream =
		nghttp2_submit_request(c->session, NULL, nv, k, &from, NULL);
	assert(c->stream > 0);
}

const struct outcome *client_call(struct client *c, const char *path,
				  const void *msg, size_t len)
{
	static uint8_t bytes[65536];

	assert(len <= sizeof(bytes) - 5);
	bytes[0] = 0;
	bytes[1] = (uint8_t)(len >> 24);
	bytes[2] = (uint8_t)(len >> 16);
	bytes[3] = (uint8_t)(len >> 8);
	bytes[4] = (uint8_t)len;
	if (len > 0)
		memcpy(bytes + 5, msg, len);
	client_send(c, path, bytes, len + 5, NULL);
	assert(client_pump(c) == 0);
	return &c->out;
}
