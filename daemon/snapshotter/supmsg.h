/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of common/sup.h: those of a monitor, checked; those to it. */
#ifndef SNAPSHOTTER_SUPMSG_H
#define SNAPSHOTTER_SUPMSG_H

#include "common/base.h"
#include "common/err.h"
#include "common/sup.h"

/**
 * struct supmsg - what a monitor has said
 * @fuse_fd:	of a READY; owned, -1: none
 * @text:	of a READY: the mount point
 * @e:		of a FAILED
 */
struct supmsg {
	enum sup_type type;
	int fuse_fd;
	uint32_t pid;
	bool complete;
	struct sup_session session;
	char text[SUP_TEXT_BYTES + 1];
	struct err e;
};

/* Return: 1; 0 the connection has ended; -EAGAIN; -EPROTO it makes no sense;
 * -EOPNOTSUPP another version */
int supmsg_recv(int sock, struct supmsg *ret);

/**
 * supmsg_parse() - one packet
 * @p:		[@n]
 * @fd:		that came with it, or -1; ours from now on
 *
 * Return: as supmsg_recv()
 */
int supmsg_parse(const uint8_t *p, size_t n, int fd, struct supmsg *ret);

/* START; @session and @fuse_fd: to go on with, or NULL. Return: 0, -errno */
int supmsg_start(int sock, const struct sup_session *session, int fuse_fd);
int supmsg_end(int sock);

#endif
