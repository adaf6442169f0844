/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what a run of an image has read. On disk it is JSON lines, in the order
 * of the first read:
 *
 *   {"path":"usr/bin/python3.11","manifestDigest":"sha256:…","layerIndex":0,
 *    "ranges":[[0,4096,1],[65536,131072,7]]}
 *
 * path, manifestDigest and layerIndex are ctr-remote's (estargz/recorder), which
 * may leave out the latter two; "ranges" ([offset, length, number of the read],
 * in the order of the first read, the number may be left out) is ours, and a
 * line without it means all of the file. Unknown keys are skipped.
 */
#ifndef CLI_RECORD_H
#define CLI_RECORD_H

#include "cli/build/build.h"
#include "common/base.h"
#include "common/buf.h"
#include "common/digest.h"
#include "common/err.h"

#define RECORD_LAYER_ANY UINT32_MAX
#define RECORD_BYTES_MAX MIB(64)
#define RECORD_RANGES_MAX 1000000u /* of all files together */

/**
 * struct record_file - a file that was read
 * @path:	cleaned, as in toc.h
 * @manifest:	all zero where the line does not say
 * @layer:	RECORD_LAYER_ANY where the line does not say
 * @ranges:	[@n_ranges] in the order of the first read; 0: all of it.
 *		None is empty, and none ends above 2^63
 * @first:	[@n_ranges] number of the read among all of the run, from 1 on,
 *		so that the order across files is known; 0 where not recorded
 */
struct record_file {
	char *path;
	struct digest manifest;
	uint32_t layer;
	struct build_range *ranges;
	uint64_t *first;
	size_t n_ranges;
};

struct record {
	struct record_file *files;
	size_t n_files;
};

void record_done(struct record *r);
#define CLEANUP_RECORD CLEANUP(record_done)

/* Parses the lines. Return: 0, -EBADMSG or -EOVERFLOW with the line's number,
 * -ENOMEM */
int record_parse(const char *text, size_t len, struct record *ret,
		 struct err *e);
/* Appends the lines. Return: 0, -EOVERFLOW, -ENOMEM */
int record_print(const struct record *r, struct buf *ret);

/* Adds an empty file, which is @r's; @path is copied. NULL: no memory. */
struct record_file *record_add(struct record *r, const char *path);
/* Return: 0, -ENOMEM */
int record_add_range(struct record_file *f, uint64_t off, uint64_t len,
		     uint64_t first);

#endif
