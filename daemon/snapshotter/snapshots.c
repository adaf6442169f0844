/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/snapshots.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define LOG_MOD "snapshots"
#include "common/log.h"
#include "daemon/snapshotter/dirs.h"
#include "daemon/snapshotter/disk.h"
#include "daemon/snapshotter/filter.h"
#include "daemon/snapshotter/idmap.h"

/* All immutable. */
struct snapshots {
	const struct stack *st;
	struct tree *tree;
	struct layers *layers; /* NULL: everything is ordinary */
	struct chains *chains; /* NULL: one lower directory a layer */
	struct dirs *dirs;
};

static int64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * (int64_t)NSEC_PER_SEC + ts.tv_nsec;
}

/* What follows "extract-" in the key of a snapshot that is unpacked into,
 * "NAMESPACE/NUMBER/extract-ANYTHING CHAINID"; NULL: it is not. */
static const char *unpacking(const char *key)
{
	static const char mark[] = "/extract-";
	const char *at;

	if (strncmp(key, mark + 1, strlen(mark) - 1) == 0)
		return key + strlen(mark) - 1;
	at = strstr(key, mark);
	return at != NULL ? at + strlen(mark) : NULL;
}

/* Who unpacks takes lowerdir= apart; ids are mapped mount by mount. */
static bool may_merge(const struct snapshots *s, const char *key,
		      enum snap_kind kind, const struct labels *labels,
		      const struct chain *chain)
{
	return s->chains != NULL && chains_usable(s->chains) &&
	       unpacking(key) == NULL &&
	       labels_get(labels, LABEL_UIDMAPPING) == NULL &&
	       labels_get(labels, LABEL_GIDMAPPING) == NULL &&
	       stack_can_merge(s->st, kind, chain);
}

static bool has_native(const struct chain *chain)
{
	for (size_t i = 0; i < chain->n; i++) {
		if (chain->v[i].native)
			return true;
	}
	return false;
}

/* What a reply is about to name is there, and stays until named(). */
static int need(struct snapshots *s, const char *key, enum snap_kind kind,
		const struct labels *labels, struct chain *chain, struct err *e)
{
	bool merge = may_merge(s, key, kind, labels, chain);
	struct err why = {0};
	int r;

	if (s->layers == NULL)
		return 0;
	r = layers_need(s->layers, chain, merge, e);
	if (r < 0 || !merge || has_native(chain))
		return r;
	/* Why not, the log says when it is tried. */
	(void)chains_need(s->chains, chain, &why);
	return 0;
}

static void named(struct snapshots *s, const struct chain *chain)
{
	if (chain->merged > 0)
		chains_named(s->chains, chain);
	if (s->layers != NULL)
		layers_named(s->layers, chain);
}

/* The next to come will be a container on these, or one more ordinary layer. */
static void begin(struct snapshots *s, const struct chain *chain)
{
	if (s->chains != NULL && stack_can_merge(s->st, SNAP_ACTIVE, chain) &&
	    !layers_are_native(s->layers, chain))
		chains_begin(s->chains, chain);
}

/*** Prepare, View ***/

/* The parent and its ancestors; none where @parent is "". */
static int parent_chain(struct snapshots *s, const char *parent,
			struct chain *ret, struct err *e)
{
	CLEANUP_SNAP struct snap snap = {0};
	struct chain above = {0};
	struct chain_link *v;
	int r;

	if (parent[0] == '\0')
		return 0;
	r = tree_get(s->tree, parent, &snap, &above, e);
	if (r < 0)
		return r == -ENOENT
			       ? err_set(e, r, "parent %s: not found", parent)
			       : r;
	if (snap.kind != SNAP_COMMITTED) {
		chain_done(&above);
		return err_set(e, -EINVAL, "parent %s is not committed",
			       parent);
	}
	v = reallocarray(above.v, above.n + 1, sizeof(*v));
	if (v == NULL) {
		chain_done(&above);
		return err_no_memory(e);
	}
	memmove(v + 1, v, above.n * sizeof(*v));
	v[0] = (struct chain_link){.id = snap.id, .layer = snap.layer};
	*ret = (struct chain){.v = v, .n = above.n + 1};
	return 0;
}

/* An upper directory has the owner of what it covers, or the one that the
 * container's user namespace calls root. A lazy layer's root may have any owner,
 * that of the tar's "./"; containerd does not unpack that, so that above an
 * unpacked layer it is root's. */
static int owner_of(struct snapshots *s, const struct chain *chain,
		    const struct labels *labels, struct stat *ret,
		    struct err *e)
{
	CLEANUP_FREE char *path = NULL;
	int r;

