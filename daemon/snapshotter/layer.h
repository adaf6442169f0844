/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: one lazy layer: its process, its session, its state (layers.h).
 *
 * The loop's thread hears of packets, deaths and deadlines, and makes all
 * changes of the state but two: who needs a layer that is LAYER_NONE claims it
 * by LAYER_STARTING, and starts it himself, because that takes milliseconds;
 * who sees that the mount of a LAYER_READY is not in its place says LAYER_LOST.
 * Others who need it wait for @changed.
 *
 * Locks: layers.rows, then layers.lock; inside that one nothing. Neither is held over
 * starting a process, a mount, a packet or a line in the log.
 */
#ifndef SNAPSHOTTER_LAYER_H
#define SNAPSHOTTER_LAYER_H

#include <pthread.h>
#include <sys/types.h>

#include "common/base.h"
#include "common/err.h"
#include "common/list.h"
#include "common/loop.h"
#include "daemon/snapshotter/evict.h"
#include "daemon/snapshotter/fetcher.h"
#include "daemon/snapshotter/layers.h"
#include "daemon/snapshotter/native.h"
#include "daemon/snapshotter/scope.h"
#include "daemon/snapshotter/spawn.h"
#include "daemon/snapshotter/supmsg.h"

#define LAYER_DEATHS_MAX 6u /* in LAYER_DEATHS_NS; then it is hopeless */
#define LAYER_DEATHS_NS (60 * NSEC_PER_SEC)
#define LAYER_HUNG_MAX 3u /* successors in a row, which are too slow for that */
#define LAYER_RETRY_NS (100 * NSEC_PER_MSEC)
#define LAYER_ANSWER_NS (10 * NSEC_PER_SEC) /* of a monitor that is ready */
#define LAYERS_RESTORED_AT_ONCE 8u

enum layer_state {
	LAYER_NONE,
	LAYER_STARTING,
	LAYER_READY,
	LAYER_SUCCEEDING,
	LAYER_LOST,
	LAYER_ENDING,
};

/**
 * struct layer - a row of the tree, as a mount
 * @holds:	who uses this struct; it is freed by the loop's thread when
 *		there is none, and @dropped
 * @dropped:	there is no row any more: the mount is to be ended
 * @row:	reference and repository change by layer_rename() alone
 * @restore:	to be mounted in the background
 * @fuse_named:	a reply may have named the FUSE mount
 * @review:	it is to be seen whether any still does
 * @expected_ns: one of @holds is expect.c's, until then; 0: none is
 * @due_ns:	when the state is given up; SUCCEEDING without a socket: when
 *		the next successor is started; 0: never
 * @e:		LAYER_NONE: why, where it was tried
 * @deaths_ns:	the last ones, in a ring
 */
struct layer {
	struct loop_io io; /* the monitor's socket, fd -1: none. First */
	struct list node;
	/* immutable */
	struct layers *ls;
	int64_t id;
	struct layer_row row;
	char *target;
	/* guarded by layers.lock */
	pthread_cond_t changed;
	enum layer_state state;
	unsigned holds;
	bool dropped;
	bool restore;
	bool fuse_named;
	bool review;
	uint64_t expected_ns;
	struct native native;
	bool has_trace;
	bool has_manifest;
	struct digest trace; /* of the image it was last asked for with */
	struct digest manifest;
	uint32_t tail;
	uint64_t due_ns;
	dev_t dev; /* of the mount */
	struct err e;
	/* the loop's thread; while STARTING without a socket, who starts it */
	struct child *child;
	int fuse_fd;
	struct sup_session session;
	uint64_t deaths_ns[LAYER_DEATHS_MAX];
	unsigned n_deaths;
	unsigned n_hung; /* successors since it was READY */
	unsigned n_scopes;
};

struct layers {
	/* immutable */
	const struct config *c;
	struct tree *t;
	struct loop *loop;
	char *root;   /* without symbolic links */
	char *mounts; /* ROOT/m */
	struct natives natives;
	bool opaque_user;
	struct fetcher *fetcher; /* NULL: no lazy layers */
	struct spawner spawner;
	/* Held over the rows of the tree and who holds them, so that a row does
	 * not go while somebody begins to use it. */
	pthread_mutex_t rows;
	pthread_mutex_t lock;
	struct list all; /* guarded by lock */
	/* the loop's thread */
	struct loop_io kick; /* an eventfd */
	struct loop_timer timer;
	struct list adopting;
	struct scope scope;
	struct evict evict;
};

static inline void layers_lock(struct layers *ls)
{
	(void)pthread_mutex_lock(&ls->lock);
}

static inline void layers_unlock(struct layers *ls)
{
	(void)pthread_mutex_unlock(&ls->lock);
}

/* Lets go of one that is held. Any thread, layers.lock not held */
void layer_release(struct layer *l);
/* Takes over the contents of @row. Context: layers.lock is held, or there is
 * only one thread. Return: NULL when out of memory */
struct layer *layer_new(struct layers *ls, struct layer_row *row);
/* Return: NULL where there is none, or only one that is dropped. Context: as
 * layer_new() */
struct layer *layer_find(struct layers *ls, int64_t id);
/* Lets go of its monitor. Context: the loop's thread, or it does not run */
void layer_free(struct layer *l);

/* Whether it is the caller's to start it: nobody has, or who has had to give up.
 * It is STARTING then. Context: as layer_start() */
bool layer_claim(struct layer *l);

/**
 * layer_start() - start an estargzfs for a layer
 *
 * The state is STARTING by the caller's doing. The outcome is a change of the
 * state.
 * Context: any thread, layers.lock not held
 */
void layer_start(struct layer *l);

/* Has it asked for by the names in @row from now on, where it was tried by others'
 * in vain. Context: layers.lock and layers.rows; no snapshot is of it.
 * Return: whether it is so */
bool layer_rename(struct layer *l, const struct layer_row *row);
/* Whether it is asked for of that repository. Context: any thread */
bool layer_is_of(struct layer *l, const char *repository);

/* What layer_start() does when it fails, for who finds out later. */
void layer_failed(struct layer *l, const struct err *e);

/* A monitor that was found has said READY: takes over its socket and what is in
 * @m. Context: the loop's thread, STARTING */
void layer_adopt(struct layer *l, int sock, struct supmsg *m);

/* The layer that labels describe, held; its row is made where there is none.
 * @ret: for layers_release(). Context: any thread. Return: 0, -errno with @e */
int layers_hold(struct layers *ls, const struct lazy *z, struct layer **ret,
		struct err *e);

/* Tells the fetcher of a layer, unless it is @here, and of those that will be
 * asked for next: of what is not mounted. Context: any thread */
void layers_warm(struct layers *ls, const struct lazy *z, bool here);

/* Whether a layer has been mounted before, and its index is here. */
bool layers_have_index(const struct layers *ls, const struct digest *toc,
		       bool opaque_user);

/* Does for all layers what is to be done now. Context: the loop's thread */
void layers_turn(struct layers *ls);
/* Has the loop's thread do that. Any thread */
void layers_kick(struct layers *ls);

/**
 * adopt_scan() - find the monitors of layers below ROOT/m
 *
 * Those are STARTING then. What no row knows gets a struct layer that is
 * dropped. Context: there is only one thread
 */
void adopt_scan(struct layers *ls);
/* Gives up those that do not answer.
 * Return: when to be called again, 0: never. Context: the loop's thread */
uint64_t adopt_turn(struct layers *ls);
void adopt_done(struct layers *ls);

#endif
