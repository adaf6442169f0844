/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/server.h"

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define LOG_MOD "server"
#include "common/buf.h"
#include "common/checked.h"
#include "common/io.h"
#include "common/listen.h"
#include "common/log.h"
#include "daemon/fetcher/blob.h"
#include "daemon/fetcher/hints.h"
#include "daemon/fetcher/resolve.h"
#include "daemon/fetcher/status.h"
#include "daemon/fetcher/warm.h"
#include "daemon/fetcher/wire.h"

#define DATA_STEP KIB(128)
#define PACKETS_A_TURN 64
#define READ_DEADLINE_MS 300000u
#define RESOLVE_DEADLINE_MS 30000u

struct server {
	struct fetchd *d;
	struct loop_io io;
	struct loop_timer idle;
	struct loop_timer resume; /* accepting, after running out of files */
	bool exit_when_idle;
	unsigned n_clients;
	unsigned n_reqs;
	struct list clients;
	uint8_t packet[PROTO_PACKET_MAX];
	char text[PROTO_TEXT_MAX + 1];
};

struct handle {
	struct blob *b; /* NULL: free */
	uint64_t size;
	struct hints *hints; /* it was opened with a trace; NULL: not */
};

/* A packet that could not be sent yet. */
struct out {
	struct list node;
	size_t n;
	uint8_t p[];
};

struct client {
	struct loop_io io; /* first */
	struct server *s;
	struct list node;
	struct loop_task reaper;
	bool hello;
	bool dead;
	bool waiting; /* for room to send */
	uint8_t *arena;
	uint64_t arena_bytes;
	struct handle *handles;
	uint32_t n_handles;
	unsigned n_hints; /* handles that have them */
	unsigned n_reqs;
	struct list reqs;
	struct list outs;
};

/* An open READ or RESOLVE. */
struct req {
	struct read rd; /* first; blob NULL: a RESOLVE */
	struct client *c;
	struct list node;
	uint64_t id;
	uint64_t sent;
	uint32_t handle;
	uint64_t arena_off; /* of a RESOLVE */
	uint64_t arena_len;
	struct resolve *rs;
};

unsigned server_clients(const struct server *s)
{
	return s->n_clients;
}

unsigned server_requests(const struct server *s)
{
	return s->n_reqs;
}

/* ---- sending ---- */

/* The client ends at the end of the turn, when nothing of it is in use. */
static void client_end(struct client *c)
{
	if (c->dead)
		return;
	c->dead = true;
	loop_io_del(c->s->d->loop, &c->io);
	loop_task_add(c->s->d->loop, &c->reaper);
}

static void client_send(struct client *c, const uint8_t *p, size_t n)
{
	struct out *o;
	int r = -EAGAIN;

	if (c->dead)
		return;
	if (list_empty(&c->outs))
		r = io_send_fds(c->io.fd, p, n, NULL, 0, MSG_DONTWAIT);
	if (r == 0)
		return;
	o = r == -EAGAIN ? malloc(sizeof(*o) + n) : NULL;
	if (o == NULL) {
		client_end(c);
		return;
	}
	o->n = n;
	memcpy(o->p, p, n);
	list_add(&c->outs, &o->node);
	if (c->waiting)
		return;
	c->waiting = true;
	/* Until these are out, nothing more is read of it. */
	if (loop_io_mod(c->s->d->loop, &c->io, EPOLLOUT) < 0)
		client_end(c);
}

static void client_flush(struct client *c)
{
	while (!list_empty(&c->outs)) {
		struct out *o = LIST_ENTRY(c->outs.next, struct out, node);
		int r = io_send_fds(c->io.fd, o->p, o->n, NULL, 0,
				    MSG_DONTWAIT);

		if (r == -EAGAIN)
			return;
		if (r < 0) {
			client_end(c);
			return;
		}
		list_del(&o->node);
		free(o);
	}
	c->waiting = false;
	if (loop_io_mod(c->s->d->loop, &c->io, EPOLLIN) < 0)
		client_end(c);
}

