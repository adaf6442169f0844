/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of ours the kernel's EROFS has mounted by itself: complete layers
 * (ROOT/layers/sha256/<hex>[.user]/layer.erofs), merged metadata
 * (ROOT/chains/sha256/<hex>/meta.erofs), and below an overlayfs layers of an image.
 * Nobody is to be asked about these: what there is to say is in the list of mounts
 * and the names of the files.
 */
#ifndef CLI_NATIVES_H
#define CLI_NATIVES_H

#include <json.h>
#include <stdio.h>

#include "common/base.h"

/* The last part of what natives_name() has understood. */
enum natives_kind {
	NATIVES_NONE,
	NATIVES_LAYER,
	NATIVES_CHAIN,
};

/**
 * natives_name() - what a file is, by its name
 * @ret_hex:	of the digest in the name, in @path, DIGEST_HEX_BYTES long
 */
enum natives_kind natives_name(const char *path, const char **ret_hex);

/* Adds an object for each such mount in @mounts, a list as /proc/self/mounts, to
 * those of the layers that have told of themselves. Return: 0, -ENOMEM */
int natives_collect(FILE *mounts, struct json_object *array);

#endif
