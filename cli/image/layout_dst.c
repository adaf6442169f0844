/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: writing into a layout's directory, where others may read and write.
 *
 * A blob is written under a name of ours in the layout's directory, synced and
 * renamed to its own; index.json last, so that who reads it finds all that it
 * names. Two locks (flock) of directories, whatever else is in them:
 *
 * - blobs/sha256, shared: somebody writes here. Who has it alone may take away
 *   what was left behind, and, where he failed, what he wrote himself; else
 *   another might have counted on it.
 * - the layout's, exclusive: from reading index.json to its rename, so that
 *   nobody's name is lost.
 */
#include "config.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/image/doc.h"
#include "cli/image/layout.h"
#include "common/io.h"
#include "common/limits.h"

#define TEMP_PREFIX ".estargz."
#define TEMP_TRIES 1000
#define ENTER_TRIES 10
#define LOCK_TRIES 1500 /* of 20 ms */
#define COPY_BYTES KIB(256)

/**
 * struct layout_dst - a layout that is written to
 * @dir, @blobs: descriptors of the two directories
 * @index:	index.json as it was at first, st_ino 0 where there was none
 * @written:	[@n_written] blobs that were not there before
 */
struct layout_dst {
	struct image_dst dst;
	char *path;
	int dir;
	int blobs;
	struct stat index;
	bool made_dir;
	struct digest *written;
	size_t n_written;
	unsigned n_temp;
};

static struct layout_dst *dst_of(struct image_dst *d)
{
	return (struct layout_dst *)d;
}

static int fail(const struct layout_dst *l, int code, const char *what,
		struct err *e)
{
	return err_set(e, code, "%s: %s: %s", l->path, what, err_name(code));
}

/* flock() that does not wait for ever. A file system that cannot lock
 * directories, as NFS, does without. */
static int lock(int fd, int how)
{
	const struct timespec t = {.tv_nsec = 20 * 1000 * 1000};

	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, how | LOCK_NB) == 0)
			return 0;
		if (errno == EBADF || errno == ENOLCK || errno == EOPNOTSUPP)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		(void)nanosleep(&t, NULL);
	}
	return -ETIMEDOUT;
}

/* ---- files ------------------------------------------------------------- */

/* A new file in the layout's directory; its name goes to @name. */
static int temp_open(struct layout_dst *l, char *name, size_t n)
{
	for (int i = 0; i < TEMP_TRIES; i++) {
		int fd;

		(void)snprintf(name, n, TEMP_PREFIX "%ld.%u", (long)getpid(),
			       l->n_temp++);
		fd = openat(l->dir, name,
			    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd >= 0 || errno != EEXIST)
			return fd >= 0 ? fd : -errno;
	}
	return -EEXIST;
}

/* The bytes are on the disk before the name is. */
static int temp_publish(struct layout_dst *l, int fd, const char *temp,
			const char *name)
{
	int r = fsync(fd) < 0 ? -errno : 0;

	if (r == 0 && renameat(l->dir, temp, l->dir, name) < 0)
		r = -errno;
	return r;
}

static int file_write(struct layout_dst *l, const char *name, const void *p,
		      size_t n)
{
	char temp[64];
	CLEANUP_CLOSE int fd = temp_open(l, temp, sizeof(temp));
	int r;

	if (fd < 0)
		return fd;
	r = io_write_all(fd, p, n);
	if (r == 0)
		r = temp_publish(l, fd, temp, name);
	if (r < 0)
		(void)unlinkat(l->dir, temp, 0);
	return r;
}

static bool has(const struct layout_dst *l, const struct image_desc *b)
{
	char path[LAYOUT_BLOB_BYTES];
	struct stat st;

	return fstatat(l->dir, layout_blob_path(&b->digest, path), &st, 0) ==
		       0 &&
	       S_ISREG(st.st_mode) && (uint64_t)st.st_size == b->size;
}

static int note(struct layout_dst *l, const struct digest *d)
{
	struct digest *p =
		reallocarray(l->written, l->n_written + 1, sizeof(*l->written));

	if (p == NULL)
		return -ENOMEM;
	l->written = p;
	l->written[l->n_written++] = *d;
	return 0;
}

/* ---- operations -------------------------------------------------------- */

