/* SPDX-License-Identifier: Apache-2.0 */
/* What a monitor opens for a worker, whatever that asks for. There is no FUSE
 * connection: where the kernel is asked for a number, it says ENOTTY. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/chunks.h"
#include "common/erofs.h"
#include "common/index.h"
#include "common/io.h"
#include "fs/backing.h"
#include "fs/opens.h"
#include "fs/state.h"
#include "tests/unit/mktoc.h"
#include "tests/unit/tmproot.h"

struct it {
	char dir[32];
	struct mktoc m;
	struct buf meta;
	struct buf table;
	struct erofs_image im;
	struct state state;
	struct backing b;
	int fuse_fd;
	int ctl[2];
};

static int make_file(const struct it *t, const char *name, const struct buf *b,
		     uint64_t bytes)
{
	char path[64];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", t->dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(io_pwrite_all(fd, b->p, b->len, 0), 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static int setup(void **state)
{
	static const struct digest digest;
	struct it *t = calloc(1, sizeof(*t));
	const struct index_in in = {
		.toc = &t->m.toc,
		.toc_digest = &digest,
		.blob_size = 20000000,
		.toc_off = 10000000,
		.codec = CODEC_GZIP,
	};
	struct chunks ch;
	struct err e;

	(void)snprintf(t->dir, sizeof(t->dir), "/tmp/test-backing.XXXXXX");
	assert_non_null(mkdtemp(t->dir));
	(void)mktoc_reg(&t->m, "a", 5000);
	(void)mktoc_add(&t->m, TOC_DIR, "dir");
	(void)mktoc_add(&t->m, TOC_FIFO, "fifo");
	(void)mktoc_link(&t->m, TOC_SYMLINK, "link", "a");
	(void)mktoc_add(&t->m, TOC_CHAR, "null");
	if (index_build(&in, &t->meta, &t->table, &e) < 0 ||
	    erofs_open(&t->im, t->meta.p, t->meta.len, &e) < 0 ||
	    chunks_open(&ch, t->table.p, t->table.len, &e) < 0)
		fail_msg("%s", e.text);
	t->state.path = t->dir;
	t->state.fds[STATE_EROFS] =
		make_file(t, "layer.erofs", &t->meta, ch.image_bytes);
	t->state.fds[STATE_CHUNKS] =
		make_file(t, "chunks", &t->table, t->table.len);
	t->b = (struct backing){.opens_fd = -1, .dir_fd = -1};
	assert_int_equal(backing_begin(&t->b, NULL, NULL, false, &e), 0);
	t->fuse_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, t->ctl), 0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct it *t = *state;

	(void)close(t->b.opens_fd);
	backing_done(&t->b);
	(void)close(t->state.fds[STATE_EROFS]);
	(void)close(t->state.fds[STATE_CHUNKS]);
	(void)close(t->fuse_fd);
	(void)close(t->ctl[0]);
	(void)close(t->ctl[1]);
	mktoc_done(&t->m);
	buf_done(&t->meta);
	buf_done(&t->table);
	assert_int_equal(tmproot_remove(t->dir), 0);
	free(t);
	return 0;
}

static struct ctl_backed ask(struct it *t, uint64_t nid, uint64_t close_nid)
{
	const struct ctl_back want = {
		.type = CTL_BACK, .nid = nid, .close_nid = close_nid};
	struct ctl_backed got;

	backing_give(&t->b, &want, &t->state, t->fuse_fd, t->ctl[0]);
	assert_int_equal(recv(t->ctl[1], &got, sizeof(got), MSG_DONTWAIT),
			 sizeof(got));
	assert_int_equal(got.type, CTL_BACKED);
	assert_int_equal(got.nid, nid);
	return got;
}

static uint64_t nid_of(const struct it *t, const char *name)
{
	struct erofs_inode root;
	uint64_t nid = 0;

	assert_int_equal(erofs_inode_get(&t->im, t->im.root_nid, &root), 0);
	assert_int_equal(
		erofs_lookup(&t->im, &root, name, strlen(name), &nid, NULL), 0);
	return nid;
}

static void note_id(const struct it *t, unsigned i, uint64_t nid, uint32_t id)
{
	const struct opens_id it = {.nid = nid, .id = id};

	assert_int_equal(io_pwrite_all(t->b.opens_fd, &it, sizeof(it),
				       offsetof(struct opens_file, ids) +
					       i * sizeof(it)),
			 0);
}

static void test_regular_files_alone(void **state)
{
	struct it *t = *state;
	int r = ask(t, nid_of(t, "a"), 0).error;

	if (r == -ENOSYS || r == -EPERM)
		skip(); /* no EROFS, or not root */
	assert_int_equal(r, -ENOTTY);
	assert_int_equal(ask(t, nid_of(t, "dir"), 0).error, -EINVAL);
	assert_int_equal(ask(t, t->im.root_nid, 0).error, -EINVAL);
	assert_int_equal(ask(t, nid_of(t, "fifo"), 0).error, -EINVAL);
	assert_int_equal(ask(t, nid_of(t, "link"), 0).error, -ELOOP);
	assert_int_equal(ask(t, nid_of(t, "null"), 0).error, -EACCES);
	assert_int_equal(ask(t, 0, 0).error, -EINVAL);
	assert_true(ask(t, UINT64_MAX, 0).error < 0);
	assert_true(ask(t, UINT64_C(1) << 32, 0).error < 0);
}

static void test_what_is_damaged_is_not_mounted(void **state)
{
	struct it *t = *state;
	const char c = 'b';

	/* The name of the first file: right for EROFS, but another digest. */
	assert_int_equal(
		pwrite(t->state.fds[STATE_EROFS], &c, 1,
		       (const char *)memmem(t->meta.p, t->meta.len, "fifo", 4) -
			       (const char *)t->meta.p),
		1);
	assert_int_equal(ask(t, nid_of(t, "a"), 0).error, -EBADMSG);
	assert_true(t->b.dir_fd < 0);
}

static void test_numbers_that_are_known(void **state)
{
	struct it *t = *state;
	struct ctl_backed got;

	for (unsigned i = 0; i < OPENS_IDS_MAX; i++)
		note_id(t, i, 100 + i, 5000 + i);
	got = ask(t, 107, 0);
	assert_int_equal(got.error, 0);
	assert_int_equal(got.id, 5007);
	assert_int_equal(ask(t, 7, 0).error, -ENOSPC);
	/* Closed before the next is looked for. */
	assert_int_not_equal(ask(t, 107, 107).error, 0);
	assert_int_equal(ask(t, 108, 999999).id, 5008);
	assert_int_not_equal(ask(t, 7, 0).error, -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		TEST(test_regular_files_alone),
		TEST(test_what_is_damaged_is_not_mounted),
		TEST(test_numbers_that_are_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
