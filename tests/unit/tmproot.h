/* SPDX-License-Identifier: Apache-2.0 */
/* Taking away the directory of a test, with all that is in it. */
#ifndef TESTS_UNIT_TMPROOT_H
#define TESTS_UNIT_TMPROOT_H

#include <ftw.h>
#include <stdio.h>

#include "common/base.h"

static inline int tmproot_remove_one(const char *path,
				     const struct stat *st UNUSED,
				     int flag UNUSED, struct FTW *ftw UNUSED)
{
	return remove(path);
}

/* Return: as nftw(3) */
static inline int tmproot_remove(const char *dir)
{
	return nftw(dir, tmproot_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

#endif
