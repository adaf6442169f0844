/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <libdeflate.h>
#include <zstd.h>

#include "common/buf.h"
#include "common/codec.h"

#define TEXT_BYTES 100000u
#define SLACK_BYTES 65536u

static uint8_t text[TEXT_BYTES];

static int setup(void **state)
{
	uint32_t x = 1;

	for (size_t i = 0; i < sizeof(text); i++) {
		x = x * 1103515245 + 12345;
		text[i] = (uint8_t)("0123456789abcdef"[x >> 28]);
	}
	*state = codec_new();
	return *state != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	codec_free(*state);
	return 0;
}

/* Appends a gzip member, or a zstd frame that tells its size and a checksum. */
static void add(struct buf *b, enum codec_kind kind, const void *p, size_t n)
{
	size_t cap = n + n / 2 + 256, len;

	assert_int_equal(buf_reserve(b, cap), 0);
	if (kind == CODEC_GZIP) {
		struct libdeflate_compressor *c =
			libdeflate_alloc_compressor(6);

		len = libdeflate_gzip_compress(c, p, n, b->p + b->len, cap);
		libdeflate_free_compressor(c);
	} else {
		ZSTD_CCtx *c = ZSTD_createCCtx();

		(void)ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
		len = ZSTD_compress2(c, b->p + b->len, cap, p, n);
		assert_false(ZSTD_isError(len));
		(void)ZSTD_freeCCtx(c);
	}
	assert_int_not_equal(len, 0);
	b->len += len;
}

/* A zstd frame that does not tell its size, with a window of 2^log. */
static void add_unsized(struct buf *b, const void *p, size_t n, int log)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	ZSTD_inBuffer in = {p, n, 0};
	ZSTD_outBuffer out;

	assert_int_equal(buf_reserve(b, n + 1024), 0);
	out = (ZSTD_outBuffer){b->p + b->len, n + 1024, 0};
	(void)ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, log);
	while (in.pos < in.size)
		assert_false(ZSTD_isError(
			ZSTD_compressStream2(c, &out, &in, ZSTD_e_continue)));
	assert_int_equal(ZSTD_compressStream2(c, &out, &in, ZSTD_e_end), 0);
	b->len += out.pos;
	(void)ZSTD_freeCCtx(c);
}

/* Decodes and compares with the text from its start. */
static int decode(struct codec *c, enum codec_kind kind, const struct buf *b,
		  size_t len, size_t need, size_t slack, bool full)
{
	uint8_t *dst = malloc(need + slack + 1);
	int r;

	assert_non_null(dst);
	r = codec_decode(c, kind, b->p, len, dst, need + slack, need, full);
	if (r == 0)
		assert_memory_equal(dst, text, need);
	free(dst);
	return r;
}

static void counts(const struct codec *c, uint64_t oneshot, uint64_t streamed)
{
	uint64_t o, s;

	codec_counts(c, &o, &s);
	assert_int_equal(o, oneshot);
	assert_int_equal(s, streamed);
}

static const enum codec_kind kinds[] = {CODEC_GZIP, CODEC_ZSTD};

static void test_codec_one_shot_where_the_member_fits(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct buf b = BUF_INIT(1 << 20);
		struct codec *c = codec_new();

		add(&b, kinds[k], text, 10000);
		assert_int_equal(decode(c, kinds[k], &b, b.len, 10000, 0, true),
				 0);
		/* The member holds more than is needed, and there is room. */
		assert_int_equal(
			decode(c, kinds[k], &b, b.len, 9000, 1000, false), 0);
		counts(c, 2, 0);
		codec_free(c);
		buf_done(&b);
	}
}

static void test_codec_streams_where_it_does_not_fit(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct buf b = BUF_INIT(1 << 20);
		struct codec *c = codec_new();

		add(&b, kinds[k], text, TEXT_BYTES);
		assert_int_equal(
			decode(c, kinds[k], &b, b.len, 5000, 10, false), 0);
		assert_int_equal(decode(c, kinds[k], &b, b.len, 5000, 10, true),
				 0);
		counts(c, 0, 2);
		/* Bytes behind the member do not matter. */
		assert_int_equal(buf_add_str(&b, "garbage"), 0);
		assert_int_equal(decode(c, kinds[k], &b, b.len, 5000, 10, true),
				 0);
		assert_int_equal(decode(c, kinds[k], &b, b.len, TEXT_BYTES,
					SLACK_BYTES, true),
				 0);
		codec_free(c);
		buf_done(&b);
	}
}

