/* SPDX-License-Identifier: Apache-2.0 */
/* From a TOC to the tree it means, and to the chunk table. */
#include "config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

#include "common/chunks.h"
#include "common/codec.h"
#include "common/index.h"
#include "common/io.h"
#include "common/limits.h"
#include "tests/unit/erofs-walk.h"
#include "tests/unit/mktoc.h"

/* A TOC in the making, and what became of it. */
struct fixture {
	struct mktoc m;
	struct digest digest;
	struct index_in in;
	struct buf meta;
	struct buf table;
	struct erofs_image im;
	struct chunks chunks;
	struct err e;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->digest.b[0] = 0xff;
	f->in = (struct index_in){
		.toc_digest = &f->digest,
		.blob_size = 2000000,
		.toc_off = 1000000,
		.codec = CODEC_GZIP,
	};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	mktoc_done(&f->m);
	buf_done(&f->meta);
	buf_done(&f->table);
	free(f);
	return 0;
}

/* Builds, and holds every result to what its readers demand of it. */
static void build(struct fixture *f)
{
	struct sha256 *h = sha256_new();

	f->in.toc = &f->m.toc;
	if (index_build(&f->in, &f->meta, &f->table, &f->e) < 0)
		fail_msg("%s", f->e.text);
	assert_int_equal(erofs_open(&f->im, f->meta.p, f->meta.len, &f->e), 0);
	assert_int_equal(walk_image(&f->im), 0);
	if (chunks_open(&f->chunks, f->table.p, f->table.len, &f->e) < 0)
		fail_msg("%s", f->e.text);
	assert_int_equal(f->chunks.meta_len, f->meta.len);
	assert_int_equal(f->chunks.image_bytes, f->im.n_blocks * 4096);
	assert_non_null(h);
	assert_true(chunks_verify(&f->chunks, (uint8_t *)f->meta.p, h));
	sha256_free(h);
}

