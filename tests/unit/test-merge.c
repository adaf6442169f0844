/* SPDX-License-Identifier: Apache-2.0 */
/* Merging layers, by hand-made ones; and what may be given to the kernel. What
 * overlayfs says of all this is the business of tests/sh/m30-merged.sh. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/erofs_check.h"
#include "common/rd.h"
#include "tests/unit/erofs-walk.h"
#include "tests/unit/mkstack.h"

static int setup(void **state)
{
	*state = calloc(1, sizeof(struct mkstack));
	return *state != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	mkstack_done(*state);
	free(*state);
	return 0;
}

/* "PATH TYPE nlink size@layer" of everything, sorted as directories are,
 * depth first. */
static void dump(const struct mkstack *s, const struct erofs_inode *dir,
		 const char *path, struct buf *out)
{
	struct erofs_dirent d = {0};

	while (erofs_readdir(&s->im, dir, d.next, &d) > 0) {
		struct erofs_inode in;
		uint64_t nid;
		char name[512];

		if (d.len <= 2 && memcmp(d.name, "..", d.len) == 0)
			continue;
		assert_int_equal(erofs_inode_get(&s->im, d.nid, &in), 0);
		(void)snprintf(name, sizeof(name), "%s%.*s", path, (int)d.len,
			       d.name);
		assert_int_equal(buf_addf(out, "%s %c%u", name,
					  "?pc?d?b?-?l?s???"[in.mode >> 12],
					  in.nlink),
				 0);
		if (S_ISREG(in.mode))
			assert_int_equal(buf_addf(out, " %" PRIu64 "@%d",
						  in.size,
						  mkstack_layer(s, &in, &nid)),
					 0);
		/* Who it is of. */
		assert_int_equal(buf_addf(out, " %u\n", in.uid), 0);
		if (!S_ISDIR(in.mode))
			continue;
		(void)snprintf(name, sizeof(name), "%s%.*s/", path, (int)d.len,
			       d.name);
		dump(s, &in, name, out);
	}
}

static void merged_is(struct mkstack *s, const char *want)
{
	CLEANUP_BUF struct buf got = BUF_INIT(MIB(4));
	struct erofs_inode root;

	if (mkstack_merge(s) < 0)
		fail_msg("%s", s->e.text);
	assert_true(s->im.n_inodes > WALK_VISITS_MAX ||
		    walk_image(&s->im) == 0);
	if (erofs_check(&s->im, s->out.len, &s->e) < 0)
		fail_msg("%s", s->e.text);
	assert_int_equal(erofs_inode_get(&s->im, s->im.root_nid, &root), 0);
	dump(s, &root, "", &got);
	assert_string_equal(got.p != NULL ? got.p : "", want);
}

static void test_upper_wins(void **state)
{
	struct mkstack *s = *state;

	mkstack_add(s, "d d\nf d/a 5\nf e 0");
	mkstack_add(s, "d d\nf d/a 7\nf d/b 9\nf f 4097");
	merged_is(s, "d d1 0\nd/a -1 5@0 0\nd/b -1 9@1 1\ne -1 0@-1 0\n"
		     "f -1 4097@1 1\n");
}

static void test_redirect_names_the_number(void **state)
{
	struct mkstack *s = *state;
	struct erofs_inode root, in, of;
	uint64_t nid, want;

	mkstack_add(s, "f other 1");
	mkstack_add(s, "f a 5");
	assert_int_equal(mkstack_merge(s), 0);
	assert_int_equal(erofs_inode_get(&s->im, s->im.root_nid, &root), 0);
	assert_int_equal(erofs_lookup(&s->im, &root, "a", 1, &nid, NULL), 0);
	assert_int_equal(erofs_inode_get(&s->im, nid, &in), 0);
	assert_int_equal(mkstack_layer(s, &in, &nid), 1);
	assert_int_equal(erofs_inode_get(&s->layers[1].im,
					 s->layers[1].im.root_nid, &of),
			 0);
	assert_int_equal(
		erofs_lookup(&s->layers[1].im, &of, "a", 1, &want, NULL), 0);
	assert_int_equal(nid, want);
}

