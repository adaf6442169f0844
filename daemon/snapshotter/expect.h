/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: layers that will be asked for next. containerd asks for the layers of an
 * image one after the other; while the first waits for its table of contents,
 * those above it are mounted as well, as far as its labels say what their
 * tables of contents are. Nobody waits for that, and where it fails it is done
 * again, with all that follows, when the layer is asked for.
 *
 * A layer that was expected and is not asked for is let go after EXPECT_NS.
 */
#ifndef SNAPSHOTTER_EXPECT_H
#define SNAPSHOTTER_EXPECT_H

#include "common/base.h"

struct layer;
struct layers;
struct lazy;

#define EXPECT_AHEAD 3u /* layers: each is three processes that start */
#define EXPECT_NS (30 * NSEC_PER_SEC)

/* Starts the next ones of those that have no mount and no index here. @here:
 * the one that is asked for has, so that nobody was told of them.
 * Context: any thread; layers.lock not held */
void expect_others(struct layers *ls, const struct lazy *z, bool here);

/* One was asked for: who did holds it now. Context: as expect_others() */
void expect_met(struct layer *l);

/* Lets go of those that were not.
 * Return: when to be called again, 0: never. Context: the loop's thread */
uint64_t expect_turn(struct layers *ls);

#endif
