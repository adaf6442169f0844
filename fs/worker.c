/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/worker.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include "common/io.h"
#include "fs/build.h"
#include "fs/ctl.h"
#include "fs/events.h"
#include "fs/fill.h"
#include "fs/miss.h"
#include "fs/ops.h"
#include "fs/sandbox.h"
#include "fs/session.h"
#define LOG_MOD "worker"
#include "common/log.h"

#define THREADS_MAX 4u
#define FUSE_SCRATCH_BYTES (MIB(1) + KIB(4))
#define SYNC_INTERVAL_NS (10 * NSEC_PER_SEC)
#define IDLE_MS 1000
#define LOOK_MS 60000 /* for what other mounts of the layer may have brought */
#define ASK_PAUSE_MIN_NS (50 * NSEC_PER_MSEC)
#define ASK_PAUSE_MAX_NS (30 * NSEC_PER_SEC)

/**
 * struct worker - owns everything of the process
 * @map:	the three files: metadata (read), chunk table (read), bitmap
 * @opens_fd:	of fs/opens.h; its being open says that we live (fs/super.h)
 * @events_fd:	before there are events; -1: there are none
 */
struct worker {
	int ctl;
	const struct layer *layer;
	const struct options *o;
	struct stats *st;
	struct fs fs;
	struct miss miss;
	struct session session;
	int opens_fd;
	int events_fd;
	int firsts_fd;
	struct sha256 *sha;    /* the main thread's */
	struct events *events; /* or NULL */
	struct lane lane;      /* the main thread's */
	struct lane lanes[THREADS_MAX];
	struct fill fills[THREADS_MAX];
	struct thread_arg {
		struct worker *w;
		unsigned i;
	} args[THREADS_MAX];
	pthread_t fuse_threads[THREADS_MAX];
	pthread_t fill_threads[THREADS_MAX];
	unsigned n_threads;
	int fds[3];
	void *map[3];
	size_t map_len[3];
	struct built built;
	bool indexed;
	uint64_t synced_ns;
	uint64_t *snapshot; /* for syncing: a copy of the bitmap */
	bool complete;
	bool sealed;   /* the files are for reading alone */
	bool relieved; /* by another worker */
	bool fetcher_asked;
	uint64_t ask_after_ns; /* not before: the last one refused us */
	uint64_t ask_pause_ns;
	_Atomic bool ended;
	_Atomic bool failed; /* ended, but not because of an unmount */
};

static int send_plain(const struct worker *w, enum ctl_type type)
{
	const struct ctl_plain m = {.type = type};

	return io_send_fds(w->ctl, &m, sizeof(m), NULL, 0, 0);
}

static void send_failed(const struct worker *w, const struct err *e)
{
	const struct ctl_failed m = {.type = CTL_FAILED, .e = *e};

	(void)io_send_fds(w->ctl, &m, sizeof(m), NULL, 0, 0);
}

static unsigned count_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 2;
	return (unsigned)CPU_COUNT(&set);
}

/* What cannot be had any more inside the sandbox. */
static int prepare(struct worker *w, struct err *e)
{
	int r = miss_init(&w->miss, e);

	if (r < 0)
		return r;
	r = lane_init(&w->lane, FUSE_SCRATCH_BYTES);
	if (r < 0)
		return err_set(e, r, "worker: %s", err_name(r));
	w->lane.wake_fd = w->miss.main_fd;
	w->sha = sha256_new();
	if (w->sha == NULL)
		return err_set(e, -ENOMEM, "SHA-256 is not available");
	w->n_threads = MIN(MAX(count_cpus(), 2u), THREADS_MAX);
	for (unsigned i = 0; i < w->n_threads; i++) {
		r = lane_init(&w->lanes[i], FUSE_SCRATCH_BYTES);
		if (r == 0)
			r = fill_init(&w->fills[i]);
		if (r < 0)
			return err_set(e, r, "worker: %s", err_name(r));
		w->lanes[i].wake_fd = w->miss.main_fd;
		w->fills[i].lane.wake_fd = w->miss.main_fd;
	}
	(void)pthread_mutex_init(&w->fs.refusals.lock, NULL);
	if (pthread_key_create(&w->fs.lane_key, NULL) != 0)
		return err_no_memory(e);
	return 0;
}

