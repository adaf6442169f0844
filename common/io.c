/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/io.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#include "common/buf.h"
#include "common/err.h"

int io_write_all(int fd, const void *p, size_t n)
{
	const char *at = p;

	while (n > 0) {
		ssize_t r = write(fd, at, n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		at += r;
		n -= (size_t)r;
	}
	return 0;
}

int io_pwrite_all(int fd, const void *p, size_t n, uint64_t off)
{
	const char *at = p;

	while (n > 0) {
		ssize_t r = pwrite(fd, at, n, (off_t)off);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		at += r;
		off += (uint64_t)r;
		n -= (size_t)r;
	}
	return 0;
}

int io_pread_all(int fd, void *p, size_t n, uint64_t off)
{
	char *at = p;

	while (n > 0) {
		ssize_t r = pread(fd, at, n, (off_t)off);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			return -EBADMSG;
		at += r;
		off += (uint64_t)r;
		n -= (size_t)r;
	}
	return 0;
}

static int read_all(int fd, struct buf *b)
{
	for (;;) {
		char block[4096];
		ssize_t n = read(fd, block, sizeof(block));
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		r = buf_add(b, block, (size_t)n);
		if (r < 0)
			return r;
	}
}

int io_read_file(int dirfd, const char *path, struct buf *b)
{
	CLEANUP_CLOSE int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : read_all(fd, b);
}

int io_open_regular(int dirfd, const char *path, uint64_t *ret_size,
		    struct err *e)
{
	CLEANUP_CLOSE int fd = openat(
		dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, -errno, "%s", err_name(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EBADMSG, "no regular file");
	*ret_size = (uint64_t)st.st_size;
	return TAKE_FD(fd);
}

int io_read_regular(int dirfd, const char *path, struct buf *b, struct err *e)
{
	uint64_t size;
	CLEANUP_CLOSE int fd = io_open_regular(dirfd, path, &size, e);
	int r;

	if (fd < 0)
		return fd;
	r = read_all(fd, b);
	return r < 0 ? err_set(e, r, "%s", err_name(r)) : 0;
}

int io_write_file(int dirfd, const char *path, const void *p, size_t n,
		  unsigned mode)
{
	CLEANUP_FREE char *tmp = NULL;
	CLEANUP_CLOSE int fd = -EBADF;
	int r;

	if (asprintf(&tmp, "%s.tmp", path) < 0)
		return -ENOMEM;
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
		    (mode_t)mode);
	if (fd < 0)
		return -errno;
	r = io_write_all(fd, p, n);
	if (r == 0 && renameat(dirfd, tmp, dirfd, path) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dirfd, tmp, 0);
	return r;
}

int io_mkdir_p(const char *path, unsigned mode)
{
	CLEANUP_FREE char *p = strdup(path);

	if (p == NULL)
		return -ENOMEM;
	for (char *s = p + 1; *p != '\0'; s++) {
		char c = *s;

		if (c != '/' && c != '\0')
			continue;
		*s = '\0';
		if (mkdir(p, (mode_t)mode) < 0 && errno != EEXIST)
			return -errno;
		*s = c;
		if (c == '\0')
			break;
	}
	return 0;
}

int io_std_fds(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			return -errno;
	} while (fd <= STDERR_FILENO);
	(void)close(fd);
	return 0;
}

/* For file systems without O_TMPFILE. */
static int open_named(const char *dir, struct err *e)
{
	CLEANUP_FREE char *path = NULL;
	int fd;

	if (asprintf(&path, "%s/estargz.XXXXXX", dir) < 0) {
		path = NULL;
		return err_no_memory(e);
	}
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "%s: %s", path, err_name(errno));
	(void)unlink(path);
	return fd;
}

int io_open_temp(const char *dir, struct err *e)
{
	int fd;

	if (dir == NULL)
		dir = getenv("TMPDIR");
	if (dir == NULL || dir[0] == '\0')
		dir = "/var/tmp";
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	if (errno == EOPNOTSUPP || errno == EISDIR)
		return open_named(dir, e);
	return err_set(e, -errno, "%s: no temporary file there: %s", dir,
		       err_name(errno));
}

int io_parse_bytes(const char *s, uint64_t *ret)
{
	static const char units[] = "KMGT";
	const char *unit;
	unsigned long long n;
	unsigned shift = 0;
	char *end;

	if (s[0] < '0' || s[0] > '9')
		return -EINVAL;
	errno = 0;
	n = strtoull(s, &end, 10);
	if (errno != 0)
		return -EINVAL;
	if (*end != '\0') {
		unit = strchr(units, toupper((unsigned char)*end));
		if (unit == NULL ||
		    (end[1] != '\0' && strcasecmp(end + 1, "iB") != 0))
			return -EINVAL;
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (n > UINT64_MAX >> shift)
		return -EINVAL;
	*ret = (uint64_t)n << shift;
	return 0;
}

void io_boot_id(uint8_t ret[16])
{
	CLEANUP_BUF struct buf b = BUF_INIT(64);
	size_t n = 0;

	/* Not known: as if the machine had been booted since. */
	if (getrandom(ret, 16, 0) != 16)
		memset(ret, 0, 16);
	if (io_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &b) < 0)
		return;
	for (size_t i = 0; i < b.len && n < 32; i++) {
		const char *hex = "0123456789abcdef";
		const char *at = strchr(hex, b.p[i]);

		if (at == NULL || b.p[i] == '\0')
			continue;
		ret[n / 2] = (uint8_t)(ret[n / 2] << 4 | (at - hex));
		n++;
	}
}

uint64_t io_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

int io_send_fds(int sock, const void *p, size_t n, const int *fds, size_t n_fds,
		int flags)
{
	union {
		char space[CMSG_SPACE(IO_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} ctl = {0};
	struct iovec iov = {.iov_len = n};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t r;

	assert(n_fds <= IO_FDS_MAX);
	memcpy(&iov.iov_base, &p, sizeof(p));
	if (n_fds > 0) {
		struct cmsghdr *c;

		msg.msg_control = &ctl;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	do {
		r = sendmsg(sock, &msg, flags | MSG_NOSIGNAL);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return (size_t)r == n ? 0 : -EMSGSIZE;
}

ssize_t io_recv_fds(int sock, void *p, size_t n, int *fds, size_t fds_cap,
		    int flags)
{
	union {
		char space[CMSG_SPACE(IO_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = {.iov_base = p, .iov_len = n};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &ctl,
		.msg_controllen = sizeof(ctl),
	};
	size_t got = 0;
	bool fits = true;
	ssize_t r;

	for (size_t i = 0; i < fds_cap; i++)
		fds[i] = -1;
	do {
		r = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL;
	     c = CMSG_NXTHDR(&msg, c)) {
		size_t k;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < k; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (got < fds_cap) {
				fds[got++] = fd;
			} else {
				(void)close(fd);
				fits = false;
			}
		}
	}
	if (fits && (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
		return r;
	for (size_t i = 0; i < got; i++) {
		(void)close(fds[i]);
		fds[i] = -1;
	}
	return -EMSGSIZE;
}
