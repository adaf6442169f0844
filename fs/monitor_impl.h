/* SPDX-License-Identifier: Apache-2.0 */
/* Of monitor.c and monitor_worker.c: the monitor, and how it gets a worker. */
#ifndef FS_MONITOR_IMPL_H
#define FS_MONITOR_IMPL_H

#include <sys/types.h>

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"
#include "fs/backing.h"
#include "fs/connect.h"
#include "fs/control.h"
#include "fs/layer.h"
#include "fs/mnt.h"
#include "fs/options.h"
#include "fs/state.h"
#include "fs/stats.h"
#include "fs/super.h"

#define MONITOR_DEATHS_KEPT 6u

/**
 * struct monitor - owns everything of the process
 */
struct monitor {
	const struct layer *layer;
	const struct options *o;
	struct connect *connect;
	struct stats *st;
	struct state state;
	struct control control;
	char toc_digest[DIGEST_STR_BYTES];
	uint8_t boot_id[16];
	int ready_fd;        /* to the front, or -1 */
	struct super *super; /* or NULL */
	bool succeeds;       /* the mount was there before us */
	int signal_fd;
	int events_fd; /* or -1 */
	int firsts_fd; /* or -1 */
	struct mnt mnt;
	struct backing backing;
	pid_t worker;
	int ctl;
	bool want_fetcher;
	uint64_t retry_ns; /* pause before the next try */
	uint64_t retry_at_ns;
	bool relieves;         /* the next worker does */
	bool relieving;        /* until a worker that cannot write serves */
	uint64_t relief_at_ns; /* when the one that could is killed */
	uint64_t deaths_ns[MONITOR_DEATHS_KEPT];
	unsigned n_deaths;
};

/* The layer's directory, in m->state. Return: 0, -errno with @e */
int monitor_open_state(struct monitor *m, struct err *e);

/* A worker that has nothing yet. Return: 0, -errno with @e */
int monitor_spawn(struct monitor *m, struct err *e);
/* Has it open the index, or make it. Waits. Return: 0, -errno with @e */
int monitor_index(struct monitor *m, struct err *e);
/* Has it serve the session. Waits. Return: 0, -errno with @e */
int monitor_serve(struct monitor *m, bool fail_resent, struct err *e);

/* All three, for a session that is there. Where it fails there is none. */
int monitor_start_worker(struct monitor *m, bool fail_resent, struct err *e);
/* Of one that is dead already, only its socket goes. */
void monitor_kill_worker(struct monitor *m);

#endif
