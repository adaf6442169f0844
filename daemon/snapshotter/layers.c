/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/layers.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>

#include "common/io.h"
#include "common/layerdir.h"
#include "daemon/snapshotter/expect.h"
#include "daemon/snapshotter/layer.h"
#include "daemon/snapshotter/place.h"
#define LOG_MOD "layers"
#include "common/log.h"

#define TRIES 3u
#define SYSTEMD_DIR "/run/systemd/system" /* as sd_booted(3) */

void layers_kick(struct layers *ls)
{
	const uint64_t one = 1;

	if (write(ls->kick.fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
}

static void on_kick(struct loop_io *io, uint32_t events UNUSED)
{
	uint64_t n;

	if (read(io->fd, &n, sizeof(n)) < 0)
		assert(errno == EAGAIN);
	layers_turn(LIST_ENTRY(io, struct layers, kick));
}

static void on_timer(struct loop_timer *t)
{
	layers_turn(LIST_ENTRY(t, struct layers, timer));
}

/* ---- rows -------------------------------------------------------------- */

/* Return: the struct of a row, a new one where there is none; NULL when out of
 * memory */
static struct layer *get(struct layers *ls, const struct layer_row *row)
{
	struct layer *l = layer_find(ls, row->id);
	struct layer_row copy;

	if (l != NULL || layer_row_copy(row, &copy) < 0)
		return l;
	l = layer_new(ls, &copy);
	if (l == NULL)
		layer_row_done(&copy);
	return l;
}

/* Whether another layer uses the same cache. */
static bool shares_cache(struct layers *ls, const struct layer *l)
{
	LIST_EACH(it, &ls->all)
	{
		const struct layer *o = LIST_ENTRY(it, struct layer, node);

		if (o != l && !o->dropped &&
		    digest_equal(&o->row.toc, &l->row.toc) &&
		    o->row.opaque_user == l->row.opaque_user)
			return true;
	}
	return false;
}

/* Lets a layer go if no snapshot needs it and nobody holds it. With rows
 * held: nobody begins to. */
static void drop_unused(struct layers *ls, int64_t id)
{
	struct digest toc;
	struct layer *l;
	bool held, shared, opaque_user;

	layers_lock(ls);
	l = layer_find(ls, id);
	held = l != NULL && l->holds > 0;
	layers_unlock(ls);
	if (held || tree_layer_drop(ls->t, id) != 1 || l == NULL)
		return;
	layers_lock(ls);
	/* Dropped and not held, the loop frees it as soon as we unlock. */
	toc = l->row.toc;
	opaque_user = l->row.opaque_user;
	shared = shares_cache(ls, l);
	l->dropped = true;
	layers_unlock(ls);
	if (!shared)
		(void)layerdir_pin(ls->root, &toc, opaque_user, false);
	layers_kick(ls);
}

/* ---- opening ----------------------------------------------------------- */

/* Of tree_layer_walk(): the rows of no snapshot. */
struct unused {
	struct layers *ls;
	int64_t *ids;
	size_t n;
	bool all; /* the others get their struct */
};

static int on_row(void *arg, const struct layer_row *row)
{
	struct unused *u = arg;

	if (row->n_snapshots == 0) {
		int64_t *ids = reallocarray(u->ids, u->n + 1, sizeof(*ids));

		if (ids == NULL)
			return -ENOMEM;
		ids[u->n++] = row->id;
		u->ids = ids;
		return 0;
	}
	return u->all && get(u->ls, row) == NULL ? -ENOMEM : 0;
}

static bool is_pinned(void *arg, const struct digest *toc, bool opaque_user)
{
	struct layers *ls = arg;

	LIST_EACH(it, &ls->all)
	{
		const struct layer *l = LIST_ENTRY(it, struct layer, node);

		if (!l->dropped && digest_equal(&l->row.toc, toc) &&
		    l->row.opaque_user == opaque_user)
			return true;
	}
	return false;
}

static void pin_all(struct layers *ls)
{
	int r = layerdir_unpin_others(ls->root, is_pinned, ls);

	LIST_EACH(it, &ls->all)
	{
		const struct layer *l = LIST_ENTRY(it, struct layer, node);
		int p = layerdir_pin(ls->root, &l->row.toc, l->row.opaque_user,
				     true);

		r = r < 0 ? r : p;
	}
	if (r < 0)
		log_warn("root=%s err=%s msg=\"caches are not marked as used\"",
			 ls->root, err_symbol(r));
}

/* Takes away what is in ROOT/m or ROOT/e and belongs to no layer. */
static void sweep(struct layers *ls, const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *de;

	while (d != NULL && (de = readdir(d)) != NULL) {
		CLEANUP_FREE char *path = NULL;
		bool known = de->d_name[0] == '.';

		LIST_EACH(it, &ls->all)
		{
			const char *target =
				LIST_ENTRY(it, struct layer, node)->target;

			known = known || strcmp(strrchr(target, '/') + 1,
						de->d_name) == 0;
		}
		if (known || asprintf(&path, "%s/%s", dir, de->d_name) < 0) {
			path = NULL;
			continue;
		}
		(void)place_clear(path);
		(void)rmdir(path);
	}
	if (d != NULL)
		(void)closedir(d);
}

static int make_place(struct layers *ls, const char *name, char **ret)
{
	if (asprintf(ret, "%s/%s", ls->root, name) < 0) {
		*ret = NULL;
		return -ENOMEM;
	}
	return io_mkdir_p(*ret, 0700);
}

static int make_places(struct layers *ls, struct err *e)
{
	int r = io_mkdir_p(ls->c->root, 0700);

	if (r == 0) {
		ls->root = realpath(ls->c->root, NULL);
		r = ls->root != NULL ? 0 : -errno;
	}
	if (r == 0)
		r = make_place(ls, "m", &ls->mounts);
	if (r == 0)
		r = make_place(ls, "e", &ls->natives.dir);
	return r < 0 ? err_set(e, r, "%s: %s", ls->c->root, err_name(r)) : 0;
}

static int load(struct layers *ls, struct err *e)
{
	struct unused u = {.ls = ls, .all = true};
	int r = tree_layer_walk(ls->t, on_row, &u, e);

	for (size_t i = 0; r == 0 && i < u.n; i++)
		(void)tree_layer_drop(ls->t, u.ids[i]);
	free(u.ids);
	return r;
}

static int set_up(struct layers *ls, struct err *e)
{
	int r = make_places(ls, e);

	if (r < 0)
		return r;
	evict_init(&ls->evict, ls->root, ls->c->cache_max_bytes, ls->loop);
	ls->scope.on = ls->c->scope && access(SYSTEMD_DIR, F_OK) == 0;
	ls->kick.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = ls->kick.fd < 0 ? -errno
			    : loop_io_add(ls->loop, &ls->kick, EPOLLIN);
	if (r < 0)
		return err_set(e, r, "layers: %s", err_name(r));
	r = load(ls, e);
	if (r < 0 || (!ls->c->lazy && list_empty(&ls->all)))
		return r;
	ls->fetcher = fetcher_new(ls->c, &ls->spawner, ls->loop);
	return ls->fetcher != NULL ? 0 : err_no_memory(e);
}

int layers_open(struct layers **ret, const struct config *c, struct tree *t,
		struct loop *loop, struct err *e)
{
	struct layers *ls = calloc(1, sizeof(*ls));
	int r;

	if (ls == NULL)
		return err_no_memory(e);
	ls->c = c;
	ls->t = t;
	ls->loop = loop;
	ls->opaque_user = c->userxattr == USERXATTR_YES;
	(void)pthread_mutex_init(&ls->rows, NULL);
	(void)pthread_mutex_init(&ls->lock, NULL);
	list_init(&ls->all);
	list_init(&ls->adopting);
	ls->kick = (struct loop_io){.fd = -1, .fn = on_kick};
	ls->timer.fn = on_timer;
	spawner_init(&ls->spawner, loop);
	r = set_up(ls, e);
	if (r < 0) {
		layers_close(ls);
		return r;
	}
	pin_all(ls);
	adopt_scan(ls);
	sweep(ls, ls->mounts);
	sweep(ls, ls->natives.dir);
	native_open(ls);
	LIST_EACH(it, &ls->all)
	{
		struct layer *l = LIST_ENTRY(it, struct layer, node);

		l->fuse_named = tree_named(ls->t, NAMED_FUSE, l->id) != 0;
		l->restore = l->state == LAYER_NONE;
	}
	evict_soon(&ls->evict);
	layers_kick(ls);
	*ret = ls;
	return 0;
}

void layers_close(struct layers *ls)
{
	if (ls == NULL)
		return;
	evict_done(&ls->evict);
	native_close(ls);
	adopt_done(ls);
	fetcher_free(ls->fetcher);
	while (!list_empty(&ls->all))
		layer_free(LIST_ENTRY(ls->all.next, struct layer, node));
	spawner_done(&ls->spawner);
	loop_timer_clear(&ls->timer);
	if (ls->kick.fd >= 0) {
		loop_io_del(ls->loop, &ls->kick);
		(void)close(ls->kick.fd);
	}
	(void)pthread_mutex_destroy(&ls->lock);
	(void)pthread_mutex_destroy(&ls->rows);
	free(ls->natives.dir);
	free(ls->mounts);
	free(ls->root);
	free(ls);
}

/* ---- waiting for a layer ----------------------------------------------- */

static struct timespec in(unsigned seconds)
{
	struct timespec ts = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += seconds;
	return ts;
}

/* A second more than a start takes at most: its own word on that is better. */
static struct timespec deadline(const struct layers *ls)
{
	return in(ls->c->mount_timeout_s + 1);
}

static int why_not(const struct layer *l, struct err *e)
{
	/* Its processes are gone, and it will be mounted again: by us now. */
	if (l->restore && !l->dropped)
		return err_set(e, -ECHILD, "estargzfs died");
	return l->e.code < 0 ? err_set(e, l->e.code, "%s", l->e.text)
			     : err_set(e, -EIO, "it has been taken away");
}

/* Return: 0 it is ready; -errno with @e: it could not be started */
static int await(struct layer *l, const struct timespec *until, struct err *e)
{
	struct layers *ls = l->ls;
	int r = 0;

	layers_lock(ls);
	while (r == 0 && l->state != LAYER_READY) {
		if (l->state == LAYER_NONE ||
		    (l->state == LAYER_ENDING && l->dropped))
			r = why_not(l, e);
		else if (pthread_cond_clockwait(&l->changed, &ls->lock,
						CLOCK_MONOTONIC, until) != 0)
			r = err_set(e, -ETIMEDOUT, "not mounted after %u s",
				    ls->c->mount_timeout_s);
	}
	layers_unlock(ls);
	return r;
}

/*
 * Whether the mount is where it is said to be: an overlayfs over the directory
 * below it would lack the layer, without a word. Asking also has the kernel
 * learn mode and owner of the root, which overlayfs copies from the inode of
 * the topmost layer's, and FUSE knows nothing of before.
 */
static bool in_place(struct layer *l)
{
	struct stat st;
	dev_t want;

	layers_lock(l->ls);
	want = l->dev;
	layers_unlock(l->ls);
	/* Of another error those who read will hear. */
	if (stat(l->target, &st) < 0 ? errno != ENOENT && errno != ENOTCONN
				     : st.st_dev == want)
		return true;
	layers_lock(l->ls);
	/* Unless somebody saw it before, and it is another one now. */
	if (l->state == LAYER_READY && l->dev == want)
		l->state = LAYER_LOST;
	layers_unlock(l->ls);
	layers_kick(l->ls);
	return false;
}

/* Return: as await() */
static int await_mount(struct layer *l, const struct timespec *until,
		       struct err *e)
{
	for (int i = 0; i < 2; i++) {
		int r = await(l, until, e);

		if (r < 0 || in_place(l))
			return r;
	}
	return err_set(e, -EIO, "%s is taken away again and again", l->target);
}

bool layers_have_index(const struct layers *ls, const struct digest *toc,
		       bool opaque_user)
{
	CLEANUP_FREE char *dir =
		layerdir_path(ls->root, toc, opaque_user, false);
	CLEANUP_FREE char *path = NULL;

	if (dir == NULL || asprintf(&path, "%s/chunks", dir) < 0) {
		path = NULL;
		return false;
	}
	return access(path, F_OK) == 0;
}

static bool is_mounted(const struct layer *l)
{
	return l->state == LAYER_READY || native_is_ready(l);
}

void layers_warm(struct layers *ls, const struct lazy *z, bool here)
{
	struct lazy_blob *v = calloc(z->n_others + 1, sizeof(*v));
	size_t first = here ? 0 : 1, n = 0;

	if (v == NULL)
		return;
	if (!here)
		v[n++] = (struct lazy_blob){.digest = z->blob, .tail = z->tail};
	for (size_t i = 0; i < z->n_others; i++)
		v[n++] = z->others[i];
	layers_lock(ls);
	LIST_EACH(it, &ls->all)
	{
		const struct layer *l = LIST_ENTRY(it, struct layer, node);

		for (size_t i = first; is_mounted(l) && i < n; i++) {
			if (digest_equal(&v[i].digest, &l->row.blob)) {
				n--;
				memmove(v + i, v + i + 1, (n - i) * sizeof(*v));
				break;
			}
		}
	}
	layers_unlock(ls);
	fetcher_warm(ls->fetcher, z, ls->c->prefetch, v, n);
	free(v);
}

/* Starts it where nobody has. @z: of an image of whose layers the fetcher is to be
 * told, or NULL */
static void begin(struct layer *l, const struct lazy *z)
{
	if (!layer_claim(l))
		return;
	if (z != NULL)
		layers_warm(l->ls, z, false);
	layer_start(l);
}

/* Whether it was not the layer's fault: a process of ours was killed. */
static bool may_work_now(int r)
{
	return r == -ECHILD || r == -ECONNRESET || r == -EPIPE ||
	       r == -ECONNREFUSED;
}

/* Waits for one that was begun. Return: as await() */
static int obtain(struct layer *l, const struct lazy *z,
		  const struct timespec *until, struct err *e)
{
	int r = await_mount(l, until, e);

	for (unsigned i = 1; i < TRIES && may_work_now(r); i++) {
		begin(l, z);
		r = await_mount(l, until, e);
	}
	return r;
}

/* ---- what others call -------------------------------------------------- */

static int mount(struct layers *ls, struct layer *l, const struct lazy *z,
		 const struct timespec *until, struct err *e)
{
	bool native = native_obtain(l, until);
	bool here = layers_have_index(ls, &l->row.toc, l->row.opaque_user);
	const struct lazy *unheard_of = here ? NULL : z;
	int r;

	if (!native)
		begin(l, unheard_of);
	expect_others(ls, z, here);
	if (native)
		return 0;
	r = obtain(l, unheard_of, until, e);
	if (r < 0)
		return r;
	/* While it is mounted, it is in use anyway. */
	r = layerdir_pin(ls->root, &l->row.toc, l->row.opaque_user, true);
	if (r < 0)
		log_warn("target=%s err=%s msg=\"cache is not marked as used\"",
			 l->target, err_symbol(r));
	return 0;
}

/* Locked. Who starts it looks at that without a lock. */
static void take_trace(struct layer *l, const struct lazy *z)
{
	if (l->state != LAYER_NONE)
		return;
	l->has_trace = z->has_trace && l->ls->c->prefetch;
	l->trace = z->trace;
	l->has_manifest = z->has_manifest && l->ls->c->prefetch;
	l->manifest = z->manifest;
	l->tail = z->tail;
}

static bool has_snapshots(struct layers *ls, int64_t id)
{
	struct layer_row row = {0};
	bool has = tree_layer_get(ls->t, id, &row, NULL) == 0 &&
		   row.n_snapshots > 0;

	layer_row_done(&row);
	return has;
}

int layers_hold(struct layers *ls, const struct lazy *z, struct layer **ret,
		struct err *e)
{
	struct layer_row row = {
		.reference = z->reference,
		.repository = z->repository,
		.blob = z->blob,
		.toc = z->toc,
		.opaque_user = ls->opaque_user,
	};
	bool unused, renamed = false;
	struct layer *l = NULL;

	(void)pthread_mutex_lock(&ls->rows);
	row.id = tree_layer_put(ls->t, &row, e);
	if (row.id > 0) {
		unused = !has_snapshots(ls, row.id);
		layers_lock(ls);
		l = get(ls, &row);
		if (l != NULL) {
			l->holds++;
			renamed = unused && layer_rename(l, &row);
			take_trace(l, z);
		}
		layers_unlock(ls);
	}
	if (renamed)
		(void)tree_layer_rename(ls->t, &row);
	(void)pthread_mutex_unlock(&ls->rows);
	if (row.id < 0)
		return (int)row.id;
	*ret = l;
	return l != NULL ? 0 : err_no_memory(e);
}

/* Return: as layers_mount(); @own: the deadline where it is not asked for of another's
 * repository; @ret_others: where it fails, whether it was */
static int64_t try_mount(struct layers *ls, const struct lazy *z,
			 const struct timespec *until,
			 const struct timespec *own, bool *ret_others,
			 struct err *e)
{
	struct layer *l = NULL;
	bool ours;
	int r;

	*ret_others = false;
	r = layers_hold(ls, z, &l, e);
	if (r < 0)
		return r;
	expect_met(l);
	ours = layer_is_of(l, z->repository);
	r = mount(ls, l, z, ours ? own : until, e);
	if (r == 0)
		return l->id;
	ours = ours && layer_is_of(l, z->repository); /* still */
	*ret_others = !ours && !has_snapshots(ls, l->id);
	layers_release(ls, l->id);
	return r;
}

/*
 * Who wants a layer that another image has wanted first gets what that one's
 * repository says, with its credentials. It learns nothing by that: what it names
 * by digests it could have from the cache as well, as any content that containerd
 * has. But that nothing comes from there is not its failure: it is asked for by its
 * own name then, within the deadline or, where that is used up, a third of it more.
 */
int64_t layers_mount(struct layers *ls, const struct lazy *z, struct err *e)
{
	const struct timespec until = deadline(ls);
	struct timespec own = until;
	bool others = true;
	int64_t id = -ENODATA;

	if (!ls->c->lazy)
		return err_set(e, -ENODATA, "lazy = false");
	for (unsigned i = 0; i < TRIES && others; i++) {
		id = try_mount(ls, z, &until, &own, &others, e);
		own = in(MAX(ls->c->mount_timeout_s / 3, 1u));
		own = own.tv_sec < until.tv_sec ? until : own;
	}
	return id;
}

void layers_release(struct layers *ls, int64_t id)
{
	struct layer *l;

	layers_lock(ls);
	l = layer_find(ls, id);
	layers_unlock(ls);
	assert(l != NULL);
	layer_release(l);
	(void)pthread_mutex_lock(&ls->rows);
	if (!has_snapshots(ls, id))
		drop_unused(ls, id);
	(void)pthread_mutex_unlock(&ls->rows);
}

/* A layer of a chain. */
struct needed {
	struct layer *l;
	bool native;
};

/* Holds the layers of a chain, each once. Return: how many; -errno with @e */
static ssize_t hold_all(struct layers *ls, const struct chain *chain,
			struct needed *v, struct err *e)
{
	ssize_t n = 0;

	(void)pthread_mutex_lock(&ls->rows);
	layers_lock(ls);
	for (size_t i = 0; n >= 0 && i < chain->n; i++) {
		struct layer *l = layer_find(ls, chain->v[i].layer);

		if (chain->v[i].layer == 0 || chain_repeats(chain, i))
			continue;
		if (l == NULL) {
			while (n > 0)
				v[--n].l->holds--;
			n = err_set(e, -EAGAIN,
				    "layer number %" PRId64 " is not known",
				    chain->v[i].layer);
			break;
		}
		l->holds++;
		v[n++].l = l;
	}
	layers_unlock(ls);
	(void)pthread_mutex_unlock(&ls->rows);
	return n;
}

/* Those that are not native: a reply will name their FUSE mounts. */
static int await_fuse(struct layers *ls, struct needed *v, ssize_t n,
		      const struct timespec *until, struct err *e)
{
	int first = 0;

	layers_lock(ls);
	for (ssize_t i = 0; i < n; i++) {
		if (!v[i].native)
			v[i].l->fuse_named = true;
	}
	layers_unlock(ls);
	for (ssize_t i = 0; i < n; i++) {
		if (!v[i].native)
			begin(v[i].l, NULL);
	}
	for (ssize_t i = 0; i < n; i++) {
		char d[DIGEST_STR_BYTES];
		struct err mine = {0};

		if (!v[i].native && obtain(v[i].l, NULL, until, &mine) < 0 &&
		    first == 0)
			first = err_set(
				e, -EAGAIN, "layer %s is not available: %s",
				digest_str(&v[i].l->row.blob, d), mine.text);
	}
	return first;
}

static int await_all(struct layers *ls, struct needed *v, ssize_t n,
		     bool all_fuse, struct err *e)
{
	const struct timespec until = deadline(ls);
	bool all_native = true;

	for (ssize_t i = 0; i < n; i++) {
		v[i].native = native_obtain(v[i].l, &until);
		all_native = all_native && v[i].native;
	}
	for (ssize_t i = 0; all_fuse && !all_native && i < n; i++)
		v[i].native = false;
	return await_fuse(ls, v, n, &until, e);
}

int layers_need(struct layers *ls, struct chain *chain, bool all_fuse,
		struct err *e)
{
	struct needed *v = calloc(chain->n + 1, sizeof(*v));
	ssize_t n;
	int r;

	if (v == NULL)
		return err_no_memory(e);
	n = hold_all(ls, chain, v, e);
	r = n < 0 ? (int)n : await_all(ls, v, n, all_fuse, e);
	for (size_t i = 0; r == 0 && i < chain->n; i++) {
		for (ssize_t k = 0; k < n; k++) {
			if (v[k].l->id == chain->v[i].layer)
				chain->v[i].native = v[k].native;
		}
	}
	while (r < 0 && n > 0)
		layer_release(v[--n].l);
	free(v);
	return r;
}

bool layers_are_native(struct layers *ls, const struct chain *chain)
{
	bool all = true;

	layers_lock(ls);
	for (size_t i = 0; i < chain->n && all; i++) {
		const struct layer *l = layer_find(ls, chain->v[i].layer);

		all = chain->v[i].layer == 0 ||
		      (l != NULL && native_is_ready(l));
	}
	layers_unlock(ls);
	return all;
}

void layers_named(struct layers *ls, const struct chain *chain)
{
	for (size_t i = 0; i < chain->n; i++) {
		struct layer *l;

		if (chain_repeats(chain, i))
			continue;
		layers_lock(ls);
		l = layer_find(ls, chain->v[i].layer);
		layers_unlock(ls);
		/* Held, it was not dropped. */
		if (l != NULL)
			layer_release(l);
	}
}

void layers_forgotten(struct layers *ls)
{
	layers_lock(ls);
	LIST_EACH(it, &ls->all)
	LIST_ENTRY(it, struct layer, node)->review = true;
	layers_unlock(ls);
	layers_kick(ls);
}

void layers_collect(struct layers *ls)
{
	struct unused u = {.ls = ls};

	(void)pthread_mutex_lock(&ls->rows);
	if (tree_layer_walk(ls->t, on_row, &u, NULL) == 0) {
		for (size_t i = 0; i < u.n; i++)
			drop_unused(ls, u.ids[i]);
	}
	(void)pthread_mutex_unlock(&ls->rows);
	free(u.ids);
}

int layers_usage(struct layers *ls, int64_t id, uint64_t *ret_bytes,
		 uint64_t *ret_inodes)
{
	struct digest toc = {0};
	bool opaque_user = false;
	struct layer *l;

	layers_lock(ls);
	l = layer_find(ls, id);
	if (l != NULL) {
		toc = l->row.toc;
		opaque_user = l->row.opaque_user;
	}
	layers_unlock(ls);
	return l != NULL ? layerdir_usage(ls->root, &toc, opaque_user,
					  ret_bytes, ret_inodes)
			 : -ENOENT;
}
