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
 *
 * Between ranges that were refused or are there, read-ahead may be of one page, too.
 * It looks like a page that is needed, but for its place, behind one that was
 * refused: read_folio comes for such pages only where read-ahead was turned off. It
 * is not refused, as nobody can tell; but at first it is fetched as what it looks like.
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

/* Whether a page at @off, which was not refused, lies right behind what was. */
bool refused_before(struct refusals *r, uint64_t off);

#endif