static void refused(struct fixture *f, int code, const char *text)
{
	struct buf meta = {0}, table = {0};

	f->in.toc = &f->m.toc;
	f->e = (struct err){0};
	assert_int_equal(index_build(&f->in, &meta, &table, &f->e), code);
	if (strstr(f->e.text, text) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", f->e.text, text);
	assert_null(meta.p);
	assert_null(table.p);
	mktoc_done(&f->m);
}

static int find(const struct fixture *f, const char *path,
		struct erofs_inode *ret)
{
	struct erofs_inode in;
	int r = erofs_inode_get(&f->im, f->im.root_nid, &in);

	while (r == 0 && *path != '\0') {
		size_t n = strcspn(path, "/");
		uint64_t nid;

		r = erofs_lookup(&f->im, &in, path, n, &nid, NULL);
		if (r == 0)
			r = erofs_inode_get(&f->im, nid, &in);
		path += n + (path[n] == '/');
	}
	if (r == 0)
		*ret = in;
	return r;
}

static struct erofs_inode get(const struct fixture *f, const char *path)
{
	struct erofs_inode in = {0};

	if (find(f, path, &in) < 0)
		fail_msg("%s is not there", path);
	return in;
}

static bool there(const struct fixture *f, const char *path)
{
	struct erofs_inode in;
	int r = find(f, path, &in);

	assert_true(r == 0 || r == -ENOENT);
	return r == 0;
}

static bool is_whiteout(const struct fixture *f, const char *path)
{
	struct erofs_inode in = get(f, path);

	return in.mode == S_IFCHR && in.rdev == 0 && in.uid == 0 &&
	       in.gid == 0 && in.mtime == 0 && in.nlink == 1;
}

static bool has_xattr(const struct fixture *f, const char *path,
		      const char *name, const char *value)
{
	struct erofs_inode in = get(f, path);
	const uint8_t *p;
	size_t len;
	int r = erofs_xattr_get(&f->im, &in, name, &p, &len);

	assert_true(r == 0 || r == -ENODATA);
	return r == 0 && len == strlen(value) && memcmp(p, value, len) == 0;
}

static bool is_opaque(const struct fixture *f, const char *path)
{
	return has_xattr(f, path, "trusted.overlay.opaque", "y");
}

static struct chunk chunk(const struct fixture *f, uint64_t i)
{
	struct chunk k;

	chunks_get(&f->chunks, i, &k);
	return k;
}

#define FIXTURE struct fixture *f = *state
#define ADD(type, name) mktoc_add(&f->m, type, name)
#define LINK(type, name, link) mktoc_link(&f->m, type, name, link)
#define REG(name, size) mktoc_reg(&f->m, name, size)
#define CHUNK(at, size) mktoc_chunk(&f->m, "", at, size)

static void test_empty_toc_is_an_empty_root(void **state)
{
	FIXTURE;
	struct erofs_inode in;

	build(f);
	in = get(f, "");
	assert_int_equal(in.mode, S_IFDIR | 0755);
	assert_int_equal(in.nlink, 2);
	assert_int_equal(in.uid | in.gid, 0);
	assert_int_equal(in.mtime, 0);
	assert_int_equal(f->chunks.n, 0);
	assert_int_equal(f->meta.len, 4096);
	assert_int_equal(f->chunks.flags, 0);
	assert_false(erofs_has_xattrs(&f->im));
}

static void test_attributes(void **state)
{
	FIXTURE;
	struct toc_entry *en = REG("a/file", 4097);
	struct erofs_inode in;

	en->mode = 07751;
	en->uid = 70000;
	en->gid = 80000;
	en->mtime = -5;
	en = ADD(TOC_BLOCK, "a/block");
	en->devmajor = 259;
	en->devminor = 70000;
	en->mode = 0600;
	ADD(TOC_FIFO, "a/fifo");
	LINK(TOC_SYMLINK, "a/link", "../x")->mode = 0;
	build(f);
	in = get(f, "a/file");
	assert_int_equal(in.mode, S_IFREG | 07751);
	assert_int_equal(in.uid, 70000);
	assert_int_equal(in.gid, 80000);
	assert_int_equal(in.mtime, -5);
	assert_int_equal(in.size, 4097);
	in = get(f, "a/block");
	assert_int_equal(in.mode, S_IFBLK | 0600);
	assert_int_equal(in.rdev, makedev(259, 70000));
	in = get(f, "a/fifo");
	assert_int_equal(in.mode, S_IFIFO | 0644);
	in = get(f, "a/link");
	assert_int_equal(in.mode, S_IFLNK | 0777); /* as symlink(2) has it */
}

static void test_missing_parents_appear(void **state)
{
	FIXTURE;
	struct erofs_inode in;

	REG("a/b/c", 0);
	build(f);
	in = get(f, "a/b");
	assert_int_equal(in.mode, S_IFDIR | 0755);
	assert_int_equal(in.mtime, 0);
	assert_int_equal(in.nlink, 2);
	in = get(f, "a");
	assert_int_equal(in.nlink, 3);
	in = get(f, "");
	assert_int_equal(in.nlink, 3);
}

static void test_parent_may_come_later(void **state)
{
	FIXTURE;

	REG("a/b", 0);
	ADD(TOC_DIR, "a")->mode = 0700;
	ADD(TOC_DIR, "")->mode = 0711;
	build(f);
	assert_int_equal(get(f, "a").mode, S_IFDIR | 0700);
	assert_int_equal(get(f, "").mode, S_IFDIR | 0711);
	assert_true(there(f, "a/b"));
}

static void test_directory_again_updates_attributes(void **state)
{
	static const struct toc_xattr one[] = {
		{"user.a", (const uint8_t *)"old", 3},
		{"user.b", (const uint8_t *)"kept", 4},
	};
	static const struct toc_xattr two[] = {
		{"user.c", (const uint8_t *)"added", 5},
		{"user.a", (const uint8_t *)"new", 3},
	};
	FIXTURE;
	struct toc_entry *en = ADD(TOC_DIR, "a");

	en->xattrs = one;
	en->n_xattrs = 2;
	REG("a/b", 0);
	en = ADD(TOC_DIR, "a");
	en->mode = 0700;
	en->xattrs = two;
	en->n_xattrs = 2;
	build(f);
	assert_true(there(f, "a/b"));
	assert_int_equal(get(f, "a").mode, S_IFDIR | 0700);
	assert_true(has_xattr(f, "a", "user.a", "new"));
	assert_true(has_xattr(f, "a", "user.b", "kept"));
	assert_true(has_xattr(f, "a", "user.c", "added"));
}

static void test_later_entry_replaces(void **state)
{
	FIXTURE;

	REG("a", 10);
	REG("a", 20);
	REG("b", 10);
	LINK(TOC_SYMLINK, "b", "x");
	LINK(TOC_SYMLINK, "c", "x");
	REG("d", 0);
	ADD(TOC_DIR, "c");
	REG("c/e", 0);
	ADD(TOC_DIR, "empty");
	REG("empty", 5);
	build(f);
	assert_int_equal(get(f, "a").size, 20);
	assert_true(S_ISLNK(get(f, "b").mode));
	assert_true(S_ISDIR(get(f, "c").mode));
	assert_true(there(f, "c/e"));
	assert_true(S_ISREG(get(f, "empty").mode));
	/* Only what is left has chunks. */
	assert_int_equal(f->chunks.n, 2);
}

static void test_conflicts_are_refused(void **state)
{
	FIXTURE;

	REG("a", 0);
	REG("a/b", 0);
	refused(f, -EBADMSG, "a: has files in it, but is no directory");
	LINK(TOC_SYMLINK, "a", "x");
	REG("a/b/c", 0);
	refused(f, -EBADMSG, "a: has files in it");
	REG("a/b", 0);
	REG("a", 0);
	refused(f, -EBADMSG, "a: in the place of a directory");
	REG("a/b", 0);
	REG("x", 0);
	LINK(TOC_HARDLINK, "a", "x");
	refused(f, -EBADMSG, "a: in the place of a directory");
	LINK(TOC_HARDLINK, "a", "x");
	REG("a/b", 0);
	refused(f, -EBADMSG, "a: has files in it");
	REG("", 0);
	refused(f, -EBADMSG, "root");
}

static void test_bad_names_are_refused(void **state)
{
	static const char *const names[] = {"a/../b", "a/./b", "a//b", "..",
					    ".",      "a/",    "a/..", "/a"};
	FIXTURE;
	char *longest = malloc(257);

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		REG(names[i], 0);
		refused(f, -EBADMSG, "bad name");
	}
	assert_non_null(longest);
	memset(longest, 'x', 256);
	longest[256] = '\0';
	REG(longest, 0);
	refused(f, -EBADMSG, "bad name");
	longest[255] = '\0';
	REG(longest, 0);
	build(f);
	assert_true(there(f, longest));
	free(longest);
}

