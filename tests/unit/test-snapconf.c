/* SPDX-License-Identifier: Apache-2.0 */
/* config.toml of estargz-snapshotter. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/snapshotter/conf.h"

static const char golden[] = "root = \"/srv/images\"\n"
			     "address = \"/run/a.sock\"\n"
			     "log_level = \"debug\"\n"
			     "[fetcher]\n"
			     "address = \"/run/b.sock\"\n"
			     "start = false\n"
			     "program = \"/opt/estargzd\"\n"
			     "[layers]\n"
			     "lazy = false\n"
			     "prefetch = false\n"
			     "background = false\n"
			     "open_mode = \"passthrough\"\n"
			     "program = \"/opt/mount.estargz\"\n"
			     "mount_timeout_s = 7\n"
			     "read_timeout_s = 8\n"
			     "events_dir = \"/srv/events\"\n"
			     "events_max_bytes = \"5MiB\"\n"
			     "scope = false\n"
			     "[cache]\n"
			     "max_bytes = \"10GiB\"\n"
			     "[mount]\n"
			     "options = [\"index=off\", \"volatile\"]\n"
			     "userxattr = \"yes\"\n"
			     "metadata = \"erofs\"\n";

static int parse(struct config *c, const char *text, size_t len, struct err *e)
{
	*e = (struct err){0};
	assert_int_equal(config_init(c), 0);
	return config_parse(c, text, len, e);
}

static void test_defaults(void **state)
{
	struct config c;
	struct err e;

	(void)state;
	assert_int_equal(parse(&c, "", 0, &e), 0);
	assert_string_equal(c.root, "/var/lib/estargz");
	assert_string_equal(c.address, "/run/estargz/snapshotter.sock");
	assert_int_equal(c.log_level, LOG_INFO_);
	assert_string_equal(c.fetcher_address, "/run/estargz/fetcher.sock");
	assert_string_equal(c.fetcher_program, SBINDIR "/estargzd");
	assert_string_equal(c.estargzfs, SBINDIR "/mount.estargz");
	assert_true(c.fetcher_start && c.lazy && c.prefetch && c.background);
	assert_true(c.scope);
	assert_string_equal(c.open_mode, "auto");
	assert_int_equal(c.mount_timeout_s, 40);
	assert_int_equal(c.read_timeout_s, 300);
	assert_null(c.events_dir);
	assert_int_equal(c.events_max_bytes, MIB(256));
	assert_int_equal(c.cache_max_bytes, UINT64_C(16) << 30);
	assert_int_equal(c.n_options, 0);
	assert_int_equal(c.userxattr, USERXATTR_AUTO);
	assert_int_equal(c.metadata, METADATA_AUTO);
	config_done(&c);
}

static void test_every_key(void **state)
{
	struct config c;
	struct err e;

	(void)state;
	if (parse(&c, golden, strlen(golden), &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(c.root, "/srv/images");
	assert_string_equal(c.address, "/run/a.sock");
	assert_int_equal(c.log_level, LOG_DEBUG_);
	assert_string_equal(c.fetcher_address, "/run/b.sock");
	assert_string_equal(c.fetcher_program, "/opt/estargzd");
	assert_string_equal(c.estargzfs, "/opt/mount.estargz");
	assert_false(c.fetcher_start || c.lazy || c.prefetch || c.background);
	assert_false(c.scope);
	assert_string_equal(c.open_mode, "passthrough");
	assert_int_equal(c.mount_timeout_s, 7);
	assert_int_equal(c.read_timeout_s, 8);
	assert_string_equal(c.events_dir, "/srv/events");
	assert_int_equal(c.events_max_bytes, MIB(5));
	assert_int_equal(c.cache_max_bytes, UINT64_C(10) << 30);
	assert_int_equal(c.n_options, 2);
	assert_string_equal(c.options[0], "index=off");
	assert_string_equal(c.options[1], "volatile");
	assert_int_equal(c.userxattr, USERXATTR_YES);
	assert_int_equal(c.metadata, METADATA_EROFS);
	config_done(&c);
}

static void test_sizes(void **state)
{
	static const struct {
		const char *s;
		int r;
		uint64_t bytes;
	} sizes[] = {
		{"0", 0, 0},
		{"17", 0, 17},
		{"\"17\"", 0, 17},
		{"\"3KiB\"", 0, 3072},
		{"\"4MiB\"", 0, UINT64_C(4) << 20},
		{"\"1TiB\"", 0, UINT64_C(1) << 40},
		{"\"8388607TiB\"", 0, UINT64_C(8388607) << 40},
		{"\"8388608TiB\"", -EINVAL, 0},  /* 2^63 */
		{"\"16777216TiB\"", -EINVAL, 0}, /* 2^64 */
		{"\"99999999999999999999\"", -EINVAL, 0},
		{"\"GiB\"", -EINVAL, 0},
		{"\"-1GiB\"", -EINVAL, 0},
		{"\" 1GiB\"", -EINVAL, 0},
		{"\"1 GiB\"", -EINVAL, 0},
		{"\"1GB\"", -EINVAL, 0},
		{"\"1gib\"", 0, UINT64_C(1) << 30},
		{"\"10g\"", 0, UINT64_C(10) << 30},
		{"\"\"", -EINVAL, 0},
		{"1.5", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"true", -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		char text[80];
		struct config c;
		struct err e;

		(void)snprintf(text, sizeof(text), "[cache]\nmax_bytes = %s\n",
			       sizes[i].s);
		if (parse(&c, text, strlen(text), &e) != sizes[i].r)
			fail_msg("%s: %s", sizes[i].s, e.text);
		if (sizes[i].r == 0)
			assert_int_equal(c.cache_max_bytes, sizes[i].bytes);
		config_done(&c);
	}
}

