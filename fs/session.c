/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/session.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#define LOG_MOD "session"
#include "common/log.h"

static void PRINTF_LIKE(2, 0)
	on_fuse_log(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char text[256];

	(void)vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = '\0';
	if (level <= FUSE_LOG_ERR)
		log_debug("msg=\"libfuse: %s\"", text);
}

int session_init(struct session *s, struct fs *fs, int fuse_fd,
		 const void *init, size_t init_len, struct err *e)
{
	char name[] = "estargz";
	char *argv[] = {name, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_buf buf = {.size = init_len};
	char path[32];

	s->fs = fs;
	s->fuse_fd = fuse_fd;
	fuse_set_log_func(on_fuse_log);
	s->se = fuse_session_new(&args, &fs_ops, sizeof(fs_ops), fs);
	fuse_opt_free_args(&args);
	if (s->se == NULL)
		return err_set(e, -EIO, "libfuse refuses a session");
	(void)snprintf(path, sizeof(path), "/dev/fd/%d", fuse_fd);
	if (fuse_session_mount(s->se, path) < 0)
		return err_set(e, -EIO, "libfuse refuses the descriptor");
	buf.mem = malloc(init_len);
	if (buf.mem == NULL)
		return err_no_memory(e);
	memcpy(buf.mem, init, init_len);
	fuse_session_process_buf(s->se, &buf);
	free(buf.mem);
	return 0;
}

void session_done(struct session *s)
{
	if (s->se != NULL)
		fuse_session_destroy(s->se);
	s->se = NULL;
}

/* Return: true when it was a request that is sent again and was refused. */
static bool refuse_resent(const struct session *s,
			  const struct fuse_in_header *in)
{
	struct fuse_out_header out = {
		.len = sizeof(out),
		.error = -EIO,
		.unique = in->unique,
	};

	if (!s->fail_resent || (in->unique & SESSION_RESENT) == 0 ||
	    in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET ||
	    in->opcode == FUSE_INTERRUPT || in->opcode == FUSE_RELEASE)
		return false;
	log_warn("opcode=%u nodeid=%llu msg=\"request that killed workers "
		 "is answered with EIO\"",
		 in->opcode, (unsigned long long)in->nodeid);
	if (write(s->fuse_fd, &out, sizeof(out)) < 0)
		log_debug("msg=\"answer refused\" err=%s", err_symbol(errno));
	return true;
}

static void on_signal(int nr UNUSED)
{
}

/* Lets read(2) of /dev/fuse be interrupted: no request gets lost that way. */
static void accept_signal(void)
{
	const struct sigaction sa = {.sa_handler = on_signal};
	sigset_t set;

	(void)sigaction(SESSION_SIGNAL, &sa, NULL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SESSION_SIGNAL);
	(void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static bool is_leaving(const struct session *s)
{
	return atomic_load_explicit(&s->leaving, memory_order_relaxed);
}

void session_leave(struct session *s)
{
	atomic_store_explicit(&s->leaving, true, memory_order_relaxed);
}

int session_loop(struct session *s, struct lane *lane)
{
	struct fuse_buf buf = {.mem = NULL};
	struct fuse_in_header in;
	int r = 0;

	(void)pthread_setspecific(s->fs->lane_key, lane);
	accept_signal();
	while (!fuse_session_exited(s->se)) {
		if (is_leaving(s)) {
			/* libfuse would throw away what others receive now,
			 * were it told. */
			free(buf.mem);
			return -EINTR;
		}
		r = fuse_session_receive_buf(s->se, &buf);
		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r == -ENOMEM) {
			const struct timespec pause = {.tv_nsec = 10000000};

			(void)nanosleep(&pause, NULL);
			continue;
		}
		if (r <= 0)
			break;
		if (buf.size < sizeof(in))
			continue;
		memcpy(&in, buf.mem, sizeof(in));
		lane->unique = in.unique;
		if (!refuse_resent(s, &in))
			fuse_session_process_buf(s->se, &buf);
	}
	free(buf.mem);
	fuse_session_exit(s->se);
	return r == -ENODEV ? 0 : MIN(r, 0);
}
