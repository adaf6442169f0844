/* SPDX-License-Identifier: Apache-2.0 */
/* How an image is run: its user, its bundle, the line that is waited for. */
#include "config.h"

#include <fcntl.h>
#include <json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "cli/runline.h"
#include "cli/runroot.h"
#include "cli/runspec.h"
#include "tests/unit/tmproot.h"

/* ---- users ------------------------------------------------------------- */

static const char passwd[] = "root:x:0:0:r:/root:/bin/sh\n"
			     "bad line\n:::\nx:x:-1:0::/:\n"
			     "alice:x:1000:100:A:/home/alice:/bin/sh\n"
			     "twin:x:1000:5::/:\n"
			     "last:x:7:8";
static const char group[] = "root:x:0:\nusers:x:100:\nstaff:x:50:bob,alice\n"
			    "video:x:44:alice\nlast:x:9:last";

static void test_users(void **state)
{
	static const struct {
		const char *user;
		uint32_t uid;
		uint32_t gid;
		size_t n_groups;
	} good[] = {
		{"", 0, 0, 0},
		{"root", 0, 0, 0},
		{"alice", 1000, 100, 2},
		{"1000", 1000, 100, 2},
		{"alice:staff", 1000, 50, 0},
		{"alice:77", 1000, 77, 0},
		{"12:34", 12, 34, 0},
		{"12", 12, 0, 0},
		{"twin", 1000, 5, 0},
		{"last", 7, 8, 1},
		{":staff", 0, 50, 0},
		{"4294967294", 4294967294, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		CLEANUP_RUNUSER struct runuser u = {0};
		struct err e = {0};

		assert_int_equal(
			runuser_find(passwd, group, good[i].user, &u, &e), 0);
		assert_int_equal(u.uid, good[i].uid);
		assert_int_equal(u.gid, good[i].gid);
		assert_int_equal(u.n_groups, good[i].n_groups);
	}
}

static void test_users_refused(void **state)
{
	static const char *const bad[][2] = {
		{"eve", "the image has no user \"eve\""},
		{"alice:none", "the image has no group \"none\""},
		{"alice:", "the image has no group \"\""},
		{"-1", "the image has no user \"-1\""},
		{"4294967295", "the image has no user \"4294967295\""},
		{"99999999999", "the image has no user \"99999999999\""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP_RUNUSER struct runuser u = {0};
		struct err e = {0};

		assert_int_equal(runuser_find(passwd, group, bad[i][0], &u, &e),
				 -ENOENT);
		assert_string_equal(e.text, bad[i][1]);
	}
}

/* Links of an image lead to the image. */
static void test_root(void **state)
{
	char dir[] = "/tmp/estargz-run.XXXXXX";
	CLEANUP_BUF struct buf b = BUF_INIT(KIB(4));
	CLEANUP_CLOSE int root = -EBADF;
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(dir));
	root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(root >= 0);
	assert_int_equal(symlinkat("/etc", root, "out"), 0);
	assert_int_equal(symlinkat("../../..", root, "up"), 0);
	assert_int_equal(runroot_read(root, "/out/passwd", &b), -ENOENT);
	assert_int_equal(runroot_mkdir_p(root, "/new/../a/b"), 0);
	assert_int_equal(fstatat(root, "a/b", &st, 0), 0);
	/* A link to what is not there is no directory. */
	assert_true(runroot_mkdir_p(root, "/out/x") < 0);
	assert_int_equal(mkdirat(root, "etc", 0755), 0);
	assert_int_equal(runroot_mkdir_p(root, "/out/x/y"), 0);
	assert_int_equal(fstatat(root, "etc/x/y", &st, 0), 0);
	assert_int_equal(runroot_mkdir_p(root, "up/up/z"), 0);
	assert_int_equal(fstatat(root, "z", &st, 0), 0);
	assert_int_equal(mkfifoat(root, "fifo", 0600), 0);
	assert_int_equal(runroot_read(root, "fifo", &b), -EINVAL);
	assert_true(runroot_mkdir_p(root, "fifo/x") < 0);
	assert_int_equal(tmproot_remove(dir), 0);
}

/* ---- bundles ----------------------------------------------------------- */

static const char config[] =
	"{\"config\":{\"Entrypoint\":[\"/entry\"],\"Cmd\":[\"a\",\"b\"],"
	"\"Env\":[\"PATH=/x\",\"K=image\",\"L=image\"],\"WorkingDir\":\"/w\","
	"\"User\":\"alice\"}}";

static struct json_object *make(const char *text, const struct runspec *s,
				bool unified, int want, struct err *e)
{
	struct json_object *c = json_tokener_parse(text), *ret = NULL;
	uint32_t groups[] = {44, 50};
	const struct runuser u = {1000, 100, groups, ARRAY_SIZE(groups)};
	const struct runspec_where w = {
		.rootfs = "rootfs",
		.cgroup = "/c",
		.unified = unified,
		.user = &u,
	};

	assert_non_null(c);
	*e = (struct err){0};
	assert_int_equal(runspec_make(c, s, &w, &ret, e), want);
	(void)json_object_put(c);
	return ret;
}

/* What is at a JSON pointer is as @want says. */
static void has(struct json_object *o, const char *at, const char *want)
{
	struct json_object *v = NULL;

	assert_int_equal(json_pointer_get(o, at, &v), 0);
	assert_string_equal(json_object_to_json_string_ext(
				    v, JSON_C_TO_STRING_PLAIN |
					       JSON_C_TO_STRING_NOSLASHESCAPE),
			    want);
}

static void test_spec_of_the_image(void **state)
{
	struct runspec s = {0};
	struct err e;
	struct json_object *o = make(config, &s, false, 0, &e);

	(void)state;
	has(o, "/process/args", "[\"/entry\",\"a\",\"b\"]");
	has(o, "/process/env", "[\"PATH=/x\",\"K=image\",\"L=image\"]");
	has(o, "/process/cwd", "\"/w\"");
	has(o, "/process/user",
	    "{\"uid\":1000,\"gid\":100,\"additionalGids\":[44,50]}");
	has(o, "/process/noNewPrivileges", "true");
	has(o, "/process/capabilities/effective",
	    "[\"CAP_CHOWN\",\"CAP_DAC_OVERRIDE\",\"CAP_FSETID\",\"CAP_FOWNER\","
	    "\"CAP_MKNOD\",\"CAP_NET_RAW\",\"CAP_SETGID\",\"CAP_SETUID\","
	    "\"CAP_SETFCAP\",\"CAP_SETPCAP\",\"CAP_NET_BIND_SERVICE\","
	    "\"CAP_SYS_CHROOT\",\"CAP_KILL\",\"CAP_AUDIT_WRITE\"]");
	has(o, "/root", "{\"path\":\"rootfs\"}");
	has(o, "/linux/cgroupsPath", "\"/c\"");
	has(o, "/linux/namespaces",
	    "[{\"type\":\"pid\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},"
	    "{\"type\":\"mount\"},{\"type\":\"network\"}]");
	has(o, "/mounts/5/destination", "\"/sys\"");
	has(o, "/mounts/5/options", "[\"nosuid\",\"noexec\",\"nodev\",\"ro\"]");
	(void)json_object_put(o);
}

static void test_spec_of_the_command_line(void **state)
{
	struct runspec s = {
		.cwd = "/c",
		.net_host = true,
		.terminal = true,
	};
	struct err e = {0};
	struct json_object *o;

	(void)state;
	assert_int_equal(runspec_parse_list("[\"e\"]", &s.entrypoint, &e), 0);
	assert_int_equal(runspec_parse_list("[]", &s.args, &e), 0);
	assert_int_equal(runspec_add(&s.env, "K=option"), 0);
	assert_int_equal(runspec_add(&s.env, "L"), 0);
	assert_int_equal(runspec_add(&s.env, "M"), 0);
	assert_int_equal(runspec_add(&s.env, "N="), 0);
	assert_int_equal(runspec_add_mount(&s, "source=/a,target=/b", &e), 0);
	assert_int_equal(runspec_add_mount(&s,
					   "type=tmpfs,src=t,dst=/t,"
					   "options=size=1m:ro",
					   &e),
			 0);
	o = make(config, &s, true, 0, &e);
	has(o, "/process/args", "[\"e\"]");
	has(o, "/process/env",
	    "[\"PATH=/x\",\"TERM=xterm\",\"K=option\",\"N=\"]");
	has(o, "/process/cwd", "\"/c\"");
	has(o, "/process/terminal", "true");
	has(o, "/linux/namespaces",
	    "[{\"type\":\"pid\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},"
	    "{\"type\":\"mount\"},{\"type\":\"cgroup\"}]");
	(void)json_object_put(o);
	assert_int_equal(runspec_add(&s.command, "x y"), 0);
	s.net_host = false;
	o = make(config, &s, true, 0, &e);
	has(o, "/process/args", "[\"x y\"]");
	has(o, "/mounts/8",
	    "{\"source\":\"/a\",\"destination\":\"/b\",\"type\":\"bind\","
	    "\"options\":[\"rbind\"]}");
	has(o, "/mounts/9",
	    "{\"type\":\"tmpfs\",\"source\":\"t\",\"destination\":\"/t\","
	    "\"options\":[\"size=1m\",\"ro\"]}");
	(void)json_object_put(o);
	runspec_done(&s);
}

static void test_spec_refused(void **state)
{
	static const char *const bad[][2] = {
		{"{}", "the image has no command"},
		{"{\"config\":{}}", "the image has no command"},
		{"{\"config\":null}", "the image has no command"},
		{"{\"config\":{\"Cmd\":[]}}", "the image has no command"},
		{"{\"config\":{\"Cmd\":\"x\"}}", "config: Cmd is not a list"},
		{"{\"config\":{\"Cmd\":[1]}}", "config: Cmd is not a list"},
		{"{\"config\":{\"Cmd\":[\"a\\u0000\"]}}",
		 "config: Cmd is not a list"},
		{"{\"config\":{\"Cmd\":[\"a\"],\"Env\":{}}}",
		 "config: Env is not a list"},
		{"{\"config\":{\"Entrypoint\":[null]}}",
		 "config: Entrypoint is not a list"},
	};
	struct runspec s = {0};
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		(void)make(bad[i][0], &s, false,
			   strstr(bad[i][1], "config:") != NULL ? -EBADMSG
								: -EINVAL,
			   &e);
		if (strncmp(e.text, bad[i][1], strlen(bad[i][1])) != 0)
			fail_msg("%s: %s", bad[i][0], e.text);
	}
}

