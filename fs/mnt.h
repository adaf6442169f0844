/* SPDX-License-Identifier: Apache-2.0 */
/* The FUSE mount of a layer, as its monitor holds it: all that it takes to serve
 * it, whoever does. */
#ifndef FS_MNT_H
#define FS_MNT_H

#include "common/base.h"
#include "common/err.h"
#include "common/sup.h"

/**
 * struct mnt - a mount and its session
 * @target:	where it is; borrowed
 * @fuse_fd:	owned, -1: none
 * @session:	INIT as the kernel sent it, and the device of the mount
 * @mounted:	it is at @target, for all we know
 */
struct mnt {
	const char *target;
	int fuse_fd;
	struct sup_session session;
	bool mounted;
};

/* Mounts at m->target, which nobody serves yet. Return: 0, -errno with @e; what it
 * has done until then is undone by mnt_detach() and mnt_close(). */
int mnt_make(struct mnt *m, const char *source, unsigned long flags,
	     struct err *e);
/* Read-ahead in the kernel: the larger, the fewer requests sequential reads
 * come in; 0: they come as they are needed. */
#define MNT_READ_AHEAD_KB 1024u
#define MNT_READ_AHEAD_START_KB 128u /* while it is not whole: refuse.h */
void mnt_set_read_ahead(const struct mnt *m, unsigned kb);

/**
 * mnt_resend() - have the kernel send again what a dead worker had taken
 *
 * Return: 0; -EIO: it cannot, and somebody waits who would wait for ever: the
 * connection must be given up
 */
int mnt_resend(const struct mnt *m);

/* Takes our mount away, if it is still ours that is there. */
void mnt_detach(struct mnt *m);
void mnt_close(struct mnt *m);

#endif
