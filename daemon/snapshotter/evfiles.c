/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/evfiles.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "common/io.h"

#define TOC_DIGITS 12
#define SUFFIX ".jsonl"
#define NAME_BYTES 64u

/* What a directory has of ours. */
struct census {
	size_t n;
	char oldest
		[NAME_BYTES]; /* of those that may go; empty: there is none */
	struct timespec written;
};

/* Return: the layer that a name is of, -1 where it is not one of ours */
static int64_t layer_of(const char *name)
{
	size_t digits = strspn(name, "0123456789abcdef");
	char *end;
	long long id;

	if (digits != TOC_DIGITS || name[digits] != '-' ||
	    name[digits + 1] < '0' || name[digits + 1] > '9')
		return -1;
	errno = 0;
	id = strtoll(name + digits + 1, &end, 10);
	return errno == 0 && strcmp(end, SUFFIX) == 0 ? id : -1;
}

static bool is_older(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec
				      : a->tv_nsec < b->tv_nsec;
}

static void look(int dirfd, DIR *d, bool (*is_layer)(void *arg, int64_t id),
		 void *arg, struct census *ret)
{
	struct dirent *de;

	*ret = (struct census){0};
	rewinddir(d);
	while ((de = readdir(d)) != NULL) {
		int64_t id = layer_of(de->d_name);
		struct stat st;

		if (id < 0 || strlen(de->d_name) >= NAME_BYTES ||
		    fstatat(dirfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		ret->n++;
		if (is_layer(arg, id) ||
		    (ret->oldest[0] != '\0' &&
		     !is_older(&st.st_mtim, &ret->written)))
			continue;
		(void)snprintf(ret->oldest, sizeof(ret->oldest), "%s",
			       de->d_name);
		ret->written = st.st_mtim;
	}
}

/* Takes files away until there are fewer than @max. */
static int make_room(int dirfd, uint64_t max,
		     bool (*is_layer)(void *arg, int64_t id), void *arg)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct census c;
	int r = d != NULL ? 0 : -errno;

	while (r == 0) {
		look(dirfd, d, is_layer, arg, &c);
		if (c.n < max)
			break;
		if (c.oldest[0] == '\0')
			r = -ENOSPC;
		else if (unlinkat(dirfd, c.oldest, 0) < 0)
			r = -errno;
	}
	if (d != NULL)
		(void)closedir(d);
	else if (fd >= 0)
		(void)close(fd);
	return r;
}

int evfiles_make(const char *dir, uint64_t max_bytes, const struct digest *toc,
		 int64_t id, bool (*is_layer)(void *arg, int64_t id), void *arg,
		 struct buf *ret, struct err *e)
{
	CLEANUP_CLOSE int dirfd = -EBADF;
	CLEANUP_CLOSE int fd = -EBADF;
	char hex[DIGEST_HEX_BYTES + 1], name[NAME_BYTES];
	int r = io_mkdir_p(dir, 0700);

	(void)snprintf(name, sizeof(name), "%.*s-%" PRId64 SUFFIX, TOC_DIGITS,
		       digest_hex(toc, hex), id);
	if (r == 0) {
		dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		/* Layers start side by side. Given back by close(). */
		if (dirfd < 0 || flock(dirfd, LOCK_EX) < 0)
			r = -errno;
	}
	if (r == 0 && faccessat(dirfd, name, F_OK, 0) < 0)
		r = make_room(dirfd, max_bytes / EVFILES_EACH_BYTES, is_layer,
			      arg);
	if (r == -ENOSPC)
		return err_set(e, r,
			       "%s: as many layers as events_max_bytes has "
			       "room for have files there",
			       dir);
	if (r == 0) {
		fd = openat(dirfd, name,
			    O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK |
				    O_CLOEXEC,
			    0600);
		if (fd < 0)
			r = -errno;
	}
	if (r == 0)
		r = buf_addf(ret, "%s/%s", dir, name);
	return r < 0 ? err_set(e, r, "%s: %s", dir, err_name(r)) : 0;
}
