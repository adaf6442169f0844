/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/labels.h"

#include <errno.h>
#include <string.h>

static void label_done(struct label *l)
{
	free(l->key);
	free(l->value);
}

void labels_done(struct labels *l)
{
	for (size_t i = 0; i < l->n; i++)
		label_done(&l->v[i]);
	free(l->v);
	*l = (struct labels){0};
}

/* The first place whose key is not before this one. */
static size_t place(const struct labels *l, const char *key)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(l->v[mid].key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool is_at(const struct labels *l, size_t at, const char *key)
{
	return at < l->n && strcmp(l->v[at].key, key) == 0;
}

static void remove_at(struct labels *l, size_t at)
{
	label_done(&l->v[at]);
	l->n--;
	memmove(&l->v[at], &l->v[at + 1], (l->n - at) * sizeof(*l->v));
}

static int insert_at(struct labels *l, size_t at, const char *key, char *value)
{
	char *copy;

	/* Room doubles: it is full when n is a power of two. */
	if ((l->n & (l->n - 1)) == 0) {
		size_t cap = l->n == 0 ? 1 : 2 * l->n;
		struct label *v = reallocarray(l->v, cap, sizeof(*v));

		if (v == NULL)
			return -ENOMEM;
		l->v = v;
	}
	copy = strdup(key);
	if (copy == NULL)
		return -ENOMEM;
	memmove(&l->v[at + 1], &l->v[at], (l->n - at) * sizeof(*l->v));
	l->v[at] = (struct label){.key = copy, .value = value};
	l->n++;
	return 0;
}

int labels_set(struct labels *l, const char *key, const char *value)
{
	size_t at = place(l, key);
	bool there = is_at(l, at, key);
	char *copy;
	int r;

	if (value == NULL || value[0] == '\0') {
		if (there)
			remove_at(l, at);
		return 0;
	}
	copy = strdup(value);
	if (copy == NULL)
		return -ENOMEM;
	if (there) {
		free(l->v[at].value);
		l->v[at].value = copy;
		return 0;
	}
	r = insert_at(l, at, key, copy);
	if (r < 0)
		free(copy);
	return r;
}

int labels_copy(struct labels *to, const struct labels *from)
{
	CLEANUP_LABELS struct labels copy = {0};

	for (size_t i = 0; i < from->n; i++) {
		int r = labels_set(&copy, from->v[i].key, from->v[i].value);

		if (r < 0)
			return r;
	}
	labels_done(to);
	*to = copy;
	copy = (struct labels){0};
	return 0;
}

const char *labels_get(const struct labels *l, const char *key)
{
	size_t at = place(l, key);

	return is_at(l, at, key) ? l->v[at].value : NULL;
}
