/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the directory that all of a run lives in: mounts, cache, bundle, what
 * the runtime knows of its container. It is taken away whatever happens, with
 * all that lives on it:
 *
 *   - by rundir_close();
 *   - by its janitor, a process that does nothing but wait for the end of
 *     this one, where that was killed;
 *   - by the next rundir_open(), where both were: the directory has a lock that
 *     they hold.
 *
 *   $TMPDIR/estargz-optimize.XXXXXX/   (TMPDIR or /var/tmp)
 *     lock
 *     runtime     path of the runtime, where a container was, or is
 *     rt/         the runtime's --root
 *     config.json rootfs/ upper/ work/ lower/ state/ events image/
 */
#ifndef CLI_RUNDIR_H
#define CLI_RUNDIR_H

#include "common/base.h"
#include "common/err.h"

/**
 * struct rundir - a directory, its lock and its janitor
 * @path:	absolute, without what mount options cannot have
 * @id:		its last component: the container's name
 */
struct rundir {
	char *path;
	const char *id;
	int fd;
	/* private */
	int lock_fd;
	int janitor_fd; /* it ends when this does */
};

/* Takes away what was left over, makes a directory. To be called while there is
 * one thread. This process becomes the one that orphans of its own go to. */
int rundir_open(struct rundir *d, struct err *e);
/* Takes away everything, and waits for the processes that were started. */
void rundir_close(struct rundir *d);
#define CLEANUP_RUNDIR CLEANUP(rundir_close)

/* Takes away the container, and then all mounts; waits for who served them. */
void rundir_unmount(struct rundir *d);

#endif
