/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cli/runproc.h"
#include "common/buf.h"
#include "common/io.h"
#include "common/mnttab.h"

#define PREFIX "estargz-optimize."
#define CGROUPS "/sys/fs/cgroup"
#define RUNTIME_TIMEOUT_MS 20000
#define REMOVE_TIMEOUT_NS (10 * NSEC_PER_SEC)
#define LOCK_TRIES 10
#define REAP_TIMEOUT_NS (5 * NSEC_PER_SEC)

static void nap(void)
{
	(void)poll(NULL, 0, 20);
}

/* ---- taking away ------------------------------------------------------- */

/* The runtime takes its container away; where there is none it complains, which
 * is of no interest. */
static void delete_container(int fd, const char *id)
{
	CLEANUP_BUF struct buf runtime = BUF_INIT(KIB(8));
	const char *argv[] = {NULL,      "--root", "rt", "delete",
			      "--force", id,       NULL};
	struct err e = {0};

	if (io_read_file(fd, "runtime", &runtime) < 0 || runtime.len == 0)
		return;
	argv[0] = runtime.p;
	(void)runproc_run(argv, fd, RUNTIME_TIMEOUT_MS, &e);
}

/* Ends who is in a cgroup. */
static void empty_cgroup(const char *path)
{
	CLEANUP_BUF struct buf procs = BUF_INIT(KIB(64));
	CLEANUP_FREE char *file = NULL;
	char *next;

	if (asprintf(&file, "%s/cgroup.procs", path) < 0) {
		file = NULL;
		return;
	}
	if (io_read_file(AT_FDCWD, file, &procs) < 0 || procs.len == 0)
		return;
	for (next = procs.p; next != NULL;) {
		long pid = strtol(strsep(&next, "\n"), NULL, 10);

		if (pid > 1)
			(void)kill((pid_t)pid, SIGKILL);
	}
}

static void remove_cgroup(const char *parent, const char *id)
{
	uint64_t end = io_now_ns() + REAP_TIMEOUT_NS;
	CLEANUP_FREE char *path = NULL;

	if (asprintf(&path, "%s/%s", parent, id) < 0) {
		path = NULL;
		return;
	}
	while (rmdir(path) < 0 && errno == EBUSY && io_now_ns() < end) {
		empty_cgroup(path);
		nap();
	}
}

/* What a runtime that was killed itself has left: cgroups have the container's
 * name, in the one hierarchy of v2 or in each of v1. */
static void remove_cgroups(const char *id)
{
	DIR *d = opendir(CGROUPS);
	struct dirent *de;

	remove_cgroup(CGROUPS, id);
	while (d != NULL && (de = readdir(d)) != NULL) {
		CLEANUP_FREE char *parent = NULL;

		if (de->d_name[0] == '.' || de->d_type != DT_DIR)
			continue;
		if (asprintf(&parent, CGROUPS "/%s", de->d_name) < 0) {
			parent = NULL;
			break;
		}
		remove_cgroup(parent, id);
	}
	if (d != NULL)
		(void)closedir(d);
}

/* Takes away the mounts below a path, the last one first. Return: how many
 * there were */
static size_t unmount_below(const char *path)
{
	CLEANUP_MNTTAB struct mnttab t = {0};
	FILE *f = fopen(MNTTAB_SELF, "re");
	size_t n = strlen(path), count = 0;
	CLEANUP_FREE char **v = NULL;

	while (f != NULL && mnttab_next(&t, f)) {
		char **more;

		if (strncmp(t.m.mnt_dir, path, n) != 0 || t.m.mnt_dir[n] != '/')
			continue;
		more = reallocarray(v, count + 1, sizeof(*v));
		if (more == NULL)
			break;
		v = more;
		v[count] = strdup(t.m.mnt_dir);
		if (v[count] == NULL)
			break;
		count++;
	}
	if (f != NULL)
		(void)fclose(f);
	for (size_t i = count; i-- > 0;) {
		(void)umount2(v[i], MNT_DETACH);
		free(v[i]);
	}
	return count;
}

