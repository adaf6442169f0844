/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/ahead.h"

#include "fs/miss.h"
#include "fs/run.h"

#define BACKOFF_MIN_NS (2 * NSEC_PER_SEC)
#define BACKOFF_MAX_NS (300 * NSEC_PER_SEC)
#define WINDOW_MIN KIB(512)
#define NEAR_BYTES MIB(2)
#define JOIN_BYTES KIB(256)
/* While readers miss, the background goes on in small steps: they share the
 * link with it, and may need just what it has under way. */
#define DEMAND_RECENT_NS (500 * NSEC_PER_MSEC)
#define STEP_RUN_BYTES KIB(512)
#define STEP_BYTES MIB(1) /* outstanding */

/* ---- read-ahead, in the order of the blob ------------------------------ */

/* The cursor that [pos, …) continues, else the one to replace. */
static struct miss_cursor *cursor_for(struct miss *m, uint64_t pos,
				      bool *ret_continues)
{
	struct miss_cursor *oldest = &m->cursors[0];

	for (unsigned i = 0; i < MISS_CURSORS; i++) {
		struct miss_cursor *c = &m->cursors[i];

		if (c->used_ns != 0 && pos + NEAR_BYTES >= c->next &&
		    pos <= MAX(c->next, c->edge) + JOIN_BYTES) {
			*ret_continues = true;
			return c;
		}
		if (c->used_ns < oldest->used_ns)
			oldest = c;
	}
	*ret_continues = false;
	return oldest;
}

void ahead_read(struct miss *m, uint64_t first, uint64_t end, bool missed,
		uint64_t now_ns)
{
	struct miss_cursor *c;
	struct chunk a, z;
	uint64_t from, to, i, stop;
	bool continues;

	chunks_get(m->ch, first, &a);
	chunks_get(m->ch, end - 1, &z);
	c = cursor_for(m, a.blob_off, &continues);
	c->used_ns = now_ns;
	if (!continues) {
		c->next = z.blob_off + z.blob_len;
		c->edge = c->next;
		c->window = 0;
		return;
	}
	/* Many readers of one place are not a sequential one. */
	if (z.blob_off + z.blob_len <= c->next)
		return;
	c->next = z.blob_off + z.blob_len;
	if (missed)
		c->window =
			MIN(MAX(c->window * 2, WINDOW_MIN), MISS_AHEAD_BYTES);
	if (now_ns < m->no_space_until_ns)
		return;
	from = MAX(c->edge, c->next);
	to = MIN(c->next + c->window, m->ch->toc_off);
	if (to <= from || to - from < c->window / 4)
		return;
	i = chunks_find_blob(m->ch, from);
	stop = chunks_find_blob(m->ch, to);
	i = run_ensure(m, i, stop, PROTO_CLASS_PREFETCH, MISS_AHEAD_BYTES);
	c->edge = to;
	if (i < stop) {
		chunks_get(m->ch, i, &a);
		c->edge = a.blob_off;
	}
}

/* ---- prefetch and background ------------------------------------------- */

void ahead_pause(struct miss *m, uint64_t now_ns)
{
	/* What fails together counts once. */
	if (now_ns < m->pump_after_ns)
		return;
	m->pump_backoff_ns = MIN(MAX(m->pump_backoff_ns * 2, BACKOFF_MIN_NS),
				 BACKOFF_MAX_NS);
	m->pump_after_ns = now_ns + m->pump_backoff_ns;
	miss_want_tick(m);
}

/* Where the phase of the pump ends. */
static uint64_t pump_limit(const struct miss *m)
{
	if (m->pump_prefetch)
		return chunks_find_blob(m->ch, m->ch->prefetch_end);
	return m->nobackground ? 0 : m->ch->n;
}

/* A pass has come to its end; what is still missing gets another. */
static void pump_end(struct miss *m, uint64_t now_ns)
{
	if (m->pump_prefetch) {
		m->pump_prefetch = false;
		m->pump_next = 0;
		return;
	}
	if (m->nobackground || present_next_missing(m->pr, 0) >= m->ch->n) {
		m->pump_done = true;
		miss_want_tick(m);
		return;
	}
	if (m->runs != NULL)
		return; /* their ends come back here */
	m->pump_next = 0;
	ahead_pause(m, now_ns);
}

/* Where a run of the pump that starts with chunk @first ends at the latest. */
static uint64_t pump_run_limit(const struct miss *m, uint64_t first,
			       uint64_t limit)
{
	struct chunk c;

	chunks_get(m->ch, first, &c);
	return MIN(limit,
		   MAX(first + 1,
		       chunks_find_blob(m->ch, c.blob_off + STEP_RUN_BYTES)));
}

void ahead_pump(struct miss *m, uint64_t now_ns)
{
	bool small =
		!m->pump_prefetch && now_ns - m->demand_ns < DEMAND_RECENT_NS;

	while (!m->pump_done && m->link_up && now_ns >= m->pump_after_ns &&
	       now_ns >= m->no_space_until_ns &&
	       m->ahead_bytes < (small ? STEP_BYTES : MISS_BACKGROUND_BYTES)) {
		uint8_t class_ = m->pump_prefetch ? PROTO_CLASS_PREFETCH
						  : PROTO_CLASS_BACKGROUND;
		uint64_t limit = pump_limit(m);
		uint64_t i = present_next_missing(m->pr, m->pump_next);
		enum run_kind kind;
		struct run *r;
		uint64_t mf, mn;

		if (i >= limit) {
			bool was = m->pump_prefetch;

			pump_end(m, now_ns);
			if (was)
				continue;
			return;
		}
		r = run_covering(m, i);
		if (r != NULL) {
			m->pump_next = r->end;
			continue;
		}
		chunks_member(m->ch, i, &mf, &mn);
		if (small)
			limit = pump_run_limit(m, mf, limit);
		limit = run_extend(m, mf, limit, &kind);
		r = run_new(m, kind, class_, mf, limit, 0);
		if (r == NULL)
			return;
		m->pump_next = r->end;
	}
}
