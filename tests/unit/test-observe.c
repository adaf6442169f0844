/* SPDX-License-Identifier: Apache-2.0 */
/* From events to a record, and from that and a TOC to a trace. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/observe.h"

/* The first 12 digits are the names of the layers in the events. */
static const struct observe_layer layers[] = {
	{.toc = {.b = {0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa}}, .index = 0},
	{.toc = {.b = {0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb}}, .index = 1},
	{.toc = {.b = {0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa}}, .index = 2},
};
#define A "aaaaaaaaaaaa"
#define B "bbbbbbbbbbbb"

static void add(struct evlog *log, const char *layer, const char *path,
		uint64_t start, uint64_t off, uint64_t len)
{
	CLEANUP_BUF struct buf b = BUF_INIT(KIB(8));

	assert_int_equal(buf_addf(&b,
				  "{\"t\":%llu,\"d\":5,\"l\":\"%s\",\"e\":"
				  "\"read\",\"w\":\"hit\",\"o\":%llu,\"n\":"
				  "%llu,\"p\":\"%s\"}",
				  (unsigned long long)start + 5, layer,
				  (unsigned long long)off,
				  (unsigned long long)len, path),
			 0);
	assert_int_equal(evlog_line(log, b.p, b.len), 0);
	assert_int_equal(log->n_bad, 0);
}

static const char *printed(const struct observed *o)
{
	static char text[4096];
	CLEANUP_BUF struct buf b = BUF_INIT(sizeof(text) - 1);
	int r = record_print(&o->record, &b);

	assert_int_equal(r, 0);
	memcpy(text, b.p != NULL ? b.p : "", b.len + 1);
	return text;
}

static void see(const struct evlog *log, struct observed *o)
{
	const struct digest none = {0};

	assert_int_equal(observe(log, layers, ARRAY_SIZE(layers), &none, o), 0);
}

static void test_nothing(void **state)
{
	CLEANUP_EVLOG struct evlog log = {0};
	CLEANUP_OBSERVED struct observed o = {0};

	(void)state;
	see(&log, &o);
	assert_int_equal(o.record.n_files, 0);
	assert_int_equal(o.n_reads, 0);
}

/* In the order in which they were asked for, whatever the lines' order; the
 * uppermost of equal layers is meant; other layers are not ours. */
static void test_order_and_layers(void **state)
{
	CLEANUP_EVLOG struct evlog log = {0};
	CLEANUP_OBSERVED struct observed o = {0};

	(void)state;
	add(&log, B, "second", 200, 0, 10);
	add(&log, A, "third", 300, 0, 10);
	add(&log, "cccccccccccc", "foreign", 50, 0, 10);
	add(&log, A, "first", 100, 0, 10);
	add(&log, A, "../bad", 60, 0, 10);
	add(&log, A, "empty", 70, 0, 0);
	see(&log, &o);
	assert_string_equal(
		printed(&o),
		"{\"path\":\"first\",\"layerIndex\":2,\"ranges\":[[0,10,1]]}\n"
		"{\"path\":\"second\",\"layerIndex\":1,\"ranges\":[[0,10,2]]}\n"
		"{\"path\":\"third\",\"layerIndex\":2,\"ranges\":[[0,10,3]]}\n");
	assert_int_equal(o.n_reads, 3);
	assert_int_equal(o.reads[0].file, 0);
	assert_int_equal(o.reads[2].file, 2);
	assert_int_equal(o.bytes, 30);
}

/* One file, read here and there: little gaps are closed, but never so that more
 * is in between than was read. */
static void test_gaps(void **state)
{
	CLEANUP_EVLOG struct evlog log = {0};
	CLEANUP_OBSERVED struct observed o = {0};
	const uint64_t k = 4096;

	(void)state;
	/* [0,2) [3,4): a gap of one. [7,8): three more would be too many. */
	add(&log, A, "f", 10, 3 * k, k);
	add(&log, A, "f", 20, 0, 2 * k);
	add(&log, A, "f", 30, 7 * k, k);
	/* The same again, and overlapping. */
	add(&log, A, "f", 40, k, 2 * k);
	add(&log, A, "f", 50, 0, k);
	/* Much was read, so a gap of four is little; one of five is too long. */
	add(&log, A, "f", 5, 100 * k, 50 * k);
	add(&log, A, "f", 6, 154 * k, k);
	add(&log, A, "f", 7, 160 * k, k);
	see(&log, &o);
	assert_string_equal(
		printed(&o),
		"{\"path\":\"f\",\"layerIndex\":2,\"ranges\":["
		"[409600,225280,1],[655360,4096,3],[0,32768,4]]}\n");
	assert_int_equal(o.bytes, 57 * k);
	assert_int_equal(o.n_reads, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_order_and_layers),
		cmocka_unit_test(test_gaps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
