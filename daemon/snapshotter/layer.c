/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/layer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

#include "common/buf.h"
#include "common/io.h"
#include "daemon/snapshotter/evfiles.h"
#include "daemon/snapshotter/expect.h"
#include "daemon/snapshotter/place.h"
#define LOG_MOD "layer"
#include "common/log.h"

#define OPTIONS_BYTES_MAX KIB(16)

static void on_packet(struct loop_io *io, uint32_t events);

/* ---- the struct -------------------------------------------------------- */

struct layer *layer_new(struct layers *ls, struct layer_row *row)
{
	struct layer *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	if (asprintf(&l->target, "%s/%" PRId64, ls->mounts, row->id) < 0) {
		free(l);
		return NULL;
	}
	if (asprintf(&l->native.target, "%s/%" PRId64, ls->natives.dir,
		     row->id) < 0) {
		free(l->target);
		free(l);
		return NULL;
	}
	l->io = (struct loop_io){.fd = -1, .fn = on_packet};
	l->ls = ls;
	l->id = row->id;
	l->row = *row;
	*row = (struct layer_row){0};
	(void)pthread_cond_init(&l->changed, NULL);
	l->fuse_fd = -1;
	list_add(&ls->all, &l->node);
	return l;
}

struct layer *layer_find(struct layers *ls, int64_t id)
{
	LIST_EACH(it, &ls->all)
	{
		struct layer *l = LIST_ENTRY(it, struct layer, node);

		if (l->id == id && !l->dropped)
			return l;
	}
	return NULL;
}

static void close_session(struct layer *l)
{
	if (l->fuse_fd >= 0)
		(void)close(TAKE_FD(l->fuse_fd));
}

/* Lets go of the process that serves it, whatever becomes of that. */
static void disconnect(struct layer *l)
{
	if (l->io.fd >= 0) {
		loop_io_del(l->ls->loop, &l->io);
		(void)close(TAKE_FD(l->io.fd));
	}
	if (l->child != NULL)
		child_forget(TAKE_PTR(l->child));
}

void layer_free(struct layer *l)
{
	disconnect(l);
	close_session(l);
	list_del(&l->node);
	(void)pthread_cond_destroy(&l->changed);
	layer_row_done(&l->row);
	free(l->native.target);
	free(l->target);
	free(l);
}

void layer_release(struct layer *l)
{
	struct layers *ls = l->ls;
	bool kick;

	layers_lock(ls);
	assert(l->holds > 0);
	kick = --l->holds == 0 && (l->dropped || native_is_ready(l));
	l->review = l->review || kick;
	layers_unlock(ls);
	if (kick)
		layers_kick(ls);
}

static void set_state(struct layer *l, enum layer_state state, uint64_t due_ns)
{
	layers_lock(l->ls);
	l->state = state;
	l->due_ns = due_ns;
	(void)pthread_cond_broadcast(&l->changed);
	layers_unlock(l->ls);
}

static enum layer_state state_of(struct layer *l)
{
	enum layer_state s;

	layers_lock(l->ls);
	s = l->state;
	layers_unlock(l->ls);
	return s;
}

void layer_failed(struct layer *l, const struct err *e)
{
	char d[DIGEST_STR_BYTES];
	bool restore;

	layers_lock(l->ls);
	restore = l->restore && !l->dropped;
	layers_unlock(l->ls);
	if (restore)
		log_err("layer=%s source=%s msg=\"cannot be mounted again: "
			"%s\"",
			digest_str(&l->row.blob, d), l->row.reference, e->text);
	layers_lock(l->ls);
	l->restore = false;
	l->e = *e;
	l->state = LAYER_NONE;
	l->due_ns = 0;
	(void)pthread_cond_broadcast(&l->changed);
	layers_unlock(l->ls);
}

bool layer_rename(struct layer *l, const struct layer_row *row)
{
	struct layer_row copy;

	/* Who reads the names without a lock starts it, or tells of its process;
	 * the rest of the row, anybody who has it. */
	if (l->state != LAYER_NONE || l->e.code == 0 ||
	    l->native.state != NATIVE_NONE ||
	    strcmp(l->row.repository, row->repository) == 0 ||
	    layer_row_copy(row, &copy) < 0)
		return false;
	free(l->row.reference);
	free(l->row.repository);
	l->row.reference = copy.reference;
	l->row.repository = copy.repository;
	return true;
}

bool layer_is_of(struct layer *l, const char *repository)
{
	bool is;

	layers_lock(l->ls);
	is = strcmp(l->row.repository, repository) == 0;
	layers_unlock(l->ls);
	return is;
}

