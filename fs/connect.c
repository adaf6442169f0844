/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/connect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/io.h"

#define PRIVATE_DIR OPTIONS_RUN_DIR "/private"
#define LISTEN_FD 3

int connect_init(struct connect *c, const struct options *o)
{
	static unsigned serial;
	unsigned long long id = (unsigned long long)getpid();

	*c = (struct connect){
		.log_level = o->log_level,
		.chatty = o->foreground,
		.lock_fd = -1,
	};
	serial++;
	c->shared = strdup(o->fetcher);
	if (asprintf(&c->private_sock, PRIVATE_DIR "/%llu-%u.sock", id,
		     serial) < 0)
		c->private_sock = NULL;
	if (asprintf(&c->private_lock, PRIVATE_DIR "/%llu-%u.lock", id,
		     serial) < 0)
		c->private_lock = NULL;
	if (c->shared == NULL || c->private_sock == NULL ||
	    c->private_lock == NULL) {
		connect_done(c);
		return -ENOMEM;
	}
	return 0;
}

void connect_shared_only(struct connect *c)
{
	c->use = CONNECT_SHARED;
}

void connect_done(struct connect *c)
{
	if (c->lock_fd >= 0) {
		if (flock(c->lock_fd, LOCK_EX | LOCK_NB) == 0) {
			(void)unlink(c->private_sock);
			(void)unlink(c->private_lock);
		}
		(void)close(c->lock_fd);
	}
	free(c->shared);
	free(c->private_sock);
	free(c->private_lock);
	*c = (struct connect){.lock_fd = -1};
}

void connect_forked(struct connect *c)
{
	/* A flock belongs to the open file, which the fork shares. */
	if (c->lock_fd < 0)
		return;
	(void)close(c->lock_fd);
	c->lock_fd = open(c->private_lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (c->lock_fd >= 0)
		(void)flock(c->lock_fd, LOCK_SH);
}

static int set_address(struct sockaddr_un *sa, const char *path)
{
	*sa = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(sa->sun_path))
		return -ENAMETOOLONG;
	(void)snprintf(sa->sun_path, sizeof(sa->sun_path), "%s", path);
	return 0;
}

static int try_connect(const char *path, int *ret_sock)
{
	struct sockaddr_un sa;
	CLEANUP_CLOSE int s = -EBADF;
	int r = set_address(&sa, path);

	if (r < 0)
		return r;
	s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s < 0)
		return -errno;
	if (connect(s, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	*ret_sock = TAKE_FD(s);
	return 0;
}

/* estargzd beside this program, in a build tree, or where it is installed. */
static int find_estargzd(char **ret)
{
	static const char *const places[] = {
		"estargzd",
		"../daemon/fetcher/estargzd",
	};
	const char *env = getenv("ESTARGZD");
	char self[4096];
	ssize_t n;
	char *slash;

	if (env != NULL && env[0] == '/') {
		*ret = strdup(env);
		return *ret != NULL ? 0 : -ENOMEM;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash != NULL)
		*slash = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (asprintf(ret, "%s/%s", self, places[i]) < 0)
			return -ENOMEM;
		if (access(*ret, X_OK) == 0)
			return 0;
		free(*ret);
	}
	*ret = strdup(SBINDIR "/estargzd");
	return *ret != NULL ? 0 : -ENOMEM;
}

/* In the child: becomes the fetcher, with the listening socket and nothing
 * else of ours. */
static void exec_fetcher(const char *program, int listener,
			 const char *log_level, const struct connect *c)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)setsid();
	oom_set(c->oom.adj);
	/* Whoever waits for the end of our output waits for the mount, not
	 * for the fetcher. */
	if (null >= 0) {
		(void)dup2(null, STDIN_FILENO);
		(void)dup2(null, STDOUT_FILENO);
		if (!c->chatty)
			(void)dup2(null, STDERR_FILENO);
	}
	if (dup3(listener, LISTEN_FD, 0) < 0 && listener == LISTEN_FD)
		(void)fcntl(listener, F_SETFD, 0);
	(void)execl(program, "estargzd", "--socket-fd", "3", "--exit-when-idle",
		    "--log-level", log_level, (char *)NULL);
	_exit(127);
}

