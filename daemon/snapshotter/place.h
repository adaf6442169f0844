/* SPDX-License-Identifier: Apache-2.0 */
/* Mount points of ours: ROOT/m/<layer>, ROOT/e/<layer>, ROOT/c/<chain>. */
#ifndef SNAPSHOTTER_PLACE_H
#define SNAPSHOTTER_PLACE_H

#include <sys/types.h>

#include "common/base.h"
#include "common/err.h"
#include "common/kmount.h"

/* Takes away whatever is mounted there. Return: 0, -errno */
int place_clear(const char *target);

/* A directory with nothing mounted on it, made where it is not there.
 * Return: 0, -errno with @e */
int place_make(const char *target, struct err *e);

/**
 * place_mount() - the kernel mounts an image there, in the place of what is
 * @ret_kind:	may be NULL
 * @ret_dev:	st_dev of the mount
 *
 * Return: 0, as kmount_at() with @e
 */
int place_mount(const char *image, const char *target,
		enum kmount_kind *ret_kind, dev_t *ret_dev, struct err *e);

#endif