/* ---- starting ---------------------------------------------------------- */

static bool has_row(void *arg, int64_t id)
{
	struct layers *ls = arg;
	bool has;

	layers_lock(ls);
	has = layer_find(ls, id) != NULL;
	layers_unlock(ls);
	return has;
}

/* A layer is mounted without events where they cannot be had. */
static int add_events(const struct layer *l, struct buf *b)
{
	const struct config *c = l->ls->c;
	CLEANUP_BUF struct buf path = BUF_INIT(OPTIONS_BYTES_MAX);
	char d[DIGEST_STR_BYTES];
	struct err e = {0};

	if (c->events_dir == NULL)
		return 0;
	if (evfiles_make(c->events_dir, c->events_max_bytes, &l->row.toc, l->id,
			 has_row, l->ls, &path, &e) < 0) {
		log_warn("layer=%s msg=\"no events: %s\"",
			 digest_str(&l->row.blob, d), e.text);
		return 0;
	}
	return buf_addf(b, ",events=%s,events_max=%" PRIu64, path.p,
			EVFILES_EACH_BYTES);
}

static int add_options(const struct layer *l, struct buf *b)
{
	static const char *const levels[LOG_N_] = {"err", "warn", "info",
						   "debug"};
	const struct config *c = l->ls->c;
	char blob[DIGEST_STR_BYTES], toc[DIGEST_STR_BYTES],
		image[DIGEST_STR_BYTES];
	int r = 0;

	if (l->has_trace)
		r = buf_addf(b, "trace=%s,", digest_str(&l->trace, image));
	else if (l->has_manifest)
		r = buf_addf(b, "manifest=%s,",
			     digest_str(&l->manifest, image));
	if (r == 0 && l->tail != 0)
		r = buf_addf(b, "tail=%u,", l->tail);
	if (r == 0)
		r = buf_addf(
			b,
			"root=%s,fetcher=%s,layer=%s,toc_digest=%s,suid,dev,"
			"read_timeout=%u,open_mode=%s,log_level=%s%s%s%s",
			l->ls->root, c->fetcher_address,
			digest_str(&l->row.blob, blob),
			digest_str(&l->row.toc, toc), c->read_timeout_s,
			c->open_mode, levels[c->log_level],
			c->prefetch ? "" : ",noprefetch",
			c->background ? "" : ",nobackground",
			l->row.opaque_user ? ",opaque=user" : "");
	return r == 0 ? add_events(l, b) : r;
}

/* The process had been the layer's. */
static void on_end(void *arg, int status UNUSED)
{
	struct layer *l = arg;

	/* What this means, its socket says. */
	l->child = NULL;
}

static int execute(struct layer *l, int *ret_sock, struct err *e)
{
	CLEANUP_BUF struct buf options = BUF_INIT(OPTIONS_BYTES_MAX);
	CLEANUP_CLOSE int ours = -EBADF;
	CLEANUP_CLOSE int theirs = -EBADF;
	int sv[2], r = add_options(l, &options);
	const char *const argv[] = {
		l->ls->c->estargzfs,
		"--supervisor=3",
		l->row.reference,
		l->target,
		"-o",
		options.p,
		NULL,
	};

	static_assert(SPAWN_FD == 3, "as the command line says");
	if (r < 0)
		return err_set(e, r, "options: %s", err_name(r));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(e, -errno, "socketpair: %s", err_name(errno));
	ours = sv[0];
	theirs = sv[1];
	r = spawn(&l->ls->spawner, argv, theirs, false, on_end, l, &l->child,
		  e);
	if (r == 0)
		*ret_sock = TAKE_FD(ours);
	return r;
}

/* @session: what to go on with, or NULL. Return: 0: the rest comes over the
 * socket */
static int start(struct layer *l, const struct sup_session *session,
		 struct err *e)
{
	struct layers *ls = l->ls;
	uint64_t due_ns = io_now_ns() + ls->c->mount_timeout_s * NSEC_PER_SEC;
	int sock = -1;
	/* A mount that is still there belongs to nobody who answers. */
	int r = session == NULL ? place_make(l->target, e) : 0;

	if (r == 0)
		r = execute(l, &sock, e);
	if (r < 0)
		return r;
	/* Where it has died meanwhile, the end of the connection says so. */
	(void)supmsg_start(sock, session, l->fuse_fd);
	layers_lock(ls);
	l->io.fd = sock;
	l->due_ns = due_ns;
	layers_unlock(ls);
	/* From here on it is the loop's. */
	if (loop_io_add(ls->loop, &l->io, EPOLLIN) < 0) {
		layers_lock(ls);
		l->due_ns = 1; /* given up at once */
		layers_unlock(ls);
	}
	layers_kick(ls);
	return 0;
}

