/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of servers, tokens, and docker's credentials. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/registry/auth.h"
#include "daemon/registry/creds.h"
#include "daemon/registry/headers.h"
#include "daemon/registry/reply.h"

static void test_challenge(void **state)
{
	struct challenge c;

	(void)state;
	assert_int_equal(
		headers_challenge("Bearer realm=\"https://a.io/token\","
				  "service=\"reg\",scope=\"repository:x:pull\"",
				  &c),
		0);
	assert_int_equal(c.scheme, AUTH_BEARER);
	assert_string_equal(c.realm, "https://a.io/token");
	assert_string_equal(c.service, "reg");
	assert_string_equal(c.scope, "repository:x:pull");
	assert_int_equal(headers_challenge("basic Realm = \"a \\\"b\\\"\"", &c),
			 0);
	assert_int_equal(c.scheme, AUTH_BASIC);
	assert_string_equal(c.realm, "a \"b\"");
	/* Several at once, the better one counts. */
	assert_int_equal(headers_challenge("Basic realm=x, Bearer realm=\"y\", "
					   "error=\"invalid_token\"",
					   &c),
			 0);
	assert_int_equal(c.scheme, AUTH_BEARER);
	assert_string_equal(c.realm, "y");
	assert_int_equal(
		headers_challenge("Negotiate dG9rZW4=, Basic realm=\"r\"", &c),
		0);
	assert_int_equal(c.scheme, AUTH_BASIC);
	assert_int_equal(headers_challenge("Negotiate, Basic", &c), 0);
	assert_int_equal(c.scheme, AUTH_BASIC);
}

static void test_bad_challenges(void **state)
{
	static const struct {
		const char *s;
		int code;
	} bad[] = {
		{"", -EOPNOTSUPP},
		{"Digest realm=\"x\"", -EOPNOTSUPP},
		{"Bearer service=\"x\"", -EBADMSG},
		{"Bearer realm=\"x", -EBADMSG},
		{"Bearer realm=\"x\" service=\"y\"", -EBADMSG},
		{"Bearer realm=\"a\nb\"", -EBADMSG},
		{"=", -EBADMSG},
		{"Bearer realm=\"x\\", -EBADMSG},
	};
	struct challenge c;
	char longer[CHALLENGE_VALUE_MAX + 64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (headers_challenge(bad[i].s, &c) != bad[i].code)
			fail_msg("%s", bad[i].s);
	}
	memset(longer, 'x', sizeof(longer));
	memcpy(longer, "Bearer realm=\"", 14);
	longer[sizeof(longer) - 2] = '"';
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(headers_challenge(longer, &c), -EBADMSG);
}

static void test_content_range(void **state)
{
	static const char *const bad[] = {
		"",
		"bytes",
		"bytes 0-9",
		"bytes 9-0/10",
		"bytes 0-10/10",
		"bytes a-9/10",
		"bytes -9/10",
		"items 0-9/10",
		"bytes */*",
		"bytes 0-9/10x",
		"bytes 0 - 9/10",
		"bytes 0-9/",
		"bytes 0-18446744073709551615/*",
		"bytes 0-18446744073709551616/*",
		"bytes 99999999999999999999-1/2",
	};
	struct content_range cr;

	(void)state;
	assert_int_equal(headers_content_range(" bytes 5-9/100 ", &cr), 0);
	assert_true(cr.has_range && cr.has_total);
	assert_int_equal(cr.start, 5);
	assert_int_equal(cr.end, 9);
	assert_int_equal(cr.total, 100);
	assert_int_equal(headers_content_range("Bytes 0-0/*", &cr), 0);
	assert_false(cr.has_total);
	assert_int_equal(headers_content_range("bytes */0", &cr), 0);
	assert_false(cr.has_range);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (headers_content_range(bad[i], &cr) != -EBADMSG)
			fail_msg("%s", bad[i]);
	}
}

static void test_retry_after(void **state)
{
	uint64_t s;

	(void)state;
	assert_int_equal(headers_retry_after("120", 0, &s), 0);
	assert_int_equal(s, 120);
	assert_int_equal(
		headers_retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 40, &s),
		0);
	assert_int_equal(s, 60);
	assert_int_equal(
		headers_retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 400, &s),
		0);
	assert_int_equal(s, 0);
	assert_int_equal(headers_retry_after("soon", 0, &s), -EBADMSG);
	assert_int_equal(headers_retry_after("-1", 0, &s), -EBADMSG);
}

static void location(const char *base, const char *to, const char *want,
		     bool same)
{
	CLEANUP_FREE char *url = NULL;
	bool is_same = !same;
	int r = headers_location(base, to, &url, &is_same);

	if (want == NULL) {
		assert_true(r < 0);
		assert_null(url);
		return;
	}
	assert_int_equal(r, 0);
	assert_string_equal(url, want);
	assert_int_equal(is_same, same);
}

