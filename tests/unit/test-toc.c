/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Golden blobs, tests/data/ok/toc-*.blob: one small tar, converted by
 * ctr-remote 0.12 (estargz, estargz-chunked with chunks of 4 KiB, zstd) and
 * by skopeo 1.9 (zstd-podman); estargz-gnu is the same from a GNU tar, and
 * estargz-empty comes from an empty one.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <libdeflate.h>

#include "common/codec.h"
#include "common/limits.h"
#include "common/rd.h"
#include "common/toc.h"

#define BLOB_BYTES_MAX 65536u

static const struct golden {
	const char *name;
	enum toc_format format;
	uint32_t n_entries;
	/* The annotation of the layer; for podman, of the decoded TOC. */
	const char *digest;
} goldens[] = {
	{"estargz", TOC_ESTARGZ, 21,
	 "sha256:4dcee8ed53deeb2edfc2b36b608c054590b8de1904fea42aeafb2b9da660"
	 "95cd"},
	{"estargz-chunked", TOC_ESTARGZ, 27,
	 "sha256:352629b735ba017c997d8e4c380d7360206cd430cf8f57ffdeca33848f82"
	 "f4ce"},
	{"estargz-gnu", TOC_ESTARGZ, 18,
	 "sha256:212397ea9f308732ab0cf0c9826213b998bd4345b567e081cb82b4a32a32"
	 "e51c"},
	{"estargz-empty", TOC_ESTARGZ, 1,
	 "sha256:42ae44ee4a0934ad867fd5d1726da9d2e28fa42579b10f4782e62c2882a6"
	 "5495"},
	{"zstd", TOC_ZSTD_CHUNKED, 21,
	 "sha256:248f5643b3efb503eaea1566b84c6c865c98eb202f769df10e4c8e8bd425"
	 "7669"},
	{"zstd-podman", TOC_ZSTD_CHUNKED, 20,
	 "sha256:5adbaed2baf992558ab2407fe5dca94b9c19180957aac3b524a997dc28f5"
	 "3ec7"},
};

struct blob {
	uint8_t p[BLOB_BYTES_MAX];
	size_t len;
	struct toc_footer f;
	struct buf json;
	struct toc *toc;
};

static void blob_read(const char *name, struct blob *b)
{
	const char *top = getenv("top_srcdir");
	char path[512];
	FILE *f;

	*b = (struct blob){.json = BUF_INIT(0)};
	snprintf(path, sizeof(path), "%s/tests/data/ok/toc-%s.blob",
		 top != NULL ? top : ".", name);
	f = fopen(path, "rb");
	assert_non_null(f);
	b->len = fread(b->p, 1, sizeof(b->p), f);
	assert_in_range(b->len, 1, sizeof(b->p) - 1);
	fclose(f);
}

static int blob_footer(struct blob *b, struct err *e)
{
	size_t n = MIN(b->len, (size_t)TOC_FOOTER_BYTES_MAX);

	return toc_footer_parse(b->p + b->len - n, n, b->len, &b->f, e);
}

static void blob_load(const char *name, struct blob *b)
{
	struct err e = {0};

	blob_read(name, b);
	assert_int_equal(blob_footer(b, &e), 0);
	assert_int_equal(toc_decode(&b->f, b->p + b->f.toc_off, b->f.toc_len,
				    &b->json, &e),
			 0);
}

static void blob_parse(struct blob *b)
{
	struct err e = {0};

	if (toc_parse(b->json.p, b->json.len, &b->toc, &e) < 0)
		fail_msg("%s", e.text);
}

static void blob_done(struct blob *b)
{
	toc_free(b->toc);
	buf_done(&b->json);
}

static const struct toc_entry *find(const struct toc *t, const char *name)
{
	for (uint32_t i = 0; i < t->n_entries; i++) {
		if (strcmp(t->entries[i].name, name) == 0)
			return &t->entries[i];
	}
	fail_msg("no entry %s", name);
	return NULL;
}

static void digest_of(const void *p, size_t n, struct digest *d)
{
	struct sha256 *h = sha256_new();

	assert_non_null(h);
	sha256_all(h, p, n, d);
	sha256_free(h);
}

