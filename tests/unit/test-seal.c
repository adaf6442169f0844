/* SPDX-License-Identifier: Apache-2.0 */
/* Whether somebody can still write to a file. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/seal.h"

static char path[64];

static int setup(void **state)
{
	int fd;

	(void)state;
	(void)snprintf(path, sizeof(path), "/tmp/test-seal.XXXXXX");
	fd = mkstemp(path);
	if (fd < 0 || write(fd, "image", 5) != 5)
		return -1;
	return close(fd);
}

static int teardown(void **state)
{
	(void)state;
	return unlink(path);
}

static int reader(void)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void test_mark(void **state)
{
	int fd = reader();

	(void)state;
	assert_false(seal_is_set(fd));
	assert_int_equal(seal_set(fd), 0);
	assert_true(seal_is_set(fd));
	assert_int_equal(close(fd), 0);
	fd = reader();
	assert_true(seal_is_set(fd));
	assert_int_equal(close(fd), 0);
	assert_false(seal_is_set(-1));
	assert_int_equal(seal_set(-1), -EBADF);
}

/* As on a file system that is mounted to be read. */
static void test_mark_that_cannot_be_set(void **state)
{
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(fchmod(fd, 0400), -1);
	assert_true(seal_is_set(fd));
	assert_int_equal(seal_set(fd), 0);
	assert_int_equal(close(fd), 0);
}

static void test_descriptor_of_writer(void **state)
{
	int fd = reader(), other = reader();
	int w = open(path, O_RDWR | O_CLOEXEC);
	struct err e = {0};

	(void)state;
	assert_true(w >= 0);
	assert_int_equal(seal_hold(fd, 0, &e), -EBUSY);
	assert_string_equal(e.text, "is open for writing");
	assert_false(seal_holds(fd));
	assert_int_equal(close(w), 0);
	/* Who reads it, does not matter. */
	assert_int_equal(seal_hold(fd, 0, &e), 0);
	assert_true(seal_holds(fd));
	assert_int_equal(close(other), 0);
	assert_int_equal(close(fd), 0);
}

static void test_mapping_of_writer(void **state)
{
	int fd = reader();
	int w = open(path, O_RDWR | O_CLOEXEC);
	struct err e = {0};
	void *p = mmap(NULL, 5, PROT_READ, MAP_SHARED, w, 0);

	(void)state;
	assert_true(p != MAP_FAILED);
	assert_int_equal(close(w), 0);
	assert_int_equal(seal_hold(fd, 20, &e), -EBUSY);
	assert_int_equal(munmap(p, 5), 0);
	assert_int_equal(seal_hold(fd, 0, &e), 0);
	assert_int_equal(close(fd), 0);
}

static void test_writer_who_comes_later(void **state)
{
	int fd = reader();
	struct err e = {0};

	(void)state;
	assert_int_equal(seal_hold(fd, 0, &e), 0);
	assert_int_equal(open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK), -1);
	assert_int_equal(errno, EWOULDBLOCK);
	/* Somebody waits for it now. */
	assert_false(seal_holds(fd));
	assert_int_equal(close(fd), 0);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
}

static void test_no_leases(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct err e = {0};

	(void)state;
	assert_int_equal(seal_hold(fd, 1000, &e), -EINVAL);
	assert_int_equal(close(fd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_mark, setup, teardown),
		cmocka_unit_test(test_mark_that_cannot_be_set),
		cmocka_unit_test_setup_teardown(test_descriptor_of_writer,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_mapping_of_writer, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_writer_who_comes_later,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_leases, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
