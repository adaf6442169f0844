/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler: order, merging, splitting, limits; no network, no clock. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/fetcher/sched.h"
#include "daemon/registry/hosts.h"

#define T0 (NSEC_PER_SEC * 1000)

struct lab {
	struct sched s;
	struct breaker breaker;
	struct sched_host host;
	struct sched_blob a, b;
	struct sched_job jobs[16];
	uint64_t wake;
};

static void lab_init(struct lab *l, uint64_t rate)
{
	memset(l, 0, sizeof(*l));
	sched_init(&l->s, rate);
	l->host.max = 8;
	l->host.breaker = &l->breaker;
	sched_blob_init(&l->a, &l->host);
	sched_blob_init(&l->b, &l->host);
}

static struct sched_piece piece(struct sched_blob *b, uint64_t off,
				uint64_t len, enum proto_class c)
{
	return (struct sched_piece){
		.blob = b, .off = off, .len = len, .class_ = c};
}

static bool next(struct lab *l, unsigned i)
{
	return sched_next(&l->s, T0, &l->jobs[i], &l->wake);
}

static uint64_t delivered_at, delivered_n;
static uint8_t delivered_first;
static struct sched_piece *remove_too;
static struct sched *remove_from;

static void deliver(struct sched_piece *p, uint64_t at, const void *data,
		    size_t n)
{
	(void)p;
	delivered_at = at;
	delivered_n += n;
	delivered_first = *(const uint8_t *)data;
	if (remove_too != NULL) {
		struct sched_piece *r = remove_too;

		remove_too = NULL;
		sched_remove(remove_from, r);
	}
}

static void test_demand_goes_first(void **state)
{
	struct lab l;
	struct sched_piece bg, pf, de;
	struct list left;

	(void)state;
	lab_init(&l, 0);
	bg = piece(&l.a, 0, 100, PROTO_CLASS_BACKGROUND);
	pf = piece(&l.a, MIB(1), 100, PROTO_CLASS_PREFETCH);
	de = piece(&l.b, MIB(2), 100, PROTO_CLASS_DEMAND);
	sched_add(&l.s, &bg);
	sched_add(&l.s, &pf);
	sched_add(&l.s, &de);
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].off, MIB(2));
	assert_true(next(&l, 1));
	assert_int_equal(l.jobs[1].off, MIB(1));
	assert_false(next(&l, 2));
	list_init(&left);
	sched_job_end(&l.jobs[0], T0 - SCHED_QUIET_NS, &left);
	sched_job_end(&l.jobs[1], T0 - SCHED_QUIET_NS, &left);
	assert_true(next(&l, 2));
	assert_int_equal(l.jobs[2].off, 0);
	assert_false(next(&l, 3));
	assert_int_equal(l.wake, UINT64_MAX);
}

/* The ends of blobs, then what has a rank, over all blobs, then the rest. */
static void test_prefetch_goes_by_rank(void **state)
{
	struct lab l;
	struct sched_piece p[6];
	static const uint64_t want[] = {5, 3, 1, 0, 2, 4};

	(void)state;
	lab_init(&l, 0);
	for (unsigned i = 0; i < 6; i++)
		p[i] = piece(i % 2 == 0 ? &l.a : &l.b, i * MIB(1), 100,
			     PROTO_CLASS_PREFETCH);
	p[0].rank = 30;
	p[1].rank = 20;
	p[2].rank = UINT32_MAX;
	p[3].rank = 1;
	p[5].suffix = true;
	/* However much one of them has got. */
	l.b.served[PROTO_CLASS_PREFETCH] = MIB(100);
	for (unsigned i = 0; i < 6; i++)
		sched_add(&l.s, &p[i]);
	for (unsigned i = 0; i < 6; i++) {
		assert_true(next(&l, i));
		assert_int_equal(l.jobs[i].off / MIB(1), want[i]);
	}
	assert_false(next(&l, 6));
}

/* A full link stops prefetch, but not the small ranges of a trace at once. */
static void test_ranked_on_a_full_link(void **state)
{
	struct lab l;
	struct sched_piece p[3];

	(void)state;
	lab_init(&l, 0);
	l.host.pace.in_flight = PACE_BYTES_FIRST;
	assert_true(pace_full(&l.host.pace));
	p[0] = piece(&l.a, 0, 100, PROTO_CLASS_PREFETCH);
	p[1] = piece(&l.a, MIB(1), KIB(512), PROTO_CLASS_PREFETCH);
	p[1].rank = 1;
	p[2] = piece(&l.b, MIB(1), 100, PROTO_CLASS_PREFETCH);
	p[2].rank = 2;
	for (unsigned i = 0; i < 3; i++)
		sched_add(&l.s, &p[i]);
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].off, MIB(1));
	assert_int_equal(l.host.pace.in_flight, SCHED_RANKED_BYTES_MIN);
	assert_false(next(&l, 1));
}

