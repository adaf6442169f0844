/* SPDX-License-Identifier: Apache-2.0 */
/* The chunk table: what is found in it, and what is refused. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/chunks.h"
#include "common/codec.h"
#include "common/rd.h"

/* Two files: one chunk; then three, the first two of them in one member. */
static const struct chunk_le records[] = {
	{1000, 500, 0, 8192, 5000, {1}},
	{1500, 700, 512, 16384, 4096, {2}},
	{1500, 700, 4608, 20480, 100, {3}},
	{3000, 7000, 0, 20580, 1, {4}},
};

struct table {
	struct chunks_header_le h;
	struct chunk_le r[ARRAY_SIZE(records)];
};

static uint8_t meta[8192];

static struct table table_new(void)
{
	struct sha256 *h = sha256_new();
	struct table t = {
		.h =
			{
				.magic = "eszchunk",
				.version = CHUNKS_VERSION,
				.blob_size = 12000,
				.toc_off = 10000,
				.prefetch_end = 1500,
				.image_bytes = 24576,
				.meta_len = sizeof(meta),
				.n_chunks = ARRAY_SIZE(records),
				.codec = CODEC_ZSTD,
				.toc_digest = {5},
				.blob_digest = {6},
			},
	};
	struct digest d;

	assert_non_null(h);
	memcpy(t.r, records, sizeof(records));
	memset(meta, 3, sizeof(meta));
	sha256_start(h);
	sha256_add(h, meta, sizeof(meta));
	sha256_add(h, &t, sizeof(t));
	sha256_end(h, &d);
	memcpy(t.h.index_digest, d.b, sizeof(d.b));
	sha256_free(h);
	return t;
}

static void test_header_comes_back(void **state)
{
	struct table t = table_new();
	struct chunks c;

	(void)state;
	assert_int_equal(chunks_open(&c, &t, sizeof(t), NULL), 0);
	assert_int_equal(c.n, 4);
	assert_int_equal(c.blob_size, 12000);
	assert_int_equal(c.toc_off, 10000);
	assert_int_equal(c.prefetch_end, 1500);
	assert_int_equal(c.image_bytes, 24576);
	assert_int_equal(c.meta_len, 8192);
	assert_int_equal(c.codec, CODEC_ZSTD);
	assert_int_equal(c.flags, 0);
	assert_int_equal(c.toc_digest.b[0], 5);
	assert_int_equal(c.blob_digest.b[0], 6);
}

static void test_record_comes_back(void **state)
{
	struct table t = table_new();
	struct chunks c;
	struct chunk k;

	(void)state;
	assert_int_equal(chunks_open(&c, &t, sizeof(t), NULL), 0);
	chunks_get(&c, 2, &k);
	assert_int_equal(k.blob_off, 1500);
	assert_int_equal(k.blob_len, 700);
	assert_int_equal(k.inner_off, 4608);
	assert_int_equal(k.image_off, 20480);
	assert_int_equal(k.len, 100);
	assert_true(k.has_digest);
	assert_int_equal(k.digest.b[0], 3);
}

static void test_find_by_image_offset(void **state)
{
	static const struct {
		uint64_t off;
		int64_t want; /* -1: none */
	} cases[] = {
		{0, -1},     {8191, -1},       {8192, 0},  {13191, 0},
		{13192, -1}, {16383, -1},      {16384, 1}, {20479, 1},
		{20480, 2},  {20579, 2},       {20580, 3}, {20581, -1},
		{24576, -1}, {UINT64_MAX, -1},
	};
	struct table t = table_new();
	struct chunks c;

	(void)state;
	assert_int_equal(chunks_open(&c, &t, sizeof(t), NULL), 0);
	for (size_t n = 0; n < ARRAY_SIZE(cases); n++) {
		uint64_t i = 99;

		if (cases[n].want < 0) {
			assert_int_equal(chunks_find(&c, cases[n].off, &i),
					 -ENODATA);
			assert_int_equal(i, 99);
		} else {
			assert_int_equal(chunks_find(&c, cases[n].off, &i), 0);
			assert_int_equal(i, cases[n].want);
		}
	}
}

static void test_find_by_blob_offset(void **state)
{
	struct table t = table_new();
	struct chunks c;

	(void)state;
	assert_int_equal(chunks_open(&c, &t, sizeof(t), NULL), 0);
	assert_int_equal(chunks_find_blob(&c, 0), 0);
	assert_int_equal(chunks_find_blob(&c, 1000), 0);
	assert_int_equal(chunks_find_blob(&c, 1001), 1);
	assert_int_equal(chunks_find_blob(&c, 1500), 1);
	assert_int_equal(chunks_find_blob(&c, 1501), 3);
	assert_int_equal(chunks_find_blob(&c, 3001), 4);
}

static void test_member(void **state)
{
	struct table t = table_new();
	struct chunks c;
	uint64_t first, n;

	(void)state;
	assert_int_equal(chunks_open(&c, &t, sizeof(t), NULL), 0);
	for (uint64_t i = 1; i <= 2; i++) {
		chunks_member(&c, i, &first, &n);
		assert_int_equal(first, 1);
		assert_int_equal(n, 2);
	}
	chunks_member(&c, 3, &first, &n);
	assert_int_equal(first, 3);
	assert_int_equal(n, 1);
}

static void test_empty_table(void **state)
{
	struct table t = table_new();
	struct chunks c;
	uint64_t i;

	(void)state;
	t.h.n_chunks = 0;
	assert_int_equal(chunks_open(&c, &t, sizeof(t.h), NULL), 0);
	assert_int_equal(chunks_find(&c, 8192, &i), -ENODATA);
	assert_int_equal(chunks_find_blob(&c, 0), 0);
}

