/* SPDX-License-Identifier: Apache-2.0 */
/* The worker of a monitor: started, told what to do, ended. */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "common/io.h"
#include "fs/ctl.h"
#include "fs/monitor_impl.h"
#include "fs/oom.h"
#include "fs/worker.h"

#define FETCHER_WAIT_NS (5 * NSEC_PER_SEC)
#define FETCHER_PAUSE_NS (10 * NSEC_PER_MSEC)
#define ANSWER_TIMEOUT_S 120 /* two fetches of the tail, at their slowest */
#define SEND_TIMEOUT_S 10

int monitor_spawn(struct monitor *m, struct err *e)
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
		mnt_close(&m->mnt);
		backing_done(&m->backing);
		if (m->control.fd >= 0)
			(void)close(m->control.fd);
		if (m->connect->lock_fd >= 0)
			(void)close(m->connect->lock_fd);
		if (m->super != NULL)
			super_forked(m->super);
		if (m->state.dirfd >= 0)
			(void)close(m->state.dirfd);
		for (int i = 0; i < STATE_FILES; i++) {
			if (m->state.fds[i] >= 0)
				(void)close(m->state.fds[i]);
		}
		oom_set(m->connect->oom.adj);
		_exit(worker_main(sv[1], self, m->layer, m->o, m->st,
				  m->events_fd, m->firsts_fd));
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
		return err_set(e, -ECHILD, "worker died");
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

/* A supervisor may have started the fetcher just before us. */
static int connect_patiently(struct monitor *m, int *ret_sock, struct err *e)
{
	const struct timespec pause = {.tv_nsec = FETCHER_PAUSE_NS};
	uint64_t until = io_now_ns() + FETCHER_WAIT_NS;
	int r;

	while ((r = connect_fetcher(m->connect, ret_sock, e)) < 0) {
		if (m->super == NULL || (r != -ENOENT && r != -ECONNREFUSED) ||
		    io_now_ns() > until)
			break;
		(void)nanosleep(&pause, NULL);
	}
	return r;
}

static int send_start(struct monitor *m, struct err *e)
{
	struct ctl_start msg = {
		.type = CTL_START,
		.build = m->state.building,
		.exclusive = m->state.exclusive,
		.sealed = m->state.sealed,
	};
	int fds[CTL_FD_N_];
	size_t n = STATE_FILES;
	int r = 0;

	memcpy(msg.boot_id, m->boot_id, sizeof(msg.boot_id));
	memcpy(fds, m->state.fds, sizeof(m->state.fds));
	fds[CTL_FD_FETCHER] = -1;
	/* An index needs no fetcher to be mounted; making one does. */
	if (msg.build) {
		r = connect_patiently(m, &fds[CTL_FD_FETCHER], e);
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

int monitor_open_state(struct monitor *m, struct err *e)
{
	const struct digest *toc =
		m->layer->has_toc_digest ? &m->layer->toc_digest : NULL;

	return state_open(&m->state, m->o->root, toc, m->o->opaque_user,
			  toc == NULL, e);
}

/* The kernel keeps inode numbers of the index that was mounted. One that had to be
 * made anew is the same, unless by another program. */
static int check_index(struct monitor *m, uint32_t index, struct err *e)
{
	struct sup_session *s = &m->mnt.session;

	if (m->mnt.fuse_fd < 0)
		s->index = index;
	if (s->index == index)
		return 0;
	return err_set(e, -ESTALE, "index is not the one that is mounted");
}

/* Has the worker open the index, or make it. */
int monitor_index(struct monitor *m, struct err *e)
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
		r = check_index(m, msg.indexed.index, e);
		if (r < 0)
			return r;
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
		r = monitor_open_state(m, e);
		if (r < 0)
			return r;
	}
	return err_set(e, -EBUSY, "index cannot be made");
}

int monitor_serve(struct monitor *m, bool fail_resent, struct err *e)
{
	struct ctl_serve msg = {
		.type = CTL_SERVE,
		.fail_resent = fail_resent,
		.again = m->succeeds || m->n_deaths > 0 || m->relieves,
		.relieves = m->relieves,
		.init_len = m->mnt.session.init_len,
	};
	const int fds[2] = {m->mnt.fuse_fd, m->backing.opens_fd};
	union ctl_msg answer;
	int r;

	memcpy(msg.init, m->mnt.session.init, msg.init_len);
	r = io_send_fds(m->ctl, &msg, sizeof(msg), fds, 2, 0);
	if (r < 0)
		return err_set(e, r, "worker: %s", err_name(r));
	r = expect(m, &answer, e);
	if (r == 0 && answer.type != CTL_READY)
		r = err_set(e, -EPROTO, "worker said %u", answer.type);
	return r;
}

void monitor_kill_worker(struct monitor *m)
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
int monitor_start_worker(struct monitor *m, bool fail_resent, struct err *e)
{
	int r = monitor_spawn(m, e);

	if (r == 0)
		r = monitor_index(m, e);
	if (r == 0)
		r = monitor_serve(m, fail_resent, e);
	if (r < 0)
		monitor_kill_worker(m);
	return r;
}
