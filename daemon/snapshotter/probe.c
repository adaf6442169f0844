/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "common/buf.h"
#include "common/erofs.h"
#include "common/erofs_format.h"
#include "common/erofs_write.h"
#include "common/io.h"
#include "common/kmount.h"
#include "daemon/snapshotter/disk.h"
#include "daemon/snapshotter/place.h"

#define NAME "probe"
#define DATA_DIR "0123456789abcdef"
#define DATA_NAME "40"
#define OPTIONS_BYTES_MAX KIB(64)

static const char content[] = "what a file without data has";

struct probe {
	const struct stack *st;
	int root_fd;
	char *dir; /* ROOT/probe */
};

/* Return: the path of something in it, malloced; NULL when out of memory */
static char *in(const struct probe *p, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", p->dir, name) < 0 ? NULL : path;
}

/* ---- the image --------------------------------------------------------- */

static struct erofs_w_xattr xattr(const struct probe *p, const char *name,
				  const char *value)
{
	return (struct erofs_w_xattr){
		.name = name,
		.name_len = (uint8_t)strlen(name),
		.value = (const uint8_t *)value,
		.value_len = (uint16_t)strlen(value),
		.index = p->st->userxattr ? EROFS_XATTR_USER
					  : EROFS_XATTR_TRUSTED,
	};
}

static int make_image(const struct probe *p, struct err *e)
{
	const struct erofs_w_xattr xattrs[] = {
		xattr(p, "overlay.metacopy", ""),
		xattr(p, "overlay.redirect", "/" DATA_DIR "/" DATA_NAME),
	};
	struct erofs_w_inode inodes[] = {
		{.mode = S_IFDIR | 0755, .nlink = 2, .n = 1},
		{
			.mode = S_IFREG | 0644,
			.nlink = 1,
			.size = strlen(content),
			.hole = true,
			.xattrs = xattrs,
			.n_xattrs = ARRAY_SIZE(xattrs),
		},
	};
	const struct erofs_w_dirent dirents[] = {
		{.name = "f", .name_len = 1, .inode = 1}};
	struct erofs_w w = {
		.inodes = inodes,
		.n_inodes = ARRAY_SIZE(inodes),
		.dirents = dirents,
		.n_dirents = ARRAY_SIZE(dirents),
		.uuid = "estargz-probe",
	};
	CLEANUP_FREE char *path = in(p, "meta.erofs");
	CLEANUP_FREE uint8_t *image = NULL;
	int r = erofs_w_layout(&w, e);

	if (r < 0)
		return r;
	w.n_blocks = w.meta_bytes / EROFS_BLOCK_BYTES;
	image = malloc((size_t)w.meta_bytes);
	if (image == NULL || path == NULL)
		return err_no_memory(e);
	erofs_w_emit(&w, image);
	r = io_write_file(AT_FDCWD, path, image, (size_t)w.meta_bytes, 0600);
	return r < 0 ? err_set(e, r, "%s: %s", path, err_name(r)) : 0;
}

/* ---- the mounts -------------------------------------------------------- */

static int make_dirs(const struct probe *p, struct err *e)
{
	static const char *const dirs[] = {"meta", "up", "work", "mnt",
					   ("data/" DATA_DIR)};
	CLEANUP_FREE char *file = in(p, "data/" DATA_DIR "/" DATA_NAME);
	int r = file != NULL ? 0 : -ENOMEM;

	for (size_t i = 0; i < ARRAY_SIZE(dirs) && r == 0; i++) {
		CLEANUP_FREE char *path = in(p, dirs[i]);

		r = path != NULL ? io_mkdir_p(path, 0700) : -ENOMEM;
	}
	if (r == 0)
		r = io_write_file(AT_FDCWD, file, content, strlen(content),
				  0600);
	return r < 0 ? err_set(e, r, "%s: %s", p->dir, err_name(r)) : 0;
}

static int mount_image(const struct probe *p, struct err *e)
{
	CLEANUP_FREE char *image = in(p, "meta.erofs");
	CLEANUP_FREE char *target = in(p, "meta");

	if (image == NULL || target == NULL)
		return err_no_memory(e);
	return kmount_at(image, target, 0, NULL, e);
}

