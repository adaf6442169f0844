/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: a worker's end of the conversation with estargzd (common/proto.h): the
 * arena, and sending and receiving packets. What to ask for is miss.c's
 * business.
 *
 * The arena outlives a connection: when estargzd dies, the bytes it had
 * delivered are still there, and only the rest is asked for again.
 */
#ifndef FS_LINK_H
#define FS_LINK_H

#include "common/base.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/proto.h"
#include "fs/layer.h"

#define LINK_ARENA_BYTES MIB(32)
#define LINK_UNIT_BYTES KIB(64) /* arena space is given out in these */
#define LINK_UNITS (LINK_ARENA_BYTES / LINK_UNIT_BYTES)

enum link_hints_state {
	LINK_HINTS_NONE,    /* there is no trace */
	LINK_HINTS_PERHAPS, /* it is looked for; nothing waits for it */
	LINK_HINTS_COMING,
	LINK_HINTS_THERE,
};

/**
 * struct link_hints - what the fetcher says that the image's trace names
 * @v:		[@n] ranges of the blob, those wanted first in front
 */
struct link_hints {
	enum link_hints_state state;
	struct layer_range *v;
	size_t n;
	size_t cap;
};

/**
 * struct link - to a fetcher
 * @sock:	-1 while there is none
 * @handle:	of the blob, on this connection
 * @arena:	[LINK_ARENA_BYTES] shared with the fetcher
 * @used:	one bit a unit
 */
struct link {
	int sock;
	uint32_t handle;
	int arena_fd;
	uint8_t *arena;
	uint64_t used[LINK_UNITS / 64];
	struct link_hints hints;
};

int link_init(struct link *l, struct err *e);
void link_done(struct link *l);

/**
 * link_hello() - greet the fetcher on a fresh connection
 * @sock:	connected; owned by @l from here on, also on failure
 *
 * These three block for at most 10 s (link_resolve(): 40 s).
 * Return: 0, -EPROTO, -ETIMEDOUT, the fetcher's errno
 */
int link_hello(struct link *l, int sock, struct err *e);

/* Opens the blob of @layer: its handle is that of later reads. Where it has a
 * trace, hints will come; perhaps, too, where that is to be looked for, and
 * @look. */
int link_open(struct link *l, const struct layer *layer, bool look,
	      struct err *e);

/* The layers of an image, as the JSON of proto.h's RESOLVE. */
int link_resolve(struct link *l, const char *reference, bool plain_http,
		 struct buf *ret_json, struct err *e);

void link_detach(struct link *l);

/* Takes over what @fresh, on another connection, knows of a trace, unless @l
 * knows it all. */
void link_take_hints(struct link *l, struct link *fresh);

/* First fit; *ret_off is a multiple of LINK_UNIT_BYTES. Return: false: full. */
bool link_alloc(struct link *l, uint64_t len, uint64_t *ret_off);
void link_free(struct link *l, uint64_t off, uint64_t len);
bool link_idle(const struct link *l);
/* Gives the arena's pages back; only while link_idle(). */
void link_trim(struct link *l);

/**
 * struct link_read - a READ to send
 */
struct link_read {
	uint64_t id;
	uint64_t off;
	uint64_t len;
	uint64_t arena_off;
	uint32_t deadline_ms;
	uint16_t flags;
	uint8_t class_;
};

/* None blocks. Return: 0, -EAGAIN (socket full), -EPIPE and the like: gone. */
int link_send_read(const struct link *l, const struct link_read *rd);
int link_send_cancel(const struct link *l, uint64_t id);
int link_send_prio(const struct link *l, uint64_t id, uint8_t class_);

/**
 * struct link_event - what came in
 * @type:	PROTO_DATA, PROTO_FAILED, or PROTO_HINT: link.hints has changed
 * @code:	PROTO_FAILED: negative errno, and @text
 */
struct link_event {
	uint16_t type;
	bool end;
	uint64_t id;
	uint64_t got;
	uint64_t off;
	uint64_t blob_size;
	int code;
	char text[ERR_TEXT_BYTES];
};

/**
 * link_recv() - one packet
 * @flags:	MSG_DONTWAIT or 0
 *
 * Return: 1 an event, 0 the connection ended, -EAGAIN, -EPROTO, -errno
 */
int link_recv(struct link *l, struct link_event *ret, int flags);

/**
 * link_fetch() - a READ, waited for; before any thread is started
 * @suffix:	the last @len bytes
 * @ret:	the last event: @got, @off, @blob_size
 *
 * Return: 0, or a negative errno and @e
 */
int link_fetch(struct link *l, bool suffix, uint64_t off, uint64_t len,
	       uint64_t arena_off, struct link_event *ret, struct err *e);

#endif
