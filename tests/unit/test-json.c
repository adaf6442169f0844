/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"

/* Runs over a copy of text to its end. Return: NULL, or what is wrong */
static const char *run(const char *text, size_t len, size_t *ret_off)
{
	char *copy = malloc(len > 0 ? len : 1);
	struct json j;
	enum json_tok tok;

	assert_non_null(copy);
	memcpy(copy, text, len);
	json_start(&j, copy, len);
	do {
		tok = json_next(&j);
	} while (tok != JSON_ERROR && tok != JSON_END);
	assert_int_equal(json_next(&j), tok);
	if (ret_off != NULL)
		*ret_off = j.off;
	free(copy);
	return tok == JSON_ERROR ? j.why : NULL;
}

static void test_json_tokens_in_order(void **state)
{
	static const enum json_tok want[] = {
		JSON_OBJECT,     JSON_KEY,    JSON_ARRAY,
		JSON_NUMBER,     JSON_STRING, JSON_TRUE,
		JSON_FALSE,      JSON_NULL,   JSON_ARRAY,
		JSON_ARRAY_END,  JSON_OBJECT, JSON_OBJECT_END,
		JSON_ARRAY_END,  JSON_KEY,    JSON_OBJECT,
		JSON_KEY,        JSON_NUMBER, JSON_OBJECT_END,
		JSON_OBJECT_END, JSON_END,    JSON_END,
	};
	char text[] = " {\"a\" :[1,\"s\",true,\r\nfalse,null,[ ],{ }] ,\t"
		      "\"b\":{\"c\":-0.5e+3}} ";
	struct json j;

	(void)state;
	json_start(&j, text, strlen(text));
	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		assert_int_equal(json_next(&j), want[i]);
}

static void test_json_accepts(void **state)
{
	static const char *const good[] = {
		"0",
		"-0",
		"10",
		"1.5",
		"1e5",
		"1E-5",
		"\"\"",
		"true",
		"false",
		"null",
		"[]",
		"{}",
		"[[],[]]",
		"{\"\":0}",
		"\t[1 , 2]\n",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"",
		"\"\xff\xfe\"",
		"{\"a\":1,\"a\":2}",
		"-12.25E+10",
		"[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_null(run(good[i], strlen(good[i]), NULL));
}

static const struct {
	const char *text;
	const char *why;
} bad_texts[] = {
	{"", "value missing"},
	{" ", "value missing"},
	{"[", "value missing"},
	{"[1", "comma missing"},
	{"[1,", "value missing"},
	{"[1,]", "value missing"},
	{"[,1]", "value missing"},
	{"[1 2]", "comma missing"},
	{"[1}", "comma missing"},
	{"]", "value missing"},
	{"}", "value missing"},
	{"{", "key missing"},
	{"{1:2}", "key missing"},
	{"{\"a\"}", "colon missing"},
	{"{\"a\" 1}", "colon missing"},
	{"{\"a\":}", "value missing"},
	{"{\"a\":1,}", "key missing"},
	{"{\"a\":1]", "comma missing"},
	{"{,}", "key missing"},
	{"1 2", "bytes after the value"},
	{"{}x", "bytes after the value"},
	{"01", "bad number"},
	{"-00", "bad number"},
	{"-", "bad number"},
	{"+1", "value missing"},
	{".5", "value missing"},
	{"1.", "bad number"},
	{"1e", "bad number"},
	{"1e+", "bad number"},
	{"0x10", "bytes after the value"},
	{"NaN", "value missing"},
	{"Infinity", "value missing"},
	{"tru", "unknown word"},
	{"nul", "unknown word"},
	{"falsy", "unknown word"},
	{"True", "value missing"},
	{"\"", "string without an end"},
	{"\"a", "string without an end"},
	{"\"a\\\"", "string without an end"},
	{"\"\\", "bad escape"},
	{"\"\\x41\"", "bad escape"},
	{"\"\\u12\"", "bad escape"},
	{"\"\\u12g4\"", "bad escape"},
	{"\"\\ud800\\u12\"", "bad escape"},
	{"\"\n\"", "control character in a string"},
	{"\"12345678\x1f\"", "control character in a string"},
	{"'a'", "value missing"},
	{"/* */1", "value missing"},
	{"[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]", "nested too deeply"},
	{"\xef\xbb\xbf{}", "value missing"},
};

static void test_json_refuses(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad_texts); i++) {
		const char *why =
			run(bad_texts[i].text, strlen(bad_texts[i].text), NULL);

		assert_non_null(why);
		assert_string_equal(why, bad_texts[i].why);
	}
	assert_string_equal(run("1\0", 2, NULL), "bytes after the value");
	assert_string_equal(run("\"a\0\"", 4, NULL),
			    "control character in a string");
}

