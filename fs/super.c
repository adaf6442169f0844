/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/super.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "common/io.h"
#include "common/listen.h"
#include "fs/control.h"
#define LOG_MOD "super"
#include "common/log.h"

#define START_TIMEOUT_S 10
#define LOCK_TIMEOUT_NS (10 * NSEC_PER_SEC)
#define LOCK_PAUSE_NS NSEC_PER_MSEC

/* A session of its own, nothing of the caller's but its standard output and error. */
static void become_own(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* All three are there, so that a log line goes into nothing of ours. */
	for (int i = STDIN_FILENO; null >= 0 && i <= STDERR_FILENO; i++) {
		if (i == STDIN_FILENO || fcntl(i, F_GETFD) < 0)
			(void)dup2(null, i);
	}
	(void)close_range(STDERR_FILENO + 1, (unsigned)fd - 1, 0);
	(void)close_range((unsigned)fd + 1, ~0u, 0);
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	(void)setsid();
	(void)prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
	(void)umask(022);
	log_never_wait();
	if (chdir("/") < 0)
		log_debug("msg=\"stays in its directory\"");
}

/* To or from little-endian. */
static void turn(struct sup_session *s)
{
	s->dev_major = htole32(s->dev_major);
	s->dev_minor = htole32(s->dev_minor);
	s->init_len = htole32(s->init_len);
	s->index = htole32(s->index);
}

int super_begin(struct super *s, int fd, struct sup_session *ret,
		int *ret_fuse_fd, struct err *e)
{
	const struct timeval wait = {.tv_sec = START_TIMEOUT_S};
	struct sup_start msg = {0};
	CLEANUP_CLOSE int fuse_fd = -EBADF;
	ssize_t n;

	*s = (struct super){.conn = fd, .listener = -1, .lock_fd = -1};
	become_own(fd);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	n = io_recv_fds(fd, &msg, sizeof(msg), &fuse_fd, 1, 0);
	if (n == -EAGAIN)
		return err_set(e, -ETIMEDOUT, "supervisor does not say START");
	if (n < 0 || (size_t)n < sizeof(msg.h) ||
	    le16toh(msg.h.type) != SUP_START)
		return err_set(e, n < 0 ? (int)n : -EPROTO,
			       "supervisor does not say START");
	if (le16toh(msg.h.version) != SUP_VERSION)
		return err_set(e, -EPROTO,
			       "supervisor speaks version %u, not %u",
			       le16toh(msg.h.version), SUP_VERSION);
	turn(&msg.session);
	if ((size_t)n != sizeof(msg) || le32toh(msg.h.len) != sizeof(msg) ||
	    msg.session.init_len > SUP_INIT_BYTES ||
	    (msg.session.init_len != 0) != (fuse_fd >= 0))
		return err_set(e, -EPROTO, "supervisor says a wrong START");
	*ret = msg.session;
	*ret_fuse_fd = TAKE_FD(fuse_fd);
	return 0;
}

/* A path of ours in RUN_DIR/layers. */
static int set_path(char **ret, const char *name, struct err *e)
{
	int r = io_mkdir_p(CONTROL_DIR, 0700);

	if (r < 0)
		return err_set(e, r, CONTROL_DIR ": %s", err_name(r));
	if (asprintf(ret, CONTROL_DIR "/%s", name) < 0) {
		*ret = NULL;
		return err_no_memory(e);
	}
	return 0;
}

int super_listen(struct super *s, struct err *e)
{
	char name[32];
	int r;

	(void)snprintf(name, sizeof(name), "%d.sup", (int)getpid());
	r = set_path(&s->path, name, e);
	if (r < 0)
		return r;
	r = listen_unix(s->path, SOCK_SEQPACKET, e);
	if (r < 0)
		return r;
	s->listener = r;
	return 0;
}

/* ---- the lock ---------------------------------------------------------- */

/* Return: 0, -EAGAIN somebody has it, or it is another file by now, -errno */
static int try_lock(const char *path, int *ret)
{
	CLEANUP_CLOSE int fd =
		open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_nlink == 0)
		return -EAGAIN;
	*ret = TAKE_FD(fd);
	return 0;
}

