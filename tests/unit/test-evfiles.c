/* SPDX-License-Identifier: Apache-2.0 */
/* Files of layers' events: how many there may be, and which go. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/snapshotter/evfiles.h"

#define MAX_FILES 4

static char dir[] = "/tmp/test-evfiles-XXXXXX";
static const struct digest toc = {{0xab, 0xcd, 0xef}};

/* Layers that have a row: those above. */
static bool above(void *arg, int64_t id)
{
	return id > *(int64_t *)arg;
}

static int make(int64_t id, int64_t limit, char *path, size_t n)
{
	CLEANUP_BUF struct buf b = BUF_INIT(1000);
	struct err e = {0};
	int r = evfiles_make(dir, MAX_FILES * EVFILES_EACH_BYTES + 5, &toc, id,
			     above, &limit, &b, &e);

	(void)snprintf(path, n, "%s", r == 0 ? b.p : e.text);
	return r;
}

static bool is_there(int64_t id)
{
	char path[100];

	(void)snprintf(path, sizeof(path), "%s/abcdef000000-%lld.jsonl", dir,
		       (long long)id);
	return access(path, F_OK) == 0;
}

/* Written longer ago than what is not said to be. */
static void age(int64_t id, time_t s)
{
	const struct timespec times[2] = {{.tv_sec = s}, {.tv_sec = s}};
	char path[100];

	(void)snprintf(path, sizeof(path), "%s/abcdef000000-%lld.jsonl", dir,
		       (long long)id);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void test_there_are_only_so_many(void **state)
{
	static const char *const others[] = {
		"abcdef000000-1.json",
		"abcdef000000-x.jsonl",
		"abcdef00000-1.jsonl",
		"abcdef000000-99999999999999999999.jsonl",
		"notes",
	};
	char path[ERR_TEXT_BYTES];
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, others[i]);
		assert_int_equal(close(open(path, O_CREAT | O_WRONLY, 0600)),
				 0);
	}
	for (int64_t id = 1; id <= MAX_FILES; id++)
		assert_int_equal(make(id, 0, path, sizeof(path)), 0);
	assert_non_null(strstr(path, "/abcdef000000-4.jsonl"));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	/* All have rows. */
	assert_int_equal(make(5, 0, path, sizeof(path)), -ENOSPC);
	assert_non_null(strstr(path, "events_max_bytes"));
	/* One that is there needs no room. */
	assert_int_equal(make(2, 0, path, sizeof(path)), 0);
	/* 1 to 3 have none any more; 2 was written longest ago. */
	age(2, 100);
	age(3, 200);
	assert_int_equal(make(5, 3, path, sizeof(path)), 0);
	assert_true(is_there(1) && !is_there(2) && is_there(3));
	assert_true(is_there(4) && is_there(5));
	assert_int_equal(make(6, 3, path, sizeof(path)), 0);
	assert_true(is_there(1) && !is_there(3) && is_there(6));
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, others[i]);
		assert_int_equal(unlink(path), 0);
	}
	for (int64_t id = 1; id <= 6; id++) {
		(void)snprintf(path, sizeof(path), "%s/abcdef000000-%lld.jsonl",
			       dir, (long long)id);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(dir), 0);
}

static void test_no_directory(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(1000);
	struct err e = {0};
	int64_t none = 0;

	(void)state;
	assert_int_equal(evfiles_make("/dev/null/x", MIB(100), &toc, 1, above,
				      &none, &b, &e),
			 -ENOTDIR);
	assert_string_equal(e.text, "/dev/null/x: Not a directory");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_are_only_so_many),
		cmocka_unit_test(test_no_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
