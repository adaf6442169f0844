/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: how files are opened. One way is for the whole of a connection, and
 * fixed with INIT:
 *   noopen       OPEN is answered ENOSYS, once: no round trip ever after
 *   passthrough  a file all of which is here and durable is opened with a
 *                backing file, which the monitor makes (fs/backing.h): its reads and
 *                page faults do not come here. Another is opened to be read
 *                from here, and stays so until its last release.
 * An OPEN whose backing file the kernel has no number of yet waits for the
 * monitor, on a list; nothing else is waited for, no network. Where backing
 * files turn out to be impossible, OPEN is answered ENOSYS as soon as no file is
 * open with one (on Linux 6.18 those would get EIO).
 */
#ifndef FS_PASSTHRU_H
#define FS_PASSTHRU_H

#include <pthread.h>

#include "common/base.h"
#include "fs/ctl.h"
#include "fs/opens.h"
#include "fs/options.h"

struct fs;
struct fuse_conn_info;
struct fuse_file_info;
struct passthru_open;

/**
 * struct passthru - of a worker
 * @ctl:	socket to the monitor; borrowed
 * @opens:	detached (f is NULL) where INIT has not agreed on it
 * @on:		it has, and it has not turned out to be impossible
 */
struct passthru {
	int ctl;
	int opens_fd; /* borrowed */
	struct opens opens;
	_Atomic bool on;
	pthread_mutex_t lock;
	/* guarded by lock */
	struct passthru_open *waiting;
};

/**
 * passthru_init() - before INIT is answered
 * @opens_fd:	the file of fs/opens.h, borrowed
 *
 * The layer's index is open. What goes wrong means noopen.
 */
void passthru_init(struct fs *fs, int ctl, int opens_fd,
		   const struct options *o);

/* With INIT: asks for what it takes, and settles the mode. */
void passthru_agree(struct fs *fs, struct fuse_conn_info *conn);

/**
 * passthru_open() - answer OPEN of regular file @nid
 * @unique:	of the request, as it came
 * @off:	its data: [@off, @off + @len) of the image
 */
void passthru_open(struct fs *fs, void *req, uint64_t unique, uint64_t nid,
		   uint64_t off, uint64_t len);
void passthru_release(struct fs *fs, uint64_t fh);

/* The monitor's answer. */
void passthru_backed(struct fs *fs, const struct ctl_backed *m);

/* Answers all that wait. Context: the FUSE threads have ended */
void passthru_end(struct fs *fs);

/* Opens that wait too long are answered. Return: milliseconds until it is to be
 * called again, -1: when a message comes or an open has begun to wait */
int passthru_tick(struct fs *fs, uint64_t now_ns);

#endif
