/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/chains.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#include "common/io.h"
#include "common/list.h"
#include "daemon/snapshotter/chainfile.h"
#include "daemon/snapshotter/chainmake.h"
#include "daemon/snapshotter/disk.h"
#include "daemon/snapshotter/layer.h"
#include "daemon/snapshotter/place.h"
#include "daemon/snapshotter/pool.h"
#include "daemon/snapshotter/probe.h"
#define LOG_MOD "chains"
#include "common/log.h"

enum merged_state {
	MERGED_NONE,
	MERGED_BUSY,
	MERGED_READY,
};

/**
 * struct merged - a row of the tree, as a file and a mount
 * @of:		what it is made of; n is 0 where only its file knew, and is damaged
 * @holds:	who uses this struct
 * @fresh:	made in advance, and no reply has named it yet
 * @verified:	the file is as it was written
 * @e, @retry_ns: NONE: why, and when it is worth another try
 */
struct merged {
	struct pool_job job; /* of who makes it BUSY. First */
	struct list node;
	/* immutable */
	struct chains *cs;
	struct digest key;
	int64_t id;
	char *dir;
	char *target;
	/* guarded by chains.lock */
	pthread_cond_t changed;
	struct chainfile of;
	enum merged_state state;
	unsigned holds;
	bool fresh;
	dev_t dev; /* of the mount */
	struct err e;
	uint64_t retry_ns;
	/* who makes it BUSY */
	bool verified;
};

struct chains {
	/* immutable */
	const struct config *c;
	struct tree *t;
	char *root;   /* without symbolic links */
	int files_fd; /* ROOT/chains/sha256 */
	bool usable;
	struct pool *pool; /* those who make them, not those who wait for it */
	pthread_mutex_t lock;
	struct list all; /* guarded by lock */
};

static void lock(struct chains *cs)
{
	(void)pthread_mutex_lock(&cs->lock);
}

static void unlock(struct chains *cs)
{
	(void)pthread_mutex_unlock(&cs->lock);
}

bool chains_usable(const struct chains *cs)
{
	return cs->usable;
}

/* ---- the struct -------------------------------------------------------- */

static void merged_free(struct merged *m)
{
	(void)pthread_cond_destroy(&m->changed);
	free(m->dir);
	free(m->target);
	free(m);
}

static void make(struct pool_job *job);

static struct merged *merged_new(struct chains *cs, int64_t id,
				 const struct digest *key)
{
	char hex[DIGEST_HEX_BYTES + 1];
	struct merged *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return NULL;
	m->job.fn = make;
	m->cs = cs;
	m->key = *key;
	m->id = id;
	(void)pthread_cond_init(&m->changed, NULL);
	if (asprintf(&m->dir, "%s/chains/sha256/%s", cs->root,
		     digest_hex(key, hex)) < 0)
		m->dir = NULL;
	if (asprintf(&m->target, "%s/c/%" PRId64, cs->root, id) < 0)
		m->target = NULL;
	if (m->dir == NULL || m->target == NULL) {
		merged_free(m);
		return NULL;
	}
	return m;
}

/* Locked. */
static struct merged *find(struct chains *cs, const struct digest *key)
{
	LIST_EACH(it, &cs->all)
	{
		struct merged *m = LIST_ENTRY(it, struct merged, node);

		if (digest_equal(&m->key, key))
			return m;
	}
	return NULL;
}

/* Locked. */
static void set_state(struct merged *m, enum merged_state state)
{
	m->state = state;
	(void)pthread_cond_broadcast(&m->changed);
}

/* ---- making it --------------------------------------------------------- */

static int mount_file(struct merged *m, dev_t *ret_dev, struct err *e)
{
	CLEANUP_FREE char *path = NULL;

	if (asprintf(&path, "%s/" CHAINFILE_NAME, m->dir) < 0) {
		path = NULL;
		return err_no_memory(e);
	}
	return place_mount(path, m->target, NULL, ret_dev, e);
}

