/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/monitor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "common/io.h"
#include "common/lastrun.h"
#include "fs/ctl.h"
#include "fs/events.h"
#include "fs/monitor_impl.h"
#include "fs/worker.h"
#define LOG_MOD "monitor"
#include "common/log.h"

#define DEATHS_EIO 3u /* in DEATHS_NS: re-sent requests get EIO */
#define DEATHS_NS (60 * NSEC_PER_SEC)
#define RESPAWN_PAUSE_NS (100 * NSEC_PER_MSEC)
#define RETRY_MIN_NS (50 * NSEC_PER_MSEC)
#define RETRY_MAX_NS (2 * NSEC_PER_SEC)
#define RELIEF_NS (30 * NSEC_PER_SEC) /* a read of a disk that is slow */

/* ---- after it is mounted ----------------------------------------------- */

static void reap(struct monitor *m, int *ret_status, bool *ret_worker)
{
	pid_t pid;
	int status;

	*ret_worker = false;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != m->worker)
			continue; /* a private fetcher */
		*ret_worker = true;
		*ret_status = status;
		m->worker = 0;
	}
}

/* Counts a death. Return: how many in the last minute. */
static unsigned count_death(struct monitor *m)
{
	uint64_t now = io_now_ns();
	unsigned n = 0;

	m->deaths_ns[m->n_deaths++ % MONITOR_DEATHS_KEPT] = now;
	(void)atomic_fetch_add_explicit(&m->st->worker_deaths, 1u,
					memory_order_relaxed);
	for (unsigned i = 0; i < MIN(m->n_deaths, MONITOR_DEATHS_KEPT); i++) {
		if (now - m->deaths_ns[i] < DEATHS_NS)
			n++;
	}
	return n;
}

/* The layer is complete, and nobody writes to it any more. */
static void is_handed(struct monitor *m)
{
	if (!m->relieving)
		return;
	m->relieving = false;
	m->relief_at_ns = 0;
	/* What it was looked through for may have been changed until now. */
	backing_forget(&m->backing);
	if (m->super != NULL)
		super_complete(m->super);
}

/* The last one has taken nothing that it did not answer. Return: 0, -errno */
static int take_over(struct monitor *m)
{
	struct err e = {0};
	int r;

	monitor_kill_worker(m);
	m->want_fetcher = false;
	m->relieves = true;
	r = monitor_start_worker(m, false, &e);
	m->relieves = false;
	if (r < 0)
		log_err("msg=\"worker cannot be relieved: %s\"", e.text);
	else
		is_handed(m);
	return r;
}

/* A new worker on the same session. Return: 0, -errno: it is hopeless */
static int replace_worker(struct monitor *m, int status)
{
	const struct timespec pause = {.tv_nsec = RESPAWN_PAUSE_NS};
	unsigned deaths = count_death(m);
	struct err e = {0};
	char text[96];

	(void)snprintf(text, sizeof(text), "worker died (%s %d), replaced",
		       WIFSIGNALED(status) ? "signal" : "status",
		       WIFSIGNALED(status) ? WTERMSIG(status)
					   : WEXITSTATUS(status));
	stats_error(m->st, text);
	log_err("msg=\"%s\" deaths=%u", text, deaths);
	monitor_kill_worker(m);
	m->want_fetcher = false;
	atomic_store_explicit(&m->st->fetcher_up, 0, memory_order_relaxed);
	while (deaths < MONITOR_DEATHS_KEPT) {
		if (monitor_start_worker(m, deaths >= DEATHS_EIO, &e) == 0) {
			is_handed(m);
			return mnt_resend(&m->mnt);
		}
		deaths = count_death(m);
		log_err("msg=\"worker cannot be replaced: %s\" deaths=%u",
			e.text, deaths);
		(void)nanosleep(&pause, NULL);
	}
	log_err("msg=\"too many deaths: the mount is aborted\"");
	return -EIO;
}

static void give_fetcher(struct monitor *m)
{
	const struct ctl_plain msg = {.type = CTL_FETCHER};
	struct err e = {0};
	int sock = -1;

	if (connect_fetcher(m->connect, &sock, &e) < 0) {
		if (m->retry_ns == RETRY_MIN_NS)
			log_warn("msg=\"%s\"", e.text);
		stats_error(m->st, e.text);
		m->retry_at_ns = io_now_ns() + m->retry_ns;
		m->retry_ns = MIN(m->retry_ns * 2, RETRY_MAX_NS);
		return;
	}
	m->want_fetcher = false;
	(void)io_send_fds(m->ctl, &msg, sizeof(msg), &sock, 1, MSG_DONTWAIT);
	(void)close(sock);
}

