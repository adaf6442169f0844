/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/ahead.h"

#include "common/io.h"
#include "fs/miss.h"
#include "fs/nextfiles.h"
#include "fs/run.h"

#define BACKOFF_MIN_NS (2 * NSEC_PER_SEC)
#define BACKOFF_MAX_NS (300 * NSEC_PER_SEC)
#define WINDOW_MIN KIB(512)
#define NEAR_BYTES MIB(2)
#define JOIN_BYTES KIB(256)
/* In small runs, because a reader who needs a part of one that is still to be asked
 * for waits for all before it; where something starts, in smaller ones. While
 * readers miss, the background has only few of them. */
#define PUMP_RUN_BYTES KIB(512)
#define START_RUN_BYTES KIB(128)
#define DEMAND_RECENT_NS (500 * NSEC_PER_MSEC)
#define STEP_BYTES MIB(1) /* outstanding */
/* A file that what starts reads here and there: an archive, a model. */
#define LARGE_FILE_BYTES MIB(64)
#define LARGE_CHUNK_BYTES_MIN KIB(64)
/* So long nothing is prefetched because a trace may say what. */
#define HINTS_WAIT_NS (2 * NSEC_PER_SEC)
/* So long after a trace is known it is what starts that reads. */
#define START_NS (10 * NSEC_PER_SEC)

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

void ahead_read(struct miss *m, uint64_t nid, uint64_t first, uint64_t end,
		bool missed)
{
	uint64_t now_ns = io_now_ns();
	struct miss_cursor *c;
	struct chunk a, z;
	uint64_t from, to, i, stop;
	bool continues;

	/* What will be wanted is known, and more would be in its way. */
	if (now_ns >= m->no_space_until_ns && !m->pump_hints &&
	    nextfiles(m, nid, missed, now_ns))
		return;
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
	if (now_ns < m->no_space_until_ns || m->pump_hints)
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

/* The pump goes on with the next of the ranges that the trace names. */
static void next_hint(struct miss *m, size_t number)
{
	const struct link_hints *h = &m->link.hints;

	m->pump_hint = number;
	m->pump_next =
		number < h->n ? chunks_find_blob(m->ch, h->v[number].off) : 0;
}

void ahead_hints(struct miss *m, uint64_t now_ns)
{
	const struct link_hints *h = &m->link.hints;

	if (m->noprefetch || m->traced)
		return;
	/* Where all is here, nobody is to be asked for what they name. */
	m->pump_hints = (h->state == LINK_HINTS_COMING ||
			 h->state == LINK_HINTS_THERE) &&
			present_next_missing(m->pr, 0) < m->ch->n;
	atomic_store_explicit(&m->start_until_ns,
			      m->pump_hints && !m->own_hints ? now_ns + START_NS
							     : 0,
			      memory_order_relaxed);
	if (!m->pump_hints)
		return;
	m->pump_done = false;
	if (h->state == LINK_HINTS_COMING) {
		m->hints_until_ns = now_ns + HINTS_WAIT_NS;
		miss_want_tick(m);
		return;
	}
	m->traced = true;
	m->pump_prefetch = false; /* the trace knows better */
	stats_set(&m->st->trace_ranges, h->n);
	next_hint(m, 0);
}

/* Where the phase of the pump ends. */
static uint64_t pump_limit(const struct miss *m)
{
	const struct link_hints *h = &m->link.hints;

	if (m->pump_hints)
		return m->pump_hint < h->n
			       ? chunks_find_blob(
					 m->ch, h->v[m->pump_hint].off +
							h->v[m->pump_hint].len)
			       : 0;
	if (m->pump_prefetch)
		return chunks_find_blob(m->ch, m->ch->prefetch_end);
	return m->nobackground ? 0 : m->ch->n;
}

/* A pass has come to its end; what is still missing gets another. Return:
 * whether there may be something to ask for now */
static bool pump_end(struct miss *m, uint64_t now_ns)
{
	if (m->pump_hints && m->pump_hint < m->link.hints.n) {
		next_hint(m, m->pump_hint + 1);
		return true;
	}
	if (m->pump_hints) {
		/* Until all of it is here, there is nothing else. */
		m->pump_hints = m->ahead_bytes > 0;
		return !m->pump_hints;
	}
	if (m->pump_prefetch) {
		m->pump_prefetch = false;
		m->pump_next = 0;
		return true;
	}
	if (m->nobackground || present_next_missing(m->pr, 0) >= m->ch->n) {
		m->pump_done = true;
		miss_want_tick(m);
		return false;
	}
	if (m->runs != NULL)
		return false; /* their ends come back here */
	m->pump_next = 0;
	ahead_pause(m, now_ns);
	return false;
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
	uint64_t bytes = miss_starts(m) && !m->pump_hints ? START_RUN_BYTES
							  : PUMP_RUN_BYTES;
	struct chunk c;
	uint64_t i;

	chunks_get(m->ch, first, &c);
	limit = MIN(limit, chunks_find_blob(m->ch, c.blob_off + bytes));
	for (i = first + 1; i < limit; i++) {
		if (m->pump_prefetch && inside_large(m, i))
			break;
	}
	return i;
}

/* Whether the pump is to be idle now. */
static bool pump_rests(struct miss *m, uint64_t now_ns)
{
	bool ahead = m->pump_hints || m->pump_prefetch;
	bool small = !ahead && now_ns < m->demand_ns + DEMAND_RECENT_NS;

	if (m->pump_done || !m->link_up || now_ns < m->pump_after_ns ||
	    now_ns < m->no_space_until_ns)
		return true;
	if (m->pump_hints && !m->traced) {
		if (now_ns < m->hints_until_ns)
			return true;
		m->pump_hints = false;
	}
	return m->ahead_bytes >= (small ? STEP_BYTES : MISS_BACKGROUND_BYTES);
}

void ahead_pump(struct miss *m, uint64_t now_ns)
{
	while (!pump_rests(m, now_ns)) {
		uint8_t class_ = m->pump_hints || m->pump_prefetch
					 ? PROTO_CLASS_PREFETCH
					 : PROTO_CLASS_BACKGROUND;
		uint64_t limit = pump_limit(m);
		uint64_t i = present_next_missing(m->pr, m->pump_next);
		enum run_kind kind;
		struct run *r;
		uint64_t mf, mn;

		if (i >= limit) {
			if (!pump_end(m, now_ns))
				return;
			continue;
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
		if (m->pump_hints)
			stats_add(&m->st->trace_bytes,
				  r->blob_end - r->blob_off);
		m->pump_next = r->end;
	}
}
