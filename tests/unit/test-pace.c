/* SPDX-License-Identifier: Apache-2.0 */
/* The pace of a host, on a link that is played. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/fetcher/pace.h"

#define MS NSEC_PER_MSEC
#define T0 (NSEC_PER_SEC * 1000)

/* A link of @rate bytes a second and @rtt_ns, kept full for half a minute, in
 * packets of a millisecond. */
static void play(struct pace *p, uint64_t rate, uint64_t rtt_ns)
{
	uint64_t asked[256] = {0}, queue = 0, now = T0;

	for (unsigned n = 0; n < 30000; n++, now += MS) {
		uint64_t *at = &asked[n % (rtt_ns / MS)], can;

		queue += *at;
		*at = pace_full(p) ? 0 : pace_limit(p) - p->in_flight;
		pace_ask(p, *at, now);
		can = MIN(queue, rate / 1000);
		queue -= can;
		if (can == 0)
			continue;
		pace_first(p, rtt_ns);
		pace_data(p, can, can, now);
	}
}

static void test_finds_the_link(void **state)
{
	static const uint64_t rates[] = {1000000, 12500000, 100000000,
					 1250000000};
	static const uint64_t rtts[] = {1 * MS, 20 * MS, 150 * MS};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rates); i++) {
		for (unsigned k = 0; k < ARRAY_SIZE(rtts); k++) {
			uint64_t ms = (rtts[k] + PACE_DELAY_NS) / MS, most;
			struct pace p = {0};

			/* Enough to fill it, and not much more. */
			play(&p, rates[i], rtts[k]);
			most = rates[i] / 1000 * ms * 21 / 20;
			assert_in_range(p.bytes_per_s, rates[i] * 19 / 20,
					rates[i] * 21 / 20);
			assert_in_range(pace_limit(&p), most * 8 / 10,
					MAX(most, PACE_BYTES_MIN));
		}
	}
}

static void test_gaps_are_not_the_link(void **state)
{
	struct pace p = {0};
	uint64_t now = T0 + NSEC_PER_SEC * 60, rate;

	(void)state;
	play(&p, 12500000, 20 * MS);
	rate = p.bytes_per_s;
	pace_drop(&p, p.in_flight);
	/* Little is asked for, now and then, or one after the other. */
	for (unsigned i = 0; i < 1000; i++) {
		now += i < 500 ? NSEC_PER_SEC : 0;
		pace_ask(&p, 1000, now);
		now += 20 * MS;
		pace_first(&p, 20 * MS);
		pace_data(&p, 1000, 1000, now);
	}
	assert_int_equal(p.bytes_per_s, rate);
}

static void test_round_trip(void **state)
{
	struct pace p = {0};

	(void)state;
	pace_first(&p, 40 * MS);
	assert_int_equal(p.rtt_ns, 40 * MS);
	pace_first(&p, 20 * MS);
	assert_int_equal(p.rtt_ns, 20 * MS);
	/* One that waited is no other link; a hundred are. */
	pace_first(&p, 100 * MS);
	assert_in_range(p.rtt_ns, 20 * MS, 25 * MS);
	for (unsigned i = 0; i < 100; i++)
		pace_first(&p, 100 * MS);
	assert_in_range(p.rtt_ns, 95 * MS, 100 * MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_the_link),
		cmocka_unit_test(test_gaps_are_not_the_link),
		cmocka_unit_test(test_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
