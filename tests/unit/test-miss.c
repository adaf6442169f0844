/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The miss engine against a fetcher that the test plays: who is fetched when,
 * once for everybody, and what happens when it fails, lies, dies or is late.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/proto_hint.h"
#include "tests/unit/misslab.h"

struct read_req {
	uint64_t id;
	uint64_t off;
	uint64_t len;
	uint64_t arena_off;
	uint32_t class_;
	uint16_t flags;
};

struct fill_arg {
	struct lab *l;
	unsigned i;
};

static void *fill_thread(void *arg)
{
	struct fill_arg *a = arg;

	miss_fill_loop(&a->l->m, &a->l->fills[a->i]);
	free(a);
	return NULL;
}

static void run(struct lab *l)
{
	miss_start(&l->m);
	for (unsigned i = 0; i < THREADS; i++) {
		struct fill_arg *a = malloc(sizeof(*a));

		*a = (struct fill_arg){l, i};
		assert_int_equal(
			pthread_create(&l->threads[i], NULL, fill_thread, a),
			0);
	}
}

static void finish(struct lab *l)
{
	miss_stop(&l->m);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(l->threads[i], NULL);
		fill_done(&l->fills[i]);
	}
	lane_done(&l->lane);
	miss_free(&l->m);
	munmap(l->present_map, (size_t)present_file_bytes(N_CHUNKS));
	munmap(l->st, sizeof(*l->st));
	close(l->cache_fd);
	if (l->far >= 0)
		close(l->far);
	free(l->data);
	free(l->blob);
	free(l->table);
	free(l->got);
	pthread_cond_destroy(&l->cond);
	pthread_mutex_destroy(&l->lock);
}

/* A read of @len bytes at @off of the file. */
static uint64_t read_at(struct lab *l, uint64_t off, size_t len)
{
	struct waiter *w = calloc(1, sizeof(*w));
	uint64_t last, id;

	w->id = miss_next_id(&l->m);
	id = w->id;
	w->image_off = off + CHUNK;
	w->size = len;
	assert_int_equal(chunks_find(&l->ch, w->image_off, &w->first), 0);
	assert_int_equal(chunks_find(&l->ch, w->image_off + len - 1, &last), 0);
	w->end = last + 1;
	miss_wait(&l->m, w);
	return id;
}

static bool readable(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms) > 0;
}

/* What the engine asks next; packets of other types are put into *ret_type. */
static uint16_t next_packet(struct lab *l, struct read_req *ret)
{
	uint8_t p[256];
	ssize_t n;
	struct proto_read m;

	assert_true(readable(l->far, WAIT_MS));
	n = recv(l->far, p, sizeof(p), 0);
	assert_true(n >= (ssize_t)sizeof(struct proto_hdr));
	memset(&m, 0, sizeof(m));
	memcpy(&m, p, MIN((size_t)n, sizeof(m)));
	*ret = (struct read_req){
		.id = m.h.id,
		.flags = m.h.flags,
		.off = m.off,
		.len = m.len,
		.arena_off = m.arena_off,
		.class_ = m.class_,
	};
	return m.h.type;
}

static struct read_req next_read(struct lab *l)
{
	struct read_req r;

	assert_int_equal(next_packet(l, &r), PROTO_READ);
	assert_true(r.off + r.len <= l->blob_len);
	return r;
}

static void nothing_asked(struct lab *l)
{
	assert_false(readable(l->far, 50));
}

static void send_data(struct lab *l, uint64_t id, uint64_t got, bool end)
{
	const struct proto_data d = {
		.h = {.type = PROTO_DATA,
		      .flags = end ? PROTO_DATA_END : 0,
		      .len = sizeof(d),
		      .id = id},
		.got = got,
		.blob_size = l->blob_len,
	};

	assert_int_equal(send(l->far, &d, sizeof(d), 0), sizeof(d));
}

static void answer(struct lab *l, const struct read_req *r)
{
	memcpy(l->arena + r->arena_off, l->blob + r->off, r->len);
	send_data(l, r->id, r->len, true);
}

static void answer_wrong(struct lab *l, const struct read_req *r)
{
	memcpy(l->arena + r->arena_off, l->blob + r->off, r->len);
	for (uint64_t i = r->len / 2; i < r->len; i++)
		l->arena[r->arena_off + i] ^= 0x5a;
	send_data(l, r->id, r->len, true);
}

