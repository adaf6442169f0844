/* SPDX-License-Identifier: Apache-2.0 */
/* A monitor's end of the supervisor's socket. super_begin() changes the whole
 * process, so that each case has one of its own. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/io.h"
#include "common/log.h"
#include "fs/super.h"

#define INIT "an INIT request"

static struct sup_start start_of(const char *init)
{
	struct sup_start m = {
		.h = {.type = SUP_START,
		      .version = SUP_VERSION,
		      .len = sizeof(m)},
		.session = {.dev_major = 1, .dev_minor = 2, .index = 3},
	};

	m.session.init_len = (uint32_t)strlen(init);
	memcpy(m.session.init, init, strlen(init));
	return m;
}

/* What super_begin() makes of a packet: its error, as a positive errno. */
static int begin(const void *p, size_t n, bool with_fd)
{
	struct sup_session session;
	struct super s;
	struct err e = {0};
	int sv[2], status, fuse_fd = -1, r;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
	r = io_send_fds(sv[1], p, n, &sv[1], with_fd ? 1 : 0, 0);
	assert_int_equal(r, 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* For a pipe the log would open one of its own. */
		(void)close(STDERR_FILENO);
		r = super_begin(&s, sv[0], &session, &fuse_fd, &e);
		/* Nothing stays open, also not what came with a bad packet. */
		for (int i = STDERR_FILENO + 1; i < 64; i++) {
			if (i != sv[0] && i != fuse_fd &&
			    fcntl(i, F_GETFD) >= 0)
				_exit(255);
		}
		if (r == 0 && (session.dev_major != 1 || session.index != 3 ||
			       (session.init_len > 0) != (fuse_fd >= 0)))
			_exit(254);
		_exit(-r);
	}
	(void)close(sv[0]);
	(void)close(sv[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_start(void **state)
{
	struct sup_start m = start_of("");

	(void)state;
	assert_int_equal(begin(&m, sizeof(m), false), 0);
	m = start_of(INIT);
	assert_int_equal(begin(&m, sizeof(m), true), 0);
}

static void test_wrong_start(void **state)
{
	struct sup_start m = start_of("");
	uint8_t longer[sizeof(m) + 1] = {0};

	(void)state;
	assert_int_equal(begin(&m, sizeof(m), true), EPROTO);
	for (size_t n = 1; n < sizeof(m); n += 7)
		assert_int_equal(begin(&m, n, false), EPROTO);
	memcpy(longer, &m, sizeof(m));
	assert_int_equal(begin(longer, sizeof(longer), false), EMSGSIZE);
	m = start_of(INIT);
	assert_int_equal(begin(&m, sizeof(m), false), EPROTO);
	m.session.init_len = SUP_INIT_BYTES + 1;
	assert_int_equal(begin(&m, sizeof(m), true), EPROTO);
	m = start_of("");
	m.h.version++;
	assert_int_equal(begin(&m, sizeof(m), false), EPROTO);
	m = start_of("");
	m.h.type = SUP_END;
	assert_int_equal(begin(&m, sizeof(m), false), EPROTO);
	m = start_of("");
	m.h.len--;
	assert_int_equal(begin(&m, sizeof(m), false), EPROTO);
}

/* A supervisor that is gone before it has said a word. */
static void test_no_start(void **state)
{
	struct sup_start m = start_of("");

	(void)state;
	assert_int_equal(begin(&m, 0, false), EPROTO);
}

static struct super talking_to(int *ret_far)
{
	int sv[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	*ret_far = sv[1];
	return (struct super){.conn = sv[0], .listener = -1, .lock_fd = -1};
}

static void test_what_is_said(void **state)
{
	const struct sup_start start = start_of(INIT);
	uint8_t p[sizeof(struct sup_ready) + SUP_TEXT_BYTES];
	struct err e = {.code = -ENOENT, .text = "the cause"};
	struct sup_ready ready;
	struct sup_failed failed;
	struct sup_hdr h;
	struct stat a, b;
	int far, fd, null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct super s = talking_to(&far);

	(void)state;
	super_ready(&s, &start.session, null, true, "/mnt");
	assert_int_equal(io_recv_fds(far, p, sizeof(p), &fd, 1, 0),
			 sizeof(ready) + 4);
	memcpy(&ready, p, sizeof(ready));
	assert_int_equal(ready.h.type, SUP_READY);
	assert_int_equal(ready.h.version, SUP_VERSION);
	assert_int_equal(ready.h.len, sizeof(ready) + 4);
	assert_int_equal(ready.pid, getpid());
	assert_int_equal(ready.flags, SUP_COMPLETE);
	assert_memory_equal(&ready.session, &start.session,
			    sizeof(ready.session));
	assert_memory_equal(p + sizeof(ready), "/mnt", 4);
	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(fstat(null, &b), 0);
	assert_true(a.st_rdev == b.st_rdev);
	(void)close(fd);

	super_failed(&s, &e);
	assert_int_equal(io_recv_fds(far, p, sizeof(p), &fd, 1, 0),
			 sizeof(failed) + 9);
	memcpy(&failed, p, sizeof(failed));
	assert_int_equal(failed.h.type, SUP_FAILED);
	assert_int_equal(failed.code, ENOENT);
	assert_memory_equal(p + sizeof(failed), "the cause", 9);
	assert_int_equal(fd, -1);

	super_complete(&s);
	assert_int_equal(io_recv_fds(far, &h, sizeof(h), NULL, 0, 0),
			 sizeof(h));
	assert_int_equal(h.type, SUP_STATE);
	super_ended(&s);
	assert_int_equal(io_recv_fds(far, &h, sizeof(h), NULL, 0, 0),
			 sizeof(h));
	assert_int_equal(h.type, SUP_ENDED);
	(void)close(far);
	(void)close(null);
	super_close(&s);
}

static void test_supervisor_that_goes_or_does_not_read(void **state)
{
	int far;
	struct super s = talking_to(&far);

	(void)state;
	(void)close(far);
	super_complete(&s);
	assert_int_equal(s.conn, -1);
	super_ended(&s); /* to nobody */

	s = talking_to(&far);
	for (unsigned i = 0; i < 100000 && s.conn >= 0; i++)
		super_complete(&s);
	assert_int_equal(s.conn, -1);
	(void)close(far);
}

static void test_what_is_heard(void **state)
{
	struct sup_hdr h = {
		.type = SUP_END,
		.version = SUP_VERSION + 1,
		.len = sizeof(h),
	};
	int far;
	struct super s = talking_to(&far);

	(void)state;
	assert_false(super_wants_end(&s));
	assert_true(s.conn >= 0);
	assert_int_equal(io_send_fds(far, &h, sizeof(h), NULL, 0, 0), 0);
	assert_true(super_wants_end(&s));
	/* What a later version may say besides is none of ours. */
	h.type = 99;
	assert_int_equal(io_send_fds(far, &h, sizeof(h), NULL, 0, 0), 0);
	assert_false(super_wants_end(&s));
	assert_true(s.conn >= 0);
	assert_int_equal(io_send_fds(far, "x", 1, NULL, 0, 0), 0);
	assert_false(super_wants_end(&s));
	assert_int_equal(s.conn, -1);
	(void)close(far);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_wrong_start),
		cmocka_unit_test(test_no_start),
		cmocka_unit_test(test_what_is_said),
		cmocka_unit_test(test_supervisor_that_goes_or_does_not_read),
		cmocka_unit_test(test_what_is_heard),
	};

	log_set_level(LOG_ERR_);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
