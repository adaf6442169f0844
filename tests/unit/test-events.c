/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of events: what is in them, and what becomes of those that find no room. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/codec.h"
#include "common/index.h"
#include "common/io.h"
#include "fs/events.h"
#include "fs/paths.h"
#include "tests/unit/mktoc.h"

#define DEEP "d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d"
#define FILE_BYTES 100000
#define NS UINT64_C(1000)
#define WAIT_MS 60000

/* An index, and a directory for files. */
struct fixture {
	struct mktoc m;
	struct digest digest;
	struct buf meta;
	struct buf table;
	struct erofs_image im;
	struct chunks ch;
	struct layer layer;
	char dir[32];
	char path[64];
	struct err e;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct index_in in = {
		.blob_size = 2000000,
		.toc_off = 1000000,
		.codec = CODEC_GZIP,
	};
	struct toc_entry *en;

	assert_non_null(f);
	f->digest.b[0] = 0xab;
	in.toc_digest = &f->digest;
	in.toc = &f->m.toc;
	en = mktoc_reg(&f->m, "usr/bin/a", FILE_BYTES);
	en->chunk_size = 65536;
	(void)mktoc_chunk(&f->m, "usr/bin/a", 65536, 0);
	(void)mktoc_link(&f->m, TOC_HARDLINK, "usr/bin/deep/b", "usr/bin/a");
	(void)mktoc_reg(&f->m, "q\"\n\xff\\", 10);
	(void)mktoc_link(&f->m, TOC_SYMLINK, "s", "usr/bin/a");
	(void)mktoc_reg(&f->m, DEEP "/x", 10);
	assert_int_equal(index_build(&in, &f->meta, &f->table, &f->e), 0);
	assert_int_equal(erofs_open(&f->im, f->meta.p, f->meta.len, &f->e), 0);
	assert_int_equal(chunks_open(&f->ch, f->table.p, f->table.len, &f->e),
			 0);
	f->layer = (struct layer){
		.source = (char *)(uintptr_t) "https://h/x?secret",
		.number = 3,
		.has_digest = true,
		.digest = f->digest,
	};
	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/test-events-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	(void)snprintf(f->path, sizeof(f->path), "%s/e", f->dir);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	(void)unlink(f->path);
	assert_int_equal(rmdir(f->dir), 0);
	mktoc_done(&f->m);
	buf_done(&f->meta);
	buf_done(&f->table);
	free(f);
	return 0;
}

static struct events *start(struct fixture *f, uint64_t bytes_max, bool again)
{
	const struct events_layer of = {
		.layer = &f->layer,
		.im = &f->im,
		.ch = &f->ch,
		.bytes_max = bytes_max,
		.again = again,
	};
	int fd = events_open(f->path, &f->e);
	struct events *ev;

	if (fd < 0)
		fail_msg("%s", f->e.text);
	ev = events_start(fd, &of);
	assert_non_null(ev);
	return ev;
}

static void finish(struct events *ev)
{
	events_stop(ev, false);
	events_free(ev);
}

/* The inode of a path. */
static struct erofs_inode find(struct fixture *f, const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);
	struct erofs_inode in;
	char *next = copy, *name;

	assert_non_null(copy);
	assert_int_equal(erofs_inode_get(&f->im, f->im.root_nid, &in), 0);
	while ((name = strsep(&next, "/")) != NULL) {
		uint64_t nid;

		assert_int_equal(erofs_lookup(&f->im, &in, name, strlen(name),
					      &nid, NULL),
				 0);
		assert_int_equal(erofs_inode_get(&f->im, nid, &in), 0);
	}
	return in;
}

static void read_back(const struct fixture *f, struct buf *ret)
{
	*ret = BUF_INIT(MIB(16));
	assert_int_equal(io_read_file(AT_FDCWD, f->path, ret), 0);
}

/* Of the number behind each @key, which differs each time, one letter is left. */
static void mask(char *text, const char *key, char letter)
{
	while ((text = strstr(text, key)) != NULL) {
		size_t n;

		text += strlen(key);
		n = strspn(text, "0123456789");
		assert_true(n > 0);
		*text++ = letter;
		memmove(text, text + n - 1, strlen(text + n - 1) + 1);
	}
}

