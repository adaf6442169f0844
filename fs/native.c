/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/native.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/layerdir.h"
#include "common/meta.h"
#include "common/present.h"
#include "common/rd.h"
#include "common/seal.h"
#include "fs/metarun.h"
#define LOG_MOD "native"
#include "common/log.h"

/* For workers that have just been relieved, of all layers of an image together:
 * one that serves another mount may hear of it a minute later. */
#define SEAL_WAIT_MS 3000u

/* Events and what is read ahead are FUSE's matter; a supervisor mounts itself. */
bool native_wanted(const struct layer *layer, const struct options *o)
{
	return !o->nonative && o->events == NULL && !o->noreadahead &&
	       o->supervisor_fd < 0 && layer->has_toc_digest;
}

/* The layer's directory, as the kernel will name it. */
static char *cache_path(const struct layer *layer, const struct options *o)
{
	CLEANUP_FREE char *path = layerdir_path(o->root, &layer->toc_digest,
						o->opaque_user, false);

	return path != NULL ? realpath(path, NULL) : NULL;
}

bool native_may(const struct layer *layer, const struct options *o)
{
	CLEANUP_FREE char *dir = NULL;
	CLEANUP_FREE char *path = NULL;
	CLEANUP_CLOSE int fd = -EBADF;
	uint8_t state[4];

	if (!native_wanted(layer, o))
		return false;
	dir = cache_path(layer, o);
	if (dir == NULL || asprintf(&path, "%s/present", dir) < 0) {
		path = NULL;
		return false;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd >= 0 &&
	       io_pread_all(fd, state, sizeof(state),
			    offsetof(struct present_header_le, state)) == 0 &&
	       le32_load(state) == PRESENT_COMPLETE;
}

static int check(const struct meta_files *files, struct err *e)
{
	struct metarun m;
	int r = metarun_start(&m, e);

	if (r < 0)
		return r;
	r = meta_check(m.sock, files, e);
	metarun_end(&m);
	return r;
}

static int open_cache(const char *dir, const char *name, int *ret,
		      struct err *e)
{
	CLEANUP_FREE char *path = NULL;

	if (asprintf(&path, "%s/%s", dir, name) < 0) {
		path = NULL;
		return err_no_memory(e);
	}
	*ret = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return *ret < 0 ? err_set(e, -errno, "%s: %s", path, err_name(errno))
			: 0;
}

/* Whether @path still is the file that was looked at: not removed, not made
 * anew. */
static bool is_same(const char *path, int fd)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && lstat(path, &b) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static unsigned attr_of(unsigned long flags)
{
	static const struct {
		unsigned long flag;
		unsigned attr;
	} map[] = {
		{MS_NODEV, MOUNT_ATTR_NODEV},
		{MS_NOSUID, MOUNT_ATTR_NOSUID},
		{MS_NOEXEC, MOUNT_ATTR_NOEXEC},
		{MS_NODIRATIME, MOUNT_ATTR_NODIRATIME},
	};
	unsigned attr = MOUNT_ATTR_RDONLY;

	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		attr |= (flags & map[i].flag) != 0 ? map[i].attr : 0;
	if ((flags & MS_STRICTATIME) != 0)
		attr |= MOUNT_ATTR_STRICTATIME;
	else if ((flags & MS_NOATIME) != 0)
		attr |= MOUNT_ATTR_NOATIME;
	return attr;
}

/* Nobody writes to it any more, until the descriptor is closed. */
static int hold(int image_fd, struct err *e)
{
	static uint64_t left_ns = SEAL_WAIT_MS * NSEC_PER_MSEC;
	uint64_t since_ns = io_now_ns();
	int r = seal_hold(image_fd, (unsigned)(left_ns / NSEC_PER_MSEC), e);

	left_ns -= MIN(left_ns, io_now_ns() - since_ns);
	return r < 0 ? err_wrap(e, "layer.erofs") : 0;
}

static int mount_checked(const char *dir, int image_fd, unsigned attr,
			 struct err *e)
{
	CLEANUP_FREE char *image = NULL;
	CLEANUP_CLOSE int fd = -EBADF;
	enum kmount_kind kind;

	if (asprintf(&image, "%s/layer.erofs", dir) < 0) {
		image = NULL;
		return err_no_memory(e);
	}
	fd = kmount_detached(image, attr, &kind, e);
	if (fd < 0)
		return fd;
	if (!is_same(image, image_fd) || !seal_holds(image_fd))
		return err_set(e, -EAGAIN, "%s: has changed", image);
	log_debug("image=%s how=\"%s\" msg=\"mounted by the kernel\"", image,
		  kmount_kind_str(kind));
	return TAKE_FD(fd);
}

int native_mount(const struct layer *layer, const struct options *o,
		 struct err *e)
{
	CLEANUP_FREE char *dir = cache_path(layer, o);
	CLEANUP_CLOSE int erofs = -EBADF;
	CLEANUP_CLOSE int chunks = -EBADF;
	CLEANUP_CLOSE int present = -EBADF;
	int r;

	if (dir == NULL)
		return err_set(e, -ENOENT, "the layer has no cache");
	r = open_cache(dir, "layer.erofs", &erofs, e);
	if (r == 0)
		r = open_cache(dir, "chunks", &chunks, e);
	if (r == 0)
		r = open_cache(dir, "present", &present, e);
	if (r == 0) {
		const struct meta_files files = {
			.erofs = erofs,
			.chunks = chunks,
			.present = present,
		};

		r = hold(erofs, e);
		if (r == 0)
			r = check(&files, e);
		if (r == 0 && (r = seal_set(erofs)) < 0)
			(void)err_set(e, r, "layer.erofs: %s", err_name(r));
		if (r < 0)
			(void)err_wrap(e, "%s", dir);
	}
	if (r == 0)
		r = mount_checked(dir, erofs, attr_of(o->mount_flags), e);
	/* For who evicts the least recently used. */
	if (r >= 0)
		(void)futimens(present, NULL);
	return r;
}

int native_attach(int fd, const char *target, struct err *e)
{
	if (move_mount(fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_set(e, -errno, "cannot mount on %s: %s", target,
			       err_name(errno));
	return 0;
}

/* ---- in the foreground -------------------------------------------------- */

uint64_t native_mount_id(const char *target)
{
	struct statx sx;

	if (statx(AT_FDCWD, target, AT_SYMLINK_NOFOLLOW, STATX_MNT_ID, &sx) < 0)
		return 0;
	return sx.stx_mnt_id;
}

/* Whether a mount of this number is there; the list begins each line with it. */
static bool is_listed(FILE *list, uint64_t id)
{
	char line[64];
	bool begins = true, found = false;

	rewind(list);
	while (!found && fgets(line, sizeof(line), list) != NULL) {
		found = begins && strtoull(line, NULL, 10) == id;
		begins = strchr(line, '\n') != NULL;
	}
	return found;
}

void native_await(const char *target, uint64_t id, const sigset_t *signals)
{
	CLEANUP_CLOSE int sig = signalfd(-1, signals, SFD_CLOEXEC);
	FILE *list = fopen("/proc/self/mountinfo", "re");
	struct signalfd_siginfo si;

	while (list != NULL && sig >= 0 && is_listed(list, id)) {
		struct pollfd p[] = {
			{.fd = fileno(list), .events = POLLPRI},
			{.fd = sig, .events = POLLIN},
		};

		if (poll(p, ARRAY_SIZE(p), -1) > 0 &&
		    (p[1].revents & POLLIN) != 0 &&
		    read(sig, &si, sizeof(si)) == sizeof(si) &&
		    si.ssi_signo != SIGCHLD)
			(void)umount2(target, MNT_DETACH);
	}
	if (list != NULL)
		(void)fclose(list);
}
