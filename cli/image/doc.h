/* SPDX-License-Identifier: Apache-2.0 */
/* Small JSON documents of images, and the descriptors in them. */
#ifndef CLI_IMAGE_DOC_H
#define CLI_IMAGE_DOC_H

#include "cli/image/image.h"

struct json_object;

#define REF_NAME_ANNOTATION "org.opencontainers.image.ref.name"
#define CREATED_ANNOTATION OCI_CREATED_ANNOTATION

#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define OCI_EMPTY "application/vnd.oci.empty.v1+json"
#define OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"

/**
 * doc_parse() - a whole document of JSON, whose value is an object
 * @what:	names it in errors
 *
 * Bytes behind the value, NUL and nesting over DOC_DEPTH_MAX are refused.
 * Return: 0 and a reference, -EBADMSG, -EOVERFLOW, -ENOMEM
 */
int doc_parse(const char *doc, size_t len, const char *what,
	      struct json_object **ret, struct err *e);
#define DOC_DEPTH_MAX 64
/* The same of a document whose value is an array. */
int doc_parse_list(const char *doc, size_t len, const char *what,
		   struct json_object **ret, struct err *e);

void doc_put(struct json_object **o);
#define CLEANUP_DOC CLEANUP(doc_put)

/* What a key has, NULL where it is missing or of another type. */
const char *doc_str(struct json_object *o, const char *key);
struct json_object *doc_object(struct json_object *o, const char *key);
struct json_object *doc_array(struct json_object *o, const char *key);
/* The value of an annotation of a descriptor or document, or NULL. */
const char *doc_annotation(struct json_object *o, const char *key);

/**
 * doc_desc() - a descriptor
 * @what:	names it in errors
 *
 * Return: 0, -EBADMSG (digest or size missing or wrong), -EOPNOTSUPP (digest
 * algorithm), -ENOMEM
 */
int doc_desc(struct json_object *o, const char *what, struct image_desc *ret,
	     struct err *e);
/* Sets the three of a descriptor; others of its keys stay. */
int doc_desc_set(struct json_object *o, const struct image_desc *d);
/* Sets a string; a NULL value removes the key. Return: 0, -ENOMEM */
int doc_set_str(struct json_object *o, const char *key, const char *value);
/* The same of an annotation; annotations that are no more go altogether. */
int doc_annotate(struct json_object *o, const char *key, const char *value);

/* Appends the JSON without white space. */
int doc_print(struct json_object *o, struct buf *ret);

/* What a document says it is, else what its keys say; NULL: neither. */
const char *doc_media_type(struct json_object *o);

/* SHA-256 of bytes. Return: 0, -ENOMEM */
int doc_digest(const void *p, size_t n, struct digest *ret);

/* A descriptor of bytes; its media type is copied. */
int doc_describe(const char *media_type, const void *p, size_t n,
		 struct image_desc *ret);

#endif
