/* SPDX-License-Identifier: Apache-2.0 */
/* containerd's filters: what each selects of a few snapshots, and what is said
 * of those that make no sense. */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/snapshotter/filter.h"

static const struct {
	const char *name;
	const char *parent;
	enum snap_kind kind;
	const char *labels[5]; /* key, value, … */
} rows[] = {
	{"foo", "", SNAP_ACTIVE, {"foo", "true"}},
	{"bar", "", SNAP_VIEW, {NULL}},
	{"foo",
	 "",
	 SNAP_COMMITTED,
	 {"foo", "present", "more complex label", "present"}},
	{"bar", "", SNAP_ACTIVE, {"bar", "true"}},
	{"fooer",
	 "",
	 SNAP_ACTIVE,
	 {"more complex label with \\ and \"", "present"}},
	{"fooer",
	 "",
	 SNAP_ACTIVE,
	 {"more complex label with \\ and \".post", "present"}},
	{"baz", "too complex, yo", SNAP_ACTIVE, {NULL}},
	{"bazo", "abc", SNAP_VIEW, {NULL}},
	{"compound", "", SNAP_COMMITTED, {"foo", "omg_asdf.asdf-qwer"}},
};

/* One letter a row that matches: "a" is the first. */
static const char *select_by(const char *const *filters, size_t n)
{
	static char got[ARRAY_SIZE(rows) + 1];
	struct filter *f;
	struct err e = {0};
	size_t len = 0;

	if (filter_parse(&f, filters, n, &e) < 0)
		fail_msg("%s", e.text);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEANUP_LABELS struct labels l = {0};
		char name[64], parent[64];
		struct snap s = {
			.name = name, .parent = parent, .kind = rows[i].kind};

		(void)snprintf(name, sizeof(name), "%s", rows[i].name);
		(void)snprintf(parent, sizeof(parent), "%s", rows[i].parent);
		for (size_t k = 0; rows[i].labels[k] != NULL; k += 2)
			assert_int_equal(labels_set(&l, rows[i].labels[k],
						    rows[i].labels[k + 1]),
					 0);
		s.labels = l;
		if (filter_match(f, &s))
			got[len++] = (char)('a' + i);
	}
	got[len] = '\0';
	filter_free(f);
	return got;
}

#define ALL "abcdefghi"

