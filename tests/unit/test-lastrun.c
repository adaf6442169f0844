/* SPDX-License-Identifier: Apache-2.0 */
/* What was read first: what is kept of it, and what is not taken back. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "common/lastrun.h"
#include "common/rd.h"

#define N 3u
#define BYTES (LASTRUN_HEADER_BYTES + N * 4)

static uint32_t numbers[N] = {7, 0, 99};

static struct lastrun of_layer(uint32_t *v)
{
	return (struct lastrun){
		.toc = {{1, 2, 3}},
		.n_chunks = 100,
		.v = v,
	};
}

static void print(struct sha256 *h, uint8_t *ret)
{
	struct lastrun l = of_layer(numbers);

	l.n = N;
	lastrun_print(&l, h, ret);
}

static void test_golden(void **state)
{
	struct sha256 *h = sha256_new();
	uint8_t p[BYTES + 8] = {0};
	uint32_t v[LASTRUN_CHUNKS_MAX];
	struct lastrun l = of_layer(v);

	(void)state;
	print(h, p);
	assert_memory_equal(p, "eszfirst\1\0\0\0\3\0\0\0d\0\0\0\0\0\0\0\1\2\3",
			    27);
	assert_memory_equal(p + LASTRUN_HEADER_BYTES, "\7\0\0\0\0\0\0\0c\0\0\0",
			    12);
	assert_int_equal(lastrun_parse(p, BYTES, h, &l), 0);
	assert_int_equal(l.n, N);
	assert_memory_equal(v, numbers, sizeof(numbers));
	/* As a longer one leaves it. */
	memset(p + BYTES, 0xff, 8);
	l = of_layer(v);
	assert_int_equal(lastrun_parse(p, sizeof(p), h, &l), 0);
	assert_int_equal(l.n, N);
	sha256_free(h);
}

static void test_bad(void **state)
{
	struct sha256 *h = sha256_new();
	uint8_t p[BYTES];
	uint32_t v[LASTRUN_CHUNKS_MAX];
	struct lastrun l = of_layer(v);

	(void)state;
	print(h, p);
	for (size_t len = 0; len < BYTES; len++)
		assert_int_equal(lastrun_parse(p, len, h, &l), -EBADMSG);
	for (size_t i = 0; i < BYTES * 8; i++) {
		/* What is behind the digest in the header means nothing. */
		if (i / 8 >= 88 && i / 8 < LASTRUN_HEADER_BYTES)
			continue;
		p[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(lastrun_parse(p, BYTES, h, &l), -EBADMSG);
		p[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	/* Right, but of other chunks. */
	l.n_chunks = 99;
	assert_int_equal(lastrun_parse(p, BYTES, h, &l), -EBADMSG);
	l = of_layer(v);
	l.toc.b[31] = 1;
	assert_int_equal(lastrun_parse(p, BYTES, h, &l), -EBADMSG);
	sha256_free(h);
}

static void test_a_number_too_large(void **state)
{
	struct sha256 *h = sha256_new();
	uint8_t p[BYTES];
	uint32_t v[LASTRUN_CHUNKS_MAX];
	struct lastrun l = of_layer(v);

	(void)state;
	numbers[2] = 100;
	print(h, p);
	numbers[2] = 99;
	assert_int_equal(lastrun_parse(p, BYTES, h, &l), -EBADMSG);
	sha256_free(h);
}

static void test_files(void **state)
{
	char root[] = "/tmp/test-lastrun.XXXXXX", path[256];
	struct digest toc = {{0}};
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(root));
	for (uint8_t i = 0; i < 5; i++) {
		struct timespec t[2] = {{.tv_sec = 100 + (i * 7) % 5},
					{.tv_sec = 100 + (i * 7) % 5}};
		int fd;

		toc.b[31] = i;
		fd = lastrun_open(root, &toc);
		assert_true(fd >= 0);
		assert_int_equal(io_pwrite_all(fd, "x", 1, 0), 0);
		assert_int_equal(futimens(fd, t), 0);
		(void)close(fd);
	}
	lastrun_trim(root, 2);
	for (uint8_t i = 0; i < 5; i++) {
		char hex[DIGEST_HEX_BYTES + 1];

		toc.b[31] = i;
		(void)snprintf(path, sizeof(path), "%s/traces/sha256/%s", root,
			       digest_hex(&toc, hex));
		assert_int_equal(stat(path, &st) == 0, (i * 7) % 5 >= 3);
	}
	lastrun_trim(root, 0);
	(void)snprintf(path, sizeof(path), "%s/traces/sha256", root);
	assert_int_equal(rmdir(path), 0);
	(void)snprintf(path, sizeof(path), "%s/traces", root);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(root), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_a_number_too_large),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
