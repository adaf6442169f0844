/* SPDX-License-Identifier: Apache-2.0 */
/* Names of images, and layouts that are written and read. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/image/doc.h"
#include "cli/image/image.h"
#include "common/io.h"
#include "common/limits.h"
#include "tests/unit/tmproot.h"

static char root[64];

static int setup(void **state)
{
	(void)state;
	(void)snprintf(root, sizeof(root), "/tmp/test-image.XXXXXX");
	return mkdtemp(root) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return tmproot_remove(root);
}

/* ---- names ------------------------------------------------------------- */

static void good_names(void **state)
{
	static const struct {
		const char *s;
		enum image_transport transport;
		const char *path, *tag, *host, *repo, *ref_tag;
	} good[] = {
		{"oci:/a/b", IMAGE_OCI, "/a/b", NULL, NULL, NULL, NULL},
		{"oci:d:v1", IMAGE_OCI, "d", "v1", NULL, NULL, NULL},
		{"oci:d:a--b", IMAGE_OCI, "d", "a--b", NULL, NULL, NULL},
		{"oci:d:reg.io:5000/x:v1", IMAGE_OCI, "d", "reg.io:5000/x:v1",
		 NULL, NULL, NULL},
		{"oci-archive:f.tar", IMAGE_OCI_ARCHIVE, "f.tar", NULL, NULL,
		 NULL, NULL},
		{"docker-archive:f:busybox:1", IMAGE_DOCKER_ARCHIVE, "f",
		 "busybox:1", NULL, NULL, NULL},
		{"docker://debian", IMAGE_DOCKER, NULL, NULL, "docker.io",
		 "library/debian", "latest"},
		{"docker://debian:12", IMAGE_DOCKER, NULL, NULL, "docker.io",
		 "library/debian", "12"},
		{"docker://me/it", IMAGE_DOCKER, NULL, NULL, "docker.io",
		 "me/it", "latest"},
		{"docker://localhost/it:x", IMAGE_DOCKER, NULL, NULL,
		 "localhost", "it", "x"},
		{"docker://h:5000/a/b", IMAGE_DOCKER, NULL, NULL, "h:5000",
		 "a/b", "latest"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		CLEANUP_IMAGE_NAME struct image_name n = {0};
		struct err e = {0};

		assert_int_equal(image_name_parse(good[i].s, &n, &e), 0);
		assert_int_equal(n.transport, good[i].transport);
#define SAME(is, want)                                 \
	do {                                           \
		if ((want) == NULL)                    \
			assert_null(is);               \
		else                                   \
			assert_string_equal(is, want); \
	} while (0)
		SAME(n.path, good[i].path);
		SAME(n.tag, good[i].tag);
		SAME(n.ref.host, good[i].host);
		SAME(n.ref.repo, good[i].repo);
		SAME(n.ref.tag, good[i].ref_tag);
	}
}

static void bad_names(void **state)
{
	static const struct {
		const char *s;
		int code;
	} bad[] = {
		{"", -EINVAL},
		{"debian", -EINVAL},
		{"dir:/x", -EINVAL},
		{"docker:debian", -EINVAL},
		{"oci:", -EBADMSG},
		{"oci::tag", -EBADMSG},
		{"oci:d:", -EBADMSG},
		{"oci:d:a b", -EBADMSG},
		{"oci:d:a..b", -EBADMSG},
		{"oci:d:a-", -EBADMSG},
		{"docker://", -EBADMSG},
		{"docker://UP", -EBADMSG},
		{"docker://a:b:c", -EBADMSG},
		{"docker-archive:f:@0", -EBADMSG},
		{"docker://h.io/x@sha512:00", -EOPNOTSUPP},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct image_name n = {0};
		struct err e = {0};

		assert_int_equal(image_name_parse(bad[i].s, &n, &e),
				 bad[i].code);
		assert_int_equal(e.code, bad[i].code);
		assert_non_null(strstr(e.text, bad[i].s));
	}
}

/* ---- layouts ----------------------------------------------------------- */

static struct image_name named(const char *rest)
{
	struct image_name n = {0};
	struct err e = {0};
	char s[256];

	(void)snprintf(s, sizeof(s), "oci:%s/%s", root, rest);
	assert_int_equal(image_name_parse(s, &n, &e), 0);
	return n;
}

static const char blob_text[] = "a layer, or what goes for one";
static const char manifest_text[] = "{\"schemaVersion\":2,\"layers\":[]}";

static struct image_desc of(const char *type, const char *text)
{
	struct image_desc d;

	assert_int_equal(doc_describe(type, text, strlen(text), &d), 0);
	return d;
}

static void put(struct image_dst *d, const char *text)
{
	CLEANUP(image_desc_done)
	struct image_desc b = of(OCI_LAYER, text);
	char path[128];
	struct err e = {0};
	int fd;

	(void)snprintf(path, sizeof(path), "%s/blob", root);
	assert_int_equal(
		io_write_file(AT_FDCWD, path, text, strlen(text), 0600), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(image_dst_put(d, &b, fd, NULL, NULL, &e), 0);
	assert_int_equal(image_dst_has(d, &b, &e), 1);
	(void)close(fd);
}

static void commit(struct image_dst *d, const char *text)
{
	CLEANUP(image_desc_done)
	struct image_desc m = of(OCI_MANIFEST, text);
	struct err e = {0};

	assert_int_equal(image_dst_commit(d, &m, text, &e), 0);
}

static struct image_dst *opened(const char *rest)
{
	CLEANUP_IMAGE_NAME struct image_name n = named(rest);
	struct image_dst *d = NULL;
	struct err e = {0};

	assert_int_equal(image_dst_open(&n, NULL, &d, &e), 0);
	return d;
}

static void make(const char *rest, const char *manifest)
{
	CLEANUP(image_dst_close_cleanup) struct image_dst *d = opened(rest);

	put(d, blob_text);
	commit(d, manifest);
}

/* What the name leads to, or the error. */
static int look(const char *rest, struct buf *ret)
{
	CLEANUP_IMAGE_NAME struct image_name n = named(rest);
	CLEANUP(image_src_close_cleanup) struct image_src *s = NULL;
	CLEANUP(image_desc_done) struct image_desc d = {0};
	struct err e = {0};
	int r = image_src_open(&n, NULL, &s, &e);

	buf_clear(ret);
	if (r == 0)
		r = image_src_root(s, &d, ret, &e);
	assert_int_equal(r, e.code);
	return r;
}

static void round_trip(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MANIFEST_BYTES_MAX);
	static const char other[] =
		"{\"schemaVersion\":2,\"layers\":[],\"x\":1}";

	(void)state;
	make("l:one", manifest_text);
	assert_int_equal(look("l:one", &b), 0);
	assert_string_equal(b.p, manifest_text);
	assert_int_equal(look("l", &b), 0);
	assert_int_equal(look("l:two", &b), -ENOENT);
	/* Another name, and the same bytes under it. */
	make("l:two", manifest_text);
	assert_int_equal(look("l:one", &b), 0);
	assert_int_equal(look("l:two", &b), 0);
	assert_int_equal(look("l", &b), -EINVAL);
	/* A name moves; the other stays. */
	make("l:one", other);
	assert_int_equal(look("l:one", &b), 0);
	assert_string_equal(b.p, other);
	assert_int_equal(look("l:two", &b), 0);
	assert_string_equal(b.p, manifest_text);
	assert_int_equal(look("nowhere:x", &b), -ENOENT);
}

static void nameless(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MANIFEST_BYTES_MAX);
	static const char other[] = "{\"schemaVersion\":2,\"layers\":[ ]}";

	(void)state;
	make("l", manifest_text);
	make("l", other);
	assert_int_equal(look("l", &b), 0);
	assert_string_equal(b.p, other);
}

