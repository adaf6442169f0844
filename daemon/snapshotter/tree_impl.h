/* SPDX-License-Identifier: Apache-2.0 */
/* What tree.c, tree_layers.c and tree_named.c share, and nobody else. */
#ifndef SNAPSHOTTER_TREE_IMPL_H
#define SNAPSHOTTER_TREE_IMPL_H

#include <pthread.h>

#include "daemon/snapshotter/db.h"
#include "daemon/snapshotter/tree.h"

#define PAGE_ROWS 64u /* of a walk: read at once, under the lock */

enum tree_stmt {
	SNAP_FIND = DB_N_,
	SNAP_GET,
	SNAP_PAGE,
	SNAP_CHAIN,
	SNAP_CHILD,
	SNAP_INSERT,
	SNAP_COMMIT,
	SNAP_UPDATE,
	SNAP_DELETE,
	SNAP_HAS_ID,
	SNAP_LAST_ID,
	LAYER_FIND,
	LAYER_INSERT,
	LAYER_RENAME,
	LAYER_GET,
	LAYER_PAGE,
	LAYER_DELETE,
	LAYER_OLDEST,
	LAYER_HAS,
	NAMED_INSERT,
	NAMED_FORGET,
	NAMED_COUNT,
	CHAIN_FIND,
	CHAIN_INSERT,
	CHAIN_PAGE,
	CHAIN_DELETE,
	BOOT_GET,
	BOOT_CLEAR,
	BOOT_DELETE,
	BOOT_INSERT,
	STMTS
};

struct tree {
	pthread_mutex_t lock;
	/* guarded by lock, but for db_sync() */
	struct db db;
	int64_t next_id;
};

static inline struct tree *tree_lock(struct tree *t)
{
	(void)pthread_mutex_lock(&t->lock);
	return t;
}

static inline void tree_unlock(struct tree *const *t)
{
	(void)pthread_mutex_unlock(&(*t)->lock);
}

/* Up to the end of the scope; statements in it are done with before. */
#define LOCKED(t) \
	CLEANUP(tree_unlock) struct tree *locked_ UNUSED = tree_lock(t)

/* In a transaction, as tree_name(). */
int tree_name_locked(struct tree *t, int64_t id, const struct chain *chain,
		     struct err *e);
/* In a transaction: @id names nothing any more. */
int tree_forget_locked(struct tree *t, int64_t id, struct err *e);
/* What was named before the machine was booted is not there any more. */
int tree_boot(struct tree *t, struct err *e);

#endif
