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
#include <sys/wait.h>
#include <time.h>

#include "common/buf.h"
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
#define RESPAWN_PAUSE_NS (100 * NSEC_PER_MSEC)
#define RETRY_MIN_NS (50 * NSEC_PER_MSEC)
#define RETRY_MAX_NS (2 * NSEC_PER_SEC)
#define ANSWER_TIMEOUT_S 120 /* two fetches of the tail, at their slowest */
#define SEND_TIMEOUT_S 10
#define MAX_READ "1048576" /* 256 pages of 4 KiB: what libfuse asks for */
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
	uint64_t retry_ns; /* pause before the next try */
	uint64_t retry_at_ns;
	unsigned dev_major, dev_minor; /* of the mount */
	uint64_t deaths_ns[DEATHS_KEPT];
	unsigned n_deaths;
};

/* ---- the worker -------------------------------------------------------- */

static int spawn(struct monitor *m, struct err *e)
{
	const struct timeval answer = {.tv_sec = ANSWER_TIMEOUT_S};
	const struct timeval listen = {.tv_sec = SEND_TIMEOUT_S};
	pid_t self = getpid();
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(e, -errno, "socketpair: %s", err_name(errno));
	/* A worker that does not answer or listen is as good as dead. */
	(void)setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &answer,
			 sizeof(answer));
	(void)setsockopt(sv[0], SOL_SOCKET, SO_SNDTIMEO, &listen,
			 sizeof(listen));
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

	if (n == -EAGAIN)
		return err_set(e, -ETIMEDOUT, "worker does not answer");
	if (n <= 0 || (size_t)n < sizeof(msg->type))
		return err_set(e, -EIO, "worker died");
	if (msg->type == CTL_FAILED && (size_t)n == sizeof(msg->failed)) {
		*e = msg->failed.e;
		e->text[sizeof(e->text) - 1] = '\0';
		err_sanitize(e->text);
		e->code = e->code < 0 ? e->code : -EIO;
		return e->code;
	}
	if (msg->type == CTL_INDEXED && (size_t)n != sizeof(msg->indexed))
		return err_set(e, -EPROTO, "worker said half a word");
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

static int open_state(struct monitor *m, struct err *e)
{
	const struct digest *toc =
		m->layer->has_toc_digest ? &m->layer->toc_digest : NULL;

	return state_open(&m->state, m->o->root, toc, m->o->opaque_user,
			  toc == NULL, e);
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
		r = state_share(&m->state);
		if (r == 0)
			return 0;
		state_close(&m->state);
		r = open_state(m, e);
		if (r < 0)
			return r;
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

/* Which device is mounted at the target. AT_STATX_DONT_SYNC asks the kernel
 * only, never our worker. */
static int target_device(const struct monitor *m, unsigned *ret_major,
			 unsigned *ret_minor)
{
	struct statx sx;

	if (statx(AT_FDCWD, m->target, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT,
		  STATX_TYPE, &sx) < 0)
		return -errno;
	*ret_major = sx.stx_dev_major;
	*ret_minor = sx.stx_dev_minor;
	return 0;
}

static int mount_target(struct monitor *m, struct err *e)
{
	char data[128];
	ssize_t n;

	m->fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (m->fuse_fd < 0)
		return err_set(e, -errno, "/dev/fuse: %s", err_name(errno));
	(void)snprintf(data, sizeof(data),
		       "fd=%d,rootmode=40000,user_id=0,group_id=0,"
		       "default_permissions,allow_other,max_read=" MAX_READ,
		       m->fuse_fd);
	if (mount(m->layer->source, m->target, "fuse.estargz",
		  m->o->mount_flags, data) < 0)
		return err_set(e, -errno, "cannot mount on %s: %s", m->target,
			       err_name(errno));
	m->mounted = true;
	(void)target_device(m, &m->dev_major, &m->dev_minor);
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
	char path[96];

	(void)snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb",
		       m->dev_major, m->dev_minor);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, READ_AHEAD_KB, sizeof(READ_AHEAD_KB) - 1) < 0)
		log_debug("msg=\"read_ahead_kb stays as it is\"");
}