static void test_whiteout(void **state)
{
	struct mkstack *s = *state;

	mkstack_add(s, "f .wh.a 0\nf d/.wh.b 0\nf new/.wh.x 0");
	mkstack_add(s, "f a 5\nd d\nf d/b 1\nf d/c 1");
	mkstack_add(s, "d a\nf a/deep 1\nf d/b 2");
	/* Nothing of it is left, also where it had nothing to hide. */
	merged_is(s, "d d1 0\nd/c -1 1@1 1\nnew d2 0\n");
}

static void test_whiteout_ends_a_directory(void **state)
{
	struct mkstack *s = *state;

	mkstack_add(s, "d d\nf d/top 1");
	mkstack_add(s, "f .wh.d 0");
	mkstack_add(s, "d d\nf d/low 1");
	merged_is(s, "d d2 0\nd/top -1 1@0 0\n");
}

static void test_opaque(void **state)
{
	struct mkstack *s = *state;

	mkstack_add(s, "d d\nf d/0 1");
	mkstack_add(s, "d d\nf d/.wh..wh..opq 0\nf d/1 1\nf .wh..wh..opq 0");
	mkstack_add(s, "d d\nf d/2 1\nf root 1");
	/* Roots are always merged. */
	merged_is(s, "d d1 0\nd/0 -1 1@0 0\nd/1 -1 1@1 1\nroot -1 1@2 2\n");
}

static void test_types_replaced(void **state)
{
	struct mkstack *s = *state;

	mkstack_add(s, "f was-dir 1\nd was-file\nd between");
	mkstack_add(s, "d was-dir\nf was-dir/x 1\nf was-file 1\ns between t");
	mkstack_add(s, "d was-file\nf was-file/x 1\nd between\nf between/x 1");
	merged_is(s, "between d2 0\nwas-dir -1 1@0 0\nwas-file d2 0\n");
}

static void test_hardlinks(void **state)
{
	struct mkstack *s = *state;
	struct erofs_inode root;
	uint64_t a, b;

	mkstack_add(s, "f .wh.c 0");
	mkstack_add(s, "f a 3\nh b a\nh c a");
	mkstack_add(s, "f z 3\nh y z");
	/* Links that are hidden are counted, as overlayfs does. */
	merged_is(s, "a -3 3@1 1\nb -3 3@1 1\ny -2 3@2 2\nz -2 3@2 2\n");
	assert_int_equal(erofs_inode_get(&s->im, s->im.root_nid, &root), 0);
	assert_int_equal(erofs_lookup(&s->im, &root, "a", 1, &a, NULL), 0);
	assert_int_equal(erofs_lookup(&s->im, &root, "b", 1, &b, NULL), 0);
	assert_int_equal(a, b);
}

static void test_attributes(void **state)
{
	struct mkstack *s = *state;
	struct erofs_inode root, in;
	const uint8_t *value;
	char names[512];
	uint64_t nid;
	size_t len;

	mkstack_add(s, "d d\nx user.top 0\nf f 1\nx user.of-f yes\ns l t\nx "
		       "trusted.of-l z");
	mkstack_add(s, "d d\nx user.low 1\nf f 1\nx user.hidden 1\nc dev");
	merged_is(s, "d d1 0\ndev c1 1\nf -1 1@0 0\nl l1 0\n");
	assert_int_equal(erofs_inode_get(&s->im, s->im.root_nid, &root), 0);
	assert_int_equal(erofs_lookup(&s->im, &root, "d", 1, &nid, NULL), 0);
	assert_int_equal(erofs_inode_get(&s->im, nid, &in), 0);
	assert_int_equal(in.mtime, 0);
	assert_int_equal(erofs_xattr_list(&s->im, &in, names, sizeof(names)),
			 sizeof("user.top"));
	assert_string_equal(names, "user.top");
	assert_int_equal(erofs_lookup(&s->im, &root, "f", 1, &nid, NULL), 0);
	assert_int_equal(erofs_inode_get(&s->im, nid, &in), 0);
	assert_int_equal(
		erofs_xattr_get(&s->im, &in, "user.of-f", &value, &len), 0);
	assert_memory_equal(value, "yes", 3);
	assert_int_equal(erofs_xattr_get(&s->im, &in,
					 "trusted.overlay.metacopy", &value,
					 &len),
			 0);
	assert_int_equal(len, 0);
	assert_int_equal(erofs_lookup(&s->im, &root, "dev", 3, &nid, NULL), 0);
	assert_int_equal(erofs_inode_get(&s->im, nid, &in), 0);
	assert_int_equal(in.rdev, 1 << 8);
}