/* The message names the line, the key and its table. */
static void test_bad(void **state)
{
	static const struct {
		const char *s, *text;
	} bad[] = {
		{"\nrooot = \"/x\"", "line 2: unknown key rooot"},
		{"[layers]\nlazzy = true",
		 "line 2: unknown key lazzy in [layers]"},
		{"[cache]\nlazy = true", "line 2: unknown key lazy in [cache]"},
		{"lazy = true", "line 1: unknown key lazy"},
		{"\n\n[layer]\nlazy = true", "line 3: unknown table [layer]"},
		{"layers = true", "line 1: layers is a table: [layers]"},
		{"[layers.lazy]\nx = 1",
		 "line 1: bad value for lazy in [layers]: expected true or false"},
		{"[layers]\nlazy = \"true\"",
		 "line 2: bad value for lazy in [layers]: expected true or false"},
		{"[layers]\n\nmount_timeout_s = 0",
		 "line 3: bad value for mount_timeout_s in [layers]: expected a number from 1 to 3600"},
		{"[layers]\nread_timeout_s = 3601", "read_timeout_s"},
		{"[layers]\nread_timeout_s = \"5\"", "read_timeout_s"},
		{"[layers]\nprogram = \"estargzfs\"",
		 "line 2: bad value for program in [layers]: expected an absolute path"},
		{"root = 1",
		 "line 1: bad value for root: expected an absolute"},
		{"root = \"\"", "line 1: bad value for root"},
		{"root = \"/a\\u0000b\"", "line 1: bad value for root"},
		{"root = \"var\"", "line 1: bad value for root"},
		{"root = \"/a,b\"", "root: no comma"},
		{"root = \"/a:b\"", "root: no comma"},
		{"root = \"/a\\\\b\"", "root: no comma"},
		{"root = \"/a\\nb\"", "root: no comma"},
		{"root = \"/\"", "root: no empty"},
		{"root = \"/a/\"", "root: no empty"},
		{"root = \"/a//b\"", "root: no empty"},
		{"root = \"/a/./b\"", "root: no empty"},
		{"root = \"/../b\"", "root: no empty"},
		{"[layers]\nevents_dir = \"ev\"", "bad value for events_dir"},
		{"[layers]\nevents_dir = \"/a,b\"", "events_dir: no comma"},
		{"[layers]\nevents_max_bytes = 2097151", "events_max_bytes"},
		{"log_level = \"loud\"", "expected err, warn, info or debug"},
		{"address = \"/run/estargz/fetcher.sock\"",
		 "address: also that of [fetcher]"},
		{"[layers]\nopen_mode = \"no\"",
		 "expected \"auto\", \"noopen\" or \"passthrough\""},
		{"[mount]\nmetadata = \"ext4\"",
		 "expected \"auto\", \"erofs\""},
		{"[mount]\nuserxattr = true", "expected \"auto\", \"yes\" or"},
		{"[mount]\noptions = \"volatile\"",
		 "line 2: bad value for options in [mount]: expected a list"},
		{"[mount]\noptions = [1]", "bad value for options in [mount]"},
		{"[mount]\noptions = [\"\"]",
		 "bad value for options in [mount]"},
		{"[mount]\noptions = [\"volatile,lowerdir=/x\"]",
		 "options in [mount]: one a string: volatile,"},
		{"[mount]\noptions = [\"index=off\", \"lowerdir=/x\"]",
		 "options in [mount]: not to be chosen: lowerdir=/x"},
		{"[mount]\noptions = [\"lowerdir+=/x\"]", "not to be chosen"},
		{"[mount]\noptions = [\"upperdir=/x\"]", "not to be chosen"},
		{"[mount]\noptions = [\"workdir=/x\"]", "not to be chosen"},
		{"[mount]\noptions = [\"userxattr\"]", "not to be chosen"},
		{"[mount]\noptions = [\"ro\"]", "not to be chosen: ro"},
		{"[mount]\noptions = [\"metacopy=on\"]", "breaks commits"},
		{"root = \"/a\"\nroot = \"/b\"", "line 2"},
		{"root", "line 1"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct config c;
		struct err e;

		if (parse(&c, bad[i].s, strlen(bad[i].s), &e) >= 0)
			fail_msg("accepted: %s", bad[i].s);
		if (strstr(e.text, bad[i].text) == NULL)
			fail_msg("%s: %s", bad[i].s, e.text);
		config_done(&c);
	}
}

/* A path that only looks like one of those that are refused. */
static void test_good_roots(void **state)
{
	static const char *const good[] = {"/a", "/.a/..b/...", "/a b/\u00e9"};
	struct config c;
	struct err e;

	(void)state;
	assert_int_equal(parse(&c, "", 0, &e), 0);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		free(c.root);
		c.root = strdup(good[i]);
		if (config_check(&c, &e) < 0)
			fail_msg("%s", e.text);
	}
	config_done(&c);
}

