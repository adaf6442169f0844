/* SPDX-License-Identifier: Apache-2.0 */
/* Which rows a waterfall has: what waterfall.c and wfplan.c share. */
#ifndef CLI_WFPLAN_H
#define CLI_WFPLAN_H

#include "cli/waterfall.h"

/**
 * struct wfrow - a file, or the rest of a layer's
 * @file:	UINT32_MAX: those that have no row of their own, @files of them
 * @first_us:	when it was first touched, @last_us when last
 */
struct wfrow {
	uint32_t layer;
	uint32_t file;
	uint64_t first_us;
	uint64_t last_us;
	uint64_t wait_us;
	uint64_t reads;
	uint64_t waits;
	uint64_t files;
};

/**
 * struct wfgroup - a layer: rows[@row, @row + @n]
 */
struct wfgroup {
	uint32_t layer;
	uint32_t row;
	uint32_t n;
	uint64_t fetched;
};

/**
 * struct wfplan - where everything goes
 * @f:		and @px_per_us: waterfall.c's
 * @row_of:	[evlog.n_files] row of a file
 * @rows:	[@n_rows] grouped by layer
 * @group_of:	[evlog.n_layers] UINT32_MAX where a layer has none
 * @threshold_us: waits from that long on are titled
 */
struct wfplan {
	const struct waterfall *w;
	FILE *f;
	double px_per_us;
	uint32_t *row_of;
	struct wfrow *rows;
	uint32_t n_rows;
	struct wfgroup *groups;
	uint32_t *group_of;
	uint32_t n_groups;
	uint64_t threshold_us;
};

static inline const struct evlog_item *wfplan_item(const struct wfplan *p,
						   uint32_t i)
{
	return &p->w->log->items[p->w->stat->items[i]];
}

static inline uint64_t wfplan_start(const struct evlog_item *x)
{
	return x->end_us - x->us;
}

/* Return: 0, -ENOMEM */
int wfplan_make(struct wfplan *p, const struct waterfall *w);
void wfplan_done(struct wfplan *p);

#endif
