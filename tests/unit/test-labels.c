/* SPDX-License-Identifier: Apache-2.0 */
/* The sorted set of labels. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/snapshotter/labels.h"

static void test_set_and_get(void **state)
{
	CLEANUP_LABELS struct labels l = {0};

	(void)state;
	assert_null(labels_get(&l, "a"));
	assert_int_equal(labels_set(&l, "b", "2"), 0);
	assert_int_equal(labels_set(&l, "c", "3"), 0);
	assert_int_equal(labels_set(&l, "a", "1"), 0);
	assert_int_equal(labels_set(&l, "b", "two"), 0);
	assert_int_equal(l.n, 3);
	assert_string_equal(l.v[0].key, "a");
	assert_string_equal(l.v[1].key, "b");
	assert_string_equal(l.v[2].key, "c");
	assert_string_equal(labels_get(&l, "b"), "two");
	assert_null(labels_get(&l, "bb"));
	assert_null(labels_get(&l, ""));
}

/* containerd's rule: a label without a value is none. */
static void test_empty_removes(void **state)
{
	CLEANUP_LABELS struct labels l = {0};

	(void)state;
	assert_int_equal(labels_set(&l, "a", ""), 0);
	assert_int_equal(l.n, 0);
	assert_int_equal(labels_set(&l, "a", "1"), 0);
	assert_int_equal(labels_set(&l, "b", "2"), 0);
	assert_int_equal(labels_set(&l, "a", ""), 0);
	assert_int_equal(labels_set(&l, "b", NULL), 0);
	assert_int_equal(labels_set(&l, "c", NULL), 0);
	assert_int_equal(l.n, 0);
}

/* Grows and shrinks in every order of keys. */
static void test_many(void **state)
{
	CLEANUP_LABELS struct labels l = {0};
	char key[16];

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		(void)snprintf(key, sizeof(key), "k%03u", i * 37 % 1000);
		assert_int_equal(labels_set(&l, key, key), 0);
	}
	assert_int_equal(l.n, 1000);
	for (unsigned i = 0; i < 1000; i += 2) {
		(void)snprintf(key, sizeof(key), "k%03u", i * 11 % 1000);
		assert_int_equal(labels_set(&l, key, NULL), 0);
	}
	assert_int_equal(l.n, 500);
	for (unsigned i = 0; i < 1000; i++) {
		(void)snprintf(key, sizeof(key), "k%03u", i);
		if (i % 2 == 0)
			assert_null(labels_get(&l, key));
		else
			assert_string_equal(labels_get(&l, key), key);
	}
	for (size_t i = 1; i < l.n; i++)
		assert_true(strcmp(l.v[i - 1].key, l.v[i].key) < 0);
}

static void test_copy(void **state)
{
	CLEANUP_LABELS struct labels a = {0}, b = {0};

	(void)state;
	assert_int_equal(labels_set(&a, "a", "1"), 0);
	assert_int_equal(labels_set(&a, "b", "2"), 0);
	assert_int_equal(labels_set(&b, "old", "x"), 0);
	assert_int_equal(labels_copy(&b, &a), 0);
	assert_int_equal(labels_set(&a, "a", "changed"), 0);
	assert_int_equal(b.n, 2);
	assert_string_equal(labels_get(&b, "a"), "1");
	assert_null(labels_get(&b, "old"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_and_get),
		cmocka_unit_test(test_empty_removes),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_copy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
