/* SPDX-License-Identifier: Apache-2.0 */
/* A layer in memory, as the builder and the reader of tar archives take it. */
#ifndef TESTS_UNIT_MEMSOURCE_H
#define TESTS_UNIT_MEMSOURCE_H

#include <string.h>

#include "cli/build/build.h"
#include "common/base.h"

/**
 * struct memsource - what is read
 * @p:		[@len], borrowed
 * @step:	bytes that are given at a time, > 0
 */
struct memsource {
	const void *p;
	size_t len;
	size_t pos;
	size_t step;
};

/* struct build_in's read(); @arg is a struct memsource. */
static inline ssize_t memsource_read(void *arg, void *p, size_t n,
				     struct err *e)
{
	struct memsource *s = arg;

	(void)e;
	n = MIN(n, s->len - s->pos);
	n = MIN(n, s->step);
	if (n > 0)
		memcpy(p, (const char *)s->p + s->pos, n);
	s->pos += n;
	return (ssize_t)n;
}

#endif
