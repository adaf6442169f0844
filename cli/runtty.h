/* SPDX-License-Identifier: Apache-2.0 */
/* A terminal of the container's own, behind ours. */
#ifndef CLI_RUNTTY_H
#define CLI_RUNTTY_H

#include <termios.h>

#include "common/base.h"
#include "common/err.h"

#define RUNTTY_SOCKET "console.sock"

/**
 * struct runtty - the container's terminal
 * @listener:	the runtime sends the other end there
 * @master:	of the container's terminal, -1 before
 * @raw:	ours was set to raw; @saved is what it was
 */
struct runtty {
	int listener;
	int master;
	bool raw;
	struct termios saved;
};

/* Listens on RUNTTY_SOCKET in a directory. Return: 0, -errno */
int runtty_open(struct runtty *t, int dir_fd, struct err *e);
/* The runtime has started: takes the terminal, and makes ours, if standard input
 * is one, its keyboard. */
int runtty_take(struct runtty *t, struct err *e);
/* Tells it how large ours is. */
void runtty_resize(const struct runtty *t);
/* Ours is as it was. */
void runtty_close(struct runtty *t);

#endif
