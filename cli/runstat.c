/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/runstat.h"

#include <errno.h>
#include <string.h>

/* A stretch of something that belongs to @owner. */
struct span {
	uint64_t owner;
	uint64_t from;
	uint64_t to;
};

static uint64_t start_of(const struct evlog_item *x)
{
	return x->end_us - x->us;
}

/* ---- which run ------------------------------------------------------------ */

static int by_span(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	if (x->owner != y->owner)
		return x->owner < y->owner ? -1 : 1;
	return x->from < y->from ? -1 : x->from > y->from;
}

/* From when to when each layer was mounted; one without events from 1 to 0. */
static void find_lives(const struct evlog *l, struct span *lives)
{
	for (uint32_t i = 0; i < l->n_layers; i++) {
		const struct evlog_layer *v = &l->layers[i];

		lives[i] = (struct span){.owner = 0, .from = UINT64_MAX};
		if (v->mount_us > 0)
			lives[i].from = v->mount_us;
		lives[i].to = MAX(v->end_us, v->mount_us);
	}
	for (uint32_t i = 0; i < l->n_items; i++) {
		const struct evlog_item *x = &l->items[i];
		struct span *life = &lives[x->layer];

		life->from = MIN(life->from, start_of(x));
		life->to = MAX(life->to, x->end_us);
	}
}

/* Layers that were mounted at the same time make a run: where each begins goes to
 * the front of @lives. Return: how many */
static uint32_t find_runs(struct span *lives, uint32_t n)
{
	uint32_t n_runs = 0;

	qsort(lives, n, sizeof(*lives), by_span);
	for (uint32_t i = 0; i < n; i++) {
		if (lives[i].from == UINT64_MAX)
			continue;
		if (n_runs > 0 && lives[i].from <= lives[n_runs - 1].to)
			lives[n_runs - 1].to =
				MAX(lives[n_runs - 1].to, lives[i].to);
		else
			lives[n_runs++] = lives[i];
	}
	return n_runs;
}

static int pick_run(const struct evlog *l, unsigned run, struct runstat *s,
		    struct err *e)
{
	CLEANUP_FREE struct span *lives =
		calloc(l->n_layers + 1, sizeof(*lives));
	CLEANUP_FREE struct span *runs = calloc(l->n_layers + 1, sizeof(*runs));
	uint32_t n;

	s->layers = calloc(l->n_layers + 1, sizeof(*s->layers));
	if (lives == NULL || runs == NULL || s->layers == NULL)
		return err_no_memory(e);
	find_lives(l, lives);
	memcpy(runs, lives, l->n_layers * sizeof(*runs));
	n = find_runs(runs, l->n_layers);
	if (n == 0)
		return err_set(e, -ENOENT, "no events");
	if (run > n)
		return err_set(e, -ENOENT, "there is no run %u, only %u", run,
			       n);
	s->n_runs = n;
	s->run = run > 0 ? run : n;
	s->start_us = runs[s->run - 1].from;
	for (uint32_t i = 0; i < l->n_layers; i++) {
		const struct evlog_layer *v = &l->layers[i];

		s->layers[i] = lives[i].from >= s->start_us &&
			       lives[i].from <= runs[s->run - 1].to;
		if (s->layers[i] && s->wall_us == 0 && v->mount_us > 0 &&
		    v->wall_us > v->mount_us - s->start_us)
			s->wall_us = v->wall_us - (v->mount_us - s->start_us);
	}
	return 0;
}

/* ---- which part of it ----------------------------------------------------- */

static int by_start(const void *a, const void *b, void *arg)
{
	const struct evlog_item *items = arg;
	uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
	uint64_t x = start_of(&items[i]), y = start_of(&items[j]);

	if (x != y)
		return x < y ? -1 : 1;
	return i < j ? -1 : i > j;
}