static void test_hardlinks(void **state)
{
	FIXTURE;
	struct erofs_inode in;

	LINK(TOC_HARDLINK, "before", "d/target"); /* forward */
	REG("d/target", 100);
	LINK(TOC_HARDLINK, "after", "d/target");
	LINK(TOC_HARDLINK, "chained", "after");
	LINK(TOC_HARDLINK, "chained-before", "before");
	LINK(TOC_HARDLINK, "d/target", "d/target"); /* itself */
	LINK(TOC_SYMLINK, "s", "nowhere");
	LINK(TOC_HARDLINK, "t", "s");
	build(f);
	in = get(f, "d/target");
	assert_int_equal(in.nlink, 5);
	assert_int_equal(get(f, "before").nid, in.nid);
	assert_int_equal(get(f, "after").nid, in.nid);
	assert_int_equal(get(f, "chained").nid, in.nid);
	assert_int_equal(get(f, "chained-before").nid, in.nid);
	assert_int_equal(get(f, "t").nid, get(f, "s").nid);
	assert_int_equal(get(f, "s").nlink, 2);
	assert_int_equal(f->chunks.n, 1);
}

static void test_hardlink_keeps_what_it_was_made_of(void **state)
{
	FIXTURE;

	REG("a", 10);
	LINK(TOC_HARDLINK, "b", "a");
	REG("a", 20);
	LINK(TOC_HARDLINK, "c", "a");
	LINK(TOC_HARDLINK, "fwd", "later");
	REG("later", 30);
	REG("later", 40);
	LINK(TOC_HARDLINK, "again", "later2");
	REG("again", 50); /* replaces a link that waits */
	build(f);
	assert_int_equal(get(f, "a").size, 20);
	assert_int_equal(get(f, "b").size, 10);
	assert_int_equal(get(f, "b").nlink, 1);
	assert_int_equal(get(f, "c").nid, get(f, "a").nid);
	assert_int_equal(get(f, "fwd").size, 40);
	assert_int_equal(get(f, "again").size, 50);
}

