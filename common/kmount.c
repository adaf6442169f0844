/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/kmount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* Whom another took the free device from tries again. */
#define LOOP_TRIES 64u
#define BLOCK_BYTES 4096u
#define BDI_DIR "/sys/class/bdi"
#define BDI_EROFS "erofs-"

const char *kmount_kind_str(enum kmount_kind kind)
{
	static const char *const names[] = {
		[KMOUNT_NONE] = "none",
		[KMOUNT_LOOP] = "loop",
		[KMOUNT_FILE] = "file",
		[KMOUNT_DIRECT] = "file, direct",
	};

	assert((size_t)kind < ARRAY_SIZE(names));
	return names[kind];
}

/* Puts what the kernel says of the last step (one message a read, "e …" is an
 * error) behind what we say, and gives back its code. */
static int fail_fs(struct err *e, int fs, int code, const char *image,
		   const char *what)
{
	char line[ERR_TEXT_BYTES], text[ERR_TEXT_BYTES + 4] = "";
	ssize_t n;

	while ((n = read(fs, line, sizeof(line) - 1)) > 0) {
		line[n] = '\0';
		line[strcspn(line, "\n")] = '\0';
		if (n > 2 && line[0] == 'e')
			(void)snprintf(text, sizeof(text), " (%s)", line + 2);
	}
	return err_set(e, code, "%s: EROFS: %s: %s%s", image, what,
		       err_name(code), text);
}

