/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of a layer: quantiles of the latency, the last error. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fs/stats.h"

static void test_quantiles(void **state)
{
	struct stats *s = stats_new();

	(void)state;
	assert_int_equal(stats_quantile_us(s, 0.5), 0);
	for (unsigned i = 0; i < 98; i++)
		stats_latency(s, 20 * NSEC_PER_MSEC);
	for (unsigned i = 0; i < 2; i++)
		stats_latency(s, NSEC_PER_SEC);
	assert_int_equal(stats_get(&s->demand_misses), 100);
	/* Buckets are a quarter of an octave wide. */
	assert_in_range(stats_quantile_us(s, 0.5), 20000, 25000);
	assert_in_range(stats_quantile_us(s, 0.98), 20000, 25000);
	assert_in_range(stats_quantile_us(s, 0.99), 1000000, 1250000);
}

/* Every latency lies in the bucket that it is counted in. */
static void test_bucket_edges(void **state)
{
	(void)state;
	for (uint64_t us = 1; us < UINT64_C(1) << 31; us = us * 5 / 4 + 1) {
		struct stats *s = stats_new();
		uint64_t q;

		stats_latency(s, us * 1000);
		q = stats_quantile_us(s, 1.0);
		assert_in_range(q, us, us + us / 4 + 1);
	}
}

static void test_last_error(void **state)
{
	struct stats *s = stats_new();
	char buf[STATS_ERROR_BYTES];
	char far_too_long[2 * STATS_ERROR_BYTES];

	(void)state;
	stats_last_error(s, buf, sizeof(buf));
	assert_string_equal(buf, "");
	stats_error(s, "one");
	stats_error(s, "two");
	stats_last_error(s, buf, sizeof(buf));
	assert_string_equal(buf, "two");
	memset(far_too_long, 'x', sizeof(far_too_long));
	far_too_long[sizeof(far_too_long) - 1] = '\0';
	stats_error(s, far_too_long);
	stats_last_error(s, buf, sizeof(buf));
	assert_int_equal(strlen(buf), sizeof(buf) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quantiles),
		cmocka_unit_test(test_bucket_edges),
		cmocka_unit_test(test_last_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
