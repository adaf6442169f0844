/* SPDX-License-Identifier: Apache-2.0 */
/* What clients send, as the fetcher checks it. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"
#include "common/rd.h"
#include "daemon/fetcher/wire.h"

#define ARENA MIB(1)

static char text[PROTO_TEXT_MAX + 1];

struct pkt {
	uint8_t b[PROTO_PACKET_MAX];
	size_t n;
};

static void start(struct pkt *p, unsigned type, unsigned flags, uint64_t id)
{
	memset(p, 0, sizeof(*p));
	le16_store(p->b, (uint16_t)type);
	le16_store(p->b + 2, (uint16_t)flags);
	le64_store(p->b + 8, id);
	p->n = 16;
}

static void u32(struct pkt *p, uint32_t v)
{
	le32_store(p->b + p->n, v);
	p->n += 4;
}

static void u64(struct pkt *p, uint64_t v)
{
	le64_store(p->b + p->n, v);
	p->n += 8;
}

static void str(struct pkt *p, const char *s)
{
	memcpy(p->b + p->n, s, strlen(s));
	p->n += strlen(s);
}

static int parse(struct pkt *p, unsigned n_fds, struct wire_msg *m,
		 struct err *e)
{
	le32_store(p->b + 4, (uint32_t)p->n);
	return wire_parse(p->b, p->n, n_fds, ARENA, text, m, e);
}

static void make_hello(struct pkt *p)
{
	start(p, PROTO_HELLO, 0, 0);
	u32(p, PROTO_MAGIC);
	u32(p, PROTO_VERSION);
	u64(p, ARENA);
}

static void make_open(struct pkt *p)
{
	start(p, PROTO_OPEN, 0, 1);
	u32(p, PROTO_BLOB_REGISTRY);
	u32(p, 0);
	u64(p, 99);
	str(p, "a.io/x@sha256:0");
}

static void make_read(struct pkt *p)
{
	start(p, PROTO_READ, 0, 7);
	u32(p, 3);
	u32(p, PROTO_CLASS_PREFETCH);
	u64(p, 1000);
	u64(p, 4096);
	u64(p, ARENA - 4096);
	u32(p, 5);
	u32(p, 0);
}

static void make_warm(struct pkt *p)
{
	start(p, PROTO_WARM, PROTO_WARM_PLAIN_HTTP, 8);
	u32(p, 65536);
	u32(p, 1000);
	str(p, "a.io/x@sha256:0\na.io/x@sha256:1");
}

static void test_good_packets(void **state)
{
	struct wire_msg m;
	struct pkt p;

	(void)state;
	make_hello(&p);
	assert_int_equal(parse(&p, 1, &m, NULL), 0);
	assert_int_equal(m.size, ARENA);
	make_open(&p);
	assert_int_equal(parse(&p, 0, &m, NULL), 0);
	assert_string_equal(m.text, "a.io/x@sha256:0");
	assert_int_equal(m.size, 99);
	make_read(&p);
	assert_int_equal(parse(&p, 0, &m, NULL), 0);
	assert_int_equal(m.handle, 3);
	assert_int_equal(m.class_, PROTO_CLASS_PREFETCH);
	assert_int_equal(m.off, 1000);
	assert_int_equal(m.len, 4096);
	assert_int_equal(m.deadline_ms, 5);
	start(&p, PROTO_CANCEL, 0, 9);
	assert_int_equal(parse(&p, 0, &m, NULL), 0);
	start(&p, PROTO_PRIO, 0, 0);
	u64(&p, 7);
	u32(&p, 0);
	u32(&p, 0);
	assert_int_equal(parse(&p, 0, &m, NULL), 0);
	assert_int_equal(m.target, 7);
	start(&p, PROTO_CLOSE, 0, 0);
	u32(&p, 3);
	u32(&p, 0);
	assert_int_equal(parse(&p, 0, &m, NULL), 0);
	start(&p, PROTO_STATUS, 0, 4);
	u64(&p, 0);
	u64(&p, ARENA);
	assert_int_equal(parse(&p, 0, &m, NULL), 0);
	start(&p, PROTO_RESOLVE, PROTO_RESOLVE_PLAIN_HTTP, 4);
	u64(&p, 0);
	u64(&p, 10);
	u32(&p, 0);
	u32(&p, 0);
	str(&p, "a.io/x");
	assert_int_equal(parse(&p, 0, &m, NULL), 0);
	assert_int_equal(m.arena_len, 10);
	make_warm(&p);
	assert_int_equal(parse(&p, 0, &m, NULL), 0);
	assert_int_equal(m.tail_bytes, 65536);
	assert_int_equal(m.hold_ms, 1000);
	assert_string_equal(m.text, "a.io/x@sha256:0\na.io/x@sha256:1");
	/* Who only sends that needs no arena. */
	make_hello(&p);
	le64_store(p.b + 24, 0);
	assert_int_equal(parse(&p, 0, &m, NULL), 0);
	assert_int_equal(m.size, 0);
}

