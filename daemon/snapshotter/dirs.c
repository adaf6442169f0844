/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/dirs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define LOG_MOD "snapshots"
#include "common/log.h"
#include "daemon/snapshotter/disk.h"

#define NAME_BYTES 32 /* "rm-" and an id */
#define REMOVED "rm-"

struct dirs {
	/* immutable */
	struct tree *tree;
	int fd; /* ROOT/snapshots */
	/* shared by those who make one, exclusive for who looks for rubbish */
	pthread_rwlock_t making;
	pthread_mutex_t lock;
	/* guarded by lock */
	bool sweeping; /* the thread is there */
	bool again;    /* more has come meanwhile */
	bool closing;
	pthread_t sweeper; /* to be joined, where there was one */
	bool joinable;
};

void dirs_begin(struct dirs *d)
{
	(void)pthread_rwlock_rdlock(&d->making);
}

void dirs_end(struct dirs *d)
{
	(void)pthread_rwlock_unlock(&d->making);
}

int dirs_sync(struct dirs *d, struct err *e)
{
	if (fsync(d->fd) == 0)
		return 0;
	return err_set(e, -errno, "snapshots: sync: %s", err_name(errno));
}

/*** Removal ***/

/* The id that a name is, 0 where it is none. */
static int64_t id_of(const char *name)
{
	int64_t id = 0;

	if (name[0] < '1' || name[0] > '9')
		return 0;
	for (const char *p = name; *p != '\0'; p++) {
		if (*p < '0' || *p > '9' || id > INT64_MAX / 10 - 1)
			return 0;
		id = 10 * id + (*p - '0');
	}
	return id;
}

/* Calls fn for every name in the directory. Return: 0, the first -errno */
static int each_name(struct dirs *d,
		     int (*fn)(struct dirs *d, const char *name))
{
	int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;
	int r = 0;

	if (dir == NULL) {
		r = -errno;
		if (fd >= 0)
			(void)close(fd);
		return r;
	}
	while (errno = 0, (entry = readdir(dir)) != NULL) {
		int rr = fn(d, entry->d_name);

		r = r < 0 ? r : rr;
	}
	if (r == 0 && errno != 0)
		r = -errno;
	(void)closedir(dir);
	return r;
}

static bool is_closing(struct dirs *d)
{
	bool closing;

	(void)pthread_mutex_lock(&d->lock);
	closing = d->closing;
	(void)pthread_mutex_unlock(&d->lock);
	return closing;
}

static int remove_renamed(struct dirs *d, const char *name)
{
	int r;

	if (strncmp(name, REMOVED, strlen(REMOVED)) != 0 || is_closing(d))
		return 0;
	r = disk_remove(d->fd, name);
	if (r < 0)
		log_warn("msg=\"a removed snapshot stays on the disk\" "
			 "dir=%s err=%s",
			 name, err_symbol(r));
	return r;
}

static void *sweep(void *arg)
{
	struct dirs *d = arg;
	bool more = true;

	while (more) {
		(void)each_name(d, remove_renamed);
		(void)pthread_mutex_lock(&d->lock);
		more = d->again && !d->closing;
		d->again = false;
		d->sweeping = more;
		(void)pthread_mutex_unlock(&d->lock);
	}
	return NULL;
}

static void sweep_soon(struct dirs *d)
{
	(void)pthread_mutex_lock(&d->lock);
	d->again = true;
	if (!d->sweeping) {
		if (d->joinable)
			(void)pthread_join(d->sweeper, NULL);
		/* Where there is no thread: dirs_collect() will do it. */
		d->joinable = pthread_create(&d->sweeper, NULL, sweep, d) == 0;
		d->sweeping = d->joinable;
		d->again = false;
	}
	(void)pthread_mutex_unlock(&d->lock);
}

static int rename_away(struct dirs *d, int64_t id)
{
	char from[NAME_BYTES], to[NAME_BYTES];

	(void)snprintf(from, sizeof(from), "%" PRId64, id);
	(void)snprintf(to, sizeof(to), REMOVED "%" PRId64, id);
	if (renameat(d->fd, from, d->fd, to) == 0 || errno == ENOENT)
		return 0;
	log_warn("msg=\"a removed snapshot stays on the disk\" dir=%s err=%s",
		 from, err_symbol(errno));
	return -errno;
}

void dirs_drop(struct dirs *d, int64_t id)
{
	if (rename_away(d, id) == 0)
		sweep_soon(d);
}

static int rename_orphan(struct dirs *d, const char *name)
{
	int64_t id = id_of(name);
	int r;

	if (id == 0)
		return 0;
	tree_id_skip(d->tree, id);
	r = tree_has_id(d->tree, id);
	return r == 0 ? rename_away(d, id) : MIN(r, 0);
}

static int rename_orphans(struct dirs *d, struct err *e)
{
	int r;

	(void)pthread_rwlock_wrlock(&d->making);
	r = each_name(d, rename_orphan);
	(void)pthread_rwlock_unlock(&d->making);
	return r < 0 ? err_set(e, r, "snapshots: %s", err_name(r)) : 0;
}

