/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/layerdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/lastrun.h"

#define PIN "pin"
#define IMAGE "layer.erofs"
#define USER ".user"
#define BLOCK_BYTES 512u /* of st_blocks */

static const char *const kinds[] = {"sha256", "unverified"};

/* One cache, as the sweep finds it. */
struct cache {
	char *path;
	const char *name; /* in @path */
	uint64_t bytes;
	uint64_t inodes;
	int64_t used_ns; /* when last */
	bool in_use;
};

struct caches {
	struct cache *v;
	size_t n;
};

char *layerdir_path(const char *root, const struct digest *toc_digest,
		    bool opaque_user, bool unverified)
{
	char hex[DIGEST_HEX_BYTES + 1];
	char *path;

	if (asprintf(&path, "%s/layers/%s/%s%s", root, kinds[unverified],
		     digest_hex(toc_digest, hex), opaque_user ? USER : "") < 0)
		return NULL;
	return path;
}

static int open_dir(const char *path)
{
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* Whether the directory was removed since it was opened. */
static bool is_gone(int dirfd)
{
	struct stat st;

	return fstat(dirfd, &st) < 0 || st.st_nlink == 0;
}

static bool has_pin(int dirfd)
{
	return faccessat(dirfd, PIN, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int layerdir_pin(const char *root, const struct digest *toc_digest,
		 bool opaque_user, bool on)
{
	CLEANUP_FREE char *path =
		layerdir_path(root, toc_digest, opaque_user, false);
	CLEANUP_CLOSE int dirfd = -EBADF;
	CLEANUP_CLOSE int fd = -EBADF;
	int r;

	if (path == NULL)
		return -ENOMEM;
	r = on ? io_mkdir_p(path, 0700) : 0;
	if (r < 0)
		return r;
	dirfd = open_dir(path);
	if (dirfd < 0)
		return !on && errno == ENOENT ? 0 : -errno;
	if (!on)
		return unlinkat(dirfd, PIN, 0) < 0 && errno != ENOENT ? -errno
								      : 0;
	fd = openat(dirfd, PIN, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
		    0600);
	return fd < 0 ? -errno : 0;
}

/* ---- looking at them ---------------------------------------------------- */

static int measure(int dirfd, struct cache *c)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	struct stat st;

	if (d == NULL) {
		int r = -errno;

		if (fd >= 0)
			(void)close(fd);
		return r;
	}
	while ((de = readdir(d)) != NULL) {
		if (strcmp(de->d_name, "..") == 0 ||
		    fstatat(dirfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		c->bytes += (uint64_t)st.st_blocks * BLOCK_BYTES;
		c->inodes++;
		if (strcmp(de->d_name, "present") == 0)
			c->used_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 +
				     st.st_mtim.tv_nsec;
	}
	(void)closedir(d);
	return 0;
}

int layerdir_usage(const char *root, const struct digest *toc_digest,
		   bool opaque_user, uint64_t *ret_bytes, uint64_t *ret_inodes)
{
	CLEANUP_FREE char *path =
		layerdir_path(root, toc_digest, opaque_user, false);
	CLEANUP_CLOSE int dirfd = -EBADF;
	struct cache c = {0};
	int r;

	if (path == NULL)
		return -ENOMEM;
	dirfd = open_dir(path);
	if (dirfd < 0)
		return -errno;
	r = measure(dirfd, &c);
	if (r < 0)
		return r;
	*ret_bytes = c.bytes;
	*ret_inodes = c.inodes;
	return 0;
}

/* Calls fn for each directory in ROOT/layers/@kind. */
static int each(const char *root, const char *kind,
		int (*fn)(void *arg, const char *path), void *arg)
{
	CLEANUP_FREE char *dir = NULL;
	struct dirent *de;
	DIR *d;
	int r = 0;

	if (asprintf(&dir, "%s/layers/%s", root, kind) < 0) {
		dir = NULL;
		return -ENOMEM;
	}
	d = opendir(dir);
	if (d == NULL)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (de = readdir(d)) != NULL) {
		CLEANUP_FREE char *path = NULL;

		if (de->d_name[0] == '.')
			continue;
		if (asprintf(&path, "%s/%s", dir, de->d_name) < 0) {
			path = NULL;
			r = -ENOMEM;
			break;
		}
		r = fn(arg, path);
	}
	(void)closedir(d);
	return r;
}

struct unpin {
	bool (*keep)(void *arg, const struct digest *toc_digest,
		     bool opaque_user);
	void *arg;
};

/* Of the name of a directory. */
static bool parse_name(const char *path, struct digest *ret, bool *ret_user)
{
	const char *name = strrchr(path, '/');
	char text[sizeof("sha256:") + DIGEST_HEX_BYTES];
	size_t n;

	if (name == NULL || strlen(++name) < DIGEST_HEX_BYTES)
		return false;
	*ret_user = strcmp(name + DIGEST_HEX_BYTES, USER) == 0;
	if (!*ret_user && name[DIGEST_HEX_BYTES] != '\0')
		return false;
	n = (size_t)snprintf(text, sizeof(text), "sha256:%.*s",
			     (int)DIGEST_HEX_BYTES, name);
	return digest_parse(text, n, ret) == 0;
}

static int unpin_one(void *arg, const char *path)
{
	const struct unpin *u = arg;
	CLEANUP_FREE char *file = NULL;
	struct digest toc;
	bool user;

	if (!parse_name(path, &toc, &user) || u->keep(u->arg, &toc, user))
		return 0;
	if (asprintf(&file, "%s/" PIN, path) < 0) {
		file = NULL;
		return -ENOMEM;
	}
	return unlink(file) < 0 && errno != ENOENT && errno != ENOTDIR ? -errno
								       : 0;
}

int layerdir_unpin_others(const char *root,
			  bool (*keep)(void *arg,
				       const struct digest *toc_digest,
				       bool opaque_user),
			  void *arg)
{
	struct unpin u = {.keep = keep, .arg = arg};

	return each(root, kinds[0], unpin_one, &u);
}

/* ---- eviction ----------------------------------------------------------- */

/**
 * lease_image() - find out whether anybody has layer.erofs open
 * @ret_fd:	holds a lease on it: who opens it waits until it is closed; -1
 *		where there is none
 *
 * The kernel has it open while it is mounted by EROFS, directly or through a
 * loop device: in any mount namespace, and also below an overlayfs after the
 * mount itself was detached, which no list of mounts shows. Where leases are
 * not to be had it counts as closed: a mount keeps the file that is removed.
 * Return: true: nobody has
 */
static bool lease_image(int dirfd, int *ret_fd)
{
	int fd = openat(dirfd, IMAGE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	*ret_fd = fd;
	if (fd < 0)
		return true;
	/* Who comes meanwhile has us told by a signal that does nothing. */
	(void)fcntl(fd, F_SETSIG, SIGURG);
	return fcntl(fd, F_SETLEASE, F_WRLCK) == 0 || errno != EAGAIN;
}

/* Whether nobody serves, makes or mounts it now; then @dirfd holds its lock, and
 * @ret_fd its lease. */
static bool lock_unused(int dirfd, int *ret_fd)
{
	return flock(dirfd, LOCK_EX | LOCK_NB) == 0 && !is_gone(dirfd) &&
	       !has_pin(dirfd) && lease_image(dirfd, ret_fd);
}

static int look(void *arg, const char *path)
{
	struct caches *all = arg;
	struct cache c = {0};
	struct cache *v;
	CLEANUP_CLOSE int dirfd = open_dir(path);
	CLEANUP_CLOSE int image = -EBADF;

	if (dirfd < 0 || measure(dirfd, &c) < 0)
		return 0; /* it went, or is nothing of ours */
	c.in_use = !lock_unused(dirfd, &image);
	v = realloc(all->v, (all->n + 1) * sizeof(*v));
	if (v == NULL)
		return -ENOMEM;
	all->v = v;
	c.path = strdup(path);
	if (c.path == NULL)
		return -ENOMEM;
	c.name = strrchr(c.path, '/') + 1;
	v[all->n++] = c;
	return 0;
}

static int by_use(const void *a, const void *b)
{
	const struct cache *x = a, *y = b;

	return x->used_ns < y->used_ns ? -1 : x->used_ns > y->used_ns;
}

/* Under its lock. The index goes first: half a cache is none. */
static int remove_files(int dirfd, const char *path)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (d == NULL) {
		int r = -errno;

		if (fd >= 0)
			(void)close(fd);
		return r;
	}
	(void)unlinkat(dirfd, "chunks", 0);
	while ((de = readdir(d)) != NULL) {
		if (strcmp(de->d_name, ".") != 0 &&
		    strcmp(de->d_name, "..") != 0)
			(void)unlinkat(dirfd, de->d_name, 0);
	}
	(void)closedir(d);
	return rmdir(path) < 0 ? -errno : 0;
}

/* Return: 1 removed, 0 in use now */
static int remove_cache(const char *path)
{
	CLEANUP_CLOSE int dirfd = open_dir(path);
	CLEANUP_CLOSE int image = -EBADF;

	if (dirfd < 0 || !lock_unused(dirfd, &image))
		return 0;
	return remove_files(dirfd, path) == 0;
}

static int sweep_tmp(void *arg, const char *path)
{
	const char *name = strrchr(path, '/') + 1;

	(void)arg;
	if (strncmp(name, "tmp.", 4) == 0)
		(void)remove_cache(path);
	return 0;
}

void layerdir_sweep(const char *root)
{
	(void)each(root, "", sweep_tmp, NULL);
}

static void free_caches(struct caches *all)
{
	for (size_t i = 0; i < all->n; i++)
		free(all->v[i].path);
	free(all->v);
}

static void forget_runs(const char *root, uint64_t bytes_max, bool dry_run)
{
	if (!dry_run)
		lastrun_trim(root, bytes_max > 0 ? LASTRUN_FILES_MAX : 0);
}

int layerdir_evict(const char *root, uint64_t bytes_max, bool dry_run,
		   void (*removed)(void *arg, const char *name, uint64_t bytes),
		   void *arg, struct layerdir_evicted *ret, struct err *e)
{
	struct layerdir_evicted done = {0};
	struct caches all = {0};
	int r = 0;

	layerdir_sweep(root);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++)
		r = each(root, kinds[i], look, &all);
	if (r < 0) {
		free_caches(&all);
		return err_set(e, r, "%s/layers: %s", root, err_name(r));
	}
	for (size_t i = 0; i < all.n; i++) {
		done.bytes_left += all.v[i].bytes;
		done.n_left++;
		if (all.v[i].in_use) {
			done.bytes_used += all.v[i].bytes;
			done.n_used++;
		}
	}
	if (all.n > 0)
		qsort(all.v, all.n, sizeof(*all.v), by_use);
	for (size_t i = 0; i < all.n; i++) {
		const struct cache *c = &all.v[i];

		if (bytes_max > 0 && done.bytes_left <= bytes_max)
			break;
		if (c->in_use || (!dry_run && remove_cache(c->path) <= 0))
			continue;
		done.bytes += c->bytes;
		done.n++;
		done.bytes_left -= c->bytes;
		done.n_left--;
		if (removed != NULL)
			removed(arg, c->name, c->bytes);
	}
	free_caches(&all);
	forget_runs(root, bytes_max, dry_run);
	*ret = done;
	return 0;
}
