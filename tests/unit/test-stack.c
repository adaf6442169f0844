/* SPDX-License-Identifier: Apache-2.0 */
/* What a snapshot's mount looks like: the order of options is pinned. */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/snapshotter/stack.h"

static const struct stack plain = {.root = "/r"};

/* "type source option option …" */
static char *merged_text(const struct stack *st, enum snap_kind kind,
			 struct chain_link *v, size_t n, int64_t merged)
{
	static char line[65536];
	CLEANUP_STACK_MOUNT struct stack_mount m = {0};
	struct chain chain = {.v = v, .n = n, .merged = merged};
	struct err e = {0};
	size_t len;

	assert_int_equal(stack_mount(st, kind, 9, &chain, &m, &e), 0);
	len = (size_t)snprintf(line, sizeof(line), "%s %s", m.type, m.source);
	for (size_t i = 0; i < m.n_options; i++)
		len += (size_t)snprintf(line + len, sizeof(line) - len, " %s",
					m.options[i]);
	assert_true(len < sizeof(line));
	return line;
}

static char *text(const struct stack *st, enum snap_kind kind,
		  struct chain_link *v, size_t n)
{
	return merged_text(st, kind, v, n, 0);
}

static bool can_merge(const struct stack *st, enum snap_kind kind,
		      struct chain_link *v, size_t n)
{
	struct chain chain = {.v = v, .n = n};

	return stack_can_merge(st, kind, &chain);
}

static void test_table(void **state)
{
	struct chain_link one[] = {{.id = 3}};
	struct chain_link two[] = {{.id = 3}, {.id = 1}};

	(void)state;
	assert_string_equal(text(&plain, SNAP_ACTIVE, NULL, 0),
			    "bind /r/snapshots/9/fs rw rbind");
	assert_string_equal(text(&plain, SNAP_VIEW, NULL, 0),
			    "bind /r/snapshots/9/fs ro rbind");
	assert_string_equal(text(&plain, SNAP_VIEW, one, 1),
			    "bind /r/snapshots/3/fs ro rbind");
	assert_string_equal(text(&plain, SNAP_ACTIVE, one, 1),
			    "overlay overlay workdir=/r/snapshots/9/work "
			    "upperdir=/r/snapshots/9/fs "
			    "lowerdir=/r/snapshots/3/fs");
	assert_string_equal(text(&plain, SNAP_ACTIVE, two, 2),
			    "overlay overlay workdir=/r/snapshots/9/work "
			    "upperdir=/r/snapshots/9/fs "
			    "lowerdir=/r/snapshots/3/fs:/r/snapshots/1/fs");
	assert_string_equal(text(&plain, SNAP_VIEW, two, 2),
			    "overlay overlay "
			    "lowerdir=/r/snapshots/3/fs:/r/snapshots/1/fs");
}

static void test_options(void **state)
{
	const char *const more[] = {"index=off", "volatile"};
	const struct stack st = {.root = "/r",
				 .userxattr = true,
				 .options = more,
				 .n_options = 2};
	struct chain_link two[] = {{.id = 3}, {.id = 1}};

	(void)state;
	assert_string_equal(text(&st, SNAP_ACTIVE, two, 1),
			    "overlay overlay workdir=/r/snapshots/9/work "
			    "upperdir=/r/snapshots/9/fs "
			    "lowerdir=/r/snapshots/3/fs userxattr index=off "
			    "volatile");
	assert_string_equal(text(&st, SNAP_VIEW, two, 2),
			    "overlay overlay "
			    "lowerdir=/r/snapshots/3/fs:/r/snapshots/1/fs "
			    "userxattr index=off volatile");
	/* They are an overlay's. */
	assert_string_equal(text(&st, SNAP_ACTIVE, NULL, 0),
			    "bind /r/snapshots/9/fs rw rbind");
	assert_string_equal(text(&st, SNAP_VIEW, two, 1),
			    "bind /r/snapshots/3/fs ro rbind");
}

