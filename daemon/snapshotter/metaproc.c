/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/metaproc.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "daemon/snapshotter/spawn.h"

#define END_MS 1000 /* behind its answer it has nothing to do */

int metaproc_start(const char *estargzfs, struct metaproc *ret, struct err *e)
{
	const char *const argv[] = {estargzfs, "--meta=3", NULL};
	CLEANUP_CLOSE int ours = -EBADF;
	CLEANUP_CLOSE int theirs = -EBADF;
	int sv[2], r;

	static_assert(SPAWN_FD == 3, "as the command line says");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(e, -errno, "socketpair: %s", err_name(errno));
	ours = sv[0];
	theirs = sv[1];
	r = spawn_own(argv, theirs, &ret->pid, e);
	if (r == 0)
		ret->sock = TAKE_FD(ours);
	return r;
}

void metaproc_end(struct metaproc *p)
{
	CLEANUP_CLOSE int fd = pidfd_open(p->pid, 0);
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	(void)close(TAKE_FD(p->sock));
	if (fd < 0 || poll(&pfd, 1, END_MS) != 1)
		(void)kill(p->pid, SIGKILL);
	while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
		;
}
