/* SPDX-License-Identifier: Apache-2.0 */
/* Out of memory: the n-th allocation of the server fails, for every n. What was
 * asked fails in an orderly way, others are served, and nothing leaks. */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/h2client.h"

#define NEVER UINT32_MAX

/* Allocations until the one that fails; linked with --wrap. */
static unsigned left = NEVER;
static unsigned n_failed;

static bool fails(void)
{
	if (left == NEVER)
		return false;
	if (left > 0) {
		left--;
		return false;
	}
	left = NEVER;
	n_failed++;
	return true;
}

/* Named by the linker. */
void *real_malloc(size_t n) __asm__("__real_malloc");
void *real_calloc(size_t n, size_t size) __asm__("__real_calloc");
void *real_realloc(void *p, size_t n) __asm__("__real_realloc");
char *real_strdup(const char *s) __asm__("__real_strdup");
void *wrap_malloc(size_t n) __asm__("__wrap_malloc");
void *wrap_calloc(size_t n, size_t size) __asm__("__wrap_calloc");
void *wrap_realloc(void *p, size_t n) __asm__("__wrap_realloc");
char *wrap_strdup(const char *s) __asm__("__wrap_strdup");

void *wrap_malloc(size_t n)
{
	return fails() ? NULL : real_malloc(n);
}

void *wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : real_calloc(n, size);
}

void *wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : real_realloc(p, n);
}

char *wrap_strdup(const char *s)
{
	return fails() ? NULL : real_strdup(s);
}

static int do_echo(void *arg, struct grpc_call *call, const uint8_t *req,
		   size_t len, struct err *e)
{
	int r = grpc_reply(call, req, len);

	(void)arg;
	return r < 0 ? err_set(e, r, "no memory for the reply") : 0;
}

static int do_fail(void *arg, struct grpc_call *call, const uint8_t *req,
		   size_t len, struct err *e)
{
	(void)arg;
	(void)call;
	(void)req;
	(void)len;
	return err_set(e, -ENOENT, "not here");
}

static const struct grpc_method methods[] = {
	{.path = "/t.T/Echo", .fn = do_echo},
	{.path = "/t.T/Fail", .fn = do_fail},
};

static struct grpc *new_server(struct loop *loop)
{
	struct grpc *g = NULL;
	struct err e = {0};
	int r = grpc_new(&g, loop, NULL, -1, methods, ARRAY_SIZE(methods), NULL,
			 &e);

	assert_true(r == 0 || r == -ENOMEM);
	assert_true((r == 0) == (g != NULL));
	return g;
}

static void test_server(void **state)
{
	struct loop *loop = loop_new();

	(void)state;
	for (unsigned n = 0; n_failed == n; n++) {
		left = n;
		grpc_free(new_server(loop));
		left = NEVER;
	}
	assert_in_range(n_failed, 2, 20);
	loop_free(loop);
}

static void test_connection(void **state)
{
	struct loop *loop = loop_new();
	struct grpc *g = new_server(loop);
	struct h2_conn *c;

	(void)state;
	left = 0;
	c = h2_conn_new(grpc_h2(g), -1);
	assert_null(c);
	assert_int_equal(h2_n_conns(grpc_h2(g)), 0);
	left = NEVER;
	grpc_free(g);
	loop_free(loop);
}

/* Each with a connection of its own: it may not outlive this. */
static void one_call(struct grpc *g, const char *path, const char *want)
{
	static const char message[] = "\0\0\0\0\5hello";
	unsigned failed = n_failed, n = left;
	struct client c;
	int r;

	left = NEVER;
	client_open(&c, g);
	assert_int_equal(client_pump(&c), 0);
	client_send(&c, path, message, sizeof(message) - 1, NULL);
	left = n;
	r = client_pump(&c);
	left = NEVER;
	if (n_failed == failed)
		assert_string_equal(c.out.status, want);
	else if (r == 0 && c.out.status[0] != '\0')
		/* The reason may be lost, but never that it failed. */
		assert_true(strcmp(c.out.status, "8") == 0 ||
			    strcmp(c.out.status, want) == 0);
	else
		assert_true(r == -ENOMEM || c.out.code != NGHTTP2_NO_ERROR);
	client_close(&c);
}

static void check_path(const char *path, const char *want)
{
	struct loop *loop = loop_new();
	struct grpc *g = new_server(loop);

	n_failed = 0;
	for (unsigned n = 0; n_failed == n; n++) {
		left = n;
		one_call(g, path, want);
		one_call(g, path, want);
	}
	assert_in_range(n_failed, 1, 20);
	grpc_free(g);
	loop_free(loop);
}

static void test_calls(void **state)
{
	(void)state;
	check_path("/t.T/Echo", "0");
	check_path("/t.T/Fail", "5");
	check_path("/t.T/Nix", "12");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server),
		cmocka_unit_test(test_connection),
		cmocka_unit_test(test_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
