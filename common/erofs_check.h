/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: whether an image is one that our writer makes, before the kernel
 * is given it.
 */
#ifndef COMMON_EROFS_CHECK_H
#define COMMON_EROFS_CHECK_H

#include "common/base.h"
#include "common/erofs.h"
#include "common/err.h"

/**
 * erofs_check() - look through all of an image's metadata
 * @im:		opened, by erofs_open_any() where it may be a chain's; its mapping ends
 *		with the metadata
 * @image_bytes: size of the file
 *
 * The superblock has no field or feature that our writer does not set; every directory is
 * reached once, from one parent, sorted, "." and ".." right, names without "/";
 * every inode that is reached has a known layout, ends within the metadata, and
 * its xattrs, inline tail and data lie within their bounds; orders to overlayfs among
 * the xattrs are those that our writers give; link counts are those of the tree.
 * Of a chain's image, as common/merge.h has it: 1 for directories that were merged, and for files not less than there
 * are names.
 * Return: 0; -EBADMSG with @e: what, and the nid; -ENOMEM
 */
int erofs_check(const struct erofs_image *im, uint64_t image_bytes,
		struct err *e);

#endif
