/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "common/checked.h"
#include "common/io.h"
#include "common/limits.h"
#include "common/proto_hint.h"
#include "common/rd.h"

#define ANSWER_TIMEOUT_NS (10 * NSEC_PER_SEC)
#define FETCH_TIMEOUT_MS 30000u
#define FETCH_TIMEOUT_NS (40 * NSEC_PER_SEC)

int link_init(struct link *l, struct err *e)
{
	void *p;

	*l = (struct link){.sock = -1, .arena_fd = -1};
	l->arena_fd =
		memfd_create("estargz-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (l->arena_fd < 0)
		return err_set(e, -errno, "memfd_create: %s", err_name(errno));
	if (ftruncate(l->arena_fd, (off_t)LINK_ARENA_BYTES) < 0 ||
	    fcntl(l->arena_fd, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_set(e, -errno, "arena: %s", err_name(errno));
	p = mmap(NULL, LINK_ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		 l->arena_fd, 0);
	if (p == MAP_FAILED)
		return err_set(e, -errno, "arena: %s", err_name(errno));
	l->arena = p;
	return 0;
}

void link_detach(struct link *l)
{
	if (l->sock >= 0)
		(void)close(l->sock);
	l->sock = -1;
}

void link_done(struct link *l)
{
	link_detach(l);
	free(TAKE_PTR(l->hints.v));
	if (l->arena != NULL)
		(void)munmap(l->arena, LINK_ARENA_BYTES);
	if (l->arena_fd >= 0)
		(void)close(l->arena_fd);
	l->arena = NULL;
	l->arena_fd = -1;
}

static struct proto_hdr header(enum proto_type type, uint64_t id, size_t len)
{
	return (struct proto_hdr){
		.type = htole16((uint16_t)type),
		.len = htole32((uint32_t)len),
		.id = htole64(id),
	};
}

static int send_hello(struct link *l)
{
	struct proto_hello m = {
		.h = header(PROTO_HELLO, 0, sizeof(m)),
		.magic = htole32(PROTO_MAGIC),
		.version = htole32(PROTO_VERSION),
		.arena_bytes = htole64(LINK_ARENA_BYTES),
	};

	return io_send_fds(l->sock, &m, sizeof(m), &l->arena_fd, 1, 0);
}

/* A packet with a fixed body [@len] and text behind it. */
static int send_text(struct link *l, struct proto_hdr *body, size_t len,
		     const char *text, const int *fds, size_t n_fds)
{
	uint8_t p[PROTO_PACKET_MAX];
	size_t n = strlen(text);

	if (n > PROTO_TEXT_MAX)
		return -EOVERFLOW;
	body->len = htole32((uint32_t)(len + n));
	memcpy(p, body, len);
	memcpy(p + len, text, n);
	return io_send_fds(l->sock, p, len + n, fds, n_fds, 0);
}

/* Waits for a packet until @deadline_ns. Return: 0, -ETIMEDOUT. */
static int wait_readable(int sock, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd p = {.fd = sock, .events = POLLIN};
		uint64_t now = io_now_ns();
		int n;

		if (now >= deadline_ns)
			return -ETIMEDOUT;
		n = poll(&p, 1, (int)((deadline_ns - now) / NSEC_PER_MSEC) + 1);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/* Reads one packet, whole and with a sane header. Return: its length, 0 at
 * the end, -EPROTO, -errno. */
static ssize_t recv_packet(int sock, uint8_t *p, size_t cap, int flags)
{
	ssize_t n = io_recv_fds(sock, p, cap, NULL, 0, flags);

	if (n <= 0)
		return n;
	if ((size_t)n < sizeof(struct proto_hdr) ||
	    le32_load(p + offsetof(struct proto_hdr, len)) != (size_t)n)
		return -EPROTO;
	return n;
}

static int parse_failed(const uint8_t *p, size_t n, char *text, size_t cap)
{
	uint32_t code;

	if (n < sizeof(struct proto_failed))
		return -EPROTO;
	code = le32_load(p + offsetof(struct proto_failed, code));
	(void)snprintf(text, cap, "%.*s",
		       (int)(n - sizeof(struct proto_failed)),
		       (const char *)p + sizeof(struct proto_failed));
	err_sanitize(text);
	return code > 0 && code < 4096 ? -(int)code : -EIO;
}

/* Waits for the answer to a request, of @type and at least @min bytes. */
static int answer(struct link *l, uint64_t deadline_ns, enum proto_type type,
		  size_t min, uint8_t *p, struct err *e)
{
	char text[ERR_TEXT_BYTES];
	ssize_t n;
	int r;

	r = wait_readable(l->sock, deadline_ns);
	if (r < 0)
		return err_set(e, r, "fetcher does not answer");
	n = recv_packet(l->sock, p, PROTO_PACKET_MAX, 0);
	if (n <= 0)
		return err_set(e, n < 0 ? (int)n : -ECONNRESET,
			       "fetcher closed the connection");
	if (le16_load(p) == PROTO_FAILED) {
		r = parse_failed(p, (size_t)n, text, sizeof(text));
		return err_set(e, r, "%s", text);
	}
	if (le16_load(p) != (uint16_t)type || (size_t)n < min)
		return err_set(e, -EPROTO, "fetcher gave a wrong answer");
	return 0;
}

int link_hello(struct link *l, int sock, struct err *e)
{
	uint8_t p[PROTO_PACKET_MAX];
	int r;

	link_detach(l);
	l->sock = sock;
	r = send_hello(l);
	if (r < 0)
		r = err_set(e, r, "fetcher: %s", err_name(r));
	else
		r = answer(l, io_now_ns() + ANSWER_TIMEOUT_NS, PROTO_HELLO,
			   sizeof(struct proto_hello), p, e);
	if (r == 0 && (le32_load(p + offsetof(struct proto_hello, magic)) !=
			       PROTO_MAGIC ||
		       le32_load(p + offsetof(struct proto_hello, version)) !=
			       PROTO_VERSION))
		r = err_set(e, -EPROTO,
			    "fetcher speaks another version of the protocol");
	if (r < 0)
		link_detach(l);
	return r;
}

/* What OPEN says. Return: heap, NULL where that is but the name */
static char *open_text(const struct layer *layer, bool look)
{
	char digest[DIGEST_STR_BYTES];
	char *s = NULL;
	int n = 0;

	if (layer->kind != PROTO_BLOB_REGISTRY)
		return NULL;
	if (layer->has_trace)
		n = asprintf(&s, "%s\n%s", layer->open_name,
			     digest_str(&layer->trace, digest));
	else if (look && layer->has_manifest)
		n = asprintf(&s, "%s\n%c%s", layer->open_name, PROTO_OPEN_IMAGE,
			     digest_str(&layer->manifest, digest));
	return n >= 0 ? s : NULL;
}

int link_open(struct link *l, const struct layer *layer, bool look,
	      struct err *e)
{
	uint16_t flags = layer->plain_http ? PROTO_OPEN_PLAIN_HTTP : 0;
	struct proto_open m = {
		.h = header(PROTO_OPEN, 1, 0),
		.kind = htole32((uint32_t)layer->kind),
		.size = htole64(layer->size),
	};
	CLEANUP_FREE char *named = open_text(layer, look);
	uint8_t p[PROTO_PACKET_MAX];
	int r;

	m.h.flags = htole16(flags);
	r = send_text(l, &m.h, sizeof(m),
		      named != NULL ? named : layer->open_name, &layer->blob_fd,
		      layer->kind == PROTO_BLOB_FD ? 1 : 0);
	if (r < 0)
		return err_set(e, r, "fetcher: %s", err_name(r));
	r = answer(l, io_now_ns() + ANSWER_TIMEOUT_NS, PROTO_OPENED,
		   sizeof(struct proto_opened), p, e);
	if (r < 0)
		return r;
	l->handle = le32_load(p + offsetof(struct proto_opened, handle));
	if ((le16_load(p + offsetof(struct proto_hdr, flags)) &
	     PROTO_OPENED_HINTS) != 0)
		l->hints.state = layer->has_trace ? LINK_HINTS_COMING
						  : LINK_HINTS_PERHAPS;
	return 0;
}

void link_take_hints(struct link *l, struct link *fresh)
{
	struct link_hints *h = &l->hints;

	if (h->state != LINK_HINTS_THERE) {
		free(h->v);
		*h = fresh->hints;
		fresh->hints = (struct link_hints){0};
	}
	free(TAKE_PTR(fresh->hints.v));
}

int link_resolve(struct link *l, const char *reference, bool plain_http,
		 struct buf *ret_json, struct err *e)
{
	struct proto_resolve m = {
		.h = header(PROTO_RESOLVE, 1, 0),
		.arena_len = htole64(MANIFEST_BYTES_MAX),
		.deadline_ms = htole32(FETCH_TIMEOUT_MS),
	};
	uint8_t p[PROTO_PACKET_MAX];
	uint64_t got;
	int r;

	m.h.flags = htole16(plain_http ? PROTO_RESOLVE_PLAIN_HTTP : 0);
	r = send_text(l, &m.h, sizeof(m), reference, NULL, 0);
	if (r < 0)
		return err_set(e, r, "fetcher: %s", err_name(r));
	r = answer(l, io_now_ns() + FETCH_TIMEOUT_NS, PROTO_DATA,
		   sizeof(struct proto_data), p, e);
	if (r < 0)
		return r;
	got = le64_load(p + offsetof(struct proto_data, got));
	if (got > MANIFEST_BYTES_MAX)
		return err_set(e, -EPROTO, "fetcher gave a wrong answer");
	r = buf_add(ret_json, l->arena, (size_t)got);
	return r < 0 ? err_set(e, r, "manifest: %s", err_name(r)) : 0;
}

static bool unit_used(const struct link *l, uint64_t i)
{
	return (l->used[i / 64] >> (i % 64) & 1) != 0;
}

bool link_alloc(struct link *l, uint64_t len, uint64_t *ret_off)
{
	uint64_t want = (len + LINK_UNIT_BYTES - 1) / LINK_UNIT_BYTES;
	uint64_t run = 0;

	want = MAX(want, UINT64_C(1));
	for (uint64_t i = 0; i < LINK_UNITS; i++) {
		run = unit_used(l, i) ? 0 : run + 1;
		if (run < want)
			continue;
		for (uint64_t k = i + 1 - want; k <= i; k++)
			l->used[k / 64] |= UINT64_C(1) << (k % 64);
		*ret_off = (i + 1 - want) * LINK_UNIT_BYTES;
		return true;
	}
	return false;
}

void link_free(struct link *l, uint64_t off, uint64_t len)
{
	uint64_t first = off / LINK_UNIT_BYTES;
	uint64_t n = (len + LINK_UNIT_BYTES - 1) / LINK_UNIT_BYTES;

	n = MAX(n, UINT64_C(1));
	assert(checked_range(first, n, LINK_UNITS));
	for (uint64_t k = first; k < first + n; k++) {
		assert(unit_used(l, k));
		l->used[k / 64] &= ~(UINT64_C(1) << (k % 64));
	}
}

bool link_idle(const struct link *l)
{
	for (size_t i = 0; i < ARRAY_SIZE(l->used); i++) {
		if (l->used[i] != 0)
			return false;
	}
	return true;
}

void link_trim(struct link *l)
{
	assert(link_idle(l));
	(void)fallocate(l->arena_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			0, (off_t)LINK_ARENA_BYTES);
}

static int send_now(const struct link *l, const void *p, size_t n)
{
	if (l->sock < 0)
		return -EPIPE;
	return io_send_fds(l->sock, p, n, NULL, 0, MSG_DONTWAIT);
}

int link_send_read(const struct link *l, const struct link_read *rd)
{
	struct proto_read m = {
		.h = header(PROTO_READ, rd->id, sizeof(m)),
		.handle = htole32(l->handle),
		.class_ = htole32(rd->class_),
		.off = htole64(rd->off),
		.len = htole64(rd->len),
		.arena_off = htole64(rd->arena_off),
		.deadline_ms = htole32(rd->deadline_ms),
	};

	m.h.flags = htole16(rd->flags);
	return send_now(l, &m, sizeof(m));
}

int link_send_cancel(const struct link *l, uint64_t id)
{
	struct proto_cancel m = {
		.h = header(PROTO_CANCEL, id, sizeof(m)),
	};

	return send_now(l, &m, sizeof(m));
}

int link_send_prio(const struct link *l, uint64_t id, uint8_t class_)
{
	struct proto_prio m = {
		.h = header(PROTO_PRIO, 0, sizeof(m)),
		.read_id = htole64(id),
		.class_ = htole32(class_),
	};

	return send_now(l, &m, sizeof(m));
}

static int hints_room(struct link_hints *h, size_t n)
{
	size_t cap = MAX(h->cap * 2, h->n + n);
	struct layer_range *v;

	if (n > PROTO_HINTS_MAX - h->n)
		return -EPROTO;
	if (h->n + n <= h->cap)
		return 0;
	v = realloc(h->v, cap * sizeof(*v));
	if (v == NULL)
		return -ENOMEM;
	h->v = v;
	h->cap = cap;
	return 0;
}

/* Takes in what a HINT says. Return: 0, -EPROTO */
static int parse_hint(struct link_hints *h, const uint8_t *p, size_t n)
{
	struct rd r = rd_init(p, n);
	unsigned flags;
	uint32_t count;

	(void)rd_u16(&r);
	flags = rd_u16(&r);
	(void)rd_bytes(&r, offsetof(struct proto_hint, n) - 4);
	count = rd_u32(&r);
	if (r.bad || count > PROTO_HINT_RANGES_MAX ||
	    (n - r.off) / sizeof(struct proto_hint_range) < count)
		return -EPROTO;
	/* Those of a connection that came after all was known. */
	if (h->state != LINK_HINTS_COMING && h->state != LINK_HINTS_PERHAPS)
		return 0;
	/* Without memory there are fewer hints. */
	if (hints_room(h, count) == -EPROTO)
		return -EPROTO;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t off = rd_u64(&r), len = rd_u64(&r);

		if (!checked_range(off, len, INT64_MAX))
			return -EPROTO;
		if (h->n < h->cap)
			h->v[h->n++] = (struct layer_range){off, len};
	}
	if ((flags & PROTO_HINT_NONE) != 0)
		h->state = LINK_HINTS_NONE;
	else if ((flags & PROTO_HINT_END) != 0)
		h->state = LINK_HINTS_THERE;
	return 0;
}

int link_recv(struct link *l, struct link_event *ret, int flags)
{
	uint8_t p[PROTO_PACKET_MAX];
	ssize_t n = recv_packet(l->sock, p, sizeof(p), flags);

	if (n <= 0)
		return (int)n;
	*ret = (struct link_event){
		.type = le16_load(p + offsetof(struct proto_hdr, type)),
		.id = le64_load(p + offsetof(struct proto_hdr, id)),
	};
	switch (ret->type) {
	case PROTO_DATA:
		if ((size_t)n < sizeof(struct proto_data))
			return -EPROTO;
		ret->end = (le16_load(p + offsetof(struct proto_hdr, flags)) &
			    PROTO_DATA_END) != 0;
		ret->got = le64_load(p + offsetof(struct proto_data, got));
		ret->off = le64_load(p + offsetof(struct proto_data, off));
		ret->blob_size =
			le64_load(p + offsetof(struct proto_data, blob_size));
		return 1;
	case PROTO_FAILED:
		ret->code = parse_failed(p, (size_t)n, ret->text,
					 sizeof(ret->text));
		return ret->code == -EPROTO ? -EPROTO : 1;
	case PROTO_HINT:
		return parse_hint(&l->hints, p, (size_t)n) < 0 ? -EPROTO : 1;
	default:
		return -EPROTO;
	}
}

int link_fetch(struct link *l, bool suffix, uint64_t off, uint64_t len,
	       uint64_t arena_off, struct link_event *ret, struct err *e)
{
	const struct link_read rd = {
		.id = 2,
		.off = off,
		.len = len,
		.arena_off = arena_off,
		.flags = PROTO_READ_ONE | (suffix ? PROTO_READ_SUFFIX : 0),
		.class_ = PROTO_CLASS_DEMAND,
		.deadline_ms = FETCH_TIMEOUT_MS,
	};
	uint64_t deadline_ns = io_now_ns() + FETCH_TIMEOUT_NS;
	int r = link_send_read(l, &rd);

	if (r < 0)
		return err_set(e, r, "fetcher: %s", err_name(r));
	for (;;) {
		r = wait_readable(l->sock, deadline_ns);
		if (r < 0)
			return err_set(e, r, "fetcher does not answer");
		r = link_recv(l, ret, 0);
		if (r <= 0)
			return err_set(e, r < 0 ? r : -ECONNRESET,
				       "fetcher closed the connection");
		if (ret->id != rd.id)
			continue;
		if (ret->type == PROTO_FAILED)
			return err_set(e, ret->code, "%s", ret->text);
		if (ret->got > len)
			return err_set(e, -EPROTO, "fetcher gave too much");
		if (ret->end)
			return 0;
	}
}
