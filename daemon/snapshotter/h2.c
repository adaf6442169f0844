/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/h2.h"

#include <nghttp2/nghttp2.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define LOG_MOD "h2"
#include "common/log.h"

#define SCRATCH_BYTES KIB(32)
/* Of nghttp2: payload, length of padding, header. */
#define FRAME_BYTES_MAX (16384u + 1u + 9u)
#define ACCEPT_A_TURN 16
#define HEADERS_MAX 8u

struct h2 {
	struct loop *loop;
	struct loop_io io;
	struct loop_timer timer; /* resumes accepting; ends draining */
	const struct h2_ops *ops;
	void *arg;
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *option;
	unsigned conns_max;
	unsigned streams_max;
	unsigned n_conns;
	struct list conns; /* the one that was heard of last is last */
	bool draining;
	uint8_t scratch[SCRATCH_BYTES]; /* between socket and session */
};

struct h2_conn {
	struct loop_io io; /* first */
	struct loop_task flush;
	struct h2 *h;
	struct list node;
	nghttp2_session *session;
	struct list streams;
	bool failed;  /* out of memory */
	uint8_t *out; /* what the socket had no room for */
	size_t out_off;
	size_t out_len;
};

static void conn_flush(struct h2_conn *c);

/* There is something to send, at the end of the turn. */
static void wake(struct h2_conn *c, int r)
{
	if (r < 0)
		c->failed = true;
	if (c->io.fd >= 0)
		loop_task_add(c->h->loop, &c->flush);
}

/* ---- what nghttp2 tells ---- */

static struct h2_stream *stream_of(nghttp2_session *session, int32_t id)
{
	return nghttp2_session_get_stream_user_data(session, id);
}

static int on_begin_headers(nghttp2_session *session,
			    const nghttp2_frame *frame, void *arg)
{
	struct h2_conn *c = arg;
	struct h2_stream *s;

	if (frame->hd.type != NGHTTP2_HEADERS ||
	    frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	s = c->h->ops->open(c->h->arg);
	if (s == NULL)
		return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE,
						 frame->hd.stream_id,
						 NGHTTP2_REFUSED_STREAM);
	s->conn = c;
	s->id = frame->hd.stream_id;
	list_add(&c->streams, &s->node);
	return nghttp2_session_set_stream_user_data(session, s->id, s);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame,
		     const uint8_t *name, size_t n_name, const uint8_t *value,
		     size_t n_value, uint8_t flags, void *arg)
{
	struct h2_conn *c = arg;
	struct h2_stream *s = stream_of(session, frame->hd.stream_id);

	(void)flags;
	if (s == NULL)
		return 0;
	/* One header is less than 64 KiB: no overflow before this ends it. */
	s->header_bytes += (uint32_t)(n_name + n_value + 32);
	if (s->header_bytes > H2_HEADER_BYTES_MAX)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	/* nghttp2 has checked that there is no NUL in them but the last. */
	if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		c->h->ops->header(s, (const char *)name, (const char *)value);
	return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id,
			 const uint8_t *p, size_t n, void *arg)
{
	struct h2_conn *c = arg;
	struct h2_stream *s = stream_of(session, id);

	(void)flags;
	if (s != NULL)
		c->h->ops->data(s, p, n);
	return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame,
			 void *arg)
{
	struct h2_conn *c = arg;
	struct h2_stream *s = stream_of(session, frame->hd.stream_id);

	if (frame->hd.type == NGHTTP2_PING &&
	    (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 && c->h->draining)
		/* What the peer sent before it knew has come by now. */
		return nghttp2_submit_goaway(
			session, NGHTTP2_FLAG_NONE,
			nghttp2_session_get_last_proc_stream_id(session),
			NGHTTP2_NO_ERROR, NULL, 0);
	if (s == NULL || (frame->hd.type != NGHTTP2_HEADERS &&
			  frame->hd.type != NGHTTP2_DATA))
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS &&
	    frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		c->h->ops->headers(s);
	if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
		c->h->ops->end(s);
	return 0;
}

/* An answer that ended before its request did: the rest is not wanted. */
static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame,
			 void *arg)
{
	int32_t id = frame->hd.stream_id;

	(void)arg;
	if ((frame->hd.type != NGHTTP2_HEADERS &&
	     frame->hd.type != NGHTTP2_DATA) ||
	    (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 ||
	    nghttp2_session_get_stream_remote_close(session, id) != 0)
		return 0;
	return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id,
					 NGHTTP2_NO_ERROR);
}

