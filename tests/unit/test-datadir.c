/* SPDX-License-Identifier: Apache-2.0 */
/* Which numbers are files of a tree: no others, whatever a layer has in it. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/erofs_format.h"
#include "common/index.h"
#include "common/rd.h"
#include "fs/datadir.h"
#include "tests/unit/mktoc.h"

#define FAKE_AT 12u
#define FAKE_BYTES (FAKE_AT + EROFS_INODE_BYTES)

struct fixture {
	struct mktoc m;
	struct digest digest;
	struct buf meta;
	struct buf table;
	struct erofs_image im;
	struct datadir d;
	uint8_t fake[FAKE_BYTES];
};

/* What looks like an inode, of the superblock's bytes. */
static void make_fake(uint8_t *p)
{
	static const uint8_t inode[EROFS_INODE_BYTES] = {
		[EROFS_I_FORMAT] = EROFS_FORMAT_EXTENDED,
		[EROFS_I_MODE] = 0xa4,
		[EROFS_I_MODE + 1] = 0x81,
		[EROFS_I_SIZE + 1] = 0x10, /* 4096 */
		[EROFS_I_NLINK] = 1,
	};

	/* The value begins at an inode, the header, the entry's four bytes and
	 * "fake" behind a slot. */
	memcpy(p + FAKE_AT, inode, sizeof(inode));
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct index_in in = {
		.toc = &f->m.toc,
		.toc_digest = &f->digest,
		.blob_size = 20000000,
		.toc_off = 10000000,
		.codec = CODEC_GZIP,
	};
	static struct toc_xattr x = {.name = "user.fake"};
	struct toc_entry *en;
	char name[16];
	struct err e;

	assert_non_null(f);
	f->digest.b[0] = 0x0a;
	f->digest.b[7] = 0xff;
	(void)mktoc_reg(&f->m, "a", 1);
	(void)mktoc_add(&f->m, TOC_DIR, "dir");
	(void)mktoc_reg(&f->m, "dir/b", 9000);
	(void)mktoc_reg(&f->m, "dir/empty", 0);
	(void)mktoc_link(&f->m, TOC_HARDLINK, "dir/c", "a");
	(void)mktoc_link(&f->m, TOC_SYMLINK, "link", "dir/b");
	(void)mktoc_add(&f->m, TOC_FIFO, "fifo");
	(void)mktoc_add(&f->m, TOC_CHAR, "dir/.wh.gone");
	for (unsigned i = 0; i < 1000; i++) {
		(void)snprintf(name, sizeof(name), "many/%03u", i);
		(void)mktoc_reg(&f->m, strdup(name), i);
	}
	make_fake(f->fake);
	x.value = f->fake;
	x.value_len = sizeof(f->fake);
	en = mktoc_add(&f->m, TOC_DIR, "zz");
	en->xattrs = &x;
	en->n_xattrs = 1;
	if (index_build(&in, &f->meta, &f->table, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(erofs_open(&f->im, f->meta.p, f->meta.len, &e), 0);
	datadir_init(&f->d, &f->im, &f->digest);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < f->m.toc.n_entries; i++) {
		if (strncmp(f->m.toc.entries[i].name, "many/", 5) == 0)
			free((char *)(uintptr_t)f->m.toc.entries[i].name);
	}
	mktoc_done(&f->m);
	buf_done(&f->meta);
	buf_done(&f->table);
	datadir_done(&f->d);
	free(f);
	return 0;
}

static int find(struct fixture *f, uint64_t nid, uint64_t *ret)
{
	char name[24];

	(void)snprintf(name, sizeof(name), "%llu", (unsigned long long)nid);
	return datadir_find(&f->d, name, ret);
}

/* How often the tree has a regular file of this number. */
static unsigned in_tree(const struct fixture *f, uint64_t dir_nid, uint64_t nid)
{
	struct erofs_inode dir;
	struct erofs_dirent d;
	uint64_t pos = 0;
	unsigned n = 0;

	assert_int_equal(erofs_inode_get(&f->im, dir_nid, &dir), 0);
	while (erofs_readdir(&f->im, &dir, pos, &d) > 0) {
		pos = d.next;
		if (d.name[0] == '.' && (d.len == 1 || d.name[1] == '.'))
			continue;
		if (S_ISDIR(dir.mode) && d.dtype == 4)
			n += in_tree(f, d.nid, nid);
		else if (d.dtype == 8)
			n += d.nid == nid;
	}
	return n;
}

static void test_exactly_the_files(void **state)
{
	struct fixture *f = *state;
	unsigned files = 0, fakes = 0;
	uint64_t ret;

	for (uint64_t nid = 1; nid < f->meta.len / EROFS_SLOT_BYTES + 64;
	     nid++) {
		bool want = in_tree(f, f->im.root_nid, nid) > 0;
		struct erofs_inode in;

		assert_int_equal(find(f, nid, &ret), want ? 0 : -ENOENT);
		if (want)
			assert_int_equal(ret, nid);
		files += want;
		if (!want && erofs_inode_get(&f->im, nid, &in) == 0 &&
		    S_ISREG(in.mode) && in.size == 4096)
			fakes++;
	}
	assert_int_equal(files, 1003);
	/* Something did look like a file, so the test tests. */
	assert_int_not_equal(fakes, 0);
}

static void test_names_that_are_no_numbers(void **state)
{
	static const char *const bad[] = {
		"",
		"0",
		"00",
		"-1",
		"+1",
		" 1",
		"1 ",
		"0x24",
		".",
		"..",
		"1/2",
		"1e2",
		"999999999999999999",
		"9999999999999999999999",
		"18446744073709551616",
	};
	struct fixture *f = *state;
	uint64_t ret;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(datadir_find(&f->d, bad[i], &ret), -ENOENT);
	assert_string_equal(f->d.name, "0a000000000000ff");
}

/* A directory that is its own parent's parent, and names outside. */
static void test_damaged(void **state)
{
	struct fixture *f = *state;
	struct erofs_inode root;
	uint64_t ret, nid, dir;
	uint8_t *de;

	assert_int_equal(erofs_inode_get(&f->im, f->im.root_nid, &root), 0);
	assert_int_equal(erofs_lookup(&f->im, &root, "a", 1, &nid, NULL), 0);
	assert_int_equal(erofs_lookup(&f->im, &root, "dir", 3, &dir, NULL), 0);
	de = memmem(f->meta.p, f->meta.len, &dir, sizeof(dir));
	assert_non_null(de);
	le64_store(de, f->im.root_nid);
	assert_int_equal(find(f, nid, &ret), 0);
	datadir_done(&f->d);
	datadir_init(&f->d, &f->im, &f->digest);
	le64_store(de, UINT64_MAX / EROFS_SLOT_BYTES);
	assert_int_equal(find(f, nid, &ret), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_exactly_the_files, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_names_that_are_no_numbers,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