static int dst_has(struct image_dst *d, const struct image_desc *b,
		   struct err *e)
{
	(void)e;
	return has(dst_of(d), b) ? 1 : 0;
}

struct progress {
	void (*tell)(void *arg, uint64_t bytes);
	void *arg;
};

/* Copies [size] of a file, and hashes it. */
static int copy(int from, int to, const struct image_desc *b,
		const struct progress *p, struct err *e)
{
	CLEANUP_FREE char *block = malloc(COPY_BYTES);
	CLEANUP(sha256_free_cleanup) struct sha256 *h = sha256_new();
	char digest[DIGEST_STR_BYTES];
	struct digest is;
	int r = 0;

	if (block == NULL || h == NULL)
		return err_no_memory(e);
	sha256_start(h);
	for (uint64_t at = 0; at < b->size;) {
		size_t n = (size_t)MIN(b->size - at, (uint64_t)COPY_BYTES);

		r = io_pread_all(from, block, n, at);
		if (r == 0)
			r = io_write_all(to, block, n);
		if (r < 0)
			return err_set(e, r, "%s", err_name(r));
		sha256_add(h, block, n);
		at += n;
		if (p->tell != NULL)
			p->tell(p->arg, at);
	}
	sha256_end(h, &is);
	if (!digest_equal(&is, &b->digest))
		return err_set(e, -EBADMSG, "not the bytes of %s",
			       digest_str(&b->digest, digest));
	return 0;
}

static int dst_put(struct image_dst *d, const struct image_desc *b, int fd,
		   void (*tell)(void *arg, uint64_t bytes), void *arg,
		   struct err *e)
{
	struct layout_dst *l = dst_of(d);
	const struct progress p = {.tell = tell, .arg = arg};
	char temp[64], path[LAYOUT_BLOB_BYTES];
	CLEANUP_CLOSE int out = -EBADF;
	int r;

	if (has(l, b)) {
		if (tell != NULL)
			tell(arg, b->size);
		return 0;
	}
	out = temp_open(l, temp, sizeof(temp));
	if (out < 0)
		return fail(l, out, "blob", e);
	r = copy(fd, out, b, &p, e);
	if (r < 0)
		(void)err_wrap(e, "%s: blob", l->path);
	if (r == 0) {
		r = note(l, &b->digest);
		if (r == 0)
			r = temp_publish(l, out, temp,
					 layout_blob_path(&b->digest, path));
		if (r < 0)
			(void)fail(l, r, "blob", e);
	}
	if (r < 0)
		(void)unlinkat(l->dir, temp, 0);
	return r;
}

static int dst_document(struct image_dst *d, const struct image_desc *b,
			const void *doc, struct err *e)
{
	struct layout_dst *l = dst_of(d);
	char path[LAYOUT_BLOB_BYTES];
	int r;

	if (has(l, b))
		return 0;
	r = note(l, &b->digest);
	if (r == 0)
		r = file_write(l, layout_blob_path(&b->digest, path), doc,
			       b->size);
	return r < 0 ? fail(l, r, "document", e) : 0;
}

static int index_read(struct layout_dst *l, struct json_object **ret,
		      struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT(MANIFEST_BYTES_MAX);
	int r = io_read_regular(l->dir, "index.json", &text, e);

	if (r == -ENOENT) {
		*ret = layout_index_new();
		return *ret != NULL ? 0 : err_no_memory(e);
	}
	if (r < 0)
		return err_wrap(e, "%s: index.json", l->path);
	r = layout_index_parse(text.p, text.len, ret, e);
	if (r < 0)
		(void)err_wrap(e, "%s", l->path);
	return r;
}

static int index_write(struct layout_dst *l, struct json_object *index,
		       struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT(MANIFEST_BYTES_MAX);
	int r = doc_print(index, &text);

	if (r == 0)
		r = file_write(l, "index.json", text.p, text.len);
	if (r == 0 && fsync(l->dir) < 0)
		r = -errno;
	return r < 0 ? fail(l, r, "index.json", e) : 0;
}

/* What a new layout needs, and all blobs' names, before index.json. */
static int settle(struct layout_dst *l, struct err *e)
{
	int r = 0;

	if (faccessat(l->dir, "oci-layout", F_OK, 0) < 0)
		r = file_write(l, "oci-layout", LAYOUT_FILE,
			       strlen(LAYOUT_FILE));
	if (r == 0 && fsync(l->blobs) < 0)
		r = -errno;
	return r < 0 ? fail(l, r, "blobs", e) : 0;
}