static void test_codec_goes_on_with_the_next_member(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct buf b = BUF_INIT(1 << 20);
		struct codec *c = codec_new();

		add(&b, kinds[k], text, 1000);
		add(&b, kinds[k], text, 0);
		add(&b, kinds[k], text + 1000, 1);
		add(&b, kinds[k], text + 1001, 50000);
		for (size_t need = 990; need < 1010; need++) {
			assert_int_equal(decode(c, kinds[k], &b, b.len, need,
						SLACK_BYTES, false),
					 0);
			assert_int_equal(
				decode(c, kinds[k], &b, b.len, need, 0, false),
				0);
			assert_int_equal(
				decode(c, kinds[k], &b, b.len, need, 0, true),
				0);
		}
		assert_int_equal(decode(c, kinds[k], &b, b.len, 51001, 0, true),
				 0);
		assert_int_equal(
			decode(c, kinds[k], &b, b.len, 51002, 0, false),
			-EBADMSG);
		assert_int_equal(decode(c, kinds[k], &b, b.len, 51002,
					SLACK_BYTES, true),
				 -EBADMSG);
		codec_free(c);
		buf_done(&b);
	}
}

static void test_codec_input_cut_off(void **state)
{
	struct codec *c = *state;

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct buf b = BUF_INIT(1 << 20);
		bool some = false;

		add(&b, kinds[k], text, 3000);
		for (size_t n = 0; n < b.len; n++) {
			assert_int_equal(
				decode(c, kinds[k], &b, n, 3000, 0, true),
				-EBADMSG);
			assert_int_equal(decode(c, kinds[k], &b, n, 3000,
						SLACK_BYTES, true),
					 -EBADMSG);
			/* Enough for what is needed is enough. */
			if (decode(c, kinds[k], &b, n, 100, 0, false) == 0)
				some = true;
			else
				assert_false(some);
		}
		assert_true(some);
		buf_done(&b);
	}
}

static void test_codec_checks_the_member_only_when_told(void **state)
{
	struct codec *c = *state;

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct buf b = BUF_INIT(1 << 20);
		size_t at;

		add(&b, kinds[k], text, 3000);
		at = kinds[k] == CODEC_GZIP ? b.len - 8 : b.len - 1;
		b.p[at] = (char)(b.p[at] ^ 1);
		for (size_t slack = 0; slack <= SLACK_BYTES;
		     slack += SLACK_BYTES) {
			assert_int_equal(decode(c, kinds[k], &b, b.len, 3000,
						slack, true),
					 -EBADMSG);
			assert_int_equal(decode(c, kinds[k], &b, b.len, 2999,
						slack, false),
					 0);
		}
		buf_done(&b);
	}
}

static void test_codec_flipped_bits_do_no_harm(void **state)
{
	struct codec *c = *state;

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct buf b = BUF_INIT(1 << 20);
		uint8_t dst[2000];

		add(&b, kinds[k], text, 1000);
		for (size_t i = 0; i < b.len * 8; i++) {
			b.p[i / 8] = (char)(b.p[i / 8] ^ (1 << i % 8));
			if (codec_decode(c, kinds[k], b.p, b.len, dst, 2000,
					 1000, true) == 0)
				assert_memory_equal(dst, text, 1000);
			(void)codec_decode(c, kinds[k], b.p, b.len, dst, 1000,
					   500, false);
			b.p[i / 8] = (char)(b.p[i / 8] ^ (1 << i % 8));
		}
		/* Nothing sticks. */
		assert_int_equal(decode(c, kinds[k], &b, b.len, 1000, 0, true),
				 0);
		buf_done(&b);
	}
}

static void test_codec_refuses_what_it_is_not(void **state)
{
	struct codec *c = *state;
	struct buf b = BUF_INIT(1 << 20);

	add(&b, CODEC_GZIP, text, 100);
	assert_int_equal(decode(c, CODEC_ZSTD, &b, b.len, 100, 0, false),
			 -EBADMSG);
	buf_clear(&b);
	add(&b, CODEC_ZSTD, text, 100);
	assert_int_equal(decode(c, CODEC_GZIP, &b, b.len, 100, 0, false),
			 -EBADMSG);
	buf_done(&b);
}

static void test_codec_zstd_without_a_size(void **state)
{
	struct codec *c = codec_new();
	struct buf b = BUF_INIT(1 << 20);

	(void)state;
	add_unsized(&b, text, TEXT_BYTES, 20);
	assert_int_equal(decode(c, CODEC_ZSTD, &b, b.len, TEXT_BYTES, 0, true),
			 0);
	counts(c, 1, 0);
	assert_int_equal(decode(c, CODEC_ZSTD, &b, b.len, 100, 0, false), 0);
	counts(c, 1, 1);
	buf_done(&b);
	codec_free(c);
}

static void test_codec_zstd_steps_over_skippable_frames(void **state)
{
	static const char skip[] = "\x50\x2a\x4d\x18\x03\0\0\0abc";
	struct codec *c = *state;
	struct buf b = BUF_INIT(1 << 20);

	assert_int_equal(buf_add(&b, skip, sizeof(skip) - 1), 0);
	add(&b, CODEC_ZSTD, text, 100);
	assert_int_equal(decode(c, CODEC_ZSTD, &b, b.len, 100, 10, true), 0);
	assert_int_equal(decode(c, CODEC_ZSTD, &b, b.len, 50, 0, false), 0);
	buf_done(&b);
}

