/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what containerd may ask of a snapshotter, on plain C types: tree +
 * stack + layers + the directories of ordinary snapshots. service.c puts it
 * on the wire. Any thread, any number at once; never under a lock of ours over a
 * mount, a directory walk or the network.
 */
#ifndef SNAPSHOTTER_SNAPSHOTS_H
#define SNAPSHOTTER_SNAPSHOTS_H

#include "common/base.h"
#include "common/err.h"
#include "daemon/snapshotter/chains.h"
#include "daemon/snapshotter/layers.h"
#include "daemon/snapshotter/stack.h"
#include "daemon/snapshotter/tree.h"

struct snapshots;

/**
 * snapshots_open() - also removes what a crash has left in ROOT/snapshots
 * @ls:	NULL: no lazy layers
 * @cs:	NULL: their metadata is not merged
 */
int snapshots_open(struct snapshots **ret, const struct stack *st,
		   struct tree *t, struct layers *ls, struct chains *cs,
		   struct err *e);
void snapshots_close(struct snapshots *s);

/**
 * snapshots_prepare() - a writable snapshot; or a lazy layer, committed at once
 * @kind:	SNAP_ACTIVE or SNAP_VIEW
 *
 * With LABEL_REF in the labels of an active one: -EEXIST and the text "target
 * snapshot …" where the snapshot of that name exists, or the layer could be
 * mounted lazily and now is that snapshot; else, with the reason in the log, as without.
 * Return: 0; -EEXIST, -ENOENT, -EINVAL as tree_create(); -EAGAIN an ancestor
 * is not available
 */
int snapshots_prepare(struct snapshots *s, enum snap_kind kind, const char *key,
		      const char *parent, const struct labels *labels,
		      struct stack_mount *ret, struct err *e);
int snapshots_mounts(struct snapshots *s, const char *key,
		     struct stack_mount *ret, struct err *e);
int snapshots_commit(struct snapshots *s, const char *key, const char *name,
		     const struct labels *labels, struct err *e);
int snapshots_remove(struct snapshots *s, const char *key, struct err *e);
int snapshots_stat(struct snapshots *s, const char *key, struct snap *ret,
		   struct err *e);
int snapshots_update(struct snapshots *s, const char *key,
		     const struct labels *labels, const char *const *paths,
		     size_t n_paths, struct snap *ret, struct err *e);
/* @filters: [@n] of containerd's grammar; a snapshot that any of them matches.
 * Return: 0, what @fn returned, -EINVAL a filter makes no sense */
int snapshots_list(struct snapshots *s, const char *const *filters, size_t n,
		   int (*fn)(void *arg, const struct snap *s), void *arg,
		   struct err *e);
int snapshots_usage(struct snapshots *s, const char *key, uint64_t *ret_bytes,
		    uint64_t *ret_inodes, struct err *e);
int snapshots_cleanup(struct snapshots *s, struct err *e);

#endif