/* Of three ranges of a trace, @gap bytes apart and one more, the first two share a
 * request, where all may be @gap apart. */
static void neighbours(uint32_t gap)
{
	struct lab l;
	struct sched_piece p[3];
	uint64_t second = 10000 + 1000 + gap, third = second + 1000 + gap + 1;

	lab_init(&l, 0);
	p[0] = piece(&l.a, 10000, 1000, PROTO_CLASS_PREFETCH);
	p[1] = piece(&l.a, second, 1000, PROTO_CLASS_PREFETCH);
	p[2] = piece(&l.a, third, 1000, PROTO_CLASS_PREFETCH);
	for (unsigned i = 0; i < 3; i++) {
		p[i].rank = i + 1;
		p[i].gap = gap;
		sched_add(&l.s, &p[i]);
	}
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].off, 10000);
	assert_int_equal(l.jobs[0].len, 2000 + gap);
	assert_true(next(&l, 1));
	assert_int_equal(l.jobs[1].off, third);
	assert_false(next(&l, 2));
}

/* Ranges of a trace share a request where nothing lies between them, or no more than
 * they say. */
static void test_ranked_neighbours(void **state)
{
	(void)state;
	neighbours(0);
	neighbours(2000);
}

/* n pieces of blob a, at off[i], ranks 1 to n; its host takes several ranges. */
static void several(struct lab *l, struct sched_piece *p, const uint64_t *off,
		    unsigned n, uint64_t len)
{
	lab_init(l, 0);
	l->host.several = SCHED_SEVERAL_YES;
	for (unsigned i = 0; i < n; i++) {
		p[i] = piece(&l->a, off[i], len, PROTO_CLASS_PREFETCH);
		p[i].rank = i + 1;
		sched_add(&l->s, &p[i]);
	}
}

static void assert_range(const struct sched_job *j, unsigned i, uint64_t off,
			 uint64_t len)
{
	assert_true(i < j->n_ranges);
	assert_int_equal(j->ranges[i].off, off);
	assert_int_equal(j->ranges[i].len, len);
}

/* What a trace names is one request, as it lies in the blob; what touches, or
 * nearly so, is one range of it. */
static void test_several_ranges(void **state)
{
	static const uint64_t off[] = {MIB(3),
				       MIB(1),
				       MIB(2),
				       MIB(3) + 1000,
				       MIB(1) + 1000 + SCHED_SEVERAL_GAP_BYTES,
				       MIB(2) + 1001 + SCHED_SEVERAL_GAP_BYTES};
	struct lab l;
	struct sched_piece p[9];
	const struct sched_job *j = &l.jobs[0];

	(void)state;
	several(&l, p, off, 6, 1000);
	/* Of another blob, without a rank, that failed at a host. */
	p[6] = piece(&l.b, MIB(5), 1000, PROTO_CLASS_PREFETCH);
	p[6].rank = 7;
	p[7] = piece(&l.a, MIB(6), 1000, PROTO_CLASS_PREFETCH);
	p[8] = piece(&l.a, MIB(7), 1000, PROTO_CLASS_PREFETCH);
	p[8].rank = 8;
	p[8].avoid = 1;
	for (unsigned i = 6; i < 9; i++)
		sched_add(&l.s, &p[i]);
	assert_true(next(&l, 0));
	assert_int_equal(j->n_ranges, 4);
	assert_range(j, 0, MIB(1), 2000 + SCHED_SEVERAL_GAP_BYTES);
	assert_range(j, 1, MIB(2), 1000);
	assert_range(j, 2, MIB(2) + 1001 + SCHED_SEVERAL_GAP_BYTES, 1000);
	assert_range(j, 3, MIB(3), 2000);
	assert_int_equal(j->off, MIB(1));
	assert_int_equal(j->pos, MIB(1));
	assert_int_equal(j->off + j->len, MIB(3) + 2000);
	assert_int_equal(j->asked, 6000 + SCHED_SEVERAL_GAP_BYTES);
	assert_int_equal(l.host.pace.in_flight, j->asked);
	assert_int_equal(l.a.served[PROTO_CLASS_PREFETCH], j->asked);
	for (unsigned i = 1; i < 4; i++) {
		assert_true(next(&l, i));
		assert_int_equal(l.jobs[i].n_ranges, 0);
		assert_int_equal(l.jobs[i].len, 1000);
	}
	assert_false(next(&l, 4));
}