static void refuse(struct lab *l, const struct read_req *r, int code)
{
	const struct proto_failed f = {
		.h = {.type = PROTO_FAILED, .len = sizeof(f), .id = r->id},
		.code = (uint32_t)code,
	};

	assert_int_equal(send(l->far, &f, sizeof(f), 0), sizeof(f));
}

static void same(struct lab *l, uint64_t off, size_t len)
{
	assert_memory_equal(l->got + off, l->data + off, len);
}

/* ---- the tests --------------------------------------------------------- */

static void test_one_fetch_for_many_readers(void **state)
{
	struct lab l;
	struct read_req r;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	run(&l);
	for (unsigned i = 0; i < 10; i++)
		(void)read_at(&l, 5 * CHUNK + i * 100, 1000);
	r = next_read(&l);
	assert_int_equal(r.class_, PROTO_CLASS_DEMAND);
	nothing_asked(&l);
	answer(&l, &r);
	await(&l, 10, 0);
	same(&l, 5 * CHUNK, 1900);
	assert_int_equal(present_count(&l.pr), 1);
	finish(&l);
}

static void test_member_of_several_chunks_fills_them_all(void **state)
{
	struct lab l;
	struct read_req r;

	(void)state;
	start(&l, 4, -1, WAIT_MS);
	run(&l);
	(void)read_at(&l, 6 * CHUNK, CHUNK);
	r = next_read(&l);
	answer(&l, &r);
	await(&l, 1, 0);
	same(&l, 6 * CHUNK, CHUNK);
	assert_true(present_test_range(&l.pr, 4, 4));
	finish(&l);
}

static void test_members_are_answered_before_their_run_has_ended(void **state)
{
	struct lab l;
	struct read_req r;
	struct chunk c;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	run(&l);
	(void)read_at(&l, 0, 8 * CHUNK);
	r = next_read(&l);
	(void)read_at(&l, 0, 100);
	nothing_asked(&l);
	memcpy(l.arena + r.arena_off, l.blob + r.off, r.len);
	chunks_get(&l.ch, 0, &c);
	send_data(&l, r.id, c.blob_len, false);
	await(&l, 1, 0);
	send_data(&l, r.id, r.len, true);
	await(&l, 2, 0);
	same(&l, 0, 8 * CHUNK);
	finish(&l);
}

static void test_corrupt_twice_is_an_error_and_not_cached(void **state)
{
	struct lab l;
	struct read_req r;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	run(&l);
	(void)read_at(&l, 3 * CHUNK, CHUNK);
	r = next_read(&l);
	answer_wrong(&l, &r);
	r = next_read(&l);
	answer_wrong(&l, &r);
	await(&l, 0, 1);
	assert_int_equal(l.last_error, -EIO);
	assert_int_equal(present_count(&l.pr), 0);
	/* The next reader gets a try of his own. */
	(void)read_at(&l, 3 * CHUNK, CHUNK);
	r = next_read(&l);
	answer(&l, &r);
	await(&l, 1, 1);
	same(&l, 3 * CHUNK, CHUNK);
	finish(&l);
}

/* A read over many chunks is one request. Members that are decoded together fail
 * each for itself, and only what failed is asked for again, from elsewhere. */
static void test_one_of_many_is_corrupt(void **state)
{
	struct chunk c;
	struct lab l;
	struct read_req r;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	run(&l);
	(void)read_at(&l, 8 * CHUNK, 12 * CHUNK);
	r = next_read(&l);
	assert_int_equal(r.flags, 0);
	(void)read_at(&l, 9 * CHUNK, CHUNK);
	nothing_asked(&l);
	chunks_get(&l.ch, 12, &c);
	memcpy(l.arena + r.arena_off, l.blob + r.off, r.len);
	l.arena[r.arena_off + (c.blob_off - r.off) + c.blob_len / 2] ^= 1;
	send_data(&l, r.id, r.len, true);
	await(&l, 1, 0);
	same(&l, 9 * CHUNK, CHUNK);
	r = next_read(&l);
	assert_int_equal(r.flags, PROTO_READ_OTHER_SOURCE);
	assert_int_equal(r.off, c.blob_off);
	assert_int_equal(r.len, c.blob_len);
	assert_int_equal(stats_get(&l.st->errors_verify), 1);
	answer(&l, &r);
	await(&l, 2, 0);
	same(&l, 8 * CHUNK, 12 * CHUNK);
	finish(&l);
}

