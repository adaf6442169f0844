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

	(void)state;
	assert_true(refuse(&r, KIB(128), KIB(128)));
	assert_false(refuse(&r, KIB(128), KIB(128)));
	assert_false(refuse(&r, KIB(132), KIB(8)));
	assert_false(refuse(&r, KIB(124), KIB(8)));
	assert_false(refuse(&r, 0, KIB(129)));
	/* What only touches it is another range. */
	assert_true(refuse(&r, KIB(120), KIB(8)));
	assert_true(refuse(&r, KIB(256), KIB(8)));
	assert_false(refuse(&r, UINT64_MAX / 2, 1) &&
		     refuse(&r, UINT64_MAX / 2, 1));
}

static void test_many(void **state)
{
	struct refusals r = {.lock = PTHREAD_MUTEX_INITIALIZER};

	(void)state;
	for (uint64_t i = 0; i < 5 * REFUSALS; i++) {
		assert_true(refuse(&r, i * KIB(128), KIB(128)));
		/* The last ones are always known. */
		for (uint64_t k = i - MIN(i, REFUSALS - UINT64_C(1)); k <= i;
		     k += 17)
			assert_false(refuse(&r, k * KIB(128), KIB(8)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_once),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