static void test_several_only_where_taken(void **state)
{
	static const enum sched_several not [] = {
		SCHED_SEVERAL_UNKNOWN, SCHED_SEVERAL_ASKED, SCHED_SEVERAL_NO};
	static const uint64_t off[] = {0, MIB(1)};
	struct sched_piece p[2];
	struct lab l;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(not ); i++) {
		several(&l, p, off, 2, 1000);
		l.host.several = not [i];
		assert_true(next(&l, 0));
		assert_int_equal(l.jobs[0].n_ranges, 0);
		assert_int_equal(l.jobs[0].len, 1000);
		assert_true(next(&l, 1));
	}
	/* Demand does not wait for the rest of a trace. */
	several(&l, p, off, 2, 1000);
	sched_set_class(&l.s, &p[0], PROTO_CLASS_DEMAND);
	sched_set_class(&l.s, &p[1], PROTO_CLASS_DEMAND);
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].n_ranges, 0);
	assert_true(next(&l, 1));
}

static void test_several_are_bounded(void **state)
{
	struct sched_piece p[20];
	uint64_t off[20];
	struct lab l;

	(void)state;
	for (unsigned i = 0; i < 20; i++)
		off[i] = i * MIB(1);
	several(&l, p, off, 20, 1000);
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].n_ranges, SCHED_RANGES_MAX);
	assert_true(next(&l, 1));
	assert_int_equal(l.jobs[1].n_ranges, 20 - SCHED_RANGES_MAX);
	/* In bytes; one that is long goes alone, and ends what is before it. */
	several(&l, p, off, 5, KIB(100));
	p[4].len = KIB(300);
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].n_ranges, 2);
	assert_true(next(&l, 1));
	assert_int_equal(l.jobs[1].n_ranges, 2);
	assert_true(next(&l, 2));
	assert_int_equal(l.jobs[2].n_ranges, 0);
	assert_int_equal(l.jobs[2].len, KIB(300));
	/* In what the trace wants between them of other blobs. */
	several(&l, p, off, 2, 1000);
	p[1].rank = p[0].rank + SCHED_SEVERAL_RANKS_MAX + 1;
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].n_ranges, 0);
	several(&l, p, off, 2, 1000);
	p[0].rank = UINT32_MAX - SCHED_SEVERAL_RANKS_MAX;
	p[1].rank = UINT32_MAX;
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].n_ranges, 2);
	/* Many pieces that touch are one range, and as many as ever. */
	for (unsigned i = 0; i < 20; i++)
		off[i] = i * 1000;
	several(&l, p, off, 20, 1000);
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].n_ranges, 0);
	assert_int_equal(l.jobs[0].len, 20000);
	assert_false(next(&l, 1));
}

/* Parts come in their order, each once, from the start of its range. */
static void test_parts_of_several(void **state)
{
	static const uint64_t off[] = {MIB(3), MIB(1), MIB(2)};
	static const uint8_t data[1000] = {7};
	struct sched_piece p[3];
	struct sched_job *j;
	struct list left;
	struct lab l;

	(void)state;
	several(&l, p, off, 3, 1000);
	j = &l.jobs[0];
	assert_true(next(&l, 0));
	assert_int_equal(j->n_ranges, 3);
	assert_false(sched_job_part(j, 0, 1000));
	assert_false(sched_job_part(j, MIB(1) + 1, 10));
	assert_false(sched_job_part(j, MIB(1), 1001));
	assert_false(sched_job_part(j, MIB(1), UINT64_MAX));
	assert_false(sched_job_part(j, MIB(1) + 1000, 1000));
	assert_false(sched_job_part(j, MIB(4), 1));
	assert_false(sched_job_part(j, UINT64_MAX, 1));
	assert_true(sched_job_part(j, MIB(1), 1000));
	delivered_n = 0;
	sched_job_data(j, data, 400, T0, deliver);
	/* Once there are bytes of it, it does not begin again. */
	assert_false(sched_job_part(j, MIB(1), 1000));
	sched_job_data(j, data, 600, T0, deliver);
	assert_int_equal(delivered_n, 1000);
	assert_int_equal(p[1].got, 1000);
	/* One that is left out is missing, and no other. */
	assert_true(sched_job_part(j, MIB(3), 1000));
	assert_false(sched_job_part(j, MIB(2), 1000));
	sched_job_data(j, data, 1000, T0, deliver);
	assert_int_equal(p[0].got, 1000);
	assert_int_equal(j->asked, 1000);
	assert_int_equal(l.host.pace.in_flight, 1000);
	list_init(&left);
	sched_job_end(j, T0, &left);
	assert_ptr_equal(left.next, &p[2].node);
	assert_ptr_equal(left.prev, &p[2].node);
	assert_int_equal(l.host.pace.in_flight, 0);
}

