/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests, configs, indexes and platforms: read, changed, refused. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/image/doc.h"
#include "cli/image/manifest.h"
#include "cli/image/transport.h"
#include "common/limits.h"

/* Digests of which each character is one. */
#define D(c)                                                                  \
	"sha256:" c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c \
		c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c \
			c c c
#define DESC(type, c, size) \
	"{\"mediaType\":\"" type "\",\"digest\":\"" D(c) "\",\"size\":" size "}"

/* ---- a source of one config -------------------------------------------- */

struct one {
	struct image_src src;
	const char *config;
};

static int one_document(struct image_src *s, const struct image_desc *d,
			struct buf *doc, struct err *e)
{
	const struct one *o = (const struct one *)s;

	(void)d;
	(void)e;
	return buf_add_str(doc, o->config);
}

static const struct image_src_ops one_ops = {.document = one_document};

static struct digest digest_of(const char *s)
{
	struct digest d;

	assert_int_equal(doc_digest(s, strlen(s), &d), 0);
	return d;
}

/* Loads a manifest; %s in it is the config's digest. */
static int load_as(const char *type, const char *manifest, const char *config,
		   struct manifest *ret, struct err *e)
{
	struct one o = {.src.ops = &one_ops, .config = config};
	const struct digest c = digest_of(config);
	char digest[DIGEST_STR_BYTES], media_type[96];
	CLEANUP_BUF struct buf text = BUF_INIT(MANIFEST_BYTES_MAX);
	struct image_desc d = {.media_type = media_type};
	const char *at = strstr(manifest, "%s");

	(void)snprintf(media_type, sizeof(media_type), "%s", type);
	if (at != NULL)
		assert_int_equal(buf_addf(&text, "%.*s%s%s",
					  (int)(at - manifest), manifest,
					  digest_str(&c, digest), at + 2),
				 0);
	else
		assert_int_equal(buf_add_str(&text, manifest), 0);
	d.digest = digest_of(text.p);
	d.size = text.len;
	return manifest_load(&o.src, &d, text.p, text.len, ret, e);
}

static int load(const char *manifest, const char *config, struct manifest *ret,
		struct err *e)
{
	return load_as(OCI_MANIFEST, manifest, config, ret, e);
}

static const char config2[] =
	"{\"architecture\":\"amd64\", \"config\":{\"Env\":[\"A=1\"]},"
	"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D("1") "\",\"" D(
		"2") "\"]},\"history\":[{\"x\":1.50}],\"z\":\"\\u00fc/\"}";

#define CONFIG2 \
	"{\"mediaType\":\"" OCI_CONFIG "\",\"digest\":\"%s\",\"size\":0}"
#define HEAD "{\"schemaVersion\":2,\"config\":" CONFIG2 ",\"layers\":["

static const char manifest2[] =
	"{\"unknown\":[1],\"schemaVersion\":2,\"config\":" CONFIG2
	",\"layers\":[" DESC(
		OCI_LAYER "+gzip", "a",
		"7") ",{\"mediaType\":"
		     "\"" OCI_LAYER "\",\"digest\":\"" D(
			     "b") "\",\"size\":9,"
				  "\"annotations\":{\"keep\":\"me\",\"containerd.io/snapshot/stargz/"
				  "toc.digest\":\"" D(
					  "c") "\"}}],\"annotations\":{\"k\":\"v\"}}";

static void loaded(void **state)
{
	CLEANUP_MANIFEST struct manifest m = {0};
	struct err e = {0};
	char s[DIGEST_STR_BYTES];

	(void)state;
	assert_int_equal(load(manifest2, config2, &m, &e), 0);
	assert_int_equal(m.n_layers, 2);
	assert_string_equal(digest_str(&m.layers[0].desc.digest, s), D("a"));
	assert_int_equal(m.layers[0].desc.size, 7);
	assert_false(m.layers[0].has_toc_digest);
	assert_true(m.layers[1].has_toc_digest);
	assert_string_equal(digest_str(&m.layers[1].toc_digest, s), D("c"));
	assert_string_equal(digest_str(&m.diff_ids[1], s), D("2"));
}

