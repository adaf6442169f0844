/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/natives.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/buf.h"
#include "common/chunks.h"
#include "common/io.h"
#include "common/kmount.h"
#include "common/limits.h"
#include "common/mnttab.h"
#include "common/rd.h"

#define LOOP "/dev/loop"

enum natives_kind natives_name(const char *path, const char **ret_hex)
{
	static const struct {
		const char *before, *behind;
		enum natives_kind kind;
	} forms[] = {
		{"/layers/sha256/", "/layer.erofs", NATIVES_LAYER},
		{"/layers/sha256/", ".user/layer.erofs", NATIVES_LAYER},
		{"/chains/sha256/", "/meta.erofs", NATIVES_CHAIN},
	};
	size_t len = strlen(path);

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		size_t a = strlen(forms[i].before), z = strlen(forms[i].behind);
		const char *at;

		if (len < a + DIGEST_HEX_BYTES + z)
			continue;
		at = path + len - z - DIGEST_HEX_BYTES;
		if (strcmp(path + len - z, forms[i].behind) != 0 ||
		    strncmp(at - a, forms[i].before, a) != 0 ||
		    strspn(at, "0123456789abcdef") != DIGEST_HEX_BYTES)
			continue;
		*ret_hex = at;
		return forms[i].kind;
	}
	return NATIVES_NONE;
}

/* The file behind what is mounted: itself, or that of the loop device. */
static char *file_of(const char *source)
{
	CLEANUP_BUF struct buf b = BUF_INIT(KIB(8));
	char path[64];

	if (strncmp(source, LOOP, strlen(LOOP)) != 0)
		return strdup(source);
	(void)snprintf(path, sizeof(path),
		       "/sys/block/loop%.16s/loop/backing_file",
		       source + strlen(LOOP));
	if (io_read_file(AT_FDCWD, path, &b) < 0 || b.p == NULL)
		return NULL;
	b.p[strcspn(b.p, "\n")] = '\0';
	return strdup(b.p);
}

static const char *how(const struct mntent *m)
{
	if (strncmp(m->mnt_fsname, LOOP, strlen(LOOP)) == 0)
		return kmount_kind_str(KMOUNT_LOOP);
	return kmount_kind_str(hasmntopt(m, "directio") != NULL ? KMOUNT_DIRECT
								: KMOUNT_FILE);
}

static void add_str(struct json_object *o, const char *key, const char *value)
{
	(void)json_object_object_add(o, key, json_object_new_string(value));
}

static void add_u64(struct json_object *o, const char *key, uint64_t value)
{
	(void)json_object_object_add(o, key, json_object_new_uint64(value));
}

/* What the chunk table beside the image says. */
static void add_table(struct json_object *o, const char *dir)
{
	struct chunks_header_le h = {0};
	struct digest blob = {{0}};
	const struct digest none = {{0}};
	CLEANUP_FREE char *path = NULL;
	CLEANUP_CLOSE int fd = -EBADF;
	char digest[DIGEST_STR_BYTES] = "";

	if (asprintf(&path, "%s/chunks", dir) < 0) {
		path = NULL;
		return;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || io_pread_all(fd, &h, sizeof(h), 0) < 0 ||
	    le32_load(&h.version) != CHUNKS_VERSION)
		memset(&h, 0, sizeof(h));
	memcpy(blob.b, h.blob_digest, sizeof(blob.b));
	if (!digest_equal(&blob, &none))
		(void)digest_str(&blob, digest);
	add_str(o, "digest", digest);
	add_u64(o, "blob_size", le64_load(&h.blob_size));
	add_u64(o, "image_bytes", le64_load(&h.image_bytes));
}

static int add_one(struct json_object *array, const struct mntent *m)
{
	CLEANUP_FREE char *file = file_of(m->mnt_fsname);
	char digest[sizeof("sha256:") + DIGEST_HEX_BYTES];
	enum natives_kind kind = NATIVES_NONE;
	struct json_object *o;
	const char *hex;

	if (file != NULL)
		kind = natives_name(file, &hex);
	if (kind == NATIVES_NONE)
		return 0;
	o = json_object_new_object();
	if (o == NULL)
		return -ENOMEM;
	(void)snprintf(digest, sizeof(digest), "sha256:%.*s",
		       (int)DIGEST_HEX_BYTES, hex);
	add_str(o, "source", file);
	add_str(o, "target", m->mnt_dir);
	add_str(o, "mount", "erofs");
	add_str(o, "how", how(m));
	*strrchr(file, '/') = '\0';
	add_str(o, "cache", file);
	if (kind == NATIVES_LAYER) {
		(void)json_object_object_add(o, "layer", NULL);
		add_str(o, "toc_digest", digest);
		add_str(o, "state", "complete");
		add_table(o, file);
	} else {
		add_str(o, "chain", digest);
		add_str(o, "state", "merged");
	}
	return json_object_array_add(array, o) < 0 ? -ENOMEM : 0;
}

/* How many layers an overlayfs has that mount.estargz made of an image: N-1:…:0
 * below a directory that is gone. 0: it is none. With merged metadata above them
 * they are all FUSE's. */
static uint64_t layers_of(const struct mntent *m)
{
	const char *p = hasmntopt(m, "lowerdir");
	uint64_t n = 0;

	if (p == NULL || p[strlen("lowerdir")] != '=')
		return 0;
	p += strlen("lowerdir=");
	for (uint64_t left = UINT64_MAX; left > 0;) {
		char *end;
		uint64_t v = strtoull(p, &end, 10);

		if (*p < '0' || *p > '9' || v >= MANIFEST_LAYERS_MAX ||
		    (n > 0 && v != left - 1))
			return 0;
		if (n == 0)
			n = v + 1;
		left = v;
		if (*end != (left > 0 ? ':' : ',') &&
		    (left > 0 || *end != '\0'))
			return 0;
		p = end + 1;
	}
	return n;
}

/* Those that have told of themselves. */
static uint64_t count_target(struct json_object *array, const char *target)
{
	struct json_object *v;
	uint64_t n = 0;

	for (size_t i = 0; i < json_object_array_length(array); i++) {
		if (json_object_object_get_ex(
			    json_object_array_get_idx(array, i), "target",
			    &v) &&
		    strcmp(json_object_get_string(v), target) == 0)
			n++;
	}
	return n;
}

/* The layers themselves are in no list of mounts any more. */
static int add_image(struct json_object *array, const struct mntent *m)
{
	uint64_t n = layers_of(m);
	uint64_t fuse = count_target(array, m->mnt_dir);
	struct json_object *o;

	if (n <= fuse)
		return 0;
	o = json_object_new_object();
	if (o == NULL)
		return -ENOMEM;
	add_str(o, "source", m->mnt_fsname);
	add_str(o, "target", m->mnt_dir);
	add_str(o, "mount", "overlay");
	add_u64(o, "layers", n);
	add_u64(o, "layers_erofs", n - fuse);
	add_str(o, "state", fuse == 0 ? "complete" : "lazy");
	return json_object_array_add(array, o) < 0 ? -ENOMEM : 0;
}

int natives_collect(FILE *mounts, struct json_object *array)
{
	CLEANUP_MNTTAB struct mnttab t = {0};
	int r = 0;

	while (r == 0 && mnttab_next(&t, mounts)) {
		if (strcmp(t.m.mnt_type, "erofs") == 0)
			r = add_one(array, &t.m);
		else if (strcmp(t.m.mnt_type, "overlay") == 0)
			r = add_image(array, &t.m);
	}
	return r;
}
