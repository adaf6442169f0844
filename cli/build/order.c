/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/build/order.h"

#include <errno.h>
#include <string.h>

#include "common/limits.h"

#define LINKS_MAX 8
#define NAMES_BYTES_MAX MIB(1024)
#define WHITEOUT ".wh."

/* Entries of one name: [first, first + n) of by_name. */
struct same {
	size_t first;
	size_t n;
};

void order_init(struct order *o)
{
	*o = (struct order){.names = BUF_INIT(NAMES_BYTES_MAX)};
}

void order_done(struct order *o)
{
	free(o->e);
	free(o->by_name);
	free(o->front);
	buf_done(&o->names);
	order_init(o);
}

const char *order_name(const struct order *o, size_t i)
{
	return o->names.p + o->e[i].name;
}

int order_add(struct order *o, const struct tar_entry *t, uint64_t end)
{
	const char *name = t->name != NULL ? t->name : "";
	struct order_entry *e;
	size_t at = o->names.len;
	int r;

	if (o->n == TOC_ENTRIES_MAX)
		return -EOVERFLOW;
	if (o->n == o->cap) {
		size_t cap = MAX((size_t)1024, o->cap + o->cap / 2);

		e = reallocarray(o->e, cap, sizeof(*e));
		if (e == NULL)
			return -ENOMEM;
		o->e = e;
		o->cap = cap;
	}
	r = buf_add(&o->names, name, strlen(name) + 1);
	if (r == 0 && t->type == TOC_HARDLINK)
		r = buf_add(&o->names, t->link, t->link_len + 1);
	if (r < 0)
		return r;
	o->e[o->n++] = (struct order_entry){
		.head_off = t->head_off,
		.end = end,
		.name = at,
		.link = at + strlen(name) + 1,
		.wanted = ORDER_NONE,
		.type = t->type,
	};
	return 0;
}

static int compare_names(const void *a, const void *b, void *arg)
{
	const struct order *o = arg;
	const uint32_t *x = a, *y = b;
	int r = strcmp(order_name(o, *x), order_name(o, *y));

	return r != 0 ? r : (*x > *y) - (*x < *y);
}

int order_sort(struct order *o)
{
	o->by_name = calloc(o->n + 1, sizeof(*o->by_name));
	if (o->by_name == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < o->n; i++)
		o->by_name[i] = (uint32_t)i;
	qsort_r(o->by_name, o->n, sizeof(*o->by_name), compare_names, o);
	return 0;
}

/* The first place of by_name that is not before [len] (or, @after, is behind
 * it). */
static size_t bound(const struct order *o, const char *name, size_t len,
		    bool after)
{
	size_t lo = 0, hi = o->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const char *s = order_name(o, o->by_name[mid]);
		int r = strncmp(s, name, len);

		if (r == 0 && s[len] != '\0')
			r = 1;
		if (r < 0 || (after && r == 0))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct same find(const struct order *o, const char *name, size_t len)
{
	size_t first = bound(o, name, len, false);

	return (struct same){first, bound(o, name, len, true) - first};
}

int order_paths(const struct order *o, const char ***ret, size_t *ret_n)
{
	const char **p = calloc(o->n + 1, sizeof(*p));
	size_t n = 0;

	if (p == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < o->n; i++) {
		const char *name = order_name(o, i);

		if (o->e[i].type != 0 && name[0] != '\0' &&
		    o->by_name[find(o, name, strlen(name)).first] == i)
			p[n++] = name;
	}
	*ret = p;
	*ret_n = n;
	return 0;
}

static bool all_dirs(const struct order *o, struct same s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (o->e[o->by_name[s.first + i]].type != TOC_DIR)
			return false;
	}
	return true;
}

/* Whether it is a whiteout, or there is one of it. */
static bool whiteout(const struct order *o, const char *name, size_t len)
{
	char path[TOC_NAME_BYTES_MAX + sizeof(WHITEOUT)];
	size_t base = len;

	while (base > 0 && name[base - 1] != '/')
		base--;
	if (len + sizeof(WHITEOUT) > sizeof(path) ||
	    strncmp(name + base, WHITEOUT, sizeof(WHITEOUT) - 1) == 0)
		return true;
	memcpy(path, name, base);
	memcpy(path + base, WHITEOUT, sizeof(WHITEOUT) - 1);
	memcpy(path + base + sizeof(WHITEOUT) - 1, name + base, len - base);
	return find(o, path, len + sizeof(WHITEOUT) - 1).n > 0;
}

/* The part of a path that ends before a slash at or after @from. Return: its
 * length, 0 where there is none */
static size_t parent_len(const char *name, size_t from)
{
	const char *slash = strchr(name + from, '/');

	return slash != NULL ? (size_t)(slash - name) : 0;
}

/* Whether an entry may be moved; *@ret is it. */
static bool movable(const struct order *o, const char *name, int depth,
		    uint32_t *ret)
{
	struct same s = find(o, name, strlen(name));
	const struct order_entry *e;
	uint32_t target;

	if (s.n == 0 || name[0] == '\0' || depth > LINKS_MAX)
		return false;
	*ret = o->by_name[s.first];
	e = &o->e[*ret];
	if (e->type == 0 || (s.n > 1 && !all_dirs(o, s)) ||
	    whiteout(o, name, strlen(name)))
		return false;
	for (size_t n = parent_len(name, 0); n > 0;
	     n = parent_len(name, n + 1)) {
		if (!all_dirs(o, find(o, name, n)) || whiteout(o, name, n))
			return false;
	}
	return e->type != TOC_HARDLINK ||
	       movable(o, o->names.p + e->link, depth + 1, &target);
}

static void put(struct order *o, struct same s)
{
	for (size_t i = 0; i < s.n; i++) {
		uint32_t k = o->by_name[s.first + i];

		if (!o->e[k].front)
			o->front[o->n_front++] = k;
		o->e[k].front = true;
	}
}

/* Puts one that may be moved in front, with all that it needs. */
static void move(struct order *o, uint32_t i)
{
	const char *name = order_name(o, i);

	for (size_t n = parent_len(name, 0); n > 0; n = parent_len(name, n + 1))
		put(o, find(o, name, n));
	/* Targets are fewer than LINKS_MAX: movable() has been there. */
	if (o->e[i].type == TOC_HARDLINK) {
		const char *link = o->names.p + o->e[i].link;

		move(o, o->by_name[find(o, link, strlen(link)).first]);
	}
	put(o, find(o, name, strlen(name)));
}

int order_front(struct order *o, const struct build_wanted *wanted, size_t n)
{
	o->front = calloc(o->n + 1, sizeof(*o->front));
	if (o->front == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		uint32_t at, depth = 0;

		if (!movable(o, wanted[i].path, 0, &at))
			continue;
		move(o, at);
		/* Its bytes are those of the file at the end of the links. */
		while (o->e[at].type == TOC_HARDLINK && depth++ < LINKS_MAX) {
			const char *link = o->names.p + o->e[at].link;

			at = o->by_name[find(o, link, strlen(link)).first];
		}
		if (o->e[at].wanted == ORDER_NONE)
			o->e[at].wanted = (uint32_t)i;
	}
	return 0;
}
