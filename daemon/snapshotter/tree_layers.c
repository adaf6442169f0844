/* SPDX-License-Identifier: Apache-2.0 */
/* The tree's other table: layers that are mounted lazily. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "daemon/snapshotter/tree_impl.h"

void layer_row_done(struct layer_row *l)
{
	free(l->reference);
	free(l->repository);
	*l = (struct layer_row){0};
}

int layer_row_copy(const struct layer_row *from, struct layer_row *ret)
{
	*ret = *from;
	ret->reference = strdup(from->reference);
	ret->repository = strdup(from->repository);
	if (ret->reference == NULL || ret->repository == NULL) {
		layer_row_done(ret);
		return -ENOMEM;
	}
	return 0;
}

static int column_layer(sqlite3_stmt *st, struct layer_row *ret, struct err *e)
{
	struct layer_row l = {
		.id = sqlite3_column_int64(st, 0),
		.opaque_user = sqlite3_column_int(st, 5) != 0,
		.n_snapshots = (uint64_t)sqlite3_column_int64(st, 6),
	};
	int r;

	r = db_column_str(st, 1, &l.reference);
	if (r == 0)
		r = db_column_str(st, 2, &l.repository);
	if (r == 0)
		r = db_column_digest(st, 3, &l.blob);
	if (r == 0)
		r = db_column_digest(st, 4, &l.toc);
	if (r < 0) {
		layer_row_done(&l);
		return err_set(e, r, "snapshots.db: a layer: %s", err_name(r));
	}
	*ret = l;
	return 0;
}

static void bind_layer(sqlite3_stmt *st, const struct layer_row *l)
{
	db_bind_blob(st, 1, l->toc.b, DIGEST_BYTES);
	db_bind_blob(st, 2, l->blob.b, DIGEST_BYTES);
	db_bind_int(st, 3, l->opaque_user ? 1 : 0);
}

static int64_t find_layer(struct tree *t, const struct layer_row *l,
			  struct err *e)
{
	DB_STMT *st = db_stmt(&t->db, LAYER_FIND);
	int r;

	bind_layer(st, l);
	r = db_step(&t->db, st, e);
	return r > 0 ? sqlite3_column_int64(st, 0) : r;
}

int64_t tree_layer_put(struct tree *t, const struct layer_row *l, struct err *e)
{
	LOCKED(t);
	int64_t id;

	id = find_layer(t, l, e);
	if (id == 0) {
		DB_STMT *st = db_stmt(&t->db, LAYER_INSERT);

		bind_layer(st, l);
		db_bind_str(st, 4, l->reference);
		db_bind_str(st, 5, l->repository);
		id = db_step(&t->db, st, e);
		if (id == 0)
			id = sqlite3_last_insert_rowid(t->db.h);
	}
	return id;
}

int tree_layer_rename(struct tree *t, const struct layer_row *l)
{
	LOCKED(t);
	DB_STMT *st = db_stmt(&t->db, LAYER_RENAME);

	db_bind_int(st, 1, l->id);
	db_bind_str(st, 2, l->reference);
	db_bind_str(st, 3, l->repository);
	return db_step(&t->db, st, NULL);
}

int tree_layer_get(struct tree *t, int64_t id, struct layer_row *ret,
		   struct err *e)
{
	LOCKED(t);
	DB_STMT *st = db_stmt(&t->db, LAYER_GET);
	int r;

	db_bind_int(st, 1, id);
	r = db_step(&t->db, st, e);
	if (r > 0)
		r = column_layer(st, ret, e);
	else if (r == 0)
		r = err_set(e, -ENOENT, "layer %" PRId64 ": not found", id);
	return r;
}

static int layer_page(struct tree *t, int64_t after, struct layer_row *v,
		      size_t *ret_n, struct err *e)
{
	LOCKED(t);
	DB_STMT *st = db_stmt(&t->db, LAYER_PAGE);
	size_t n = 0;
	int r;

	db_bind_int(st, 1, after);
	db_bind_int(st, 2, PAGE_ROWS);
	while ((r = db_step(&t->db, st, e)) > 0) {
		assert(n < PAGE_ROWS);
		r = column_layer(st, &v[n], e);
		if (r < 0)
			break;
		n++;
	}
	*ret_n = n;
	return r;
}

int tree_layer_walk(struct tree *t,
		    int (*fn)(void *arg, const struct layer_row *l), void *arg,
		    struct err *e)
{
	struct layer_row v[PAGE_ROWS];
	int64_t after = 0;
	size_t n;
	int r;

	do {
		r = layer_page(t, after, v, &n, e);
		for (size_t i = 0; i < n; i++) {
			after = v[i].id;
			if (r >= 0)
				r = fn(arg, &v[i]);
			layer_row_done(&v[i]);
		}
	} while (r >= 0 && n == PAGE_ROWS);
	return r < 0 ? r : 0;
}

int tree_layer_drop(struct tree *t, int64_t id)
{
	LOCKED(t);
	DB_STMT *st = db_stmt(&t->db, LAYER_DELETE);
	int r;

	db_bind_int(st, 1, id);
	r = db_step(&t->db, st, NULL);
	if (r == 0)
		r = sqlite3_changes(t->db.h);
	return r;
}

int tree_layer_has(struct tree *t, const struct digest *toc, bool opaque_user)
{
	LOCKED(t);
	DB_STMT *st = db_stmt(&t->db, LAYER_HAS);
	int r;

	db_bind_blob(st, 1, toc->b, DIGEST_BYTES);
	db_bind_int(st, 2, opaque_user ? 1 : 0);
	r = db_step(&t->db, st, NULL);
	return r;
}

int tree_layer_first(struct tree *t, const struct snap *s)
{
	LOCKED(t);
	DB_STMT *st = db_stmt(&t->db, LAYER_OLDEST);
	int r;

	db_bind_int(st, 1, s->layer);
	r = db_step(&t->db, st, NULL);
	if (r > 0)
		r = sqlite3_column_int64(st, 0) == s->id;
	return r;
}
