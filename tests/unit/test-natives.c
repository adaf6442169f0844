/* SPDX-License-Identifier: Apache-2.0 */
/* What of ours is in a list of mounts. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/natives.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_names(void **state)
{
	static const struct {
		const char *path;
		enum natives_kind kind;
	} names[] = {
		{"/r/layers/sha256/" HEX "/layer.erofs", NATIVES_LAYER},
		{"/layers/sha256/" HEX ".user/layer.erofs", NATIVES_LAYER},
		{"/r/chains/sha256/" HEX "/meta.erofs", NATIVES_CHAIN},
		{"/r/chains/sha256/" HEX "/layer.erofs", NATIVES_NONE},
		{"/r/layers/sha256/" HEX "/meta.erofs", NATIVES_NONE},
		{"/r/layers/unverified/" HEX "/layer.erofs", NATIVES_NONE},
		{"/r/layers/sha256/" HEX "0/layer.erofs", NATIVES_NONE},
		{"/r/layers/sha256/g" HEX "/layer.erofs", NATIVES_NONE},
		{"/r/layers/sha256/" HEX "/layer.erofs.new", NATIVES_NONE},
		{"layers/sha256/" HEX "/layer.erofs", NATIVES_NONE},
		{"", NATIVES_NONE},
		{"/", NATIVES_NONE},
		{"/layer.erofs", NATIVES_NONE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *hex = NULL;

		assert_int_equal(natives_name(names[i].path, &hex),
				 names[i].kind);
		if (names[i].kind != NATIVES_NONE)
			assert_memory_equal(hex, HEX, strlen(HEX));
	}
}

static const char *str(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v)
						     : NULL;
}

static void test_list(void **state)
{
	static char list[] =
		"/dev/vda / ext4 rw 0 0\n"
		"/r/layers/sha256/" HEX "/layer.erofs /a\\040b erofs "
		"ro,user_xattr,directio 0 0\n"
		"/r/chains/sha256/" HEX "/meta.erofs /c erofs ro 0 0\n"
		"/home/x.erofs /x erofs ro 0 0\n"
		"/r/layers/sha256/" HEX "/layer.erofs /y ext4 ro 0 0\n"
		"/dev/loop99999999999999999999 /z erofs ro 0 0\n";
	struct json_object *array = json_object_new_array();
	FILE *f = fmemopen(list, strlen(list), "r");
	struct json_object *o;

	(void)state;
	assert_non_null(f);
	assert_int_equal(natives_collect(f, array), 0);
	(void)fclose(f);
	assert_int_equal(json_object_array_length(array), 2);
	o = json_object_array_get_idx(array, 0);
	assert_string_equal(str(o, "target"), "/a b");
	assert_string_equal(str(o, "state"), "complete");
	assert_string_equal(str(o, "mount"), "erofs");
	assert_string_equal(str(o, "how"), "file, direct");
	assert_string_equal(str(o, "toc_digest"), "sha256:" HEX);
	assert_string_equal(str(o, "cache"), "/r/layers/sha256/" HEX);
	assert_string_equal(str(o, "digest"), "");
	o = json_object_array_get_idx(array, 1);
	assert_string_equal(str(o, "how"), "file");
	assert_string_equal(str(o, "chain"), "sha256:" HEX);
	assert_string_equal(str(o, "state"), "merged");
	(void)json_object_put(array);
}

/* The layers of an image, below what mount.estargz made. */
static void test_images(void **state)
{
	static char list[] =
		"repo:1 /all overlay ro,lowerdir=2:1:0 0 0\n"
		"repo:2 /some overlay ro,lowerdir=1:0,userxattr 0 0\n"
		"repo:3 /fuse overlay ro,lowerdir=1:0 0 0\n"
		"repo:4 /merged overlay ro,lowerdir=2::1::0 0 0\n"
		"overlay /a overlay rw,lowerdir=/x:/y,upperdir=/u 0 0\n"
		"overlay /b overlay rw,lowerdir=2:0 0 0\n"
		"overlay /c overlay rw,lowerdir=1:0/x 0 0\n"
		"overlay /d overlay rw,lowerdir=1:0: 0 0\n"
		"overlay /e overlay rw,lowerdir= 0 0\n"
		"overlay /f overlay rw,lowerdir=1:01x 0 0\n"
		"overlay /g overlay rw,lowerdir=99999999999999999999:0 0 0\n"
		"overlay /h overlay rw 0 0\n";
	struct json_object *array = json_tokener_parse(
		"[{\"target\":\"/some\"},{\"target\":\"/fuse\"},"
		"{\"target\":\"/fuse\"}]");
	FILE *f = fmemopen(list, strlen(list), "r");
	struct json_object *o;

	(void)state;
	assert_non_null(f);
	assert_int_equal(natives_collect(f, array), 0);
	(void)fclose(f);
	assert_int_equal(json_object_array_length(array), 5);
	o = json_object_array_get_idx(array, 3);
	assert_string_equal(str(o, "target"), "/all");
	assert_string_equal(str(o, "source"), "repo:1");
	assert_string_equal(str(o, "layers"), "3");
	assert_string_equal(str(o, "layers_erofs"), "3");
	assert_string_equal(str(o, "state"), "complete");
	o = json_object_array_get_idx(array, 4);
	assert_string_equal(str(o, "target"), "/some");
	assert_string_equal(str(o, "layers_erofs"), "1");
	assert_string_equal(str(o, "state"), "lazy");
	(void)json_object_put(array);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