static void stream_closed(struct h2_stream *s)
{
	const struct h2_ops *ops = s->conn->h->ops;

	list_del(&s->node);
	s->conn = NULL;
	ops->closed(s);
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code,
			   void *arg)
{
	struct h2_stream *s = stream_of(session, id);

	(void)code;
	(void)arg;
	if (s != NULL)
		stream_closed(s);
	return 0;
}

static ssize_t on_read_body(nghttp2_session *session, int32_t id, uint8_t *to,
			    size_t n, uint32_t *flags,
			    nghttp2_data_source *source, void *arg)
{
	struct h2_conn *c = arg;
	bool end = false;

	(void)session;
	(void)id;
	n = c->h->ops->body(source->ptr, to, n, &end);
	if (end)
		*flags |=
			NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
	return n > 0 || end ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
}

/* ---- answers ---- */

static size_t fields(nghttp2_nv *to, const struct h2_header *v, size_t n)
{
	assert(n <= HEADERS_MAX);
	for (size_t i = 0; i < n; i++) {
		/* nghttp2 copies them, and only lacks the const. */
		union {
			const char *from;
			uint8_t *to;
		} name = {v[i].name}, value = {v[i].value};

		to[i] = (nghttp2_nv){
			.name = name.to,
			.namelen = strlen(v[i].name),
			.value = value.to,
			.valuelen = strlen(v[i].value),
			.flags = NGHTTP2_NV_FLAG_NONE,
		};
	}
	return n;
}

void h2_respond(struct h2_stream *s, const struct h2_header *v, size_t n,
		bool body)
{
	nghttp2_data_provider from = {
		.source = {.ptr = s},
		.read_callback = on_read_body,
	};
	nghttp2_nv nv[HEADERS_MAX];

	if (s->conn == NULL)
		return;
	n = fields(nv, v, n);
	wake(s->conn, nghttp2_submit_response(s->conn->session, s->id, nv, n,
					      body ? &from : NULL));
}

void h2_trailers(struct h2_stream *s, const struct h2_header *v, size_t n)
{
	nghttp2_nv nv[HEADERS_MAX];

	if (s->conn == NULL)
		return;
	n = fields(nv, v, n);
	wake(s->conn, nghttp2_submit_trailer(s->conn->session, s->id, nv, n));
}

void h2_resume(struct h2_stream *s)
{
	if (s->conn == NULL)
		return;
	/* Fails where nothing is deferred, which is as well. */
	(void)nghttp2_session_resume_data(s->conn->session, s->id);
	wake(s->conn, 0);
}

/* ---- connections ---- */

int h2_feed(struct h2_conn *c, const uint8_t *p, size_t n)
{
	ssize_t r = nghttp2_session_mem_recv(c->session, p, n);

	if (r == NGHTTP2_ERR_NOMEM || c->failed)
		return -ENOMEM;
	return r < 0 ? -EPROTO : 0;
}

ssize_t h2_pull(struct h2_conn *c, const uint8_t **ret_p)
{
	ssize_t n = nghttp2_session_mem_send(c->session, ret_p);

	if (n < 0 || c->failed)
		return -ENOMEM;
	if (n == 0 && nghttp2_session_want_read(c->session) == 0 &&
	    nghttp2_session_want_write(c->session) == 0)
		return -EPIPE;
	return n;
}

void h2_conn_free(struct h2_conn *c)
{
	struct h2 *h = c->h;

	while (!list_empty(&c->streams))
		stream_closed(
			LIST_ENTRY(c->streams.next, struct h2_stream, node));
	nghttp2_session_del(c->session);
	loop_task_del(&c->flush);
	if (c->io.fd >= 0) {
		loop_io_del(h->loop, &c->io);
		(void)close(c->io.fd);
	}
	list_del(&c->node);
	free(c->out);
	free(c);
	h->n_conns--;
	if (h->n_conns == 0)
		h->ops->idle(h->arg);
}

