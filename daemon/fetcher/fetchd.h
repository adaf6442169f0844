/* SPDX-License-Identifier: Apache-2.0 */
/* The fetcher's one object, which owns everything; loop thread only. */
#ifndef FETCHER_FETCHD_H
#define FETCHER_FETCHD_H

#include "common/base.h"
#include "common/digest.h"
#include "common/list.h"
#include "common/loop.h"
#include "common/proto.h"
#include "daemon/fetcher/conf.h"
#include "daemon/fetcher/sched.h"
#include "daemon/registry/hosts.h"
#include "daemon/registry/registry.h"

struct server;
struct metrics;

#define STATS_CODES 8u

/* Counted since the start; shown by STATUS and the metrics. */
struct stats {
	uint64_t bytes[PROTO_CLASS_N_]; /* into arenas */
	uint64_t reads[PROTO_CLASS_N_];
	uint64_t requests[PROTO_CLASS_N_]; /* range requests sent */
	uint64_t wasted_bytes; /* received, and nobody wanted them */
	uint64_t local_bytes;  /* read from descriptors and spools */
	uint64_t retries;
	uint64_t protocol_errors;
	uint64_t warm_reads;  /* answered from memory, all or the end */
	uint64_t trace_reads; /* answered from what a trace had fetched */
	struct {
		int code; /* positive errno, 0: unused */
		uint64_t n;
	} failed[STATS_CODES];
};

/* What an origin is here: a server, and its place in the scheduler. */
struct source {
	struct origin origin; /* first */
	struct sched_host sh;
};

static inline struct sched_host *origin_sched(struct origin *o)
{
	return &((struct source *)(void *)o)->sh;
}

struct fetchd {
	struct config cfg;
	struct loop *loop;
	struct registry reg;
	struct server *server;
	struct metrics *metrics;
	struct sha256 *sha256;
	struct sched sched;
	struct list blobs;      /* blob.h: all of them */
	struct list idle_blobs; /* oldest first */
	unsigned n_idle_blobs;
	uint64_t spool_bytes;
	struct list warms; /* warm.h: oldest first */
	uint64_t warm_bytes;
	struct list plays; /* play.h: oldest first */
	uint64_t play_bytes;
	size_t n_play_parts;
	struct list refers;        /* refer.h: oldest first */
	struct list severals;      /* several.h */
	struct loop_task dispatch; /* asks the scheduler at the end of a turn */
	struct loop_timer dispatch_timer;
	struct stats stats;
	uint64_t started_ns;
};

/* Counts a failure; code: negative errno. */
void stats_failed(struct stats *s, int code);

#endif