/* Nothing was changed: not a byte is. */
static void unchanged(void **state)
{
	CLEANUP_BUF struct buf c = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_BUF struct buf t = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_MANIFEST struct manifest m = {0};
	struct err e = {0};
	struct digest was;

	(void)state;
	assert_int_equal(load(manifest2, config2, &m, &e), 0);
	was = m.desc.digest;
	assert_int_equal(manifest_finish(&m, true, &c, &t), 0);
	assert_string_equal(c.p, config2);
	assert_true(digest_equal(&was, &m.desc.digest));
	assert_int_equal(m.desc.size, t.len);
}

static void changed(void **state)
{
	CLEANUP_BUF struct buf c = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_BUF struct buf t = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_BUF struct buf want = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_MANIFEST struct manifest m = {0};
	char type[] = OCI_LAYER "+gzip", s[DIGEST_STR_BYTES];
	struct image_desc d = {.media_type = type, .size = 99};
	static const char *const notes[] = {ANNOTATION_TOC_DIGEST,
					    D("5"),
					    ANNOTATION_UNCOMPRESSED,
					    "1024",
					    "keep",
					    "too"};
	static const char *const none[] = {"keep", NULL};
	struct digest id;
	struct err e = {0};

	(void)state;
	assert_int_equal(load(manifest2, config2, &m, &e), 0);
	assert_int_equal(digest_parse(D("3"), strlen(D("3")), &d.digest), 0);
	assert_int_equal(digest_parse(D("4"), strlen(D("4")), &id), 0);
	assert_int_equal(manifest_set_layer(&m, 0, &d, &id, notes, 3), 0);
	assert_int_equal(manifest_set_layer(&m, 1, &d, &m.diff_ids[1], none, 1),
			 0);
	assert_true(m.layers[0].has_toc_digest);
	assert_int_equal(manifest_finish(&m, false, &c, &t), 0);
	assert_string_equal(
		c.p,
		"{\"architecture\":\"amd64\",\"config\":{\"Env\":[\"A=1\"]},"
		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D(
			"4") "\",\"" D("2") "\"]},\"history\":[{\"x\":1.50}],"
					    "\"z\":\"\xc3\xbc/\"}");
	assert_int_equal(
		buf_addf(
			&want,
			"{\"unknown\":[1],\"schemaVersion\":2,\"config\":{"
			"\"mediaType\":\"" OCI_CONFIG "\",\"digest\":\"%s\","
			"\"size\":%zu},\"layers\":[{\"mediaType\":\"" OCI_LAYER
			"+gzip\",\"digest\":\"" D(
				"3") "\",\"size\":99,"
				     "\"annotations\":{\"" ANNOTATION_TOC_DIGEST
				     "\":\"" D(
					     "5") "\",\"" ANNOTATION_UNCOMPRESSED
						  "\":\"1024\",\"keep\":\"too\"}},{\"mediaType\":"
						  "\"" OCI_LAYER
						  "+gzip\",\"digest\":\"" D(
							  "3") "\","
							       "\"size\":99,\"annotations\":{"
							       "\"" ANNOTATION_TOC_DIGEST
							       "\":\"" D(
								       "c") "\"}}],"
									    "\"annotations\":{\"k\":\"v\"}}",
			digest_str(&m.config_desc.digest, s), c.len),
		0);
	assert_string_equal(t.p, want.p);
	assert_string_equal(m.desc.media_type, OCI_MANIFEST);
}

static void docker_to_oci(void **state)
{
	CLEANUP_BUF struct buf c = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_BUF struct buf t = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_MANIFEST struct manifest m = {0};
	struct err e = {0};
	static const char config1[] =
		"{\"rootfs\":{\"diff_ids\":[\"" D("1") "\"]}}";

	(void)state;
	assert_int_equal(
		load_as(DOCKER_MANIFEST,
			"{\"schemaVersion\":2,\"mediaType\":\"" DOCKER_MANIFEST
			"\",\"config\":{\"mediaType\":\"" DOCKER_CONFIG
			"\",\"size\":0,\"digest\":\"%s\"},\"layers\":[" DESC(
				DOCKER_LAYER ".gzip", "a", "7") "]}",
			config1, &m, &e),
		0);
	assert_int_equal(manifest_finish(&m, true, &c, &t), 0);
	assert_string_equal(c.p, config1);
	assert_null(strstr(t.p, "docker"));
	assert_non_null(strstr(t.p, OCI_LAYER "+gzip"));
	assert_string_equal(m.desc.media_type, OCI_MANIFEST);
	assert_string_equal(m.config_desc.media_type, OCI_CONFIG);
}