/* ---- the index --------------------------------------------------------- */

static void unmap_files(struct worker *w)
{
	for (int i = 0; i < 3; i++) {
		if (w->map[i] != NULL)
			(void)munmap(w->map[i], w->map_len[i]);
		w->map[i] = NULL;
		if (w->fds[i] >= 0)
			(void)close(w->fds[i]);
		w->fds[i] = -1;
	}
}

static int map_file(struct worker *w, int i, size_t len, int prot, int flags)
{
	struct stat st;
	void *p;

	if (fstat(w->fds[i], &st) < 0)
		return -errno;
	if (len == 0)
		len = (size_t)st.st_size;
	if (len == 0 || (uint64_t)st.st_size < len)
		return -EBADMSG;
	p = mmap(NULL, len, prot, flags, w->fds[i], 0);
	if (p == MAP_FAILED)
		return -errno;
	w->map[i] = p;
	w->map_len[i] = len;
	return 0;
}

/* A complete one is a copy: what opens it puts it right. */
static int open_present(struct worker *w, const struct ctl_start *m,
			struct err *e)
{
	struct fs *fs = &w->fs;
	int r = map_file(w, CTL_FD_PRESENT, 0, PROT_READ | PROT_WRITE,
			 m->sealed ? MAP_PRIVATE : MAP_SHARED);

	if (r < 0)
		return err_set(e, r, "cache: %s", err_name(r));
	r = present_open(&fs->pr, w->map[CTL_FD_PRESENT],
			 w->map_len[CTL_FD_PRESENT], fs->ch.n,
			 fs->ch.index_digest.b, m->boot_id, m->exclusive, e);
	w->sealed = m->sealed;
	if (r < 0 || !m->sealed)
		return r;
	if (present_count_durable(&fs->pr) != fs->pr.n)
		return err_set(e, -EBADMSG, "cache is sealed, not complete");
	present_set_complete(&fs->pr);
	return 0;
}

/* Opens the files and checks that they belong together and are not torn.
 * Return: 0, -EBADMSG, -EOPNOTSUPP, -errno */
static int open_index(struct worker *w, const struct ctl_start *m,
		      struct err *e)
{
	struct sha256 *h = w->fills[0].sha;
	struct fs *fs = &w->fs;
	struct stat st;
	int r;

	r = map_file(w, CTL_FD_CHUNKS, 0, PROT_READ, MAP_SHARED);
	if (r < 0)
		return err_set(e, r, "chunk table: %s", err_name(r));
	r = chunks_open(&fs->ch, w->map[CTL_FD_CHUNKS],
			w->map_len[CTL_FD_CHUNKS], e);
	if (r < 0)
		return r;
	if (fstat(w->fds[CTL_FD_EROFS], &st) < 0 ||
	    (uint64_t)st.st_size != fs->ch.image_bytes)
		return err_set(e, -EBADMSG, "layer.erofs has a wrong size");
	r = map_file(w, CTL_FD_EROFS, (size_t)fs->ch.meta_len, PROT_READ,
		     MAP_SHARED);
	if (r < 0)
		return err_set(e, r, "cache: %s", err_name(r));
	if (!chunks_verify(&fs->ch, w->map[CTL_FD_EROFS], h))
		return err_set(e, -EBADMSG, "index does not match its digest");
	if (w->layer->has_toc_digest &&
	    !digest_equal(&fs->ch.toc_digest, &w->layer->toc_digest))
		return err_set(e, -EBADMSG, "index is of another TOC");
	r = erofs_open(&fs->im, w->map[CTL_FD_EROFS], w->map_len[CTL_FD_EROFS],
		       e);
	return r < 0 ? r : open_present(w, m, e);
}

/* Whether it is known what was read first when it was last mounted: no trace has
 * to be looked for, then. */