static int pick_items(const struct evlog *l, struct runstat *s)
{
	s->items = calloc((size_t)l->n_items + 1, sizeof(*s->items));
	if (s->items == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < l->n_items; i++) {
		if (s->layers[l->items[i].layer])
			s->items[s->n_items++] = i;
	}
	qsort_r(s->items, s->n_items, sizeof(*s->items), by_start, l->items);
	return 0;
}

/* Where no read comes for @idle_us; @end where there is no such time. */
static uint64_t find_idle(const struct evlog *l, const struct runstat *s,
			  uint64_t idle_us, uint64_t end)
{
	uint64_t last = 0;

	for (uint32_t i = 0; i < s->n_items; i++) {
		const struct evlog_item *x = &l->items[s->items[i]];

		if (x->kind != EVLOG_READ || start_of(x) < s->from_us)
			continue;
		if (last > 0 && start_of(x) > last &&
		    start_of(x) - last >= idle_us)
			return MIN(last, end);
		last = MAX(last, x->end_us);
	}
	return last > 0 ? MIN(last, end) : end;
}

/* A time of the command line, between @first and @last. */
static uint64_t place(int64_t us, uint64_t first, uint64_t last)
{
	uint64_t n = us < 0 ? (uint64_t)-us : (uint64_t)us;

	n = MIN(n, last - first);
	return us < 0 ? last - n : first + n;
}

static int pick_window(const struct evlog *l, const struct runstat_window *w,
		       struct runstat *s, struct err *e)
{
	uint64_t last = s->start_us;

	for (uint32_t i = 0; i < s->n_items; i++)
		last = MAX(last, l->items[s->items[i]].end_us);
	s->from_us = w->from_us == RUNSTAT_NEVER
			     ? s->start_us
			     : place(w->from_us, s->start_us, last);
	s->to_us = w->to_us == RUNSTAT_NEVER
			   ? last
			   : place(w->to_us, s->start_us, last);
	if (w->idle_us > 0)
		s->to_us = find_idle(l, s, w->idle_us, s->to_us);
	if (s->to_us < s->from_us || (s->to_us == s->from_us && s->n_items > 0))
		return err_set(e, -EINVAL,
			       "nothing is between %.3f s and %.3f s; the run "
			       "took %.3f s",
			       (double)(s->from_us - s->start_us) / 1e6,
			       (double)(s->to_us - s->start_us) / 1e6,
			       (double)(last - s->start_us) / 1e6);
	return 0;
}

bool runstat_counts(const struct runstat *s, const struct evlog_item *x)
{
	uint64_t at = x->kind == EVLOG_READ ? start_of(x) : x->end_us;

	return at >= s->from_us && at <= s->to_us;
}

/* ---- counting ------------------------------------------------------------- */

/* How much @v [@n] covers, each byte once. */
static uint64_t cover(struct span *v, size_t n)
{
	uint64_t sum = 0;

	qsort(v, n, sizeof(*v), by_span);
	for (size_t i = 0; i < n;) {
		uint64_t owner = v[i].owner, from = v[i].from, to = v[i].to;

		for (i++; i < n && v[i].owner == owner && v[i].from <= to; i++)
			to = MAX(to, v[i].to);
		sum += to - from;
	}
	return sum;
}

static struct span pages_of(const struct evlog_item *x)
{
	return (struct span){
		.owner = x->file,
		.from = x->off / RUNSTAT_PAGE,
		.to = (x->off + x->len + RUNSTAT_PAGE - 1) / RUNSTAT_PAGE,
	};
}

static struct span chunks_of(const struct evlog_item *x)
{
	return (struct span){x->file, x->chunk_off,
			     x->chunk_off + x->chunk_len};
}

static struct span members_of(const struct evlog_item *x)
{
	return (struct span){x->layer, x->blob_off, x->blob_off + x->blob_len};
}

static struct span wait_of(const struct evlog_item *x)
{
	return (struct span){
		.from = start_of(x),
		.to = x->how == EVLOG_HIT ? start_of(x) : x->end_us,
	};
}