/* A piece joins a job of several ranges inside one of them only. */
static void test_joining_several(void **state)
{
	static const uint64_t off[] = {0, MIB(8)};
	struct sched_piece p[2], in, gap, over, behind;
	static const uint8_t data[1000];
	struct sched_job *j;
	struct lab l;

	(void)state;
	several(&l, p, off, 2, 1000);
	j = &l.jobs[0];
	assert_true(next(&l, 0));
	assert_true(sched_job_part(j, 0, 1000));
	sched_job_data(j, data, 1000, T0, deliver);
	/* However far away: what lies between is not sent. */
	in = piece(&l.a, MIB(8) + 10, 990, PROTO_CLASS_DEMAND);
	gap = piece(&l.a, MIB(4), 10, PROTO_CLASS_DEMAND);
	over = piece(&l.a, MIB(8) + 10, 991, PROTO_CLASS_DEMAND);
	behind = piece(&l.a, 10, 10, PROTO_CLASS_DEMAND);
	sched_add(&l.s, &in);
	sched_add(&l.s, &gap);
	sched_add(&l.s, &over);
	sched_add(&l.s, &behind);
	assert_ptr_equal(in.job, j);
	assert_null(gap.job);
	assert_null(over.job);
	assert_null(behind.job);
	assert_true(sched_job_part(j, MIB(8), 1000));
	sched_job_data(j, data, 1000, T0, deliver);
	assert_int_equal(in.got, 990);
	/* What is answered with the first of them alone has that range alone. */
	several(&l, p, off, 2, 1000);
	assert_true(next(&l, 0));
	sched_job_range(j, 0, 600);
	assert_int_equal(j->n_ranges, 0);
	assert_int_equal(l.host.pace.in_flight, 600);
	in = piece(&l.a, MIB(8) + 10, 990, PROTO_CLASS_DEMAND);
	sched_add(&l.s, &in);
	assert_null(in.job);
}

static void test_neighbours_share_a_request(void **state)
{
	struct lab l;
	struct sched_piece p[5];

	(void)state;
	lab_init(&l, 0);
	p[0] = piece(&l.a, 10000, 1000, PROTO_CLASS_DEMAND);
	p[1] = piece(&l.a, 11000, 1000, PROTO_CLASS_DEMAND);  /* adjacent */
	p[2] = piece(&l.a, 20000, 1000, PROTO_CLASS_DEMAND);  /* near */
	p[3] = piece(&l.a, 500, 1000, PROTO_CLASS_DEMAND);    /* before */
	p[4] = piece(&l.a, MIB(1), 1000, PROTO_CLASS_DEMAND); /* far */
	for (int i = 0; i < 5; i++)
		sched_add(&l.s, &p[i]);
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].off, 500);
	assert_int_equal(l.jobs[0].len, 21000 - 500);
	assert_true(next(&l, 1));
	assert_int_equal(l.jobs[1].off, MIB(1));
	assert_false(next(&l, 2));
}

static void test_merged_requests_are_bounded(void **state)
{
	struct lab l;
	struct sched_piece p[4];

	(void)state;
	lab_init(&l, 0);
	for (unsigned i = 0; i < 4; i++) {
		p[i] = piece(&l.a, i * MIB(3), MIB(3), PROTO_CLASS_DEMAND);
		sched_add(&l.s, &p[i]);
	}
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].len, MIB(6));
}

