/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the directories of ordinary snapshots, ROOT/snapshots/<id>.
 *
 *   <id>/fs     the files; upper directory while it is active
 *   <id>/work   overlayfs's own, of active ones
 *
 * A directory is made before the row of its snapshot is written, and removed
 * once it is on the disk that the row is gone. So a row has its directory at every
 * moment; a directory without a row is rubbish, whole or not, because ids are
 * never used twice. The next start, or dirs_collect(), takes what a crash has left.
 * Removal is done by a thread that comes and goes: a large directory takes seconds.
 */
#ifndef SNAPSHOTTER_DIRS_H
#define SNAPSHOTTER_DIRS_H

#include <sys/types.h>

#include "common/base.h"
#include "common/err.h"
#include "daemon/snapshotter/tree.h"

struct dirs;

/**
 * dirs_open() - make ROOT/snapshots, and begin to remove what a crash has left
 *
 * Return: 0; -EOPNOTSUPP the file system cannot hold the upper directory of an
 * overlayfs; -errno, all with @e
 */
int dirs_open(struct dirs **ret, const char *root, struct tree *t,
	      struct err *e);
/* Waits for the directory that is being removed, not for the others. */
void dirs_close(struct dirs *d);

/**
 * dirs_begin() - a snapshot is being made
 *
 * Up to dirs_end(), after the row is written, or is not, dirs_collect() waits.
 * In between: nothing that takes long.
 */
void dirs_begin(struct dirs *d);
void dirs_end(struct dirs *d);

/* @owner, @group: of fs. Return: 0, -errno with @e; nothing is left then */
int dirs_make(struct dirs *d, int64_t id, bool work, uid_t owner, gid_t group,
	      struct err *e);
/* Whether all of it is there. */
bool dirs_has(struct dirs *d, int64_t id, bool work);
/* Makes what is missing. */
int dirs_mend(struct dirs *d, int64_t id, bool work, uid_t owner, gid_t group,
	      struct err *e);
/* The row is gone, or was never written. */
void dirs_drop(struct dirs *d, int64_t id);

/* The names are on the disk. Return: 0, -errno with @e */
int dirs_sync(struct dirs *d, struct err *e);

/* Removes what no snapshot needs, and waits for it. Return: 0, -errno with @e */
int dirs_collect(struct dirs *d, struct err *e);

#endif
