/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/image/tarout.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/io.h"

#define COPY_BYTES KIB(256)

/**
 * struct tarout - an archive that is written
 * @temp:	name until it is published, where it has one
 * @start:	bytes that were there when @a began
 * @lost:	what failed; nothing else is written after it
 */
struct tarout {
	char *path;
	char *temp;
	int fd;
	struct archive *a;
	uint64_t start;
	int lost;
};

static int fail(struct tarout *t, int code, struct err *e)
{
	t->lost = code;
	return err_set(e, code, "%s: %s", t->path, err_name(code));
}

/* libarchive has errno, or nothing that says more. */
static int fail_archive(struct tarout *t, struct err *e)
{
	int code = archive_errno(t->a);

	return fail(t, code > 0 ? -code : -EIO, e);
}

/* The directory of a path; NULL: no memory. */
static char *parent_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return strdup(".");
	return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* A name beside its place, which nobody else who lives uses. */
static int temp_name(struct tarout *t, struct err *e)
{
	if (asprintf(&t->temp, "%s.%d.new", t->path, (int)getpid()) < 0) {
		t->temp = NULL;
		return fail(t, -ENOMEM, e);
	}
	(void)unlink(t->temp);
	return 0;
}

/* Without a name, where the file system can, so that nothing of it is left
 * behind who is killed. */
static int temp_open(struct tarout *t, struct err *e)
{
	CLEANUP_FREE char *dir = parent_of(t->path);
	int r;

	if (dir == NULL)
		return fail(t, -ENOMEM, e);
	t->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
	if (t->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR)
		return fail(t, -errno, e);
	r = temp_name(t, e);
	if (r < 0)
		return r;
	t->fd = open(t->temp, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666);
	return t->fd < 0 ? fail(t, -errno, e) : 0;
}

/* Gives the file its name, in place of what has it. */
static int temp_rename(struct tarout *t, struct err *e)
{
	char unnamed[64];
	int r = t->temp == NULL ? temp_name(t, e) : 0;

	if (r < 0)
		return r;
	(void)snprintf(unnamed, sizeof(unnamed), "/proc/self/fd/%d", t->fd);
	/* EEXIST: it had the name all the time. */
	if (linkat(AT_FDCWD, unnamed, AT_FDCWD, t->temp, AT_SYMLINK_FOLLOW) <
		    0 &&
	    errno != EEXIST)
		return fail(t, -errno, e);
	if (rename(t->temp, t->path) < 0)
		return fail(t, -errno, e);
	free(TAKE_PTR(t->temp));
	return 0;
}

static int begin(struct tarout *t, struct err *e)
{
	t->a = archive_write_new();
	if (t->a == NULL)
		return fail(t, -ENOMEM, e);
	/* Not in blocks: what was written is in the file. */
	if (archive_write_set_format_pax_restricted(t->a) != ARCHIVE_OK ||
	    archive_write_set_bytes_per_block(t->a, 0) != ARCHIVE_OK ||
	    archive_write_open_fd(t->a, t->fd) != ARCHIVE_OK)
		return fail_archive(t, e);
	return 0;
}