/* @source: a regular file or a block device */
static int make_mount(const char *image, const char *source, bool direct,
		      unsigned attr, struct err *e)
{
	CLEANUP_CLOSE int fs = fsopen("erofs", FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0 && errno == ENODEV)
		return err_set(e, -ENOSYS, "the kernel has no EROFS");
	if (fs < 0)
		return err_set(e, -errno, "%s: EROFS: %s", image,
			       err_name(errno));
	/* Said beforehand, because a loop device is opened accordingly. */
	if (fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0)
		return fail_fs(e, fs, -errno, image, "ro");
	if (direct && fsconfig(fs, FSCONFIG_SET_FLAG, "directio", NULL, 0) < 0)
		return fail_fs(e, fs, -EOPNOTSUPP, image, "directio");
	if (fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
		return fail_fs(e, fs, -errno, image, "source");
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return fail_fs(e, fs, -errno, image, "refused");
	fd = fsmount(fs, FSMOUNT_CLOEXEC, attr | MOUNT_ATTR_RDONLY);
	if (fd < 0)
		return fail_fs(e, fs, -errno, image, "fsmount");
	return fd;
}

/* Return: a descriptor of a loop device that has the file, and goes with its
 * last user. */
static int loop_open(const char *image, char *path, size_t path_bytes,
		     struct err *e)
{
	CLEANUP_CLOSE int file = open(image, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	CLEANUP_CLOSE int ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct loop_config conf = {
		.fd = (uint32_t)file,
		.block_size = BLOCK_BYTES,
		.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR |
				 LO_FLAGS_DIRECT_IO,
	};

	if (file < 0)
		return err_set(e, -errno, "%s: %s", image, err_name(errno));
	if (ctl < 0)
		return err_set(e, -errno, "/dev/loop-control: %s",
			       err_name(errno));
	(void)snprintf((char *)conf.info.lo_file_name, LO_NAME_SIZE, "%s",
		       image);
	for (unsigned i = 0; i < LOOP_TRIES; i++) {
		CLEANUP_CLOSE int dev = -EBADF;
		int n = ioctl(ctl, LOOP_CTL_GET_FREE);

		if (n < 0)
			return err_set(e, -errno, "no loop device is free: %s",
				       err_name(errno));
		(void)snprintf(path, path_bytes, "/dev/loop%d", n);
		dev = open(path, O_RDONLY | O_CLOEXEC);
		if (dev < 0)
			return err_set(e, -errno, "%s: %s", path,
				       err_name(errno));
		if (ioctl(dev, LOOP_CONFIGURE, &conf) == 0)
			return TAKE_FD(dev);
		if (errno != EBUSY)
			return err_set(e, -errno, "%s: %s: %s", path, image,
				       err_name(errno));
	}
	return err_set(e, -EBUSY, "%s: others take all loop devices", image);
}

static int make_loop_mount(const char *image, unsigned attr, struct err *e)
{
	CLEANUP_CLOSE int dev = -EBADF;
	char path[32];

	dev = loop_open(image, path, sizeof(path), e);
	if (dev < 0)
		return dev;
	/* The superblock opens it, too; then ours is not the last user. */
	return make_mount(image, path, false, attr, e);
}

/* What a superblock of EROFS reads ahead by is named by a number that the kernel
 * counts, and nothing says whose it is. */
static bool bdi_number(const char *name, uint64_t *ret)
{
	char *end;

	if (strncmp(name, BDI_EROFS, strlen(BDI_EROFS)) != 0)
		return false;
	errno = 0;
	*ret = strtoull(name + strlen(BDI_EROFS), &end, 10);
	return errno == 0 && *end == '\0';
}

/* Writes @text, if it is not NULL, for each that is newer than @last.
 * Return: the newest */
static uint64_t bdi_each(uint64_t last, const char *text)
{
	DIR *d = opendir(BDI_DIR);
	char path[NAME_MAX + sizeof("/read_ahead_kb")];
	uint64_t n, newest = last;
	const struct dirent *de;

	while (d != NULL && (de = readdir(d)) != NULL) {
		CLEANUP_CLOSE int fd = -EBADF;

		if (!bdi_number(de->d_name, &n) || n <= last)
			continue;
		newest = MAX(newest, n);
		if (text == NULL)
			continue;
		(void)snprintf(path, sizeof(path), "%s/read_ahead_kb",
			       de->d_name);
		fd = openat(dirfd(d), path, O_WRONLY | O_CLOEXEC);
		/* It is only slower. */
		if (fd >= 0 && write(fd, text, strlen(text)) < 0)
			continue;
	}
	if (d != NULL)
		(void)closedir(d);
	return newest;
}

/* What is newer than @last is ours, and with luck nothing else: it reads as far
 * ahead as the disk of the image does. The default, 128 KiB, costs more than
 * seeks: the page cache is made of pieces as large as what is read ahead, and
 * reads at random of what is in memory take a third longer in small ones. */
static void read_ahead(uint64_t last, const char *image)
{
	char path[64], text[16];
	struct stat st;

	if (stat(image, &st) < 0)
		return;
	/* Of a disk, and of a partition of one. */
	for (unsigned part = 0; part < 2; part++) {
		CLEANUP_CLOSE int fd = -EBADF;
		ssize_t n;

		(void)snprintf(path, sizeof(path),
			       "/sys/dev/block/%u:%u%s/queue/read_ahead_kb",
			       major(st.st_dev), minor(st.st_dev),
			       part != 0 ? "/.." : "");
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		if (n <= 0)
			continue;
		text[n] = '\0';
		(void)bdi_each(last, text);
		return;
	}
}

static int make_file_mount(const char *image, bool direct, unsigned attr,
			   struct err *e)
{
	uint64_t last = bdi_each(0, NULL);
	int fd = make_mount(image, image, direct, attr, e);

	if (fd >= 0)
		read_ahead(last, image);
	return fd;
}

int kmount_as(enum kmount_kind kind, const char *image, unsigned attr,
	      struct err *e)
{
	switch (kind) {
	case KMOUNT_LOOP:
		return make_loop_mount(image, attr, e);
	case KMOUNT_FILE:
	case KMOUNT_DIRECT:
		return make_file_mount(image, kind == KMOUNT_DIRECT, attr, e);
	case KMOUNT_NONE:
	default:
		return err_set(e, -EINVAL, "%s: no kind of mount", image);
	}
}

int kmount_detached(const char *image, unsigned attr,
		    enum kmount_kind *ret_kind, struct err *e)
{
	static const enum kmount_kind kinds[] = {KMOUNT_DIRECT, KMOUNT_FILE,
						 KMOUNT_LOOP};
	int r = -ENOSYS;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		r = kmount_as(kinds[i], image, attr, e);
		if (r >= 0 && ret_kind != NULL)
			*ret_kind = kinds[i];
		/* Unknown to this kernel: an option, a file as a source. */
		if (r != -EOPNOTSUPP && r != -ENOTBLK)
			break;
	}
	return r;
}

int kmount_at(const char *image, const char *target, unsigned attr,
	      enum kmount_kind *ret_kind, struct err *e)
{
	CLEANUP_CLOSE int fd = kmount_detached(image, attr, ret_kind, e);

	if (fd < 0)
		return fd;
	if (move_mount(fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_set(e, -errno, "%s: %s", target, err_name(errno));
	return 0;
}