static void test_long_demand_is_split(void **state)
{
	uint64_t len[SCHED_SPLIT_MAX];

	(void)state;
	assert_int_equal(sched_split(MIB(16) + 3, PROTO_CLASS_DEMAND, len), 4);
	assert_int_equal(len[0] + len[1] + len[2] + len[3], MIB(16) + 3);
	assert_int_equal(sched_split(MIB(3), PROTO_CLASS_DEMAND, len), 3);
	assert_int_equal(sched_split(MIB(2) - 1, PROTO_CLASS_DEMAND, len), 1);
	assert_int_equal(sched_split(0, PROTO_CLASS_DEMAND, len), 1);
	assert_int_equal(sched_split(MIB(2) - 1, PROTO_CLASS_PREFETCH, len), 3);
	assert_int_equal(sched_split(MIB(1) - 1, PROTO_CLASS_PREFETCH, len), 1);
	assert_int_equal(sched_split(MIB(64), PROTO_CLASS_BACKGROUND, len), 1);
}

static void test_parts_of_a_split_stay_apart(void **state)
{
	struct lab l;
	struct sched_piece p[2];

	(void)state;
	lab_init(&l, 0);
	for (unsigned i = 0; i < 2; i++) {
		p[i] = piece(&l.a, i * MIB(1), MIB(1), PROTO_CLASS_DEMAND);
		p[i].alone = true;
		sched_add(&l.s, &p[i]);
	}
	assert_true(next(&l, 0));
	assert_true(next(&l, 1));
	assert_int_equal(l.jobs[0].len, MIB(1));
	assert_int_equal(l.jobs[1].off, MIB(1));
}

static void test_blobs_share_fairly(void **state)
{
	struct lab l;
	struct sched_piece p[6];
	unsigned of_b = 0;

	(void)state;
	lab_init(&l, 0);
	l.host.max = 4;
	/* Blob a has asked for much before b came. */
	for (unsigned i = 0; i < 4; i++) {
		p[i] = piece(&l.a, i * MIB(16), MIB(8), PROTO_CLASS_DEMAND);
		sched_add(&l.s, &p[i]);
	}
	assert_true(next(&l, 0));
	p[4] = piece(&l.b, 0, 1000, PROTO_CLASS_DEMAND);
	p[5] = piece(&l.b, MIB(16), 1000, PROTO_CLASS_DEMAND);
	sched_add(&l.s, &p[4]);
	sched_add(&l.s, &p[5]);
	for (unsigned i = 1; i < 4; i++) {
		assert_true(next(&l, i));
		of_b += l.jobs[i].blob == &l.b;
	}
	assert_int_equal(of_b, 2);
}

static void test_hosts_have_limits(void **state)
{
	struct lab l;
	struct sched_piece p[12];
	struct list left;
	unsigned n = 0;

	(void)state;
	lab_init(&l, 0);
	for (unsigned i = 0; i < 10; i++) {
		p[i] = piece(&l.a, i * MIB(1), 10, PROTO_CLASS_BACKGROUND);
		sched_add(&l.s, &p[i]);
	}
	while (next(&l, n))
		n++;
	assert_int_equal(n, 4); /* half of 8 */
	p[10] = piece(&l.b, 0, 10, PROTO_CLASS_DEMAND);
	sched_add(&l.s, &p[10]);
	assert_true(next(&l, n)); /* demand finds room */
	list_init(&left);
	sched_job_end(&l.jobs[0], T0, &left);
	assert_false(list_empty(&left));
	assert_int_equal(l.host.running, 4);
	/* On probation: one at a time, and not before it is time. */
	l.breaker.probation = true;
	p[11] = piece(&l.b, MIB(1), 10, PROTO_CLASS_DEMAND);
	sched_add(&l.s, &p[11]);
	assert_false(next(&l, 9));
	l.host.running = 0;
	l.breaker.not_before_ns = T0 + 5;
	assert_false(next(&l, 9));
	assert_int_equal(l.wake, T0 + 5);
	l.breaker.not_before_ns = T0;
	assert_true(next(&l, 9));
}

static void test_back_off_is_kept(void **state)
{
	struct lab l;
	struct sched_piece p, q;

	(void)state;
	lab_init(&l, 0);
	p = piece(&l.a, 0, 10, PROTO_CLASS_DEMAND);
	p.not_before_ns = T0 + 100;
	q = piece(&l.a, MIB(1), 10, PROTO_CLASS_DEMAND);
	sched_add(&l.s, &p);
	sched_add(&l.s, &q);
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].off, MIB(1));
	assert_false(next(&l, 1));
	assert_int_equal(l.wake, T0 + 100);
	assert_true(sched_next(&l.s, T0 + 100, &l.jobs[1], &l.wake));
}

