/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/native.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/kmount.h"
#include "common/layerdir.h"
#include "common/meta.h"
#include "common/mnttab.h"
#include "common/present.h"
#include "common/seal.h"
#include "daemon/snapshotter/layer.h"
#include "daemon/snapshotter/metaproc.h"
#include "daemon/snapshotter/place.h"
#define LOG_MOD "native"
#include "common/log.h"

#define IMAGE "layer.erofs"
#define CHECK_TRIES 3u          /* of a process that was killed */
#define SEAL_WAIT_MS 3000u      /* for a worker that has just been relieved */
#define SEAL_WAIT_ASKED_MS 100u /* where somebody waits for the layer */
#define STACK_BYTES KIB(256)
#define PATH_BYTES_MAX 4096u

bool native_is_ready(const struct layer *l)
{
	return l->native.state == NATIVE_READY && l->ls->c->native;
}

bool native_is_under_way(const struct layer *l)
{
	return l->native.state == NATIVE_DUE ||
	       l->native.state == NATIVE_CHECKING;
}

/* Of who was CHECKING. What was looked at may be what was before it was said. */
static void set_state(struct layer *l, enum native_state state)
{
	struct native *n = &l->native;

	layers_lock(l->ls);
	n->state = n->said && state != NATIVE_READY && !l->ls->natives.unknown
			   ? NATIVE_DUE
			   : state;
	n->said = false;
	if (n->state != NATIVE_BAD)
		n->n_bad = 0;
	(void)pthread_cond_broadcast(&l->changed);
	layers_unlock(l->ls);
	/* What waited for this, or is not needed any more, is the loop's. */
	layers_kick(l->ls);
}

/* ---- the layer's files ------------------------------------------------- */

/* Open files of a layer. */
struct files {
	int dir;
	struct meta_files f;
};

static void close_files(struct files *f)
{
	const int fds[] = {f->f.erofs, f->f.chunks, f->f.present, f->dir};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] >= 0)
			(void)close(fds[i]);
	}
}

#define CLEANUP_FILES CLEANUP(close_files)