bool layer_claim(struct layer *l)
{
	bool ours;

	layers_lock(l->ls);
	ours = l->state == LAYER_NONE && !l->dropped;
	if (ours) {
		l->state = LAYER_STARTING;
		l->restore = false;
	}
	layers_unlock(l->ls);
	return ours;
}

void layer_start(struct layer *l)
{
	struct err e = {0};

	if (start(l, NULL, &e) < 0)
		layer_failed(l, &e);
}

/* ---- what becomes of it ------------------------------------------------ */

/* Counts a death. Return: how many in the last minute. */
static unsigned count_death(struct layer *l)
{
	uint64_t now = io_now_ns();
	unsigned n = 0;

	l->deaths_ns[l->n_deaths++ % LAYER_DEATHS_MAX] = now;
	for (unsigned i = 0; i < MIN(l->n_deaths, LAYER_DEATHS_MAX); i++) {
		if (now - l->deaths_ns[i] < LAYER_DEATHS_NS)
			n++;
	}
	return n;
}

static void log_death(const struct layer *l, const char *why, unsigned deaths,
		      bool hopeless)
{
	char d[DIGEST_STR_BYTES];

	log_err("layer=%s source=%s deaths=%u msg=\"%s: %s\"",
		digest_str(&l->row.blob, d), l->row.reference, deaths, why,
		hopeless ? "too many, the mount is aborted"
			 : "another goes on");
}

/* Who served it is gone, and the session is still there: somebody else goes on
 * with it, soon. @first: the one that had made it. */
static void succeed(struct layer *l, const char *why, bool first)
{
	unsigned deaths = count_death(l);
	bool hopeless =
		deaths >= LAYER_DEATHS_MAX || l->n_hung >= LAYER_HUNG_MAX;
	struct err e = {0};

	log_death(l, why, deaths, hopeless);
	if (!hopeless) {
		set_state(l, LAYER_SUCCEEDING,
			  io_now_ns() + (first ? 0 : LAYER_RETRY_NS));
		return;
	}
	/* Who waits for an answer would wait for ever, unkillably. */
	close_session(l);
	(void)err_set(&e, -EIO, "nobody goes on with its mount: %s", why);
	l->n_hung = 0;
	layer_failed(l, &e);
}

/* It was ended. Who needs it nevertheless begins anew. */
static void over(struct layer *l)
{
	close_session(l);
	layers_lock(l->ls);
	(void)err_set(&l->e, -ECHILD, "it has just been ended");
	layers_unlock(l->ls);
	set_state(l, LAYER_NONE, 0);
}

/* The connection is over, by a failure that was said or without a word. */
static void gone(struct layer *l, const struct err *said)
{
	struct err e = {0};
	const char *why = said != NULL ? said->text : "estargzfs died";

	disconnect(l);
	switch (state_of(l)) {
	case LAYER_STARTING:
		if (said != NULL)
			e = *said;
		else
			(void)err_set(&e, -ECHILD,
				      "estargzfs died while mounting");
		layer_failed(l, &e);
		break;
	case LAYER_READY:
	case LAYER_LOST:
		succeed(l, why, true);
		break;
	case LAYER_SUCCEEDING:
		succeed(l, why, false);
		break;
	case LAYER_NONE:
	case LAYER_ENDING:
		over(l);
		break;
	}
	layers_kick(l->ls);
}

/* The mount is gone: by our order, taken away by somebody, or given up after too
 * many deaths of workers. */
static void ended(struct layer *l)
{
	char d[DIGEST_STR_BYTES];
	bool ours = state_of(l) == LAYER_ENDING;

	disconnect(l);
	if (!ours) {
		unsigned deaths = count_death(l);

		log_warn("layer=%s source=%s deaths=%u msg=\"its mount was "
			 "ended by somebody else\"",
			 digest_str(&l->row.blob, d), l->row.reference, deaths);
		layers_lock(l->ls);
		l->restore = deaths < LAYER_DEATHS_MAX;
		layers_unlock(l->ls);
	}
	over(l);
	layers_kick(l->ls);
}

/* The process that serves it is the one that says so, not always the one that
 * was started. */
static void watch_process(struct layer *l, pid_t pid)
{
	if (l->child != NULL && l->child->pid == pid)
		return;
	if (l->child != NULL)
		child_forget(TAKE_PTR(l->child));
	(void)spawn_adopt(&l->ls->spawner, pid, on_end, l, &l->child);
}