static void bad_manifests(void **state)
{
	static const struct {
		const char *manifest, *config;
		int code;
	} bad[] = {
		{"", "{}", -EBADMSG},
		{"[]", "{}", -EBADMSG},
		{"{", "{}", -EBADMSG},
		{"{} x", "{}", -EBADMSG},
		{"{}", "{}", -EBADMSG},
		{"{\"schemaVersion\":1}", "{}", -EOPNOTSUPP},
		{"{\"schemaVersion\":\"2\"}", "{}", -EBADMSG},
		{"{\"schemaVersion\":2,\"layers\":[]}", "{}", -EBADMSG},
		{"{\"schemaVersion\":2,\"mediaType\":\"" OCI_INDEX "\"}", "{}",
		 -EOPNOTSUPP},
		{HEAD "],\"manifests\":[]}", "{}", -EBADMSG},
		{"{\"schemaVersion\":2,\"config\":" DESC(OCI_EMPTY, "a",
							 "2") ",\"layers\":[]}",
		 "{}", -EOPNOTSUPP},
		{"{\"schemaVersion\":2,\"config\":" CONFIG2 "}", "{}",
		 -EBADMSG},
		{HEAD "{}]}", "{}", -EBADMSG},
		{HEAD "1]}", "{}", -EBADMSG},
		{HEAD DESC(OCI_LAYER, "A", "1") "]}", "{}", -EBADMSG},
		{HEAD DESC(OCI_LAYER, "a", "-1") "]}", "{}", -EBADMSG},
		{HEAD DESC(OCI_LAYER, "a", "\"1\"") "]}", "{}", -EBADMSG},
		{HEAD DESC("text/plain", "a", "1") "]}", "{}", -EOPNOTSUPP},
		{HEAD DESC("application/vnd.docker.image.rootfs.foreign.diff."
			   "tar.gzip",
			   "a", "1") "]}",
		 "{}", -EOPNOTSUPP},
		{HEAD "{\"digest\":\"sha512:00\",\"size\":1}]}", "{}",
		 -EOPNOTSUPP},
		{HEAD "]}", "x", -EBADMSG},
		{HEAD "]}", "{}", -EBADMSG},
		{HEAD "]}", "{\"rootfs\":{\"diff_ids\":{}}}", -EBADMSG},
		{HEAD "]}", "{\"rootfs\":{\"diff_ids\":[\"x\"]}}", -EBADMSG},
		{HEAD DESC(OCI_LAYER, "a", "1") "]}",
		 "{\"rootfs\":{\"diff_ids\":[\"x\"]}}", -EBADMSG},
		{HEAD DESC(OCI_LAYER, "a", "1") "]}",
		 "{\"rootfs\":{\"diff_ids\":[1]}}", -EBADMSG},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct manifest m = {0};
		struct err e = {0};
		int r = load(bad[i].manifest, bad[i].config, &m, &e);

		if (r != bad[i].code)
			print_error("%zu: %d %s\n", i, r, e.text);
		assert_int_equal(r, bad[i].code);
		assert_int_equal(e.code, bad[i].code);
		assert_null(m.layers);
	}
}

/* Truncated anywhere, it is refused. */
static void truncated(void **state)
{
	static const char whole[] = HEAD "]}";
	char part[sizeof(whole)];

	(void)state;
	for (size_t n = 0; n < strlen(whole); n++) {
		struct manifest m = {0};
		struct err e = {0};

		memcpy(part, whole, n);
		part[n] = '\0';
		assert_true(load(part, "{}", &m, &e) < 0);
		assert_int_not_equal(e.text[0], '\0');
	}
}

/* ---- platforms --------------------------------------------------------- */

static void platforms(void **state)
{
	static const struct {
		const char *s, *os, *arch, *variant;
	} good[] = {
		{"linux/amd64", "linux", "amd64", ""},
		{"linux/x86_64", "linux", "amd64", ""},
		{"linux/arm64/v8", "linux", "arm64", ""},
		{"linux/aarch64", "linux", "arm64", ""},
		{"linux/arm", "linux", "arm", "v7"},
		{"linux/arm/v6", "linux", "arm", "v6"},
		{"linux/armhf", "linux", "arm", "v7"},
		{"windows/amd64/v3", "windows", "amd64", "v3"},
	};
	static const char *const bad[] = {
		"",
		"linux",
		"linux/",
		"/amd64",
		"linux/a/b/c",
		"Linux/amd64",
		"linux/a b",
		"linux/amd64/",
		"linux/0123456789012345678901234567890123",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct platform p;
		struct err e = {0};

		assert_int_equal(platform_parse(good[i].s, &p, &e), 0);
		assert_string_equal(p.os, good[i].os);
		assert_string_equal(p.arch, good[i].arch);
		assert_string_equal(p.variant, good[i].variant);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct platform p;
		struct err e = {0};

		assert_int_equal(platform_parse(bad[i], &p, &e), -EINVAL);
		assert_int_equal(e.code, -EINVAL);
	}
}

