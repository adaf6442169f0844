/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: a FUSE session on a descriptor that the monitor opened, mounted and
 * keeps. The INIT request was read by the monitor and is replayed to every
 * worker: the first one's reply is taken by the kernel, a successor's gets
 * ENOENT, which libfuse ignores. (Seen on Linux 6.18 with libfuse 3.14.)
 *
 * Threads: each FUSE thread blocks in read(2) on /dev/fuse, answers hits
 * itself, and ends when the session does. Where another process is to go on, it
 * ends when session_leave() was called and it has got SESSION_SIGNAL.
 */
#ifndef FS_SESSION_H
#define FS_SESSION_H

#include <signal.h>
#include <stdatomic.h>

#include "common/base.h"
#include "common/err.h"
#include "fs/ops.h"

/* Set by kernels that have FUSE_NOTIFY_RESEND in the number of a request on its
 * second way (Linux 6.9, fs/fuse/dev.c FUSE_UNIQUE_RESEND). */
#define SESSION_RESENT (UINT64_C(1) << 63)

/* Wakes a FUSE thread; blocked in all others. */
#define SESSION_SIGNAL SIGUSR1

struct session {
	struct fuse_session *se;
	struct fs *fs;
	int fuse_fd;
	bool fail_resent; /* answer what killed workers before with EIO */
	_Atomic bool leaving;
};

/* @fuse_fd: borrowed; @init: [@init_len] the raw INIT request. */
int session_init(struct session *s, struct fs *fs, int fuse_fd,
		 const void *init, size_t init_len, struct err *e);
void session_done(struct session *s);

/**
 * session_loop() - a FUSE thread's life
 *
 * Return: 0 when the file system was unmounted; -EINTR it is left to others;
 * -errno
 */
int session_loop(struct session *s, struct lane *lane);

/* No request is taken any more: the threads end, each as soon as it has answered what
 * it has and then gets a SESSION_SIGNAL. Any thread */
void session_leave(struct session *s);

#endif
