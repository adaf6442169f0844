/* SPDX-License-Identifier: Apache-2.0 */
/* What a layer is and how it is to be mounted: from the command line to the
 * monitor and its workers. */
#ifndef FS_LAYER_H
#define FS_LAYER_H

#include "common/base.h"
#include "common/digest.h"
#include "common/proto.h"

/* A part of a blob. */
struct layer_range {
	uint64_t off;
	uint64_t len;
};

/**
 * struct layer - one blob to mount
 * @source:	what the user named, for messages and /proc/mounts
 * @number:	of the image's layers, 0 the lowest; 0 for one blob; -1 where it
 *		is not known
 * @kind:	where its bytes come from
 * @open_name:	text of PROTO_OPEN: "HOST/REPO@sha256:…", the URL, the path
 * @blob_fd:	PROTO_BLOB_FD: open for reading; else -1
 * @size:	bytes of the blob, 0 where not known
 * @trace:	digest of the image's trace, a blob of the same repository
 * @manifest:	digest of the image's, whose trace is to be looked for: where
 *		@has_manifest, there is no @trace
 * @wanted:	[@n_wanted] what the trace of an image that is here names of the
 *		layer, in its order
 * @tail:	bytes that its TOC and footer are said to take, 0: not known
 */
struct layer {
	char *source;
	int number;
	enum proto_blob_kind kind;
	char *open_name;
	int blob_fd;
	uint64_t size;
	uint32_t tail;
	bool plain_http;
	bool has_digest;
	bool has_toc_digest;
	bool has_trace;
	bool has_manifest;
	struct digest digest;
	struct digest toc_digest;
	struct digest trace;
	struct digest manifest;
	struct layer_range *wanted;
	size_t n_wanted;
};

/* Whether it is known what of it its image's workload wants, or will be. */
static inline bool layer_is_traced(const struct layer *l)
{
	return l->has_trace || l->n_wanted > 0;
}

void layer_done(struct layer *l);

#endif
