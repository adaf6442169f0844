/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/io.h"
#include "common/kmount.h"
#include "common/meta.h"
#include "fs/opens.h"
#include "fs/state.h"
#include "fs/super.h"
#define LOG_MOD "backing"
#include "common/log.h"

/* Of <linux/fuse.h> since 6.9. */
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define IOC_BACKING_OPEN _IOW(229, 1, struct backing_map)
#define IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

/* Kinds of handles that EROFS has: the second since Linux 6.16.
 * (include/linux/exportfs.h, FILEID_INO32_GEN and FILEID_INO64_GEN) */
#define HANDLE_INO32 0x01
#define HANDLE_INO64 0x81

struct handle {
	struct file_handle h;
	unsigned char bytes[sizeof(((struct backing *)NULL)->handle.words)];
};

/* ---- the mount --------------------------------------------------------- */

static int learn_handles(struct backing *b, int dir, struct err *e)
{
	struct handle h = {.h = {.handle_bytes = sizeof(h.bytes)}};
	int mount_id;

	if (name_to_handle_at(dir, "", &h.h, &mount_id, AT_EMPTY_PATH) < 0)
		return err_set(e, -errno, "EROFS has no handles: %s",
			       err_name(errno));
	b->handle.bytes = h.h.handle_bytes;
	b->handle.type = h.h.handle_type;
	memcpy(b->handle.words, h.bytes, sizeof(h.bytes));
	if ((b->handle.type == HANDLE_INO32 && b->handle.bytes == 8) ||
	    (b->handle.type == HANDLE_INO64 && b->handle.bytes == 12))
		return 0;
	return err_set(e, -EOPNOTSUPP, "EROFS has handles of type %#x",
		       (unsigned)b->handle.type);
}

