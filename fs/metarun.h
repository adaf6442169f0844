/* SPDX-License-Identifier: Apache-2.0 */
/* A process that looks into layers for the front (common/meta.h): started, asked
 * once, ended. */
#ifndef FS_METARUN_H
#define FS_METARUN_H

#include <sys/types.h>

#include "common/base.h"
#include "common/err.h"

struct metarun {
	int sock; /* our end, for meta_check() and its like */
	pid_t pid;
};

/* Return: 0, -errno with @e */
int metarun_start(struct metarun *m, struct err *e);

/* It has answered, or is killed; when this returns, it is no more. */
void metarun_end(struct metarun *m);

#endif
