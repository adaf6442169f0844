/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/passthru.h"

#include <errno.h>
#include <sys/socket.h>

#include "common/io.h"
#include "fs/ops.h"
#include "fs/session.h"
#define LOG_MOD "passthru"
#include "common/log.h"

#define WAIT_NS (2 * NSEC_PER_SEC)
#define NID_BYTES 32u /* of metadata, a number */

/* Bytes an inode, on the average, from which on passthrough is worth its round
 * trips (bench/openmodes). */
#define AUTO_MEAN_BYTES MIB(1)

/* An OPEN that waits for the monitor. */
struct passthru_open {
	struct passthru_open *next;
	fuse_req_t req;
	uint64_t unique; /* as it came */
	uint64_t nid;
	uint64_t since_ns;
};

/* ---- what libfuse knows of it (3.17 and later) ------------------------- */

#ifdef HAVE_FUSE_PASSTHROUGH

static enum stats_open_why want(struct fuse_conn_info *conn)
{
	if ((conn->capable & (uint32_t)FUSE_CAP_PASSTHROUGH) == 0)
		return STATS_OPEN_KERNEL;
	conn->want |= (uint32_t)FUSE_CAP_PASSTHROUGH;
	/* Backing files lie on nothing that is stacked, so that an overlayfs may
	 * be stacked on this. */
	conn->max_backing_stack_depth = 0;
	return STATS_OPEN_CHOSEN;
}

static void set_backing(struct fuse_file_info *fi, uint32_t id)
{
	fi->backing_id = (int32_t)id;
}

#else

static enum stats_open_why want(struct fuse_conn_info *conn UNUSED)
{
	return STATS_OPEN_LIBFUSE;
}

static void set_backing(struct fuse_file_info *fi UNUSED, uint32_t id)
{
	assert(id == 0);
}

#endif

/* ---- the mode ---------------------------------------------------------- */

static void note_mode(struct fs *fs, enum stats_open_why why)
{
	atomic_store_explicit(&fs->st->open_passthrough, fs->passthru.on,
			      memory_order_relaxed);
	atomic_store_explicit(&fs->st->open_why, why, memory_order_relaxed);
}

/* Whether the files are large enough. What is recorded is to be seen. */
static bool suits(const struct fs *fs)
{
	return fs->events == NULL &&
	       (fs->ch.image_bytes - fs->ch.meta_len) /
			       MAX(fs->im.n_inodes, UINT64_C(1)) >=
		       AUTO_MEAN_BYTES;
}

/* What a successor finds was agreed by who began. */
static bool is_wanted(const struct fs *fs, int opens_fd,
		      const struct options *o)
{
	enum opens_mode mode = opens_recorded(opens_fd);

	if (mode != OPENS_UNDECIDED)
		return mode == OPENS_PASSTHROUGH;
	return o->open_mode == OPTIONS_OPEN_PASSTHROUGH ||
	       (o->open_mode == OPTIONS_OPEN_AUTO && suits(fs));
}

void passthru_init(struct fs *fs, int ctl, int opens_fd,
		   const struct options *o)
{
	struct passthru *p = &fs->passthru;
	enum stats_open_why why = STATS_OPEN_CHOSEN;
	struct err e = {0};

	p->ctl = ctl;
	p->opens_fd = opens_fd;
	(void)pthread_mutex_init(&p->lock, NULL);
	p->on = is_wanted(fs, opens_fd, o);
	if (p->on && opens_attach(&p->opens, opens_fd,
				  fs->im.map_len / NID_BYTES + 1, &e) < 0) {
		log_warn("msg=\"no passthrough: %s\"", e.text);
		opens_detach(&p->opens);
		p->on = false;
		why = STATS_OPEN_REFUSED;
	}
	if (!p->on)
		(void)opens_record(opens_fd, OPENS_NOOPEN);
	note_mode(fs, why);
}

void passthru_agree(struct fs *fs, struct fuse_conn_info *conn)
{
	struct passthru *p = &fs->passthru;
	enum stats_open_why why;

	if (!p->on)
		return;
	why = want(conn);
	if (why == STATS_OPEN_CHOSEN &&
	    opens_record(p->opens_fd, OPENS_PASSTHROUGH) == 0)
		return;
	(void)opens_record(p->opens_fd, OPENS_NOOPEN);
	opens_detach(&p->opens);
	p->on = false;
	note_mode(fs, why);
}

/* As soon as nobody has a file open with a backing file, OPEN is answered ENOSYS,
 * after which the kernel does not ask again. */
static void give_up(struct fs *fs, int error)
{
	opens_stop(&fs->passthru.opens);
	if (!atomic_exchange(&fs->passthru.on, false))
		return;
	note_mode(fs, STATS_OPEN_REFUSED);
	log_warn("err=%s msg=\"no backing files: files are opened without\"",
		 err_symbol(error));
}

/* ---- opening ----------------------------------------------------------- */

static void answer(struct fs *fs, fuse_req_t req, uint64_t fh, uint32_t id)
{
	/* The kernel refuses both together. */
	struct fuse_file_info fi = {.fh = fh, .keep_cache = id == 0};

	set_backing(&fi, id);
	stats_add(&fs->st->opens, 1);
	if (id != 0)
		stats_add(&fs->st->opens_passthrough, 1);
	/* Nobody will release what nobody got. */
	if (fuse_reply_open(req, &fi) < 0)
		opens_release(&fs->passthru.opens, fh);
}

