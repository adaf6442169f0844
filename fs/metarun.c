/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/metarun.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define META_FD 3

/* By exec: nothing of ours is in its memory. */
static void run(int sock)
{
	char arg[32];

	if (sock == META_FD)
		(void)fcntl(sock, F_SETFD, 0);
	else if (dup2(sock, META_FD) < 0)
		_exit(1);
	(void)snprintf(arg, sizeof(arg), "--meta=%d", META_FD);
	(void)execl("/proc/self/exe", "estargzfs", arg, (char *)NULL);
	_exit(1);
}

int metarun_start(struct metarun *m, struct err *e)
{
	int sv[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(e, -errno, "socketpair: %s", err_name(errno));
	m->pid = fork();
	if (m->pid == 0)
		run(sv[1]);
	r = -errno;
	(void)close(sv[1]);
	m->sock = sv[0];
	if (m->pid > 0)
		return 0;
	(void)close(m->sock);
	return err_set(e, r, "fork: %s", err_name(r));
}

void metarun_end(struct metarun *m)
{
	(void)close(TAKE_FD(m->sock));
	(void)kill(m->pid, SIGKILL);
	while (waitpid(m->pid, NULL, 0) < 0 && errno == EINTR)
		;
}
