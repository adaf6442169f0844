/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: that an estargzd runs, and telling it of what will be mounted.
 *
 * It is found by connecting to its socket: systemd starts it then, or it has
 * outlived a snapshotter. Where nothing listens we make the socket, keep it, and
 * start an estargzd on it, and again when that one dies; so a mount that wants
 * to talk to it meanwhile waits in the socket's queue instead of failing.
 */
#ifndef SNAPSHOTTER_FETCHER_H
#define SNAPSHOTTER_FETCHER_H

#include "common/base.h"
#include "common/digest.h"
#include "common/loop.h"
#include "daemon/snapshotter/conf.h"
#include "daemon/snapshotter/labels.h"
#include "daemon/snapshotter/spawn.h"

struct fetcher;

/* @c, @s: borrowed. Connects, or starts one; that this failed is logged, and tried
 * again. Return: NULL when out of memory */
struct fetcher *fetcher_new(const struct config *c, struct spawner *s,
			    struct loop *loop);
/* estargzd goes on. */
void fetcher_free(struct fetcher *f);

/**
 * fetcher_warm() - tell it of blobs that will be mounted soon
 * @z:		of their image
 * @trace:	and of its trace, where it is known, or known where to look for it
 * @blobs:	[@n] of its repository, the first of them first
 *
 * A hint, once a while for each.
 * Context: any thread; blocks on the fetcher, not on the network
 */
void fetcher_warm(struct fetcher *f, const struct lazy *z, bool trace,
		  const struct lazy_blob *blobs, size_t n);

#endif