int super_lock(struct super *s, unsigned major, unsigned minor, struct err *e)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
	uint64_t until = io_now_ns() + LOCK_TIMEOUT_NS;
	char name[48];
	int r;

	(void)snprintf(name, sizeof(name), "%u.%u.lock", major, minor);
	r = set_path(&s->lock_path, name, e);
	if (r < 0)
		return r;
	while ((r = try_lock(s->lock_path, &s->lock_fd)) == -EAGAIN &&
	       io_now_ns() < until)
		(void)nanosleep(&pause, NULL);
	if (r == -EAGAIN)
		return err_set(e, -EBUSY,
			       "a process of before still serves the mount");
	return r < 0 ? err_set(e, r, "%s: %s", s->lock_path, err_name(r)) : 0;
}

/* ---- what is said ------------------------------------------------------ */

static void let_go(struct super *s)
{
	if (s->conn >= 0)
		(void)close(TAKE_FD(s->conn));
	s->conn = -1;
}

static void tell(struct super *s, struct sup_hdr *h, enum sup_type type,
		 size_t len, int fuse_fd)
{
	int r;

	if (s->conn < 0)
		return;
	*h = (struct sup_hdr){
		.type = htole16(type),
		.version = htole16(SUP_VERSION),
		.len = htole32((uint32_t)len),
	};
	r = io_send_fds(s->conn, h, len, &fuse_fd, fuse_fd >= 0 ? 1 : 0,
			MSG_DONTWAIT);
	if (r < 0)
		let_go(s);
}

/* A message with text behind it. */
struct sup_said {
	union {
		struct sup_hdr h;
		struct sup_ready ready;
		struct sup_failed failed;
	};
	char text[SUP_TEXT_BYTES];
};

static void tell_text(struct super *s, struct sup_said *m, enum sup_type type,
		      size_t fixed, int fuse_fd, const char *text)
{
	size_t n = MIN(strlen(text), (size_t)SUP_TEXT_BYTES);

	memcpy((char *)m + fixed, text, n);
	tell(s, &m->h, type, fixed + n, fuse_fd);
}

void super_ready(struct super *s, const struct sup_session *session,
		 int fuse_fd, bool complete, const char *target)
{
	struct sup_said m = {
		.ready = {.pid = htole32((uint32_t)getpid()),
			  .flags = htole32(complete ? SUP_COMPLETE : 0),
			  .session = *session},
	};

	turn(&m.ready.session);

	tell_text(s, &m, SUP_READY, sizeof(m.ready), fuse_fd, target);
}

bool super_failed(struct super *s, const struct err *e)
{
	struct sup_said m = {.failed = {.code = htole32((uint32_t)-e->code)}};

	tell_text(s, &m, SUP_FAILED, sizeof(m.failed), -1,
		  e->text[0] != '\0' ? e->text : err_name(e->code));
	return s->conn >= 0;
}

void super_ended(struct super *s)
{
	struct sup_hdr h;

	tell(s, &h, SUP_ENDED, sizeof(h), -1);
}

void super_complete(struct super *s)
{
	struct sup_hdr h;

	tell(s, &h, SUP_STATE, sizeof(h), -1);
}

/* ---- what is heard ----------------------------------------------------- */

bool super_accept(struct super *s)
{
	int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return false;
	let_go(s);
	s->conn = fd;
	return true;
}

bool super_wants_end(struct super *s)
{
	struct sup_start msg = {0};
	ssize_t n =
		io_recv_fds(s->conn, &msg, sizeof(msg), NULL, 0, MSG_DONTWAIT);

	if (n == -EAGAIN)
		return false;
	if (n < (ssize_t)sizeof(msg.h)) {
		let_go(s);
		return false;
	}
	return le16toh(msg.h.type) == SUP_END;
}

void super_forked(struct super *s)
{
	let_go(s);
	if (s->listener >= 0)
		(void)close(TAKE_FD(s->listener));
}

void super_unlock(struct super *s)
{
	if (s->lock_fd >= 0)
		(void)close(TAKE_FD(s->lock_fd));
}

void super_close(struct super *s)
{
	let_go(s);
	if (s->listener >= 0) {
		(void)unlink(s->path);
		(void)close(s->listener);
	}
	if (s->lock_fd >= 0) {
		(void)unlink(s->lock_path);
		(void)close(s->lock_fd);
	}
	free(s->path);
	free(s->lock_path);
	*s = (struct super){.conn = -1, .listener = -1, .lock_fd = -1};
}
