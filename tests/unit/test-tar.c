/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/build/tar.h"
#include "tests/unit/memsource.h"
#include "tests/unit/mktar.h"

/* A reader over an archive, and its last entry and error. */
struct reader {
	struct memsource s;
	struct build_in in;
	struct tar *t;
	struct tar_entry x;
	struct err e;
};

static void begin(struct reader *r, const struct buf *b)
{
	r->s = (struct memsource){b->p, b->len, 0, 700};
	r->in = (struct build_in){memsource_read, &r->s};
	r->t = tar_new(&r->in);
	r->e = (struct err){0};
	assert_non_null(r->t);
}

static void done(struct reader *r)
{
	tar_free(r->t);
}

static void next(struct reader *r, uint8_t type, const char *name)
{
	int k = tar_next(r->t, &r->x, &r->e);

	if (k != 1)
		print_error("%s\n", r->e.text);
	assert_int_equal(k, 1);
	assert_int_equal(r->x.type, type);
	if (type != 0)
		assert_string_equal(r->x.name, name);
}

static void payload(struct reader *r, const char *want, size_t len)
{
	char got[8192];

	assert_int_equal(r->x.size, len);
	assert_int_equal(tar_read(r->t, got, sizeof(got), &r->e), len);
	assert_memory_equal(got, want, len);
	assert_int_equal(tar_read(r->t, got, sizeof(got), &r->e), 0);
}

static void end(struct reader *r)
{
	assert_int_equal(tar_next(r->t, &r->x, &r->e), 0);
	/* And it stays so. */
	assert_int_equal(tar_next(r->t, &r->x, &r->e), 0);
	done(r);
}

/* The first entry that is wrong gives this. */
static void bad(const struct buf *b, int code, const char *text)
{
	struct reader r;
	int k;

	begin(&r, b);
	while ((k = tar_next(r.t, &r.x, &r.e)) > 0)
		;
	assert_int_equal(k, code);
	if (strstr(r.e.text, text) == NULL)
		print_error("'%s' is not in '%s'\n", text, r.e.text);
	assert_non_null(strstr(r.e.text, text));
	done(&r);
}

static void test_types(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	struct reader r;

	(void)state;
	MKTAR(&b, .name = "./", .type = '5', .mode = 0755);
	MKTAR(&b, .name = "file", .data = "hello", .mode = 04755,
	      .format = MKTAR_USTAR);
	MKTAR(&b, .name = "name", .prefix = "a/long", .data = "x",
	      .format = MKTAR_USTAR);
	MKTAR(&b, .name = "ln", .type = '2', .link = "../x/",
	      .format = MKTAR_USTAR);
	MKTAR(&b, .name = "hard", .type = '1', .link = "./file", .size = 5);
	MKTAR(&b, .name = "chr", .type = '3', .major = 5, .minor = 0xfffff,
	      .format = MKTAR_USTAR);
	MKTAR(&b, .name = "blk", .type = '4', .major = 8, .minor = 1,
	      .format = MKTAR_USTAR);
	MKTAR(&b, .name = "/../fifo", .type = '6');
	MKTAR(&b, .name = "cont", .type = '7', .data = "c");
	mktar_end(&b);
	begin(&r, &b);
	next(&r, TOC_DIR, "");
	assert_int_equal(r.x.mode, 0755);
	assert_int_equal(r.x.uid, 1000);
	assert_int_equal(r.x.gid, 100);
	assert_int_equal(r.x.mtime, 1600000000);
	assert_string_equal(r.x.uname, "");
	next(&r, TOC_REG, "file");
	assert_int_equal(r.x.mode, 04755);
	assert_string_equal(r.x.uname, "user");
	assert_string_equal(r.x.gname, "group");
	assert_int_equal(r.x.head_off, 512);
	assert_int_equal(r.x.head_len, 512);
	assert_int_equal(r.x.data_off, 1024);
	assert_memory_equal(r.x.head, b.p + 512, 512);
	payload(&r, "hello", 5);
	next(&r, TOC_REG, "a/long/name");
	next(&r, TOC_SYMLINK, "ln");
	assert_string_equal(r.x.link, "../x/");
	next(&r, TOC_HARDLINK, "hard");
	assert_string_equal(r.x.link, "file");
	assert_int_equal(r.x.size, 0);
	next(&r, TOC_CHAR, "chr");
	assert_int_equal(r.x.devmajor, 5);
	assert_int_equal(r.x.devminor, 0xfffff);
	next(&r, TOC_BLOCK, "blk");
	next(&r, TOC_FIFO, "fifo");
	next(&r, TOC_REG, "cont");
	payload(&r, "c", 1);
	end(&r);
}