static void send_failed(struct client *c, uint64_t id, int code,
			const char *text)
{
	uint8_t buf[sizeof(struct proto_failed) + ERR_TEXT_BYTES];

	client_send(c, buf, wire_put_failed(buf, id, code, text));
}

static void send_data(struct client *c, uint64_t id, unsigned flags,
		      uint64_t got, uint64_t off, uint64_t size)
{
	uint8_t buf[sizeof(struct proto_data)];

	client_send(c, buf, wire_put_data(buf, id, flags, got, off, size));
}

/* ---- requests ---- */

static struct req *req_new(struct client *c, uint64_t id)
{
	struct req *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return NULL;
	q->c = c;
	q->id = id;
	list_add(&c->reqs, &q->node);
	c->n_reqs++;
	c->s->n_reqs++;
	return q;
}

static void req_free(struct req *q)
{
	list_del(&q->node);
	q->c->n_reqs--;
	q->c->s->n_reqs--;
	free(q);
}

static void req_stop(struct req *q)
{
	if (q->rd.blob != NULL)
		read_stop(&q->rd);
	resolve_stop(q->rs);
	req_free(q);
}

static struct req *req_find(struct client *c, uint64_t id)
{
	LIST_EACH(n, &c->reqs)
	{
		struct req *q = LIST_ENTRY(n, struct req, node);

		if (q->id == id)
			return q;
	}
	return NULL;
}

static uint64_t blob_size_of(const struct req *q)
{
	return q->rd.blob->size_known ? q->rd.blob->size : 0;
}

static void on_progress(struct read *rd)
{
	struct req *q = (struct req *)(void *)rd;

	/* One that is not read at once tells nothing the next will not. */
	if (rd->got - q->sent < DATA_STEP || !list_empty(&q->c->outs))
		return;
	q->sent = rd->got;
	send_data(q->c, q->id, 0, rd->got, rd->off, blob_size_of(q));
}

static void on_read_done(struct read *rd, int code, const char *text)
{
	struct req *q = (struct req *)(void *)rd;

	if (code < 0) {
		log_debug("msg=\"read failed: %s\" err=%s", text,
			  err_symbol(code));
		send_failed(q->c, q->id, code, text);
	} else {
		send_data(q->c, q->id, PROTO_DATA_END, rd->got, rd->off,
			  blob_size_of(q));
	}
	req_free(q);
}

static void on_resolved(void *ctx, const char *json, size_t len,
			const struct err *e)
{
	struct req *q = ctx;

	if (e != NULL) {
		send_failed(q->c, q->id, e->code, e->text);
	} else if (len > q->arena_len) {
		send_failed(q->c, q->id, -EOVERFLOW,
			    "the document does not fit");
	} else {
		memcpy(q->c->arena + q->arena_off, json, len);
		send_data(q->c, q->id, PROTO_DATA_END, len, 0, len);
	}
	req_free(q);
}

static uint64_t deadline_of(struct client *c, uint32_t ms, uint32_t usual)
{
	return loop_now(c->s->d->loop) + (ms != 0 ? ms : usual) * NSEC_PER_MSEC;
}

static void do_read(struct client *c, const struct wire_msg *m)
{
	struct handle *h = m->handle > 0 && m->handle <= c->n_handles
				   ? &c->handles[m->handle - 1]
				   : NULL;
	struct req *q;

	if (h == NULL || h->b == NULL) {
		send_failed(c, m->id, -EPROTO, "unknown handle");
		return;
	}
	q = req_new(c, m->id);
	if (q == NULL) {
		send_failed(c, m->id, -ENOMEM, "out of memory");
		return;
	}
	q->handle = m->handle;
	q->rd.blob = h->b;
	q->rd.dst = c->arena + m->arena_off;
	q->rd.off = m->off;
	q->rd.len = m->len;
	q->rd.expect_size = h->size;
	q->rd.deadline_ns = deadline_of(c, m->deadline_ms, READ_DEADLINE_MS);
	q->rd.class_ = m->class_;
	q->rd.suffix = (m->flags & PROTO_READ_SUFFIX) != 0;
	q->rd.other_source = (m->flags & PROTO_READ_OTHER_SOURCE) != 0;
	q->rd.one = (m->flags & PROTO_READ_ONE) != 0;
	q->rd.progress = on_progress;
	q->rd.done = on_read_done;
	read_start(&q->rd);
}