static void read_back(void **state)
{
	CLEANUP_IMAGE_NAME struct image_name n = {0};
	CLEANUP(image_src_close_cleanup) struct image_src *s = NULL;
	CLEANUP(image_read_close_cleanup) struct image_read *in = NULL;
	CLEANUP(image_desc_done) struct image_desc d = of(OCI_LAYER, blob_text);
	CLEANUP_BUF struct buf b = BUF_INIT(1024);
	struct err e = {0};
	uint64_t size;
	char p[256];

	(void)state;
	make("l", manifest_text);
	n = named("l");
	assert_int_equal(image_src_open(&n, NULL, &s, &e), 0);
	assert_int_equal(image_src_blob(s, &d, &in, &e), 0);
	assert_int_equal(image_read_some(in, p, 10, &e), 10);
	assert_int_equal(image_read_some(in, p, sizeof(p), &e),
			 (int)strlen(blob_text) - 10);
	assert_int_equal(image_read_some(in, p, sizeof(p), &e), 0);
	assert_int_equal(image_read_some(in, p, sizeof(p), &e), 0);
	assert_int_equal(image_src_range(s, &d, 2, 5, &b, &size, &e), 0);
	assert_string_equal(b.p, "layer");
	assert_int_equal(size, strlen(blob_text));
	buf_clear(&b);
	assert_int_equal(image_src_range(s, &d, UINT64_MAX, 3, &b, &size, &e),
			 0);
	assert_string_equal(b.p, "one");
	buf_clear(&b);
	assert_int_equal(
		image_src_range(s, &d, UINT64_MAX, 1000, &b, &size, &e), 0);
	assert_int_equal(b.len, strlen(blob_text));
	assert_int_equal(image_src_range(s, &d, 25, 5, &b, &size, &e),
			 -EBADMSG);
}