static void test_location(void **state)
{
	static const char base[] = "https://a.io/v2/x/blobs/d?ns=q";

	(void)state;
	location(base, "https://b.io/y?sig=1#f", "https://b.io/y?sig=1", false);
	location(base, "/z", "https://a.io/z", true);
	location(base, "z?k", "https://a.io/v2/x/blobs/z?k", true);
	location(base, "//c.io/z", "https://c.io/z", false);
	location(base, "https://a.io:443/z", "https://a.io:443/z", true);
	location(base, "https://a.io:444/z", "https://a.io:444/z", false);
	location(base, "https://u:p@a.io/z", "https://a.io/z", true);
	location(base, "http://a.io/z", NULL, false);
	location(base, "file:///etc/passwd", NULL, false);
	location(base, "ftp://a.io/", NULL, false);
	location(base, "https://a.io/a b", NULL, false);
	location(base, "https://a.io/\r\nX: y", NULL, false);
	location("http://a.io/x", "http://a.io/y", "http://a.io/y", true);
	location("http://a.io/x", "https://a.io/y", "https://a.io/y", false);
}

static void test_token(void **state)
{
	static const char *const bad[] = {
		"", "{}", "[]", "{\"token\":\"\"}", "{\"token\":3}", "null",
	};
	static const char one[] = "{\"token\":\"abc\",\"expires_in\":300}";
	static const char two[] = "{\"access_token\":\"abc\"}";
	uint64_t s;
	char *t;

	(void)state;
	assert_int_equal(auth_token_parse(one, strlen(one), &t, &s), 0);
	assert_string_equal(t, "abc");
	assert_int_equal(s, 300);
	free(t);
	assert_int_equal(auth_token_parse(two, strlen(two), &t, &s), 0);
	assert_int_equal(s, AUTH_EXPIRES_DEFAULT_S);
	free(t);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(
			auth_token_parse(bad[i], strlen(bad[i]), &t, &s),
			-EBADMSG);
}

static const char config[] =
	"{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dTpwOng=\"},"
	"\"a.io:5000\":{\"username\":\"n\",\"password\":\"s\"},"
	"\"http://b.io/v2/\":{\"identitytoken\":\"idt\",\"auth\":\"dTpw\"},"
	"\"c.io\":{}},"
	"\"credHelpers\":{\"d.io\":\"ecr-login\"},\"credsStore\":\"store\"}";

static void test_docker_config(void **state)
{
	static const struct {
		const char *host, *user, *secret, *idt, *helper;
	} rows[] = {
		{"docker.io", "u", "p:x", NULL, NULL},
		{"registry-1.docker.io", "u", "p:x", NULL, NULL},
		{"a.io:5000", "n", "s", NULL, NULL},
		{"a.io", NULL, NULL, NULL, "store"},
		{"b.io", "u", "p", "idt", NULL},
		{"c.io", NULL, NULL, NULL, "store"},
		{"d.io", NULL, NULL, NULL, "ecr-login"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEANUP_CRED struct cred c = {0};
		CLEANUP_FREE char *helper = NULL;

		assert_int_equal(creds_lookup(config, strlen(config),
					      rows[i].host, &c, &helper, NULL),
				 0);
		assert_string_equal(c.user ? c.user : "-",
				    rows[i].user ? rows[i].user : "-");
		assert_string_equal(c.secret ? c.secret : "-",
				    rows[i].secret ? rows[i].secret : "-");
		assert_string_equal(c.identity_token ? c.identity_token : "-",
				    rows[i].idt ? rows[i].idt : "-");
		assert_string_equal(helper ? helper : "-",
				    rows[i].helper ? rows[i].helper : "-");
	}
}

static void test_bad_docker_config(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{\"auths\":{\"a.io\":3}}",
		"{\"auths\":{\"a.io\":{\"auth\":\"!!!!\"}}}",
		"{\"auths\":{\"a.io\":{\"auth\":\"abc\"}}}",
		"{\"auths\":{\"a.io\":{\"auth\":\"dQ==\"}}}",
		"{\"credsStore\":\"../x\"}",
		"{\"credHelpers\":{\"a.io\":\"x y\"}}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP_CRED struct cred c = {0};
		char *helper = NULL;
		struct err e = {0};

		if (creds_lookup(bad[i], strlen(bad[i]), "a.io", &c, &helper,
				 &e) >= 0)
			fail_msg("%s", bad[i]);
		assert_true(e.text[0] != '\0');
		assert_null(c.user);
	}
}

static void test_damaged_docker_config(void **state)
{
	CLEANUP_FREE char *s = strdup(config);
	size_t n = strlen(config);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		for (int bit = 0; bit < 8; bit++) {
			CLEANUP_CRED struct cred c = {0};
			CLEANUP_FREE char *helper = NULL;

			s[i] = (char)(s[i] ^ (1 << bit));
			(void)creds_lookup(s, n, "docker.io", &c, &helper,
					   NULL);
			s[i] = config[i];
		}
	}
}

