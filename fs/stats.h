/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: counters of one layer, in a page shared by the monitor and every
 * worker it starts, so that they survive a worker and are read without
 * asking it. Every field is atomic and relaxed: they are numbers for people.
 */
#ifndef FS_STATS_H
#define FS_STATS_H

#include <stdatomic.h>

#include "common/base.h"

struct chunks;
struct present;

/* Latency: 4 buckets an octave of microseconds, from 1 us to 2^32 us. */
#define STATS_BUCKETS 128u
#define STATS_ERROR_BYTES 200u

enum stats_state {
	STATS_STARTING = 0,
	STATS_LAZY,
	STATS_COMPLETE,
	STATS_N_,
};

/* Why files are opened as they are. */
enum stats_open_why {
	STATS_OPEN_CHOSEN = 0, /* by the option, or by the sizes of the files */
	STATS_OPEN_LIBFUSE,    /* libfuse has no passthrough */
	STATS_OPEN_KERNEL,     /* nor has the kernel */
	STATS_OPEN_REFUSED,    /* they have, but not for this cache */
	STATS_OPEN_N_,
};

struct stats {
	_Atomic uint32_t state;
	_Atomic uint32_t worker_pid;
	_Atomic uint32_t worker_deaths;
	_Atomic uint32_t fetcher_up;
	_Atomic uint64_t blob_size;
	_Atomic uint64_t blob_bytes_total; /* of all members */
	_Atomic uint64_t blob_bytes_have;  /* of members that are there */
	_Atomic uint64_t chunks_total;
	_Atomic uint64_t chunks_have;
	_Atomic uint64_t image_bytes;
	_Atomic uint64_t fetched_bytes; /* over the socket since the mount */
	_Atomic uint64_t fetch_requests;
	_Atomic uint64_t trace_ranges; /* that the image's trace names */
	_Atomic uint64_t trace_bytes;  /* prefetched because of that */
	_Atomic uint64_t refused;      /* read-ahead of the kernel: refuse.h */
	_Atomic uint32_t open_passthrough; /* as a truth value */
	_Atomic uint32_t open_why;         /* enum stats_open_why */
	_Atomic uint64_t opens;
	_Atomic uint64_t opens_passthrough;
	_Atomic uint64_t reads;
	_Atomic uint64_t read_bytes;
	_Atomic uint64_t demand_misses;
	_Atomic uint64_t waiting; /* reads that wait now, as of the last tick */
	_Atomic uint64_t demand_latency[STATS_BUCKETS];
	_Atomic uint64_t errors_eio;    /* reads answered with EIO */
	_Atomic uint64_t errors_verify; /* chunks with a wrong digest */
	_Atomic uint64_t errors_fetch;  /* fetches that failed */
	_Atomic uint64_t errors_disk;   /* cache writes that failed */
	_Atomic uint64_t interrupted;
	_Atomic uint64_t
		firsts_since; /* as of firsts_since(): for a successor */
	/* Last error, one line: written to the one that is not shown. */
	_Atomic uint32_t error_shown;
	char error[2][STATS_ERROR_BYTES];
};

static inline void stats_add(_Atomic uint64_t *c, uint64_t n)
{
	(void)atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static inline uint64_t stats_get(const _Atomic uint64_t *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

static inline void stats_set(_Atomic uint64_t *c, uint64_t v)
{
	atomic_store_explicit(c, v, memory_order_relaxed);
}

/* A page shared with children; NULL: no memory. */
struct stats *stats_new(void);
/* What there is of the layer, and what is here. */
void stats_count(struct stats *s, const struct chunks *ch,
		 const struct present *pr);
/* Counts a demand miss that took @ns. */
void stats_latency(struct stats *s, uint64_t ns);
/* The quantile @q (0..1) in microseconds, the upper edge of its bucket; 0
 * where nothing was counted. */
uint64_t stats_quantile_us(const struct stats *s, double q);
void stats_error(struct stats *s, const char *text);
/* Copies the last error to @buf [@n]; empty where there is none. */
void stats_last_error(const struct stats *s, char *buf, size_t n);

#endif
