/* SPDX-License-Identifier: Apache-2.0 */
/* Read-ahead is refused once: what is asked for again is needed. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fs/refuse.h"

static void test_once(void **state)
{
	struct refusals r = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct stats st = {0};

	(void)state;
	assert_true(refuse(&r, &st, KIB(128), KIB(128)));
	assert_false(refuse(&r, &st, KIB(128), KIB(128)));
	assert_false(refuse(&r, &st, KIB(132), KIB(8)));
	assert_false(refuse(&r, &st, KIB(124), KIB(8)));
	assert_false(refuse(&r, &st, 0, KIB(129)));
	assert_int_equal(stats_get(&st.refused), 1);
	/* What only touches it is another range. */
	assert_true(refuse(&r, &st, KIB(120), KIB(8)));
	assert_true(refuse(&r, &st, KIB(256), KIB(8)));
	assert_int_equal(stats_get(&st.refused), 3);
}

static void test_what_lies_behind(void **state)
{
	struct refusals r = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct stats st = {0};

	(void)state;
	assert_false(refused_before(&r, 0));
	assert_true(refuse(&r, &st, KIB(128), KIB(128)));
	assert_true(refused_before(&r, KIB(256)));
	assert_false(refused_before(&r, KIB(260)));
	assert_false(refused_before(&r, KIB(128)));
	assert_false(refused_before(&r, KIB(252)));
	/* It was refused itself: who asks again needs it. */
	assert_true(refuse(&r, &st, KIB(256), KIB(8)));
	assert_false(refused_before(&r, KIB(256)));
	assert_true(refused_before(&r, KIB(264)));
}

static void test_none_is_forgotten(void **state)
{
	struct refusals r = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct stats st = {0};

	(void)state;
	for (uint64_t i = 0; i < 2 * REFUSALS; i++)
		assert_int_equal(refuse(&r, &st, i * KIB(128), KIB(128)),
				 i < REFUSALS);
	for (uint64_t i = 0; i < REFUSALS; i++)
		assert_false(refuse(&r, &st, i * KIB(128), KIB(8)));
	assert_int_equal(stats_get(&st.refused), REFUSALS);
}

/* Of what another worker has refused, or of an error, the kernel may come back
 * for anything. */
static void test_what_is_not_known(void **state)
{
	struct refusals r = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct refusals next = r;
	struct stats st = {0};

	(void)state;
	assert_true(refuse(&r, &st, 0, KIB(128)));
	assert_false(refuse(&next, &st, KIB(512), KIB(128)));
	stats_add(&st.errors_eio, 1);
	assert_false(refuse(&r, &st, KIB(512), KIB(128)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_once),
		cmocka_unit_test(test_what_lies_behind),
		cmocka_unit_test(test_none_is_forgotten),
		cmocka_unit_test(test_what_is_not_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
