/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/ops.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/io.h"
#include "common/limits.h"
#include "fs/events.h"
#define LOG_MOD "ops"
#include "common/log.h"

/* The tree never changes. Kernels take any number of seconds. */
#define FOREVER_S 4294967295.0
#define NAME_BYTES 256u

static struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* The one place where our errors become FUSE's: only what a file system may
 * say goes out, the rest is EIO. */
static void reply_errno(fuse_req_t req, int r)
{
	switch (r) {
	case -ENOENT:
	case -ENOTDIR:
	case -EISDIR:
	case -EINVAL:
	case -ENODATA:
	case -ERANGE:
	case -ENAMETOOLONG:
	case -EINTR:
	case -EROFS:
	case -ENOMEM:
	case -ENOSYS:
		(void)fuse_reply_err(req, -r);
		return;
	default:
		(void)fuse_reply_err(req, EIO);
	}
}

static int inode_of(struct fs *fs, fuse_ino_t ino, struct erofs_inode *ret)
{
	if (ino == DATADIR_INO) {
		datadir_inode(ret);
		return 0;
	}
	return erofs_inode_get(
		&fs->im, ino == FUSE_ROOT_ID ? fs->im.root_nid : ino, ret);
}

static void attr_of(const struct erofs_inode *in, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = in->nid;
	st->st_mode = in->mode;
	st->st_nlink = in->nlink;
	st->st_uid = in->uid;
	st->st_gid = in->gid;
	st->st_rdev = in->rdev;
	st->st_size = (off_t)in->size;
	st->st_blksize = EROFS_BLOCK_BYTES;
	st->st_blocks =
		(blkcnt_t)(ALIGN_UP(in->size, (uint64_t)EROFS_BLOCK_BYTES) /
			   512);
	st->st_mtim.tv_sec = in->mtime;
	st->st_mtim.tv_nsec = in->mtime_nsec;
	st->st_atim = st->st_mtim;
	st->st_ctim = st->st_mtim;
}

static int entry_of(struct fs *fs, uint64_t nid, struct fuse_entry_param *ret)
{
	struct erofs_inode in;
	int r = inode_of(fs, nid, &in);

	if (r < 0)
		return r;
	memset(ret, 0, sizeof(*ret));
	ret->ino = nid == fs->im.root_nid ? FUSE_ROOT_ID : nid;
	ret->attr_timeout = FOREVER_S;
	ret->entry_timeout = FOREVER_S;
	attr_of(&in, &ret->attr);
	return 0;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *fs = userdata;
	static const unsigned want[] = {
		FUSE_CAP_ASYNC_READ,      FUSE_CAP_PARALLEL_DIROPS,
		FUSE_CAP_CACHE_SYMLINKS,  FUSE_CAP_POSIX_ACL,
		FUSE_CAP_READDIRPLUS,     FUSE_CAP_NO_OPENDIR_SUPPORT,
		FUSE_CAP_NO_OPEN_SUPPORT, FUSE_CAP_EXPLICIT_INVAL_DATA,
	};
	static const unsigned refuse[] = {
		FUSE_CAP_SPLICE_READ,      FUSE_CAP_SPLICE_WRITE,
		FUSE_CAP_SPLICE_MOVE,      FUSE_CAP_AUTO_INVAL_DATA,
		FUSE_CAP_READDIRPLUS_AUTO, FUSE_CAP_WRITEBACK_CACHE,
		FUSE_CAP_POSIX_LOCKS,      FUSE_CAP_FLOCK_LOCKS,
	};

	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		conn->want |= conn->capable & want[i];
	for (size_t i = 0; i < ARRAY_SIZE(refuse); i++)
		conn->want &= ~refuse[i];
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	if (fs->noreadahead)
		conn->max_readahead = 0;
	passthru_agree(fs, conn);
}

static int find(struct fs *fs, fuse_ino_t parent, const char *name,
		uint64_t *ret_nid)
{
	struct erofs_inode dir;
	size_t len = strlen(name);
	int r;

	if (len >= NAME_BYTES)
		return -ENAMETOOLONG;
	if (parent == DATADIR_INO)
		return datadir_find(&fs->data, name, ret_nid);
	if (parent == FUSE_ROOT_ID && strcmp(name, fs->data.name) == 0) {
		*ret_nid = DATADIR_INO;
		return 0;
	}
	r = inode_of(fs, parent, &dir);
	if (r < 0)
		return r;
	return erofs_lookup(&fs->im, &dir, name, len, ret_nid, NULL);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param ent;
	uint64_t nid;
	int r = find(fs, parent, name, &nid);

	if (r == -ENOENT) {
		/* Inode 0 with a timeout: the kernel remembers that too. */
		memset(&ent, 0, sizeof(ent));
		ent.entry_timeout = FOREVER_S;
		(void)fuse_reply_entry(req, &ent);
		return;
	}
	if (r == 0)
		r = entry_of(fs, nid, &ent);
	if (r < 0)
		reply_errno(req, r);
	else
		(void)fuse_reply_entry(req, &ent);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	(void)ino;
	(void)nlookup;
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count,
			    struct fuse_forget_data *forgets)
{
	(void)count;
	(void)forgets;
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct erofs_inode in;
	struct stat st;
	int r = inode_of(fs, ino, &in);

