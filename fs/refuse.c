/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/refuse.h"

/* With the lock. Whether all that was refused of this mount is in @r: a worker
 * that was killed may have refused what its successor does not know of. What
 * failed otherwise is asked for again as well. */
static bool knows_all(const struct refusals *r, const struct stats *st)
{
	return r->n < REFUSALS && stats_get(&st->refused) == r->n &&
	       stats_get(&st->errors_eio) == 0;
}

bool refuse(struct refusals *r, struct stats *st, uint64_t off, uint64_t len)
{
	bool no;

	(void)pthread_mutex_lock(&r->lock);
	no = knows_all(r, st);
	for (unsigned i = 0; no && i < r->n; i++)
		no = off >= r->v[i].end || r->v[i].off >= off + len;
	if (no) {
		r->v[r->n].off = off;
		r->v[r->n++].end = off + len;
		stats_add(&st->refused, 1);
	}
	(void)pthread_mutex_unlock(&r->lock);
	return no;
}

bool refused_before(struct refusals *r, uint64_t off)
{
	bool before = false, within = false;

	(void)pthread_mutex_lock(&r->lock);
	for (unsigned i = 0; i < r->n; i++) {
		before = before || off == r->v[i].end;
		within = within || (off >= r->v[i].off && off < r->v[i].end);
	}
	(void)pthread_mutex_unlock(&r->lock);
	return before && !within;
}
