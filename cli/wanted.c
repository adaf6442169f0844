/* SPDX-License-Identifier: Apache-2.0 */
/* Which files go in front. */
#include "config.h"

#include "cli/wanted.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define SAID_MAX 8u

/* What became of a file of the record, or of a line of the list. Threads only
 * raise it, and it is read when they are gone. */
enum fate {
	UNSEEN = 0,
	KEPT,
	FOUND,
};

/**
 * struct wanted - what is wanted of all layers
 * @image_of:	[@record->n_files] the image that is meant; SIZE_MAX: all
 * @file_fate:	[@record->n_files]
 * @line_fate:	[@list->n]
 */
struct wanted {
	const struct record *record;
	const struct glob_list *list;
	const struct wanted_image *images;
	size_t n_images;
	size_t *image_of;
	atomic_uchar *file_fate;
	atomic_uchar *line_fate;
};

static size_t n_files(const struct wanted *w)
{
	return w->record != NULL ? w->record->n_files : 0;
}

static size_t n_lines(const struct wanted *w)
{
	return w->list != NULL ? w->list->n : 0;
}

int wanted_new(const struct record *record, const struct glob_list *list,
	       const struct wanted_image *images, size_t n, struct wanted **ret)
{
	struct wanted *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return -ENOMEM;
	*w = (struct wanted){.record = record,
			     .list = list,
			     .images = images,
			     .n_images = n};
	w->image_of = calloc(n_files(w) + 1, sizeof(*w->image_of));
	w->file_fate = calloc(n_files(w) + 1, sizeof(*w->file_fate));
	w->line_fate = calloc(n_lines(w) + 1, sizeof(*w->line_fate));
	if (w->image_of == NULL || w->file_fate == NULL ||
	    w->line_fate == NULL) {
		wanted_free(w);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n_files(w); i++) {
		w->image_of[i] = SIZE_MAX;
		for (size_t k = 0; k < n; k++) {
			if (digest_equal(&record->files[i].manifest,
					 &images[k].manifest))
				w->image_of[i] = k;
		}
	}
	*ret = w;
	return 0;
}

void wanted_free(struct wanted *w)
{
	if (w == NULL)
		return;
	free(w->image_of);
	free(w->file_fate);
	free(w->line_fate);
	free(w);
}

static void raise_fate(atomic_uchar *at, enum fate to)
{
	unsigned char was = atomic_load_explicit(at, memory_order_relaxed);

	while (was < to && !atomic_compare_exchange_weak_explicit(
				   at, &was, (unsigned char)to,
				   memory_order_relaxed, memory_order_relaxed))
		;
}

/* Whether a file of the record may be in a layer. */
static bool is_of(const struct wanted *w, size_t file, size_t layer)
{
	uint32_t number = w->record->files[file].layer;

	for (size_t i = 0; i < w->n_images; i++) {
		const struct wanted_image *im = &w->images[i];

		if (w->image_of[file] != SIZE_MAX && w->image_of[file] != i)
			continue;
		for (size_t k = 0; k < im->n_layers; k++) {
			if ((number == k || number == RECORD_LAYER_ANY) &&
			    im->layers[k] == layer)
				return true;
		}
	}
	return false;
}

void wanted_kept(struct wanted *w, size_t layer)
{
	for (size_t i = 0; i < n_files(w); i++) {
		if (is_of(w, i, layer))
			raise_fate(&w->file_fate[i], KEPT);
	}
	for (size_t i = 0; i < n_lines(w); i++)
		raise_fate(&w->line_fate[i], KEPT);
}

/* ---- one layer --------------------------------------------------------- */

/**
 * struct entry - a path of the layer
 * @order:	its number in the tar
 * @slot:	its number in what was chosen, SIZE_MAX where it was not
 * @whole:	all of it is wanted
 */
struct entry {
	const char *path;
	size_t order;
	size_t slot;
	bool whole;
};