static void test_long_address(void **state)
{
	char text[160];
	struct config c;
	struct err e;

	(void)state;
	for (int n = 107; n <= 108; n++) {
		int r;

		(void)snprintf(text, sizeof(text), "address = \"/%0*d\"", n - 1,
			       0);
		r = parse(&c, text, strlen(text), &e);
		assert_int_equal(r, n == 107 ? 0 : -EINVAL);
		if (r < 0)
			assert_non_null(strstr(
				e.text,
				"bad value for address: expected an absolute path, at most 107 bytes"));
		else
			assert_int_equal(strlen(c.address), 107);
		config_done(&c);
	}
}

static void test_damaged(void **state)
{
	char s[sizeof(golden)];
	struct config c;
	struct err e;

	(void)state;
	for (size_t n = 0; n < sizeof(golden); n++) {
		(void)parse(&c, golden, n, &e);
		config_done(&c);
	}
	for (size_t i = 0; i < strlen(golden) * 8; i++) {
		memcpy(s, golden, sizeof(s));
		s[i / 8] = (char)(s[i / 8] ^ 1 << i % 8);
		(void)parse(&c, s, strlen(golden), &e);
		config_done(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_every_key),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_good_roots),
		cmocka_unit_test(test_long_address),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests_name("snapconf", tests, NULL, NULL);
}
