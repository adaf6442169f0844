/* SPDX-License-Identifier: Apache-2.0 */
/* toc_parse(), and the languages inside the TOC's strings. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"
#include "common/toc.h"
#include "common/toc_text.h"

/* Parses {"version":1,"entries":[<entries>]} out of room that just fits. */
static int parse(const char *entries, struct toc **t, char **text,
		 struct err *e)
{
	struct buf b = BUF_INIT(1 << 20);
	size_t len;
	char *p;
	int r;

	assert_int_equal(
		buf_addf(&b, "{\"version\":1,\"entries\":[%s]}", entries), 0);
	len = b.len;
	p = malloc(len);
	assert_non_null(p);
	memcpy(p, b.p, len);
	buf_done(&b);
	*e = (struct err){0};
	r = toc_parse(p, len, t, e);
	*text = p;
	return r;
}

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define REG "{\"name\":\"f\",\"type\":\"reg\",\"size\":10"

static void test_parse_document_rules(void **state)
{
	static const struct {
		const char *json;
		int r;
		const char *text;
	} cases[] = {
		{"{\"version\":1,\"entries\":[]}", 0, ""},
		{"{\"version\":1,\"entries\":null}", 0, ""},
		{" {\"x\":[{}],\"entries\":[],\"version\":1}\n", 0, ""},
		{"", -EBADMSG, "byte 0: value missing"},
		{"[]", -EBADMSG, "no object"},
		{"{}", -EBADMSG, "no version"},
		{"{\"entries\":[]}", -EBADMSG, "no version"},
		{"{\"version\":1}", 0, ""},
		{"{\"version\":2,\"entries\":[]}", -EOPNOTSUPP, "version 2"},
		{"{\"version\":0,\"entries\":[]}", -EOPNOTSUPP, "version 0"},
		{"{\"version\":\"1\",\"entries\":[]}", -EBADMSG,
		 "version is no number"},
		{"{\"version\":-1,\"entries\":[]}", -EBADMSG,
		 "version is no number"},
		{"{\"version\":1,\"entries\":{}}", -EBADMSG, "no array"},
		{"{\"version\":1,\"entries\":[null]}", -EBADMSG,
		 "entry 0 is no object"},
		{"{\"version\":1,\"entries\":[1]}", -EBADMSG,
		 "entry 0 is no object"},
		{"{\"version\":1,\"entries\":[],\"entries\":[]}", -EBADMSG,
		 "entries twice"},
		{"{\"version\":1,\"entries\":[]} x", -EBADMSG,
		 "byte 27: bytes after"},
		{"{\"version\":1,\"x\":[}", -EBADMSG, "bad JSON"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *copy = strdup(cases[i].json);
		struct toc *t = NULL;
		struct err e = {0};

		assert_int_equal(toc_parse(copy, strlen(copy), &t, &e),
				 cases[i].r);
		if (strstr(e.text, cases[i].text) == NULL)
			fail_msg("%zu: %s", i, e.text);
		assert_true((t != NULL) == (cases[i].r == 0));
		toc_free(t);
		free(copy);
	}
}

static const struct {
	const char *entries;
	int r;
	const char *text;
} bad_entries[] = {
	{"{}", -EBADMSG, "entry 0 (?): unknown type"},
	{"{\"name\":\"a\",\"type\":\"file\"}", -EBADMSG,
	 "entry 0 (a): unknown type"},
	{"{\"name\":\"a\",\"type\":\"Dir\"}", -EBADMSG, "type"},
	{"{\"type\":\"dir\"}", -EBADMSG, "no name"},
	{"{\"name\":1,\"type\":\"dir\"}", -EBADMSG, "name is of another kind"},
	{"{\"name\":\"a\\u0000b\",\"type\":\"dir\"}", -EBADMSG,
	 "NUL in a path"},
	{"{\"name\":\"./\",\"type\":\"symlink\",\"linkName\":\"a\"}", -EBADMSG,
	 "root is not a directory"},
	{"{\"name\":\"a\",\"type\":\"symlink\"}", -EBADMSG, "without a target"},
	{"{\"name\":\"a\",\"type\":\"symlink\",\"linkName\":\"\"}", -EBADMSG,
	 "without a target"},
	{"{\"name\":\"a\",\"type\":\"symlink\",\"linkName\":"
	 "\"a\\u0000\"}",
	 -EBADMSG, "NUL in a symbolic link"},
	{"{\"name\":\"a\",\"type\":\"hardlink\"}", -EBADMSG,
	 "without a target"},
	{"{\"name\":\"a\",\"type\":\"hardlink\",\"linkName\":\"/.\"}", -EBADMSG,
	 "hard link to the root"},
	{"{\"name\":\"a\",\"type\":\"hardlink\",\"linkName\":"
	 "\"\\u0000\"}",
	 -EBADMSG, "NUL in a path"},
	{REG ",\"offset\":-1}", -EBADMSG,
	 "entry 0 (f): offset is not a whole number"},
	{REG ",\"offset\":1.5}", -EBADMSG, "offset is not a whole"},
	{REG ",\"offset\":\"1\"}", -EBADMSG, "offset is of another kind"},
	{REG ",\"offset\":9223372036854775808}", -EOVERFLOW,
	 "offset is out of range"},
	{"{\"name\":\"f\",\"type\":\"reg\",\"size\":-1}", -EBADMSG,
	 "size is not"},
	{"{\"name\":\"f\",\"type\":\"reg\",\"size\":"
	 "9223372036854775808}",
	 -EOVERFLOW, "size is out of range"},
	{REG ",\"uid\":4294967296}", -EOVERFLOW, "uid is out of"},
	{REG ",\"uid\":-1}", -EBADMSG, "uid is not"},
	{REG ",\"gid\":4294967296}", -EOVERFLOW, "gid is out of"},
	{REG ",\"mode\":-1}", -EBADMSG, "mode is not"},
	{REG ",\"devMajor\":4096}", -EOVERFLOW, "devMajor is out"},
	{REG ",\"devMinor\":1048576}", -EOVERFLOW, "devMinor is out"},
	{REG ",\"innerOffset\":-1}", -EBADMSG, "innerOffset is not"},
	{REG ",\"chunkSize\":11}", -EBADMSG, "past the file's end"},
	{REG ",\"chunkOffset\":11}", -EBADMSG, "past the file's end"},
	{REG ",\"chunkOffset\":5,\"chunkSize\":6}", -EBADMSG,
	 "past the file's end"},
	{REG ",\"chunkOffset\":9223372036854775807,\"chunkSize\":"
	     "9223372036854775807}",
	 -EBADMSG, "past the file's end"},
	{REG ",\"chunkType\":\"zeros\"}", -EOPNOTSUPP, "chunkType"},
	{REG ",\"digest\":\"\"}", -EBADMSG, "bad digest"},
	{REG ",\"digest\":\"sha256:0\"}", -EBADMSG, "bad digest"},
	{REG ",\"digest\":\"sha512:0\"}", -EOPNOTSUPP, "another algorithm"},
	{REG ",\"chunkDigest\":\"sha256:" HEX64 "0\"}", -EBADMSG, "bad digest"},
	{REG ",\"chunkDigest\":\"sha256:" HEX64 "\",\"digest\":\"x\"}",
	 -EBADMSG, "bad digest"},
	{"{\"name\":\"f\",\"type\":\"chunk\"}", -EBADMSG,
	 "chunk without a file"},
	{REG "},{\"name\":\"d\",\"type\":\"dir\"},"
	     "{\"name\":\"f\",\"type\":\"chunk\"}",
	 -EBADMSG, "entry 2 (f): chunk without a file"},
	{REG "},{\"name\":\"g\",\"type\":\"chunk\"}", -EBADMSG,
	 "chunk of another file"},
	{REG "},{\"name\":\"f\",\"type\":\"chunk\","
	     "\"chunkOffset\":11}",
	 -EBADMSG, "past the file's end"},
	{REG ",\"xattrs\":[]}", -EBADMSG, "xattrs is of another kind"},
	{REG ",\"xattrs\":{\"\":\"\"}}", -EBADMSG, "bad xattr name"},
	{REG ",\"xattrs\":{\"a\\u0000\":\"\"}}", -EBADMSG, "bad xattr name"},
	{REG ",\"xattrs\":{\"a\":1}}", -EBADMSG,
	 "xattr value is of another kind"},
	{REG ",\"xattrs\":{\"a\":\"AA\"}}", -EBADMSG, "not base64"},
	{REG ",\"xattrs\":{\"a\":\"AA==\",\"b\":\"\",\"a\":\"\"}}", -EBADMSG,
	 "xattr twice"},
	{REG ",\"xattrs\":{\"a\":\"\"},\"xattrs\":{\"b\":\"\"}}", -EBADMSG,
	 "xattrs twice"},
	{REG ",\"xattrs\":{\"a\":\"\",}}", -EBADMSG, "bad JSON"},
	{REG ",}", -EBADMSG, "bad JSON"},
	{REG ",\"other\":[}", -EBADMSG, "bad JSON"},
	{REG "},", -EBADMSG, "bad JSON"},
	{REG "},null", -EBADMSG, "entry 1 is no object"},
};

static void test_parse_entry_rules(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad_entries); i++) {
		struct toc *t = NULL;
		struct err e;
		char *text;
		int r = parse(bad_entries[i].entries, &t, &text, &e);

		if (strstr(e.text, bad_entries[i].text) == NULL)
			fail_msg("%zu: %d %s", i, r, e.text);
		assert_int_equal(r, bad_entries[i].r);
		assert_int_equal(e.code, r);
		assert_null(t);
		free(text);
	}
}