static void test_background_is_paced(void **state)
{
	struct lab l;
	struct sched_piece p, de;
	struct list left;

	(void)state;
	lab_init(&l, MIB(1));
	p = piece(&l.a, 0, MIB(10), PROTO_CLASS_BACKGROUND);
	sched_add(&l.s, &p);
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].len, MIB(1));
	list_init(&left);
	sched_job_end(&l.jobs[0], T0, &left);
	list_del(&p.node);
	p.got = MIB(1);
	sched_add(&l.s, &p);
	assert_false(next(&l, 0));
	assert_true(l.wake > T0 && l.wake < T0 + NSEC_PER_SEC);
	/* Demand is not. */
	de = piece(&l.a, MIB(20), 10, PROTO_CLASS_DEMAND);
	sched_add(&l.s, &de);
	assert_true(next(&l, 1));
	sched_job_end(&l.jobs[1], T0, &left);
	assert_true(sched_next(&l.s, T0 + NSEC_PER_SEC, &l.jobs[0], &l.wake));
	assert_int_equal(l.jobs[0].off, MIB(1));
}

/* Who starts finds the link free; later the background has it. */
static void background_keeps_quiet_beside(enum proto_class class_)
{
	uint64_t t = T0 + SCHED_QUIET_STEP_NS;
	struct lab l;
	struct sched_piece fg, bg[2];
	struct list left;

	lab_init(&l, 0);
	fg = piece(&l.a, 0, 100, class_);
	bg[0] = piece(&l.a, MIB(8), MIB(4), PROTO_CLASS_BACKGROUND);
	bg[1] = piece(&l.b, 0, MIB(4), PROTO_CLASS_BACKGROUND);
	sched_add(&l.s, &fg);
	sched_add(&l.s, &bg[0]);
	sched_add(&l.s, &bg[1]);
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].class_, class_);
	/* Nothing beside it, however long it takes. */
	assert_false(
		sched_next(&l.s, T0 + SCHED_QUIET_NS, &l.jobs[1], &l.wake));
	assert_int_equal(l.wake, UINT64_MAX);
	list_init(&left);
	sched_job_end(&l.jobs[0], T0, &left);
	assert_false(next(&l, 1));
	assert_int_equal(l.wake, t);
	/* A small one a step. */
	assert_true(sched_next(&l.s, t, &l.jobs[1], &l.wake));
	assert_int_equal(l.jobs[1].len, SCHED_QUIET_BYTES_MAX);
	assert_false(
		sched_next(&l.s, t + SCHED_QUIET_STEP_NS, &l.jobs[2], &l.wake));
	sched_job_end(&l.jobs[1], t, &left);
	assert_false(sched_next(&l.s, t, &l.jobs[2], &l.wake));
	assert_int_equal(l.wake, t + SCHED_QUIET_STEP_NS);
	/* Some time later there is no need to be quiet. */
	t = T0 + SCHED_QUIET_NS;
	sched_add(&l.s, &bg[0]);
	sched_add(&l.s, &bg[1]);
	assert_true(sched_next(&l.s, t, &l.jobs[2], &l.wake));
	assert_int_equal(l.jobs[2].len, MIB(4));
}

static void test_background_keeps_quiet(void **state)
{
	(void)state;
	background_keeps_quiet_beside(PROTO_CLASS_DEMAND);
	background_keeps_quiet_beside(PROTO_CLASS_PREFETCH);
}

/* Only as much is asked for ahead of need as the link brings soon. */
static void test_ahead_follows_the_link(void **state)
{
	uint8_t *data = calloc(1, PACE_BYTES_FIRST);
	struct lab l;
	struct sched_piece p[4], de, tail;
	struct list left;

	(void)state;
	assert_non_null(data);
	list_init(&left);
	lab_init(&l, 0);
	for (unsigned i = 0; i < 4; i++) {
		p[i] = piece(&l.a, i * KIB(256), KIB(256),
			     PROTO_CLASS_PREFETCH);
		sched_add(&l.s, &p[i]);
	}
	/* Neighbours, but one request would be all that is allowed. */
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].len, PACE_BYTES_FIRST / 2);
	assert_true(next(&l, 1));
	assert_false(next(&l, 2));
	assert_int_equal(l.wake, UINT64_MAX);
	/* The end of a blob, of a layer that will be mounted: is. */
	tail = piece(&l.b, 0, MIB(1), PROTO_CLASS_PREFETCH);
	tail.suffix = true;
	sched_add(&l.s, &tail);
	assert_true(next(&l, 2));
	sched_job_end(&l.jobs[2], T0, &left);
	/* Demand does not ask, but what is ahead waits for its bytes too. */
	de = piece(&l.b, 0, KIB(300), PROTO_CLASS_DEMAND);
	sched_add(&l.s, &de);
	assert_true(next(&l, 2));
	sched_job_data(&l.jobs[0], data, KIB(256), T0, deliver);
	assert_false(next(&l, 3));
	sched_job_data(&l.jobs[2], data, KIB(45), T0, deliver);
	assert_true(next(&l, 3));
	/* What does not come does not count. */
	for (unsigned i = 0; i < 4; i++)
		sched_job_end(&l.jobs[i], T0, &left);
	assert_int_equal(l.host.pace.in_flight, 0);
	free(data);
}