static void test_helper_output(void **state)
{
	static const char plain[] =
		"{\"ServerURL\":\"x\",\"Username\":\"u\",\"Secret\":\"s\"}";
	static const char token[] =
		"{\"Username\":\"<token>\",\"Secret\":\"idt\"}";
	struct cred c = {0};

	(void)state;
	assert_int_equal(creds_helper_parse(plain, strlen(plain), &c), 0);
	assert_string_equal(c.user, "u");
	assert_string_equal(c.secret, "s");
	cred_done(&c);
	assert_int_equal(creds_helper_parse(token, strlen(token), &c), 0);
	assert_null(c.user);
	assert_string_equal(c.identity_token, "idt");
	cred_done(&c);
	assert_int_equal(creds_helper_parse("not found", 9, &c), -EBADMSG);
	assert_int_equal(creds_helper_parse("{}", 2, &c), -EBADMSG);
}

static void test_upload_range(void **state)
{
	static const char *const bad[] = {
		"",
		"0",
		"0-",
		"-5",
		"1-5",
		"0-5x",
		"0-5,6",
		"bytes=0",
		"chars=0-5",
		"0--5",
		"0-0x5",
		"0-18446744073709551615",
		"0-99999999999999999999",
	};
	uint64_t n;

	(void)state;
	assert_int_equal(headers_upload_range("0-1023", &n), 0);
	assert_int_equal(n, 1024);
	assert_int_equal(headers_upload_range(" bytes=0-1 ", &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(headers_upload_range("0-0", &n), 0);
	assert_int_equal(n, 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		n = 7;
		assert_int_equal(headers_upload_range(bad[i], &n), -EBADMSG);
		assert_int_equal(n, 7);
	}
}

static void link_is(const char *s, const char *want)
{
	CLEANUP_FREE char *next = NULL;

	assert_int_equal(headers_link_next(s, &next), 0);
	assert_string_equal(next, want);
}

static void test_link(void **state)
{
	static const char *const none[] = {
		"",
		"</a>",
		"</a>; rel=prev",
		"</a>; rel=\"prev last\"",
		"</a>; title=next",
		"</a>; rel=nextish,</b>;rel=\"not-next\"",
	};
	static const char *const bad[] = {
		"a; rel=next",   "</a; rel=next",    "<",
		"</a> rel=next", "</a>; rel=\"next", "</a>; rel=next </b>",
	};
	char *next = NULL;

	(void)state;
	link_is("</v2/a/referrers/x?n=2>; rel=\"next\"",
		"/v2/a/referrers/x?n=2");
	link_is("<b>;rel=next", "b");
	link_is("</a,;>; rel=prev; title=\"x, <y>; rel=next\", </b> ; "
		"REL = \"last NEXT\"",
		"/b");
	link_is("<>; rel=next", "");
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		assert_int_equal(headers_link_next(none[i], &next), -ENOENT);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(headers_link_next(bad[i], &next), -EBADMSG);
	assert_null(next);
}

static void reply_is(const char *json, const char *want)
{
	char buf[40];

	assert_ptr_equal(reply_error(json, strlen(json), buf, sizeof(buf)),
			 buf);
	assert_string_equal(buf, want);
}

static void test_reply(void **state)
{
	static const char text[] =
		"{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\"},"
		"{\"code\":\"X\"}]}";
	char buf[40];

	(void)state;
	reply_is(text, "DENIED: no");
	reply_is("{\"errors\":[{\"code\":\"DENIED\"}]}", "DENIED");
	reply_is("{\"errors\":[{\"message\":\"a\\nb\\u001b\"}]}", "a?b?");
	reply_is("{\"errors\":[{\"code\":1,\"message\":[]}]}", "");
	reply_is("{\"errors\":{\"code\":\"DENIED\"}}", "");
	reply_is("{\"errors\":[]}", "");
	reply_is("[]", "");
	reply_is("<html>", "");
	reply_is("{\"errors\":[{\"code\":\"DENIED\",\"message\":"
		 "\"0123456789012345678901234567890123456789\"}]}",
		 "DENIED: 0123456789012345678901234567890");
	for (size_t n = 0; n < strlen(text); n++) {
		(void)reply_error(text, n, buf, sizeof(buf));
		assert_string_equal(buf, "");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_challenge),
		cmocka_unit_test(test_bad_challenges),
		cmocka_unit_test(test_content_range),
		cmocka_unit_test(test_retry_after),
		cmocka_unit_test(test_location),
		cmocka_unit_test(test_token),
		cmocka_unit_test(test_docker_config),
		cmocka_unit_test(test_bad_docker_config),
		cmocka_unit_test(test_damaged_docker_config),
		cmocka_unit_test(test_helper_output),
		cmocka_unit_test(test_upload_range),
		cmocka_unit_test(test_link),
		cmocka_unit_test(test_reply),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
