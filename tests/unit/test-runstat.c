/* SPDX-License-Identifier: Apache-2.0 */
/* What a recorded run comes to: which run, which part, and the sums. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/runstat.h"
#include "cli/text.h"
#include "cli/waterfall.h"

static const struct runstat_window all = {
	.from_us = RUNSTAT_NEVER,
	.to_us = RUNSTAT_NEVER,
	.rtt_us = 20000,
};

static void add(struct evlog *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void add(struct evlog *l, const char *fmt, ...)
{
	char line[EVLOG_LINE_BYTES_MAX + 1];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	assert_int_equal(evlog_line(l, line, (size_t)n), 0);
	assert_int_equal(l->n_bad, 0);
}

static void add_mount(struct evlog *l, unsigned t, const char *id, int number)
{
	add(l,
	    "{\"t\":%u,\"l\":\"%s\",\"e\":\"mount\",\"number\":%d,"
	    "\"wall\":1795313548000000,\"source\":\"h/r:t\",\"bytes\":1000000}",
	    t, id, number);
}

static void add_read(struct evlog *l, unsigned t, unsigned d, const char *w,
		     const char *p, unsigned o, unsigned n, unsigned chunk)
{
	add(l,
	    "{\"t\":%u,\"d\":%u,\"l\":\"a\",\"e\":\"read\",\"w\":\"%s\","
	    "\"c\":\"demand\",\"p\":\"%s\",\"o\":%u,\"n\":%u,\"bo\":%u,"
	    "\"bn\":10000,\"co\":%u,\"cn\":65536}",
	    t, d, w, p, o, n, chunk * 10000, chunk * 65536);
}

static void add_fetch(struct evlog *l, unsigned t, unsigned d, const char *c,
		      unsigned o, unsigned n)
{
	add(l,
	    "{\"t\":%u,\"d\":%u,\"l\":\"a\",\"e\":\"fetch\",\"c\":\"%s\","
	    "\"o\":%u,\"n\":%u}",
	    t, d, c, o, n);
}

/* 0 to 500 ms: five reads, two of which wait, at the same time. */
static void add_run(struct evlog *l)
{
	add_mount(l, 1000000, "a", 0);
	add_fetch(l, 1030000, 30000, "tail", 900000, 100000);
	add_fetch(l, 1125000, 24000, "demand", 0, 10000);
	add_read(l, 1125000, 25000, "wait", "bin/x", 0, 4096, 0);
	add_read(l, 1126000, 6000, "wait", "bin/x", 8192, 8192, 0);
	add_read(l, 1126100, 50, "hit", "bin/x", 10000, 4096, 0);
	add_read(l, 1300000, 10, "hit", "bin/y", 4096, 100, 0);
	add_fetch(l, 1400000, 50000, "background", 10000, 20000);
	add_read(l, 1500000, 10, "hit", "bin/x", 65536, 4096, 1);
}

static void test_sums(void **state)
{
	CLEANUP_EVLOG struct evlog l = {0};
	CLEANUP_RUNSTAT struct runstat s = {0};
	struct err e = {0};

	(void)state;
	add_run(&l);
	assert_int_equal(runstat_make(&l, &all, &s, &e), 0);
	assert_int_equal(s.run, 1);
	assert_int_equal(s.n_runs, 1);
	assert_int_equal(s.start_us, 1000000);
	assert_int_equal(s.to_us, 1500000);
	assert_true(s.wall_us == UINT64_C(1795313548000000));
	assert_int_equal(s.reads, 5);
	assert_int_equal(s.read_bytes, 4096 + 8192 + 4096 + 100 + 4096);
	assert_int_equal(s.by_how[EVLOG_HIT], 3);
	assert_int_equal(s.by_how[EVLOG_WAIT], 2);
	assert_int_equal(s.met[EVLOG_DEMAND], 2);
	assert_int_equal(s.demand_us, 31000);
	assert_int_equal(s.wait_us, 31000);
	assert_int_equal(s.longest_us, 25000);
	assert_int_equal(s.over_rtt, 1);
	/* From 1100 ms to 1126 ms; both waited in between. */
	assert_int_equal(s.blocked_us, 26000);
	assert_int_equal(s.n_waits, 2);
	assert_int_equal(l.items[s.waits[0]].us, 25000);
	assert_int_equal(runstat_fetched(&s), 30000);
	assert_int_equal(s.fetched[EVLOG_TAIL], 100000);
	assert_int_equal(s.quickest_us, 24000);
	assert_int_equal(s.files, 2);
	/* Of x 0, 2, 3 and 16; of y 1. */
	assert_int_equal(s.pages, 5);
	/* Both files are in the first member. */
	assert_int_equal(s.chunk_bytes, 3 * 65536);
	assert_int_equal(s.blob_bytes, 20000);
}

