/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/lastrun.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/rd.h"

#define MAGIC "eszfirst"
#define FILE_VERSION 1u

enum {
	AT_VERSION = 8,
	AT_N = 12,
	AT_N_CHUNKS = 16,
	AT_TOC = 24,
	AT_DIGEST = 56,
};

/* Of all of it but the digest itself, which lies in the header. */
static void digest_of(struct sha256 *h, const uint8_t *p, size_t len,
		      struct digest *ret)
{
	sha256_start(h);
	sha256_add(h, p, AT_DIGEST);
	sha256_add(h, p + LASTRUN_HEADER_BYTES, len - LASTRUN_HEADER_BYTES);
	sha256_end(h, ret);
}

void lastrun_print(const struct lastrun *l, struct sha256 *h, uint8_t *ret)
{
	struct digest d;

	assert(l->n <= LASTRUN_CHUNKS_MAX);
	memset(ret, 0, LASTRUN_HEADER_BYTES);
	memcpy(ret, MAGIC, AT_VERSION);
	le32_store(ret + AT_VERSION, FILE_VERSION);
	le32_store(ret + AT_N, l->n);
	le64_store(ret + AT_N_CHUNKS, l->n_chunks);
	memcpy(ret + AT_TOC, l->toc.b, sizeof(l->toc.b));
	for (uint32_t i = 0; i < l->n; i++)
		le32_store(ret + LASTRUN_HEADER_BYTES + i * sizeof(uint32_t),
			   l->v[i]);
	digest_of(h, ret, LASTRUN_HEADER_BYTES + l->n * sizeof(uint32_t), &d);
	memcpy(ret + AT_DIGEST, d.b, sizeof(d.b));
}

int lastrun_parse(const uint8_t *p, size_t len, struct sha256 *h,
		  struct lastrun *ret)
{
	struct digest d;
	uint32_t n;

	if (len < LASTRUN_HEADER_BYTES || memcmp(p, MAGIC, AT_VERSION) != 0 ||
	    le32_load(p + AT_VERSION) != FILE_VERSION ||
	    le64_load(p + AT_N_CHUNKS) != ret->n_chunks ||
	    memcmp(p + AT_TOC, ret->toc.b, sizeof(ret->toc.b)) != 0)
		return -EBADMSG;
	n = le32_load(p + AT_N);
	if (n > LASTRUN_CHUNKS_MAX ||
	    n > (len - LASTRUN_HEADER_BYTES) / sizeof(uint32_t))
		return -EBADMSG;
	digest_of(h, p, LASTRUN_HEADER_BYTES + n * sizeof(uint32_t), &d);
	if (memcmp(p + AT_DIGEST, d.b, sizeof(d.b)) != 0)
		return -EBADMSG;
	for (uint32_t i = 0; i < n; i++) {
		ret->v[i] = le32_load(p + LASTRUN_HEADER_BYTES +
				      i * sizeof(uint32_t));
		if (ret->v[i] >= ret->n_chunks)
			return -EBADMSG;
	}
	ret->n = n;
	return 0;
}

/* ---- the files ---------------------------------------------------------- */

static char *dir_of(const char *root)
{
	char *path;

	return asprintf(&path, "%s/traces/sha256", root) < 0 ? NULL : path;
}

int lastrun_open(const char *root, const struct digest *toc)
{
	CLEANUP_FREE char *dir = dir_of(root);
	CLEANUP_CLOSE int dirfd = -EBADF;
	char hex[DIGEST_HEX_BYTES + 1];
	int fd, r;

	if (dir == NULL)
		return -ENOMEM;
	r = io_mkdir_p(dir, 0700);
	if (r < 0)
		return r;
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return -errno;
	fd = openat(dirfd, digest_hex(toc, hex),
		    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

struct entry {
	char *name;
	struct timespec at;
};

static int newest_first(const void *pa, const void *pb)
{
	const struct timespec *a = &((const struct entry *)pa)->at;
	const struct timespec *b = &((const struct entry *)pb)->at;

	if (a->tv_sec != b->tv_sec)
		return a->tv_sec > b->tv_sec ? -1 : 1;
	return a->tv_nsec == b->tv_nsec ? 0 : a->tv_nsec > b->tv_nsec ? -1 : 1;
}

/* Return: how many, in *@ret */
static size_t list(DIR *d, struct entry **ret)
{
	struct entry *v = NULL;
	struct dirent *de;
	size_t n = 0, cap = 0;

	while ((de = readdir(d)) != NULL) {
		struct stat st;

		if (de->d_name[0] == '.' ||
		    fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (n == cap) {
			size_t more = MAX(cap * 2, (size_t)64);
			struct entry *p = realloc(v, more * sizeof(*v));

			if (p == NULL)
				break;
			v = p;
			cap = more;
		}
		v[n] = (struct entry){strdup(de->d_name), st.st_mtim};
		if (v[n].name == NULL)
			break;
		n++;
	}
	*ret = v;
	return n;
}

void lastrun_trim(const char *root, size_t keep)
{
	CLEANUP_FREE char *dir = dir_of(root);
	CLEANUP_FREE struct entry *v = NULL;
	DIR *d = dir != NULL ? opendir(dir) : NULL;
	size_t n;

	if (d == NULL)
		return;
	n = list(d, &v);
	if (n > 1)
		qsort(v, n, sizeof(*v), newest_first);
	for (size_t i = 0; i < n; i++) {
		if (i >= keep)
			(void)unlinkat(dirfd(d), v[i].name, 0);
		free(v[i].name);
	}
	(void)closedir(d);
}