static void test_selects(void **state)
{
	static const struct {
		const char *filter;
		const char *want;
	} t[] = {
		{"", ALL},
		{"name", ALL},
		{"labels.foo", "aci"},
		{"labels.foo,name", "aci"},
		{"labels.foo==true", "a"},
		{"labels.foo==omg_asdf.asdf-qwer", "i"},
		{"name==bar", "bd"},
		{"name!=bar", "acefghi"},
		{"name==bar,labels.bar", "d"},
		{"parent==\"too complex, yo\"", "g"},
		{"parent~=[abc]+,name!=foo", "gh"},
		{"parent~=/[abc]+/,name!=foo", "gh"},
		{"parent~=/[abc]{1,2}/,name!=foo", "gh"},
		{"parent~=/[abc]{0,1}\"\\//,name!=foo", ""},
		{"name==bar,labels.bar==true", "d"},
		{"name==bar,labels.bar==wrong", ""},
		{"name==foo,labels.\"more complex label\"", "c"},
		{"labels.\"more complex label with \\\\ and \\\"\"==present",
		 "e"},
		{"labels.\"more complex label with \\\\ and \\\"\".post==present",
		 "f"},
		/* Ours */
		{"kind==active", "adefg"},
		{"kind==view", "bh"},
		{"kind==committed", "ci"},
		{"kind!=active", "bchi"},
		{"parent", ALL},
		{"parent!=\"\"", "gh"},
		{"parent==\"\"", "abcdefi"},
		{"nothing", ""},
		{"nothing==\"\"", ""},
		{"nothing!=x", ALL},
		{"nothing~=|.|", ""},
		{"nothing~=|^$|", ALL},
		{"labels", ""},
		{"labels.foo!=true", "bcdefghi"},
		{"labels.foo~=e$", "a"},
		{"labels.foo~=\"^(true|present)$\"", "ac"},
		{"name==\"f\\157\\x6f\"", "ac"},
		{"name==\"\\u0066oo\"", "ac"},
		{"name==\"\\U00000066oo\"", "ac"},
		{"name==\"foo\\x00\"", ""},
		{"labels.\"foo\\x00\"", ""},
		{"\"name\"==foo", "ac"},
		{"name.whatever==foo", "ac"},
		{"  name   ==   foo,  labels.foo  ==  true", "a"},
		{"name==foo=bar", ""},
		{"name~=(?i)^FOO$", "ac"},
		{"name~=牛", ""},
		{"name~=|牛|", ""},
		{"name~=\"\"", ALL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		const char *got = select_by(&t[i].filter, 1);

		if (strcmp(got, t[i].want) != 0)
			fail_msg("%s: %s, want %s", t[i].filter, got,
				 t[i].want);
	}
}

/* Several: one of them is enough. */
static void test_any(void **state)
{
	const char *two[] = {"name==bar", "labels.foo==true"};
	const char *one_empty[] = {"name==bar", ""};

	(void)state;
	assert_string_equal(select_by(NULL, 0), ALL);
	assert_string_equal(select_by(two, 2), "abd");
	assert_string_equal(select_by(one_empty, 2), ALL);
}

#define P "filters: parse error: "
static void test_refuses(void **state)
{
	static const struct {
		const char *filter;
		const char *want;
	} t[] = {
		/* containerd's own words */
		{"labels.|foo|==omg_asdf.asdf-qwer",
		 P "[labels. >|||< foo|==omg_asdf.asdf-qwer]: "
		   "invalid quote encountered"},
		{"labels.?\"more complex\".post==present",
		 P "[labels. >|?|< \"more complex\".post==present]: "
		   "expected field or quoted"},
		{"name==foo,", P "[name==foo,]: expected field or quoted"},
		{"labels.", P "[labels.]: expected field or quoted"},
		{"image~=,id?=?fbaq",
		 P "[image~= >|,|< id?=?fbaq]: expected value or quoted"},
		{"labels.ns/key==value", P "[labels.ns >|/|< key==value]: "
					   "quoted literal not terminated"},
		{"labels.key==/value",
		 P "[labels.key== >|/|< value]: quoted literal not "
		   "terminated"},
		/* Ours */
		{"name=foo", P "[name >|=|< foo]: unsupported operator"},
		{"name===foo", P "[name >|=|< ==foo]: unsupported operator"},
		{"name==", P "[name==]: expected value or quoted"},
		{"name==.x", P "[name== >|.|< x]: expected value or quoted"},
		{"name==a b", P "[name==a >| |< b]: unexpected input"},
		{"name==a ", P "[name==a >| |< ]: unexpected input"},
		{"name ", P "[name ]: expected an operator "
			    "(\"==\"|\"!=\"|\"~=\")"},
		{"name foo==x", P "[name  >|f|< oo==x]: expected an operator "
				  "(\"==\"|\"!=\"|\"~=\")"},
		{",", P "[ >|,|< ]: expected field or quoted"},
		{" ", P "[ ]: expected field or quoted"},
		{"name==\"\\g\"", P "[name== >|\"|< \\g\"]: illegal escape "
				    "sequence"},
		{"name==\"\\xaz\"", P "[name== >|\"|< \\xaz\"]: illegal "
				      "numeric escape sequence"},
		{"name==\"\\777\"", P "[name== >|\"|< \\777\"]: unquoting "
				      "failed: number too large"},
		{"name==\"\\U00110000\"", P "[name== >|\"|< \\U00110000\"]: "
					    "unquoting failed: number too "
					    "large"},
		{"name==/x/", P "[name== >|/|< x/]: invalid quote "
				"encountered"},
		{"name==\"a\"b", P "[name==\"a\" >|b|< ]: unexpected input"},
		{"name==x,\xff", P "[name==x, >|\xff|< ]: not UTF-8"},
		{"name~=(", P "[name~= >|(|< ]: missing closing "
			      "parenthesis"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct filter *f = NULL;
		struct err e = {0};

		if (filter_parse(&f, &t[i].filter, 1, &e) != -EINVAL)
			fail_msg("%s: not refused", t[i].filter);
		assert_null(f);
		assert_string_equal(e.text, t[i].want);
	}
}

/* The place is told where the text is too long for an error. */
static void test_long_text(void **state)
{
	char text[4096];
	const char *p = text;
	struct filter *f;
	struct err e = {0};

	(void)state;
	memset(text, 'x', sizeof(text));
	memcpy(text + 2000, "==a b", 5);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(filter_parse(&f, &p, 1, &e), -EINVAL);
	assert_non_null(strstr(e.text, "x==a >| |< bx"));
	assert_non_null(strstr(e.text, "]: unexpected input"));
}

/* Backtracking ends somewhere, and is no match then. */
static void test_bounds(void **state)
{
	const char *slow = "name~=^(a+)+$";
	char name[64], none[] = "", *big;
	struct snap s = {.name = name, .parent = none};
	struct filter *f;
	struct err e = {0};
	const char *p;

	(void)state;
	memset(name, 'a', sizeof(name) - 2);
	name[sizeof(name) - 2] = '!';
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(filter_parse(&f, &slow, 1, &e), 0);
	assert_false(filter_match(f, &s));
	filter_free(f);
	big = malloc(8192);
	assert_non_null(big);
	memset(big, 'a', 8191);
	big[8191] = '\0';
	memcpy(big, "name~=", 6);
	p = big;
	assert_int_equal(filter_parse(&f, &p, 1, &e), -EINVAL);
	assert_non_null(strstr(e.text, "too long"));
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_selects),
		cmocka_unit_test(test_any),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_long_text),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