static void test_failed_fetch_is_an_error(void **state)
{
	struct lab l;
	struct read_req r;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	run(&l);
	(void)read_at(&l, 3 * CHUNK, CHUNK);
	r = next_read(&l);
	refuse(&l, &r, EACCES);
	await(&l, 0, 1);
	assert_int_equal(l.last_error, -EIO);
	assert_int_equal(stats_get(&l.st->errors_fetch), 1);
	finish(&l);
}

static void test_short_blob_is_an_error(void **state)
{
	struct lab l;
	struct read_req r;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	run(&l);
	(void)read_at(&l, 3 * CHUNK, CHUNK);
	r = next_read(&l);
	send_data(&l, r.id, r.len - 1, true);
	await(&l, 0, 1);
	finish(&l);
}

static void test_lost_fetcher_goes_on_where_it_was(void **state)
{
	struct lab l;
	struct read_req r, again;
	struct link fresh;
	int sv[2];

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	run(&l);
	(void)read_at(&l, 0, 8 * CHUNK);
	r = next_read(&l);
	memcpy(l.arena + r.arena_off, l.blob + r.off, 1000);
	send_data(&l, r.id, 1000, false);
	/* Its word must have been heard before the line is cut. */
	while (stats_get(&l.st->fetched_bytes) < 1000)
		sched_yield();
	close(l.far);
	while (!miss_link_wanted(&l.m))
		sched_yield();
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
	l.far = sv[1];
	fresh = l.m.link;
	fresh.sock = sv[0];
	fresh.handle = 2;
	miss_link_up(&l.m, &fresh);
	again = next_read(&l);
	assert_int_equal(again.off, r.off + 1000);
	assert_int_equal(again.len, r.len - 1000);
	answer(&l, &again);
	await(&l, 1, 0);
	same(&l, 0, 8 * CHUNK);
	finish(&l);
}

static void test_deadline_and_late_answer(void **state)
{
	struct lab l;
	struct read_req r;
	uint64_t before_ns = io_now_ns();

	(void)state;
	start(&l, 1, -1, 5000);
	run(&l);
	(void)read_at(&l, 0, CHUNK);
	r = next_read(&l);
	assert_true(miss_tick(&l.m, &l.lane, before_ns) > 0);
	await(&l, 0, 0);
	(void)miss_tick(&l.m, &l.lane, io_now_ns() + 6 * NSEC_PER_SEC);
	await(&l, 0, 1);
	assert_int_equal(l.last_error, -ETIMEDOUT);
	/* Late is still of use to the next one. */
	answer(&l, &r);
	l.lane_optional = true;
	(void)read_at(&l, 0, CHUNK);
	await(&l, 1, 1);
	same(&l, 0, CHUNK);
	finish(&l);
}

static void test_interrupt_gives_up_the_wait_not_the_fetch(void **state)
{
	struct lab l;
	struct read_req r;
	uint64_t id, before_ns = io_now_ns();

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	run(&l);
	id = read_at(&l, 0, CHUNK);
	r = next_read(&l);
	miss_interrupt(&l.m, id);
	(void)miss_tick(&l.m, &l.lane, before_ns + NSEC_PER_SEC);
	await(&l, 0, 0);
	(void)miss_tick(&l.m, &l.lane, io_now_ns() + 11 * NSEC_PER_SEC);
	await(&l, 0, 1);
	assert_int_equal(l.last_error, -EINTR);
	answer(&l, &r);
	while (present_count(&l.pr) == 0)
		sched_yield();
	l.lane_optional = true;
	(void)read_at(&l, 0, CHUNK);
	await(&l, 1, 1);
	finish(&l);
}

static void test_interrupt_before_the_wait(void **state)
{
	struct lab l;
	uint64_t id;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	run(&l);
	id = miss_next_id(&l.m) + 1;
	miss_interrupt(&l.m, id);
	assert_int_equal(read_at(&l, 0, CHUNK), id);
	(void)miss_tick(&l.m, &l.lane, io_now_ns() + 11 * NSEC_PER_SEC);
	await(&l, 0, 1);
	assert_int_equal(l.last_error, -EINTR);
	finish(&l);
}