/* WARM, byte by byte: what other programs may rely on. */
static void test_warm_golden(void **state)
{
	static const uint8_t want[] = {
		9,   0,   1,   0,   39,  0,   0,   0,   8,   0,   0,   0,   0,
		0,   0,   0,   0,   0,   1,   0,   232, 3,   0,   0,   'a', '.',
		'i', 'o', '/', 'x', '@', 's', 'h', 'a', '2', '5', '6', ':', '0',
	};
	struct wire_msg m;

	(void)state;
	assert_int_equal(PROTO_VERSION, 5);
	assert_int_equal(wire_parse(want, sizeof(want), 0, 0, text, &m, NULL),
			 0);
	assert_int_equal(m.type, PROTO_WARM);
	assert_int_equal(m.flags, PROTO_WARM_PLAIN_HTTP);
	assert_int_equal(m.id, 8);
	assert_int_equal(m.tail_bytes, 65536);
	assert_int_equal(m.hold_ms, 1000);
	assert_string_equal(m.text, "a.io/x@sha256:0");
}

/* HINT, byte by byte. */
static void test_hint_golden(void **state)
{
	static const uint8_t want[] = {
		19, 0, 1, 0, 56, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0,
		0,  2, 0, 0, 0,  0, 1, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0,
		0,  0, 0, 0, 0,  0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0,
	};
	const struct proto_hint_range v[] = {{256, 9}, {0, 65537}};
	uint8_t b[PROTO_PACKET_MAX];

	(void)state;
	assert_int_equal(wire_put_hint(b, 7, PROTO_HINT_END, 4, v, 2),
			 sizeof(want));
	assert_memory_equal(b, want, sizeof(want));
}

/* From version 3 on the name of a blob may have that of a trace behind it. */
static void test_open_with_a_trace(void **state)
{
	struct wire_msg m;
	struct err e = {0};
	struct pkt p;

	(void)state;
	make_open(&p);
	str(&p, "\nsha256:1");
	assert_int_equal(parse(&p, 0, &m, NULL), 0);
	assert_string_equal(m.text, "a.io/x@sha256:0\nsha256:1");
	str(&p, "\nsha256:1");
	assert_int_equal(parse(&p, 0, &m, &e), -EPROTO);
	make_open(&p);
	le32_store(p.b + 16, PROTO_BLOB_URL);
	str(&p, "\nsha256:1");
	assert_int_equal(parse(&p, 0, &m, &e), -EPROTO);
	assert_non_null(strstr(e.text, "control character"));
}

static void test_warm_lines(void **state)
{
	struct wire_msg m;
	struct err e = {0};
	struct pkt p;

	(void)state;
	make_warm(&p);
	for (unsigned i = 2; i < PROTO_WARM_BLOBS_MAX; i++)
		str(&p, "\na");
	assert_int_equal(parse(&p, 0, &m, NULL), 0);
	str(&p, "\na");
	assert_int_equal(parse(&p, 0, &m, &e), -EPROTO);
	assert_non_null(strstr(e.text, "control character"));
}

