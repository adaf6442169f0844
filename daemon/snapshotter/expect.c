/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/expect.h"

#include "common/io.h"
#include "daemon/snapshotter/layer.h"

/* Locked. Return: NULL where nobody has to do with the layer. */
static struct layer *find(struct layers *ls, const struct digest *blob,
			  const struct digest *toc)
{
	LIST_EACH(it, &ls->all)
	{
		struct layer *l = LIST_ENTRY(it, struct layer, node);

		if (!l->dropped && digest_equal(&l->row.toc, toc) &&
		    digest_equal(&l->row.blob, blob))
			return l;
	}
	return NULL;
}

static bool is_known(struct layers *ls, const struct lazy_blob *b)
{
	bool known;

	layers_lock(ls);
	known = find(ls, &b->digest, &b->toc) != NULL;
	layers_unlock(ls);
	return known;
}

/* Has it held until it is asked for. Return: false where somebody else has to do
 * with it */
static bool take(struct layer *l)
{
	bool ours;

	layers_lock(l->ls);
	ours = l->state == LAYER_NONE && l->holds == 1;
	if (ours) {
		l->expected_ns = io_now_ns() + EXPECT_NS;
		l->holds++;
	}
	layers_unlock(l->ls);
	return ours;
}

static void expect(struct layers *ls, const struct lazy *z,
		   const struct lazy_blob *b)
{
	struct lazy next = *z;
	struct layer *l = NULL;

	next.blob = b->digest;
	next.toc = b->toc;
	next.tail = b->tail;
	next.n_others = 0;
	if (layers_hold(ls, &next, &l, NULL) < 0)
		return;
	if (take(l) && layer_claim(l))
		layer_start(l);
	layers_release(ls, l->id);
}

void expect_others(struct layers *ls, const struct lazy *z, bool here)
{
	size_t n = MIN(z->n_others, (size_t)EXPECT_AHEAD);

	for (size_t i = 0; i < n && z->others[i].has_toc; i++) {
		const struct lazy_blob *b = &z->others[i];

		if (!is_known(ls, b) &&
		    !layers_have_index(ls, &b->toc, ls->opaque_user)) {
			if (here)
				layers_warm(ls, z, true);
			here = false;
			expect(ls, z, b);
		}
	}
}

void expect_met(struct layer *l)
{
	layers_lock(l->ls);
	if (l->expected_ns != 0) {
		l->expected_ns = 0;
		l->holds--;
	}
	layers_unlock(l->ls);
}

/* Return: a layer that was not asked for, 0: none */
static int64_t next_due(struct layers *ls, uint64_t now, uint64_t *ret_ns)
{
	int64_t id = 0;

	*ret_ns = 0;
	layers_lock(ls);
	LIST_EACH(it, &ls->all)
	{
		struct layer *l = LIST_ENTRY(it, struct layer, node);

		if (l->expected_ns == 0)
			continue;
		if (id == 0 && l->expected_ns <= now) {
			l->expected_ns = 0;
			id = l->id;
		} else if (*ret_ns == 0 || l->expected_ns < *ret_ns) {
			*ret_ns = l->expected_ns;
		}
	}
	layers_unlock(ls);
	return id;
}

uint64_t expect_turn(struct layers *ls)
{
	uint64_t ns;
	int64_t id;

	while ((id = next_due(ls, io_now_ns(), &ns)) != 0)
		layers_release(ls, id);
	return ns;
}