static bool knows_firsts(const struct worker *w)
{
	char c;

	return w->miss.own_hints ||
	       (w->firsts_fd >= 0 && pread(w->firsts_fd, &c, 1, 0) == 1);
}

static int connect_link(struct worker *w, struct link *l, int sock,
			struct err *e)
{
	int r = link_hello(l, sock, e);

	if (r == 0)
		r = link_open(l, w->layer, !knows_firsts(w), e);
	if (r < 0)
		link_detach(l);
	return r;
}

/* Of a first try, whose directory was evicted in the moment it was there. */
static void drop_tail(struct worker *w)
{
	if (w->built.tail_len > 0)
		link_free(&w->miss.link, w->built.tail_arena,
			  w->built.tail_len);
	w->built.tail_len = 0;
}

static int do_start(struct worker *w, const struct ctl_start *m, int *fds,
		    struct err *e)
{
	int r = 0;

	unmap_files(w);
	if (m->build)
		drop_tail(w);
	for (int i = 0; i < 3; i++)
		w->fds[i] = TAKE_FD(fds[i]);
	if (m->has_fetcher)
		r = connect_link(w, &w->miss.link, TAKE_FD(fds[CTL_FD_FETCHER]),
				 e);
	if (r == 0 && m->build) {
		r = build_index(&w->miss.link, w->layer, w->o->opaque_user,
				w->o->no_verify, w->fds, m->boot_id, &w->built,
				e);
		if (r == 0)
			r = open_index(w, m, e);
		return r;
	}
	if (r < 0)
		return r;
	r = open_index(w, m, e);
	/* Only what is wrong with the files is mended by making new ones. */
	if (r != -EBADMSG && r != -EOPNOTSUPP)
		return r;
	log_warn("msg=\"%s: made anew\"", e->text);
	unmap_files(w);
	return 1;
}

/* Return: 0, 1 the monitor is to start again, -errno */
static int handle_start(struct worker *w, const struct ctl_start *m, int *fds)
{
	struct ctl_indexed ok = {.type = CTL_INDEXED};
	struct err e = {0};
	int r = do_start(w, m, fds, &e);

	if (r < 0) {
		send_failed(w, &e);
		return r;
	}
	if (r == 1)
		return send_plain(w, CTL_BAD_INDEX);
	fill_drop_locks(w->fds[CTL_FD_EROFS]);
	w->indexed = true;
	ok.toc_digest = w->fs.ch.toc_digest;
	memcpy(&ok.index, w->fs.ch.index_digest.b, sizeof(ok.index));
	ok.unverified = (w->fs.ch.flags & CHUNKS_F_UNVERIFIED) != 0;
	ok.image_bytes = w->fs.ch.image_bytes;
	return io_send_fds(w->ctl, &ok, sizeof(ok), NULL, 0, 0);
}

/* ---- serving ----------------------------------------------------------- */

static void *fuse_thread(void *arg)
{
	const struct thread_arg *a = arg;
	struct worker *w = a->w;
	int r = session_loop(&w->session, &w->lanes[a->i]);

	if (r == -EINTR)
		return NULL;
	if (r < 0 && r != -ECONNABORTED) {
		log_warn("err=%s msg=\"FUSE session ended\"", err_symbol(r));
		atomic_store_explicit(&w->failed, true, memory_order_relaxed);
	}
	atomic_store_explicit(&w->ended, true, memory_order_release);
	miss_poke(w->miss.main_fd);
	return NULL;
}

static void *fill_thread(void *arg)
{
	const struct thread_arg *a = arg;

	miss_fill_loop(&a->w->miss, &a->w->fills[a->i]);
	return NULL;
}

static int start_threads(struct worker *w)
{
	pthread_attr_t attr;
	int r = 0;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, (size_t)KIB(256));
	for (unsigned i = 0; r == 0 && i < w->n_threads; i++) {
		w->args[i] = (struct thread_arg){w, i};
		r = pthread_create(&w->fuse_threads[i], &attr, fuse_thread,
				   &w->args[i]);
		if (r == 0)
			r = pthread_create(&w->fill_threads[i], &attr,
					   fill_thread, &w->args[i]);
	}
	(void)pthread_attr_destroy(&attr);
	return -r;
}

