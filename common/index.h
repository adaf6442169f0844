/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: from a parsed TOC to the two files a mount needs: the metadata of
 * layer.erofs and the chunk table. Deterministic: the same TOC gives the same
 * bytes. Sans I/O: memory in, memory out.
 *
 * The tree is what unpacking the blob with GNU tar gives (later entries
 * replace earlier ones, missing parents appear as 0755 root:root), with the
 * layer conventions turned into overlayfs's: `.wh.X` becomes X, a character
 * device 0:0 (unless X is in the layer too), `.wh..wh..opq` becomes the
 * xattr trusted.overlay.opaque=y (or user.overlay.opaque). Landmarks
 * (.prefetch.landmark, .no.prefetch.landmark) and stargz.index.json are
 * hidden in the root. An image's own trusted.overlay.* and user.overlay.*
 * xattrs are dropped: they would be orders to the kernel.
 *
 * File data is laid out in blob order, each file 4 KiB-aligned and
 * contiguous, so the chunk table is sorted by blob offset too.
 */
#ifndef COMMON_INDEX_H
#define COMMON_INDEX_H

#include "common/base.h"
#include "common/buf.h"
#include "common/codec.h"
#include "common/digest.h"
#include "common/err.h"
#include "common/toc.h"

/**
 * struct index_in - what the files are made from
 * @toc:	parsed; its digest was checked by the caller
 * @blob_digest: NULL where not known
 * @opaque_user: user.overlay.opaque instead of trusted.overlay.opaque
 * @allow_unverified: accept chunks without a digest (insecure_no_verify)
 */
struct index_in {
	const struct toc *toc;
	const struct digest *toc_digest;
	const struct digest *blob_digest;
	uint64_t blob_size;
	uint64_t toc_off;
	enum codec_kind codec;
	bool opaque_user;
	bool allow_unverified;
};

/**
 * index_build() - make both files
 * @ret_meta:	metadata of layer.erofs, whole 4 KiB blocks; to be written at
 *		byte 0 of a sparse file of image_bytes (in the chunk header)
 * @ret_chunks:	the chunk table file, index_digest filled in
 *
 * Refuses: hardlink cycles and links to directories or to nothing, a file
 * whose chunks do not cover it exactly, chunks outside [0, toc_off), chunks
 * that are out of order or overlap in a way no writer makes, a sum of sizes
 * above EROFS_BYTES_MAX, a chunk without digest unless allowed, a name that
 * is a file and a directory's parent.
 * Return: 0, -EBADMSG, -EOVERFLOW, -ENOMEM; @e names the entry
 */
int index_build(const struct index_in *in, struct buf *ret_meta,
		struct buf *ret_chunks, struct err *e);

#endif
