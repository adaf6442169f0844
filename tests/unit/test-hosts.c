/* SPDX-License-Identifier: Apache-2.0 */
/* hosts.toml, and estargzd.toml. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/fetcher/conf.h"
#include "daemon/registry/hosts.h"
#include "daemon/registry/registry.h"

static const char golden[] = "server = \"https://reg.io\"\n"
			     "[host.\"https://z.io\"]\n"
			     "  capabilities = [\"pull\"]\n"
			     "  ca = [\"z.crt\", \"/y.crt\"]\n"
			     "  client = [[\"c.crt\", \"c.key\"]]\n"
			     "[host.\"http://a.io:8080/base/\"]\n"
			     "  skip_verify = true\n"
			     "  override_path = true\n"
			     "  [host.\"http://a.io:8080/base/\".header]\n"
			     "    x-one = [\"1\", \"2\"]\n"
			     "    x-two = \"3\"\n";

static void test_hosts_in_order(void **state)
{
	CLEANUP(hosts_free_cleanup) struct hosts *h = NULL;
	CLEANUP_FREE char *url = NULL, *own = NULL;
	struct err e = {0};

	(void)state;
	assert_int_equal(
		hosts_parse(golden, strlen(golden), "reg.io", false, &h, &e),
		0);
	assert_int_equal(h->n, 3);
	assert_string_equal(h->v[0].base, "https://z.io");
	assert_true(h->v[0].can_pull && !h->v[0].can_resolve);
	assert_int_equal(h->v[0].n_ca_files, 2);
	assert_string_equal(h->v[0].client_key, "c.key");
	assert_true(h->v[0].mirror);
	assert_string_equal(h->v[1].base, "http://a.io:8080");
	assert_string_equal(h->v[1].prefix, "/base");
	assert_true(h->v[1].skip_verify && h->v[1].can_resolve);
	assert_int_equal(h->v[1].n_headers, 3);
	assert_string_equal(h->v[1].headers[1], "x-one: 2");
	assert_string_equal(h->v[2].base, "https://reg.io");
	assert_false(h->v[2].mirror);
	url = hosts_url(h, &h->v[0], "a/b", "blobs", "sha256:0");
	assert_string_equal(url,
			    "https://z.io/v2/a/b/blobs/sha256:0?ns=reg.io");
	own = hosts_url(h, &h->v[2], "a/b", "manifests", "t");
	assert_string_equal(own, "https://reg.io/v2/a/b/manifests/t");
}

static void test_hosts_without_a_file(void **state)
{
	static const struct {
		const char *ns;
		bool plain;
		const char *base;
	} rows[] = {
		{"docker.io", false, "https://registry-1.docker.io"},
		{"a.io:5000", false, "https://a.io:5000"},
		{"a.io:5000", true, "http://a.io:5000"},
		{"localhost", false, "https://localhost"},
		{"localhost", true, "http://localhost"},
		{"localhost:443", false, "https://localhost:443"},
		{"localhost:80", false, "http://localhost:80"},
		{"localhost:5000", false, "http://localhost:5000"},
		{"localhost.io", false, "https://localhost.io"},
		{"localhost.io:5000", false, "https://localhost.io:5000"},
		{"127.0.0.1:5000", false, "http://127.0.0.1:5000"},
		{"127.9.9.9:5000", false, "http://127.9.9.9:5000"},
		/* A name that anybody can have, and none that is there. */
		{"127.io:5000", false, "https://127.io:5000"},
		{"127.0.0.1.io:5000", false, "https://127.0.0.1.io:5000"},
		{"128.0.0.1:5000", false, "https://128.0.0.1:5000"},
		{"[::1]:5000", false, "http://[::1]:5000"},
		{"[::1]", false, "https://[::1]"},
		{"[::2]:5000", false, "https://[::2]:5000"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEANUP(hosts_free_cleanup) struct hosts *h = NULL;

		assert_int_equal(hosts_parse(NULL, 0, rows[i].ns, rows[i].plain,
					     &h, NULL),
				 0);
		assert_int_equal(h->n, 1);
		assert_string_equal(h->v[0].base, rows[i].base);
		assert_string_equal(h->v[0].prefix, "/v2");
		assert_false(h->v[0].mirror);
		assert_int_equal(h->v[0].skip_verify,
				 hosts_is_local(rows[i].ns));
	}
}

static void test_local_names(void **state)
{
	(void)state;
	assert_true(hosts_is_local("localhost/token"));
	assert_true(hosts_is_local("LOCALHOST:1?x"));
	assert_true(hosts_is_local("[::1]/x"));
	assert_false(hosts_is_local("[::1"));
	assert_false(hosts_is_local("[::1]x"));
	assert_false(hosts_is_local("127."));
	assert_false(hosts_is_local("127.0.0.1x/"));
	assert_false(hosts_is_local("localhosts"));
	assert_false(hosts_is_local(""));
}

