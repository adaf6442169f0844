/* SPDX-License-Identifier: Apache-2.0 */
/* Image references and manifests. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"
#include "common/oci.h"

#define HEX "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define HEX2 "00000000000000000000000000000000000000000000000000000000000000ff"

static const char manifest[] =
	"{\"schemaVersion\":2,\"mediaType\":"
	"\"application/vnd.oci.image.manifest.v1+json\",\"config\":{},"
	"\"layers\":[{\"mediaType\":\"t\",\"digest\":\"sha256:" HEX "\","
	"\"size\":7,\"annotations\":{\"" OCI_TOC_DIGEST_ANNOTATION "\":"
	"\"sha256:" HEX2 "\"}},{\"digest\":\"sha256:" HEX2 "\",\"size\":0}]}";

static const char image_index[] =
	"{\"schemaVersion\":2,\"manifests\":["
	"{\"digest\":\"sha256:" HEX "\",\"platform\":"
	"{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v7\"}},"
	"{\"digest\":\"sha256:" HEX2 "\",\"platform\":"
	"{\"os\":\"linux\",\"architecture\":\"amd64\"}},"
	"{\"digest\":\"sha256:" HEX "\",\"platform\":"
	"{\"os\":\"windows\",\"architecture\":\"amd64\"}}]}";

/* The trace of the image: a hint, so that what is no digest is none. */
static void test_trace_annotation(void **state)
{
	static const struct {
		const char *value;
		bool has;
	} cases[] = {
		{"\"sha256:" HEX2 "\"", true},
		{"\"sha256:12\"", false},
		{"\"md5:12\"", false},
		{"7", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_OCI_MANIFEST struct oci_manifest m = {0};
		struct err e = {0};
		char json[512];
		int n = snprintf(json, sizeof(json),
				 "{\"schemaVersion\":2,\"layers\":[{\"digest\":"
				 "\"sha256:" HEX "\",\"size\":7,"
				 "\"annotations\":{"
				 "\"" OCI_TAILS_ANNOTATION "\":\"77,8\","
				 "\"" OCI_TRACE_DIGEST_ANNOTATION "\":%s}}]}",
				 cases[i].value);

		assert_int_equal(
			oci_manifest_parse(json, (size_t)n, "amd64", &m, &e),
			0);
		assert_int_equal(m.layers[0].has_trace, cases[i].has);
		assert_int_equal(m.layers[0].tail, 77);
		if (cases[i].has)
			assert_int_equal(m.layers[0].trace.b[31], 0xff);
	}
}

#define TYPE "application/x.test"

/* [the newest of a type] of these entries, with its digest's last byte. */
static void test_referrers(void **state)
{
#define ENTRY(type, hex, when)                                    \
	"{\"artifactType\":\"" type "\",\"digest\":\"sha256:" hex \
	"\",\"annotations\":{\"" OCI_CREATED_ANNOTATION "\":" when "}}"
	static const struct {
		const char *json;
		int r;
		uint8_t last;
		const char *why;
	} cases[] = {
		{"{\"manifests\":[" ENTRY(TYPE, HEX, "\"2\"") "," ENTRY(
			 TYPE, HEX2, "\"3\"") "," ENTRY("b/c", HEX,
							"\"4\"") "]}",
		 0, 0xff, NULL},
		{"{\"manifests\":[" ENTRY(TYPE, HEX, "\"2\"") "," ENTRY(
			 TYPE, HEX2, "7") "]}",
		 0, 0xad, NULL},
		{"{\"manifests\":[7,null,[],{\"artifactType\":7},{\"config\":"
		 "{\"mediaType\":\"" TYPE "\"},\"digest\":\"sha256:" HEX2
		 "\"}]}",
		 0, 0xff, NULL},
		{"{\"manifests\":[]}", -ENOENT, 0, "no " TYPE " in it"},
		{"{\"manifests\":[" ENTRY(TYPE, "12", "\"2\"") "]}", -EBADMSG,
		 0, "bad digest"},
		{"{\"manifests\":{}}", -EBADMSG, 0, "no manifests"},
		{"{}", -EBADMSG, 0, "no manifests"},
		{"[]", -EBADMSG, 0, "not a JSON object"},
		{"<html>", -EBADMSG, 0, "not JSON"},
		{"", -EBADMSG, 0, "not JSON"},
		{"{\"manifests\":[", -EBADMSG, 0, "not JSON"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct digest d = {0};
		struct err e = {0};

		assert_int_equal(oci_referrers_parse(cases[i].json,
						     strlen(cases[i].json),
						     TYPE, &d, &e),
				 cases[i].r);
		assert_int_equal(d.b[31], cases[i].last);
		if (cases[i].why != NULL)
			assert_non_null(strstr(e.text, cases[i].why));
	}
}

static void test_artifacts(void **state)
{
#define BLOB(hex) "{\"digest\":\"sha256:" hex "\"}"
#define ARTIFACT(subject, type, layers)                     \
	"{\"subject\":" subject ",\"artifactType\":\"" type \
	"\",\"layers\":" layers "}"
	static const struct {
		const char *json, *why;
	} cases[] = {
		{ARTIFACT(BLOB(HEX), TYPE, "[" BLOB(HEX2) "]"), NULL},
		{"{\"subject\":" BLOB(HEX) ",\"config\":{\"mediaType\":\"" TYPE
					   "\"},\"layers\":[" BLOB(HEX2) "]}",
		 NULL},
		{ARTIFACT(BLOB(HEX2), TYPE, "[" BLOB(HEX2) "]"),
		 "of another image"},
		{ARTIFACT("7", TYPE, "[" BLOB(HEX2) "]"), "of another image"},
		{"{}", "of another image"},
		{ARTIFACT(BLOB(HEX), "a/b", "[" BLOB(HEX2) "]"), "not a"},
		{ARTIFACT(BLOB(HEX), TYPE, "[]"), "of one blob"},
		{ARTIFACT(BLOB(HEX), TYPE, "7"), "of one blob"},
		{ARTIFACT(BLOB(HEX), TYPE, "[" BLOB(HEX) "," BLOB(HEX2) "]"),
		 "of one blob"},
		{ARTIFACT(BLOB(HEX), TYPE, "[7]"), "bad digest"},
		{ARTIFACT(BLOB(HEX), TYPE, "[" BLOB("1") "]"), "bad digest"},
		{"null", "not JSON"},
	};
	struct digest subject;

	(void)state;
	assert_int_equal(
		digest_parse("sha256:" HEX, strlen("sha256:" HEX), &subject),
		0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct digest d = {0};
		struct err e = {0};
		int r = oci_artifact_parse(cases[i].json, strlen(cases[i].json),
					   TYPE, &subject, &d, &e);

		assert_int_equal(r, cases[i].why != NULL ? -EBADMSG : 0);
		if (r == 0)
			assert_int_equal(d.b[31], 0xff);
		else if (strstr(e.text, cases[i].why) == NULL)
			fail_msg("%s: %s", cases[i].json, e.text);
	}
}

/* Three bytes of text are a value that takes hundreds. */
static void test_many_values(void **state)
{
	const size_t max = REFERRERS_BYTES_MAX;
	CLEANUP_FREE char *json = malloc(max);
	CLEANUP_OCI_MANIFEST struct oci_manifest m = {0};
	struct err e = {0};
	struct digest d;
	size_t n = strlen("{\"manifests\":[");

	(void)state;
	assert_non_null(json);
	memcpy(json, "{\"manifests\":[", n);
	for (; n + 8 < max; n += 3)
		memcpy(json + n, "{},", 3);
	memcpy(json + n, "{}]}", 4);
	n += 4;
	assert_int_equal(oci_referrers_parse(json, n, TYPE, &d, &e),
			 -EOVERFLOW);
	assert_string_equal(e.text, "list of artifacts has too many values");
	assert_int_equal(oci_manifest_parse(json, n, "amd64", &m, &e),
			 -EOVERFLOW);
}

static void test_referrers_tag(void **state)
{
	char tag[OCI_REFERRERS_TAG_BYTES];
	struct digest d;

	(void)state;
	assert_int_equal(digest_parse("sha256:" HEX, strlen("sha256:" HEX), &d),
			 0);
	assert_string_equal(oci_referrers_tag(&d, tag), "sha256-" HEX);
}

static void test_references(void **state)
{
	static const struct {
		const char *s, *host, *repo, *tag;
		bool digest;
	} ok[] = {
		{"docker.io/debian", "docker.io", "library/debian", "latest",
		 false},
		{"docker.io/a/b:12", "docker.io", "a/b", "12", false},
		{"localhost/x", "localhost", "x", "latest", false},
		{"localhost:5000/x/y-z__w.v:T_1", "localhost:5000",
		 "x/y-z__w.v", "T_1", false},
		{"[::1]:80/x", "[::1]:80", "x", "latest", false},
		{"h.io/x@sha256:" HEX, "h.io", "x", NULL, true},
		{"h.io/a---b:t@sha256:" HEX, "h.io", "a---b", "t", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ok); i++) {
		struct oci_ref r;
		struct err e = {0};

		assert_int_equal(oci_ref_parse(ok[i].s, &r, &e), 0);
		assert_string_equal(r.host, ok[i].host);
		assert_string_equal(r.repo, ok[i].repo);
		if (ok[i].tag != NULL)
			assert_string_equal(r.tag, ok[i].tag);
		else
			assert_null(r.tag);
		assert_int_equal(r.has_digest, ok[i].digest);
		oci_ref_done(&r);
	}
}

static void test_bad_references(void **state)
{
	static const struct {
		const char *s, *text;
	} bad[] = {
		{"", "no host"},
		{"debian", "no host"},
		{"library/debian", "no host"},
		{"/x.y", "no host"},
		{"h.io", "no host"},
		{"h.io@sha256:" HEX "/x", "no host"},
		{"h.io:/x", "bad host"},
		{"h.io:123456/x", "bad host"},
		{"h.io:8a/x", "bad host"},
		{":80/x", "bad host"},
		{"[::1/x:y", "bad host"},
		{"[::g]:1/x", "bad host"},
		{"h .io/x", "bad host"},
		{"u:p@h.io/x", "no host"},
		{"h.io/", "bad repository"},
		{"h.io/X", "bad repository"},
		{"h.io/../x", "bad repository"},
		{"h.io/a//b", "bad repository"},
		{"h.io/a/", "bad repository"},
		{"h.io/a___b", "bad repository"},
		{"h.io/a..b", "bad repository"},
		{"h.io/a?x", "bad repository"},
		{"h.io/a%2f", "bad repository"},
		{"h.io/a:", "bad tag"},
		{"h.io/a:-x", "bad tag"},
		{"h.io/a:x/y", "bad tag"},
		{"h.io/a@", "bad digest"},
		{"h.io/a@sha256:12", "bad digest"},
		{"h.io/a@md5:12", "bad digest"},
		{"h.io/a@sha256:" HEX "0", "bad digest"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct oci_ref r = {0};
		struct err e = {0};

		if (oci_ref_parse(bad[i].s, &r, &e) >= 0)
			fail_msg("accepted: %s", bad[i].s);
		if (strstr(e.text, bad[i].text) == NULL)
			fail_msg("%s: %s", bad[i].s, e.text);
		assert_null(r.host);
	}
}

static void test_manifest(void **state)
{
	struct oci_manifest m;
	char s[DIGEST_STR_BYTES];

	(void)state;
	assert_int_equal(oci_manifest_parse(manifest, strlen(manifest), "amd64",
					    &m, NULL),
			 0);
	assert_false(m.is_index);
	assert_int_equal(m.n_layers, 2);
	assert_int_equal(m.layers[0].size, 7);
	assert_string_equal(m.layers[0].media_type, "t");
	assert_true(m.layers[0].has_toc_digest);
	assert_string_equal(digest_str(&m.layers[0].toc_digest, s),
			    "sha256:" HEX2);
	assert_false(m.layers[1].has_toc_digest);
	assert_string_equal(m.layers[1].media_type, "");
	oci_manifest_done(&m);
}

static void test_index(void **state)
{
	struct oci_manifest m;
	struct err e = {0};
	char s[DIGEST_STR_BYTES];

	(void)state;
	assert_int_equal(oci_manifest_parse(image_index, strlen(image_index),
					    "amd64", &m, &e),
			 0);
	assert_true(m.is_index);
	assert_string_equal(digest_str(&m.next, s), "sha256:" HEX2);
	oci_manifest_done(&m);
	assert_int_equal(oci_manifest_parse(image_index, strlen(image_index),
					    "s390x", &m, &e),
			 -ENOENT);
	assert_string_equal(e.text, "index has no image for linux/s390x");
}

static void test_bad_manifests(void **state)
{
	static const struct {
		const char *s;
		int code;
		const char *text;
	} bad[] = {
		{"", -EBADMSG, "not JSON"},
		{"[]", -EBADMSG, "not a JSON object"},
		{"{}", -EBADMSG, "schemaVersion"},
		{"{\"schemaVersion\":1}", -EOPNOTSUPP, "schema 1"},
		{"{\"schemaVersion\":2}", -EBADMSG, "neither"},
		{"{\"schemaVersion\":2,\"layers\":[null]}", -EBADMSG,
		 "layer digest"},
		{"{\"schemaVersion\":2,\"layers\":[{\"digest\":\"sha512:0\"}]}",
		 -EOPNOTSUPP, "layer digest"},
		{"{\"schemaVersion\":2,\"layers\":[{\"digest\":\"sha256:" HEX
		 "\"}]}",
		 -EBADMSG, "layer size"},
		{"{\"schemaVersion\":2,\"layers\":[{\"digest\":\"sha256:" HEX
		 "\",\"size\":-1}]}",
		 -EBADMSG, "layer size"},
		{"{\"schemaVersion\":2,\"layers\":[{\"digest\":\"sha256:" HEX
		 "\",\"size\":1,\"annotations\":{\"" OCI_TOC_DIGEST_ANNOTATION
		 "\":\"x\"}}]}",
		 -EBADMSG, "TOC digest"},
		{"{\"schemaVersion\":2,\"manifests\":[null,3]}", -ENOENT,
		 "no image"},
		{"{\"schemaVersion\":2,\"manifests\":[{\"platform\":"
		 "{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}",
		 -EBADMSG, "bad digest"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct oci_manifest m;
		struct err e = {0};

		assert_int_equal(oci_manifest_parse(bad[i].s, strlen(bad[i].s),
						    "amd64", &m, &e),
				 bad[i].code);
		if (strstr(e.text, bad[i].text) == NULL)
			fail_msg("%s: %s", bad[i].s, e.text);
	}
}

static void test_damaged_manifests(void **state)
{
	const char *docs[] = {manifest, image_index};

	(void)state;
	for (size_t d = 0; d < 2; d++) {
		size_t n = strlen(docs[d]);
		CLEANUP_FREE char *s = strdup(docs[d]);

		for (size_t i = 0; i < n; i++) {
			struct oci_manifest m;

			assert_true(oci_manifest_parse(docs[d], i, "amd64", &m,
						       NULL) < 0);
			for (int bit = 0; bit < 8; bit++) {
				s[i] = (char)(s[i] ^ (1 << bit));
				if (oci_manifest_parse(s, n, "amd64", &m,
						       NULL) == 0)
					oci_manifest_done(&m);
				s[i] = docs[d][i];
			}
		}
	}
}

static void test_damaged_references(void **state)
{
	static const char golden[] = "docker.io/a/b-c:t@sha256:" HEX;
	char s[sizeof(golden)];

	(void)state;
	for (size_t i = 0; i < sizeof(golden) - 1; i++) {
		struct oci_ref r;

		memcpy(s, golden, sizeof(s));
		s[i] = '\0';
		if (oci_ref_parse(s, &r, NULL) == 0)
			oci_ref_done(&r);
		for (int bit = 0; bit < 8; bit++) {
			memcpy(s, golden, sizeof(s));
			s[i] = (char)(s[i] ^ (1 << bit));
			if (oci_ref_parse(s, &r, NULL) == 0)
				oci_ref_done(&r);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_referrers),
		cmocka_unit_test(test_artifacts),
		cmocka_unit_test(test_many_values),
		cmocka_unit_test(test_referrers_tag),
		cmocka_unit_test(test_trace_annotation),
		cmocka_unit_test(test_bad_references),
		cmocka_unit_test(test_manifest),
		cmocka_unit_test(test_index),
		cmocka_unit_test(test_bad_manifests),
		cmocka_unit_test(test_damaged_manifests),
		cmocka_unit_test(test_damaged_references),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