static void test_golden(void **state)
{
	static const char hex[] =
		"sha256:ab000000000000000000000000000000000000000000000000000"
		"00000000000";
	struct fixture *f = *state;
	struct erofs_inode a = find(f, "usr/bin/a");
	struct erofs_inode q = find(f, "q\"\n\xff\\");
	struct events *ev = start(f, MIB(1), false);
	uint64_t now = io_now_ns();
	CLEANUP_BUF struct buf got = {0};
	CLEANUP_BUF struct buf want = BUF_INIT(MIB(1));

	events_fetch(ev, EVENTS_CLASS_TAIL, 1000000, 1000000, now - 7000 * NS,
		     now);
	events_fetch(ev, PROTO_CLASS_BACKGROUND, 5, 6, now - 8 * NS, now);
	events_read(ev, EVENTS_WAIT, a.nid, a.data_off + 4096, 4096, now,
		    PROTO_CLASS_PREFETCH);
	events_read(ev, EVENTS_HIT, a.nid, a.data_off + 65000, 1000, now, 0);
	events_read(ev, EVENTS_ERROR, q.nid, q.data_off, 10, now,
		    PROTO_CLASS_DEMAND);
	finish(ev);
	finish(start(f, MIB(1), true));
	read_back(f, &got);
	mask(got.p, "\"wall\":", 'W');
	mask(got.p, "\"t\":", 'T');
	mask(got.p, "\"read\",\"d\":", 'D');
#define HEAD "{\"t\":T,\"l\":\"ab0000000000\",\"e\":"
	(void)buf_addf(&want,
		       HEAD
		       "\"mount\",\"v\":1,\"toc\":\"%s\",\"layer\":\"%s\","
		       "\"number\":3,\"chunks\":4,\"bytes\":2000000,\"wall\":W,"
		       "\"source\":\"https://h/x\"}\n",
		       hex, hex);
	(void)buf_add_str(&want,
			  HEAD "\"fetch\",\"d\":7000,\"c\":\"tail\","
			       "\"o\":1000000,\"n\":1000000}\n" HEAD
			       "\"fetch\",\"d\":8,\"c\":\"background\",\"o\":5,"
			       "\"n\":6}\n");
	(void)buf_add_str(&want,
			  HEAD "\"read\",\"d\":D,\"w\":\"wait\",\"o\":4096,"
			       "\"n\":4096,\"c\":\"prefetch\",\"bo\":1000,"
			       "\"bn\":1000,\"co\":0,\"cn\":65536,"
			       "\"p\":\"usr/bin/a\"}\n" HEAD
			       "\"read\",\"d\":D,\"w\":\"hit\",\"o\":65000,"
			       "\"n\":1000,\"bo\":1000,\"bn\":2000,\"co\":0,"
			       "\"cn\":100000,\"p\":\"usr/bin/a\"}\n");
	(void)buf_add_str(&want,
			  HEAD "\"read\",\"d\":D,\"w\":\"error\",\"o\":0,"
			       "\"n\":10,\"c\":\"demand\",\"bo\":3000,"
			       "\"bn\":1000,\"co\":0,\"cn\":10,"
			       "\"p\":\"q\\\"\\u000a\\ufffd\\\\\"}\n");
	(void)buf_add_str(&want, HEAD "\"end\"}\n" HEAD "\"again\"}\n" HEAD
				      "\"end\"}\n");
	assert_string_equal(got.p, want.p);
}

/* Between a worker that was relieved and the one in its place nothing is said. */
static void test_relief_is_not_told(void **state)
{
	struct fixture *f = *state;
	const struct events_layer of = {
		.layer = &f->layer,
		.im = &f->im,
		.ch = &f->ch,
		.bytes_max = MIB(1),
		.again = true,
		.relieves = true,
	};
	struct events *ev = start(f, MIB(1), false);
	char line[4096];
	FILE *in;
	int n = 0;

	events_stop(ev, true);
	events_free(ev);
	finish(events_start(events_open(f->path, &f->e), &of));
	in = fopen(f->path, "re");
	assert_non_null(in);
	while (fgets(line, sizeof(line), in) != NULL)
		assert_non_null(
			strstr(line, n++ == 0 ? "\"mount\"" : "\"end\""));
	(void)fclose(in);
	assert_int_equal(n, 2);
}

static void test_paths(void **state)
{
	struct fixture *f = *state;
	const struct {
		const char *path, *found;
	} cases[] = {
		{"usr/bin/a", "usr/bin/a"},
		/* The other name is nearer to the root. */
		{"usr/bin/deep/b", "usr/bin/a"},
		{DEEP "/x", DEEP "/x"},
		{DEEP, DEEP},
	};
	struct paths p;
	CLEANUP_BUF struct buf small = BUF_INIT(10);
	CLEANUP_BUF struct buf b = BUF_INIT(1000);

	assert_int_equal(paths_read(&f->im, &p), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		buf_clear(&b);
		assert_int_equal(paths_find(&p, find(f, cases[i].path).nid, &b),
				 0);
		assert_string_equal(b.p, cases[i].found);
	}
	assert_int_equal(paths_find(&p, find(f, "s").nid, &b), -ENOENT);
	assert_int_equal(paths_find(&p, UINT64_MAX, &b), -ENOENT);
	assert_int_equal(paths_find(&p, find(f, DEEP).nid, &small), -EOVERFLOW);
	paths_done(&p);
	/* Metadata that ends too soon. */
	for (size_t n = f->im.map_len - 1; n > f->im.map_len / 2; n -= 97) {
		struct erofs_image im = f->im;

		im.map_len = n;
		if (paths_read(&im, &p) == 0)
			paths_done(&p);
	}
}

