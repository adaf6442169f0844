/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what a run of an image has read. On disk it is JSON lines, in the order
 * of the first read:
 *
 *   {"path":"usr/bin/python3.11","manifestDigest":"sha256:…","layerIndex":0,
 *    "ranges":[[0,4096],[65536,131072]]}
 *
 * path, manifestDigest and layerIndex are ctr-remote's (estargz/recorder);
 * "ranges" ([offset, length], in the order of the first read) is ours, and a
 * line without it means all of the file. Unknown keys are skipped.
 */
#ifndef CLI_RECORD_H
#define CLI_RECORD_H

#include "cli/build/build.h"
#include "common/base.h"
#include "common/buf.h"
#include "common/digest.h"
#include "common/err.h"

/**
 * struct record_file - a file that was read
 * @ranges:	[@n_ranges] in the order of the first read; 0: all of it
 * @first:	[@n_ranges] number of the read among all of the run, so that
 *		the order across files is known; 0 where not recorded
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

/* Parses the lines. Return: 0, -EBADMSG with the line's number, -EOVERFLOW,
 * -ENOMEM */
int record_parse(const char *text, size_t len, struct record *ret,
		 struct err *e);
int record_print(const struct record *r, struct buf *ret);

#endif
