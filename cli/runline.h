/* SPDX-License-Identifier: Apache-2.0 */
/* Watching what a process writes for a line. Pure. */
#ifndef CLI_RUNLINE_H
#define CLI_RUNLINE_H

#include <regex.h>

#include "common/base.h"
#include "common/err.h"

#define RUNLINE_BYTES_MAX KIB(16) /* of a line; what is behind is not seen */

/**
 * struct runline - what is looked for
 * @text:	borrowed; a line that has it is one
 * @has_regex:	it is an extended regular expression, too
 */
struct runline {
	const char *text;
	regex_t regex;
	bool has_regex;
};

/* Return: 0, -EINVAL */
int runline_init(struct runline *l, const char *text, struct err *e);
void runline_done(struct runline *l);

/**
 * struct runline_stream - the line that a stream is in
 */
struct runline_stream {
	char *line;
	size_t len;
};
void runline_stream_done(struct runline_stream *s);

/* Takes @n more bytes of a stream. Return: 1: a line in them, which need not be
 * at its end, is what is looked for; 0; -ENOMEM */
int runline_feed(const struct runline *l, struct runline_stream *s,
		 const char *p, size_t n);

#endif
