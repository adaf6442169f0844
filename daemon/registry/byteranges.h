/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: a body of several parts, as it arrives: multipart/byteranges, what a
 * request of several ranges is answered with. Hostile. Pure.
 *
 * A part says in its Content-Range how long it is; its bytes are not looked at,
 * and end there. Between parts there is nothing but the boundary, and next to
 * nothing behind the last.
 *
 * Spec: RFC 9110 §14.6, RFC 2046 §5.1.1
 */
#ifndef REGISTRY_BYTERANGES_H
#define REGISTRY_BYTERANGES_H

#include "common/base.h"
#include "daemon/registry/headers.h"

#define BYTERANGES_BOUNDARY_MAX 70u
#define BYTERANGES_LINE_MAX 512u
#define BYTERANGES_LINES_MAX 32u /* from the bytes of a part to the next's */

enum byteranges_state {
	BYTERANGES_OUTSIDE,
	BYTERANGES_HEADERS,
	BYTERANGES_INSIDE,
	BYTERANGES_OVER
};

/**
 * struct byteranges - private
 * @delimiter:	"--" and the boundary
 * @line:	[@n_line] what there is of one; OVER: @n_line bytes came since
 * @left:	bytes of the part that are still to come
 */
struct byteranges {
	enum byteranges_state state;
	char delimiter[2 + BYTERANGES_BOUNDARY_MAX + 1];
	char line[BYTERANGES_LINE_MAX];
	size_t n_line;
	unsigned n_lines;
	bool has_range;
	struct content_range range;
	uint64_t left;
};

enum byteranges_what {
	BYTERANGES_MORE, /* all of it is taken: the next must arrive */
	BYTERANGES_PART, /* one begins: m->range */
	BYTERANGES_DATA  /* bytes of it */
};

/* The value of Content-Type. Return: 0, -EBADMSG: no such body */
int byteranges_init(struct byteranges *m, const char *content_type);

/**
 * byteranges_next() - takes some of what has arrived
 * @p, @n:	what is left of it; moved on
 * @ret, @ret_n: BYTERANGES_DATA: bytes of the part, never none; in @p
 *
 * Return: enum byteranges_what, -EBADMSG (for good)
 */
int byteranges_next(struct byteranges *m, const uint8_t **p, size_t *n,
		    const uint8_t **ret, size_t *ret_n);

/* Whether nothing is missing at the end of the body. */
static inline bool byteranges_over(const struct byteranges *m)
{
	return m->state == BYTERANGES_OVER;
}

#endif
