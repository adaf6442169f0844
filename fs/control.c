/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/control.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/listen.h"

static const char *const state_names[] = {
	[STATS_STARTING] = "starting",
	[STATS_LAZY] = "lazy",
	[STATS_COMPLETE] = "complete",
};
static const char *const open_whys[] = {
	[STATS_OPEN_CHOSEN] = "",
	[STATS_OPEN_LIBFUSE] = "libfuse has no passthrough",
	[STATS_OPEN_KERNEL] = "the kernel has no passthrough",
	[STATS_OPEN_REFUSED] = "no backing files",
};
static_assert(ARRAY_SIZE(open_whys) == STATS_OPEN_N_, "a name for each");
static_assert(ARRAY_SIZE(state_names) == STATS_N_, "a name for each state");

/* Whether a lock is of a mount that there is: where monitor and worker were
 * killed, others go on with it, and with what is in the file (fs/opens.h). */
static bool is_needed(const char *lock)
{
	unsigned major, minor;
	char path[64];

	if (sscanf(lock, "%u.%u.lock", &major, &minor) != 2)
		return false;
	(void)snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u", major,
		       minor);
	return access(path, F_OK) == 0;
}

/* Whether a name of ours is of a process, or a mount, that is gone. */
static bool is_stale(int dirfd, const char *name)
{
	CLEANUP_CLOSE int fd = -EBADF;
	char *end;
	long pid = strtol(name, &end, 10);

	if (pid > 0 && (strcmp(end, ".sock") == 0 || strcmp(end, ".sup") == 0 ||
			strcmp(end, ".sup" LISTEN_UNBORN) == 0))
		return kill((pid_t)pid, 0) < 0 && errno == ESRCH;
	if (strlen(end) < 5 || strcmp(end + strlen(end) - 5, ".lock") != 0 ||
	    is_needed(name))
		return false;
	/* Locked while it is removed: see fs/super.c. */
	fd = openat(dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		(void)unlinkat(dirfd, name, 0);
	return false;
}

void control_sweep(void)
{
	DIR *d = opendir(CONTROL_DIR);
	struct dirent *de;

	while (d != NULL && (de = readdir(d)) != NULL) {
		if (is_stale(dirfd(d), de->d_name))
			(void)unlinkat(dirfd(d), de->d_name, 0);
	}
	if (d != NULL)
		(void)closedir(d);
}

int control_open(struct control *c, struct err *e)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	CLEANUP_CLOSE int s = -EBADF;
	mode_t old;
	int r;

	*c = (struct control){.fd = -1};
	r = io_mkdir_p(CONTROL_DIR, 0700);
	if (r < 0)
		return err_set(e, r, CONTROL_DIR ": %s", err_name(r));
	if (asprintf(&c->path, CONTROL_DIR "/%d.sock", (int)getpid()) < 0) {
		c->path = NULL;
		return err_no_memory(e);
	}
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", c->path);
	(void)unlink(c->path);
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return err_set(e, -errno, "socket: %s", err_name(errno));
	old = umask(0177);
	r = bind(s, (const struct sockaddr *)&sa, sizeof(sa));
	(void)umask(old);
	if (r < 0 || listen(s, 16) < 0)
		return err_set(e, -errno, "%s: %s", c->path, err_name(errno));
	c->fd = TAKE_FD(s);
	return 0;
}

void control_close(struct control *c)
{
	if (c->fd >= 0) {
		(void)unlink(c->path);
		(void)close(c->fd);
	}
	free(c->path);
	*c = (struct control){.fd = -1};
}

