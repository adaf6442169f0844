/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a layer is eStargz already. */
#ifndef CLI_REUSE_H
#define CLI_REUSE_H

#include "cli/transform.h"

/* Of a blob whose TOC digest an annotation tells: only its end is read, and
 * has to be what the digest says. Return: 1, 0, -errno with @e where it cannot
 * be read. Both tell @l->tail_bytes */
int reuse_check(struct image_src *src, struct transform_layer *l,
		struct err *e);

/* Of a blob that is here: @l->toc becomes the digest of its TOC. */
int reuse_check_file(int fd, struct transform_layer *l, struct err *e);

#endif
