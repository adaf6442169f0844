/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: a monitor's end of the conversation with its supervisor
 * (common/sup.h), and what a successor of the monitor must know: that nobody
 * of before serves the session any more.
 *
 * The last is said by a lock: RUN_DIR/layers/<major>.<minor>.lock, named after
 * the mount's device, is held as long as one of monitor and worker
 * lives, because both have the open file. A request that the old worker takes
 * after the kernel was told to send again what was in flight would be lost, and
 * its reader wait for ever; so a successor gets the lock first.
 */
#ifndef FS_SUPER_H
#define FS_SUPER_H

#include "common/base.h"
#include "common/err.h"
#include "common/sup.h"

/**
 * struct super - of one monitor
 * @conn:	to the supervisor, to be polled; -1: there is none now
 * @listener:	RUN_DIR/layers/<pid>.sup, to be polled; -1 before super_listen()
 * @lock_fd:	for the worker too
 */
struct super {
	int conn;
	int listener;
	char *path;
	int lock_fd;
	char *lock_path;
};

/**
 * super_begin() - become a monitor of its own, and hear what is to be done
 * @fd:		of --supervisor, owned by @s from here on, also on failure
 * @ret:	the session to go on with; init_len is 0 where there is none
 * @ret_fuse_fd: its /dev/fuse, or -1
 *
 * Of what the caller left open, standard output, standard error and @fd stay.
 * Return: 0; -ETIMEDOUT, -EPROTO (also: another version) with @e
 */
int super_begin(struct super *s, int fd, struct sup_session *ret,
		int *ret_fuse_fd, struct err *e);

/* From here on a supervisor may come back. Return: 0, -errno */
int super_listen(struct super *s, struct err *e);

/* Waits until nobody else serves the session of device @major:@minor, and sees to
 * it that we are seen to. Return: 0, -EBUSY, -errno */
int super_lock(struct super *s, unsigned major, unsigned minor, struct err *e);

/* None of these waits for the supervisor; one that does not read is let go. */
void super_ready(struct super *s, const struct sup_session *session,
		 int fuse_fd, bool complete, const char *target);
/* Return: whether it was told */
bool super_failed(struct super *s, const struct err *e);
void super_ended(struct super *s);
void super_complete(struct super *s);

/* Takes a new supervisor in place of the old. Return: whether there is one,
 * who is to be told READY */
bool super_accept(struct super *s);

/* What @conn has to say. Return: whether the supervisor wants the end */
bool super_wants_end(struct super *s);

/* In the worker: none of this is its business, but for the lock. */
void super_forked(struct super *s);
/* Gives up the lock, whose file stays for the next who goes on with the session. */
void super_unlock(struct super *s);
void super_close(struct super *s);

#endif