/* A slash at the end means a directory only where there is no type. */
static void test_v7(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	struct reader r;
	size_t at;

	(void)state;
	at = mktar_head(&b, &(struct mktar){.name = "dir/"});
	b.p[at + 156] = '\0';
	mktar_resum(&b, at);
	at = mktar_head(&b, &(struct mktar){.name = "file"});
	b.p[at + 156] = '\0';
	mktar_resum(&b, at);
	MKTAR(&b, .name = "slash/");
	mktar_end(&b);
	begin(&r, &b);
	next(&r, TOC_DIR, "dir");
	next(&r, TOC_REG, "file");
	next(&r, TOC_REG, "slash");
	end(&r);
}

static void test_pax(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1)), x = BUF_INIT(MIB(1));
	struct reader r;

	(void)state;
	mktar_pax(&b, "path", "is/replaced");
	mktar_record(&x, "path", "a/p\xff", 4);
	mktar_record(&x, "size", "3", 1);
	mktar_record(&x, "uid", "4294967295", 10);
	mktar_record(&x, "gid", "", 0);
	mktar_record(&x, "mtime", "-1.5", 4);
	mktar_record(&x, "uname", "u\xc3\xa4", 3);
	mktar_record(&x, "SCHILY.xattr.user.b", "\0\xff", 2);
	mktar_record(&x, "SCHILY.xattr.user.a", "1", 1);
	mktar_record(&x, "SCHILY.xattr.user.b", "", 0);
	mktar_record(&x, "LIBARCHIVE.xattr.user.c", "MQ", 2);
	mktar_record(&x, "comment", "=\n=", 3);
	mktar_ext(&b, 'x', x.p, x.len);
	MKTAR(&b, .name = "short", .data = "abc", .format = MKTAR_USTAR);
	MKTAR(&b, .name = "after", .format = MKTAR_USTAR);
	mktar_end(&b);
	begin(&r, &b);
	next(&r, TOC_REG, "a/p\xff");
	assert_int_equal(r.x.head_len, 5 * 512);
	assert_int_equal(r.x.uid, UINT32_MAX);
	assert_int_equal(r.x.gid, 100);
	assert_int_equal(r.x.mtime, -2);
	assert_string_equal(r.x.uname, "u\xc3\xa4");
	assert_int_equal(r.x.n_xattrs, 2);
	assert_string_equal(r.x.xattrs[0].name, "user.a");
	assert_string_equal(r.x.xattrs[1].name, "user.b");
	assert_int_equal(r.x.xattrs[1].value_len, 0);
	payload(&r, "abc", 3);
	/* Nothing of it is left for the next one. */
	next(&r, TOC_REG, "after");
	assert_int_equal(r.x.n_xattrs, 0);
	assert_int_equal(r.x.uid, 1000);
	end(&r);
}

static void test_global(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1)), x = BUF_INIT(MIB(1));
	struct reader r;

	(void)state;
	mktar_record(&x, "path", "no", 2);
	mktar_ext(&b, 'g', x.p, x.len);
	MKTAR(&b, .name = "yes", .format = MKTAR_USTAR);
	begin(&r, &b);
	next(&r, 0, NULL);
	assert_int_equal(r.x.head_len, 1024);
	next(&r, TOC_REG, "yes");
	end(&r);
}

