/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/layerdir.h"
#include "common/seal.h"

static const char *const file_names[STATE_FILES] = {
	[STATE_EROFS] = "layer.erofs",
	[STATE_CHUNKS] = "chunks",
	[STATE_PRESENT] = "present",
};
static const char *const new_names[STATE_FILES] = {
	[STATE_EROFS] = "layer.erofs.new",
	[STATE_CHUNKS] = "chunks.new",
	[STATE_PRESENT] = "present.new",
};

static void close_files(struct state *s)
{
	for (int i = 0; i < STATE_FILES; i++) {
		if (s->fds[i] >= 0)
			(void)close(s->fds[i]);
		s->fds[i] = -1;
	}
}

/* Removes a directory of ours with the files it may hold. */
static void remove_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return;
	for (int i = 0; i < STATE_FILES; i++) {
		(void)unlinkat(fd, new_names[i], 0);
		(void)unlinkat(fd, file_names[i], 0);
	}
	(void)close(fd);
	(void)rmdir(path);
}

static int make_dir(struct state *s, const char *path, struct err *e)
{
	int r = io_mkdir_p(path, 0700);

	if (r < 0)
		return err_set(e, r, "state directory %s: %s", path,
			       err_name(r));
	s->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dirfd < 0 && errno == ENOENT)
		return -ESTALE; /* removed again at once, by who evicts */
	if (s->dirfd < 0)
		return err_set(e, -errno, "state directory %s: %s", path,
			       err_name(errno));
	return 0;
}

static int lock(const struct state *s, int how, struct err *e)
{
	while (flock(s->dirfd, how) < 0) {
		if (errno != EINTR)
			return err_set(e, -errno, "state directory %s: %s",
				       s->path, err_name(errno));
	}
	return 0;
}