/* Has the metadata looked through, by a process that has parsed nothing. */
static int check(const struct state *s, struct err *e)
{
	const struct meta_files files = {
		.erofs = s->fds[STATE_EROFS],
		.chunks = s->fds[STATE_CHUNKS],
		.present = -1,
	};
	CLEANUP_CLOSE int ours = -EBADF;
	int sv[2], r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(e, -errno, "socketpair: %s", err_name(errno));
	ours = sv[0];
	pid = fork();
	if (pid == 0)
		_exit(meta_serve(sv[1]));
	(void)close(sv[1]);
	if (pid < 0)
		return err_set(e, -EAGAIN, "no process");
	r = meta_check(ours, &files, e);
	(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return r;
}

static int have_mount(struct backing *b, const struct state *s, struct err *e)
{
	CLEANUP_FREE char *image = NULL;
	CLEANUP_CLOSE int mnt = -EBADF;
	CLEANUP_CLOSE int dir = -EBADF;
	int r;

	if (b->dir_fd >= 0)
		return 0;
	if (asprintf(&image, "%s/layer.erofs", s->path) < 0) {
		image = NULL;
		return err_no_memory(e);
	}
	r = check(s, e);
	if (r < 0)
		return r;
	mnt = kmount_detached(image,
			      MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID |
				      MOUNT_ATTR_NOATIME,
			      NULL, e);
	if (mnt < 0)
		return mnt;
	dir = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(e, -errno, "%s: %s", image, err_name(errno));
	r = learn_handles(b, dir, e);
	if (r == 0)
		b->dir_fd = TAKE_FD(dir);
	return r;
}

/* Opens a regular file, and nothing else. */
static int open_nid(const struct backing *b, uint64_t nid, struct err *e)
{
	struct handle h = {
		.h = {.handle_bytes = b->handle.bytes,
		      .handle_type = b->handle.type},
	};
	bool wide = b->handle.type == HANDLE_INO64;
	const uint32_t words[3] = {
		(uint32_t)(wide ? nid >> 32 : nid),
		wide ? (uint32_t)nid : b->handle.words[1],
		b->handle.words[2],
	};
	CLEANUP_CLOSE int fd = -EBADF;
	struct stat st;

	if (!wide && nid > UINT32_MAX)
		return err_set(e, -EINVAL, "nid %llu: too large",
			       (unsigned long long)nid);
	memcpy(h.bytes, words, sizeof(words));
	/* Of a mount without devices; a fifo does not wait. */
	fd = open_by_handle_at(b->dir_fd, &h.h,
			       O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "nid %llu: %s",
			       (unsigned long long)nid, err_name(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "nid %llu: not a regular file",
			       (unsigned long long)nid);
	return TAKE_FD(fd);
}

/* ---- the numbers ------------------------------------------------------- */

#define IDS_OFF offsetof(struct opens_file, ids)

/* The place of @nid, 0 for a free one. Return: index, -ENOENT, -errno */
static int find(const struct backing *b, uint64_t nid, struct opens_id *ret)
{
	struct opens_id ids[OPENS_IDS_MAX];
	int r = io_pread_all(b->opens_fd, ids, sizeof(ids), IDS_OFF);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < OPENS_IDS_MAX; i++) {
		if (ids[i].nid == nid && (ids[i].id != 0) == (nid != 0)) {
			*ret = ids[i];
			return (int)i;
		}
	}
	return -ENOENT;
}

static int note(const struct backing *b, int i, uint64_t nid, uint32_t id)
{
	const struct opens_id it = {.nid = nid, .id = id};

	return io_pwrite_all(b->opens_fd, &it, sizeof(it),
			     IDS_OFF + (unsigned)i * sizeof(it));
}

static int back(int fuse_fd, int fd, uint32_t *ret_id, struct err *e)
{
	struct backing_map map = {.fd = fd};
	int id = ioctl(fuse_fd, IOC_BACKING_OPEN, &map);

	if (id <= 0)
		return err_set(e, id < 0 ? -errno : -EIO,
			       "kernel takes no backing file: %s",
			       err_name(id < 0 ? errno : EIO));
	*ret_id = (uint32_t)id;
	return 0;
}

static int open_backing(struct backing *b, const struct state *s, int fuse_fd,
			uint64_t nid, uint32_t *ret_id, struct err *e)
{
	CLEANUP_CLOSE int fd = -EBADF;
	struct opens_id it;
	int i, r;

	if (nid == 0)
		return err_set(e, -EINVAL, "nid 0: not a regular file");
	if (find(b, nid, &it) >= 0) {
		*ret_id = it.id;
		return 0;
	}
	i = find(b, 0, &it);
	if (i < 0)
		return err_set(e, -ENOSPC, "too many backing files");
	r = have_mount(b, s, e);
	if (r < 0)
		return r;
	fd = open_nid(b, nid, e);
	if (fd < 0)
		return fd;
	r = back(fuse_fd, fd, ret_id, e);
	return r == 0 ? note(b, i, nid, *ret_id) : r;
}

static void close_backing(const struct backing *b, int fuse_fd, uint64_t nid)
{
	struct opens_id it;
	int i = nid != 0 ? find(b, nid, &it) : -ENOENT;

	/* First the note: a number is never noted that is another file's. */
	if (i < 0 || note(b, i, 0, 0) < 0)
		return;
	if (ioctl(fuse_fd, IOC_BACKING_CLOSE, &it.id) < 0)
		log_debug("msg=\"backing file stays\" err=%s",
			  err_symbol(errno));
}

int backing_begin(struct backing *b, struct super *s,
		  const struct sup_session *session, bool succeeds,
		  struct err *e)
{
	int r = 0;

	if (s != NULL) {
		r = super_lock(s, session->dev_major, session->dev_minor, e);
		if (r < 0)
			return r;
		b->opens_fd = s->lock_fd;
	} else {
		b->opens_fd = memfd_create("opens", MFD_CLOEXEC);
		if (b->opens_fd < 0)
			r = -errno;
	}
	if (r == 0 && !succeeds)
		r = opens_format(b->opens_fd);
	return r < 0 ? err_set(e, r, "opens: %s", err_name(r)) : 0;
}

void backing_give(struct backing *b, const struct ctl_back *want,
		  const struct state *state, int fuse_fd, int ctl)
{
	static struct log_limit limit;
	struct ctl_backed msg = {.type = CTL_BACKED, .nid = want->nid};
	struct err e = {0};
	unsigned suppressed;

	if (want->close_nid != 0)
		close_backing(b, fuse_fd, want->close_nid);
	msg.error = open_backing(b, state, fuse_fd, want->nid, &msg.id, &e);
	if (msg.error < 0 && log_allow(&limit, io_now_ns(), &suppressed))
		log_warn("msg=\"%s\" suppressed=%u", e.text, suppressed);
	(void)io_send_fds(ctl, &msg, sizeof(msg), NULL, 0, MSG_DONTWAIT);
}

void backing_forget(struct backing *b)
{
	if (b->dir_fd >= 0)
		(void)close(TAKE_FD(b->dir_fd));
}

void backing_done(struct backing *b)
{
	backing_forget(b);
	/* super_close() has the lock's. */
	b->opens_fd = -1;
}
