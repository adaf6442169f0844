/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: while something starts by a trace, what the kernel reads ahead is refused
 * where it would have to wait.
 *
 * The kernel asks for 128 KiB around the page that is needed, and its reader
 * waits for all of that. A trace names the chunks of pages that are needed; what
 * lies beside them may come much later, or never. Read-ahead that fails is no
 * error: the kernel asks for the page alone, which is what the trace has
 * fetched. (mm/filemap.c: a folio that is not uptodate is read by read_folio.)
 *
 * To tell one from the other: read_folio asks for one page, or, where folios are
 * large, for some of a range that was refused just before; reads that bypass the
 * page cache have a lock owner.
 */
#ifndef FS_REFUSE_H
#define FS_REFUSE_H

#include <pthread.h>

#include "common/base.h"
#include "fs/stats.h"

#define REFUSALS 1024u /* and no more: none may be forgotten */

struct refusals {
	pthread_mutex_t lock;
	/* guarded by lock */
	struct {
		uint64_t off;
		uint64_t end;
	} v[REFUSALS];
	unsigned n;
};

/**
 * refuse() - whether to refuse a read of [@off, @off + @len)
 *
 * Only what nothing of was refused before, and counted in @st. Context: any
 * thread
 */
bool refuse(struct refusals *r, struct stats *st, uint64_t off, uint64_t len);

#endif
