/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/paths.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "common/limits.h"

static int add(struct paths *p, const struct erofs_dirent *d, uint32_t parent)
{
	struct paths_node *n;

	if (p->n >= TREE_NODES_MAX)
		return -EOVERFLOW;
	if (p->n == p->cap) {
		uint32_t cap = MAX(p->cap * 2, 1024u);

		n = reallocarray(p->nodes, cap, sizeof(*n));
		if (n == NULL)
			return -ENOMEM;
		p->nodes = n;
		p->cap = cap;
	}
	p->nodes[p->n++] = (struct paths_node){
		.nid = d->nid,
		.name = d->name,
		.parent = parent,
		.len = (uint8_t)d->len,
		.dir = d->dtype == DT_DIR,
	};
	return 0;
}

/* The names in directory @at. Those of directories are read later, in turn. */
static int add_children(struct paths *p, const struct erofs_image *im,
			uint32_t at)
{
	struct erofs_inode dir;
	struct erofs_dirent d;
	uint64_t pos = 0;
	int r = erofs_inode_get(im, p->nodes[at].nid, &dir);

	while (r == 0 && (r = erofs_readdir(im, &dir, pos, &d)) > 0) {
		pos = d.next;
		r = 0;
		if ((d.len == 1 && d.name[0] == '.') ||
		    (d.len == 2 && memcmp(d.name, "..", 2) == 0))
			continue;
		if (d.len > TOC_COMPONENT_BYTES_MAX)
			return -EBADMSG;
		if (d.dtype == DT_REG || d.dtype == DT_DIR)
			r = add(p, &d, at);
	}
	return r;
}

static int by_nid(const void *a, const void *b, void *arg)
{
	const struct paths_node *nodes = arg;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	if (nodes[x].nid != nodes[y].nid)
		return nodes[x].nid < nodes[y].nid ? -1 : 1;
	return x < y ? -1 : 1;
}

int paths_read(const struct erofs_image *im, struct paths *ret)
{
	const struct erofs_dirent root = {
		.name = "",
		.nid = im->root_nid,
		.dtype = DT_DIR,
	};
	int r;

	*ret = (struct paths){0};
	r = add(ret, &root, 0);
	for (uint32_t i = 0; r == 0 && i < ret->n; i++) {
		if (ret->nodes[i].dir)
			r = add_children(ret, im, i);
	}
	if (r == 0) {
		ret->sorted = calloc(ret->n, sizeof(*ret->sorted));
		if (ret->sorted == NULL)
			r = -ENOMEM;
	}
	if (r < 0) {
		paths_done(ret);
		return r;
	}
	for (uint32_t i = 0; i < ret->n; i++)
		ret->sorted[i] = i;
	qsort_r(ret->sorted, ret->n, sizeof(*ret->sorted), by_nid, ret->nodes);
	return 0;
}

void paths_done(struct paths *p)
{
	free(p->nodes);
	free(p->sorted);
	*p = (struct paths){0};
}

/* The first node of inode @nid, or p->n. */
static uint32_t node_of(const struct paths *p, uint64_t nid)
{
	uint32_t lo = 0, hi = p->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (p->nodes[p->sorted[mid]].nid < nid)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < p->n && p->nodes[p->sorted[lo]].nid == nid)
		return p->sorted[lo];
	return p->n;
}

int paths_find(const struct paths *p, uint64_t nid, struct buf *ret)
{
	uint32_t at = node_of(p, nid), chain[TOC_DEPTH_MAX], n = 0;
	size_t was = ret->len;
	int r = 0;

	if (at == p->n)
		return -ENOENT;
	for (; at != 0; at = p->nodes[at].parent) {
		if (n == ARRAY_SIZE(chain))
			return -EOVERFLOW;
		chain[n++] = at;
	}
	while (r == 0 && n-- > 0) {
		const struct paths_node *node = &p->nodes[chain[n]];

		if (ret->len > was)
			r = buf_add(ret, "/", 1);
		if (r == 0)
			r = buf_add(ret, node->name, node->len);
	}
	return r;
}