	*ret = (struct stat){0};
	r = idmap_root(labels, &ret->st_uid, &ret->st_gid, e);
	if (r != 0 || chain->n == 0 || chain->v[0].layer > 0)
		return MIN(r, 0);
	path = stack_snapshot_path(s->st, chain->v[0].id, "/fs");
	if (path == NULL)
		return err_no_memory(e);
	if (stat(path, ret) < 0)
		return err_set(e, -errno, "parent: %s: %s", path,
			       err_name(errno));
	return 0;
}

/* The directory, then the row. */
static int make(struct snapshots *s, int64_t id, enum snap_kind kind,
		const char *key, const char *parent,
		const struct labels *labels, const struct stat *owner,
		const struct chain *chain, struct err *e)
{
	int r;

	r = dirs_make(s->dirs, id, kind == SNAP_ACTIVE, owner->st_uid,
		      owner->st_gid, e);
	if (r < 0)
		return r;
	r = tree_create(s->tree, id, kind, key, parent, labels, now_ns(), chain,
			e);
	if (r < 0)
		dirs_drop(s->dirs, id);
	return r;
}

static int prepare_above(struct snapshots *s, enum snap_kind kind,
			 const char *key, const char *parent,
			 const struct chain *chain, const struct labels *labels,
			 struct stack_mount *ret, struct err *e)
{
	struct stat owner;
	int64_t id;
	int r;

	r = owner_of(s, chain, labels, &owner, e);
	if (r < 0)
		return r;
	dirs_begin(s->dirs);
	id = tree_id_new(s->tree);
	r = make(s, id, kind, key, parent, labels, &owner, chain, e);
	dirs_end(s->dirs);
	return r < 0 ? r : stack_mount(s->st, kind, id, chain, ret, e);
}

static int prepare_ordinary(struct snapshots *s, enum snap_kind kind,
			    const char *key, const char *parent,
			    const struct labels *labels,
			    struct stack_mount *ret, struct err *e)
{
	CLEANUP_CHAIN struct chain chain = {0};
	int r;

	r = parent_chain(s, parent, &chain, e);
	if (r == 0 && unpacking(key) != NULL)
		begin(s, &chain);
	if (r == 0)
		r = need(s, key, kind, labels, &chain, e);
	if (r < 0)
		return r;
	r = prepare_above(s, kind, key, parent, &chain, labels, ret, e);
	named(s, &chain);
	return r;
}

static int target_exists(const char *target, struct err *e)
{
	return err_set(e, -EEXIST, "target snapshot \"%s\": already exists",
		       target);
}

/* Return: -EEXIST it is there now, else why not */
static int create_target(struct snapshots *s, const char *target,
			 const char *parent, const struct labels *labels,
			 const struct lazy *z, struct err *e)
{
	CLEANUP_LABELS struct labels own = {0};
	int64_t layer;
	int r;

	r = labels_copy(&own, labels);
	if (r == 0)
		r = labels_set(&own, LABEL_REMOTE, LABEL_REMOTE_VALUE);
	if (r < 0)
		return err_set(e, r, "labels: %s", err_name(r));
	layer = layers_mount(s->layers, z, e);
	/* That something else exists is no answer to who asked for this. */
	if (layer < 0)
		return layer == -EEXIST ? -EIO : (int)layer;
	r = tree_create_lazy(s->tree, target, parent, &own, layer, now_ns(), e);
	layers_release(s->layers, layer);
	/* Another one may have been faster. */
	return r == 0 || r == -EEXIST ? target_exists(target, e) : r;
}

/* Most images were not made for this. */
static void log_ordinary(const char *target, const struct labels *labels, int r,
			 const char *why)
{
	const char *image = labels_image(labels);

	log_line(r == -ENODATA ? LOG_INFO_ : LOG_WARN_, LOG_MOD,
		 "msg=\"not mounted lazily\" snapshot=%s image=%s err=%s "
		 "why=\"%s\"",
		 target, image != NULL ? image : "?", err_symbol(r), why);
}

/* The key of one that is unpacked into ends with the name that it is to get. */
static void log_unnamed(const char *key, const struct labels *labels)
{
	const char *at = unpacking(key);
	const char *space = at != NULL ? strchr(at, ' ') : NULL;

	if (space != NULL)
		log_ordinary(space + 1, labels, -ENODATA,
			     "containerd does not ask for it "
			     "(no label " LABEL_REF ")");
}

/* Behind the topmost layer of an image comes a container. */
static void begin_topmost(struct snapshots *s, const char *target,
			  const struct lazy *z)
{
	CLEANUP_CHAIN struct chain chain = {0};
	struct err e = {0};

	if (z->others != NULL && z->n_others == 0 &&
	    parent_chain(s, target, &chain, &e) == 0)
		begin(s, &chain);
}

/* Return: 0 it has to be an ordinary one; -EEXIST the target is there; -errno
 * neither can be */