static void test_toc_golden_digests(void **state)
{
	struct blob b;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(goldens); i++) {
		char s[DIGEST_STR_BYTES];
		struct digest d;

		blob_load(goldens[i].name, &b);
		assert_int_equal(b.f.format, goldens[i].format);
		digest_of(b.json.p, b.json.len, &d);
		assert_string_equal(digest_str(&d, s), goldens[i].digest);
		assert_int_equal(b.json.max, TOC_JSON_BYTES_MAX);
		assert_int_equal(b.json.p[b.json.len], '\0');
		blob_parse(&b);
		assert_int_equal(b.toc->n_entries, goldens[i].n_entries);
		blob_done(&b);
	}
}

static void check_common(const struct toc *t)
{
	const struct toc_entry *x = find(t, "");

	assert_int_equal(x->type, TOC_DIR);
	assert_int_equal(x->mode, 0755);
	x = find(t, "bin/su");
	assert_int_equal(x->type, TOC_REG);
	assert_int_equal(x->mode, 04755);
	assert_int_equal(x->size, 304);
	assert_true(x->mtime == 1600000000);
	assert_true(x->has_chunk_digest);
	x = find(t, "bin/wall");
	assert_int_equal(x->mode, 02755);
	assert_int_equal(x->gid, 5);
	assert_int_equal(find(t, "tmp")->mode, 01777);
	x = find(t, "bin/sh");
	assert_int_equal(x->type, TOC_SYMLINK);
	assert_string_equal(x->link, "busybox <&> \"q\"\\x");
	x = find(t, "bin/su2");
	assert_int_equal(x->type, TOC_HARDLINK);
	assert_string_equal(x->link, "bin/su");
	assert_int_equal(x->link_len, 6);
	x = find(t, "dev/null");
	assert_int_equal(x->type, TOC_CHAR);
	assert_int_equal(x->devmajor, 1);
	assert_int_equal(x->devminor, 3);
	x = find(t, "dev/loop0");
	assert_int_equal(x->type, TOC_BLOCK);
	assert_int_equal(x->devmajor, 7);
	assert_int_equal(x->devminor, 0);
	assert_int_equal(find(t, "run/fifo")->type, TOC_FIFO);
	x = find(t, "etc/empty");
	assert_int_equal(x->size, 0);
	assert_int_equal(x->uid, 1000);
	assert_int_equal(x->gid, 1000);
	(void)find(t, "etc/h\xc3\xa9llo \xf0\x9f\x98\x80 <x>&y");
	assert_true(find(t, "old")->mtime == 0);
	(void)find(t, ".wh.gone");
	assert_int_equal(find(t, "random")->size, 3000);
}

static void test_toc_golden_entries(void **state)
{
	struct blob b;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(goldens); i++) {
		if (goldens[i].n_entries == 1)
			continue;
		blob_load(goldens[i].name, &b);
		blob_parse(&b);
		check_common(b.toc);
		blob_done(&b);
	}
}

static void test_toc_golden_pax_entries(void **state)
{
	static const struct {
		const char *name;
		const char *value;
		uint32_t len;
	} want[] = {
		{"security.capability", "\1\0\0\2\0\x20\0\0", 8},
		{"user.bin", "\xff\xfe\0\x80", 4},
		{"user.empty2", "\1", 1},
		{"user.k", "v", 1},
	};
	const struct toc_entry *x;
	struct blob b;

	(void)state;
	blob_load("estargz", &b);
	blob_parse(&b);
	x = find(b.toc, "x");
	assert_int_equal(x->n_xattrs, ARRAY_SIZE(want));
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		assert_string_equal(x->xattrs[i].name, want[i].name);
		assert_int_equal(x->xattrs[i].value_len, want[i].len);
		assert_memory_equal(x->xattrs[i].value, want[i].value,
				    want[i].len);
	}
	assert_true(find(b.toc, "neg")->mtime == -86400 * 365);
	assert_int_equal(find(b.toc, "ids")->uid, 3000000000u);
	assert_int_equal(find(b.toc, "ids")->gid, 4294967294u);
	blob_done(&b);
}