/* As stack.h has it. Volatile: unmounting would wait for the disk. */
static int add_options(const struct probe *p, struct buf *b)
{
	int r = buf_addf(b,
			 "workdir=%s/work,upperdir=%s/up,"
			 "lowerdir=%s/meta::%s/data,volatile%s",
			 p->dir, p->dir, p->dir, p->dir,
			 p->st->userxattr ? ",userxattr" : "");

	for (size_t i = 0; i < p->st->n_options && r == 0; i++) {
		/* Of the others containerd makes flags of mount(2). */
		if (strchr(p->st->options[i], '=') != NULL)
			r = buf_addf(b, ",%s", p->st->options[i]);
	}
	return r;
}

static int mount_overlay(const struct probe *p, struct err *e)
{
	CLEANUP_BUF struct buf b = BUF_INIT(OPTIONS_BYTES_MAX);
	CLEANUP_FREE char *target = in(p, "mnt");
	int r = add_options(p, &b);

	if (r == 0 && target == NULL)
		r = -ENOMEM;
	if (r == 0 && mount("overlay", target, "overlay", 0, b.p) < 0)
		r = -errno;
	return r < 0 ? err_set(e, r,
			       "overlayfs with data of its own layers: %s",
			       err_name(r))
		     : 0;
}

/* ---- what is to be seen ------------------------------------------------ */

static int has_content(const struct probe *p, const char *name, struct err *e)
{
	CLEANUP_BUF struct buf b = BUF_INIT(KIB(4));
	CLEANUP_FREE char *path = in(p, name);
	int r = path != NULL ? io_read_file(AT_FDCWD, path, &b) : -ENOMEM;

	if (r < 0)
		return err_set(e, r, "%s: %s", name, err_name(r));
	if (b.len != strlen(content) || memcmp(b.p, content, b.len) != 0)
		return err_set(e, -EIO, "%s: has other data", name);
	return 0;
}

static int has_no_mark(const struct probe *p, const char *name, struct err *e)
{
	CLEANUP_FREE char *path = in(p, name);
	const char *mark = p->st->userxattr ? "user.overlay.metacopy"
					    : "trusted.overlay.metacopy";

	if (path == NULL)
		return err_no_memory(e);
	return getxattr(path, mark, NULL, 0) >= 0
		       ? err_set(e, -EIO, "%s: is marked as one without data",
				 name)
		       : 0;
}

static int copy_up(const struct probe *p, struct err *e)
{
	CLEANUP_FREE char *path = in(p, "mnt/f");

	if (path == NULL)
		return err_no_memory(e);
	return chmod(path, 0600) < 0
		       ? err_set(e, -errno, "copying up: %s", err_name(errno))
		       : 0;
}

static int try(const struct probe *p, struct err *e)
{
	int r = make_dirs(p, e);

	if (r == 0)
		r = make_image(p, e);
	if (r == 0)
		r = mount_image(p, e);
	if (r == 0)
		r = mount_overlay(p, e);
	if (r == 0)
		r = has_content(p, "mnt/f", e);
	if (r == 0)
		r = has_no_mark(p, "mnt/f", e);
	if (r == 0)
		r = copy_up(p, e);
	if (r == 0)
		r = has_content(p, "up/f", e);
	return r == 0 ? has_no_mark(p, "up/f", e) : r;
}

/* What there is, or what one that was killed has left. */
static void clear(const struct probe *p)
{
	static const char *const mounts[] = {"mnt", "meta"};

	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		CLEANUP_FREE char *path = in(p, mounts[i]);

		if (path != NULL)
			(void)place_clear(path);
	}
	(void)disk_remove(p->root_fd, NAME);
}

int probe_merged(const struct stack *st, struct err *e)
{
	CLEANUP_CLOSE int root_fd =
		open(st->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct probe p = {.st = st, .root_fd = root_fd};
	int r;

	if (root_fd < 0)
		return err_set(e, -errno, "%s: %s", st->root, err_name(errno));
	if (asprintf(&p.dir, "%s/" NAME, st->root) < 0)
		return err_no_memory(e);
	clear(&p);
	r = try(&p, e);
	clear(&p);
	free(p.dir);
	return r;
}