static struct span file_of(const struct evlog_item *x)
{
	return (struct span){.from = x->file, .to = x->file + 1};
}

/* What all reads of the window cover of something. */
static uint64_t cover_reads(const struct evlog *l, const struct runstat *s,
			    struct span *v,
			    struct span (*of)(const struct evlog_item *x))
{
	size_t n = 0;

	for (uint32_t i = 0; i < s->n_items; i++) {
		const struct evlog_item *x = &l->items[s->items[i]];

		if (x->kind == EVLOG_READ && runstat_counts(s, x))
			v[n++] = of(x);
	}
	return cover(v, n);
}

static void count_read(struct runstat *s, const struct evlog_item *x,
		       uint64_t rtt_us)
{
	s->reads++;
	s->read_bytes += x->len;
	s->by_how[x->how]++;
	if (x->how == EVLOG_HIT)
		return;
	if (x->how == EVLOG_WAIT) {
		s->met[x->class_]++;
		if (x->class_ == EVLOG_DEMAND)
			s->demand_us += x->us;
	}
	s->wait_us += x->us;
	s->longest_us = MAX(s->longest_us, x->us);
	if (rtt_us > 0 && x->us > rtt_us)
		s->over_rtt++;
}

static void count_fetch(struct runstat *s, const struct evlog_item *x)
{
	s->fetches[x->class_]++;
	s->fetched[x->class_] += x->len;
	if (x->class_ != EVLOG_TAIL &&
	    (s->quickest_us == 0 || x->us < s->quickest_us))
		s->quickest_us = MAX(x->us, UINT64_C(1));
}

static int by_length(const void *a, const void *b, void *arg)
{
	const struct evlog_item *items = arg;
	uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;

	if (items[i].us != items[j].us)
		return items[i].us > items[j].us ? -1 : 1;
	return by_start(a, b, arg);
}

static int count(const struct evlog *l, uint64_t rtt_us, struct runstat *s)
{
	CLEANUP_FREE struct span *v =
		calloc((size_t)s->n_items + 1, sizeof(*v));

	s->waits = calloc((size_t)s->n_items + 1, sizeof(*s->waits));
	if (v == NULL || s->waits == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n_items; i++) {
		const struct evlog_item *x = &l->items[s->items[i]];

		if (!runstat_counts(s, x))
			continue;
		if (x->kind == EVLOG_FETCH) {
			count_fetch(s, x);
			continue;
		}
		count_read(s, x, rtt_us);
		if (x->how != EVLOG_HIT)
			s->waits[s->n_waits++] = s->items[i];
	}
	qsort_r(s->waits, s->n_waits, sizeof(*s->waits), by_length, l->items);
	s->pages = cover_reads(l, s, v, pages_of);
	s->chunk_bytes = cover_reads(l, s, v, chunks_of);
	s->blob_bytes = cover_reads(l, s, v, members_of);
	s->blocked_us = cover_reads(l, s, v, wait_of);
	s->files = cover_reads(l, s, v, file_of);
	return 0;
}

int runstat_make(const struct evlog *l, const struct runstat_window *w,
		 struct runstat *ret, struct err *e)
{
	int r;

	*ret = (struct runstat){0};
	r = pick_run(l, w->run, ret, e);
	if (r == 0 && pick_items(l, ret) < 0)
		r = err_no_memory(e);
	if (r == 0)
		r = pick_window(l, w, ret, e);
	if (r == 0 && count(l, w->rtt_us, ret) < 0)
		r = err_no_memory(e);
	if (r < 0)
		runstat_done(ret);
	return r;
}

void runstat_done(struct runstat *s)
{
	free(s->layers);
	free(s->items);
	free(s->waits);
	*s = (struct runstat){0};
}

uint64_t runstat_fetched(const struct runstat *s)
{
	return s->fetched[EVLOG_DEMAND] + s->fetched[EVLOG_AHEAD] +
	       s->fetched[EVLOG_PREFETCH] + s->fetched[EVLOG_BACKGROUND];
}
