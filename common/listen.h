/* SPDX-License-Identifier: Apache-2.0 */
/* Listening Unix sockets. */
#ifndef COMMON_LISTEN_H
#define COMMON_LISTEN_H

#include "common/base.h"
#include "common/err.h"

/* Behind its name as long as a socket does not listen. Who is killed meanwhile
 * leaves it: to the next one that listens there, or to who sweeps such names. */
#define LISTEN_UNBORN ".new"

/**
 * listen_unix() - make a listening socket, mode 0600, non-blocking
 * @type:	SOCK_STREAM or SOCK_SEQPACKET
 *
 * Replaces a socket nobody listens on, and nothing else; of several processes
 * that do this at once, one succeeds. Makes a directory that is missing.
 * Return: a descriptor, -EADDRINUSE where somebody listens, -EEXIST where
 * something else is there, -ETIMEDOUT, -errno
 */
int listen_unix(const char *path, int type, struct err *e);

/* Removes a socket on which nobody listens any more, and nothing else; the
 * caller has closed his own. Return: as listen_unix(), 0. */
int listen_remove(const char *path, int type, struct err *e);

/* Whether an inherited descriptor is a listening socket of that type; it becomes
 * close-on-exec and non-blocking. Return: @fd, -EINVAL */
int listen_inherited(int fd, int type, struct err *e);

#endif
