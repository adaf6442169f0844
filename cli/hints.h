/* SPDX-License-Identifier: Apache-2.0 */
/* From what a run has read, and the layers that were made, to the trace that
 * goes with the image. */
#ifndef CLI_HINTS_H
#define CLI_HINTS_H

#include "cli/layerinfo.h"
#include "cli/observe.h"
#include "common/base.h"
#include "common/err.h"
#include "common/trace.h"

/**
 * struct hints_layer - a layer of the image that was made
 * @size:	bytes of its blob
 * @toc:	digest of its TOC
 * @in:		reads its blob; range NULL: it is no eStargz
 */
struct hints_layer {
	struct digest blob;
	struct digest toc;
	uint64_t size;
	struct layer_in in;
};

/**
 * hints_make() - which members of which blobs, in the order of the first read
 * @layers:	[@n_layers] as the record's files count them
 * @ret_bytes:	what the chunks of the trace have, uncompressed
 *
 * Neighbours that follow one another are one range. What is above
 * TRACE_READS_MAX is left out: it comes last.
 * Return: 0, -EBADMSG (a blob is not what it should be), -errno
 */
int hints_make(const struct observed *o, const struct hints_layer *layers,
	       size_t n_layers, struct trace *ret, uint64_t *ret_bytes,
	       struct err *e);

#define HINTS_DATA_NEAR_BYTES \
	KIB(64)                      /* read along with what is on both sides */
#define HINTS_DATA_STEP_BYTES MIB(4) /* read at a time */

/**
 * hints_data() - the bytes of a trace's reads, in their order (common/trace.h)
 * @layers:	has all that @t names; neighbours in them are read together
 * @ret:	empty, and stays so without them; its maximum is that of the data
 *
 * Return: 1; 0: they are more than that; -errno
 */
int hints_data(const struct trace *t, const struct hints_layer *layers,
	       struct buf *ret, struct err *e);

#endif
