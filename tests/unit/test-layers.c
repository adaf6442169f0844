/* SPDX-License-Identifier: Apache-2.0 */
/* Who serves a layer, and that it goes on being served: with tests/tools/fakefs
 * as estargzfs, which mounts nothing. */
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
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/layerdir.h"
#include "common/listen.h"
#include "common/present.h"
#include "common/proto.h"
#include "daemon/snapshotter/expect.h"
#include "tests/unit/layerworld.h"

#define WAIT_MS 60000
#define THREADS 16

/* ---- what is looked at ------------------------------------------------- */

/* How many lines of the log have this text. */
static unsigned count(const struct world *w, const char *text)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	unsigned n = 0;

	assert_int_equal(io_read_file(AT_FDCWD, w->log, &b), 0);
	for (const char *p = b.p; p != NULL && (p = strstr(p, text)) != NULL;
	     p++)
		n++;
	return n;
}

/* Polls until a condition holds. */
#define WAIT_FOR(cond)                                                 \
	do {                                                           \
		uint64_t end_ = io_now_ns() + WAIT_MS * NSEC_PER_MSEC; \
		while (!(cond)) {                                      \
			if (io_now_ns() > end_)                        \
				fail_msg("waited in vain: %s", #cond); \
			(void)poll(NULL, 0, 5);                        \
		}                                                      \
	} while (0)

/* The process of the last line with that text. */
static pid_t last_pid(const struct world *w, const char *text)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MIB(1));
	const char *line = NULL;

	assert_int_equal(io_read_file(AT_FDCWD, w->log, &b), 0);
	for (const char *p = b.p; p != NULL && (p = strstr(p, text)) != NULL;
	     p++)
		line = p;
	assert_non_null(line);
	while (line > b.p && line[-1] != '\n')
		line--;
	return (pid_t)strtol(line, NULL, 10);
}

static bool is_dead(pid_t pid)
{
	return kill(pid, 0) < 0 && errno == ESRCH;
}

/* Whether anybody holds a session: the FIFO's writing end. */
static bool has_session(const struct world *w)
{
	char c;

	return read(w->fuse, &c, 1) < 0 && errno == EAGAIN;
}

static bool has_target(const struct world *w, int64_t id)
{
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/m/%" PRId64, w->dir, id);
	return access(path, F_OK) == 0;
}

/* ---- what is done ------------------------------------------------------ */

static struct lazy lazy_of(const char *reference, uint8_t number)
{
	struct lazy z = {.blob = {{number, 1}}, .toc = {{number, 2}}};

	(void)set(&z.reference, "%s", reference);
	(void)set(&z.repository, "%.*s", (int)strcspn(reference + 5, ":") + 5,
		  reference);
	return z;
}

static int64_t mount_layer(struct world *w, const char *reference,
			   uint8_t number, struct err *e)
{
	CLEANUP_LAZY struct lazy z = lazy_of(reference, number);

	*e = (struct err){0};
	return layers_mount(w->ls, &z, e);
}

/* A layer that is a snapshot, of that name. */
static int64_t make_layer(struct world *w, const char *name, const char *parent,
			  const char *reference, uint8_t number)
{
	const struct labels none = {0};
	struct err e;
	int64_t id = mount_layer(w, reference, number, &e);

	if (id <= 0)
		fail_msg("%s", e.text);
	if (tree_create_lazy(w->t, name, parent, &none, id, 1, &e) < 0)
		fail_msg("%s", e.text);
	layers_release(w->ls, id);
	return id;
}

static void remove_snapshot(struct world *w, const char *name)
{
	CLEANUP_SNAP struct snap s = {0};
	struct err e = {0};

	if (tree_remove(w->t, name, &s, &e) < 0)
		fail_msg("%s", e.text);
	layers_collect(w->ls);
}

static int need(struct world *w, const char *name, struct err *e)
{
	int r;
	CLEANUP_CHAIN struct chain c = {0};
	CLEANUP_SNAP struct snap s = {0};
	struct chain_link *v;

	*e = (struct err){0};
	assert_int_equal(tree_get(w->t, name, &s, &c, e), 0);
	/* With the snapshot itself, as for its child. */
	v = reallocarray(c.v, c.n + 1, sizeof(*v));
	assert_non_null(v);
	v[c.n++] = (struct chain_link){.id = s.id, .layer = s.layer};
	c.v = v;
	r = layers_need(w->ls, &c, false, e);
	if (r == 0)
		layers_named(w->ls, &c);
	return r;
}

/* ---- tests ------------------------------------------------------------- */

static void test_mount_and_end(void **state)
{
	struct world *w = *state;
	int64_t id = make_layer(w, "a", "", "h.io/r:ok", 1);
	pid_t pid = last_pid(w, "start");

	assert_int_equal(count(w, "start"), 1);
	assert_int_equal(count(w, "layer=sha256:0101"), 1);
	assert_int_equal(count(w, "toc_digest=sha256:0102"), 1);
	assert_int_equal(count(w, "suid,dev"), 1);
	assert_int_equal(count(w, "opaque=user"), 0);
	assert_true(has_target(w, id));
	assert_true(has_session(w));
	remove_snapshot(w, "a");
	WAIT_FOR(!has_target(w, id));
	assert_int_equal(count(w, "end"), 1);
	WAIT_FOR(is_dead(pid));
	WAIT_FOR(!has_session(w));
}

