/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/events.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/limits.h"
#include "common/proto.h"
#include "fs/paths.h"
#define LOG_MOD "events"
#include "common/log.h"

#define RING_EVENTS 32768u
#define FLUSH_MS 100
#define FLUSH_NS (FLUSH_MS * NSEC_PER_MSEC)
#define LAST_WORDS_MS 1000
#define NSEC_PER_USEC 1000u
#define LAYER_HEX 12

enum what {
	WHAT_MOUNT,
	WHAT_READ,
	WHAT_FETCH,
	WHAT_LOST,
	WHAT_END,
};

/**
 * struct event - of the ring
 * @t_ns:	when it happened, @d_ns after it began
 * @off:	WHAT_READ: of layer.erofs; WHAT_FETCH: of the blob
 * @len:	WHAT_LOST: how many
 */
struct event {
	uint64_t t_ns;
	uint64_t d_ns;
	uint64_t nid;
	uint64_t off;
	uint64_t len;
	uint8_t what;
	uint8_t how;
	uint8_t class_;
};

/**
 * struct events - see the header
 * @ring:	[RING_EVENTS], of which [@head, @head + @n) are there
 * @paths:	read when the first is needed
 * @out:	[@out_len] whole lines, with which @out_events would be lost
 * @cut:	the last write ended inside a line
 */
struct events {
	struct events_layer of;
	char id[LAYER_HEX + 1];
	int fd;
	bool pipe;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	/* guarded by lock */
	struct event *ring;
	uint32_t head;
	uint32_t n;
	uint64_t lost;
	bool stop;
	/* the thread's */
	struct paths paths;
	bool has_paths;
	struct buf path;
	struct buf line;
	char out[PIPE_BUF];
	size_t out_len;
	uint64_t out_events;
	bool cut;
	bool failing;
};

/* ---- any thread ---------------------------------------------------------- */

int events_open(const char *path, struct err *e)
{
	/* Of a pipe this says that nobody reads, where that is so. */
	int fd = open(path,
		      O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOFOLLOW |
			      O_NOCTTY | O_CLOEXEC,
		      0600);
	struct stat st;
	int r;

	if (fd < 0)
		return err_set(e, -errno, "events=%s: %s", path,
			       errno == ENXIO ? "nobody reads this pipe"
					      : err_name(errno));
	if (fstat(fd, &st) < 0)
		r = -errno;
	else
		r = S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode) ? 0 : -EINVAL;
	if (r == 0)
		return fd;
	(void)close(fd);
	return err_set(e, r, "events=%s: %s", path,
		       r == -EINVAL ? "neither a regular file nor a pipe"
				    : err_name(r));
}

static void put(struct events *ev, const struct event *what)
{
	bool wake = false;

	(void)pthread_mutex_lock(&ev->lock);
	if (ev->n < RING_EVENTS) {
		ev->ring[(ev->head + ev->n) % RING_EVENTS] = *what;
		ev->n++;
		/* The thread waits for the first, and then for company. */
		wake = ev->n == 1 || ev->n == RING_EVENTS / 2;
	} else {
		ev->lost++;
	}
	(void)pthread_mutex_unlock(&ev->lock);
	if (wake)
		(void)pthread_cond_signal(&ev->cond);
}

void events_read(struct events *ev, enum events_how how, uint64_t nid,
		 uint64_t image_off, size_t len, uint64_t start_ns,
		 uint8_t class_)
{
	uint64_t now = io_now_ns();
	const struct event what = {
		.t_ns = now,
		.d_ns = now - start_ns,
		.nid = nid,
		.off = image_off,
		.len = len,
		.what = WHAT_READ,
		.how = (uint8_t)how,
		.class_ = class_,
	};

	put(ev, &what);
}

void events_fetch(struct events *ev, uint8_t class_, uint64_t off, uint64_t len,
		  uint64_t start_ns, uint64_t now_ns)
{
	const struct event what = {
		.t_ns = now_ns,
		.d_ns = now_ns - start_ns,
		.off = off,
		.len = len,
		.what = WHAT_FETCH,
		.class_ = class_,
	};

	put(ev, &what);
}

/* ---- text ---------------------------------------------------------------- */

