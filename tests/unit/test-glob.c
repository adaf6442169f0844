/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of files: what a pattern matches, what a list means, and what is said
 * of one that makes no sense. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/glob.h"

static void test_match(void **state)
{
	static const struct {
		const char *pattern;
		const char *path;
		bool want;
	} t[] = {
		{"bin/sh", "bin/sh", true},
		{"bin/sh", "bin/sha", false},
		{"bin/sh", "usr/bin/sh", false},
		{"bin", "bin/sh", false},
		{"*", "bin", true},
		{"*", "bin/sh", false},
		{"*", ".hidden", true},
		{"bin/*", "bin/sh", true},
		{"bin/*", "bin", false},
		{"*/*", "bin/sh", true},
		{"lib*.so*", "libc.so.6", true},
		{"lib*.so*", "libc.s", false},
		{"a*b*c", "aXbYbc", true},
		{"a*b*c", "aXbYcd", false},
		{"?", "x", true},
		{"?", "\xc3\xa4", true},
		{"?", "xy", false},
		{"?/?", "x/y", true},
		{"a?c", "a/c", false},
		{"[abc]", "b", true},
		{"[abc]", "d", false},
		{"[a-c]x", "cx", true},
		{"[!a-c]", "d", true},
		{"[^a-c]", "b", false},
		{"[]a]", "]", true},
		{"[!]a]", "]", false},
		{"[a-]", "-", true},
		{"[\\]]", "]", true},
		{"[a\\-c]", "b", false},
		{"[\x80-\xff]", "\xc3", true},
		{"\\*", "*", true},
		{"\\*x", "ax", false},
		{"**", "a", true},
		{"**", "a/b/c", true},
		{"a/**", "a", true},
		{"a/**", "a/b/c", true},
		{"a/**", "b/a", false},
		{"**/a", "a", true},
		{"**/a", "x/y/a", true},
		{"**/a", "x/ya", false},
		{"a/**/b", "a/b", true},
		{"a/**/b", "a/x/y/b", true},
		{"a/**/b", "a/x/y/c", false},
		{"a/**/b/*/c", "a/b/x/b/y/c", true},
		{"a/**/**", "a", true},
		{"**/b/**/c", "x/b/b/y/c", true},
		{"**/*.py", "usr/lib/python3/os.py", true},
		{"a**", "ab", true},
		{"a**", "ab/c", false},
		{"", "a", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		if (glob_match(t[i].pattern, t[i].path) != t[i].want)
			fail_msg("%s, %s", t[i].pattern, t[i].path);
	}
}

/* What would take for ever where every '*' were tried at every place. */
static void test_match_takes_its_product_only(void **state)
{
	char pattern[4001], path[4001];

	(void)state;
	for (size_t i = 0; i < 4000; i++) {
		pattern[i] = i % 2 == 0 ? '*' : 'a';
		path[i] = 'a';
	}
	pattern[3999] = 'b';
	pattern[4000] = path[4000] = '\0';
	assert_false(glob_match(pattern, path));
	for (size_t i = 0; i < 4000; i++) {
		pattern[i] = "**/a/"[i % 5];
		path[i] = "a/"[i % 2];
	}
	pattern[3998] = 'b';
	pattern[3999] = '\0';
	assert_false(glob_match(pattern, path));
}

/* The patterns of a list, each with its line. */
static void expect(const char *text, const char *want)
{
	CLEANUP_GLOB_LIST struct glob_list g = {0};
	struct err e = {0};
	char got[1024] = "";

	if (glob_list_parse(text, strlen(text), &g, &e) < 0)
		fail_msg("%s", e.text);
	for (size_t i = 0; i < g.n; i++) {
		size_t n = strlen(got);

		(void)snprintf(got + n, sizeof(got) - n, "%s%u%c%s",
			       i > 0 ? " " : "", g.lines[i].line,
			       g.lines[i].literal ? '=' : '~',
			       g.lines[i].pattern);
	}
	assert_string_equal(got, want);
}

static void test_list(void **state)
{
	(void)state;
	expect("", "");
	expect("# nothing\n\n  \t# either\r\n", "");
	expect("bin/sh", "1=bin/sh");
	expect("/bin/sh\n./usr//lib/./x/\n", "1=bin/sh 2=usr/lib/x");
	expect("b\n# c\n\n  a  \r\n", "1=b 4=a");
	expect("a#b\n", "1=a#b");
	expect("a b\n", "1=a b");
	expect("/usr/lib/**\nx/*.so\n", "1~usr/lib/** 2~x/*.so");
	expect("what\\?\n\\#x\n\\{a,b\\}\n", "1=what? 2=#x 3={a,b}");
	expect("{b,a}/x\n", "1=b/x 1=a/x");
	expect("{a,{b,c}d,}x{1,2}\n",
	       "1=ax1 1=ax2 1=bdx1 1=bdx2 1=cdx1 1=cdx2 1=x1 1=x2");
	expect("{a,b*}\n", "1=a 1~b*");
	expect("[{]x,}\n", "1~[{]x,}");
	expect("{[,],b}\n", "1~[,] 1=b");
}

static void refuse(const char *text, size_t len, int want, const char *why)
{
	struct glob_list g = {0};
	struct err e = {0};

	assert_int_equal(glob_list_parse(text, len, &g, &e), want);
	assert_string_equal(e.text, why);
	assert_null(g.lines);
}

static void test_bad(void **state)
{
	static const struct {
		const char *text;
		const char *why;
	} t[] = {
		{"a\n[b\n", "line 2: '[' without ']'"},
		{"[]\n", "line 1: '[' without ']'"},
		{"[a/b]\n", "line 1: '[' without ']'"},
		{"[a-\n", "line 1: '[' without ']'"},
		{"[a-\\", "line 1: '[' without ']'"},
		{"[\\", "line 1: '[' without ']'"},
		{"{a,b\n", "line 1: '{' without '}'"},
		{"a\\\n", "line 1: '\\' in front of nothing"},
		{"a\\/b\n", "line 1: '\\' in front of nothing"},
		{"a\n\n../b\n", "line 3: \"..\" in a path"},
		{"/\n", "line 1: no path"},
		{"{a,}\n", "line 1: no path"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		refuse(t[i].text, strlen(t[i].text), -EBADMSG, t[i].why);
	refuse("a\0b\n", 4, -EBADMSG, "line 1: a NUL byte");
}

static void test_bounds(void **state)
{
	static char text[3 * (GLOB_LINES_MAX + 1)];
	static const char twos[] = "{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}"
				   "{a,b}{a,b}{a,b}\n";

	(void)state;
	refuse(twos, strlen(twos), -EOVERFLOW,
	       "line 1: stands for more than 1024");
	memset(text, 'a', sizeof(text));
	refuse(text, GLOB_PATTERN_BYTES_MAX + 1, -EOVERFLOW,
	       "line 1: longer than 4096");
	for (size_t i = 1; i < sizeof(text); i += 2)
		text[i] = '\n';
	refuse(text, sizeof(text), -EOVERFLOW,
	       "line 100001: more than 100000 files");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_match),
		cmocka_unit_test(test_match_takes_its_product_only),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