static void test_json_error_tells_where(void **state)
{
	size_t off;

	(void)state;
	assert_string_equal(run("[1,x]", 5, &off), "value missing");
	assert_int_equal(off, 3);
}

static void test_json_unescapes(void **state)
{
	static const struct {
		const char *text;
		const char *want;
	} good[] = {
		{"\"\"", ""},
		{"\"abc\"", "abc"},
		{"\"a\\n\\t\\\\\\/\\\"b\"", "a\n\t\\/\"b"},
		{"\"\\u003c\\u0026\\u003E\"", "<&>"},
		{"\"\\u00e9\"", "\xc3\xa9"},
		{"\"\\u20ac\"", "\xe2\x82\xac"},
		{"\"\\ud83d\\ude00!\"", "\xf0\x9f\x98\x80!"},
		{"\"\\udbff\\udfff\"", "\xf4\x8f\xbf\xbf"},
		/* Halves: alone, at the end, before another escape. */
		{"\"\\ud83d\"", "\xef\xbf\xbd"},
		{"\"\\ude00x\"", "\xef\xbf\xbdx"},
		{"\"\\ud83d\\n\"", "\xef\xbf\xbd\n"},
		{"\"\\ud83d\\u0041\"", "\xef\xbf\xbd"
				       "A"},
		{"\"\\ud83d\\ud83d\\ude00\"", "\xef\xbf\xbd\xf0\x9f\x98\x80"},
		/* A run of more than a word between escapes. */
		{"\"\\n0123456789abcdef\\n0123456789\"",
		 "\n0123456789abcdef\n0123456789"},
		{"\"\xff\\n\xc3\"", "\xff\n\xc3"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		char copy[64];
		struct json j;
		size_t n = strlen(good[i].text);

		memcpy(copy, good[i].text, n);
		json_start(&j, copy, n);
		assert_int_equal(json_next(&j), JSON_STRING);
		assert_string_equal(j.str, good[i].want);
		assert_int_equal(j.str_len, strlen(good[i].want));
		assert_int_equal(json_next(&j), JSON_END);
	}
}

static void test_json_nul_in_string_counts(void **state)
{
	char text[] = "\"a\\u0000b\"";
	struct json j;

	(void)state;
	json_start(&j, text, strlen(text));
	assert_int_equal(json_next(&j), JSON_STRING);
	assert_int_equal(j.str_len, 3);
	assert_memory_equal(j.str, "a\0b", 4);
}

static void test_json_integers(void **state)
{
	static const struct {
		const char *text;
		uint64_t max;
		int r;
		uint64_t v;
	} cases[] = {
		{"0", 0, 0, 0},
		{"42", 42, 0, 42},
		{"43", 42, -EOVERFLOW, 0},
		{"18446744073709551615", UINT64_MAX, 0, UINT64_MAX},
		{"18446744073709551616", UINT64_MAX, -EOVERFLOW, 0},
		{"99999999999999999999999", UINT64_MAX, -EOVERFLOW, 0},
		{"99999999999999999999999.5", UINT64_MAX, -EBADMSG, 0},
		{"-1", UINT64_MAX, -EBADMSG, 0},
		{"1.0", UINT64_MAX, -EBADMSG, 0},
		{"1e3", UINT64_MAX, -EBADMSG, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char copy[32];
		struct json j;
		uint64_t v = 0;

		memcpy(copy, cases[i].text, strlen(cases[i].text));
		json_start(&j, copy, strlen(cases[i].text));
		assert_int_equal(json_next(&j), JSON_NUMBER);
		assert_int_equal(json_u64(&j, cases[i].max, &v), cases[i].r);
		assert_true(v == cases[i].v);
	}
}

static void test_json_skips_whole_values(void **state)
{
	char text[] = "{\"a\":{\"b\":[1,{\"c\":2}]},\"d\":3,\"e\":[],"
		      "\"f\":\"x\"}";
	struct json j;

	(void)state;
	json_start(&j, text, strlen(text));
	assert_int_equal(json_next(&j), JSON_OBJECT);
	for (const char *k = "adef"; *k != '\0'; k++) {
		assert_int_equal(json_next(&j), JSON_KEY);
		assert_int_equal(j.str[0], *k);
		assert_int_equal(json_skip(&j), 0);
	}
	assert_int_equal(json_next(&j), JSON_OBJECT_END);
	assert_int_equal(json_next(&j), JSON_END);
}

static void test_json_skip_fails_on_bad_value(void **state)
{
	char text[] = "{\"a\":[1,{]}";
	struct json j;

	(void)state;
	json_start(&j, text, strlen(text));
	assert_int_equal(json_next(&j), JSON_OBJECT);
	assert_int_equal(json_next(&j), JSON_KEY);
	assert_int_equal(json_skip(&j), -EBADMSG);
	assert_int_equal(json_next(&j), JSON_ERROR);
}

static const char sample[] =
	"{\"version\": 1, \"entries\": [\n\t{\"name\": \"a\\u00e9\\n\", "
	"\"size\": 123456789012, \"ok\": true, \"no\": false, \"nil\": null, "
	"\"x\": {\"user.k\": \"dg==\", \"deep\": [[[0, -1.5e3]]]}},\n\t{}, "
	"[], \"\\ud83d\\ude00 0123456789abcdef \\\\ \\/ \\\"\"]}";

/* Compares what the parser gives for the value after tok with a tree. */
static void compare(struct json *j, enum json_tok tok, struct json_object *o)
{
	size_t n = 0;

	switch (json_object_get_type(o)) {
	case json_type_object:
		assert_int_equal(tok, JSON_OBJECT);
		while ((tok = json_next(j)) == JSON_KEY) {
			struct json_object *v = NULL;

			assert_true(json_object_object_get_ex(o, j->str, &v));
			compare(j, json_next(j), v);
			n++;
		}
		assert_int_equal(tok, JSON_OBJECT_END);
		assert_int_equal(n, json_object_object_length(o));
		break;
	case json_type_array:
		assert_int_equal(tok, JSON_ARRAY);
		while ((tok = json_next(j)) != JSON_ARRAY_END)
			compare(j, tok, json_object_array_get_idx(o, n++));
		assert_int_equal(n, json_object_array_length(o));
		break;
	case json_type_string:
		assert_int_equal(tok, JSON_STRING);
		assert_int_equal(j->str_len, json_object_get_string_len(o));
		assert_memory_equal(j->str, json_object_get_string(o),
				    j->str_len);
		break;
	case json_type_int: {
		uint64_t v;

		assert_int_equal(tok, JSON_NUMBER);
		assert_int_equal(json_u64(j, UINT64_MAX, &v), 0);
		assert_true(v == json_object_get_uint64(o));
		break;
	}
	case json_type_double:
		assert_int_equal(tok, JSON_NUMBER);
		break;
	case json_type_boolean:
		assert_int_equal(tok, json_object_get_boolean(o) ? JSON_TRUE
								 : JSON_FALSE);
		break;
	case json_type_null:
		assert_int_equal(tok, JSON_NULL);
		break;
	}
}

static void test_json_agrees_with_json_c(void **state)
{
	struct json_object *o = json_tokener_parse(sample);
	char copy[sizeof(sample)];
	struct json j;

	(void)state;
	assert_non_null(o);
	memcpy(copy, sample, sizeof(sample));
	json_start(&j, copy, sizeof(sample) - 1);
	compare(&j, json_next(&j), o);
	assert_int_equal(json_next(&j), JSON_END);
	json_object_put(o);
}

static void test_json_cut_off_anywhere_is_refused(void **state)
{
	(void)state;
	assert_null(run(sample, sizeof(sample) - 1, NULL));
	for (size_t n = 0; n < sizeof(sample) - 1; n++)
		assert_non_null(run(sample, n, NULL));
}

/* json-c's verdict in strict mode. */
static bool oracle(const char *text, size_t len)
{
	struct json_tokener *t = json_tokener_new_ex(64);
	struct json_object *o;
	bool ok;

	assert_non_null(t);
	json_tokener_set_flags(t, JSON_TOKENER_STRICT);
	o = json_tokener_parse_ex(t, text, (int)len + 1);
	ok = json_tokener_get_error(t) == json_tokener_success;
	json_object_put(o);
	json_tokener_free(t);
	return ok;
}

static void test_json_flipped_bits_as_json_c_has_it(void **state)
{
	char copy[sizeof(sample)];

	(void)state;
	for (size_t i = 0; i < (sizeof(sample) - 1) * 8; i++) {
		const char *why;

		memcpy(copy, sample, sizeof(sample));
		copy[i / 8] = (char)(copy[i / 8] ^ (1 << i % 8));
		why = run(copy, sizeof(copy) - 1, NULL);
		/* json-c takes control characters in strings, and ends at
		 * a NUL. */
		if (copy[i / 8] == '\0' ||
		    (why != NULL && strncmp(why, "control", 7) == 0))
			continue;
		assert_int_equal(oracle(copy, sizeof(copy) - 1), why == NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json_tokens_in_order),
		cmocka_unit_test(test_json_accepts),
		cmocka_unit_test(test_json_refuses),
		cmocka_unit_test(test_json_error_tells_where),
		cmocka_unit_test(test_json_unescapes),
		cmocka_unit_test(test_json_nul_in_string_counts),
		cmocka_unit_test(test_json_integers),
		cmocka_unit_test(test_json_skips_whole_values),
		cmocka_unit_test(test_json_skip_fails_on_bad_value),
		cmocka_unit_test(test_json_agrees_with_json_c),
		cmocka_unit_test(test_json_cut_off_anywhere_is_refused),
		cmocka_unit_test(test_json_flipped_bits_as_json_c_has_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
