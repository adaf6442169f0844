/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of clients, checked and decoded. Pure; the client is not trusted. */
#ifndef FETCHER_WIRE_H
#define FETCHER_WIRE_H

#include "common/base.h"
#include "common/err.h"
#include "common/proto.h"
#include "common/proto_hint.h"

/**
 * struct wire_msg - a decoded request; what a type does not have is 0
 * @target:	id of the READ that PRIO means
 * @text:	NUL-terminated copy in the caller's buffer
 */
struct wire_msg {
	enum proto_type type;
	unsigned flags;
	uint64_t id;
	uint64_t target;
	uint64_t off;
	uint64_t len;
	uint64_t arena_off;
	uint64_t arena_len;
	uint64_t size;
	uint32_t handle;
	uint32_t deadline_ms;
	uint32_t tail_bytes;
	uint32_t hold_ms;
	uint32_t version;
	enum proto_blob_kind kind;
	enum proto_class class_;
	const char *text;
};

/**
 * wire_parse() - check and decode one packet
 * @p:		[@n]
 * @n_fds:	descriptors that came with it
 * @text:	[PROTO_TEXT_MAX + 1] receives the text
 * @arena_bytes: of the client; ignored for HELLO
 *
 * Return: 0, -EPROTO
 */
int wire_parse(const void *p, size_t n, unsigned n_fds, uint64_t arena_bytes,
	       char *text, struct wire_msg *ret, struct err *e);

/* Encoders; each returns the bytes written to buf (PROTO_PACKET_MAX). */
size_t wire_put_hello(uint8_t *buf, uint32_t version);
size_t wire_put_opened(uint8_t *buf, uint64_t id, unsigned flags,
		       uint32_t handle);
size_t wire_put_hint(uint8_t *buf, uint64_t id, unsigned flags, uint32_t handle,
		     const struct proto_hint_range *v, uint32_t n);
size_t wire_put_data(uint8_t *buf, uint64_t id, unsigned flags, uint64_t got,
		     uint64_t off, uint64_t blob_size);
size_t wire_put_failed(uint8_t *buf, uint64_t id, int code, const char *text);

#endif