static void test_user(void **state)
{
	struct mkstack *s = *state;
	struct digest other;

	s->user = true;
	mkstack_add(s, "d d\nf d/.wh..wh..opq 0\nf d/a 1");
	mkstack_add(s, "d d\nf d/b 1");
	merged_is(s, "d d2 0\nd/a -1 1@0 0\n");
	assert_memory_equal(s->im.uuid, s->key.b, 16);
	assert_int_equal(merge_key(&s->layers[0].toc_digest, 1, true, &other),
			 0);
	assert_false(digest_equal(&other, &s->key));
}

static void test_deterministic(void **state)
{
	struct mkstack *s = *state;
	CLEANUP_BUF struct buf again = BUF_INIT(0);

	mkstack_add(s, "d d\nf d/a 5\nx user.a 1\nf d/b 6");
	mkstack_add(s, "d d\nf d/a 5\nf d/c 6");
	assert_int_equal(mkstack_merge(s), 0);
	assert_int_equal(
		merge_build(s->layers, s->n, s->user, &s->key, &again, &s->e),
		0);
	assert_int_equal(again.len, s->out.len);
	assert_memory_equal(again.p, s->out.p, again.len);
}

/* A directory of more names than a block has, half of them in each layer, and
 * files with more links than the table begins with. */
static void test_many(void **state)
{
	struct mkstack *s = *state;
	CLEANUP_BUF struct buf spec = BUF_INIT(MIB(4));
	CLEANUP_BUF struct buf want = BUF_INIT(MIB(4));

	for (unsigned l = 0; l < 2; l++) {
		buf_clear(&spec);
		for (unsigned i = l; i < 3000; i += 2)
			assert_int_equal(
				buf_addf(&spec,
					 "f d/%04u-a 1\nh d/%04u-b d/%04u-a\n",
					 i, i, i),
				0);
		mkstack_add(s, spec.p);
	}
	assert_int_equal(buf_add_str(&want, "d d1 0\n"), 0);
	for (unsigned i = 0; i < 3000; i++)
		assert_int_equal(buf_addf(&want,
					  "d/%04u-a -2 1@%u %u\nd/%04u-b "
					  "-2 1@%u %u\n",
					  i, i % 2, i % 2, i, i % 2, i % 2),
				 0);
	merged_is(s, want.p);
}

/* ---- damage ------------------------------------------------------------ */

/* A name's entry in the directory @dir of an image, to be changed. */
static uint8_t *dirent_of(struct buf *meta, const struct erofs_image *im,
			  const char *name)
{
	struct erofs_inode root;
	uint8_t *p;
	uint32_t n;

	assert_int_equal(erofs_inode_get(im, im->root_nid, &root), 0);
	/* The root is the first inode, its names are inline. */
	p = (uint8_t *)meta->p + root.inode_off + root.inode_bytes +
	    root.xattr_bytes;
	n = le16_load(p + EROFS_DE_NAME_OFF) / EROFS_DIRENT_BYTES;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t *de = p + i * EROFS_DIRENT_BYTES;

		if (memcmp(p + le16_load(de + EROFS_DE_NAME_OFF), name,
			   strlen(name)) == 0)
			return de;
	}
	fail_msg("no %s", name);
	return NULL;
}

