/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: a gRPC server over HTTP/2 (nghttp2) on a Unix socket.
 *
 * The loop's thread owns connections, streams and nghttp2; a method runs on a
 * thread of the pool (pool.h), because it may wait for a mount or the network.
 * Between the two there is only struct grpc_call, which is what its lock guards.
 * A call whose client is gone runs to its end; what it replies is dropped.
 *
 * Status codes and messages travel in trailers, messages percent-encoded;
 * grpc-timeout is honoured (DEADLINE_EXCEEDED, the method's end is not awaited);
 * compressed messages are refused (UNIMPLEMENTED).
 */
#ifndef SNAPSHOTTER_GRPC_H
#define SNAPSHOTTER_GRPC_H

#include "common/base.h"
#include "common/err.h"
#include "common/loop.h"

#define GRPC_MESSAGE_BYTES_MAX MIB(4) /* of a request */
#define GRPC_STREAMS_MAX 1024u        /* of a connection */
#define GRPC_CONNECTIONS_MAX 256u
#define GRPC_QUEUED_BYTES_MAX MIB(1) /* of a reply; then grpc_reply() waits */

struct grpc;
struct grpc_call;
struct pool;

/**
 * struct grpc_method - what can be called
 * @path:	"/package.Service/Method"
 * @fn:		on a thread of the pool; @req: [@len] the request message.
 *		Replies with grpc_reply(): once, or any number of times where the
 *		method streams. Return: 0, -errno with @e, which become the status
 */
struct grpc_method {
	const char *path;
	int (*fn)(void *arg, struct grpc_call *call, const uint8_t *req,
		  size_t len, struct err *e);
};

/**
 * grpc_new() - serve on a listening socket
 * @methods:	[@n]; borrowed
 */
int grpc_new(struct grpc **ret, struct loop *loop, struct pool *pool,
	     int listen_fd, const struct grpc_method *methods, size_t n,
	     void *arg, struct err *e);
/* GOAWAY to everybody; done() is called when the last call has been answered, or after
 * timeout_ms. */
void grpc_shutdown(struct grpc *g, unsigned timeout_ms, void (*done)(void *arg),
		   void *arg);
void grpc_free(struct grpc *g);

/* A message; copied. Waits while the client does not read.
 * Return: 0, -ECANCELED the client is gone */
int grpc_reply(struct grpc_call *call, const void *msg, size_t len);

/* -errno -> grpc status code (the only place): EEXIST ALREADY_EXISTS, ENOENT
 * NOT_FOUND, EBUSY FAILED_PRECONDITION, EINVAL INVALID_ARGUMENT, EAGAIN
 * UNAVAILABLE, ENOSYS UNIMPLEMENTED, ETIMEDOUT DEADLINE_EXCEEDED, ECANCELED
 * CANCELLED, ENOMEM and ENOSPC RESOURCE_EXHAUSTED, else UNKNOWN. */
unsigned grpc_status(int r);

#endif
