/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/pool.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "common/io.h"

#define IDLE_MS 5000u

struct pool {
	unsigned threads_max;
	pthread_attr_t attr;

	pthread_mutex_t lock;
	/* guarded by lock */
	pthread_cond_t work; /* a job is there, or the pool ends */
	pthread_cond_t rest; /* a job or a thread has ended */
	struct pool_job *head;
	struct pool_job **tail;
	unsigned n_queued;
	unsigned n_threads;
	unsigned n_idle;
	unsigned n_running; /* jobs */
	bool ending;
};

static struct timespec deadline(unsigned ms)
{
	uint64_t ns = io_now_ns() + ms * NSEC_PER_MSEC;

	return (struct timespec){
		.tv_sec = (time_t)(ns / NSEC_PER_SEC),
		.tv_nsec = (long)(ns % NSEC_PER_SEC),
	};
}

struct pool *pool_new(unsigned threads_max)
{
	struct pool *p = calloc(1, sizeof(*p));
	pthread_condattr_t ca;

	if (p == NULL)
		return NULL;
	p->threads_max = threads_max;
	p->tail = &p->head;
	/* None of these fails on Linux. */
	(void)pthread_condattr_init(&ca);
	(void)pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&p->work, &ca);
	(void)pthread_cond_init(&p->rest, &ca);
	(void)pthread_condattr_destroy(&ca);
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_attr_init(&p->attr);
	(void)pthread_attr_setstacksize(&p->attr, POOL_STACK_BYTES);
	(void)pthread_attr_setdetachstate(&p->attr, PTHREAD_CREATE_DETACHED);
	return p;
}

void pool_free(struct pool *p)
{
	if (p == NULL)
		return;
	(void)pthread_mutex_lock(&p->lock);
	p->ending = true;
	(void)pthread_cond_broadcast(&p->work);
	while (p->n_threads > 0)
		(void)pthread_cond_wait(&p->rest, &p->lock);
	(void)pthread_mutex_unlock(&p->lock);
	(void)pthread_mutex_destroy(&p->lock);
	(void)pthread_cond_destroy(&p->work);
	(void)pthread_cond_destroy(&p->rest);
	(void)pthread_attr_destroy(&p->attr);
	free(p);
}

/* Waits for a job, for a while; with the lock held. NULL: there is none. */
static struct pool_job *take(struct pool *p)
{
	struct timespec until = deadline(IDLE_MS);
	struct pool_job *job;
	int r = 0;

	p->n_idle++;
	while (p->head == NULL && !p->ending && r == 0)
		r = pthread_cond_timedwait(&p->work, &p->lock, &until);
	p->n_idle--;
	job = p->head;
	if (job == NULL)
		return NULL;
	p->n_queued--;
	p->n_running++;
	p->head = job->next;
	if (p->head == NULL)
		p->tail = &p->head;
	return job;
}

static void *run(void *arg)
{
	struct pool *p = arg;
	struct pool_job *job;

	(void)pthread_mutex_lock(&p->lock);
	while ((job = take(p)) != NULL) {
		(void)pthread_mutex_unlock(&p->lock);
		job->fn(job);
		(void)pthread_mutex_lock(&p->lock);
		p->n_running--;
		(void)pthread_cond_broadcast(&p->rest);
	}
	p->n_threads--;
	(void)pthread_cond_broadcast(&p->rest);
	(void)pthread_mutex_unlock(&p->lock);
	return NULL;
}

int pool_run(struct pool *p, struct pool_job *job)
{
	pthread_t t;
	int r = 0;

	(void)pthread_mutex_lock(&p->lock);
	assert(!p->ending);
	if (p->n_queued >= p->n_idle && p->n_threads < p->threads_max) {
		r = pthread_create(&t, &p->attr, run, p);
		if (r == 0)
			p->n_threads++;
	}
	if (p->n_threads > 0) {
		r = 0;
		job->next = NULL;
		*p->tail = job;
		p->tail = &job->next;
		p->n_queued++;
		(void)pthread_cond_signal(&p->work);
	}
	(void)pthread_mutex_unlock(&p->lock);
	return -r;
}

int pool_wait(struct pool *p, unsigned timeout_ms)
{
	struct timespec until = deadline(timeout_ms);
	int r = 0;

	(void)pthread_mutex_lock(&p->lock);
	while ((p->n_queued > 0 || p->n_running > 0) && r == 0)
		r = pthread_cond_timedwait(&p->rest, &p->lock, &until);
	(void)pthread_mutex_unlock(&p->lock);
	return -r;
}
