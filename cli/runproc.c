/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/runproc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/io.h"

#define LAST_LINE_BYTES 4096

/* In the child. */
static void become(const struct runproc *p, pid_t parent)
{
	int fds[3] = {p->in, p->out, p->err};
	sigset_t none;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	if (p->dir_fd >= 0 && fchdir(p->dir_fd) < 0)
		_exit(127);
	/* Above the first three, so that none is in the way of another. */
	for (int i = 0; i < 3; i++) {
		fds[i] = fds[i] >= 0 ? fcntl(fds[i], F_DUPFD, 3)
				     : open("/dev/null", O_RDWR);
		if (fds[i] >= 0 && fds[i] < 3)
			fds[i] = fcntl(fds[i], F_DUPFD, 3);
		if (fds[i] < 0)
			_exit(127);
	}
	for (int i = 0; i < 3; i++) {
		if (dup2(fds[i], i) < 0)
			_exit(127);
	}
	if (close_range(3, ~0U, 0) < 0)
		_exit(127);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	for (int sig = 1; sig < SIGRTMIN; sig++)
		(void)signal(sig, SIG_DFL);
	/* execv(3) takes char *const * for what it does not change. */
	(void)execv(p->argv[0], (char *const *)(uintptr_t)p->argv);
	_exit(127);
}

pid_t runproc_start(const struct runproc *p, struct err *e)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		return err_set(e, -errno, "fork: %s", err_name(errno));
	if (pid == 0)
		become(p, parent);
	return pid;
}

int runproc_wait(pid_t pid, unsigned timeout_ms)
{
	CLEANUP_CLOSE int fd = pidfd_open(pid, 0);
	uint64_t end = io_now_ns() + timeout_ms * NSEC_PER_MSEC;
	int status, r = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		uint64_t now = io_now_ns();
		int n = now < end ? poll(&pfd, 1,
					 (int)((end - now) / NSEC_PER_MSEC) + 1)
				  : 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n > 0)
			break;
		r = -ETIMEDOUT;
		(void)kill(pid, SIGKILL);
		break;
	}
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return r < 0 ? r : status;
}

/* Cuts "time=… level=error msg=\"…\"" to what is said; in place. */
static void strip_logfmt(char *line)
{
	char *msg = strstr(line, "msg=\""), *to = line;

	if (strncmp(line, "time=", 5) != 0 || msg == NULL)
		return;
	for (msg += 5; *msg != '\0' && *msg != '"'; msg++) {
		if (*msg == '\\' && msg[1] != '\0')
			msg++;
		*to++ = *msg;
	}
	*to = '\0';
}

char *runproc_last_line(int fd)
{
	struct stat st;
	CLEANUP_FREE char *text = calloc(1, LAST_LINE_BYTES + 1);
	uint64_t from;
	size_t n;
	char *line;

	if (text == NULL || fstat(fd, &st) < 0 || st.st_size <= 0)
		return NULL;
	n = MIN((size_t)st.st_size, (size_t)LAST_LINE_BYTES);
	from = (uint64_t)st.st_size - n;
	if (io_pread_all(fd, text, n, from) < 0)
		return NULL;
	while (n > 0 && strchr("\r\n", text[n - 1]) != NULL)
		text[--n] = '\0';
	line = strrchr(text, '\n');
	line = line != NULL ? line + 1 : text;
	strip_logfmt(line);
	return *line != '\0' ? strdup(line) : NULL;
}

int runproc_run(const char *const *argv, int dir_fd, unsigned timeout_ms,
		struct err *e)
{
	CLEANUP_CLOSE int err = memfd_create("stderr", MFD_CLOEXEC);
	CLEANUP_FREE char *why = NULL;
	struct runproc p = {
		.argv = argv,
		.dir_fd = dir_fd,
		.in = -1,
		.out = -1,
		.err = err,
	};
	pid_t pid;
	int r;

	if (err < 0)
		return err_set(e, -errno, "memfd: %s", err_name(errno));
	pid = runproc_start(&p, e);
	if (pid < 0)
		return pid;
	r = runproc_wait(pid, timeout_ms);
	if (r == 0)
		return 0;
	if (r < 0)
		return err_set(e, r, "%s: %s", argv[0], err_name(r));
	why = runproc_last_line(err);
	if (why != NULL)
		return err_set(e, -EIO, "%s", why);
	return err_set(e, -EIO, "%s failed", argv[0]);
}

int runproc_find(const char *name, char **ret)
{
	const char *path = getenv("PATH");
	CLEANUP_FREE char *copy = NULL;
	char *next;

	if (strchr(name, '/') != NULL) {
		*ret = realpath(name, NULL);
		return *ret != NULL ? 0 : -errno;
	}
	copy = strdup(path != NULL ? path : "/usr/sbin:/usr/bin:/sbin:/bin");
	if (copy == NULL)
		return -ENOMEM;
	for (next = copy; next != NULL;) {
		const char *dir = strsep(&next, ":");
		char *found;

		if (dir[0] != '/')
			continue;
		if (asprintf(&found, "%s/%s", dir, name) < 0)
			return -ENOMEM;
		if (access(found, X_OK) == 0) {
			*ret = found;
			return 0;
		}
		free(found);
	}
	return -ENOENT;
}

int runproc_find_ours(const char *name, const char *built, char **ret)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *const dirs[] = {self, self, SBINDIR};
	const char *slash;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash != NULL)
		self[slash - self] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		char *found;

		if (asprintf(&found, "%s/%s%s", dirs[i], i == 1 ? built : "",
			     name) < 0)
			return -ENOMEM;
		if (access(found, X_OK) == 0) {
			*ret = found;
			return 0;
		}
		free(found);
	}
	return runproc_find(name, ret);
}
