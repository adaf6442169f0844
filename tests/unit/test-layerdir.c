/* SPDX-License-Identifier: Apache-2.0 */
/* Which caches go, which stay, and in what order. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"
#include "common/layerdir.h"
#include "fs/state.h"
#include "tests/unit/tmproot.h"

static char root[64];

static int setup(void **state)
{
	(void)state;
	(void)snprintf(root, sizeof(root), "/tmp/test-layerdir.XXXXXX");
	return mkdtemp(root) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return tmproot_remove(root);
}

static struct digest nth(uint8_t n)
{
	return (struct digest){{n, 0xcd}};
}

/* A cache of 64 KiB, last used at the second n. */
static void make(uint8_t n)
{
	const struct timespec at[2] = {{.tv_sec = n}, {.tv_sec = n}};
	static const char zeros[KIB(64)];
	const struct digest d = nth(n);
	struct state s;
	struct err e = {0};
	bool other;

	assert_int_equal(state_open(&s, root, &d, false, false, &e), 0);
	assert_int_equal(
		io_pwrite_all(s.fds[STATE_EROFS], zeros, sizeof(zeros), 0), 0);
	assert_int_equal(state_publish(&s, &d, false, false, &other, &e), 0);
	state_close(&s);
	s.path = layerdir_path(root, &d, false, false);
	assert_int_equal(chdir(s.path), 0);
	assert_int_equal(utimensat(AT_FDCWD, "present", at, 0), 0);
	assert_int_equal(chdir("/"), 0);
	free(s.path);
}

static bool is_there(uint8_t n)
{
	const struct digest d = nth(n);
	CLEANUP_FREE char *path = layerdir_path(root, &d, false, false);

	return access(path, F_OK) == 0;
}

static void note(void *arg, const char *name, uint64_t bytes)
{
	char *order = arg;

	assert_true(bytes >= KIB(64));
	/* The first byte of a digest is its number. */
	order[strlen(order) + 1] = '\0';
	order[strlen(order)] = name[1];
}

static void test_least_recently_used_first(void **state)
{
	struct layerdir_evicted done;
	struct err e = {0};
	char order[8] = "";
	uint64_t bytes, inodes;

	(void)state;
	make(3);
	make(1);
	make(2);
	const struct digest d = nth(1);
	assert_int_equal(layerdir_usage(root, &d, false, &bytes, &inodes), 0);
	assert_true(bytes >= KIB(64));
	assert_int_equal(inodes, 4); /* the directory and three files */
	assert_int_equal(
		layerdir_evict(root, bytes, true, note, order, &done, &e), 0);
	assert_string_equal(order, "12");
	assert_true(is_there(1));
	order[0] = '\0';
	assert_int_equal(
		layerdir_evict(root, bytes, false, note, order, &done, &e), 0);
	assert_string_equal(order, "12");
	assert_int_equal(done.n, 2);
	assert_int_equal(done.n_left, 1);
	assert_int_equal(done.bytes_left, bytes);
	assert_false(is_there(1));
	assert_false(is_there(2));
	assert_true(is_there(3));
}

static void test_what_is_in_use_stays(void **state)
{
	struct layerdir_evicted done;
	struct err e = {0};
	struct state s;
	const struct digest pinned = nth(1), served = nth(2);

	(void)state;
	make(1);
	make(2);
	make(3);
	assert_int_equal(layerdir_pin(root, &pinned, false, true), 0);
	assert_int_equal(state_open(&s, root, &served, false, false, &e), 0);
	state_share(&s);
	assert_int_equal(layerdir_evict(root, 0, false, NULL, NULL, &done, &e),
			 0);
	assert_int_equal(done.n, 1);
	assert_int_equal(done.n_used, 2);
	assert_true(is_there(1));
	assert_true(is_there(2));
	assert_false(is_there(3));
	state_close(&s);
	assert_int_equal(layerdir_pin(root, &pinned, false, false), 0);
	assert_int_equal(layerdir_pin(root, &pinned, false, false), 0);
	assert_int_equal(layerdir_evict(root, 0, false, NULL, NULL, &done, &e),
			 0);
	assert_int_equal(done.n_left, 0);
	assert_false(is_there(1));
	assert_false(is_there(2));
}

