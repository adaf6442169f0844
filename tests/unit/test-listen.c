/* SPDX-License-Identifier: Apache-2.0 */
/* Who gets a socket, when several want it. */
#include "config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "common/listen.h"

#define RACERS 4
#define ROUNDS 100

static char dir[64], path[80];

static int setup(void **state)
{
	(void)state;
	(void)snprintf(dir, sizeof(dir), "test-listen.%d", (int)getpid());
	(void)snprintf(path, sizeof(path), "%s/s", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(dir);
}

/* Return: 0, or the errno of connect() */
static int try_connect(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	CLEANUP_CLOSE int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	memcpy(sa.sun_path, path, strlen(path));
	return connect(s, (const struct sockaddr *)&sa, sizeof(sa)) == 0
		       ? 0
		       : errno;
}
static bool answers(void)
{
	return try_connect() == 0;
}

static void test_one_at_a_time(void **state)
{
	struct err e = {0};
	int fd;

	(void)state;
	fd = listen_unix(path, SOCK_SEQPACKET, &e);
	assert_true(fd >= 0);
	assert_int_equal(listen_unix(path, SOCK_SEQPACKET, &e), -EADDRINUSE);
	assert_non_null(strstr(e.text, "another instance is listening"));
	assert_int_equal(listen_remove(path, SOCK_SEQPACKET, &e), -EADDRINUSE);
	assert_true(answers());
	(void)close(fd);
	assert_false(answers());
	/* A stale one is replaced, or removed. */
	fd = listen_unix(path, SOCK_SEQPACKET, &e);
	assert_true(fd >= 0 && answers());
	(void)close(fd);
	assert_int_equal(listen_remove(path, SOCK_SEQPACKET, &e), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(listen_remove(path, SOCK_SEQPACKET, &e), 0);
}

static void test_other_things(void **state)
{
	struct err e = {0};

	(void)state;
	assert_int_equal(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
	assert_int_equal(listen_unix(path, SOCK_SEQPACKET, &e), -EEXIST);
	assert_int_equal(listen_remove(path, SOCK_SEQPACKET, &e), -EEXIST);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(unlink(path), 0);
}

static void test_long_path(void **state)
{
	char s[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1];
	struct err e = {0};
	int fd;

	(void)state;
	memset(s, 'x', sizeof(s));
	memcpy(s, path, strlen(path));
	s[sizeof(s) - 1] = '\0';
	assert_int_equal(listen_unix(s, SOCK_SEQPACKET, &e), -ENAMETOOLONG);
	s[sizeof(s) - 2] = '\0';
	fd = listen_unix(s, SOCK_SEQPACKET, &e);
	if (fd < 0)
		fail_msg("%s", e.text);
	assert_int_equal(unlink(s), 0);
	(void)close(fd);
}

/* A racer: waits for the start, listens if he may, says so, and goes on
 * until the end of his input. */
static void race(int start, int result, int end)
{
	char c;
	int fd;

	(void)!read(start, &c, 1);
	fd = listen_unix(path, SOCK_SEQPACKET, NULL);
	c = fd >= 0 ? 'y' : fd == -EADDRINUSE ? 'n' : '?';
	(void)!write(result, &c, 1);
	(void)!read(end, &c, 1);
	_exit(0);
}

static void one_race(void)
{
	int start[2], result[2], end[2];
	unsigned n_yes = 0;
	char c;

	assert_int_equal(pipe2(start, O_CLOEXEC), 0);
	assert_int_equal(pipe2(result, O_CLOEXEC), 0);
	assert_int_equal(pipe2(end, O_CLOEXEC), 0);
	for (int i = 0; i < RACERS; i++) {
		if (fork() == 0) {
			(void)close(end[1]);
			race(start[0], result[1], end[0]);
		}
	}
	assert_int_equal(write(start[1], "xxxx", RACERS), RACERS);
	for (int i = 0; i < RACERS; i++) {
		assert_int_equal(read(result[0], &c, 1), 1);
		assert_int_not_equal(c, '?');
		n_yes += c == 'y';
	}
	assert_int_equal(n_yes, 1);
	assert_true(answers());
	for (int i = 0; i < 2; i++) {
		(void)close(start[i]);
		(void)close(result[i]);
		(void)close(end[i]);
	}
	for (int i = 0; i < RACERS; i++)
		assert_true(wait(NULL) > 0);
}

static void test_race(void **state)
{
	(void)state;
	/* After the first, always over the stale socket of the last. */
	for (int i = 0; i < ROUNDS; i++)
		one_race();
}

/* Who waits for the name is let in when it is there. */
static void test_never_refused(void **state)
{
	(void)state;
	for (int i = 0; i < 10 * ROUNDS; i++) {
		int status, fd;
		pid_t pid;

		(void)unlink(path);
		pid = fork();
		if (pid == 0) {
			int r;

			while ((r = try_connect()) == ENOENT)
				;
			_exit(r);
		}
		fd = listen_unix(path, SOCK_SEQPACKET, NULL);
		assert_true(fd >= 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		(void)close(fd);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_at_a_time),
		cmocka_unit_test(test_other_things),
		cmocka_unit_test(test_long_path),
		cmocka_unit_test(test_race),
		cmocka_unit_test(test_never_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
