/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/manifests.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "common/io.h"

static int path_of(const char *root, const struct digest *d, char **ret_dir,
		   char **ret_path)
{
	char hex[DIGEST_HEX_BYTES + 1];

	if (asprintf(ret_dir, "%s/manifests/sha256", root) < 0) {
		*ret_dir = NULL;
		return -ENOMEM;
	}
	if (asprintf(ret_path, "%s/%s.json", *ret_dir, digest_hex(d, hex)) <
	    0) {
		*ret_path = NULL;
		return -ENOMEM;
	}
	return 0;
}

int manifests_get(const char *root, const struct digest *d, struct buf *ret)
{
	CLEANUP_FREE char *dir = NULL;
	CLEANUP_FREE char *path = NULL;
	int r = path_of(root, d, &dir, &path);

	return r < 0 ? r : io_read_file(AT_FDCWD, path, ret);
}

void manifests_put(const char *root, const struct digest *d,
		   const struct buf *json)
{
	CLEANUP_FREE char *dir = NULL;
	CLEANUP_FREE char *path = NULL;

	if (path_of(root, d, &dir, &path) < 0 || io_mkdir_p(dir, 0700) < 0)
		return;
	(void)io_write_file(AT_FDCWD, path, json->p, json->len, 0600);
}
