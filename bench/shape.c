/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP proxy that is a slow, far network: shape --to HOST:PORT [--listen
 * PORT] [--rtt-ms N] [--mbit N] prints the port it listens on (127.0.0.1)
 * and forwards until it is killed.
 *
 * DOC: one thread, one epoll. Every byte read is stamped with the time at
 * which it may be written: the later of now and the end of the link's queue,
 * plus the time its own transmission takes (the limit is one link each way,
 * shared by all connections, as a network card is), plus half the round trip.
 * A connection costs a round trip before its first byte, as SYN and SYN-ACK
 * would: what a client sends waits RTT more than the half it would wait
 * anyway. (The client's own connect() ends at once, because the proxy is
 * near; the time is paid before its first request instead.)
 *
 * A reader is not allowed to run ahead of the link by more than its
 * bandwidth-delay product plus WINDOW_SLACK a connection: then the proxy stops
 * reading and TCP pushes back on the sender.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/base.h"

#define PIECE_BYTES KIB(64)
#define WINDOW_SLACK MIB(1)
#define EVENTS_MAX 64
#define UNLIMITED_BYTES_PER_S 1.25e9 /* for the window only */
#define CONNS_MAX 4096u
#define NS_PER_S UINT64_C(1000000000)

/* Bytes on their way. */
struct piece {
	struct piece *next;
	uint64_t due_ns;
	size_t len;
	size_t off;
	uint8_t data[];
};

/* One direction of a connection: from @in to @out. */
struct pipe_dir {
	struct piece *first;
	struct piece **last;
	size_t queued;
	uint64_t eof_ns; /* when the end arrives, 0: not seen */
	bool reading;    /* EPOLLIN wanted on in */
	bool blocked;    /* EPOLLOUT wanted on out */
	bool ended;      /* shutdown() passed on */
};

struct conn;

struct side {
	struct conn *c;
	int fd;
	uint32_t events;
};

/* @dir[0] client to server, @dir[1] server to client. */
struct conn {
	struct conn *next;
	struct side side[2];
	struct pipe_dir dir[2];
	uint64_t open_ns; /* nothing is delivered to the server before */
	bool dead;
};

struct shape {
	int epfd;
	int listen_fd;
	int timer_fd;
	uint64_t half_ns;
	uint64_t bytes_per_s;     /* 0: no limit */
	uint64_t link_free_ns[2]; /* each way: end of what is queued */
	size_t window;
	struct conn *conns;
	uint32_t n_conns;
	struct sockaddr_storage to;
	socklen_t to_len;
	uint8_t buf[PIECE_BYTES];
};

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void side_watch(struct shape *s, struct side *d, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = d};

	if (d->events == events)
		return;
	d->events = events;
	(void)epoll_ctl(s->epfd, EPOLL_CTL_MOD, d->fd, &ev);
}

/* Asks epoll for what each side of a connection waits for. */
static void conn_watch(struct shape *s, struct conn *c)
{
	int i;

	for (i = 0; i < 2; i++) {
		uint32_t ev = 0;

		if (c->dir[i].reading)
			ev |= EPOLLIN;
		if (c->dir[!i].blocked)
			ev |= EPOLLOUT;
		side_watch(s, &c->side[i], ev);
	}
}

/* Takes the bytes of @d as far as they may be in flight. */
static int dir_fill(struct shape *s, struct conn *c, int i, uint64_t now)
{
	struct pipe_dir *d = &c->dir[i];

	while (d->eof_ns == 0 && d->queued < s->window) {
		ssize_t n = read(c->side[i].fd, s->buf, sizeof(s->buf));
		struct piece *p;
		uint64_t start;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return -errno;
		start = s->link_free_ns[i] > now ? s->link_free_ns[i] : now;
		if (s->bytes_per_s != 0)
			start += (uint64_t)n * NS_PER_S / s->bytes_per_s;
		s->link_free_ns[i] = start;
		start += s->half_ns;
		if (i == 0 && start < c->open_ns)
			start = c->open_ns;
		if (n == 0) {
			d->eof_ns = start;
			break;
		}
		p = malloc(sizeof(*p) + (size_t)n);
		if (p == NULL)
			return -ENOMEM;
		memcpy(p->data, s->buf, (size_t)n);
		p->next = NULL;
		p->len = (size_t)n;
		p->off = 0;
		p->due_ns = start;
		*d->last = p;
		d->last = &p->next;
		d->queued += (size_t)n;
	}
	d->reading = d->eof_ns == 0 && d->queued < s->window;
	return 0;
}

