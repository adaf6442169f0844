/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <search.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common/buf.h"

#define NAMES_BYTES_MAX MIB(256) /* of the directories in one directory */
#define ENTRIES_BYTES KIB(32)

/* A directory on the way from the root to where we are. */
struct level {
	char *name;
	dev_t dev;
	ino_t ino;
	struct buf subs; /* names of directories in it, each with its NUL */
	size_t at;       /* of the next one in subs */
};

/**
 * struct walk - a walk over a tree
 * @fd:		the directory of the last level
 * @error:	the first one; the walk goes on
 * @no_error:	one that is none
 *
 * What it is for; each returns 0 or -errno:
 * @enter:	a directory, before what is in it
 * @file:	something else; 1: it is a directory after all
 * @leave:	a directory below the root, after what is in it
 */
struct walk {
	struct level *levels;
	size_t n;
	int root;
	int fd;
	int error;
	int no_error;
	int (*enter)(struct walk *w);
	int (*file)(struct walk *w, const char *name);
	int (*leave)(struct walk *w, const char *name);
	void *arg;
	char entries[ENTRIES_BYTES] __attribute__((aligned(8)));
};

static int open_dir(int dirfd, const char *name)
{
	const struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve =
			RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};
	long fd = syscall(SYS_openat2, dirfd, name, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

static void note(struct walk *w, int r)
{
	/* Gone meanwhile, or something else now. */
	if (r == -ENOENT || r == -ENOTDIR || r == w->no_error)
		return;
	if (r < 0 && w->error == 0)
		w->error = r;
}

static void set_fd(struct walk *w, int fd)
{
	if (w->fd != w->root)
		(void)close(w->fd);
	w->fd = fd;
}

static void pop(struct walk *w)
{
	struct level *l = &w->levels[--w->n];

	free(l->name);
	buf_done(&l->subs);
}

static int push(struct walk *w, const char *name)
{
	struct stat st;
	struct level *l;

	if (fstat(w->fd, &st) < 0)
		return -errno;
	/* Room doubles: it is full when n is a power of two. */
	if ((w->n & (w->n - 1)) == 0) {
		size_t cap = w->n == 0 ? 1 : 2 * w->n;

		l = reallocarray(w->levels, cap, sizeof(*l));
		if (l == NULL)
			return -ENOMEM;
		w->levels = l;
	}
	l = &w->levels[w->n];
	*l = (struct level){
		.name = strdup(name),
		.dev = st.st_dev,
		.ino = st.st_ino,
		.subs = BUF_INIT(NAMES_BYTES_MAX),
	};
	if (l->name == NULL)
		return -ENOMEM;
	w->n++;
	return 0;
}

static bool is_level(int fd, const struct level *l)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_dev == l->dev &&
	       st.st_ino == l->ino;
}

static int one_entry(struct walk *w, const struct dirent64 *d)
{
	struct level *l = &w->levels[w->n - 1];
	int r = d->d_type == DT_DIR;

	if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
		return 0;
	if (r == 0)
		r = w->file(w, d->d_name);
	return r == 1 ? buf_add(&l->subs, d->d_name, strlen(d->d_name) + 1) : r;
}

/* What is in the directory where we are. */
static void scan(struct walk *w)
{
	ssize_t n;

	note(w, w->enter(w));
	while ((n = getdents64(w->fd, w->entries, sizeof(w->entries))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *d =
				(const void *)(w->entries + at);

			note(w, one_entry(w, d));
			at += d->d_reclen;
		}
	}
	if (n < 0)
		note(w, -errno);
}

static void down(struct walk *w, const char *name)
{
	int fd = open_dir(w->fd, name);
	int r, up = w->fd;

	if (fd < 0) {
		note(w, fd);
		return;
	}
	w->fd = fd;
	r = push(w, name);
	if (r < 0) {
		note(w, r);
		(void)close(fd);
		w->fd = up;
		return;
	}
	if (up != w->root)
		(void)close(up);
	scan(w);
}

/* Somebody has moved a directory that we are in: by name, as far as it goes. */
static void again(struct walk *w)
{
	size_t n = 1;

	set_fd(w, w->root);
	while (n < w->n) {
		int fd = open_dir(w->fd, w->levels[n].name);

		if (fd < 0)
			break;
		if (!is_level(fd, &w->levels[n])) {
			(void)close(fd);
			break;
		}
		set_fd(w, fd);
		n++;
	}
	while (w->n > n)
		pop(w);
}

static void up(struct walk *w)
{
	CLEANUP_FREE char *name = TAKE_PTR(w->levels[w->n - 1].name);
	int fd;

	pop(w);
	fd = w->n == 1
		     ? w->root
		     : openat(w->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && is_level(fd, &w->levels[w->n - 1])) {
		set_fd(w, fd);
		note(w, w->leave(w, name));
		return;
	}
	if (fd >= 0)
		(void)close(fd);
	again(w);
}