/* One entry with n times a string in its middle; NULL: n xattrs. */
static int parse_long(const char *head, const char *again, size_t n,
		      const char *end, struct err *e)
{
	struct buf b = BUF_INIT(1 << 20);
	struct toc *t = NULL;
	char *text;
	int r;

	assert_int_equal(buf_add_str(&b, head), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(again != NULL
					 ? buf_add_str(&b, again)
					 : buf_addf(&b, "\"%zu\":\"\",", i),
				 0);
	assert_int_equal(buf_add_str(&b, end), 0);
	r = parse(b.p, &t, &text, e);
	toc_free(t);
	free(text);
	buf_done(&b);
	return r;
}

static void test_parse_limits(void **state)
{
	static const char name[] = "{\"type\":\"dir\",\"name\":\"";
	static const char link[] = "{\"type\":\"symlink\",\"name\":\"l\","
				   "\"linkName\":\"";
	static const char xattr[] = "{\"type\":\"dir\",\"name\":\"l\","
				    "\"xattrs\":{";
	struct err e;

	(void)state;
	assert_int_equal(parse_long(name, "x", 255, "\"}", &e), 0);
	assert_int_equal(parse_long(name, "x", 256, "\"}", &e), -EOVERFLOW);
	assert_non_null(strstr(e.text, "path is too long"));
	assert_int_equal(parse_long(name, "x/", 512, "\"}", &e), 0);
	assert_int_equal(parse_long(name, "x/", 513, "\"}", &e), -EOVERFLOW);
	assert_int_equal(parse_long(name, "123456789012345/", 256, "\"}", &e),
			 0);
	assert_int_equal(parse_long(name, "123456789012345/", 257, "\"}", &e),
			 -EOVERFLOW);
	assert_int_equal(parse_long(link, "x", 4095, "\"}", &e), 0);
	assert_int_equal(parse_long(link, "x", 4096, "\"}", &e), -EOVERFLOW);
	assert_non_null(strstr(e.text, "entry 0 (l): symbolic link is too"));
	assert_int_equal(parse_long(xattr, NULL, 4095, "\"l\":\"\"}}", &e), 0);
	assert_int_equal(parse_long(xattr, NULL, 4096, "\"l\":\"\"}}", &e),
			 -EOVERFLOW);
	assert_non_null(strstr(e.text, "entry 0 (l): too many xattrs"));
	assert_int_equal(parse_long("{\"type\":\"dir\",\"name\":\"l\","
				    "\"xattrs\":{\"",
				    "x", 255, "\":\"\"}}", &e),
			 0);
	assert_int_equal(parse_long("{\"type\":\"dir\",\"name\":\"l\","
				    "\"xattrs\":{\"",
				    "x", 256, "\":\"\"}}", &e),
			 -EOVERFLOW);
	assert_non_null(strstr(e.text, "entry 0 (l): xattr name is too long"));
	assert_int_equal(parse_long("{\"type\":\"dir\",\"name\":\"l\","
				    "\"xattrs\":{\"x\":\"",
				    "AAAA", 65535 / 3, "\"}}", &e),
			 0);
	assert_int_equal(parse_long("{\"type\":\"dir\",\"name\":\"l\","
				    "\"xattrs\":{\"x\":\"",
				    "AAAA", 65535 / 3 + 1, "\"}}", &e),
			 -EOVERFLOW);
	assert_non_null(strstr(e.text, "entry 0 (l): xattr value is too long"));
}

/* Parses entries that are good. */
static struct toc *parse_good(const char *entries, char **text)
{
	struct toc *t = NULL;
	struct err e;

	if (parse(entries, &t, text, &e) < 0)
		fail_msg("%s", e.text);
	return t;
}

static void test_parse_fills_in(void **state)
{
	const struct toc_entry *x;
	struct digest d;
	struct toc *t;
	char *text;

	(void)state;
	t = parse_good("{\"mode\":36333,\"type\":\"reg\",\"other\":{\"a\":[1]},"
		       "\"size\":9223372036854775807,\"innerOffset\":7,"
		       "\"offset\":5,\"name\":\"/a/../b//c/\",\"uid\":null,"
		       "\"linkName\":\"ignored\",\"devMajor\":3,\"digest\":"
		       "\"sha256:" HEX64 "\",\"xattrs\":null,"
		       "\"modtime\":\"bad\"},"
		       "{\"name\":\"x\",\"type\":\"dir\",\"size\":5,"
		       "\"offset\":6,\"xattrs\":{\"b\":null,\"a\":\"AQID\","
		       "\"c\":\"\"}}",
		       &text);
	assert_int_equal(t->n_entries, 2);
	x = &t->entries[0];
	assert_int_equal(digest_parse("sha256:" HEX64, 71, &d), 0);
	assert_string_equal(x->name, "b/c");
	assert_int_equal(x->name_len, 3);
	assert_int_equal(x->mode, 06755);
	assert_true(x->size == INT64_MAX);
	assert_int_equal(x->offset, 5);
	assert_int_equal(x->inner_offset, 7);
	assert_int_equal(x->mtime, 0);
	assert_int_equal(x->n_xattrs, 0);
	assert_null(x->link);
	assert_int_equal(x->devmajor, 0);
	assert_true(x->has_chunk_digest);
	assert_true(digest_equal(&d, &x->chunk_digest));
	x = &t->entries[1];
	assert_int_equal(x->size, 0);
	assert_int_equal(x->offset, 0);
	assert_false(x->has_chunk_digest);
	assert_int_equal(x->n_xattrs, 3);
	assert_string_equal(x->xattrs[0].name, "a");
	assert_memory_equal(x->xattrs[0].value, "\1\2\3", 3);
	assert_string_equal(x->xattrs[1].name, "b");
	assert_int_equal(x->xattrs[1].value_len, 0);
	assert_non_null(x->xattrs[1].value);
	toc_free(t);
	free(text);
}

static void test_parse_digest_of_the_file_is_not_that_of_a_chunk(void **state)
{
	static const char *const files[] = {
		REG ",\"chunkSize\":4,\"digest\":\"sha256:" HEX64 "\"}",
		/* Says that it is all there is, and is not. */
		REG ",\"digest\":\"sha256:" HEX64 "\"}",
	};
	struct toc *t;
	char *text;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char json[512];

		snprintf(json, sizeof(json),
			 "%s,{\"type\":\"chunk\",\"chunkOffset\":4,"
			 "\"digest\":\"sha256:" HEX64 "\"}",
			 files[i]);
		t = parse_good(json, &text);
		assert_int_equal(t->n_entries, 2);
		assert_false(t->entries[0].has_chunk_digest);
		assert_false(t->entries[1].has_chunk_digest);
		assert_string_equal(t->entries[1].name, "f");
		toc_free(t);
		free(text);
	}
	/* A digest of its own stays. */
	t = parse_good(REG ",\"chunkSize\":4,\"chunkDigest\":\"sha256:" HEX64
			   "\"},{\"name\":\"./f\",\"type\":\"chunk\","
			   "\"chunkOffset\":4,\"chunkDigest\":\"sha256:" HEX64
			   "\"}",
		       &text);
	assert_true(t->entries[0].has_chunk_digest);
	assert_true(t->entries[1].has_chunk_digest);
	toc_free(t);
	free(text);
}