/* A signal that does not kill: what was asked for comes all the same. */
static void test_interrupted_and_answered(void **state)
{
	struct lab l;
	struct read_req r;
	uint64_t id;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	run(&l);
	id = read_at(&l, 0, CHUNK);
	r = next_read(&l);
	miss_interrupt(&l.m, id);
	answer(&l, &r);
	await(&l, 1, 0);
	same(&l, 0, CHUNK);
	finish(&l);
}

static void test_full_disk_is_served_from_memory(void **state)
{
	struct lab l;
	struct read_req r;

	(void)state;
	start(&l, 1, open("/dev/full", O_RDWR | O_CLOEXEC), WAIT_MS);
	run(&l);
	(void)read_at(&l, 2 * CHUNK + 5, 3 * CHUNK);
	r = next_read(&l);
	answer(&l, &r);
	await(&l, 1, 0);
	same(&l, 2 * CHUNK + 5, 3 * CHUNK);
	assert_int_equal(present_count(&l.pr), 0);
	assert_true(stats_get(&l.st->errors_disk) > 0);
	finish(&l);
}

static void test_background_fetches_all(void **state)
{
	uint8_t *p = malloc(SPAN);
	struct lab l;

	(void)state;
	assert_non_null(p);
	start(&l, 2, -1, WAIT_MS);
	l.m.nobackground = false;
	run(&l);
	while (present_count(&l.pr) < N_CHUNKS) {
		if (readable(l.far, 10)) {
			struct read_req r = next_read(&l);

			assert_int_equal(r.class_, PROTO_CLASS_BACKGROUND);
			answer(&l, &r);
		}
	}
	assert_int_equal(pread(l.cache_fd, p, SPAN, CHUNK), SPAN);
	assert_memory_equal(p, l.data, SPAN);
	free(p);
	finish(&l);
}

/* Makes chunks [@first, @end) 4 MiB each: one file. */
static void make_large(struct lab *l, unsigned first, unsigned end)
{
	struct chunks_header_le *h = (struct chunks_header_le *)l->table;
	struct chunk_le *c = (struct chunk_le *)(l->table + sizeof(*h));
	uint64_t at = le64toh(c[first].image_off);
	struct err e = {0};

	for (unsigned i = first; i < N_CHUNKS; i++) {
		if (i < end)
			c[i].len = htole64(MIB(4));
		else if (i == end)
			at += KIB(4); /* another file */
		c[i].image_off = htole64(at);
		at += le64toh(c[i].len);
	}
	h->image_bytes = htole64(at);
	assert_int_equal(chunks_open(&l->ch, l->table, l->table_len, &e), 0);
}

/* Which chunks are asked for by prefetch of them all: one bit each. */
static uint64_t prefetched(unsigned first, unsigned end)
{
	uint64_t asked = 0;
	struct lab l;

	start(&l, 1, -1, WAIT_MS);
	make_large(&l, first, end);
	l.m.pump_prefetch = true;
	l.ch.prefetch_end = l.blob_len;
	run(&l);
	while (asked >> (N_CHUNKS - 1) == 0) {
		struct read_req r = next_read(&l);

		assert_int_equal(r.class_, PROTO_CLASS_PREFETCH);
		for (uint64_t i = chunks_find_blob(&l.ch, r.off);
		     i < chunks_find_blob(&l.ch, r.off + r.len); i++)
			asked |= UINT64_C(1) << i;
	}
	finish(&l);
	return asked;
}

/* Of a file too large to be read whole by what starts, only the first chunk:
 * what is behind it does not wait for the rest. */
static void test_prefetch_passes_over_large_files(void **state)
{
	(void)state;
	assert_int_equal(prefetched(5, 21), ~UINT64_C(0x1fffc0));
	assert_int_equal(prefetched(5, 20), UINT64_MAX);
}

