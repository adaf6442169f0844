/* SPDX-License-Identifier: Apache-2.0 */
/* Units of their own for processes of layers, where systemd runs: what is
 * done to the snapshotter's unit is then not done to them. */
#ifndef SNAPSHOTTER_SCOPE_H
#define SNAPSHOTTER_SCOPE_H

#include <sys/types.h>

#include "common/base.h"
#include "daemon/snapshotter/spawn.h"

#define SCOPE_CALLS 256u /* of systemd, at the same time */

/* One that is under way, of a process that has @pid. */
struct scope_call {
	struct scope *sc; /* NULL: none */
	struct spawner *s;
	int64_t id;
	unsigned serial;
	pid_t pid;
	unsigned tries;
	char source[128];
};

struct scope {
	bool on; /* immutable */
	/* the loop's thread */
	bool failed; /* and that was said */
	struct scope_call calls[SCOPE_CALLS];
};

/**
 * scope_start() - put a process and its children into a transient scope
 * @serial:	of the layer's processes
 * @source:	for the description
 *
 * In the background, and it does not matter much whether it succeeds.
 */
void scope_start(struct scope *sc, struct spawner *s, int64_t id,
		 unsigned serial, pid_t pid, const char *source);

#endif
