/* SPDX-License-Identifier: Apache-2.0 */
/* Which files go in front: what is recorded and what is listed, of layers. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/wanted.h"

/* Two images; layer 1 is in both, and twice in the second. */
static const size_t first[] = {0, 1}, second[] = {1, 2, 1};
static const struct digest of_first = {.b = {1}}, of_second = {.b = {2}};
static const struct wanted_image images[] = {
	{.manifest = {.b = {1}}, .layers = first, .n_layers = 2},
	{.manifest = {.b = {2}}, .layers = second, .n_layers = 3},
};

static const char *const paths[] = {
	"usr", "usr/lib", "usr/lib/b.so", "usr/lib/a.so", "usr/bin/sh", "etc/x",
};

/* "path" or "path@off+len,off+len", with a blank between. */
static const char *choose(struct wanted *w, size_t layer)
{
	static char got[1024];
	CLEANUP_WANTED_LAYER struct wanted_layer l = {.wanted = w,
						      .layer = layer};
	const struct build_wanted *v;
	struct err e = {0};
	size_t n, at = 0;

	assert_int_equal(
		wanted_choose(&l, paths, ARRAY_SIZE(paths), &v, &n, &e), 0);
	got[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		at += (size_t)snprintf(got + at, sizeof(got) - at, "%s%s",
				       i > 0 ? " " : "", v[i].path);
		for (size_t k = 0; k < v[i].n_ranges; k++)
			at += (size_t)snprintf(got + at, sizeof(got) - at,
					       "%c%d+%d", k > 0 ? ',' : '@',
					       (int)v[i].ranges[k].off,
					       (int)v[i].ranges[k].len);
	}
	return got;
}

static void add(struct record *r, const struct digest *manifest, uint32_t layer,
		const char *path)
{
	struct record_file *f = record_add(r, path);

	assert_non_null(f);
	f->layer = layer;
	if (manifest != NULL)
		f->manifest = *manifest;
}

/* What is said of the files that are not there, all in one. */
static const char *said(const struct wanted *w)
{
	static char got[2048];
	struct progress *p;
	int fds[2];
	ssize_t n;

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(progress_new(PROGRESS_PLAIN, fds[1], &p), 0);
	wanted_say(w, p);
	progress_free(p);
	(void)close(fds[1]);
	n = read(fds[0], got, sizeof(got) - 1);
	assert_true(n >= 0);
	got[n] = '\0';
	(void)close(fds[0]);
	return got;
}

static void test_record(void **state)
{
	static const struct digest unknown = {.b = {9}};
	CLEANUP_RECORD struct record r = {0};
	CLEANUP(wanted_free_cleanup) struct wanted *w = NULL;

	(void)state;
	add(&r, &of_first, 0, "etc/x");
	add(&r, &of_first, 1, "usr/bin/sh");
	add(&r, &of_second, 2, "usr");
	add(&r, &of_second, 1, "usr/lib/a.so");
	add(&r, &unknown, 0, "usr/lib");
	add(&r, NULL, RECORD_LAYER_ANY, "usr/lib/b.so");
	add(&r, &of_first, 7, "etc/x");
	add(&r, &of_first, 0, "gone");
	assert_int_equal(wanted_new(&r, NULL, images, 2, &w), 0);
	assert_string_equal(choose(w, 0), "etc/x usr/lib usr/lib/b.so");
	assert_string_equal(choose(w, 1),
			    "usr/bin/sh usr usr/lib usr/lib/b.so");
	assert_string_equal(choose(w, 2), "usr/lib/a.so usr/lib/b.so");
	assert_string_equal(said(w), "recorded, but not there: etc/x\n"
				     "recorded, but not there: gone\n");
}

static void test_ranges(void **state)
{
	CLEANUP_RECORD struct record r = {0};
	CLEANUP(wanted_free_cleanup) struct wanted *w = NULL;

	(void)state;
	add(&r, NULL, 0, "etc/x");
	assert_int_equal(record_add_range(&r.files[0], 8, 4, 1), 0);
	assert_int_equal(record_add_range(&r.files[0], 0, 4, 2), 0);
	assert_int_equal(record_add_range(&r.files[0], 3, 2, 3), 0);
	assert_int_equal(record_add_range(&r.files[0], 12, 1, 4), 0);
	add(&r, NULL, 0, "etc/x");
	assert_int_equal(record_add_range(&r.files[1], 20, 1, 5), 0);
	add(&r, NULL, 0, "usr/bin/sh");
	assert_int_equal(record_add_range(&r.files[2], 1, 1, 6), 0);
	add(&r, NULL, 0, "usr/bin/sh");
	add(&r, NULL, 0, "usr/bin/sh");
	assert_int_equal(record_add_range(&r.files[4], 1, 1, 7), 0);
	assert_int_equal(wanted_new(&r, NULL, images, 2, &w), 0);
	assert_string_equal(choose(w, 0), "etc/x@0+5,8+5,20+1 usr/bin/sh");
	assert_string_equal(said(w), "");
}

static void test_list(void **state)
{
	static const char text[] = "etc/*\n"
				   "/usr/**/*.so\n"
				   "{usr/bin/sh,nowhere}\n"
				   "usr/lib/a.so\n"
				   "not/there\n"
				   "nor/*\n";
	CLEANUP_GLOB_LIST struct glob_list list = {0};
	CLEANUP_RECORD struct record r = {0};
	CLEANUP(wanted_free_cleanup) struct wanted *w = NULL;

	(void)state;
	assert_int_equal(glob_list_parse(text, sizeof(text) - 1, &list, NULL),
			 0);
	add(&r, NULL, 0, "usr/lib/a.so");
	assert_int_equal(record_add_range(&r.files[0], 0, 1, 1), 0);
	assert_int_equal(wanted_new(&r, &list, images, 2, &w), 0);
	assert_string_equal(choose(w, 0),
			    "usr/lib/a.so@0+1 etc/x usr/lib/b.so usr/bin/sh");
	assert_string_equal(choose(w, 2),
			    "etc/x usr/lib/b.so usr/lib/a.so usr/bin/sh");
	assert_string_equal(said(w),
			    "listed, but not there: not/there (line 5)\n"
			    "listed, but not there: nor/* (line 6)\n");
}

static void test_kept(void **state)
{
	CLEANUP_RECORD struct record r = {0};
	CLEANUP(wanted_free_cleanup) struct wanted *w = NULL;

	(void)state;
	add(&r, &of_first, 0, "etc/x");
	add(&r, &of_first, 1, "etc/x");
	assert_int_equal(wanted_new(&r, NULL, images, 2, &w), 0);
	wanted_kept(w, 0);
	assert_string_equal(choose(w, 1), "etc/x");
	assert_string_equal(
		said(w), "recorded files in layers that are kept as they are: "
			 "1\n");
}

static void test_many_are_lost(void **state)
{
	CLEANUP_RECORD struct record r = {0};
	CLEANUP(wanted_free_cleanup) struct wanted *w = NULL;
	const char *text;

	(void)state;
	for (int i = 0; i < 11; i++)
		add(&r, NULL, 0, "gone");
	assert_int_equal(wanted_new(&r, NULL, images, 2, &w), 0);
	assert_string_equal(choose(w, 0), "");
	text = said(w);
	assert_non_null(strstr(text, "gone\n... and 3 more\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_record),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_many_are_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
