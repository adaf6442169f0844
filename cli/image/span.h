/* SPDX-License-Identifier: Apache-2.0 */
/* A stretch of a local file, as what an image is read from: a blob of a layout,
 * or an entry of an archive. */
#ifndef CLI_IMAGE_SPAN_H
#define CLI_IMAGE_SPAN_H

#include "cli/image/transport.h"

/**
 * struct span - bytes of a file
 * @fd:		owned
 */
struct span {
	int fd;
	uint64_t off;
	uint64_t size;
};

#define SPAN_NONE ((struct span){.fd = -1})
void span_done(struct span *s);
#define CLEANUP_SPAN CLEANUP(span_done)

/* Appends all of it: a document, at most MANIFEST_BYTES_MAX. */
int span_document(const struct span *s, const char *what, struct buf *doc,
		  struct err *e);
/* As image_src_range(). */
int span_range(const struct span *s, const char *what, uint64_t off, size_t n,
	       struct buf *ret, uint64_t *ret_size, struct err *e);
/* As image_src_blob(); takes the descriptor over where it returns 0. */
int span_read(struct span *s, struct image_read **ret, struct err *e);

#endif