static void test_bytes_reach_every_piece(void **state)
{
	struct lab l;
	struct sched_piece p[3];
	uint8_t data[300];

	(void)state;
	lab_init(&l, 0);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	p[0] = piece(&l.a, 0, 100, PROTO_CLASS_DEMAND);
	p[1] = piece(&l.a, 50, 100, PROTO_CLASS_DEMAND);
	p[2] = piece(&l.a, 200, 100, PROTO_CLASS_DEMAND);
	for (int i = 0; i < 3; i++)
		sched_add(&l.s, &p[i]);
	assert_true(next(&l, 0));
	delivered_n = 0;
	sched_job_data(&l.jobs[0], data, 60, T0, deliver);
	assert_int_equal(p[0].got, 60);
	assert_int_equal(p[1].got, 10);
	assert_int_equal(delivered_n, 70);
	sched_job_data(&l.jobs[0], data + 60, 240, T0, deliver);
	assert_int_equal(delivered_n, 300);
	assert_int_equal(delivered_at, 0);
	assert_int_equal(delivered_first, 200);
	assert_true(list_empty(&l.jobs[0].pieces));
	for (int i = 0; i < 3; i++)
		assert_true(sched_piece_done(&p[i]));
}

static void test_delivery_may_remove_pieces(void **state)
{
	struct lab l;
	struct sched_piece p[2];
	uint8_t data[100] = {0};

	(void)state;
	lab_init(&l, 0);
	for (int i = 0; i < 2; i++) {
		p[i] = piece(&l.a, 0, 100, PROTO_CLASS_DEMAND);
		sched_add(&l.s, &p[i]);
	}
	assert_true(next(&l, 0));
	remove_too = &p[1];
	remove_from = &l.s;
	sched_job_data(&l.jobs[0], data, 50, T0, deliver);
	assert_int_equal(p[0].got, 50);
	assert_int_equal(p[1].got, 0);
	sched_job_data(&l.jobs[0], data, 50, T0, deliver);
	assert_true(list_empty(&l.jobs[0].pieces));
}

static void test_demand_joins_what_runs(void **state)
{
	struct lab l;
	struct sched_piece pf, near, far, behind;

	(void)state;
	lab_init(&l, 0);
	pf = piece(&l.a, 0, MIB(8), PROTO_CLASS_PREFETCH);
	sched_add(&l.s, &pf);
	assert_true(next(&l, 0));
	l.jobs[0].pos = KIB(64);
	near = piece(&l.a, KIB(128), 1000, PROTO_CLASS_DEMAND);
	far = piece(&l.a, MIB(4), 1000, PROTO_CLASS_DEMAND);
	behind = piece(&l.a, 0, 1000, PROTO_CLASS_DEMAND);
	sched_add(&l.s, &near);
	assert_false(next(&l, 1));
	sched_add(&l.s, &far);
	assert_true(next(&l, 1));
	sched_add(&l.s, &behind);
	assert_true(next(&l, 2));
	assert_int_equal(l.jobs[2].off, 0);
}

