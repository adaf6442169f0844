/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "common/oci.h"
#include "common/proto.h"
#include "daemon/snapshotter/labels.h"

/* Source: containerd pkg/snapshotters/annotations.go; stargz-snapshotter
 * fs/source/source.go. The first family is asked first. */
static const struct {
	const char *reference, *digest, *layers;
} families[] = {
	{"containerd.io/snapshot/cri.image-ref",
	 "containerd.io/snapshot/cri.layer-digest",
	 "containerd.io/snapshot/cri.image-layers"},
	{"containerd.io/snapshot/remote/stargz.reference",
	 "containerd.io/snapshot/remote/stargz.digest",
	 "containerd.io/snapshot/remote/stargz.layers"},
};

/* Of the image for this platform. */
#define MANIFEST_LABEL "containerd.io/snapshot/cri.manifest-digest"

void lazy_done(struct lazy *z)
{
	free(z->reference);
	free(z->repository);
	free(z->others);
	*z = (struct lazy){0};
}

static int parse_digest(const char *label, const char *value,
			struct digest *ret, struct err *e)
{
	int r = digest_parse(value, strlen(value), ret);

	if (r == -EOPNOTSUPP)
		return err_set(e, -EBADMSG, "label %s: not a sha256 digest: %s",
			       label, value);
	if (r < 0)
		return err_set(e, -EBADMSG, "label %s: not a digest: %s", label,
			       value);
	return 0;
}

static int parse_reference(const char *label, const char *value, struct lazy *z,
			   struct err *e)
{
	CLEANUP_OCI_REF struct oci_ref ref = {0};
	int r = oci_ref_parse(value, &ref, e);

	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		(void)err_wrap(e, "label %s", label);
		return -EBADMSG;
	}
	z->reference = strdup(value);
	if (asprintf(&z->repository, "%s/%s", ref.host, ref.repo) < 0)
		z->repository = NULL;
	if (z->reference == NULL || z->repository == NULL)
		return err_no_memory(e);
	return 0;
}

static bool is_known(const struct lazy *z, const struct digest *d)
{
	if (digest_equal(d, &z->blob))
		return true;
	for (size_t i = 0; i < z->n_others; i++) {
		if (digest_equal(d, &z->others[i].digest))
			return true;
	}
	return false;
}

/* What is no digest (of ours) is left out: the list is a hint, and containerd
 * cuts it where a label is full. */
static int parse_others(const char *list, const uint32_t *tails,
			const char *tocs, struct lazy *z, struct err *e)
{
	z->others = calloc(PROTO_WARM_BLOBS_MAX, sizeof(*z->others));
	if (z->others == NULL)
		return err_no_memory(e);
	for (size_t i = 0; *list != '\0' && z->n_others < PROTO_WARM_BLOBS_MAX;
	     i++) {
		size_t n = strcspn(list, ",");
		size_t n_toc = strcspn(tocs, ",");
		struct lazy_blob b = {.tail = i < OCI_TAILS_MAX ? tails[i] : 0};

		b.has_toc = digest_parse(tocs, n_toc, &b.toc) == 0;
		/* All lists begin with the layer itself. */
		if (digest_parse(list, n, &b.digest) == 0 &&
		    !is_known(z, &b.digest))
			z->others[z->n_others++] = b;
		list += n;
		list += *list == ',';
		tocs += n_toc;
		tocs += *tocs == ',';
	}
	return 0;
}

/* The labels of one family. Return: 1; 0: none of it */
static int parse_family(const struct labels *l, size_t family, struct lazy *z,
			struct err *e)
{
	const char *reference = labels_get(l, families[family].reference);
	const char *digest = labels_get(l, families[family].digest);
	const char *layers = labels_get(l, families[family].layers);
	const char *tails = labels_get(l, OCI_TAILS_ANNOTATION);
	const char *tocs = labels_get(l, OCI_TOCS_ANNOTATION);
	uint32_t tail[OCI_TAILS_MAX];
	int r;

	if (reference == NULL)
		return 0;
	if (digest == NULL)
		return err_set(e, -EBADMSG, "label %s is missing",
			       families[family].digest);
	r = parse_digest(families[family].digest, digest, &z->blob, e);
	if (r == 0)
		r = parse_reference(families[family].reference, reference, z,
				    e);
	oci_tails_parse(tails != NULL ? tails : "", tail, OCI_TAILS_MAX);
	z->tail = tail[0];
	if (r == 0 && layers != NULL)
		r = parse_others(layers, tail, tocs != NULL ? tocs : "", z, e);
	return r < 0 ? r : 1;
}

static int parse(const struct labels *l, struct lazy *z, struct err *e)
{
	const char *toc = labels_get(l, OCI_TOC_DIGEST_ANNOTATION);
	const char *trace = labels_get(l, OCI_TRACE_DIGEST_ANNOTATION);
	const char *manifest = labels_get(l, MANIFEST_LABEL);
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(families); i++)
		r = parse_family(l, i, z, e);
	if (r <= 0)
		return r;
	if (toc == NULL)
		return err_set(e, -ENODATA,
			       "no digest of a table of contents (label "
			       "%s): not an eStargz layer",
			       OCI_TOC_DIGEST_ANNOTATION);
	z->has_trace = trace != NULL &&
		       digest_parse(trace, strlen(trace), &z->trace) == 0;
	z->has_manifest =
		trace == NULL && manifest != NULL &&
		digest_parse(manifest, strlen(manifest), &z->manifest) == 0;
	r = parse_digest(OCI_TOC_DIGEST_ANNOTATION, toc, &z->toc, e);
	return r < 0 ? r : 1;
}

int labels_lazy(const struct labels *l, struct lazy *ret, struct err *e)
{
	CLEANUP_LAZY struct lazy z = {0};
	int r;

	if (labels_get(l, LABEL_REF) == NULL)
		return 0;
	r = parse(l, &z, e);
	if (r == 1) {
		*ret = z;
		z = (struct lazy){0};
	}
	return r;
}

const char *labels_image(const struct labels *l)
{
	const char *image = NULL;

	for (size_t i = 0; image == NULL && i < ARRAY_SIZE(families); i++)
		image = labels_get(l, families[i].reference);
	return image;
}
