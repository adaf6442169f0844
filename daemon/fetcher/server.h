/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the listening socket and its clients. A client that breaks the
 * protocol loses its connection; nothing it sends can do more than that. Its
 * arena is mapped only after its size and seals were checked, so it cannot
 * be made to fault. A client that does not read its answers is not listened
 * to until it does.
 */
#ifndef FETCHER_SERVER_H
#define FETCHER_SERVER_H

#include "common/base.h"
#include "common/err.h"

struct fetchd;
struct server;

#define SERVER_CLIENTS_MAX 8192u
#define SERVER_IDLE_START_NS (30 * NSEC_PER_SEC)
#define SERVER_IDLE_END_NS (1 * NSEC_PER_SEC)

/**
 * server_listen() - make the listening socket
 *
 * Replaces a socket nobody listens on. Return: a descriptor, -EADDRINUSE
 * where somebody does, -errno
 */
int server_listen(const char *path, unsigned mode, const char *group,
		  struct err *e);

/* Serves on @fd (taken over). @exit_when_idle: see estargzd(8). */
int server_new(struct fetchd *d, int fd, bool exit_when_idle,
	       struct server **ret, struct err *e);
void server_free(struct server *s);

unsigned server_clients(const struct server *s);
unsigned server_requests(const struct server *s);

#endif
