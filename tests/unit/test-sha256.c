/* SPDX-License-Identifier: Apache-2.0 */
/* sha256_many() and its lanes against one message after the other. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/digest.h"
#include "common/sha256_lanes.h"

#define BYTES (256u << 10)
#define PARTS_MAX 100u

static uint8_t *noise(void)
{
	uint8_t *p = malloc(BYTES);
	uint32_t x = 1;

	assert_non_null(p);
	for (size_t i = 0; i < BYTES; i++) {
		x = x * 1664525 + 1013904223;
		p[i] = (uint8_t)(x >> 24);
	}
	return p;
}

/* Hashes @v both ways, all of it by lanes where this machine has them. */
static void same(struct sha256_part *v, size_t n)
{
	struct sha256 *h = sha256_new();

	assert_non_null(h);
	for (unsigned way = 0; way < 2; way++) {
		for (size_t i = 0; i < n; i++)
			v[i].digest = (struct digest){0};
		if (way == 0)
			sha256_many(h, v, n);
		else if (sha256_lanes_usable())
			sha256_lanes(v, n);
		else
			break;
		for (size_t i = 0; i < n; i++) {
			struct digest d;

			sha256_all(h, v[i].p, v[i].n, &d);
			assert_memory_equal(&d, &v[i].digest, sizeof(d));
		}
	}
	sha256_free(h);
}

/* FIPS 180-4's own examples. */
static void test_known(void **state)
{
	static const char two[] =
		"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
	static const uint8_t abc_digest[] = {
		0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea,
		0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
		0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
		0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
	static const uint8_t two_digest[] = {
		0x24, 0x8d, 0x6a, 0x61, 0xd2, 0x06, 0x38, 0xb8,
		0xe5, 0xc0, 0x26, 0x93, 0x0c, 0x3e, 0x60, 0x39,
		0xa3, 0x3c, 0xe4, 0x59, 0x64, 0xff, 0x21, 0x67,
		0xf6, 0xec, 0xed, 0xd4, 0x19, 0xdb, 0x06, 0xc1};
	struct sha256_part v[2] = {{.p = "abc", .n = 3},
				   {.p = two, .n = sizeof(two) - 1}};

	(void)state;
	same(v, 2);
	assert_memory_equal(v[0].digest.b, abc_digest, 32);
	assert_memory_equal(v[1].digest.b, two_digest, 32);
}

/* Each length around the ends of blocks, each number of messages. */
static void test_lengths(void **state)
{
	uint8_t *p = noise();
	struct sha256_part v[PARTS_MAX];

	(void)state;
	for (size_t len = 0; len < 200; len++) {
		for (size_t i = 0; i < 17; i++)
			v[i] = (struct sha256_part){.p = p + i * 7, .n = len};
		same(v, 17);
	}
	for (size_t n = 0; n <= 40; n++) {
		for (size_t i = 0; i < n; i++)
			v[i] = (struct sha256_part){.p = p + i, .n = 1000};
		same(v, n);
	}
	free(p);
}

/* Lanes that end at different times and begin with the next message. */
static void test_unlike_lengths(void **state)
{
	uint8_t *p = noise();
	struct sha256_part v[PARTS_MAX];
	uint32_t x = 7;

	(void)state;
	for (unsigned round = 0; round < 100; round++) {
		size_t n = 1 + round % PARTS_MAX;

		for (size_t i = 0; i < n; i++) {
			x = x * 1664525 + 1013904223;
			v[i].p = p + (x >> 16) % 1000;
			x = x * 1664525 + 1013904223;
			v[i].n = (x >> 8) % (i % 3 == 0 ? 70000 : 300);
		}
		same(v, n);
	}
	free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_unlike_lengths),
	};

	if (!sha256_lanes_usable())
		print_message("no AVX-512 here: only one by one\n");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