/* Takes over what the tail brought beside the TOC. */
static void adopt_tail(struct worker *w)
{
	if (w->built.tail_len == 0)
		return;
	miss_adopt(&w->miss, w->built.tail_off, w->built.tail_len,
		   w->built.tail_arena);
	w->built.tail_len = 0;
}

static void start_events(struct worker *w, bool again, bool relieves)
{
	const struct events_layer of = {
		.layer = w->layer,
		.im = &w->fs.im,
		.ch = &w->fs.ch,
		.bytes_max = w->o->events_max,
		.again = again,
		.relieves = relieves,
	};

	if (w->events_fd < 0)
		return;
	w->events = events_start(TAKE_FD(w->events_fd), &of);
	w->fs.events = w->events;
	w->miss.events = w->events;
	for (size_t i = 0; i < ARRAY_SIZE(w->built.fetched); i++) {
		const struct built_fetch *f = &w->built.fetched[i];

		if (w->events != NULL && f->len > 0)
			events_fetch(w->events, EVENTS_CLASS_TAIL, f->off,
				     f->len, f->start_ns, f->end_ns);
	}
}

/* Those of an image that is here come from no fetcher. */
static void take_wanted(struct worker *w)
{
	struct link_hints *h = &w->miss.link.hints;
	size_t n = w->layer->n_wanted;

	if (n == 0 || h->state != LINK_HINTS_NONE)
		return;
	h->v = calloc(n, sizeof(*h->v));
	if (h->v == NULL)
		return;
	memcpy(h->v, w->layer->wanted, n * sizeof(*h->v));
	h->n = n;
	h->cap = n;
	h->state = LINK_HINTS_THERE;
}

/* What the last run has read first is prefetched, and what this one does, noted. */
static void start_firsts(struct worker *w, bool again, bool relieves)
{
	struct fs *fs = &w->fs;
	uint64_t since_ns = relieves ? stats_get(&w->st->firsts_since) : 0;
	int fd = TAKE_FD(w->firsts_fd);

	if (fd < 0)
		return;
	if (!w->layer->has_trace && w->miss.link.hints.state == LINK_HINTS_NONE)
		w->miss.own_hints = firsts_load(fd, &fs->ch, w->sha,
						&w->miss.link.hints) > 0;
	if ((again && !relieves) || since_ns == FIRSTS_NOT_ON ||
	    firsts_start(&fs->firsts, fd, &fs->ch, w->miss.main_fd) < 0)
		(void)close(fd);
	else if (since_ns != 0)
		firsts_resume(&fs->firsts, w->sha, since_ns);
}

static int do_serve(struct worker *w, const struct ctl_serve *m, int fuse_fd,
		    struct err *e)
{
	struct fs *fs = &w->fs;
	int r, image = w->fds[CTL_FD_EROFS];

	fs->miss = &w->miss;
	fs->st = w->st;
	fs->noreadahead = w->o->noreadahead;
	fs->has_xattrs = (fs->ch.flags & CHUNKS_F_XATTRS) != 0;
	datadir_init(&fs->data, &fs->im, &fs->ch.toc_digest);
	w->miss.im = &fs->im;
	w->miss.ch = &fs->ch;
	w->miss.pr = &fs->pr;
	w->miss.st = w->st;
	w->miss.ops = (struct miss_ops){
		.ready = fs_read_ready,
		.failed = fs_read_failed,
		.arg = fs,
	};
	w->miss.read_timeout_ns = w->o->read_timeout_s * NSEC_PER_SEC;
	w->miss.unverified = (fs->ch.flags & CHUNKS_F_UNVERIFIED) != 0;
	w->miss.noprefetch = w->o->noprefetch;
	w->miss.nobackground = w->o->nobackground;
	w->snapshot = calloc(present_words(&fs->pr) + 1, sizeof(uint64_t));
	if (w->snapshot == NULL)
		return err_no_memory(e);
	r = lane_set_file(&w->lane, image);
	for (unsigned i = 0; r == 0 && i < w->n_threads; i++) {
		r = lane_set_file(&w->lanes[i], image);
		if (r == 0)
			r = lane_set_file(&w->fills[i].lane, image);
	}
	if (r < 0)
		return err_set(e, r, "io_uring: %s", err_name(r));
	stats_count(w->st, &w->fs.ch, &w->fs.pr);
	start_events(w, m->again, m->relieves);
	passthru_init(fs, w->ctl, w->opens_fd, w->o);
	w->session.fail_resent = m->fail_resent;
	r = session_init(&w->session, fs, fuse_fd, m->init, m->init_len, e);
	if (r < 0)
		return r;
	take_wanted(w);
	start_firsts(w, m->again, m->relieves);
	adopt_tail(w);
	return 0;
}

