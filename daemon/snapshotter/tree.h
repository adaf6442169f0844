/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the tree of snapshots, in SQLite (WAL).
 *
 * Every function is one transaction, takes the tree's own lock and never
 * waits for anything but the disk. What makes a committed snapshot is durable
 * when the function returns: the log is synced, after the lock is given back; the rest (active
 * snapshots, removals) survives a crash of the process, and a power cut but for
 * the last moments. The file is locked as long as it is open, because two snapshotters
 * over one tree would take away each other's directories.
 *
 * A snapshot is ordinary (its files are in ROOT/snapshots/<id>/fs) or lazy
 * (layer > 0: its files are the mount ROOT/m/<layer>, see layers.h). Lazy ones
 * are always committed.
 *
 * What a reply has named (the mounts that its overlayfs is to be made of) is
 * noted before the reply goes out, and forgotten with the snapshot that it was
 * about, when that is committed, and by a reboot. Until then it stays.
 */
#ifndef SNAPSHOTTER_TREE_H
#define SNAPSHOTTER_TREE_H

#include "common/base.h"
#include "common/err.h"
#include "daemon/snapshotter/labels.h"

#define TREE_KEY_MAX 1024u /* bytes of a key or name */
#define TREE_DEPTH_MAX 512u

/* The values are those on the wire. */
enum snap_kind {
	SNAP_VIEW = 1,
	SNAP_ACTIVE = 2,
	SNAP_COMMITTED = 3,
};

/**
 * struct snap - one row
 * @parent:	its key, "" where there is none
 * @created_ns, @updated_ns: CLOCK_REALTIME
 * @bytes, @inodes: as given at commit
 * @layer:	of struct layer_row; 0: ordinary
 */
struct snap {
	int64_t id;
	char *name;
	char *parent;
	enum snap_kind kind;
	int64_t created_ns;
	int64_t updated_ns;
	struct labels labels;
	uint64_t bytes;
	uint64_t inodes;
	int64_t layer;
};

#define CLEANUP_SNAP CLEANUP(snap_done)
void snap_done(struct snap *s);

/* A snapshot as the stack sees it. @native: its layer is mounted by the kernel's
 * EROFS, which is to be named instead of the FUSE mount; who asks the tree gets
 * false. */
struct chain_link {
	int64_t id;
	int64_t layer;
	bool native;
};

/* Ancestors, the nearest first. @merged: id of the chain's merged metadata, with
 * the FUSE mounts of all lazy layers as its data; 0: none, as the tree has it. */
struct chain {
	struct chain_link *v;
	size_t n;
	int64_t merged;
};

#define CLEANUP_CHAIN CLEANUP(chain_done)
void chain_done(struct chain *c);
/* Whether the link is of a layer that was listed further up. */
bool chain_repeats(const struct chain *c, size_t at);

/* A layer that is or was mounted: everything that is needed to mount it again,
 * the same for all snapshots of it. */
struct layer_row {
	int64_t id;
	char *reference;
	char *repository;
	struct digest blob;
	struct digest toc;
	bool opaque_user;
	uint64_t n_snapshots;
};

void layer_row_done(struct layer_row *l);
/* Return: 0, -ENOMEM */
int layer_row_copy(const struct layer_row *from, struct layer_row *ret);

struct tree;

/**
 * tree_open() - ROOT/snapshots.db, made where it is not there
 *
 * Return: 0; -EBADMSG where the file is no such database, or its schema is of a
 * later version (it is left alone); -EBUSY another process has it open; -errno,
 * all with @e
 */
int tree_open(struct tree **ret, const char *path, struct err *e);
void tree_close(struct tree *t);

/* Removals and whatever else was done are durable too. Return: 0, -errno */
int tree_sync(struct tree *t, struct err *e);

/* An id that no snapshot had before. The directory of that name is made first
 * and the row then, so that no row is ever without its directory. */
int64_t tree_id_new(struct tree *t);
/* Ids up to this one are not given: a directory has that name. */
void tree_id_skip(struct tree *t, int64_t id);

/**
 * tree_create() - a new active snapshot or view
 * @id:		from tree_id_new()
 * @parent:	"" or the key of a committed one
 * @chain:	@parent and its ancestors, as the reply will name them; NULL:
 *		nothing will be named
 *
 * Return: 0; -EEXIST; -ENOENT no such parent; -EINVAL parent is not
 * committed, key is empty or too long; -EOVERFLOW too many ancestors;
 * -EAGAIN @chain is of another @parent, which is gone; -errno, all with @e
 */
int tree_create(struct tree *t, int64_t id, enum snap_kind kind,
		const char *key, const char *parent,
		const struct labels *labels, int64_t now_ns,
		const struct chain *chain, struct err *e);

