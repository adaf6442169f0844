/* SPDX-License-Identifier: Apache-2.0 */
/* From the events of mounts (docs/FORMAT.md) to a record: which files a run has
 * read, and which ranges of them, in the order of the first need. Pure. */
#ifndef CLI_OBSERVE_H
#define CLI_OBSERVE_H

#include "cli/evlog.h"
#include "cli/record.h"
#include "common/base.h"
#include "common/digest.h"

/* Two ranges become one where what is between them is not longer than this, nor
 * all that is so taken in longer than what was read: a chunk of its own costs
 * more than some pages do, and what is fetched stays within twice of what was
 * read. */
#define OBSERVE_GAP_BYTES KIB(16)

/**
 * struct observe_layer - a layer that was mounted
 * @toc:	its TOC digest
 * @index:	its number in the manifest that the record is about
 */
struct observe_layer {
	struct digest toc;
	uint32_t index;
};

/**
 * struct observed_read - a read, of a file of the record
 */
struct observed_read {
	uint64_t off;
	uint64_t len;
	uint32_t file;
};

/**
 * struct observed - what was read
 * @record:	by file, in the order of the first read
 * @reads:	[@n_reads] in the order in which they were asked for
 * @bytes:	that were read, each counted once
 */
struct observed {
	struct record record;
	struct observed_read *reads;
	size_t n_reads;
	uint64_t bytes;
};
void observed_done(struct observed *o);
#define CLEANUP_OBSERVED CLEANUP(observed_done)

/**
 * observe() - make a record of what was read
 * @log:	what happened; its paths are not the record's
 * @layers:	[@n_layers]; of equal ones the last counts. Reads of others are
 *		skipped
 * @manifest:	for each line of the record
 *
 * Return: 0, -ENOMEM
 */
int observe(const struct evlog *log, const struct observe_layer *layers,
	    size_t n_layers, const struct digest *manifest,
	    struct observed *ret);

#endif