/* What is made of struct wanted_layer while it is asked. */
struct choice {
	struct wanted_layer *l;
	struct entry *entries; /* [n] sorted by path */
	size_t n;
	size_t *by_order; /* [n] numbers in @entries */
};

static int by_path(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return strcmp(x->path, y->path);
}

static int index_paths(struct choice *c, const char *const *paths)
{
	/* Never zero bytes. */
	c->entries = calloc(c->n + 1, sizeof(*c->entries));
	c->by_order = calloc(c->n + 1, sizeof(*c->by_order));
	c->l->v = calloc(c->n + 1, sizeof(*c->l->v));
	c->l->ranges = calloc(c->n + 1, sizeof(*c->l->ranges));
	if (c->entries == NULL || c->by_order == NULL || c->l->v == NULL ||
	    c->l->ranges == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < c->n; i++)
		c->entries[i] = (struct entry){
			.path = paths[i], .order = i, .slot = SIZE_MAX};
	qsort(c->entries, c->n, sizeof(*c->entries), by_path);
	for (size_t i = 0; i < c->n; i++)
		c->by_order[c->entries[i].order] = i;
	return 0;
}

static struct entry *find(const struct choice *c, const char *path)
{
	const struct entry key = {.path = path};

	return bsearch(&key, c->entries, c->n, sizeof(*c->entries), by_path);
}

/* Ranges: [n], none: all of it. More of a file that was chosen before. */
static int choose(struct choice *c, struct entry *at,
		  const struct build_range *ranges, size_t n)
{
	struct wanted_layer *l = c->l;
	struct build_range *p;
	size_t k;

	if (at->slot == SIZE_MAX) {
		at->slot = l->n++;
		l->v[at->slot].path = at->path;
	}
	k = at->slot;
	at->whole |= n == 0;
	if (at->whole) {
		free(l->ranges[k]);
		l->ranges[k] = NULL;
		l->v[k].n_ranges = 0;
		return 0;
	}
	p = reallocarray(l->ranges[k], l->v[k].n_ranges + n, sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	memcpy(p + l->v[k].n_ranges, ranges, n * sizeof(*p));
	l->ranges[k] = p;
	l->v[k].n_ranges += n;
	return 0;
}

static int choose_recorded(struct choice *c)
{
	struct wanted *w = c->l->wanted;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n_files(w); i++) {
		const struct record_file *f = &w->record->files[i];
		struct entry *at = find(c, f->path);

		if (at == NULL || !is_of(w, i, c->l->layer))
			continue;
		r = choose(c, at, f->ranges, f->n_ranges);
		raise_fate(&w->file_fate[i], FOUND);
	}
	return r;
}

/* What begins as the pattern does before its first glob is together in
 * @entries: from *@first on; returns how many. */
static size_t candidates(const struct choice *c, const char *pattern,
			 size_t *first)
{
	size_t len = strcspn(pattern, "*?[\\"), lo = 0, hi = c->n, n = 0;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strncmp(c->entries[mid].path, pattern, len) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*first = lo;
	while (lo + n < c->n &&
	       strncmp(c->entries[lo + n].path, pattern, len) == 0)
		n++;
	return n;
}

