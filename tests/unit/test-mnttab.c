/* SPDX-License-Identifier: Apache-2.0 */
/* The list of mounts, with names as nobody should give them. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/mnttab.h"

static FILE *list_of(const char *text)
{
	FILE *f = tmpfile();

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	rewind(f);
	return f;
}

static void test_escapes(void **state)
{
	CLEANUP_MNTTAB struct mnttab t = {0};
	FILE *f = list_of("/a\\040b\\043c\\134040d /t\\011u\\012v erofs "
			  "ro,lowerdir=/x\\134:y 0 0\n"
			  "#ha /m fuse.estargz rw 0 0\n");

	(void)state;
	assert_true(mnttab_next(&t, f));
	assert_string_equal(t.m.mnt_fsname, "/a b#c\\040d");
	assert_string_equal(t.m.mnt_dir, "/t\tu\nv");
	assert_string_equal(t.m.mnt_type, "erofs");
	assert_string_equal(t.m.mnt_opts, "ro,lowerdir=/x\\:y");
	assert_true(mnttab_next(&t, f));
	assert_string_equal(t.m.mnt_fsname, "#ha");
	assert_false(mnttab_next(&t, f));
	(void)fclose(f);
}

/* None of the kernel's making. */
static void test_others(void **state)
{
	CLEANUP_MNTTAB struct mnttab t = {0};
	FILE *f = list_of("\n\none two three\na\\4 b\\04 c\\ d\\400");

	(void)state;
	assert_true(mnttab_next(&t, f));
	assert_string_equal(t.m.mnt_fsname, "a\\4");
	assert_string_equal(t.m.mnt_dir, "b\\04");
	assert_string_equal(t.m.mnt_type, "c\\");
	assert_string_equal(t.m.mnt_opts, "d\\400");
	assert_false(mnttab_next(&t, f));
	(void)fclose(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