/* Delivers what is due. */
static int dir_drain(struct conn *c, int i, uint64_t now)
{
	struct pipe_dir *d = &c->dir[i];

	d->blocked = false;
	while (d->first != NULL && d->first->due_ns <= now) {
		struct piece *p = d->first;
		ssize_t n = send(c->side[!i].fd, p->data + p->off,
				 p->len - p->off, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			d->blocked = true;
			return 0;
		}
		if (n < 0)
			return -errno;
		p->off += (size_t)n;
		d->queued -= (size_t)n;
		if (p->off < p->len)
			continue;
		d->first = p->next;
		if (d->first == NULL)
			d->last = &d->first;
		free(p);
	}
	if (d->first == NULL && d->eof_ns != 0 && d->eof_ns <= now &&
	    !d->ended) {
		d->ended = true;
		(void)shutdown(c->side[!i].fd, SHUT_WR);
	}
	return 0;
}

static void conn_step(struct shape *s, struct conn *c, uint64_t now)
{
	int i;

	for (i = 0; i < 2 && !c->dead; i++) {
		if (dir_drain(c, i, now) < 0)
			c->dead = true;
	}
	for (i = 0; i < 2 && !c->dead; i++) {
		if (c->dir[i].eof_ns == 0 && dir_fill(s, c, i, now) < 0)
			c->dead = true;
	}
	if (c->dir[0].ended && c->dir[1].ended)
		c->dead = true;
	if (!c->dead)
		conn_watch(s, c);
}

static void conn_free(struct shape *s, struct conn *c)
{
	const struct linger rst = {.l_onoff = 1, .l_linger = 0};
	int i;

	for (i = 0; i < 2; i++) {
		struct piece *p = c->dir[i].first;

		while (p != NULL) {
			struct piece *next = p->next;

			free(p);
			p = next;
		}
		if (!c->dir[0].ended || !c->dir[1].ended)
			(void)setsockopt(c->side[i].fd, SOL_SOCKET, SO_LINGER,
					 &rst, sizeof(rst));
		(void)close(c->side[i].fd);
	}
	free(c);
	s->n_conns--;
}

/* The next moment at which something becomes due; UINT64_MAX: none. */
static uint64_t shape_next_ns(const struct shape *s)
{
	uint64_t next = UINT64_MAX;
	const struct conn *c;
	int i;

	for (c = s->conns; c != NULL; c = c->next) {
		for (i = 0; i < 2; i++) {
			const struct pipe_dir *d = &c->dir[i];

			if (d->blocked)
				continue;
			if (d->first != NULL && d->first->due_ns < next)
				next = d->first->due_ns;
			if (d->first == NULL && d->eof_ns != 0 && !d->ended &&
			    d->eof_ns < next)
				next = d->eof_ns;
		}
	}
	return next;
}

static int dial(const struct shape *s)
{
	const int one = 1;
	int fd = socket(s->to.ss_family,
			SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (const struct sockaddr *)&s->to, s->to_len) < 0 &&
	    errno != EINPROGRESS) {
		int r = -errno;

		(void)close(fd);
		return r;
	}
	return fd;
}

