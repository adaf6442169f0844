/* SPDX-License-Identifier: Apache-2.0 */
/* Merged metadata on the disk: what was written is read, and nothing else. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/io.h"
#include "daemon/snapshotter/chainfile.h"
#include "daemon/snapshotter/disk.h"

#define IMAGE_BYTES 12288u

static char root[] = "/tmp/test-chainfile.XXXXXX";
static char dir[64], path[96];
static struct chainfile of;
static struct digest key;
static struct err e;

static int fresh(void **state)
{
	(void)state;
	e = (struct err){0};
	of = (struct chainfile){.n = 3, .opaque_user = true};
	for (unsigned i = 0; i < of.n; i++)
		memset(of.tocs[i].b, (int)(0x10 + i), DIGEST_BYTES);
	(void)snprintf(dir, sizeof(dir), "%s/chain", root);
	(void)snprintf(path, sizeof(path), "%s/" CHAINFILE_NAME, dir);
	if (mkdir(root, 0700) < 0)
		return -1;
	return chainfile_key(&of, &key);
}

static int end(void **state)
{
	int parent = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	(void)state;
	r = disk_remove(parent, strrchr(root, '/') + 1);
	(void)close(parent);
	return r;
}

/* An image of @n bytes. */
static int image(size_t n)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	assert_true(fd >= 0);
	for (size_t i = 0; i < n; i += 4)
		assert_int_equal(io_pwrite_all(fd, "data", 4, i), 0);
	return fd;
}

static void write_it(void)
{
	CLEANUP_CLOSE int fd = image(IMAGE_BYTES);

	assert_int_equal(chainfile_write(dir, fd, &of, &e), 0);
}

static void test_written(void **state)
{
	struct chainfile got;
	struct stat st;

	(void)state;
	assert_int_equal(chainfile_verify(dir, &key, &e), -ENOENT);
	assert_int_equal(chainfile_read(dir, &key, &got, &e), -ENOENT);
	write_it();
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, IMAGE_BYTES + CHAINFILE_TAIL_BYTES);
	assert_int_equal(chainfile_read(dir, &key, &got, &e), 0);
	assert_int_equal(got.n, of.n);
	assert_true(got.opaque_user);
	assert_memory_equal(got.tocs, of.tocs, of.n * sizeof(*of.tocs));
	assert_int_equal(chainfile_verify(dir, &key, &e), 0);
	/* Once more, over it. */
	write_it();
	assert_int_equal(chainfile_verify(dir, &key, &e), 0);
}

static void test_golden(void **state)
{
	static const uint8_t head[] = {'E', 'S', 'Z', 'G', 'C', 'H',
				       'N', '1', 3,   0,   0,   0,
				       1,   0,   0,   0,   0x10};
	uint8_t tail[CHAINFILE_TAIL_BYTES];
	CLEANUP_CLOSE int fd = -1;

	(void)state;
	write_it();
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(io_pread_all(fd, tail, sizeof(tail), IMAGE_BYTES), 0);
	assert_memory_equal(tail, head, sizeof(head));
	assert_int_equal(tail[16 + 3 * DIGEST_BYTES - 1], 0x12);
	for (size_t i = 16 + 3 * DIGEST_BYTES; i < 4064; i++)
		assert_int_equal(tail[i], 0);
}

static void test_flipped(void **state)
{
	(void)state;
	write_it();
	/* All of the tail, and here and there in the image. */
	for (size_t at = 0; at < IMAGE_BYTES + CHAINFILE_TAIL_BYTES;
	     at += at < IMAGE_BYTES ? 1024 : 7) {
		CLEANUP_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
		struct chainfile got;
		uint8_t b, bad;

		assert_int_equal(io_pread_all(fd, &b, 1, at), 0);
		bad = b ^ (uint8_t)(1u << at % 8);
		assert_int_equal(io_pwrite_all(fd, &bad, 1, at), 0);
		assert_int_equal(chainfile_verify(dir, &key, &e), -EBADMSG);
		if (at < IMAGE_BYTES)
			assert_int_equal(chainfile_read(dir, &key, &got, &e),
					 0);
		assert_int_equal(io_pwrite_all(fd, &b, 1, at), 0);
	}
	assert_int_equal(chainfile_verify(dir, &key, &e), 0);
}

static void test_truncated(void **state)
{
	(void)state;
	for (off_t n = 0; n < IMAGE_BYTES + CHAINFILE_TAIL_BYTES; n += 1000) {
		write_it();
		assert_int_equal(truncate(path, n), 0);
		assert_int_equal(chainfile_verify(dir, &key, &e), -EBADMSG);
	}
}

static void test_of_another(void **state)
{
	struct chainfile got;

	(void)state;
	write_it();
	key.b[0] ^= 1;
	assert_int_equal(chainfile_verify(dir, &key, &e), -EBADMSG);
	assert_int_equal(chainfile_read(dir, &key, &got, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "is of another chain"));
}

static void test_refused(void **state)
{
	CLEANUP_CLOSE int odd = image(IMAGE_BYTES - 4);
	struct stat st;

	(void)state;
	assert_int_equal(chainfile_write(dir, odd, &of, &e), -EBADMSG);
	assert_int_equal(stat(path, &st), -1);
	(void)snprintf(path, sizeof(path), "%s/" CHAINFILE_NAME ".new", dir);
	assert_int_equal(stat(path, &st), -1);
	(void)snprintf(path, sizeof(path), "%s/" CHAINFILE_NAME, dir);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(chainfile_verify(dir, &key, &e), -ELOOP);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fresh, end)
	const struct CMUnitTest tests[] = {
		T(test_written),   T(test_golden),     T(test_flipped),
		T(test_truncated), T(test_of_another), T(test_refused),
	};

	if (mkdtemp(root) == NULL || rmdir(root) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