static void test_gnu(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	char name[300], link[300];
	struct reader r;
	size_t at;

	(void)state;
	memset(name, 'n', sizeof(name));
	memset(link, 'l', sizeof(link));
	name[150] = '/';
	name[299] = link[299] = '\0';
	mktar_ext(&b, 'L', name, sizeof(name));
	mktar_ext(&b, 'K', link, sizeof(link));
	mktar_pax(&b, "path", "loses");
	at = mktar_head(&b, &(struct mktar){.name = name,
					    .type = '2',
					    .link = link,
					    .format = MKTAR_GNU});
	/* 2^31 and -1: more than there is room for in octal, and less. */
	memcpy(b.p + at + 108, "\x80\0\0\0\x80\0\0\0", 8);
	memset(b.p + at + 136, 0xff, 12);
	mktar_resum(&b, at);
	mktar_end(&b);
	begin(&r, &b);
	next(&r, TOC_SYMLINK, name);
	assert_string_equal(r.x.link, link);
	assert_int_equal(r.x.uid, 0x80000000);
	assert_int_equal(r.x.mtime, -1);
	end(&r);
}

/* The rewritten header is that of a plain file of the same bytes. */
static void check_sparse(const struct buf *b, const char *name,
			 const char *want, size_t len)
{
	CLEANUP_BUF struct buf plain = BUF_INIT(MIB(1));
	struct reader r, again;

	begin(&r, b);
	next(&r, TOC_REG, name);
	assert_true(r.x.sparse);
	mktar_add(&plain, r.x.head, r.x.head_len);
	payload(&r, want, len);
	next(&r, TOC_REG, "after");
	assert_false(r.x.sparse);
	payload(&r, "z", 1);
	end(&r);
	mktar_add(&plain, want, len);
	mktar_pad(&plain);
	begin(&again, &plain);
	next(&again, TOC_REG, name);
	assert_false(again.x.sparse);
	assert_int_equal(again.x.mtime, 1600000000);
	payload(&again, want, len);
	end(&again);
}

static void after(struct buf *b)
{
	MKTAR(b, .name = "after", .data = "z", .format = MKTAR_USTAR);
	mktar_end(b);
}

static void test_sparse_gnu(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	char ext[512] = {0}, want[5000] = {0};
	size_t at;

	(void)state;
	at = mktar_head(&b, &(struct mktar){.name = "sp",
					    .type = 'S',
					    .size = 9,
					    .format = MKTAR_GNU});
	for (unsigned i = 0; i < 4; i++) {
		mktar_octal(b.p + at + 386 + 24 * i, 12, i * 1000);
		mktar_octal(b.p + at + 398 + 24 * i, 12, 2);
	}
	b.p[at + 482] = 1;
	mktar_octal(b.p + at + 483, 12, 5000);
	mktar_resum(&b, at);
	mktar_octal(ext, 12, 4999);
	mktar_octal(ext + 12, 12, 1);
	mktar_add(&b, ext, sizeof(ext));
	mktar_add(&b, "aabbccdde", 9);
	mktar_pad(&b);
	after(&b);
	memcpy(want, "aa", 2);
	memcpy(want + 1000, "bb", 2);
	memcpy(want + 2000, "cc", 2);
	memcpy(want + 3000, "dd", 2);
	want[4999] = 'e';
	check_sparse(&b, "sp", want, sizeof(want));
}

static void test_sparse_pax(void **state)
{
	static const char *const maps[] = {"0.0", "0.1", "1.0"};
	char want[3000] = {0}, name[200];

	(void)state;
	memset(name, 'n', sizeof(name));
	name[199] = '\0';
	memcpy(want + 10, "abc", 3);
	memcpy(want + 2000, "def", 3);
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		CLEANUP_BUF struct buf b = BUF_INIT(MIB(1)), x = BUF_INIT(4096);

		mktar_record(&x, "SCHILY.xattr.user.a", "1", 1);
		if (i < 2) {
			mktar_record(&x, "GNU.sparse.size", "3000", 4);
			mktar_record(&x, "path", name, strlen(name));
		} else {
			mktar_record(&x, "GNU.sparse.major", "1", 1);
			mktar_record(&x, "GNU.sparse.minor", "0", 1);
			mktar_record(&x, "GNU.sparse.realsize", "3000", 4);
			mktar_record(&x, "GNU.sparse.name", name, strlen(name));
		}
		if (i == 0) {
			mktar_record(&x, "GNU.sparse.offset", "10", 2);
			mktar_record(&x, "GNU.sparse.numbytes", "3", 1);
			mktar_record(&x, "GNU.sparse.offset", "2000", 4);
			mktar_record(&x, "GNU.sparse.numbytes", "3", 1);
		} else if (i == 1) {
			mktar_record(&x, "GNU.sparse.map", "10,3,2000,3", 11);
		}
		mktar_ext(&b, 'x', x.p, x.len);
		(void)mktar_head(&b, &(struct mktar){.name = "GNUSparse/x",
						     .size = i < 2 ? 6 : 518,
						     .format = MKTAR_USTAR});
		if (i == 2) {
			mktar_add(&b, "2\n10\n3\n2000\n3\n", 14);
			mktar_pad(&b);
		}
		mktar_add(&b, "abcdef", 6);
		mktar_pad(&b);
		after(&b);
		check_sparse(&b, name, want, sizeof(want));
	}
}

