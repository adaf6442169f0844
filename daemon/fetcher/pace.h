/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: how much may be under way from a host before what comes next has to
 * wait for it. Pure: no clock.
 *
 * What is asked for ahead of need fills the link, and no more than that:
 * a reader that comes now finds at most PACE_DELAY_NS of other people's bytes
 * in front of its own. The link's rate and its round trip are seen in what
 * arrives; more is asked for than they say, so that a link that is faster than
 * it seemed is found out.
 */
#ifndef FETCHER_PACE_H
#define FETCHER_PACE_H

#include "common/base.h"

#define PACE_DELAY_NS (30 * NSEC_PER_MSEC)
#define PACE_BYTES_MIN KIB(256)
#define PACE_BYTES_FIRST KIB(512) /* while nothing is known */

/**
 * struct pace - of one host
 * @in_flight:	bytes asked for that are not here
 * @bytes_per_s: as seen; 0: not yet
 * @rtt_ns:	from a request to the first byte, at its shortest; 0: not seen
 * @window_ns:	since when @window_bytes are counted; 0: they are not
 * @last_ns:	when the last of them came
 * @full:	the limit was reached meanwhile: what came is what the link brings
 */
struct pace {
	uint64_t in_flight;
	uint64_t bytes_per_s;
	uint64_t rtt_ns;
	uint64_t window_ns;
	uint64_t window_bytes;
	uint64_t last_ns;
	bool full;
};

/* @n bytes are asked for. */
void pace_ask(struct pace *p, uint64_t n, uint64_t now_ns);
/* The first of them came @ns later. */
void pace_first(struct pace *p, uint64_t ns);
/* @n have come, of which @asked had been counted by pace_ask(). */
void pace_data(struct pace *p, uint64_t n, uint64_t asked, uint64_t now_ns);
/* @n will not come. */
void pace_drop(struct pace *p, uint64_t n);

/* How many bytes should be under way at most. */
uint64_t pace_limit(const struct pace *p);
static inline bool pace_full(const struct pace *p)
{
	return p->in_flight >= pace_limit(p);
}

#endif
