/* SPDX-License-Identifier: Apache-2.0 */
/* Threads for what may wait. They come when they are needed and go when they
 * have been idle for a while, so that an idle process has none. */
#ifndef SNAPSHOTTER_POOL_H
#define SNAPSHOTTER_POOL_H

#include "common/base.h"

#define POOL_THREADS_MAX 64u
#define POOL_STACK_BYTES KIB(256)

struct pool;

/* Embedded in what is to be done. */
struct pool_job {
	void (*fn)(struct pool_job *job);
	struct pool_job *next;
};

/* Return: NULL when out of memory */
struct pool *pool_new(unsigned threads_max);
/* Waits for the jobs that run; those queued are run first. */
void pool_free(struct pool *p);
/* Any thread. Never waits. Return: 0, -errno: no thread could be made at all */
int pool_run(struct pool *p, struct pool_job *job);
/* Return: 0 no job is queued or runs; -ETIMEDOUT some still do */
int pool_wait(struct pool *p, unsigned timeout_ms);

#endif