static void test_parse_many_entries(void **state)
{
	struct buf b = BUF_INIT(1 << 20);
	struct toc *t;
	char *text;

	(void)state;
	/* Shorter than the first guess takes them to be, so the table grows;
	 * chunks stay with their file. */
	assert_int_equal(buf_add_str(&b, REG "}"), 0);
	for (int i = 0; i < 5000; i++)
		assert_int_equal(buf_add_str(&b, ",{\"type\":\"chunk\"}"), 0);
	for (int i = 0; i < 3000; i++)
		assert_int_equal(buf_addf(&b,
					  ",{\"name\":\"%d\",\"type\":\"dir\","
					  "\"xattrs\":{\"a\":\"AAAA\"}}",
					  i),
				 0);
	t = parse_good(b.p, &text);
	assert_int_equal(t->n_entries, 8001);
	assert_string_equal(t->entries[5000].name, "f");
	for (uint32_t i = 0; i < 3000; i++) {
		assert_int_equal(strtol(t->entries[5001 + i].name, NULL, 10),
				 (int)i);
		assert_string_equal(t->entries[5001 + i].xattrs[0].name, "a");
	}
	toc_free(t);
	free(text);
	buf_done(&b);
}

static size_t read_golden(char *p, size_t cap)
{
	const char *top = getenv("top_srcdir");
	char path[512];
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path),
		 "%s/tests/data/ok/toc-estargz-chunked.json",
		 top != NULL ? top : ".");
	f = fopen(path, "rb");
	assert_non_null(f);
	len = fread(p, 1, cap, f);
	assert_in_range(len, 1, cap - 1);
	fclose(f);
	return len;
}