/* Changes index.json by a function, while nobody else does. */
static int index_change(struct layout_dst *l,
			int (*change)(struct json_object *index,
				      const void *arg, struct err *e),
			const void *arg, struct err *e)
{
	CLEANUP_DOC struct json_object *index = NULL;
	int r = settle(l, e);

	if (r < 0)
		return r;
	r = lock(l->dir, LOCK_EX);
	if (r < 0)
		return fail(l, r, "lock", e);
	r = index_read(l, &index, e);
	if (r == 0)
		r = change(index, arg, e);
	if (r == 0)
		r = index_write(l, index, e);
	(void)flock(l->dir, LOCK_UN);
	return r;
}

struct put {
	const struct image_desc *root;
	const char *tag;
};

static int change_put(struct json_object *index, const void *arg, struct err *e)
{
	const struct put *p = arg;
	int r = layout_index_put(index, p->root, p->tag);

	return r < 0 ? err_set(e, r, "index.json: %s", err_name(r)) : 0;
}

static int dst_commit(struct image_dst *d, const struct image_desc *root,
		      const void *doc, struct err *e)
{
	struct layout_dst *l = dst_of(d);
	const struct put p = {.root = root, .tag = d->name.tag};
	int r = dst_document(d, root, doc, e);

	return r == 0 ? index_change(l, change_put, &p, e) : r;
}

struct refer {
	const struct image_desc *m;
	const char *doc;
	const struct image_desc *subject;
	const char *type;
};

static int change_refer(struct json_object *index, const void *arg,
			struct err *e)
{
	const struct refer *f = arg;

	return layout_index_refer(index, f->m, f->doc, f->subject, f->type, e);
}

static int dst_refer(struct image_dst *d, const struct image_desc *subject,
		     const char *artifact_type, const struct image_desc *m,
		     const void *doc, struct err *e)
{
	const struct refer f = {
		.m = m, .doc = doc, .subject = subject, .type = artifact_type};
	int r = dst_document(d, m, doc, e);

	return r == 0 ? index_change(dst_of(d), change_refer, &f, e) : r;
}

static int dst_keep(struct image_dst *d, struct err *e)
{
	return settle(dst_of(d), e);
}

static void index_stat(const struct layout_dst *l, struct stat *ret)
{
	if (fstatat(l->dir, "index.json", ret, 0) < 0)
		*ret = (struct stat){0};
}

/* Takes away what was written for nothing, unless others write here, or have
 * meanwhile: they may have found our blobs, and use them. */
static void undo(struct layout_dst *l)
{
	char path[LAYOUT_BLOB_BYTES];
	struct stat now;

	if (flock(l->blobs, LOCK_EX | LOCK_NB) < 0)
		return;
	index_stat(l, &now);
	if (now.st_ino != l->index.st_ino ||
	    now.st_mtim.tv_sec != l->index.st_mtim.tv_sec ||
	    now.st_mtim.tv_nsec != l->index.st_mtim.tv_nsec)
		return;
	for (size_t i = 0; i < l->n_written; i++)
		(void)unlinkat(l->dir, layout_blob_path(&l->written[i], path),
			       0);
	if (!l->made_dir)
		return;
	/* All of these fail where something is left in it. */
	(void)unlinkat(l->dir, LAYOUT_BLOBS, AT_REMOVEDIR);
	(void)unlinkat(l->dir, "blobs", AT_REMOVEDIR);
	if (now.st_ino == 0)
		(void)unlinkat(l->dir, "oci-layout", 0);
	(void)rmdir(l->path);
}

static void dst_close(struct image_dst *d)
{
	struct layout_dst *l = dst_of(d);

	if (!d->committed && l->blobs >= 0)
		undo(l);
	else if (!d->committed && l->made_dir)
		(void)rmdir(l->path);
	if (l->blobs >= 0)
		(void)close(l->blobs);
	if (l->dir >= 0)
		(void)close(l->dir);
	free(l->written);
	free(l->path);
	free(l);
}

/* ---- opening ----------------------------------------------------------- */

