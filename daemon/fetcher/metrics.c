/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/metrics.h"

#include <netdb.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <microhttpd.h>

#include "common/buf.h"
#include "common/listen.h"
#include "daemon/fetcher/fetchd.h"
#include "daemon/fetcher/status.h"

struct metrics {
	struct loop_io io; /* first: libmicrohttpd's epoll descriptor */
	struct fetchd *d;
	struct MHD_Daemon *mhd;
	struct loop_timer timer;
	char *path; /* of a Unix socket, to remove at the end */
};

static enum MHD_Result reply(struct MHD_Connection *c, unsigned status,
			     const char *text, size_t n)
{
	struct MHD_Response *r;
	enum MHD_Result rc;
	char *copy = malloc(n + 1);

	if (copy == NULL)
		return MHD_NO;
	memcpy(copy, text, n);
	r = MHD_create_response_from_buffer(n, copy, MHD_RESPMEM_MUST_FREE);
	if (r == NULL) {
		free(copy);
		return MHD_NO;
	}
	(void)MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE,
				      "text/plain; version=0.0.4");
	rc = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return rc;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *c,
				  const char *url, const char *method,
				  const char *version, const char *data,
				  size_t *data_len, void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	struct metrics *m = ctx;

	(void)version;
	(void)data;
	(void)state;
	if (*data_len > 0)
		return MHD_NO;
	if (strcmp(method, "GET") != 0)
		return reply(c, MHD_HTTP_METHOD_NOT_ALLOWED, "", 0);
	if (strcmp(url, "/metrics") != 0)
		return reply(c, MHD_HTTP_NOT_FOUND, "", 0);
	if (status_prometheus(m->d, &b) < 0)
		return reply(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "", 0);
	return reply(c, MHD_HTTP_OK, b.p, b.len);
}

static void run(struct metrics *m)
{
	MHD_UNSIGNED_LONG_LONG ms;

	(void)MHD_run(m->mhd);
	if (MHD_get_timeout(m->mhd, &ms) == MHD_YES)
		loop_timer_set(m->d->loop, &m->timer,
			       loop_now(m->d->loop) + ms * NSEC_PER_MSEC);
	else
		loop_timer_clear(&m->timer);
}

static void on_ready(struct loop_io *io, uint32_t events)
{
	(void)events;
	run((struct metrics *)(void *)io);
}

static void on_timer(struct loop_timer *t)
{
	run(LIST_ENTRY(t, struct metrics, timer));
}

static int listen_tcp(const char *address, struct err *e)
{
	const struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
	};
	const char *colon = strrchr(address, ':');
	CLEANUP_FREE char *host = NULL;
	struct addrinfo *ai = NULL;
	int fd, one = 1, r = 0;
	size_t n;

	if (colon == NULL)
		return err_set(e, -EINVAL, "metrics: bad address %s", address);
	n = (size_t)(colon - address);
	if (n >= 2 && address[0] == '[' && address[n - 1] == ']')
		host = strndup(address + 1, n - 2);
	else
		host = strndup(address, n);
	if (host == NULL || getaddrinfo(host[0] != '\0' ? host : NULL,
					colon + 1, &hints, &ai) != 0)
		return err_set(e, -EINVAL, "metrics: bad address %s", address);
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    0);
	if (fd >= 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one,
				 sizeof(one));
	if (fd < 0 || bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 ||
	    listen(fd, 16) < 0)
		r = err_set(e, -errno, "metrics: %s: %s", address,
			    err_name(errno));
	freeaddrinfo(ai);
	if (r == 0)
		return fd;
	if (fd >= 0)
		(void)close(fd);
	return r;
}

static int start(struct metrics *m, int fd, struct err *e)
{
	const union MHD_DaemonInfo *info;
	int r;

	m->mhd = MHD_start_daemon(
		MHD_USE_EPOLL, 0, NULL, NULL, on_request, m,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, 16u,
		MHD_OPTION_CONNECTION_TIMEOUT, 10u, MHD_OPTION_END);
	if (m->mhd == NULL) {
		(void)close(fd);
		return err_set(e, -EIO, "metrics: cannot start the server");
	}
	info = MHD_get_daemon_info(m->mhd, MHD_DAEMON_INFO_EPOLL_FD);
	if (info == NULL)
		return err_set(e, -EIO, "metrics: no epoll");
	m->io.fd = info->epoll_fd;
	m->io.fn = on_ready;
	r = loop_io_add(m->d->loop, &m->io, EPOLLIN);
	return r < 0 ? err_set(e, r, "metrics: %s", err_name(r)) : 0;
}

int metrics_new(struct fetchd *d, const char *address, struct metrics **ret,
		struct err *e)
{
	struct metrics *m = calloc(1, sizeof(*m));
	int fd, r;

	if (m == NULL)
		return err_no_memory(e);
	m->d = d;
	m->timer.fn = on_timer;
	if (strncmp(address, "unix:", 5) == 0) {
		fd = listen_unix(address + 5, SOCK_STREAM, e);
		if (fd >= 0)
			m->path = strdup(address + 5);
	} else {
		fd = listen_tcp(address, e);
	}
	r = fd < 0 ? fd : start(m, fd, e);
	if (r < 0) {
		metrics_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

void metrics_free(struct metrics *m)
{
	if (m == NULL)
		return;
	if (m->io.fd > 0)
		loop_io_del(m->d->loop, &m->io);
	loop_timer_clear(&m->timer);
	if (m->mhd != NULL)
		MHD_stop_daemon(m->mhd);
	if (m->path != NULL)
		(void)unlink(m->path);
	free(m->path);
	free(m);
}
