/* SPDX-License-Identifier: Apache-2.0 */
/* What containerd's labels say of a lazy layer. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/proto.h"
#include "daemon/snapshotter/labels.h"

#define A \
	"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B \
	"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C \
	"sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define REF "containerd.io/snapshot.ref"
#define CRI "containerd.io/snapshot/cri."
#define STARGZ "containerd.io/snapshot/remote/stargz."
#define TOC "containerd.io/snapshot/stargz/toc.digest"

/* Reads [@n] pairs of key and value; @z and @e are as after the call. */
static int read_labels(const char *const *pairs, size_t n, struct lazy *z,
		       struct err *e)
{
	CLEANUP_LABELS struct labels l = {0};

	*z = (struct lazy){0};
	*e = (struct err){0};
	for (size_t i = 0; i < n; i += 2)
		assert_int_equal(labels_set(&l, pairs[i], pairs[i + 1]), 0);
	return labels_lazy(&l, z, e);
}
#define READ(z, e, ...)                                          \
	read_labels((const char *const[]){__VA_ARGS__},          \
		    sizeof((const char *const[]){__VA_ARGS__}) / \
			    sizeof(char *),                      \
		    z, e)

static void assert_digest(const struct digest *d, const char *want)
{
	char buf[DIGEST_STR_BYTES];

	assert_string_equal(digest_str(d, buf), want);
}

static void test_cri(void **state)
{
	CLEANUP_LAZY struct lazy z;
	struct err e;

	(void)state;
	assert_int_equal(READ(&z, &e, REF, "chain", CRI "image-ref",
			      "docker.io/library/debian:12", CRI "layer-digest",
			      A, CRI "image-layers", A "," B "," C, TOC, B),
			 1);
	assert_string_equal(z.reference, "docker.io/library/debian:12");
	assert_string_equal(z.repository, "docker.io/library/debian");
	assert_digest(&z.blob, A);
	assert_digest(&z.toc, B);
	/* Of the others, each once, and not the layer itself. */
	assert_int_equal(z.n_others, 2);
	assert_digest(&z.others[0].digest, B);
	assert_digest(&z.others[1].digest, C);
}

/* A hint: what is no digest is none. */
static void test_trace(void **state)
{
	static const struct {
		const char *value;
		bool has;
	} cases[] = {{C, true}, {"nonsense", false}, {NULL, false}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_LAZY struct lazy z;
		struct err e;

		assert_int_equal(READ(&z, &e, REF, "chain", CRI "image-ref",
				      "h.io/x", CRI "layer-digest", A, TOC, B,
				      "containerd.io/snapshot/estargz/"
				      "trace.digest",
				      cases[i].value),
				 1);
		assert_int_equal(z.has_trace, cases[i].has);
		if (z.has_trace)
			assert_digest(&z.trace, C);
	}
}

/* Of an image that names no trace, the manifest; a hint, too. */
static void test_manifest(void **state)
{
	static const struct {
		const char *trace, *manifest;
		bool has;
	} cases[] = {{NULL, C, true},
		     {NULL, "nonsense", false},
		     {NULL, NULL, false},
		     {B, C, false}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_LAZY struct lazy z;
		struct err e;

		assert_int_equal(READ(&z, &e, REF, "chain", CRI "image-ref",
				      "h.io/x", CRI "layer-digest", A, TOC, B,
				      CRI "manifest-digest", cases[i].manifest,
				      "containerd.io/snapshot/estargz/"
				      "trace.digest",
				      cases[i].trace),
				 1);
		assert_int_equal(z.has_manifest, cases[i].has);
		if (z.has_manifest)
			assert_digest(&z.manifest, C);
	}
}

/* A layer with two others, and a list of something of all three. */
static void read_list(struct lazy *z, const char *key, const char *value)
{
	struct err e;

	assert_int_equal(READ(z, &e, REF, "chain", CRI "image-ref", "h.io/x",
			      CRI "layer-digest", A, CRI "image-layers",
			      A "," B "," C, TOC, A, key, value),
			 1);
	assert_int_equal(z->n_others, 2);
}

