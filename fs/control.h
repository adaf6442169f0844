/* SPDX-License-Identifier: Apache-2.0 */
/* RUN_DIR/layers/<id>.sock: who connects gets the layer's status as one JSON
 * object and the end of the stream. `estargz status` reads them all. */
#ifndef FS_CONTROL_H
#define FS_CONTROL_H

#include "common/base.h"
#include "common/err.h"
#include "common/sup.h"
#include "fs/layer.h"
#include "fs/stats.h"

#define CONTROL_DIR SUP_DIR

/**
 * struct control - the socket
 * @fd:		listening, to be polled; -1: could not be made (status is
 *		then blind, the mount works)
 */
struct control {
	int fd;
	char *path;
};

/* Removes what monitors left there that were killed. */
void control_sweep(void);

/* What a status is made of besides the counters. */
struct control_facts {
	const struct layer *layer;
	const char *target;
	const char *state_path;
	const char *toc_digest; /* "sha256:…" */
	const char *supervisor; /* a word for it */
};

/* Makes the socket, 0600, named after this process. */
int control_open(struct control *c, struct err *e);
void control_close(struct control *c);

/* Takes one connection and answers it; never waits for a reader. */
void control_answer(const struct control *c, const struct control_facts *f,
		    const struct stats *st);

#endif
