/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of mount.estargz. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mount.h>

#include "fs/options.h"

static int parse(struct options *o, struct err *e, const char *opts)
{
	char *argv[] = {
		(char *)(uintptr_t) "mount.estargz",
		(char *)(uintptr_t) "src",
		(char *)(uintptr_t) "/mnt",
		(char *)(uintptr_t) "-o",
		(char *)(uintptr_t)opts,
		NULL,
	};

	memset(e, 0, sizeof(*e));
	return options_parse(o, opts != NULL ? 5 : 3, argv, e);
}

static void test_defaults(void **state)
{
	struct options o;
	struct err e;

	(void)state;
	assert_int_equal(parse(&o, &e, NULL), 0);
	assert_string_equal(o.source, "src");
	assert_string_equal(o.target, "/mnt");
	assert_string_equal(o.root, "/var/lib/estargz");
	assert_string_equal(o.fetcher, "/run/estargz/fetcher.sock");
	assert_int_equal(o.read_timeout_s, 300);
	assert_int_equal(o.mount_flags, MS_RDONLY);
	assert_false(o.no_verify);
	options_done(&o);
}

static void test_supervisor(void **state)
{
	static const struct {
		const char *arg;
		int fd;
	} cases[] = {
		{"--supervisor=3", 3},   {"--supervisor=1023", 1023},
		{"--supervisor=2", -1},  {"--supervisor=-1", -1},
		{"--supervisor=", -1},   {"--supervisor=x", -1},
		{"--supervisor=3x", -1}, {"--supervisor=9999999999", -1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *argv[] = {
			(char *)(uintptr_t) "mount.estargz",
			(char *)(uintptr_t)cases[i].arg,
			(char *)(uintptr_t) "src",
			(char *)(uintptr_t) "/mnt",
			NULL,
		};
		struct options o;
		struct err e = {0};
		int r = options_parse(&o, 4, argv, &e);

		assert_int_equal(r, cases[i].fd < 0 ? -EINVAL : 0);
		assert_int_equal(o.supervisor_fd, cases[i].fd);
		options_done(&o);
	}
}

static void test_all_options(void **state)
{
	static const char opts[] =
		"layer=3,digest=sha256:"
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
		",toc_digest=sha256:"
		"ca7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
		",trace=sha256:"
		"da7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
		",manifest=sha256:"
		"ea7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
		",root=/r,fetcher=/f,plain_http,noprefetch,notrace,nobackground,"
		"noreadahead,nonative,open_mode=passthrough,events=/e,events_max=64KiB,"
		"opaque=user,insecure_no_verify,read_timeout=7,log_level=warn,"
		"rw,nodev,nosuid,noexec,_netdev,x-systemd.automount,"
		"comment=hello,,nofail";
	struct options o;
	struct err e;

	(void)state;
	assert_int_equal(parse(&o, &e, opts), 0);
	assert_string_equal(o.layer, "3");
	assert_true(o.has_digest && o.has_toc_digest);
	assert_int_equal(o.digest.b[0], 0xba);
	assert_int_equal(o.toc_digest.b[0], 0xca);
	assert_true(o.has_trace && o.notrace);
	assert_int_equal(o.trace.b[0], 0xda);
	assert_true(o.has_manifest);
	assert_int_equal(o.manifest.b[0], 0xea);
	assert_string_equal(o.root, "/r");
	assert_string_equal(o.fetcher, "/f");
	assert_true(o.plain_http && o.noprefetch && o.nobackground &&
		    o.noreadahead && o.nonative && o.opaque_user &&
		    o.no_verify);
	assert_int_equal(o.open_mode, OPTIONS_OPEN_PASSTHROUGH);
	assert_string_equal(o.events, "/e");
	assert_int_equal(o.events_max, KIB(64));
	assert_int_equal(o.read_timeout_s, 7);
	assert_int_equal(o.log_level, LOG_WARN_);
	assert_int_equal(o.mount_flags,
			 MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC);
	options_done(&o);
}

static void test_bad_options_are_named(void **state)
{
	static const char *const bad[] = {
		"nosuch",           "nosuch=1",        "layer=",
		"layer=-1",         "layer=1x",        "layer=sha256:12",
		"digest=sha512:",   "toc_digest=abc",  "root=relative",
		"manifest=12",      "trace=12",        "fetcher=rel",
		"read_timeout=0",   "read_timeout=-1", "read_timeout=x",
		"read_timeout=1e9", "opaque=both",     "log_level=loud",
		"layer=99999",      "events=relative", "events_max=x",
		"events_max=",      "open_mode=",      "open_mode=no",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct options o;
		struct err e;

		assert_int_equal(parse(&o, &e, bad[i]), -EINVAL);
		assert_non_null(strstr(e.text, bad[i]));
		options_done(&o);
	}
}

static void test_arguments(void **state)
{
	static const struct {
		const char *argv[5];
		int argc;
		const char *text;
	} bad[] = {
		{{"m", "src"}, 2, "SOURCE and TARGET are needed"},
		{{"m", "a", "b", "c"}, 4, "too many arguments"},
		{{"m", "a", "b", "-Q"}, 4, "unknown option -Q"},
		{{"m", "a", "b", "-o"}, 4, "-o needs a value"},
		{{"m", "", "b"}, 3, "SOURCE is empty"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *argv[6] = {NULL};
		struct options o;
		struct err e = {0};

		for (int k = 0; k < bad[i].argc; k++)
			argv[k] = (char *)(uintptr_t)bad[i].argv[k];
		assert_int_equal(options_parse(&o, bad[i].argc, argv, &e),
				 -EINVAL);
		assert_string_equal(e.text, bad[i].text);
		options_done(&o);
	}
}

/* --help names every option, and says nothing of others. */
static void test_help_is_complete(void **state)
{
	static const char *const names[] = {
		"layer=",
		"digest=",
		"toc_digest=",
		"root=",
		"fetcher=",
		"plain_http",
		"noprefetch",
		"nobackground",
		"opaque=",
		"read_timeout=",
		"insecure_no_verify",
		"log_level=",
		"open_mode=",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_non_null(strstr(options_help, names[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_supervisor),
		cmocka_unit_test(test_all_options),
		cmocka_unit_test(test_bad_options_are_named),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_help_is_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