/* One field of a READ, OPEN or HELLO made wrong. */
static void spoiled(void (*make)(struct pkt *), size_t at, unsigned size,
		    uint64_t v, unsigned n_fds, const char *want)
{
	struct wire_msg m;
	struct err e = {0};
	struct pkt p;

	make(&p);
	if (size == 8)
		le64_store(p.b + at, v);
	else if (size == 4)
		le32_store(p.b + at, (uint32_t)v);
	else if (size == 2)
		le16_store(p.b + at, (uint16_t)v);
	else if (size == 1)
		p.b[at] = (uint8_t)v;
	assert_int_equal(parse(&p, n_fds, &m, &e), -EPROTO);
	if (strstr(e.text, want) == NULL)
		fail_msg("want %s: %s", want, e.text);
}

static void test_bad_fields(void **state)
{
	(void)state;
	spoiled(make_read, 0, 2, 0, 0, "unknown type");
	spoiled(make_read, 0, 2, PROTO_DATA, 0, "unknown type");
	spoiled(make_read, 0, 2, 65535, 0, "unknown type");
	spoiled(make_read, 2, 2, 8, 0, "unknown flag");
	spoiled(make_read, 8, 8, 0, 0, "request id");
	spoiled(make_read, 20, 4, PROTO_CLASS_N_, 0, "unknown class");
	spoiled(make_read, 24, 8, UINT64_MAX, 0, "bad range");
	spoiled(make_read, 32, 8, 0, 0, "bad range");
	spoiled(make_read, 32, 8, PROTO_READ_BYTES_MAX + 1, 0, "bad range");
	spoiled(make_read, 32, 8, 4097, 0, "outside the arena");
	spoiled(make_read, 40, 8, UINT64_MAX, 0, "outside the arena");
	spoiled(make_read, 52, 4, 1, 0, "reserved");
	spoiled(make_read, 2, 2, PROTO_READ_SUFFIX, 0, "offset of a suffix");
	spoiled(make_read, 0, 0, 0, 1, "descriptors");
	spoiled(make_open, 16, 4, 0, 0, "kind");
	spoiled(make_open, 16, 4, 4, 0, "kind");
	spoiled(make_open, 16, 4, PROTO_BLOB_FD, 0, "descriptors");
	spoiled(make_open, 0, 0, 0, 1, "descriptors");
	spoiled(make_open, 20, 4, 1, 0, "reserved");
	spoiled(make_open, 24, 8, UINT64_MAX, 0, "blob size");
	spoiled(make_open, 32, 1, 0, 0, "control character");
	spoiled(make_open, 32, 1, 13, 0, "control character");
	spoiled(make_hello, 16, 4, 0, 1, "magic");
	spoiled(make_hello, 24, 8, 0, 1, "descriptors");
	spoiled(make_hello, 24, 8, PROTO_ARENA_BYTES_MAX + 1, 1, "arena size");
	spoiled(make_hello, 8, 8, 1, 1, "request id");
	spoiled(make_hello, 0, 0, 0, 0, "descriptors");
	spoiled(make_warm, 2, 2, 2, 0, "unknown flag");
	spoiled(make_warm, 8, 8, 0, 0, "request id");
	spoiled(make_warm, 16, 4, PROTO_WARM_TAIL_BYTES_MAX + 1, 0, "too much");
	spoiled(make_warm, 20, 4, PROTO_WARM_HOLD_MS_MAX + 1, 0, "too much");
	spoiled(make_warm, 24, 1, 0, 0, "control character");
	spoiled(make_warm, 0, 0, 0, 1, "descriptors");
}