/* A figure of /proc/PID/smaps_rollup in kB; 0 where it cannot be read. */
static uint64_t smaps_kb(pid_t pid, const char *key)
{
	CLEANUP_BUF struct buf b = BUF_INIT(KIB(16));
	char path[64];
	const char *at;

	(void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	if (pid <= 0 || io_read_file(AT_FDCWD, path, &b) < 0 || b.p == NULL)
		return 0;
	at = strstr(b.p, key);
	return at != NULL ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static void add_str(struct buf *b, const char *key, const char *value)
{
	(void)buf_addf(b, "\"%s\":", key);
	(void)buf_add_json_str(b, value);
	(void)buf_add_str(b, ",");
}

static void add_u64(struct buf *b, const char *key, uint64_t value)
{
	(void)buf_addf(b, "\"%s\":%" PRIu64 ",", key, value);
}

static void add_process(struct buf *b, const char *key, pid_t pid)
{
	(void)buf_addf(b,
		       "\"%s\":{\"pid\":%d,\"private_dirty_kb\":%" PRIu64
		       ",\"rss_kb\":%" PRIu64 "},",
		       key, (int)pid, smaps_kb(pid, "Private_Dirty:"),
		       smaps_kb(pid, "Rss:"));
}

static void add_errors(struct buf *b, const struct stats *st)
{
	char last[STATS_ERROR_BYTES];

	stats_last_error(st, last, sizeof(last));
	(void)buf_add_str(b, "\"errors\":{");
	add_u64(b, "reads", stats_get(&st->errors_eio));
	add_u64(b, "verify", stats_get(&st->errors_verify));
	add_u64(b, "fetch", stats_get(&st->errors_fetch));
	add_u64(b, "disk", stats_get(&st->errors_disk));
	(void)buf_add_str(b, "\"last\":");
	(void)buf_add_json_str(b, last);
	(void)buf_add_str(b, "},");
}

static void add_opens(struct buf *b, const struct stats *st)
{
	uint32_t why =
		atomic_load_explicit(&st->open_why, memory_order_relaxed);
	bool on = atomic_load_explicit(&st->open_passthrough,
				       memory_order_relaxed) != 0;

	add_str(b, "open_mode", on ? "passthrough" : "noopen");
	add_str(b, "open_why", why < STATS_OPEN_N_ ? open_whys[why] : "?");
	add_u64(b, "opens", stats_get(&st->opens));
	add_u64(b, "opens_passthrough", stats_get(&st->opens_passthrough));
}

static void format(struct buf *b, const struct control_facts *f,
		   const struct stats *st)
{
	uint32_t state = atomic_load_explicit(&st->state, memory_order_relaxed);
	char digest[DIGEST_STR_BYTES] = "";

	if (f->layer->has_digest)
		(void)digest_str(&f->layer->digest, digest);
	(void)buf_add_str(b, "{");
	add_str(b, "source", f->layer->source);
	add_str(b, "blob", f->layer->open_name);
	add_str(b, "target", f->target);
	add_str(b, "mount", "fuse");
	if (f->layer->number >= 0)
		add_u64(b, "layer", (uint64_t)f->layer->number);
	else
		(void)buf_add_str(b, "\"layer\":null,");
	add_str(b, "digest", digest);
	add_str(b, "toc_digest", f->toc_digest);
	add_str(b, "cache", f->state_path);
	add_str(b, "state", state < STATS_N_ ? state_names[state] : "?");
	add_u64(b, "blob_size", stats_get(&st->blob_size));
	add_u64(b, "bytes_total", stats_get(&st->blob_bytes_total));
	add_u64(b, "bytes_present", stats_get(&st->blob_bytes_have));
	add_u64(b, "bytes_fetched", stats_get(&st->fetched_bytes));
	add_u64(b, "fetches", stats_get(&st->fetch_requests));
	add_u64(b, "chunks_total", stats_get(&st->chunks_total));
	add_u64(b, "chunks_present", stats_get(&st->chunks_have));
	add_u64(b, "image_bytes", stats_get(&st->image_bytes));
	add_u64(b, "trace_ranges", stats_get(&st->trace_ranges));
	add_u64(b, "trace_bytes", stats_get(&st->trace_bytes));
	add_u64(b, "refused", stats_get(&st->refused));
	add_opens(b, st);
	add_u64(b, "reads", stats_get(&st->reads));
	add_u64(b, "read_bytes", stats_get(&st->read_bytes));
	(void)buf_addf(b,
		       "\"demand\":{\"misses\":%" PRIu64 ",\"p50_us\":%" PRIu64
		       ",\"p99_us\":%" PRIu64 ",\"waiting\":%" PRIu64 "},",
		       stats_get(&st->demand_misses),
		       stats_quantile_us(st, 0.5), stats_quantile_us(st, 0.99),
		       stats_get(&st->waiting));
	add_u64(b, "interrupted", stats_get(&st->interrupted));
	add_errors(b, st);
	add_process(b, "monitor", getpid());
	add_process(b, "worker",
		    (pid_t)atomic_load_explicit(&st->worker_pid,
						memory_order_relaxed));
	add_u64(b, "worker_deaths",
		atomic_load_explicit(&st->worker_deaths, memory_order_relaxed));
	add_str(b, "supervisor", f->supervisor);
	(void)buf_addf(
		b, "\"fetcher\":\"%s\"}\n",
		atomic_load_explicit(&st->fetcher_up, memory_order_relaxed) != 0
			? "connected"
			: "none");
}

void control_answer(const struct control *c, const struct control_facts *f,
		    const struct stats *st)
{
	CLEANUP_CLOSE int s =
		accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	CLEANUP_BUF struct buf b = BUF_INIT(KIB(64));

	if (s < 0)
		return;
	format(&b, f, st);
	/* It fits the socket's buffer; a reader that does not read loses. */
	if (b.p != NULL)
		(void)send(s, b.p, b.len, MSG_NOSIGNAL);
}