int dirs_collect(struct dirs *d, struct err *e)
{
	int r;

	r = rename_orphans(d, e);
	if (r < 0)
		return r;
	r = each_name(d, remove_renamed);
	return r < 0 ? err_set(e, r, "a removed snapshot stays on the disk: %s",
			       err_name(r))
		     : 0;
}

/*** Making ***/

static int make_in(int fd, bool work, uid_t owner, gid_t group)
{
	/* Whatever the umask is. */
	if (mkdirat(fd, "fs", 0755) < 0 || fchmodat(fd, "fs", 0755, 0) < 0)
		return -errno;
	if ((owner != 0 || group != 0) &&
	    fchownat(fd, "fs", owner, group, 0) < 0)
		return -errno;
	if (work && (mkdirat(fd, "work", 0711) < 0 ||
		     fchmodat(fd, "work", 0711, 0) < 0))
		return -errno;
	return 0;
}

int dirs_make(struct dirs *d, int64_t id, bool work, uid_t owner, gid_t group,
	      struct err *e)
{
	char name[NAME_BYTES];
	CLEANUP_CLOSE int fd = -EBADF;
	int r;

	(void)snprintf(name, sizeof(name), "%" PRId64, id);
	if (mkdirat(d->fd, name, 0700) < 0)
		return err_set(e, -errno, "snapshots/%s: %s", name,
			       err_name(errno));
	fd = openat(d->fd, name,
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = fd < 0 ? -errno : make_in(fd, work, owner, group);
	if (r < 0) {
		dirs_drop(d, id);
		return err_set(e, r, "snapshots/%s: %s", name, err_name(r));
	}
	return 0;
}

/*** Opening ***/

/* overlayfs needs it. ROOT/snapshots is there; what "." and ".." say does not
 * count. Return: 1, 0, -errno */
static int has_d_type(int root_fd)
{
	int fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;
	int r = 1;

	if (dir == NULL) {
		r = -errno;
		if (fd >= 0)
			(void)close(fd);
		return r;
	}
	while (r == 1 && (entry = readdir(dir)) != NULL)
		r = entry->d_type != DT_UNKNOWN;
	(void)closedir(dir);
	return r;
}

static int check_fs(const char *root, int fd, struct err *e)
{
	struct statfs fs;
	int r;

	if (fstatfs(fd, &fs) < 0)
		return err_set(e, -errno, "%s: %s", root, err_name(errno));
	if (fs.f_type == OVERLAYFS_SUPER_MAGIC)
		return err_set(e, -EOPNOTSUPP,
			       "%s is on an overlayfs, which cannot hold the "
			       "upper directories of others; put the state "
			       "directory (root) on another file system",
			       root);
	r = has_d_type(fd);
	if (r < 0)
		return err_set(e, r, "%s: %s", root, err_name(r));
	if (r == 0)
		return err_set(e, -EOPNOTSUPP,
			       "%s: its file system does not tell file types "
			       "(d_type), which overlayfs needs; XFS needs "
			       "ftype=1",
			       root);
	return 0;
}

int dirs_open(struct dirs **ret, const char *root, struct tree *t,
	      struct err *e)
{
	CLEANUP_CLOSE int root_fd =
		open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirs *d;
	int r;

	if (root_fd < 0)
		return err_set(e, -errno, "%s: %s", root, err_name(errno));
	if (mkdirat(root_fd, "snapshots", 0700) < 0 && errno != EEXIST)
		return err_set(e, -errno, "%s/snapshots: %s", root,
			       err_name(errno));
	r = check_fs(root, root_fd, e);
	if (r < 0)
		return r;
	d = calloc(1, sizeof(*d));
	if (d == NULL)
		return err_set(e, -ENOMEM, "out of memory");
	d->tree = t;
	(void)pthread_rwlock_init(&d->making, NULL);
	(void)pthread_mutex_init(&d->lock, NULL);
	d->fd = openat(root_fd, "snapshots",
		       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (d->fd < 0) {
		r = err_set(e, -errno, "%s/snapshots: %s", root,
			    err_name(errno));
		dirs_close(d);
		return r;
	}
	/* What stays has been logged; it is no reason not to start. */
	(void)rename_orphans(d, NULL);
	sweep_soon(d);
	*ret = d;
	return 0;
}

void dirs_close(struct dirs *d)
{
	if (d == NULL)
		return;
	(void)pthread_mutex_lock(&d->lock);
	d->closing = true;
	(void)pthread_mutex_unlock(&d->lock);
	if (d->joinable)
		(void)pthread_join(d->sweeper, NULL);
	if (d->fd >= 0)
		(void)close(d->fd);
	(void)pthread_mutex_destroy(&d->lock);
	(void)pthread_rwlock_destroy(&d->making);
	free(d);
}