/* Takes our mount away, if it is still ours that is there. */
static void unmount(struct monitor *m)
{
	unsigned major, minor;

	if (!m->mounted || target_device(m, &major, &minor) < 0 ||
	    major != m->dev_major || minor != m->dev_minor)
		return;
	(void)umount2(m->target, MNT_DETACH);
	m->mounted = false;
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

static void kill_worker(struct monitor *m)
{
	if (m->ctl >= 0)
		(void)close(TAKE_FD(m->ctl));
	if (m->worker > 0) {
		(void)kill(m->worker, SIGKILL);
		while (waitpid(m->worker, NULL, 0) < 0 && errno == EINTR)
			;
	}
	m->worker = 0;
}

/* One try. */
static int start_worker(struct monitor *m, bool fail_resent, struct err *e)
{
	int r = spawn(m, e);

	if (r == 0)
		r = index_layer(m, e);
	if (r == 0)
		r = serve(m, fail_resent, e);
	if (r < 0)
		kill_worker(m);
	return r;
}

/* Whether nobody waits for an answer on this connection, as fusectl says. */
static bool nobody_waits(const struct monitor *m)
{
	CLEANUP_BUF struct buf b = BUF_INIT(64);
	char path[96];

	(void)snprintf(path, sizeof(path),
		       "/sys/fs/fuse/connections/%u/waiting", m->dev_minor);
	return io_read_file(AT_FDCWD, path, &b) == 0 && b.p != NULL &&
	       strtoul(b.p, NULL, 10) == 0;
}

/* Has the kernel send again what the dead worker had taken. */
static int resend(const struct monitor *m)
{
	const struct fuse_out_header resend = {
		.len = sizeof(resend),
		.error = NOTIFY_RESEND,
	};

	if (write(m->fuse_fd, &resend, sizeof(resend)) >= 0 || nobody_waits(m))
		return 0;
	/* Linux before 6.9. Who waits would wait for ever, unkillably; an
	 * aborted connection gives them an error. */
	log_err("err=%s msg=\"kernel cannot send again what was in flight: the "
		"mount is aborted\"",
		err_symbol(errno));
	return -EIO;
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
	kill_worker(m);
	m->want_fetcher = false;
	atomic_store_explicit(&m->st->fetcher_up, 0, memory_order_relaxed);
	while (deaths < DEATHS_KEPT) {
		if (start_worker(m, deaths >= DEATHS_EIO, &e) == 0)
			return resend(m);
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
	if ((size_t)n >= sizeof(msg.type) && msg.type == CTL_NEED_FETCHER) {
		m->want_fetcher = true;
		m->retry_ns = RETRY_MIN_NS;
		give_fetcher(m);
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
			 m->target);
		unmount(m);
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
		unmount(m);
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

/* How long poll(2) may wait. */
static int retry_ms(const struct monitor *m)
{
	uint64_t now = io_now_ns();

	if (!m->want_fetcher)
		return -1;
	return now >= m->retry_at_ns
		       ? 0
		       : (int)((m->retry_at_ns - now) / NSEC_PER_MSEC) + 1;
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
		struct pollfd p[4] = {
			{.fd = m->signal_fd, .events = POLLIN},
			{.fd = m->ctl, .events = POLLIN},
			{.fd = m->control.fd, .events = POLLIN},
			{.fd = m->ready_fd, .events = POLLIN},
		};

		if (poll(p, 4, retry_ms(m)) < 0 && errno != EINTR)
			return 1;
		if (m->want_fetcher && io_now_ns() >= m->retry_at_ns)
			give_fetcher(m);
		if (p[0].revents != 0 && handle_signal(m, &status))
			return status;
		if (p[1].revents != 0 && m->ctl == p[1].fd)
			handle_worker(m);
		if (p[2].revents != 0)
			control_answer(&m->control, &facts, m->st);
		if (p[3].revents != 0)
			handle_front(m);
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
	int r = block_signals(m, e);

	m->st = stats_new();
	if (r == 0 && m->st == NULL)
		r = err_set(e, -ENOMEM, "no memory");
	if (r == 0)
		r = open_state(m, e);
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
	if (failed)
		unmount(m);
	if (m->fuse_fd >= 0)
		(void)close(m->fuse_fd);
	kill_worker(m);
	/* A layer of an image has a directory of its own. */
	if (strcmp(m->target, m->o->target) != 0)
		(void)rmdir(m->target);
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
		.retry_ns = RETRY_MIN_NS,
	};
	struct err e = {0};
	int r, status;

	(void)prctl(PR_SET_NAME, "estargzfs", 0, 0, 0);
	state_boot_id(m.boot_id);
	r = start(&m, &e);
	/* An empty error is readiness. If the front is gone, watch() sees. */
	if (r == 0)
		e = (struct err){0};
	(void)io_write_all(ready_fd, &e, sizeof(e));
	if (r < 0) {
		stop(&m, true);
		return 1;
	}
	state_sync(&m.state);
	log_info("source=%s target=%s msg=mounted", layer->source, target);
	status = watch(&m);
	log_info("source=%s target=%s msg=\"unmounted\"", layer->source,
		 target);
	stop(&m, false);
	return status;
}