/* Nobody made a snapshot of it. */
static void test_released(void **state)
{
	struct world *w = *state;
	struct err e;
	int64_t id = mount_layer(w, "h.io/r:ok", 1, &e);

	assert_true(id > 0);
	layers_collect(w->ls);
	assert_true(has_target(w, id));
	layers_release(w->ls, id);
	WAIT_FOR(!has_target(w, id));
	assert_int_equal(count(w, "end"), 1);
}

/* What fakefs waits for. */
static void let_go(const struct world *w)
{
	CLEANUP_FREE char *go = NULL;

	assert_true(asprintf(&go, "%s.go", w->log) > 0);
	assert_int_equal(io_write_file(AT_FDCWD, go, "", 0, 0600), 0);
}

/* A file of the layer that lazy_of() numbers so. */
static void make_file(const struct world *w, uint8_t number, const char *name,
		      const void *p, size_t n)
{
	const struct digest toc = {{number, 2}};
	CLEANUP_FREE char *dir = layerdir_path(w->dir, &toc, false, false);
	CLEANUP_FREE char *path = NULL;

	assert_non_null(dir);
	assert_int_equal(io_mkdir_p(dir, 0700), 0);
	assert_true(asprintf(&path, "%s/%s", dir, name) > 0);
	assert_int_equal(io_write_file(AT_FDCWD, path, p, n, 0600), 0);
}

#define AHEAD (EXPECT_AHEAD + 1)

/* The first layer of an image is asked for whose labels name AHEAD others. */
static int64_t mount_first(struct world *w, struct lazy_blob *others)
{
	CLEANUP_LAZY struct lazy z = lazy_of("h.io/r:ok", 1);
	struct err e = {0};
	int64_t id;

	for (uint8_t i = 0; i < AHEAD; i++)
		others[i] = (struct lazy_blob){.digest = {{i + 2, 1}},
					       .toc = {{i + 2, 2}},
					       .has_toc = true};
	z.others = others;
	z.n_others = AHEAD;
	id = layers_mount(w->ls, &z, &e);
	z.others = NULL;
	if (id <= 0)
		fail_msg("%s", e.text);
	return id;
}

static struct layer *layer_of(struct world *w, int64_t id)
{
	struct layer *l;

	(void)pthread_mutex_lock(&w->ls->lock);
	l = layer_find(w->ls, id);
	(void)pthread_mutex_unlock(&w->ls->lock);
	assert_non_null(l);
	return l;
}

static void test_expected(void **state)
{
	struct world *w = *state;
	struct lazy_blob others[AHEAD];
	int64_t first = mount_first(w, others), second;
	struct err e;

	WAIT_FOR(count(w, "start") == 1 + EXPECT_AHEAD);
	assert_int_equal(count(w, "layer=sha256:0201"), 1);
	assert_int_equal(count(w, "toc_digest=sha256:0202"), 1);
	/* The one that is asked for is no other. */
	second = mount_layer(w, "h.io/r:ok", 2, &e);
	assert_true(second > first);
	assert_int_equal(count(w, "start"), 1 + EXPECT_AHEAD);
	assert_true(layer_of(w, second)->expected_ns == 0);
	/* Those that are not go when their time is over, and not before. */
	layers_collect(w->ls);
	for (int64_t id = second + 1; id < second + EXPECT_AHEAD; id++) {
		struct layer *l = layer_of(w, id);

		uint64_t until_ns;

		WAIT_FOR(has_target(w, id));
		(void)pthread_mutex_lock(&w->ls->lock);
		until_ns = l->expected_ns;
		l->expected_ns = 1;
		(void)pthread_mutex_unlock(&w->ls->lock);
		assert_true(until_ns > io_now_ns());
	}
	layers_kick(w->ls);
	for (int64_t id = second + 1; id < second + EXPECT_AHEAD; id++)
		WAIT_FOR(!has_target(w, id));
	assert_true(has_target(w, first) && has_target(w, second));
	layers_release(w->ls, second);
	layers_release(w->ls, first);
	WAIT_FOR(!has_target(w, first) && !has_target(w, second));
	assert_int_equal(count(w, "start"), 1 + EXPECT_AHEAD);
}

static enum layer_state state_of(struct world *w, struct layer *l)
{
	enum layer_state s;

	(void)pthread_mutex_lock(&w->ls->lock);
	s = l->state;
	(void)pthread_mutex_unlock(&w->ls->lock);
	return s;
}

/* A layer of an image that has another one, which is expected then. */
static int64_t mount_before(struct world *w, const char *reference)
{
	CLEANUP_LAZY struct lazy z = lazy_of(reference, 1);
	struct lazy_blob other = {
		.digest = {{2, 1}}, .toc = {{2, 2}}, .has_toc = true};
	struct err e = {0};
	int64_t id;

	z.others = &other;
	z.n_others = 1;
	id = layers_mount(w->ls, &z, &e);
	z.others = NULL;
	WAIT_FOR(count(w, "start") == 2);
	return id;
}

static void *mount_other(void *arg)
{
	struct err e;

	return (void *)(intptr_t)mount_layer(arg, "h.io/other:ok", 2, &e);
}