static void refused(struct mkstack *s)
{
	assert_int_equal(mkstack_merge(s), -EBADMSG);
	assert_string_equal(s->e.text,
			    "metadata of layer 1 of the chain is damaged");
}

static void test_bad_circle(void **state)
{
	struct mkstack *s = *state;
	struct erofs_image *im = &s->layers[1].im;

	mkstack_add(s, "d d");
	mkstack_add(s, "d d\nd e");
	le64_store(dirent_of(&s->meta[1], im, "d"), im->root_nid);
	refused(s);
}

static void test_bad_two_parents(void **state)
{
	struct mkstack *s = *state;
	struct erofs_image *im = &s->layers[1].im;

	mkstack_add(s, "d x");
	mkstack_add(s, "d d\nd e");
	le64_store(dirent_of(&s->meta[1], im, "d"),
		   le64_load(dirent_of(&s->meta[1], im, "e")));
	refused(s);
}

static void test_bad_order(void **state)
{
	struct mkstack *s = *state;
	uint8_t *a;

	mkstack_add(s, "d x");
	mkstack_add(s, "d a\nd b");
	a = dirent_of(&s->meta[1], &s->layers[1].im, "a");
	/* The names are behind the entries, in their order. */
	*(a + le16_load(a + EROFS_DE_NAME_OFF) -
	  2 * (size_t)EROFS_DIRENT_BYTES) = 'z';
	refused(s);
}

static void test_bad_nid(void **state)
{
	struct mkstack *s = *state;

	mkstack_add(s, "d x");
	mkstack_add(s, "f a 1");
	le64_store(dirent_of(&s->meta[1], &s->layers[1].im, "a"), 1u << 20);
	refused(s);
}

static void test_orders_of_a_layer_are_dropped(void **state)
{
	struct mkstack *s = *state;
	struct erofs_xattr_iter it;
	struct erofs_inode root, in;
	struct erofs_xattr x;
	uint64_t nid;
	void *p;

	mkstack_add(s, "f a 1\nx trusted.0verlay.redirect /etc/shadow");
	/* An index that lies: the builder would not have let it in. */
	p = memmem(s->meta[0].p, s->meta[0].len, "0verlay.", 8);
	assert_non_null(p);
	memcpy(p, "overlay.", 8);
	assert_int_equal(mkstack_merge(s), 0);
	assert_int_equal(erofs_inode_get(&s->im, s->im.root_nid, &root), 0);
	assert_int_equal(erofs_lookup(&s->im, &root, "a", 1, &nid, NULL), 0);
	assert_int_equal(erofs_inode_get(&s->im, nid, &in), 0);
	assert_int_equal(mkstack_layer(s, &in, &nid), 0);
	assert_int_equal(erofs_xattr_begin(&it, &s->im, &in), 0);
	assert_int_equal(erofs_xattr_next(&it, &x), 1);
	assert_int_equal(erofs_xattr_next(&it, &x), 1);
	assert_int_equal(erofs_xattr_next(&it, &x), 0);
	/* Nor may the kernel be given that layer. */
	assert_int_equal(erofs_check(&s->layers[0].im,
				     s->layers[0].im.n_blocks * 4096, &s->e),
			 -EBADMSG);
	assert_non_null(strstr(s->e.text, "extended attributes"));
}

