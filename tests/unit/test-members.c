/* SPDX-License-Identifier: Apache-2.0 */
/* Where the members of a blob begin, and what is corrupt in it. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "cli/members.h"
#include "common/buf.h"

/* A blob that is given out a few bytes at a time. */
struct blob {
	struct buf b;
	size_t at;
	size_t piece;
};

static ssize_t blob_read(void *arg, void *p, size_t n, struct err *e)
{
	struct blob *b = arg;

	(void)e;
	n = MIN(n, b->piece);
	n = MIN(n, b->b.len - b->at);
	memcpy(p, b->b.p + b->at, n);
	b->at += n;
	return (ssize_t)n;
}

static void add_gzip(struct buf *b, const char *s)
{
	z_stream z = {0};
	uint8_t out[256];

	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, 0), Z_OK);
	z.next_in = (uint8_t *)(uintptr_t)s;
	z.avail_in = (uInt)strlen(s);
	z.next_out = out;
	z.avail_out = sizeof(out);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	assert_int_equal(buf_add(b, out, sizeof(out) - z.avail_out), 0);
	(void)deflateEnd(&z);
}

static void add_zstd(struct buf *b, const char *s)
{
	uint8_t out[256];
	size_t n = ZSTD_compress(out, sizeof(out), s, strlen(s), 3);

	assert_false(ZSTD_isError(n));
	assert_int_equal(buf_add(b, out, n), 0);
}

/* Three members and an empty one; where each begins. */
static struct blob make(void (*add)(struct buf *b, const char *s),
			uint64_t off[5])
{
	static const char *const parts[] = {"first", "", "second", "third"};
	struct blob b = {.b = BUF_INIT(4096), .piece = 7};

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		off[i] = b.b.len;
		add(&b.b, parts[i]);
	}
	off[4] = b.b.len;
	return b;
}

/* Return: what members_read() ended with */
static ssize_t read_all(struct members *m, struct buf *ret, struct err *e)
{
	char p[3];
	ssize_t n;

	while ((n = members_read(m, p, sizeof(p), e)) > 0)
		assert_int_equal(buf_add(ret, p, (size_t)n), 0);
	return n;
}

static void boundaries_of(enum codec_kind kind,
			  void (*add)(struct buf *b, const char *s))
{
	CLEANUP_BUF struct buf text = BUF_INIT(4096);
	uint64_t off[5], at, inner;
	struct blob b = make(add, off);
	const struct build_in in = {.read = blob_read, .arg = &b};
	struct members *m = members_new(kind, &in);
	struct err e = {0};

	assert_non_null(m);
	assert_int_equal(read_all(m, &text, &e), 0);
	assert_string_equal(text.p, "firstsecondthird");
	assert_int_equal(members_tell(m), 16);
	assert_int_equal(members_consumed(m), off[4]);
	members_find(m, 0, &at, &inner);
	assert_int_equal(at, off[0]);
	assert_int_equal(inner, 0);
	members_find(m, 4, &at, &inner);
	assert_int_equal(at, off[0]);
	assert_int_equal(inner, 4);
	/* Not the empty one, in which no byte is. */
	members_find(m, 5, &at, &inner);
	assert_int_equal(at, off[2]);
	assert_int_equal(inner, 0);
	members_find(m, 15, &at, &inner);
	assert_int_equal(at, off[3]);
	assert_int_equal(inner, 4);
	members_free(m);
	buf_done(&b.b);
}

static void boundaries(void **state)
{
	(void)state;
	boundaries_of(CODEC_GZIP, add_gzip);
	boundaries_of(CODEC_ZSTD, add_zstd);
}

static void plain(void **state)
{
	CLEANUP_BUF struct buf text = BUF_INIT(64);
	struct blob b = {.b = BUF_INIT(64), .piece = 2};
	const struct build_in in = {.read = blob_read, .arg = &b};
	struct members *m = members_new((enum codec_kind)0, &in);
	struct err e = {0};

	(void)state;
	assert_int_equal(buf_add_str(&b.b, "as it is"), 0);
	assert_int_equal(read_all(m, &text, &e), 0);
	assert_string_equal(text.p, "as it is");
	members_free(m);
	buf_done(&b.b);
}

/* Cut anywhere but between members, it is an error that says where. */
static void truncated(void **state)
{
	uint64_t off[5];

	(void)state;
	for (size_t cut = 0;; cut++) {
		CLEANUP_BUF struct buf text = BUF_INIT(64);
		struct blob b = make(add_gzip, off);
		const struct build_in in = {.read = blob_read, .arg = &b};
		struct members *m = members_new(CODEC_GZIP, &in);
		struct err e = {0};
		bool between = false, last = cut == b.b.len;

		for (size_t i = 0; i < ARRAY_SIZE(off); i++)
			between |= cut == off[i];
		b.b.len = cut;
		assert_int_equal(read_all(m, &text, &e),
				 between ? 0 : -EBADMSG);
		if (!between)
			assert_non_null(strstr(e.text, "gzip member at "));
		members_free(m);
		buf_done(&b.b);
		if (last)
			return;
	}
}

/* Behind a corrupt member it goes on where it is told to. */
static void skipped(void **state)
{
	CLEANUP_BUF struct buf text = BUF_INIT(64);
	uint64_t off[5];
	struct blob b = make(add_gzip, off);
	const struct build_in in = {.read = blob_read, .arg = &b};
	struct members *m = members_new(CODEC_GZIP, &in);
	struct err e = {0};

	(void)state;
	b.b.p[off[2] - 1] ^= 1; /* the length of the empty one */
	assert_int_equal(read_all(m, &text, &e), -EBADMSG);
	assert_string_equal(text.p, "first");
	buf_clear(&text);
	assert_int_equal(members_skip_to(m, off[3], &e), 1);
	assert_int_equal(members_tell(m), 0);
	assert_int_equal(read_all(m, &text, &e), 0);
	assert_string_equal(text.p, "third");
	assert_int_equal(members_offset(m), off[3]);
	assert_int_equal(members_skip_to(m, off[4] + 1, &e), 0);
	members_free(m);
	buf_done(&b.b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(boundaries),
		cmocka_unit_test(plain),
		cmocka_unit_test(truncated),
		cmocka_unit_test(skipped),
	};

	return cmocka_run_group_tests_name("members", tests, NULL, NULL);
}