/* Of the lines with @event: how many, or the sum of the numbers behind @key. A
 * line at a time: strstr() of AddressSanitizer measures all that is left. */
static uint64_t sum_of(const char *text, const char *event, const char *key)
{
	const char *end;
	uint64_t n = 0;

	for (; (end = strchrnul(text, '\n')) > text; text = end + 1) {
		size_t len = (size_t)(end - text);
		const char *at = memmem(text, len, key, strlen(key));

		if (memmem(text, len, event, strlen(event)) != NULL)
			n += key[0] == '\0'
				     ? 1
				     : strtoull(at + strlen(key), NULL, 10);
		if (*end == '\0')
			break;
	}
	return n;
}

static void test_a_file_is_not_too_large(void **state)
{
	struct fixture *f = *state;
	struct erofs_inode a = find(f, "usr/bin/a");
	CLEANUP_BUF struct buf got = {0};
	struct events *ev = start(f, 20000, false);

	for (unsigned i = 0; i < 1000; i++)
		events_read(ev, EVENTS_HIT, a.nid, a.data_off, 1, io_now_ns(),
			    0);
	finish(ev);
	read_back(f, &got);
	assert_in_range(got.len, 10000, 20000);
	assert_int_equal(got.p[got.len - 1], '\n');
}

/**
 * struct reader - of a pipe
 * @seen:	bytes of @got, whole lines, of which @told is
 * @told:	how many events there were, or were said to be lost
 */
struct reader {
	int fd;
	struct buf got;
	size_t seen;
	uint64_t told;
};

static void count_told(struct reader *r)
{
	char *from = r->got.p + r->seen;
	char *end = memrchr(from, '\n', r->got.len - r->seen);

	if (end == NULL)
		return;
	*end = '\0';
	r->told += sum_of(from, "\"e\":\"read\"", "") +
		   sum_of(from, "\"e\":\"lost\"", "\"n\":");
	*end = '\n';
	r->seen = (size_t)(end + 1 - r->got.p);
}

static bool readable(const struct reader *r, int wait_ms)
{
	struct pollfd p = {.fd = r->fd, .events = POLLIN};

	return poll(&p, 1, wait_ms) > 0;
}

/* Takes what there is. Return: false at the end */
static bool drink(struct reader *r)
{
	char block[65536];
	ssize_t n;

	assert_true(readable(r, WAIT_MS));
	n = read(r->fd, block, sizeof(block));
	assert_true(n >= 0);
	assert_int_equal(buf_add(&r->got, block, (size_t)n), 0);
	if (n > 0)
		count_told(r);
	return n > 0;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts), 0);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void test_what_is_lost_is_counted(void **state)
{
	struct fixture *f = *state;
	struct erofs_inode a = find(f, "usr/bin/a");
	struct reader r = {.got = BUF_INIT(MIB(64))};
	uint64_t cpu, n = 40000;
	struct events *ev;

	assert_int_equal(mkfifo(f->path, 0600), 0);
	assert_int_equal(events_open(f->path, &f->e), -ENXIO);
	r.fd = open(f->path, O_RDONLY | O_NONBLOCK);
	assert_true(r.fd >= 0);
	ev = start(f, 0, false);
	/* Nobody reads yet: neither the pipe nor the ring takes all of it. */
	for (uint64_t i = 0; i < n; i++)
		events_read(ev, EVENTS_HIT, a.nid, a.data_off, 1, io_now_ns(),
			    0);
	/* To wait for a reader takes no work. */
	cpu = cpu_ns();
	(void)poll(NULL, 0, 300);
	assert_true(cpu_ns() - cpu < 30 * NSEC_PER_MSEC);
	/* Before the end: what a pipe does not take then, is not told of. */
	while (r.told < n) {
		if (readable(&r, 100)) {
			assert_true(drink(&r));
			continue;
		}
		/* What was lost behind the last that was told is told of with
		 * the next. */
		events_read(ev, EVENTS_HIT, a.nid, a.data_off, 1, io_now_ns(),
			    0);
		assert_true(++n < 41000);
	}
	finish(ev);
	while (drink(&r))
		;
	(void)close(r.fd);
	assert_int_equal(r.told, n);
	assert_true(sum_of(r.got.p, "\"e\":\"lost\"", "\"n\":") > 0);
	assert_int_equal(sum_of(r.got.p, "\"e\":\"end\"", ""), 1);
	buf_done(&r.got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_golden, setup, teardown),
		cmocka_unit_test_setup_teardown(test_relief_is_not_told, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_file_is_not_too_large,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_lost_is_counted,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
