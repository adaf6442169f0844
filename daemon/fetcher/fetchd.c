/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/fetchd.h"

#include "common/io.h"

uint32_t fetchd_random(void)
{
	static uint64_t state;

	/* splitmix64 */
	if (state == 0)
		state = io_now_ns() ^ ((uint64_t)getpid() << 32);
	state += UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)((state ^ (state >> 30)) *
				  UINT64_C(0xbf58476d1ce4e5b9) >>
			  32);
}

void stats_failed(struct stats *s, int code)
{
	for (size_t i = 0; i < STATS_CODES; i++) {
		bool last = i + 1 == STATS_CODES;

		if (s->failed[i].code != -code && s->failed[i].code != 0 &&
		    !last)
			continue;
		s->failed[i].code = -code;
		s->failed[i].n++;
		return;
	}
}