/* ---- indexes ----------------------------------------------------------- */

#define IMAGE(c, platform)                                                  \
	"{\"mediaType\":\"" OCI_MANIFEST "\",\"digest\":\"" D(              \
		c) "\",\"size\":5,\"platform\":{\"os\":\"linux\"," platform \
		   "}}"
#define ATTESTATION(c, of)                                                \
	"{\"mediaType\":\"" OCI_MANIFEST "\",\"digest\":\"" D(            \
		c) "\",\"size\":5,\"annotations\":{"                      \
		   "\"vnd.docker.reference.digest\":\"" D(                \
			   of) "\",\"vnd.docker.reference.type\":"        \
			       "\"attestation-manifest\"},\"platform\":{" \
			       "\"architecture\":\"unknown\",\"os\":"     \
			       "\"unknown\"}}"

static const char index5[] =
	"{\"schemaVersion\":2,\"mediaType\":\"" OCI_INDEX
	"\",\"manifests\":[" IMAGE("a", "\"architecture\":\"amd64\"") "," IMAGE("b", "\"architecture\":\"arm\",\"variant\":\"v6\"") "," IMAGE(
		"c",
		"\"architecture\":\"arm\",\"variant\":\"v7\"") "," IMAGE("d",
									 "\"architecture\":\"arm64\",\"variant\":\"v8\"") "," ATTESTATION("e",
																	  "a") "],\"annotations\":{\"k\":\"v\"}}";

static int index_of(const char *text, struct index *ret, struct err *e)
{
	char type[] = OCI_INDEX;
	const struct image_desc d = {.media_type = type,
				     .digest = digest_of(text),
				     .size = strlen(text)};

	return index_load(&d, text, strlen(text), ret, e);
}

static void found(void **state)
{
	static const struct {
		const char *platform;
		int i;
	} want[] = {
		{"linux/amd64", 0},           {"linux/amd64/v3", 0},
		{"linux/arm/v6", 1},          {"linux/arm", 2},
		{"linux/arm/v8", 2},          {"linux/arm/v5", -ENOENT},
		{"linux/arm64", 3},           {"linux/arm64/v8", 3},
		{"windows/amd64", -ENOENT},   {"linux/unknown", -ENOENT},
		{"unknown/unknown", -ENOENT},
	};
	CLEANUP_INDEX struct index x = {0};
	struct err e = {0};

	(void)state;
	assert_int_equal(index_of(index5, &x, &e), 0);
	assert_int_equal(x.n, 5);
	assert_true(x.images[4].skip);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		struct platform p;

		assert_int_equal(platform_parse(want[i].platform, &p, &e), 0);
		assert_int_equal(index_find(&x, &p, &e), want[i].i);
	}
	assert_non_null(strstr(e.text, "linux/arm/v6"));
}

static void only_one(void **state)
{
	static const char text[] = "{\"schemaVersion\":2,\"manifests\":[" DESC(
		OCI_MANIFEST, "a", "5") "]}";
	CLEANUP_INDEX struct index x = {0};
	struct platform p;
	struct err e = {0};

	(void)state;
	platform_here(&p);
	assert_int_equal(index_of(text, &x, &e), 0);
	assert_int_equal(index_find(&x, &p, &e), 0);
}

