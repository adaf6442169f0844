/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that come when they are needed. */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/list.h"
#include "daemon/snapshotter/pool.h"

#define N 200u
#define THREADS 8u

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	unsigned running;
	unsigned most;
	unsigned done;
	bool open;
};

struct work {
	struct pool_job job;
	struct gate *gate;
};

static struct gate new_gate(void)
{
	return (struct gate){
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.moved = PTHREAD_COND_INITIALIZER,
	};
}

static void pass(struct pool_job *job)
{
	struct gate *g = LIST_ENTRY(job, struct work, job)->gate;

	assert_int_equal(pthread_mutex_lock(&g->lock), 0);
	g->running++;
	g->most = MAX(g->most, g->running);
	assert_int_equal(pthread_cond_broadcast(&g->moved), 0);
	while (!g->open)
		assert_int_equal(pthread_cond_wait(&g->moved, &g->lock), 0);
	g->running--;
	g->done++;
	assert_int_equal(pthread_mutex_unlock(&g->lock), 0);
}

static void open_gate(struct gate *g)
{
	assert_int_equal(pthread_mutex_lock(&g->lock), 0);
	g->open = true;
	assert_int_equal(pthread_cond_broadcast(&g->moved), 0);
	assert_int_equal(pthread_mutex_unlock(&g->lock), 0);
}

static void wait_running(struct gate *g, unsigned n)
{
	assert_int_equal(pthread_mutex_lock(&g->lock), 0);
	while (g->running < n)
		assert_int_equal(pthread_cond_wait(&g->moved, &g->lock), 0);
	assert_int_equal(pthread_mutex_unlock(&g->lock), 0);
}

static void run_all(struct pool *p, struct work *w, size_t n, struct gate *g)
{
	for (size_t i = 0; i < n; i++) {
		w[i] = (struct work){.job = {.fn = pass}, .gate = g};
		assert_int_equal(pool_run(p, &w[i].job), 0);
	}
}

/* Jobs that wait do not keep others from running, up to the limit. */
static void test_as_many_as_allowed(void **state)
{
	static struct work w[N];
	struct gate g = new_gate();
	struct pool *p = pool_new(THREADS);

	(void)state;
	assert_non_null(p);
	run_all(p, w, N, &g);
	wait_running(&g, THREADS);
	assert_int_equal(pool_wait(p, 1), -ETIMEDOUT);
	open_gate(&g);
	assert_int_equal(pool_wait(p, 60000), 0);
	assert_int_equal(g.done, N);
	assert_int_equal(g.most, THREADS);
	pool_free(p);
}

static void test_queued_jobs_run_before_the_end(void **state)
{
	static struct work w[N];
	struct gate g = new_gate();
	struct pool *p = pool_new(1);

	(void)state;
	run_all(p, w, N, &g);
	open_gate(&g);
	pool_free(p);
	assert_int_equal(g.done, N);
	assert_int_equal(g.most, 1);
}

static void test_one_after_the_other(void **state)
{
	struct work w;
	struct gate g = new_gate();
	struct pool *p = pool_new(THREADS);

	(void)state;
	open_gate(&g);
	for (unsigned i = 0; i < N; i++) {
		run_all(p, &w, 1, &g);
		assert_int_equal(pool_wait(p, 60000), 0);
		assert_int_equal(g.done, i + 1);
	}
	pool_free(p);
}

static void test_nothing_to_do(void **state)
{
	struct pool *p = pool_new(THREADS);

	(void)state;
	assert_int_equal(pool_wait(p, 0), 0);
	pool_free(p);
	pool_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_many_as_allowed),
		cmocka_unit_test(test_queued_jobs_run_before_the_end),
		cmocka_unit_test(test_one_after_the_other),
		cmocka_unit_test(test_nothing_to_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