static const char *class_name(uint8_t class_)
{
	static const char *const names[] = {
		[PROTO_CLASS_DEMAND] = "demand",
		[PROTO_CLASS_PREFETCH] = "prefetch",
		[PROTO_CLASS_BACKGROUND] = "background",
		[EVENTS_CLASS_AHEAD] = "ahead",
		[EVENTS_CLASS_TAIL] = "tail",
	};

	return class_ < ARRAY_SIZE(names) ? names[class_] : "demand";
}

static int add_head(struct events *ev, const struct event *x, const char *name)
{
	return buf_addf(&ev->line,
			"{\"t\":%" PRIu64 ",\"l\":\"%s\",\"e\":\"%s\"",
			x->t_ns / NSEC_PER_USEC, ev->id, name);
}

/* When it was at @t_ns, since 1970. */
static uint64_t wall_us(uint64_t t_ns)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return ((uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec -
		(io_now_ns() - t_ns)) /
	       NSEC_PER_USEC;
}

static int add_mount(struct events *ev, const struct event *x)
{
	const struct layer *l = ev->of.layer;
	const struct chunks *ch = ev->of.ch;
	char digest[DIGEST_STR_BYTES];
	/* What is behind a question mark may be secret. */
	CLEANUP_FREE char *source =
		strndup(l->source, strstr(l->source, "://") != NULL
					   ? strcspn(l->source, "?")
					   : strlen(l->source));
	int r;

	if (source == NULL)
		return -ENOMEM;
	if (ev->of.again)
		return add_head(ev, x, "again");
	r = add_head(ev, x, "mount");
	if (r == 0)
		r = buf_addf(&ev->line, ",\"v\":1,\"toc\":\"%s\"",
			     digest_str(&ch->toc_digest, digest));
	if (r == 0 && l->has_digest)
		r = buf_addf(&ev->line, ",\"layer\":\"%s\"",
			     digest_str(&l->digest, digest));
	if (r == 0 && l->number >= 0)
		r = buf_addf(&ev->line, ",\"number\":%d", l->number);
	if (r == 0)
		r = buf_addf(&ev->line,
			     ",\"chunks\":%" PRIu64 ",\"bytes\":%" PRIu64
			     ",\"wall\":%" PRIu64 ",\"source\":",
			     ch->n, ch->blob_size, wall_us(x->t_ns));
	if (r == 0)
		r = buf_add_json_str(&ev->line, source);
	return r;
}

/* The chunks that [@off, @off + @len) of the image is in: their members in the
 * blob, and what of the file at @data_off they hold. */
static int add_chunks(struct events *ev, const struct event *x,
		      uint64_t data_off)
{
	const struct chunks *ch = ev->of.ch;
	uint64_t first, last;
	struct chunk a, z;

	if (chunks_find(ch, x->off, &first) < 0 ||
	    chunks_find(ch, x->off + x->len - 1, &last) < 0)
		return 0;
	chunks_get(ch, first, &a);
	chunks_get(ch, last, &z);
	if (a.image_off < data_off)
		return 0;
	return buf_addf(&ev->line,
			",\"bo\":%" PRIu64 ",\"bn\":%" PRIu64 ",\"co\":%" PRIu64
			",\"cn\":%" PRIu64,
			a.blob_off, z.blob_off + z.blob_len - a.blob_off,
			a.image_off - data_off,
			z.image_off + z.len - a.image_off);
}

static int add_path(struct events *ev, uint64_t nid)
{
	int r = 0;

	if (!ev->has_paths)
		r = paths_read(ev->of.im, &ev->paths);
	if (r < 0)
		return r;
	ev->has_paths = true;
	buf_clear(&ev->path);
	r = paths_find(&ev->paths, nid, &ev->path);
	if (r == 0)
		r = buf_add_str(&ev->line, ",\"p\":");
	if (r == 0)
		r = buf_add_json_str(&ev->line,
				     ev->path.p != NULL ? ev->path.p : "");
	return r;
}

static int add_read(struct events *ev, const struct event *x)
{
	static const char *const hows[] = {
		[EVENTS_HIT] = "hit",
		[EVENTS_WAIT] = "wait",
		[EVENTS_ERROR] = "error",
	};
	struct erofs_inode in;
	int r = erofs_inode_get(ev->of.im, x->nid, &in);

	if (r == 0)
		r = add_head(ev, x, "read");
	if (r == 0)
		r = buf_addf(&ev->line,
			     ",\"d\":%" PRIu64 ",\"w\":\"%s\",\"o\":%" PRIu64
			     ",\"n\":%" PRIu64,
			     x->d_ns / NSEC_PER_USEC, hows[x->how],
			     x->off - in.data_off, x->len);
	if (r == 0 && x->how != EVENTS_HIT)
		r = buf_addf(&ev->line, ",\"c\":\"%s\"", class_name(x->class_));
	if (r == 0)
		r = add_chunks(ev, x, in.data_off);
	if (r == 0)
		r = add_path(ev, x->nid);
	return r;
}