static void hint(struct lab *l, uint16_t flags, const uint64_t *v, uint32_t n)
{
	uint8_t p[PROTO_PACKET_MAX];
	const struct proto_hint m = {
		.h = {.type = PROTO_HINT,
		      .flags = flags,
		      .len = (uint32_t)(sizeof(m) + n * 16),
		      .id = 1},
		.handle = 1,
		.n = n,
	};

	memcpy(p, &m, sizeof(m));
	if (n > 0)
		memcpy(p + sizeof(m), v, n * sizeof(struct proto_hint_range));
	assert_int_equal(send(l->far, p, m.h.len, 0), m.h.len);
}

/* Chunks [first, end) of @l, as the range of a HINT. */
static void range_of(struct lab *l, uint64_t first, uint64_t end, uint64_t *ret)
{
	struct chunk a, z;

	chunks_get(&l->ch, first, &a);
	chunks_get(&l->ch, end - 1, &z);
	ret[0] = a.blob_off;
	ret[1] = z.blob_off + z.blob_len - a.blob_off;
}

static void expect_read(struct lab *l, uint32_t class_, uint64_t first,
			uint64_t end)
{
	struct read_req r = next_read(l);
	uint64_t want[2];

	range_of(l, first, end, want);
	assert_int_equal(r.class_, class_);
	assert_int_equal(r.off, want[0]);
	assert_int_equal(r.len, want[1]);
	answer(l, &r);
}

/* What a trace names is prefetched, in its order, and not what is prioritised. */
static void test_prefetch_by_trace(void **state)
{
	struct lab l;
	uint64_t v[6];

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	l.m.link.hints.state = LINK_HINTS_COMING;
	l.ch.prefetch_end = l.blob_len;
	run(&l);
	nothing_asked(&l); /* until it is known */
	range_of(&l, 40, 42, v);
	hint(&l, 0, v, 1);
	nothing_asked(&l);
	range_of(&l, 7, 8, v);
	range_of(&l, 41, 43, v + 2); /* a part of it is there by then */
	v[4] = INT64_MAX - 10;       /* nowhere */
	v[5] = 10;
	hint(&l, PROTO_HINT_END, v, 3);
	expect_read(&l, PROTO_CLASS_PREFETCH, 40, 42);
	expect_read(&l, PROTO_CLASS_PREFETCH, 7, 8);
	expect_read(&l, PROTO_CLASS_PREFETCH, 42, 43);
	nothing_asked(&l);
	assert_int_equal(stats_get(&l.st->trace_ranges), 4);
	finish(&l);
}

/* The background asks for little at a time while something starts: what that reads,
 * and the trace does not name, waits for less. */
static void test_background_behind_a_trace(void **state)
{
	struct read_req r;
	struct lab l;
	uint64_t v[2];

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	l.m.nobackground = false;
	l.m.link.hints.state = LINK_HINTS_COMING;
	run(&l);
	range_of(&l, 40, 42, v);
	hint(&l, PROTO_HINT_END, v, 1);
	expect_read(&l, PROTO_CLASS_PREFETCH, 40, 42);
	r = next_read(&l);
	assert_int_equal(r.class_, PROTO_CLASS_BACKGROUND);
	assert_in_range(r.len, 1, KIB(256));
	finish(&l);

	start(&l, 1, -1, WAIT_MS);
	l.m.nobackground = false;
	run(&l);
	r = next_read(&l);
	assert_int_equal(r.class_, PROTO_CLASS_BACKGROUND);
	assert_in_range(r.len, KIB(256) + 1, UINT64_MAX);
	finish(&l);
}

/* Readers do not wait for it to be known. */
static void test_readers_do_not_wait_for_a_trace(void **state)
{
	struct lab l;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	l.m.link.hints.state = LINK_HINTS_COMING;
	run(&l);
	(void)read_at(&l, 3 * CHUNK, CHUNK);
	expect_read(&l, PROTO_CLASS_DEMAND, 3, 4);
	await(&l, 1, 0);
	finish(&l);
}

/* Without one it is as it was. */
static void test_no_trace_after_all(void **state)
{
	struct lab l;
	struct read_req r;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	l.m.link.hints.state = LINK_HINTS_COMING;
	l.ch.prefetch_end = l.blob_len / 2;
	run(&l);
	hint(&l, PROTO_HINT_END | PROTO_HINT_NONE, NULL, 0);
	r = next_read(&l);
	assert_int_equal(r.class_, PROTO_CLASS_PREFETCH);
	assert_int_equal(r.off, 0);
	finish(&l);
}