static void test_toc_golden_chunks(void **state)
{
	const struct toc_entry *x;
	struct blob b;

	(void)state;
	blob_load("estargz-chunked", &b);
	blob_parse(&b);
	x = find(b.toc, "big");
	assert_int_equal(x->size, 25680);
	for (uint32_t i = 0; i < 7; i++) {
		assert_int_equal(x[i].type, i == 0 ? TOC_REG : TOC_CHUNK);
		assert_string_equal(x[i].name, "big");
		assert_int_equal(x[i].chunk_offset, i * 4096);
		/* The last one has no size: up to the end. */
		assert_int_equal(x[i].chunk_size, i < 6 ? 4096 : 0);
		assert_true(x[i].has_chunk_digest);
	}
	assert_int_not_equal(x[7].type, TOC_CHUNK);
	blob_done(&b);
}

/* The end of a chunk's bytes: where the next begins, or the TOC. */
static uint64_t chunk_end(const struct blob *b, uint64_t off)
{
	uint64_t end = b->f.toc_off;

	for (uint32_t i = 0; i < b->toc->n_entries; i++) {
		uint64_t o = b->toc->entries[i].offset;

		if (o > off)
			end = MIN(end, o);
	}
	return end;
}

static void test_toc_golden_chunks_decode_in_one_shot(void **state)
{
	static uint8_t dst[BLOB_BYTES_MAX * 2];
	struct blob b;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(goldens); i++) {
		struct codec *c = codec_new();
		enum codec_kind kind = CODEC_GZIP;
		uint64_t oneshot, streamed, n = 0, size = 0;

		blob_load(goldens[i].name, &b);
		blob_parse(&b);
		if (b.f.format == TOC_ZSTD_CHUNKED)
			kind = CODEC_ZSTD;
		for (uint32_t k = 0; k < b.toc->n_entries; k++) {
			const struct toc_entry *x = &b.toc->entries[k];
			uint64_t need;
			struct digest d;

			if (x->type == TOC_REG)
				size = x->size;
			need = x->chunk_size != 0 ? x->chunk_size
						  : size - x->chunk_offset;
			if ((x->type != TOC_REG && x->type != TOC_CHUNK) ||
			    size == 0)
				continue;
			assert_int_equal(codec_decode(c, kind, b.p + x->offset,
						      chunk_end(&b, x->offset) -
							      x->offset,
						      dst,
						      need + BLOB_BYTES_MAX,
						      need, false),
					 0);
			digest_of(dst, need, &d);
			assert_true(x->has_chunk_digest);
			assert_true(digest_equal(&d, &x->chunk_digest));
			n++;
		}
		codec_counts(c, &oneshot, &streamed);
		assert_true(oneshot >= n);
		assert_int_equal(streamed, 0);
		codec_free(c);
		blob_done(&b);
	}
}

static const char estargz_footer[] =
	"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0"
	"0000000000000100STARGZ"
	"\x01\0\0\xff\xff\0\0\0\0\0\0\0\0";
static const char stargz_footer[] = "\x1f\x8b\x08\x04\0\0\0\0\0\xff\x16\0"
				    "0000000000000100STARGZ"
				    "\x01\0\0\xff\xff\0\0\0\0\0\0\0\0";
static const char external_footer[] =
	"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x15\0SG\x11\0"
	"STARGZEXTERNALTOC"
	"\x01\0\0\xff\xff\0\0\0\0\0\0\0\0";
static const char zstd_footer[] =
	"\x50\x2a\x4d\x18\x28\0\0\0"
	"\0\x01\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0"
	"\x01\0\0\0\0\0\0\0GnUlInUx";
static const char zstd_split_footer[] =
	"\x50\x2a\x4d\x18\x40\0\0\0"
	"\0\x01\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0"
	"\x01\0\0\0\0\0\0\0\x18\x01\0\0\0\0\0\0\x08\0\0\0\0\0\0\0"
	"\x20\0\0\0\0\0\0\0GNUlInUx";

/* A footer at the end of a blob of size bytes, with @at (if >= 0) changed. */
static int footer(const char *p, size_t len, int at, int to, uint64_t size,
		  struct toc_footer *f, struct err *e)
{
	uint8_t copy[80];

	assert_true(len <= sizeof(copy));
	memcpy(copy, p, len);
	if (at >= 0)
		copy[at] = (uint8_t)to;
	return toc_footer_parse(copy, len, size, f, e);
}

#define FOOTER(p, at, to, size, f, e) \
	footer(p, sizeof(p) - 1, at, to, size, f, e)