static int by_number(const void *a, const void *b)
{
	const size_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* The files that a glob matches, in the order of the tar. */
static int choose_glob(struct choice *c, const char *pattern, bool *found)
{
	size_t first, m = 0, n = candidates(c, pattern, &first);
	CLEANUP_FREE size_t *orders = calloc(n + 1, sizeof(*orders));

	if (orders == NULL)
		return -ENOMEM;
	for (size_t i = first; i < first + n; i++) {
		if (glob_match(pattern, c->entries[i].path))
			orders[m++] = c->entries[i].order;
	}
	qsort(orders, m, sizeof(*orders), by_number);
	for (size_t i = 0; i < m; i++) {
		struct entry *at = &c->entries[c->by_order[orders[i]]];

		/* What was recorded of it says more. */
		if (at->slot == SIZE_MAX)
			(void)choose(c, at, NULL, 0);
	}
	*found = m > 0;
	return 0;
}

static int choose_listed(struct choice *c)
{
	struct wanted *w = c->l->wanted;

	for (size_t i = 0; i < n_lines(w); i++) {
		const struct glob_line *g = &w->list->lines[i];
		bool found = false;

		if (g->literal) {
			struct entry *at = find(c, g->pattern);

			found = at != NULL;
			if (found && at->slot == SIZE_MAX)
				(void)choose(c, at, NULL, 0);
		} else {
			int r = choose_glob(c, g->pattern, &found);

			if (r < 0)
				return r;
		}
		if (found)
			raise_fate(&w->line_fate[i], FOUND);
	}
	return 0;
}

static int by_offset(const void *a, const void *b)
{
	const struct build_range *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

/* Sorted and disjoint; none ends above 2^63, as of a record. */
static size_t merge(struct build_range *v, size_t n)
{
	size_t m = 0;

	if (n == 0)
		return 0;
	qsort(v, n, sizeof(*v), by_offset);
	for (size_t i = 1; i < n; i++) {
		uint64_t end = v[m].off + v[m].len;

		if (v[i].off > end)
			v[++m] = v[i];
		else
			v[m].len = MAX(end, v[i].off + v[i].len) - v[m].off;
	}
	return m + 1;
}

int wanted_choose(void *arg, const char *const *paths, size_t n,
		  const struct build_wanted **ret, size_t *ret_n, struct err *e)
{
	struct wanted_layer *l = arg;
	struct choice c = {.l = l, .n = n};
	int r = index_paths(&c, paths);

	if (r == 0)
		r = choose_recorded(&c);
	if (r == 0)
		r = choose_listed(&c);
	free(c.entries);
	free(c.by_order);
	if (r < 0)
		return err_set(e, r, "%s", err_name(r));
	for (size_t i = 0; i < l->n; i++) {
		l->v[i].n_ranges = merge(l->ranges[i], l->v[i].n_ranges);
		l->v[i].ranges = l->ranges[i];
	}
	*ret = l->v;
	*ret_n = l->n;
	return 0;
}

void wanted_layer_done(struct wanted_layer *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->ranges[i]);
	free(l->ranges);
	free(l->v);
	*l = (struct wanted_layer){0};
}

/* ---- what was not there ------------------------------------------------ */

static enum fate fate_of(const atomic_uchar *at)
{
	return (enum fate)atomic_load_explicit(at, memory_order_relaxed);
}

/* Braces make several of a line: it was found where one of them was. */
static bool line_lost(const struct wanted *w, size_t i)
{
	const struct glob_line *v = w->list->lines;

	for (size_t k = i; k < w->list->n && v[k].line == v[i].line; k++) {
		if (fate_of(&w->line_fate[k]) != UNSEEN)
			return false;
	}
	return i == 0 || v[i - 1].line != v[i].line;
}

void wanted_say(const struct wanted *w, struct progress *p)
{
	size_t lost = 0, kept = 0;

	for (size_t i = 0; i < n_files(w); i++) {
		enum fate f = fate_of(&w->file_fate[i]);

		kept += f == KEPT ? 1 : 0;
		if (f == UNSEEN && lost++ < SAID_MAX)
			progress_say(p, "recorded, but not there: %s",
				     w->record->files[i].path);
	}
	for (size_t i = 0; i < n_lines(w); i++) {
		if (line_lost(w, i) && lost++ < SAID_MAX)
			progress_say(p, "listed, but not there: %s (line %u)",
				     w->list->lines[i].pattern,
				     w->list->lines[i].line);
	}
	if (lost > SAID_MAX)
		progress_say(p, "... and %zu more", lost - SAID_MAX);
	if (kept > 0)
		progress_say(p,
			     "recorded files in layers that are kept as they "
			     "are: %zu",
			     kept);
}