/* Return: a descriptor, -errno */
static int open_file(const struct state *s, int i, int mode)
{
	int fd = openat(s->dirfd, file_names[i], mode | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

/* Whoever seals it looks for who has it open afterwards, so it is looked at once more
 * when it is open for writing. */
static int open_image(struct state *s)
{
	int fd = open_file(s, STATE_EROFS, O_RDONLY);

	s->sealed = fd >= 0 && seal_is_set(fd);
	if (fd < 0 || s->sealed)
		return fd;
	(void)close(fd);
	fd = open_file(s, STATE_EROFS, O_RDWR);
	s->sealed = fd >= 0 && seal_is_set(fd);
	if (!s->sealed)
		return fd;
	(void)close(fd);
	return open_file(s, STATE_EROFS, O_RDONLY);
}

/* Return: 1 all three are there and open, 0 not, -errno */
static int open_files(struct state *s, struct err *e)
{
	for (int i = 0; i < STATE_FILES; i++) {
		int r = i == STATE_EROFS
				? open_image(s)
				: open_file(s, i,
					    i == STATE_PRESENT && !s->sealed
						    ? O_RDWR
						    : O_RDONLY);

		s->fds[i] = MAX(r, -1);
		if (r >= 0)
			continue;
		if (r != -ENOENT) {
			close_files(s);
			return err_set(e, r, "%s/%s: %s", s->path,
				       file_names[i], err_name(r));
		}
		close_files(s);
		return 0;
	}
	return 1;
}

static int create_files(struct state *s, struct err *e)
{
	close_files(s);
	/* Of a damaged index: the bitmap must not meet the next data file. */
	(void)unlinkat(s->dirfd, file_names[STATE_PRESENT], 0);
	for (int i = 0; i < STATE_FILES; i++) {
		(void)unlinkat(s->dirfd, new_names[i], 0);
		s->fds[i] = openat(s->dirfd, new_names[i],
				   O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC |
					   O_NOFOLLOW,
				   0600);
		if (s->fds[i] < 0)
			return err_set(e, -errno, "%s/%s: %s", s->path,
				       new_names[i], err_name(errno));
	}
	s->building = true;
	s->sealed = false;
	return 0;
}

static int layer_path(const struct state *s, const struct digest *toc_digest,
		      bool opaque_user, bool unverified, char **ret)
{
	*ret = layerdir_path(s->root, toc_digest, opaque_user, unverified);
	return *ret != NULL ? 0 : -ENOMEM;
}

/* Whether the directory was removed before we had its lock. */
static bool is_gone(const struct state *s)
{
	struct stat st;

	return fstat(s->dirfd, &st) < 0 || st.st_nlink == 0;
}

static int enter_once(struct state *s, struct err *e)
{
	int r;

	s->exclusive = flock(s->dirfd, LOCK_EX | LOCK_NB) == 0;
	if (!s->exclusive) {
		r = lock(s, LOCK_SH, e);
		if (r < 0)
			return r;
	}
	if (is_gone(s))
		return -ESTALE;
	r = open_files(s, e);
	if (r != 0)
		return MIN(r, 0);
	if (!s->exclusive) {
		/* Its maker gave up. */
		r = lock(s, LOCK_EX, e);
		if (r < 0)
			return r;
		s->exclusive = true;
		if (is_gone(s))
			return -ESTALE;
		r = open_files(s, e);
		if (r != 0)
			return MIN(r, 0);
	}
	return create_files(s, e);
}

/* Locks the directory s->path and opens the files, or makes them new ones. */
static int enter(struct state *s, struct err *e)
{
	for (int tries = 0; tries < 100; tries++) {
		int r = make_dir(s, s->path, e);

		if (r == 0)
			r = enter_once(s, e);
		if (r != -ESTALE)
			return r;
		if (s->dirfd >= 0)
			(void)close(TAKE_FD(s->dirfd));
	}
	return err_set(e, -EBUSY, "state directory %s: busy", s->path);
}

int state_open(struct state *s, const char *root,
	       const struct digest *toc_digest, bool opaque_user,
	       bool unverified, struct err *e)
{
	CLEANUP_FREE char *layers = NULL;
	int r;

	*s = (struct state){.dirfd = -1, .fds = {-1, -1, -1}};
	s->root = strdup(root);
	if (s->root == NULL || asprintf(&layers, "%s/layers", root) < 0)
		return err_no_memory(e);
	layerdir_sweep(root);
	if (toc_digest != NULL) {
		r = layer_path(s, toc_digest, opaque_user, unverified,
			       &s->path);
		return r < 0 ? r : enter(s, e);
	}
	s->temporary = true;
	if (asprintf(&s->path, "%s/tmp.%d", layers, (int)getpid()) < 0)
		return err_no_memory(e);
	/* Another mount's sweep may come between mkdir and flock. */
	for (int tries = 0; tries < 100; tries++) {
		r = make_dir(s, s->path, e);
		if (r == 0)
			r = lock(s, LOCK_EX, e);
		if (r != -ESTALE && (r < 0 || !is_gone(s)))
			break;
		if (s->dirfd >= 0)
			(void)close(TAKE_FD(s->dirfd));
	}
	s->exclusive = true;
	return r < 0 ? r : create_files(s, e);
}

int state_rebuild(struct state *s, struct err *e)
{
	if (!s->exclusive && flock(s->dirfd, LOCK_EX | LOCK_NB) < 0)
		return err_set(e, -EBUSY,
			       "index in %s is damaged, and in use by another "
			       "mount",
			       s->path);
	s->exclusive = true;
	return create_files(s, e);
}

/* The names that others look for, last the one that makes it a whole. */
static int rename_files(int from, int to, struct err *e)
{
	static const int order[STATE_FILES] = {STATE_PRESENT, STATE_EROFS,
					       STATE_CHUNKS};

	for (int k = 0; k < STATE_FILES; k++) {
		int i = order[k];

		if (renameat(from, new_names[i], to, file_names[i]) < 0)
			return err_set(e, -errno, "cannot rename %s: %s",
				       new_names[i], err_name(errno));
	}
	return 0;
}

/* Moves a finished temporary directory's files to where they belong. */
static int settle(struct state *s, const struct digest *toc_digest,
		  bool opaque_user, bool unverified, bool *ret_other,
		  struct err *e)
{
	struct state to = {.dirfd = -1, .fds = {-1, -1, -1}};
	int r = layer_path(s, toc_digest, opaque_user, unverified, &to.path);

	to.root = s->root;
	if (r == 0)
		r = enter(&to, e);
	if (r == 0 && !to.building) {
		*ret_other = true;
		s->sealed = to.sealed;
		for (int i = 0; i < STATE_FILES; i++) {
			(void)close(s->fds[i]);
			s->fds[i] = TAKE_FD(to.fds[i]);
		}
	} else if (r == 0) {
		for (int i = 0; i < STATE_FILES; i++)
			(void)unlinkat(to.dirfd, new_names[i], 0);
		close_files(&to);
		r = rename_files(s->dirfd, to.dirfd, e);
	}
	if (r < 0) {
		close_files(&to);
		if (to.dirfd >= 0)
			(void)close(to.dirfd);
		free(to.path);
		return r;
	}
	remove_dir(s->path);
	(void)close(s->dirfd);
	free(s->path);
	s->dirfd = to.dirfd;
	s->path = to.path;
	s->exclusive = to.exclusive;
	s->temporary = false;
	return 0;
}

int state_publish(struct state *s, const struct digest *toc_digest,
		  bool opaque_user, bool unverified, bool *ret_other,
		  struct err *e)
{
	int r;

	*ret_other = false;
	if (!s->building)
		return 0;
	if (s->temporary)
		r = settle(s, toc_digest, opaque_user, unverified, ret_other,
			   e);
	else
		r = rename_files(s->dirfd, s->dirfd, e);
	if (r == 0)
		s->building = false;
	return r;
}

static bool is_same(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

int state_seal(struct state *s, struct err *e)
{
	int fds[STATE_FILES] = {-1, -1, -1};
	int r = seal_set(s->fds[STATE_EROFS]);

	for (int i = 0; r == 0 && i < STATE_FILES; i++) {
		fds[i] = open_file(s, i, O_RDONLY);
		if (fds[i] < 0)
			r = fds[i];
		else if (!is_same(fds[i], s->fds[i]))
			r = -ESTALE;
	}
	for (int i = 0; i < STATE_FILES; i++) {
		int old = r == 0 ? s->fds[i] : fds[i];

		if (old >= 0)
			(void)close(old);
		if (r == 0)
			s->fds[i] = fds[i];
	}
	s->sealed = r == 0;
	return r < 0 ? err_set(e, r, "%s: cannot be sealed: %s", s->path,
			       err_name(r))
		     : 0;
}

void state_sync(const struct state *s)
{
	if (fsync(s->dirfd) < 0)
		return; /* the files' own digest tells what is torn */
}

/* For who evicts (common/layerdir.h). Nothing depends on it. */
static void touch(const struct state *s)
{
	if (s->fds[STATE_PRESENT] >= 0)
		(void)futimens(s->fds[STATE_PRESENT], NULL);
}

int state_share(struct state *s)
{
	touch(s);
	/* Cannot block: whoever took it in between (changing a lock is not
	 * atomic) gives it up soon, and finds the index made. */
	if (s->exclusive)
		(void)lock(s, LOCK_SH, NULL);
	s->exclusive = false;
	return is_gone(s) ? -ESTALE : 0;
}

void state_close(struct state *s)
{
	touch(s);
	close_files(s);
	if (s->building && s->dirfd >= 0) {
		for (int i = 0; i < STATE_FILES; i++)
			(void)unlinkat(s->dirfd, new_names[i], 0);
		/* Goes only where nothing else is in it. */
		if (s->path != NULL)
			(void)rmdir(s->path);
	}
	if (s->dirfd >= 0)
		(void)close(s->dirfd);
	free(s->path);
	free(s->root);
	*s = (struct state){.dirfd = -1, .fds = {-1, -1, -1}};
}