static void set_read_ahead(const struct monitor *m)
{
	bool complete =
		atomic_load_explicit(&m->st->state, memory_order_relaxed) ==
		STATS_COMPLETE;

	mnt_set_read_ahead(&m->mnt, m->o->noreadahead ? 0
				    : layer_is_traced(m->layer) && !complete
					    ? MNT_READ_AHEAD_START_KB
					    : MNT_READ_AHEAD_KB);
}

/* A worker that has parsed what is hostile is to have nothing open for writing that
 * the kernel is given: another takes its place, which gets the files to read. */
static void relieve(struct monitor *m)
{
	const struct ctl_plain msg = {.type = CTL_RELIEVE};
	struct err e = {0};

	if (m->state.sealed)
		return;
	if (state_seal(&m->state, &e) < 0) {
		log_warn("msg=\"complete, but stays on FUSE: %s\"", e.text);
		return;
	}
	m->relieving = true;
	m->relief_at_ns = io_now_ns() + RELIEF_NS;
	(void)io_send_fds(m->ctl, &msg, sizeof(msg), NULL, 0, MSG_DONTWAIT);
}

static void relief_is_late(struct monitor *m)
{
	log_warn("msg=\"worker does not end, and is killed\"");
	m->relief_at_ns = 0;
	if (m->worker > 0)
		(void)kill(m->worker, SIGKILL);
}

static void handle_worker(struct monitor *m)
{
	union ctl_msg msg;
	ssize_t n =
		io_recv_fds(m->ctl, &msg, sizeof(msg), NULL, 0, MSG_DONTWAIT);

	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		/* It is dead, and SIGCHLD decides what follows; or it has let
		 * go of us, and is made dead. */
		(void)close(TAKE_FD(m->ctl));
		if (m->worker > 0)
			(void)kill(m->worker, SIGKILL);
		return;
	}
	if ((size_t)n < sizeof(msg.type))
		return;
	if (msg.type == CTL_NEED_FETCHER) {
		m->want_fetcher = true;
		m->retry_ns = RETRY_MIN_NS;
		give_fetcher(m);
	} else if (msg.type == CTL_BACK && (size_t)n == sizeof(msg.back)) {
		backing_give(&m->backing, &msg.back, &m->state, m->mnt.fuse_fd,
			     m->ctl);
	} else if (msg.type == CTL_COMPLETE) {
		set_read_ahead(m);
		relieve(m);
	}
}

/* The front either has all it wants, or is gone and nobody will. */
static void handle_front(struct monitor *m)
{
	char c;
	ssize_t n = read(m->ready_fd, &c, 1);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	(void)close(TAKE_FD(m->ready_fd));
	if (n != 1) {
		log_warn("msg=\"mount.estargz died: unmounting %s\"",
			 m->mnt.target);
		mnt_detach(&m->mnt);
	}
}

static void tell_ready(struct monitor *m)
{
	super_ready(m->super, &m->mnt.session, m->mnt.fuse_fd,
		    m->state.sealed && !m->relieving, m->mnt.target);
}

static void handle_super(struct monitor *m)
{
	if (!super_wants_end(m->super))
		return;
	log_info("msg=\"supervisor ends it: unmounting %s\"", m->mnt.target);
	mnt_detach(&m->mnt);
}

/* Return: true when it is time to end. */
static bool handle_signal(struct monitor *m, int *ret_exit)
{
	struct signalfd_siginfo si;
	bool worker_gone;
	int status = 0;

	if (read(m->signal_fd, &si, sizeof(si)) != sizeof(si))
		return false;
	if (si.ssi_signo != SIGCHLD) {
		log_info("msg=\"asked to end: unmounting %s\"", m->mnt.target);
		mnt_detach(&m->mnt);
		return false; /* the worker ends with the session */
	}
	reap(m, &status, &worker_gone);
	if (!worker_gone)
		return false;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	if (m->relieving && WIFEXITED(status) &&
	    WEXITSTATUS(status) == WORKER_RELIEVED && take_over(m) == 0)
		return false;
	if (replace_worker(m, status) == 0)
		return false;
	*ret_exit = 1;
	return true;
}

/* How long poll(2) may wait. */
static int wait_ms(const struct monitor *m)
{
	uint64_t now = io_now_ns(), due_ns = UINT64_MAX;

	if (m->want_fetcher)
		due_ns = m->retry_at_ns;
	if (m->relief_at_ns != 0)
		due_ns = MIN(due_ns, m->relief_at_ns);
	if (due_ns == UINT64_MAX)
		return -1;
	return now >= due_ns ? 0 : (int)((due_ns - now) / NSEC_PER_MSEC) + 1;
}

