/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of several parts: as servers write them, however they are cut; bad
 * ones. */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/registry/byteranges.h"

#define TYPE "multipart/byteranges; boundary=B"

/* What a body came to: "START-END/TOTAL=BYTES;" of each part, "." at the end,
 * "!" where it is bad. */
static const char *run(const char *type, const char *body, size_t n,
		       size_t step)
{
	static char out[4096];
	struct byteranges m;
	size_t at = 0;
	int r = byteranges_init(&m, type);

	out[0] = '\0';
	for (size_t i = 0; i < n && r >= 0; i += step) {
		const uint8_t *p = (const uint8_t *)body + i, *got = NULL;
		size_t left = MIN(step, n - i), k = 0;

		while (left > 0 && r >= 0) {
			r = byteranges_next(&m, &p, &left, &got, &k);
			if (r == BYTERANGES_PART)
				at += (size_t)snprintf(
					out + at, sizeof(out) - at,
					"%s%llu-%llu/%lld=", at > 0 ? ";" : "",
					(unsigned long long)m.range.start,
					(unsigned long long)m.range.end,
					m.range.has_total
						? (long long)m.range.total
						: -1LL);
			else if (r == BYTERANGES_DATA)
				at += (size_t)snprintf(
					out + at, sizeof(out) - at, "%.*s",
					(int)k, (const char *)got);
			assert_true(at < sizeof(out) - 2);
		}
	}
	if (r < 0 || byteranges_over(&m)) {
		out[at++] = r < 0 ? '!' : '.';
		out[at] = '\0';
	}
	if (r < 0)
		assert_int_equal(r, -EBADMSG);
	return out;
}

static void expect(const char *type, const char *body, const char *want)
{
	size_t n = strlen(body);

	for (size_t step = 1; step <= n; step++)
		assert_string_equal(run(type, body, n, step), want);
}

static void expect_bad(const char *body)
{
	size_t n = strlen(body);

	for (size_t step = 1; step <= n; step++) {
		const char *s = run(TYPE, body, n, step);

		assert_int_equal(s[strlen(s) - 1], '!');
	}
}

static void test_nginx(void **state)
{
	(void)state;
	expect("multipart/byteranges; boundary=00000000000000000017",
	       "\r\n--00000000000000000017\r\n"
	       "Content-Type: application/octet-stream\r\n"
	       "Content-Range: bytes 0-2/20\r\n\r\n"
	       "abc"
	       "\r\n--00000000000000000017\r\n"
	       "Content-Type: application/octet-stream\r\n"
	       "Content-Range: bytes 10-11/20\r\n\r\n"
	       "de"
	       "\r\n--00000000000000000017--\r\n",
	       "0-2/20=abc;10-11/20=de.");
}

static void test_apache(void **state)
{
	(void)state;
	expect("multipart/byteranges; boundary=4f1b2c3d",
	       "\r\n--4f1b2c3d\r\n"
	       "Content-type: text/plain\r\n"
	       "Content-range: bytes 0-0/20\r\n\r\n"
	       "a"
	       "\r\n--4f1b2c3d\r\n"
	       "Content-type: text/plain\r\n"
	       "Content-range: bytes 19-19/20\r\n\r\n"
	       "z"
	       "\r\n--4f1b2c3d--\r\n",
	       "0-0/20=a;19-19/20=z.");
}

static void test_go(void **state)
{
	(void)state;
	expect("multipart/byteranges; boundary=9a0364b9e99bb480dd25e1f0284c8555",
	       "--9a0364b9e99bb480dd25e1f0284c8555\r\n"
	       "Content-Range: bytes 1-2/20\r\n"
	       "Content-Type: application/octet-stream\r\n\r\n"
	       "bc\r\n"
	       "--9a0364b9e99bb480dd25e1f0284c8555\r\n"
	       "Content-Range: bytes 4-6/20\r\n"
	       "Content-Type: application/octet-stream\r\n\r\n"
	       "efg\r\n"
	       "--9a0364b9e99bb480dd25e1f0284c8555--\r\n",
	       "1-2/20=bc;4-6/20=efg.");
}

static void test_other_forms(void **state)
{
	(void)state;
	/* Lines without CR; no total; what looks like a boundary in a part. */
	expect("MULTIPART/ByteRanges ;charset=x; Boundary=\"B;: 1\"; y=z",
	       "--B;: 1 \t\nCONTENT-RANGE:bytes 0-10/*\n\n"
	       "--B;: 1--\r\n"
	       "\n--B;: 1\ncontent-range:  bytes 18446744073709551613-"
	       "18446744073709551614/*\nX\n\nab\n--B;: 1-- \nrest\n--B;: 1\n",
	       "0-10/-1=--B;: 1--\r\n;18446744073709551613-"
	       "18446744073709551614/-1=ab.");
	/* No part at all. */
	expect(TYPE, "--B--\r\n", ".");
}