static int handle_serve(struct worker *w, const struct ctl_serve *m,
			int fuse_fd)
{
	bool complete = present_state(&w->fs.pr) == PRESENT_COMPLETE;
	struct err e = {0};
	int r;

	if (!w->indexed || fuse_fd < 0 || w->opens_fd < 0 ||
	    m->init_len > sizeof(m->init))
		return -EPROTO;
	r = do_serve(w, m, fuse_fd, &e);
	if (r < 0) {
		send_failed(w, &e);
		return r;
	}
	w->complete = complete;
	w->synced_ns = io_now_ns(); /* not while everything starts */
	atomic_store_explicit(&w->st->state,
			      complete ? STATS_COMPLETE : STATS_LAZY,
			      memory_order_relaxed);
	/* What building the index needed is not needed any more. */
	(void)malloc_trim(0);
	/* Before the threads: a request that kills its worker is then a death
	 * of one that was ready, and counted as such. */
	r = send_plain(w, CTL_READY);
	if (r == 0) {
		miss_start(&w->miss);
		r = start_threads(w);
	}
	if (r < 0 || !complete || w->sealed)
		return r;
	/* It was before there were seals, or who completed it died, perhaps
	 * before that was safe: a seal without it is a damaged cache. */
	(void)msync(w->map[CTL_FD_PRESENT], w->map_len[CTL_FD_PRESENT],
		    MS_SYNC);
	return send_plain(w, CTL_COMPLETE);
}

/* A new connection to a fetcher, greeted while the old state stands. */
static void handle_fetcher(struct worker *w, int sock)
{
	static struct log_limit limit;
	/* What is allocated in the arena is miss.lock's. */
	struct link fresh = {
		.sock = -1,
		.arena_fd = w->miss.link.arena_fd,
		.arena = w->miss.link.arena,
	};
	struct err e = {0};

	w->fetcher_asked = false;
	if (sock < 0)
		return;
	if (connect_link(w, &fresh, sock, &e) < 0) {
		uint64_t now = io_now_ns();
		unsigned n;

		w->ask_pause_ns =
			MIN(MAX(w->ask_pause_ns * 2, ASK_PAUSE_MIN_NS),
			    ASK_PAUSE_MAX_NS);
		w->ask_after_ns = now + w->ask_pause_ns;
		if (log_allow(&limit, now, &n))
			log_warn("msg=\"fetcher: %s\" suppressed=%u", e.text,
				 n);
		stats_error(w->st, e.text);
		return;
	}
	w->ask_pause_ns = 0;
	miss_link_up(&w->miss, &fresh);
}

/* Makes what is in the cache safe from a power cut. */
static void sync_cache(struct worker *w, uint64_t now_ns)
{
	struct present *pr = &w->fs.pr;
	int r;

	w->synced_ns = now_ns;
	present_snapshot(pr, w->snapshot);
	r = fdatasync(w->fds[CTL_FD_EROFS]) < 0 ? -errno : 0;
	if (r == 0 && fsync(w->fds[CTL_FD_CHUNKS]) < 0)
		r = -errno;
	if (r < 0) {
		log_err("err=%s msg=\"cache cannot be synced: what was not "
			"is forgotten\"",
			err_symbol(r));
		stats_error(w->st, "cache cannot be synced");
		stats_add(&w->st->errors_disk, 1);
		present_sync_failed(pr);
		miss_again(&w->miss);
		return;
	}
	present_synced(pr, w->snapshot);
}