static void test_bad_hardlinks_are_refused(void **state)
{
	FIXTURE;

	LINK(TOC_HARDLINK, "a", "a");
	refused(f, -EBADMSG, "circle");
	LINK(TOC_HARDLINK, "a", "b");
	LINK(TOC_HARDLINK, "b", "c");
	LINK(TOC_HARDLINK, "c", "b");
	refused(f, -EBADMSG, "circle");
	LINK(TOC_HARDLINK, "a", "b");
	refused(f, -EBADMSG, "hardlink to b, which is not there");
	REG("b", 0);
	LINK(TOC_HARDLINK, "a", "b/c");
	refused(f, -EBADMSG, "not there");
	ADD(TOC_DIR, "b");
	LINK(TOC_HARDLINK, "a", "b");
	refused(f, -EBADMSG, "directory b");
	LINK(TOC_HARDLINK, "a", "b");
	ADD(TOC_DIR, "b");
	refused(f, -EBADMSG, "directory b");
	LINK(TOC_HARDLINK, "a", "");
	refused(f, -EBADMSG, "directory");
}

static void test_long_chain_of_forward_links(void **state)
{
	enum {
		N = 50000
	};
	FIXTURE;
	char(*names)[16] = malloc((N + 1) * sizeof(*names));

	assert_non_null(names);
	for (int i = 0; i <= N; i++)
		snprintf(names[i], sizeof(*names), "n%d", i);
	for (int i = 0; i < N; i++)
		LINK(TOC_HARDLINK, names[i], names[i + 1]);
	REG(names[N], 1);
	f->in.toc = &f->m.toc;
	assert_int_equal(index_build(&f->in, &f->meta, &f->table, &f->e), 0);
	assert_int_equal(erofs_open(&f->im, f->meta.p, f->meta.len, NULL), 0);
	assert_int_equal(get(f, "n0").nlink, N + 1);
	free(names);
}

static void test_whiteouts(void **state)
{
	FIXTURE;

	REG("a/.wh.gone", 0);
	REG("a/.wh.file", 0);
	REG("a/file", 0);
	REG("a/dir/x", 0);
	REG("a/.wh.dir", 0);
	REG("a/.wh.", 0);
	REG("a/.wh..", 0);
	REG("a/.wh...", 0);
	REG("a/.wh..wh.plnk/1", 0);
	LINK(TOC_HARDLINK, "a/kept", "a/.wh..wh.plnk/1");
	REG("a/.wh....", 0);
	build(f);
	assert_true(is_whiteout(f, "a/gone"));
	assert_true(S_ISREG(get(f, "a/file").mode));
	assert_true(S_ISDIR(get(f, "a/dir").mode));
	assert_false(is_opaque(f, "a/dir"));
	assert_true(there(f, "a/dir/x"));
	assert_false(there(f, "a/.wh.gone"));
	assert_false(there(f, "a/.wh."));
	assert_false(there(f, "a/.wh.."));
	assert_false(there(f, "a/.wh..wh.plnk"));
	assert_true(S_ISDIR(get(f, "a/..").mode));
	assert_true(S_ISDIR(get(f, "a/.").mode));
	assert_true(S_ISREG(get(f, "a/kept").mode));
	assert_int_equal(get(f, "a/kept").nlink, 1);
	assert_true(is_whiteout(f, "a/..."));
	assert_false(is_opaque(f, "a"));
	assert_int_equal(get(f, "a").nlink, 3);
}

static void test_opaque_directories(void **state)
{
	FIXTURE;

	REG("a/.wh..wh..opq", 0);
	REG(".wh..wh..opq", 0);
	ADD(TOC_DIR, "b");
	build(f);
	assert_true(is_opaque(f, "a"));
	assert_true(is_opaque(f, ""));
	assert_false(is_opaque(f, "b"));
	assert_false(there(f, "a/.wh..wh..opq"));
	assert_int_equal(f->chunks.flags, CHUNKS_F_XATTRS);
	f->in.opaque_user = true;
	build(f);
	assert_false(is_opaque(f, "a"));
	assert_true(has_xattr(f, "a", "user.overlay.opaque", "y"));
	assert_int_equal(f->chunks.flags,
			 CHUNKS_F_XATTRS | CHUNKS_F_OPAQUE_USER);
}