static void remove_tree(const char *path)
{
	char *copy = strdup(path), *paths[] = {copy, NULL};
	FTS *f = copy != NULL ? fts_open(paths, FTS_PHYSICAL | FTS_XDEV, NULL)
			      : NULL;
	FTSENT *n;

	while (f != NULL && (n = fts_read(f)) != NULL) {
		if (n->fts_info == FTS_D)
			continue;
		if (n->fts_info == FTS_DP || n->fts_info == FTS_DNR)
			(void)rmdir(n->fts_accpath);
		else
			(void)unlink(n->fts_accpath);
	}
	if (f != NULL)
		(void)fts_close(f);
	free(copy);
}

static const char *last_component(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

static void end_container(int fd, const char *id)
{
	struct stat st;

	if (fstatat(fd, "runtime", &st, 0) < 0)
		return;
	delete_container(fd, id);
	remove_cgroups(id);
	(void)unlinkat(fd, "runtime", 0);
}

static void destroy(const char *path)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t end = io_now_ns() + REMOVE_TIMEOUT_NS;
	struct stat st;

	if (fd < 0)
		return;
	end_container(fd, last_component(path));
	/* Who was about to mount is told to end, but may not have yet. */
	do {
		(void)unmount_below(path);
		remove_tree(path);
		if (lstat(path, &st) < 0)
			return;
		nap();
	} while (io_now_ns() < end);
}

/* ---- who takes away ---------------------------------------------------- */

/* Until the other end of the socket is closed, by whatever. */
static void be_janitor(const char *path, int fd)
{
	char c;

	(void)setsid();
	(void)prctl(PR_SET_NAME, "estargz-janitor");
	for (int sig = 1; sig < SIGRTMIN; sig++)
		(void)signal(sig, SIG_IGN);
	(void)signal(SIGCHLD, SIG_DFL);
	while (read(fd, &c, 1) < 0 && errno == EINTR)
		;
	destroy(path);
	_exit(0);
}

/* Not as a child of ours: who waits for all of those does not wait for it. */
static int start_janitor(struct rundir *d, struct err *e)
{
	int sv[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(e, -errno, "socketpair: %s", err_name(errno));
	pid = fork();
	if (pid == 0) {
		pid = fork();
		if (pid != 0)
			_exit(pid < 0 ? 1 : 0);
		/* Whoever waits for the end of our output, or for a lock that
		 * we have, does not wait for it. */
		for (int fd = 0; fd < 3; fd++)
			(void)dup2(sv[1], fd);
		(void)close_range(3, ~0u, 0);
		be_janitor(d->path, STDIN_FILENO);
	}
	(void)close(sv[1]);
	d->janitor_fd = sv[0];
	if (pid < 0)
		return err_set(e, -errno, "fork: %s", err_name(errno));
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}

/* Ends the fetcher that the mounts have started, if nothing else is left that is
 * ours: it would wait a second for another mount. */
static void end_fetcher(void)
{
	CLEANUP_BUF struct buf children = BUF_INIT(KIB(64));
	char *next;
	pid_t fetcher = 0;

	if (io_read_file(AT_FDCWD, "/proc/thread-self/children", &children) < 0)
		return;
	for (next = children.p; next != NULL;) {
		long pid = strtol(strsep(&next, " "), NULL, 10);
		CLEANUP_BUF struct buf comm = BUF_INIT(64);
		char path[64];

		if (pid <= 0)
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
		if (io_read_file(AT_FDCWD, path, &comm) < 0 || comm.len == 0 ||
		    strcmp(comm.p, "estargzd\n") != 0)
			return;
		fetcher = (pid_t)pid;
	}
	if (fetcher > 0)
		(void)kill(fetcher, SIGTERM);
}

/* Waits until no child is left. */
static void reap(void)
{
	uint64_t end = io_now_ns() + REAP_TIMEOUT_NS;
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0) {
		if (pid > 0)
			continue;
		if (io_now_ns() > end)
			return;
		end_fetcher();
		nap();
	}
}