static void test_bad_sparse(void **state)
{
	static const char *const maps[] = {
		"10,3,2000",
		"10,3,5,3",
		"10,3,2000,2",
		"10,3,2998,3",
		"-1,3,10,3",
		"10,x,20,3",
		"10,3,18446744073709551615,3",
		"0,9223372036854775807,0,9223372036854775807"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		CLEANUP_BUF struct buf b = BUF_INIT(MIB(1)), x = BUF_INIT(4096);

		mktar_record(&x, "GNU.sparse.size", "3000", 4);
		mktar_record(&x, "GNU.sparse.map", maps[i], strlen(maps[i]));
		mktar_ext(&b, 'x', x.p, x.len);
		MKTAR(&b, .name = "f", .data = "abcdef", .format = MKTAR_USTAR);
		mktar_end(&b);
		bad(&b, -EBADMSG, "bad");
	}
}

static void test_end(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1)), none = BUF_INIT(MIB(1));
	struct reader r;

	(void)state;
	MKTAR(&b, .name = "a", .data = "x");
	mktar_end(&b);
	MKTAR(&b, .name = "behind", .data = "y");
	begin(&r, &b);
	next(&r, TOC_REG, "a");
	assert_int_equal(tar_next(r.t, &r.x, &r.e), 0);
	assert_true(tar_ended(r.t));
	assert_int_equal(tar_offset(r.t), 2048);
	done(&r);
	/* Neither marker nor padding. */
	mktar_add(&none, b.p, 513);
	begin(&r, &none);
	next(&r, TOC_REG, "a");
	payload(&r, "x", 1);
	assert_int_equal(tar_next(r.t, &r.x, &r.e), 0);
	assert_false(tar_ended(r.t));
	done(&r);
	memset(b.p + 1024, 0, 512);
	memcpy(b.p + 1536, b.p, 512);
	bad(&b, -EBADMSG, "a block of zeros before more entries");
}

/* Goes on where it is told to. */
static void test_seek(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	struct reader r;

	(void)state;
	MKTAR(&b, .name = "a", .data = "x");
	MKTAR(&b, .name = "b", .data = "y");
	mktar_end(&b);
	begin(&r, &b);
	next(&r, TOC_REG, "a");
	next(&r, TOC_REG, "b");
	r.s.pos = 0;
	tar_seek(r.t, 0);
	next(&r, TOC_REG, "a");
	payload(&r, "x", 1);
	next(&r, TOC_REG, "b");
	end(&r);
}

static void test_bad_blocks(void **state)
{
	static const struct {
		size_t off;
		const char *bytes;
		size_t n;
		int code;
		const char *text;
	} cases[] = {
		{108, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, -EBADMSG, "user"},
		{116, "\x80\0\0\1\0\0\0\0", 8, -EBADMSG, "group id"},
		{116, "9", 1, -EBADMSG, "group id"},
		{124, "\x80\x80\0\0\0\0\0\0\0\0\0\0", 12, -EBADMSG, "size"},
		{124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12,
		 -EBADMSG, "bad size"},
		{136, "x", 1, -EBADMSG, "bad time"},
		{100, "8", 1, -EBADMSG, "bad mode"},
		{156, "2", 1, -EBADMSG, "link without a target"},
		{156, "Z", 1, -EOPNOTSUPP, "unknown type"},
		{0, "/", 2, -EBADMSG, "no name"},
		{329, "0010000", 7, 0, ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));

		MKTAR(&b, .name = "a", .data = "x", .format = MKTAR_USTAR);
		memcpy(b.p + cases[i].off, cases[i].bytes, cases[i].n);
		mktar_resum(&b, 0);
		bad(&b, cases[i].code, cases[i].text);
	}
	{
		CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));

		MKTAR(&b, .name = "ok");
		MKTAR(&b, .name = "a", .data = "x");
		b.p[512 + 3] ^= 1;
		bad(&b, -EBADMSG, "at byte 512: wrong checksum");
	}
}