static void test_footer_of_each_format(void **state)
{
	struct toc_footer f;
	struct err e = {0};

	(void)state;
	assert_int_equal(sizeof(estargz_footer) - 1, 51);
	assert_int_equal(FOOTER(estargz_footer, -1, 0, 1000, &f, &e), 0);
	assert_int_equal(f.format, TOC_ESTARGZ);
	assert_int_equal(f.toc_off, 256);
	assert_int_equal(f.toc_len, 1000 - 51 - 256);
	assert_int_equal(f.toc_json_len, 0);
	assert_int_equal(sizeof(stargz_footer) - 1, 47);
	assert_int_equal(FOOTER(stargz_footer, -1, 0, 1000, &f, &e), 0);
	assert_int_equal(f.format, TOC_STARGZ);
	assert_int_equal(f.toc_off, 256);
	assert_int_equal(f.toc_len, 1000 - 47 - 256);
	assert_int_equal(sizeof(zstd_footer) - 1, 48);
	assert_int_equal(FOOTER(zstd_footer, -1, 0, 1000, &f, &e), 0);
	assert_int_equal(f.format, TOC_ZSTD_CHUNKED);
	assert_int_equal(f.toc_off, 256);
	assert_int_equal(f.toc_len, 16);
	assert_int_equal(f.toc_json_len, 64);
	assert_int_equal(sizeof(zstd_split_footer) - 1, 72);
	assert_int_equal(FOOTER(zstd_split_footer, -1, 0, 1000, &f, &e), 0);
	assert_int_equal(f.format, TOC_ZSTD_CHUNKED);
	assert_int_equal(f.toc_off, 256);
	assert_int_equal(f.toc_len, 16);
	assert_int_equal(f.toc_json_len, 64);
	/* A layer of nothing: the TOC is at the start of the blob. */
	assert_int_equal(FOOTER(estargz_footer, 29, '0', 1000, &f, &e), 0);
	assert_int_equal(f.toc_off, 0);
	assert_int_equal(f.toc_len, 1000 - 51);
	/* Without the frame's header in front. */
	assert_int_equal(toc_footer_parse((const uint8_t *)zstd_footer + 8, 40,
					  1000, &f, &e),
			 0);
	assert_int_equal(
		toc_footer_parse((const uint8_t *)zstd_split_footer + 8, 64,
				 1000, &f, &e),
		0);
}

static void test_footer_external_toc_is_told_apart(void **state)
{
	struct toc_footer f;
	struct err e = {0};

	(void)state;
	assert_int_equal(sizeof(external_footer) - 1, 46);
	assert_int_equal(FOOTER(external_footer, -1, 0, 1000, &f, &e),
			 -EOPNOTSUPP);
	assert_non_null(strstr(e.text, "external TOC"));
	/* Without FEXTRA there is no extra field to look at. */
	assert_int_equal(FOOTER(external_footer, 3, 0, 1000, &f, &e), -EBADMSG);
}

