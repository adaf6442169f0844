/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/listen.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "common/io.h"

#define LOCK_TRIES 1000u
#define LOCK_PAUSE_NS 10000000L

static int make_socket(int type, struct err *e)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? err_set(e, -errno, "socket: %s", err_name(errno)) : fd;
}

/* Nobody listens at a path that refuses a connection. */
static int remove_stale(const struct sockaddr_un *sa, int type, struct err *e)
{
	CLEANUP_CLOSE int fd = make_socket(type, e);
	struct stat st;

	if (fd < 0)
		return fd;
	if (lstat(sa->sun_path, &st) < 0)
		return errno == ENOENT ? 0
				       : err_set(e, -errno, "%s: %s",
						 sa->sun_path, err_name(errno));
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "%s: not a socket", sa->sun_path);
	if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 ||
	    errno != ECONNREFUSED)
		return err_set(e, -EADDRINUSE,
			       "%s: another instance is listening",
			       sa->sun_path);
	if (unlink(sa->sun_path) < 0 && errno != ENOENT)
		return err_set(e, -errno, "%s: %s", sa->sun_path,
			       err_name(errno));
	return 0;
}

static int address(const char *path, struct sockaddr_un *sa, struct err *e)
{
	*sa = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(sa->sun_path))
		return err_set(e, -ENAMETOOLONG, "%s: path is too long", path);
	memcpy(sa->sun_path, path, strlen(path));
	return 0;
}

/* Of two that find nobody at once, the later would take the name from the
 * other. So one looks at a time. Return: the locked directory of the socket. */
static int lock_directory(const char *path, struct err *e)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
	const char *slash = strrchr(path, '/');
	CLEANUP_FREE char *dir =
		slash == NULL ? strdup(".")
			      : strndup(path, (size_t)MAX(slash - path, 1));
	CLEANUP_CLOSE int fd = -EBADF;
	int r;

	if (dir == NULL)
		return err_no_memory(e);
	r = io_mkdir_p(dir, 0755);
	if (r < 0)
		return err_set(e, r, "%s: %s", dir, err_name(r));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "%s: %s", dir, err_name(errno));
	for (unsigned i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_set(e, -errno, "%s: lock: %s", dir,
				       err_name(errno));
		if (i >= LOCK_TRIES)
			return err_set(e, -ETIMEDOUT, "%s: is locked", dir);
		(void)nanosleep(&pause, NULL);
	}
	return TAKE_FD(fd);
}

/* bind() shows a name before listen() lets anybody in. Who connects in between
 * is refused, and containerd, which waits for a name that is not there yet,
 * fails every call for a second or more once it was refused. So the name that
 * others know is given to a socket that listens. */
static int listen_as(int fd, const char *path, const char *made, struct err *e)
{
	struct sockaddr_un sa;
	mode_t old;
	int r = address(made, &sa, e);

	if (r < 0)
		return r;
	if (unlink(made) < 0 && errno != ENOENT)
		return err_set(e, -errno, "%s: %s", made, err_name(errno));
	old = umask(0177);
	r = bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : 0;
	(void)umask(old);
	if (r < 0)
		return err_set(e, r, "%s: %s", made, err_name(r));
	if (listen(fd, SOMAXCONN) == 0 && rename(made, path) == 0)
		return 0;
	r = err_set(e, -errno, "%s: listen: %s", path, err_name(errno));
	(void)unlink(made);
	return r;
}

int listen_unix(const char *path, int type, struct err *e)
{
	CLEANUP_CLOSE int fd = make_socket(type, e);
	CLEANUP_CLOSE int lock = -EBADF;
	CLEANUP_FREE char *made = NULL;
	struct sockaddr_un sa;
	int r;

	if (fd < 0)
		return fd;
	r = address(path, &sa, e);
	if (r < 0)
		return r;
	/* A path may be as long as one can be. */
	if (asprintf(&made, "%.*s" LISTEN_UNBORN,
		     (int)(sizeof(sa.sun_path) - sizeof(LISTEN_UNBORN)),
		     path) < 0) {
		made = NULL;
		return err_no_memory(e);
	}
	lock = lock_directory(path, e);
	if (lock < 0)
		return lock;
	r = remove_stale(&sa, type, e);
	if (r == 0)
		r = listen_as(fd, path, made, e);
	return r < 0 ? r : TAKE_FD(fd);
}

int listen_remove(const char *path, int type, struct err *e)
{
	CLEANUP_CLOSE int lock = -EBADF;
	struct sockaddr_un sa;
	int r = address(path, &sa, e);

	if (r < 0)
		return r;
	lock = lock_directory(path, e);
	return lock < 0 ? lock : remove_stale(&sa, type, e);
}

int listen_inherited(int fd, int type, struct err *e)
{
	int v = 0;
	socklen_t n = sizeof(v);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &v, &n) < 0 || v == 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, &n) < 0 || v != type)
		return err_set(e, -EINVAL,
			       "descriptor %d is not a listening %s socket", fd,
			       type == SOCK_SEQPACKET ? "SOCK_SEQPACKET"
						      : "SOCK_STREAM");
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
	    fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return err_set(e, -errno, "descriptor %d: %s", fd,
			       err_name(errno));
	return fd;
}