	(void)fi;
	if (r < 0) {
		reply_errno(req, r);
		return;
	}
	attr_of(&in, &st);
	(void)fuse_reply_attr(req, &st, FOREVER_S);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	char target[TOC_NAME_BYTES_MAX + 1];
	struct erofs_inode in;
	const char *p;
	size_t len;
	int r = inode_of(fs, ino, &in);

	if (r == 0)
		r = erofs_readlink(&fs->im, &in, &p, &len);
	if (r == 0 && len >= sizeof(target))
		r = -EBADMSG;
	if (r < 0) {
		reply_errno(req, r);
		return;
	}
	memcpy(target, p, len);
	target[len] = '\0';
	(void)fuse_reply_readlink(req, target);
}

/* Answered ENOSYS once per mount: the kernel then opens without asking, keeps its
 * caches, and there is no handle to lose. So it is with OPEN, too, but for
 * layers whose files the kernel is to read itself (fs/passthru.h). */
static void op_opendir(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	(void)fuse_reply_err(req, ENOSYS);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	const struct lane *lane = pthread_getspecific(fs->lane_key);
	struct erofs_inode in;
	int r = inode_of(fs, ino, &in);

	(void)fi;
	if (r == 0 && !S_ISREG(in.mode))
		r = -EINVAL;
	if (r < 0)
		reply_errno(req, r);
	else
		passthru_open(fs, req, lane->unique, in.nid, in.data_off,
			      in.size);
}

static void op_release(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	(void)ino;
	passthru_release(fs_of(req), fi->fh);
	(void)fuse_reply_err(req, 0);
}

/**
 * fill_dir() - entries from position @off on
 * @buf:	[@size]
 *
 * Return: bytes, -errno
 */
static ssize_t fill_dir(fuse_req_t req, const struct erofs_inode *dir,
			uint64_t off, char *buf, size_t size, bool plus)
{
	struct fs *fs = fs_of(req);
	size_t used = 0;

	for (;;) {
		struct fuse_entry_param ent;
		struct erofs_dirent d;
		char name[NAME_BYTES];
		size_t n;
		int r = erofs_readdir(&fs->im, dir, off, &d);

		if (r < 0)
			return r;
		if (r == 0)
			return (ssize_t)used;
		if (d.len >= sizeof(name))
			return -EBADMSG;
		memcpy(name, d.name, d.len);
		name[d.len] = '\0';
		if (plus) {
			r = entry_of(fs, d.nid, &ent);
			if (r < 0)
				return r;
			/* The kernel takes no reference for these two. */
			if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
				ent.ino = 0;
			n = fuse_add_direntry_plus(req, buf + used, size - used,
						   name, &ent, (off_t)d.next);
		} else {
			struct stat st = {
				.st_ino = d.nid,
				.st_mode = (mode_t)DTTOIF(d.dtype),
			};

			n = fuse_add_direntry(req, buf + used, size - used,
					      name, &st, (off_t)d.next);
		}
		if (n > size - used)
			return (ssize_t)used;
		used += n;
		off = d.next;
	}
}