static void test_parse_cut_off_or_flipped(void **state)
{
	static char json[16384];
	size_t len = read_golden(json, sizeof(json));
	char *copy = malloc(len);

	(void)state;
	assert_non_null(copy);
	for (size_t n = 0; n < len; n++) {
		struct toc *t = NULL;
		struct err e = {0};

		memcpy(copy, json, n);
		assert_int_equal(toc_parse(copy, n, &t, &e), -EBADMSG);
		assert_non_null(strstr(e.text, "bad JSON"));
		assert_null(t);
	}
	for (size_t k = 0; k < len * 8; k++) {
		struct toc *t = NULL;
		struct err e = {0};
		int r;

		memcpy(copy, json, len);
		copy[k / 8] = (char)(copy[k / 8] ^ (1 << k % 8));
		r = toc_parse(copy, len, &t, &e);
		assert_true(r == 0 || r == -EBADMSG || r == -EOVERFLOW ||
			    r == -EOPNOTSUPP);
		assert_int_equal(e.code, r);
		assert_true((t != NULL) == (r == 0));
		toc_free(t);
	}
	free(copy);
}

static void test_path_clean_as_go_does(void **state)
{
	static const char *const cases[][2] = {
		{"", ""},
		{"/", ""},
		{".", ""},
		{"./", ""},
		{"..", ""},
		{"../..", ""},
		{"a", "a"},
		{"a/", "a"},
		{"./a", "a"},
		{"/a", "a"},
		{"//a//b//", "a/b"},
		{"a/./b", "a/b"},
		{"a/../b", "b"},
		{"a/..", ""},
		{"a/b/../../c", "c"},
		{"a/b/../..", ""},
		{"../a", "a"},
		{"../../a/../../b", "b"},
		{"a/../../b/./../c/d/", "c/d"},
		{"...", "..."},
		{".a/..b/c..", ".a/..b/c.."},
		{"ab/../c", "c"},
		{"\xff/\x01", "\xff/\x01"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char copy[64];
		size_t len = strlen(cases[i][0]);

		memcpy(copy, cases[i][0], len + 1);
		assert_int_equal(toc_path_clean(copy, &len), 0);
		assert_string_equal(copy, cases[i][1]);
		assert_int_equal(len, strlen(cases[i][1]));
	}
}

static const struct {
	const char *text;
	int64_t want;
} times[] = {
	{"1970-01-01T00:00:00Z", 0},
	{"1970-01-01T00:00:01Z", 1},
	{"1969-12-31T23:59:59Z", -1},
	{"2020-09-13T12:26:40Z", 1600000000},
	{"2020-09-13T12:26:40.999999999Z", 1600000000},
	{"2020-09-13T14:26:40+02:00", 1600000000},
	{"2020-09-13T06:56:40.5-05:30", 1600000000},
	{"2000-02-29T00:00:00Z", 951782400},
	{"2000-03-01T00:00:00Z", 951868800},
	{"1900-03-01T00:00:00Z", -2203891200},
	{"2038-01-19T03:14:08Z", INT64_C(2147483648)},
	{"0001-01-01T00:00:00Z", -INT64_C(62135596800)},
	{"0000-01-01T00:00:00Z", -INT64_C(62167219200)},
	{"0000-12-31T00:00:00Z", -INT64_C(62135683200)},
	{"9999-12-31T23:59:59Z", INT64_C(253402300799)},
	/* Not times. */
	{"", 0},
	{"2020", 0},
	{"2020-09-13T12:26:40", 0},
	{"2020-09-13 12:26:40Z", 0},
	{"2020-09-13T12:26:40.Z", 0},
	{"2020-09-13T12:26:40z", 0},
	{"2020-09-13T12:26:40Zx", 0},
	{"2020-09-13T12:26:40+2:00", 0},
	{"2020-09-13T12:26:40+24:00", 0},
	{"2020-09-13T12:26:40+02:60", 0},
	{"2020-09-13T12:26:40+0200", 0},
	{"2020-00-13T12:26:40Z", 0},
	{"2020-13-13T12:26:40Z", 0},
	{"2020-09-00T12:26:40Z", 0},
	{"2020-09-31T12:26:40Z", 0},
	{"2021-02-29T12:26:40Z", 0},
	{"1900-02-29T12:26:40Z", 0},
	{"2020-09-13T24:26:40Z", 0},
	{"2020-09-13T12:60:40Z", 0},
	{"2020-09-13T12:26:60Z", 0},
	{"-020-09-13T12:26:40Z", 0},
};

static void test_times(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		int64_t t = toc_time(times[i].text, strlen(times[i].text));

		if (t != times[i].want)
			fail_msg("%s: %lld", times[i].text, (long long)t);
	}
}

