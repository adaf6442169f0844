/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: finding an estargzd, or starting a private one.
 *
 * Where nothing listens on the socket that was asked for, a private fetcher
 * is started on RUN_DIR/private/<id>.sock; it ends by itself when the last
 * of the mounts that use it is gone. Once a mount has talked to the shared
 * one it waits for that to come back; one with a supervisor never has another.
 */
#ifndef FS_CONNECT_H
#define FS_CONNECT_H

#include "common/base.h"
#include "common/err.h"
#include "fs/oom.h"
#include "fs/options.h"

/**
 * struct connect - where a fetcher is to be found
 * @shared:	the socket asked for
 * @private_sock: and @private_lock: paths, should a private one be needed
 * @use:	what was found the first time
 */
struct connect {
	char *shared;
	char *private_sock;
	char *private_lock;
	enum log_level log_level;
	bool chatty; /* a private fetcher may use our stderr */
	enum {
		CONNECT_ANY,
		CONNECT_SHARED,
		CONNECT_PRIVATE
	} use;
	struct oom oom; /* of processes that a monitor starts */
	int lock_fd;    /* held shared by all who use the private one */
};

/* Nothing is connected or started yet. Return: 0, -ENOMEM. */
int connect_init(struct connect *c, const struct options *o);
/* The last one out removes what the private fetcher left. */
void connect_done(struct connect *c);
/* After a fork: this process counts as a user of its own. */
void connect_forked(struct connect *c);

/* Never starts a private one. */
void connect_shared_only(struct connect *c);

/* Return: 0 and a connected socket, -errno with @e. */
int connect_fetcher(struct connect *c, int *ret_sock, struct err *e);

#endif
