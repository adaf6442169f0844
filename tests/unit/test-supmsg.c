/* SPDX-License-Identifier: Apache-2.0 */
/* What monitors say: packets as they are, and as they must not be. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "daemon/snapshotter/supmsg.h"

#define TARGET "/var/lib/estargz/m/7"
#define READY_BYTES (sizeof(struct sup_ready) + sizeof(TARGET) - 1)

static void make_ready(uint8_t p[READY_BYTES])
{
	struct sup_ready m = {
		.h = {.type = SUP_READY,
		      .version = SUP_VERSION,
		      .len = READY_BYTES},
		.pid = 77,
		.flags = SUP_COMPLETE,
		.session = {.dev_major = 1,
			    .dev_minor = 300,
			    .init_len = 56,
			    .init = "init"},
	};

	memcpy(p, &m, sizeof(m));
	memcpy(p + sizeof(m), TARGET, sizeof(TARGET) - 1);
}

static int null_fd(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static bool is_closed(int fd)
{
	return fcntl(fd, F_GETFD) < 0 && errno == EBADF;
}

static void test_ready(void **state)
{
	uint8_t p[READY_BYTES];
	struct supmsg m;
	int fd = null_fd();

	(void)state;
	make_ready(p);
	assert_int_equal(supmsg_parse(p, sizeof(p), fd, &m), 1);
	assert_int_equal(m.type, SUP_READY);
	assert_int_equal(m.fuse_fd, fd);
	assert_int_equal(m.pid, 77);
	assert_true(m.complete);
	assert_int_equal(m.session.dev_minor, 300);
	assert_int_equal(m.session.init_len, 56);
	assert_string_equal((const char *)m.session.init, "init");
	assert_string_equal(m.text, TARGET);
	(void)close(fd);
}

/* Cut at every byte, or too long: refused, and the descriptor is closed. */
static void test_ready_length(void **state)
{
	uint8_t p[READY_BYTES + 1] = {0};
	struct supmsg m;

	(void)state;
	make_ready(p);
	for (size_t n = 0; n <= sizeof(p); n++) {
		int fd = null_fd();

		if (n == READY_BYTES) {
			(void)close(fd);
			continue;
		}
		assert_int_equal(supmsg_parse(p, n, fd, &m), -EPROTO);
		assert_true(is_closed(fd));
		assert_int_equal(m.fuse_fd, -1);
	}
	/* With a length that is right it may be without the text. */
	for (uint32_t n = sizeof(struct sup_hdr); n < READY_BYTES; n++) {
		int fd = null_fd();

		memcpy(p + offsetof(struct sup_hdr, len), &n, sizeof(n));
		assert_int_equal(supmsg_parse(p, n, fd, &m),
				 n < sizeof(struct sup_ready) ? -EPROTO : 1);
		assert_int_equal(is_closed(fd), n < sizeof(struct sup_ready));
		if (m.fuse_fd >= 0)
			(void)close(fd);
	}
}

static void test_ready_fields(void **state)
{
	static const struct {
		size_t off;
		uint32_t value;
	} bad[] = {
		{offsetof(struct sup_ready, pid), 0},
		{offsetof(struct sup_ready, pid), UINT32_MAX},
		{offsetof(struct sup_ready, session.init_len), 0},
		{offsetof(struct sup_ready, session.init_len),
		 SUP_INIT_BYTES + 1},
		{sizeof(struct sup_ready), 0}, /* NUL in the text */
	};
	uint8_t p[READY_BYTES];
	struct supmsg m;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int fd = null_fd();

		make_ready(p);
		memcpy(p + bad[i].off, &bad[i].value, sizeof(uint32_t));
		assert_int_equal(supmsg_parse(p, sizeof(p), fd, &m), -EPROTO);
		assert_true(is_closed(fd));
	}
	make_ready(p);
	assert_int_equal(supmsg_parse(p, sizeof(p), -1, &m), -EPROTO);
}

static void test_version_and_type(void **state)
{
	uint8_t p[READY_BYTES];
	struct supmsg m;

	(void)state;
	make_ready(p);
	p[2] = SUP_VERSION + 1;
	assert_int_equal(supmsg_parse(p, sizeof(p), -1, &m), -EOPNOTSUPP);
	for (unsigned type = 0; type < 256; type++) {
		struct sup_hdr h = {.type = (uint16_t)type,
				    .version = SUP_VERSION,
				    .len = sizeof(h)};
		int fd = null_fd();
		int want = type == SUP_ENDED || type == SUP_STATE ? 1 : -EPROTO;

		memcpy(p, &h, sizeof(h));
		assert_int_equal(supmsg_parse(p, sizeof(h), fd, &m), want);
		/* Nobody but READY brings one. */
		assert_true(is_closed(fd));
	}
}

static int parse_failed(uint32_t code, const char *text, struct supmsg *m)
{
	uint8_t p[sizeof(struct sup_failed) + 64];
	struct sup_failed f = {
		.h = {.type = SUP_FAILED,
		      .version = SUP_VERSION,
		      .len = (uint32_t)(sizeof(f) + strlen(text))},
		.code = code,
	};

	memcpy(p, &f, sizeof(f));
	memcpy(p + sizeof(f), text, strlen(text));
	return supmsg_parse(p, f.h.len, -1, m);
}

static void test_failed(void **state)
{
	struct supmsg m;

	(void)state;
	assert_int_equal(parse_failed(EACCES, "no\nand no", &m), 1);
	assert_int_equal(m.e.code, -EACCES);
	assert_string_equal(m.e.text, "no?and no");
	assert_int_equal(parse_failed(ENOENT, "", &m), 1);
	assert_string_equal(m.e.text, "No such file or directory");
	assert_int_equal(parse_failed(0, "x", &m), -EPROTO);
	assert_int_equal(parse_failed(4096, "x", &m), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ready),
		cmocka_unit_test(test_ready_length),
		cmocka_unit_test(test_ready_fields),
		cmocka_unit_test(test_version_and_type),
		cmocka_unit_test(test_failed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