enum {
	WATCH_SIGNAL,
	WATCH_WORKER,
	WATCH_CONTROL,
	WATCH_FRONT,
	WATCH_SUPER,
	WATCH_LISTENER,
	WATCH_N_
};

static int wait_for_events(const struct monitor *m, struct pollfd p[WATCH_N_])
{
	const struct super *s = m->super;
	const int fds[WATCH_N_] = {
		[WATCH_SIGNAL] = m->signal_fd,
		[WATCH_WORKER] = m->ctl,
		[WATCH_CONTROL] = m->control.fd,
		[WATCH_FRONT] = m->ready_fd,
		[WATCH_SUPER] = s != NULL ? s->conn : -1,
		[WATCH_LISTENER] = s != NULL ? s->listener : -1,
	};

	for (int i = 0; i < WATCH_N_; i++)
		p[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
	return poll(p, WATCH_N_, wait_ms(m)) < 0 && errno != EINTR ? -errno : 0;
}

static void answer_control(const struct monitor *m)
{
	const struct super *s = m->super;
	const struct control_facts facts = {
		.layer = m->layer,
		.target = m->o->target,
		.state_path = m->state.path,
		.toc_digest = m->toc_digest,
		.supervisor = s == NULL      ? "none"
			      : s->conn >= 0 ? "connected"
					     : "gone",
	};

	control_answer(&m->control, &facts, m->st);
}

static void do_due(struct monitor *m)
{
	uint64_t now = io_now_ns();

	if (m->want_fetcher && now >= m->retry_at_ns)
		give_fetcher(m);
	if (m->relief_at_ns != 0 && now >= m->relief_at_ns)
		relief_is_late(m);
}

static int watch(struct monitor *m)
{
	struct pollfd p[WATCH_N_];
	int status = 0;

	for (;;) {
		if (wait_for_events(m, p) < 0)
			return 1;
		do_due(m);
		if (p[WATCH_SIGNAL].revents != 0 && handle_signal(m, &status))
			return status;
		if (p[WATCH_WORKER].revents != 0 &&
		    m->ctl == p[WATCH_WORKER].fd)
			handle_worker(m);
		if (p[WATCH_CONTROL].revents != 0)
			answer_control(m);
		if (p[WATCH_FRONT].revents != 0)
			handle_front(m);
		if (p[WATCH_SUPER].revents != 0)
			handle_super(m);
		if (p[WATCH_LISTENER].revents != 0 && super_accept(m->super))
			tell_ready(m);
	}
}

static int block_signals(struct monitor *m, struct err *e)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	m->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (m->signal_fd < 0)
		return err_set(e, -errno, "signalfd: %s", err_name(errno));
	return 0;
}

/* What a supervisor has mounted must not fail for what nobody needs. */
static int open_events(struct monitor *m, struct err *e)
{
	if (m->o->events == NULL)
		return 0;
	m->events_fd = events_open(m->o->events, e);
	if (m->events_fd >= 0 || m->super == NULL)
		return MIN(m->events_fd, 0);
	log_warn("msg=\"%s\"", e->text);
	*e = (struct err){0};
	return 0;
}

/* What the last run has read; without it, nothing is. With a trace it is only noted:
 * a layer that is mounted again after a reboot is mounted without one. */
static void open_firsts(struct monitor *m)
{
	if (m->layer->has_toc_digest && !m->o->noprefetch && !m->o->notrace)
		m->firsts_fd = MAX(
			lastrun_open(m->o->root, &m->layer->toc_digest), -1);
}

/* Everything up to a worker that has the index. */
static int start_indexed(struct monitor *m, struct err *e)
{
	int r = block_signals(m, e);

	m->st = stats_new();
	if (r == 0 && m->st == NULL)
		r = err_no_memory(e);
	if (r == 0)
		r = open_events(m, e);
	if (r == 0)
		open_firsts(m);
	if (r == 0)
		r = monitor_open_state(m, e);
	if (r == 0)
		r = monitor_spawn(m, e);
	if (r == 0)
		r = monitor_index(m, e);
	return r;
}

/* Goes on with the mount that there is. */
static int succeed(struct monitor *m, struct err *e)
{
	int r = start_indexed(m, e);

	if (r == 0)
		r = backing_begin(&m->backing, m->super, &m->mnt.session,
				  m->succeeds, e);
	if (r == 0)
		r = monitor_serve(m, false, e);
	if (r == 0 && mnt_resend(&m->mnt) < 0)
		r = err_set(e, -EIO, "kernel cannot send requests again");
	return r;
}