static int listen_private(const struct connect *c, int *ret)
{
	struct sockaddr_un sa;
	CLEANUP_CLOSE int s = -EBADF;
	int r = set_address(&sa, c->private_sock);
	mode_t old;

	if (r < 0)
		return r;
	(void)unlink(c->private_sock);
	s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s < 0)
		return -errno;
	old = umask(0177);
	r = bind(s, (const struct sockaddr *)&sa, sizeof(sa));
	(void)umask(old);
	if (r < 0 || listen(s, 128) < 0)
		return -errno;
	*ret = TAKE_FD(s);
	return 0;
}

static int start_private(struct connect *c, struct err *e)
{
	static const char *const levels[] = {"err", "warn", "info", "debug"};
	CLEANUP_FREE char *program = NULL;
	CLEANUP_CLOSE int listener = -EBADF;
	int r = find_estargzd(&program);
	pid_t pid;

	if (r < 0 || access(program, X_OK) < 0)
		return err_set(e, -ENOENT,
			       "nothing listens on %s, and estargzd is not "
			       "there to be started (%s)",
			       c->shared, program != NULL ? program : "?");
	r = listen_private(c, &listener);
	if (r < 0)
		return err_set(e, r, "private fetcher: %s: %s", c->private_sock,
			       err_name(r));
	pid = fork();
	if (pid < 0)
		return err_set(e, -errno, "private fetcher: %s",
			       err_name(errno));
	if (pid == 0)
		exec_fetcher(program, listener, levels[c->log_level], c);
	return 0;
}

/* Removes what mounts left over whose processes were killed: their lock files
 * are held by nobody. With the starter's lock held. */
static void sweep(void)
{
	DIR *d = opendir(PRIVATE_DIR);
	struct dirent *de;

	if (d == NULL)
		return;
	while ((de = readdir(d)) != NULL) {
		size_t n = strlen(de->d_name);
		CLEANUP_CLOSE int fd = -EBADF;
		char sock[NAME_MAX + 1];

		if (n < 5 || strcmp(de->d_name + n - 5, ".lock") != 0)
			continue;
		fd = openat(dirfd(d), de->d_name, O_RDWR | O_CLOEXEC);
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
			continue;
		(void)snprintf(sock, sizeof(sock), "%.*s.sock", (int)(n - 5),
			       de->d_name);
		(void)unlinkat(dirfd(d), sock, 0);
		(void)unlinkat(dirfd(d), de->d_name, 0);
	}
	(void)closedir(d);
}

/* Several processes may find at once that the private fetcher is not there:
 * who gets the lock starts it. */
static int connect_private(struct connect *c, int *ret_sock, struct err *e)
{
	CLEANUP_CLOSE int starter = -EBADF;
	int r;

	r = io_mkdir_p(PRIVATE_DIR, 0700);
	if (r < 0)
		return err_set(e, r, PRIVATE_DIR ": %s", err_name(r));
	starter = open(PRIVATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (starter < 0 || flock(starter, LOCK_EX) < 0)
		return err_set(e, -errno, PRIVATE_DIR ": %s", err_name(errno));
	if (c->lock_fd < 0) {
		sweep();
		c->lock_fd = open(c->private_lock, O_RDWR | O_CREAT | O_CLOEXEC,
				  0600);
		if (c->lock_fd < 0 || flock(c->lock_fd, LOCK_SH) < 0)
			return err_set(e, -errno, "%s: %s", c->private_lock,
				       err_name(errno));
	}
	if (try_connect(c->private_sock, ret_sock) == 0)
		return 0;
	r = start_private(c, e);
	if (r < 0)
		return r;
	r = try_connect(c->private_sock, ret_sock);
	if (r < 0)
		return err_set(e, r, "private fetcher: %s", err_name(r));
	return 0;
}

int connect_fetcher(struct connect *c, int *ret_sock, struct err *e)
{
	int r = -ENOENT;

	if (c->use != CONNECT_PRIVATE) {
		r = try_connect(c->shared, ret_sock);
		if (r == 0)
			c->use = CONNECT_SHARED;
		if (r == 0 || c->use == CONNECT_SHARED)
			return r == 0 ? 0
				      : err_set(e, r, "fetcher %s: %s",
						c->shared, err_name(r));
		if (r != -ENOENT && r != -ECONNREFUSED)
			return err_set(e, r, "fetcher %s: %s", c->shared,
				       err_name(r));
	}
	r = connect_private(c, ret_sock, e);
	if (r == 0)
		c->use = CONNECT_PRIVATE;
	return r;
}
