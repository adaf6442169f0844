/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/fetchd.h"

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
