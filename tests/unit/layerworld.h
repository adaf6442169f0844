/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of a snapshotter, with tests/tools/fakefs as estargzfs. */
#ifndef TESTS_UNIT_LAYERWORLD_H
#define TESTS_UNIT_LAYERWORLD_H

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/snapshotter/layer.h"
#include "tests/unit/tmproot.h"

#define MOUNT_TIMEOUT_S 60u

/* A snapshotter without its service: a tree, layers, and the loop's thread. */
struct world {
	char dir[64];
	char log[96];
	char fifo[96];
	int fuse; /* reading end of what the fakes hold */
	struct config c;
	struct tree *t;
	struct layers *ls;
	struct loop *loop;
	struct loop_io stop;
	pthread_t thread;
};

static inline void on_stop(struct loop_io *io, uint32_t events UNUSED)
{
	loop_stop(LIST_ENTRY(io, struct world, stop)->loop);
}

static inline void *run_loop(void *arg)
{
	struct world *w = arg;

	assert_int_equal(loop_run(w->loop), 0);
	return NULL;
}

static inline void open_layers(struct world *w)
{
	struct err e = {0};
	char *path = NULL;

	assert_true(asprintf(&path, "%s/snapshots.db", w->dir) > 0);
	w->loop = loop_new();
	assert_non_null(w->loop);
	if (tree_open(&w->t, path, &e) < 0 ||
	    layers_open(&w->ls, &w->c, w->t, w->loop, &e) < 0)
		fail_msg("%s", e.text);
	free(path);
	w->stop = (struct loop_io){
		.fd = eventfd(0, EFD_CLOEXEC),
		.fn = on_stop,
	};
	assert_int_equal(loop_io_add(w->loop, &w->stop, EPOLLIN), 0);
	assert_int_equal(pthread_create(&w->thread, NULL, run_loop, w), 0);
}

static inline void close_layers(struct world *w)
{
	const uint64_t one = 1;

	assert_int_equal(write(w->stop.fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(pthread_join(w->thread, NULL), 0);
	layers_close(w->ls);
	tree_close(w->t);
	loop_free(w->loop);
	(void)close(w->stop.fd);
	w->ls = NULL;
}

static inline char *PRINTF_LIKE(2, 3) set(char **to, const char *fmt, ...)
{
	va_list ap;

	free(*to);
	va_start(ap, fmt);
	assert_true(vasprintf(to, fmt, ap) >= 0);
	va_end(ap);
	return *to;
}

static inline int setup(void **state)
{
	const char *top = getenv("top_builddir");
	struct world *w = calloc(1, sizeof(*w));
	int fd;

	assert_non_null(w);
	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/test-layers.XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	(void)snprintf(w->log, sizeof(w->log), "%s/log", w->dir);
	(void)snprintf(w->fifo, sizeof(w->fifo), "%s/fuse", w->dir);
	fd = open(w->log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(mkfifo(w->fifo, 0600), 0);
	w->fuse = open(w->fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(w->fuse >= 0);
	(void)setenv("FAKEFS_LOG", w->log, 1);
	(void)setenv("FAKEFS_FUSE", w->fifo, 1);
	(void)setenv("NOTIFY_SOCKET", "/nonexistent", 1);
	assert_int_equal(config_init(&w->c), 0);
	(void)set(&w->c.root, "%s", w->dir);
	(void)set(&w->c.fetcher_address, "%s/fetcher.sock", w->dir);
	(void)set(&w->c.estargzfs, "%s/tests/tools/fakefs",
		  top != NULL ? top : ".");
	w->c.fetcher_start = false;
	w->c.mount_timeout_s = MOUNT_TIMEOUT_S;
	open_layers(w);
	*state = w;
	return 0;
}

static inline int teardown(void **state)
{
	struct world *w = *state;

	if (w->ls != NULL)
		close_layers(w);
	(void)close(w->fuse);
	config_done(&w->c);
	(void)tmproot_remove(w->dir);
	free(w);
	return 0;
}

#endif