/* How long the ends are, of the layer and of the others; a hint as well. */
static void test_tails(void **state)
{
	static const struct {
		const char *value;
		uint32_t own, b, c;
	} cases[] = {{"5,6,7", 5, 6, 7},
		     {"5", 5, 0, 0},
		     {",,7", 0, 0, 7},
		     {"x,6x,7", 0, 0, 7},
		     {"8388608,8388609,99999999999999999999", 8388608, 0, 0},
		     {NULL, 0, 0, 0}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_LAZY struct lazy z;

		read_list(&z, "containerd.io/snapshot/estargz/tails",
			  cases[i].value);
		assert_int_equal(z.tail, cases[i].own);
		assert_int_equal(z.others[0].tail, cases[i].b);
		assert_int_equal(z.others[1].tail, cases[i].c);
	}
}

/* What the TOCs of the others are; a hint, too. */
static void test_tocs(void **state)
{
	static const struct {
		const char *value;
		bool b, c;
	} cases[] = {{A "," B "," C, true, true}, {A "," B, true, false},
		     {A ",," C, false, true},     {",x" B "," C, false, true},
		     {B, false, false},           {NULL, false, false}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_LAZY struct lazy z;

		read_list(&z, "containerd.io/snapshot/estargz/tocs",
			  cases[i].value);
		assert_int_equal(z.others[0].has_toc, cases[i].b);
		assert_int_equal(z.others[1].has_toc, cases[i].c);
		if (cases[i].b)
			assert_digest(&z.others[0].toc, B);
		if (cases[i].c)
			assert_digest(&z.others[1].toc, C);
	}
}

static void test_stargz(void **state)
{
	CLEANUP_LAZY struct lazy z;
	struct err e;

	(void)state;
	assert_int_equal(READ(&z, &e, REF, "chain", STARGZ "reference",
			      "reg.local:5000/a/b@" C, STARGZ "digest", A,
			      STARGZ "layers", B "," B, TOC, C),
			 1);
	assert_string_equal(z.reference, "reg.local:5000/a/b@" C);
	assert_string_equal(z.repository, "reg.local:5000/a/b");
	assert_digest(&z.blob, A);
	assert_int_equal(z.n_others, 1);
}

static void test_cri_goes_first(void **state)
{
	CLEANUP_LAZY struct lazy z;
	struct err e;

	(void)state;
	assert_int_equal(READ(&z, &e, REF, "chain", CRI "image-ref",
			      "cri.io/x:1", CRI "layer-digest", A,
			      STARGZ "reference", "stargz.io/y:2",
			      STARGZ "digest", B, TOC, C),
			 1);
	assert_string_equal(z.repository, "cri.io/x");
	assert_digest(&z.blob, A);
	assert_int_equal(z.n_others, 0);
}

static void test_repository(void **state)
{
	static const char *const refs[][2] = {
		{"docker.io/debian", "docker.io/library/debian"},
		{"127.0.0.1:5000/x:t", "127.0.0.1:5000/x"},
		{"localhost/a/b:t@" A, "localhost/a/b"},
		{"[::1]:80/x", "[::1]:80/x"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refs); i++) {
		CLEANUP_LAZY struct lazy z;
		struct err e;

		assert_int_equal(READ(&z, &e, REF, "c", CRI "image-ref",
				      refs[i][0], CRI "layer-digest", A, TOC,
				      B),
				 1);
		assert_string_equal(z.repository, refs[i][1]);
	}
}

static void test_not_asked_for(void **state)
{
	struct lazy z;
	struct err e;

	(void)state;
	assert_int_equal(READ(&z, &e, "a", "b"), 0);
	/* An ordinary layer of a client that knows nothing of lazy ones. */
	assert_int_equal(READ(&z, &e, REF, "chain"), 0);
	assert_int_equal(READ(&z, &e, REF, "chain", TOC, A), 0);
	/* An active snapshot of an image that has labels. */
	assert_int_equal(READ(&z, &e, CRI "image-ref", "h.io/x",
			      CRI "layer-digest", A, TOC, B),
			 0);
	assert_null(z.reference);
}

static void test_no_toc(void **state)
{
	struct lazy z;
	struct err e;

	(void)state;
	assert_int_equal(READ(&z, &e, REF, "chain", CRI "image-ref", "h.io/x",
			      CRI "layer-digest", A),
			 -ENODATA);
	assert_non_null(strstr(e.text, "not an eStargz layer"));
	assert_null(z.reference);
}

