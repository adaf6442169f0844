/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the caches of layers below their quota, on a thread of its own that
 * comes when there is something to do. */
#ifndef SNAPSHOTTER_EVICT_H
#define SNAPSHOTTER_EVICT_H

#include <pthread.h>

#include "common/base.h"
#include "common/loop.h"

#define EVICT_INTERVAL_NS (10 * NSEC_PER_SEC)

struct evict {
	/* immutable */
	const char *root;
	uint64_t bytes_max;
	struct loop *loop;
	/* the loop's thread */
	struct loop_timer timer;
	uint64_t last_ns;
	bool has_thread; /* to be joined */
	pthread_t thread;
	_Atomic bool running; /* by the loop's, ended by the thread */
};

/* @bytes_max: 0: there is no quota */
void evict_init(struct evict *v, const char *root, uint64_t bytes_max,
		struct loop *loop);
/* Waits for what runs. */
void evict_done(struct evict *v);

/* Soon: what is in use has grown, or something is no longer in use.
 * Context: the loop's thread */
void evict_soon(struct evict *v);

#endif
