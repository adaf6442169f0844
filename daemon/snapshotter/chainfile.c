/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/chainfile.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/limits.h"
#include "common/merge.h"

#define NEW_NAME CHAINFILE_NAME ".new"
#define MAGIC "ESZGCHN1"
#define OPAQUE_USER 1u
#define WINDOW_BYTES KIB(256)

/* The last block of the file. */
struct tail_le {
	char magic[8];
	uint32_t n;
	uint32_t flags;
	struct digest tocs[META_LAYERS_MAX];
	uint8_t zero[208];
	struct digest digest; /* of all before it */
};
static_assert(sizeof(struct tail_le) == CHAINFILE_TAIL_BYTES, "one block");
static_assert(offsetof(struct tail_le, digest) == 4064, "as documented");

int chainfile_key(const struct chainfile *c, struct digest *ret)
{
	return merge_key(c->tocs, c->n, c->opaque_user, ret);
}

/* Hashes [0, @bytes) of @from; writes them to @to, too, unless it is -1. */
static int pass(int from, int to, uint64_t bytes, struct sha256 *h)
{
	CLEANUP_FREE uint8_t *p = malloc(WINDOW_BYTES);
	int r = p != NULL ? 0 : -ENOMEM;

	for (uint64_t off = 0; off < bytes && r == 0; off += WINDOW_BYTES) {
		size_t n = (size_t)MIN(bytes - off, WINDOW_BYTES);

		r = io_pread_all(from, p, n, off);
		if (r == 0) {
			sha256_add(h, p, n);
			r = to >= 0 ? io_pwrite_all(to, p, n, off) : 0;
		}
	}
	return r;
}

static int write_all(int to, int image, const struct chainfile *c)
{
	struct sha256 *h CLEANUP(sha256_free_cleanup) = sha256_new();
	struct tail_le t = {
		.magic = MAGIC,
		.n = htole32((uint32_t)c->n),
		.flags = htole32(c->opaque_user ? OPAQUE_USER : 0),
	};
	struct stat st;
	int r;

	if (h == NULL)
		return -ENOMEM;
	if (fstat(image, &st) < 0)
		return -errno;
	if (st.st_size % CHAINFILE_TAIL_BYTES != 0 ||
	    st.st_size > (off_t)EROFS_META_BYTES_MAX)
		return -EBADMSG;
	memcpy(t.tocs, c->tocs, c->n * sizeof(*c->tocs));
	sha256_start(h);
	r = pass(image, to, (uint64_t)st.st_size, h);
	if (r < 0)
		return r;
	sha256_add(h, &t, offsetof(struct tail_le, digest));
	sha256_end(h, &t.digest);
	return io_pwrite_all(to, &t, sizeof(t), (uint64_t)st.st_size);
}

int chainfile_write(const char *dir, int image, const struct chainfile *c,
		    struct err *e)
{
	CLEANUP_CLOSE int dirfd = -EBADF;
	CLEANUP_CLOSE int fd = -EBADF;
	int r = io_mkdir_p(dir, 0700);

	assert(c->n <= META_LAYERS_MAX);
	if (r < 0)
		return err_set(e, r, "%s: %s", dir, err_name(r));
	dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dirfd >= 0)
		fd = openat(dirfd, NEW_NAME,
			    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW |
				    O_CLOEXEC,
			    0600);
	r = fd < 0 ? -errno : write_all(fd, image, c);
	if (r == 0 && renameat(dirfd, NEW_NAME, dirfd, CHAINFILE_NAME) < 0)
		r = -errno;
	if (r == 0)
		return 0;
	if (fd >= 0)
		(void)unlinkat(dirfd, NEW_NAME, 0);
	return err_set(e, r, "%s/" CHAINFILE_NAME ": %s", dir, err_name(r));
}

static int bad(const char *dir, const char *what, struct err *e)
{
	return err_set(e, -EBADMSG, "%s/" CHAINFILE_NAME ": %s", dir, what);
}

/* Return: the descriptor, -errno */
static int open_tail(const char *dir, struct tail_le *ret, uint64_t *ret_bytes,
		     struct err *e)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_CLOSE int fd = -EBADF;
	struct stat st;
	int r;

	if (asprintf(&path, "%s/" CHAINFILE_NAME, dir) < 0) {
		path = NULL;
		return err_no_memory(e);
	}
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;
	if (r < 0)
		return err_set(e, r, "%s: %s", path, err_name(r));
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(*ret) ||
	    st.st_size > (off_t)(EROFS_META_BYTES_MAX + sizeof(*ret)))
		return bad(dir, "is none", e);
	*ret_bytes = (uint64_t)st.st_size - sizeof(*ret);
	r = io_pread_all(fd, ret, sizeof(*ret), *ret_bytes);
	if (r < 0)
		return err_set(e, r, "%s: %s", path, err_name(r));
	return TAKE_FD(fd);
}

static int tail_parse(const struct tail_le *t, struct chainfile *ret)
{
	uint32_t n = le32toh(t->n), flags = le32toh(t->flags);

	if (memcmp(t->magic, MAGIC, sizeof(t->magic)) != 0 || n == 0 ||
	    n > META_LAYERS_MAX || (flags & ~OPAQUE_USER) != 0)
		return -EBADMSG;
	*ret = (struct chainfile){.n = n, .opaque_user = flags != 0};
	memcpy(ret->tocs, t->tocs, n * sizeof(*t->tocs));
	return 0;
}

/* Return: as open_tail() */
static int open_of(const char *dir, const struct digest *key,
		   struct chainfile *ret, struct tail_le *t,
		   uint64_t *ret_bytes, struct err *e)
{
	CLEANUP_CLOSE int fd = open_tail(dir, t, ret_bytes, e);
	struct digest got;
	int r;

	if (fd < 0)
		return fd;
	if (tail_parse(t, ret) < 0)
		return bad(dir, "is none of ours, or damaged", e);
	r = chainfile_key(ret, &got);
	if (r < 0)
		return err_no_memory(e);
	if (!digest_equal(&got, key))
		return bad(dir, "is of another chain", e);
	return TAKE_FD(fd);
}

int chainfile_read(const char *dir, const struct digest *key,
		   struct chainfile *ret, struct err *e)
{
	struct tail_le t;
	uint64_t bytes;
	int fd = open_of(dir, key, ret, &t, &bytes, e);

	if (fd < 0)
		return fd;
	(void)close(fd);
	return 0;
}

int chainfile_verify(const char *dir, const struct digest *key, struct err *e)
{
	struct sha256 *h CLEANUP(sha256_free_cleanup) = sha256_new();
	struct chainfile c;
	struct digest got;
	struct tail_le t;
	uint64_t bytes;
	CLEANUP_CLOSE int fd = open_of(dir, key, &c, &t, &bytes, e);
	int r;

	if (fd < 0)
		return fd;
	if (h == NULL)
		return err_no_memory(e);
	sha256_start(h);
	r = pass(fd, -1, bytes, h);
	if (r < 0)
		return err_set(e, r, "%s/" CHAINFILE_NAME ": %s", dir,
			       err_name(r));
	sha256_add(h, &t, offsetof(struct tail_le, digest));
	sha256_end(h, &got);
	return digest_equal(&got, &t.digest) ? 0 : bad(dir, "is damaged", e);
}