static void become_complete(struct worker *w)
{
	struct present *pr = &w->fs.pr;

	if (present_count_durable(pr) != pr->n)
		return;
	present_set_complete(pr);
	(void)msync(w->map[CTL_FD_PRESENT], w->map_len[CTL_FD_PRESENT],
		    MS_SYNC);
	w->complete = true;
	stats_count(w->st, &w->fs.ch,
		    &w->fs.pr); /* others may have brought some of it */
	atomic_store_explicit(&w->st->state, STATS_COMPLETE,
			      memory_order_relaxed);
	miss_link_close(&w->miss);
	(void)send_plain(w, CTL_COMPLETE);
	log_info("msg=\"layer is complete\" bytes=%llu",
		 (unsigned long long)w->fs.ch.image_bytes);
}

/* Gives back what was not used for a tick. Return: whether more is to come. */
static bool trim(struct worker *w)
{
	bool more = lane_trim(&w->lane);

	for (unsigned i = 0; i < w->n_threads; i++) {
		more = lane_trim(&w->lanes[i]) || more;
		more = fill_trim(&w->fills[i]) || more;
	}
	if (!more)
		(void)malloc_trim(0);
	return more;
}

/* The sooner of two times in milliseconds, -1 being never. */
static int sooner(int a, int b)
{
	if (a < 0 || b < 0)
		return MAX(a, b);
	return MIN(a, b);
}

/* Return: milliseconds until it is to be called again, -1: when poked */
static int tick(struct worker *w)
{
	uint64_t now = io_now_ns();
	int ms = miss_tick(&w->miss, &w->lane, now);
	struct present *pr = &w->fs.pr;
	bool whole = present_next_missing(pr, 0) >= pr->n;
	bool dirty = present_count(pr) != present_count_durable(pr);

	if (!w->complete && whole && ms < 0) {
		if (dirty)
			sync_cache(w, now);
		become_complete(w);
	} else if (dirty && now - w->synced_ns >= SYNC_INTERVAL_NS) {
		sync_cache(w, now);
	}
	if (!w->fetcher_asked && miss_link_wanted(&w->miss)) {
		if (now < w->ask_after_ns) {
			ms = sooner(ms, (int)((w->ask_after_ns - now) /
					      NSEC_PER_MSEC) +
						1);
		} else {
			w->fetcher_asked = true;
			(void)send_plain(w, CTL_NEED_FETCHER);
		}
	}
	ms = sooner(ms, passthru_tick(&w->fs, now));
	dirty = present_count(pr) != present_count_durable(pr);
	if ((ms < 0 || ms >= IDLE_MS) && trim(w))
		ms = sooner(ms, IDLE_MS);
	if (!w->complete)
		ms = sooner(ms, dirty ? IDLE_MS : LOOK_MS);
	return sooner(ms, firsts_tick(&w->fs.firsts, w->sha, now));
}

/* Return: 0, 1 at the monitor's end, -errno */
static int handle_message(struct worker *w)
{
	union ctl_msg m;
	int fds[CTL_FD_N_];
	ssize_t n = io_recv_fds(w->ctl, &m, sizeof(m), fds, ARRAY_SIZE(fds), 0);
	int r = -EPROTO;

	if (n <= 0)
		return n == 0 || n == -ECONNRESET ? 1 : (int)n;
	if (m.type == CTL_START && (size_t)n == sizeof(m.start))
		r = handle_start(w, &m.start, fds);
	else if (m.type == CTL_SERVE && (size_t)n == sizeof(m.serve)) {
		w->opens_fd = TAKE_FD(fds[1]);
		r = handle_serve(w, &m.serve, TAKE_FD(fds[0]));
	} else if (m.type == CTL_FETCHER) {
		handle_fetcher(w, TAKE_FD(fds[0]));
		r = 0;
	} else if (m.type == CTL_BACKED && (size_t)n == sizeof(m.backed)) {
		passthru_backed(&w->fs, &m.backed);
		r = 0;
	} else if (m.type == CTL_RELIEVE && w->complete) {
		w->relieved = true;
		r = 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] >= 0)
			(void)close(fds[i]);
	}
	return r;
}