static void test_landmarks_are_hidden_in_the_root_only(void **state)
{
	FIXTURE;

	REG("first", 10);
	REG(".prefetch.landmark", 1);
	REG("stargz.index.json", 1);
	REG("a/.prefetch.landmark", 1);
	REG("a/.no.prefetch.landmark", 1);
	REG("a/stargz.index.json", 1);
	build(f);
	assert_false(there(f, ".prefetch.landmark"));
	assert_false(there(f, "stargz.index.json"));
	assert_true(there(f, "a/.prefetch.landmark"));
	assert_true(there(f, "a/.no.prefetch.landmark"));
	assert_true(there(f, "a/stargz.index.json"));
	assert_int_equal(f->chunks.prefetch_end, 2000);
	/* The first chunk ends where the hidden file begins. */
	assert_int_equal(chunk(f, 0).blob_len, 1000);
	assert_int_equal(f->chunks.n, 4);
	REG(".no.prefetch.landmark", 1);
	build(f);
	assert_int_equal(f->chunks.prefetch_end, 0);
	assert_false(there(f, ".no.prefetch.landmark"));
}

static void test_landmark_outside_is_refused(void **state)
{
	FIXTURE;

	REG(".prefetch.landmark", 1)->offset = 1000001;
	refused(f, -EBADMSG, ".prefetch.landmark");
}

static void test_xattrs_of_the_kernel_are_dropped(void **state)
{
	static const uint8_t v[] = "v";
	static const struct toc_xattr x[] = {
		{"trusted.overlay.opaque", v, 1},
		{"trusted.overlay.redirect", v, 1},
		{"user.overlay.metacopy", v, 1},
		{"system.foo", v, 1},
		{"user.", v, 1},
		{"nonsense", v, 1},
		{"trusted.overlays", v, 1},
		{"user.twice", v, 0},
		{"user.twice", v, 1},
		{"security.capability", v, 1},
	};
	FIXTURE;
	struct toc_entry *en = ADD(TOC_DIR, "a");
	struct erofs_inode in;

	en->xattrs = x;
	en->n_xattrs = ARRAY_SIZE(x);
	build(f);
	in = get(f, "a");
	assert_true(has_xattr(f, "a", "trusted.overlays", "v"));
	assert_true(has_xattr(f, "a", "user.twice", "v"));
	assert_true(has_xattr(f, "a", "security.capability", "v"));
	assert_int_equal(erofs_xattr_list(&f->im, &in, NULL, 0),
			 sizeof("trusted.overlays") + sizeof("user.twice") +
				 sizeof("security.capability"));
}

static void test_large_xattrs(void **state)
{
	FIXTURE;
	uint8_t *v = calloc(1, 65536);
	struct toc_xattr x[5] = {{"user.0", v, 65535},
				 {"user.1", v, 65535},
				 {"user.2", v, 65535},
				 {"user.3", v, 65535},
				 {"user.4", v, 65535}};
	struct toc_entry *en;

	assert_non_null(v);
	for (uint32_t n = 3; n <= 5; n += 2) {
		en = ADD(TOC_DIR, "a");
		en->xattrs = x;
		en->n_xattrs = n;
		if (n == 3)
			build(f);
		else
			refused(f, -EOVERFLOW, "extended attributes");
	}
	x[0].value_len = 65536;
	en = ADD(TOC_DIR, "a");
	en->xattrs = x;
	en->n_xattrs = 1;
	refused(f, -EOVERFLOW, "a: extended attribute of 65536 bytes");
	free(v);
}

static void test_chunks_of_files(void **state)
{
	FIXTURE;
	struct toc_entry *en = REG("many", 10000);
	struct chunk k;

	en->chunk_size = 4000;
	CHUNK(4000, 5999);
	ADD(TOC_DIR, "between");
	CHUNK(9999, 0);
	REG("empty", 0);
	REG("one", 4096);
	build(f);
	assert_int_equal(f->chunks.n, 4);
	for (uint64_t i = 0; i < 3; i++) {
		static const uint64_t at[] = {0, 4000, 9999, 10000};

		k = chunk(f, i);
		assert_int_equal(k.blob_off, 1000 * (i + 1));
		assert_int_equal(k.blob_len, 1000);
		assert_int_equal(k.image_off, get(f, "many").data_off + at[i]);
		assert_int_equal(k.len, at[i + 1] - at[i]);
	}
	k = chunk(f, 3);
	assert_int_equal(k.blob_off, 4000);
	assert_int_equal(k.blob_len, 1000000 - 4000); /* up to the TOC */
	assert_int_equal(k.image_off, get(f, "one").data_off);
	assert_int_equal(get(f, "many").data_off, f->meta.len);
	assert_int_equal(k.image_off, f->meta.len + 12288);
	assert_int_equal(f->chunks.image_bytes, f->meta.len + 16384);
	assert_int_equal(get(f, "empty").data_off, 0);
	assert_int_equal(k.digest.b[31], 0xd1);
}

