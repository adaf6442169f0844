/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of an OCI layout, and the trace in it. */
#ifndef FS_LAYOUT_H
#define FS_LAYOUT_H

#include "common/base.h"
#include "common/buf.h"
#include "common/digest.h"
#include "common/err.h"
#include "common/trace.h"

/* The path of a blob. Return: 0 and heap, -ENOMEM */
int layout_blob_path(const char *dir, const struct digest *d, char **ret);

/* Reads a blob, and checks its digest. @what: names it in errors */
int layout_document(const char *dir, const struct digest *d, const char *what,
		    struct buf *ret, struct err *e);

struct json_object;

/**
 * layout_index() - read index.json
 * @ret_doc:	the caller's; holds @ret_list, its array of manifests
 *
 * Return: 0, -EBADMSG, -errno, with @e
 */
int layout_index(const char *dir, struct json_object **ret_doc,
		 struct json_object **ret_list, struct err *e);

/**
 * layout_trace() - the trace of an image
 * @manifest:	the image's
 * @named:	digest of the trace, where a layer names it; else NULL: what
 *		index.json says refers to the manifest
 *
 * Return: 0, -ENOENT (none, and no word in @e), -errno
 */
int layout_trace(const char *dir, const struct digest *manifest,
		 const struct digest *named, struct trace *ret, struct err *e);

#endif
