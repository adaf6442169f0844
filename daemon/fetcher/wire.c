/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/wire.h"

#include <inttypes.h>
#include <string.h>

#include "common/checked.h"
#include "common/limits.h"
#include "common/rd.h"

static const struct wire_type {
	uint16_t flags; /* allowed */
	uint16_t bytes; /* header and body */
	uint16_t text_max;
	uint8_t fds_max;
	bool has_id;
} types[] = {
	[PROTO_HELLO] = {0, sizeof(struct proto_hello), 0, 1, false},
	[PROTO_RESOLVE] = {PROTO_RESOLVE_PLAIN_HTTP,
			   sizeof(struct proto_resolve), REFERENCE_BYTES_MAX, 0,
			   true},
	[PROTO_OPEN] = {PROTO_OPEN_PLAIN_HTTP, sizeof(struct proto_open),
			URL_BYTES_MAX, 1, true},
	[PROTO_READ] = {PROTO_READ_SUFFIX | PROTO_READ_OTHER_SOURCE |
				PROTO_READ_ONE,
			sizeof(struct proto_read), 0, 0, true},
	[PROTO_CANCEL] = {0, sizeof(struct proto_cancel), 0, 0, true},
	[PROTO_PRIO] = {0, sizeof(struct proto_prio), 0, 0, false},
	[PROTO_CLOSE] = {0, sizeof(struct proto_close), 0, 0, false},
	[PROTO_STATUS] = {0, sizeof(struct proto_status), 0, 0, true},
	[PROTO_WARM] = {PROTO_WARM_PLAIN_HTTP, sizeof(struct proto_warm),
			PROTO_TEXT_MAX, 0, true},
};

static int bad(struct err *e, const char *what)
{
	return err_set(e, -EPROTO, "protocol: %s", what);
}

static int region(const struct wire_msg *m, uint64_t len, uint64_t arena,
		  struct err *e)
{
	if (len == 0 || !checked_range(m->arena_off, len, arena))
		return bad(e, "region outside the arena");
	return 0;
}

static int class_of(uint32_t v, struct wire_msg *m, struct err *e)
{
	if (v >= PROTO_CLASS_N_)
		return bad(e, "unknown class");
	m->class_ = (enum proto_class)v;
	return 0;
}

static int body_hello(struct rd *r, struct wire_msg *m, unsigned n_fds,
		      struct err *e)
{
	if (rd_u32(r) != PROTO_MAGIC)
		return bad(e, "bad magic");
	m->version = rd_u32(r);
	m->size = rd_u64(r);
	if (m->size > PROTO_ARENA_BYTES_MAX)
		return bad(e, "bad arena size");
	if (n_fds != (m->size > 0 ? 1u : 0u))
		return bad(e, "wrong number of descriptors");
	return 0;
}

static int body_open(struct rd *r, struct wire_msg *m, unsigned n_fds,
		     struct err *e)
{
	uint32_t kind = rd_u32(r);

	if (kind < PROTO_BLOB_REGISTRY || kind > PROTO_BLOB_FD)
		return bad(e, "unknown kind of blob");
	m->kind = (enum proto_blob_kind)kind;
	if (rd_u32(r) != 0)
		return bad(e, "reserved field");
	m->size = rd_u64(r);
	if (m->size > INT64_MAX)
		return bad(e, "blob size");
	if (n_fds != (m->kind == PROTO_BLOB_FD ? 1u : 0u))
		return bad(e, "wrong number of descriptors");
	return 0;
}

static int body_read(struct rd *r, struct wire_msg *m, uint64_t arena,
		     struct err *e)
{
	int ret;

	m->handle = rd_u32(r);
	ret = class_of(rd_u32(r), m, e);
	if (ret < 0)
		return ret;
	m->off = rd_u64(r);
	m->len = rd_u64(r);
	m->arena_off = rd_u64(r);
	m->deadline_ms = rd_u32(r);
	if (rd_u32(r) != 0)
		return bad(e, "reserved field");
	if (m->len == 0 || m->len > PROTO_READ_BYTES_MAX ||
	    !checked_range(m->off, m->len, INT64_MAX))
		return bad(e, "bad range");
	if ((m->flags & PROTO_READ_SUFFIX) != 0 && m->off != 0)
		return bad(e, "offset of a suffix");
	return region(m, m->len, arena, e);
}

static int body_warm(struct rd *r, struct wire_msg *m, struct err *e)
{
	m->tail_bytes = rd_u32(r);
	m->hold_ms = rd_u32(r);
	if (m->tail_bytes > PROTO_WARM_TAIL_BYTES_MAX ||
	    m->hold_ms > PROTO_WARM_HOLD_MS_MAX)
		return bad(e, "too much to be kept");
	return 0;
}

static int body(struct rd *r, struct wire_msg *m, unsigned n_fds,
		uint64_t arena, struct err *e)
{
	int ret = 0;

	if (m->type == PROTO_HELLO) {
		ret = body_hello(r, m, n_fds, e);
	} else if (m->type == PROTO_OPEN) {
		ret = body_open(r, m, n_fds, e);
	} else if (m->type == PROTO_READ) {
		ret = body_read(r, m, arena, e);
	} else if (m->type == PROTO_RESOLVE || m->type == PROTO_STATUS) {
		m->arena_off = rd_u64(r);
		m->arena_len = rd_u64(r);
		ret = region(m, m->arena_len, arena, e);
		if (ret == 0 && m->type == PROTO_RESOLVE) {
			m->deadline_ms = rd_u32(r);
			if (rd_u32(r) != 0)
				ret = bad(e, "reserved field");
		}
	} else if (m->type == PROTO_PRIO) {
		m->target = rd_u64(r);
		ret = class_of(rd_u32(r), m, e);
		if (ret == 0 && rd_u32(r) != 0)
			ret = bad(e, "reserved field");
	} else if (m->type == PROTO_WARM) {
		ret = body_warm(r, m, e);
	} else if (m->type == PROTO_CLOSE) {
		m->handle = rd_u32(r);
		if (rd_u32(r) != 0)
			ret = bad(e, "reserved field");
	}
	return ret;
}

