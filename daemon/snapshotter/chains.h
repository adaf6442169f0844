/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: merged metadata of chains of lazy layers (common/merge.h): which is on the
 * disk, which is mounted.
 *
 * One a chain of layers, whatever images and snapshots have it, mounted by the kernel
 * on ROOT/c/<id>, from a file that is kept for the next time (chainfile.h).
 * State:
 *
 *   NONE ── chains_need(), chains_begin() ──► BUSY ──► READY ── chains_collect() ──► BUSY ──► NONE
 *     ▲                                        │                 no reply names it
 *     └──────── it could not be made ──────────┘
 *
 * BUSY: somebody makes (chainmake.h) or takes away; who needs it waits, for a while.
 * Where it cannot be made, the reason is in the log, and the chain is stacked layer by
 * layer; it is tried again after CHAINS_RETRY_NS.
 *
 * A mount stays as long as a reply names it (tree_named()); one that was made in
 * advance, until the first that named it is gone. A file goes when a layer of it
 * has no snapshot any more.
 *
 * Lock: chains.lock, over one statement of the tree; never over a mount, the
 * disk or a process.
 */
#ifndef SNAPSHOTTER_CHAINS_H
#define SNAPSHOTTER_CHAINS_H

#include "common/base.h"
#include "common/err.h"
#include "daemon/snapshotter/conf.h"
#include "daemon/snapshotter/stack.h"
#include "daemon/snapshotter/tree.h"

#define CHAINS_AT_ONCE 4u /* are made */
#define CHAINS_WAIT_S 20u /* then it goes without, for this time */
#define CHAINS_RETRY_NS (10 * NSEC_PER_SEC)

struct chains;

/**
 * chains_open() - find what is there; find out whether the kernel can (probe.h)
 * @c, @st, @t:	borrowed
 *
 * What a reply has named and is still mounted stays so; other mounts below ROOT/c,
 * and files of chains that are not known, are removed.
 * Return: 0, -errno with @e
 */
int chains_open(struct chains **ret, const struct config *c,
		const struct stack *st, struct tree *t, struct err *e);
/* Waits for what is being made. The mounts stay. */
void chains_close(struct chains *cs);
/* Return: 0 nothing is being made; -ETIMEDOUT */
int chains_wait(struct chains *cs, unsigned timeout_ms);

/* Whether the configuration and the kernel want any. */
bool chains_usable(const struct chains *cs);

/**
 * chains_need() - the merged metadata of a chain's lazy layers is mounted
 * @chain:	their indexes are there (layers_need()); its merged is set
 *
 * It stays until chains_named(), which is called once it is noted that a reply
 * names it, or where none will. Where this fails, it need not be.
 * Context: any thread but the loop's; waits for a process
 * Return: 0; -errno with @e: this time it has to go without
 */
int chains_need(struct chains *cs, struct chain *chain, struct err *e);
void chains_named(struct chains *cs, const struct chain *chain);

/* Has it made in the background: containers will be made on this chain soon. */
void chains_begin(struct chains *cs, const struct chain *chain);

/* Unmounts what no reply names any more; @layers: a layer may have gone, and what is made
 * of it goes too. Context: any thread but the loop's */
void chains_collect(struct chains *cs, bool layers);

#endif