/* What another image's registry does not have, this one's may. */
static void test_expected_elsewhere(void **state)
{
	struct world *w = *state;
	int64_t id;

	assert_int_equal(mount_before(w, "h.io/r:fail"), -EACCES);
	WAIT_FOR(state_of(w, layer_of(w, 2)) == LAYER_NONE);
	id = (intptr_t)mount_other(w);
	assert_true(id > 0);
	layers_release(w->ls, id);
	WAIT_FOR(!has_target(w, id));
}

static bool is_met(struct world *w, struct layer *l)
{
	bool met;

	layers_lock(w->ls);
	met = l->expected_ns == 0;
	layers_unlock(w->ls);
	return met;
}

/* Also where that comes out while it is waited for. */
static void test_joined_elsewhere(void **state)
{
	struct world *w = *state;
	int64_t id = mount_before(w, "h.io/r:late");
	pthread_t thread;
	void *got;

	assert_int_equal(pthread_create(&thread, NULL, mount_other, w), 0);
	WAIT_FOR(is_met(w, layer_of(w, 2)));
	let_go(w);
	assert_int_equal(pthread_join(thread, &got), 0);
	assert_true((intptr_t)got > 0);
	assert_int_equal(count(w, "run h.io/other:ok"), 1);
	layers_release(w->ls, (intptr_t)got);
	layers_release(w->ls, id);
	WAIT_FOR(!has_target(w, id) && !has_target(w, (intptr_t)got));
}

/* What is here already, and what nothing is said of, is not. */
static void test_not_expected(void **state)
{
	struct world *w = *state;
	CLEANUP_LAZY struct lazy z = lazy_of("h.io/r:ok", 1);
	struct lazy_blob others[2] = {
		{.digest = {{2, 1}}, .toc = {{2, 2}}, .has_toc = true},
		{.digest = {{3, 1}}},
	};
	struct err e = {0};
	int64_t id;

	make_file(w, 2, "chunks", "", 0);
	z.others = others;
	z.n_others = ARRAY_SIZE(others);
	id = layers_mount(w->ls, &z, &e);
	z.others = NULL;
	assert_true(id > 0);
	assert_int_equal(count(w, "start"), 1);
	layers_release(w->ls, id);
	WAIT_FOR(!has_target(w, id));
	assert_int_equal(count(w, "start"), 1);
}

static enum native_state native_state(const struct world *w, struct layer *l)
{
	enum native_state s;

	(void)pthread_mutex_lock(&w->ls->lock);
	s = l->native.state;
	(void)pthread_mutex_unlock(&w->ls->lock);
	return s;
}

/* What is damaged is looked at again when time has passed, and at once when it is said
 * to be complete while it is looked at. */
static void test_native_again(void **state)
{
	struct world *w = *state;
	const struct present_header_le h = {
		.version = htole32(PRESENT_VERSION),
		.state = htole32(PRESENT_COMPLETE),
	};
	int64_t id = make_layer(w, "a", "", "h.io/r:ok", 1);
	struct layer *l = layer_of(w, id);
	struct native n;
	uint64_t before_ns;

	make_file(w, 1, "present", &h, sizeof(h));
	make_file(w, 1, "chunks", "", 0);
	make_file(w, 1, "layer.erofs", "", 0);
	native_complete(l, false);
	WAIT_FOR(count(w, "meta") == 1);
	assert_int_equal(native_state(w, l), NATIVE_CHECKING);
	native_complete(l, true);
	before_ns = io_now_ns();
	let_go(w);
	WAIT_FOR(count(w, "meta") == 2 && native_state(w, l) == NATIVE_BAD);
	(void)pthread_mutex_lock(&w->ls->lock);
	n = l->native;
	l->native.retry_ns = io_now_ns();
	(void)pthread_mutex_unlock(&w->ls->lock);
	/* Not because time has passed. */
	assert_int_equal(n.n_bad, 1);
	assert_true(n.retry_ns >= before_ns + native_pause_ns(0));
	layers_kick(w->ls);
	WAIT_FOR(count(w, "meta") == 3 && native_state(w, l) == NATIVE_BAD);
	assert_int_equal(l->native.n_bad, 2);
	assert_int_equal(native_pause_ns(1), 2 * native_pause_ns(0));
	assert_int_equal(native_pause_ns(UINT32_MAX), 4096 * NSEC_PER_SEC);
	remove_snapshot(w, "a");
	WAIT_FOR(!has_target(w, id));
}

static void test_many_at_once(void **state)
{
	struct world *w = *state;
	pthread_t v[THREADS];
	void *got[THREADS];

	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&v[i], NULL, mount_other, w),
				 0);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(v[i], &got[i]), 0);
	for (size_t i = 0; i < THREADS; i++) {
		assert_true((intptr_t)got[i] > 0);
		assert_ptr_equal(got[i], got[0]);
		layers_release(w->ls, (intptr_t)got[i]);
	}
	assert_int_equal(count(w, "start"), 1);
	WAIT_FOR(!has_target(w, (intptr_t)got[0]));
}

