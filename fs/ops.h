/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the FUSE operations of one layer. All of them but READ are answered at
 * once, from the mapped EROFS metadata; a READ of chunks that are there is
 * answered on the thread that took it, else it becomes a waiter.
 *
 * Inode numbers are EROFS nids, but for the root, whose FUSE number is 1, and
 * the directory of fs/datadir.h.
 */
#ifndef FS_OPS_H
#define FS_OPS_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include "common/base.h"
#include "common/chunks.h"
#include "common/erofs.h"
#include "common/present.h"
#include "fs/cache.h"
#include "fs/datadir.h"
#include "fs/firsts.h"
#include "fs/miss.h"
#include "fs/passthru.h"
#include "fs/refuse.h"
#include "fs/stats.h"

/**
 * struct fs - what the operations work on
 * @noreadahead: the kernel is to ask for the pages that are touched, no more
 * @lane_key:	thread-specific: the FUSE thread's struct lane
 */
struct fs {
	struct erofs_image im;
	struct chunks ch;
	struct present pr;
	struct miss *miss;
	struct stats *st;
	struct events *events; /* or NULL */
	struct refusals refusals;
	struct firsts firsts;
	struct datadir data;
	struct passthru passthru;
	pthread_key_t lane_key;
	bool has_xattrs;
	bool noreadahead;
};

extern const struct fuse_lowlevel_ops fs_ops;

/* For struct miss_ops: answer a waiter's read. */
void fs_read_ready(void *arg, struct lane *lane, struct waiter *w);
void fs_read_failed(void *arg, struct waiter *w);

#endif