/* As the kernel has it that has mounted it: nobody holds a lock. */
static void test_open_is_used(void **state)
{
	const struct digest d = nth(1);
	CLEANUP_FREE char *path = layerdir_path(root, &d, false, false);
	CLEANUP_FREE char *image = NULL;
	struct layerdir_evicted done;
	struct err e = {0};
	int fd;

	(void)state;
	make(1);
	make(2);
	assert_true(asprintf(&image, "%s/layer.erofs", path) > 0);
	fd = open(image, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(layerdir_evict(root, 0, false, NULL, NULL, &done, &e),
			 0);
	assert_int_equal(done.n, 1);
	assert_int_equal(done.n_used, 1);
	assert_true(is_there(1));
	assert_false(is_there(2));
	assert_int_equal(close(fd), 0);
	assert_int_equal(layerdir_evict(root, 0, false, NULL, NULL, &done, &e),
			 0);
	assert_int_equal(done.n_left, 0);
}

static bool keep_first(void *arg, const struct digest *toc, bool user)
{
	(void)arg;
	return toc->b[0] == 1 && !user;
}

static void test_pins_of_nobody(void **state)
{
	struct layerdir_evicted done;
	struct err e = {0};
	const struct digest a = nth(1), b = nth(2);

	(void)state;
	make(1);
	make(2);
	assert_int_equal(layerdir_pin(root, &a, false, true), 0);
	assert_int_equal(layerdir_pin(root, &b, false, true), 0);
	assert_int_equal(layerdir_pin(root, &a, true, true), 0);
	assert_int_equal(layerdir_unpin_others(root, keep_first, NULL), 0);
	assert_int_equal(layerdir_evict(root, 0, false, NULL, NULL, &done, &e),
			 0);
	assert_int_equal(done.n, 2); /* b, and a's other form */
	assert_true(is_there(1));
}

/* What a killed maker left, and a directory that is none of ours. */
static void test_leftovers(void **state)
{
	CLEANUP_FREE char *tmp = NULL, *foreign = NULL;
	struct layerdir_evicted done;
	struct err e = {0};

	(void)state;
	assert_int_equal(layerdir_evict(root, 0, false, NULL, NULL, &done, &e),
			 0);
	make(1);
	assert_true(asprintf(&tmp, "%s/layers/tmp.1", root) > 0);
	assert_true(asprintf(&foreign, "%s/layers/sha256/x", root) > 0);
	assert_int_equal(mkdir(tmp, 0700), 0);
	assert_int_equal(symlink("/etc", foreign), 0);
	assert_int_equal(
		layerdir_evict(root, 1 << 30, false, NULL, NULL, &done, &e), 0);
	assert_int_equal(access(tmp, F_OK), -1);
	assert_int_equal(done.n_left, 1);
	assert_int_equal(access("/etc/passwd", F_OK), 0);
}

/* Who opens the directory just before it is removed finds it gone, and makes it
 * anew; what is being made is left alone. */
static void test_mounts_begin_meanwhile(void **state)
{
	const struct digest d = nth(1);
	const pid_t parent = getpid();
	pid_t pid = fork();
	int status;

	(void)state;
	while (pid == 0) {
		struct layerdir_evicted done;

		if (getppid() != parent ||
		    layerdir_evict(root, 0, false, NULL, NULL, &done, NULL) < 0)
			_exit(1);
	}
	for (int i = 0; i < 500; i++) {
		struct err e = {0};
		struct state s;
		struct stat st;
		bool other;

		assert_int_equal(state_open(&s, root, &d, false, false, &e), 0);
		assert_int_equal(
			state_publish(&s, &d, false, false, &other, &e), 0);
		if (state_share(&s) < 0) {
			state_close(&s);
			continue;
		}
		for (int k = 0; k < STATE_FILES; k++) {
			assert_int_equal(fstat(s.fds[k], &st), 0);
			assert_int_equal(st.st_nlink, 1);
		}
		state_close(&s);
	}
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_least_recently_used_first,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_in_use_stays,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_is_used, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_pins_of_nobody, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_leftovers, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_mounts_begin_meanwhile,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