/* Bytes that are not what their name says are never taken for it. */
static void damaged(void **state)
{
	CLEANUP_IMAGE_NAME struct image_name n = {0};
	CLEANUP(image_src_close_cleanup) struct image_src *s = NULL;
	CLEANUP(image_read_close_cleanup) struct image_read *in = NULL;
	CLEANUP(image_desc_done) struct image_desc d = of(OCI_LAYER, blob_text);
	CLEANUP_BUF struct buf b = BUF_INIT(1024);
	char path[256], hex[DIGEST_HEX_BYTES + 1], p[256];
	struct err e = {0};
	int fd;

	(void)state;
	make("l", manifest_text);
	(void)snprintf(path, sizeof(path), "%s/l/blobs/sha256/%s", root,
		       digest_hex(&d.digest, hex));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(io_pwrite_all(fd, "A", 1, 0), 0);
	n = named("l");
	assert_int_equal(image_src_open(&n, NULL, &s, &e), 0);
	assert_int_equal(image_src_document(s, &d, &b, &e), -EBADMSG);
	assert_int_equal(image_src_blob(s, &d, &in, &e), 0);
	assert_true(image_read_some(in, p, sizeof(p), &e) > 0);
	assert_int_equal(image_read_some(in, p, sizeof(p), &e), -EBADMSG);
	assert_non_null(strstr(e.text, hex));
	image_read_close(TAKE_PTR(in));
	/* Another size than the descriptor's, in both directions. */
	assert_int_equal(io_pwrite_all(fd, "tail", 4, 40), 0);
	assert_int_equal(image_src_blob(s, &d, &in, &e), 0);
	assert_int_equal(image_read_some(in, p, sizeof(p), &e), -EBADMSG);
	assert_int_equal(ftruncate(fd, 3), 0);
	image_read_close(TAKE_PTR(in));
	assert_int_equal(image_src_blob(s, &d, &in, &e), 0);
	assert_int_equal(image_read_some(in, p, sizeof(p), &e), 3);
	assert_int_equal(image_read_some(in, p, sizeof(p), &e), -EBADMSG);
	(void)close(fd);
}

static bool exists(const char *rest)
{
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s", root, rest);
	return access(path, F_OK) == 0;
}

/* What was not committed is gone, but what others may count on. */
static void not_committed(void **state)
{
	CLEANUP(image_desc_done) struct image_desc b = of(OCI_LAYER, blob_text);
	CLEANUP_BUF struct buf text = BUF_INIT(MANIFEST_BYTES_MAX);
	struct image_dst *d, *two;
	struct err e = {0};

	(void)state;
	d = opened("new");
	put(d, blob_text);
	assert_true(exists("new"));
	image_dst_close(d);
	assert_false(exists("new"));

	make("l:one", manifest_text);
	d = opened("l:two");
	put(d, "another layer");
	assert_int_equal(image_dst_has(d, &b, &e), 1);
	image_dst_close(d);
	assert_int_equal(look("l:one", &text), 0);
	assert_int_equal(look("l:two", &text), -ENOENT);
	d = opened("l:three");
	assert_int_equal(image_dst_has(d, &b, &e), 1);
	put(d, "another layer");
	/* Who comes while we write, finds it and is done before we fail. */
	two = opened("l:four");
	put(two, "another layer");
	commit(two, manifest_text);
	image_dst_close(two);
	image_dst_close(d);
	d = opened("l:five");
	image_desc_done(&b);
	b = of(OCI_LAYER, "another layer");
	assert_int_equal(image_dst_has(d, &b, &e), 1);
	image_dst_close(d);
}

