/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

void spawner_init(struct spawner *s, struct loop *loop)
{
	s->loop = loop;
	(void)pthread_mutex_init(&s->lock, NULL);
	list_init(&s->all);
}

static void child_free(struct child *c)
{
	(void)close(c->io.fd);
	free(c);
}

void spawner_done(struct spawner *s)
{
	while (!list_empty(&s->all)) {
		struct child *c = LIST_ENTRY(s->all.next, struct child, node);

		list_del(&c->node);
		child_free(c);
	}
	(void)pthread_mutex_destroy(&s->lock);
}

/* The pidfd is readable: it has ended. */
static void on_end(struct loop_io *io, uint32_t events UNUSED)
{
	struct child *c = LIST_ENTRY(io, struct child, io);
	siginfo_t si = {0};
	int status = -1;

	if (waitid(P_PIDFD, (id_t)io->fd, &si, WEXITED | WNOHANG) == 0 &&
	    si.si_pid == c->pid)
		status = si.si_code == CLD_EXITED ? si.si_status << 8
						  : si.si_status;
	loop_io_del(c->s->loop, io);
	(void)pthread_mutex_lock(&c->s->lock);
	list_del(&c->node);
	(void)pthread_mutex_unlock(&c->s->lock);
	if (c->fn != NULL)
		c->fn(c->arg, status);
	child_free(c);
}

static int watch(struct child *c, struct child **ret)
{
	struct spawner *s = c->s;
	int r;

	(void)pthread_mutex_lock(&s->lock);
	list_add(&s->all, &c->node);
	(void)pthread_mutex_unlock(&s->lock);
	if (ret != NULL)
		*ret = c;
	r = loop_io_add(s->loop, &c->io, EPOLLIN);
	if (r == 0)
		return 0;
	if (ret != NULL)
		*ret = NULL;
	(void)pthread_mutex_lock(&s->lock);
	list_del(&c->node);
	(void)pthread_mutex_unlock(&s->lock);
	return r;
}

static struct child *child_new(struct spawner *s,
			       void (*fn)(void *arg, int status), void *arg)
{
	struct child *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->io = (struct loop_io){.fd = -1, .fn = on_end};
	c->s = s;
	c->fn = fn;
	c->arg = arg;
	return c;
}

/* What a child has of ours: nothing but what is said here. */
static int actions_init(posix_spawn_file_actions_t *a, int fd, bool quiet)
{
	int r = posix_spawn_file_actions_addopen(a, STDIN_FILENO, "/dev/null",
						 O_RDWR, 0);

	if (r == 0)
		r = posix_spawn_file_actions_adddup2(a, STDIN_FILENO,
						     STDOUT_FILENO);
	if (r == 0 && quiet)
		r = posix_spawn_file_actions_adddup2(a, STDIN_FILENO,
						     STDERR_FILENO);
	/* Onto itself, too: that takes close-on-exec away. */
	if (r == 0 && fd >= 0)
		r = posix_spawn_file_actions_adddup2(a, fd, SPAWN_FD);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(
			a, fd >= 0 ? SPAWN_FD + 1 : SPAWN_FD);
	return -r;
}

static int attr_init(posix_spawnattr_t *a)
{
	sigset_t none, all;
	int r;

	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	r = posix_spawnattr_setsigmask(a, &none);
	if (r == 0)
		r = posix_spawnattr_setsigdefault(a, &all);
	if (r == 0)
		r = posix_spawnattr_setflags(a, POSIX_SPAWN_SETSID |
							POSIX_SPAWN_SETSIGMASK |
							POSIX_SPAWN_SETSIGDEF);
	return -r;
}

/* Ours but for NOTIFY_SOCKET: what is said there is of the snapshotter. Return:
 * borrowed strings in an array to be freed; NULL when out of memory */
static char **environment(void)
{
	size_t n = 0, k = 0;
	char **v;

	while (environ[n] != NULL)
		n++;
	v = calloc(n + 1, sizeof(char *));
	for (size_t i = 0; v != NULL && i < n; i++) {
		if (strncmp(environ[i], "NOTIFY_SOCKET=", 14) != 0)
			v[k++] = environ[i];
	}
	return v;
}

static int start(const char *const *argv, int fd, bool quiet, pid_t *ret)
{
	CLEANUP_FREE char **env = environment();
	/* posix_spawnp(3) changes none of them. */
	char *const *args = (char *const *)(uintptr_t)argv;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int r = env != NULL ? -posix_spawn_file_actions_init(&actions)
			    : -ENOMEM;

	if (r < 0)
		return r;
	r = -posix_spawnattr_init(&attr);
	if (r == 0) {
		r = attr_init(&attr);
		if (r == 0)
			r = actions_init(&actions, fd, quiet);
		if (r == 0)
			r = -posix_spawnp(ret, argv[0], &actions, &attr, args,
					  env);
		(void)posix_spawnattr_destroy(&attr);
	}
	(void)posix_spawn_file_actions_destroy(&actions);
	return r;
}

int spawn(struct spawner *s, const char *const *argv, int fd, bool quiet,
	  void (*fn)(void *arg, int status), void *arg, struct child **ret,
	  struct err *e)
{
	struct child *c = child_new(s, fn, arg);
	int r = c != NULL ? start(argv, fd, quiet, &c->pid) : -ENOMEM;

	if (r < 0) {
		free(c);
		return err_set(e, r, "cannot start %s: %s", argv[0],
			       err_name(r));
	}
	c->io.fd = pidfd_open(c->pid, 0);
	r = c->io.fd >= 0 ? watch(c, ret) : -errno;
	if (r < 0) {
		/* One that is not looked after is of no use. */
		(void)kill(c->pid, SIGKILL);
		(void)waitpid(c->pid, NULL, 0);
		if (c->io.fd >= 0)
			(void)close(c->io.fd);
		free(c);
		return err_set(e, r, "%s: pidfd: %s", argv[0], err_name(r));
	}
	return 0;
}

int spawn_own(const char *const *argv, int fd, pid_t *ret, struct err *e)
{
	int r = start(argv, fd, false, ret);

	return r < 0 ? err_set(e, r, "cannot start %s: %s", argv[0],
			       err_name(r))
		     : 0;
}

int spawn_adopt(struct spawner *s, pid_t pid, void (*fn)(void *arg, int status),
		void *arg, struct child **ret)
{
	struct child *c = child_new(s, fn, arg);
	int r;

	if (c == NULL)
		return -ENOMEM;
	c->pid = pid;
	c->io.fd = pidfd_open(pid, 0);
	r = c->io.fd >= 0 ? watch(c, ret) : -errno;
	if (r < 0) {
		if (c->io.fd >= 0)
			(void)close(c->io.fd);
		free(c);
	}
	return r;
}

void child_kill(const struct child *c)
{
	(void)pidfd_send_signal(c->io.fd, SIGKILL, NULL, 0);
}

void child_forget(struct child *c)
{
	c->fn = NULL;
}
