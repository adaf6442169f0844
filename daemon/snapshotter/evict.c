/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/evict.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "common/err.h"
#include "common/io.h"
#include "common/layerdir.h"
#define LOG_MOD "evict"
#include "common/log.h"

#define STACK_BYTES KIB(256)

static void on_removed(void *arg UNUSED, const char *name, uint64_t bytes)
{
	log_info("layer=%s bytes=%" PRIu64 " msg=\"cache removed: over the "
		 "quota\"",
		 name, bytes);
}

static void *run(void *arg)
{
	struct evict *v = arg;
	struct layerdir_evicted got = {0};
	struct err e = {0};

	if (layerdir_evict(v->root, v->bytes_max, false, on_removed, NULL, &got,
			   &e) < 0)
		log_warn("msg=\"caches cannot be removed: %s\"", e.text);
	/* Release: pairs with acquire in start(). */
	atomic_store_explicit(&v->running, false, memory_order_release);
	return NULL;
}

static void start(struct evict *v)
{
	pthread_attr_t attr;
	int r = pthread_attr_init(&attr);

	if (r != 0)
		return;
	if (v->has_thread)
		(void)pthread_join(v->thread, NULL);
	v->last_ns = loop_now(v->loop);
	(void)pthread_attr_setstacksize(&attr, STACK_BYTES);
	atomic_store_explicit(&v->running, true, memory_order_relaxed);
	r = pthread_create(&v->thread, &attr, run, v);
	(void)pthread_attr_destroy(&attr);
	v->has_thread = r == 0;
	if (r != 0) {
		atomic_store_explicit(&v->running, false, memory_order_relaxed);
		log_warn("msg=\"no thread to remove caches: %s\"", err_name(r));
	}
}

static void on_timer(struct loop_timer *t)
{
	struct evict *v = LIST_ENTRY(t, struct evict, timer);

	if (atomic_load_explicit(&v->running, memory_order_acquire))
		loop_timer_set(v->loop, t, loop_now(v->loop) + NSEC_PER_SEC);
	else
		start(v);
}

void evict_init(struct evict *v, const char *root, uint64_t bytes_max,
		struct loop *loop)
{
	*v = (struct evict){
		.root = root,
		.bytes_max = bytes_max,
		.loop = loop,
		.timer = {.fn = on_timer},
	};
}

void evict_done(struct evict *v)
{
	loop_timer_clear(&v->timer);
	if (v->has_thread)
		(void)pthread_join(v->thread, NULL);
	v->has_thread = false;
}

void evict_soon(struct evict *v)
{
	uint64_t now = loop_now(v->loop);

	if (v->bytes_max == 0)
		return;
	loop_timer_set(v->loop, &v->timer,
		       v->last_ns == 0
			       ? now
			       : MAX(now, v->last_ns + EVICT_INTERVAL_NS));
}
