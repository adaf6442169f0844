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

#define NAME_BYTES 24 /* an id */

struct ids {
	int64_t *v;
	size_t n;
};

struct dirs {
	/* immutable */
	struct tree *tree;
	int fd; /* ROOT/snapshots */
	/* shared by those who make one, exclusive for who looks for rubbish */
	pthread_rwlock_t making;
	pthread_mutex_t lock;
	/* guarded by lock */
	struct ids dropped; /* to be removed */
	bool sweeping;      /* a thread is at it */
	bool closing;
	bool joinable;
	pthread_t sweeper;
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

static int ids_add(struct ids *ids, int64_t id)
{
	/* Room doubles: it is full when n is a power of two. */
	if ((ids->n & (ids->n - 1)) == 0) {
		size_t cap = ids->n == 0 ? 1 : 2 * ids->n;
		int64_t *v = reallocarray(ids->v, cap, sizeof(*v));

		if (v == NULL)
			return -ENOMEM;
		ids->v = v;
	}
	ids->v[ids->n++] = id;
	return 0;
}

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

/* Adds the directories that have no row. */
static int find_orphans(struct dirs *d, DIR *dir, struct ids *ret)
{
	const struct dirent *entry;
	int r = 0;

	while (r >= 0 && (errno = 0, entry = readdir(dir)) != NULL) {
		int64_t id = id_of(entry->d_name);

		if (id == 0)
			continue;
		tree_id_skip(d->tree, id);
		r = tree_has_id(d->tree, id);
		if (r == 0)
			r = ids_add(ret, id);
	}
	return r < 0 ? r : -errno;
}

static int orphans(struct dirs *d, struct ids *ret, struct err *e)
{
	int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	int r;

	if (dir == NULL) {
		r = -errno;
		if (fd >= 0)
			(void)close(fd);
	} else {
		(void)pthread_rwlock_wrlock(&d->making);
		r = find_orphans(d, dir, ret);
		(void)pthread_rwlock_unlock(&d->making);
		(void)closedir(dir);
	}
	return r < 0 ? err_set(e, r, "snapshots: %s", err_name(r)) : 0;
}

static bool is_closing(struct dirs *d)
{
	bool closing;

	(void)pthread_mutex_lock(&d->lock);
	closing = d->closing;
	(void)pthread_mutex_unlock(&d->lock);
	return closing;
}

/* That their rows are gone is on the disk before their files are not. */
static int remove_all(struct dirs *d, const struct ids *ids, struct err *e)
{
	int r;

	r = ids->n > 0 ? tree_sync(d->tree, e) : 0;
	if (r < 0)
		return r;
	for (size_t i = 0; i < ids->n && !is_closing(d); i++) {
		char name[NAME_BYTES];
		int rr;

		(void)snprintf(name, sizeof(name), "%" PRId64, ids->v[i]);
		rr = disk_remove(d->fd, name);
		if (rr < 0)
			r = err_set(e, rr, "snapshots/%s, removed: %s", name,
				    err_name(rr));
	}
	return r;
}

static void *sweep(void *arg)
{
	struct dirs *d = arg;

	for (;;) {
		struct ids ids;
		struct err e = {0};

		(void)pthread_mutex_lock(&d->lock);
		ids = d->dropped;
		d->dropped = (struct ids){0};
		d->sweeping = ids.n > 0;
		(void)pthread_mutex_unlock(&d->lock);
		if (ids.n == 0)
			return NULL;
		if (remove_all(d, &ids, &e) < 0)
			log_warn("msg=\"stays on the disk\" why=\"%s\"",
				 e.text);
		free(ids.v);
	}
}

/* With the lock held. Without memory or threads they stay until
 * dirs_collect(). */
static void sweep_soon(struct dirs *d)
{
	if (d->sweeping)
		return;
	if (d->joinable)
		(void)pthread_join(d->sweeper, NULL);
	d->joinable = pthread_create(&d->sweeper, NULL, sweep, d) == 0;
	d->sweeping = d->joinable;
}

void dirs_drop(struct dirs *d, int64_t id)
{
	(void)pthread_mutex_lock(&d->lock);
	if (ids_add(&d->dropped, id) == 0)
		sweep_soon(d);
	(void)pthread_mutex_unlock(&d->lock);
}

int dirs_collect(struct dirs *d, struct err *e)
{
	struct ids ids = {0};
	int r;

	r = orphans(d, &ids, e);
	if (r == 0)
		r = remove_all(d, &ids, e);
	free(ids.v);
	return r;
}

/*** Making ***/

static int make_one(int dirfd, const char *name, mode_t mode, bool again)
{
	if (mkdirat(dirfd, name, mode) < 0 && !(again && errno == EEXIST))
		return -errno;
	/* Whatever the umask is. */
	return fchmodat(dirfd, name, mode, 0) < 0 ? -errno : 0;
}

/* @again: some of it may be there */
static int make_all(struct dirs *d, const char *name, bool again, bool work,
		    uid_t owner, gid_t group)
{
	CLEANUP_CLOSE int fd = -EBADF;
	int r;

	r = make_one(d->fd, name, 0700, again);
	if (r < 0)
		return r;
	fd = openat(d->fd, name,
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = make_one(fd, "fs", 0755, again);
	if (r == 0 && fchownat(fd, "fs", owner, group, 0) < 0)
		r = -errno;
	if (r == 0 && work)
		r = make_one(fd, "work", 0711, again);
	return r;
}

int dirs_make(struct dirs *d, int64_t id, bool work, uid_t owner, gid_t group,
	      struct err *e)
{
	char name[NAME_BYTES];
	int r;

	(void)snprintf(name, sizeof(name), "%" PRId64, id);
	r = make_all(d, name, false, work, owner, group);
	if (r == 0)
		return 0;
	/* One that is there already is somebody's. */
	if (r != -EEXIST)
		dirs_drop(d, id);
	return err_set(e, r == -EEXIST ? -EIO : r, "snapshots/%s: %s", name,
		       err_name(r));
}

int dirs_mend(struct dirs *d, int64_t id, bool work, uid_t owner, gid_t group,
	      struct err *e)
{
	char name[NAME_BYTES];
	int r;

	(void)snprintf(name, sizeof(name), "%" PRId64, id);
	r = make_all(d, name, true, work, owner, group);
	return r < 0 ? err_set(e, r, "snapshots/%s: %s", name, err_name(r)) : 0;
}

bool dirs_has(struct dirs *d, int64_t id, bool work)
{
	char name[NAME_BYTES + 8];
	struct stat st;

	(void)snprintf(name, sizeof(name), "%" PRId64 "/fs", id);
	if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno != ENOENT;
	(void)snprintf(name, sizeof(name), "%" PRId64 "/work", id);
	return !work || fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ||
	       errno != ENOENT;
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
		return err_no_memory(e);
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
	r = orphans(d, &d->dropped, e);
	if (r < 0) {
		dirs_close(d);
		return r;
	}
	(void)pthread_mutex_lock(&d->lock);
	if (d->dropped.n > 0)
		sweep_soon(d);
	(void)pthread_mutex_unlock(&d->lock);
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
	free(d->dropped.v);
	if (d->fd >= 0)
		(void)close(d->fd);
	(void)pthread_mutex_destroy(&d->lock);
	(void)pthread_rwlock_destroy(&d->making);
	free(d);
}