/* Return: 0 all of it is out, or waits in c->out; -errno */
static int conn_send(struct h2_conn *c, const uint8_t *p, size_t n)
{
	ssize_t r = send(c->io.fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (r < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	r = MAX(r, (ssize_t)0);
	if ((size_t)r == n)
		return 0;
	c->out_off = 0;
	c->out_len = n - (size_t)r;
	c->out = malloc(c->out_len);
	if (c->out == NULL)
		return -ENOMEM;
	memcpy(c->out, p + r, c->out_len);
	return loop_io_mod(c->h->loop, &c->io, EPOLLOUT);
}

/* As many frames as fit go out at once. Return: 0, -errno the connection ends */
static int conn_send_frames(struct h2_conn *c)
{
	uint8_t *scratch = c->h->scratch;
	ssize_t n = 1;
	int r = 0;

	while (n > 0 && r == 0 && c->out == NULL) {
		const uint8_t *p = NULL;
		size_t used = 0;

		while (SCRATCH_BYTES - used >= FRAME_BYTES_MAX) {
			n = h2_pull(c, &p);
			if (n <= 0)
				break;
			assert((size_t)n <= FRAME_BYTES_MAX);
			memcpy(scratch + used, p, (size_t)n);
			used += (size_t)n;
		}
		if (used > 0)
			r = conn_send(c, scratch, used);
	}
	/* What waits is sent before the end. */
	return r == 0 && c->out == NULL ? (int)n : r;
}

static void conn_flush(struct h2_conn *c)
{
	int r = conn_send_frames(c);

	if (r < 0)
		h2_conn_free(c);
}

static void on_flush(struct loop_task *t)
{
	struct h2_conn *c = LIST_ENTRY(t, struct h2_conn, flush);

	if (c->out == NULL)
		conn_flush(c);
}

static void on_writable(struct h2_conn *c)
{
	ssize_t n = send(c->io.fd, c->out + c->out_off, c->out_len - c->out_off,
			 MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			h2_conn_free(c);
		return;
	}
	c->out_off += (size_t)n;
	if (c->out_off < c->out_len)
		return;
	free(TAKE_PTR(c->out));
	if (loop_io_mod(c->h->loop, &c->io, EPOLLIN) < 0)
		h2_conn_free(c);
	else
		conn_flush(c);
}

static void on_conn(struct loop_io *io, uint32_t events)
{
	struct h2_conn *c = (struct h2_conn *)(void *)io;
	struct h2 *h = c->h;
	ssize_t n;

	(void)events;
	if (c->out != NULL) {
		on_writable(c);
		return;
	}
	n = recv(io->fd, h->scratch, SCRATCH_BYTES, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		h2_conn_free(c);
		return;
	}
	list_del(&c->node);
	list_add(&h->conns, &c->node);
	if (h2_feed(c, h->scratch, (size_t)n) < 0) {
		log_debug("msg=\"a client broke the protocol\"");
		h2_conn_free(c);
		return;
	}
	loop_task_add(h->loop, &c->flush);
}

static int conn_start(struct h2_conn *c)
{
	const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, c->h->streams_max},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_HEADER_BYTES_MAX},
	};
	int r = nghttp2_session_server_new2(&c->session, c->h->callbacks, c,
					    c->h->option);

	if (r == 0)
		r = nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE,
					    settings, ARRAY_SIZE(settings));
	return r == 0 ? 0 : -ENOMEM;
}

struct h2_conn *h2_conn_new(struct h2 *h, int fd)
{
	struct h2_conn *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->h = h;
	c->io.fd = fd;
	c->io.fn = on_conn;
	c->flush.fn = on_flush;
	list_init(&c->streams);
	if (conn_start(c) < 0 ||
	    (fd >= 0 && loop_io_add(h->loop, &c->io, EPOLLIN) < 0)) {
		nghttp2_session_del(c->session);
		free(c);
		return NULL;
	}
	list_add(&h->conns, &c->node);
	h->n_conns++;
	wake(c, 0);
	return c;
}

/* ---- the listening socket ---- */

/* Return: whether there is room for one more connection. */
static bool make_room(struct h2 *h)
{
	if (h->n_conns < h->conns_max)
		return true;
	LIST_EACH(n, &h->conns)
	{
		struct h2_conn *c = LIST_ENTRY(n, struct h2_conn, node);

		if (list_empty(&c->streams)) {
			h2_conn_free(c);
			return true;
		}
	}
	return false;
}

