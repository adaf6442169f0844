/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpclab SOCKET: the gRPC server of the snapshotter with methods to try it by.
 *
 *   /lab.Lab/Echo    replies the request
 *   /lab.Lab/Quick   the same, on the loop's thread
 *   /lab.Lab/Fail    request "ERRNO TEXT": fails so
 *   /lab.Lab/Stream  request "N SIZE": so many messages of so many bytes
 *   /lab.Lab/Wait    request: path of a FIFO; reads it to its end, then replies what
 *                    it has read
 *
 * Prints a line when a Wait has replied or could not. SIGTERM shuts down, 2 s
 * at most.
 */
#include "config.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/listen.h"
#include "common/log.h"
#include "daemon/snapshotter/grpc.h"
#include "daemon/snapshotter/pool.h"

/* Who stops it wants to see before that what it still does. */
#define SHUTDOWN_MS 8000

struct lab {
	struct loop_io signals; /* first */
	struct loop *loop;
	struct grpc *g;
};

static int do_echo(void *arg, struct grpc_call *call, const uint8_t *req,
		   size_t len, struct err *e)
{
	(void)arg;
	(void)e;
	return grpc_reply(call, req, len);
}

/* The request as a text. */
static char *text_of(const uint8_t *req, size_t len)
{
	return len > 0 ? strndup((const char *)req, len) : strdup("");
}

static int do_fail(void *arg, struct grpc_call *call, const uint8_t *req,
		   size_t len, struct err *e)
{
	CLEANUP_FREE char *text = text_of(req, len);
	char *rest = text;
	long code = text != NULL ? strtol(text, &rest, 10) : ENOMEM;

	(void)arg;
	(void)call;
	/* Not err_set(), which would clean the text. */
	e->code = -(int)code;
	if (text != NULL && *rest == ' ')
		(void)snprintf(e->text, sizeof(e->text), "%s", rest + 1);
	return -(int)code;
}

static int do_stream(void *arg, struct grpc_call *call, const uint8_t *req,
		     size_t len, struct err *e)
{
	CLEANUP_FREE char *text = text_of(req, len);
	char *rest = NULL;
	unsigned long n, size;
	CLEANUP_FREE uint8_t *msg = NULL;
	int r = 0;

	(void)arg;
	if (text == NULL)
		return -ENOMEM;
	n = strtoul(text, &rest, 10);
	size = strtoul(rest, NULL, 10);
	msg = calloc(1, size + 1);
	if (msg == NULL)
		return err_no_memory(e);
	for (unsigned long i = 0; i < n && r == 0; i++) {
		memset(msg, (int)(i & 0xff), size);
		r = grpc_reply(call, msg, size);
	}
	(void)printf("stream %s\n", err_symbol(r));
	(void)fflush(stdout);
	return r;
}

static int do_wait(void *arg, struct grpc_call *call, const uint8_t *req,
		   size_t len, struct err *e)
{
	CLEANUP_FREE char *path = text_of(req, len);
	CLEANUP_BUF struct buf b = BUF_INIT(KIB(64));
	int r = path != NULL ? io_read_file(AT_FDCWD, path, &b) : -ENOMEM;

	(void)arg;
	if (r < 0)
		return err_set(e, r, "%s: %s", path, err_name(r));
	r = grpc_reply(call, b.p, b.len);
	(void)printf("wait %s\n", r == 0 ? "replied" : err_symbol(r));
	(void)fflush(stdout);
	return r;
}

static const struct grpc_method methods[] = {
	{.path = "/lab.Lab/Echo", .fn = do_echo},
	{.path = "/lab.Lab/Quick", .fn = do_echo, .quick = true},
	{.path = "/lab.Lab/Fail", .fn = do_fail},
	{.path = "/lab.Lab/Stream", .fn = do_stream},
	{.path = "/lab.Lab/Wait", .fn = do_wait},
};

static void on_done(void *arg)
{
	struct lab *l = arg;

	loop_stop(l->loop);
}

static void on_signal(struct loop_io *io, uint32_t events)
{
	struct lab *l = (struct lab *)(void *)io;
	struct signalfd_siginfo info;

	(void)events;
	if (read(io->fd, &info, sizeof(info)) > 0)
		grpc_shutdown(l->g, SHUTDOWN_MS, on_done, l);
}

static int watch_signals(struct lab *l)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	l->signals.fn = on_signal;
	l->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (l->signals.fd < 0)
		return -errno;
	return loop_io_add(l->loop, &l->signals, EPOLLIN);
}

int main(int argc, char **argv)
{
	struct lab l = {.loop = loop_new()};
	struct pool *pool = pool_new(POOL_THREADS_MAX);
	struct err e = {0};
	int fd, r;

	if (argc != 2 || l.loop == NULL || pool == NULL)
		return 2;
	fd = listen_unix(argv[1], SOCK_STREAM, &e);
	r = MIN(fd, 0);
	if (r == 0)
		r = watch_signals(&l);
	if (r == 0)
		r = grpc_new(&l.g, l.loop, pool, fd, methods,
			     ARRAY_SIZE(methods), &l, &e);
	if (r == 0)
		r = loop_run(l.loop);
	if (r < 0) {
		(void)fprintf(stderr, "grpclab: %s\n", e.text);
		return 1;
	}
	if (pool_wait(pool, 2000) < 0) {
		(void)puts("left behind");
		(void)fflush(stdout);
		_exit(0);
	}
	pool_free(pool);
	grpc_free(l.g);
	(void)close(l.signals.fd);
	loop_free(l.loop);
	return 0;
}
