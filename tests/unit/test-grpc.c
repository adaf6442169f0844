/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC: its texts and messages, and whole calls over a connection without a
 * socket. */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/snapshotter/grpcmsg.h"
#include "tests/unit/h2client.h"

/* ---- texts ---- */

static void test_status(void **state)
{
	static const struct {
		int r;
		unsigned code;
	} rows[] = {
		{0, 0},          {1, 0},          {-EEXIST, 6},  {-ENOENT, 5},
		{-EBUSY, 9},     {-EINVAL, 3},    {-EAGAIN, 14}, {-ENOSYS, 12},
		{-ETIMEDOUT, 4}, {-ECANCELED, 1}, {-ENOMEM, 8},  {-ENOSPC, 8},
		{-EIO, 2},       {-ENOTEMPTY, 2},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(grpc_status(rows[i].r), rows[i].code);
}

static void test_escape(void **state)
{
	static const char *const rows[][2] = {
		{"", ""},
		{"plain text, ~!", "plain text, ~!"},
		{"100%", "100%25"},
		{"a\nb\x7f", "a%0Ab%7F"},
		{"\xc3\xa9", "%C3%A9"},
		{"\xf0\x9f\x90\x8b.", "%F0%9F%90%8B."},
		/* cut, wrong and overlong sequences are left out */
		{"ab\xc3", "ab"},
		{"ab\xf0\x9f\x90", "ab"},
		{"a\xff"
		 "b",
		 "ab"},
		{"a\xc0\x80"
		 "b",
		 "ab"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *s = grpcmsg_escape(rows[i][0]);

		assert_string_equal(s, rows[i][1]);
		free(s);
	}
}

static void test_timeout(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} good[] = {
		{"1n", 1},
		{"7u", 7000},
		{"20m", 20000000},
		{"3S", 3000000000},
		{"2M", 120000000000},
		{"1H", 3600000000000},
		{"0S", 0},
		{"00000001S", 1000000000},
		{"99999999n", 99999999},
		{"99999999S", 99999999000000000},
		{"99999999H", GRPC_TIMEOUT_NS_MAX},
	};
	static const char *const bad[] = {
		"",    "S",   "1",   "1s",         "1 S",  "-1S",
		"+1S", " 1S", "1S ", "123456789S", "1.5S", "0x1S",
	};
	uint64_t ns;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(grpcmsg_timeout(good[i].text, &ns), 0);
		assert_int_equal(ns, good[i].ns);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(grpcmsg_timeout(bad[i], &ns), -EBADMSG);
}

static void test_content_type(void **state)
{
	(void)state;
	assert_true(grpcmsg_content_type("application/grpc"));
	assert_true(grpcmsg_content_type("application/grpc+proto"));
	assert_true(grpcmsg_content_type("application/grpc;charset=utf-8"));
	assert_false(grpcmsg_content_type("application/grpc-web"));
	assert_false(grpcmsg_content_type("application/grp"));
	assert_false(grpcmsg_content_type("application/json"));
	assert_false(grpcmsg_content_type(""));
}

/* ---- messages ---- */

#define MSG_MAX 1000u

/* All of it in pieces of @step bytes. Return: what the last step said. */
static enum grpc_code take(struct grpcmsg_in *in, const uint8_t *p, size_t n,
			   size_t step, const char **why)
{
	enum grpc_code code = GRPC_OK;

	*in = (struct grpcmsg_in){.body = BUF_INIT(MSG_MAX)};
	for (size_t at = 0; at < n && code == GRPC_OK; at += step)
		code = grpcmsg_add(in, p + at, MIN(step, n - at), why);
	return code == GRPC_OK ? grpcmsg_end(in, why) : code;
}

static void test_message_at_every_split(void **state)
{
	uint8_t bytes[5 + 300];
	struct grpcmsg_in in;
	const char *why = NULL;

	(void)state;
	grpcmsg_put_prefix(bytes, 300);
	for (unsigned i = 0; i < 300; i++)
		bytes[5 + i] = (uint8_t)(i * 7);
	for (size_t step = 1; step <= sizeof(bytes); step++) {
		assert_int_equal(take(&in, bytes, sizeof(bytes), step, &why),
				 GRPC_OK);
		assert_int_equal(in.body.len, 300);
		assert_memory_equal(in.body.p, bytes + 5, 300);
		buf_done(&in.body);
	}
	for (size_t n = 0; n < sizeof(bytes); n++) {
		assert_int_equal(take(&in, bytes, n, sizeof(bytes), &why),
				 n == 0 ? GRPC_UNIMPLEMENTED : GRPC_INTERNAL);
		assert_string_equal(why, n == 0 ? "no message"
						: "the message is cut off");
		buf_done(&in.body);
	}
}

static void test_message_errors(void **state)
{
	static const struct {
		uint8_t p[16];
		size_t n;
		enum grpc_code code;
		const char *why;
	} rows[] = {
		{{0, 0, 0, 0, 0}, 5, GRPC_OK, NULL},
		{{0, 0, 0, 0, 0, 0},
		 6,
		 GRPC_UNIMPLEMENTED,
		 "more than one message"},
		{{0, 0, 0, 0, 1, 9, 0},
		 7,
		 GRPC_UNIMPLEMENTED,
		 "more than one message"},
		{{1, 0, 0, 0, 1, 9},
		 6,
		 GRPC_UNIMPLEMENTED,
		 "compressed messages are not supported"},
		{{2, 0, 0, 0, 1, 9},
		 6,
		 GRPC_INTERNAL,
		 "malformed message prefix"},
		{{0, 0, 0, 3, 0xe9},
		 5,
		 GRPC_RESOURCE_EXHAUSTED,
		 "the message is too large"},
		{{0, 0xff, 0xff, 0xff, 0xff},
		 5,
		 GRPC_RESOURCE_EXHAUSTED,
		 "the message is too large"},
		{{0, 0, 0, 3, 0xe8},
		 5,
		 GRPC_INTERNAL,
		 "the message is cut off"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		for (size_t step = 1; step <= rows[i].n; step++) {
			struct grpcmsg_in in;
			const char *why = NULL;

			assert_int_equal(
				take(&in, rows[i].p, rows[i].n, step, &why),
				rows[i].code);
			if (rows[i].why != NULL)
				assert_string_equal(why, rows[i].why);
			buf_done(&in.body);
		}
	}
}

/* ---- calls ---- */

static int do_echo(void *arg, struct grpc_call *call, const uint8_t *req,
		   size_t len, struct err *e)
{
	(void)arg;
	(void)e;
	return grpc_reply(call, req, len);
}

static int do_twice(void *arg, struct grpc_call *call, const uint8_t *req,
		    size_t len, struct err *e)
{
	int r = grpc_reply(call, req, len);

	(void)arg;
	if (r == 0)
		r = grpc_reply(call, req, len);
	return r < 0 ? r : err_set(e, -EAGAIN, "and then it broke");
}

static int do_fail(void *arg, struct grpc_call *call, const uint8_t *req,
		   size_t len, struct err *e)
{
	(void)arg;
	(void)call;
	(void)req;
	(void)len;
	return err_set(e, -ENOENT, "no 100%% \xc3\xa9");
}

static const struct grpc_method methods[] = {
	{.path = "/t.T/Echo", .fn = do_echo},
	{.path = "/t.T/Twice", .fn = do_twice},
	{.path = "/t.T/Fail", .fn = do_fail},
};

struct fixture {
	struct loop *loop;
	struct grpc *g;
	struct client c;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = {0};

	assert_non_null(f);
	f->loop = loop_new();
	assert_non_null(f->loop);
	assert_int_equal(grpc_new(&f->g, f->loop, NULL, -1, methods,
				  ARRAY_SIZE(methods), NULL, &e),
			 0);
	client_open(&f->c, f->g);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	client_close(&f->c);
	grpc_free(f->g);
	loop_free(f->loop);
	free(f);
	return 0;
}

/* The end of a call with this status and message, and nothing before it. */
static void assert_refused(const struct outcome *o, const char *status,
			   const char *message)
{
	assert_string_equal(o->http, "200");
	assert_string_equal(o->type, "application/grpc");
	assert_string_equal(o->status, status);
	assert_string_equal(o->message, message);
	assert_true(o->trailers_only);
	assert_true(o->closed);
	assert_int_equal(o->code, NGHTTP2_NO_ERROR);
	assert_int_equal(o->n_body, 0);
}

static void test_call(void **state)
{
	struct fixture *f = *state;

	for (unsigned step = 0; step < 40; step++) {
		const struct outcome *o;

		f->c.step = step;
		o = client_call(&f->c, "/t.T/Echo", "hello", 5);
		assert_string_equal(o->http, "200");
		assert_string_equal(o->type, "application/grpc");
		assert_string_equal(o->status, "0");
		assert_string_equal(o->message, "");
		assert_false(o->trailers_only);
		assert_int_equal(o->n_body, 10);
		assert_memory_equal(o->body, "\0\0\0\0\5hello", 10);
		assert_true(o->closed);
	}
}

static void test_empty_message(void **state)
{
	struct fixture *f = *state;
	const struct outcome *o = client_call(&f->c, "/t.T/Echo", NULL, 0);

	assert_string_equal(o->status, "0");
	assert_int_equal(o->n_body, 5);
	assert_memory_equal(o->body, "\0\0\0\0\0", 5);
}

static void test_larger_than_frames_and_windows(void **state)
{
	static uint8_t msg[60000];
	struct fixture *f = *state;
	const struct outcome *o;

	for (size_t i = 0; i < sizeof(msg); i++)
		msg[i] = (uint8_t)(i * 31 >> 3);
	for (int i = 0; i < 3; i++) {
		o = client_call(&f->c, "/t.T/Echo", msg, sizeof(msg));
		assert_string_equal(o->status, "0");
		assert_int_equal(o->n_body, 5 + sizeof(msg));
		assert_memory_equal(o->body + 5, msg, sizeof(msg));
	}
}

static void test_method_fails(void **state)
{
	struct fixture *f = *state;

	assert_refused(client_call(&f->c, "/t.T/Fail", "x", 1), "5",
		       "no 100%25 %C3%A9");
}

static void test_fails_after_messages(void **state)
{
	struct fixture *f = *state;
	const struct outcome *o = client_call(&f->c, "/t.T/Twice", "ab", 2);

	assert_int_equal(o->n_body, 14);
	assert_memory_equal(o->body, "\0\0\0\0\2ab\0\0\0\0\2ab", 14);
	assert_string_equal(o->status, "14");
	assert_string_equal(o->message, "and then it broke");
	assert_false(o->trailers_only);
}

static void test_unknown_method(void **state)
{
	struct fixture *f = *state;

	assert_refused(client_call(&f->c, "/t.T/Nix", "x", 1), "12",
		       "unknown method");
	assert_refused(client_call(&f->c, "/", "x", 1), "12", "unknown method");
}

/* What is in a request and what comes of it. */
static const struct outcome *raw(struct client *c, const void *p, size_t n,
				 const char *const *extra)
{
	client_send(c, "/t.T/Echo", p, n, extra);
	assert_int_equal(client_pump(c), 0);
	return &c->out;
}

static void test_bad_requests(void **state)
{
	static const char *const type[] = {"content-type", "text/plain", NULL};
	static const char *const no_type[] = {"content-type", NULL, NULL};
	static const char *const get[] = {":method", "GET", NULL};
	static const char *const when[] = {"grpc-timeout", "5 minutes", NULL};
	struct fixture *f = *state;
	struct client *c = &f->c;
	static const char ok[] = "\0\0\0\0\1x";

	assert_string_equal(raw(c, ok, 6, type)->http, "415");
	assert_true(c->out.closed);
	assert_string_equal(raw(c, ok, 6, no_type)->http, "415");
	assert_string_equal(raw(c, ok, 6, get)->http, "405");
	assert_refused(raw(c, ok, 6, when), "13", "malformed grpc-timeout");
	assert_refused(raw(c, "", 0, NULL), "12", "no message");
	assert_refused(raw(c, ok, 5, NULL), "13", "the message is cut off");
	assert_refused(raw(c, "\1\0\0\0\1x", 6, NULL), "12",
		       "compressed messages are not supported");
	assert_refused(raw(c, "\0\0\0\0\0\0\0\0\0\0", 10, NULL), "12",
		       "more than one message");
	assert_refused(raw(c, "\0\0\1\0\0x", 6, NULL), "13",
		       "the message is cut off");
	assert_string_equal(raw(c, ok, 6, NULL)->status, "0");
}

/* A refusal does not wait for the rest of the request, and stops it. */
static void test_refused_early(void **state)
{
	struct fixture *f = *state;

	f->c.open_end = true;
	assert_refused(raw(&f->c, "\0\0\x40\0\1xyz", 8, NULL), "8",
		       "the message is too large");
	f->c.open_end = false;
	assert_string_equal(client_call(&f->c, "/t.T/Echo", "x", 1)->status,
			    "0");
}

static void test_no_headers_needed_but_these(void **state)
{
	static const char *const more[] = {"grpc-timeout",
					   "1H",
					   "grpc-encoding",
					   "identity",
					   "user-agent",
					   "grpc-go/1.33.3",
					   "containerd-namespace",
					   "x",
					   NULL};
	struct fixture *f = *state;
	const char *const without[] = {"te", NULL, NULL};

	assert_string_equal(raw(&f->c, "\0\0\0\0\0", 5, without)->status, "0");
	assert_string_equal(raw(&f->c, "\0\0\0\0\0", 5, more)->status, "0");
}

static void test_headers_too_large(void **state)
{
	static char value[H2_HEADER_BYTES_MAX + 1];
	const char *const extra[] = {"x-large", value, NULL};
	struct fixture *f = *state;

	memset(value, 'v', sizeof(value) - 1);
	raw(&f->c, "\0\0\0\0\0", 5, extra);
	assert_true(f->c.out.closed);
	assert_int_not_equal(f->c.out.code, NGHTTP2_NO_ERROR);
	assert_string_equal(f->c.out.status, "");
	/* Only that request. */
	assert_string_equal(client_call(&f->c, "/t.T/Echo", "x", 1)->status,
			    "0");
}

static void test_garbage_ends_one_connection(void **state)
{
	struct fixture *f = *state;
	struct client other;

	client_open(&other, f->g);
	assert_int_equal(client_pump(&other), 0);
	assert_int_equal(h2_n_conns(grpc_h2(f->g)), 2);
	assert_int_equal(
		h2_feed(other.conn, (const uint8_t *)"GET / HTTP/1.1", 14),
		0); /* an unknown frame, which is ignored */
	client_close(&other);

	client_open(&other, f->g);
	assert_int_equal(h2_feed(other.conn,
				 (const uint8_t *)"GET / HTTP/1.1\r\n\r\n", 18),
			 -EPROTO);
	client_close(&other);
	assert_int_equal(h2_n_conns(grpc_h2(f->g)), 1);
	assert_string_equal(client_call(&f->c, "/t.T/Echo", "x", 1)->status,
			    "0");
}

/* DATA on a stream that was never opened: GOAWAY, then the end. */
static void test_protocol_error(void **state)
{
	static const uint8_t data[] = {0, 0, 1, 0, 0, 0, 0, 0, 7, 'x'};
	struct fixture *f = *state;

	assert_int_equal(client_pump(&f->c), 0);
	assert_int_equal(h2_feed(f->c.conn, data, sizeof(data)), 0);
	assert_int_equal(client_pump(&f->c), 0);
	assert_true(f->c.goaway);
	assert_true(f->c.over);
}

static void test_ping(void **state)
{
	static const uint8_t ping[] = {0, 0, 8, 6, 0, 0, 0, 0, 0,
				       1, 2, 3, 4, 5, 6, 7, 8};
	struct fixture *f = *state;
	const uint8_t *p;
	ssize_t n;

	assert_int_equal(client_pump(&f->c), 0);
	assert_int_equal(h2_feed(f->c.conn, ping, sizeof(ping)), 0);
	n = h2_pull(f->c.conn, &p);
	assert_int_equal(n, sizeof(ping));
	assert_int_equal(p[4], 1); /* ACK */
	assert_memory_equal(p + 9, ping + 9, 8);
}

static void on_done(void *arg)
{
	bool *done = arg;

	*done = true;
}

static void test_shutdown(void **state)
{
	struct fixture *f = *state;
	bool done = false;

	/* One call under way, and one that the client sends before it knows. */
	f->c.open_end = true;
	client_send(&f->c, "/t.T/Echo", "\0\0\0\0\1", 5, NULL);
	assert_int_equal(client_pump(&f->c), 0);
	grpc_shutdown(f->g, 1000000, on_done, &done);
	f->c.open_end = false;
	f->c.p = (const uint8_t *)"x";
	f->c.n = 1;
	f->c.off = 0;
	assert_int_equal(nghttp2_session_resume_data(f->c.session, f->c.stream),
			 0);
	assert_int_equal(client_pump(&f->c), 0);
	assert_true(f->c.goaway);
	assert_string_equal(f->c.out.status, "0");
	assert_int_equal(f->c.out.n_body, 6);
	/* The connection has nothing more to say. */
	assert_true(f->c.over);
	assert_false(done);
	client_close(&f->c);
	assert_true(done);
	client_open(&f->c, f->g);
}

static void test_closed_while_requests_are_open(void **state)
{
	struct fixture *f = *state;

	f->c.open_end = true;
	for (int i = 0; i < 50; i++) {
		client_send(&f->c, "/t.T/Echo", "\0\0\0\0\7abc", 8, NULL);
		assert_int_equal(client_pump(&f->c), 0);
	}
	client_close(&f->c);
	client_open(&f->c, f->g);
	assert_string_equal(client_call(&f->c, "/t.T/Echo", "x", 1)->status,
			    "0");
}

int main(void)
{
#define CALL(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_content_type),
		cmocka_unit_test(test_message_at_every_split),
		cmocka_unit_test(test_message_errors),
		CALL(test_call),
		CALL(test_empty_message),
		CALL(test_larger_than_frames_and_windows),
		CALL(test_method_fails),
		CALL(test_fails_after_messages),
		CALL(test_unknown_method),
		CALL(test_bad_requests),
		CALL(test_refused_early),
		CALL(test_no_headers_needed_but_these),
		CALL(test_headers_too_large),
		CALL(test_garbage_ends_one_connection),
		CALL(test_protocol_error),
		CALL(test_ping),
		CALL(test_shutdown),
		CALL(test_closed_while_requests_are_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