static void check_window(const struct evlog *l, int64_t from_ms, int64_t to_ms,
			 uint64_t idle_ms, uint64_t reads, uint64_t fetched)
{
	CLEANUP_RUNSTAT struct runstat s = {0};
	struct runstat_window w = all;
	struct err e = {0};

	w.from_us = from_ms * 1000;
	w.to_us = to_ms * 1000;
	w.idle_us = idle_ms * 1000;
	assert_int_equal(runstat_make(l, &w, &s, &e), 0);
	assert_int_equal(s.reads, reads);
	assert_int_equal(runstat_fetched(&s), fetched);
}

static void test_windows(void **state)
{
	CLEANUP_EVLOG struct evlog l = {0};
	CLEANUP_RUNSTAT struct runstat s = {0};
	struct runstat_window w = all;
	struct err e = {0};

	(void)state;
	add_run(&l);
	check_window(&l, 0, 500, 0, 5, 30000);
	check_window(&l, 0, 110, 0, 1, 0);
	check_window(&l, 110, 200, 0, 2, 10000);
	check_window(&l, 0, 99999, 0, 5, 30000);
	check_window(&l, -250, 500, 0, 2, 20000);
	check_window(&l, 0, -250, 0, 3, 10000);
	/* Nothing from 1126.1 ms to 1299.99 ms. */
	check_window(&l, 0, 500, 100, 3, 10000);
	check_window(&l, 0, 500, 180, 4, 10000);
	check_window(&l, 0, 500, 300, 5, 30000);
	w.from_us = 400000;
	w.to_us = 300000;
	assert_int_equal(runstat_make(&l, &w, &s, &e), -EINVAL);
	assert_non_null(strstr(e.text, "nothing is between 0.400 s and"));
}

static void test_runs(void **state)
{
	CLEANUP_EVLOG struct evlog l = {0};
	CLEANUP_RUNSTAT struct runstat s = {0};
	CLEANUP_RUNSTAT struct runstat first = {0};
	struct runstat_window w = all;
	struct err e = {0};

	(void)state;
	assert_int_equal(runstat_make(&l, &all, &s, &e), -ENOENT);
	add_run(&l);
	add_mount(&l, 1200000, "b", 1);
	add(&l, "{\"t\":1600000,\"l\":\"a\",\"e\":\"end\"}");
	add_mount(&l, 2000000, "a", 0);
	add_read(&l, 2000100, 50, "hit", "bin/x", 0, 4096, 0);
	assert_int_equal(runstat_make(&l, &all, &s, &e), 0);
	assert_int_equal(s.n_runs, 2);
	assert_int_equal(s.run, 2);
	assert_int_equal(s.reads, 1);
	assert_false(s.layers[0] || s.layers[1]);
	assert_true(s.layers[2]);
	w.run = 1;
	assert_int_equal(runstat_make(&l, &w, &first, &e), 0);
	assert_int_equal(first.reads, 5);
	assert_true(first.layers[0] && first.layers[1] && !first.layers[2]);
	runstat_done(&first);
	w.run = 3;
	assert_int_equal(runstat_make(&l, &w, &first, &e), -ENOENT);
	assert_string_equal(e.text, "there is no run 3, only 2");
}

