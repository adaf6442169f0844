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
 *
 * Where the lazy layers are, of three ways:
 *
 *   one a layer   ROOT/m/<layer>, estargzfs's mount; ROOT/e/<layer>, the
 *                 kernel's of a complete one (chain_link.native)
 *   merged        <ordinary>:…:ROOT/c/<chain>::ROOT/m/<layer>::…::ROOT/m/<layer>
 *                 the kernel's mount of what all of them come to, without data;
 *                 behind "::" what is only searched for the data of its files
 *
 * The last is not for what splits a lowerdir at ":" and takes the parts for
 * directories, as containerd does where it unpacks a layer.
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

/* mount(2) takes one page of options; of that containerd leaves as much for what
 * others add. Directories that share a beginning it can make shorter, but not those
 * with "::". */
#define STACK_OPTION_BYTES_MAX (4096u - 512u)

/**
 * stack_can_merge() - whether merged metadata is of use for a snapshot
 *
 * There is a lazy layer, no ordinary one lies below a lazy one, it is to be an
 * overlayfs, and its options fit in STACK_OPTION_BYTES_MAX. What @chain says of
 * it already does not matter.
 */
bool stack_can_merge(const struct stack *st, enum snap_kind kind,
		     const struct chain *chain);

/**
 * stack_mount() - the mount of a snapshot
 * @id:		its own
 * @chain:	its ancestors; merged only where stack_can_merge()
 *
 * Committed snapshots have no mount: -EINVAL.
 * Return: 0, -ENOMEM
 */
int stack_mount(const struct stack *st, enum snap_kind kind, int64_t id,
		const struct chain *chain, struct stack_mount *ret,
		struct err *e);

/* ROOT/snapshots/<id>, with "/fs" or "/work" behind it. Malloced, NULL when
 * out of memory. */
char *stack_snapshot_path(const struct stack *st, int64_t id, const char *tail);

#endif