/* A layer of two snapshots ends with the second. */
static void test_shared(void **state)
{
	struct world *w = *state;
	int64_t id = make_layer(w, "a", "", "h.io/r:ok", 1);

	assert_int_equal(make_layer(w, "b", "", "h.io/other:ok", 1), id);
	assert_true(make_layer(w, "c", "", "h.io/r:ok", 2) != id);
	assert_int_equal(count(w, "start"), 2);
	remove_snapshot(w, "a");
	assert_true(has_target(w, id));
	remove_snapshot(w, "b");
	WAIT_FOR(!has_target(w, id));
	assert_int_equal(count(w, "end"), 1);
}

static void assert_nothing_left(struct world *w)
{
	struct stat st;
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/m", w->dir);
	WAIT_FOR(stat(path, &st) == 0 && st.st_nlink == 2);
}

/* When it is given up, once that is known. */
static uint64_t due_of(struct world *w, struct layer *l)
{
	uint64_t due_ns;

	(void)pthread_mutex_lock(&w->ls->lock);
	due_ns = l->due_ns;
	(void)pthread_mutex_unlock(&w->ls->lock);
	return due_ns;
}

/* The time that an estargzfs has to become ready, of which nothing was heard since
 * @since_ns, is over. */
static void let_time_pass(struct world *w, struct layer *l, uint64_t since_ns)
{
	const uint64_t has_ns = w->c.mount_timeout_s * NSEC_PER_SEC;

	WAIT_FOR(due_of(w, l) != 0);
	assert_in_range(due_of(w, l), since_ns + has_ns, io_now_ns() + has_ns);
	(void)pthread_mutex_lock(&w->ls->lock);
	l->due_ns = 1;
	(void)pthread_mutex_unlock(&w->ls->lock);
	layers_kick(w->ls);
}

/* The one that somebody has to do with. */
static struct layer *only_layer(struct world *w)
{
	struct layer *l = NULL;

	(void)pthread_mutex_lock(&w->ls->lock);
	LIST_EACH(it, &w->ls->all)
	{
		if (!LIST_ENTRY(it, struct layer, node)->dropped)
			l = LIST_ENTRY(it, struct layer, node);
	}
	(void)pthread_mutex_unlock(&w->ls->lock);
	assert_non_null(l);
	return l;
}

/* Somebody who wants a layer of which nothing is heard. */
struct patient {
	struct world *w;
	struct err e;
};

static void *mount_silent(void *arg)
{
	struct patient *p = arg;

	return (void *)(intptr_t)mount_layer(p->w, "h.io/r:silent", 1, &p->e);
}

static void test_silence(void **state)
{
	struct world *w = *state;
	struct patient p = {.w = w};
	uint64_t since_ns = io_now_ns();
	char want[64];
	pthread_t thread;
	void *got;

	assert_int_equal(pthread_create(&thread, NULL, mount_silent, &p), 0);
	WAIT_FOR(count(w, "start") == 1);
	let_time_pass(w, only_layer(w), since_ns);
	assert_int_equal(pthread_join(thread, &got), 0);
	assert_int_equal((intptr_t)got, -ETIMEDOUT);
	(void)snprintf(want, sizeof(want), "not ready after %u s",
		       MOUNT_TIMEOUT_S);
	if (strstr(p.e.text, want) == NULL)
		fail_msg("%s", p.e.text);
	assert_nothing_left(w);
	WAIT_FOR(is_dead(last_pid(w, "run h.io/r:silent")));
	assert_int_equal(count(w, "start"), 1);
}

/* Who has waited for another image's repository has a try of his own, and no more
 * time for that than is left, or than a part of it. */
static void test_joined_in_vain(void **state)
{
	struct world *w = *state;
	struct patient first = {.w = w};
	pthread_t thread;
	struct err e;
	void *got;

	w->c.mount_timeout_s = 3;
	assert_int_equal(pthread_create(&thread, NULL, mount_silent, &first),
			 0);
	WAIT_FOR(count(w, "start") == 1);
	assert_int_equal(mount_layer(w, "h.io/other:silent", 1, &e),
			 -ETIMEDOUT);
	/* It is not this one that was given up: who waits for it has. */
	if (strstr(e.text, "not mounted after 3 s") == NULL)
		fail_msg("%s", e.text);
	assert_int_equal(pthread_join(thread, &got), 0);
	assert_int_equal((intptr_t)got, -ETIMEDOUT);
	/* Who is late to hear of that has waited for the other's try, too. */
	if (strstr(first.e.text, "not ready after 3 s") == NULL &&
	    strstr(first.e.text, "not mounted after 3 s") == NULL)
		fail_msg("%s", first.e.text);
	assert_int_equal(count(w, "run h.io/r:silent"), 1);
	/* Nobody waits for it any more, and its first line may be still to come. */
	WAIT_FOR(count(w, "run h.io/other:silent") == 1);
}

