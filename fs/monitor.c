/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "common/io.h"
#include "fs/control.h"
#include "fs/ctl.h"
#include "fs/state.h"
#include "fs/stats.h"
#include "fs/worker.h"
#define LOG_MOD "monitor"
#include "common/log.h"

#define DEATHS_KEPT 6u
#define DEATHS_EIO 3u /* in DEATHS_NS: re-sent requests get EIO */
#define DEATHS_NS (60 * NSEC_PER_SEC)
#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 2000
#define READ_AHEAD_KB "1024"
#define NOTIFY_RESEND 7

/**
 * struct monitor - owns everything of the process
 */
struct monitor {
	const struct layer *layer;
	const char *target;
	const struct options *o;
	struct connect *connect;
	struct stats *st;
	struct state state;
	struct control control;
	char toc_digest[DIGEST_STR_BYTES];
	uint8_t boot_id[16];
	int ready_fd;
	int signal_fd;
	int fuse_fd;
	bool mounted;
	uint8_t init[CTL_INIT_BYTES];
	uint32_t init_len;
	pid_t worker;
	int ctl;
	bool want_fetcher;
	int retry_ms;
	uint64_t deaths_ns[DEATHS_KEPT];
	unsigned n_deaths;
};

/* ---- the worker -------------------------------------------------------- */

static int spawn(struct monitor *m, struct err *e)
{
	pid_t self = getpid();
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(e, -errno, "socketpair: %s", err_name(errno));
	m->worker = fork();
	if (m->worker < 0) {
		(void)close(sv[0]);
		(void)close(sv[1]);
		return err_set(e, -errno, "fork: %s", err_name(errno));
	}
	if (m->worker == 0) {
		/* What the worker gets comes over its socket. */
		(void)close(sv[0]);
		(void)close(m->signal_fd);
		if (m->ready_fd >= 0)
			(void)close(m->ready_fd);
		if (m->fuse_fd >= 0)
			(void)close(m->fuse_fd);
		if (m->control.fd >= 0)
			(void)close(m->control.fd);
		if (m->connect->lock_fd >= 0)
			(void)close(m->connect->lock_fd);
		if (m->state.dirfd >= 0)
			(void)close(m->state.dirfd);
		for (int i = 0; i < STATE_FILES; i++) {
			if (m->state.fds[i] >= 0)
				(void)close(m->state.fds[i]);
		}
		_exit(worker_main(sv[1], self, m->layer, m->o, m->st));
	}
	(void)close(sv[1]);
	m->ctl = sv[0];
	atomic_store_explicit(&m->st->worker_pid, (uint32_t)m->worker,
			      memory_order_relaxed);
	return 0;
}

/* The next message of the worker, blocking. Its death is an error. */
static int expect(struct monitor *m, union ctl_msg *msg, struct err *e)
{
	ssize_t n = io_recv_fds(m->ctl, msg, sizeof(*msg), NULL, 0, 0);

	if (n <= 0)
		return err_set(e, -EIO, "worker died");
	if (msg->type == CTL_FAILED) {
		*e = msg->failed.e;
		return e->code < 0 ? e->code : -EIO;
	}
	return 0;
}

static int send_start(struct monitor *m, struct err *e)
{
	struct ctl_start msg = {
		.type = CTL_START,
		.build = m->state.building,
		.exclusive = m->state.exclusive,
	};
	int fds[CTL_FD_N_];
	size_t n = STATE_FILES;
	int r = 0;

	memcpy(msg.boot_id, m->boot_id, sizeof(msg.boot_id));
	memcpy(fds, m->state.fds, sizeof(m->state.fds));
	fds[CTL_FD_FETCHER] = -1;
	/* An index needs no fetcher to be mounted; making one does. */
	if (msg.build) {
		r = connect_fetcher(m->connect, &fds[CTL_FD_FETCHER], e);
		if (r < 0)
			return r;
		msg.has_fetcher = true;
		n++;
	}
	r = io_send_fds(m->ctl, &msg, sizeof(msg), fds, n, 0);
	if (fds[CTL_FD_FETCHER] >= 0)
		(void)close(fds[CTL_FD_FETCHER]);
	return r < 0 ? err_set(e, r, "worker: %s", err_name(r)) : 0;
}

/* Has the worker open the index, or make it. */
static int index_layer(struct monitor *m, struct err *e)
{
	union ctl_msg msg;
	bool other;
	int r;

	for (int tries = 0; tries < 3; tries++) {
		r = send_start(m, e);
		if (r == 0)
			r = expect(m, &msg, e);
		if (r < 0)
			return r;
		if (msg.type == CTL_BAD_INDEX) {
			r = state_rebuild(&m->state, e);
			if (r < 0)
				return r;
			continue;
		}
		if (msg.type != CTL_INDEXED)
			return err_set(e, -EPROTO, "worker said %u", msg.type);
		(void)digest_str(&msg.indexed.toc_digest, m->toc_digest);
		r = state_publish(&m->state, &msg.indexed.toc_digest,
				  m->o->opaque_user, !m->layer->has_toc_digest,
				  &other, e);
		if (r < 0)
			return r;
		if (other)
			continue;
		state_share(&m->state);
		return 0;
	}
	return err_set(e, -EBUSY, "index cannot be made");
}

