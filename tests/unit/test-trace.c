/* SPDX-License-Identifier: Apache-2.0 */
/* Traces: what is taken, what is refused, and that both ends agree. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/trace.h"

#define HEX "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define HEX2 "00000000000000000000000000000000000000000000000000000000000000ff"

static const char golden[] =
	"{\"version\":1,\"layers\":[\"sha256:" HEX "\",\"sha256:" HEX2
	"\"],\"reads\":[[1,4096,65536],[0,0,1],[1,9007199254740993,7]]}";

static int parse(const char *s, struct trace *ret, struct err *e)
{
	return trace_parse(s, strlen(s), ret, e);
}

static void test_golden(void **state)
{
	CLEANUP_TRACE struct trace t = {0};
	CLEANUP_BUF struct buf b = BUF_INIT(TRACE_BYTES_MAX);
	struct err e = {0};

	(void)state;
	assert_int_equal(parse(golden, &t, &e), 0);
	assert_int_equal(t.n_layers, 2);
	assert_int_equal(t.layers[1].b[31], 0xff);
	assert_int_equal(t.n_reads, 3);
	assert_int_equal(t.reads[0].layer, 1);
	assert_int_equal(t.reads[0].off, 4096);
	assert_int_equal(t.reads[0].len, 65536);
	assert_int_equal(t.reads[2].off, UINT64_C(9007199254740993));
	assert_int_equal(trace_print(&t, &b), 0);
	assert_string_equal(b.p, golden);
}

/* The bytes of all reads may be had as one blob. */
static void test_data(void **state)
{
	static const char with[] = "{\"version\":1,\"layers\":[\"sha256:" HEX
				   "\"],\"reads\":[[0,4096,7]],"
				   "\"data\":\"sha256:" HEX2 "\"}";
	CLEANUP_TRACE struct trace t = {0};
	CLEANUP_BUF struct buf b = BUF_INIT(TRACE_BYTES_MAX);
	struct err e = {0};

	(void)state;
	assert_int_equal(parse(with, &t, &e), 0);
	assert_true(t.has_data);
	assert_int_equal(t.data.b[31], 0xff);
	assert_int_equal(trace_print(&t, &b), 0);
	assert_string_equal(b.p, with);
	trace_done(&t);
	assert_int_equal(parse(golden, &t, &e), 0);
	assert_false(t.has_data);
}

/* Whatever order the keys have; what later versions add is stepped over. */
static void test_order(void **state)
{
	CLEANUP_TRACE struct trace t = {0};
	struct err e = {0};

	(void)state;
	assert_int_equal(parse("{\"reads\":[[0,1,2]],\"x\":{\"y\":[1]},"
			       "\"layers\":[\"sha256:" HEX "\"],\"version\":1}",
			       &t, &e),
			 0);
	assert_int_equal(t.n_reads, 1);
	trace_done(&t);
	assert_int_equal(
		parse("{\"version\":1,\"layers\":[],\"reads\":[]}", &t, &e), 0);
	assert_int_equal(t.n_layers + t.n_reads, 0);
}

#define LAYER "\"layers\":[\"sha256:" HEX "\"]"