/* Nothing waits for a fetcher: all is there. */
static void leave_session(struct worker *w)
{
	const struct timespec pause = {.tv_nsec = NSEC_PER_MSEC};

	session_leave(&w->session);
	for (unsigned i = 0; i < w->n_threads; i++) {
		/* Again and again: it may not wait yet when the first comes. */
		while (pthread_tryjoin_np(w->fuse_threads[i], NULL) == EBUSY) {
			(void)pthread_kill(w->fuse_threads[i], SESSION_SIGNAL);
			(void)nanosleep(&pause, NULL);
		}
	}
	passthru_end(&w->fs);
	stats_set(&w->st->firsts_since, firsts_since(&w->fs.firsts));
}

/* What they took out of the list of those who wait may not be answered yet, and
 * nobody has it sent again. No run is left, so it is soon. */
static void await_fill_threads(struct worker *w)
{
	for (unsigned i = 0; i < w->n_threads; i++)
		(void)pthread_join(w->fill_threads[i], NULL);
}

/* Return: exit status */
static int end(struct worker *w)
{
	bool relieved = !atomic_load_explicit(&w->ended, memory_order_acquire);

	/* What is there stays for the next mount. */
	miss_stop(&w->miss);
	if (relieved)
		await_fill_threads(w);
	events_stop(w->events, relieved);
	firsts_end(&w->fs.firsts, w->sha);
	if (present_count(&w->fs.pr) != present_count_durable(&w->fs.pr))
		sync_cache(w, io_now_ns());
	if (relieved)
		return WORKER_RELIEVED;
	return atomic_load_explicit(&w->failed, memory_order_relaxed) ? 1 : 0;
}

static int loop(struct worker *w)
{
	int timeout_ms = -1;

	while (!w->relieved &&
	       !atomic_load_explicit(&w->ended, memory_order_acquire)) {
		struct pollfd p[2] = {
			{.fd = w->ctl, .events = POLLIN},
			{.fd = w->miss.main_fd, .events = POLLIN},
		};
		uint64_t v;
		int r;

		if (poll(p, 2, timeout_ms) < 0 && errno != EINTR)
			return 1;
		if (p[1].revents != 0 &&
		    read(w->miss.main_fd, &v, sizeof(v)) < 0)
			log_debug("msg=\"spurious wake-up\"");
		if (p[0].revents != 0) {
			r = handle_message(w);
			if (r != 0)
				return 1;
		}
		if (w->session.se != NULL)
			timeout_ms = tick(w);
	}
	if (w->relieved)
		leave_session(w);
	return end(w);
}

int worker_main(int ctl, pid_t parent, const struct layer *layer,
		const struct options *o, struct stats *st, int events_fd,
		int firsts_fd)
{
	struct worker *w = calloc(1, sizeof(*w));
	struct err e = {0};
	sigset_t all;
	int r;

	/* Only SIGKILL and faults end a worker: the monitor decides. */
	(void)sigfillset(&all);
	(void)sigdelset(&all, SIGSEGV);
	(void)sigdelset(&all, SIGBUS);
	(void)sigdelset(&all, SIGABRT);
	(void)sigdelset(&all, SIGSYS);
	(void)pthread_sigmask(SIG_SETMASK, &all, NULL);
	(void)prctl(PR_SET_NAME, "estargzfs-work", 0, 0, 0);
	if (w == NULL)
		return 1;
	*w = (struct worker){
		.ctl = ctl,
		.layer = layer,
		.o = o,
		.st = st,
		.fds = {-1, -1, -1},
		.opens_fd = -1,
		.events_fd = events_fd,
		.firsts_fd = firsts_fd,
	};
	r = prepare(w, &e);
	if (r == 0)
		r = sandbox_enter(&e);
	if (r == 0 && getppid() != parent)
		return 1;
	if (r < 0) {
		send_failed(w, &e);
		return 1;
	}
	return loop(w);
}
