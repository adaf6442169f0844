/* SPDX-License-Identifier: Apache-2.0 */
/* The tree's tables of what replies have named, and of merged metadata. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/io.h"
#include "daemon/snapshotter/tree_impl.h"

#define BOOT_ID_BYTES 16

static int insert(struct tree *t, int64_t id, enum named kind, int64_t object,
		  struct err *e)
{
	DB_STMT *st = db_stmt(&t->db, NAMED_INSERT);

	db_bind_int(st, 1, id);
	db_bind_int(st, 2, kind);
	db_bind_int(st, 3, object);
	return db_step(&t->db, st, e);
}

int tree_name_locked(struct tree *t, int64_t id, const struct chain *chain,
		     struct err *e)
{
	int r = 0;

	if (chain->merged > 0)
		r = insert(t, id, NAMED_CHAIN, chain->merged, e);
	for (size_t i = 0; i < chain->n && r == 0; i++) {
		const struct chain_link *l = &chain->v[i];

		if (l->layer > 0)
			r = insert(t, id,
				   l->native && chain->merged == 0
					   ? NAMED_NATIVE
					   : NAMED_FUSE,
				   l->layer, e);
	}
	return r;
}

static int has_snapshot(struct tree *t, int64_t id, struct err *e)
{
	DB_STMT *st = db_stmt(&t->db, SNAP_HAS_ID);
	int r;

	db_bind_int(st, 1, id);
	r = db_step(&t->db, st, e);
	return r == 0 ? err_set(e, -ENOENT, "snapshot %" PRId64 ": not found",
				id)
		      : MIN(r, 0);
}

int tree_name(struct tree *t, int64_t id, const struct chain *chain,
	      struct err *e)
{
	LOCKED(t);
	int r = db_begin(&t->db, e);

	if (r < 0)
		return r;
	r = has_snapshot(t, id, e);
	if (r == 0)
		r = tree_name_locked(t, id, chain, e);
	return db_end(&t->db, r, e);
}

int tree_forget_locked(struct tree *t, int64_t id, struct err *e)
{
	DB_STMT *st = db_stmt(&t->db, NAMED_FORGET);

	db_bind_int(st, 1, id);
	return db_step(&t->db, st, e);
}

int64_t tree_named(struct tree *t, enum named kind, int64_t object)
{
	LOCKED(t);
	DB_STMT *st = db_stmt(&t->db, NAMED_COUNT);
	int r;

	db_bind_int(st, 1, kind);
	db_bind_int(st, 2, object);
	r = db_step(&t->db, st, NULL);
	return r > 0 ? sqlite3_column_int64(st, 0) : r;
}

/*** Merged metadata ***/

static int64_t find_chain(struct tree *t, const struct digest *key,
			  struct err *e)
{
	DB_STMT *st = db_stmt(&t->db, CHAIN_FIND);
	int r;

	db_bind_blob(st, 1, key->b, DIGEST_BYTES);
	r = db_step(&t->db, st, e);
	return r > 0 ? sqlite3_column_int64(st, 0) : r;
}

int64_t tree_chain_put(struct tree *t, const struct digest *key, struct err *e)
{
	LOCKED(t);
	int64_t id = find_chain(t, key, e);

	if (id == 0) {
		DB_STMT *st = db_stmt(&t->db, CHAIN_INSERT);

		db_bind_blob(st, 1, key->b, DIGEST_BYTES);
		id = db_step(&t->db, st, e);
		if (id == 0)
			id = sqlite3_last_insert_rowid(t->db.h);
	}
	return id;
}

int64_t tree_chain_get(struct tree *t, const struct digest *key)
{
	LOCKED(t);
	int64_t id = find_chain(t, key, NULL);

	return id == 0 ? -ENOENT : id;
}

struct chain_row {
	int64_t id;
	struct digest key;
};

static int chain_page(struct tree *t, int64_t after, struct chain_row *v,
		      size_t *ret_n, struct err *e)
{
	LOCKED(t);
	DB_STMT *st = db_stmt(&t->db, CHAIN_PAGE);
	size_t n = 0;
	int r;

	db_bind_int(st, 1, after);
	db_bind_int(st, 2, PAGE_ROWS);
	while ((r = db_step(&t->db, st, e)) > 0) {
		assert(n < PAGE_ROWS);
		v[n].id = sqlite3_column_int64(st, 0);
		r = db_column_digest(st, 1, &v[n].key);
		if (r < 0)
			return err_set(e, r, "snapshots.db: a chain: %s",
				       err_name(r));
		n++;
	}
	*ret_n = n;
	return r;
}

int tree_chain_walk(struct tree *t,
		    int (*fn)(void *arg, int64_t id, const struct digest *key),
		    void *arg, struct err *e)
{
	struct chain_row v[PAGE_ROWS];
	int64_t after = 0;
	size_t n = 0;
	int r;

	do {
		r = chain_page(t, after, v, &n, e);
		for (size_t i = 0; i < n && r >= 0; i++) {
			after = v[i].id;
			r = fn(arg, v[i].id, &v[i].key);
		}
	} while (r >= 0 && n == PAGE_ROWS);
	return MIN(r, 0);
}

int tree_chain_drop(struct tree *t, const struct digest *key)
{
	LOCKED(t);
	DB_STMT *st = db_stmt(&t->db, CHAIN_DELETE);
	int r;

	db_bind_blob(st, 1, key->b, DIGEST_BYTES);
	db_bind_int(st, 2, NAMED_CHAIN);
	r = db_step(&t->db, st, NULL);
	return r == 0 ? sqlite3_changes(t->db.h) : r;
}

/*** Boots ***/

/* Return: 1; 0 another one, or none, *ret_any says which; -errno */
static int is_boot(struct tree *t, const uint8_t id[BOOT_ID_BYTES],
		   bool *ret_any, struct err *e)
{
	DB_STMT *st = db_stmt(&t->db, BOOT_GET);
	int r = db_step(&t->db, st, e);

	*ret_any = r > 0;
	if (r <= 0)
		return r;
	return sqlite3_column_bytes(st, 0) == BOOT_ID_BYTES &&
	       memcmp(sqlite3_column_blob(st, 0), id, BOOT_ID_BYTES) == 0;
}

static int run(struct tree *t, size_t at, struct err *e)
{
	DB_STMT *st = db_stmt(&t->db, at);

	return db_step(&t->db, st, e);
}

static int set_boot(struct tree *t, const uint8_t id[BOOT_ID_BYTES],
		    bool another, struct err *e)
{
	DB_STMT *st = db_stmt(&t->db, BOOT_INSERT);
	int r = another ? run(t, BOOT_CLEAR, e) : 0;

	if (r == 0)
		r = run(t, BOOT_DELETE, e);
	if (r < 0)
		return r;
	db_bind_blob(st, 1, id, BOOT_ID_BYTES);
	return db_step(&t->db, st, e);
}

int tree_boot(struct tree *t, struct err *e)
{
	uint8_t id[BOOT_ID_BYTES];
	bool any;
	int r;

	io_boot_id(id);
	r = is_boot(t, id, &any, e);
	if (r != 0)
		return MIN(r, 0);
	r = db_begin(&t->db, e);
	return r < 0 ? r : db_end(&t->db, set_boot(t, id, any, e), e);
}