static void index_changed(void **state)
{
	CLEANUP_BUF struct buf t = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_INDEX struct index x = {0};
	char type[] = OCI_MANIFEST;
	struct image_desc d = {.media_type = type, .size = 6};
	struct err e = {0};

	(void)state;
	assert_int_equal(index_of(index5, &x, &e), 0);
	assert_int_equal(index_finish(&x, true, &t), 0);
	assert_string_equal(t.p, index5);
	buf_clear(&t);
	assert_int_equal(digest_parse(D("1"), strlen(D("1")), &d.digest), 0);
	assert_int_equal(index_set(&x, 0, &d), 0);
	assert_int_equal(index_set(&x, 1, NULL), 0);
	assert_int_equal(index_set(&x, 2, NULL), 0);
	assert_int_equal(index_set(&x, 3, NULL), 0);
	assert_int_equal(index_finish(&x, true, &t), 0);
	assert_string_equal(
		t.p,
		"{\"schemaVersion\":2,\"mediaType\":\"" OCI_INDEX
		"\",\"manifests\":[{\"mediaType\":\"" OCI_MANIFEST
		"\",\"digest\":\"" D(
			"1") "\",\"size\":6,\"platform\":{"
			     "\"os\":\"linux\",\"architecture\":"
			     "\"amd64\"}}," ATTESTATION(
				     "e",
				     "1") "],\"annotations\":{\"k\":\"v\"}}");
	assert_int_equal(x.desc.size, t.len);
}

/* What is about an image that goes, goes with it. */
static void attestation_dropped(void **state)
{
	CLEANUP_BUF struct buf t = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_INDEX struct index x = {0};
	struct err e = {0};

	(void)state;
	assert_int_equal(index_of(index5, &x, &e), 0);
	assert_int_equal(index_set(&x, 0, NULL), 0);
	assert_int_equal(index_finish(&x, false, &t), 0);
	assert_null(strstr(t.p, "attestation"));
	assert_null(strstr(t.p, D("a")));
	assert_non_null(strstr(t.p, D("d")));
}

static void docker_list(void **state)
{
	static const char text[] =
		"{\"schemaVersion\":2,\"mediaType\":\"" DOCKER_LIST
		"\",\"manifests\":[{\"mediaType\":\"" DOCKER_MANIFEST
		"\",\"digest\":\"" D("a") "\",\"size\":5,\"platform\":{"
					  "\"architecture\":\"amd64\","
					  "\"os\":\"linux\"}}]}";
	CLEANUP_BUF struct buf t = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_INDEX struct index x = {0};
	struct err e = {0};

	(void)state;
	assert_true(media_type_is_index(DOCKER_LIST));
	assert_true(media_type_is_index(OCI_INDEX));
	assert_false(media_type_is_index(OCI_MANIFEST));
	assert_false(media_type_is_index(NULL));
	assert_int_equal(index_of(text, &x, &e), 0);
	assert_false(x.images[0].skip);
	assert_int_equal(index_finish(&x, true, &t), 0);
	assert_non_null(strstr(t.p, OCI_INDEX));
	assert_string_equal(x.desc.media_type, OCI_INDEX);
}

static void bad_indexes(void **state)
{
	static const struct {
		const char *text;
		int code;
	} bad[] = {
		{"", -EBADMSG},
		{"{}", -EBADMSG},
		{"{\"schemaVersion\":3,\"manifests\":[]}", -EBADMSG},
		{"{\"schemaVersion\":2,\"manifests\":{}}", -EBADMSG},
		{"{\"schemaVersion\":2,\"manifests\":[],\"layers\":[]}",
		 -EBADMSG},
		{"{\"schemaVersion\":2,\"manifests\":[],\"config\":{}}",
		 -EBADMSG},
		{"{\"schemaVersion\":2,\"manifests\":[{}]}", -EBADMSG},
		{"{\"schemaVersion\":2,\"manifests\":[null]}", -EBADMSG},
		{"{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"sha512:0\""
		 ",\"size\":1}]}",
		 -EOPNOTSUPP},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct index x = {0};
		struct err e = {0};

		assert_int_equal(index_of(bad[i].text, &x, &e), bad[i].code);
		assert_int_equal(e.code, bad[i].code);
		assert_null(x.images);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loaded),
		cmocka_unit_test(unchanged),
		cmocka_unit_test(changed),
		cmocka_unit_test(docker_to_oci),
		cmocka_unit_test(bad_manifests),
		cmocka_unit_test(truncated),
		cmocka_unit_test(platforms),
		cmocka_unit_test(found),
		cmocka_unit_test(only_one),
		cmocka_unit_test(index_changed),
		cmocka_unit_test(attestation_dropped),
		cmocka_unit_test(docker_list),
		cmocka_unit_test(bad_indexes),
	};

	return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