static const struct {
	const char *p;
	size_t len;
	int at, to;
	uint64_t size;
	int r;
	const char *text;
} bad_footers[] = {
#define BAD(p, at, to, size, r, text)                   \
	{                                               \
		p, sizeof(p) - 1, at, to, size, r, text \
	}
	BAD(estargz_footer, 0, 0, 1000, -EBADMSG, "none"),
	BAD(estargz_footer, 1, 0, 1000, -EBADMSG, "none"),
	BAD(estargz_footer, 2, 9, 1000, -EBADMSG, "none"),
	BAD(estargz_footer, 3, 0, 1000, -EBADMSG, "none"),
	BAD(estargz_footer, 10, 0x16, 1000, -EBADMSG, "none"),
	BAD(estargz_footer, 12, 'X', 1000, -EBADMSG, "none"),
	BAD(estargz_footer, 14, 0x15, 1000, -EBADMSG, "none"),
	/* As printf writes a negative number; ParseInt took it. */
	BAD(estargz_footer, 16, '-', 1000, -EBADMSG, "none"),
	BAD(estargz_footer, 16, '+', 1000, -EBADMSG, "none"),
	BAD(estargz_footer, 20, ' ', 1000, -EBADMSG, "none"),
	BAD(estargz_footer, 31, 'F', 1000, -EBADMSG, "none"),
	BAD(estargz_footer, 31, 'g', 1000, -EBADMSG, "none"),
	BAD(estargz_footer, 37, 'z', 1000, -EBADMSG, "none"),
	BAD(estargz_footer, 38, 3, 1000, -EBADMSG, "none"),
	BAD(estargz_footer, 50, 1, 1000, -EBADMSG, "none"),
	BAD(estargz_footer, 16, '8', 1000, -EBADMSG, "not inside"),
	BAD(estargz_footer, -1, 0, 256 + 51, -EBADMSG, "not inside"),
	BAD(estargz_footer, -1, 0, 51, -EBADMSG, "not inside"),
	BAD(estargz_footer, -1, 0, MIB(64) + 256 + 52, -EOVERFLOW,
	    "over the limit"),
	BAD(stargz_footer, 12, '-', 1000, -EBADMSG, "none"),
	BAD(stargz_footer, -1, 0, 47, -EBADMSG, "not inside"),
	BAD(external_footer, 16, 's', 1000, -EBADMSG, "none"),
	BAD(zstd_footer, 0, 0, 1000, -EBADMSG, "zstd frame"),
	BAD(zstd_footer, 4, 0x40, 1000, -EBADMSG, "zstd frame"),
	BAD(zstd_footer, 15, 0x80, 1000, -EBADMSG, "not inside"),
	BAD(zstd_footer, 9, 0, 1000, -EBADMSG, "no TOC"),
	BAD(zstd_footer, 16, 0, 1000, -EBADMSG, "not inside"),
	BAD(zstd_footer, 23, 0xff, 1000, -EBADMSG, "not inside"),
	BAD(zstd_footer, 19, 0x04, MIB(1000), -EOVERFLOW, "over the limit"),
	BAD(zstd_footer, 24, 0, 1000, -EBADMSG, "no TOC"),
	BAD(zstd_footer, 28, 1, 1000, -EOVERFLOW, "over the limit"),
	BAD(zstd_footer, 32, 2, 1000, -EBADMSG, "unknown type 2"),
	BAD(zstd_footer, 47, 'X', 1000, -EBADMSG, "none"),
	BAD(zstd_footer, -1, 0, 48, -EBADMSG, "not inside"),
	BAD(zstd_footer, -1, 0, 256 + 15 + 48, -EBADMSG, "not inside"),
	BAD(zstd_split_footer, 4, 0x28, 1000, -EBADMSG, "zstd frame"),
	BAD(zstd_split_footer, -1, 0, 72, -EBADMSG, "not inside"),
#undef BAD
};

static void test_footer_rules(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad_footers); i++) {
		struct toc_footer f = {.toc_off = 7};
		struct err e = {0};

		assert_int_equal(footer(bad_footers[i].p, bad_footers[i].len,
					bad_footers[i].at, bad_footers[i].to,
					bad_footers[i].size, &f, &e),
				 bad_footers[i].r);
		assert_int_equal(e.code, bad_footers[i].r);
		if (strstr(e.text, bad_footers[i].text) == NULL)
			fail_msg("%zu: %s", i, e.text);
		assert_int_equal(f.toc_off, 7);
	}
}

static void test_footer_cut_off_or_flipped(void **state)
{
	static const struct {
		const char *p;
		size_t len;
	} all[] = {
		{estargz_footer, sizeof(estargz_footer) - 1},
		{stargz_footer, sizeof(stargz_footer) - 1},
		{external_footer, sizeof(external_footer) - 1},
		{zstd_footer + 8, 40},
		{zstd_split_footer + 8, 64},
	};
	struct toc_footer f;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		const uint8_t *p = (const uint8_t *)all[i].p;
		size_t len = all[i].len;

		/* Cut off in front, and behind. */
		for (size_t n = 0; n < len; n++) {
			assert_int_equal(
				toc_footer_parse(p + len - n, n, 1000, &f, &e),
				-EBADMSG);
			assert_int_equal(toc_footer_parse(p, n, 1000, &f, &e),
					 -EBADMSG);
		}
		for (size_t k = 0; k < len * 8; k++) {
			int r = footer(all[i].p, len, (int)(k / 8),
				       p[k / 8] ^ (1 << k % 8), 1000, &f, &e);

			if (r < 0)
				continue;
			assert_true(f.toc_off < 1000);
			assert_true(f.toc_len <= 1000 - f.toc_off);
		}
	}
}

/* A gzip member of a tar: n blocks and data, wholly up to the caller. */
struct tarball {
	uint8_t p[8 * 512];
	size_t len;
};

