/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks estargzfs --meta, and what it makes of the answer. */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/meta.h"

/* A socket pair; what the other end says is there before it is asked. */
struct fixture {
	int ours, theirs;
	struct err e;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int pair[2];

	assert_non_null(f);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	f->ours = pair[0];
	f->theirs = pair[1];
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	(void)close(f->ours);
	if (f->theirs >= 0)
		(void)close(f->theirs);
	free(f);
	return 0;
}

static void says(struct fixture *f, uint32_t version, uint32_t code,
		 const char *text, size_t len)
{
	struct {
		struct meta_reply r;
		char text[1024];
	} m = {.r = {.version = version, .code = code}};

	assert_true(len <= sizeof(m.text));
	memcpy(m.text, text, len);
	assert_int_equal(send(f->theirs, &m, sizeof(m.r) + len, 0),
			 sizeof(m.r) + len);
}

static int ask(struct fixture *f)
{
	const struct digest key = {{1}};

	return meta_check_chain(f->ours, f->ours, &key, &f->e);
}

static void test_yes(void **state)
{
	struct fixture *f = *state;
	struct meta_request q;
	int fd;

	says(f, META_VERSION, 0, "", 0);
	assert_int_equal(ask(f), 0);
	assert_int_equal(io_recv_fds(f->theirs, &q, sizeof(q), &fd, 1, 0),
			 sizeof(q));
	assert_int_equal(q.version, META_VERSION);
	assert_int_equal(q.type, META_CHECK_CHAIN);
	assert_int_equal(q.key.b[0], 1);
	assert_true(fd >= 0);
	(void)close(fd);
}

static void test_all_descriptors(void **state)
{
	struct fixture *f = *state;
	struct meta_files files[META_LAYERS_MAX];
	int fds[1 + 2 * META_LAYERS_MAX];
	const struct digest key = {{0}};
	struct meta_request q;

	for (size_t i = 0; i < META_LAYERS_MAX; i++)
		files[i] = (struct meta_files){.erofs = f->ours,
					       .chunks = f->ours};
	says(f, META_VERSION, 0, "", 0);
	assert_int_equal(meta_merge(f->ours, f->ours, files, META_LAYERS_MAX,
				    true, &key, &f->e),
			 0);
	assert_int_equal(
		io_recv_fds(f->theirs, &q, sizeof(q), fds, ARRAY_SIZE(fds), 0),
		sizeof(q));
	assert_int_equal(q.n, META_LAYERS_MAX);
	assert_int_equal(q.opaque_user, 1);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		assert_true(fds[i] >= 0);
		(void)close(fds[i]);
	}
	assert_int_equal(meta_merge(f->ours, f->ours, files,
				    META_LAYERS_MAX + 1, true, &key, &f->e),
			 -EOVERFLOW);
	assert_int_equal(
		meta_merge(f->ours, f->ours, files, 0, true, &key, &f->e),
		-EOVERFLOW);
}

static void test_no(void **state)
{
	struct fixture *f = *state;

	says(f, META_VERSION, EBADMSG, "nid 5:\n\033[2Jlinks", 17);
	assert_int_equal(ask(f), -EBADMSG);
	/* It has parsed what is hostile: its text may be anything. */
	assert_null(strpbrk(f->e.text, "\n\033"));
	assert_non_null(strstr(f->e.text, "nid 5:"));
}

static void test_died(void **state)
{
	struct fixture *f = *state;

	(void)close(f->theirs);
	f->theirs = -1;
	assert_int_equal(ask(f), -ECHILD);
}

static void test_died_when_asked(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(shutdown(f->theirs, SHUT_WR), 0);
	assert_int_equal(ask(f), -ECHILD);
}

static void test_wrong_answers(void **state)
{
	struct fixture *f = *state;
	char text[1000];

	says(f, META_VERSION + 1, 0, "", 0);
	assert_int_equal(ask(f), -EPROTO);
	says(f, META_VERSION, UINT32_MAX, "", 0);
	assert_int_equal(ask(f), -EPROTO);
	assert_int_equal(send(f->theirs, text, 3, 0), 3);
	assert_int_equal(ask(f), -EPROTO);
	memset(text, 'x', sizeof(text));
	says(f, META_VERSION, EBADMSG, text, sizeof(text));
	assert_int_equal(ask(f), -EMSGSIZE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_yes),  T(test_all_descriptors), T(test_no),
		T(test_died), T(test_died_when_asked), T(test_wrong_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