static void read_dir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     bool plus)
{
	struct fs *fs = fs_of(req);
	char buf[32768];
	struct erofs_inode dir;
	ssize_t n;
	int r = inode_of(fs, ino, &dir);

	if (r < 0) {
		reply_errno(req, r);
		return;
	}
	n = fill_dir(req, &dir, (uint64_t)off, buf, MIN(size, sizeof(buf)),
		     plus);
	if (n < 0)
		reply_errno(req, (int)n);
	else
		(void)fuse_reply_buf(req, buf, (size_t)n);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	(void)fi;
	read_dir(req, ino, size, off, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size,
			   off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	read_dir(req, ino, size, off, true);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct statvfs st = {
		.f_bsize = EROFS_BLOCK_BYTES,
		.f_frsize = EROFS_BLOCK_BYTES,
		.f_blocks = fs->im.n_blocks,
		.f_files = fs->im.n_inodes,
		.f_namemax = NAME_BYTES - 1,
	};

	(void)ino;
	(void)fuse_reply_statfs(req, &st);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			size_t size)
{
	struct fs *fs = fs_of(req);
	struct erofs_inode in;
	const uint8_t *value;
	size_t len;
	int r;

	if (!fs->has_xattrs) {
		/* ENOSYS would be asked for once only, but programs would hear
		 * EOPNOTSUPP, which containerd's differ takes for a failure. */
		(void)fuse_reply_err(req, ENODATA);
		return;
	}
	r = inode_of(fs, ino, &in);
	if (r == 0)
		r = erofs_xattr_get(&fs->im, &in, name, &value, &len);
	if (r < 0)
		reply_errno(req, r);
	else if (size == 0)
		(void)fuse_reply_xattr(req, len);
	else if (len > size)
		reply_errno(req, -ERANGE);
	else
		(void)fuse_reply_buf(req, (const char *)value, len);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fs *fs = fs_of(req);
	CLEANUP_FREE char *buf = NULL;
	struct erofs_inode in;
	ssize_t n;
	int r;

	r = inode_of(fs, ino, &in);
	n = r == 0 ? erofs_xattr_list(&fs->im, &in, NULL, 0) : r;
	if (n < 0) {
		reply_errno(req, (int)n);
	} else if (size == 0) {
		(void)fuse_reply_xattr(req, (size_t)n);
	} else if ((size_t)n > size) {
		reply_errno(req, -ERANGE);
	} else {
		buf = malloc((size_t)n + 1);
		if (buf != NULL && n > 0)
			n = erofs_xattr_list(&fs->im, &in, buf, (size_t)n);
		if (buf == NULL || n < 0)
			reply_errno(req, buf == NULL ? -ENOMEM : (int)n);
		else
			(void)fuse_reply_buf(req, buf, (size_t)n);
	}
}

static void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	(void)ino;
	(void)mask;
	/* The kernel checks permissions itself (default_permissions). */
	(void)fuse_reply_err(req, ENOSYS);
}

/* ---- reading ----------------------------------------------------------- */

static void count_read(struct fs *fs, size_t n)
{
	stats_add(&fs->st->reads, 1);
	stats_add(&fs->st->read_bytes, n);
}

/* Before it is answered: who has the answer may unmount. */
static void note_read(struct fs *fs, const struct waiter *w,
		      enum events_how how)
{
	if (fs->events != NULL)
		events_read(fs->events, how, w->nid, w->image_off, w->size,
			    w->start_ns, w->class_);
}

/**
 * cached() - bytes that the cache is known to have
 *
 * Who has just decoded them still has them. Return: [@w->size] in the lane's
 * scratch; NULL: they cannot be read
 */
static const uint8_t *cached(struct fs *fs, struct lane *lane,
			     const struct waiter *w)
{
	const uint8_t *p = lane_held(lane, w->image_off, w->size);
	ssize_t n;

	if (p != NULL)
		return p;
	lane_let_go(lane);
	assert(w->size <= lane->scratch_bytes);
	n = lane_read(lane, lane->scratch, w->size, w->image_off);
	if (n < 0) {
		stats_error(fs->st, "cache cannot be read");
		log_err("err=%s msg=\"cache cannot be read\"",
			err_symbol((int)n));
		return NULL;
	}
	/* The tail of the last block is a hole at the end of the file. */
	if ((size_t)n < w->size)
		memset(lane->scratch + n, 0, w->size - (size_t)n);
	return lane->scratch;
}

static void reply_cached(struct fs *fs, struct lane *lane,
			 const struct waiter *w, enum events_how how)
{
	const uint8_t *p = cached(fs, lane, w);

	if (p == NULL) {
		note_read(fs, w, EVENTS_ERROR);
		reply_errno(w->req, -EIO);
		return;
	}
	count_read(fs, w->size);
	note_read(fs, w, how);
	(void)fuse_reply_buf(w->req, (const char *)p, w->size);
}

static void on_interrupt(fuse_req_t req, void *data)
{
	struct fs *fs = fs_of(req);

	miss_interrupt(fs->miss, (uint64_t)(uintptr_t)data);
}

/* Turns a read that missed into a waiter. */
static void read_later(struct fs *fs, const struct waiter *read)
{
	struct waiter *w = malloc(sizeof(*w));

	if (w == NULL) {
		note_read(fs, read, EVENTS_ERROR);
		reply_errno(read->req, -ENOMEM);
		return;
	}
	*w = *read;
	w->id = miss_next_id(fs->miss);
	fuse_req_interrupt_func(w->req, on_interrupt, (void *)(uintptr_t)w->id);
	miss_wait(fs->miss, w);
}

