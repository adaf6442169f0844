/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/refuse.h"

bool refuse(struct refusals *r, uint64_t off, uint64_t len)
{
	bool again = false;

	(void)pthread_mutex_lock(&r->lock);
	for (unsigned i = 0; !again && i < MIN(r->n, REFUSALS); i++)
		again = off < r->v[i].end && r->v[i].off < off + len;
	if (!again) {
		r->v[r->n % REFUSALS].off = off;
		r->v[r->n % REFUSALS].end = off + len;
		/* The ring stays full. */
		r->n = r->n + 1 < 2 * REFUSALS ? r->n + 1 : REFUSALS;
	}
	(void)pthread_mutex_unlock(&r->lock);
	return !again;
}
