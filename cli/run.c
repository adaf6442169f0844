/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "cli/progress.h"
#include "cli/runproc.h"
#include "cli/runtty.h"
#include "common/buf.h"
#include "common/io.h"

#define RUNTIME_TIMEOUT_MS 60000
#define DRAIN_TIMEOUT_MS 5000
#define PASS_BYTES 16384u

enum {
	ON_OUT,
	ON_ERR,
	ON_TTY,
	ON_STDIN,
	ON_SIGNAL,
	ON_END,
	ON_N_
};

/**
 * struct runner - a container that runs
 * @fds:	what is waited for; -1: not, or not any more
 * @out, @err:	the ends that the container has
 * @stream:	of @fds[ON_OUT], @fds[ON_ERR], @fds[ON_TTY]
 * @begun:	[@n_begun] of @fds[ON_ERR], where it is JSON: a character whose
 *		last bytes are still to come
 * @how:	why it is to end, 0: it is not
 */
struct runner {
	const struct rundir *d;
	const struct run_opts *o;
	struct runtty tty;
	int fds[ON_N_];
	int out;
	int err;
	pid_t pid;
	struct runline_stream stream[ON_TTY + 1];
	char begun[3];
	size_t n_begun;
	enum run_end how;
	unsigned interrupted; /* the signal's number, 0: was not */
	sigset_t old;
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

static void runner_done(struct runner *r)
{
	runtty_close(&r->tty);
	close_fd(&r->fds[ON_OUT]);
	close_fd(&r->fds[ON_ERR]);
	close_fd(&r->fds[ON_SIGNAL]);
	close_fd(&r->fds[ON_END]);
	close_fd(&r->out);
	close_fd(&r->err);
	for (size_t i = 0; i < ARRAY_SIZE(r->stream); i++)
		runline_stream_done(&r->stream[i]);
	(void)sigprocmask(SIG_SETMASK, &r->old, NULL);
}

/* ---- the runtime ------------------------------------------------------- */

/* Waits for one of the runtime's commands. What it has written before the
 * container's process began is its own. */
static int await_runtime(pid_t pid, int err, const char *what, struct err *e)
{
	CLEANUP_FREE char *why = NULL;
	int r = runproc_wait(pid, RUNTIME_TIMEOUT_MS);

	if (r == 0)
		return 0;
	if (r < 0)
		return err_set(e, r, "the runtime cannot %s the container: %s",
			       what, err_name(r));
	why = runproc_last_line(err);
	return err_set(e, -EIO, "the runtime cannot %s the container: %s", what,
		       why != NULL ? why : "it does not say why");
}

static int read_pid(struct runner *r, struct err *e)
{
	CLEANUP_BUF struct buf b = BUF_INIT(64);
	int rc = io_read_file(r->d->fd, "pid", &b);
	long pid = rc == 0 && b.len > 0 ? strtol(b.p, NULL, 10) : 0;

	if (pid <= 1 || pid > INT_MAX)
		return err_set(e, -EIO,
			       "the runtime does not say what it has "
			       "started");
	r->pid = (pid_t)pid;
	r->fds[ON_END] = pidfd_open(r->pid, 0);
	if (r->fds[ON_END] < 0)
		return err_set(e, -errno, "container's process: %s",
			       err_name(errno));
	return 0;
}

/* What the runtime says of itself goes to a file of its own, where it has the
 * container's standard error as its own. */
static int create(struct runner *r, struct err *e)
{
	const char *argv[] = {
		r->o->runtime, "--root",   "rt", "--log",      "log",
		"create",      "--bundle", ".",  "--pid-file", "pid",
		r->d->id,      NULL,       NULL, NULL,
	};
	CLEANUP_CLOSE int log =
		openat(r->d->fd, "log", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct runproc p = {
		.argv = argv,
		.dir_fd = r->d->fd,
		.in = r->o->with_stdin && !r->o->terminal ? STDIN_FILENO : -1,
		.out = r->out,
		.err = r->err,
	};
	pid_t pid;
	int rc;

	if (log < 0)
		return err_set(e, -errno, "%s/log: %s", r->d->path,
			       err_name(errno));
	if (r->o->terminal) {
		argv[10] = "--console-socket";
		argv[11] = RUNTTY_SOCKET;
		argv[12] = r->d->id;
	}
	pid = runproc_start(&p, e);
	if (pid < 0)
		return pid;
	rc = await_runtime(pid, log, "create", e);
	return rc < 0 ? rc : read_pid(r, e);
}

static int start(struct runner *r, struct err *e)
{
	const char *argv[] = {
		r->o->runtime, "--root", "rt", "start", r->d->id, NULL,
	};
	CLEANUP_CLOSE int err = memfd_create("stderr", MFD_CLOEXEC);
	struct runproc p = {
		.argv = argv,
		.dir_fd = r->d->fd,
		.in = -1,
		.out = -1,
		.err = err,
	};
	pid_t pid;

	if (err < 0)
		return err_set(e, -errno, "memfd: %s", err_name(errno));
	pid = runproc_start(&p, e);
	return pid < 0 ? pid : await_runtime(pid, err, "start", e);
}

/* ---- what comes from it ------------------------------------------------ */

/* Bytes at the end that are the beginning of a character of UTF-8. */
static size_t begun(const char *p, size_t n)
{
	for (size_t k = 1; k <= MIN(n, (size_t)3); k++) {
		unsigned char c = (unsigned char)p[n - k];

		if ((c & 0xc0) != 0x80)
			return (k == 1 && c >= 0xc0) || (k == 2 && c >= 0xe0) ||
					       (k == 3 && c >= 0xf0)
				       ? k
				       : 0;
	}
	return 0;
}

/* Text as it came: it need not end with a line, but with a character. */
static void tell_json(const char *block, size_t n)
{
	while (n > 0) {
		size_t k = strnlen(block, n);
		CLEANUP_FREE char *text = strndup(block, k);

		if (k > 0 && text != NULL)
			progress_json(STDERR_FILENO, "stderr", text);
		k += k < n; /* and a NUL */
		block += k;
		n -= k;
	}
}

static void pass_json(struct runner *r, const char *block, size_t n)
{
	char text[PASS_BYTES + sizeof(r->begun)];

	memcpy(text, r->begun, r->n_begun);
	memcpy(text + r->n_begun, block, n);
	n += r->n_begun;
	r->n_begun = begun(text, n);
	n -= r->n_begun;
	memcpy(r->begun, text + n, r->n_begun);
	tell_json(text, n);
}

static void pass(struct runner *r, int which, int to)
{
	char block[PASS_BYTES];
	ssize_t n = read(r->fds[which], block, sizeof(block));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		if (which == ON_ERR)
			tell_json(r->begun, r->n_begun);
		/* A terminal's master is the terminal's. */
		if (which == ON_TTY)
			r->fds[which] = -1;
		else
			close_fd(&r->fds[which]);
		return;
	}
	/* Where nobody reads it, it is lost; the run goes on. */
	if (which == ON_ERR && r->o->json)
		pass_json(r, block, (size_t)n);
	else
		(void)io_write_all(to, block, (size_t)n);
	/* It may be the last thing that it does. */
	if ((r->how == 0 || r->how == RUN_EXITED) && r->o->line != NULL &&
	    runline_feed(r->o->line, &r->stream[which], block, (size_t)n) > 0)
		r->how = RUN_LINE;
}

static void type(struct runner *r)
{
	char block[4096];
	ssize_t n = read(STDIN_FILENO, block, sizeof(block));
	static const char end_of_file = 4;

	if (n < 0 && errno == EINTR)
		return;
	if (n > 0) {
		(void)io_write_all(r->tty.master, block, (size_t)n);
		return;
	}
	r->fds[ON_STDIN] = -1;
	(void)io_write_all(r->tty.master, &end_of_file, 1);
}

static void on_signal(struct runner *r)
{
	struct signalfd_siginfo si;

	if (read(r->fds[ON_SIGNAL], &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo == SIGWINCH) {
		runtty_resize(&r->tty);
		return;
	}
	r->how = RUN_SIGNAL;
	if (!r->o->until_signal || si.ssi_signo == SIGHUP)
		r->interrupted = si.ssi_signo;
}

/* Waits for what happens next, and passes it on. Return: false: nothing did */
static bool once(struct runner *r, int timeout_ms)
{
	struct pollfd pfds[ON_N_];
	int n;

	for (int i = 0; i < ON_N_; i++)
		pfds[i] = (struct pollfd){.fd = r->fds[i], .events = POLLIN};
	n = poll(pfds, ON_N_, timeout_ms);
	if (n <= 0)
		return n < 0 && errno == EINTR;
	if (pfds[ON_OUT].revents != 0)
		pass(r, ON_OUT, STDOUT_FILENO);
	if (pfds[ON_ERR].revents != 0)
		pass(r, ON_ERR, STDERR_FILENO);
	if (pfds[ON_TTY].revents != 0)
		pass(r, ON_TTY, STDOUT_FILENO);
	if (pfds[ON_STDIN].revents != 0)
		type(r);
	if (pfds[ON_SIGNAL].revents != 0)
		on_signal(r);
	if (pfds[ON_END].revents != 0 && r->how == 0)
		r->how = RUN_EXITED;
	return true;
}

/* Until one of the reasons to end is there. */
static void serve(struct runner *r)
{
	uint64_t end = io_now_ns() + r->o->period_s * NSEC_PER_SEC;

	while (r->how == 0) {
		uint64_t now = io_now_ns();
		int timeout_ms = -1;

		if (r->o->period_s > 0)
			timeout_ms =
				now < end
					? (int)MIN((end - now) / NSEC_PER_MSEC +
							   1,
						   (uint64_t)INT_MAX)
					: 0;
		if (!once(r, timeout_ms) && r->o->period_s > 0 &&
		    io_now_ns() >= end)
			r->how = RUN_PERIOD;
	}
}

/* Kills it, with all in its pid namespace. Return: its exit status */
static int finish(struct runner *r)
{
	uint64_t end;
	siginfo_t si = {0};

	(void)pidfd_send_signal(r->fds[ON_END], SIGKILL, NULL, 0);
	while (waitid(P_PIDFD, (id_t)r->fds[ON_END], &si, WEXITED) < 0 &&
	       errno == EINTR)
		;
	close_fd(&r->fds[ON_END]);
	close_fd(&r->fds[ON_SIGNAL]);
	r->fds[ON_STDIN] = -1;
	/* What it wrote last is still on its way. */
	end = io_now_ns() + DRAIN_TIMEOUT_MS * NSEC_PER_MSEC;
	while ((r->fds[ON_OUT] >= 0 || r->fds[ON_ERR] >= 0 ||
		r->fds[ON_TTY] >= 0) &&
	       io_now_ns() < end)
		(void)once(r, 100);
	return si.si_code == CLD_EXITED ? si.si_status : 128 + si.si_status;
}

/* ---- all of it --------------------------------------------------------- */

static int open_pipes(struct runner *r, struct err *e)
{
	int out[2], err[2];

	if (pipe2(out, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe: %s", err_name(errno));
	r->fds[ON_OUT] = out[0];
	r->out = out[1];
	if (pipe2(err, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe: %s", err_name(errno));
	r->fds[ON_ERR] = err[0];
	r->err = err[1];
	return 0;
}

static int hold_signals(struct runner *r, struct err *e)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGWINCH);
	(void)sigprocmask(SIG_BLOCK, &set, &r->old);
	r->fds[ON_SIGNAL] = signalfd(-1, &set, SFD_CLOEXEC);
	return r->fds[ON_SIGNAL] >= 0
		       ? 0
		       : err_set(e, -errno, "signalfd: %s", err_name(errno));
}

static int open_all(struct runner *r, struct err *e)
{
	int rc = hold_signals(r, e);

	if (rc == 0 && !r->o->terminal)
		return open_pipes(r, e);
	return rc < 0 ? rc : runtty_open(&r->tty, r->d->fd, e);
}

static int take_terminal(struct runner *r, struct err *e)
{
	int rc = runtty_take(&r->tty, e);

	if (rc < 0)
		return rc;
	r->fds[ON_TTY] = r->tty.master;
	if (r->o->with_stdin)
		r->fds[ON_STDIN] = STDIN_FILENO;
	return 0;
}

static int begin(struct runner *r, struct err *e)
{
	int rc = io_write_file(r->d->fd, "runtime", r->o->runtime,
			       strlen(r->o->runtime), 0600);

	if (rc < 0)
		return err_set(e, rc, "%s/runtime: %s", r->d->path,
			       err_name(rc));
	rc = create(r, e);
	if (rc == 0 && r->o->terminal)
		rc = take_terminal(r, e);
	/* So that they end with the container. */
	close_fd(&r->out);
	close_fd(&r->err);
	return rc < 0 ? rc : start(r, e);
}

int run_container(const struct rundir *d, const struct run_opts *o,
		  enum run_end *ret_how, int *ret_status, struct err *e)
{
	struct runner r = {
		.d = d,
		.o = o,
		.tty = {.listener = -1, .master = -1},
		.fds = {-1, -1, -1, -1, -1, -1},
		.out = -1,
		.err = -1,
	};
	int rc = open_all(&r, e);

	if (rc == 0)
		rc = begin(&r, e);
	if (rc == 0)
		serve(&r);
	if (r.fds[ON_END] >= 0)
		*ret_status = finish(&r);
	*ret_how = r.how;
	if (rc == 0 && r.interrupted != 0) {
		*ret_status = 128 + (int)r.interrupted;
		rc = err_set(e, -EINTR, "interrupted");
	}
	runner_done(&r);
	return rc;
}