static void test_lazy(void **state)
{
	struct chain_link v[] = {
		{.id = 7}, {.id = 6, .layer = 2}, {.id = 5, .layer = 41}};

	(void)state;
	assert_string_equal(text(&plain, SNAP_VIEW, v, 3),
			    "overlay overlay "
			    "lowerdir=/r/snapshots/7/fs:/r/m/2:/r/m/41");
	assert_string_equal(text(&plain, SNAP_VIEW, v + 1, 1),
			    "bind /r/m/2 ro rbind");
}

static void test_native(void **state)
{
	struct chain_link v[] = {{.id = 7},
				 {.id = 6, .layer = 2, .native = true},
				 {.id = 5, .layer = 41}};

	(void)state;
	assert_string_equal(text(&plain, SNAP_VIEW, v, 3),
			    "overlay overlay "
			    "lowerdir=/r/snapshots/7/fs:/r/e/2:/r/m/41");
	assert_string_equal(text(&plain, SNAP_VIEW, v + 1, 1),
			    "bind /r/e/2 ro rbind");
}

static void test_merged(void **state)
{
	const char *const more[] = {"index=off"};
	const struct stack user = {.root = "/r",
				   .userxattr = true,
				   .options = more,
				   .n_options = 1};
	/* What is searched for data is estargzfs's, whatever else there is. */
	struct chain_link v[] = {{.id = 8},
				 {.id = 7},
				 {.id = 6, .layer = 2},
				 {.id = 5, .layer = 41, .native = true}};

	(void)state;
	assert_true(can_merge(&plain, SNAP_ACTIVE, v, 4));
	assert_string_equal(
		merged_text(&plain, SNAP_ACTIVE, v, 4, 5),
		"overlay overlay workdir=/r/snapshots/9/work "
		"upperdir=/r/snapshots/9/fs lowerdir=/r/snapshots/8/fs:"
		"/r/snapshots/7/fs:/r/c/5::/r/m/2::/r/m/41");
	assert_true(can_merge(&plain, SNAP_VIEW, v + 2, 2));
	assert_string_equal(merged_text(&plain, SNAP_VIEW, v + 2, 2, 5),
			    "overlay overlay lowerdir=/r/c/5"
			    "::/r/m/2::/r/m/41");
	assert_true(can_merge(&user, SNAP_ACTIVE, v + 3, 1));
	assert_string_equal(merged_text(&user, SNAP_ACTIVE, v + 3, 1, 5),
			    "overlay overlay workdir=/r/snapshots/9/work "
			    "upperdir=/r/snapshots/9/fs "
			    "lowerdir=/r/c/5::/r/m/41 userxattr "
			    "index=off");
}

static void test_merged_repeated(void **state)
{
	struct chain_link v[] = {{.id = 7, .layer = 2},
				 {.id = 6, .layer = 3},
				 {.id = 5, .layer = 2}};

	(void)state;
	assert_true(can_merge(&plain, SNAP_VIEW, v, 3));
	assert_string_equal(merged_text(&plain, SNAP_VIEW, v, 3, 5),
			    "overlay overlay lowerdir=/r/c/5"
			    "::/r/m/2::/r/m/3");
}

static void test_not_merged(void **state)
{
	struct chain_link ordinary[] = {{.id = 2}, {.id = 1}};
	struct chain_link below[] = {{.id = 3, .layer = 2}, {.id = 2}};
	struct chain_link between[] = {
		{.id = 3, .layer = 2}, {.id = 2}, {.id = 1, .layer = 3}};
	struct chain_link same[] = {{.id = 7, .layer = 2},
				    {.id = 6, .layer = 2}};

	(void)state;
	assert_false(can_merge(&plain, SNAP_ACTIVE, NULL, 0));
	assert_false(can_merge(&plain, SNAP_ACTIVE, ordinary, 2));
	assert_false(can_merge(&plain, SNAP_ACTIVE, below, 2));
	assert_false(can_merge(&plain, SNAP_ACTIVE, between, 3));
	/* Those are binds. */
	assert_false(can_merge(&plain, SNAP_VIEW, below, 1));
	assert_false(can_merge(&plain, SNAP_VIEW, same, 2));
	assert_true(can_merge(&plain, SNAP_ACTIVE, same, 2));
}

