/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what a recorded run comes to. A *run* is a layer, or several that were
 * mounted at the same time; a file of events may have several. All times are
 * those of the events, but for struct runstat_window's.
 */
#ifndef CLI_RUNSTAT_H
#define CLI_RUNSTAT_H

#include "cli/evlog.h"
#include "common/base.h"
#include "common/err.h"

#define RUNSTAT_PAGE 4096u
#define RUNSTAT_NEVER INT64_MAX

/**
 * struct runstat_window - which part of which run
 * @run:	from 1; 0: the last
 * @from_us:	and @to_us: since the begin of the run, or below 0 before its
 *		end; RUNSTAT_NEVER: all of it
 * @idle_us:	it ends before no read came for so long; 0: not
 * @rtt_us:	a round trip: waits that are longer are counted; 0: none
 */
struct runstat_window {
	unsigned run;
	int64_t from_us;
	int64_t to_us;
	uint64_t idle_us;
	uint64_t rtt_us;
};

/**
 * struct runstat - of a window
 * @layers:	[evlog.n_layers] whether it is of the run
 * @run:	of @n_runs
 * @start_us:	when the run began, @wall_us since 1970, 0 where not known
 * @from_us:	and @to_us: the window
 * @items:	[@n_items] of the run, by their begin: numbers in the evlog
 * @waits:	[@n_waits] the same, reads of the window that waited or failed,
 *		longest first
 * @met:	reads that waited, by what they met
 * @demand_us:	how long those waited that met nothing
 * @blocked_us:	time in which at least one read waited
 * @quickest_us: of all fetches but the TOC's; 0: there is none
 * @pages:	of files that were read, or read ahead by the kernel
 * @chunk_bytes: chunks with any of that, @blob_bytes compressed
 */
struct runstat {
	bool *layers;
	unsigned run;
	unsigned n_runs;
	uint64_t start_us;
	uint64_t wall_us;
	uint64_t from_us;
	uint64_t to_us;
	uint32_t *items;
	uint32_t n_items;
	uint32_t *waits;
	uint32_t n_waits;
	uint64_t reads;
	uint64_t read_bytes;
	uint64_t by_how[EVLOG_HOW_N_];
	uint64_t met[EVLOG_CLASS_N_];
	uint64_t over_rtt;
	uint64_t wait_us;
	uint64_t demand_us;
	uint64_t longest_us;
	uint64_t blocked_us;
	uint64_t fetches[EVLOG_CLASS_N_];
	uint64_t fetched[EVLOG_CLASS_N_];
	uint64_t quickest_us;
	uint64_t files;
	uint64_t pages;
	uint64_t chunk_bytes;
	uint64_t blob_bytes;
};

/* Whether an item is counted in the window: a read that began in it, a fetch
 * that arrived in it. */
bool runstat_counts(const struct runstat *s, const struct evlog_item *x);

/* Return: 0, -ENOENT (no such run), -EINVAL (the window is empty), -ENOMEM */
int runstat_make(const struct evlog *l, const struct runstat_window *w,
		 struct runstat *ret, struct err *e);
void runstat_done(struct runstat *s);
#define CLEANUP_RUNSTAT CLEANUP(runstat_done)

/* All of them but the TOC. */
uint64_t runstat_fetched(const struct runstat *s);

#endif
