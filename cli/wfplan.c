/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/wfplan.h"

#include <errno.h>

#define TITLED_MAX 2000u /* bars that say what they are, the longest ones */

static int by_importance(const void *a, const void *b)
{
	const struct wfrow *x = a, *y = b;

	if ((x->files == 0) != (y->files == 0))
		return x->files == 0 ? 1 : -1;
	if (x->wait_us != y->wait_us)
		return x->wait_us > y->wait_us ? -1 : 1;
	if (x->first_us != y->first_us)
		return x->first_us < y->first_us ? -1 : 1;
	return x->file < y->file ? -1 : 1;
}

/* What is left over of a layer comes last. */
static int by_place(const void *a, const void *b, void *arg)
{
	const uint64_t *layer_first = arg;
	const struct wfrow *x = a, *y = b;

	if (x->layer != y->layer) {
		uint64_t i = layer_first[x->layer], j = layer_first[y->layer];

		if (i != j)
			return i < j ? -1 : 1;
		return x->layer < y->layer ? -1 : 1;
	}
	if ((x->file == UINT32_MAX) != (y->file == UINT32_MAX))
		return x->file == UINT32_MAX ? 1 : -1;
	if (x->first_us != y->first_us)
		return x->first_us < y->first_us ? -1 : 1;
	return x->file < y->file ? -1 : 1;
}

static void add_to_row(struct wfrow *r, const struct evlog_item *x)
{
	if (r->files == 0)
		r->first_us = wfplan_start(x);
	r->files = 1;
	r->last_us = MAX(r->last_us, x->end_us);
	r->reads++;
	if (x->how != EVLOG_HIT) {
		r->waits++;
		r->wait_us += x->us;
	}
}

/* One more of the rest of a layer, which becomes a row of its own. */
static void join_rest(struct wfrow *rest, const struct wfrow *r)
{
	if (rest->files == 0)
		rest->first_us = r->first_us;
	rest->layer = r->layer;
	rest->file = UINT32_MAX;
	rest->first_us = MIN(rest->first_us, r->first_us);
	rest->last_us = MAX(rest->last_us, r->last_us);
	rest->wait_us += r->wait_us;
	rest->reads += r->reads;
	rest->waits += r->waits;
	rest->files++;
}

/* Of all rows those to show; the others are joined, a row a layer. */
static int choose_rows(struct wfplan *p, struct wfrow *all, uint32_t n)
{
	uint32_t shown = MIN(n, p->w->rows), n_layers = p->w->log->n_layers;
	CLEANUP_FREE struct wfrow *rest = calloc(n_layers + 1, sizeof(*rest));

	p->rows = calloc((size_t)shown + n_layers + 1, sizeof(*p->rows));
	if (rest == NULL || p->rows == NULL)
		return -ENOMEM;
	qsort(all, n, sizeof(*all), by_importance);
	for (uint32_t i = 0; i < n && all[i].files > 0; i++) {
		if (i < shown)
			p->rows[p->n_rows++] = all[i];
		else
			join_rest(&rest[all[i].layer], &all[i]);
	}
	for (uint32_t i = 0; i < n_layers; i++) {
		if (rest[i].files > 0)
			p->rows[p->n_rows++] = rest[i];
	}
	return 0;
}

/* Rows in their places, and the groups that they make. */
static int place_rows(struct wfplan *p)
{
	const struct evlog *l = p->w->log;
	CLEANUP_FREE uint64_t *first = calloc(l->n_layers + 1, sizeof(*first));
	CLEANUP_FREE uint32_t *rest = calloc(l->n_layers + 1, sizeof(*rest));

	p->groups = calloc(l->n_layers + 1, sizeof(*p->groups));
	p->group_of = calloc(l->n_layers + 1, sizeof(*p->group_of));
	if (first == NULL || rest == NULL || p->groups == NULL ||
	    p->group_of == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < l->n_layers; i++) {
		first[i] = UINT64_MAX;
		p->group_of[i] = UINT32_MAX;
	}
	for (uint32_t i = 0; i < p->n_rows; i++) {
		uint64_t *at = &first[p->rows[i].layer];

		*at = MIN(*at, p->rows[i].first_us);
	}
	qsort_r(p->rows, p->n_rows, sizeof(*p->rows), by_place, first);
	for (uint32_t i = 0; i < l->n_files; i++)
		p->row_of[i] = UINT32_MAX;
	for (uint32_t i = 0; i < p->n_rows; i++) {
		const struct wfrow *r = &p->rows[i];
		struct wfgroup *g = &p->groups[p->n_groups];

		if (p->n_groups > 0 && g[-1].layer == r->layer) {
			g[-1].n++;
		} else {
			p->group_of[r->layer] = p->n_groups++;
			*g = (struct wfgroup){
				.layer = r->layer,
				.row = i,
				.n = 1,
			};
		}
		if (r->file != UINT32_MAX)
			p->row_of[r->file] = i;
		else
			rest[r->layer] = i;
	}
	for (uint32_t i = 0; i < l->n_files; i++) {
		if (p->row_of[i] == UINT32_MAX)
			p->row_of[i] = rest[l->files[i]->layer];
	}
	return 0;
}

static int make_rows(struct wfplan *p)
{
	const struct waterfall *w = p->w;
	uint32_t n = w->log->n_files;
	CLEANUP_FREE struct wfrow *all = calloc((size_t)n + 1, sizeof(*all));
	int r;

	p->row_of = calloc((size_t)n + 1, sizeof(*p->row_of));
	if (all == NULL || p->row_of == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		all[i].file = i;
		all[i].layer = w->log->files[i]->layer;
	}
	for (uint32_t i = 0; i < w->stat->n_items; i++) {
		const struct evlog_item *x = wfplan_item(p, i);

		if (x->kind == EVLOG_READ && runstat_counts(w->stat, x))
			add_to_row(&all[x->file], x);
	}
	r = choose_rows(p, all, n);
	return r == 0 ? place_rows(p) : r;
}

void wfplan_done(struct wfplan *p)
{
	free(p->row_of);
	free(p->rows);
	free(p->groups);
	free(p->group_of);
}

int wfplan_make(struct wfplan *p, const struct waterfall *w)
{
	const struct runstat *s = w->stat;
	int r;

	*p = (struct wfplan){.w = w};
	if (s->n_waits > TITLED_MAX)
		p->threshold_us = w->log->items[s->waits[TITLED_MAX]].us + 1;
	r = make_rows(p);
	for (uint32_t i = 0; r == 0 && i < s->n_items; i++) {
		const struct evlog_item *x = wfplan_item(p, i);

		if (x->kind == EVLOG_FETCH && runstat_counts(s, x) &&
		    p->group_of[x->layer] != UINT32_MAX)
			p->groups[p->group_of[x->layer]].fetched += x->len;
	}
	if (r < 0)
		wfplan_done(p);
	return r;
}