/* The longest that is taken is what a page less containerd's share holds. */
static void test_merged_page(void **state)
{
	const struct stack usual = {.root = "/var/lib/estargz"};
	struct chain_link v[160];
	size_t n = 1, len;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(v); i++)
		v[i] = (struct chain_link){.id = 100000 - i,
					   .layer = 100000 + i};
	assert_true(can_merge(&usual, SNAP_ACTIVE, v, 120));
	while (n < ARRAY_SIZE(v) && can_merge(&usual, SNAP_ACTIVE, v, n))
		n++;
	assert_in_range(n, 121, ARRAY_SIZE(v) - 1);
	/* Numbers may become longer. */
	len = strlen(merged_text(&usual, SNAP_ACTIVE, v, n - 1, INT32_MAX)) -
	      strlen("overlay overlay ") + 1;
	assert_in_range(len, STACK_OPTION_BYTES_MAX - 64,
			STACK_OPTION_BYTES_MAX);
}

/* One superblock twice is ELOOP; the upper place is the one that counts. */
static void test_repeated_layer(void **state)
{
	struct chain_link v[] = {{.id = 7, .layer = 2},
				 {.id = 6, .layer = 3},
				 {.id = 5, .layer = 2},
				 {.id = 4},
				 {.id = 3, .layer = 3}};
	struct chain_link same[] = {{.id = 7, .layer = 2},
				    {.id = 6, .layer = 2}};

	(void)state;
	assert_string_equal(text(&plain, SNAP_VIEW, v, 5),
			    "overlay overlay "
			    "lowerdir=/r/m/2:/r/m/3:/r/snapshots/4/fs");
	/* An overlay of one directory would need an upper one. */
	assert_string_equal(text(&plain, SNAP_VIEW, same, 2),
			    "bind /r/m/2 ro rbind");
	assert_string_equal(text(&plain, SNAP_ACTIVE, same, 2),
			    "overlay overlay workdir=/r/snapshots/9/work "
			    "upperdir=/r/snapshots/9/fs lowerdir=/r/m/2");
}

static void test_128_layers(void **state)
{
	struct chain_link v[128];
	char want[8192];
	size_t len;

	(void)state;
	len = (size_t)snprintf(want, sizeof(want), "overlay overlay lowerdir=");
	for (unsigned i = 0; i < 128; i++) {
		v[i] = (struct chain_link){.id = 1000 - i};
		len += (size_t)snprintf(want + len, sizeof(want) - len,
					"%s/r/snapshots/%u/fs",
					i > 0 ? ":" : "", 1000 - i);
	}
	assert_string_equal(text(&plain, SNAP_VIEW, v, 128), want);
}

static void test_committed_has_none(void **state)
{
	struct stack_mount m = {0};
	struct chain chain = {0};
	struct err e = {0};

	(void)state;
	assert_int_equal(stack_mount(&plain, SNAP_COMMITTED, 1, &chain, &m, &e),
			 -EINVAL);
	assert_null(m.type);
	assert_non_null(strstr(e.text, "committed"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_lazy),
		cmocka_unit_test(test_native),
		cmocka_unit_test(test_merged),
		cmocka_unit_test(test_merged_repeated),
		cmocka_unit_test(test_not_merged),
		cmocka_unit_test(test_merged_page),
		cmocka_unit_test(test_repeated_layer),
		cmocka_unit_test(test_128_layers),
		cmocka_unit_test(test_committed_has_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