static void test_base64(void **state)
{
	static const struct {
		const char *text;
		int r;
		const char *want;
	} cases[] = {
		{"", 0, ""},
		{"Zg==", 0, "f"},
		{"Zm8=", 0, "fo"},
		{"Zm9v", 0, "foo"},
		{"Zm9vYmFy", 0, "foobar"},
		{"+/+/", 0, "\xfb\xff\xbf"},
		{"Z", -EBADMSG, NULL},
		{"Zg", -EBADMSG, NULL},
		{"Zg=", -EBADMSG, NULL},
		{"Zh==", -EBADMSG, NULL},
		{"Zm9=", -EBADMSG, NULL},
		{"Z===", -EBADMSG, NULL},
		{"====", -EBADMSG, NULL},
		{"Zg==Zg==", -EBADMSG, NULL},
		{"Zg=v", -EBADMSG, NULL},
		{"Zm-v", -EBADMSG, NULL},
		{"Zm9v\n", -EBADMSG, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char copy[16];
		size_t len = strlen(cases[i].text);

		memcpy(copy, cases[i].text, len);
		assert_int_equal(toc_base64(copy, &len), cases[i].r);
		if (cases[i].r < 0)
			continue;
		assert_int_equal(len, strlen(cases[i].want));
		assert_memory_equal(copy, cases[i].want, len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_document_rules),
		cmocka_unit_test(test_parse_entry_rules),
		cmocka_unit_test(test_parse_limits),
		cmocka_unit_test(test_parse_fills_in),
		cmocka_unit_test(
			test_parse_digest_of_the_file_is_not_that_of_a_chunk),
		cmocka_unit_test(test_parse_many_entries),
		cmocka_unit_test(test_parse_cut_off_or_flipped),
		cmocka_unit_test(test_path_clean_as_go_does),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