static void refuses(void **state)
{
	CLEANUP_IMAGE_NAME struct image_name n = {0};
	CLEANUP(image_desc_done) struct image_desc b = of(OCI_LAYER, blob_text);
	struct image_dst *d = NULL;
	struct err e = {0};
	char path[256];
	int fd;

	(void)state;
	/* A directory that is somebody else's. */
	(void)snprintf(path, sizeof(path), "%s/file", root);
	assert_int_equal(io_write_file(AT_FDCWD, path, "x", 1, 0600), 0);
	n.transport = IMAGE_OCI;
	n.path = strdup(root);
	assert_int_equal(image_dst_open(&n, NULL, &d, &e), -EEXIST);
	assert_false(exists("blobs"));
	/* Bytes that are not the descriptor's. */
	fd = open(path, O_RDWR | O_TRUNC | O_CLOEXEC);
	assert_int_equal(io_pwrite_all(fd, "A", 1, b.size - 1), 0);
	d = opened("new");
	assert_int_equal(image_dst_put(d, &b, fd, NULL, NULL, &e), -EBADMSG);
	assert_int_equal(ftruncate(fd, 5), 0);
	assert_int_equal(image_dst_put(d, &b, fd, NULL, NULL, &e), -EBADMSG);
	assert_int_equal(
		image_dst_document(d, &b, "0123456789012345678901234567", &e),
		-EBADMSG);
	assert_int_equal(image_dst_has(d, &b, &e), 0);
	image_dst_close(d);
	assert_false(exists("new"));
	(void)close(fd);
}

/* ---- artifacts --------------------------------------------------------- */

static int referrer(const char *rest, struct buf *ret)
{
	CLEANUP_IMAGE_NAME struct image_name n = named(rest);
	CLEANUP(image_src_close_cleanup) struct image_src *s = NULL;
	CLEANUP(image_desc_done) struct image_desc d = {0};
	CLEANUP_BUF struct buf doc = BUF_INIT(MANIFEST_BYTES_MAX);
	struct err e = {0};

	buf_clear(ret);
	assert_int_equal(image_src_open(&n, NULL, &s, &e), 0);
	assert_int_equal(image_src_root(s, &d, &doc, &e), 0);
	return image_src_referrer(s, &d, "application/x.test", ret, &e);
}

static void refer(const char *rest, const char *manifest, const char *text)
{
	CLEANUP(image_dst_close_cleanup) struct image_dst *d = opened(rest);
	CLEANUP(image_desc_done)
	struct image_desc m = of(OCI_MANIFEST, manifest);
	CLEANUP(image_desc_done)
	struct image_desc b = of("application/x.test", text);
	struct err e = {0};

	put(d, blob_text);
	commit(d, manifest);
	assert_int_equal(
		image_dst_refer(d, &m, "application/x.test", &b, text, &e), 0);
}

static void whole(const char *rest, const char *text)
{
	CLEANUP_IMAGE_NAME struct image_name n = named(rest);
	CLEANUP(image_src_close_cleanup) struct image_src *s = NULL;
	CLEANUP(image_desc_done)
	struct image_desc d = of("application/x.test", text);
	CLEANUP_BUF struct buf b = BUF_INIT(16), small = BUF_INIT(4);
	struct err e = {0};

	/* As who has a digest only. */
	d.size = 0;
	assert_int_equal(image_src_open(&n, NULL, &s, &e), 0);
	assert_int_equal(image_src_whole(s, &d, &b, &e), 0);
	assert_string_equal(b.p, text);
	assert_true(image_src_whole(s, &d, &small, &e) < 0);
	assert_int_equal(small.len, 0);
	d.digest.b[0] ^= 1;
	assert_int_equal(image_src_whole(s, &d, &b, &e), -ENOENT);
}

static void artifacts(void **state)
{
	CLEANUP_BUF struct buf b = BUF_INIT(1024);
	static const char other[] = "{\"schemaVersion\":2,\"layers\":[ ]}";

	(void)state;
	make("l:one", manifest_text);
	assert_int_equal(referrer("l:one", &b), -ENOENT);
	refer("l:one", manifest_text, "first");
	assert_int_equal(referrer("l:one", &b), 0);
	assert_string_equal(b.p, "first");
	refer("l:one", manifest_text, "second");
	assert_int_equal(referrer("l:one", &b), 0);
	assert_string_equal(b.p, "second");
	refer("l:two", other, "of two");
	assert_int_equal(referrer("l:one", &b), 0);
	assert_string_equal(b.p, "second");
	assert_int_equal(referrer("l:two", &b), 0);
	assert_string_equal(b.p, "of two");
	/* Without a name the blob is all: there is one image in it. */
	refer("m", manifest_text, "nameless");
	assert_int_equal(referrer("m", &b), -ENOENT);
	whole("m", "nameless");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_names), cmocka_unit_test(bad_names),
#define WITH_ROOT(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		WITH_ROOT(round_trip),        WITH_ROOT(nameless),
		WITH_ROOT(read_back),         WITH_ROOT(damaged),
		WITH_ROOT(not_committed),     WITH_ROOT(refuses),
		WITH_ROOT(artifacts),
	};

	return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