/* How many newlines the text may have. */
static unsigned newlines_of(const struct wire_msg *m)
{
	if (m->type == PROTO_WARM)
		return PROTO_WARM_BLOBS_MAX - 1;
	return m->type == PROTO_OPEN && m->kind == PROTO_BLOB_REGISTRY ? 1 : 0;
}

static int text_of(struct rd *r, size_t n, unsigned newlines, char *text,
		   struct err *e)
{
	const uint8_t *p = rd_bytes(r, n);

	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\n' && newlines > 0)
			newlines--;
		else if (p[i] < 0x20 || p[i] == 0x7f)
			return bad(e, "control character in text");
	}
	if (n > 0)
		memcpy(text, p, n);
	text[n] = '\0';
	return 0;
}

int wire_parse(const void *p, size_t n, unsigned n_fds, uint64_t arena_bytes,
	       char *text, struct wire_msg *ret, struct err *e)
{
	struct rd r = rd_init(p, n);
	const struct wire_type *t;
	struct wire_msg m = {0};
	unsigned type = rd_u16(&r);
	int rc;

	m.flags = rd_u16(&r);
	if (rd_u32(&r) != n)
		return bad(e, "length field");
	m.id = rd_u64(&r);
	if (type >= ARRAY_SIZE(types) || types[type].bytes == 0)
		return bad(e, "unknown type");
	m.type = (enum proto_type)type;
	t = &types[type];
	if ((m.flags & ~(unsigned)t->flags) != 0)
		return bad(e, "unknown flag");
	if (n < t->bytes || n - t->bytes > t->text_max)
		return bad(e, "wrong length");
	if (t->has_id != (m.id != 0))
		return bad(e, "request id");
	if (n_fds > t->fds_max)
		return bad(e, "wrong number of descriptors");
	rc = body(&r, &m, n_fds, arena_bytes, e);
	if (rc == 0)
		rc = text_of(&r, n - t->bytes, newlines_of(&m), text, e);
	if (rc < 0)
		return rc;
	assert(!r.bad);
	if (t->text_max > 0 && text[0] == '\0')
		return bad(e, "text is missing");
	m.text = text;
	*ret = m;
	return 0;
}

static void put_hdr(uint8_t *buf, unsigned type, unsigned flags, size_t len,
		    uint64_t id)
{
	memset(buf, 0, len);
	le16_store(buf, (uint16_t)type);
	le16_store(buf + 2, (uint16_t)flags);
	le32_store(buf + 4, (uint32_t)len);
	le64_store(buf + 8, id);
}

size_t wire_put_hello(uint8_t *buf, uint32_t version)
{
	size_t n = sizeof(struct proto_hello);

	put_hdr(buf, PROTO_HELLO, 0, n, 0);
	le32_store(buf + offsetof(struct proto_hello, magic), PROTO_MAGIC);
	le32_store(buf + offsetof(struct proto_hello, version), version);
	return n;
}

size_t wire_put_opened(uint8_t *buf, uint64_t id, unsigned flags,
		       uint32_t handle)
{
	size_t n = sizeof(struct proto_opened);

	put_hdr(buf, PROTO_OPENED, flags, n, id);
	le32_store(buf + offsetof(struct proto_opened, handle), handle);
	return n;
}

size_t wire_put_hint(uint8_t *buf, uint64_t id, unsigned flags, uint32_t handle,
		     const struct proto_hint_range *v, uint32_t n)
{
	size_t len = sizeof(struct proto_hint) + n * sizeof(*v);
	uint8_t *p = buf + sizeof(struct proto_hint);

	assert(n <= PROTO_HINT_RANGES_MAX);
	put_hdr(buf, PROTO_HINT, flags, len, id);
	le32_store(buf + offsetof(struct proto_hint, handle), handle);
	le32_store(buf + offsetof(struct proto_hint, n), n);
	for (uint32_t i = 0; i < n; i++, p += sizeof(*v)) {
		le64_store(p + offsetof(struct proto_hint_range, off),
			   v[i].off);
		le64_store(p + offsetof(struct proto_hint_range, len),
			   v[i].len);
	}
	return len;
}

size_t wire_put_data(uint8_t *buf, uint64_t id, unsigned flags, uint64_t got,
		     uint64_t off, uint64_t blob_size)
{
	size_t n = sizeof(struct proto_data);

	put_hdr(buf, PROTO_DATA, flags, n, id);
	le64_store(buf + offsetof(struct proto_data, got), got);
	le64_store(buf + offsetof(struct proto_data, off), off);
	le64_store(buf + offsetof(struct proto_data, blob_size), blob_size);
	return n;
}

size_t wire_put_failed(uint8_t *buf, uint64_t id, int code, const char *text)
{
	size_t len = MIN(strlen(text), (size_t)ERR_TEXT_BYTES);
	size_t n = sizeof(struct proto_failed) + len;

	put_hdr(buf, PROTO_FAILED, 0, n, id);
	le32_store(buf + offsetof(struct proto_failed, code),
		   (uint32_t)(code < 0 ? -code : code));
	memcpy(buf + sizeof(struct proto_failed), text, len);
	return n;
}
