/* SPDX-License-Identifier: Apache-2.0 */
/* Who has what open: whatever is killed and sent again, no open is forgotten, and
 * none is counted twice. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/io.h"
#include "fs/opens.h"

#define NIDS 5000u

struct it {
	int fd;
	struct opens o;
	uint64_t next; /* number of the next request */
};

static int setup(void **state)
{
	struct it *t = calloc(1, sizeof(*t));
	struct err e = {0};

	assert_non_null(t);
	t->fd = memfd_create("opens", MFD_CLOEXEC);
	assert_true(t->fd >= 0);
	assert_int_equal(opens_format(t->fd), 0);
	assert_int_equal(opens_attach(&t->o, t->fd, NIDS, &e), 0);
	t->next = 2;
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct it *t = *state;

	opens_detach(&t->o);
	(void)close(t->fd);
	free(t);
	return 0;
}

/* A worker dies, and another one looks. */
static void succeed(struct it *t)
{
	struct err e = {0};

	opens_detach(&t->o);
	assert_int_equal(opens_attach(&t->o, t->fd, NIDS, &e), 0);
}

/* Return: the handle; *@ret_id of what it is open with */
static uint64_t open_as(struct it *t, uint64_t nid, uint64_t unique,
			bool resent, bool through, uint32_t *ret_id)
{
	uint64_t fh = 0;

	assert_int_equal(
		opens_open(&t->o, nid, unique, resent, through, &fh, ret_id),
		0);
	return fh;
}

static uint64_t open_(struct it *t, uint64_t nid, bool through,
		      uint32_t *ret_id)
{
	uint64_t fh = open_as(t, nid, t->next, false, through, ret_id);

	t->next += 2;
	return fh;
}

static bool is_through(const struct it *t, uint64_t nid)
{
	return t->o.inodes[nid].n > 0 && t->o.inodes[nid].through;
}

/* As the monitor does it. */
static void note_id(const struct it *t, unsigned i, uint64_t nid, uint32_t id)
{
	const struct opens_id it = {.nid = nid, .id = id};

	assert_int_equal(io_pwrite_all(t->fd, &it, sizeof(it),
				       offsetof(struct opens_file, ids) +
					       i * sizeof(it)),
			 0);
}

static void test_one_way_from_first_open_to_last_release(void **state)
{
	struct it *t = *state;
	uint64_t a, b, fh;
	uint32_t id = 9;

	a = open_(t, 7, false, &id);
	assert_int_equal(id, 0);
	opens_learn(&t->o, 7, 3);
	b = open_(t, 7, true, &id);
	assert_int_equal(id, 0);
	opens_release(&t->o, a);
	opens_release(&t->o, open_(t, 7, true, &id));
	assert_int_equal(id, 0);
	assert_false(is_through(t, 7));
	opens_release(&t->o, b);

	a = open_(t, 7, true, &id);
	assert_int_equal(id, 3);
	assert_true(is_through(t, 7));
	b = open_(t, 7, false, &id);
	assert_int_equal(id, 3);
	opens_release(&t->o, a);
	opens_release(&t->o, b);
	assert_false(is_through(t, 7));
	a = open_(t, 7, false, &id);
	assert_int_equal(id, 0);
	opens_release(&t->o, a);
	/* No number is known, and nothing is noted. */
	assert_int_equal(opens_open(&t->o, 8, t->next, false, true, &fh, &id),
			 -EAGAIN);
	opens_learn(&t->o, 8, 4);
	a = open_as(t, 8, t->next, false, true, &id);
	assert_int_equal(id, 4);
	opens_release(&t->o, a);
}

static void test_backing_file_of_an_open_file_stays(void **state)
{
	struct it *t = *state;
	uint32_t id;
	uint64_t a;

	opens_learn(&t->o, 7, 3);
	a = open_(t, 7, true, &id);
	opens_learn(&t->o, 7, 5);
	opens_release(&t->o, open_(t, 7, true, &id));
	assert_int_equal(id, 3);
	opens_release(&t->o, a);
}