static void do_resolve(struct client *c, const struct wire_msg *m)
{
	struct req *q = req_new(c, m->id);
	struct err e = {0};
	int r;

	if (q == NULL) {
		send_failed(c, m->id, -ENOMEM, "out of memory");
		return;
	}
	q->arena_off = m->arena_off;
	q->arena_len = m->arena_len;
	r = resolve_start(c->s->d, m->text,
			  (m->flags & PROTO_RESOLVE_PLAIN_HTTP) != 0,
			  deadline_of(c, m->deadline_ms, RESOLVE_DEADLINE_MS),
			  on_resolved, q, &q->rs, &e);
	if (r < 0) {
		send_failed(c, m->id, r, e.text);
		req_free(q);
	}
}

/* A free place in the table of handles; UINT32_MAX: none. */
static uint32_t handle_free(struct client *c)
{
	struct handle *h;
	uint32_t n;

	for (uint32_t i = 0; i < c->n_handles; i++) {
		if (c->handles[i].b == NULL)
			return i;
	}
	if (c->n_handles >= PROTO_HANDLES_MAX)
		return UINT32_MAX;
	n = MAX(c->n_handles * 2, 4u);
	h = realloc(c->handles, n * sizeof(*h));
	if (h == NULL)
		return UINT32_MAX;
	memset(h + c->n_handles, 0, (n - c->n_handles) * sizeof(*h));
	c->handles = h;
	c->n_handles = n;
	return n == 4 ? 0 : n / 2;
}

static void send_hint(void *ctx, const uint8_t *p, size_t n)
{
	client_send(ctx, p, n);
}

static void do_open(struct client *c, const struct wire_msg *m, int fd)
{
	uint8_t buf[sizeof(struct proto_opened)];
	/* The name of the blob, and that of a trace behind it. */
	char *trace = strchr(c->s->text, '\n');
	uint32_t i = handle_free(c);
	struct hints *hs = NULL;
	struct err e = {0};
	int r;

	if (i == UINT32_MAX) {
		if (fd >= 0)
			(void)close(fd);
		send_failed(c, m->id, -EOVERFLOW, "too many open blobs");
		return;
	}
	if (trace != NULL)
		*trace++ = '\0';
	r = blob_open(c->s->d, m->kind, m->text,
		      (m->flags & PROTO_OPEN_PLAIN_HTTP) != 0, fd,
		      &c->handles[i].b, &e);
	if (r < 0) {
		c->handles[i].b = NULL;
		send_failed(c, m->id, r, e.text);
		return;
	}
	c->handles[i].size = m->size;
	/* They are sent when they are there, whether the client reads or not. */
	if (trace != NULL && c->n_hints < PROTO_HINT_HANDLES_MAX) {
		const struct hints_to to = {m->id, i + 1, c, send_hint};

		hs = hints_new(c->s->d, c->handles[i].b, m->text, trace,
			       (m->flags & PROTO_OPEN_PLAIN_HTTP) != 0, &to);
	}
	c->handles[i].hints = hs;
	c->n_hints += hs != NULL;
	client_send(c, buf,
		    wire_put_opened(buf, m->id,
				    hs != NULL ? PROTO_OPENED_HINTS : 0,
				    i + 1));
	if (hs != NULL)
		hints_start(hs);
}

