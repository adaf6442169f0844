/* SPDX-License-Identifier: Apache-2.0 */
/* An image's tree to run on: its layers, mounted so that each read is recorded,
 * and a writable directory above them. */
#ifndef CLI_RUNMOUNT_H
#define CLI_RUNMOUNT_H

#include "cli/rundir.h"
#include "common/base.h"
#include "common/err.h"

#define RUNMOUNT_ROOTFS "rootfs" /* in the directory */
#define RUNMOUNT_EVENTS "events"

/**
 * runmount() - mount an image below a directory
 * @source:	as mount.estargz has it
 * @plain_http:	its option
 *
 * rundir_unmount() takes it away. Return: 0, -errno
 */
int runmount(const struct rundir *d, const char *source, bool plain_http,
	     struct err *e);

#endif
