/* SPDX-License-Identifier: Apache-2.0 */
/* The small things everything stands on: rd, buf, err, log, digest, io. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/digest.h"
#include "common/err.h"
#include "common/io.h"
#include "common/log.h"
#include "common/rd.h"

static void test_rd_past_end(void **state)
{
	const uint8_t bytes[] = {1, 2, 3, 4, 5};
	struct rd r = rd_init(bytes, sizeof(bytes));

	(void)state;
	assert_int_equal(rd_u32(&r), 0x04030201);
	assert_int_equal(rd_u16(&r), 0);
	assert_true(r.bad);
	assert_int_equal(rd_u8(&r), 0);
}

static void test_buf_maximum(void **state)
{
	struct buf b = BUF_INIT(8);

	(void)state;
	assert_int_equal(buf_add_str(&b, "12345678"), 0);
	assert_int_equal(buf_add_str(&b, "9"), -EOVERFLOW);
	assert_string_equal(b.p, "12345678");
	buf_done(&b);
}

static void test_buf_json_string(void **state)
{
	struct buf b = BUF_INIT(256);

	(void)state;
	assert_int_equal(buf_add_json_str(&b, "a\"\\\n\xc3\xa9\xff"), 0);
	assert_string_equal(b.p, "\"a\\\"\\\\\\u000a\xc3\xa9\\ufffd\"");
	buf_done(&b);
}

static void test_err_wrap_keeps_cause(void **state)
{
	struct err e = {0};

	(void)state;
	assert_int_equal(err_set(&e, -EBADMSG, "chunk %d\n", 7), -EBADMSG);
	assert_int_equal(err_wrap(&e, "layer %s", "x"), -EBADMSG);
	assert_string_equal(e.text, "layer x: chunk 7?");
}

static void test_log_url_redacts(void **state)
{
	char b[128];

	(void)state;
	assert_string_equal(
		log_url("https://u:p@h:1/a/b?sig=secret#f", b, sizeof(b)),
		"https://h:1/a/b");
	assert_string_equal(log_url("http://h/p@q", b, sizeof(b)),
			    "http://h/p@q");
}

static void test_digest_round_trip(void **state)
{
	static const char want[] =
		"sha256:"
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	char s[DIGEST_STR_BYTES];
	struct sha256 *h = sha256_new();
	struct digest d, d2;

	(void)state;
	assert_non_null(h);
	sha256_all(h, "abc", 3, &d);
	assert_string_equal(digest_str(&d, s), want);
	assert_int_equal(digest_parse(want, strlen(want), &d2), 0);
	assert_true(digest_equal(&d, &d2));
	assert_int_equal(digest_parse("sha512:00", 9, &d2), -EOPNOTSUPP);
	assert_int_equal(digest_parse("sha256:00", 9, &d2), -EBADMSG);
	sha256_free(h);
}

static void test_io_passes_descriptors(void **state)
{
	int sv[2], fds[2], null = 0;
	char text[8];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
	assert_int_equal(io_send_fds(sv[0], "hi", 2, &null, 1, 0), 0);
	assert_int_equal(io_recv_fds(sv[1], text, sizeof(text), fds, 2, 0), 2);
	assert_true(fds[0] >= 0);
	assert_int_equal(fds[1], -1);
	close(fds[0]);
	/* A packet that does not fit is refused, and leaks nothing. */
	assert_int_equal(io_send_fds(sv[0], "0123456789", 10, &null, 1, 0), 0);
	assert_int_equal(io_recv_fds(sv[1], text, sizeof(text), fds, 2, 0),
			 -EMSGSIZE);
	close(sv[0]);
	close(sv[1]);
}

static void test_sizes(void **state)
{
	static const struct {
		const char *s;
		uint64_t want;
	} good[] = {
		{"0", 0},
		{"4096", 4096},
		{"64k", KIB(64)},
		{"64K", KIB(64)},
		{"64KiB", KIB(64)},
		{"64kib", KIB(64)},
		{"3m", MIB(3)},
		{"3MiB", MIB(3)},
		{"2G", (UINT64_C(2) << 30)},
		{"2GiB", (UINT64_C(2) << 30)},
		{"1T", (UINT64_C(1) << 40)},
		{"16777215TiB", UINT64_C(16777215) << 40},
		{"18446744073709551615", UINT64_MAX},
	};
	static const char *const bad[] = {
		"",       "k",         "-1",
		"+1",     " 1",        "1 ",
		"1 k",    "64KB",      "64kb",
		"64Ki",   "64Kb",      "64B",
		"1.5G",   "1e6",       "0x10",
		"64KiBs", "64kk",      "64P",
		"64KiB ", "16777216T", "18446744073709551616",
	};
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(io_parse_bytes(good[i].s, &v), 0);
		assert_true(v == good[i].want);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (io_parse_bytes(bad[i], &v) != -EINVAL)
			fail_msg("%s is taken", bad[i]);
	}
}

static void test_io_temp_has_no_name(void **state)
{
	struct err e = {0};
	struct stat st;
	char text[3] = "";
	int fd = io_open_temp("/tmp", &e);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(io_write_all(fd, "hi", 2), 0);
	assert_int_equal(io_pread_all(fd, text, 2, 0), 0);
	assert_string_equal(text, "hi");
	(void)close(fd);
	assert_int_equal(io_open_temp("/tmp/not/there", &e), -ENOENT);
	assert_non_null(strstr(e.text, "/tmp/not/there: "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rd_past_end),
		cmocka_unit_test(test_buf_maximum),
		cmocka_unit_test(test_buf_json_string),
		cmocka_unit_test(test_err_wrap_keeps_cause),
		cmocka_unit_test(test_log_url_redacts),
		cmocka_unit_test(test_digest_round_trip),
		cmocka_unit_test(test_io_passes_descriptors),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_io_temp_has_no_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
