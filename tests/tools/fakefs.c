/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An estargzfs that mounts nothing: the side of common/sup.h that a monitor
 * has, for tests of who supervises it.
 *
 * fakefs --supervisor=3 HOST/REPO:TAG TARGET -o OPTIONS
 *
 * TAG says what it does:
 *   ok      is ready, ends when it is told to
 *   fail    FAILED, with a text
 *   late    layer 1 is ok, the others fail when there is a file $FAKEFS_LOG.go
 *   die     ends without a word
 *   silent  never answers
 *   once    ok, but a successor dies
 *   second  the first one dies, the others are ok
 *   hangs   ok, but a successor never answers
 *   deaf    ok, but says nothing to who adopts it
 * What it is asked to do is appended to the file $FAKEFS_LOG, a line each. Its
 * descriptor of /dev/fuse is the FIFO $FAKEFS_FUSE. It ends as well when the
 * file $FAKEFS_LOG is gone.
 *
 * fakefs --socket-fd 3 ...: an estargzd that says nothing.
 * fakefs --meta=3: finds everything damaged, as soon as there is a file
 * $FAKEFS_LOG.go.
 */
#include "config.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "common/base.h"
#include "common/err.h"
#include "common/io.h"
#include "common/listen.h"
#include "common/meta.h"
#include "common/sup.h"

struct fake {
	const char *target;
	const char *tag;
	const char *log;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	int sock;
	int listener;
	int fuse_fd;
	struct sup_session session;
};

static void PRINTF_LIKE(2, 3) note(const struct fake *f, const char *fmt, ...)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FREE char *line = NULL;
	CLEANUP_CLOSE int fd = open(f->log, O_WRONLY | O_APPEND | O_CLOEXEC);
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (text != NULL && fd >= 0 &&
	    asprintf(&line, "%d %s %s\n", (int)getpid(),
		     strrchr(f->target, '/') + 1, text) > 0)
		(void)io_write_all(fd, line, strlen(line));
}

static void say(const struct fake *f, enum sup_type type)
{
	const struct sup_hdr m = {
		.type = (uint16_t)type,
		.version = SUP_VERSION,
		.len = sizeof(m),
	};

	(void)io_send_fds(f->sock, &m, sizeof(m), NULL, 0, 0);
}

static void say_ready(const struct fake *f)
{
	uint8_t p[sizeof(struct sup_ready) + SUP_TEXT_BYTES];
	size_t n = strlen(f->target);
	struct sup_ready m = {
		.h = {.type = SUP_READY,
		      .version = SUP_VERSION,
		      .len = (uint32_t)(sizeof(m) + n)},
		.pid = (uint32_t)getpid(),
		.session = f->session,
	};

	memcpy(p, &m, sizeof(m));
	memcpy(p + sizeof(m), f->target, n);
	(void)io_send_fds(f->sock, p, sizeof(m) + n, &f->fuse_fd, 1, 0);
}

static void say_failed(const struct fake *f)
{
	static const char text[] = "the registry says no";
	uint8_t p[sizeof(struct sup_failed) + sizeof(text)];
	struct sup_failed m = {
		.h = {.type = SUP_FAILED,
		      .version = SUP_VERSION,
		      .len = sizeof(m) + sizeof(text) - 1},
		.code = EACCES,
	};

	memcpy(p, &m, sizeof(m));
	memcpy(p + sizeof(m), text, sizeof(text) - 1);
	(void)io_send_fds(f->sock, p, m.h.len, NULL, 0, 0);
}

static void wait_for_go(const struct fake *f)
{
	CLEANUP_FREE char *go = NULL;

	if (asprintf(&go, "%s.go", f->log) < 0) {
		go = NULL;
		return;
	}
	while (access(go, F_OK) < 0 && access(f->log, F_OK) == 0)
		(void)poll(NULL, 0, 5);
}

/* Whether none before has asked this. */
static bool is_first(const struct fake *f)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_CLOSE int fd = -EBADF;

	if (asprintf(&path, "%s.first", f->log) < 0)
		return false;
	fd = open(path, O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd >= 0;
}

static bool fails(const struct fake *f)
{
	if (strcmp(f->tag, "late") == 0 &&
	    strcmp(strrchr(f->target, '/'), "/1") != 0) {
		wait_for_go(f);
		return true;
	}
	return strcmp(f->tag, "fail") == 0;
}

static bool dies(const struct fake *f, bool goes_on)
{
	return strcmp(f->tag, "die") == 0 ||
	       (strcmp(f->tag, "once") == 0 && goes_on) ||
	       (strcmp(f->tag, "second") == 0 && is_first(f));
}

/* Before it says that it is ready, as a monitor does: who is told that may look
 * for it at once. */