/* A file that is not what it was is made again. */
static int produce(struct merged *m, dev_t *ret_dev, struct err *e)
{
	struct err mine = {0};
	int r = m->verified ? 0 : chainfile_verify(m->dir, &m->key, &mine);

	if (r < 0) {
		if (r != -ENOENT)
			log_warn("msg=\"made again: %s\"", mine.text);
		r = chainmake(m->cs->c->estargzfs, m->cs->root, m->dir, &m->of,
			      &m->key, e);
	}
	m->verified = r == 0;
	if (r < 0)
		return r;
	r = mount_file(m, ret_dev, e);
	/* Somebody may have removed it. */
	m->verified = r == 0;
	return r;
}

/* On a thread of the pool; BUSY by the doing of who has begun it. */
static void make(struct pool_job *job)
{
	struct merged *m = LIST_ENTRY(job, struct merged, job);
	struct chains *cs = m->cs;
	char hex[DIGEST_HEX_BYTES + 1];
	uint64_t begun = io_now_ns();
	struct err e = {0};
	dev_t dev = 0;
	int r = produce(m, &dev, &e);

	if (r < 0)
		log_warn("chain=%s layers=%zu err=%s msg=\"no merged metadata: "
			 "%s\"",
			 digest_hex(&m->key, hex), m->of.n, err_symbol(r),
			 e.text);
	else
		log_debug("chain=%s id=%" PRId64 " layers=%zu ms=%" PRIu64
			  " msg=mounted",
			  digest_hex(&m->key, hex), m->id, m->of.n,
			  (io_now_ns() - begun) / NSEC_PER_MSEC);
	lock(cs);
	m->e = e;
	m->retry_ns = r < 0 ? io_now_ns() + CHAINS_RETRY_NS : 0;
	m->dev = dev;
	set_state(m, r < 0 ? MERGED_NONE : MERGED_READY);
	unlock(cs);
}

/* Locked; NONE. @m is BUSY then, or has the reason why not. */
static void begin(struct merged *m)
{
	int r;

	set_state(m, MERGED_BUSY);
	r = pool_run(m->cs->pool, &m->job);
	if (r < 0) {
		(void)err_set(&m->e, r, "no thread: %s", err_name(r));
		m->retry_ns = io_now_ns() + CHAINS_RETRY_NS;
		set_state(m, MERGED_NONE);
	}
}

/* ---- what others call -------------------------------------------------- */

static int add_layer(struct chains *cs, struct chainfile *of, int64_t layer,
		     struct err *e)
{
	struct layer_row row = {0};
	int r = tree_layer_get(cs->t, layer, &row, e);

	if (r < 0)
		return r;
	/* An overlayfs with the other one would take its files for holes. */
	if (row.opaque_user != (cs->c->userxattr == USERXATTR_YES))
		r = err_set(e, -EINVAL,
			    "a layer was mounted with another userxattr");
	of->opaque_user = row.opaque_user;
	for (size_t i = 0; i < of->n; i++) {
		/* The same, from another blob. */
		if (digest_equal(&of->tocs[i], &row.toc))
			goto out;
	}
	if (r == 0 && of->n == META_LAYERS_MAX)
		r = err_set(e, -EOVERFLOW, "more than %u layers",
			    META_LAYERS_MAX);
	if (r == 0)
		of->tocs[of->n++] = row.toc;
out:
	layer_row_done(&row);
	return r;
}

/* What a chain's metadata is made of. */
static int describe(struct chains *cs, const struct chain *chain,
		    struct chainfile *ret, struct err *e)
{
	int r = 0;

	ret->n = 0;
	for (size_t i = 0; i < chain->n && r == 0; i++) {
		if (chain->v[i].layer > 0 && !chain_repeats(chain, i))
			r = add_layer(cs, ret, chain->v[i].layer, e);
	}
	return r;
}

/* The struct of a chain, held; a new one where there is none. */
static int obtain(struct chains *cs, const struct chain *chain,
		  struct merged **ret, struct err *e)
{
	struct merged *m, *fresh;
	struct chainfile of;
	struct digest key;
	int64_t id;
	int r = describe(cs, chain, &of, e);