static void test_release_sent_again(void **state)
{
	struct it *t = *state;
	uint64_t a, b, c;
	uint32_t id;

	a = open_(t, 7, false, &id);
	b = open_(t, 7, false, &id);
	opens_release(&t->o, a);
	succeed(t);
	opens_release(&t->o, a);
	opens_learn(&t->o, 7, 3);
	opens_release(&t->o, open_(t, 7, true, &id));
	assert_int_equal(id, 0);
	/* ... also when its slot is another's by now. */
	c = open_(t, 7, false, &id);
	assert_int_not_equal(c, a);
	opens_release(&t->o, a);
	opens_release(&t->o, b);
	opens_release(&t->o, open_(t, 7, true, &id));
	assert_int_equal(id, 0);
	opens_release(&t->o, c);
	opens_release(&t->o, open_(t, 7, true, &id));
	assert_int_equal(id, 3);
	/* Handles that nobody has given out. */
	opens_release(&t->o, UINT64_MAX);
	opens_release(&t->o, 0);
}

static void test_open_sent_again(void **state)
{
	struct it *t = *state;
	uint64_t a, b;
	uint32_t id;

	/* Noted, not answered. */
	a = open_as(t, 7, 100, false, false, &id);
	succeed(t);
	b = open_as(t, 7, 100, true, true, &id);
	assert_int_equal(b, a);
	assert_int_equal(id, 0);
	opens_learn(&t->o, 7, 3);
	opens_release(&t->o, b);
	/* Not noted. */
	a = open_as(t, 7, 102, true, true, &id);
	assert_int_equal(id, 3);
	succeed(t);
	/* With what it was noted with, though that is not known any more. */
	b = open_as(t, 7, 102, true, false, &id);
	assert_int_equal(b, a);
	assert_int_equal(id, 3);
	opens_release(&t->o, b);
	assert_false(is_through(t, 7));
}

static void test_successor_knows_what_is_open(void **state)
{
	struct it *t = *state;
	uint64_t fh[300];
	uint32_t id;

	note_id(t, 0, 7, 3);
	note_id(t, 1, 8, 4);
	note_id(t, 2, NIDS, 5); /* there is no such file */
	succeed(t);
	for (unsigned i = 0; i < ARRAY_SIZE(fh); i++)
		fh[i] = open_(t, 7 + i % 3, i % 3 != 2, &id);
	for (unsigned i = 0; i < ARRAY_SIZE(fh); i += 2)
		opens_release(&t->o, fh[i]);
	/* What is open keeps its number, also where it is noted nowhere. */
	note_id(t, 0, 0, 0);
	succeed(t);
	assert_true(is_through(t, 7));
	assert_true(is_through(t, 8));
	assert_false(is_through(t, 9));
	opens_release(&t->o, open_(t, 7, false, &id));
	assert_int_equal(id, 3);
	for (unsigned i = 1; i < ARRAY_SIZE(fh); i += 2)
		opens_release(&t->o, fh[i]);
	for (uint64_t nid = 7; nid < 10; nid++)
		assert_int_equal(t->o.inodes[nid].n, 0);
	/* Slots are used again. */
	assert_true(t->o.f->used <= ARRAY_SIZE(fh) + 1);
}

static void test_evicts_what_nobody_has_open(void **state)
{
	struct it *t = *state;
	uint64_t nid = 0, fh[2];
	uint32_t id;

	for (unsigned i = 0; i < OPENS_IDS_MAX; i++) {
		assert_false(opens_evict(&t->o, &nid));
		opens_learn(&t->o, 10 + i, 1 + i);
	}
	fh[0] = open_(t, 10, true, &id);
	fh[1] = open_(t, 11, true, &id);
	assert_true(opens_evict(&t->o, &nid));
	assert_true(nid >= 12 && nid < 10 + OPENS_IDS_MAX);
	assert_int_equal(opens_open(&t->o, nid, 100, false, true, &fh[0], &id),
			 -EAGAIN);
	assert_false(opens_evict(&t->o, &nid));
	for (unsigned i = 0; i < OPENS_IDS_MAX; i++) {
		opens_learn(&t->o, 2000 + i, 5000 + i);
		while (opens_evict(&t->o, &nid))
			assert_true(nid != 10 && nid != 11);
	}
	opens_release(&t->o, fh[1]);
}

