/* SPDX-License-Identifier: Apache-2.0 */
/* Calls whose methods run on threads: what a method sees of a client that
 * waits, reads slowly, gives up or goes away, and the other way round. */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/io.h"
#include "daemon/snapshotter/pool.h"
#include "tests/unit/h2client.h"

#define PIECE_BYTES 10000u
#define PUMP_NS (1 * NSEC_PER_MSEC)

struct fixture {
	struct loop *loop;
	struct pool *pool;
	struct grpc *g;
	struct client c;
	struct loop_timer pump;
	bool (*until)(struct fixture *f);

	pthread_mutex_t lock;
	/* guarded by lock */
	pthread_cond_t moved;
	bool open;        /* the gate of Wait */
	unsigned waiting; /* at the gate, or in grpc_reply() of Stream */
	unsigned begun;
	unsigned ended;
	unsigned n_pieces;
	int result; /* of the last grpc_reply() */
};

static void lock(struct fixture *f)
{
	assert_int_equal(pthread_mutex_lock(&f->lock), 0);
}

static void unlock(struct fixture *f)
{
	assert_int_equal(pthread_cond_broadcast(&f->moved), 0);
	assert_int_equal(pthread_mutex_unlock(&f->lock), 0);
}

/* Waits at the gate, then replies. */
static int do_wait(void *arg, struct grpc_call *call, const uint8_t *req,
		   size_t len, struct err *e)
{
	struct fixture *f = arg;
	int r;

	(void)e;
	lock(f);
	f->begun++;
	f->waiting++;
	assert_int_equal(pthread_cond_broadcast(&f->moved), 0);
	while (!f->open)
		assert_int_equal(pthread_cond_wait(&f->moved, &f->lock), 0);
	f->waiting--;
	unlock(f);
	r = grpc_reply(call, req, len);
	lock(f);
	f->result = r;
	f->ended++;
	unlock(f);
	return r;
}

/* Replies until nobody wants more. */
static int do_stream(void *arg, struct grpc_call *call, const uint8_t *req,
		     size_t len, struct err *e)
{
	static const uint8_t piece[PIECE_BYTES];
	struct fixture *f = arg;
	int r = 0;

	(void)req;
	(void)len;
	(void)e;
	while (r == 0) {
		r = grpc_reply(call, piece, sizeof(piece));
		lock(f);
		f->n_pieces += r == 0;
		f->result = r;
		unlock(f);
	}
	lock(f);
	f->ended++;
	unlock(f);
	return r;
}

