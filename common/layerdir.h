/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the caches of layers as a whole: how much they take, who needs them,
 * which go first. What is inside one is fs/state.h's business.
 *
 *   ROOT/layers/{sha256,unverified}/<hex>[.user]/   one layer's cache
 *   …/pin                                           a snapshot needs it
 *
 * A cache is in use while somebody holds a shared flock on its directory
 * (fs/state.h), or while it has a pin: an empty file that the snapshotter
 * keeps there as long as a snapshot of the layer exists, mounted or not; or
 * while anybody has layer.erofs open, as the kernel has that mounts it.
 * What is in use is never removed. The time of last use is the mtime of the
 * file "present", which every mount of the layer sets when it begins and ends.
 */
#ifndef COMMON_LAYERDIR_H
#define COMMON_LAYERDIR_H

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"

#define LAYERDIR_ROOT_DEFAULT "/var/lib/estargz"

/* ROOT/layers/sha256/<hex>[.user] (or unverified/), malloced; NULL when out of
 * memory. */
char *layerdir_path(const char *root, const struct digest *toc_digest,
		    bool opaque_user, bool unverified);

/**
 * layerdir_pin() - keep a layer's cache, or no longer
 *
 * To be set while the layer is mounted: its lock then keeps an eviction away
 * that has already looked. Makes the directory where it is not there.
 * Return: 0, -errno
 */
int layerdir_pin(const char *root, const struct digest *toc_digest,
		 bool opaque_user, bool on);

/* Takes away the pins of all layers but those for which keep() says true.
 * Return: 0, -errno */
int layerdir_unpin_others(const char *root,
			  bool (*keep)(void *arg,
				       const struct digest *toc_digest,
				       bool opaque_user),
			  void *arg);

/* What the cache of a layer takes on disk now: allocated bytes and inodes.
 * Return: 0, -ENOENT, -errno */
int layerdir_usage(const char *root, const struct digest *toc_digest,
		   bool opaque_user, uint64_t *ret_bytes, uint64_t *ret_inodes);

/* Removes ROOT/layers/tmp.<pid> of makers that were killed: nobody holds their
 * lock. What cannot be removed stays. */
void layerdir_sweep(const char *root);

/**
 * struct layerdir_evicted - what layerdir_evict() did
 * @bytes, @n:		removed
 * @bytes_left, @n_left: still there, of which
 * @bytes_used, @n_used: are in use
 */
struct layerdir_evicted {
	uint64_t bytes, bytes_left, bytes_used;
	size_t n, n_left, n_used;
};

/**
 * layerdir_evict() - remove unused caches until all take at most @bytes_max
 * @bytes_max:	allocated bytes of all layers under @root; 0: every unused one
 * @dry_run:	only count
 * @removed:	called for each removed one with its name and bytes; may be NULL
 *
 * Least recently used first. Also removes what killed processes left
 * (ROOT/layers/tmp.<pid>), and what is known of last runs (lastrun.h): all of it where
 * @bytes_max is 0, else only what is too much.
 * Safe beside mounts that begin meanwhile: see fs/state.c.
 * Return: 0, -errno with @e
 */
int layerdir_evict(const char *root, uint64_t bytes_max, bool dry_run,
		   void (*removed)(void *arg, const char *name, uint64_t bytes),
		   void *arg, struct layerdir_evicted *ret, struct err *e);

#endif