void rundir_unmount(struct rundir *d)
{
	end_container(d->fd, d->id);
	(void)unmount_below(d->path);
	reap();
}

void rundir_close(struct rundir *d)
{
	if (d->path == NULL)
		return;
	if (d->fd >= 0)
		(void)close(d->fd);
	if (d->janitor_fd >= 0) {
		char c;

		(void)shutdown(d->janitor_fd, SHUT_WR);
		while (read(d->janitor_fd, &c, 1) < 0 && errno == EINTR)
			;
		(void)close(d->janitor_fd);
	}
	/* There is nothing to do, unless the janitor was killed. */
	destroy(d->path);
	if (d->lock_fd >= 0)
		(void)close(d->lock_fd);
	reap();
	free(d->path);
	*d = (struct rundir){.fd = -1, .lock_fd = -1, .janitor_fd = -1};
}

/* ---- making ------------------------------------------------------------ */

/* Whether nobody holds a lock. A child that one who was killed had just made has
 * it until it executes something. */
static bool is_nobodys(int fd)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return true;
		nap();
	}
	return false;
}

/* Takes away directories whose lock nobody holds. */
static void sweep(const char *parent)
{
	DIR *d = opendir(parent);
	struct dirent *de;

	while (d != NULL && (de = readdir(d)) != NULL) {
		CLEANUP_FREE char *path = NULL;
		CLEANUP_FREE char *lock = NULL;
		CLEANUP_CLOSE int fd = -EBADF;
		struct stat st;

		if (strncmp(de->d_name, PREFIX, strlen(PREFIX)) != 0)
			continue;
		if (asprintf(&path, "%s/%s", parent, de->d_name) < 0) {
			path = NULL;
			break;
		}
		if (asprintf(&lock, "%s/lock", path) < 0) {
			lock = NULL;
			break;
		}
		/* In a place that all may write to, anybody's may be there. */
		if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) ||
		    st.st_uid != geteuid())
			continue;
		fd = open(lock, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd >= 0 && is_nobodys(fd))
			destroy(path);
	}
	if (d != NULL)
		(void)closedir(d);
}

/* It has its name only when it is locked: until then it is not swept. */
static int lock(struct rundir *d, struct err *e)
{
	d->lock_fd =
		openat(d->fd, "lock.new", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (d->lock_fd < 0 || flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0 ||
	    renameat(d->fd, "lock.new", d->fd, "lock") < 0)
		return err_set(e, -errno, "%s/lock: %s", d->path,
			       err_name(errno));
	return 0;
}

static int make(struct rundir *d, const char *parent, struct err *e)
{
	if (asprintf(&d->path, "%s/" PREFIX "XXXXXX", parent) < 0) {
		d->path = NULL;
		return err_no_memory(e);
	}
	if (strpbrk(d->path, ",:\\\"\n") != NULL)
		return err_set(e, -EINVAL,
			       "TMPDIR=%s: a name that mount options cannot "
			       "have",
			       parent);
	if (mkdtemp(d->path) == NULL) {
		int r = -errno;

		free(d->path);
		d->path = NULL;
		return err_set(e, r, "%s: %s", parent, err_name(r));
	}
	d->id = last_component(d->path);
	d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd < 0)
		return err_set(e, -errno, "%s: %s", d->path, err_name(errno));
	return lock(d, e);
}

int rundir_open(struct rundir *d, struct err *e)
{
	const char *tmp = getenv("TMPDIR");
	CLEANUP_FREE char *parent = NULL;
	int r;

	*d = (struct rundir){.fd = -1, .lock_fd = -1, .janitor_fd = -1};
	tmp = tmp != NULL && *tmp != '\0' ? tmp : "/var/tmp";
	parent = realpath(tmp, NULL);
	if (parent == NULL)
		return err_set(e, -errno, "%s: %s", tmp, err_name(errno));
	sweep(parent);
	r = make(d, parent, e);
	if (r == 0)
		r = start_janitor(d, e);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (r < 0)
		rundir_close(d);
	return r;
}