static int open_file(int dir, const char *name)
{
	int fd = openat(dir, name,
			O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

static char *dir_of(const struct layer *l)
{
	return layerdir_path(l->ls->root, &l->row.toc, l->row.opaque_user,
			     false);
}

/* Return: 0; -EAGAIN there is nothing that could be complete; -errno */
static int open_files(const char *path, struct files *ret)
{
	int r;

	ret->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (ret->dir < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	ret->f.present = open_file(ret->dir, "present");
	ret->f.chunks = open_file(ret->dir, "chunks");
	ret->f.erofs = open_file(ret->dir, IMAGE);
	r = MIN(ret->f.present, ret->f.chunks);
	r = MIN(r, ret->f.erofs);
	if (r == -ENOENT)
		return -EAGAIN;
	return MIN(r, 0);
}

/* Keeps who makes or removes them away, for a moment: who begins to serve the
 * layer wants to know whether he is alone. Return: 0; -EAGAIN they are not the layer's
 * any more */
static int lock_files(const struct files *f)
{
	struct stat dir, open, there;

	if (flock(f->dir, LOCK_SH | LOCK_NB) < 0 || fstat(f->dir, &dir) < 0 ||
	    dir.st_nlink == 0 || fstat(f->f.erofs, &open) < 0 ||
	    fstatat(f->dir, IMAGE, &there, AT_SYMLINK_NOFOLLOW) < 0 ||
	    open.st_ino != there.st_ino)
		return -EAGAIN;
	return 0;
}

/* Whether it is worth a process to find out. */
static bool says_complete(const struct layer *l)
{
	CLEANUP_FREE char *path = dir_of(l);
	CLEANUP_FILES struct files f = {-1, {-1, -1, -1}};
	struct present_header_le h;

	return path != NULL && open_files(path, &f) == 0 &&
	       io_pread_all(f.f.present, &h, sizeof(h), 0) == 0 &&
	       le32toh(h.version) == PRESENT_VERSION &&
	       le32toh(h.state) == PRESENT_COMPLETE;
}

/* ---- making a mount ---------------------------------------------------- */

/* Return: as meta_check() */
static int check(const struct layer *l, const struct meta_files *f,
		 struct err *e)
{
	int r = -ECHILD;

	for (unsigned i = 0; i < CHECK_TRIES && r == -ECHILD; i++) {
		struct metaproc p;

		r = metaproc_start(l->ls->c->estargzfs, &p, e);
		if (r < 0)
			return r;
		r = meta_check(p.sock, f, e);
		metaproc_end(&p);
	}
	return r;
}

/* From here until the descriptor is closed nobody writes to what is looked through
 * and then mounted. */
static int hold_image(const char *dir, int fd, unsigned wait_ms, struct err *e)
{
	int r = seal_hold(fd, wait_ms, e);

	if (r < 0)
		(void)err_wrap(e, "%s/" IMAGE, dir);
	return r;
}

static int place(struct layer *l, const char *dir, enum kmount_kind *ret_kind,
		 struct err *e)
{
	CLEANUP_FREE char *image = NULL;
	dev_t dev;
	int r;

	if (asprintf(&image, "%s/" IMAGE, dir) < 0) {
		image = NULL;
		return err_no_memory(e);
	}
	r = place_mount(image, l->native.target, ret_kind, &dev, e);
	if (r < 0)
		return r;
	layers_lock(l->ls);
	l->native.dev = dev;
	layers_unlock(l->ls);
	return 0;
}

/* Return: 0; -EAGAIN not complete; -ENOSYS the kernel has no EROFS; -errno,
 * with @e */
static int make(struct layer *l, unsigned wait_ms, enum kmount_kind *ret_kind,
		struct err *e)
{
	CLEANUP_FREE char *dir = dir_of(l);
	CLEANUP_FILES struct files f = {-1, {-1, -1, -1}};
	int r = dir != NULL ? open_files(dir, &f) : -ENOMEM;

	if (r < 0)
		return err_set(e, r, "%s: %s", dir != NULL ? dir : "layer",
			       err_name(r));
	r = hold_image(dir, f.f.erofs, wait_ms, e);
	if (r == 0)
		r = check(l, &f.f, e);
	if (r < 0)
		return r;
	r = lock_files(&f);
	if (r == 0)
		r = seal_set(f.f.erofs);
	if (r == 0)
		r = layerdir_pin(l->ls->root, &l->row.toc, l->row.opaque_user,
				 true);
	if (r < 0)
		return err_set(e, r, "%s: %s", dir, err_name(r));
	r = place(l, dir, ret_kind, e);
	if (r == 0 && !seal_holds(f.f.erofs)) {
		(void)place_clear(l->native.target);
		r = err_set(e, -EBUSY, "%s/" IMAGE ": opened for writing", dir);
	}
	if (r == 0)
		(void)utimensat(f.dir, "present", NULL, AT_SYMLINK_NOFOLLOW);
	return r;
}

/* The kernel has no EROFS: no layer is tried any more. */
static void give_up(struct layers *ls, const struct err *e)
{
	bool first;

	layers_lock(ls);
	first = !ls->natives.unknown;
	ls->natives.unknown = true;
	LIST_EACH(it, &ls->all)
	{
		struct layer *l = LIST_ENTRY(it, struct layer, node);

		if (l->native.state == NATIVE_DUE)
			l->native.state = NATIVE_BAD;
	}
	layers_unlock(ls);
	if (first)
		log_info("msg=\"layers stay on FUSE: %s\"", e->text);
}

uint64_t native_pause_ns(unsigned n_bad)
{
	return NATIVE_PAUSE_MIN_NS << MIN(n_bad, NATIVE_PAUSE_DOUBLINGS);
}

/* What has come up meanwhile is not known yet. Return: whether it is to be logged */
static bool note_bad(struct layer *l, int code)
{
	struct native *n = &l->native;
	bool news;

	layers_lock(l->ls);
	news = n->n_bad == 0 || n->code != code;
	n->code = code;
	n->retry_ns = io_now_ns() + native_pause_ns(n->n_bad++);
	layers_unlock(l->ls);
	return news;
}

static void failed(struct layer *l, const struct err *e)
{
	char d[DIGEST_STR_BYTES];

	if (e->code == -ENOSYS)
		give_up(l->ls, e);
	else if (e->code != -EAGAIN && note_bad(l, e->code))
		log_warn("layer=%s source=%s msg=\"complete, but stays on "
			 "FUSE: %s\"",
			 digest_str(&l->row.blob, d), l->row.reference,
			 e->text);
	set_state(l, e->code == -EAGAIN ? NATIVE_NONE : NATIVE_BAD);
}

/* CHECKING, by the caller's doing. @wait_ms: for those who may write to it */
static void try(struct layer *l, unsigned wait_ms)
{
	enum kmount_kind kind = KMOUNT_NONE;
	char d[DIGEST_STR_BYTES];
	struct err e = {0};

	if (make(l, wait_ms, &kind, &e) < 0) {
		failed(l, &e);
		return;
	}
	log_info("layer=%s source=%s target=%s kind=\"%s\" msg=\"complete: "
		 "mounted by the kernel\"",
		 digest_str(&l->row.blob, d), l->row.reference,
		 l->native.target, kmount_kind_str(kind));
	set_state(l, NATIVE_READY);
}

/* Locked. Whether it is the caller's to mount it. */
static bool claim(struct layer *l)
{
	if (l->native.state != NATIVE_DUE || l->dropped)
		return false;
	l->native.state = NATIVE_CHECKING;
	return true;
}

/* ---- who wants one ----------------------------------------------------- */

void native_complete(struct layer *l, bool now)
{
	struct native *n = &l->native;

	layers_lock(l->ls);
	n->said = n->said || (now && n->state == NATIVE_CHECKING);
	if (l->ls->c->native && !l->ls->natives.unknown &&
	    (n->state == NATIVE_NONE || (now && n->state == NATIVE_BAD)))
		n->state = NATIVE_DUE;
	layers_unlock(l->ls);
	layers_kick(l->ls);
}

/* As layers.c has it of FUSE. */
static bool in_place(struct layer *l)
{
	struct stat st;
	dev_t want;
	bool is;

	layers_lock(l->ls);
	want = l->native.dev;
	layers_unlock(l->ls);
	is = stat(l->native.target, &st) == 0 && st.st_dev == want;
	layers_lock(l->ls);
	is = is && l->native.state == NATIVE_READY;
	/* Unless somebody saw it before, and it is another one now: that has
	 * been named. */
	if (!is && l->native.state == NATIVE_READY && l->native.dev == want)
		l->native.state = NATIVE_DUE;
	layers_unlock(l->ls);
	return is;
}

/* Return: whether it is READY. */
static bool await(struct layer *l, const struct timespec *until)
{
	struct layers *ls = l->ls;
	bool ready, ours, in_time = true;

	layers_lock(ls);
	while (l->native.state == NATIVE_CHECKING && in_time)
		in_time = pthread_cond_clockwait(&l->changed, &ls->lock,
						 CLOCK_MONOTONIC, until) == 0;
	ours = claim(l);
	layers_unlock(ls);
	if (ours)
		try(l, SEAL_WAIT_ASKED_MS);
	layers_lock(ls);
	ready = native_is_ready(l);
	layers_unlock(ls);
	return ready;
}

bool native_obtain(struct layer *l, const struct timespec *until)
{
	struct layers *ls = l->ls;
	bool served, ready, none;

	if (!ls->c->native)
		return false;
	layers_lock(ls);
	served = l->state == LAYER_READY;
	ready = native_is_ready(l);
	none = l->native.state == NATIVE_NONE;
	layers_unlock(ls);
	if (ready && in_place(l))
		return true;
	if (served && !ready)
		return false;
	if (none && says_complete(l))
		native_complete(l, false);
	return await(l, until) && in_place(l);
}

/* ---- those that nobody waits for --------------------------------------- */

/* Locked, and rows. Return: one to be mounted, held; NULL where there is none, and
 * the thread is over then. */
static struct layer *next(struct layers *ls)
{
	LIST_EACH(it, &ls->all)
	{
		struct layer *l = LIST_ENTRY(it, struct layer, node);

		if (!ls->natives.ending && claim(l)) {
			l->holds++;
			return l;
		}
	}
	ls->natives.running = false;
	return NULL;
}

static void *run(void *arg)
{
	struct layers *ls = arg;
	struct layer *l;

	for (;;) {
		(void)pthread_mutex_lock(&ls->rows);
		layers_lock(ls);
		l = next(ls);
		layers_unlock(ls);
		(void)pthread_mutex_unlock(&ls->rows);
		if (l == NULL)
			return NULL;
		try(l, SEAL_WAIT_MS);
		/* Its last snapshot may have gone meanwhile. */
		layers_release(ls, l->id);
	}
}

/* Locked. Whether there is something to do. */
static bool look(struct layers *ls, uint64_t *ret_due_ns)
{
	uint64_t now = io_now_ns();
	bool any = false;

	*ret_due_ns = 0;
	LIST_EACH(it, &ls->all)
	{
		struct layer *l = LIST_ENTRY(it, struct layer, node);
		struct native *n = &l->native;

		if (l->dropped)
			continue;
		if (n->state == NATIVE_BAD && !ls->natives.unknown) {
			if (now >= n->retry_ns)
				n->state = NATIVE_DUE;
			else if (*ret_due_ns == 0 || n->retry_ns < *ret_due_ns)
				*ret_due_ns = n->retry_ns;
		}
		any = any || n->state == NATIVE_DUE;
	}
	return any;
}

uint64_t native_turn(struct layers *ls)
{
	struct natives *n = &ls->natives;
	pthread_attr_t attr;
	uint64_t due_ns;
	bool start;

	layers_lock(ls);
	start = look(ls, &due_ns) && !n->running;
	n->running = n->running || start;
	layers_unlock(ls);
	if (!start)
		return due_ns;
	if (n->has_thread)
		(void)pthread_join(n->thread, NULL);
	n->has_thread = false;
	if (pthread_attr_init(&attr) == 0) {
		(void)pthread_attr_setstacksize(&attr, STACK_BYTES);
		n->has_thread = pthread_create(&n->thread, &attr, run, ls) == 0;
		(void)pthread_attr_destroy(&attr);
	}
	if (n->has_thread)
		return due_ns;
	/* Who needs one mounts it himself. */
	layers_lock(ls);
	n->running = false;
	layers_unlock(ls);
	return due_ns;
}

/* ---- the beginning and the end ----------------------------------------- */

/* The file behind an EROFS, whose source it is, or that of a loop device's. */
static char *image_of(const char *source)
{
	CLEANUP_BUF struct buf b = BUF_INIT(PATH_BYTES_MAX);
	char path[128];

	if (strncmp(source, "/dev/loop", 9) != 0)
		return strdup(source);
	(void)snprintf(path, sizeof(path), "/sys/block/%.32s/loop/backing_file",
		       source + 5);
	if (io_read_file(AT_FDCWD, path, &b) < 0 || b.p == NULL)
		return NULL;
	b.p[strcspn(b.p, "\n")] = '\0';
	return strdup(b.p);
}

/* Whether a mount at a layer's place is of its image: numbers are given again where
 * snapshots.db is another one. */
static bool is_of(const struct layer *l, const struct mntent *m)
{
	CLEANUP_FREE char *dir = dir_of(l);
	CLEANUP_FREE char *image = NULL;
	CLEANUP_FREE char *source = NULL;

	if (strcmp(m->mnt_type, "erofs") != 0 || dir == NULL ||
	    asprintf(&image, "%s/" IMAGE, dir) < 0) {
		image = NULL;
		return false;
	}
	source = image_of(m->mnt_fsname);
	return source != NULL && strcmp(source, image) == 0;
}

/* The last one is the uppermost mount of a place. */
static void see(struct layers *ls, const struct mntent *m)
{
	size_t n = strlen(ls->natives.dir);

	if (strncmp(m->mnt_dir, ls->natives.dir, n) != 0 ||
	    m->mnt_dir[n] != '/')
		return;
	LIST_EACH(it, &ls->all)
	{
		struct layer *l = LIST_ENTRY(it, struct layer, node);

		if (strcmp(m->mnt_dir, l->native.target) == 0)
			l->native.state =
				is_of(l, m) ? NATIVE_READY : NATIVE_NONE;
	}
}

/* Of one layer. What a reply has named stays, whatever is configured now. */
static void settle(struct layer *l)
{
	struct layers *ls = l->ls;
	bool wanted =
		ls->c->native || tree_named(ls->t, NAMED_NATIVE, l->id) != 0;
	struct stat st;

	if (wanted && l->native.state == NATIVE_READY &&
	    stat(l->native.target, &st) == 0) {
		l->native.dev = st.st_dev;
		return;
	}
	l->native.state = NATIVE_NONE;
	(void)place_clear(l->native.target);
	(void)rmdir(l->native.target);
	if (wanted && says_complete(l))
		l->native.state = NATIVE_DUE;
}

void native_open(struct layers *ls)
{
	CLEANUP_MNTTAB struct mnttab t = {0};
	FILE *mounts = fopen(MNTTAB_SELF, "re");

	if (mounts == NULL)
		log_warn("msg=\"mounts cannot be listed\"");
	while (mounts != NULL && mnttab_next(&t, mounts))
		see(ls, &t.m);
	if (mounts != NULL)
		(void)fclose(mounts);
	LIST_EACH(it, &ls->all)
	settle(LIST_ENTRY(it, struct layer, node));
}

void native_close(struct layers *ls)
{
	layers_lock(ls);
	ls->natives.ending = true;
	layers_unlock(ls);
	if (ls->natives.has_thread)
		(void)pthread_join(ls->natives.thread, NULL);
	ls->natives.has_thread = false;
}

void native_end(struct layer *l)
{
	CLEANUP_FREE char *dir = dir_of(l);
	CLEANUP_FREE char *path = NULL;
	bool was = l->native.state == NATIVE_READY;

	(void)place_clear(l->native.target);
	(void)rmdir(l->native.target);
	if (was && dir != NULL && asprintf(&path, "%s/present", dir) >= 0)
		(void)utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
	else
		path = NULL;
}