static int start(struct monitor *m, struct err *e)
{
	int r = start_indexed(m, e);

	if (r == 0)
		r = mnt_make(&m->mnt, m->layer->source, m->o->mount_flags, e);
	if (r == 0)
		r = backing_begin(&m->backing, m->super, &m->mnt.session,
				  m->succeeds, e);
	if (r == 0)
		r = monitor_serve(m, false, e);
	if (r == 0)
		set_read_ahead(m);
	return r;
}

/* Ends what there is; a worker that still runs is killed. */
static void stop(struct monitor *m, bool failed)
{
	if (failed && !m->succeeds)
		mnt_detach(&m->mnt);
	mnt_close(&m->mnt);
	backing_done(&m->backing);
	monitor_kill_worker(m);
	/* The mount is still there, and so is what is open of it. */
	if (failed && m->succeeds)
		super_unlock(m->super);
	/* A layer of an image has a directory of its own. */
	if (strcmp(m->mnt.target, m->o->target) != 0)
		(void)rmdir(m->mnt.target);
	control_close(&m->control);
	state_close(&m->state);
	connect_done(m->connect);
	if (m->events_fd >= 0)
		(void)close(TAKE_FD(m->events_fd));
	if (m->firsts_fd >= 0)
		(void)close(TAKE_FD(m->firsts_fd));
}

static void init(struct monitor *m, const struct layer *layer,
		 const char *target, const struct options *o, struct connect *c)
{
	*m = (struct monitor){
		.layer = layer,
		.o = o,
		.connect = c,
		.ready_fd = -1,
		.signal_fd = -1,
		.events_fd = -1,
		.firsts_fd = -1,
		.mnt = {.target = target, .fuse_fd = -1},
		.backing = {.opens_fd = -1, .dir_fd = -1},
		.ctl = -1,
		.control = {.fd = -1},
		.state = {.dirfd = -1, .fds = {-1, -1, -1}},
		.retry_ns = RETRY_MIN_NS,
	};
	(void)prctl(PR_SET_NAME, "estargzfs", 0, 0, 0);
	io_boot_id(m->boot_id);
	oom_get(&c->oom);
	oom_set(OOM_MONITOR);
}

/* From readiness to the end. Return: exit status */
static int live(struct monitor *m)
{
	const char *source = m->layer->source;
	int status;

	state_sync(&m->state);
	log_info("source=%s target=%s msg=mounted", source, m->mnt.target);
	status = watch(m);
	log_info("source=%s target=%s msg=\"unmounted\"", source,
		 m->mnt.target);
	stop(m, false);
	return status;
}

static void open_control(struct monitor *m)
{
	struct err e = {0};

	if (control_open(&m->control, &e) < 0)
		log_warn("msg=\"no status: %s\"", e.text);
}

int monitor_main(const struct layer *layer, const char *target,
		 const struct options *o, struct connect *c, int ready_fd)
{
	struct monitor m;
	struct err e = {0};
	int r;

	init(&m, layer, target, o, c);
	m.ready_fd = ready_fd;
	r = start(&m, &e);
	if (r == 0)
		open_control(&m);
	/* An empty error is readiness. If the front is gone, watch() sees. */
	if (r == 0)
		e = (struct err){0};
	(void)io_write_all(ready_fd, &e, sizeof(e));
	if (r < 0) {
		stop(&m, true);
		return 1;
	}
	control_sweep();
	return live(&m);
}

/* All of a supervisor's monitors may write to one log. */
static void name_in_log(const struct layer *l)
{
	const struct digest *d = l->has_digest ? &l->digest : &l->toc_digest;
	char hex[DIGEST_HEX_BYTES + 1];
	char text[32];

	if (!l->has_digest && !l->has_toc_digest)
		return;
	(void)snprintf(text, sizeof(text), "layer=%.12s", digest_hex(d, hex));
	log_set_context(text);
}

int monitor_supervised(const struct layer *layer, const char *target,
		       const struct options *o, struct connect *c,
		       struct super *s, const struct sup_session *session,
		       int fuse_fd, struct err *e)
{
	struct monitor m;
	int r;

	init(&m, layer, target, o, c);
	name_in_log(layer);
	m.super = s;
	if (session->init_len > 0) {
		m.succeeds = true;
		m.mnt.fuse_fd = fuse_fd;
		m.mnt.session = *session;
		m.mnt.mounted = true;
	}
	r = super_listen(s, e);
	if (r == 0)
		r = m.succeeds ? succeed(&m, e) : start(&m, e);
	if (r < 0) {
		stop(&m, true);
		return r;
	}
	open_control(&m);
	tell_ready(&m);
	control_sweep();
	r = live(&m);
	super_ended(s);
	return r;
}
