/* SPDX-License-Identifier: Apache-2.0 */
/* A gRPC client for tests: nghttp2's client session, joined to a server of
 * daemon/snapshotter/grpc.h without a socket. */
#ifndef TESTS_UNIT_H2CLIENT_H
#define TESTS_UNIT_H2CLIENT_H

#include <nghttp2/nghttp2.h>

#include "common/base.h"
#include "daemon/snapshotter/grpc.h"
#include "daemon/snapshotter/h2.h"

#define CLIENT_HEADERS_MAX 12

/* What became of a request. */
struct outcome {
	char http[8]; /* :status */
	char type[64];
	char status[8];     /* grpc-status */
	char message[1024]; /* grpc-message, as it came */
	uint8_t body[65536];
	size_t n_body;
	bool trailers_only; /* one HEADERS frame was all */
	bool closed;
	uint32_t code; /* of RST_STREAM */
};

struct client {
	struct grpc *g;
	struct h2_conn *conn;
	nghttp2_session *session;
	struct outcome out;
	int32_t stream;
	unsigned step; /* bytes the server gets at a time; 0: all */
	bool deaf;     /* does not open its windows again */
	bool goaway;
	bool over; /* the server is done with the connection */
	/* request */
	const uint8_t *p;
	size_t n, off;
	bool open_end; /* the request does not end */
};

void client_open(struct client *c, struct grpc *g);
void client_close(struct client *c);

/* Carries bytes to and fro until neither side has any.
 * Return: 0, -errno of h2_feed() */
int client_pump(struct client *c);

/* Sends a request of these bytes (frames and all) with extra headers, "name",
 * "value", …, NULL; those named there replace the usual ones, NULL drops one. */
void client_send(struct client *c, const char *path, const void *p, size_t n,
		 const char *const *extra);

/* One message; returns when the server has nothing to say any more. */
const struct outcome *client_call(struct client *c, const char *path,
				  const void *msg, size_t len);

#endif