static void test_failures(void **state)
{
	static const struct {
		const char *reference, *text;
		int code;
	} bad[] = {
		{"h.io/r:fail", "the registry says no", -EACCES},
		{"h.io/r:die", "estargzfs died while mounting", -ECHILD},
	};
	struct world *w = *state;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(mount_layer(w, bad[i].reference, 1, &e),
				 bad[i].code);
		if (strstr(e.text, bad[i].text) == NULL)
			fail_msg("%s", e.text);
		assert_nothing_left(w);
	}
	/* Asked for again, it is tried again; by itself where it just died. */
	assert_int_equal(mount_layer(w, "h.io/r:fail", 1, &e), -EACCES);
	assert_int_equal(count(w, "start"), 1 + 3 + 1);
	(void)set(&w->c.estargzfs, "/nonexistent/estargzfs");
	assert_int_equal(mount_layer(w, "h.io/r:ok", 1, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/nonexistent/estargzfs"));
	assert_nothing_left(w);
	w->c.lazy = false;
	assert_int_equal(mount_layer(w, "h.io/r:ok", 1, &e), -ENODATA);
}

/* Killed while it mounts: nobody notices. */
static void test_second_try(void **state)
{
	struct world *w = *state;

	(void)make_layer(w, "a", "", "h.io/r:second", 1);
	assert_int_equal(count(w, "start"), 2);
	assert_true(has_session(w));
}

static void test_successor(void **state)
{
	struct world *w = *state;
	int64_t id = make_layer(w, "a", "", "h.io/r:ok", 1);
	pid_t pid = last_pid(w, "start");
	struct err e;

	(void)kill(pid, SIGKILL);
	WAIT_FOR(count(w, "go-on") == 1);
	assert_int_equal(need(w, "a", &e), 0);
	/* The session was held all the time: it is the same. */
	assert_true(has_session(w));
	assert_int_equal(count(w, "start"), 1);
	WAIT_FOR(is_dead(pid));
	/* The successor is as good as the first. */
	remove_snapshot(w, "a");
	WAIT_FOR(!has_target(w, id));
	WAIT_FOR(!has_session(w));
}

/* Something else is where it was mounted: others hold on to what was. */
static void test_lost(void **state)
{
	struct world *w = *state;
	int64_t id = make_layer(w, "a", "", "h.io/r:ok", 1);
	pid_t pid = last_pid(w, "start");
	struct err e;
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/m/%" PRId64, w->dir, id);
	assert_int_equal(mount("none", path, "tmpfs", 0, NULL), 0);
	assert_int_equal(need(w, "a", &e), 0);
	assert_int_equal(count(w, "start"), 2);
	assert_int_equal(umount2(path, MNT_DETACH), -1);
	assert_false(is_dead(pid));
	WAIT_FOR(count(w, "alone") == 1);
	/* Only once. */
	assert_int_equal(need(w, "a", &e), 0);
	assert_int_equal(make_layer(w, "b", "", "h.io/r:ok", 1), id);
	assert_int_equal(count(w, "start"), 2);
	remove_snapshot(w, "a");
	remove_snapshot(w, "b");
	WAIT_FOR(!has_target(w, id));
	assert_int_equal(count(w, "end"), 1);
}

static void test_six_deaths(void **state)
{
	struct world *w = *state;
	int64_t id = make_layer(w, "a", "", "h.io/r:once", 1);
	struct err e;

	(void)kill(last_pid(w, "start"), SIGKILL);
	/* Five successors die; then the session is let go of, and whoever still
	 * waits is told. */
	WAIT_FOR(!has_session(w));
	WAIT_FOR(state_of(w, layer_of(w, id)) == LAYER_NONE);
	assert_int_equal(count(w, "go-on"), 5);
	/* Asked for again, it is mounted anew. */
	assert_int_equal(need(w, "a", &e), 0);
	assert_int_equal(count(w, "start"), 2);
	assert_true(has_session(w));
}

/* Successors that neither serve nor die: not for ever. */
static void test_hanging_successors(void **state)
{
	struct world *w = *state;
	int64_t id = make_layer(w, "a", "", "h.io/r:hangs", 1);
	struct layer *l = layer_of(w, id);
	uint64_t since_ns = io_now_ns();
	struct err e;

	(void)kill(last_pid(w, "start"), SIGKILL);
	for (unsigned i = 1; i <= LAYER_HUNG_MAX; i++) {
		WAIT_FOR(count(w, "go-on") == i);
		let_time_pass(w, l, since_ns);
	}
	WAIT_FOR(!has_session(w));
	WAIT_FOR(state_of(w, l) == LAYER_NONE);
	assert_int_equal(count(w, "go-on"), LAYER_HUNG_MAX);
	assert_int_equal(need(w, "a", &e), 0);
	assert_int_equal(count(w, "start"), 2);
}

static void test_adopted(void **state)
{
	struct world *w = *state;
	int64_t a = make_layer(w, "a", "", "h.io/r:ok", 1);
	int64_t b = make_layer(w, "b", "a", "h.io/r:ok", 2);
	struct err e;

	close_layers(w);
	WAIT_FOR(count(w, "alone") == 2);
	assert_true(has_session(w));
	open_layers(w);
	assert_int_equal(need(w, "b", &e), 0);
	assert_int_equal(count(w, "adopted"), 2);
	assert_int_equal(count(w, "start"), 2);
	/* And are ours: succeeded to, and ended. */
	(void)kill(last_pid(w, "start"), SIGKILL);
	WAIT_FOR(count(w, "go-on") == 1);
	remove_snapshot(w, "b");
	remove_snapshot(w, "a");
	WAIT_FOR(!has_target(w, a) && !has_target(w, b));
	WAIT_FOR(!has_session(w));
}

/* Their snapshots went while nobody looked. */
static void test_orphans(void **state)
{
	struct world *w = *state;
	int64_t a = make_layer(w, "a", "", "h.io/r:ok", 1);
	int64_t b = make_layer(w, "b", "", "h.io/r:ok", 2);
	CLEANUP_SNAP struct snap s = {0};
	struct err e = {0};
	char path[96];

	assert_int_equal(tree_remove(w->t, "a", &s, &e), 0);
	close_layers(w);
	/* A mount point that nobody knows. */
	(void)snprintf(path, sizeof(path), "%s/m/99", w->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	open_layers(w);
	assert_false(has_target(w, 99));
	WAIT_FOR(!has_target(w, a));
	assert_true(has_target(w, b));
	assert_int_equal(count(w, "end"), 1);
}

/* The monitors of one snapshotter are not another one's. */
static void test_strangers(void **state)
{
	struct world *w = *state, *other;
	void *p;

	(void)make_layer(w, "a", "", "h.io/r:ok", 1);
	assert_int_equal(setup(&p), 0);
	other = p;
	(void)make_layer(other, "a", "", "h.io/r:ok", 1);
	close_layers(other);
	open_layers(other);
	WAIT_FOR(count(other, "adopted") == 1);
	assert_int_equal(count(w, "adopted"), 0);
	assert_int_equal(count(w, "alone"), 0);
	remove_snapshot(other, "a");
	WAIT_FOR(!has_session(other));
	assert_int_equal(teardown(&p), 0);
}

static size_t n_structs(struct world *w)
{
	size_t n = 0;

	(void)pthread_mutex_lock(&w->ls->lock);
	LIST_EACH(it, &w->ls->all)
	n++;
	(void)pthread_mutex_unlock(&w->ls->lock);
	return n;
}

static void *need_in_thread(void *arg)
{
	struct world *w = arg;
	struct err e;

	return (void *)(intptr_t)need(w, "a", &e);
}

static bool is_waited_for(struct world *w, int64_t id)
{
	bool held;

	(void)pthread_mutex_lock(&w->ls->lock);
	held = layer_find(w->ls, id)->holds > 0;
	(void)pthread_mutex_unlock(&w->ls->lock);
	return held;
}

/* As if all these were being restored, and took their time. */
static bool keep_busy(struct world *w, const int64_t *ids, size_t n)
{
	bool all = true;

	(void)pthread_mutex_lock(&w->ls->lock);
	for (size_t i = 0; i < n; i++)
		all = all && layer_find(w->ls, ids[i])->state == LAYER_READY;
	for (size_t i = 0; all && i < n; i++) {
		struct layer *l = layer_find(w->ls, ids[i]);

		l->state = LAYER_STARTING;
		l->restore = true;
	}
	(void)pthread_mutex_unlock(&w->ls->lock);
	return all;
}

/* One dies while it is adopted: who waits for it gets another, before its turn
 * comes to be restored. */
static void test_adopted_in_vain(void **state)
{
	struct world *w = *state;
	int64_t others[LAYERS_RESTORED_AT_ONCE], id;
	pthread_t thread;
	void *got;

	for (uint8_t i = 0; i < ARRAY_SIZE(others); i++) {
		char name[2] = {(char)('b' + i), '\0'};

		others[i] = make_layer(w, name, "", "h.io/r:ok", i);
	}
	id = make_layer(w, "a", "", "h.io/r:deaf", 99);
	close_layers(w);
	WAIT_FOR(count(w, "alone") == ARRAY_SIZE(others) + 1);
	open_layers(w);
	WAIT_FOR(count(w, "adopted") == ARRAY_SIZE(others) + 1);
	WAIT_FOR(keep_busy(w, others, ARRAY_SIZE(others)));
	assert_int_equal(pthread_create(&thread, NULL, need_in_thread, w), 0);
	WAIT_FOR(is_waited_for(w, id));
	(void)kill(last_pid(w, "start"), SIGKILL);
	assert_int_equal(pthread_join(thread, &got), 0);
	assert_int_equal((intptr_t)got, 0);
	assert_int_equal(count(w, "start"), ARRAY_SIZE(others) + 2);
}

/* The database was taken away, and its numbers begin anew: what is adopted and
 * ended has the place of what is mounted now. */
static void test_numbers_again(void **state)
{
	struct world *w = *state;
	int64_t id = make_layer(w, "a", "", "h.io/r:deaf", 1);
	pid_t pid = last_pid(w, "start");
	char path[96];

	close_layers(w);
	WAIT_FOR(count(w, "alone") == 1);
	(void)snprintf(path, sizeof(path), "%s/snapshots.db", w->dir);
	assert_int_equal(unlink(path), 0);
	open_layers(w);
	WAIT_FOR(count(w, "adopted") == 1);
	assert_int_equal(make_layer(w, "b", "", "h.io/r:ok", 2), id);
	(void)kill(pid, SIGKILL);
	WAIT_FOR(n_structs(w) == 1);
	assert_true(has_target(w, id));
}

/* All processes have gone, as at a reboot: all layers come back by themselves,
 * but for one, which does not hold up the others. */
static void test_restored(void **state)
{
	struct world *w = *state;
	struct err e;

	for (int i = 1; i <= 12; i++) {
		char name[8], parent[8] = "";

		(void)snprintf(name, sizeof(name), "s%d", i);
		if (i > 1)
			(void)snprintf(parent, sizeof(parent), "s%d", i - 1);
		(void)make_layer(w, name, parent, "h.io/r:ok", (uint8_t)i);
	}
	close_layers(w);
	WAIT_FOR(count(w, "alone") == 12);
	assert_int_equal(unlink(w->log), 0);
	WAIT_FOR(!has_session(w));
	assert_int_equal(
		close(open(w->log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
	{
		/* The mount point of the second is no directory. */
		char path[96];

		(void)snprintf(path, sizeof(path), "%s/m/2", w->dir);
		assert_int_equal(rmdir(path), 0);
		assert_int_equal(symlink("/nonexistent", path), 0);
	}
	open_layers(w);
	WAIT_FOR(count(w, "start") >= 11);
	assert_int_equal(need(w, "s1", &e), 0);
	assert_int_equal(need(w, "s12", &e), -EAGAIN);
	if (strstr(e.text, "layer sha256:0201") == NULL ||
	    strstr(e.text, "is not available: ") == NULL)
		fail_msg("%s", e.text);
}

/* ---- the fetcher ------------------------------------------------------- */

/* Instead of estargzd: what it was told, each WARM followed by "--". */
struct fetcher_fake {
	pthread_t thread;
	int listener;
	int stop;
	pthread_mutex_t lock;
	struct buf told; /* guarded by lock */
};

/* One packet. Return: false at the end of the connection */
static bool answer(struct fetcher_fake *f, int s)
{
	const struct proto_hello hello = {
		.h = {.type = PROTO_HELLO, .len = sizeof(hello)},
		.magic = PROTO_MAGIC,
		.version = PROTO_VERSION,
	};
	struct proto_data data = {
		.h = {.type = PROTO_DATA,
		      .flags = PROTO_DATA_END,
		      .len = sizeof(data)},
	};
	uint8_t p[PROTO_PACKET_MAX];
	struct proto_hdr h;
	ssize_t n = recv(s, p, sizeof(p), 0);

	if (n <= 0)
		return false;
	assert_true(n >= (ssize_t)sizeof(h));
	memcpy(&h, p, sizeof(h));
	assert_int_equal(h.len, n);
	if (h.type == PROTO_HELLO)
		return send(s, &hello, sizeof(hello), MSG_NOSIGNAL) > 0;
	assert_int_equal(h.type, PROTO_WARM);
	(void)pthread_mutex_lock(&f->lock);
	assert_int_equal(buf_addf(&f->told, "%.*s--",
				  (int)((size_t)n - sizeof(struct proto_warm)),
				  (const char *)p + sizeof(struct proto_warm)),
			 0);
	(void)pthread_mutex_unlock(&f->lock);
	data.h.id = h.id;
	return send(s, &data, sizeof(data), MSG_NOSIGNAL) > 0;
}

static void *fetcher_main(void *arg)
{
	struct fetcher_fake *f = arg;
	struct pollfd p[32] = {
		{.fd = f->stop, .events = POLLIN},
		{.fd = f->listener, .events = POLLIN},
	};
	nfds_t n = 2;

	while (poll(p, n, -1) > 0 && p[0].revents == 0) {
		for (nfds_t i = 2; i < n; i++) {
			if (p[i].revents != 0 && !answer(f, p[i].fd)) {
				(void)close(p[i].fd);
				p[i].fd = -1;
			}
		}
		if (p[1].revents != 0 && n < ARRAY_SIZE(p)) {
			p[n].events = POLLIN;
			p[n++].fd = accept(f->listener, NULL, NULL);
		}
	}
	for (nfds_t i = 2; i < n; i++) {
		if (p[i].fd >= 0)
			(void)close(p[i].fd);
	}
	return NULL;
}

static void fetcher_start(struct fetcher_fake *f, const char *path)
{
	struct err e = {0};

	*f = (struct fetcher_fake){.told = BUF_INIT(KIB(64))};
	(void)pthread_mutex_init(&f->lock, NULL);
	f->listener = listen_unix(path, SOCK_SEQPACKET, &e);
	if (f->listener < 0)
		fail_msg("%s", e.text);
	f->stop = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(pthread_create(&f->thread, NULL, fetcher_main, f), 0);
}

static void fetcher_stop(struct fetcher_fake *f)
{
	const uint64_t one = 1;

	assert_int_equal(write(f->stop, &one, sizeof(one)), sizeof(one));
	assert_int_equal(pthread_join(f->thread, NULL), 0);
	(void)close(f->listener);
	(void)close(f->stop);
	(void)pthread_mutex_destroy(&f->lock);
}

static void mount_of(struct world *w, uint8_t number, uint8_t n_others,
		     const struct digest *manifest)
{
	CLEANUP_LAZY struct lazy z = lazy_of("h.io/r:ok", number);
	struct err e = {0};
	int64_t id;

	z.has_manifest = manifest != NULL;
	if (manifest != NULL)
		z.manifest = *manifest;
	z.others = calloc(n_others + 1u, sizeof(*z.others));
	assert_non_null(z.others);
	for (uint8_t i = 0; i < n_others; i++)
		z.others[z.n_others++] = (struct lazy_blob){
			.digest = {{(uint8_t)(number + 1 + i), 1}}};
	id = layers_mount(w->ls, &z, &e);
	if (id <= 0)
		fail_msg("%s", e.text);
}

static void mount_with(struct world *w, uint8_t number, uint8_t n_others)
{
	mount_of(w, number, n_others, NULL);
}

static void add_blob(struct buf *b, uint8_t number, const char *end)
{
	const struct digest d = {{number, 1}};
	char s[DIGEST_STR_BYTES];

	assert_int_equal(buf_addf(b, "h.io/r@%s%s", digest_str(&d, s), end), 0);
}

static void test_warm(void **state)
{
	struct world *w = *state;
	CLEANUP_BUF struct buf want = BUF_INIT(KIB(4));
	struct digest toc = {{9, 2}};
	char hex[DIGEST_STR_BYTES], path[256];
	struct fetcher_fake f;

	fetcher_start(&f, w->c.fetcher_address);
	/* The first of four: all of them, and nothing more of the others. */
	for (uint8_t i = 1; i <= 4; i++) {
		mount_with(w, i, (uint8_t)(4 - i));
		add_blob(&want, i, i < 4 ? "\n" : "--");
	}
	/* One whose index is there: nothing. */
	(void)snprintf(path, sizeof(path), "%s/layers/sha256/%s", w->dir,
		       digest_hex(&toc, hex));
	assert_int_equal(io_mkdir_p(path, 0700), 0);
	(void)snprintf(path, sizeof(path), "%s/layers/sha256/%s/chunks", w->dir,
		       hex);
	assert_int_equal(close(open(path, O_CREAT | O_CLOEXEC, 0600)), 0);
	mount_with(w, 9, 1);
	/* Of others that are mounted, nothing either. */
	mount_with(w, 0, 2);
	add_blob(&want, 0, "--");
	/* Whose image names no trace: where to look for it. */
	w->c.prefetch = true;
	mount_of(w, 20, 1, &toc);
	assert_int_equal(buf_addf(&want, "?h.io/r@%s\n", digest_str(&toc, hex)),
			 0);
	add_blob(&want, 20, "\n");
	add_blob(&want, 21, "--");
	w->c.prefetch = false;
	mount_of(w, 30, 0, &toc);
	add_blob(&want, 30, "--");
	assert_string_equal(f.told.p, want.p);
	fetcher_stop(&f);
	buf_done(&f.told);
}

/* An image whose lowest layer is here: the others are new nevertheless. */
static void test_warm_above(void **state)
{
	struct world *w = *state;
	struct lazy_blob others[AHEAD];
	CLEANUP_BUF struct buf want = BUF_INIT(KIB(4));
	struct fetcher_fake f;
	struct err e = {0};

	fetcher_start(&f, w->c.fetcher_address);
	make_file(w, 1, "chunks", "", 0);
	(void)mount_first(w, others);
	for (uint8_t i = 0; i < AHEAD; i++)
		add_blob(&want, i + 2, i + 1u < AHEAD ? "\n" : "--");
	assert_true(mount_layer(w, "h.io/r:ok", 2, &e) > 0);
	assert_string_equal(f.told.p, want.p);
	fetcher_stop(&f);
	buf_done(&f.told);
}

static void test_fetcher_started(void **state)
{
	struct world *w = *state;

	close_layers(w);
	w->c.fetcher_start = true;
	(void)set(&w->c.fetcher_program, "%s", w->c.estargzfs);
	open_layers(w);
	WAIT_FOR(count(w, "- fetcher") == 1);
	assert_int_equal(access(w->c.fetcher_address, F_OK), 0);
	(void)kill(last_pid(w, "- fetcher"), SIGKILL);
	WAIT_FOR(count(w, "- fetcher") == 2);
	/* The next snapshotter finds it. */
	close_layers(w);
	assert_false(is_dead(last_pid(w, "- fetcher")));
	open_layers(w);
	mount_with(w, 1, 0);
	assert_int_equal(count(w, "- fetcher"), 2);
	/* And starts another when that one dies. */
	(void)kill(last_pid(w, "- fetcher"), SIGKILL);
	WAIT_FOR(count(w, "- fetcher") == 3);
}

/* Whoever wants to mount must not wait for one that will never come. */
static void test_fetcher_missing(void **state)
{
	struct world *w = *state;

	close_layers(w);
	w->c.fetcher_start = true;
	(void)set(&w->c.fetcher_program, "/nonexistent/estargzd");
	open_layers(w);
	assert_int_equal(access(w->c.fetcher_address, F_OK), -1);
	mount_with(w, 1, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		TEST(test_mount_and_end),
		TEST(test_released),
		TEST(test_native_again),
		TEST(test_expected),
		TEST(test_expected_elsewhere),
		TEST(test_joined_elsewhere),
		TEST(test_not_expected),
		TEST(test_many_at_once),
		TEST(test_shared),
		TEST(test_joined_in_vain),
		TEST(test_failures),
		TEST(test_silence),
		TEST(test_second_try),
		TEST(test_successor),
		TEST(test_lost),
		TEST(test_six_deaths),
		TEST(test_adopted),
		TEST(test_orphans),
		TEST(test_strangers),
		TEST(test_restored),
		TEST(test_warm),
		TEST(test_warm_above),
		TEST(test_fetcher_started),
		TEST(test_fetcher_missing),
		TEST(test_adopted_in_vain),
		TEST(test_numbers_again),
		TEST(test_hanging_successors),
	};

	if (geteuid() != 0) {
		(void)printf("1..0 # SKIP needs root\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
