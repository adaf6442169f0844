/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: backing files of a FUSE mount, as the monitor makes them for a worker, which
 * has no right to (FUSE_DEV_IOC_BACKING_OPEN takes CAP_SYS_ADMIN; Linux 6.9).
 *
 * They are opened on a mount of the same layer.erofs by the kernel's EROFS which has no
 * place, and is made when the first one is asked for, after a process of its own has
 * looked through the metadata (common/meta.h). A file is named by its
 * number there: nothing of the image is read here. The kernel numbers backing
 * files, for as long as the FUSE connection lives; the numbers are noted in the file
 * of fs/opens.h. A monitor's successor mounts again: what was opened before
 * stays.
 */
#ifndef FS_BACKING_H
#define FS_BACKING_H

#include "common/base.h"
#include "common/err.h"
#include "common/sup.h"
#include "fs/ctl.h"

struct state;
struct super;

/**
 * struct backing - of a monitor
 * @opens_fd:	file of fs/opens.h: the supervisor's lock, or nameless
 * @dir_fd:	root directory of the mount, -1 before there is one
 * @handle:	a handle of it; what its kind of handles looks like
 */
struct backing {
	int opens_fd;
	int dir_fd;
	struct {
		uint32_t bytes;
		int32_t type;
		uint32_t words[4];
	} handle;
};

/**
 * backing_begin() - the file of opens
 * @s:		NULL: there is none; else nobody else serves its session once this
 *		returns (super_lock())
 * @succeeds:	keeps what is in the file: the session is not new
 *
 * Return: 0, -errno with @e
 */
int backing_begin(struct backing *b, struct super *s,
		  const struct sup_session *session, bool succeeds,
		  struct err *e);

/**
 * backing_give() - do what a worker asks for, and answer
 * @want:	any numbers: what is no regular file of the layer is refused
 * @state:	the layer's directory
 * @fuse_fd:	the connection
 * @ctl:	socket to the worker
 */
void backing_give(struct backing *b, const struct ctl_back *want,
		  const struct state *state, int fuse_fd, int ctl);

/* What is opened next is looked for on a new mount, of an image that was looked
 * through anew. */
void backing_forget(struct backing *b);

/* In the worker, and at the end; the kernel keeps backing files that are open. */
void backing_done(struct backing *b);

#endif
