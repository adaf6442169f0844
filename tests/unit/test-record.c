/* SPDX-License-Identifier: Apache-2.0 */
/* What a run has read, as lines of JSON. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/record.h"

#define D \
	"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const char golden[] =
	"{\"path\":\"usr/bin/a\",\"manifestDigest\":\"" D "\",\"layerIndex\":2,"
	"\"ranges\":[[4096,100,1],[0,4096,7]]}\n"
	"{\"path\":\"whole\",\"manifestDigest\":\"" D "\",\"layerIndex\":0}\n"
	"{\"path\":\"bare\"}\n"
	"{\"path\":\"no numbers\",\"ranges\":[[1,2]]}\n";

static void test_record_golden(void **state)
{
	CLEANUP_RECORD struct record r = {0};
	CLEANUP_BUF struct buf b = BUF_INIT(KIB(64));
	struct err e = {0};

	(void)state;
	assert_int_equal(record_parse(golden, strlen(golden), &r, &e), 0);
	assert_int_equal(r.n_files, 4);
	assert_string_equal(r.files[0].path, "usr/bin/a");
	assert_int_equal(r.files[0].manifest.b[31], 0xaa);
	assert_int_equal(r.files[0].layer, 2);
	assert_int_equal(r.files[0].n_ranges, 2);
	assert_int_equal(r.files[0].ranges[0].off, 4096);
	assert_int_equal(r.files[0].ranges[0].len, 100);
	assert_int_equal(r.files[0].first[1], 7);
	assert_int_equal(r.files[1].n_ranges, 0);
	assert_int_equal(r.files[2].layer, RECORD_LAYER_ANY);
	assert_int_equal(r.files[2].manifest.b[0], 0);
	assert_int_equal(r.files[3].first[0], 0);
	assert_int_equal(record_print(&r, &b), 0);
	assert_string_equal(b.p, golden);
}

/* What others write: spaces, keys that are new, paths that are not clean. */
static void test_record_lenient(void **state)
{
	static const char text[] =
		"\r\n  { \"x\": [{\"y\": null}], \"path\": \"/./usr//bin/b/\" }"
		"\n\n{\"path\":\"\\u00e4\\n\",\"ranges\":[]}";
	CLEANUP_RECORD struct record r = {0};
	struct err e = {0};

	(void)state;
	assert_int_equal(record_parse(text, strlen(text), &r, &e), 0);
	assert_int_equal(r.n_files, 2);
	assert_string_equal(r.files[0].path, "usr/bin/b");
	assert_string_equal(r.files[1].path, "\xc3\xa4\n");
	assert_int_equal(r.files[1].n_ranges, 0);
}

static void test_record_refuses(void **state)
{
	static const struct {
		const char *line;
		const char *why;
	} bad[] = {
		{"[]", "line 2: not a JSON object"},
		{"{\"path\":\"a\"} x", "line 2: "},
		{"{\"path\":\"a\"", "line 2: "},
		{"{}", "line 2: no path"},
		{"{\"path\":\"/\"}", "line 2: no path"},
		{"{\"path\":1}", "line 2: path is not a string"},
		{"{\"path\":\"a\\u0000b\"}", "line 2: path is not one"},
		{"{\"path\":\"a\",\"layerIndex\":-1}",
		 "line 2: layerIndex is not one"},
		{"{\"path\":\"a\",\"layerIndex\":512}",
		 "line 2: layerIndex is not one"},
		{"{\"path\":\"a\",\"manifestDigest\":\"md5:00\"}",
		 "line 2: manifestDigest is not a digest"},
		{"{\"path\":\"a\",\"ranges\":3}", "line 2: ranges is not a "},
		{"{\"path\":\"a\",\"ranges\":[3]}", "line 2: ranges is not a "},
		{"{\"path\":\"a\",\"ranges\":[[3]]}", "line 2: a range is "},
		{"{\"path\":\"a\",\"ranges\":[[1,2,3,4]]}",
		 "line 2: a range is "},
		{"{\"path\":\"a\",\"ranges\":[[1,\"2\"]]}",
		 "line 2: a range is "},
		{"{\"path\":\"a\",\"ranges\":[[1,0]]}", "line 2: a range is "},
		{"{\"path\":\"a\",\"ranges\":[[1,9223372036854775807]]}",
		 "line 2: a range is "},
		{"{\"path\":\"a\",\"ranges\":[[1,9223372036854775808]]}",
		 "line 2: a range is "},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP_RECORD struct record r = {0};
		CLEANUP_BUF struct buf b = BUF_INIT(KIB(64));
		struct err e = {0};

		assert_int_equal(
			buf_addf(&b, "{\"path\":\"ok\"}\n%s\n", bad[i].line),
			0);
		assert_int_equal(record_parse(b.p, b.len, &r, &e), -EBADMSG);
		if (strncmp(e.text, bad[i].why, strlen(bad[i].why)) != 0)
			fail_msg("%s: %s", bad[i].line, e.text);
		assert_null(r.files);
	}
}

/* Cut anywhere, it is either refused or shorter; flipped, never a crash. */
static void test_record_damaged(void **state)
{
	size_t len = strlen(golden);

	(void)state;
	for (size_t n = 0; n < len; n++) {
		CLEANUP_RECORD struct record r = {0};
		struct err e = {0};

		if (record_parse(golden, n, &r, &e) == 0)
			assert_true(r.n_files <= 4);
		else
			assert_non_null(strstr(e.text, "line "));
	}
	for (size_t bit = 0; bit < len * 8; bit++) {
		CLEANUP_RECORD struct record r = {0};
		CLEANUP_FREE char *copy = strdup(golden);
		struct err e = {0};

		assert_non_null(copy);
		copy[bit / 8] = (char)(copy[bit / 8] ^ (1 << bit % 8));
		if (record_parse(copy, len, &r, &e) < 0)
			assert_non_null(strstr(e.text, "line "));
	}
}

static void test_record_built(void **state)
{
	CLEANUP_RECORD struct record r = {0};
	CLEANUP_BUF struct buf b = BUF_INIT(KIB(64));
	CLEANUP_BUF struct buf small = BUF_INIT(16);
	struct record_file *f;

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_non_null(record_add(&r, "x\"y"));
	f = record_add(&r, "z");
	assert_non_null(f);
	for (uint64_t i = 0; i < 9; i++)
		assert_int_equal(record_add_range(f, i * 10, 5, 9 - i), 0);
	assert_int_equal(r.n_files, 6);
	assert_int_equal(record_print(&r, &b), 0);
	assert_non_null(strstr(b.p, "{\"path\":\"x\\\"y\"}\n"));
	assert_non_null(strstr(b.p, "[70,5,2],[80,5,1]]}\n"));
	assert_int_equal(record_print(&r, &small), -EOVERFLOW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_record_golden),
		cmocka_unit_test(test_record_lenient),
		cmocka_unit_test(test_record_refuses),
		cmocka_unit_test(test_record_damaged),
		cmocka_unit_test(test_record_built),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