static void listen_for_others(struct fake *f)
{
	struct err e = {0};

	(void)snprintf(f->path, sizeof(f->path), SUP_DIR "/%d.sup",
		       (int)getpid());
	(void)io_mkdir_p(SUP_DIR, 0700);
	f->listener = listen_unix(f->path, SOCK_SEQPACKET, &e);
}

/* Return: false: it is time to end */
static bool begin(struct fake *f)
{
	struct sup_start m;
	struct stat st;
	int fd;
	ssize_t n = io_recv_fds(f->sock, &m, sizeof(m), &fd, 1, 0);
	bool goes_on = n == sizeof(m) && m.session.init_len > 0;

	if (n != sizeof(m) || m.h.type != SUP_START || goes_on != (fd >= 0))
		return false;
	note(f, goes_on ? "go-on" : "start");
	if (fails(f)) {
		say_failed(f);
		return false;
	}
	if (dies(f, goes_on))
		return false;
	if (goes_on) {
		f->fuse_fd = fd;
		f->session = m.session;
	} else {
		f->fuse_fd = open(getenv("FAKEFS_FUSE"), O_WRONLY | O_CLOEXEC);
		if (stat(f->target, &st) < 0 || f->fuse_fd < 0)
			return false;
		f->session.dev_major = major(st.st_dev);
		f->session.dev_minor = minor(st.st_dev);
		f->session.init_len = 56;
	}
	listen_for_others(f);
	if (strcmp(f->tag, "silent") != 0 &&
	    !(goes_on && strcmp(f->tag, "hangs") == 0))
		say_ready(f);
	return true;
}

/* Return: false: it is time to end */
static bool on_packet(struct fake *f)
{
	struct sup_hdr m;
	ssize_t n = io_recv_fds(f->sock, &m, sizeof(m), NULL, 0, 0);

	if (n <= 0) {
		(void)close(TAKE_FD(f->sock));
		note(f, "alone");
		return true;
	}
	if (n != sizeof(m) || m.type != SUP_END)
		return false;
	note(f, "end");
	say(f, SUP_ENDED);
	return false;
}

static void on_connection(struct fake *f)
{
	int s = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);

	if (s < 0)
		return;
	if (f->sock >= 0)
		(void)close(f->sock);
	f->sock = s;
	note(f, "adopted");
	if (strcmp(f->tag, "deaf") != 0)
		say_ready(f);
}

static void serve(struct fake *f)
{
	while (access(f->log, F_OK) == 0) {
		struct pollfd p[2] = {
			{.fd = f->sock, .events = POLLIN},
			{.fd = f->listener, .events = POLLIN},
		};

		if (poll(p, 2, 100) < 0)
			break;
		if (p[1].revents != 0)
			on_connection(f);
		else if (p[0].revents != 0 && !on_packet(f))
			break;
	}
	(void)unlink(f->path);
}

static int fetcher(const struct fake *f)
{
	note(f, "fetcher");
	while (access(f->log, F_OK) == 0) {
		struct pollfd p = {.fd = 3, .events = POLLIN};

		/* Connections stay open as long as it lives. */
		if (poll(&p, 1, 100) > 0)
			(void)accept4(3, NULL, NULL, SOCK_CLOEXEC);
	}
	return 0;
}

static int meta(const struct fake *f)
{
	const struct meta_reply m = {.version = META_VERSION, .code = EBADMSG};
	struct meta_request q;
	int fds[3];

	note(f, "meta");
	if (io_recv_fds(f->sock, &q, sizeof(q), fds, ARRAY_SIZE(fds), 0) !=
	    sizeof(q))
		return 1;
	wait_for_go(f);
	return io_send_fds(f->sock, &m, sizeof(m), NULL, 0, 0) < 0;
}

int main(int argc, char **argv)
{
	struct fake f = {.sock = 3, .listener = -1, .fuse_fd = -1};

	f.log = getenv("FAKEFS_LOG");
	/* Nothing of the snapshotter's may be ours. */
	if (getenv("NOTIFY_SOCKET") != NULL || fcntl(4, F_GETFD) >= 0)
		return 3;
	if (f.log != NULL && argc > 2 && strcmp(argv[1], "--socket-fd") == 0) {
		f.target = "/-";
		return fetcher(&f);
	}
	if (f.log != NULL && argc == 2 && strcmp(argv[1], "--meta=3") == 0) {
		f.target = "/-";
		return meta(&f);
	}
	if (argc != 6 || strcmp(argv[1], "--supervisor=3") != 0 ||
	    f.log == NULL || fcntl(f.sock, F_GETFD) < 0)
		return 2;
	(void)signal(SIGPIPE, SIG_IGN);
	f.target = argv[3];
	f.tag = strrchr(argv[2], ':') + 1;
	note(&f, "run %s %s", argv[2], argv[5]);
	if (begin(&f))
		serve(&f);
	return 0;
}