static void test_text(void **state)
{
	static const struct {
		const char *in, *clean, *tail, *xml;
	} cases[] = {
		{"", "", "", ""},
		{"usr/bin", "usr/bin", "usr/bin", "usr/bin"},
		{"a<b>&\"'", "a<b>&\"'", "a<b>&\"'",
		 "a&#60;b&#62;&#38;&#34;&#39;"},
		{"a\n\x1b[31m\x7f", "a\ufffd\ufffd[31m\ufffd",
		 "a\ufffd\ufffd[31m\ufffd", "a\ufffd\ufffd[31m\ufffd"},
		{"\xff\xc3(", "\ufffd\ufffd(", "\ufffd\ufffd(",
		 "\ufffd\ufffd("},
		{"x\u202etxt.exe", "x\ufffdtxt.exe", "txt.exe",
		 "x\ufffdtxt.exe"},
		{"\u00e4\u00f6\u00fc\u00df12345",
		 "\u00e4\u00f6\u00fc\u00df12345", "\u00fc\u00df12345",
		 "\u00e4\u00f6\u00fc\u00df12345"},
		{"\xc2\x85\u2066\uffff", "\ufffd\ufffd\ufffd",
		 "\ufffd\ufffd\ufffd", "\ufffd\ufffd\ufffd"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_BUF struct buf clean = BUF_INIT(1000);
		CLEANUP_BUF struct buf xml = BUF_INIT(1000);
		bool cut;

		assert_int_equal(text_clean(&clean, cases[i].in), 0);
		assert_string_equal(clean.p, cases[i].clean);
		assert_string_equal(text_tail(clean.p, 8, &cut), cases[i].tail);
		assert_int_equal(cut,
				 strcmp(cases[i].tail, cases[i].clean) != 0);
		assert_int_equal(text_xml(&xml, clean.p), 0);
		assert_string_equal(xml.p, cases[i].xml);
	}
}

/* Return: bytes of the picture, which the caller looks at */
static size_t draw(const struct evlog *l, unsigned rows, char **ret)
{
	CLEANUP_RUNSTAT struct runstat s = {0};
	struct waterfall w = {.log = l, .stat = &s, .title = "t & <t>"};
	struct err e = {0};
	size_t n = 0;
	FILE *f = open_memstream(ret, &n);

	w.rows = rows;
	assert_non_null(f);
	assert_int_equal(runstat_make(l, &all, &s, &e), 0);
	assert_int_equal(waterfall_svg(&w, f), 0);
	assert_int_equal(fclose(f), 0);
	return n;
}

static unsigned occurrences(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)) != NULL; text++)
		n++;
	return n;
}

static void test_picture(void **state)
{
	CLEANUP_EVLOG struct evlog l = {0};
	CLEANUP_FREE char *svg = NULL;

	(void)state;
	add_run(&l);
	(void)draw(&l, 10, &svg);
	assert_non_null(strstr(svg, "t &#38; &#60;t&#62;"));
	assert_int_equal(occurrences(svg, "class=\"c\""), 2);
	assert_non_null(strstr(svg, ">bin/x<title>"));
	assert_non_null(strstr(svg, "waited 25.0 ms at 0.100 s: 4096 bytes "
				    "from 0, was not asked for before"));
	assert_null(strstr(svg, "nan"));
	free(svg);
	(void)draw(&l, 1, &svg);
	assert_int_equal(occurrences(svg, "class=\"c\""), 2);
	assert_non_null(strstr(svg, ">1 more file<title>"));
}

static void test_a_picture_has_a_size(void **state)
{
	CLEANUP_EVLOG struct evlog l = {0};
	CLEANUP_FREE char *svg = NULL;

	(void)state;
	add_mount(&l, 1000000, "a", 0);
	for (unsigned i = 0; i < 100000; i++) {
		char path[32];

		(void)snprintf(path, sizeof(path), "d/%u", i * 7919 % 5000);
		add_read(&l, 1000000 + i * 100, i % 3 == 0 ? 90 : 1,
			 i % 3 == 0 ? "wait" : "hit", path, i, 4096, i % 9);
		if (i % 10 == 0)
			add_fetch(&l, 1000000 + i * 100, 80, "demand", i, 4096);
	}
	assert_true(draw(&l, 80, &svg) < MIB(2));
	assert_non_null(strstr(svg, "4920 more files"));
	free(svg);
	assert_true(draw(&l, WATERFALL_ROWS_MAX, &svg) < MIB(8));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_picture),
		cmocka_unit_test(test_a_picture_has_a_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