	if (r == 0 && chainfile_key(&of, &key) < 0)
		r = err_no_memory(e);
	if (r < 0)
		return r;
	lock(cs);
	/* Under the lock, so that nobody drops it meanwhile. */
	m = find(cs, &key);
	id = m == NULL ? tree_chain_put(cs->t, &key, e) : m->id;
	fresh = m == NULL && id > 0 ? merged_new(cs, id, &key) : NULL;
	if (fresh != NULL) {
		m = fresh;
		list_add(&cs->all, &m->node);
	}
	if (m != NULL) {
		if (m->of.n == 0)
			m->of = of;
		m->holds++;
	}
	unlock(cs);
	if (id < 0)
		return (int)id;
	*ret = m;
	return m != NULL ? 0 : err_no_memory(e);
}

static void release(struct merged *m)
{
	lock(m->cs);
	assert(m->holds > 0);
	m->holds--;
	unlock(m->cs);
}

static struct timespec deadline(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += CHAINS_WAIT_S;
	return ts;
}

/* Return: 0 it is READY, -errno with @e */
static int await(struct merged *m, const struct timespec *until, struct err *e)
{
	struct chains *cs = m->cs;
	bool begun = false;
	int r = 0;

	lock(cs);
	while (r == 0 && m->state != MERGED_READY) {
		if (m->state == MERGED_NONE && m->e.code == 0 && !begun) {
			begun = true;
			begin(m);
		} else if (m->state == MERGED_NONE) {
			r = m->e.code < 0
				    ? err_set(e, m->e.code, "%s", m->e.text)
				    : err_set(e, -EAGAIN, "taken away");
		} else if (pthread_cond_clockwait(&m->changed, &cs->lock,
						  CLOCK_MONOTONIC,
						  until) != 0) {
			r = err_set(e, -ETIMEDOUT, "not made after %u s",
				    CHAINS_WAIT_S);
		}
	}
	unlock(cs);
	return r;
}

/* As with a layer's mount: an overlayfs over the directory below would be an
 * empty one. */
static bool in_place(struct merged *m)
{
	struct stat st;
	dev_t want;
	bool same;

	lock(m->cs);
	want = m->dev;
	unlock(m->cs);
	same = stat(m->target, &st) == 0 && st.st_dev == want;
	lock(m->cs);
	/* Unless somebody saw it before, and it is another one now: that has
	 * been named. */
	if (!same && m->state == MERGED_READY && m->dev == want)
		set_state(m, MERGED_NONE);
	unlock(m->cs);
	return same;
}

/* What failed is tried again after a while. */
static void forget_failure(struct merged *m)
{
	lock(m->cs);
	if (m->e.code < 0 && io_now_ns() >= m->retry_ns)
		m->e = (struct err){0};
	unlock(m->cs);
}

int chains_need(struct chains *cs, struct chain *chain, struct err *e)
{
	const struct timespec until = deadline();
	struct merged *m = NULL;
	bool there = false;
	int r;

	if (!cs->usable)
		return err_set(e, -EOPNOTSUPP, "metadata is not merged here");
	r = obtain(cs, chain, &m, e);
	if (r < 0)
		return r;
	forget_failure(m);
	for (int i = 0; i < 2 && r == 0 && !there; i++) {
		r = await(m, &until, e);
		there = r == 0 && in_place(m);
	}
	if (r == 0 && !there)
		r = err_set(e, -EIO, "%s is taken away again and again",
			    m->target);
	if (r < 0)
		release(m);
	else
		chain->merged = m->id;
	return r;
}

void chains_named(struct chains *cs, const struct chain *chain)
{
	lock(cs);
	LIST_EACH(it, &cs->all)
	{
		struct merged *m = LIST_ENTRY(it, struct merged, node);

		if (m->id != chain->merged)
			continue;
		assert(m->holds > 0);
		m->holds--;
		m->fresh = false;
	}
	unlock(cs);
}

