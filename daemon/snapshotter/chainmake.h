/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: making the merged metadata of a chain.
 *
 * By two processes, one after the other (metaproc.h): one merges what may be hostile,
 * into a memfd, which is then sealed; another, which has seen nothing of that, looks
 * through it. Only what passes is written where the kernel will be given it.
 */
#ifndef SNAPSHOTTER_CHAINMAKE_H
#define SNAPSHOTTER_CHAINMAKE_H

#include "common/base.h"
#include "common/err.h"
#include "daemon/snapshotter/chainfile.h"

/**
 * chainmake() - make a chain's file
 * @estargzfs:	the program
 * @root:	where the layers' indexes are, which must be there
 * @dir:	where the file is put
 *
 * Context: a thread that may wait, 2 * META_TIMEOUT_S at most
 * Return: 0; -ENOSPC; -ECHILD; -errno, with @e
 */
int chainmake(const char *estargzfs, const char *root, const char *dir,
	      const struct chainfile *of, const struct digest *key,
	      struct err *e);

#endif