static int prepare_lazy(struct snapshots *s, const char *key,
			const char *parent, const struct labels *labels,
			struct err *e)
{
	const char *target = labels_get(labels, LABEL_REF);
	CLEANUP_LAZY struct lazy z = {0};
	CLEANUP_SNAP struct snap there = {0};
	CLEANUP_CHAIN struct chain chain = {0};
	int r;

	if (s->layers == NULL)
		return 0;
	if (target == NULL) {
		log_unnamed(key, labels);
		return 0;
	}
	r = tree_get(s->tree, target, &there, NULL, e);
	if (r == 0)
		return target_exists(target, e);
	if (r != -ENOENT)
		return r;
	r = parent_chain(s, parent, &chain, e);
	if (r < 0)
		return r;
	r = labels_lazy(labels, &z, e);
	if (r > 0)
		r = create_target(s, target, parent, labels, &z, e);
	else if (r == 0)
		r = err_set(e, -ENODATA,
			    "containerd does not say of which image it is");
	if (r == -EEXIST) {
		begin_topmost(s, target, &z);
		return r;
	}
	log_ordinary(target, labels, r, e->text);
	return 0;
}

int snapshots_prepare(struct snapshots *s, enum snap_kind kind, const char *key,
		      const char *parent, const struct labels *labels,
		      struct stack_mount *ret, struct err *e)
{
	struct err own = {0};
	int r = 0;

	if (kind == SNAP_ACTIVE)
		r = prepare_lazy(s, key, parent, labels, &own);
	if (r < 0)
		return err_set(e, r, "%s", own.text);
	return prepare_ordinary(s, kind, key, parent, labels, ret, e);
}

/*** The others ***/

int snapshots_mounts(struct snapshots *s, const char *key,
		     struct stack_mount *ret, struct err *e)
{
	CLEANUP_SNAP struct snap snap = {0};
	CLEANUP_CHAIN struct chain chain = {0};
	int r;

	r = tree_get(s->tree, key, &snap, &chain, e);
	if (r < 0)
		return r;
	if (snap.kind == SNAP_COMMITTED)
		return err_set(e, -EBUSY, "snapshot %s is not active or a view",
			       key);
	r = need(s, key, snap.kind, &snap.labels, &chain, e);
	if (r < 0)
		return r;
	r = tree_name(s->tree, snap.id, &chain, e);
	named(s, &chain);
	return r < 0 ? r
		     : stack_mount(s->st, snap.kind, snap.id, &chain, ret, e);
}

static int usage_of(struct snapshots *s, int64_t id, uint64_t *ret_bytes,
		    uint64_t *ret_inodes, struct err *e)
{
	CLEANUP_FREE char *path = stack_snapshot_path(s->st, id, "/fs");
	int r = path != NULL ? disk_usage(path, ret_bytes, ret_inodes)
			     : -ENOMEM;

	return r < 0 ? err_set(e, r, "usage: %s", err_name(r)) : 0;
}

int snapshots_commit(struct snapshots *s, const char *key, const char *name,
		     const struct labels *labels, struct err *e)
{
	CLEANUP_SNAP struct snap snap = {0};
	uint64_t bytes = 0, inodes = 0;
	int r;

	r = tree_get(s->tree, key, &snap, NULL, e);
	if (r == 0 && snap.kind == SNAP_ACTIVE) {
		r = usage_of(s, snap.id, &bytes, &inodes, e);
		/* The row that will be durable is of a directory that is. */
		if (r == 0)
			r = dirs_sync(s->dirs, e);
	}
	if (r == 0)
		r = tree_commit(s->tree, key, name, labels, bytes, inodes,
				now_ns(), e);
	if (r == 0 && s->layers != NULL)
		layers_forgotten(s->layers);
	return r;
}

int snapshots_remove(struct snapshots *s, const char *key, struct err *e)
{
	CLEANUP_SNAP struct snap snap = {0};
	int r;

	r = tree_remove(s->tree, key, &snap, e);
	if (r < 0)
		return r;
	if (snap.layer == 0)
		dirs_drop(s->dirs, snap.id);
	if (s->layers == NULL)
		return 0;
	if (snap.layer > 0)
		layers_collect(s->layers);
	else
		layers_forgotten(s->layers);
	if (s->chains != NULL)
		chains_collect(s->chains, snap.layer > 0);
	return 0;
}

int snapshots_stat(struct snapshots *s, const char *key, struct snap *ret,
		   struct err *e)
{
	return tree_get(s->tree, key, ret, NULL, e);
}

int snapshots_update(struct snapshots *s, const char *key,
		     const struct labels *labels, const char *const *paths,
		     size_t n_paths, struct snap *ret, struct err *e)
{
	return tree_update(s->tree, key, labels, paths, n_paths, now_ns(), ret,
			   e);
}

