/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: a gRPC server over HTTP/2 (h2.h) on a Unix socket.
 *
 * The loop's thread owns connections, streams and calls; a method runs on a
 * thread of the pool (pool.h), because it may wait for a mount or the network.
 * What the two share of a call (its reply, its result, whether anybody still
 * wants them) is guarded by the server's one lock, which is never held over
 * anything. A call whose client is gone runs to its end; what it replies is
 * dropped. One that has not begun by then does not.
 *
 * Status codes and messages travel in trailers, messages percent-encoded;
 * grpc-timeout is honoured (DEADLINE_EXCEEDED, the method's end is not awaited);
 * compressed messages are refused (UNIMPLEMENTED). Every request has one
 * message.
 *
 * Requests that are still incomplete and replies that are not read yet take at
 * most GRPC_HELD_BYTES_MAX, whoever sends or does not read them; what would
 * need more fails with RESOURCE_EXHAUSTED.
 */
#ifndef SNAPSHOTTER_GRPC_H
#define SNAPSHOTTER_GRPC_H

#include "common/base.h"
#include "common/err.h"
#include "common/loop.h"

#define GRPC_MESSAGE_BYTES_MAX MIB(4) /* of a request */
#define GRPC_STREAMS_MAX 1024u        /* of a connection */
#define GRPC_CONNECTIONS_MAX 256u
#define GRPC_CALLS_MAX 8192u           /* of all connections */
#define GRPC_QUEUED_BYTES_MAX MIB(1)   /* of a reply; then grpc_reply() waits */
#define GRPC_QUEUED_WAIT_MS_MAX 60000u /* so long */
#define GRPC_HELD_BYTES_MAX MIB(64)

struct grpc;
struct grpc_call;
struct h2;
struct pool;

/**
 * struct grpc_method - what can be called
 * @path:	"/package.Service/Method"
 * @fn:		on a thread of the pool; @req: [@len] the request message.
 *		Replies with grpc_reply(): once, or any number of times where the
 *		method streams. Return: 0, -errno with @e, which become the status
 * @quick:	@fn replies once and waits for nothing but the disk: it runs on
 *		the loop's thread, which saves waking another one up
 */
struct grpc_method {
	const char *path;
	int (*fn)(void *arg, struct grpc_call *call, const uint8_t *req,
		  size_t len, struct err *e);
	bool quick;
};

/**
 * grpc_new() - serve on a listening socket
 * @listen_fd:	taken over where this succeeds; -1: none, see grpc_h2()
 * @pool:	NULL: every method is quick
 * @methods:	[@n]; borrowed
 */
int grpc_new(struct grpc **ret, struct loop *loop, struct pool *pool,
	     int listen_fd, const struct grpc_method *methods, size_t n,
	     void *arg, struct err *e);
/* GOAWAY to everybody; done() is called, from the loop, when the last call has been
 * answered, or after timeout_ms, when the connections have been cut. */
void grpc_shutdown(struct grpc *g, unsigned timeout_ms, void (*done)(void *arg),
		   void *arg);
/* After the pool: no method may be running. */
void grpc_free(struct grpc *g);
/* Its connections; for what brings bytes from elsewhere than a socket. */
struct h2 *grpc_h2(struct grpc *g);

/* A message; copied. Is sent when the method returns, or when there is enough of
 * them. Waits while the client does not read. Return: 0; -ECANCELED the client
 * is gone, or as good as; -ENOMEM */
int grpc_reply(struct grpc_call *call, const void *msg, size_t len);

/* -errno -> grpc status code (the only place): EEXIST ALREADY_EXISTS, ENOENT
 * NOT_FOUND, EBUSY FAILED_PRECONDITION, EINVAL INVALID_ARGUMENT, EAGAIN
 * UNAVAILABLE, ENOSYS UNIMPLEMENTED, ETIMEDOUT DEADLINE_EXCEEDED, ECANCELED
 * CANCELLED, ENOMEM and ENOSPC RESOURCE_EXHAUSTED, else UNKNOWN. */
unsigned grpc_status(int r);

#endif
