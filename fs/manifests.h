/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what was once resolved of an image that is named by its digest:
 * ROOT/manifests/sha256/<hex>.json, the answer to RESOLVE. A digest never
 * means something else, so a known image is mounted without asking for its
 * manifest again, and also while its registry is away. Images named by a tag
 * are asked for every time.
 */
#ifndef FS_MANIFESTS_H
#define FS_MANIFESTS_H

#include "common/base.h"
#include "common/buf.h"
#include "common/digest.h"

/* Return: 0 and the document, -ENOENT, -errno */
int manifests_get(const char *root, const struct digest *d, struct buf *ret);

/* Keeps a document; a failure is only a request more next time. */
void manifests_put(const char *root, const struct digest *d,
		   const struct buf *json);

#endif