static void test_bad(void **state)
{
	static const struct {
		const char *ref, *digest, *toc, *why;
	} bad[] = {
		{"h.io/x", NULL, B, "cri.layer-digest is missing"},
		{"h.io/x", "sha256:12", B, "cri.layer-digest: not a digest"},
		{"h.io/x", A "a", B, "not a digest"},
		{"h.io/x", "sha512:aa", B, "not a sha256 digest"},
		{"h.io/x", "sha256:\n\033[2J", B, "not a digest: sha256:??[2J"},
		{"h.io/x", A, "nonsense", "toc.digest: not a digest"},
		{"h.io/x", A, A "," B, "toc.digest: not a digest"},
		{"debian", A, B, "cri.image-ref: reference debian: no host"},
		{"h.io/x y", A, B, "bad repository"},
		{"h.io/x\n", A, B, "bad repository"},
		{"h.io/../x", A, B, "bad repository"},
		{"h.io/x:\001", A, B, "bad tag"},
		{"h.io/x@sha256:1", A, B, "bad digest"},
		{"-o/x", A, B, "no host"},
		{"-o.io/x", A, B, "bad host"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct lazy z;
		struct err e;
		int r = bad[i].digest != NULL
				? READ(&z, &e, REF, "c", CRI "image-ref",
				       bad[i].ref, CRI "layer-digest",
				       bad[i].digest, TOC, bad[i].toc)
				: READ(&z, &e, REF, "c", CRI "image-ref",
				       bad[i].ref, TOC, bad[i].toc);

		assert_int_equal(r, -EBADMSG);
		if (strstr(e.text, bad[i].why) == NULL)
			fail_msg("%zu: %s", i, e.text);
		assert_null(z.reference);
		assert_null(z.others);
	}
}

static void test_long_reference(void **state)
{
	char ref[4096] = "h.io/";
	struct lazy z;
	struct err e;

	(void)state;
	memset(ref + 5, 'a', sizeof(ref) - 6);
	assert_int_equal(READ(&z, &e, REF, "c", CRI "image-ref", ref,
			      CRI "layer-digest", A, TOC, B),
			 -EBADMSG);
	assert_non_null(strstr(e.text, "too long"));
}

/* Cut at every byte: what is whole is there. */
static void test_truncated_list(void **state)
{
	static const char list[] = A "," B "," C;

	(void)state;
	for (size_t n = 0; n < sizeof(list); n++) {
		CLEANUP_LAZY struct lazy z;
		CLEANUP_FREE char *cut = strndup(list, n);
		struct err e;

		assert_int_equal(READ(&z, &e, REF, "c", CRI "image-ref",
				      "h.io/x", CRI "layer-digest", A,
				      CRI "image-layers", cut, TOC, B),
				 1);
		assert_int_equal(z.n_others, (n > 2 * 71) + (n > 3 * 71 + 1));
	}
}

static void test_odd_lists(void **state)
{
	static const struct {
		const char *list;
		size_t n;
	} odd[] = {
		{",", 0},        {",,,", 0},
		{"x," B ",", 1}, {"sha512:00," C "," B, 2},
		{B " ," C, 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
		CLEANUP_LAZY struct lazy z;
		struct err e;

		assert_int_equal(READ(&z, &e, REF, "c", CRI "image-ref",
				      "h.io/x", CRI "layer-digest", A,
				      CRI "image-layers", odd[i].list, TOC, B),
				 1);
		assert_int_equal(z.n_others, odd[i].n);
	}
}

static void test_many_others(void **state)
{
	CLEANUP_BUF struct buf list = BUF_INIT(KIB(128));
	CLEANUP_LAZY struct lazy z;
	struct err e;

	(void)state;
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(buf_addf(&list, "sha256:%064zx,", i), 0);
	assert_int_equal(READ(&z, &e, REF, "c", CRI "image-ref", "h.io/x",
			      CRI "layer-digest", A, CRI "image-layers", list.p,
			      TOC, B),
			 1);
	assert_int_equal(z.n_others, PROTO_WARM_BLOBS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cri),
		cmocka_unit_test(test_trace),
		cmocka_unit_test(test_manifest),
		cmocka_unit_test(test_tails),
		cmocka_unit_test(test_tocs),
		cmocka_unit_test(test_stargz),
		cmocka_unit_test(test_cri_goes_first),
		cmocka_unit_test(test_repository),
		cmocka_unit_test(test_not_asked_for),
		cmocka_unit_test(test_no_toc),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_long_reference),
		cmocka_unit_test(test_truncated_list),
		cmocka_unit_test(test_odd_lists),
		cmocka_unit_test(test_many_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
