/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: OCI image layouts: a directory, or the same files in a tar. This is
 * what oci: and oci-archive: share; layout.c has the directory.
 *
 * Spec: OCI image-spec, image-layout.md
 */
#ifndef CLI_IMAGE_LAYOUT_H
#define CLI_IMAGE_LAYOUT_H

#include "cli/image/span.h"

struct json_object;

#define LAYOUT_FILE "{\"imageLayoutVersion\":\"1.0.0\"}"
#define LAYOUT_BLOBS "blobs/sha256"
#define LAYOUT_BLOB_BYTES (sizeof(LAYOUT_BLOBS) + 1 + DIGEST_HEX_BYTES)

/* In index.json, beside artifactType: of which image an artifact is, so that
 * not every manifest must be read to find those of one. */
#define LAYOUT_SUBJECT_ANNOTATION OCI_LAYOUT_SUBJECT_ANNOTATION

/* Path of a blob in a layout. @buf has LAYOUT_BLOB_BYTES. Return: @buf */
char *layout_blob_path(const struct digest *d, char *buf);

/**
 * struct layout_files - where a layout's files are
 * @open:	a file by its path in the layout; -ENOENT
 */
struct layout_files {
	int (*open)(struct layout_files *f, const char *path, struct span *ret,
		    struct err *e);
	void (*close)(struct layout_files *f);
};

/* A source over files, which it takes over, even where it fails. */
int layout_src_over(struct layout_files *f, const struct image_name *n,
		    struct image_src **ret, struct err *e);

/**
 * layout_index_parse() - index.json
 *
 * Return: 0, -EBADMSG (also where a manifest's descriptor is bad), -EOPNOTSUPP
 */
int layout_index_parse(const char *doc, size_t len, struct json_object **ret,
		       struct err *e);
/* One without manifests. */
struct json_object *layout_index_new(void);

/**
 * layout_index_put() - an image's descriptor, in the place of who had the name
 *
 * What refers to that one goes too, where it has no other name.
 * @tag:	NULL: the image without a name
 */
int layout_index_put(struct json_object *index, const struct image_desc *d,
		     const char *tag);

/* An artifact's; others of its type and subject go. */
int layout_index_refer(struct json_object *index, const struct image_desc *m,
		       const char *doc, const struct image_desc *subject,
		       const char *artifact_type, struct err *e);

#endif