/* Nothing waits for a trace that is only looked for; once it is there, it is
 * followed. */
static void test_trace_that_is_found(void **state)
{
	struct read_req r;
	struct lab l;
	uint64_t v[2];

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	l.m.link.hints.state = LINK_HINTS_PERHAPS;
	l.ch.prefetch_end = l.blob_len / 64;
	run(&l);
	r = next_read(&l);
	assert_int_equal(r.class_, PROTO_CLASS_PREFETCH);
	assert_int_equal(r.off, 0);
	assert_int_equal(stats_get(&l.st->trace_ranges), 0);
	range_of(&l, 40, 42, v);
	hint(&l, PROTO_HINT_END, v, 1);
	expect_read(&l, PROTO_CLASS_PREFETCH, 40, 42);
	assert_int_equal(stats_get(&l.st->trace_ranges), 1);
	finish(&l);
}

/* A fetcher that says such things is not one to talk to. */
static void test_bad_hints(void **state)
{
	static const uint64_t bad[][2] = {
		{UINT64_MAX, 1}, {1, UINT64_MAX}, {INT64_MAX, 1}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct lab l;
		uint8_t p;

		start(&l, 1, -1, WAIT_MS);
		l.m.link.hints.state = LINK_HINTS_COMING;
		run(&l);
		hint(&l, PROTO_HINT_END, bad[i], 1);
		assert_true(readable(l.far, WAIT_MS));
		assert_int_equal(recv(l.far, &p, 1, 0), 0);
		finish(&l);
	}
}

static void test_reader_raises_what_the_background_asked_for(void **state)
{
	struct lab l;
	struct read_req r, prio;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	l.m.nobackground = false;
	run(&l);
	r = next_read(&l);
	assert_int_equal(r.class_, PROTO_CLASS_BACKGROUND);
	(void)read_at(&l, 7 * CHUNK, CHUNK);
	assert_int_equal(next_packet(&l, &prio), PROTO_PRIO);
	answer(&l, &r);
	await(&l, 1, 0);
	same(&l, 7 * CHUNK, CHUNK);
	finish(&l);
}

static void read_unsure(struct lab *l, uint64_t off)
{
	struct waiter *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->id = miss_next_id(&l->m);
	w->image_off = off + CHUNK;
	w->size = CHUNK;
	w->first = off / CHUNK;
	w->end = w->first + 1;
	w->unsure = true;
	miss_wait(&l->m, w);
}

/* One that may be read-ahead is no demand at first, but soon. */
static void test_unsure_reader(void **state)
{
	struct lab l;
	struct read_req r, prio;
	uint64_t before_ns = io_now_ns();

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	run(&l);
	read_unsure(&l, 7 * CHUNK);
	r = next_read(&l);
	assert_int_equal(r.class_, PROTO_CLASS_PREFETCH);
	(void)miss_tick(&l.m, &l.lane, before_ns); /* begun before it came */
	nothing_asked(&l);
	(void)miss_tick(&l.m, &l.lane, io_now_ns() + WAIT_UNSURE_NS);
	assert_int_equal(next_packet(&l, &prio), PROTO_PRIO);
	answer(&l, &r);
	await(&l, 1, 0);
	same(&l, 7 * CHUNK, CHUNK);
	finish(&l);
}

/* What the kernel reads ahead is not read ahead of. */
static void test_unsure_readers_in_a_row(void **state)
{
	struct lab l;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	run(&l);
	for (unsigned i = 7; i < 12; i++) {
		read_unsure(&l, i * CHUNK);
		expect_read(&l, PROTO_CLASS_PREFETCH, i, i + 1);
	}
	await(&l, 5, 0);
	nothing_asked(&l);
	finish(&l);
}

/* A background fetch that fails does not fail the reader who joined it. */
static void test_reader_outlives_a_failed_background_fetch(void **state)
{
	struct lab l;
	struct read_req r;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	l.m.pump_prefetch = true;
	l.ch.prefetch_end = l.blob_len / 2;
	run(&l);
	r = next_read(&l);
	assert_int_equal(r.class_, PROTO_CLASS_PREFETCH);
	refuse(&l, &r, EIO);
	(void)read_at(&l, 1 * CHUNK, CHUNK);
	do {
		assert_true(next_packet(&l, &r) == PROTO_READ || r.len == 0);
	} while (r.len == 0 || r.class_ != PROTO_CLASS_DEMAND);
	answer(&l, &r);
	await(&l, 1, 0);
	same(&l, 1 * CHUNK, CHUNK);
	finish(&l);
}