static void test_bad(void **state)
{
	static const struct {
		const char *s;
		int code;
		const char *what;
	} bad[] = {
		{"", -EBADMSG, "trace: "},
		{"[]", -EBADMSG, "not an object"},
		{"{}", -EBADMSG, "is missing"},
		{"{\"version\":1," LAYER "}", -EBADMSG, "is missing"},
		{"{\"version\":1," LAYER ",\"data\":\"sha256:" HEX "\"}",
		 -EBADMSG, "is missing"},
		{"{\"data\":7}", -EBADMSG, "data is not"},
		{"{\"data\":\"sha256:\"}", -EBADMSG, "data is not"},
		{"{\"data\":\"sha256:" HEX "\",\"data\":\"sha256:" HEX "\"}",
		 -EBADMSG, "twice"},
		{"{" LAYER ",\"reads\":[]}", -EBADMSG, "is missing"},
		{"{\"version\":1,\"reads\":[]}", -EBADMSG, "is missing"},
		{"{\"version\":2,\"reads\":3}", -EOPNOTSUPP, "version 2"},
		{"{\"version\":\"1\"}", -EBADMSG, "version is not"},
		{"{\"version\":1,\"version\":1}", -EBADMSG, "a key twice"},
		{"{\"layers\":{}}", -EBADMSG, "layers is not"},
		{"{\"layers\":[7]}", -EBADMSG, "a layer is not a string"},
		{"{\"layers\":[\"sha512:" HEX "\"]}", -EBADMSG,
		 "not a sha256 digest"},
		{"{\"reads\":7}", -EBADMSG, "reads is not"},
		{"{\"reads\":[7]}", -EBADMSG, "a read is not an array"},
		{"{\"reads\":[[0,1]]}", -EBADMSG, "three numbers"},
		{"{\"reads\":[[0,1,2,3]]}", -EBADMSG, "three numbers"},
		{"{\"reads\":[[0,1,2.5]]}", -EBADMSG, "three numbers"},
		{"{\"reads\":[[0,-1,2]]}", -EBADMSG, "three numbers"},
		{"{\"reads\":[[0,1,0]]}", -EBADMSG, "empty or past"},
		{"{\"reads\":[[0,1,9223372036854775807]]}", -EBADMSG,
		 "empty or past"},
		{"{\"reads\":[[0,9223372036854775808,1]]}", -EBADMSG,
		 "three numbers"},
		{"{\"reads\":[[512,0,1]]}", -EBADMSG, "three numbers"},
		{"{\"version\":1," LAYER ",\"reads\":[[1,0,1]]}", -EBADMSG,
		 "not there"},
		{"{\"version\":1," LAYER ",\"reads\":[]}x", -EBADMSG,
		 "trace: byte"},
		{"{\"x\":[", -EBADMSG, "trace: byte"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct trace t = {0};
		struct err e = {0};

		assert_int_equal(parse(bad[i].s, &t, &e), bad[i].code);
		assert_non_null(strstr(e.text, bad[i].what));
		assert_null(t.reads);
	}
}

static void test_truncated(void **state)
{
	(void)state;
	for (size_t n = 0; n + 1 < sizeof(golden); n++) {
		struct trace t = {0};
		struct err e = {0};
		char *p = malloc(n > 0 ? n : 1); /* for the sanitizer */

		assert_non_null(p);
		memcpy(p, golden, n);
		assert_int_equal(trace_parse(p, n, &t, &e), -EBADMSG);
		free(p);
	}
}

static void test_flipped(void **state)
{
	(void)state;
	for (size_t bit = 0; bit < 8 * (sizeof(golden) - 1); bit++) {
		char s[sizeof(golden)];
		CLEANUP_TRACE struct trace t = {0};
		struct err e = {0};

		memcpy(s, golden, sizeof(s));
		s[bit / 8] = (char)(s[bit / 8] ^ 1 << bit % 8);
		if (trace_parse(s, sizeof(s) - 1, &t, &e) < 0)
			assert_string_not_equal(e.text, "");
	}
}

static void add_many(struct buf *b, const char *what, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(buf_addf(b, "%s%s", i > 0 ? "," : "", what),
				 0);
}

static void test_limits(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(4));
	struct trace t = {0};
	struct err e = {0};

	(void)state;
	assert_int_equal(
		buf_add_str(&b, "{\"version\":1," LAYER ",\"reads\":["), 0);
	add_many(&b, "[0,0,1]", TRACE_READS_MAX);
	assert_int_equal(buf_add_str(&b, "]}"), 0);
	assert_int_equal(trace_parse(b.p, b.len, &t, &e), 0);
	assert_int_equal(t.n_reads, TRACE_READS_MAX);
	t.n_reads++;
	buf_clear(&b);
	assert_int_equal(trace_print(&t, &b), -EOVERFLOW);
	trace_done(&t);

	buf_clear(&b);
	assert_int_equal(buf_add_str(&b, "{\"reads\":["), 0);
	add_many(&b, "[0,0,1]", TRACE_READS_MAX + 1);
	assert_int_equal(trace_parse(b.p, b.len, &t, &e), -EOVERFLOW);

	buf_clear(&b);
	assert_int_equal(buf_add_str(&b, "{\"layers\":["), 0);
	add_many(&b, "\"sha256:" HEX "\"", TRACE_LAYERS_MAX + 1);
	assert_int_equal(trace_parse(b.p, b.len, &t, &e), -EOVERFLOW);

	assert_int_equal(trace_parse(b.p, TRACE_BYTES_MAX + 1, &t, &e),
			 -EOVERFLOW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_data),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_flipped),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