/* Who writes of certificates does not mean plain HTTP. */
static void test_local_tls(void **state)
{
	static const struct {
		const char *s, *base, *prefix;
		bool skip;
	} rows[] = {
		{"ca = \"x\"", "https://localhost:5000", "/v2", false},
		{"ca = []", "http://localhost:5000", "/v2", true},
		{"client = \"x\"", "https://localhost:5000", "/v2", true},
		{"skip_verify = false", "https://localhost:5000", "/v2", false},
		{"server = \"localhost:5000\"", "https://localhost:5000", "/v2",
		 false},
		{"server = \"http://localhost:5000/v2/\"",
		 "http://localhost:5000", "/v2", false},
		{"server = \"http://localhost:5000/a\"",
		 "http://localhost:5000", "/a/v2", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEANUP(hosts_free_cleanup) struct hosts *h = NULL;

		assert_int_equal(hosts_parse(rows[i].s, strlen(rows[i].s),
					     "localhost:5000", false, &h, NULL),
				 0);
		assert_string_equal(h->v[0].base, rows[i].base);
		assert_string_equal(h->v[0].prefix, rows[i].prefix);
		assert_int_equal(h->v[0].skip_verify, rows[i].skip);
		assert_false(h->v[0].mirror);
	}
}

static void test_bad_hosts(void **state)
{
	static const struct {
		const char *s, *text;
	} bad[] = {
		{"server =", "line 1"},
		{"server = 3", "server is not a string"},
		{"server = \"ftp://x\"", "bad URL"},
		{"server = \"https://\"", "bad URL"},
		{"server = \"https://u@x\"", "bad URL"},
		{"server = \"https://x y\"", "bad URL"},
		{"server = \"https://x?y\"", "bad URL"},
		{"host = 3", "host is not a table"},
		{"[host]\nx = 3", "host x is not a table"},
		{"[host.\"https://x\"]\ncapabilities = 3", "capabilities"},
		{"[host.\"https://x\"]\nca = 3", "bad ca"},
		{"[host.\"https://x\"]\nca = [3]", "bad ca"},
		{"[host.\"https://x\"]\nclient = 3", "bad client"},
		{"[host.\"https://x\"]\nclient = [[]]", "bad client"},
		{"[host.\"https://x\"]\nheader = 3", "header"},
		{"[host.\"https://x\"]\nheader = {a = 3}", "bad header a"},
		{"[host.\"https://x\"]\nheader = {a = \"b\\r\\nc: d\"}",
		 "bad header a"},
		{"[host.\"https://x\"]\nheader = {\"a: b\" = \"c\"}",
		 "bad header"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct hosts *h = NULL;
		struct err e = {0};

		if (hosts_parse(bad[i].s, strlen(bad[i].s), "a.io", false, &h,
				&e) >= 0)
			fail_msg("accepted: %s", bad[i].s);
		if (strstr(e.text, bad[i].text) == NULL)
			fail_msg("%s: %s", bad[i].s, e.text);
	}
}

static void test_damaged_hosts(void **state)
{
	CLEANUP_FREE char *s = strdup(golden);
	size_t n = strlen(golden);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		struct hosts *h = NULL;

		if (hosts_parse(golden, i, "a.io", false, &h, NULL) == 0)
			hosts_free(h);
		for (int bit = 0; bit < 8; bit += 3) {
			s[i] = (char)(s[i] ^ (1 << bit));
			if (hosts_parse(s, n, "a.io", false, &h, NULL) == 0)
				hosts_free(h);
			s[i] = golden[i];
		}
	}
}

static void test_breaker(void **state)
{
	struct registry g = {0};
	struct origin *o;

	(void)state;
	list_init(&g.origins);
	o = origin_get(&g, "https://x");
	assert_ptr_equal(origin_get(&g, "https://x"), o);
	for (unsigned i = 1; i < BREAKER_FAILURES; i++)
		origin_failed(o, 100);
	assert_false(o->breaker.probation);
	origin_failed(o, 100);
	assert_true(o->breaker.probation);
	assert_int_equal(o->breaker.not_before_ns, 100 + BREAKER_WAIT_NS);
	origin_worked(o);
	assert_false(o->breaker.probation);
	origin_free_all(&g);
}

static void test_configuration(void **state)
{
	static const char text[] = "socket = \"/x/y\"\n"
				   "socket_mode = \"0660\"\n"
				   "connections_per_host = 3\n"
				   "background_max_bytes_per_s = 1_000_000\n"
				   "log_level = \"debug\"\n";
	struct config c;

	(void)state;
	assert_int_equal(config_init(&c), 0);
	assert_int_equal(c.socket_mode, 0600);
	assert_int_equal(config_parse(&c, text, strlen(text), NULL), 0);
	assert_string_equal(c.socket, "/x/y");
	assert_int_equal(c.socket_mode, 0660);
	assert_int_equal(c.connections_per_host, 3);
	assert_int_equal(c.background_max_bytes_per_s, 1000000);
	assert_int_equal(c.log_level, LOG_DEBUG_);
	config_done(&c);
}

static void test_bad_configuration(void **state)
{
	static const struct {
		const char *s, *text;
	} bad[] = {
		{"sockte = 1", "unknown key sockte"},
		{"socket = 1", "bad value for socket"},
		{"socket = \"x\"", "bad value for socket"},
		{"socket_mode = 600", "bad value for socket_mode"},
		{"socket_mode = \"0999\"", "bad value for socket_mode"},
		{"connections_per_host = 0", "connections_per_host"},
		{"connections_per_host = 1.5", "connections_per_host"},
		{"stall_timeout_s = -1", "stall_timeout_s"},
		{"log_level = \"loud\"", "log_level"},
		{"[socket]", "bad value for socket"},
		{"socket", "line 1"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct config c;
		struct err e = {0};

		assert_int_equal(config_init(&c), 0);
		if (config_parse(&c, bad[i].s, strlen(bad[i].s), &e) >= 0)
			fail_msg("accepted: %s", bad[i].s);
		if (strstr(e.text, bad[i].text) == NULL)
			fail_msg("%s: %s", bad[i].s, e.text);
		config_done(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hosts_in_order),
		cmocka_unit_test(test_hosts_without_a_file),
		cmocka_unit_test(test_local_names),
		cmocka_unit_test(test_local_tls),
		cmocka_unit_test(test_bad_hosts),
		cmocka_unit_test(test_damaged_hosts),
		cmocka_unit_test(test_breaker),
		cmocka_unit_test(test_configuration),
		cmocka_unit_test(test_bad_configuration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
