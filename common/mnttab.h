/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's list of mounts, in the form of /proc/self/mounts: SOURCE TARGET TYPE
 * OPTIONS 0 0, where blanks, tabs, line feeds, backslashes and '#' in a field are
 * three octal digits behind a backslash. getmntent(3) does not know the last
 * one, and takes a source that begins with it for a comment.
 */
#ifndef COMMON_MNTTAB_H
#define COMMON_MNTTAB_H

#include <mntent.h>
#include <stdio.h>

#include "common/base.h"

#define MNTTAB_SELF "/proc/self/mounts"

/* @line: owned; what @m points into. Zero-initialised before the first one */
struct mnttab {
	char *line;
	size_t cap;
	struct mntent m;
};

/* The next mount of a list, in @t->m, valid until the one after that. Return: false: there
 * is none */
bool mnttab_next(struct mnttab *t, FILE *list);
void mnttab_done(struct mnttab *t);
#define CLEANUP_MNTTAB CLEANUP(mnttab_done)

#endif