static void test_codec_zstd_window_is_bounded(void **state)
{
	struct buf b = BUF_INIT(1 << 20);
	struct codec_stream *s = codec_stream_new(CODEC_ZSTD);
	uint8_t dst[1000];
	size_t in, out;

	(void)state;
	assert_non_null(s);
	add_unsized(&b, text, 1000, 27);
	in = b.len;
	assert_int_equal(codec_stream_run(s, b.p, &in, dst, sizeof(dst), &out),
			 -EBADMSG);
	codec_stream_free(s);
	buf_done(&b);
}

static void test_codec_works_after_trim(void **state)
{
	struct codec *c = *state;
	struct buf b = BUF_INIT(1 << 20);

	add(&b, CODEC_GZIP, text, TEXT_BYTES);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			decode(c, CODEC_GZIP, &b, b.len, TEXT_BYTES, 0, true),
			0);
		assert_int_equal(decode(c, CODEC_GZIP, &b, b.len, 10, 0, true),
				 0);
		codec_trim(c);
	}
	buf_done(&b);
}

/* Feeds in and takes out the given numbers of bytes at a time. */
static size_t stream(enum codec_kind kind, const struct buf *b, size_t in_step,
		     size_t out_step, uint8_t *dst, size_t cap)
{
	struct codec_stream *s = codec_stream_new(kind);
	size_t in = 0, out = 0;

	assert_non_null(s);
	for (;;) {
		size_t n = MIN(in_step, b->len - in), k;
		size_t room = MIN(out_step, cap - out);

		if (room == 0)
			break;
		assert_int_equal(
			codec_stream_run(s, b->p + in, &n, dst + out, room, &k),
			0);
		if (n == 0 && k == 0)
			break;
		in += n;
		out += k;
	}
	codec_stream_free(s);
	return out;
}

static void test_codec_stream_in_any_pieces(void **state)
{
	static const size_t steps[] = {1, 2, 7, 1000, 1000000};
	uint8_t *dst = malloc(TEXT_BYTES + 1);

	(void)state;
	assert_non_null(dst);
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct buf b = BUF_INIT(1 << 20);

		add(&b, kinds[k], text, 40000);
		add(&b, kinds[k], text, 0);
		add(&b, kinds[k], text + 40000, 60000);
		for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
			for (size_t o = 0; o < ARRAY_SIZE(steps); o++) {
				memset(dst, 0, TEXT_BYTES);
				assert_int_equal(stream(kinds[k], &b, steps[i],
							steps[o], dst,
							TEXT_BYTES + 1),
						 TEXT_BYTES);
				assert_memory_equal(dst, text, TEXT_BYTES);
			}
		}
		buf_done(&b);
	}
	free(dst);
}

static void test_codec_stream_waits_for_input(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct codec_stream *s = codec_stream_new(kinds[k]);
		struct buf b = BUF_INIT(1 << 20);
		uint8_t dst[2000];
		size_t in, out;

		assert_non_null(s);
		add(&b, kinds[k], text, 1000);
		/* More often than zstd by itself would stand. */
		for (int i = 0; i < 40; i++) {
			in = 0;
			assert_int_equal(codec_stream_run(s, b.p, &in, dst,
							  sizeof(dst), &out),
					 0);
			assert_int_equal(out, 0);
		}
		in = b.len;
		assert_int_equal(
			codec_stream_run(s, b.p, &in, dst, sizeof(dst), &out),
			0);
		assert_int_equal(in, b.len);
		assert_int_equal(out, 1000);
		/* What follows has to be a member too. */
		in = 4;
		assert_int_equal(codec_stream_run(s, "junk", &in, dst,
						  sizeof(dst), &out),
				 -EBADMSG);
		codec_stream_free(s);
		buf_done(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codec_one_shot_where_the_member_fits),
		cmocka_unit_test(test_codec_streams_where_it_does_not_fit),
		cmocka_unit_test(test_codec_goes_on_with_the_next_member),
		cmocka_unit_test(test_codec_input_cut_off),
		cmocka_unit_test(test_codec_checks_the_member_only_when_told),
		cmocka_unit_test(test_codec_flipped_bits_do_no_harm),
		cmocka_unit_test(test_codec_refuses_what_it_is_not),
		cmocka_unit_test(test_codec_zstd_without_a_size),
		cmocka_unit_test(test_codec_zstd_steps_over_skippable_frames),
		cmocka_unit_test(test_codec_zstd_window_is_bounded),
		cmocka_unit_test(test_codec_works_after_trim),
		cmocka_unit_test(test_codec_stream_in_any_pieces),
		cmocka_unit_test(test_codec_stream_waits_for_input),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