static void test_types(void **state)
{
	struct byteranges m;
	char s[200];
	static const char *const bad[] = {
		"",
		"multipart/byteranges",
		"multipart/byteranges;",
		"multipart/byteranges; boundary=",
		"multipart/byteranges; boundary=\"\"",
		"multipart/byteranges; boundary=\"B",
		"multipart/byteranges; boundary=\"a\\\"b\"",
		"multipart/byterangess; boundary=B",
		"multipart/mixed; boundary=B",
		"multipart/byteranges boundary=B",
		"multipart/byteranges; xboundary=B",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(byteranges_init(&m, bad[i]), -EBADMSG);
	assert_int_equal(byteranges_init(&m, NULL), -EBADMSG);
	(void)snprintf(s, sizeof(s), "multipart/byteranges; boundary=%0*d",
		       (int)BYTERANGES_BOUNDARY_MAX, 0);
	assert_int_equal(byteranges_init(&m, s), 0);
	(void)snprintf(s, sizeof(s), "multipart/byteranges; boundary=%0*d",
		       (int)BYTERANGES_BOUNDARY_MAX + 1, 0);
	assert_int_equal(byteranges_init(&m, s), -EBADMSG);
}

#define PART "--B\r\nContent-Range: bytes 0-0/9\r\n\r\na\r\n"

static void test_bad(void **state)
{
	static const char nul[] = "--B\r\nX: \0\r\n\r\n";

	(void)state;
	expect_bad("hello\r\n--B\r\n");
	expect_bad("--C\r\n");
	expect_bad("--Bx\r\n");
	expect_bad("--B-\r\n");
	expect_bad("--B--x\r\n");
	expect_bad(PART "more\r\n--B--\r\n");
	/* No range, two, none of bytes, ones that end before they begin. */
	expect_bad("--B\r\nContent-Type: x\r\n\r\na");
	expect_bad("--B\r\n\r\na");
	expect_bad("--B\r\nContent-Range: bytes 0-0/9\r\n"
		   "Content-Range: bytes 0-0/9\r\n\r\na");
	expect_bad("--B\r\nContent-Range: bytes */9\r\n");
	expect_bad("--B\r\nContent-Range: bytes 4-3/9\r\n");
	expect_bad("--B\r\nContent-Range: bytes 4-9/9\r\n");
	expect_bad("--B\r\nContent-Range: lines 0-0/9\r\n");
	expect_bad("--B\r\nContent-Range: bytes 0-18446744073709551615/*\r\n");
	/* The range of one part is not that of the next. */
	expect_bad(PART "--B\r\n\r\na");
	assert_string_equal(run(TYPE, nul, sizeof(nul) - 1, 100), "!");
}

/* Nothing is over before its end, and nothing is taken for more than it is. */
static void test_truncated(void **state)
{
	static const char body[] =
		PART "--B\r\nContent-Range: bytes 5-6/9\r\n\r\nfg\r\n--B--\r\n";
	static const char want[] = "0-0/9=a;5-6/9=fg";

	(void)state;
	for (size_t n = 0; n < sizeof(body) - 2; n++) {
		const char *s = run(TYPE, body, n, 7);

		assert_int_equal(strncmp(s, want, strlen(s)), 0);
	}
}

static void test_bounds(void **state)
{
	char line[BYTERANGES_LINE_MAX + 8];
	struct byteranges m;
	uint64_t taken = 0;
	int r;

	(void)state;
	/* A line without an end, and lines without one. */
	for (int with = 0; with < 2; with++) {
		assert_int_equal(byteranges_init(&m, TYPE), 0);
		r = 0;
		for (taken = 0; r == 0 && taken < MIB(1); taken++) {
			const uint8_t *p = (const uint8_t *)(with ? "\n" : "x");
			const uint8_t *got;
			size_t n = 1, k;

			r = byteranges_next(&m, &p, &n, &got, &k);
		}
		assert_int_equal(r, -EBADMSG);
		assert_true(taken <= BYTERANGES_LINE_MAX + 1);
	}
	/* What follows the end. */
	assert_int_equal(byteranges_init(&m, TYPE), 0);
	r = 0;
	for (taken = 0; r == 0 && taken < MIB(1); taken++) {
		const uint8_t *p = (const uint8_t *)"--B--\n";
		const uint8_t *got;
		size_t n = 6, k;

		r = byteranges_next(&m, &p, &n, &got, &k);
	}
	assert_int_equal(r, -EBADMSG);
	assert_true(byteranges_over(&m));
	/* The longest line there may be, at once and byte by byte. */
	memset(line, 'x', sizeof(line));
	memcpy(line, "--B\n", 4);
	line[4 + BYTERANGES_LINE_MAX - 1] = '\n';
	assert_string_equal(run(TYPE, line, 4 + BYTERANGES_LINE_MAX, 1000), "");
	assert_string_equal(run(TYPE, line, 4 + BYTERANGES_LINE_MAX, 1), "");
	line[4 + BYTERANGES_LINE_MAX - 1] = 'x';
	line[4 + BYTERANGES_LINE_MAX] = '\n';
	assert_string_equal(run(TYPE, line, 5 + BYTERANGES_LINE_MAX, 1000),
			    "!");
	assert_string_equal(run(TYPE, line, 5 + BYTERANGES_LINE_MAX, 1), "!");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nginx),
		cmocka_unit_test(test_apache),
		cmocka_unit_test(test_go),
		cmocka_unit_test(test_other_forms),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
