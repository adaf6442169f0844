/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/nextfiles.h"

#include <sys/stat.h>

#include "common/erofs.h"
#include "fs/miss.h"
#include "fs/run.h"

static bool is_small(const struct erofs_inode *in)
{
	return S_ISREG(in->mode) && in->size > 0 &&
	       in->size <= NEXTFILES_FILE_BYTES_MAX;
}

/* The cursor that a file continues, else the one to replace. */
static struct miss_dir *cursor_for(struct miss *m, uint64_t nid,
				   bool *ret_continues)
{
	struct miss_dir *oldest = &m->dirs[0];

	for (unsigned i = 0; i < MISS_CURSORS; i++) {
		struct miss_dir *c = &m->dirs[i];

		if (c->used_ns != 0 && nid >= c->nid &&
		    nid - c->nid <= NEXTFILES_NEAR) {
			*ret_continues = true;
			return c;
		}
		if (c->used_ns < oldest->used_ns)
			oldest = c;
	}
	*ret_continues = false;
	return oldest;
}

/* Asks for chunks that follow one another. Return: false: that was enough */
static bool ask(struct miss *m, uint64_t first, uint64_t end, unsigned *runs)
{
	if (first >= end || present_test_range(m->pr, first, end - first))
		return true;
	return ++*runs < NEXTFILES_RUNS &&
	       run_ensure(m, first, end, PROTO_CLASS_PREFETCH,
			  MISS_AHEAD_BYTES) == end;
}

static void go_ahead(struct miss *m, struct miss_dir *c)
{
	uint64_t first = 0, end = 0;
	struct erofs_inode in;
	unsigned runs = 0;

	if (erofs_inode_get(m->im, c->edge, &in) < 0)
		return;
	for (unsigned i = 0; i < NEXTFILES_STEPS && c->ahead < c->window; i++) {
		uint64_t a, z;

		if (erofs_inode_next(m->im, &in, &in) != 1)
			break;
		c->edge = in.nid;
		if (!is_small(&in) || chunks_find(m->ch, in.data_off, &a) < 0 ||
		    chunks_find(m->ch, in.data_off + in.size - 1, &z) < 0)
			continue;
		c->ahead += in.size;
		if (a == end) {
			end = z + 1;
			continue;
		}
		if (!ask(m, first, end, &runs))
			return;
		first = a;
		end = z + 1;
	}
	(void)ask(m, first, end, &runs);
}

bool nextfiles(struct miss *m, uint64_t nid, bool missed, uint64_t now_ns)
{
	struct erofs_inode in;
	struct miss_dir *c;
	bool continues;

	if (m->im == NULL || erofs_inode_get(m->im, nid, &in) < 0 ||
	    !is_small(&in))
		return false;
	c = cursor_for(m, nid, &continues);
	c->used_ns = now_ns;
	if (!continues) {
		*c = (struct miss_dir){
			.nid = nid,
			.edge = nid,
			.misses = missed,
			.used_ns = now_ns,
		};
		return false;
	}
	if (nid == c->nid)
		return c->window > 0;
	c->nid = nid;
	c->ahead -= MIN(c->ahead, in.size);
	if (nid >= c->edge) {
		c->edge = nid;
		c->ahead = 0;
	}
	if (missed && ++c->misses >= NEXTFILES_MISSES)
		c->window = MIN(MAX(c->window * 2, NEXTFILES_BYTES_MIN),
				NEXTFILES_BYTES_MAX);
	if (c->ahead < c->window / 2)
		go_ahead(m, c);
	return c->window > 0;
}
