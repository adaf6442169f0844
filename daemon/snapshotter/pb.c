/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/pb.h"

#include "common/rd.h"
#include "common/utf8.h"

enum wire_type {
	WIRE_VARINT = 0,
	WIRE_64 = 1,
	WIRE_BYTES = 2,
	WIRE_32 = 5,
};

static uint64_t varint(struct rd *r)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint8_t b = rd_u8(r);

		v |= (uint64_t)(b & 0x7f) << shift;
		if ((b & 0x80) == 0)
			return v;
	}
	r->bad = true;
	return 0;
}

/* The bytes of a field behind its tag and length. */
static const uint8_t *payload(struct rd *r, unsigned type, size_t *ret_len)
{
	uint64_t len = 0;

	if (type == WIRE_VARINT)
		(void)varint(r);
	else if (type == WIRE_64)
		len = 8;
	else if (type == WIRE_32)
		len = 4;
	else if (type == WIRE_BYTES)
		len = varint(r);
	else
		r->bad = true;
	*ret_len = (size_t)MIN(len, (uint64_t)SIZE_MAX);
	return rd_bytes(r, *ret_len);
}

static int check(const ProtobufCMessageDescriptor *d, struct rd r,
		 unsigned depth, unsigned *n_fields, struct err *e);

static int check_field(const ProtobufCMessageDescriptor *d, uint64_t number,
		       struct rd r, unsigned depth, unsigned *n_fields,
		       struct err *e)
{
	const ProtobufCFieldDescriptor *f =
		number <= UINT32_MAX ? protobuf_c_message_descriptor_get_field(
					       d, (unsigned)number)
				     : NULL;

	if (f != NULL && f->type == PROTOBUF_C_TYPE_STRING &&
	    !utf8_valid(r.p, r.len))
		return err_set(e, -EINVAL, "%s.%s: not a UTF-8 text",
			       d->short_name, f->name);
	if (f != NULL && f->type == PROTOBUF_C_TYPE_MESSAGE)
		return check(f->descriptor, r, depth + 1, n_fields, e);
	return 0;
}

/* What protobuf-c leaves to its users. */
static int check(const ProtobufCMessageDescriptor *d, struct rd r,
		 unsigned depth, unsigned *n_fields, struct err *e)
{
	int rc = 0;

	/* Our messages are less deep than this by themselves. */
	assert(depth <= PB_DEPTH_MAX);
	while (r.off < r.len && !r.bad && rc == 0) {
		uint64_t tag = varint(&r);
		size_t len;
		const uint8_t *p = payload(&r, (unsigned)tag & 7, &len);

		if (++*n_fields > PB_FIELDS_MAX)
			return err_set(e, -EINVAL, "%s: too many fields",
				       d->short_name);
		if (p != NULL && (tag & 7) == WIRE_BYTES)
			rc = check_field(d, tag >> 3, rd_init(p, len), depth,
					 n_fields, e);
	}
	if (rc == 0 && r.bad)
		rc = err_set(e, -EINVAL, "%s: malformed", d->short_name);
	return rc;
}

int pb_unpack(const ProtobufCMessageDescriptor *d, const uint8_t *p, size_t len,
	      ProtobufCMessage **ret, struct err *e)
{
	unsigned n = 0;
	int r = check(d, rd_init(p, len), 0, &n, e);

	if (r < 0)
		return r;
	*ret = protobuf_c_message_unpack(d, NULL, len, p);
	/* It does not say which: out of memory, or a field of another type. */
	return *ret != NULL
		       ? 0
		       : err_set(e, -EINVAL, "%s: malformed", d->short_name);
}

void pb_free(ProtobufCMessage *m)
{
	if (m != NULL)
		protobuf_c_message_free_unpacked(m, NULL);
}

int pb_pack(const ProtobufCMessage *m, struct buf *to)
{
	size_t n = protobuf_c_message_get_packed_size(m);
	int r = buf_reserve(to, n);

	if (r == 0 && n > 0)
		to->len +=
			protobuf_c_message_pack(m, (uint8_t *)to->p + to->len);
	return r;
}
