/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/pace.h"

#define WINDOW_NS (50 * NSEC_PER_MSEC)
#define IDLE_NS (5 * NSEC_PER_MSEC)

void pace_ask(struct pace *p, uint64_t n, uint64_t now_ns)
{
	if (p->in_flight == 0 && now_ns - p->last_ns > IDLE_NS)
		p->window_ns = 0;
	p->in_flight += n;
	p->full = p->full || pace_full(p);
}

void pace_first(struct pace *p, uint64_t ns)
{
	/* A longer one may have waited for others' bytes, or for the server:
	 * believed when it comes again and again. */
	if (p->rtt_ns == 0 || ns < p->rtt_ns)
		p->rtt_ns = MAX(ns, UINT64_C(1));
	else
		p->rtt_ns += (ns - p->rtt_ns) / 16;
}

void pace_data(struct pace *p, uint64_t n, uint64_t asked, uint64_t now_ns)
{
	uint64_t ns, rate;

	pace_drop(p, asked);
	p->last_ns = now_ns;
	p->window_bytes += n;
	ns = now_ns - p->window_ns;
	if (p->window_ns != 0 && ns < WINDOW_NS)
		return;
	if (p->window_ns != 0) {
		rate = (uint64_t)((double)p->window_bytes *
				  (double)NSEC_PER_SEC / (double)ns);
		if (rate > p->bytes_per_s)
			p->bytes_per_s = rate;
		else if (p->full)
			p->bytes_per_s -= (p->bytes_per_s - rate) / 8;
	}
	p->window_ns = now_ns;
	p->window_bytes = 0;
	p->full = pace_full(p);
}

void pace_drop(struct pace *p, uint64_t n)
{
	assert(n <= p->in_flight);
	p->in_flight -= n;
}

uint64_t pace_limit(const struct pace *p)
{
	uint64_t ns = p->rtt_ns + PACE_DELAY_NS;

	if (p->bytes_per_s == 0)
		return PACE_BYTES_FIRST;
	return MAX((uint64_t)((double)p->bytes_per_s * (double)ns /
			      (double)NSEC_PER_SEC),
		   PACE_BYTES_MIN);
}
