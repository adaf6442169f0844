/* SPDX-License-Identifier: Apache-2.0 */
/* A process that looks into layers for us (common/meta.h): started, asked once by
 * the thread that started it, ended. */
#ifndef SNAPSHOTTER_METAPROC_H
#define SNAPSHOTTER_METAPROC_H

#include <sys/types.h>

#include "common/base.h"
#include "common/err.h"

struct metaproc {
	int sock; /* our end, for meta_merge() and its like */
	pid_t pid;
};

/* @estargzfs: the program. Return: 0, -errno with @e */
int metaproc_start(const char *estargzfs, struct metaproc *ret, struct err *e);

/* It has answered, or is killed; when this returns, it is no more. */
void metaproc_end(struct metaproc *p);

#endif
