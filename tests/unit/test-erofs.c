/* SPDX-License-Identifier: Apache-2.0 */
/* The EROFS writer and reader, against each other and against bad images. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

#include "common/erofs.h"
#include "common/erofs_format.h"
#include "common/erofs_write.h"
#include "tests/unit/erofs-walk.h"

/* A small image: every type, names around the dots, xattrs, long links. */
struct fixture {
	struct erofs_w w;
	struct erofs_w_inode inodes[16];
	struct erofs_w_dirent dirents[16];
	struct erofs_w_xattr xattrs[4];
	char link[4096];
	uint8_t value[4500];
	uint8_t *image;
	struct erofs_image im;
};

static uint32_t put(struct fixture *f, const char *name, uint32_t mode)
{
	uint32_t i = f->w.n_inodes++;

	f->inodes[i] = (struct erofs_w_inode){
		.mode = mode,
		.uid = 100000 + i,
		.gid = 200000 + i,
		.mtime = -1 - (int64_t)i,
		.nlink = 1,
	};
	if (i > 0)
		f->dirents[f->w.n_dirents++] = (struct erofs_w_dirent){
			.name = name,
			.name_len = (uint8_t)strlen(name),
			.inode = i,
		};
	return i;
}

static void layout_and_emit(struct fixture *f)
{
	struct err e = {0};

	assert_int_equal(erofs_w_layout(&f->w, &e), 0);
	for (uint32_t i = 0; i < f->w.n_inodes; i++)
		if (S_ISREG(f->inodes[i].mode) && f->inodes[i].size > 0)
			f->inodes[i].data_off = f->w.meta_bytes;
	f->w.n_blocks = f->w.meta_bytes / 4096 + 2;
	f->image = malloc(f->w.meta_bytes);
	assert_non_null(f->image);
	erofs_w_emit(&f->w, f->image);
	assert_int_equal(erofs_open(&f->im, f->image, f->w.meta_bytes, &e), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	uint32_t i;

	assert_non_null(f);
	f->w.inodes = f->inodes;
	f->w.dirents = f->dirents;
	memset(f->link, 'l', sizeof(f->link));
	for (i = 0; i < sizeof(f->value); i++)
		f->value[i] = (uint8_t)(i * 7 + i / 256);
	put(f, "", S_IFDIR | 0755);
	put(f, "!first", S_IFSOCK | 0600);
	put(f, ".-mid", S_IFIFO | 0600);
	put(f, "blk", S_IFBLK | 0600);
	assert_true(erofs_w_rdev(259, 70000, &f->inodes[3].rdev));
	put(f, "chr", S_IFCHR);
	i = put(f, "dir", S_IFDIR | 01777);
	f->inodes[i].first = 15;
	i = put(f, "file", S_IFREG | 04755);
	f->inodes[i].size = 4097;
	f->xattrs[0] = (struct erofs_w_xattr){"a", f->value, 4500, 1,
					      EROFS_XATTR_USER};
	f->xattrs[1] = (struct erofs_w_xattr){"", f->value, 3, 0,
					      EROFS_XATTR_ACL_ACCESS};
	f->xattrs[2] = (struct erofs_w_xattr){"capability", NULL, 0, 10,
					      EROFS_XATTR_SECURITY};
	f->inodes[i].xattrs = f->xattrs;
	f->inodes[i].n_xattrs = 3;
	i = put(f, "link", S_IFLNK | 0777);
	f->inodes[i].link = f->link;
	f->inodes[i].size = 5;
	i = put(f, "link-long", S_IFLNK | 0777);
	f->inodes[i].link = f->link;
	f->inodes[i].size = 4095;
	f->inodes[0].n = f->w.n_dirents;
	f->inodes[0].nlink = 3;
	layout_and_emit(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	free(f->image);
	free(f);
	return 0;
}

static int find(const struct fixture *f, const char *name,
		struct erofs_inode *ret)
{
	struct erofs_inode root;
	uint64_t nid;
	int r;

	assert_int_equal(erofs_inode_get(&f->im, f->im.root_nid, &root), 0);
	r = erofs_lookup(&f->im, &root, name, strlen(name), &nid, NULL);
	return r < 0 ? r : erofs_inode_get(&f->im, nid, ret);
}

static void test_superblock_bytes(void **state)
{
	struct fixture *f = *state;
	const uint8_t *sb = f->image + 1024;

	assert_int_equal(le32_load(sb), 0xE0F5E1E2);
	assert_int_equal(le32_load(sb + 8), 3);
	assert_int_equal(sb[12], 12);
	assert_int_equal(le16_load(sb + 14), 36);
	assert_int_equal(le64_load(sb + 16), 9);
	assert_int_equal(le32_load(sb + 36), f->w.n_blocks);
	assert_int_equal(le32_load(sb + 40), 0);
	assert_string_equal((const char *)sb + 64, "estargz+xattr");
	assert_int_equal(le32_load(sb + 80), 0);
	assert_true(erofs_has_xattrs(&f->im));
	f->image[1024 + 64 + 7] = '\0';
	memset(f->image + 1024 + 64 + 7, 0, 9);
	assert_false(erofs_has_xattrs(&f->im));
}

static void test_checksum_is_crc32c(void **state)
{
	uint8_t block[4096] = {0};

	(void)state;
	/* From a bitwise implementation, over 3,072 zero bytes but one. */
	block[1024] = 1;
	{
		uint32_t crc = UINT32_MAX;

		for (int i = 1024; i < 4096; i++) {
			crc ^= block[i];
			for (int k = 0; k < 8; k++)
				crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
		}
		assert_int_equal(erofs_super_checksum(block), crc);
	}
	block[1028] = 0xff; /* the field itself does not count */
	assert_int_equal(erofs_super_checksum(block),
			 erofs_super_checksum(block));
}

static void test_attributes_come_back(void **state)
{
	struct fixture *f = *state;
	struct erofs_inode in;

	assert_int_equal(find(f, "file", &in), 0);
	assert_int_equal(in.mode, S_IFREG | 04755);
	assert_int_equal(in.uid, 100006);
	assert_int_equal(in.gid, 200006);
	assert_int_equal(in.mtime, -7);
	assert_int_equal(in.size, 4097);
	assert_int_equal(in.data_off, f->w.meta_bytes);
	assert_int_equal(find(f, "blk", &in), 0);
	assert_int_equal(in.rdev, makedev(259, 70000));
	assert_int_equal(find(f, "chr", &in), 0);
	assert_int_equal(in.rdev, 0);
	assert_int_equal(in.mode, S_IFCHR);
	assert_int_equal(find(f, "!first", &in), 0);
	assert_true(S_ISSOCK(in.mode));
	assert_int_equal(find(f, ".", &in), 0);
	assert_int_equal(in.nlink, 3);
	assert_int_equal(find(f, "..", &in), 0);
	assert_int_equal(in.nid, f->im.root_nid);
}

static void test_device_numbers_are_bounded(void **state)
{
	uint32_t rdev;

	(void)state;
	assert_true(erofs_w_rdev(4095, 1048575, &rdev));
	assert_int_equal(rdev, 0xffffffff);
	assert_false(erofs_w_rdev(4096, 0, &rdev));
	assert_false(erofs_w_rdev(0, 1048576, &rdev));
}

static void test_names_are_in_byte_order(void **state)
{
	static const char *const want[] = {
		"!first", ".",   ".-mid", "..",   "blk",
		"chr",    "dir", "file",  "link", "link-long"};
	struct fixture *f = *state;
	struct erofs_inode root;
	struct erofs_dirent d = {0};
	size_t i = 0;

	assert_int_equal(erofs_inode_get(&f->im, 36, &root), 0);
	while (erofs_readdir(&f->im, &root, d.next, &d) == 1) {
		assert_true(i < ARRAY_SIZE(want));
		assert_int_equal(d.len, strlen(want[i]));
		assert_memory_equal(d.name, want[i++], d.len);
	}
	assert_int_equal(i, ARRAY_SIZE(want));
	assert_int_equal(erofs_readdir(&f->im, &root, 77, &d), -EBADMSG);
}

static void test_lookup_of_what_is_not_there(void **state)
{
	static const char *const names[] = {"",      " ",   "...",  "fil",
					    "files", "zzz", "linj", "link-"};
	struct fixture *f = *state;
	struct erofs_inode in;
	uint64_t nid;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(find(f, names[i], &in), -ENOENT);
	assert_int_equal(find(f, "file", &in), 0);
	assert_int_equal(erofs_lookup(&f->im, &in, "x", 1, &nid, NULL),
			 -ENOTDIR);
	assert_int_equal(
		erofs_readdir(&f->im, &in, 0, &(struct erofs_dirent){0}),
		-ENOTDIR);
}

/* All of them, in the order in which they were given; whatever lies between. */
static void test_one_inode_after_the_other(void **state)
{
	static const char *const names[] = {"!first", ".-mid",    "blk",
					    "chr",    "dir",      "file",
					    "link",   "link-long"};
	const struct fixture *f = *state;
	struct erofs_inode in, want;
	uint64_t n = 1;

	assert_int_equal(erofs_inode_get(&f->im, f->im.root_nid, &in), 0);
	for (; erofs_inode_next(&f->im, &in, &in) == 1; n++) {
		assert_true(n <= ARRAY_SIZE(names));
		assert_int_equal(find(f, names[n - 1], &want), 0);
		assert_int_equal(in.nid, want.nid);
		assert_int_equal(in.mode, want.mode);
	}
	assert_int_equal(n, f->im.n_inodes);
}

static void test_symlinks(void **state)
{
	struct fixture *f = *state;
	struct erofs_inode in;
	const char *link;
	size_t len;

	assert_int_equal(find(f, "link", &in), 0);
	assert_int_equal(in.layout, EROFS_LAYOUT_INLINE);
	assert_int_equal(erofs_readlink(&f->im, &in, &link, &len), 0);
	assert_int_equal(len, 5);
	assert_memory_equal(link, "lllll", 5);
	assert_int_equal(find(f, "link-long", &in), 0);
	assert_int_equal(erofs_readlink(&f->im, &in, &link, &len), 0);
	assert_int_equal(len, 4095);
	assert_memory_equal(link, f->link, 4095);
	assert_int_equal(find(f, "dir", &in), 0);
	assert_int_equal(erofs_readlink(&f->im, &in, &link, &len), -EINVAL);
}

static void test_xattrs(void **state)
{
	static const char want[] =
		"user.a\0system.posix_acl_access\0security.capability";
	struct fixture *f = *state;
	struct erofs_inode in;
	const uint8_t *p;
	char names[64];
	size_t len;

	assert_int_equal(find(f, "file", &in), 0);
	assert_int_equal(erofs_xattr_list(&f->im, &in, NULL, 0), sizeof(want));
	assert_int_equal(erofs_xattr_list(&f->im, &in, names, sizeof(want) - 1),
			 -ERANGE);
	assert_int_equal(erofs_xattr_list(&f->im, &in, names, sizeof(names)),
			 sizeof(want));
	assert_memory_equal(names, want, sizeof(want));
	assert_int_equal(erofs_xattr_get(&f->im, &in, "user.a", &p, &len), 0);
	assert_int_equal(len, 4500);
	assert_memory_equal(p, f->value, 4500);
	assert_int_equal(
		erofs_xattr_get(&f->im, &in, "security.capability", &p, &len),
		0);
	assert_int_equal(len, 0);
	assert_int_equal(erofs_xattr_get(&f->im, &in, "user.b", &p, &len),
			 -ENODATA);
	assert_int_equal(erofs_xattr_get(&f->im, &in, "user.", &p, &len),
			 -ENODATA);
	assert_int_equal(find(f, "dir", &in), 0);
	assert_int_equal(erofs_xattr_get(&f->im, &in, "user.a", &p, &len),
			 -ENODATA);
	assert_int_equal(erofs_xattr_list(&f->im, &in, NULL, 0), 0);
}

static void test_xattr_names_split(void **state)
{
	const char *rest;
	uint8_t index;

	(void)state;
	assert_true(erofs_xattr_split("trusted.x.y", &index, &rest));
	assert_int_equal(index, EROFS_XATTR_TRUSTED);
	assert_string_equal(rest, "x.y");
	assert_true(
		erofs_xattr_split("system.posix_acl_default", &index, &rest));
	assert_string_equal(rest, "");
	assert_false(
		erofs_xattr_split("system.posix_acl_default2", &index, &rest));
	assert_false(erofs_xattr_split("system.foo", &index, &rest));
	assert_false(erofs_xattr_split("user.", &index, &rest));
	assert_false(erofs_xattr_split("user", &index, &rest));
	assert_false(erofs_xattr_split("", &index, &rest));
}

static void test_xattrs_above_the_format_are_refused(void **state)
{
	struct fixture *f = *state;
	struct erofs_w_xattr big[5];
	uint8_t *value = calloc(1, 65535);
	struct err e = {0};

	assert_non_null(value);
	for (uint32_t i = 0; i < 5; i++)
		big[i] = (struct erofs_w_xattr){"a", value, 65535, 1, 1};
	f->inodes[6].xattrs = big;
	f->inodes[6].n_xattrs = 5;
	assert_int_equal(erofs_w_layout(&f->w, &e), -EOVERFLOW);
	f->inodes[6].n_xattrs = 3;
	assert_int_equal(erofs_w_layout(&f->w, &e), 0);
	free(value);
}

/* mkfs.erofs makes these: short inodes, and xattrs kept once for several. */
static void test_compact_inodes_and_shared_xattrs(void **state)
{
	struct fixture *f = *state;
	uint8_t *p = f->image + f->inodes[2].off; /* the fifo */
	struct erofs_inode in;
	const uint8_t *value;
	size_t len;

	memset(p, 0, 64);
	le16_store(p + EROFS_I_MODE, S_IFIFO | 0640);
	le16_store(p + EROFS_IC_NLINK, 3);
	le16_store(p + EROFS_IC_UID, 7);
	le16_store(p + EROFS_IC_GID, 8);
	le16_store(p + EROFS_I_XATTR_COUNT, 2);
	p[32 + 4] = 1; /* one shared, whose number is behind the header */
	le32_store(p + 32 + 12, (uint32_t)((f->inodes[6].off + 64 + 12) / 4));
	f->im.epoch = 1234;
	assert_int_equal(find(f, ".-mid", &in), 0);
	assert_int_equal(in.uid, 7);
	assert_int_equal(in.gid, 8);
	assert_int_equal(in.nlink, 3);
	assert_int_equal(in.mtime, 1234);
	assert_int_equal(erofs_xattr_get(&f->im, &in, "user.a", &value, &len),
			 0);
	assert_int_equal(len, 4500);
	le32_store(p + 32 + 12, UINT32_MAX);
	assert_int_equal(erofs_xattr_get(&f->im, &in, "user.a", &value, &len),
			 -EBADMSG);
}

static void open_fails(struct fixture *f, size_t len, int code,
		       const char *text)
{
	struct erofs_image im;
	struct err e = {0};

	assert_int_equal(erofs_open(&im, f->image, len, &e), code);
	assert_non_null(strstr(e.text, text));
}

static void test_bad_superblocks(void **state)
{
	struct fixture *f = *state;
	size_t len = f->w.meta_bytes;
	uint8_t *sb = f->image + 1024;

	open_fails(f, 4095, -EBADMSG, "no image");
	open_fails(f, 0, -EBADMSG, "no image");
	sb[40 + 3] ^= 1;
	open_fails(f, len, -EBADMSG, "checksum");
	sb[40 + 3] ^= 1;
	sb[0] ^= 1;
	open_fails(f, len, -EBADMSG, "magic");
	sb[0] ^= 1;
	sb[12] = 9;
	open_fails(f, len, -EOPNOTSUPP, "block size");
	sb[12] = 12;
	sb[80] = 2;
	open_fails(f, len, -EOPNOTSUPP, "features");
}

static void test_bad_inodes(void **state)
{
	struct fixture *f = *state;
	uint8_t *p = f->image + f->inodes[6].off;
	struct erofs_inode in;

	assert_int_equal(erofs_inode_get(&f->im, UINT64_MAX, &in), -EBADMSG);
	assert_int_equal(erofs_inode_get(&f->im, UINT64_MAX / 32, &in),
			 -EBADMSG);
	assert_int_equal(erofs_inode_get(&f->im, f->w.meta_bytes / 32, &in),
			 -EBADMSG);
	/* Data behind the image. */
	le64_store(p + EROFS_I_SIZE, 8193);
	assert_int_equal(find(f, "file", &in), -EBADMSG);
	le64_store(p + EROFS_I_SIZE, 8192);
	assert_int_equal(find(f, "file", &in), 0);
	/* Compressed, or of a form that is not known. */
	p[EROFS_I_FORMAT] = 1 | 3 << 1;
	assert_int_equal(find(f, "file", &in), -EBADMSG);
	p[EROFS_I_FORMAT] = 1 | 1 << 4;
	assert_int_equal(find(f, "file", &in), -EBADMSG);
	p[EROFS_I_FORMAT] = 1;
	le16_store(p + EROFS_I_MODE, 0644);
	assert_int_equal(find(f, "file", &in), -EBADMSG);
}

static void test_truncated_anywhere(void **state)
{
	struct fixture *f = *state;

	for (size_t n = 0; n < f->w.meta_bytes; n++) {
		uint8_t *copy = malloc(n + 1);
		struct erofs_image im;

		assert_non_null(copy);
		/* At the end of the allocation, where a sanitizer watches. */
		memcpy(copy + 1, f->image, n);
		if (erofs_open(&im, copy + 1, n, NULL) == 0)
			(void)walk_image(&im);
		else
			assert_true(n < 4096);
		free(copy);
	}
}

static void test_any_bit_flipped(void **state)
{
	struct fixture *f = *state;
	size_t len = f->w.meta_bytes;
	uint8_t *copy = malloc(len);

	assert_non_null(copy);
	assert_int_equal(walk_image(&f->im), 0);
	memcpy(copy, f->image, len);
	for (size_t bit = 1024 * 8; bit < len * 8; bit++) {
		uint8_t flip = (uint8_t)(1 << bit % 8);
		struct erofs_image im;

		copy[bit / 8] ^= flip;
		if (bit / 8 < 4096) {
			/* The checksum finds it, but for the bit that says
			 * that there is one; then see what is behind it. */
			if (bit != (1024 + EROFS_SB_COMPAT) * 8)
				assert_true(erofs_open(&im, copy, len, NULL) <
					    0);
			fix_checksum(copy, len);
		}
		if (erofs_open(&im, copy, len, NULL) == 0)
			(void)walk_image(&im);
		copy[bit / 8] ^= flip;
		memcpy(copy + 1024, f->image + 1024, 8); /* the checksum */
	}
	free(copy);
}

/* A directory of blocks that are full to the last byte, or nearly. */
static void test_large_directory(void **state)
{
	enum {
		N = 20000
	};
	struct erofs_w_inode *inodes = calloc(2, sizeof(*inodes));
	struct erofs_w_dirent *dirents = calloc(N, sizeof(*dirents));
	char(*names)[256] = calloc(N, sizeof(*names));
	struct fixture f = {0};
	struct erofs_inode root;
	struct erofs_dirent d = {0};
	uint64_t nid;
	int n = 0;

	(void)state;
	assert_true(inodes != NULL && dirents != NULL && names != NULL);
	for (int i = 0; i < N; i++) {
		int len = snprintf(names[i], 256, "%06d", i);

		memset(names[i] + len, 'x', (size_t)(i * 37 % 249));
		dirents[i] = (struct erofs_w_dirent){
			.name = names[i],
			.name_len = (uint8_t)strlen(names[i]),
			.inode = 1,
		};
	}
	inodes[0] = (struct erofs_w_inode){.mode = S_IFDIR, .n = N};
	inodes[1] = (struct erofs_w_inode){.mode = S_IFIFO, .nlink = N};
	f.w = (struct erofs_w){
		.inodes = inodes,
		.dirents = dirents,
		.n_inodes = 2,
		.n_dirents = N,
	};
	assert_int_equal(erofs_w_layout(&f.w, NULL), 0);
	f.w.n_blocks = f.w.meta_bytes / 4096;
	f.image = malloc(f.w.meta_bytes);
	assert_non_null(f.image);
	erofs_w_emit(&f.w, f.image);
	assert_int_equal(erofs_open(&f.im, f.image, f.w.meta_bytes, NULL), 0);
	assert_int_equal(erofs_inode_get(&f.im, 36, &root), 0);
	for (int i = 0; i < N; i++) {
		size_t len = strlen(names[i]);

		assert_int_equal(
			erofs_lookup(&f.im, &root, names[i], len, &nid, NULL),
			0);
		assert_int_equal(nid, inodes[1].off / 32);
		names[i][len - 1] = '~';
		assert_int_equal(
			erofs_lookup(&f.im, &root, names[i], len, &nid, NULL),
			-ENOENT);
	}
	while (erofs_readdir(&f.im, &root, d.next, &d) == 1)
		n++;
	assert_int_equal(n, N + 2);
	free(f.image);
	free(names);
	free(dirents);
	free(inodes);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_superblock_bytes),
		TEST(test_checksum_is_crc32c),
		TEST(test_attributes_come_back),
		TEST(test_device_numbers_are_bounded),
		TEST(test_names_are_in_byte_order),
		TEST(test_lookup_of_what_is_not_there),
		TEST(test_one_inode_after_the_other),
		TEST(test_symlinks),
		TEST(test_xattrs),
		TEST(test_xattr_names_split),
		TEST(test_xattrs_above_the_format_are_refused),
		TEST(test_compact_inodes_and_shared_xattrs),
		TEST(test_bad_superblocks),
		TEST(test_bad_inodes),
		TEST(test_truncated_anywhere),
		TEST(test_any_bit_flipped),
		cmocka_unit_test(test_large_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