static void do_close(struct client *c, uint32_t handle)
{
	struct blob *b;

	if (handle == 0 || handle > c->n_handles)
		return;
	LIST_EACH_SAFE(n, &c->reqs)
	{
		struct req *q = LIST_ENTRY(n, struct req, node);

		if (q->rd.blob == NULL || q->handle != handle)
			continue;
		send_failed(c, q->id, -ECANCELED, "closed");
		req_stop(q);
	}
	c->n_hints -= c->handles[handle - 1].hints != NULL;
	hints_free(TAKE_PTR(c->handles[handle - 1].hints));
	b = TAKE_PTR(c->handles[handle - 1].b);
	blob_unref(b);
}

static void do_cancel(struct client *c, uint64_t id)
{
	struct req *q = req_find(c, id);

	/* It may have been answered before this came. */
	if (q == NULL)
		return;
	req_stop(q);
	send_failed(c, id, -ECANCELED, "cancelled");
}

static void do_status(struct client *c, const struct wire_msg *m)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));

	if (status_json(c->s->d, &b) < 0) {
		send_failed(c, m->id, -ENOMEM, "out of memory");
		return;
	}
	if (b.len > m->arena_len) {
		send_failed(c, m->id, -EOVERFLOW, "the document does not fit");
		return;
	}
	memcpy(c->arena + m->arena_off, b.p, b.len);
	send_data(c, m->id, PROTO_DATA_END, b.len, 0, b.len);
}

static void do_warm(struct client *c, const struct wire_msg *m)
{
	warm_add(c->s->d, m->text, (m->flags & PROTO_WARM_PLAIN_HTTP) != 0,
		 m->tail_bytes, m->hold_ms);
	send_data(c, m->id, PROTO_DATA_END, 0, 0, 0);
}

/* ---- the first packet ---- */

static int map_arena(struct client *c, uint64_t bytes, int fd, struct err *e)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *p;

	/* Only what cannot shrink is safe to write to. */
	if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) !=
				 (F_SEAL_SHRINK | F_SEAL_GROW))
		return err_set(e, -EPROTO, "protocol: arena is not sealed");
	if (fstat(fd, &st) < 0 || st.st_size < 0 ||
	    (uint64_t)st.st_size != bytes)
		return err_set(e, -EPROTO, "protocol: arena has another size");
	p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		 0);
	if (p == MAP_FAILED)
		return err_set(e, -errno, "map arena: %s", err_name(errno));
	c->arena = p;
	c->arena_bytes = bytes;
	return 0;
}

static int do_hello(struct client *c, const struct wire_msg *m, int fd,
		    struct err *e)
{
	uint8_t buf[sizeof(struct proto_hello)];
	int r;

	if (m->version < PROTO_VERSION_MIN || m->version > PROTO_VERSION) {
		err_set(e, -EOPNOTSUPP, "protocol version %u, this is %u",
			m->version, PROTO_VERSION);
		send_failed(c, 0, -EOPNOTSUPP, e->text);
		return e->code;
	}
	r = m->size > 0 ? map_arena(c, m->size, fd, e) : 0;
	if (r < 0)
		return r;
	c->hello = true;
	client_send(c, buf, wire_put_hello(buf, m->version));
	return 0;
}

/* ---- packets ---- */

static bool is_request(enum proto_type t)
{
	return t == PROTO_RESOLVE || t == PROTO_OPEN || t == PROTO_READ ||
	       t == PROTO_STATUS || t == PROTO_WARM;
}