static void refused(const struct table *t, int code, const char *text)
{
	struct err e = {0};
	struct chunks c;

	assert_int_equal(chunks_open(&c, t, sizeof(*t), &e), code);
	assert_non_null(strstr(e.text, text));
}

#define REFUSED(field, v, code, text)            \
	do {                                     \
		struct table bad_ = table_new(); \
		bad_.field = (v);                \
		refused(&bad_, code, text);      \
	} while (0)

static void test_bad_headers(void **state)
{
	(void)state;
	REFUSED(h.magic[0], 'x', -EBADMSG, "not a chunk table");
	REFUSED(h.version, 2, -EOPNOTSUPP, "version 2");
	REFUSED(h.flags, 8, -EOPNOTSUPP, "flags");
	REFUSED(h.n_chunks, 3, -EBADMSG, "3 chunks");
	REFUSED(h.n_chunks, UINT64_MAX, -EBADMSG, "chunks");
	REFUSED(h.toc_off, 12001, -EBADMSG, "header");
	REFUSED(h.prefetch_end, 10001, -EBADMSG, "header");
	REFUSED(h.image_bytes, 24577, -EBADMSG, "header");
	REFUSED(h.image_bytes, UINT64_C(1) << 63, -EBADMSG, "header");
	REFUSED(h.meta_len, 8193, -EBADMSG, "header");
	REFUSED(h.meta_len, 0, -EBADMSG, "header");
	REFUSED(h.meta_len, 28672, -EBADMSG, "header");
	REFUSED(h.codec, 0, -EBADMSG, "header");
	REFUSED(h.codec, 3, -EBADMSG, "header");
}

static void test_bad_records(void **state)
{
	(void)state;
	REFUSED(r[0].len, 0, -EBADMSG, "record 0");
	REFUSED(r[0].blob_len, 0, -EBADMSG, "record 0");
	REFUSED(r[0].image_off, 8191, -EBADMSG, "record 0");
	REFUSED(r[0].len, 8193, -EBADMSG, "record 1"); /* into the next */
	REFUSED(r[0].blob_len, 501, -EBADMSG, "record 1");
	REFUSED(r[1].len, 4097, -EBADMSG, "record 2");
	REFUSED(r[2].inner_off, 4607, -EBADMSG, "record 2");
	REFUSED(r[2].blob_len, 701, -EBADMSG, "record 2");
	REFUSED(r[2].blob_off, 1499, -EBADMSG, "record 2");
	REFUSED(r[3].blob_len, 7001, -EBADMSG, "record 3"); /* over the TOC */
	REFUSED(r[3].blob_off, UINT64_MAX, -EBADMSG, "record 3");
	REFUSED(r[3].image_off, 24576, -EBADMSG, "record 3");
	REFUSED(r[3].image_off, UINT64_MAX, -EBADMSG, "record 3");
	REFUSED(r[3].len, 3997, -EBADMSG, "record 3");
	REFUSED(r[3].len, UINT64_MAX, -EBADMSG, "record 3");
	REFUSED(r[3].inner_off, UINT64_MAX, -EBADMSG, "record 3");
	REFUSED(r[3].digest[0], 0, -EBADMSG, "record 3");
}

static void test_missing_digest_if_the_header_says_so(void **state)
{
	struct table t = table_new();
	struct chunks c;
	struct chunk k;

	(void)state;
	t.h.flags = CHUNKS_F_UNVERIFIED;
	t.r[3].digest[0] = 0;
	assert_int_equal(chunks_open(&c, &t, sizeof(t), NULL), 0);
	chunks_get(&c, 3, &k);
	assert_false(k.has_digest);
}

static void test_truncated_anywhere(void **state)
{
	struct table t = table_new();

	(void)state;
	for (size_t n = 0; n < sizeof(t); n++) {
		uint8_t *copy = malloc(n + 1);
		struct chunks c;

		assert_non_null(copy);
		memcpy(copy + 1, &t, n);
		assert_int_equal(chunks_open(&c, copy + 1, n, NULL), -EBADMSG);
		free(copy);
	}
}

static void test_digest_finds_any_bit_flipped(void **state)
{
	struct table t = table_new();
	struct sha256 *h = sha256_new();
	struct chunks c;

	(void)state;
	assert_non_null(h);
	assert_int_equal(chunks_open(&c, &t, sizeof(t), NULL), 0);
	assert_true(chunks_verify(&c, meta, h));
	for (size_t bit = 0; bit < sizeof(t) * 8; bit++) {
		uint8_t *p = (uint8_t *)&t + bit / 8;

		*p ^= (uint8_t)(1 << bit % 8);
		if (chunks_open(&c, &t, sizeof(t), NULL) == 0) {
			/* A wrong meta_len would be bounded by the caller. */
			if (c.meta_len == sizeof(meta))
				assert_false(chunks_verify(&c, meta, h));
			for (uint64_t i = 0; i < c.n; i++) {
				uint64_t first, n;

				chunks_member(&c, i, &first, &n);
				assert_true(first <= i && i < first + n);
			}
		}
		*p ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(chunks_open(&c, &t, sizeof(t), NULL), 0);
	meta[77] ^= 1;
	assert_false(chunks_verify(&c, meta, h));
	sha256_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_comes_back),
		cmocka_unit_test(test_record_comes_back),
		cmocka_unit_test(test_find_by_image_offset),
		cmocka_unit_test(test_find_by_blob_offset),
		cmocka_unit_test(test_member),
		cmocka_unit_test(test_empty_table),
		cmocka_unit_test(test_bad_headers),
		cmocka_unit_test(test_bad_records),
		cmocka_unit_test(test_missing_digest_if_the_header_says_so),
		cmocka_unit_test(test_truncated_anywhere),
		cmocka_unit_test(test_digest_finds_any_bit_flipped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
