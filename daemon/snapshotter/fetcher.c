/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/fetcher.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/io.h"
#include "common/listen.h"
#include "common/proto.h"
#include "common/proto_hint.h"
#include "common/protocl.h"
#define LOG_MOD "fetcher"
#include "common/log.h"

#define RETRY_MIN_NS (100 * NSEC_PER_MSEC)
#define RETRY_MAX_NS (5 * NSEC_PER_SEC)
#define PATIENCE 3u /* deaths in a row until nobody is kept waiting */
#define SOUND_NS (10 * NSEC_PER_SEC) /* without a failure: counted anew */
#define WARM_NS (30 * NSEC_PER_SEC)
#define WARMED 512u

struct fetcher {
	struct loop_io io; /* the connection, fd -1: none. First */
	struct loop_timer retry;
	/* immutable */
	const struct config *c;
	struct spawner *s;
	struct loop *loop;
	/* the loop's thread */
	struct child *child;
	int listener;      /* of the one that we start */
	unsigned failures; /* in a row */
	uint64_t failed_ns;
	/* guards the rest; nothing is locked inside */
	pthread_mutex_t lock;
	struct warmed {
		uint64_t key; /* of repository and blob */
		uint64_t at_ns;
	} warmed[WARMED]; /* a ring */
	unsigned n_warmed;
};

/* ---- the connection, which says that it lives ---------------------------------------------------- */

static int set_address(struct sockaddr_un *sa, const char *path)
{
	*sa = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(sa->sun_path))
		return -ENAMETOOLONG;
	(void)snprintf(sa->sun_path, sizeof(sa->sun_path), "%s", path);
	return 0;
}

static int say_hello(int sock)
{
	const struct proto_hello m = {
		.h = {.type = htole16(PROTO_HELLO), .len = htole32(sizeof(m))},
		.magic = htole32(PROTO_MAGIC),
		.version = htole32(PROTO_VERSION),
	};

	return io_send_fds(sock, &m, sizeof(m), NULL, 0, MSG_DONTWAIT);
}

