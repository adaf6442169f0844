/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the worker: everything that touches bytes from the network, in a
 * sandbox. Started by the monitor, talked to over struct ctl messages.
 *
 * Threads: main (control socket, deadlines, syncing; may block on disk), FUSE
 * threads (block in read(2) on /dev/fuse), fill threads (block in epoll on
 * the fetcher's socket).
 */
#ifndef FS_WORKER_H
#define FS_WORKER_H

#include "common/base.h"
#include "fs/layer.h"
#include "fs/options.h"
#include "fs/stats.h"

/* Exit status: it was told to let another serve, and all that it had taken is
 * answered. */
#define WORKER_RELIEVED 3

/**
 * worker_main() - the whole life of a worker process
 * @ctl:	socket to the monitor
 * @parent:	the monitor; if it is gone, so is the worker
 * @events_fd:	of events=FILE, or -1
 * @firsts_fd:	what the last run has read first (firsts.h), or -1
 *
 * Return: exit status: 0 the file system was unmounted; WORKER_RELIEVED
 */
int worker_main(int ctl, pid_t parent, const struct layer *layer,
		const struct options *o, struct stats *st, int events_fd,
		int firsts_fd);

#endif