static void ready(struct layer *l, struct supmsg *m)
{
	close_session(l);
	l->fuse_fd = TAKE_FD(m->fuse_fd);
	l->session = m->session;
	l->n_hung = 0;
	watch_process(l, (pid_t)m->pid);
	layers_lock(l->ls);
	l->restore = false;
	l->dev = makedev(m->session.dev_major, m->session.dev_minor);
	l->e = (struct err){0};
	l->review = true;
	layers_unlock(l->ls);
	set_state(l, LAYER_READY, 0);
	if (m->complete)
		native_complete(l, false);
	layers_kick(l->ls);
}

static void on_ready(struct layer *l, struct supmsg *m)
{
	enum layer_state state = state_of(l);

	if ((state != LAYER_STARTING && state != LAYER_SUCCEEDING) ||
	    strcmp(m->text, l->target) != 0) {
		(void)close(TAKE_FD(m->fuse_fd));
		return;
	}
	ready(l, m);
	scope_start(&l->ls->scope, &l->ls->spawner, l->id, ++l->n_scopes,
		    (pid_t)m->pid, l->row.reference);
}

void layer_adopt(struct layer *l, int sock, struct supmsg *m)
{
	l->io.fd = sock;
	if (loop_io_add(l->ls->loop, &l->io, EPOLLIN) < 0) {
		gone(l, NULL);
		return;
	}
	ready(l, m);
}

static void kill_process(struct layer *l)
{
	if (l->child != NULL)
		child_kill(l->child);
}

static void on_packet(struct loop_io *io, uint32_t events UNUSED)
{
	struct layer *l = LIST_ENTRY(io, struct layer, io);
	struct supmsg m;
	struct err e = {0};
	int r = supmsg_recv(io->fd, &m);

	if (r == -EAGAIN)
		return;
	if (r == 0) {
		/* It is dead, or has let go of us and is made dead. */
		kill_process(l);
		gone(l, NULL);
	} else if (r < 0) {
		kill_process(l);
		(void)err_set(&e, r, "estargzfs said what makes no sense");
		gone(l, &e);
	} else if (m.type == SUP_READY) {
		on_ready(l, &m);
	} else if (m.type == SUP_FAILED) {
		gone(l, &m.e);
	} else if (m.type == SUP_ENDED) {
		ended(l);
	} else {
		native_complete(l, true);
		evict_soon(&l->ls->evict);
	}
}

/* ---- what time brings -------------------------------------------------- */

enum action {
	NOTHING,
	START,
	SUCCESSOR,
	REPLACE,
	REVIEW,
	END,
	GIVE_UP,
	FREE,
};

/* Locked. Not where the kernel has it, or is about to, and nobody was told of
 * the FUSE mount. */
static bool needs_restoring(struct layer *l)
{
	if (!l->fuse_named && native_is_ready(l))
		l->restore = false;
	return l->restore && (l->fuse_named || !native_is_under_way(l));
}

static enum action want_ready(struct layer *l)
{
	if (!l->review || l->holds > 0 || !native_is_ready(l))
		return NOTHING;
	l->review = false;
	return REVIEW;
}

/* What a layer wants now. What is returned is not returned again. */
static enum action want(struct layer *l, uint64_t now, unsigned n_restoring)
{
	bool due = l->due_ns != 0 && now >= l->due_ns;

	switch (l->state) {
	case LAYER_NONE:
		if (l->dropped)
			return l->holds == 0 ? FREE : NOTHING;
		if (!needs_restoring(l) ||
		    n_restoring >= LAYERS_RESTORED_AT_ONCE)
			return NOTHING;
		l->state = LAYER_STARTING;
		return START;
	case LAYER_READY:
		return l->dropped ? END : want_ready(l);
	case LAYER_LOST:
		return l->dropped ? END : REPLACE;
	case LAYER_SUCCEEDING:
		if (l->dropped)
			return GIVE_UP;
		if (!due || l->io.fd >= 0)
			break;
		l->due_ns = 0;
		return SUCCESSOR;
	case LAYER_STARTING:
	case LAYER_ENDING:
		break;
	}
	return due ? GIVE_UP : NOTHING;
}

/* Of two times, 0 being never. */
static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a == 0 || b == 0 ? MAX(a, b) : MIN(a, b);
}

static enum action next_action(struct layers *ls, uint64_t now,
			       struct layer **ret, uint64_t *ret_due_ns)
{
	enum action a = NOTHING;
	unsigned n_restoring = 0;

