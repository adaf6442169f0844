/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sparse files. Old GNU ('S'): 4 pieces in the header block, 21 in each block
 * that follows it. PAX 0.0 and 0.1: in records. PAX 1.0: decimal lines at the
 * front of the payload, padded to whole blocks.
 */
#include "config.h"

#include <string.h>

#include "cli/build/tar_int.h"
#include "common/checked.h"

#define GNU_SEGS 386u
#define GNU_SEGS_N 4u
#define GNU_EXTENDED 482u
#define GNU_REALSIZE 483u
#define EXT_SEGS_N 21u
#define EXT_EXTENDED 504u
#define SEG_BYTES 24u
#define SEGS_MAX 131072u
#define LINE_BYTES_MAX 20u

int tar_seg_add(struct tar *t, uint64_t off, uint64_t len)
{
	struct tar_segs *s = &t->segs;
	struct tar_seg *p;

	if (s->n == SEGS_MAX)
		return -EOVERFLOW;
	if (s->n == s->cap) {
		size_t cap = MAX((size_t)32, s->cap * 2);

		p = realloc(s->p, cap * sizeof(*p));
		if (p == NULL)
			return -ENOMEM;
		s->p = p;
		s->cap = cap;
	}
	s->p[s->n++] = (struct tar_seg){off, len};
	return 0;
}

/* [n] pieces of a block; the first that is empty ends them. */
static int gnu_segs(struct tar *t, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n && p[0] != '\0'; i++, p += SEG_BYTES) {
		int64_t off, len;
		int r;

		if (tar_number(p, 12, &off) < 0 ||
		    tar_number(p + 12, 12, &len) < 0 || off < 0 || len < 0)
			return -EBADMSG;
		r = tar_seg_add(t, (uint64_t)off, (uint64_t)len);
		if (r < 0)
			return r;
	}
	return 0;
}

static int gnu_map(struct tar *t, size_t block, struct err *e)
{
	const uint8_t *p = (const uint8_t *)t->head.p + block;
	bool more = p[GNU_EXTENDED] != 0;
	uint8_t ext[TAR_BLOCK_BYTES];
	int64_t size;
	int r;

	if (tar_number(p + GNU_REALSIZE, 12, &size) < 0 || size < 0)
		return -EBADMSG;
	t->size = (uint64_t)size;
	t->segs.n = 0;
	r = gnu_segs(t, p + GNU_SEGS, GNU_SEGS_N);
	while (r == 0 && more) {
		ssize_t n = tar_take(t, ext, sizeof(ext), e);

		if (n < 0)
			return (int)n;
		if (n < (ssize_t)sizeof(ext))
			return -EBADMSG;
		more = ext[EXT_EXTENDED] != 0;
		r = gnu_segs(t, ext, EXT_SEGS_N);
	}
	return r;
}

/* The lines of a 1.0 map, read block by block from the payload. */
struct lines {
	struct tar *t;
	uint64_t *stored;
	uint8_t block[TAR_BLOCK_BYTES];
	size_t pos;
};

static int line_number(struct lines *l, uint64_t *ret, struct err *e)
{
	uint64_t v = 0;

	for (size_t digits = 0;; digits++) {
		uint8_t c;

		if (l->pos == sizeof(l->block)) {
			ssize_t n;

			if (*l->stored < sizeof(l->block))
				return -EBADMSG;
			n = tar_take(l->t, l->block, sizeof(l->block), e);
			if (n < 0)
				return (int)n;
			if (n < (ssize_t)sizeof(l->block))
				return -EBADMSG;
			*l->stored -= sizeof(l->block);
			l->pos = 0;
		}
		c = l->block[l->pos++];
		if (c == '\n' && digits > 0)
			break;
		if (c < '0' || c > '9' || digits == LINE_BYTES_MAX ||
		    !checked_mul_u64(v, 10, &v) ||
		    !checked_add_u64(v, (uint64_t)(c - '0'), &v))
			return -EBADMSG;
	}
	*ret = v;
	return 0;
}

static int pax_1_0(struct tar *t, uint64_t *stored, struct err *e)
{
	struct lines l = {.t = t, .stored = stored, .pos = TAR_BLOCK_BYTES};
	uint64_t n, off, len;
	int r;

	t->segs.n = 0;
	r = line_number(&l, &n, e);
	if (r < 0)
		return r;
	if (n > SEGS_MAX)
		return -EOVERFLOW;
	for (uint64_t i = 0; i < n; i++) {
		r = line_number(&l, &off, e);
		if (r == 0)
			r = line_number(&l, &len, e);
		if (r == 0)
			r = tar_seg_add(t, off, len);
		if (r < 0)
			return r;
	}
	return 0;
}

/* In order, apart, inside the file, and as long as what is stored. */
static int segs_check(const struct tar *t, uint64_t stored)
{
	uint64_t end = 0, sum = 0;

	for (size_t i = 0; i < t->segs.n; i++) {
		const struct tar_seg *s = &t->segs.p[i];

		if (s->off < end || !checked_range(s->off, s->len, t->size))
			return -EBADMSG;
		end = s->off + s->len;
		sum += s->len;
	}
	return sum == stored ? 0 : -EBADMSG;
}

static int pax_map(struct tar *t, uint64_t *stored, struct err *e)
{
	const struct tar_pax *p = &t->pax;

	if (!p->sparse_size.set || p->sparse_size.v < 0)
		return -EBADMSG;
	t->size = (uint64_t)p->sparse_size.v;
	return p->sparse_map ? 0 : pax_1_0(t, stored, e);
}

static bool is_1_0(const struct tar_pax *p)
{
	return p->sparse_major.set && p->sparse_major.v == 1 &&
	       p->sparse_minor.set && p->sparse_minor.v == 0;
}

int tar_sparse_start(struct tar *t, size_t block, uint64_t *stored,
		     struct err *e)
{
	bool gnu = t->head.p[block + TAR_TYPE] == 'S';
	struct err why = {0}; /* the input's, where it is that */
	int r;

	if (!gnu && !t->pax.sparse_map && !is_1_0(&t->pax))
		return 0;
	r = gnu ? gnu_map(t, block, &why) : pax_map(t, stored, &why);
	if (r == 0)
		r = segs_check(t, *stored);
	if (r < 0 && why.code == 0)
		return tar_bad(t, e, r, "bad map of holes");
	if (r < 0)
		return err_set(e, r, "%s", why.text);
	t->sparse = true;
	t->seg = 0;
	t->pos = 0;
	return 0;
}