static void test_stopped(void **state)
{
	struct it *t = *state;
	uint64_t plain, a, b, fh;
	uint32_t id;

	opens_learn(&t->o, 7, 3);
	opens_learn(&t->o, 8, 4);
	a = open_(t, 7, true, &id);
	plain = open_(t, 9, false, &id);
	opens_stop(&t->o);
	b = open_(t, 7, true, &id);
	assert_int_equal(id, 3);
	opens_release(&t->o, open_(t, 8, true, &id));
	assert_int_equal(id, 0);
	opens_release(&t->o, a);
	/* One is still open; also for a successor. */
	succeed(t);
	opens_stop(&t->o);
	a = open_(t, 7, false, &id);
	assert_int_equal(id, 3);
	opens_release(&t->o, a);
	opens_release(&t->o, b);
	opens_release(&t->o, b);
	assert_int_equal(opens_open(&t->o, 8, t->next, false, true, &fh, &id),
			 -ENOSYS);
	assert_int_equal(opens_open(&t->o, 9, t->next, false, false, &fh, &id),
			 -ENOSYS);
	opens_release(&t->o, plain);
}

static void test_full(void **state)
{
	struct it *t = *state;
	uint64_t fh = 0, first = 0;
	uint32_t id;

	for (uint32_t i = 0; i < OPENS_MAX; i++) {
		assert_int_equal(opens_open(&t->o, i % NIDS, 2 + 2 * i, false,
					    false, &fh, &id),
				 0);
		first = i == 0 ? fh : first;
	}
	assert_int_equal(opens_open(&t->o, 7, 3000000, false, false, &fh, &id),
			 -ENFILE);
	opens_release(&t->o, first);
	assert_int_equal(opens_open(&t->o, 7, 3000000, false, false, &fh, &id),
			 0);
	succeed(t);
	assert_int_equal(opens_open(&t->o, 7, 3000002, false, false, &fh, &id),
			 -ENFILE);
}

static void test_mode(void **state)
{
	struct it *t = *state;
	struct opens_mark bad = {.version = OPENS_VERSION + 1,
				 .mode = OPENS_PASSTHROUGH};

	assert_int_equal(opens_recorded(t->fd), OPENS_UNDECIDED);
	assert_int_equal(opens_record(t->fd, OPENS_PASSTHROUGH), 0);
	assert_int_equal(opens_recorded(t->fd), OPENS_PASSTHROUGH);
	assert_int_equal(opens_record(t->fd, OPENS_NOOPEN), 0);
	assert_int_equal(opens_recorded(t->fd), OPENS_NOOPEN);
	/* What is not understood is answered with ENOSYS. */
	assert_int_equal(io_pwrite_all(t->fd, &bad, sizeof(bad), 0), 0);
	assert_int_equal(opens_recorded(t->fd), OPENS_NOOPEN);
	assert_int_equal(opens_format(t->fd), 0);
	assert_int_equal(opens_recorded(t->fd), OPENS_UNDECIDED);
	assert_int_equal(ftruncate(t->fd, 0), 0);
	assert_int_equal(opens_recorded(t->fd), OPENS_NOOPEN);
	assert_int_equal(opens_format(t->fd), 0);
}

/* What a worker that was taken over may leave to the next one. */
static void test_garbage(void **state)
{
	struct it *t = *state;
	struct opens_file *f = t->o.f;
	struct err e = {0};
	struct opens o;
	uint32_t id;
	uint64_t fh;

	f->used = UINT32_MAX;
	memset(f->ids, 0xff, sizeof(f->ids));
	for (uint32_t i = 0; i < OPENS_MAX; i += 7)
		f->slots[i].nid = UINT64_MAX - i;
	for (uint32_t i = 0; i < OPENS_MAX; i += 5)
		f->slots[i].unique = i;
	succeed(t);
	assert_int_equal(opens_open(&t->o, 7, 2, false, false, &fh, &id), 0);
	/* A list of free ones that leads away. */
	for (uint32_t i = 0; i < OPENS_MAX; i++)
		t->o.f->slots[i].nid = UINT32_MAX - i;
	for (uint64_t i = 2; i < 10; i++)
		(void)opens_open(&t->o, 7, 2 * i, false, false, &fh, &id);

	assert_int_equal(ftruncate(t->fd, 4096), 0);
	assert_int_equal(opens_attach(&o, t->fd, NIDS, &e), -EPROTO);
	opens_detach(&o);
	assert_int_equal(opens_format(t->fd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		TEST(test_one_way_from_first_open_to_last_release),
		TEST(test_backing_file_of_an_open_file_stays),
		TEST(test_release_sent_again),
		TEST(test_open_sent_again),
		TEST(test_successor_knows_what_is_open),
		TEST(test_evicts_what_nobody_has_open),
		TEST(test_stopped),
		TEST(test_full),
		TEST(test_mode),
		TEST(test_garbage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
