/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: finding the monitors that a snapshotter before us has left.
 *
 * Each listens on SUP_DIR/<pid>.sup, those of other snapshotters and of
 * mount.estargz too, and takes who connects for its supervisor. So whose it is
 * must be known before: its command line names the place of the mount.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/buf.h"
#include "common/io.h"
#include "daemon/snapshotter/layer.h"
#define LOG_MOD "adopt"
#include "common/log.h"

#define CMDLINE_BYTES_MAX KIB(64)

/* A connection whose READY is awaited. */
struct adoption {
	struct loop_io io; /* first */
	struct list node;
	struct layers *ls;
	int64_t id;
	uint64_t due_ns;
};

/* The layer whose mount point a word is, 0 if it is none. */
static int64_t id_of_path(const struct layers *ls, const char *word)
{
	size_t n = strlen(ls->mounts);
	long long id;
	char *end;

	if (strncmp(word, ls->mounts, n) != 0 || word[n] != '/' ||
	    word[n + 1] < '1' || word[n + 1] > '9')
		return 0;
	errno = 0;
	id = strtoll(word + n + 1, &end, 10);
	return errno == 0 && *end == '\0' ? id : 0;
}

/* The layer that a process serves, 0 if none of ours. */
static int64_t id_of_process(const struct layers *ls, long pid)
{
	CLEANUP_BUF struct buf b = BUF_INIT(CMDLINE_BYTES_MAX);
	char path[64];
	int64_t id = 0;

	(void)snprintf(path, sizeof(path), "/proc/%ld/cmdline", pid);
	if (io_read_file(AT_FDCWD, path, &b) < 0)
		return 0;
	for (size_t at = 0; id == 0 && at < b.len; at += strlen(b.p + at) + 1)
		id = id_of_path(ls, b.p + at);
	return id;
}

static int connect_to(long pid, int *ret)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	CLEANUP_CLOSE int s = -EBADF;

	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), SUP_DIR "/%ld.sup",
		       pid);
	s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0 || connect(s, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	*ret = TAKE_FD(s);
	return 0;
}

static struct layer *find_any(struct layers *ls, int64_t id)
{
	LIST_EACH(it, &ls->all)
	{
		struct layer *l = LIST_ENTRY(it, struct layer, node);

		if (l->id == id)
			return l;
	}
	return NULL;
}

static bool is_awaited(const struct layers *ls, int64_t id)
{
	LIST_EACH(it, &ls->adopting)
	{
		if (LIST_ENTRY(it, struct adoption, node)->id == id)
			return true;
	}
	return false;
}

/* The end of one. The last of its layer decides what becomes of that. */
static void settle(struct adoption *a)
{
	struct layers *ls = a->ls;
	struct layer *l;

	list_del(&a->node);
	if (a->io.fd >= 0) {
		loop_io_del(ls->loop, &a->io);
		(void)close(a->io.fd);
	}
	layers_lock(ls);
	l = find_any(ls, a->id);
	if (l != NULL && l->state == LAYER_STARTING && l->io.fd < 0 &&
	    !is_awaited(ls, a->id)) {
		l->state = LAYER_NONE;
		l->restore = !l->dropped;
		(void)pthread_cond_broadcast(&l->changed);
	}
	layers_unlock(ls);
	free(a);
	layers_kick(ls);
}

/* Whether that session is what is mounted there. A monitor may outlive its
 * mount, as long as an overlayfs or an open file needs it. */
static bool is_mounted(const char *target, const struct sup_session *s)
{
	struct statx sx;

	return statx(AT_FDCWD, target, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT,
		     STATX_TYPE, &sx) == 0 &&
	       sx.stx_dev_major == s->dev_major &&
	       sx.stx_dev_minor == s->dev_minor;
}

static void on_packet(struct loop_io *io, uint32_t events UNUSED)
{
	struct adoption *a = LIST_ENTRY(io, struct adoption, io);
	struct layers *ls = a->ls;
	struct supmsg m;
	struct layer *l;
	int r = supmsg_recv(io->fd, &m);

	if (r == -EAGAIN)
		return;
	if (r == 1 && m.type == SUP_READY) {
		layers_lock(ls);
		l = find_any(ls, a->id);
		layers_unlock(ls);
		if (l != NULL && l->io.fd < 0 &&
		    strcmp(m.text, l->target) == 0 &&
		    is_mounted(l->target, &m.session)) {
			loop_io_del(ls->loop, io);
			layer_adopt(l, TAKE_FD(io->fd), &m);
		} else {
			(void)close(m.fuse_fd);
		}
	} else {
		log_warn("layer=%" PRId64 " msg=\"its monitor cannot be "
			 "adopted: %s\"",
			 a->id,
			 r == -EOPNOTSUPP ? "of another version"
					  : "it does not say that it is ready");
	}
	settle(a);
}

static int adopt_one(struct layers *ls, int64_t id, long pid)
{
	struct adoption *a = calloc(1, sizeof(*a));
	struct layer *l = find_any(ls, id);
	int r;

	if (a == NULL)
		return -ENOMEM;
	a->io = (struct loop_io){.fd = -1, .fn = on_packet};
	a->ls = ls;
	a->id = id;
	/* It may be mounting just now. */
	a->due_ns = io_now_ns() + ls->c->mount_timeout_s * NSEC_PER_SEC;
	r = connect_to(pid, &a->io.fd);
	if (r == 0 && l == NULL) {
		struct layer_row row = {.id = id};

		l = layer_new(ls, &row);
		r = l != NULL ? 0 : -ENOMEM;
		if (l != NULL)
			l->dropped = true;
	}
	if (r == 0)
		r = loop_io_add(ls->loop, &a->io, EPOLLIN);
	if (r < 0) {
		if (a->io.fd >= 0)
			(void)close(a->io.fd);
		free(a);
		return r;
	}
	list_add(&ls->adopting, &a->node);
	l->state = LAYER_STARTING;
	return 0;
}

void adopt_scan(struct layers *ls)
{
	DIR *d = opendir(SUP_DIR);
	struct dirent *de;

	while (d != NULL && (de = readdir(d)) != NULL) {
		char *end;
		long pid = strtol(de->d_name, &end, 10);
		int64_t id;
		int r;

		if (pid <= 0 || strcmp(end, ".sup") != 0)
			continue;
		id = id_of_process(ls, pid);
		if (id == 0)
			continue;
		r = adopt_one(ls, id, pid);
		if (r < 0)
			log_warn("layer=%" PRId64 " pid=%ld msg=\"its monitor "
				 "cannot be adopted: %s\"",
				 id, pid, err_name(r));
	}
	if (d != NULL)
		(void)closedir(d);
}

uint64_t adopt_turn(struct layers *ls)
{
	uint64_t now = io_now_ns(), due_ns = 0;

	LIST_EACH_SAFE(it, &ls->adopting)
	{
		struct adoption *a = LIST_ENTRY(it, struct adoption, node);

		if (now >= a->due_ns)
			settle(a);
		else if (due_ns == 0 || a->due_ns < due_ns)
			due_ns = a->due_ns;
	}
	return due_ns;
}

void adopt_done(struct layers *ls)
{
	while (!list_empty(&ls->adopting)) {
		struct adoption *a =
			LIST_ENTRY(ls->adopting.next, struct adoption, node);

		list_del(&a->node);
		loop_io_del(ls->loop, &a->io);
		(void)close(a->io.fd);
		free(a);
	}
}