static int dispatch(struct client *c, const struct wire_msg *m, int *fd,
		    struct err *e)
{
	if (c->hello == (m->type == PROTO_HELLO))
		return err_set(e, -EPROTO, "protocol: HELLO %s",
			       c->hello ? "again" : "is missing");
	if (m->type == PROTO_HELLO)
		return do_hello(c, m, *fd, e);
	if (is_request(m->type) && req_find(c, m->id) != NULL)
		return err_set(e, -EPROTO, "protocol: request id is in use");
	if (is_request(m->type) && c->n_reqs >= PROTO_READS_OPEN_MAX) {
		send_failed(c, m->id, -EOVERFLOW, "too many open requests");
		return 0;
	}
	if (m->type == PROTO_READ) {
		do_read(c, m);
	} else if (m->type == PROTO_RESOLVE) {
		do_resolve(c, m);
	} else if (m->type == PROTO_OPEN) {
		do_open(c, m, TAKE_FD(*fd));
	} else if (m->type == PROTO_STATUS) {
		do_status(c, m);
	} else if (m->type == PROTO_WARM) {
		do_warm(c, m);
	} else if (m->type == PROTO_CANCEL) {
		do_cancel(c, m->id);
	} else if (m->type == PROTO_CLOSE) {
		do_close(c, m->handle);
	} else {
		struct req *q = req_find(c, m->target);

		if (q != NULL && q->rd.blob != NULL)
			read_set_class(&q->rd, m->class_);
	}
	return 0;
}

static void packet(struct client *c, size_t n, int *fds)
{
	struct server *s = c->s;
	static struct log_limit limit;
	struct wire_msg m;
	struct err e = {0};
	unsigned n_fds = (unsigned)(fds[0] >= 0) + (unsigned)(fds[1] >= 0);
	unsigned missed = 0;
	int r = wire_parse(s->packet, n, n_fds, c->arena_bytes, s->text, &m,
			   &e);

	if (r == 0)
		r = dispatch(c, &m, &fds[0], &e);
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			(void)close(fds[i]);
	}
	if (r == 0)
		return;
	s->d->stats.protocol_errors++;
	if (log_allow(&limit, loop_now(s->d->loop), &missed))
		log_warn("msg=\"client dropped: %s\" suppressed=%u", e.text,
			 missed);
	client_end(c);
}

static void on_client(struct loop_io *io, uint32_t events)
{
	struct client *c = (struct client *)(void *)io;

	if ((events & EPOLLOUT) != 0)
		client_flush(c);
	for (int i = 0; i < PACKETS_A_TURN && !c->dead && !c->waiting; i++) {
		int fds[2];
		ssize_t n =
			io_recv_fds(io->fd, c->s->packet, sizeof(c->s->packet),
				    fds, 2, MSG_DONTWAIT);

		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			client_end(c);
			return;
		}
		packet(c, (size_t)n, fds);
	}
	/* Without interest in input, only this tells of the other end. */
	if (!c->dead && c->waiting && (events & (EPOLLHUP | EPOLLERR)) != 0)
		client_end(c);
}

/* ---- clients come and go ---- */

static void client_free(struct client *c)
{
	struct server *s = c->s;

	if (!c->dead)
		loop_io_del(s->d->loop, &c->io);
	loop_task_del(&c->reaper);
	while (!list_empty(&c->reqs))
		req_stop(LIST_ENTRY(c->reqs.next, struct req, node));
	for (uint32_t i = 0; i < c->n_handles; i++) {
		hints_free(c->handles[i].hints);
		blob_unref(c->handles[i].b);
	}
	free(c->handles);
	if (c->arena != NULL)
		(void)munmap(c->arena, (size_t)c->arena_bytes);
	while (!list_empty(&c->outs)) {
		struct out *o = LIST_ENTRY(c->outs.next, struct out, node);

		list_del(&o->node);
		free(o);
	}
	(void)close(c->io.fd);
	list_del(&c->node);
	free(c);
	if (--s->n_clients == 0 && s->exit_when_idle)
		loop_timer_set(s->d->loop, &s->idle,
			       loop_now(s->d->loop) + SERVER_IDLE_END_NS);
}

static void client_reap(struct loop_task *t)
{
	client_free(LIST_ENTRY(t, struct client, reaper));
}

