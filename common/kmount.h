/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: mounting EROFS images by the kernel: file-backed (Linux 6.12), else
 * through a loop device; with no process of ours behind them.
 *
 * Needs CAP_SYS_ADMIN. The image was written by a process that parses what is
 * hostile, so callers have it looked through before (common/erofs_check.h),
 * by one that has parsed nothing.
 */
#ifndef COMMON_KMOUNT_H
#define COMMON_KMOUNT_H

#include "common/base.h"
#include "common/err.h"

enum kmount_kind {
	KMOUNT_NONE,   /* the kernel has no EROFS, or may not mount it */
	KMOUNT_LOOP,   /* through a loop device that ends with the mount */
	KMOUNT_FILE,   /* file-backed, pages cached twice */
	KMOUNT_DIRECT, /* file-backed, with directio: the first that is tried */
};

/**
 * kmount_detached() - a mount without a place: read-only, dev and suid as they are
 * @image:	path, without symbolic links; on overlayfs and tmpfs a loop device has it
 * @attr:	MOUNT_ATTR_… beside MOUNT_ATTR_RDONLY
 * @ret_kind:	how; may be NULL
 *
 * Every call makes a superblock of its own.
 * Return: a descriptor as of fsmount(2), close-on-exec; -ENOSYS where there is
 * no EROFS; -errno, with @e
 */
int kmount_detached(const char *image, unsigned attr,
		    enum kmount_kind *ret_kind, struct err *e);

/* One way alone, for tests; kmount_detached() tries one after the other. Return:
 * as it; -EOPNOTSUPP, -ENOTBLK where the kernel does not know that way */
int kmount_as(enum kmount_kind kind, const char *image, unsigned attr,
	      struct err *e);

/* The same at a place, an existing directory, above what may be there.
 * Return: 0, -errno with @e */
int kmount_at(const char *image, const char *target, unsigned attr,
	      enum kmount_kind *ret_kind, struct err *e);

/* For logs and status: "none", "loop", "file", "file, direct". */
const char *kmount_kind_str(enum kmount_kind kind);

#endif
