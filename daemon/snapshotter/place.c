/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/place.h"

#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define STACKED_MAX \
	8 /* mounts on one place, of snapshotters that were killed */

int place_clear(const char *target)
{
	for (int i = 0; i < STACKED_MAX; i++) {
		if (umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return errno == EINVAL || errno == ENOENT ? 0 : -errno;
	}
	return -EBUSY;
}

int place_make(const char *target, struct err *e)
{
	int r = place_clear(target);

	if (r == 0 && mkdir(target, 0700) < 0 && errno != EEXIST)
		r = -errno;
	return r < 0 ? err_set(e, r, "%s: %s", target, err_name(r)) : 0;
}

int place_mount(const char *image, const char *target,
		enum kmount_kind *ret_kind, dev_t *ret_dev, struct err *e)
{
	struct stat st;
	int r = place_make(target, e);

	if (r == 0)
		r = kmount_at(image, target, 0, ret_kind, e);
	if (r == 0 && stat(target, &st) < 0)
		r = err_set(e, -errno, "%s: %s", target, err_name(errno));
	if (r == 0)
		*ret_dev = st.st_dev;
	return r;
}