/* Whatever is changed in a layer: an answer, and a good image if it is yes. */
static void test_bit_flips(void **state)
{
	struct mkstack *s = *state;
	size_t yes = 0, no = 0;

	mkstack_add(s, "d d\nf d/a 1\nf .wh.b 0");
	mkstack_add(s, "d d\nx user.a 1\nf d/a 1\nh d/c d/a\ns l t\nd b");
	for (size_t bit = 8 * EROFS_SUPER_OFF; bit < 8 * s->meta[1].len;
	     bit += 3) {
		uint8_t *p = (uint8_t *)s->meta[1].p + bit / 8;

		*p ^= (uint8_t)(1u << bit % 8);
		buf_done(&s->out);
		s->out = BUF_INIT(0);
		if (mkstack_merge(s) == 0) {
			assert_int_equal(walk_image(&s->im), 0);
			(void)erofs_check(&s->im, s->out.len, &s->e);
			yes++;
		} else {
			no++;
		}
		*p ^= (uint8_t)(1u << bit % 8);
	}
	assert_true(yes > 0);
	assert_true(no > 0);
}

/* ---- erofs_check() ----------------------------------------------------- */

static int check(struct mkstack *s)
{
	struct erofs_image im;
	uint8_t *p = (uint8_t *)s->meta[0].p;
	int r;

	fix_checksum(p, s->meta[0].len);
	r = erofs_open(&im, p, s->meta[0].len, &s->e);
	return r < 0 ? r
		     : erofs_check(&im, s->layers[0].im.n_blocks * 4096, &s->e);
}

#define PLAIN_LAYER                                                       \
	"d d\nf d/.wh..wh..opq 0\nf d/a 5000\nh d/c d/a\ns l t\nf .wh.w " \
	"0\nf x 1\nx user.a 1\nc n"

static void test_check_good(void **state)
{
	struct mkstack *s = *state;

	mkstack_add(s, PLAIN_LAYER);
	if (check(s) < 0)
		fail_msg("%s", s->e.text);
}

/* One thing wrong: bytes [@len] at a field of the inode of a name. */
static void bad_inode(struct mkstack *s, const char *name, size_t field,
		      uint64_t value, size_t len, const char *why)
{
	struct buf *m = &s->meta[0];
	uint64_t nid =
		*name == '\0' ? s->layers[0].im.root_nid
			      : le64_load(dirent_of(m, &s->layers[0].im, name));
	uint8_t *p = (uint8_t *)m->p + nid * EROFS_SLOT_BYTES + field;
	uint8_t old[8], new[8];

	le64_store(new, value);
	memcpy(old, p, len);
	memcpy(p, new, len);
	assert_int_equal(check(s), -EBADMSG);
	if (strstr(s->e.text, why) == NULL)
		fail_msg("%s: %s, not %s", name, s->e.text, why);
	memcpy(p, old, len);
	assert_int_equal(check(s), 0);
}

static void test_check_bad_inodes(void **state)
{
	struct mkstack *s = *state;

	mkstack_add(s, PLAIN_LAYER);
	bad_inode(s, "", EROFS_I_NLINK, 9, 4, "links");
	bad_inode(s, "d", EROFS_I_NLINK, 3, 4, "links");
	bad_inode(s, "x", EROFS_I_NLINK, 2, 4, "links");
	bad_inode(s, "x", EROFS_I_NLINK, 0, 4, "attributes");
	bad_inode(s, "x", EROFS_I_MTIME_NSEC, 1u << 30, 4, "attributes");
	bad_inode(s, "x", EROFS_I_U, 0, 4, "out of bounds");
	bad_inode(s, "x", EROFS_I_SIZE, 1u << 20, 8, "no inode");
	bad_inode(s, "x", EROFS_I_MODE, S_IFDIR | 0755, 2, "type in the");
	bad_inode(s, "x", EROFS_I_FORMAT, 9, 2, "no inode");
	bad_inode(s, "n", EROFS_I_SIZE, 1, 8, "out of bounds");
	bad_inode(s, "l", EROFS_I_SIZE, 0, 8, "out of bounds");
	bad_inode(s, "l", EROFS_I_SIZE, 4000, 8, "out of bounds");
	bad_inode(s, "x", EROFS_INODE_BYTES + EROFS_XH_SHARED_COUNT, 1, 1,
		  "attributes");
	bad_inode(s, "x",
		  EROFS_INODE_BYTES + EROFS_XATTR_HEADER_BYTES + EROFS_XE_INDEX,
		  5, 1, "attributes");
	bad_inode(s, "d",
		  EROFS_INODE_BYTES + EROFS_XATTR_HEADER_BYTES +
			  EROFS_XATTR_ENTRY_BYTES + 14,
		  'x', 1, "attributes"); /* overlay.opaque=x */
}