static void test_options_refused(void **state)
{
	static const char *const lists[] = {"",      "x",   "{}",
					    "\"a\"", "[1]", "[[]]"};
	static const char *const mounts[] = {
		"",
		"x",
		"src=/a",
		"dst=/a",
		"src=/a,dst=b",
		"src=/a,dst=/b,x=y",
		"src=/a,,dst=/b",
	};
	struct runspec s = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		struct err e = {0};

		assert_int_equal(runspec_parse_list(lists[i], &s.args, &e),
				 -EINVAL);
		assert_non_null(strstr(e.text, "not a list of strings"));
	}
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		struct err e = {0};

		assert_int_equal(runspec_add_mount(&s, mounts[i], &e), -EINVAL);
		assert_non_null(strstr(e.text, "--mount"));
	}
	runspec_done(&s);
}

/* ---- lines ------------------------------------------------------------- */

/* How many of the pieces it takes until it is found; 0: it is not. */
static size_t found_after(const char *text, const char *const *pieces, size_t n)
{
	struct runline l;
	struct runline_stream s = {0};
	struct err e = {0};
	size_t i;
	int r = 0;

	assert_int_equal(runline_init(&l, text, &e), 0);
	for (i = 0; i < n && r == 0; i++)
		r = runline_feed(&l, &s, pieces[i], strlen(pieces[i]));
	assert_true(r >= 0);
	runline_stream_done(&s);
	runline_done(&l);
	return r == 1 ? i : 0;
}
#define FOUND(text, ...)                                         \
	found_after(text, (const char *const[]){__VA_ARGS__},    \
		    sizeof((const char *const[]){__VA_ARGS__}) / \
			    sizeof(char *))

