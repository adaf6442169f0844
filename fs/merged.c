/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/merged.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/kmount.h"
#include "common/layerdir.h"
#include "common/limits.h"
#include "common/merge.h"
#include "common/meta.h"
#include "fs/metarun.h"
#include "fs/native.h"
#define LOG_MOD "merged"
#include "common/log.h"

#define NAME "meta.erofs"
#define SEALS (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

bool merged_may(const struct source *s, const struct options *o)
{
	if (s->n_layers < 2 || s->n_layers > META_LAYERS_MAX)
		return false;
	for (size_t i = 0; i < s->n_layers; i++) {
		if (!native_wanted(&s->layers[i], o))
			return false;
	}
	return true;
}

static int open_one(int dirfd, const char *dir, const char *name, int *ret,
		    struct err *e)
{
	*ret = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return *ret < 0 ? err_set(e, -errno, "%s/%s: %s", dir, name,
				  err_name(errno))
			: 0;
}

static int open_layer(const struct layer *l, const struct options *o,
		      struct meta_files *ret, struct err *e)
{
	CLEANUP_FREE char *dir =
		layerdir_path(o->root, &l->toc_digest, o->opaque_user, false);
	CLEANUP_CLOSE int dirfd = -EBADF;
	int r;

	if (dir == NULL)
		return err_no_memory(e);
	dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return err_set(e, -errno, "%s: %s", dir, err_name(errno));
	r = open_one(dirfd, dir, "layer.erofs", &ret->erofs, e);
	return r < 0 ? r : open_one(dirfd, dir, "chunks", &ret->chunks, e);
}

/* The topmost layer first. */
static const struct layer *nth(const struct source *s, size_t i)
{
	return &s->layers[s->n_layers - 1 - i];
}

static int merge(const struct source *s, const struct options *o,
		 const struct digest *key, int out, struct err *e)
{
	struct meta_files files[META_LAYERS_MAX];
	struct metarun m;
	int r = 0;

	for (size_t i = 0; i < s->n_layers; i++)
		files[i] = (struct meta_files){-1, -1, -1};
	for (size_t i = 0; r == 0 && i < s->n_layers; i++)
		r = open_layer(nth(s, i), o, &files[i], e);
	if (r == 0)
		r = metarun_start(&m, e);
	if (r == 0) {
		r = meta_merge(m.sock, out, files, s->n_layers, o->opaque_user,
			       key, e);
		metarun_end(&m);
	}
	for (size_t i = 0; i < s->n_layers; i++) {
		if (files[i].erofs >= 0)
			(void)close(files[i].erofs);
		if (files[i].chunks >= 0)
			(void)close(files[i].chunks);
	}
	return r;
}

/* Another process than the one that made it, which has parsed what is hostile. */
static int look_through(int image, const struct digest *key, struct err *e)
{
	struct metarun m;
	int r = metarun_start(&m, e);

	if (r < 0)
		return r;
	r = meta_check_chain(m.sock, image, key, e);
	metarun_end(&m);
	return r;
}

static int make_image(const struct source *s, const struct options *o,
		      struct err *e)
{
	CLEANUP_CLOSE int image =
		memfd_create("merged", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct digest tocs[META_LAYERS_MAX], key;
	int r;

	if (image < 0)
		return err_set(e, -errno, "memfd: %s", err_name(errno));
	for (size_t i = 0; i < s->n_layers; i++)
		tocs[i] = nth(s, i)->toc_digest;
	r = merge_key(tocs, s->n_layers, o->opaque_user, &key);
	if (r < 0)
		return err_no_memory(e);
	r = merge(s, o, &key, image, e);
	/* What is looked through is what is mounted. */
	if (r == 0 && fcntl(image, F_ADD_SEALS, SEALS) < 0)
		r = err_set(e, -errno, "memfd: %s", err_name(errno));
	if (r == 0)
		r = look_through(image, &key, e);
	return r < 0 ? r : TAKE_FD(image);
}

/* @to: at its beginning */
static int copy(int from, int to)
{
	struct stat st;
	off_t at = 0;

	if (fstat(from, &st) < 0)
		return -errno;
	while (at < st.st_size) {
		ssize_t n = sendfile(to, from, &at, (size_t)(st.st_size - at));

		if (n <= 0)
			return n < 0 ? -errno : -EIO;
	}
	return 0;
}

/* In a directory as of who makes an index, which others sweep when its maker was
 * killed. */
static int mount_copy(int image, const char *dir, int dirfd, struct err *e)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_CLOSE int fd = -EBADF;
	enum kmount_kind kind;
	int r;

	if (asprintf(&path, "%s/" NAME, dir) < 0) {
		path = NULL;
		return err_no_memory(e);
	}
	if (flock(dirfd, LOCK_EX | LOCK_NB) == 0)
		fd = openat(dirfd, NAME,
			    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW |
				    O_CLOEXEC,
			    0600);
	r = fd < 0 ? -errno : copy(image, fd);
	if (r < 0) {
		(void)err_set(e, r, "%s: %s", path, err_name(r));
	} else {
		r = kmount_detached(path, 0, &kind, e);
		if (r >= 0)
			log_debug("how=\"%s\" msg=\"merged metadata\"",
				  kmount_kind_str(kind));
	}
	(void)unlinkat(dirfd, NAME, 0);
	return r;
}

int merged_mount(const struct source *s, const struct options *o, struct err *e)
{
	CLEANUP_FREE char *rel = NULL;
	CLEANUP_FREE char *dir = NULL;
	CLEANUP_CLOSE int image = make_image(s, o, e);
	CLEANUP_CLOSE int dirfd = -EBADF;
	int r;

	if (image < 0)
		return image;
	if (asprintf(&rel, "%s/layers/tmp.%d", o->root, (int)getpid()) < 0) {
		rel = NULL;
		return err_no_memory(e);
	}
	r = io_mkdir_p(rel, 0700);
	dir = r == 0 ? realpath(rel, NULL) : NULL;
	if (dir != NULL)
		dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return err_set(e, r < 0 ? r : -errno, "%s: %s", rel,
			       err_name(r < 0 ? r : errno));
	r = mount_copy(image, dir, dirfd, e);
	(void)rmdir(dir);
	return r;
}