static void test_check_bad_names(void **state)
{
	struct mkstack *s = *state;
	struct buf *m = &s->meta[0];
	const struct erofs_image *im = &s->layers[0].im;
	static const struct {
		const char *name, *other, *why;
	} bad[] = {
		{"d", ".", "several names"},    {"x", "d", "type in the"},
		{"x", "l", "type in the"},      {".", "d", "\".\" or \"..\""},
		{"..", "d", "\".\" or \"..\""},
	};

	mkstack_add(s, PLAIN_LAYER);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint8_t *de = dirent_of(m, im, bad[i].name);
		uint64_t was = le64_load(de);

		le64_store(de, le64_load(dirent_of(m, im, bad[i].other)));
		assert_int_equal(check(s), -EBADMSG);
		if (strstr(s->e.text, bad[i].why) == NULL)
			fail_msg("%s: %s", bad[i].name, s->e.text);
		le64_store(de, was);
		assert_int_equal(check(s), 0);
	}
}

static void test_check_bad_super(void **state)
{
	struct mkstack *s = *state;
	uint8_t *sb;

	mkstack_add(s, PLAIN_LAYER);
	sb = (uint8_t *)s->meta[0].p + EROFS_SUPER_OFF;
	/* Whatever is not the writer's: fields that must be zero, features. */
	for (size_t i = 0; i < EROFS_SUPER_BYTES; i++) {
		bool any = (i >= EROFS_SB_CHECKSUM && i < EROFS_SB_COMPAT) ||
			   (i >= EROFS_SB_UUID && i < EROFS_SB_LABEL);

		sb[i] ^= 0x40;
		if (any)
			assert_int_equal(check(s), 0);
		else
			assert_true(check(s) < 0);
		sb[i] ^= 0x40;
	}
	assert_int_equal(check(s), 0);
	assert_int_equal(erofs_check(&s->layers[0].im, 4096, &s->e), -EBADMSG);
}

static void test_check_bit_flips(void **state)
{
	struct mkstack *s = *state;
	size_t yes = 0, no = 0;

	mkstack_add(s, PLAIN_LAYER);
	for (size_t bit = 8 * EROFS_SUPER_OFF; bit < 8 * s->meta[0].len;
	     bit++) {
		uint8_t *p = (uint8_t *)s->meta[0].p + bit / 8;

		*p ^= (uint8_t)(1u << bit % 8);
		if (check(s) == 0) {
			struct erofs_image im;

			yes++;
			assert_int_equal(erofs_open(&im, s->meta[0].p,
						    s->meta[0].len, &s->e),
					 0);
			assert_int_equal(walk_image(&im), 0);
		} else {
			no++;
		}
		*p ^= (uint8_t)(1u << bit % 8);
	}
	assert_true(yes > 0); /* owners, times, values */
	assert_true(no > yes / 16);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_upper_wins),
		T(test_redirect_names_the_number),
		T(test_whiteout),
		T(test_whiteout_ends_a_directory),
		T(test_opaque),
		T(test_types_replaced),
		T(test_hardlinks),
		T(test_attributes),
		T(test_user),
		T(test_deterministic),
		T(test_many),
		T(test_bad_circle),
		T(test_bad_two_parents),
		T(test_bad_order),
		T(test_bad_nid),
		T(test_orders_of_a_layer_are_dropped),
		T(test_bit_flips),
		T(test_check_good),
		T(test_check_bad_inodes),
		T(test_check_bad_names),
		T(test_check_bad_super),
		T(test_check_bit_flips),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