/* @pages: it is for the page cache. */
static void read_file(struct fs *fs, struct waiter *w, bool pages)
{
	/* The kernel may be content with less. */
	bool ahead = pages && w->size > EROFS_BLOCK_BYTES;
	struct lane *lane = pthread_getspecific(fs->lane_key);

	w->size = MIN(w->size, lane->scratch_bytes);
	if (present_state(&fs->pr) != PRESENT_COMPLETE) {
		int r = chunks_find(&fs->ch, w->image_off, &w->first);

		if (r == 0)
			r = chunks_find(&fs->ch, w->image_off + w->size - 1,
					&w->end);
		if (r < 0) {
			note_read(fs, w, EVENTS_ERROR);
			reply_errno(w->req, -EIO);
			return;
		}
		w->end++;
		if (!present_test_range(&fs->pr, w->first, w->end - w->first)) {
			if (ahead && miss_starts(fs->miss) &&
			    refuse(&fs->refusals, fs->st, w->image_off,
				   w->size)) {
				(void)fuse_reply_err(w->req, EAGAIN);
				return;
			}
			w->unsure = pages && miss_starts(fs->miss) &&
				    refused_before(&fs->refusals, w->image_off);
			firsts_read(&fs->firsts, w->first, w->end);
			read_later(fs, w);
			return;
		}
		firsts_read(&fs->firsts, w->first, w->end);
		miss_hit(fs->miss, w->nid, w->first, w->end);
	}
	lane_lock(lane);
	reply_cached(fs, lane, w, EVENTS_HIT);
	lane_unlock(lane);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct waiter w = {.req = req};
	struct erofs_inode in;
	int r;

	r = inode_of(fs, ino, &in);
	if (r == 0 && !S_ISREG(in.mode))
		r = -EISDIR;
	if (r < 0) {
		reply_errno(req, r);
		return;
	}
	if (off < 0 || (uint64_t)off >= in.size) {
		(void)fuse_reply_buf(req, NULL, 0);
		return;
	}
	w.nid = in.nid;
	w.size = (size_t)MIN((uint64_t)size, in.size - (uint64_t)off);
	w.image_off = in.data_off + (uint64_t)off;
	if (fs->events != NULL)
		w.start_ns = io_now_ns();
	read_file(fs, &w, fi->lock_owner == 0);
}

/* Reads what a bounce does not have from the cache into it. */
static int complete_bounce(struct fs *fs, struct lane *lane, struct waiter *w)
{
	for (uint64_t i = w->first; i < w->end; i++) {
		struct chunk c;
		uint64_t a, z;
		ssize_t n;

		if (w->mem[i - w->first])
			continue;
		chunks_get(&fs->ch, i, &c);
		a = MAX(c.image_off, w->image_off);
		z = MIN(c.image_off + c.len, w->image_off + w->size);
		n = lane_read(lane, w->bounce + (a - w->image_off),
			      (size_t)(z - a), a);
		if (n < 0 || (uint64_t)n != z - a)
			return -EIO;
	}
	return 0;
}

void fs_read_ready(void *arg, struct lane *lane, struct waiter *w)
{
	struct fs *fs = arg;

	/* A FUSE thread that found it ready at once has its own lane. */
	if (lane == NULL)
		lane = pthread_getspecific(fs->lane_key);
	if (w->bounce == NULL && lane != NULL) {
		bool own = pthread_getspecific(fs->lane_key) == lane;

		/* A fill thread holds its lane already. */
		if (own)
			lane_lock(lane);
		reply_cached(fs, lane, w, EVENTS_WAIT);
		if (own)
			lane_unlock(lane);
		return;
	}
	if (lane == NULL || complete_bounce(fs, lane, w) < 0) {
		note_read(fs, w, EVENTS_ERROR);
		reply_errno(w->req, -EIO);
		return;
	}
	count_read(fs, w->size);
	note_read(fs, w, EVENTS_WAIT);
	(void)fuse_reply_buf(w->req, (const char *)w->bounce, w->size);
}

void fs_read_failed(void *arg, struct waiter *w)
{
	note_read(arg, w, EVENTS_ERROR);
	reply_errno(w->req, w->error);
}

const struct fuse_lowlevel_ops fs_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.readlink = op_readlink,
	.open = op_open,
	.read = op_read,
	.release = op_release,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.statfs = op_statfs,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.access = op_access,
};