static void test_sequential_reader_is_read_ahead_of(void **state)
{
	struct lab l;
	struct read_req r;
	bool ahead = false;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	l.lane_optional = true;
	run(&l);
	for (unsigned i = 0; i < 16; i++) {
		(void)read_at(&l, i * CHUNK, CHUNK);
		while (present_count(&l.pr) <= i) {
			if (!readable(l.far, 10))
				continue;
			if (next_packet(&l, &r) != PROTO_READ)
				continue;
			ahead = ahead || r.class_ == PROTO_CLASS_PREFETCH;
			answer(&l, &r);
		}
	}
	await(&l, 16, 0);
	same(&l, 0, 16 * CHUNK);
	assert_true(ahead);
	finish(&l);
}

static void test_suspect_chunk_is_verified_not_fetched(void **state)
{
	struct lab l;
	struct read_req r;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	/* Chunk 1 survived the power cut, chunk 2 did not. */
	assert_int_equal(pwrite(l.cache_fd, l.data + CHUNK, CHUNK, 2 * CHUNK),
			 CHUNK);
	l.pr.suspect[0] = 0x6;
	run(&l);
	(void)read_at(&l, CHUNK, CHUNK);
	await(&l, 1, 0);
	same(&l, CHUNK, CHUNK);
	nothing_asked(&l);
	(void)read_at(&l, 2 * CHUNK, CHUNK);
	do {
		(void)next_packet(&l, &r);
	} while (r.class_ != PROTO_CLASS_DEMAND || r.len == 0);
	answer(&l, &r);
	await(&l, 2, 0);
	same(&l, CHUNK, 2 * CHUNK);
	finish(&l);
}

/* Members that lie in the tail which brought the TOC are not fetched again. */
static void test_tail_is_adopted(void **state)
{
	struct lab l;
	struct chunk c;
	uint64_t arena, len;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	chunks_get(&l.ch, N_CHUNKS - 4, &c);
	len = l.blob_len - c.blob_off + 10; /* begins inside a member */
	assert_true(link_alloc(&l.m.link, len, &arena));
	memcpy(l.arena + arena, l.blob + c.blob_off - 10, len);
	miss_adopt(&l.m, c.blob_off - 10, len, arena);
	/* Before the threads, or they may be done with the tail already. */
	(void)read_at(&l, (N_CHUNKS - 4) * CHUNK, 4 * CHUNK);
	run(&l);
	await(&l, 1, 0);
	same(&l, (N_CHUNKS - 4) * CHUNK, 4 * CHUNK);
	nothing_asked(&l);
	finish(&l);
}

/* What was asked for ahead waits longer than readers do. Where it crawls, only
 * the first reader pays for that. */
static void test_crawling_read_ahead_is_given_up(void **state)
{
	struct lab l;
	struct read_req ahead, r;

	(void)state;
	start(&l, 1, -1, 5000);
	l.ch.prefetch_end = l.blob_len / 2;
	run(&l);
	ahead = next_read(&l);
	assert_int_equal(ahead.class_, PROTO_CLASS_PREFETCH);
	(void)read_at(&l, 0, CHUNK);
	assert_int_equal(next_packet(&l, &r), PROTO_PRIO);
	(void)miss_tick(&l.m, &l.lane, io_now_ns() + 6 * NSEC_PER_SEC);
	await(&l, 0, 1);
	assert_int_equal(l.last_error, -ETIMEDOUT);
	assert_int_equal(next_packet(&l, &r), PROTO_CANCEL);
	assert_int_equal(r.id, ahead.id);
	(void)read_at(&l, 0, CHUNK);
	refuse(&l, &ahead, ECANCELED);
	do {
		(void)next_packet(&l, &r);
	} while (r.class_ != PROTO_CLASS_DEMAND || r.len == 0);
	answer(&l, &r);
	await(&l, 1, 1);
	same(&l, 0, CHUNK);
	finish(&l);
}