static int serve(struct monitor *m, bool fail_resent, struct err *e)
{
	struct ctl_serve msg = {
		.type = CTL_SERVE,
		.fail_resent = fail_resent,
		.init_len = m->init_len,
	};
	union ctl_msg answer;
	int r;

	memcpy(msg.init, m->init, m->init_len);
	r = io_send_fds(m->ctl, &msg, sizeof(msg), &m->fuse_fd, 1, 0);
	if (r < 0)
		return err_set(e, r, "worker: %s", err_name(r));
	r = expect(m, &answer, e);
	if (r == 0 && answer.type != CTL_READY)
		r = err_set(e, -EPROTO, "worker said %u", answer.type);
	return r;
}

/* ---- the mount --------------------------------------------------------- */

static int mount_target(struct monitor *m, struct err *e)
{
	char data[128];
	ssize_t n;

	m->fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (m->fuse_fd < 0)
		return err_set(e, -errno, "/dev/fuse: %s", err_name(errno));
	(void)snprintf(data, sizeof(data),
		       "fd=%d,rootmode=40000,user_id=0,group_id=0,"
		       "default_permissions,allow_other",
		       m->fuse_fd);
	if (mount(m->layer->source, m->target, "fuse.estargz",
		  m->o->mount_flags, data) < 0)
		return err_set(e, -errno, "cannot mount on %s: %s", m->target,
			       err_name(errno));
	m->mounted = true;
	/* The kernel has put INIT into the queue while mounting. It must be
	 * read with room for the largest request. */
	{
		CLEANUP_FREE uint8_t *p = malloc(FUSE_MIN_READ_BUFFER);

		n = p != NULL ? read(m->fuse_fd, p, FUSE_MIN_READ_BUFFER) : -1;
		if (n < (ssize_t)sizeof(struct fuse_in_header) ||
		    (size_t)n > sizeof(m->init))
			return err_set(e, -EIO, "/dev/fuse: no INIT request");
		memcpy(m->init, p, (size_t)n);
		m->init_len = (uint32_t)n;
	}
	return 0;
}

/* Larger read-ahead in the kernel: sequential reads come in fewer requests. */
static void raise_read_ahead(const struct monitor *m)
{
	CLEANUP_CLOSE int fd = -EBADF;
	struct statx sx;
	char path[96];

	/* AT_STATX_DONT_SYNC: asks the kernel only, never our worker. */
	if (statx(AT_FDCWD, m->target, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT,
		  STATX_TYPE, &sx) < 0)
		return;
	(void)snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb",
		       sx.stx_dev_major, sx.stx_dev_minor);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, READ_AHEAD_KB, sizeof(READ_AHEAD_KB) - 1) < 0)
		log_debug("msg=\"read_ahead_kb stays as it is\"");
}

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

	m->deaths_ns[m->n_deaths++ % DEATHS_KEPT] = now;
	(void)atomic_fetch_add_explicit(&m->st->worker_deaths, 1u,
					memory_order_relaxed);
	for (unsigned i = 0; i < MIN(m->n_deaths, DEATHS_KEPT); i++) {
		if (now - m->deaths_ns[i] < DEATHS_NS)
			n++;
	}
	return n;
}

/* A new worker on the same session. Return: 0, -errno: it is hopeless */
static int replace_worker(struct monitor *m, int status)
{
	const struct fuse_out_header resend = {
		.len = sizeof(resend),
		.error = NOTIFY_RESEND,
	};
	unsigned deaths = count_death(m);
	struct err e = {0};
	char text[96];
	int r;

	(void)snprintf(text, sizeof(text), "worker died (%s %d), replaced",
		       WIFSIGNALED(status) ? "signal" : "status",
		       WIFSIGNALED(status) ? WTERMSIG(status)
					   : WEXITSTATUS(status));
	stats_error(m->st, text);
	log_err("msg=\"%s\" deaths=%u", text, deaths);
	(void)close(m->ctl);
	m->ctl = -1;
	m->want_fetcher = false;
	atomic_store_explicit(&m->st->fetcher_up, 0, memory_order_relaxed);
	if (deaths >= DEATHS_KEPT) {
		log_err("msg=\"too many deaths: the mount is aborted\"");
		return -EIO;
	}
	r = spawn(m, &e);
	if (r == 0)
		r = index_layer(m, &e);
	if (r == 0)
		r = serve(m, deaths >= DEATHS_EIO, &e);
	if (r < 0) {
		log_err("msg=\"worker cannot be replaced: %s\"", e.text);
		return r;
	}
	if (write(m->fuse_fd, &resend, sizeof(resend)) < 0)
		log_warn("err=%s msg=\"kernel cannot send again what was in "
			 "flight\"",
			 err_symbol(errno));
	return 0;
}