/* Return: 0 answered; -EAGAIN the monitor is to be asked */
static int try_open(struct fs *fs, fuse_req_t req, uint64_t unique,
		    uint64_t nid, bool through)
{
	struct opens *o = &fs->passthru.opens;
	uint64_t fh = 0;
	uint32_t id = 0;
	int r = opens_open(o, nid, unique & ~SESSION_RESENT,
			   (unique & SESSION_RESENT) != 0, through, &fh, &id);

	if (r == -ENFILE || r == -ENOSYS)
		(void)fuse_reply_err(req, -r);
	else if (r == 0)
		answer(fs, req, fh, id);
	return r == -EAGAIN ? r : 0;
}

static bool is_waited_for(const struct passthru *p, uint64_t nid)
{
	for (const struct passthru_open *w = p->waiting; w != NULL; w = w->next)
		if (w->nid == nid)
			return true;
	return false;
}

/* Puts it on the list, and asks the monitor, in one: what is forgotten here to
 * make room is closed there before it is asked for again. */
static int wait_for(struct passthru *p, struct passthru_open *w)
{
	struct ctl_back m = {.type = CTL_BACK, .nid = w->nid};
	int r = 0;

	(void)pthread_mutex_lock(&p->lock);
	if (!is_waited_for(p, w->nid)) {
		(void)opens_evict(&p->opens, &m.close_nid);
		r = io_send_fds(p->ctl, &m, sizeof(m), NULL, 0, MSG_DONTWAIT);
	}
	if (r == 0) {
		w->next = p->waiting;
		p->waiting = w;
	}
	(void)pthread_mutex_unlock(&p->lock);
	return r;
}

static void open_later(struct fs *fs, fuse_req_t req, uint64_t unique,
		       uint64_t nid)
{
	struct passthru_open *w = malloc(sizeof(*w));
	int r = -ENOMEM;

	if (w != NULL) {
		*w = (struct passthru_open){
			.req = req,
			.unique = unique,
			.nid = nid,
			.since_ns = io_now_ns(),
		};
		r = wait_for(&fs->passthru, w);
	}
	if (r == 0) {
		miss_poke(fs->miss->main_fd); /* its deadline */
		return;
	}
	free(w);
	/* A monitor that is behind is not one that cannot. */
	if (r != -ENOMEM && r != -EAGAIN)
		give_up(fs, r);
	(void)try_open(fs, req, unique, nid, false);
}

/* All of it is in the cache, and stays there whatever happens: what was not
 * synced may be taken back, and a backing file does not look. */
static bool is_durable(const struct fs *fs, uint64_t off, uint64_t len)
{
	uint64_t first, last;

	if (present_state(&fs->pr) == PRESENT_COMPLETE)
		return true;
	return len > 0 && chunks_find(&fs->ch, off, &first) == 0 &&
	       chunks_find(&fs->ch, off + len - 1, &last) == 0 &&
	       present_test_durable(&fs->pr, first, last + 1 - first);
}

void passthru_open(struct fs *fs, void *req, uint64_t unique, uint64_t nid,
		   uint64_t off, uint64_t len)
{
	bool through = len > 0 && is_durable(fs, off, len);

	if (fs->passthru.opens.f == NULL)
		(void)fuse_reply_err(req, ENOSYS);
	else if (try_open(fs, req, unique, nid, through) == -EAGAIN)
		open_later(fs, req, unique, nid);
}

void passthru_release(struct fs *fs, uint64_t fh)
{
	if (fs->passthru.opens.f != NULL)
		opens_release(&fs->passthru.opens, fh);
}

/* ---- the monitor's answers --------------------------------------------- */

/* Takes those out of the list that wait for @nid, or since before @since_ns. */
static struct passthru_open *take(struct passthru *p, uint64_t nid,
				  uint64_t since_ns)
{
	struct passthru_open *taken = NULL;
	struct passthru_open **at = &p->waiting;

	(void)pthread_mutex_lock(&p->lock);
	while (*at != NULL) {
		struct passthru_open *w = *at;

		if (w->nid == nid || w->since_ns < since_ns) {
			*at = w->next;
			w->next = taken;
			taken = w;
		} else {
			at = &w->next;
		}
	}
	(void)pthread_mutex_unlock(&p->lock);
	return taken;
}

static void answer_all(struct fs *fs, struct passthru_open *w, bool through)
{
	while (w != NULL) {
		struct passthru_open *next = w->next;

		if (!through ||
		    try_open(fs, w->req, w->unique, w->nid, true) < 0)
			(void)try_open(fs, w->req, w->unique, w->nid, false);
		free(w);
		w = next;
	}
}

void passthru_backed(struct fs *fs, const struct ctl_backed *m)
{
	struct passthru *p = &fs->passthru;

	if (m->error == 0)
		opens_learn(&p->opens, m->nid, m->id);
	else if (m->error != -ENFILE && m->error != -EMFILE &&
		 m->error != -ENOMEM && m->error != -ENOSPC)
		give_up(fs, m->error);
	answer_all(fs, take(p, m->nid, 0), m->error == 0);
}

void passthru_end(struct fs *fs)
{
	answer_all(fs, take(&fs->passthru, 0, UINT64_MAX), false);
}

int passthru_tick(struct fs *fs, uint64_t now_ns)
{
	struct passthru *p = &fs->passthru;
	bool more;

	if (now_ns > WAIT_NS)
		answer_all(fs, take(p, 0, now_ns - WAIT_NS), false);
	(void)pthread_mutex_lock(&p->lock);
	more = p->waiting != NULL;
	(void)pthread_mutex_unlock(&p->lock);
	return more ? (int)(WAIT_NS / NSEC_PER_MSEC) : -1;
}