static void test_whole_blob_serves_all(void **state)
{
	struct lab l;
	struct sched_piece p[4];
	uint8_t data[4096] = {0};
	struct list left;

	(void)state;
	lab_init(&l, 0);
	for (unsigned i = 0; i < 2; i++) {
		p[i] = piece(&l.a, i * MIB(1), 1000, PROTO_CLASS_DEMAND);
		sched_add(&l.s, &p[i]);
		assert_true(next(&l, i));
	}
	assert_true(sched_job_whole(&l.s, &l.jobs[0]));
	assert_false(sched_job_whole(&l.s, &l.jobs[1]));
	list_init(&left);
	sched_job_end(&l.jobs[1], T0, &left);
	list_del(&p[1].node);
	sched_add(&l.s, &p[1]); /* joins */
	assert_false(next(&l, 2));
	sched_job_data(&l.jobs[0], data, sizeof(data), T0, deliver);
	assert_true(sched_piece_done(&p[0]));
	/* What it has passed already waits for the next body. */
	p[2] = piece(&l.a, 0, 10, PROTO_CLASS_DEMAND);
	sched_add(&l.s, &p[2]);
	assert_false(next(&l, 2));
	list_init(&left);
	sched_job_end(&l.jobs[0], T0, &left);
	assert_true(next(&l, 2));
	assert_true(l.jobs[2].whole);
}

static void test_suffix_gets_its_place(void **state)
{
	struct lab l;
	struct sched_piece p;
	uint8_t data[100] = {7};

	(void)state;
	lab_init(&l, 0);
	p = piece(&l.a, 0, 1000, PROTO_CLASS_DEMAND);
	p.suffix = true;
	sched_add(&l.s, &p);
	assert_true(next(&l, 0));
	assert_true(l.jobs[0].suffix);
	sched_job_range(&l.jobs[0], 5000, 100);
	assert_int_equal(p.off, 5000);
	assert_int_equal(p.len, 100);
	sched_job_data(&l.jobs[0], data, 100, T0, deliver);
	assert_true(sched_piece_done(&p));
}

static void test_class_can_change(void **state)
{
	struct lab l;
	struct sched_piece p, q;

	(void)state;
	lab_init(&l, 0);
	p = piece(&l.a, 0, 10, PROTO_CLASS_PREFETCH);
	q = piece(&l.b, 0, 10, PROTO_CLASS_BACKGROUND);
	sched_add(&l.s, &p);
	sched_add(&l.s, &q);
	sched_set_class(&l.s, &q, PROTO_CLASS_DEMAND);
	assert_true(next(&l, 0));
	assert_ptr_equal(l.jobs[0].blob, &l.b);
}

static void test_removed_is_forgotten(void **state)
{
	struct lab l;
	struct sched_piece p, q;

	(void)state;
	lab_init(&l, 0);
	p = piece(&l.a, 0, 10, PROTO_CLASS_DEMAND);
	q = piece(&l.a, 10, 10, PROTO_CLASS_DEMAND);
	sched_remove(&l.s, &p); /* never added */
	sched_add(&l.s, &p);
	sched_add(&l.s, &q);
	sched_remove(&l.s, &p);
	sched_remove(&l.s, &p);
	assert_true(next(&l, 0));
	assert_int_equal(l.jobs[0].off, 10);
	sched_remove(&l.s, &q);
	assert_true(list_empty(&l.jobs[0].pieces));
	assert_false(next(&l, 1));
	assert_true(list_empty(&l.s.active));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_demand_goes_first),
		cmocka_unit_test(test_prefetch_goes_by_rank),
		cmocka_unit_test(test_ranked_on_a_full_link),
		cmocka_unit_test(test_ranked_neighbours),
		cmocka_unit_test(test_several_ranges),
		cmocka_unit_test(test_several_only_where_taken),
		cmocka_unit_test(test_several_are_bounded),
		cmocka_unit_test(test_parts_of_several),
		cmocka_unit_test(test_joining_several),
		cmocka_unit_test(test_neighbours_share_a_request),
		cmocka_unit_test(test_merged_requests_are_bounded),
		cmocka_unit_test(test_long_demand_is_split),
		cmocka_unit_test(test_parts_of_a_split_stay_apart),
		cmocka_unit_test(test_blobs_share_fairly),
		cmocka_unit_test(test_hosts_have_limits),
		cmocka_unit_test(test_back_off_is_kept),
		cmocka_unit_test(test_background_is_paced),
		cmocka_unit_test(test_background_keeps_quiet),
		cmocka_unit_test(test_ahead_follows_the_link),
		cmocka_unit_test(test_bytes_reach_every_piece),
		cmocka_unit_test(test_delivery_may_remove_pieces),
		cmocka_unit_test(test_demand_joins_what_runs),
		cmocka_unit_test(test_whole_blob_serves_all),
		cmocka_unit_test(test_suffix_gets_its_place),
		cmocka_unit_test(test_class_can_change),
		cmocka_unit_test(test_removed_is_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
