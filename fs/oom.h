/* SPDX-License-Identifier: Apache-2.0 */
/* Whom the kernel kills when memory is short. A monitor has next to nothing to give
 * back, and its death is noticed; a worker or a fetcher may have much, and another
 * one takes its place: they stay what the monitor was before. */
#ifndef FS_OOM_H
#define FS_OOM_H

#include "common/base.h"

#define OOM_MONITOR "-999"

/* oom_score_adj as text. */
struct oom {
	char adj[16];
};

/* What this process has now; empty where it cannot be read. */
void oom_get(struct oom *ret);
/* To lower it takes privileges; without them it stays. */
void oom_set(const char *adj);

#endif
