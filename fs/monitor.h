/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the monitor of one layer: privileged, small, parses nothing from
 * outside. It holds what must survive a worker: the /dev/fuse descriptor, the
 * raw INIT request, the lock and the files of the layer's directory, the
 * counters. It starts a new worker when one dies, on the same session, and
 * has the kernel send again what was in flight (FUSE_NOTIFY_RESEND, Linux
 * 6.9). Three deaths in a minute: re-sent requests get EIO; six: the
 * connection is aborted, because a session without a server puts its readers
 * into an unkillable wait.
 *
 * One thread, which blocks only in poll(2).
 */
#ifndef FS_MONITOR_H
#define FS_MONITOR_H

#include "common/base.h"
#include "common/err.h"
#include "common/sup.h"
#include "fs/connect.h"
#include "fs/layer.h"
#include "fs/options.h"

struct super;

/**
 * monitor_main() - mount one layer and look after it until it is unmounted
 * @target:	where; may differ from @o->target for a layer of an image
 * @c:		borrowed
 * @ready_fd:	owned: a socket to the front. Receives one struct err, empty
 *		when the mount is ready. The front then sends a byte when it
 *		has all it wants; where it closes without, the mount is taken
 *		away again.
 *
 * Return: exit status
 */
int monitor_main(const struct layer *layer, const char *target,
		 const struct options *o, struct connect *c, int ready_fd);

/**
 * monitor_supervised() - the same, with a supervisor in place of a front
 * @s:		begun; borrowed; is told of what becomes of the mount
 * @session:	init_len > 0: a mount whose monitor was killed: go on serving it
 * @fuse_fd:	of @session, owned; or -1
 *
 * A supervisor that is gone changes nothing.
 * Return: exit status, or -errno with @e: not mounted (still to be said)
 */
int monitor_supervised(const struct layer *layer, const char *target,
		       const struct options *o, struct connect *c,
		       struct super *s, const struct sup_session *session,
		       int fuse_fd, struct err *e);

#endif
