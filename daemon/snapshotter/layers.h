/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: lazy layers: which are mounted, who serves them, and that they go on
 * being served.
 *
 * One estargzfs a layer (struct layer_row), mounted on ROOT/m/<id>, shared by all
 * snapshots of it. State of a layer:
 *
 *   (none) ── layers_mount(), layers_need() ──► STARTING ──► READY ──► (none)
 *                                                  │           │  ▲   no snapshot
 *                                                  ▼           ▼  │   is left
 *                                               FAILED      SUCCEEDING
 *
 * STARTING: estargzfs is executed; whoever needs the layer waits. FAILED: for a
 * moment, so that a hundred callers get one cause; asked for again, it is tried
 * again. READY: we hold its supervisor socket (common/sup.h) and a duplicate of
 * /dev/fuse. SUCCEEDING: the monitor was killed; another is started on the same
 * session at once; six deaths in a minute or three successors in a row that are not
 * READY within the mount timeout, and the descriptor is closed instead,
 * because a session without a server puts processes into an unkillable wait.
 * A layer that lost its session (both we and the monitor were killed) is mounted anew; so
 * is one whose mount was taken away by somebody (LOST), while the monitor goes on for
 * those who hold on to it.
 *
 * A mount stays as long as a snapshot of its layer exists: a path that was named in a reply
 * is never taken away under its users.
 */
#ifndef SNAPSHOTTER_LAYERS_H
#define SNAPSHOTTER_LAYERS_H

#include "common/base.h"
#include "common/err.h"
#include "common/loop.h"
#include "daemon/snapshotter/conf.h"
#include "daemon/snapshotter/labels.h"
#include "daemon/snapshotter/tree.h"

struct layers;

/**
 * layers_open() - adopt what runs, in the background make what is missing
 * @c, @t, @loop: borrowed. The loop's thread watches the monitors.
 *
 * Monitors under ROOT/m that no snapshot needs are ended; dead mounts there are taken
 * away; layers with snapshots but without a mount are mounted, a few at
 * a time, from their local index. One that fails is logged and does not stop the
 * others. Does not wait for any of it.
 * Return: 0, -errno with @e
 */
int layers_open(struct layers **ret, const struct config *c, struct tree *t,
		struct loop *loop, struct err *e);
/* Lets go of the monitors; the mounts stay. */
void layers_close(struct layers *ls);

/**
 * layers_mount() - mount the layer that labels describe
 *
 * Tells the fetcher of the other layers of the image when it is asked for
 * the first of them. The layer is held until layers_release(), so that it
 * stays until the caller has made a snapshot of it.
 * Context: any thread but the loop's; waits for the network, at most the
 * configured mount_timeout, and a third more where another image's repository was
 * asked in vain.
 * Return: the layer's id (> 0); -ENODATA lazy = false; -errno: not to be had
 * lazily; with @e
 */
int64_t layers_mount(struct layers *ls, const struct lazy *z, struct err *e);
void layers_release(struct layers *ls, int64_t id);

/**
 * layers_need() - all lazy layers of a chain are mounted and served, or are now
 * @chain:	whose links it says are native
 * @all_fuse:	either all lazy layers are native, or the FUSE mounts of all are
 *		there and no link is native; else each is what it can be
 *
 * In parallel. And they are where they are said to be, and stay there until
 * layers_named(), which is called behind tree_create() or tree_name(), or where
 * nothing will be named. Where this fails, it need not be.
 * Context: as layers_mount()
 * Return: 0; -EAGAIN with @e: "layer sha256:… is not available: …"
 */
int layers_need(struct layers *ls, struct chain *chain, bool all_fuse,
		struct err *e);
void layers_named(struct layers *ls, const struct chain *chain);

/* A snapshot that replies were about is gone: what they have named may end. */
void layers_forgotten(struct layers *ls);

/* Whether all lazy layers of a chain are native now. Does not wait. Any thread */
bool layers_are_native(struct layers *ls, const struct chain *chain);

/* Ends what no snapshot needs, and what is over the quota of the cache. */
void layers_collect(struct layers *ls);

/* Bytes and inodes on disk now. Return: 0, -errno */
int layers_usage(struct layers *ls, int64_t id, uint64_t *ret_bytes,
		 uint64_t *ret_inodes);

#endif