/* A lazy layer becomes a committed snapshot at once. Errors as tree_create(). */
int tree_create_lazy(struct tree *t, const char *name, const char *parent,
		     const struct labels *labels, int64_t layer, int64_t now_ns,
		     struct err *e);

/* Active @key becomes committed @name, with these labels instead of those it had.
 * Return: 0; -EEXIST name; -ENOENT; -EBUSY not active; -EINVAL name */
int tree_commit(struct tree *t, const char *key, const char *name,
		const struct labels *labels, uint64_t bytes, uint64_t inodes,
		int64_t now_ns, struct err *e);

/* Return: 0; -ENOENT; -EBUSY it has children */
int tree_remove(struct tree *t, const char *key, struct snap *ret,
		struct err *e);

/* @ret_chain: may be NULL. Return: 0, -ENOENT */
int tree_get(struct tree *t, const char *key, struct snap *ret,
	     struct chain *ret_chain, struct err *e);

/**
 * tree_update() - what containerd allows to be changed: labels
 * @paths:	[@n_paths] field mask, "labels" or "labels.<key>"; none: all
 *		labels are replaced
 *
 * Return: 0 and the snapshot as it is now; -ENOENT; -EINVAL another path
 */
int tree_update(struct tree *t, const char *key, const struct labels *labels,
		const char *const *paths, size_t n_paths, int64_t now_ns,
		struct snap *ret, struct err *e);

/* Calls @fn for every snapshot, ordered by name, with no lock held; what comes
 * or goes meanwhile may or may not be seen. @fn < 0 ends it.
 * Return: 0, what @fn returned, -errno */
int tree_walk(struct tree *t, int (*fn)(void *arg, const struct snap *s),
	      void *arg, struct err *e);

/* Whether an id is of a snapshot. Return: 1, 0, -errno */
int tree_has_id(struct tree *t, int64_t id);

/**
 * tree_layer_put() - the row of a layer, a new one where there is none
 *
 * Layers are one where blob, toc and opaque_user are equal; the reference of
 * the first stays. Return: its id (> 0), -errno with @e
 */
int64_t tree_layer_put(struct tree *t, const struct layer_row *l,
		       struct err *e);
/* Another reference and repository of the layer @l->id. Return: 0, -errno */
int tree_layer_rename(struct tree *t, const struct layer_row *l);
/* Return: 0, -ENOENT */
int tree_layer_get(struct tree *t, int64_t id, struct layer_row *ret,
		   struct err *e);
/* Calls @fn for every row with no lock held. */
int tree_layer_walk(struct tree *t,
		    int (*fn)(void *arg, const struct layer_row *l), void *arg,
		    struct err *e);
/* Removes the row if no snapshot is of it. Return: 1 removed, 0 in use */
int tree_layer_drop(struct tree *t, int64_t id);
/* Whether there is a row of that TOC, from whatever blob. Return: 1, 0, -errno */
int tree_layer_has(struct tree *t, const struct digest *toc, bool opaque_user);
/* Whether this is the oldest snapshot of its layer: the one that accounts for
 * its bytes. Return: 1, 0, -errno */
int tree_layer_first(struct tree *t, const struct snap *s);

/* What replies name; the values are those of the file. */
enum named {
	NAMED_FUSE = 1,   /* the FUSE mount of a layer, by its id */
	NAMED_NATIVE = 2, /* the kernel's mount of a layer, by its id */
	NAMED_CHAIN = 3,  /* merged metadata, by its id */
};

/* Another reply about the snapshot @id will name @chain, beside what those before
 * it have named. Return: 0, -ENOENT it is gone, -errno with @e */
int tree_name(struct tree *t, int64_t id, const struct chain *chain,
	      struct err *e);
/* How many snapshots have replies that name it. Return: >= 0, -errno */
int64_t tree_named(struct tree *t, enum named kind, int64_t object);

/**
 * tree_chain_put() - the row of a chain's merged metadata, a new one where there
 * is none
 *
 * Return: its id (> 0), never given before; -errno with @e
 */
int64_t tree_chain_put(struct tree *t, const struct digest *key, struct err *e);
/* Return: its id, -ENOENT, -errno */
int64_t tree_chain_get(struct tree *t, const struct digest *key);
/* Calls @fn for every row with no lock held. @fn < 0 ends it. */
int tree_chain_walk(struct tree *t,
		    int (*fn)(void *arg, int64_t id, const struct digest *key),
		    void *arg, struct err *e);
/* Removes the row unless a reply names it. Return: 1 removed, 0 in use, or there
 * is none */
int tree_chain_drop(struct tree *t, const struct digest *key);

#endif