/* Return: 0, the first error */
static int walk(struct walk *w)
{
	int r;

	w->fd = w->root;
	r = push(w, "");
	if (r < 0) {
		free(w->levels);
		return r;
	}
	scan(w);
	for (;;) {
		struct level *l = &w->levels[w->n - 1];

		if (l->at < l->subs.len) {
			CLEANUP_FREE char *name = strdup(l->subs.p + l->at);

			l->at += strlen(l->subs.p + l->at) + 1;
			if (name == NULL)
				note(w, -ENOMEM);
			else
				down(w, name);
		} else if (w->n > 1) {
			up(w);
		} else {
			break;
		}
	}
	pop(w);
	free(w->levels);
	return w->error;
}

/*** Usage ***/

struct usage {
	uint64_t bytes;
	uint64_t inodes;
	void *linked; /* inodes with more than one name that were counted */
};

static int by_ino(const void *a, const void *b)
{
	const ino_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Whether it is the first time. Return: 1, 0, -ENOMEM */
static int first_seen(struct usage *u, const struct stat *st)
{
	ino_t *ino, *const *found;

	if (st->st_nlink <= 1 || S_ISDIR(st->st_mode))
		return 1;
	ino = malloc(sizeof(*ino));
	if (ino == NULL)
		return -ENOMEM;
	*ino = st->st_ino;
	found = tsearch(ino, &u->linked, by_ino);
	if (found == NULL || *found != ino)
		free(ino);
	if (found == NULL)
		return -ENOMEM;
	return *found == ino;
}

static int count(struct usage *u, const struct stat *st)
{
	int r = first_seen(u, st);

	if (r > 0) {
		u->bytes += (uint64_t)st->st_blocks * 512;
		u->inodes++;
	}
	return MIN(r, 0);
}

static int usage_enter(struct walk *w)
{
	struct stat st;

	return fstat(w->fd, &st) < 0 ? -errno : count(w->arg, &st);
}

static int usage_file(struct walk *w, const char *name)
{
	struct stat st;

	if (fstatat(w->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 1 : count(w->arg, &st);
}

static int usage_leave(struct walk *w, const char *name)
{
	(void)w;
	(void)name;
	return 0;
}

int disk_usage(const char *path, uint64_t *ret_bytes, uint64_t *ret_inodes)
{
	struct usage u = {0};
	CLEANUP_FREE struct walk *w = calloc(1, sizeof(*w));
	CLEANUP_CLOSE int root =
		open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (root < 0)
		return -errno;
	if (w == NULL)
		return -ENOMEM;
	w->root = root;
	w->no_error = -EXDEV; /* a mount */
	w->enter = usage_enter;
	w->file = usage_file;
	w->leave = usage_leave;
	w->arg = &u;
	r = walk(w);
	tdestroy(u.linked, free);
	if (r < 0)
		return r;
	*ret_bytes = u.bytes;
	*ret_inodes = u.inodes;
	return 0;
}

/*** Removal ***/

/* Takes "immutable" and "append only" away from a file or directory. */
static void unlock_fd(int fd)
{
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return;
	flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
	(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

static void unlock(int dirfd, const char *name)
{
	CLEANUP_CLOSE int fd = -EBADF;
	struct stat st;

	unlock_fd(dirfd);
	/* Opening anything else may do something. */
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return;
	fd = openat(dirfd, name,
		    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0)
		unlock_fd(fd);
}

static int remove_one(int dirfd, const char *name, int flags)
{
	if (unlinkat(dirfd, name, flags) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	unlock(dirfd, name);
	return unlinkat(dirfd, name, flags) == 0 ? 0 : -errno;
}

static int remove_enter(struct walk *w)
{
	(void)w;
	return 0;
}

static int remove_file(struct walk *w, const char *name)
{
	int r = remove_one(w->fd, name, 0);

	return r == -EISDIR ? 1 : r;
}

static int remove_leave(struct walk *w, const char *name)
{
	return remove_one(w->fd, name, AT_REMOVEDIR);
}

int disk_remove(int dirfd, const char *name)
{
	CLEANUP_FREE struct walk *w = calloc(1, sizeof(*w));
	CLEANUP_CLOSE int root = open_dir(dirfd, name);
	int r;

	if (root == -ENOENT)
		return 0;
	if (root < 0)
		return root;
	if (w == NULL)
		return -ENOMEM;
	w->root = root;
	w->enter = remove_enter;
	w->file = remove_file;
	w->leave = remove_leave;
	r = walk(w);
	if (r < 0)
		return r;
	r = remove_one(dirfd, name, AT_REMOVEDIR);
	return r == -ENOENT ? 0 : r;
}
