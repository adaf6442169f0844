/* SPDX-License-Identifier: Apache-2.0 */
/* The presence bitmaps: setting, counting, syncs, boots, torn files. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/present.h"

static const uint8_t digest[32] = {1, 2, 3};
static const uint8_t boot[16] = {4, 5, 6};
static const uint8_t next_boot[16] = {7, 8, 9};

struct fixture {
	uint64_t n;
	size_t len;
	uint8_t *map;
	struct present p;
};

static void make(struct fixture *f, uint64_t n)
{
	f->n = n;
	f->len = present_file_bytes(n);
	f->map = calloc(1, f->len);
	assert_non_null(f->map);
	present_init(f->map, f->len, n, digest, boot);
	assert_int_equal(present_open(&f->p, f->map, f->len, n, digest, boot,
				      true, NULL),
			 0);
}

static int reopen(struct fixture *f, const uint8_t *boot_id, bool exclusive)
{
	return present_open(&f->p, f->map, f->len, f->n, digest, boot_id,
			    exclusive, NULL);
}

static void test_bits_and_counts(void **state)
{
	static const uint64_t sizes[] = {0, 1, 63, 64, 65, 128, 1000};

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		struct fixture f;
		uint64_t n = sizes[s];

		make(&f, n);
		assert_int_equal(present_next_missing(&f.p, 0), 0);
		for (uint64_t i = 0; i < n; i++) {
			assert_false(present_test(&f.p, i));
			assert_true(present_set(&f.p, i));
			assert_false(present_set(&f.p, i));
			assert_true(present_test(&f.p, i));
			assert_int_equal(present_count(&f.p), i + 1);
			assert_int_equal(present_next_missing(&f.p, 0), i + 1);
		}
		assert_true(present_test_range(&f.p, 0, n));
		assert_int_equal(present_next_missing(&f.p, n), n);
		free(f.map);
	}
}

static void test_ranges_and_next_missing(void **state)
{
	struct fixture f;

	(void)state;
	make(&f, 300);
	for (uint64_t i = 0; i < 300; i++)
		if (i != 3 && i != 64 && i != 255)
			present_set(&f.p, i);
	assert_true(present_test_range(&f.p, 0, 3));
	assert_false(present_test_range(&f.p, 0, 4));
	assert_true(present_test_range(&f.p, 4, 60));
	assert_false(present_test_range(&f.p, 4, 61));
	assert_true(present_test_range(&f.p, 65, 190));
	assert_false(present_test_range(&f.p, 65, 191));
	assert_true(present_test_range(&f.p, 256, 44));
	assert_true(present_test_range(&f.p, 300, 0));
	assert_int_equal(present_next_missing(&f.p, 0), 3);
	assert_int_equal(present_next_missing(&f.p, 4), 64);
	assert_int_equal(present_next_missing(&f.p, 65), 255);
	assert_int_equal(present_next_missing(&f.p, 256), 300);
	free(f.map);
}

static void test_boot_makes_the_unsynced_suspect(void **state)
{
	struct fixture f;
	uint64_t snap[3];

	(void)state;
	make(&f, 130);
	present_set(&f.p, 1);
	present_set(&f.p, 129);
	assert_int_equal(present_words(&f.p), ARRAY_SIZE(snap));
	present_snapshot(&f.p, snap);
	present_set(&f.p, 2); /* after the snapshot: not synced */
	present_synced(&f.p, snap);
	assert_int_equal(present_count_durable(&f.p), 2);
	assert_true(present_test_durable(&f.p, 1, 1));
	assert_true(present_test_durable(&f.p, 129, 1));
	assert_true(present_test_range(&f.p, 1, 2));
	assert_false(present_test_durable(&f.p, 1, 2));
	/* Others that open it change nothing, nor does the same boot. */
	assert_int_equal(reopen(&f, boot, false), 0);
	assert_int_equal(reopen(&f, boot, true), 0);
	assert_int_equal(present_count(&f.p), 3);
	assert_false(present_suspect(&f.p, 2));

	assert_int_equal(reopen(&f, next_boot, true), 0);
	assert_int_equal(present_count(&f.p), 2);
	assert_true(present_test(&f.p, 1));
	assert_true(present_test(&f.p, 129));
	assert_false(present_test(&f.p, 2));
	assert_true(present_suspect(&f.p, 2));
	assert_false(present_suspect(&f.p, 1));
	/* It stays suspect until it is verified. */
	assert_int_equal(reopen(&f, boot, true), 0);
	assert_true(present_suspect(&f.p, 2));
	assert_true(present_set(&f.p, 2));
	assert_false(present_suspect(&f.p, 2));
	free(f.map);
}