static uint8_t *tar_header(struct tarball *t, const char *name, char type,
			   size_t size)
{
	uint8_t *h = t->p + t->len;

	assert_true(t->len + 512 <= sizeof(t->p));
	memset(h, 0, 512);
	memcpy(h, name, strlen(name));
	snprintf((char *)h + 124, 12, "%011o", (unsigned int)size);
	h[156] = (uint8_t)type;
	memcpy(h + 257,
	       "ustar\0"
	       "00",
	       8);
	t->len += 512;
	return h;
}

static void tar_sum(uint8_t *h)
{
	unsigned int sum = 0;

	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < 512; i++)
		sum += h[i];
	snprintf((char *)h + 148, 8, "%06o", sum);
	h[155] = ' ';
}

static void tar_data(struct tarball *t, const char *data)
{
	size_t n = strlen(data);

	assert_true(t->len + n + 512 <= sizeof(t->p));
	memset(t->p + t->len, 0, ALIGN_UP(n, (size_t)512));
	memcpy(t->p + t->len, data, n);
	t->len += ALIGN_UP(n, (size_t)512);
}

/* Compresses and decodes it. */
static int tar_decode(const struct tarball *t, struct buf *json, struct err *e)
{
	struct libdeflate_compressor *c = libdeflate_alloc_compressor(1);
	uint8_t gz[sizeof(t->p) + 100];
	struct toc_footer f = {.format = TOC_ESTARGZ};

	*e = (struct err){0};
	f.toc_len = libdeflate_gzip_compress(c, t->p, t->len, gz, sizeof(gz));
	libdeflate_free_compressor(c);
	assert_int_not_equal(f.toc_len, 0);
	return toc_decode(&f, gz, f.toc_len, json, e);
}