static void test_bad_ext(void **state)
{
	static const char *const records[] = {"",
					      "9 path=x\n",
					      "11 path=xy",
					      "99 path=x\n",
					      "5 a=\n6 =b\n",
					      "12 uid=abc\n\n",
					      "x path=y\n",
					      "13 path=a\0b\n",
					      "-9 path=x\n",
					      "18446744073709551625 a=b\n"};

	(void)state;
	for (size_t i = 1; i < ARRAY_SIZE(records); i++) {
		CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
		size_t len = i == 7 ? 11 : strlen(records[i]);

		mktar_ext(&b, 'x', records[i], len);
		MKTAR(&b, .name = "a", .format = MKTAR_USTAR);
		/* The first is right. */
		bad(&b, i == 1 ? 0 : -EBADMSG, i == 1 ? "" : "bad PAX record");
	}
}

static void test_limits(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(8)), x = BUF_INIT(MIB(8));
	CLEANUP_FREE char *big = calloc(1, MIB(2));

	(void)state;
	assert_non_null(big);
	(void)mktar_head(&b, &(struct mktar){.name = "x",
					     .type = 'x',
					     .size = MIB(1) + 1,
					     .format = MKTAR_USTAR});
	bad(&b, -EOVERFLOW, "more than 1 MiB");
	buf_clear(&b);
	memset(big, 'n', 300);
	mktar_ext(&b, 'L', big, 300);
	MKTAR(&b, .name = "n");
	bad(&b, -EOVERFLOW, "too long or too deep");
	buf_clear(&b);
	mktar_record(&x, "SCHILY.xattr.user.a", big, 65536);
	mktar_ext(&b, 'x', x.p, x.len);
	MKTAR(&b, .name = "n");
	bad(&b, -EOVERFLOW, "over the limit");
	buf_clear(&b);
	for (int i = 0; i < 5; i++)
		mktar_ext(&b, 'K', big, MIB(1));
	MKTAR(&b, .name = "n");
	bad(&b, -EOVERFLOW, "header");
	buf_clear(&b);
	mktar_pax(&b, "path", "x");
	mktar_end(&b);
	bad(&b, -EBADMSG, "extended header without an entry");
}

/* However much there is of it, nothing but an error or an early end. */
static void test_truncated(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));

	(void)state;
	mktar_pax(&b, "SCHILY.xattr.user.a", "v");
	MKTAR(&b, .name = "a", .data = "xyz", .format = MKTAR_USTAR);
	MKTAR(&b, .name = "b", .data = "xyz", .format = MKTAR_USTAR);
	for (size_t len = 0; len < b.len; len++) {
		struct buf part = {.p = b.p, .len = len};
		bool whole;
		struct reader r;
		int k;

		begin(&r, &part);
		while ((k = tar_next(r.t, &r.x, &r.e)) > 0)
			;
		/* Only padding may be missing. */
		whole = len == 0 || (len >= 4 * 512 - 509 && len <= 4 * 512) ||
			len >= 6 * 512 - 509;
		assert_int_equal(k, whole ? 0 : -EBADMSG);
		done(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_v7),
		cmocka_unit_test(test_pax),
		cmocka_unit_test(test_global),
		cmocka_unit_test(test_gnu),
		cmocka_unit_test(test_sparse_gnu),
		cmocka_unit_test(test_sparse_pax),
		cmocka_unit_test(test_bad_sparse),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_seek),
		cmocka_unit_test(test_bad_blocks),
		cmocka_unit_test(test_bad_ext),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_truncated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
