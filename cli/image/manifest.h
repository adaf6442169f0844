/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: manifests, indexes and configs that are to be changed: as json-c has
 * them, so that what we do not know is kept. For reading alone, common/oci.h
 * is enough.
 */
#ifndef CLI_IMAGE_MANIFEST_H
#define CLI_IMAGE_MANIFEST_H

#include "cli/image/image.h"

struct json_object;

#define ANNOTATION_TOC_DIGEST OCI_TOC_DIGEST_ANNOTATION
#define ANNOTATION_UNCOMPRESSED "io.containers.estargz.uncompressed-size"
/* Ours: digest of the trace of the image (FORMAT.md), on each of its layers.
 * Its prefix makes containerd hand it to the snapshotter. */
#define ANNOTATION_TRACE_DIGEST OCI_TRACE_DIGEST_ANNOTATION

#define ANNOTATION_TAILS OCI_TAILS_ANNOTATION
#define ANNOTATION_TOCS OCI_TOCS_ANNOTATION

/* Artifact and blob type of a trace. */
#define TRACE_MEDIA_TYPE OCI_TRACE_MEDIA_TYPE
/* The same of its data. */
#define TRACE_DATA_MEDIA_TYPE "application/vnd.estargz.trace.data.v1"

/**
 * struct platform - "linux/arm64/v8"
 */
struct platform {
	char os[32];
	char arch[32];
	char variant[32]; /* "" where none */
};

/* Return: 0, -EINVAL. */
int platform_parse(const char *s, struct platform *ret, struct err *e);
/* This machine's. */
void platform_here(struct platform *ret);

/**
 * struct manifest_layer - one layer
 * @toc_digest:	where the annotation is there and parses
 * @tail:	bytes of its TOC and footer, as is said; 0: not known
 */
struct manifest_layer {
	struct image_desc desc;
	uint32_t tail;
	bool has_toc_digest;
	struct digest toc_digest;
};

/**
 * struct manifest - a manifest with its config
 * @json, @config: the documents, owned; config's diff_ids and manifest's layers
 *		are of the same number (checked)
 * @layers:	[@n_layers], lowest first
 * @diff_ids:	[@n_layers]
 */
struct manifest {
	struct image_desc desc;
	struct image_desc config_desc;
	struct json_object *json;
	struct json_object *config;
	struct manifest_layer *layers;
	struct digest *diff_ids;
	size_t n_layers;
	/* private: the documents as they were, which stay so where nothing is
	 * changed */
	struct buf json_text;
	struct buf config_text;
	bool changed;
	bool config_changed;
};
void manifest_done(struct manifest *m);
#define CLEANUP_MANIFEST CLEANUP(manifest_done)

/**
 * manifest_load() - parse a manifest and fetch its config
 * @doc:	[@len] of @desc, already verified
 *
 * Return: 0, -EBADMSG, -EOPNOTSUPP (schema 1, foreign or unknown layers,
 * an artifact that is no image), -EOVERFLOW, -ENOMEM
 */
int manifest_load(struct image_src *s, const struct image_desc *desc,
		  const char *doc, size_t len, struct manifest *ret,
		  struct err *e);

/* The digest of the trace that the layers name, as it is there, or NULL. */
const char *manifest_trace_named(const struct manifest *m);

/**
 * manifest_trace() - the image's trace
 * @subject:	the image's manifest in @s
 * @ret:	appended: its bytes
 *
 * That of the artifact, or where there is none, the blob that the layers name.
 * Return: 0, -ENOENT, …
 */
int manifest_trace(struct image_src *s, const struct manifest *m,
		   const struct image_desc *subject, struct buf *ret,
		   struct err *e);

/**
 * manifest_set_layer() - a layer has become another one
 * @new:	media type included
 * @annotations: [@n] key, value, key, value, …; set on the descriptor, whose
 *		other annotations are kept; a NULL value removes the key
 */
int manifest_set_layer(struct manifest *m, size_t i,
		       const struct image_desc *new_,
		       const struct digest *diff_id,
		       const char *const *annotations, size_t n);

/**
 * manifest_finish() - the documents after all changes
 * @oci:	docker media types become those of OCI
 * @ret_config, @ret_manifest: appended: the bytes; descriptors of them go into
 *		@m->config_desc and @m->desc
 *
 * Deterministic: keys keep their order.
 */
int manifest_finish(struct manifest *m, bool oci, struct buf *ret_config,
		    struct buf *ret_manifest);

/**
 * struct index_ - an index, and the images in it
 * @images:	[@n]: descriptors, and platforms where they have one; those
 *		that are no images (attestations) have @skip and are kept as
 *		they are, but that the annotation vnd.docker.reference.digest
 *		follows the image they are about; they are dropped with it
 */
struct index_image {
	struct image_desc desc;
	struct platform platform;
	bool has_platform;
	bool skip;
	bool dropped;
};
struct index {
	struct image_desc desc;
	struct json_object *json;
	struct index_image *images;
	size_t n;
	/* private, as of a manifest */
	struct buf text;
	bool changed;
};
void index_done(struct index *x);
#define CLEANUP_INDEX CLEANUP(index_done)

bool media_type_is_index(const char *media_type);
int index_load(const struct image_desc *desc, const char *doc, size_t len,
	       struct index *ret, struct err *e);
/* The image for a platform: as containerd chooses it (exact, then the closest
 * lower variant). Return: its number, -ENOENT with the platforms there are. */
ssize_t index_find(const struct index *x, const struct platform *p,
		   struct err *e);
/* An image has become another one; NULL: it is dropped, and numbers stay as
 * they were until index_finish(), after which the index is not used again. */
int index_set(struct index *x, size_t i, const struct image_desc *new_);
int index_finish(struct index *x, bool oci, struct buf *ret);

#endif