struct listing {
	const struct filter *filter;
	int (*fn)(void *arg, const struct snap *s);
	void *arg;
};

static int list_one(void *arg, const struct snap *s)
{
	const struct listing *l = arg;

	return filter_match(l->filter, s) ? l->fn(l->arg, s) : 0;
}

int snapshots_list(struct snapshots *s, const char *const *filters, size_t n,
		   int (*fn)(void *arg, const struct snap *s), void *arg,
		   struct err *e)
{
	struct filter *f;
	int r;

	r = filter_parse(&f, filters, n, e);
	if (r < 0)
		return r;
	r = tree_walk(s->tree, list_one,
		      &(struct listing){.filter = f, .fn = fn, .arg = arg}, e);
	filter_free(f);
	return r;
}

/* The bytes of a layer that several snapshots share count once. */
static int usage_lazy(struct snapshots *s, const struct snap *snap,
		      uint64_t *ret_bytes, uint64_t *ret_inodes, struct err *e)
{
	int r = tree_layer_first(s->tree, snap);

	if (r > 0 && s->layers != NULL)
		r = layers_usage(s->layers, snap->layer, ret_bytes, ret_inodes);
	/* Its cache may not be there yet. */
	if (r == -ENOENT)
		r = 0;
	return r < 0 ? err_set(e, r, "usage: %s", err_name(r)) : 0;
}

int snapshots_usage(struct snapshots *s, const char *key, uint64_t *ret_bytes,
		    uint64_t *ret_inodes, struct err *e)
{
	CLEANUP_SNAP struct snap snap = {0};
	int r;

	r = tree_get(s->tree, key, &snap, NULL, e);
	if (r < 0)
		return r;
	*ret_bytes = snap.bytes;
	*ret_inodes = snap.inodes;
	if (snap.layer > 0)
		return usage_lazy(s, &snap, ret_bytes, ret_inodes, e);
	if (snap.kind == SNAP_ACTIVE)
		return usage_of(s, snap.id, ret_bytes, ret_inodes, e);
	return 0;
}

int snapshots_cleanup(struct snapshots *s, struct err *e)
{
	if (s->layers != NULL)
		layers_collect(s->layers);
	if (s->chains != NULL)
		chains_collect(s->chains, true);
	return dirs_collect(s->dirs, e);
}

/*** Opening ***/

/* A power cut may have taken the directory of a new snapshot, and with it what was in it,
 * while its row was synced with another's. It is empty then. */
static int make_missing(void *arg, const struct snap *snap)
{
	struct snapshots *s = arg;
	CLEANUP_CHAIN struct chain chain = {0};
	struct stat owner = {0};
	struct err e = {0};
	int r;

	if (snap->layer > 0 ||
	    dirs_has(s->dirs, snap->id, snap->kind == SNAP_ACTIVE))
		return 0;
	if (snap->kind == SNAP_COMMITTED) {
		log_err("msg=\"a committed snapshot has no files\" "
			"snapshot=%s id=%" PRId64,
			snap->name, snap->id);
		return 0;
	}
	r = parent_chain(s, snap->parent, &chain, &e);
	/* A layer below may not be mounted yet; most belong to root. */
	if (r == 0)
		(void)owner_of(s, &chain, &snap->labels, &owner, NULL);
	if (r == 0)
		r = dirs_mend(s->dirs, snap->id, snap->kind == SNAP_ACTIVE,
			      owner.st_uid, owner.st_gid, &e);
	log_warn("msg=\"a snapshot had no directory, as after a power cut\" "
		 "snapshot=%s id=%" PRId64 " made=\"%s\"",
		 snap->name, snap->id, r < 0 ? e.text : "empty");
	return 0;
}

int snapshots_open(struct snapshots **ret, const struct stack *st,
		   struct tree *t, struct layers *ls, struct chains *cs,
		   struct err *e)
{
	struct snapshots *s;
	int r;

	/* What separates the options of a mount cannot be in them. */
	if (st->root[0] != '/' || strpbrk(st->root, ":,\\") != NULL)
		return err_set(e, -EINVAL,
			       "root %s: must be absolute, without \":\", "
			       "\",\" and \"\\\"",
			       st->root);
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return err_no_memory(e);
	s->st = st;
	s->tree = t;
	s->layers = ls;
	s->chains = cs;
	r = dirs_open(&s->dirs, st->root, t, e);
	if (r == 0)
		r = tree_walk(t, make_missing, s, e);
	if (r < 0) {
		snapshots_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void snapshots_close(struct snapshots *s)
{
	if (s == NULL)
		return;
	dirs_close(s->dirs);
	free(s);
}