/* Makes the line of @x. Return: 0, -errno */
static int format(struct events *ev, const struct event *x)
{
	int r = -EINVAL;

	buf_clear(&ev->line);
	switch ((enum what)x->what) {
	case WHAT_MOUNT:
		r = add_mount(ev, x);
		break;
	case WHAT_READ:
		r = add_read(ev, x);
		break;
	case WHAT_FETCH:
		r = add_head(ev, x, "fetch");
		if (r == 0)
			r = buf_addf(&ev->line,
				     ",\"d\":%" PRIu64
				     ",\"c\":\"%s\",\"o\":%" PRIu64
				     ",\"n\":%" PRIu64,
				     x->d_ns / NSEC_PER_USEC,
				     class_name(x->class_), x->off, x->len);
		break;
	case WHAT_LOST:
		r = add_head(ev, x, "lost");
		if (r == 0)
			r = buf_addf(&ev->line, ",\"n\":%" PRIu64, x->len);
		break;
	case WHAT_END:
		r = add_head(ev, x, "end");
		break;
	}
	return r == 0 ? buf_add_str(&ev->line, "}\n") : r;
}

/* ---- the thread ---------------------------------------------------------- */

static void lose(struct events *ev, uint64_t n)
{
	(void)pthread_mutex_lock(&ev->lock);
	ev->lost += n;
	(void)pthread_mutex_unlock(&ev->lock);
}

/* Whether there may be more in the file. */
static bool has_room(const struct events *ev)
{
	struct stat st;

	return ev->pipe ||
	       (fstat(ev->fd, &st) == 0 &&
		(uint64_t)st.st_size + sizeof(ev->out) <= ev->of.bytes_max);
}

/* A pipe takes all of it or nothing. */
static bool pipe_has_room(const struct events *ev, int wait_ms)
{
	struct pollfd p = {.fd = ev->fd, .events = POLLOUT};

	return !ev->pipe || poll(&p, 1, wait_ms) > 0;
}

/* Return: false where the pipe is full: to be tried again */
static bool flush(struct events *ev, int wait_ms)
{
	ssize_t n;

	if (ev->out_len == 0)
		return true;
	if (!has_room(ev)) {
		lose(ev, ev->out_events);
	} else {
		if (!pipe_has_room(ev, wait_ms))
			return false;
		n = write(ev->fd, ev->out, ev->out_len);
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n < (ssize_t)ev->out_len) {
			if (!ev->failing)
				log_warn("err=%s msg=\"events are lost\"",
					 n < 0 ? err_symbol(errno) : "ENOSPC");
			lose(ev, ev->out_events);
		}
		ev->failing = n < (ssize_t)ev->out_len;
		ev->cut = n > 0 && ev->out[n - 1] != '\n';
	}
	ev->out_len = 0;
	ev->out_events = 0;
	return true;
}

/* Return: false as flush() */
static bool write_event(struct events *ev, const struct event *x, int wait_ms)
{
	uint64_t events = x->what == WHAT_LOST ? x->len : 1;

	if (format(ev, x) < 0 || ev->line.len + 1 > sizeof(ev->out)) {
		lose(ev, events);
		return true;
	}
	if (ev->line.len + 1 > sizeof(ev->out) - ev->out_len &&
	    !flush(ev, wait_ms))
		return false;
	if (ev->cut) {
		ev->out[ev->out_len++] = '\n';
		ev->cut = false;
	}
	memcpy(ev->out + ev->out_len, ev->line.p, ev->line.len);
	ev->out_len += ev->line.len;
	ev->out_events += events;
	return true;
}

static bool peek(struct events *ev, struct event *ret)
{
	bool any;

	(void)pthread_mutex_lock(&ev->lock);
	any = ev->n > 0;
	if (any)
		*ret = ev->ring[ev->head];
	(void)pthread_mutex_unlock(&ev->lock);
	return any;
}

