/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: how snapshots become mounts. The only place that knows what a
 * lowerdir looks like; pure: it makes text of numbers.
 *
 *   kind       ancestors  mount
 *   active     0          bind  SNAP/fs  rw,rbind
 *   view       0          bind  SNAP/fs  ro,rbind
 *   view       1          bind  of that one  ro,rbind
 *   active     ≥ 1        overlay  workdir= upperdir= lowerdir=[…] [userxattr]
 *   view       ≥ 2        overlay  lowerdir=[…] [userxattr]
 * and the configured options behind them. The order is what containerd's users
 * have learned to expect. A layer that occurs twice is listed once, at its upper
 * place: that is equivalent, and one superblock twice is ELOOP. So it counts as
 * one ancestor too: an overlay without an upper directory needs two.
 */
#ifndef SNAPSHOTTER_STACK_H
#define SNAPSHOTTER_STACK_H

#include "common/base.h"
#include "common/err.h"
#include "daemon/snapshotter/tree.h"

/**
 * struct stack - what all stacks have in common
 * @root:	state directory, absolute, without ':' or ','
 * @options:	[@n_options] appended to every overlay; borrowed
 */
struct stack {
	const char *root;
	bool userxattr;
	const char *const *options;
	size_t n_options;
};

struct stack_mount {
	char *type;
	char *source;
	char **options; /* [@n_options] */
	size_t n_options;
};

#define CLEANUP_STACK_MOUNT CLEANUP(stack_mount_done)
void stack_mount_done(struct stack_mount *m);

/**
 * stack_mount() - the mount of a snapshot
 * @id:		its own
 * @chain:	its ancestors
 *
 * Committed snapshots have no mount: -EINVAL.
 * Return: 0, -ENOMEM
 */
int stack_mount(const struct stack *st, enum snap_kind kind, int64_t id,
		const struct chain *chain, struct stack_mount *ret,
		struct err *e);

/* ROOT/snapshots/<id>, with "/fs" or "/work" behind it; ROOT/m/<layer>.
 * Malloced, NULL when out of memory. */
char *stack_snapshot_path(const struct stack *st, int64_t id, const char *tail);
char *stack_layer_path(const struct stack *st, int64_t layer);

#endif