/* What another process brought is noticed at the tick, and answered. */
static void test_other_process_was_faster(void **state)
{
	struct lab l;
	struct read_req r;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	run(&l);
	(void)read_at(&l, 4 * CHUNK, CHUNK);
	r = next_read(&l);
	assert_int_equal(
		pwrite(l.cache_fd, l.data + 4 * CHUNK, CHUNK, 5 * CHUNK),
		CHUNK);
	(void)present_set(&l.pr, 4);
	(void)miss_tick(&l.m, &l.lane, io_now_ns());
	await(&l, 1, 0);
	same(&l, 4 * CHUNK, CHUNK);
	answer(&l, &r);
	finish(&l);
}

/* An answer to a part that no READ has is a fetcher gone mad. */
static void test_wrong_id_ends_the_link(void **state)
{
	struct lab l;
	struct read_req r;

	(void)state;
	start(&l, 1, -1, WAIT_MS);
	run(&l);
	(void)read_at(&l, 0, CHUNK);
	r = next_read(&l);
	send_data(&l, r.id | 7, r.len, true);
	while (!miss_link_wanted(&l.m))
		sched_yield();
	assert_int_equal(present_count(&l.pr), 0);
	finish(&l);
}

/* So is one that never says a word of a READ. */
static void test_silent_fetcher_is_given_up(void **state)
{
	struct lab l;
	uint64_t before_ns = io_now_ns();

	(void)state;
	start(&l, 1, -1, 5000);
	run(&l);
	(void)read_at(&l, 0, CHUNK);
	(void)next_read(&l);
	(void)miss_tick(&l.m, &l.lane, before_ns + 4 * NSEC_PER_SEC);
	assert_false(miss_link_wanted(&l.m));
	(void)miss_tick(&l.m, &l.lane, io_now_ns() + 60 * NSEC_PER_SEC);
	assert_true(miss_link_wanted(&l.m));
	await(&l, 0, 1);
	finish(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_fetch_for_many_readers),
		cmocka_unit_test(test_member_of_several_chunks_fills_them_all),
		cmocka_unit_test(
			test_members_are_answered_before_their_run_has_ended),
		cmocka_unit_test(test_corrupt_twice_is_an_error_and_not_cached),
		cmocka_unit_test(test_one_of_many_is_corrupt),
		cmocka_unit_test(test_failed_fetch_is_an_error),
		cmocka_unit_test(test_short_blob_is_an_error),
		cmocka_unit_test(test_lost_fetcher_goes_on_where_it_was),
		cmocka_unit_test(test_deadline_and_late_answer),
		cmocka_unit_test(
			test_interrupt_gives_up_the_wait_not_the_fetch),
		cmocka_unit_test(test_interrupt_before_the_wait),
		cmocka_unit_test(test_interrupted_and_answered),
		cmocka_unit_test(test_full_disk_is_served_from_memory),
		cmocka_unit_test(test_background_fetches_all),
		cmocka_unit_test(test_prefetch_passes_over_large_files),
		cmocka_unit_test(test_prefetch_by_trace),
		cmocka_unit_test(test_background_behind_a_trace),
		cmocka_unit_test(test_readers_do_not_wait_for_a_trace),
		cmocka_unit_test(test_no_trace_after_all),
		cmocka_unit_test(test_trace_that_is_found),
		cmocka_unit_test(test_bad_hints),
		cmocka_unit_test(
			test_reader_raises_what_the_background_asked_for),
		cmocka_unit_test(test_unsure_reader),
		cmocka_unit_test(test_unsure_readers_in_a_row),
		cmocka_unit_test(
			test_reader_outlives_a_failed_background_fetch),
		cmocka_unit_test(test_sequential_reader_is_read_ahead_of),
		cmocka_unit_test(test_suspect_chunk_is_verified_not_fetched),
		cmocka_unit_test(test_tail_is_adopted),
		cmocka_unit_test(test_crawling_read_ahead_is_given_up),
		cmocka_unit_test(test_other_process_was_faster),
		cmocka_unit_test(test_wrong_id_ends_the_link),
		cmocka_unit_test(test_silent_fetcher_is_given_up),
	};

	log_set_level(LOG_ERR_);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
