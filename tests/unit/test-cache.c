/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fs/cache.h"

#define BYTES 10000u

/* With a ring, and as where the kernel refuses one. */
static void reads_what_it_has_written(bool ring)
{
	int fd = memfd_create("cache", MFD_CLOEXEC);
	static uint8_t in[BYTES], out[BYTES];
	struct lane l;

	assert_true(fd >= 0);
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 7 + i / 251);
	assert_int_equal(lane_init(&l, BYTES), 0);
	if (l.has_ring && !ring) {
		io_uring_queue_exit(&l.ring);
		l.has_ring = false;
	}
	assert_int_equal(lane_set_file(&l, fd), 0);
	assert_int_equal(lane_write(&l, in, sizeof(in), 4096), 0);
	assert_int_equal(lane_read(&l, out, sizeof(out), 4096), BYTES);
	assert_memory_equal(in, out, BYTES);
	/* The end of the file is no error. */
	assert_int_equal(lane_read(&l, out, sizeof(out), 4096 + 9000), 1000);
	assert_memory_equal(in + 9000, out, 1000);
	assert_int_equal(lane_read(&l, out, sizeof(out), 1 << 20), 0);
	close(fd);
	if (!l.has_ring) /* which has the file still */
		assert_int_equal(lane_read(&l, out, sizeof(out), 0), -EBADF);
	assert_int_equal(lane_write(&l, in, sizeof(in), 0), -EBADF);
	lane_done(&l);
}

static void test_cache_reads_what_it_has_written(void **state)
{
	(void)state;
	reads_what_it_has_written(true);
	reads_what_it_has_written(false);
}

static void test_cache_held_bytes_have_bounds(void **state)
{
	static const uint8_t p[10];
	struct lane l;

	(void)state;
	assert_int_equal(lane_init(&l, BYTES), 0);
	lane_lock(&l);
	assert_null(lane_held(&l, 0, 1));
	lane_hold(&l, p, sizeof(p), 100);
	assert_ptr_equal(lane_held(&l, 100, 10), p);
	assert_ptr_equal(lane_held(&l, 103, 7), p + 3);
	assert_null(lane_held(&l, 99, 2));
	assert_null(lane_held(&l, 103, 8));
	assert_null(lane_held(&l, 111, 1));
	assert_null(lane_held(&l, 103, SIZE_MAX));
	assert_null(lane_held(&l, UINT64_MAX, 2));
	lane_let_go(&l);
	assert_null(lane_held(&l, 100, 1));
	lane_unlock(&l);
	lane_done(&l);
}

static void test_cache_holds_nothing_from_before(void **state)
{
	static const uint8_t p[10];
	struct lane l;

	(void)state;
	assert_int_equal(lane_init(&l, BYTES), 0);
	lane_lock(&l);
	lane_hold(&l, p, sizeof(p), 100);
	lane_unlock(&l);
	lane_lock(&l);
	assert_null(lane_held(&l, 100, 10));
	lane_unlock(&l);
	lane_done(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cache_reads_what_it_has_written),
		cmocka_unit_test(test_cache_held_bytes_have_bounds),
		cmocka_unit_test(test_cache_holds_nothing_from_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
