/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: a list of files to put in front, as people write it: a path or a glob a
 * line; empty lines are skipped, and those that begin with '#'. The order of the lines
 * is the order of the files; those that one glob matches are in the order in
 * which they are asked about.
 *
 * '*' matches any number of characters, '?' one, "[a-z]" and "[!a-z]" one byte,
 * none of them '/'; "{a,b}" either, '\' takes away a meaning, and "**" as a whole component any
 * number of them, none included. A leading '/' says nothing: paths are of the
 * image.
 */
#ifndef CLI_GLOB_H
#define CLI_GLOB_H

#include "common/base.h"
#include "common/err.h"

#define GLOB_LINES_MAX 100000u
#define GLOB_PATTERN_BYTES_MAX 4096u
#define GLOB_BRACES_MAX 1024u /* patterns that one line stands for */

/**
 * struct glob_line - a line of the list
 * @pattern:	cleaned: without leading '/' and "./"; braces are written out,
 *		so that one line may be several of these
 * @line:	its number in the file, from 1
 * @literal:	no glob: @pattern is the path
 */
struct glob_line {
	char *pattern;
	unsigned line;
	bool literal;
};

struct glob_list {
	struct glob_line *lines;
	size_t n;
};

/**
 * glob_list_parse() - parse a list
 * @text:	[@len]
 *
 * Return: 0, -EBADMSG with the line's number, -EOVERFLOW, -ENOMEM
 */
int glob_list_parse(const char *text, size_t len, struct glob_list *ret,
		    struct err *e);
void glob_list_done(struct glob_list *g);
#define CLEANUP_GLOB_LIST CLEANUP(glob_list_done)

/* Whether a path, without a leading '/', is what the pattern of a line that is
 * not literal says. Takes time in proportion to the product of their lengths at
 * most. */
bool glob_match(const char *pattern, const char *path);

#endif