/* Somebody looked at the directory when the first of the new boot opened it. */
static void test_boot_is_seen_by_who_is_not_alone(void **state)
{
	struct fixture f;

	(void)state;
	make(&f, 10);
	present_set(&f.p, 2);
	assert_int_equal(reopen(&f, next_boot, false), 0);
	assert_false(present_test(&f.p, 2));
	assert_true(present_suspect(&f.p, 2));
	present_set(&f.p, 2);
	assert_int_equal(reopen(&f, next_boot, false), 0);
	assert_true(present_test(&f.p, 2));
	free(f.map);
}

static void test_suspect_found_bad_is_forgotten(void **state)
{
	struct fixture f;

	(void)state;
	make(&f, 10);
	present_set(&f.p, 2);
	assert_int_equal(reopen(&f, next_boot, true), 0);
	present_clear_suspect(&f.p, 2);
	assert_false(present_suspect(&f.p, 2));
	assert_false(present_test(&f.p, 2));
	free(f.map);
}

static void test_failed_sync_forgets_the_unsynced(void **state)
{
	struct fixture f;
	uint64_t snap[2];

	(void)state;
	make(&f, 100);
	present_set(&f.p, 0);
	present_set(&f.p, 99);
	present_snapshot(&f.p, snap);
	present_synced(&f.p, snap);
	present_set(&f.p, 50);
	present_set_complete(&f.p);
	present_sync_failed(&f.p);
	assert_int_equal(present_count(&f.p), 2);
	assert_false(present_test(&f.p, 50));
	assert_true(present_test(&f.p, 99));
	assert_int_equal(present_state(&f.p), PRESENT_LAZY);
	free(f.map);
}

static void test_complete_only_with_every_bit(void **state)
{
	struct fixture f;
	uint64_t snap[2];

	(void)state;
	make(&f, 65);
	assert_int_equal(present_state(&f.p), PRESENT_LAZY);
	for (uint64_t i = 0; i < 65; i++)
		present_set(&f.p, i);
	present_snapshot(&f.p, snap);
	present_synced(&f.p, snap);
	present_set_complete(&f.p);
	assert_int_equal(reopen(&f, next_boot, true), 0);
	assert_int_equal(present_state(&f.p), PRESENT_COMPLETE);
	/* A page of the bitmap was lost with the power. */
	atomic_store(&f.p.have[1], 0);
	assert_int_equal(reopen(&f, boot, true), 0);
	assert_int_equal(present_state(&f.p), PRESENT_LAZY);
	assert_int_equal(present_count(&f.p), 64);
	assert_int_equal(present_count_durable(&f.p), 64);
	free(f.map);
}

static void refused(struct fixture *f, size_t at, uint8_t v, int code)
{
	uint8_t old = f->map[at];
	struct err e = {0};
	struct present p;

	f->map[at] = v;
	assert_int_equal(
		present_open(&p, f->map, f->len, f->n, digest, boot, true, &e),
		code);
	assert_int_equal(e.code, code);
	f->map[at] = old;
}

static void test_bad_files(void **state)
{
	struct fixture f;
	struct present p;

	(void)state;
	make(&f, 70);
	refused(&f, 0, 'x', -EBADMSG);
	refused(&f, 8, 2, -EOPNOTSUPP);
	refused(&f, 12, 2, -EBADMSG);  /* state */
	refused(&f, 32, 71, -EBADMSG); /* n_chunks */
	refused(&f, 48, 9, -EBADMSG);  /* index digest */
	for (size_t b = 0; b < 3; b++) /* bits behind the last chunk */
		refused(&f, 128 + 16 * b + 8, 0x40, -EBADMSG);
	for (size_t n = 0; n < f.len; n++)
		assert_int_equal(present_open(&p, f.map, n, f.n, digest, boot,
					      true, NULL),
				 -EBADMSG);
	assert_int_equal(present_open(&p, f.map, f.len, UINT64_MAX, digest,
				      boot, true, NULL),
			 -EBADMSG);
	assert_int_equal(reopen(&f, boot, true), 0);
	free(f.map);
}

static void test_any_bit_flipped(void **state)
{
	struct fixture f;

	(void)state;
	make(&f, 70);
	for (size_t bit = 0; bit < f.len * 8; bit++) {
		f.map[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (reopen(&f, boot, true) == 0) {
			uint64_t n = present_count(&f.p);

			assert_true(n <= 70);
			assert_true(present_next_missing(&f.p, 0) <= n);
		}
		memset(f.map, 0, f.len);
		present_init(f.map, f.len, 70, digest, boot);
	}
	free(f.map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bits_and_counts),
		cmocka_unit_test(test_ranges_and_next_missing),
		cmocka_unit_test(test_boot_makes_the_unsynced_suspect),
		cmocka_unit_test(test_boot_is_seen_by_who_is_not_alone),
		cmocka_unit_test(test_suspect_found_bad_is_forgotten),
		cmocka_unit_test(test_failed_sync_forgets_the_unsynced),
		cmocka_unit_test(test_complete_only_with_every_bit),
		cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_any_bit_flipped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