static void on_accept(struct loop_io *io, uint32_t events)
{
	struct h2 *h = LIST_ENTRY(io, struct h2, io);
	int err = 0;

	(void)events;
	for (int i = 0; i < ACCEPT_A_TURN && err == 0; i++) {
		int fd = accept4(io->fd, NULL, NULL,
				 SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED ||
			       errno == EINTR))
			return;
		if (fd < 0)
			err = errno;
		else if (!make_room(h))
			err = EUSERS;
		else if (h2_conn_new(h, fd) == NULL)
			err = ENOMEM;
		if (fd >= 0 && err != 0)
			(void)close(fd);
	}
	if (err == 0)
		return;
	log_warn("msg=\"cannot take a client\" err=%s clients=%u",
		 err_symbol(err), h->n_conns);
	/* Not again at once: the reason will not be gone. */
	if (loop_io_mod(h->loop, &h->io, 0) == 0)
		loop_timer_set(h->loop, &h->timer,
			       loop_now(h->loop) + NSEC_PER_SEC);
}

/* Those that have not answered the PING get the last GOAWAY all the same. */
static void end_draining(struct h2 *h)
{
	LIST_EACH(n, &h->conns)
	{
		struct h2_conn *c = LIST_ENTRY(n, struct h2_conn, node);

		wake(c, nghttp2_submit_goaway(
				c->session, NGHTTP2_FLAG_NONE,
				nghttp2_session_get_last_proc_stream_id(
					c->session),
				NGHTTP2_NO_ERROR, NULL, 0));
	}
}

static void on_timer(struct loop_timer *t)
{
	struct h2 *h = LIST_ENTRY(t, struct h2, timer);

	if (h->draining)
		end_draining(h);
	else
		(void)loop_io_mod(h->loop, &h->io, EPOLLIN);
}

static void stop_listening(struct h2 *h)
{
	if (h->io.fd < 0)
		return;
	loop_io_del(h->loop, &h->io);
	(void)close(TAKE_FD(h->io.fd));
}

void h2_drain(struct h2 *h)
{
	h->draining = true;
	stop_listening(h);
	LIST_EACH(n, &h->conns)
	{
		struct h2_conn *c = LIST_ENTRY(n, struct h2_conn, node);
		int r = nghttp2_submit_shutdown_notice(c->session);

		if (r == 0)
			r = nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE,
						NULL);
		wake(c, r);
	}
	loop_timer_set(h->loop, &h->timer, loop_now(h->loop) + H2_DRAIN_NS);
}

void h2_close_all(struct h2 *h)
{
	while (!list_empty(&h->conns))
		h2_conn_free(LIST_ENTRY(h->conns.next, struct h2_conn, node));
}

unsigned h2_n_conns(const struct h2 *h)
{
	return h->n_conns;
}

static int make_callbacks(struct h2 *h)
{
	nghttp2_session_callbacks *cb;

	if (nghttp2_option_new(&h->option) != 0 ||
	    nghttp2_session_callbacks_new(&h->callbacks) != 0)
		return -ENOMEM;
	/* Nobody asks for priorities: nothing of old streams is kept. */
	nghttp2_option_set_no_closed_streams(h->option, 1);
	cb = h->callbacks;
	nghttp2_session_callbacks_set_on_begin_headers_callback(
		cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
		cb, on_data_chunk);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb,
							       on_stream_close);
	return 0;
}

int h2_new(struct h2 **ret, struct loop *loop, int fd, unsigned conns_max,
	   unsigned streams_max, const struct h2_ops *ops, void *arg,
	   struct err *e)
{
	struct h2 *h = calloc(1, sizeof(*h));
	int r = -ENOMEM;

	if (h != NULL) {
		h->loop = loop;
		h->io.fd = -1;
		h->io.fn = on_accept;
		h->timer.fn = on_timer;
		h->ops = ops;
		h->arg = arg;
		h->conns_max = conns_max;
		h->streams_max = streams_max;
		list_init(&h->conns);
		r = make_callbacks(h);
	}
	if (r == 0 && fd >= 0) {
		h->io.fd = fd;
		r = loop_io_add(loop, &h->io, EPOLLIN);
		if (r < 0)
			h->io.fd = -1;
	}
	if (r < 0) {
		h2_free(h);
		return err_set(e, r, "listening socket: %s", err_name(r));
	}
	*ret = h;
	return 0;
}

void h2_free(struct h2 *h)
{
	if (h == NULL)
		return;
	h2_close_all(h);
	stop_listening(h);
	loop_timer_clear(&h->timer);
	nghttp2_session_callbacks_del(h->callbacks);
	nghttp2_option_del(h->option);
	free(h);
}
