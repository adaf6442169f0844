/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of protobuf-c; those that come in are not trusted. */
#ifndef SNAPSHOTTER_PB_H
#define SNAPSHOTTER_PB_H

#include <protobuf-c/protobuf-c.h>

#include "common/base.h"
#include "common/buf.h"
#include "common/err.h"

/* Fields of one message, those of its parts included: what bounds the memory
 * that taking it apart needs. */
#define PB_FIELDS_MAX 32768u
#define PB_DEPTH_MAX 8u

/**
 * pb_unpack() - take a message apart
 *
 * More strictly than protobuf-c does: strings are UTF-8 without a NUL, and
 * PB_FIELDS_MAX holds.
 * Return: 0 and a message for pb_free(); -EINVAL, -ENOMEM with @e
 */
int pb_unpack(const ProtobufCMessageDescriptor *d, const uint8_t *p, size_t len,
	      ProtobufCMessage **ret, struct err *e);
/* Takes NULL. */
void pb_free(ProtobufCMessage *m);

/* Appends a message. Appended to another, it adds to that one's repeated
 * fields. Return: 0, -ENOMEM, -EOVERFLOW */
int pb_pack(const ProtobufCMessage *m, struct buf *to);

#endif
