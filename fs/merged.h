/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: merged metadata of an image's layers (common/merge.h), mounted by the
 * kernel's EROFS: the top of an overlayfs that finds the data of the files in the
 * layers' FUSE mounts (common/datapath.h). Made anew for each mount, from the
 * layers' indexes, by processes that can do nothing else (common/meta.h); the file
 * has no name any more when this returns, and goes with the mount.
 */
#ifndef FS_MERGED_H
#define FS_MERGED_H

#include "common/base.h"
#include "common/err.h"
#include "fs/options.h"
#include "fs/source.h"

/* Whether it is worth trying: several layers, whose caches have names. */
bool merged_may(const struct source *s, const struct options *o);

/**
 * merged_mount() - the mount, without a place
 * @s:	all of it mounted, so that there are indexes
 *
 * Return: a descriptor (common/kmount.h); -errno with @e: the layers are to be
 * stacked as they are
 */
int merged_mount(const struct source *s, const struct options *o,
		 struct err *e);

#endif