	*ret_due_ns = 0;
	layers_lock(ls);
	LIST_EACH(it, &ls->all)
	{
		struct layer *l = LIST_ENTRY(it, struct layer, node);

		n_restoring += l->state == LAYER_STARTING && l->restore;
	}
	LIST_EACH(it, &ls->all)
	{
		struct layer *l = LIST_ENTRY(it, struct layer, node);

		*ret = l;
		a = want(l, now, n_restoring);
		if (a != NOTHING)
			break;
		*ret_due_ns = sooner(*ret_due_ns, l->due_ns);
	}
	layers_unlock(ls);
	return a;
}

static void start_successor(struct layer *l)
{
	struct err e = {0};

	if (start(l, &l->session, &e) < 0)
		succeed(l, e.text, false);
}

/* Somebody has unmounted it, and an overlayfs or an open file holds on to it:
 * who serves it goes on for those, and for others it is mounted anew. */
static void replace(struct layer *l)
{
	char d[DIGEST_STR_BYTES];

	log_warn("layer=%s source=%s msg=\"is not where it was mounted: "
		 "mounted again\"",
		 digest_str(&l->row.blob, d), l->row.reference);
	disconnect(l);
	close_session(l);
	set_state(l, LAYER_STARTING, 0);
	layer_start(l);
}

static void end(struct layer *l)
{
	set_state(l, LAYER_ENDING, io_now_ns() + LAYER_ANSWER_NS);
	/* The session ends with its server, not with us. */
	close_session(l);
	if (supmsg_end(l->io.fd) < 0) {
		kill_process(l);
		gone(l, NULL);
	}
}

/* The kernel has it, too: who serves it ends where no reply names the FUSE mount
 * any more, and nobody is about to. */
static void review(struct layer *l)
{
	int64_t n = tree_named(l->ls->t, NAMED_FUSE, l->id);
	char d[DIGEST_STR_BYTES];
	bool unused;

	layers_lock(l->ls);
	/* Who has held it meanwhile has it reviewed again. */
	unused = n == 0 && l->holds == 0 && !l->review &&
		 l->state == LAYER_READY && native_is_ready(l);
	if (unused) {
		l->fuse_named = false;
		l->state = LAYER_ENDING;
	}
	layers_unlock(l->ls);
	if (!unused)
		return;
	log_info("layer=%s source=%s msg=\"complete, and nobody is on its FUSE "
		 "mount: ended\"",
		 digest_str(&l->row.blob, d), l->row.reference);
	end(l);
}

/* One that is ended is not killed where the layer stays: somebody may have its mount
 * without our knowing. */
static void give_up(struct layer *l)
{
	struct err e = {0};

	if (state_of(l) != LAYER_ENDING || l->dropped)
		kill_process(l);
	(void)err_set(&e, -ETIMEDOUT, "estargzfs was not ready after %u s",
		      l->ls->c->mount_timeout_s);
	if (state_of(l) == LAYER_SUCCEEDING)
		l->n_hung++;
	if (state_of(l) == LAYER_SUCCEEDING && l->dropped)
		set_state(l, LAYER_ENDING, 0);
	gone(l, &e);
}

static void remove_layer(struct layer *l)
{
	bool taken;

	layers_lock(l->ls);
	/* By a row with its number, where snapshots.db is not the one of when
	 * it was mounted. */
	taken = layer_find(l->ls, l->id) != NULL;
	list_del(&l->node);
	layers_unlock(l->ls);
	if (!taken) {
		(void)place_clear(l->target);
		(void)rmdir(l->target);
		native_end(l);
	}
	evict_soon(&l->ls->evict);
	layer_free(l);
}

static void act(struct layer *l, enum action a)
{
	switch (a) {
	case NOTHING:
		break;
	case START:
		layer_start(l);
		break;
	case SUCCESSOR:
		start_successor(l);
		break;
	case REPLACE:
		replace(l);
		break;
	case REVIEW:
		review(l);
		break;
	case END:
		end(l);
		break;
	case GIVE_UP:
		give_up(l);
		break;
	case FREE:
		remove_layer(l);
		break;
	}
}

void layers_turn(struct layers *ls)
{
	uint64_t adopt_ns = adopt_turn(ls), native_ns = native_turn(ls);
	uint64_t expect_ns = expect_turn(ls), due_ns;
	enum action a;

	do {
		struct layer *l;

		a = next_action(ls, io_now_ns(), &l, &due_ns);
		act(l, a);
	} while (a != NOTHING);
	due_ns = sooner(sooner(due_ns, adopt_ns), sooner(native_ns, expect_ns));
	if (due_ns != 0)
		loop_timer_set(ls->loop, &ls->timer, due_ns);
	else
		loop_timer_clear(&ls->timer);
}
