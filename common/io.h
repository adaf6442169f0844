/* SPDX-License-Identifier: Apache-2.0 */
/* Whole reads and writes, small files, sizes, time, passing descriptors. */
#ifndef COMMON_IO_H
#define COMMON_IO_H

#include "common/base.h"

struct buf;
struct err;

#define IO_FDS_MAX 253 /* SCM_MAX_FD of the kernel */

/* All return 0 or -errno; EINTR is retried. */
int io_write_all(int fd, const void *p, size_t n);
int io_pwrite_all(int fd, const void *p, size_t n, uint64_t off);
/* -EBADMSG where the file ends before n bytes. */
int io_pread_all(int fd, void *p, size_t n, uint64_t off);

/**
 * io_read_file() - append a small file to a buffer
 * @dirfd:	or AT_FDCWD
 *
 * Return: 0, -errno, -EOVERFLOW where the file is larger than @b may hold
 */
int io_read_file(int dirfd, const char *path, struct buf *b);

/**
 * io_open_regular() - open, to read, a file that others have made
 *
 * What is no file is not waited for, as a FIFO would be.
 * Return: descriptor, -EBADMSG (no regular file), -errno; @e has the cause alone
 */
int io_open_regular(int dirfd, const char *path, uint64_t *ret_size,
		    struct err *e);

/* As io_read_file(), of a file that others have made; @e has the cause alone. */
int io_read_regular(int dirfd, const char *path, struct buf *b, struct err *e);

/* Writes path.tmp and renames it over path; no sync. Return: 0 or -errno. */
int io_write_file(int dirfd, const char *path, const void *p, size_t n,
		  unsigned mode);

/* mkdir -p with the mode for each directory made. Return: 0 or -errno. */
int io_mkdir_p(const char *path, unsigned mode);

/* Puts /dev/null where descriptors 0 to 2 are closed: what is opened next would
 * get their numbers, and with them what is meant for standard error. Return: 0
 * or -errno. */
int io_std_fds(void);

/**
 * io_open_temp() - an unnamed file to write and read, which goes when it is
 * closed
 * @dir:	NULL: $TMPDIR, /var/tmp
 *
 * Return: descriptor, -errno; @e names the directory
 */
int io_open_temp(const char *dir, struct err *e);

/* A size as people write it: "4096", "64k", "16G", "16GiB": powers of 1024, in any
 * case of letters. Not "16GB", which may be another number. Return: 0, -EINVAL */
int io_parse_bytes(const char *s, uint64_t *ret);

/* CLOCK_MONOTONIC. */
uint64_t io_now_ns(void);

/* 16 bytes of /proc/sys/kernel/random/boot_id; random where there is none. */
void io_boot_id(uint8_t ret[16]);

/**
 * io_send_fds() - one message with descriptors over a Unix socket
 * @fds:	[@n_fds], borrowed, @n_fds <= IO_FDS_MAX
 *
 * MSG_NOSIGNAL; @flags may add MSG_DONTWAIT.
 * Return: 0 or -errno (-EAGAIN, -EPIPE, …)
 */
int io_send_fds(int sock, const void *p, size_t n, const int *fds, size_t n_fds,
		int flags);

/**
 * io_recv_fds() - one message with descriptors
 * @fds:	[@fds_cap] receives close-on-exec descriptors, owned by the
 *		caller; unused places are set to -1
 *
 * Return: bytes received, 0 at end of stream, -EMSGSIZE where it did not fit
 * (its descriptors are closed then), -errno
 */
ssize_t io_recv_fds(int sock, void *p, size_t n, int *fds, size_t fds_cap,
		    int flags);

#endif
