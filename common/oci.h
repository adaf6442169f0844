/* SPDX-License-Identifier: Apache-2.0 */
/* Image references, and image manifests and indexes. Pure. */
#ifndef COMMON_OCI_H
#define COMMON_OCI_H

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"

#define OCI_TOC_DIGEST_ANNOTATION "containerd.io/snapshot/stargz/toc.digest"
/* Digest of the trace of the image (FORMAT.md), on each of its layers. */
#define OCI_TRACE_DIGEST_ANNOTATION \
	"containerd.io/snapshot/estargz/trace.digest"
/* How many bytes a layer's TOC and footer take, and those of the layers above
 * it, with commas between: who is told of a layer is told of the ends that all
 * of them have. A hint; 0: not known. */
#define OCI_TAILS_ANNOTATION "containerd.io/snapshot/estargz/tails"
#define OCI_TAILS_MAX 32u
#define OCI_TAIL_BYTES_MAX MIB(8)
/* Digest of a layer's TOC, and those of the layers above it, with commas
 * between. A hint. */
#define OCI_TOCS_ANNOTATION "containerd.io/snapshot/estargz/tocs"
#define OCI_TOCS_MAX 8u

/* Value of an Accept header that asks for every kind we read. */
#define OCI_ACCEPT                                               \
	"application/vnd.oci.image.manifest.v1+json, "           \
	"application/vnd.docker.distribution.manifest.v2+json, " \
	"application/vnd.oci.image.index.v1+json, "              \
	"application/vnd.docker.distribution.manifest.list.v2+json"

/**
 * struct oci_ref - "HOST[:PORT]/REPO[:TAG][@DIGEST]"
 * @host:	as written, port included
 * @repo:	"library/debian"
 * @tag:	NULL where there is none and a digest is given; else "latest" is
 *		filled in
 */
struct oci_ref {
	char *host;
	char *repo;
	char *tag;
	bool has_digest;
	struct digest digest;
};

/**
 * oci_ref_parse() - parse a reference that names its host
 *
 * The part before the first '/' is the host; it must look like one (a '.', a
 * ':' or "localhost"). docker.io repositories of one component are prefixed
 * "library/".
 * Spec: OCI distribution-spec, "Pulling manifests" (name, reference grammar)
 * Return: 0, -EBADMSG, -EOPNOTSUPP (digest algorithm), -ENOMEM
 */
int oci_ref_parse(const char *s, struct oci_ref *ret, struct err *e);
void oci_ref_done(struct oci_ref *r);
#define CLEANUP_OCI_REF CLEANUP(oci_ref_done)

/**
 * struct oci_layer - one descriptor of a manifest's layers
 * @media_type:	heap, never NULL
 * @trace:	a hint: what is no digest is as good as none
 * @tail:	a hint, too: bytes of its TOC and footer; 0: not known
 */
struct oci_layer {
	struct digest digest;
	uint64_t size;
	uint32_t tail;
	char *media_type;
	bool has_toc_digest;
	bool has_trace;
	struct digest toc_digest;
	struct digest trace;
};

/**
 * struct oci_manifest - a manifest, or the place in an index to go on to
 * @is_index:	@next is the manifest for the platform, the rest is empty
 * @layers:	[@n_layers], lowest first
 */
struct oci_manifest {
	bool is_index;
	struct digest next;
	struct oci_layer *layers;
	size_t n_layers;
};

/**
 * oci_manifest_parse() - parse a manifest or an index
 * @json:	[@len]
 * @arch:	of the image in an index, as Go spells it; the system is linux
 *
 * Return: 0, -EBADMSG, -ENOENT (the index has nothing for us), -EOPNOTSUPP
 * (schema 1, another digest algorithm), -EOVERFLOW (too many layers), -ENOMEM
 */
int oci_manifest_parse(const char *json, size_t len, const char *arch,
		       struct oci_manifest *ret, struct err *e);
void oci_manifest_done(struct oci_manifest *m);
#define CLEANUP_OCI_MANIFEST CLEANUP(oci_manifest_done)

/* What an artifact is that has the trace of an image, and what its blob is. */
#define OCI_TRACE_MEDIA_TYPE "application/vnd.estargz.trace.v1+json"
/* Of an artifact, on its entry in the index of a layout: what it refers to. */
#define OCI_LAYOUT_SUBJECT_ANNOTATION "vnd.estargz.subject.digest"
#define OCI_CREATED_ANNOTATION "org.opencontainers.image.created"

#define OCI_REFERRERS_TAG_BYTES (sizeof("sha256-") + DIGEST_HEX_BYTES)

/* The tag of the list of artifacts that refer to a manifest, where a registry keeps
 * none. Spec: OCI distribution-spec, "Referrers Tag Schema" */
char *oci_referrers_tag(const struct digest *d,
			char buf[OCI_REFERRERS_TAG_BYTES]);

/**
 * oci_referrers_parse() - find the newest artifact of a type in such a list
 * @json:	[@len] an index
 * @ret:	digest of its manifest
 *
 * Return: 0, -ENOENT (none of the type), -EBADMSG, -EOPNOTSUPP (another digest
 * algorithm), -EOVERFLOW, -ENOMEM
 */
int oci_referrers_parse(const char *json, size_t len, const char *type,
			struct digest *ret, struct err *e);

/**
 * oci_artifact_parse() - the blob of an artifact that consists of one
 * @json:	[@len] its manifest, whose digest is right
 * @subject:	what it must refer to
 *
 * Return: 0, -EBADMSG, -EOPNOTSUPP, -EOVERFLOW, -ENOMEM
 */
int oci_artifact_parse(const char *json, size_t len, const char *type,
		       const struct digest *subject, struct digest *ret,
		       struct err *e);

/**
 * oci_tails_parse() - read the value of OCI_TAILS_ANNOTATION
 * @ret:	[@n] filled up with 0; what makes no sense is 0, too
 */
void oci_tails_parse(const char *s, uint32_t *ret, size_t n);

/* This machine's architecture as Go spells it: "amd64", "arm64", … */
const char *oci_arch(void);

#endif