static void give_fetcher(struct monitor *m)
{
	const struct ctl_plain msg = {.type = CTL_FETCHER};
	struct err e = {0};
	int sock = -1;

	if (connect_fetcher(m->connect, &sock, &e) < 0) {
		if (m->retry_ms == RETRY_MIN_MS)
			log_warn("msg=\"%s\"", e.text);
		stats_error(m->st, e.text);
		m->retry_ms = MIN(m->retry_ms * 2, RETRY_MAX_MS);
		return;
	}
	m->want_fetcher = false;
	(void)io_send_fds(m->ctl, &msg, sizeof(msg), &sock, 1, 0);
	(void)close(sock);
}

static void handle_worker(struct monitor *m)
{
	union ctl_msg msg;
	ssize_t n =
		io_recv_fds(m->ctl, &msg, sizeof(msg), NULL, 0, MSG_DONTWAIT);

	/* Its end is seen as SIGCHLD too, which decides. */
	if (n <= 0)
		return;
	if (msg.type == CTL_NEED_FETCHER) {
		m->want_fetcher = true;
		m->retry_ms = RETRY_MIN_MS;
		give_fetcher(m);
	}
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
		log_info("msg=\"asked to end: unmounting %s\"", m->target);
		(void)umount2(m->target, MNT_DETACH);
		m->mounted = false;
		return false; /* the worker ends with the session */
	}
	reap(m, &status, &worker_gone);
	if (!worker_gone)
		return false;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	if (replace_worker(m, status) == 0)
		return false;
	*ret_exit = 1;
	return true;
}

static int watch(struct monitor *m)
{
	const struct control_facts facts = {
		.layer = m->layer,
		.target = m->o->target,
		.state_path = m->state.path,
		.toc_digest = m->toc_digest,
	};
	int status = 0;

	for (;;) {
		struct pollfd p[3] = {
			{.fd = m->signal_fd, .events = POLLIN},
			{.fd = m->ctl, .events = POLLIN},
			{.fd = m->control.fd, .events = POLLIN},
		};
		int n = poll(p, 3, m->want_fetcher ? m->retry_ms : -1);

		if (n < 0 && errno != EINTR)
			return 1;
		if (n == 0 && m->want_fetcher)
			give_fetcher(m);
		if (p[0].revents != 0 && handle_signal(m, &status))
			return status;
		if ((p[1].revents & POLLIN) != 0 && m->ctl == p[1].fd)
			handle_worker(m);
		/* A hang-up alone would spin until SIGCHLD is read. */
		else if (p[1].revents != 0 && m->ctl == p[1].fd) {
			(void)close(m->ctl);
			m->ctl = -1;
		}
		if (p[2].revents != 0)
			control_answer(&m->control, &facts, m->st);
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

static int start(struct monitor *m, struct err *e)
{
	const struct digest *toc =
		m->layer->has_toc_digest ? &m->layer->toc_digest : NULL;
	int r = block_signals(m, e);

	m->st = stats_new();
	if (r == 0 && m->st == NULL)
		r = err_set(e, -ENOMEM, "no memory");
	if (r == 0)
		r = state_open(&m->state, m->o->root, toc, m->o->opaque_user,
			       toc == NULL, e);
	if (r == 0)
		r = spawn(m, e);
	if (r == 0)
		r = index_layer(m, e);
	if (r == 0)
		r = mount_target(m, e);
	if (r == 0)
		r = serve(m, false, e);
	if (r < 0)
		return r;
	raise_read_ahead(m);
	if (control_open(&m->control, e) < 0)
		log_warn("msg=\"no status: %s\"", e->text);
	return 0;
}

/* Ends what there is; a worker that still runs is killed. */
static void stop(struct monitor *m, bool failed)
{
	if (failed && m->mounted)
		(void)umount2(m->target, MNT_DETACH);
	if (m->fuse_fd >= 0)
		(void)close(m->fuse_fd);
	if (m->worker > 0) {
		(void)kill(m->worker, SIGKILL);
		(void)waitpid(m->worker, NULL, 0);
	}
	control_close(&m->control);
	state_close(&m->state);
	connect_done(m->connect);
}

int monitor_main(const struct layer *layer, const char *target,
		 const struct options *o, struct connect *c, int ready_fd)
{
	struct monitor m = {
		.layer = layer,
		.target = target,
		.o = o,
		.connect = c,
		.ready_fd = ready_fd,
		.signal_fd = -1,
		.fuse_fd = -1,
		.ctl = -1,
		.control = {.fd = -1},
		.state = {.dirfd = -1, .fds = {-1, -1, -1}},
		.retry_ms = RETRY_MIN_MS,
	};
	struct err e = {0};
	int r, status;

	(void)prctl(PR_SET_NAME, "estargzfs", 0, 0, 0);
	state_boot_id(m.boot_id);
	r = start(&m, &e);
	if (r < 0) {
		stop(&m, true);
		(void)io_write_all(ready_fd, &e, sizeof(e));
		return 1;
	}
	(void)close(ready_fd);
	m.ready_fd = -1;
	log_info("source=%s target=%s msg=mounted", layer->source, target);
	status = watch(&m);
	log_info("source=%s target=%s msg=\"unmounted\"", layer->source,
		 target);
	stop(&m, false);
	return status;
}