static void shape_accept(struct shape *s)
{
	const int one = 1;
	struct epoll_event ev = {.events = 0};
	struct conn *c;
	int fd, i;

	fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	c = s->n_conns < CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (c == NULL) {
		(void)close(fd);
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->side[0].fd = fd;
	c->side[1].fd = dial(s);
	if (c->side[1].fd < 0) {
		(void)close(fd);
		free(c);
		return;
	}
	c->open_ns = now_ns() + 3 * s->half_ns;
	for (i = 0; i < 2; i++) {
		c->side[i].c = c;
		c->dir[i].last = &c->dir[i].first;
		c->dir[i].reading = true;
		ev.data.ptr = &c->side[i];
		(void)epoll_ctl(s->epfd, EPOLL_CTL_ADD, c->side[i].fd, &ev);
	}
	c->next = s->conns;
	s->conns = c;
	s->n_conns++;
	conn_watch(s, c);
}

/* What epoll says of one side. A server that is not there is an error here. */
static void side_event(const struct shape *s, struct side *d, uint32_t events)
{
	int err = 0;
	socklen_t len = sizeof(err);

	/* It would be said for ever; what is left to be read, is in turns that
	 * timers bring. */
	if ((events & EPOLLHUP) != 0)
		(void)epoll_ctl(s->epfd, EPOLL_CTL_DEL, d->fd, NULL);
	if ((events & EPOLLERR) == 0)
		return;
	(void)getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	d->c->dead = true;
}

static void shape_sweep(struct shape *s, uint64_t now)
{
	struct conn **at = &s->conns;

	while (*at != NULL) {
		struct conn *c = *at;

		conn_step(s, c, now);
		if (c->dead) {
			*at = c->next;
			conn_free(s, c);
		} else {
			at = &c->next;
		}
	}
}

static void shape_arm(const struct shape *s)
{
	uint64_t next = shape_next_ns(s);
	struct itimerspec t = {.it_value = {.tv_sec = 0}};

	if (next != UINT64_MAX) {
		if (next == 0)
			next = 1;
		t.it_value.tv_sec = (time_t)(next / NS_PER_S);
		t.it_value.tv_nsec = (long)(next % NS_PER_S);
	}
	(void)timerfd_settime(s->timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

static int shape_run(struct shape *s)
{
	struct epoll_event ev[EVENTS_MAX];

	for (;;) {
		int i, n = epoll_wait(s->epfd, ev, EVENTS_MAX, -1);

		if (n < 0 && errno != EINTR)
			return -errno;
		for (i = 0; i < n; i++) {
			if (ev[i].data.ptr == &s->listen_fd) {
				shape_accept(s);
			} else if (ev[i].data.ptr == &s->timer_fd) {
				uint64_t ticks;

				(void)!read(s->timer_fd, &ticks, sizeof(ticks));
			} else {
				side_event(s, ev[i].data.ptr, ev[i].events);
			}
		}
		shape_sweep(s, now_ns());
		shape_arm(s);
	}
}

static int shape_listen(struct shape *s, uint16_t port)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(a);
	struct epoll_event ev = {.events = EPOLLIN};
	const int one = 1;

	s->epfd = epoll_create1(EPOLL_CLOEXEC);
	s->timer_fd =
		timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	s->listen_fd =
		socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->epfd < 0 || s->timer_fd < 0 || s->listen_fd < 0)
		return -errno;
	(void)setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one,
			 sizeof(one));
	if (bind(s->listen_fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    listen(s->listen_fd, 128) < 0 ||
	    getsockname(s->listen_fd, (struct sockaddr *)&a, &len) < 0)
		return -errno;
	ev.data.ptr = &s->listen_fd;
	if (epoll_ctl(s->epfd, EPOLL_CTL_ADD, s->listen_fd, &ev) < 0)
		return -errno;
	ev.data.ptr = &s->timer_fd;
	if (epoll_ctl(s->epfd, EPOLL_CTL_ADD, s->timer_fd, &ev) < 0)
		return -errno;
	printf("%u\n", ntohs(a.sin_port));
	(void)fflush(stdout);
	return 0;
}

static int shape_resolve(struct shape *s, char *to)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *ai;
	char *colon = strrchr(to, ':');

	if (colon == NULL)
		return -EINVAL;
	*colon = '\0';
	if (getaddrinfo(to, colon + 1, &hints, &ai) != 0)
		return -EHOSTUNREACH;
	memcpy(&s->to, ai->ai_addr, ai->ai_addrlen);
	s->to_len = ai->ai_addrlen;
	freeaddrinfo(ai);
	return 0;
}

static int usage(void)
{
	(void)fputs("usage: shape --to HOST:PORT [--listen PORT] [--rtt-ms N] "
		    "[--mbit N]\n",
		    stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"to", required_argument, NULL, 't'},
		{"listen", required_argument, NULL, 'l'},
		{"rtt-ms", required_argument, NULL, 'r'},
		{"mbit", required_argument, NULL, 'm'},
		{NULL, 0, NULL, 0},
	};
	static struct shape s;
	char *to = NULL;
	unsigned long port = 0;
	double rtt_ms = 0, mbit = 0, bdp;
	int o, r;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == 't')
			to = optarg;
		else if (o == 'l')
			port = strtoul(optarg, NULL, 10);
		else if (o == 'r')
			rtt_ms = strtod(optarg, NULL);
		else if (o == 'm')
			mbit = strtod(optarg, NULL);
		else
			return usage();
	}
	if (to == NULL || optind != argc || port > 65535 || rtt_ms < 0 ||
	    mbit < 0)
		return usage();
	s.half_ns = (uint64_t)(rtt_ms * 500000);
	s.bytes_per_s = (uint64_t)(mbit * 125000);
	/* Twice the bandwidth-delay product keeps one connection at speed. */
	bdp = s.bytes_per_s != 0 ? (double)s.bytes_per_s
				 : UNLIMITED_BYTES_PER_S;
	s.window = WINDOW_SLACK + (size_t)(bdp * rtt_ms / 500);
	r = shape_resolve(&s, to);
	if (r == 0)
		r = shape_listen(&s, (uint16_t)port);
	if (r == 0)
		r = shape_run(&s);
	(void)fprintf(stderr, "shape: %s: %s\n", to, strerror(-r));
	return 1;
}
