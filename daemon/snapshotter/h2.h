/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: HTTP/2 connections of a Unix socket, over nghttp2: streams, headers,
 * bodies. What they mean is the business of who gives the callbacks (grpc.c).
 * All of it is on the loop's thread.
 *
 * A connection that breaks HTTP/2 is closed, and nothing but it is touched. One
 * that does not read what it is sent is not read either until it does, so
 * that answers to it cannot pile up; the bodies are asked for only when
 * there is room for them on the socket and in the windows of stream and connection.
 * Where there are too many connections, the one that has been idle longest is
 * closed for the new one.
 *
 * Without a descriptor (-1) a connection is only its state machine:
 * h2_feed() and h2_pull() are its two ends.
 */
#ifndef SNAPSHOTTER_H2_H
#define SNAPSHOTTER_H2_H

#include "common/base.h"
#include "common/err.h"
#include "common/list.h"
#include "common/loop.h"

#define H2_HEADER_BYTES_MAX 16384u /* of a request, as RFC 9113 counts them */
#define H2_DRAIN_NS (4 * NSEC_PER_SEC)

struct h2;
struct h2_conn;

/* A request and its answer; embedded in its owner. */
struct h2_stream {
	struct h2_conn *conn; /* NULL: closed, and the rest is void */
	int32_t id;
	uint32_t header_bytes;
	struct list node;
};

struct h2_header {
	const char *name;
	const char *value;
};

/**
 * struct h2_ops - what happens
 * @open:	a request begins. Return: its stream, zeroed; NULL: refused
 * @header:	one of its headers
 * @headers:	all of them have come
 * @data:	the next bytes of its body
 * @end:	all of it has come
 * @body:	gives the next bytes of the answer, 0: none for now, h2_resume()
 *		will say when; or *@ret_end after h2_trailers()
 * @closed:	the stream is gone, answered or not
 * @idle:	the last connection is gone
 */
struct h2_ops {
	struct h2_stream *(*open)(void *arg);
	void (*header)(struct h2_stream *s, const char *name,
		       const char *value);
	void (*headers)(struct h2_stream *s);
	void (*data)(struct h2_stream *s, const uint8_t *p, size_t n);
	void (*end)(struct h2_stream *s);
	size_t (*body)(struct h2_stream *s, uint8_t *to, size_t n,
		       bool *ret_end);
	void (*closed)(struct h2_stream *s);
	void (*idle)(void *arg);
};

/**
 * h2_new() - serve
 * @fd:		a listening socket, taken over where this succeeds; -1: none
 * @arg:	of open() and idle()
 */
int h2_new(struct h2 **ret, struct loop *loop, int fd, unsigned conns_max,
	   unsigned streams_max, const struct h2_ops *ops, void *arg,
	   struct err *e);
/* Closes everything, then frees. */
void h2_free(struct h2 *h);

/* Accepts nobody any more, sends GOAWAY; connections end with their last stream. */
void h2_drain(struct h2 *h);
/* Closes all connections; their streams are closed() first. */
void h2_close_all(struct h2 *h);
unsigned h2_n_conns(const struct h2 *h);

/* Headers of the answer; without a body they end it. */
void h2_respond(struct h2_stream *s, const struct h2_header *v, size_t n,
		bool body);
void h2_trailers(struct h2_stream *s, const struct h2_header *v, size_t n);
void h2_resume(struct h2_stream *s);

/* ---- the ends of a connection ---- */

/* fd: taken over; -1: none. Return: NULL when out of memory */
struct h2_conn *h2_conn_new(struct h2 *h, int fd);
void h2_conn_free(struct h2_conn *c);
/* Return: 0; -EPROTO, -ENOMEM: it is of no use any more */
int h2_feed(struct h2_conn *c, const uint8_t *p, size_t n);
/* The next bytes for the peer, valid until the next call; 0: none now.
 * Return: their number; -EPIPE the connection is over; -ENOMEM */
ssize_t h2_pull(struct h2_conn *c, const uint8_t **ret_p);

#endif