static void drop_first(struct events *ev)
{
	(void)pthread_mutex_lock(&ev->lock);
	ev->head = (ev->head + 1) % RING_EVENTS;
	ev->n--;
	(void)pthread_mutex_unlock(&ev->lock);
}

/* Writes what there is. What a full pipe does not take stays. */
static void drain(struct events *ev, int wait_ms)
{
	struct event x = {.what = WHAT_LOST, .t_ns = io_now_ns()};

	(void)pthread_mutex_lock(&ev->lock);
	x.len = ev->lost;
	(void)pthread_mutex_unlock(&ev->lock);
	if (x.len > 0 && write_event(ev, &x, wait_ms)) {
		(void)pthread_mutex_lock(&ev->lock);
		ev->lost -= x.len;
		(void)pthread_mutex_unlock(&ev->lock);
	}
	while (peek(ev, &x)) {
		if (!write_event(ev, &x, wait_ms))
			return;
		drop_first(ev);
	}
	(void)flush(ev, wait_ms);
}

/* Locked. Up to FLUSH_NS from the first event, or until there are many. */
static void wait_for_events(struct events *ev)
{
	struct timespec until;
	uint64_t ns;

	while (ev->n == 0 && !ev->stop)
		(void)pthread_cond_wait(&ev->cond, &ev->lock);
	ns = io_now_ns() + FLUSH_NS;
	until.tv_sec = (time_t)(ns / NSEC_PER_SEC);
	until.tv_nsec = (long)(ns % NSEC_PER_SEC);
	while (ev->n < RING_EVENTS / 2 && !ev->stop) {
		if (pthread_cond_timedwait(&ev->cond, &ev->lock, &until) != 0)
			break;
	}
}

static void *thread(void *arg)
{
	struct events *ev = arg;
	bool stop = false;

	while (!stop) {
		(void)pthread_mutex_lock(&ev->lock);
		wait_for_events(ev);
		stop = ev->stop;
		(void)pthread_mutex_unlock(&ev->lock);
		/* Where there are many, a full pipe is all there is to wait
		 * for. */
		drain(ev, stop ? LAST_WORDS_MS : FLUSH_MS);
	}
	return NULL;
}

void events_free(struct events *ev)
{
	(void)close(ev->fd);
	(void)pthread_mutex_destroy(&ev->lock);
	(void)pthread_cond_destroy(&ev->cond);
	paths_done(&ev->paths);
	buf_done(&ev->path);
	buf_done(&ev->line);
	free(ev->ring);
	free(ev);
}

static int start_thread(struct events *ev)
{
	pthread_attr_t attr;
	int r;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, (size_t)KIB(256));
	r = pthread_create(&ev->thread, &attr, thread, ev);
	(void)pthread_attr_destroy(&attr);
	return -r;
}

struct events *events_start(int fd, const struct events_layer *of)
{
	struct events *ev = calloc(1, sizeof(*ev));
	struct event first = {.what = WHAT_MOUNT, .t_ns = io_now_ns()};
	char hex[DIGEST_HEX_BYTES + 1];
	pthread_condattr_t attr;
	struct stat st;

	if (ev == NULL) {
		(void)close(fd);
		return NULL;
	}
	*ev = (struct events){
		.of = *of,
		.fd = fd,
		.pipe = fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode),
		.ring = calloc(RING_EVENTS, sizeof(*ev->ring)),
		.path = BUF_INIT(TOC_NAME_BYTES_MAX),
		.line = BUF_INIT(KIB(64)),
	};
	(void)snprintf(ev->id, sizeof(ev->id), "%s",
		       digest_hex(&of->ch->toc_digest, hex));
	(void)pthread_mutex_init(&ev->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&ev->cond, &attr);
	(void)pthread_condattr_destroy(&attr);
	if (ev->ring == NULL || start_thread(ev) < 0) {
		events_free(ev);
		return NULL;
	}
	if (!of->relieves)
		put(ev, &first);
	return ev;
}

void events_stop(struct events *ev, bool relieved)
{
	struct event last = {.what = WHAT_END, .t_ns = io_now_ns()};

	if (ev == NULL)
		return;
	if (!relieved)
		put(ev, &last);
	(void)pthread_mutex_lock(&ev->lock);
	ev->stop = true;
	(void)pthread_mutex_unlock(&ev->lock);
	(void)pthread_cond_signal(&ev->cond);
	(void)pthread_join(ev->thread, NULL);
}