static void test_decode_tar_variants(void **state)
{
	static const char pax[] =
		"10 size=5\n26 path=stargz.index.json\n11 mtime=1\n";
	struct buf json = BUF_INIT(0);
	struct tarball t = {.len = 0};
	struct err e;
	uint8_t *h;

	(void)state;
	h = tar_header(&t, "stargz.index.json", '0', 5);
	tar_sum(h);
	tar_data(&t, "hello");
	assert_int_equal(tar_decode(&t, &json, &e), 0);
	assert_string_equal(json.p, "hello");
	/* Old regular files, GNU's magic, GNU's binary numbers. */
	h[156] = 0;
	memcpy(h + 257, "ustar  ", 8);
	memcpy(h + 124, "\x80\0\0\0\0\0\0\0\0\0\0\x05", 12);
	tar_sum(h);
	assert_int_equal(tar_decode(&t, &json, &e), 0);
	assert_string_equal(json.p, "hello");
	/* PAX: global ones are not looked at, path and size override. */
	t.len = 0;
	h = tar_header(&t, "g", 'g', 13);
	tar_sum(h);
	tar_data(&t, "13 comment=x\n");
	tar_sum(tar_header(&t, "x", 'x', strlen(pax)));
	tar_data(&t, pax);
	h = tar_header(&t, "other", '0', 0);
	tar_sum(h);
	tar_data(&t, "hello");
	if (tar_decode(&t, &json, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(json.p, "hello");
	buf_done(&json);
}

static void test_decode_tar_rules(void **state)
{
	static const struct {
		size_t at;
		const char *to;
		size_t n;
		bool sum;
		int r;
		const char *text;
	} bad[] = {
		{0, "x", 1, true, -EBADMSG, "not stargz.index.json"},
		{17, "x", 1, true, -EBADMSG, "not stargz.index.json"},
		{345, "x", 1, true, -EBADMSG, "not stargz.index.json"},
		{0, "x", 1, false, -EBADMSG, "checksum"},
		{148, "zz", 2, false, -EBADMSG, "checksum"},
		{156, "5", 1, true, -EBADMSG, "not a file"},
		{156, "L", 1, true, -EBADMSG, "not a file"},
		{257, "tar", 3, true, -EBADMSG, "not a tar"},
		{263, "xx", 2, true, -EBADMSG, "not a tar"},
		{124, "8", 1, true, -EBADMSG, "bad tar size"},
		{124, "-1", 2, true, -EBADMSG, "bad tar size"},
		{124, "\0", 1, true, -EBADMSG, "bad tar size"},
		{124, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12,
		 true, -EBADMSG, "bad tar size"},
		{124, "77777777777", 11, true, -EOVERFLOW, "over the limit"},
		{124, "01000000001", 11, true, -EOVERFLOW, "over the limit"},
		{124, "01000000000", 11, true, -EBADMSG, "shorter"},
		{124, "00000002000", 11, true, -EBADMSG, "shorter"},
		{156, "x", 1, true, -EBADMSG, "bad PAX header"},
		{156, "x\0", 2, true, -EBADMSG, "bad PAX header"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct buf json = BUF_INIT(0);
		struct tarball t = {.len = 0};
		struct err e;
		uint8_t *h = tar_header(&t, "stargz.index.json", '0', 5);

		memcpy(h + bad[i].at, bad[i].to, bad[i].n);
		if (bad[i].sum)
			tar_sum(h);
		else
			memcpy(h + 148, "000000\0 ", 8);
		tar_data(&t, "hello");
		assert_int_equal(tar_decode(&t, &json, &e), bad[i].r);
		if (strstr(e.text, bad[i].text) == NULL)
			fail_msg("%zu: %s", i, e.text);
		assert_null(json.p);
	}
}

static void test_decode_pax_rules(void **state)
{
	static const char *const bad[] = {
		"x",
		"10",
		"10 ",
		"0 a=b\n",
		"3 \n",
		"6 a=b\nx",
		"7 a=b\n",
		"5 a=b\n",
		"99999 a=b\n",
		"6 abc\n",
		"14 path=other\n",
		"9 size=\n",
		"10 size=x\n",
		"11 size=-5\n",
		"26 size=99999999999999999\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct buf json = BUF_INIT(0);
		struct tarball t = {.len = 0};
		struct err e;

		tar_sum(tar_header(&t, "x", 'x', strlen(bad[i])));
		tar_data(&t, bad[i]);
		tar_sum(tar_header(&t, "stargz.index.json", '0', 5));
		tar_data(&t, "hello");
		assert_int_equal(tar_decode(&t, &json, &e), -EBADMSG);
		if (strstr(e.text, "PAX") == NULL)
			fail_msg("%zu: %s", i, e.text);
	}
}

static void test_decode_cut_off_or_flipped(void **state)
{
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(goldens); i++) {
		struct buf json = BUF_INIT(0);
		struct blob b;
		uint8_t *p;
		int r;

		blob_load(goldens[i].name, &b);
		p = b.p + b.f.toc_off;
		for (size_t n = 0; n < b.f.toc_len; n++) {
			struct toc_footer f = b.f;

			f.toc_len = n;
			r = toc_decode(&f, p, n, &json, &e);
			/* The end of the member is not needed. */
			if (r == 0)
				assert_memory_equal(json.p, b.json.p,
						    b.json.len);
			else
				assert_int_equal(r, -EBADMSG);
		}
		for (size_t k = 0; k < b.f.toc_len * 8; k++) {
			p[k / 8] ^= (uint8_t)(1 << k % 8);
			r = toc_decode(&b.f, p, b.f.toc_len, &json, &e);
			assert_true(r == 0 || r == -EBADMSG || r == -EOVERFLOW);
			p[k / 8] ^= (uint8_t)(1 << k % 8);
		}
		/* Not the length the footer has. */
		assert_int_equal(
			toc_decode(&b.f, p, b.f.toc_len - 1, &json, &e),
			-EBADMSG);
		buf_done(&json);
		blob_done(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_toc_golden_digests),
		cmocka_unit_test(test_toc_golden_entries),
		cmocka_unit_test(test_toc_golden_pax_entries),
		cmocka_unit_test(test_toc_golden_chunks),
		cmocka_unit_test(test_toc_golden_chunks_decode_in_one_shot),
		cmocka_unit_test(test_footer_of_each_format),
		cmocka_unit_test(test_footer_external_toc_is_told_apart),
		cmocka_unit_test(test_footer_rules),
		cmocka_unit_test(test_footer_cut_off_or_flipped),
		cmocka_unit_test(test_decode_tar_variants),
		cmocka_unit_test(test_decode_tar_rules),
		cmocka_unit_test(test_decode_pax_rules),
		cmocka_unit_test(test_decode_cut_off_or_flipped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
