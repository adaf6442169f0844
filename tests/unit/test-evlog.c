/* SPDX-License-Identifier: Apache-2.0 */
/* Events of mounts, read back: what is told of, and what is skipped. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "cli/evlog.h"

#define TOC "cedb3913226ecedb3913226ecedb3913226ecedb3913226ecedb3913226ecedb"
#define MOUNT                                                        \
	"{\"t\":100,\"l\":\"cedb3913226e\",\"e\":\"mount\",\"v\":1," \
	"\"toc\":\"sha256:" TOC "\",\"layer\":\"sha256:" TOC         \
	"\",\"number\":3,"                                           \
	"\"chunks\":7,\"bytes\":999,\"wall\":5000,\"source\":\"h/r:t\"}\n"
#define READ                                                                 \
	"{\"t\":250,\"l\":\"cedb3913226e\",\"e\":\"read\",\"d\":50,"         \
	"\"w\":\"wait\",\"o\":4096,\"n\":4000,\"c\":\"prefetch\",\"bo\":10," \
	"\"bn\":20,\"co\":0,\"cn\":65536,\"p\":\"usr/bin/x\",\"new\":[1,{}]}\n"
#define FETCH                                                         \
	"{\"t\":240,\"l\":\"cedb3913226e\",\"e\":\"fetch\",\"d\":30," \
	"\"c\":\"background\",\"o\":7,\"n\":8}\n"

static int feed(struct evlog *l, const void *text, size_t n)
{
	FILE *f = fmemopen((void *)(uintptr_t)text, n, "r");
	struct err e = {0};
	int r;

	assert_non_null(f);
	r = evlog_read(l, f, &e);
	(void)fclose(f);
	return r;
}

static void test_golden(void **state)
{
	static const char text[] = MOUNT READ FETCH
		"{\"t\":9,\"l\":\"cedb3913226e\",\"e\":\"lost\",\"n\":4}\n"
		"{\"t\":9,\"l\":\"cedb3913226e\",\"e\":\"news\"}\n"
		"{\"t\":900,\"l\":\"cedb3913226e\",\"e\":\"end\"}";
	CLEANUP_EVLOG struct evlog l = {0};

	(void)state;
	assert_int_equal(feed(&l, text, strlen(text)), 0);
	assert_int_equal(l.n_bad, 0);
	assert_int_equal(l.lost, 4);
	assert_int_equal(l.n_layers, 1);
	assert_string_equal(l.layers[0].id, "cedb3913226e");
	assert_int_equal(l.layers[0].number, 3);
	assert_int_equal(l.layers[0].chunks, 7);
	assert_int_equal(l.layers[0].bytes, 999);
	assert_int_equal(l.layers[0].mount_us, 100);
	assert_int_equal(l.layers[0].wall_us, 5000);
	assert_int_equal(l.layers[0].end_us, 900);
	assert_true(l.layers[0].has_digest && l.layers[0].has_toc_digest);
	assert_string_equal(l.layers[0].source, "h/r:t");
	assert_int_equal(l.n_files, 1);
	assert_string_equal(l.files[0]->path, "usr/bin/x");
	assert_int_equal(l.n_items, 2);
	assert_int_equal(l.items[0].kind, EVLOG_READ);
	assert_int_equal(l.items[0].how, EVLOG_WAIT);
	assert_int_equal(l.items[0].class_, EVLOG_PREFETCH);
	assert_int_equal(l.items[0].end_us, 250);
	assert_int_equal(l.items[0].us, 50);
	assert_int_equal(l.items[0].off, 4096);
	assert_int_equal(l.items[0].len, 4000);
	assert_int_equal(l.items[0].blob_off, 10);
	assert_int_equal(l.items[0].blob_len, 20);
	assert_int_equal(l.items[0].chunk_len, 65536);
	assert_int_equal(l.items[1].kind, EVLOG_FETCH);
	assert_int_equal(l.items[1].class_, EVLOG_BACKGROUND);
	assert_int_equal(l.items[1].off, 7);
	assert_int_equal(l.items[1].len, 8);
}

static void test_mounted_twice(void **state)
{
	static const char text[] = READ MOUNT READ MOUNT READ READ;
	CLEANUP_EVLOG struct evlog l = {0};

	(void)state;
	assert_int_equal(feed(&l, text, strlen(text)), 0);
	/* The first read is of a mount that is not told of. */
	assert_int_equal(l.n_layers, 3);
	assert_int_equal(l.layers[0].mount_us, 0);
	assert_int_equal(l.n_files, 3);
	assert_int_equal(l.n_items, 4);
	assert_int_equal(l.items[1].layer, 1);
	assert_int_equal(l.items[2].layer, 2);
	assert_int_equal(l.items[3].file, l.items[2].file);
}

