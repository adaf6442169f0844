/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the trace of an image: which bytes of which layers' blobs its workload
 * wants, in the order of the first need, over all of its layers. It is a
 * document in the registry beside the image (an OCI artifact that refers to it;
 * its digest is an annotation of the layers too), made by `estargz optimize`,
 * and says what is prefetched. docs/FORMAT.md has the JSON:
 *
 *   {"version":1,"layers":["sha256:…",…],"reads":[[layer,offset,length],…],
 *    "data":"sha256:…"}
 *
 * Its data, where it has some, is another document beside it: the bytes of all
 * reads, one after the other. Who fetches that has all of them in few requests,
 * each of one range.
 *
 * It is hostile: only a hint, bounded, and nothing is wrong where it lies but
 * the order in which verified bytes arrive.
 */
#ifndef COMMON_TRACE_H
#define COMMON_TRACE_H

#include "common/base.h"
#include "common/buf.h"
#include "common/digest.h"
#include "common/err.h"

#define TRACE_BYTES_MAX MIB(2)
#define TRACE_DATA_BYTES_MAX MIB(64) /* above that it is made without */
#define TRACE_READS_MAX 65536u
#define TRACE_LAYERS_MAX 512u

/**
 * struct trace_read - a range of whole members of a blob
 * @layer:	number in @layers
 */
struct trace_read {
	uint32_t layer;
	uint64_t off;
	uint64_t len;
};

/**
 * struct trace - in the order of the first need; ranges may repeat or overlap
 * @layers:	[@n_layers] digests of the blobs
 * @data:	of the bytes of all reads, if @has_data
 */
struct trace {
	struct digest *layers;
	size_t n_layers;
	struct trace_read *reads;
	size_t n_reads;
	struct digest data;
	bool has_data;
};

/* Return: 0, -EBADMSG, -EOPNOTSUPP (version), -EOVERFLOW, -ENOMEM */
int trace_parse(const char *json, size_t len, struct trace *ret, struct err *e);
void trace_done(struct trace *t);
#define CLEANUP_TRACE CLEANUP(trace_done)

/* Appends the JSON; deterministic. Return: 0, -EOVERFLOW, -ENOMEM */
int trace_print(const struct trace *t, struct buf *ret);

#endif