static void test_lines(void **state)
{
	CLEANUP_FREE char *much = malloc(100001);
	struct runline l;
	struct err e = {0};

	(void)state;
	assert_int_equal(FOUND("ready", "not yet\n", "rea", "dy\n"), 3);
	assert_int_equal(FOUND("^ready [0-9]+$", "x ready 1\nready 1x\n",
			       "ready 12", "3\n"),
			 3);
	assert_int_equal(FOUND("a.c", "abc\n"), 1);
	assert_int_equal(FOUND("[::]:80", "on [::]:80\r\n"), 1);
	assert_int_equal(FOUND("a(b", "xa(b\n"), 1);
	assert_int_equal(FOUND("prompt> ", "prompt> "), 1);
	assert_int_equal(FOUND("never", "nev\ner\n"), 0);
	/* Of a line that is too long only the beginning. */
	assert_non_null(much);
	memset(much, 'x', 100000);
	much[100000] = '\0';
	assert_int_equal(FOUND("here", much, " here\n", "here\n"), 3);
	assert_int_equal(runline_init(&l, "", &e), -EINVAL);
	assert_int_equal(runline_init(&l, "a\nb", &e), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_users_refused),
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_spec_of_the_image),
		cmocka_unit_test(test_spec_of_the_command_line),
		cmocka_unit_test(test_spec_refused),
		cmocka_unit_test(test_options_refused),
		cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