/* Files that a killed one left behind. */
static void sweep(const struct layout_dst *l)
{
	int fd = openat(l->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	if (d == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	while ((de = readdir(d)) != NULL) {
		if (strncmp(de->d_name, TEMP_PREFIX, strlen(TEMP_PREFIX)) == 0)
			(void)unlinkat(l->dir, de->d_name, 0);
	}
	(void)closedir(d);
}

/* Whether a directory is a layout, or may become one. */
static int usable(const struct layout_dst *l, struct err *e)
{
	bool layout = false, other = false;
	struct dirent *de;
	DIR *d = opendir(l->path);

	if (d == NULL)
		return err_set(e, -errno, "%s: %s", l->path, err_name(errno));
	/* One look: another may be making it a layout just now. */
	while ((de = readdir(d)) != NULL) {
		if (strcmp(de->d_name, "oci-layout") == 0 ||
		    strcmp(de->d_name, "index.json") == 0)
			layout = true;
		else if (de->d_name[0] != '.' &&
			 strcmp(de->d_name, "blobs") != 0)
			other = true;
	}
	(void)closedir(d);
	return other && !layout
		       ? err_set(e, -EEXIST, "%s: not empty, and no OCI layout",
				 l->path)
		       : 0;
}

/* Whether the path still leads to what was opened and locked. */
static bool still_there(const struct layout_dst *l)
{
	CLEANUP_FREE char *path = NULL;
	struct stat a, b;

	if (asprintf(&path, "%s/" LAYOUT_BLOBS, l->path) < 0) {
		path = NULL;
		return false;
	}
	return fstat(l->blobs, &a) == 0 && stat(path, &b) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int enter(struct layout_dst *l, struct err *e)
{
	int r;

	if (mkdir(l->path, 0755) == 0)
		l->made_dir = true;
	else if (errno != EEXIST)
		return err_set(e, -errno, "%s: %s", l->path, err_name(errno));
	l->dir = open(l->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->dir < 0)
		return err_set(e, -errno, "%s: %s", l->path, err_name(errno));
	r = usable(l, e);
	if (r < 0)
		return r;
	if ((mkdirat(l->dir, "blobs", 0755) < 0 && errno != EEXIST) ||
	    (mkdirat(l->dir, LAYOUT_BLOBS, 0755) < 0 && errno != EEXIST))
		return fail(l, -errno, LAYOUT_BLOBS, e);
	l->blobs = openat(l->dir, LAYOUT_BLOBS,
			  O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->blobs < 0)
		return fail(l, -errno, LAYOUT_BLOBS, e);
	if (flock(l->blobs, LOCK_EX | LOCK_NB) == 0)
		sweep(l);
	r = lock(l->blobs, LOCK_SH);
	if (r < 0)
		return fail(l, r, "lock", e);
	index_stat(l, &l->index);
	return 0;
}

static void leave(struct layout_dst *l)
{
	if (l->blobs >= 0)
		(void)close(l->blobs);
	if (l->dir >= 0)
		(void)close(l->dir);
	l->dir = l->blobs = -1;
}

/* Who failed may take the directory away that he made, while we enter it. */
static int enter_again(struct layout_dst *l, struct err *e)
{
	int r;

	for (int i = 0; i < ENTER_TRIES; i++) {
		r = enter(l, e);
		if (r == 0 && still_there(l))
			return 0;
		if (r < 0 && r != -ENOENT)
			return r;
		leave(l);
	}
	return r < 0 ? r : fail(l, -ETIMEDOUT, "it comes and goes", e);
}

int layout_dst(const struct image_name *n, struct image_dst **ret,
	       struct err *e)
{
	static const struct image_dst_ops ops = {
		.has = dst_has,
		.put = dst_put,
		.document = dst_document,
		.commit = dst_commit,
		.refer = dst_refer,
		.keep = dst_keep,
		.close = dst_close,
	};
	struct layout_dst *l = calloc(1, sizeof(*l));
	int r;

	if (l == NULL)
		return err_no_memory(e);
	l->dst.ops = &ops;
	l->dir = l->blobs = -1;
	l->path = strdup(n->path);
	r = l->path != NULL ? 0 : err_no_memory(e);
	if (r == 0)
		r = enter_again(l, e);
	if (r < 0) {
		dst_close(&l->dst);
		return r;
	}
	*ret = &l->dst;
	return 0;
}