void chains_begin(struct chains *cs, const struct chain *chain)
{
	struct merged *m = NULL;
	struct err e = {0};

	if (!cs->usable)
		return;
	if (obtain(cs, chain, &m, &e) < 0) {
		log_debug("msg=\"%s\"", e.text);
		return;
	}
	forget_failure(m);
	lock(cs);
	if (m->state == MERGED_NONE && m->e.code == 0) {
		m->fresh = true;
		begin(m);
	}
	m->holds--;
	unlock(cs);
}

/* ---- what is not needed any more --------------------------------------- */

/* Locked. Whether all its layers have snapshots. */
static bool has_layers(const struct merged *m)
{
	for (size_t i = 0; i < m->of.n; i++) {
		if (tree_layer_has(m->cs->t, &m->of.tocs[i],
				   m->of.opaque_user) == 0)
			return false;
	}
	return m->of.n > 0;
}

/* Locked. The first that is not needed is BUSY then, and off the list where
 * @ret_file: its file goes, too. */
static struct merged *next_unused(struct chains *cs, bool layers,
				  bool *ret_file)
{
	LIST_EACH(it, &cs->all)
	{
		struct merged *m = LIST_ENTRY(it, struct merged, node);
		bool dead = layers && !has_layers(m);

		if (m->holds > 0 || m->state == MERGED_BUSY ||
		    (m->state == MERGED_NONE && !dead) || (m->fresh && !dead) ||
		    tree_named(cs->t, NAMED_CHAIN, m->id) != 0)
			continue;
		*ret_file = dead && tree_chain_drop(cs->t, &m->key) == 1;
		if (!*ret_file && m->state == MERGED_NONE)
			continue;
		if (*ret_file)
			list_del(&m->node);
		m->state = MERGED_BUSY;
		m->holds++;
		return m;
	}
	return NULL;
}

static void unmount(const char *target)
{
	(void)place_clear(target);
	(void)rmdir(target);
}

static void remove_file(struct chains *cs, const char *name)
{
	(void)disk_remove(cs->files_fd, name);
}

void chains_collect(struct chains *cs, bool layers)
{
	struct merged *m;
	bool file;

	do {
		lock(cs);
		m = next_unused(cs, layers, &file);
		unlock(cs);
		if (m == NULL)
			return;
		unmount(m->target);
		if (file) {
			remove_file(cs, strrchr(m->dir, '/') + 1);
			merged_free(m);
			continue;
		}
		lock(cs);
		m->fresh = false;
		m->holds--;
		set_state(m, MERGED_NONE);
		unlock(cs);
	} while (m != NULL);
}

/* ---- opening ----------------------------------------------------------- */

/* Whether the kernel's EROFS is mounted there. */
static bool is_mounted(const struct merged *m, dev_t around, dev_t *ret)
{
	struct statfs fs;
	struct stat st;

	if (statfs(m->target, &fs) < 0 || stat(m->target, &st) < 0 ||
	    fs.f_type != EROFS_SUPER_MAGIC_V1 || st.st_dev == around)
		return false;
	*ret = st.st_dev;
	return true;
}

struct loading {
	struct chains *cs;
	dev_t dev; /* of ROOT/c */
};

static int on_chain(void *arg, int64_t id, const struct digest *key)
{
	struct loading *l = arg;
	struct merged *m = merged_new(l->cs, id, key);
	struct err e = {0};
	int r;

	if (m == NULL)
		return -ENOMEM;
	r = chainfile_read(m->dir, key, &m->of, &e);
	if (r < 0) {
		m->of.n = 0;
		if (r != -ENOENT)
			log_warn("msg=\"%s\"", e.text);
	}
	if (is_mounted(m, l->dev, &m->dev))
		m->state = MERGED_READY;
	list_add(&l->cs->all, &m->node);
	return 0;
}

/* What is in a directory of ours and has no row. */
static void sweep(struct chains *cs, const char *dir,
		  void (*fn)(struct chains *cs, const char *name))
{
	DIR *d = opendir(dir);
	const struct dirent *de;

	while (d != NULL && (de = readdir(d)) != NULL) {
		bool known = de->d_name[0] == '.';

		LIST_EACH(it, &cs->all)
		{
			const struct merged *m =
				LIST_ENTRY(it, struct merged, node);
			const char *file = strrchr(m->dir, '/') + 1;
			const char *target = strrchr(m->target, '/') + 1;

			known = known || strcmp(de->d_name, file) == 0 ||
				strcmp(de->d_name, target) == 0;
		}
		if (!known)
			fn(cs, de->d_name);
	}
	if (d != NULL)
		(void)closedir(d);
}

