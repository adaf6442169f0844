/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: where a layer's FUSE mount has the data of a file by its number: the
 * path that merged metadata (common/merge.h) sends overlayfs to.
 *
 *   /<16 hex>/<nid>
 *
 * The first 8 bytes of the TOC's digest, lower case; then the file's number in layer.erofs,
 * decimal, without leading zeros. Looked up, both are there in every FUSE
 * mount of a layer, above a name of the layer itself; no directory lists them.
 * Only regular files have such a name.
 */
#ifndef COMMON_DATAPATH_H
#define COMMON_DATAPATH_H

#include <stdio.h>
#include <string.h>

#include "common/base.h"
#include "common/digest.h"

#define DATAPATH_DIR_BYTES 17u               /* with NUL */
#define DATAPATH_BYTES (1 + 16 + 1 + 20 + 1) /* with NUL */

static inline void datapath_dir(const struct digest *toc_digest,
				char ret[DATAPATH_DIR_BYTES])
{
	for (size_t i = 0; i < 8; i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", toc_digest->b[i]);
}

/* Return: false where @name is no number as written above */
static inline bool datapath_nid(const char *name, uint64_t *ret)
{
	size_t len = strlen(name);
	uint64_t v = 0;

	if (len == 0 || len > 18 || (name[0] == '0'))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (name[i] < '0' || name[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(name[i] - '0');
	}
	*ret = v;
	return true;
}

#endif