int tarout_open(const char *path, struct tarout **ret, struct err *e)
{
	CLEANUP(tarout_close_cleanup)
	struct tarout *t = calloc(1, sizeof(*t));
	struct stat st;
	int r;

	if (t == NULL)
		return err_no_memory(e);
	t->fd = -1;
	t->path = strdup(path);
	if (t->path == NULL)
		return err_no_memory(e);
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return err_set(e, -EEXIST, "%s: there, and no regular file",
			       path);
	r = temp_open(t, e);
	if (r == 0)
		r = begin(t, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

void tarout_close(struct tarout *t)
{
	if (t == NULL)
		return;
	if (t->a != NULL)
		(void)archive_write_free(t->a);
	if (t->temp != NULL)
		(void)unlink(t->temp);
	if (t->fd >= 0)
		(void)close(t->fd);
	free(t->temp);
	free(t->path);
	free(t);
}

uint64_t tarout_at(const struct tarout *t)
{
	return t->start + (uint64_t)archive_filter_bytes(t->a, -1);
}

static int header(struct tarout *t, const char *name, uint64_t size,
		  struct err *e)
{
	struct archive_entry *ae = archive_entry_new();
	int r;

	if (t->lost < 0)
		return err_set(e, t->lost, "%s: an earlier error", t->path);
	if (ae == NULL)
		return fail(t, -ENOMEM, e);
	archive_entry_set_pathname(ae, name);
	archive_entry_set_filetype(ae, AE_IFREG);
	archive_entry_set_perm(ae, 0644);
	archive_entry_set_size(ae, (int64_t)size);
	archive_entry_set_mtime(ae, 0, 0);
	r = archive_write_header(t->a, ae);
	archive_entry_free(ae);
	return r == ARCHIVE_OK ? 0 : fail_archive(t, e);
}

static int data(struct tarout *t, const void *p, size_t n, struct err *e)
{
	return archive_write_data(t->a, p, n) == (la_ssize_t)n
		       ? 0
		       : fail_archive(t, e);
}

static int end(struct tarout *t, struct err *e)
{
	return archive_write_finish_entry(t->a) == ARCHIVE_OK
		       ? 0
		       : fail_archive(t, e);
}

int tarout_add(struct tarout *t, const char *name, const void *p, size_t n,
	       struct err *e)
{
	int r = header(t, name, n, e);

	if (r == 0)
		r = data(t, p, n, e);
	return r == 0 ? end(t, e) : r;
}

int tarout_add_blob(struct tarout *t, const char *name,
		    const struct image_desc *b, int fd,
		    void (*progress)(void *arg, uint64_t bytes), void *arg,
		    struct err *e)
{
	CLEANUP_FREE char *block = malloc(COPY_BYTES);
	CLEANUP(sha256_free_cleanup) struct sha256 *h = sha256_new();
	char digest[DIGEST_STR_BYTES];
	struct digest is;
	int r;

	if (block == NULL || h == NULL)
		return err_no_memory(e);
	sha256_start(h);
	r = header(t, name, b->size, e);
	for (uint64_t at = 0; r == 0 && at < b->size;) {
		size_t n = (size_t)MIN(b->size - at, (uint64_t)COPY_BYTES);

		r = io_pread_all(fd, block, n, at);
		if (r < 0)
			return fail(t, r, e);
		sha256_add(h, block, n);
		r = data(t, block, n, e);
		at += n;
		if (r == 0 && progress != NULL)
			progress(arg, at);
	}
	if (r == 0)
		r = end(t, e);
	if (r < 0)
		return r;
	sha256_end(h, &is);
	if (digest_equal(&is, &b->digest))
		return 0;
	t->lost = -EBADMSG;
	return err_set(e, -EBADMSG, "%s: not the bytes of %s", t->path,
		       digest_str(&b->digest, digest));
}

/* The directory of a path is synced, so that the name is on the disk. */
static int sync_parent(const char *path)
{
	CLEANUP_FREE char *dir = parent_of(path);
	CLEANUP_CLOSE int fd = -EBADF;

	if (dir == NULL)
		return -ENOMEM;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int tarout_publish(struct tarout *t, struct err *e)
{
	int r;

	if (t->lost < 0)
		return err_set(e, t->lost, "%s: an earlier error", t->path);
	r = archive_write_close(t->a);
	if (r != ARCHIVE_OK)
		return fail_archive(t, e);
	(void)archive_write_free(TAKE_PTR(t->a));
	if (fsync(t->fd) < 0)
		return fail(t, -errno, e);
	r = temp_rename(t, e);
	if (r < 0)
		return r;
	r = sync_parent(t->path);
	return r < 0 ? fail(t, r, e) : 0;
}

static int copy_head(int from, int to, uint64_t n)
{
	CLEANUP_FREE char *block = malloc(COPY_BYTES);
	int r = block != NULL ? 0 : -ENOMEM;

	for (uint64_t at = 0; r == 0 && at < n;) {
		size_t len = (size_t)MIN(n - at, (uint64_t)COPY_BYTES);

		r = io_pread_all(from, block, len, at);
		if (r == 0)
			r = io_write_all(to, block, len);
		at += len;
	}
	return r;
}

int tarout_again(struct tarout *t, uint64_t n, struct err *e)
{
	CLEANUP_CLOSE int old = TAKE_FD(t->fd);
	int r;

	assert(t->temp == NULL);
	assert(t->a == NULL);
	r = temp_open(t, e);
	if (r < 0)
		return r;
	r = copy_head(old, t->fd, n);
	if (r < 0)
		return fail(t, r, e);
	t->start = n;
	return begin(t, e);
}