static void test_data_is_in_the_order_of_the_blob(void **state)
{
	FIXTURE;

	REG("a", 10)->offset = 9000;
	REG("b", 10)->offset = 500;
	REG("c", 10)->offset = 700;
	REG("d", 10)->offset = 700;
	f->m.toc.entries[2].inner_offset = 1024;
	f->m.toc.entries[3].inner_offset = 512;
	build(f);
	assert_true(get(f, "b").data_off < get(f, "d").data_off);
	assert_true(get(f, "d").data_off < get(f, "c").data_off);
	assert_true(get(f, "c").data_off < get(f, "a").data_off);
	/* c and d share a member. */
	assert_int_equal(chunk(f, 1).blob_len, 8300);
	assert_int_equal(chunk(f, 2).blob_len, 8300);
	assert_int_equal(chunk(f, 1).inner_off, 512);
}

static void test_first_member_may_hold_data(void **state)
{
	FIXTURE;
	struct toc_entry *en = REG("a", 10);

	en->offset = 0;
	en->inner_offset = 512;
	REG("b", 10)->offset = 300;
	build(f);
	assert_int_equal(chunk(f, 0).blob_off, 0);
	assert_int_equal(chunk(f, 0).blob_len, 300);
}

static void test_chunks_that_do_not_cover_are_refused(void **state)
{
	FIXTURE;

	REG("a", 10)->offset = 0;
	refused(f, -EBADMSG, "a: has no data");
	REG("a", 10)->chunk_size = 9;
	refused(f, -EBADMSG, "a: chunks cover 9 of 10");
	REG("a", 10)->chunk_size = 11;
	refused(f, -EBADMSG, "a: chunk at 0 of 11");
	REG("a", 10)->chunk_offset = 1;
	refused(f, -EBADMSG, "a: chunk at 1");
	REG("a", 10)->chunk_size = 5;
	CHUNK(6, 0);
	refused(f, -EBADMSG, "a: chunk at 6");
	REG("a", 10)->chunk_size = 5;
	CHUNK(4, 6);
	refused(f, -EBADMSG, "a: chunk at 4");
	REG("a", 10)->chunk_size = 5;
	CHUNK(5, 6);
	refused(f, -EBADMSG, "a: chunk at 5");
	REG("a", 10);
	CHUNK(10, 0);
	refused(f, -EBADMSG, "a: chunk at 10");
	REG("a", 10)->chunk_size = 5;
	CHUNK(5, UINT64_MAX);
	refused(f, -EBADMSG, "a: chunk at 5");
}

static void test_chunks_in_wrong_places_are_refused(void **state)
{
	FIXTURE;

	REG("a", 10)->offset = 1000000;
	refused(f, -EBADMSG, "a: data at 1000000");
	REG("a", 10)->chunk_size = 5;
	CHUNK(5, 0)->offset = 100;
	f->m.toc.entries[0].offset = 200;
	refused(f, -EBADMSG, "a: chunks out of order");
	/* Files over one another in a member. */
	REG("a", 10)->offset = 200;
	REG("b", 10)->offset = 200;
	refused(f, -EBADMSG, "chunks out of order or over");
	REG("a", 10)->offset = 200;
	REG("b", 10)->offset = 200;
	f->m.toc.entries[1].inner_offset = 9;
	refused(f, -EBADMSG, "chunks out of order or over");
	REG("a", 10)->inner_offset = UINT64_MAX;
	refused(f, -EOVERFLOW, "a: chunk");
	f->in.toc_off = f->in.blob_size + 1;
	refused(f, -EBADMSG, "outside the blob");
}

static void test_files_above_the_format_are_refused(void **state)
{
	FIXTURE;

	REG("a", UINT64_MAX);
	refused(f, -EOVERFLOW, "a: the layer is above");
	REG("a", EROFS_BYTES_MAX / 2);
	REG("b", EROFS_BYTES_MAX / 2);
	refused(f, -EOVERFLOW, "b: the layer is above");
	for (uint64_t i = 0; i < 15; i++) {
		static const char *const names[] = {"0", "1", "2", "3", "4",
						    "5", "6", "7", "8", "9",
						    "a", "b", "c", "d", "e"};

		REG(names[i], CHUNK_BYTES_MAX);
	}
	build(f);
	mktoc_done(&f->m);
	REG("a", CHUNK_BYTES_MAX + 1);
	refused(f, -EOVERFLOW, "a: chunk of");
}

