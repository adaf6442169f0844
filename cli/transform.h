/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: from an image to the same image in eStargz: what `estargz convert` and
 * `estargz optimize` share.
 *
 * First everything is made: manifests and configs are read, each layer that
 * differs is converted once, into an unnamed file, several at a time. Only when
 * all of them are right is the destination written to, in the order of what
 * refers to what, and named last. Who is interrupted leaves no file behind.
 *
 * One thread reads documents and writes the destination; min(jobs, 4) convert
 * layers, with @jobs threads each that share as many slots to compress in, so
 * that neither one large layer nor many small ones leave a CPU idle.
 */
#ifndef CLI_TRANSFORM_H
#define CLI_TRANSFORM_H

#include "cli/build/build.h"
#include "cli/glob.h"
#include "cli/image/image.h"
#include "cli/image/manifest.h"
#include "cli/progress.h"
#include "cli/record.h"
#include "common/base.h"
#include "common/err.h"

/**
 * struct transform_layer - a layer that differs from all others
 * @in:		as it was, @out: as it will be
 * @fd:		[@out.size] the new blob; -1 where the layer is kept as it was
 *		(@kept)
 * @toc:	digest of its TOC, where @has_toc
 * @tail_bytes:	of its TOC and footer, where it was read or made; else 0
 * @built:	of a layer that was converted
 * @ns:		how long that took
 * @item:	of the progress
 */
struct transform_layer {
	struct image_desc in;
	struct image_desc out;
	int fd;
	bool kept;
	bool has_toc;
	struct digest toc;
	struct digest diff_id;
	uint64_t uncompressed_bytes;
	uint64_t tail_bytes;
	struct build_result built;
	uint64_t ns;
	size_t item;
};

/**
 * struct transform_image - an image of the source
 * @in, @out:	its manifest's descriptor before and after
 * @layers:	[@n_layers] numbers in transform_result.layers, lowest first
 */
struct transform_image {
	struct image_desc in;
	struct image_desc out;
	struct platform platform;
	bool has_platform;
	size_t *layers;
	size_t n_layers;
};

/**
 * struct transform_result - what was made
 * @root:	manifest or index, as it was committed
 * @writing:	DST was begun with; set on failure, too
 */
struct transform_result {
	struct image_desc root;
	struct transform_layer *layers;
	size_t n_layers;
	struct transform_image *images;
	size_t n_images;
	bool writing;
};
void transform_result_done(struct transform_result *r);
#define CLEANUP_TRANSFORM_RESULT CLEANUP(transform_result_done)

/**
 * struct transform_opts - what to do
 * @build:	template: chunk sizes, level, jobs, tmp_dir, max_bytes
 * @record:	may be NULL: files that go in front, in that order, ranges
 *		included. A file's manifest says which image is meant, if it is
 *		one of the source's; otherwise all are, and its layer is counted
 *		in each
 * @prefetch:	may be NULL: files of any layer that go in front, behind those
 *		of @record
 * @reuse:	layers that are eStargz already are kept as they are
 * @oci:	docker media types become those of OCI
 * @platforms:	[@n_platforms] of an index; none: this machine's, and the
 *		image alone is the result; so with one
 * @all_platforms: the whole index
 * @single:	the destination takes one image
 * @progress:	may be NULL
 * @made:	may be NULL: called for each image when all layers are made and
 *		nothing is written; its descriptors have media type and digest.
 *		May give a digest that becomes the annotation
 *		ANNOTATION_TRACE_DIGEST of the image's layers: @ret is zeroed
 *		before. Return: 1 it did, 0 there is none, -errno with @e
 */
struct transform_opts {
	struct build_opts build;
	const struct record *record;
	const struct glob_list *prefetch;
	bool reuse;
	bool oci;
	const struct platform *platforms;
	size_t n_platforms;
	bool all_platforms;
	bool single;
	struct progress *progress;
	int (*made)(void *arg, const struct transform_result *r,
		    const struct transform_image *image, struct digest *ret,
		    struct err *e);
	void *made_arg;
};

/**
 * transform_image() - convert an image
 * @dst:	the image is committed in it when this returns 0; what refers to
 *		it (image_dst_refer) may be added then
 *
 * Return: 0; -EBADMSG, -EOPNOTSUPP, … (@e names the image, layer or entry);
 * -EINTR after transform_stop()
 */
int transform_image(struct image_src *src, struct image_dst *dst,
		    const struct transform_opts *o,
		    struct transform_result *ret, struct err *e);

/* From a signal handler: transform_image() returns -EINTR soon. */
void transform_stop(void);

#endif
