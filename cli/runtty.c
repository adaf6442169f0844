/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/runtty.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/io.h"

#define TAKE_TIMEOUT_MS 10000

int runtty_open(struct runtty *t, int dir_fd, struct err *e)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	CLEANUP_CLOSE int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*t = (struct runtty){.listener = -1, .master = -1};
	/* However long the directory's name is. */
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path),
		       "/proc/self/fd/%d/" RUNTTY_SOCKET, dir_fd);
	if (s < 0 || bind(s, (const struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    listen(s, 1) < 0)
		return err_set(e, -errno, "terminal: %s", err_name(errno));
	t->listener = TAKE_FD(s);
	return 0;
}

static int take_master(struct runtty *t)
{
	struct pollfd pfd = {.fd = t->listener, .events = POLLIN};
	CLEANUP_CLOSE int s = -EBADF;
	char name[4096];
	ssize_t n;

	if (poll(&pfd, 1, TAKE_TIMEOUT_MS) != 1)
		return -ETIMEDOUT;
	s = accept4(t->listener, NULL, NULL, SOCK_CLOEXEC);
	if (s < 0)
		return -errno;
	pfd.fd = s;
	if (poll(&pfd, 1, TAKE_TIMEOUT_MS) != 1)
		return -ETIMEDOUT;
	n = io_recv_fds(s, name, sizeof(name), &t->master, 1, 0);
	if (n < 0)
		return (int)n;
	return t->master >= 0 ? 0 : -EPROTO;
}

int runtty_take(struct runtty *t, struct err *e)
{
	int r = take_master(t);
	struct termios raw;

	if (r < 0)
		return err_set(e, r, "the runtime gives no terminal: %s",
			       err_name(r));
	runtty_resize(t);
	if (tcgetattr(STDIN_FILENO, &t->saved) < 0)
		return 0;
	raw = t->saved;
	cfmakeraw(&raw);
	t->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	return 0;
}

void runtty_resize(const struct runtty *t)
{
	struct winsize ws;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) == 0)
		(void)ioctl(t->master, TIOCSWINSZ, &ws);
}

void runtty_close(struct runtty *t)
{
	if (t->raw)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &t->saved);
	if (t->master >= 0)
		(void)close(t->master);
	if (t->listener >= 0)
		(void)close(t->listener);
	*t = (struct runtty){.listener = -1, .master = -1};
}
