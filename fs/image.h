/* SPDX-License-Identifier: Apache-2.0 */
/* Starting monitors: one for a layer, or one a layer with an overlayfs over
 * them for an image. */
#ifndef FS_IMAGE_H
#define FS_IMAGE_H

#include "common/base.h"
#include "common/err.h"
#include "fs/connect.h"
#include "fs/options.h"
#include "fs/source.h"

/**
 * image_mount() - mount @s at @target
 * @target:	absolute
 *
 * One layer: its FUSE mount is at @target. More: they are mounted in a
 * directory of ours, an overlayfs over them at @target, and the directory's
 * mounts are detached: the overlayfs holds them, so that a plain umount of
 * @target ends everything.
 *
 * In the background: returns when it is ready. In the foreground: when it is
 * unmounted.
 * Return: 0, -errno with @e and nothing left behind
 */
int image_mount(const struct source *s, const char *target,
		const struct options *o, struct connect *c, struct err *e);

#endif
