/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: events_dir: a file a layer, DIR/<TOC digest, 12 digits>-<layer>.jsonl,
 * that its estargzfs appends events to. What they take is bounded: there are
 * only so many, each of EVFILES_EACH_BYTES at most. Where a layer needs a place,
 * the file that was written longest ago goes, of those whose layer has no row.
 */
#ifndef SNAPSHOTTER_EVFILES_H
#define SNAPSHOTTER_EVFILES_H

#include "common/base.h"
#include "common/buf.h"
#include "common/digest.h"
#include "common/err.h"

#define EVFILES_EACH_BYTES MIB(2)

/**
 * evfiles_make() - the file of a layer, made where it is not there
 * @max_bytes:	of all files
 * @is_layer:	whether layer @id has a row; called without a lock of ours
 * @ret:	its path is appended
 *
 * Context: any thread; blocks on the disk
 * Return: 0, -ENOSPC (all files are of layers that have a row), -errno; @e
 */
int evfiles_make(const char *dir, uint64_t max_bytes, const struct digest *toc,
		 int64_t id, bool (*is_layer)(void *arg, int64_t id), void *arg,
		 struct buf *ret, struct err *e);

#endif