static void test_missing_digest_only_where_allowed(void **state)
{
	FIXTURE;

	REG("a", 10)->has_chunk_digest = false;
	f->in.toc = &f->m.toc;
	assert_int_equal(index_build(&f->in, &f->meta, &f->table, &f->e),
			 -EBADMSG);
	assert_non_null(strstr(f->e.text, "a: a chunk has no digest"));
	f->in.allow_unverified = true;
	build(f);
	assert_int_equal(f->chunks.flags, CHUNKS_F_UNVERIFIED);
	assert_false(chunk(f, 0).has_digest);
}

static void test_odd_entries_are_refused(void **state)
{
	FIXTURE;
	char *link = malloc(4097);

	assert_non_null(link);
	memset(link, 'l', 4096);
	link[4096] = '\0';
	LINK(TOC_SYMLINK, "a", link);
	refused(f, -EBADMSG, "a: symlink of 4096");
	LINK(TOC_SYMLINK, "a", "");
	refused(f, -EBADMSG, "a: symlink of 0");
	ADD(TOC_CHAR, "a")->devmajor = 4096;
	refused(f, -EBADMSG, "a: no device number: 4096:0");
	ADD(TOC_CHAR, "a")->type = 99;
	refused(f, -EBADMSG, "a: unknown type 99");
	free(link);
}

static void test_too_many_names_are_refused(void **state)
{
	/* 512 deep and each path different: many more names than entries. */
	enum {
		N = TREE_NODES_MAX / 500 + 10,
		LEN = 512 * 2
	};
	FIXTURE;
	char *paths = malloc((size_t)N * (LEN + 8));

	assert_non_null(paths);
	for (size_t i = 0; i < N; i++) {
		char *p = paths + i * (LEN + 8);
		int n = snprintf(p, 9, "%07zu", i);

		for (int k = n; k < LEN - 1; k += 2)
			memcpy(p + k, "/d", 3);
		ADD(TOC_FIFO, p);
	}
	refused(f, -EOVERFLOW, "tree of names");
	free(paths);
}

static void test_same_toc_same_bytes(void **state)
{
	FIXTURE;
	struct buf meta, table;

	for (int i = 0; i < 2; i++) {
		REG("b", 10);
		REG("a/c", 5000);
		REG("a/.wh.x", 0);
		if (i == 0) {
			build(f);
			meta = f->meta;
			table = f->table;
			f->meta = f->table = (struct buf){0};
			mktoc_done(&f->m);
		}
	}
	build(f);
	assert_int_equal(meta.len, f->meta.len);
	assert_memory_equal(meta.p, f->meta.p, meta.len);
	assert_int_equal(table.len, f->table.len);
	assert_memory_equal(table.p, f->table.p, table.len);
	buf_done(&meta);
	buf_done(&table);
}

/*
 * Merged metadata that is kept on disk names files by their numbers in
 * layer.erofs, which may be made anew by a later version of this program: who changes
 * where inodes lie raises MERGE_VERSION (common/merge.c), and then what is here.
 */
static void test_numbers_are_those_of_other_versions(void **state)
{
	FIXTURE;

	REG("b", 10);
	REG("a/c", 5000);
	LINK(TOC_SYMLINK, "s", "a/c");
	REG("long-name/one", 1);
	build(f);
	assert_int_equal(get(f, "b").nid, 45);
	assert_int_equal(get(f, "a/c").nid, 54);
	assert_int_equal(get(f, "long-name/one").nid, 56);
}

static void test_uuid_is_the_digests(void **state)
{
	FIXTURE;

	memset(f->digest.b, 0xff, sizeof(f->digest.b));
	build(f);
	assert_int_equal((uint8_t)f->meta.p[1024 + 48], 0xff);
	assert_int_equal((uint8_t)f->meta.p[1024 + 48 + 6], 0x5f);
	assert_int_equal((uint8_t)f->meta.p[1024 + 48 + 8], 0xbf);
	assert_true(digest_equal(&f->chunks.toc_digest, &f->digest));
}

