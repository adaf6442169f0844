/* SPDX-License-Identifier: Apache-2.0 */
/* What gRPC puts into HTTP/2: status codes, texts, times and messages. Pure; the
 * client is not trusted. PROTOCOL-HTTP2.md of gRPC is the norm. */
#ifndef SNAPSHOTTER_GRPCMSG_H
#define SNAPSHOTTER_GRPCMSG_H

#include "common/base.h"
#include "common/buf.h"

enum grpc_code {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
};

#define GRPC_PREFIX_BYTES 5u
#define GRPC_TIMEOUT_NS_MAX (UINT64_C(100000) * 3600 * NSEC_PER_SEC)

/* grpc-message of a text: percent-encoded where it is not printable ASCII; what
 * is not UTF-8 is left out. Return: @b's text, malloced, NULL: out of memory */
char *grpcmsg_escape(const char *text);

/* grpc-timeout, "1S" to "99999999H", at most GRPC_TIMEOUT_NS_MAX.
 * Return: 0, -EBADMSG */
int grpcmsg_timeout(const char *text, uint64_t *ret_ns);

/* Whether a content-type is gRPC's, with whatever encoding of messages. */
bool grpcmsg_content_type(const char *text);

void grpcmsg_put_prefix(uint8_t *to, uint32_t len);

/**
 * struct grpcmsg_in - takes the bytes of a request apart
 * @body:	the message; zero-initialise with BUF_INIT(its maximum)
 */
struct grpcmsg_in {
	uint8_t prefix[GRPC_PREFIX_BYTES];
	unsigned n_prefix;
	uint32_t len;
	struct buf body;
};

/**
 * grpcmsg_add() - the next bytes
 *
 * Return: GRPC_OK; UNIMPLEMENTED compressed or a second message,
 * RESOURCE_EXHAUSTED too large or out of memory, INTERNAL not a message; with
 * @ret_why
 */
enum grpc_code grpcmsg_add(struct grpcmsg_in *in, const uint8_t *p, size_t n,
			   const char **ret_why);
/* The request has ended. Return: GRPC_OK there is one whole message;
 * UNIMPLEMENTED none, INTERNAL cut off */
enum grpc_code grpcmsg_end(const struct grpcmsg_in *in, const char **ret_why);

#endif
