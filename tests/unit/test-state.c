/* SPDX-License-Identifier: Apache-2.0 */
/* A layer's directory: who makes the index, and what is left when he dies. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/state.h"
#include "tests/unit/tmproot.h"

static char root[64];
static const struct digest toc = {{0xab, 1, 2}};

static int setup(void **state)
{
	(void)state;
	(void)snprintf(root, sizeof(root), "/tmp/test-state.XXXXXX");
	return mkdtemp(root) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return tmproot_remove(root);
}

static void publish(struct state *s)
{
	struct err e = {0};
	bool other;

	assert_int_equal(state_publish(s, &toc, false, false, &other, &e), 0);
}

static void test_first_makes_second_finds(void **state)
{
	struct state a, b;
	struct err e = {0};

	(void)state;
	assert_int_equal(state_open(&a, root, &toc, false, false, &e), 0);
	assert_true(a.building && a.exclusive);
	publish(&a);
	state_share(&a);
	assert_int_equal(state_open(&b, root, &toc, false, false, &e), 0);
	assert_false(b.building);
	assert_false(b.exclusive);
	state_close(&b);
	state_close(&a);
	/* Alone again: may look after what an unclean stop left. */
	assert_int_equal(state_open(&b, root, &toc, false, false, &e), 0);
	assert_true(!b.building && b.exclusive);
	state_close(&b);
}

static void test_other_family_other_directory(void **state)
{
	struct state a, b;
	struct err e = {0};

	(void)state;
	assert_int_equal(state_open(&a, root, &toc, false, false, &e), 0);
	publish(&a);
	assert_int_equal(state_open(&b, root, &toc, true, false, &e), 0);
	assert_true(b.building);
	assert_string_not_equal(a.path, b.path);
	state_close(&b);
	assert_int_equal(state_open(&b, root, &toc, false, true, &e), 0);
	assert_true(b.building);
	state_close(&b);
	state_close(&a);
}

static void test_failure_leaves_nothing(void **state)
{
	struct state a;
	struct err e = {0};
	char path[256];

	(void)state;
	assert_int_equal(state_open(&a, root, &toc, false, false, &e), 0);
	(void)snprintf(path, sizeof(path), "%s", a.path);
	state_close(&a);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(state_open(&a, root, NULL, false, true, &e), 0);
	(void)snprintf(path, sizeof(path), "%s", a.path);
	assert_int_equal(access(path, F_OK), 0);
	state_close(&a);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_digest_found_out_later(void **state)
{
	struct state a, b;
	struct err e = {0};
	bool other;

	(void)state;
	assert_int_equal(state_open(&a, root, NULL, false, true, &e), 0);
	assert_true(a.temporary && a.building);
	assert_int_equal(state_publish(&a, &toc, false, true, &other, &e), 0);
	assert_false(other);
	assert_non_null(strstr(a.path, "/unverified/ab01"));
	state_share(&a);
	/* The next one comes to the same place, and takes what is there. */
	assert_int_equal(state_open(&b, root, NULL, false, true, &e), 0);
	assert_int_equal(state_publish(&b, &toc, false, true, &other, &e), 0);
	assert_true(other);
	assert_string_equal(a.path, b.path);
	state_close(&b);
	state_close(&a);
}

/* A maker who is killed leaves files that the next one does not trust. */
static void test_killed_maker(void **state)
{
	struct err e = {0};
	struct state a;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		if (state_open(&a, root, &toc, false, false, &e) < 0 ||
		    write(a.fds[STATE_EROFS], "half", 4) != 4 ||
		    state_open(&a, root, NULL, false, true, &e) < 0)
			_exit(1);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(state_open(&a, root, &toc, false, false, &e), 0);
	assert_true(a.building);
	assert_int_equal(lseek(a.fds[STATE_EROFS], 0, SEEK_END), 0);
	publish(&a);
	state_close(&a);
	/* And his temporary directory is swept away. */
	assert_int_equal(state_open(&a, root, NULL, false, true, &e), 0);
	state_close(&a);
	{
		char path[128];

		(void)snprintf(path, sizeof(path), "%s/layers/tmp.%d", root,
			       (int)pid);
		assert_int_equal(access(path, F_OK), -1);
	}
}

static void test_damaged_index_in_use_is_left_alone(void **state)
{
	struct state a, b;
	struct err e = {0};

	(void)state;
	assert_int_equal(state_open(&a, root, &toc, false, false, &e), 0);
	publish(&a);
	state_share(&a);
	assert_int_equal(state_open(&b, root, &toc, false, false, &e), 0);
	assert_int_equal(state_rebuild(&b, &e), -EBUSY);
	state_close(&a);
	assert_int_equal(state_rebuild(&b, &e), 0);
	assert_true(b.building);
	state_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_first_makes_second_finds,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_other_family_other_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failure_leaves_nothing,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_digest_found_out_later,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_maker, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			test_damaged_index_in_use_is_left_alone, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