static void unmount_unknown(struct chains *cs, const char *name)
{
	CLEANUP_FREE char *path = NULL;

	if (asprintf(&path, "%s/c/%s", cs->root, name) < 0)
		path = NULL;
	else
		unmount(path);
}

static int make_dir(struct chains *cs, const char *name, char **ret,
		    struct err *e)
{
	int r;

	if (asprintf(ret, "%s/%s", cs->root, name) < 0) {
		*ret = NULL;
		return err_no_memory(e);
	}
	r = io_mkdir_p(*ret, 0700);
	return r < 0 ? err_set(e, r, "%s: %s", *ret, err_name(r)) : 0;
}

static int load(struct chains *cs, struct err *e)
{
	CLEANUP_FREE char *mounts = NULL;
	CLEANUP_FREE char *files = NULL;
	struct loading l = {.cs = cs};
	struct stat st;
	int r = make_dir(cs, "c", &mounts, e);

	if (r == 0)
		r = make_dir(cs, "chains/sha256", &files, e);
	if (r < 0)
		return r;
	cs->files_fd = open(files, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cs->files_fd < 0 || stat(mounts, &st) < 0)
		return err_set(e, -errno, "%s: %s", files, err_name(errno));
	l.dev = st.st_dev;
	r = tree_chain_walk(cs->t, on_chain, &l, e);
	if (r == 0) {
		sweep(cs, mounts, unmount_unknown);
		sweep(cs, files, remove_file);
	}
	return r;
}

static void find_out(struct chains *cs, const struct stack *st)
{
	uint64_t begun = io_now_ns();
	struct err e = {0};
	int r;

	if (cs->c->metadata == METADATA_FUSE) {
		log_info("metadata=fuse why=configured");
		return;
	}
	r = probe_merged(st, &e);
	cs->usable = r == 0;
	if (r == 0)
		log_info("metadata=erofs probe_us=%" PRIu64,
			 (io_now_ns() - begun) / 1000);
	else
		log_line(cs->c->metadata == METADATA_EROFS ? LOG_ERR_
							   : LOG_INFO_,
			 LOG_MOD, "metadata=fuse err=%s why=\"%s\"",
			 err_symbol(r), e.text);
}

int chains_open(struct chains **ret, const struct config *c,
		const struct stack *st, struct tree *t, struct err *e)
{
	struct chains *cs = calloc(1, sizeof(*cs));
	int r;

	if (cs == NULL)
		return err_no_memory(e);
	cs->c = c;
	cs->t = t;
	cs->files_fd = -1;
	list_init(&cs->all);
	(void)pthread_mutex_init(&cs->lock, NULL);
	cs->root = realpath(c->root, NULL);
	cs->pool = pool_new(CHAINS_AT_ONCE);
	r = cs->root != NULL && cs->pool != NULL ? load(cs, e)
						 : err_no_memory(e);
	if (r < 0) {
		chains_close(cs);
		return r;
	}
	find_out(cs, st);
	chains_collect(cs, true);
	*ret = cs;
	return 0;
}

void chains_close(struct chains *cs)
{
	if (cs == NULL)
		return;
	pool_free(cs->pool);
	while (!list_empty(&cs->all)) {
		struct merged *m =
			LIST_ENTRY(cs->all.next, struct merged, node);

		list_del(&m->node);
		merged_free(m);
	}
	(void)pthread_mutex_destroy(&cs->lock);
	if (cs->files_fd >= 0)
		(void)close(cs->files_fd);
	free(cs->root);
	free(cs);
}

int chains_wait(struct chains *cs, unsigned timeout_ms)
{
	return pool_wait(cs->pool, timeout_ms);
}
