/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: one metadata image for a chain of layers: what overlayfs shows of
 * them, as one EROFS image without data. Pure: mappings in, memory out;
 * deterministic. The images may be damaged or hostile: bounds are those of
 * common/erofs.h and common/limits.h, cycles and depth are looked for.
 *
 * Every regular file with bytes has the attributes
 * trusted.overlay.metacopy (empty) and trusted.overlay.redirect = its
 * common/datapath.h in the layer that it comes from (user.overlay.* for
 * userxattr), and an inode whose chunks are holes, so that who mounts the image
 * alone reads zeros. Whiteouts, opaque directories, replaced types,
 * attributes of directories that several layers have, hardlinks: as overlayfs
 * resolves them (Documentation/filesystems/overlayfs.rst), which is the
 * oracle of the tests. No whiteout and no opaque mark is left: below this image
 * nothing is searched but data.
 */
#ifndef COMMON_MERGE_H
#define COMMON_MERGE_H

#include "common/base.h"
#include "common/buf.h"
#include "common/digest.h"
#include "common/erofs.h"
#include "common/err.h"

/**
 * struct merge_layer - one of the chain
 * @im:		its metadata (layer.erofs)
 * @toc_digest:	names its data
 */
struct merge_layer {
	struct erofs_image im;
	struct digest toc_digest;
};

/* Names a chain: over the version of the format, @opaque_user and the digests, topmost
 * first. What is equal has equal bytes. Return: 0, -ENOMEM */
int merge_key(const struct digest *tocs, size_t n, bool opaque_user,
	      struct digest *ret);

/**
 * merge_build() - make the image
 * @layers:	[@n], 1 to MERGE_LAYERS_MAX, topmost first, each once
 * @opaque_user: the layers were indexed for userxattr, and so is the image
 * @key:	of merge_key(); its first 16 bytes are the UUID
 * @ret:	the whole image
 *
 * Return: 0; -EBADMSG a layer's image is damaged; -EOVERFLOW; -ENOMEM; with @e
 */
int merge_build(const struct merge_layer *layers, size_t n, bool opaque_user,
		const struct digest *key, struct buf *ret, struct err *e);

#endif