static const struct grpc_method methods[] = {
	{.path = "/t.T/Wait", .fn = do_wait},
	{.path = "/t.T/Stream", .fn = do_stream},
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = {0};

	assert_non_null(f);
	f->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	f->moved = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
	f->loop = loop_new();
	f->pool = pool_new(4);
	assert_non_null(f->loop);
	assert_non_null(f->pool);
	assert_int_equal(grpc_new(&f->g, f->loop, f->pool, -1, methods,
				  ARRAY_SIZE(methods), f, &e),
			 0);
	client_open(&f->c, f->g);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	client_close(&f->c);
	pool_free(f->pool);
	grpc_free(f->g);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void open_gate(struct fixture *f)
{
	lock(f);
	f->open = true;
	unlock(f);
}

static void wait_begun(struct fixture *f, unsigned n)
{
	lock(f);
	while (f->begun < n)
		assert_int_equal(pthread_cond_wait(&f->moved, &f->lock), 0);
	unlock(f);
}

static void wait_ended(struct fixture *f, unsigned n)
{
	lock(f);
	while (f->ended < n)
		assert_int_equal(pthread_cond_wait(&f->moved, &f->lock), 0);
	unlock(f);
}

/* The connection has no descriptor that would wake the loop. */
static void on_pump(struct loop_timer *t)
{
	struct fixture *f = LIST_ENTRY(t, struct fixture, pump);

	if (f->c.conn != NULL)
		assert_int_equal(client_pump(&f->c), 0);
	if (f->until(f))
		loop_stop(f->loop);
	else
		loop_timer_set(f->loop, t, loop_now(f->loop) + PUMP_NS);
}

static void run_until(struct fixture *f, bool (*until)(struct fixture *f))
{
	f->until = until;
	f->pump.fn = on_pump;
	loop_timer_set(f->loop, &f->pump, io_now_ns());
	assert_int_equal(loop_run(f->loop), 0);
}

static bool closed(struct fixture *f)
{
	return f->c.out.closed;
}

static void send_call(struct fixture *f, const char *path,
		      const char *const *extra)
{
	client_send(&f->c, path, "\0\0\0\0\2hi", 7, extra);
	assert_int_equal(client_pump(&f->c), 0);
}

static void test_method_on_a_thread(void **state)
{
	struct fixture *f = *state;

	send_call(f, "/t.T/Wait", NULL);
	wait_begun(f, 1);
	assert_int_equal(client_pump(&f->c), 0);
	assert_false(f->c.out.closed);
	open_gate(f);
	run_until(f, closed);
	assert_string_equal(f->c.out.status, "0");
	assert_int_equal(f->c.out.n_body, 7);
	assert_memory_equal(f->c.out.body, "\0\0\0\0\2hi", 7);
}

static void test_deadline(void **state)
{
	static const char *const extra[] = {"grpc-timeout", "1m", NULL};
	struct fixture *f = *state;

	send_call(f, "/t.T/Wait", extra);
	wait_begun(f, 1);
	run_until(f, closed);
	assert_string_equal(f->c.out.status, "4");
	assert_string_equal(f->c.out.message, "the deadline has passed");
	assert_true(f->c.out.trailers_only);
	/* The method goes on; nobody wants its reply. */
	assert_int_equal(f->ended, 0);
	open_gate(f);
	wait_ended(f, 1);
	assert_int_equal(f->result, -ECANCELED);
}

static void test_deadline_of_what_is_queued(void **state)
{
	static const char *const extra[] = {"grpc-timeout", "1m", NULL};
	struct fixture *f = *state;

	for (unsigned i = 0; i < 4; i++)
		send_call(f, "/t.T/Wait", NULL);
	wait_begun(f, 4);
	send_call(f, "/t.T/Wait", extra);
	run_until(f, closed);
	assert_string_equal(f->c.out.status, "4");
	open_gate(f);
	wait_ended(f, 4);
	assert_int_equal(pool_wait(f->pool, 60000), 0);
	/* It never began. */
	assert_int_equal(f->begun, 4);
}

static void test_cancel(void **state)
{
	struct fixture *f = *state;

	send_call(f, "/t.T/Wait", NULL);
	wait_begun(f, 1);
	assert_int_equal(nghttp2_submit_rst_stream(f->c.session, 0, f->c.stream,
						   NGHTTP2_CANCEL),
			 0);
	assert_int_equal(client_pump(&f->c), 0);
	open_gate(f);
	wait_ended(f, 1);
	assert_int_equal(f->result, -ECANCELED);
	/* The connection is as good as ever. */
	send_call(f, "/t.T/Wait", NULL);
	run_until(f, closed);
	assert_string_equal(f->c.out.status, "0");
}

static void test_connection_gone(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 100; i++)
		send_call(f, "/t.T/Wait", NULL);
	wait_begun(f, 4);
	client_close(&f->c);
	open_gate(f);
	assert_int_equal(pool_wait(f->pool, 60000), 0);
	assert_int_equal(f->result, -ECANCELED);
	assert_int_equal(f->begun, 4);
	client_open(&f->c, f->g);
	send_call(f, "/t.T/Wait", NULL);
	run_until(f, closed);
	assert_string_equal(f->c.out.status, "0");
}

/* The method is held at the bound, wherever the client stops. */
static bool full(struct fixture *f)
{
	static unsigned last, same;

	lock(f);
	same = f->n_pieces == last ? same + 1 : 0;
	last = f->n_pieces;
	unlock(f);
	return same > 100 && last * PIECE_BYTES > GRPC_QUEUED_BYTES_MAX;
}

static void test_reply_is_bounded(void **state)
{
	struct fixture *f = *state;
	unsigned ended, n_pieces;

	/* Nothing is sent beyond the window, which is never opened again. */
	f->c.deaf = true;
	send_call(f, "/t.T/Stream", NULL);
	run_until(f, full);
	lock(f);
	ended = f->ended;
	n_pieces = f->n_pieces;
	unlock(f);
	assert_int_equal(ended, 0);
	assert_in_range(n_pieces * PIECE_BYTES, GRPC_QUEUED_BYTES_MAX,
			GRPC_QUEUED_BYTES_MAX + 3 * 65536);
	assert_int_equal(nghttp2_submit_rst_stream(f->c.session, 0, f->c.stream,
						   NGHTTP2_CANCEL),
			 0);
	assert_int_equal(client_pump(&f->c), 0);
	wait_ended(f, 1);
	assert_int_equal(f->result, -ECANCELED);
}

static void on_done(void *arg)
{
	struct fixture *f = arg;

	loop_stop(f->loop);
}

/* Whoever is not answered in time is cut off. */
static void test_shutdown_cuts(void **state)
{
	struct fixture *f = *state;

	send_call(f, "/t.T/Wait", NULL);
	wait_begun(f, 1);
	grpc_shutdown(f->g, 1, on_done, f);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(h2_n_conns(grpc_h2(f->g)), 0);
	f->c.conn = NULL;
	assert_int_equal(pool_wait(f->pool, 1), -ETIMEDOUT);
	open_gate(f);
	assert_int_equal(pool_wait(f->pool, 60000), 0);
	assert_int_equal(f->result, -ECANCELED);
}

int main(void)
{
#define CALL(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		CALL(test_method_on_a_thread),
		CALL(test_deadline),
		CALL(test_deadline_of_what_is_queued),
		CALL(test_cancel),
		CALL(test_connection_gone),
		CALL(test_reply_is_bounded),
		CALL(test_shutdown_cuts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