/* Never waits: who is not there, or has a full queue, is asked again later. */
static int try_connect(struct fetcher *f)
{
	CLEANUP_CLOSE int s = -EBADF;
	struct sockaddr_un sa;
	int r = set_address(&sa, f->c->fetcher_address);

	if (r < 0)
		return r;
	s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0 || connect(s, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	r = say_hello(s);
	if (r < 0)
		return r;
	f->io.fd = TAKE_FD(s);
	return loop_io_add(f->loop, &f->io, EPOLLIN);
}

static void disconnect(struct fetcher *f)
{
	if (f->io.fd < 0)
		return;
	/* What it was told is lost. */
	(void)pthread_mutex_lock(&f->lock);
	f->n_warmed = 0;
	(void)pthread_mutex_unlock(&f->lock);
	loop_io_del(f->loop, &f->io);
	(void)close(TAKE_FD(f->io.fd));
}

static void retry_at(struct fetcher *f, uint64_t pause_ns)
{
	loop_timer_set(f->loop, &f->retry, loop_now(f->loop) + pause_ns);
}

/* The first failure is followed by another try at once, the next ones later
 * and later. */
static void count_failure(struct fetcher *f)
{
	uint64_t now = loop_now(f->loop), pause_ns;

	if (now - f->failed_ns > SOUND_NS)
		f->failures = 0;
	f->failed_ns = now;
	pause_ns = f->failures == 0 ? 0 : RETRY_MIN_NS << MIN(f->failures, 10u);
	f->failures++;
	retry_at(f, MIN(pause_ns, RETRY_MAX_NS));
}

/* It answers our HELLO, and then is silent as long as it lives. */
static void on_packet(struct loop_io *io, uint32_t events UNUSED)
{
	struct fetcher *f = LIST_ENTRY(io, struct fetcher, io);
	uint8_t p[256];
	ssize_t n = recv(io->fd, p, sizeof(p), MSG_DONTWAIT | MSG_TRUNC);

	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	disconnect(f);
	/* Of a child's death we hear from the system. */
	if (f->child != NULL)
		retry_at(f, NSEC_PER_SEC);
	else
		count_failure(f);
}

/* ---- one of ours ------------------------------------------------------- */

static void stop_listening(struct fetcher *f)
{
	if (f->listener < 0)
		return;
	(void)unlink(f->c->fetcher_address);
	(void)close(TAKE_FD(f->listener));
}

static void on_death(void *arg, int status)
{
	struct fetcher *f = arg;

	f->child = NULL;
	log_warn("status=%d msg=\"estargzd has ended\"", status);
	disconnect(f);
	count_failure(f);
	/* Whoever wants to mount is to be told at once. */
	if (f->failures >= PATIENCE)
		stop_listening(f);
}

static int make_listener(struct fetcher *f, struct err *e)
{
	int r = 0;

	if (f->listener < 0) {
		r = listen_unix(f->c->fetcher_address, SOCK_SEQPACKET, e);
		f->listener = MAX(r, -1);
	}
	return MIN(r, 0);
}

static int start(struct fetcher *f, struct err *e)
{
	static const char *const levels[LOG_N_] = {"err", "warn", "info",
						   "debug"};
	const char *const argv[] = {
		f->c->fetcher_program, "--socket-fd",           "3",
		"--log-level",         levels[f->c->log_level], NULL};
	int r;

	static_assert(SPAWN_FD == 3, "as the command line says");
	if (access(argv[0], X_OK) < 0)
		return err_set(e, -errno, "%s: %s", argv[0], err_name(errno));
	r = make_listener(f, e);
	if (r < 0)
		return r;
	r = spawn(f->s, argv, f->listener, false, on_death, f, &f->child, e);
	if (r < 0)
		stop_listening(f);
	return r;
}

/* Connects, or starts one and connects. */
static void come_up(struct fetcher *f)
{
	struct err e = {0};
	int r = f->listener < 0 || f->child != NULL ? try_connect(f)
						    : -ECONNREFUSED;

	if (f->c->fetcher_start && f->child == NULL &&
	    (r == -ENOENT || r == -ECONNREFUSED)) {
		r = start(f, &e);
		if (r == 0)
			r = try_connect(f);
	}
	if (r == 0) {
		log_debug("msg=\"connected to %s\"", f->c->fetcher_address);
		return;
	}
	disconnect(f);
	count_failure(f);
	if (f->failures == 1)
		log_warn("msg=\"no estargzd: %s: %s\"", f->c->fetcher_address,
			 e.text[0] != '\0' ? e.text : err_name(r));
}

static void on_retry(struct loop_timer *t)
{
	struct fetcher *f = LIST_ENTRY(t, struct fetcher, retry);

	if (f->io.fd < 0)
		come_up(f);
}

struct fetcher *fetcher_new(const struct config *c, struct spawner *s,
			    struct loop *loop)
{
	struct fetcher *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->io = (struct loop_io){.fd = -1, .fn = on_packet};
	f->retry.fn = on_retry;
	f->c = c;
	f->s = s;
	f->loop = loop;
	f->listener = -1;
	(void)pthread_mutex_init(&f->lock, NULL);
	come_up(f);
	return f;
}

void fetcher_free(struct fetcher *f)
{
	if (f == NULL)
		return;
	if (f->child != NULL)
		child_forget(f->child);
	disconnect(f);
	loop_timer_clear(&f->retry);
	/* The socket itself stays: estargzd has it. */
	if (f->listener >= 0)
		(void)close(f->listener);
	(void)pthread_mutex_destroy(&f->lock);
	free(f);
}

/* ---- WARM -------------------------------------------------------------- */

/* FNV-1a: one mistaken for another costs a hint. */
static uint64_t key_of(const char *repository, const struct digest *blob)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (const char *p = repository; *p != '\0'; p++)
		h = (h ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
	for (size_t i = 0; i < sizeof(blob->b); i++)
		h = (h ^ blob->b[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* Whether that was said a short while ago; if not, it is now. */
static bool was_warmed(struct fetcher *f, uint64_t key, uint64_t now)
{
	for (unsigned i = 0; i < MIN(f->n_warmed, WARMED); i++) {
		if (f->warmed[i].key == key &&
		    now - f->warmed[i].at_ns < WARM_NS)
			return true;
	}
	f->warmed[f->n_warmed++ % WARMED] = (struct warmed){key, now};
	return false;
}

/* Of [@n] blobs, those not yet spoken of. Return: how many */
static size_t add_names(struct fetcher *f, char **names, const char *repository,
			const struct lazy_blob *blobs, size_t n)
{
	uint64_t now = io_now_ns();
	size_t n_names = 0;

	for (size_t i = 0; i < n; i++) {
		char d[DIGEST_STR_BYTES];
		bool told;

		(void)pthread_mutex_lock(&f->lock);
		told = was_warmed(f, key_of(repository, &blobs[i].digest), now);
		(void)pthread_mutex_unlock(&f->lock);
		/* It was when the first of its image was. */
		if (told && i == 0)
			return 0;
		if (!told &&
		    asprintf(&names[n_names],
			     blobs[i].tail != 0 ? "%s@%s %u" : "%s@%s",
			     repository, digest_str(&blobs[i].digest, d),
			     blobs[i].tail) > 0)
			n_names++;
	}
	return n_names;
}

/* In front of the [@*n] names, so that it is fetched with the first of them. */
static void add_trace(char **names, size_t *n, const struct lazy *z)
{
	char d[DIGEST_STR_BYTES];
	char *name;

	if (!z->has_trace && !z->has_manifest)
		return;
	if (asprintf(&name, "%c%s@%s",
		     z->has_trace ? PROTO_WARM_TRACE : PROTO_WARM_IMAGE,
		     z->repository,
		     digest_str(z->has_trace ? &z->trace : &z->manifest, d)) <
	    0)
		return;
	memmove(names + 1, names, *n * sizeof(*names));
	names[0] = name;
	(*n)++;
}

void fetcher_warm(struct fetcher *f, const struct lazy *z, bool trace,
		  const struct lazy_blob *blobs, size_t n)
{
	char **names = calloc(n + 1, sizeof(char *));
	struct protocl_warm w = {.names = (const char *const *)names};
	struct err e = {0};

	if (names == NULL)
		return;
	w.n = add_names(f, names, z->repository, blobs, n);
	if (w.n > 0 && trace)
		add_trace(names, &w.n, z);
	if (w.n > 0 && protocl_warm(f->c->fetcher_address, &w, &e) < 0)
		log_debug("msg=\"%s\"", e.text);
	for (size_t i = 0; i < w.n; i++)
		free(names[i]);
	free(names);
}
