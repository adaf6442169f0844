/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/stack.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"

#define OPTION_BYTES_MAX MIB(4) /* TREE_DEPTH_MAX long paths */

void stack_mount_done(struct stack_mount *m)
{
	free(m->type);
	free(m->source);
	for (size_t i = 0; i < m->n_options; i++)
		free(m->options[i]);
	free(m->options);
	*m = (struct stack_mount){0};
}

char *stack_snapshot_path(const struct stack *st, int64_t id, const char *tail)
{
	char *path;

	if (asprintf(&path, "%s/snapshots/%" PRId64 "%s", st->root, id, tail) <
	    0)
		return NULL;
	return path;
}

/* Where the files of a committed snapshot are. */
static char *link_path(const struct stack *st, const struct chain_link *l)
{
	char *path;

	if (l->layer == 0)
		return stack_snapshot_path(st, l->id, "/fs");
	if (asprintf(&path, "%s/%c/%" PRId64, st->root, l->native ? 'e' : 'm',
		     l->layer) < 0)
		return NULL;
	return path;
}

static size_t n_distinct(const struct chain *chain)
{
	size_t n = 0;

	for (size_t i = 0; i < chain->n; i++)
		n += chain_repeats(chain, i) ? 0 : 1;
	return n;
}

/* Takes @option, which may be NULL: out of memory. */
static int add_option(struct stack_mount *m, char *option)
{
	char **options;

	if (option == NULL)
		return -ENOMEM;
	options = reallocarray(m->options, m->n_options + 1, sizeof(*options));
	if (options == NULL) {
		free(option);
		return -ENOMEM;
	}
	m->options = options;
	m->options[m->n_options++] = option;
	return 0;
}

static int bind_mount(char *source, bool writable, struct stack_mount *m)
{
	int r;

	m->source = source;
	m->type = strdup("bind");
	if (m->source == NULL || m->type == NULL)
		return -ENOMEM;
	r = add_option(m, strdup(writable ? "rw" : "ro"));
	return r < 0 ? r : add_option(m, strdup("rbind"));
}

/* "workdir=" or "upperdir=" */
static int add_dir(const struct stack *st, struct stack_mount *m,
		   const char *name, int64_t id, const char *tail)
{
	CLEANUP_FREE char *path = stack_snapshot_path(st, id, tail);
	char *option;

	if (path == NULL || asprintf(&option, "%s=%s", name, path) < 0)
		return -ENOMEM;
	return add_option(m, option);
}

/* The first @n ancestors. */
static int add_links(const struct stack *st, struct buf *b,
		     const struct chain *chain, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		CLEANUP_FREE char *path = link_path(st, &chain->v[i]);

		if (path == NULL)
			return -ENOMEM;
		if (!chain_repeats(chain, i))
			r = buf_addf(b, "%s%s", i > 0 ? ":" : "", path);
	}
	return r;
}

/* The ordinary ancestors in front of the first lazy one. */
static size_t n_ordinary(const struct chain *chain)
{
	size_t n = 0;

	while (n < chain->n && chain->v[n].layer == 0)
		n++;
	return n;
}

/* Data is only in estargzfs's mounts, under its own names. */
static int add_merged(const struct stack *st, struct buf *b,
		      const struct chain *chain)
{
	size_t top = n_ordinary(chain);
	int r = add_links(st, b, chain, top);

	if (r == 0)
		r = buf_addf(b, "%s%s/c/%" PRId64, top > 0 ? ":" : "", st->root,
			     chain->merged);
	for (size_t i = top; i < chain->n && r == 0; i++) {
		if (!chain_repeats(chain, i))
			r = buf_addf(b, "::%s/m/%" PRId64, st->root,
				     chain->v[i].layer);
	}
	return r;
}

static int add_lowers(const struct stack *st, struct stack_mount *m,
		      const struct chain *chain)
{
	CLEANUP_BUF struct buf b = BUF_INIT(OPTION_BYTES_MAX);
	int r = buf_add_str(&b, "lowerdir=");

	if (r == 0)
		r = chain->merged > 0 ? add_merged(st, &b, chain)
				      : add_links(st, &b, chain, chain->n);
	return r < 0 ? r : add_option(m, TAKE_PTR(b.p));
}

static int overlay(const struct stack *st, bool writable, int64_t id,
		   const struct chain *chain, struct stack_mount *m)
{
	int r = 0;

	m->type = strdup("overlay");
	m->source = strdup("overlay");
	if (m->type == NULL || m->source == NULL)
		return -ENOMEM;
	if (writable) {
		r = add_dir(st, m, "workdir", id, "/work");
		if (r == 0)
			r = add_dir(st, m, "upperdir", id, "/fs");
	}
	if (r == 0)
		r = add_lowers(st, m, chain);
	if (r == 0 && st->userxattr)
		r = add_option(m, strdup("userxattr"));
	for (size_t i = 0; i < st->n_options && r == 0; i++)
		r = add_option(m, strdup(st->options[i]));
	return r;
}

/* Whether its mount is that of its only ancestor. */
static bool is_bind(enum snap_kind kind, const struct chain *chain)
{
	return chain->n == 0 || (kind != SNAP_ACTIVE && n_distinct(chain) == 1);
}

/* As mount(2) is given them, with a NUL. */
static size_t option_bytes(const struct stack_mount *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n_options; i++)
		n += strlen(m->options[i]) + 1;
	return n;
}

bool stack_can_merge(const struct stack *st, enum snap_kind kind,
		     const struct chain *chain)
{
	CLEANUP_STACK_MOUNT struct stack_mount m = {0};
	const int64_t id = INT32_MAX; /* as long as they get */
	const struct chain merged = {
		.v = chain->v, .n = chain->n, .merged = id};
	size_t top = n_ordinary(chain);

	if (top == chain->n || is_bind(kind, chain))
		return false;
	for (size_t i = top; i < chain->n; i++) {
		if (chain->v[i].layer == 0)
			return false;
	}
	return overlay(st, kind == SNAP_ACTIVE, id, &merged, &m) == 0 &&
	       option_bytes(&m) <= STACK_OPTION_BYTES_MAX;
}

int stack_mount(const struct stack *st, enum snap_kind kind, int64_t id,
		const struct chain *chain, struct stack_mount *ret,
		struct err *e)
{
	CLEANUP_STACK_MOUNT struct stack_mount m = {0};
	bool writable = kind == SNAP_ACTIVE;
	int r;

	if (kind == SNAP_COMMITTED)
		return err_set(e, -EINVAL, "a committed snapshot has no mount");
	if (chain->n == 0)
		r = bind_mount(stack_snapshot_path(st, id, "/fs"), writable,
			       &m);
	else if (is_bind(kind, chain))
		r = bind_mount(link_path(st, &chain->v[0]), false, &m);
	else
		r = overlay(st, writable, id, chain, &m);
	if (r < 0)
		return err_set(e, r, "mount: %s", err_name(r));
	*ret = m;
	m = (struct stack_mount){0};
	return 0;
}