static int client_new(struct server *s, int fd)
{
	struct client *c = calloc(1, sizeof(*c));
	int r;

	if (c == NULL)
		return -ENOMEM;
	c->s = s;
	c->io.fd = fd;
	c->io.fn = on_client;
	c->reaper.fn = client_reap;
	list_init(&c->reqs);
	list_init(&c->outs);
	list_init(&c->node);
	r = loop_io_add(s->d->loop, &c->io, EPOLLIN);
	if (r < 0) {
		free(c);
		return r;
	}
	list_add(&s->clients, &c->node);
	s->n_clients++;
	loop_timer_clear(&s->idle);
	return 0;
}

static void on_accept(struct loop_io *io, uint32_t events)
{
	struct server *s = LIST_ENTRY(io, struct server, io);
	int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0 &&
	    (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	if (fd >= 0 && s->n_clients < SERVER_CLIENTS_MAX &&
	    client_new(s, fd) == 0)
		return;
	log_warn("msg=\"cannot take a client\" err=%s clients=%u",
		 err_symbol(fd < 0 ? errno : EOVERFLOW), s->n_clients);
	if (fd >= 0)
		(void)close(fd);
	/* Not again at once: the reason will not be gone. */
	if (loop_io_mod(s->d->loop, &s->io, 0) == 0)
		loop_timer_set(s->d->loop, &s->resume,
			       loop_now(s->d->loop) + NSEC_PER_SEC);
}

static void on_resume(struct loop_timer *t)
{
	struct server *s = LIST_ENTRY(t, struct server, resume);

	(void)loop_io_mod(s->d->loop, &s->io, EPOLLIN);
}

static void on_idle(struct loop_timer *t)
{
	struct server *s = LIST_ENTRY(t, struct server, idle);

	log_info("msg=\"no client: ending\"");
	loop_stop(s->d->loop);
}

/* ---- the socket ---- */

static int socket_owner(const char *path, const char *group, struct err *e)
{
	struct group *g;

	if (group == NULL)
		return 0;
	g = getgrnam(group);
	if (g == NULL)
		return err_set(e, -EINVAL, "no group %s", group);
	if (chown(path, (uid_t)-1, g->gr_gid) < 0)
		return err_set(e, -errno, "%s: chown: %s", path,
			       err_name(errno));
	return 0;
}

int server_listen(const char *path, unsigned mode, const char *group,
		  struct err *e)
{
	CLEANUP_CLOSE int fd = listen_unix(path, SOCK_SEQPACKET, e);
	int r;

	if (fd < 0)
		return fd;
	r = socket_owner(path, group, e);
	if (r == 0 && chmod(path, (mode_t)mode) < 0)
		r = err_set(e, -errno, "%s: chmod: %s", path, err_name(errno));
	if (r < 0) {
		(void)unlink(path);
		return r;
	}
	return TAKE_FD(fd);
}

int server_new(struct fetchd *d, int fd, bool exit_when_idle,
	       struct server **ret, struct err *e)
{
	struct server *s = calloc(1, sizeof(*s));
	int r;

	if (s == NULL) {
		(void)close(fd);
		return err_no_memory(e);
	}
	s->d = d;
	s->io.fd = fd;
	s->io.fn = on_accept;
	s->idle.fn = on_idle;
	s->resume.fn = on_resume;
	s->exit_when_idle = exit_when_idle;
	list_init(&s->clients);
	r = loop_io_add(d->loop, &s->io, EPOLLIN);
	if (r < 0) {
		(void)close(fd);
		free(s);
		return err_set(e, r, "listening socket: %s", err_name(r));
	}
	if (exit_when_idle)
		loop_timer_set(d->loop, &s->idle,
			       loop_now(d->loop) + SERVER_IDLE_START_NS);
	*ret = s;
	return 0;
}

void server_free(struct server *s)
{
	if (s == NULL)
		return;
	while (!list_empty(&s->clients))
		client_free(LIST_ENTRY(s->clients.next, struct client, node));
	loop_io_del(s->d->loop, &s->io);
	loop_timer_clear(&s->idle);
	loop_timer_clear(&s->resume);
	(void)close(s->io.fd);
	free(s);
}