static void read_blob(const char *name, struct buf *ret)
{
	const char *top = getenv("top_srcdir");
	struct buf path = BUF_INIT(4096);

	*ret = BUF_INIT(1 << 20);
	assert_int_equal(buf_addf(&path, "%s/tests/data/ok/%s",
				  top != NULL ? top : ".", name),
			 0);
	assert_int_equal(io_read_file(AT_FDCWD, path.p, ret), 0);
	buf_done(&path);
}

/* Every chunk of the table decodes, where it says, to what has its digest. */
static void check_chunks_of_blob(struct fixture *f, const struct buf *blob)
{
	struct codec *codec = codec_new();
	struct sha256 *h = sha256_new();
	uint8_t *dst = malloc(1 << 20);

	assert_true(codec != NULL && h != NULL && dst != NULL);
	for (uint64_t i = 0; i < f->chunks.n; i++) {
		struct chunk k = chunk(f, i);
		struct digest d;

		assert_true(k.inner_off + k.len <= 1 << 19);
		assert_int_equal(codec_decode(codec, f->in.codec,
					      blob->p + k.blob_off, k.blob_len,
					      dst, 1 << 20, k.inner_off + k.len,
					      false),
				 0);
		sha256_all(h, dst + k.inner_off, k.len, &d);
		assert_true(digest_equal(&d, &k.digest));
	}
	free(dst);
	sha256_free(h);
	codec_free(codec);
}

static void test_blobs_of_other_writers(void **state)
{
	static const char *const names[] = {
		"toc-estargz.blob",       "toc-estargz-chunked.blob",
		"toc-estargz-empty.blob", "toc-estargz-gnu.blob",
		"toc-zstd-podman.blob",   "toc-zstd.blob",
	};
	FIXTURE;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct buf blob, json = BUF_INIT(1 << 20);
		struct toc_footer footer;
		struct toc *toc = NULL;
		const uint8_t *p;

		read_blob(names[i], &blob);
		p = (const uint8_t *)blob.p;
		assert_int_equal(
			toc_footer_parse(p, blob.len, blob.len, &footer, &f->e),
			0);
		assert_int_equal(toc_decode(&footer, p + footer.toc_off,
					    footer.toc_len, &json, &f->e),
				 0);
		assert_int_equal(toc_parse(json.p, json.len, &toc, &f->e), 0);
		f->m.toc = *toc;
		f->in.blob_size = blob.len;
		f->in.toc_off = footer.toc_off;
		f->in.codec = footer.format == TOC_ZSTD_CHUNKED ? CODEC_ZSTD
								: CODEC_GZIP;
		build(f);
		assert_true(f->im.n_inodes > 1 || i == 2);
		check_chunks_of_blob(f, &blob);
		f->m.toc = (struct toc){0};
		toc_free(toc);
		buf_done(&json);
		buf_done(&blob);
	}
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_empty_toc_is_an_empty_root),
		TEST(test_attributes),
		TEST(test_missing_parents_appear),
		TEST(test_parent_may_come_later),
		TEST(test_directory_again_updates_attributes),
		TEST(test_later_entry_replaces),
		TEST(test_conflicts_are_refused),
		TEST(test_bad_names_are_refused),
		TEST(test_hardlinks),
		TEST(test_hardlink_keeps_what_it_was_made_of),
		TEST(test_bad_hardlinks_are_refused),
		TEST(test_long_chain_of_forward_links),
		TEST(test_whiteouts),
		TEST(test_opaque_directories),
		TEST(test_landmarks_are_hidden_in_the_root_only),
		TEST(test_landmark_outside_is_refused),
		TEST(test_xattrs_of_the_kernel_are_dropped),
		TEST(test_large_xattrs),
		TEST(test_chunks_of_files),
		TEST(test_data_is_in_the_order_of_the_blob),
		TEST(test_first_member_may_hold_data),
		TEST(test_chunks_that_do_not_cover_are_refused),
		TEST(test_chunks_in_wrong_places_are_refused),
		TEST(test_files_above_the_format_are_refused),
		TEST(test_missing_digest_only_where_allowed),
		TEST(test_odd_entries_are_refused),
		TEST(test_too_many_names_are_refused),
		TEST(test_same_toc_same_bytes),
		TEST(test_numbers_are_those_of_other_versions),
		TEST(test_uuid_is_the_digests),
		TEST(test_blobs_of_other_writers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