static void test_bad_lengths(void **state)
{
	void (*const make[])(struct pkt *) = {make_hello, make_open, make_read,
					      make_warm};
	struct wire_msg m;
	struct pkt p;

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(make); k++) {
		size_t n;

		make[k](&p);
		n = p.n;
		/* Cut anywhere, whatever the header claims. */
		for (size_t i = 0; i < n; i++) {
			struct err e = {0};

			/* A shorter text is a text. */
			if ((k == 1 && i > sizeof(struct proto_open)) ||
			    (k == 3 && i > sizeof(struct proto_warm)))
				break;
			le32_store(p.b + 4, (uint32_t)i);
			assert_int_equal(
				wire_parse(p.b, i, k == 0, ARENA, text, &m, &e),
				-EPROTO);
			le32_store(p.b + 4, (uint32_t)n);
			assert_int_equal(
				wire_parse(p.b, i, k == 0, ARENA, text, &m, &e),
				-EPROTO);
		}
	}
	make_open(&p);
	while (p.n <= sizeof(struct proto_open) + URL_BYTES_MAX)
		p.b[p.n++] = 'x';
	assert_int_equal(parse(&p, 0, &m, NULL), -EPROTO);
	p.n--;
	assert_int_equal(parse(&p, 0, &m, NULL), 0);
}

static void test_flipped_bits(void **state)
{
	void (*const make[])(struct pkt *) = {make_hello, make_open, make_read,
					      make_warm};

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(make); k++) {
		struct wire_msg m;
		struct pkt p;

		make[k](&p);
		le32_store(p.b + 4, (uint32_t)p.n);
		for (size_t i = 0; i < p.n * 8; i++) {
			p.b[i / 8] = (uint8_t)(p.b[i / 8] ^ (1u << (i % 8)));
			if (wire_parse(p.b, p.n, k == 0, ARENA, text, &m,
				       NULL) == 0 &&
			    m.type == PROTO_READ)
				assert_true(m.len <= ARENA &&
					    m.arena_off <= ARENA - m.len);
			p.b[i / 8] = (uint8_t)(p.b[i / 8] ^ (1u << (i % 8)));
		}
	}
}

static void test_answers(void **state)
{
	uint8_t b[PROTO_PACKET_MAX];
	size_t n;

	(void)state;
	n = wire_put_data(b, 5, PROTO_DATA_END, 10, 20, 30);
	assert_int_equal(n, sizeof(struct proto_data));
	assert_int_equal(le16_load(b), PROTO_DATA);
	assert_int_equal(le16_load(b + 2), PROTO_DATA_END);
	assert_int_equal(le32_load(b + 4), n);
	assert_int_equal(le64_load(b + 8), 5);
	assert_int_equal(le64_load(b + 24), 20);
	n = wire_put_failed(b, 6, -EACCES, "why");
	assert_int_equal(n, sizeof(struct proto_failed) + 3);
	assert_int_equal(le32_load(b + 16), EACCES);
	assert_memory_equal(b + n - 3, "why", 3);
	n = wire_put_opened(b, 7, PROTO_OPENED_HINTS, 4);
	assert_int_equal(le16_load(b + 2), PROTO_OPENED_HINTS);
	assert_int_equal(le32_load(b + 16), 4);
	n = wire_put_hello(b, PROTO_VERSION_MIN);
	assert_int_equal(n, sizeof(struct proto_hello));
	assert_int_equal(le32_load(b + 20), PROTO_VERSION_MIN);
	assert_int_equal(le32_load(b + 16), PROTO_MAGIC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_packets),
		cmocka_unit_test(test_warm_golden),
		cmocka_unit_test(test_hint_golden),
		cmocka_unit_test(test_open_with_a_trace),
		cmocka_unit_test(test_warm_lines),
		cmocka_unit_test(test_bad_fields),
		cmocka_unit_test(test_bad_lengths),
		cmocka_unit_test(test_flipped_bits),
		cmocka_unit_test(test_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
