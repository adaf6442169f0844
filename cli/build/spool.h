/* SPDX-License-Identifier: Apache-2.0 */
/* Files without a name: of the uncompressed layer, and of the TOC. */
#ifndef CLI_BUILD_SPOOL_H
#define CLI_BUILD_SPOOL_H

#include "common/base.h"
#include "common/err.h"

/**
 * spool_open() - a file that is gone when it is closed
 * @dir:	NULL: $TMPDIR, /var/tmp
 *
 * Return: descriptor, -errno
 */
int spool_open(const char *dir, struct err *e);

#endif
