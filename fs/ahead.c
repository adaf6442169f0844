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
/* In small runs, because a reader who needs a part of one waits for all of it.
 * While readers miss, the background has only few of them. */
#define PUMP_RUN_BYTES KIB(512)
#define DEMAND_RECENT_NS (500 * NSEC_PER_MSEC)
#define STEP_BYTES MIB(1) /* outstanding */
/* A file that what starts reads here and there: an archive, a model. */
#define LARGE_FILE_BYTES MIB(64)
#define LARGE_CHUNK_BYTES_MIN KIB(64)

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

/* Whether @c looks like the next chunk of the file that @a is of. */
static bool chunk_continues(const struct chunk *a, const struct chunk *c)
{
	return a->len >= LARGE_CHUNK_BYTES_MIN && c->len <= a->len &&
	       a->image_off + a->len == c->image_off;
}

/* Whether chunk @i is of a large file, and not its first. */
static bool inside_large(const struct miss *m, uint64_t i)
{
	uint64_t bytes, k;
	struct chunk c, next;

	chunks_get(m->ch, i, &c);
	bytes = c.len;
	next = c;
	for (k = i; k > 0 && bytes < LARGE_FILE_BYTES; k--) {
		struct chunk a;

		chunks_get(m->ch, k - 1, &a);
		if (!chunk_continues(&a, &next))
			break;
		bytes += a.len;
		next = a;
	}
	if (k == i)
		return false;
	while (++i < m->ch->n && bytes < LARGE_FILE_BYTES) {
		chunks_get(m->ch, i, &next);
		if (!chunk_continues(&c, &next))
			break;
		bytes += next.len;
		c = next;
	}
	return bytes >= LARGE_FILE_BYTES;
}

/* Where a run of the pump that starts with chunk @first ends at the latest. */
static uint64_t pump_run_limit(const struct miss *m, uint64_t first,
			       uint64_t limit)
{
	struct chunk c;
	uint64_t i;

	chunks_get(m->ch, first, &c);
	limit = MIN(limit,
		    chunks_find_blob(m->ch, c.blob_off + PUMP_RUN_BYTES));
	for (i = first + 1; i < limit; i++) {
		if (m->pump_prefetch && inside_large(m, i))
			break;
	}
	return i;
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
		/* The background begins with it. */
		if (m->pump_prefetch && inside_large(m, i)) {
			m->pump_next = i + 1;
			continue;
		}
		chunks_member(m->ch, i, &mf, &mn);
		limit = pump_run_limit(m, mf, limit);
		limit = run_extend(m, mf, limit, &kind);
		r = run_new(m, kind, class_, mf, limit, 0);
		if (r == NULL)
			return;
		m->pump_next = r->end;
	}
}
