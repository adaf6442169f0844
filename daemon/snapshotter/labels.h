/* SPDX-License-Identifier: Apache-2.0 */
/* The labels of a snapshot, and what those of containerd say of a lazy layer. */
#ifndef SNAPSHOTTER_LABELS_H
#define SNAPSHOTTER_LABELS_H

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"

#define LABEL_REF "containerd.io/snapshot.ref"
#define LABEL_REMOTE "containerd.io/snapshot/remote"
#define LABEL_REMOTE_VALUE "remote snapshot"

struct label {
	char *key;
	char *value;
};

/* Sorted by key, each key once. Zero-initialise. */
struct labels {
	struct label *v;
	size_t n;
};

#define CLEANUP_LABELS CLEANUP(labels_done)
void labels_done(struct labels *l);

/* Copies; replaces the value of a key that is there. value NULL or "": removes
 * it (containerd's rule). Return: 0, -ENOMEM */
int labels_set(struct labels *l, const char *key, const char *value);
int labels_copy(struct labels *to, const struct labels *from);
/* Return: the value, NULL where there is none. */
const char *labels_get(const struct labels *l, const char *key);

/* A blob, what the digest of its TOC is said to be, where @has_toc, and how many
 * bytes TOC and footer are said to take. */
struct lazy_blob {
	struct digest digest;
	struct digest toc;
	bool has_toc;
	uint32_t tail;
};

/**
 * struct lazy - what is needed to mount a layer lazily
 * @reference:	the image's, as containerd has it ("host/repo:tag"); for people
 * @repository:	"host[:port]/repo"
 * @blob:	digest of the layer's blob
 * @toc:	digest of its TOC
 * @trace:	digest of the image's trace, where @has_trace
 * @manifest:	digest of its manifest, where @has_manifest: its trace is to be
 *		looked for
 * @tail:	bytes of its TOC and footer, as is said; 0: not known
 * @others:	[@n_others] the other layers of the image that the labels name,
 *		which will be asked for next
 */
struct lazy {
	char *reference;
	char *repository;
	struct digest blob;
	struct digest toc;
	struct digest trace;
	struct digest manifest;
	bool has_trace;
	bool has_manifest;
	uint32_t tail;
	struct lazy_blob *others;
	size_t n_others;
};

#define CLEANUP_LAZY CLEANUP(lazy_done)
void lazy_done(struct lazy *z);

/**
 * labels_lazy() - read them
 *
 * Both families: CRI's (containerd.io/snapshot/cri.*) first, then
 * containerd.io/snapshot/remote/stargz.*; the TOC's digest is
 * containerd.io/snapshot/stargz/toc.digest. The trace's
 * OCI_TRACE_DIGEST_ANNOTATION, OCI_TAILS_ANNOTATION, OCI_TOCS_ANNOTATION and
 * containerd.io/snapshot/cri.manifest-digest are only hints: what makes no sense
 * there is not looked at. A list of layers that containerd cut in the middle of a
 * digest loses that digest only.
 * Return: 1; 0: not asked for lazily (no LABEL_REF or no image reference);
 * -ENODATA: no TOC digest; -EBADMSG: a label makes no sense; @e says which
 */
int labels_lazy(const struct labels *l, struct lazy *ret, struct err *e);

/* What image the layer is said to be of, unchecked; NULL: it is not said. */
const char *labels_image(const struct labels *l);

#endif
