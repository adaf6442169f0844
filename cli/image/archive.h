/* SPDX-License-Identifier: Apache-2.0 */
/* What the two kinds of archives share when they are written. */
#ifndef CLI_IMAGE_ARCHIVE_H
#define CLI_IMAGE_ARCHIVE_H

#include "cli/image/tarout.h"
#include "cli/image/transport.h"

struct json_object;

/**
 * struct archive_dst - an archive that is written
 * @there:	[@n_there] what is in it
 * @end:	where it can go on, when it was published: before its index
 * @index:	of an oci-archive, as it was published
 */
struct archive_dst {
	struct image_dst dst;
	struct tarout *out;
	struct digest *there;
	size_t n_there;
	uint64_t end;
	bool published;
	struct json_object *index;
};

/* With the functions of a kind; has() and close() are here. */
int archive_dst_new(const struct image_name *n, const struct image_dst_ops *ops,
		    struct archive_dst **ret, struct err *e);
int archive_dst_has(struct image_dst *d, const struct image_desc *b,
		    struct err *e);
void archive_dst_close(struct image_dst *d);
/* What is in it has grown by one. */
int archive_dst_note(struct archive_dst *a, const struct digest *d,
		     struct err *e);

int docker_archive_src(const struct image_name *n, struct image_src **ret,
		       struct err *e);
int docker_archive_dst(const struct image_name *n, struct image_dst **ret,
		       struct err *e);

#endif