static void test_bad_lines_are_skipped(void **state)
{
	static const char *const bad[] = {
		"x",
		"[]",
		"{}",
		"{\"t\":1}",
		"{\"t\":1,\"l\":\"a\"}",
		"{\"l\":\"a\",\"e\":\"end\"}",
		"{\"t\":1,\"l\":\"thirteenchars\",\"e\":\"end\"}",
		"{\"t\":-1,\"l\":\"a\",\"e\":\"end\"}",
		"{\"t\":1.5,\"l\":\"a\",\"e\":\"end\"}",
		"{\"t\":\"1\",\"l\":\"a\",\"e\":\"end\"}",
		"{\"t\":99999999999999999999,\"l\":\"a\",\"e\":\"end\"}",
		"{\"t\":1,\"l\":7,\"e\":\"end\"}",
		"{\"t\":1,\"l\":\"a\",\"e\":\"end\"",
		"{\"t\":1,\"l\":\"a\",\"e\":\"end\"}}",
		"{\"t\":1,\"l\":\"a\",\"e\":\"read\",\"w\":\"hit\"}",
		"{\"t\":1,\"l\":\"a\",\"e\":\"read\",\"p\":\"x\"}",
		"{\"t\":1,\"l\":\"a\",\"e\":\"read\",\"p\":\"x\\u0000y\",\"w\":\"hit\"}",
		"{\"t\":1,\"l\":\"a\",\"e\":\"read\",\"p\":\"x\",\"w\":\"maybe\"}",
		"{\"t\":1,\"d\":2,\"l\":\"a\",\"e\":\"read\",\"p\":\"x\",\"w\":\"hit\"}",
		"{\"t\":1,\"l\":\"a\",\"e\":\"fetch\",\"n\":1}",
		"{\"t\":1,\"l\":\"a\",\"e\":\"fetch\",\"c\":\"demand\",\"n\":"
		"1099511627777}",
		"{\"t\":1,\"l\":\"a\",\"e\":\"fetch\",\"c\":\"other\"}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP_EVLOG struct evlog l = {0};
		char text[1024];
		int n = snprintf(text, sizeof(text), "%s\n" FETCH, bad[i]);

		assert_int_equal(feed(&l, text, (size_t)n), 0);
		if (l.n_bad != 1 || l.n_items != 1)
			fail_msg("%s", bad[i]);
	}
}

static void test_any_bytes(void **state)
{
	static const char golden[] = MOUNT READ FETCH;
	const size_t n = sizeof(golden) - 1;
	char copy[sizeof(golden)];

	(void)state;
	for (size_t i = 1; i <= n; i++) {
		CLEANUP_EVLOG struct evlog l = {0};

		assert_int_equal(feed(&l, golden, i), 0);
	}
	for (size_t i = 0; i < n * 8; i++) {
		CLEANUP_EVLOG struct evlog l = {0};

		memcpy(copy, golden, sizeof(copy));
		copy[i / 8] = (char)(copy[i / 8] ^ (1 << i % 8));
		assert_int_equal(feed(&l, copy, n), 0);
	}
}

static void test_a_long_line_is_one(void **state)
{
	CLEANUP_FREE char *text = malloc(300000);
	CLEANUP_EVLOG struct evlog l = {0};

	(void)state;
	assert_non_null(text);
	memset(text, 'x', 200000);
	(void)snprintf(text + 200000, 100000, "\n" FETCH "%s", FETCH);
	assert_int_equal(feed(&l, text, strlen(text)), 0);
	assert_int_equal(l.n_items, 2);
	assert_int_equal(l.n_bad, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_mounted_twice),
		cmocka_unit_test(test_bad_lines_are_skipped),
		cmocka_unit_test(test_any_bytes),
		cmocka_unit_test(test_a_long_line_is_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
