/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/tree.h"

#include <errno.h>
#include <string.h>

#include "common/buf.h"
#include "daemon/snapshotter/tree_impl.h"

#define APPLICATION_ID 0x65737a67 /* "eszg" */
#define LABELS_BYTES_MAX MIB(8)

/* Labels are only ever looked at in C: key NUL value NUL, sorted. */
static const char version_1[] =
	"BEGIN EXCLUSIVE;"
	"CREATE TABLE layers ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" blob BLOB NOT NULL, toc BLOB NOT NULL, opaque_user INTEGER NOT NULL,"
	" reference TEXT NOT NULL, repository TEXT NOT NULL,"
	" UNIQUE (toc, blob, opaque_user)) STRICT;"
	"CREATE TABLE snapshots ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" name TEXT NOT NULL UNIQUE,"
	" parent INTEGER REFERENCES snapshots (id),"
	" layer INTEGER REFERENCES layers (id),"
	" kind INTEGER NOT NULL, created INTEGER NOT NULL,"
	" updated INTEGER NOT NULL, bytes INTEGER NOT NULL,"
	" inodes INTEGER NOT NULL, labels BLOB NOT NULL) STRICT;"
	"CREATE INDEX snapshots_parent ON snapshots (parent);"
	"CREATE INDEX snapshots_layer ON snapshots (layer)"
	" WHERE layer IS NOT NULL;"
	"PRAGMA application_id = 1702066791;"
	"PRAGMA user_version = 1;"
	"COMMIT";
static_assert(APPLICATION_ID == 1702066791, "the schema says so");

/* Replies of version 1 have named the FUSE mounts of all lazy ancestors. */
static const char version_2[] =
	"BEGIN EXCLUSIVE;"
	"CREATE TABLE named ("
	" snapshot INTEGER NOT NULL REFERENCES snapshots (id)"
	"  ON DELETE CASCADE,"
	" kind INTEGER NOT NULL, object INTEGER NOT NULL,"
	" PRIMARY KEY (snapshot, kind, object)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX named_object ON named (kind, object);"
	"CREATE TABLE chains ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" key BLOB NOT NULL UNIQUE) STRICT;"
	"CREATE TABLE boot (id BLOB NOT NULL) STRICT;"
	"INSERT INTO named WITH RECURSIVE up (snapshot, parent, layer) AS ("
	" SELECT id, parent, layer FROM snapshots WHERE kind <> 3"
	" UNION ALL SELECT up.snapshot, s.parent, s.layer"
	" FROM up JOIN snapshots s ON s.id = up.parent)"
	" SELECT DISTINCT snapshot, 1, layer FROM up WHERE layer IS NOT NULL;"
	"PRAGMA user_version = 2;"
	"COMMIT";
static_assert(SNAP_COMMITTED == 3 && NAMED_FUSE == 1, "the schema says so");

static const char *const steps[] = {version_1, version_2};

#define SNAP_COLUMNS                                                  \
	"SELECT s.id, s.name, p.name, s.kind, s.created, s.updated, " \
	"s.bytes, s.inodes, s.layer, s.labels "                       \
	"FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent "
#define LAYER_COLUMNS                                                \
	"SELECT id, reference, repository, blob, toc, opaque_user, " \
	"(SELECT count(*) FROM snapshots WHERE layer = layers.id) "  \
	"FROM layers "

static const char *const sql[STMTS] = {
	[DB_BEGIN] = "BEGIN IMMEDIATE",
	[DB_COMMIT] = "COMMIT",
	[DB_ROLLBACK] = "ROLLBACK",
	[SNAP_FIND] = "SELECT id, kind FROM snapshots WHERE name = ?1",
	[SNAP_GET] = SNAP_COLUMNS "WHERE s.name = ?1",
	[SNAP_PAGE] = SNAP_COLUMNS "WHERE s.name > ?1 ORDER BY s.name LIMIT ?2",
	[SNAP_CHAIN] =
		"WITH RECURSIVE up (id, parent, layer, n) AS ("
		"SELECT id, parent, layer, 1 FROM snapshots WHERE id = ?1 "
		"UNION ALL SELECT s.id, s.parent, s.layer, n + 1 "
		"FROM up JOIN snapshots s ON s.id = up.parent WHERE n <= ?2) "
		"SELECT id, layer FROM up ORDER BY n",
	[SNAP_CHILD] = "SELECT 1 FROM snapshots WHERE parent = ?1 LIMIT 1",
	[SNAP_INSERT] = "INSERT INTO snapshots (id, name, parent, kind, "
			"created, updated, bytes, inodes, layer, labels) "
			"VALUES (?1, ?2, ?3, ?4, ?5, ?5, 0, 0, ?6, ?7)",
	[SNAP_COMMIT] = "UPDATE snapshots SET name = ?2, kind = ?3, "
			"created = ?4, updated = ?4, bytes = ?5, inodes = ?6, "
			"labels = ?7 WHERE id = ?1",
	[SNAP_UPDATE] = "UPDATE snapshots SET updated = ?2, labels = ?3 "
			"WHERE id = ?1",
	[SNAP_DELETE] = "DELETE FROM snapshots WHERE id = ?1",
	[SNAP_HAS_ID] = "SELECT 1 FROM snapshots WHERE id = ?1",
	[SNAP_LAST_ID] = "SELECT seq FROM sqlite_sequence "
			 "WHERE name = 'snapshots'",
	[LAYER_FIND] = "SELECT id FROM layers "
		       "WHERE toc = ?1 AND blob = ?2 AND opaque_user = ?3",
	[LAYER_INSERT] = "INSERT INTO layers "
			 "(toc, blob, opaque_user, reference, repository) "
			 "VALUES (?1, ?2, ?3, ?4, ?5)",
	[LAYER_RENAME] = "UPDATE layers SET reference = ?2, repository = ?3 "
			 "WHERE id = ?1",
	[LAYER_GET] = LAYER_COLUMNS "WHERE id = ?1",
	[LAYER_PAGE] = LAYER_COLUMNS "WHERE id > ?1 ORDER BY id LIMIT ?2",
	[LAYER_DELETE] = "DELETE FROM layers WHERE id = ?1 AND NOT EXISTS "
			 "(SELECT 1 FROM snapshots WHERE layer = ?1)",
	[LAYER_HAS] = "SELECT 1 FROM layers "
		      "WHERE toc = ?1 AND opaque_user = ?2 LIMIT 1",
	[LAYER_OLDEST] = "SELECT min(id) FROM snapshots WHERE layer = ?1",
	[NAMED_INSERT] = "INSERT OR IGNORE INTO named (snapshot, kind, object) "
			 "VALUES (?1, ?2, ?3)",
	[NAMED_FORGET] = "DELETE FROM named WHERE snapshot = ?1",
	[NAMED_COUNT] = "SELECT count(*) FROM named "
			"WHERE kind = ?1 AND object = ?2",
	[CHAIN_FIND] = "SELECT id FROM chains WHERE key = ?1",
	[CHAIN_INSERT] = "INSERT INTO chains (key) VALUES (?1)",
	[CHAIN_PAGE] = "SELECT id, key FROM chains WHERE id > ?1 "
		       "ORDER BY id LIMIT ?2",
	[CHAIN_DELETE] = "DELETE FROM chains WHERE key = ?1 AND NOT EXISTS "
			 "(SELECT 1 FROM named WHERE kind = ?2 "
			 "AND object = chains.id)",
	[BOOT_GET] = "SELECT id FROM boot",
	[BOOT_CLEAR] = "DELETE FROM named",
	[BOOT_DELETE] = "DELETE FROM boot",
	[BOOT_INSERT] = "INSERT INTO boot (id) VALUES (?1)",
};

static const struct db_schema schema = {
	.application_id = APPLICATION_ID,
	.version = ARRAY_SIZE(steps),
	.steps = steps,
	.sql = sql,
	.n_sql = STMTS,
};

void snap_done(struct snap *s)
{
	free(s->name);
	free(s->parent);
	labels_done(&s->labels);
	*s = (struct snap){0};
}

void chain_done(struct chain *c)
{
	free(c->v);
	*c = (struct chain){0};
}

bool chain_repeats(const struct chain *c, size_t at)
{
	int64_t layer = c->v[at].layer;

	for (size_t i = 0; layer > 0 && i < at; i++) {
		if (c->v[i].layer == layer)
			return true;
	}
	return false;
}

/*** Columns ***/

static int column_labels(sqlite3_stmt *st, int at, struct labels *ret)
{
	const char *p = sqlite3_column_blob(st, at);
	int n = sqlite3_column_bytes(st, at);
	const char *end;

	if (n == 0)
		return 0;
	end = p + n;
	if (end[-1] != '\0')
		return -EBADMSG;
	while (p < end) {
		const char *value = p + strlen(p) + 1;
		int r;

		if (value >= end)
			return -EBADMSG;
		r = labels_set(ret, p, value);
		if (r < 0)
			return r;
		p = value + strlen(value) + 1;
	}
	return 0;
}

static int labels_encode(const struct labels *l, struct buf *b)
{
	int r = 0;

	for (size_t i = 0; i < l->n && r == 0; i++) {
		r = buf_add(b, l->v[i].key, strlen(l->v[i].key) + 1);
		if (r == 0)
			r = buf_add(b, l->v[i].value,
				    strlen(l->v[i].value) + 1);
	}
	return r;
}

static int column_snap(sqlite3_stmt *st, struct snap *ret, struct err *e)
{
	struct snap s = {
		.id = sqlite3_column_int64(st, 0),
		.kind = (enum snap_kind)sqlite3_column_int(st, 3),
		.created_ns = sqlite3_column_int64(st, 4),
		.updated_ns = sqlite3_column_int64(st, 5),
		.bytes = (uint64_t)sqlite3_column_int64(st, 6),
		.inodes = (uint64_t)sqlite3_column_int64(st, 7),
		.layer = sqlite3_column_int64(st, 8),
	};
	int r;

	r = db_column_str(st, 1, &s.name);
	if (r == 0)
		r = db_column_str(st, 2, &s.parent);
	if (r == 0)
		r = column_labels(st, 9, &s.labels);
	if (r < 0) {
		snap_done(&s);
		return err_set(e, r, "snapshots.db: a snapshot: %s",
			       err_name(r));
	}
	*ret = s;
	return 0;
}

/*** Looking ***/

/* Return: 1, 0 there is none, -errno */
static int find(struct tree *t, const char *key, int64_t *ret_id,
		enum snap_kind *ret_kind, struct err *e)
{
	DB_STMT *st = db_stmt(&t->db, SNAP_FIND);
	int r;

	db_bind_str(st, 1, key);
	r = db_step(&t->db, st, e);
	if (r <= 0)
		return r;
	*ret_id = sqlite3_column_int64(st, 0);
	*ret_kind = (enum snap_kind)sqlite3_column_int(st, 1);
	return 1;
}

static int not_found(const char *key, struct err *e)
{
	return err_set(e, -ENOENT, "snapshot %s: not found", key);
}

static int get(struct tree *t, const char *key, struct snap *ret, struct err *e)
{
	DB_STMT *st = db_stmt(&t->db, SNAP_GET);
	int r;

	db_bind_str(st, 1, key);
	r = db_step(&t->db, st, e);
	if (r < 0)
		return r;
	return r == 0 ? not_found(key, e) : column_snap(st, ret, e);
}

/* The snapshot @id and those under it; none where @id is 0. */
static int get_chain(struct tree *t, int64_t id, struct chain *ret,
		     struct err *e)
{
	DB_STMT *st = db_stmt(&t->db, SNAP_CHAIN);
	struct chain c = {0};
	int r;

	db_bind_int(st, 1, id);
	db_bind_int(st, 2, TREE_DEPTH_MAX);
	while ((r = db_step(&t->db, st, e)) > 0) {
		/* Room doubles: it is full when n is a power of two. */
		if ((c.n & (c.n - 1)) == 0) {
			size_t cap = c.n == 0 ? 1 : 2 * c.n;
			void *v = reallocarray(c.v, cap, sizeof(*c.v));

			if (v == NULL) {
				r = err_no_memory(e);
				break;
			}
			c.v = v;
		}
		c.v[c.n++] = (struct chain_link){
			.id = sqlite3_column_int64(st, 0),
			.layer = sqlite3_column_int64(st, 1),
		};
	}
	if (r == 0 && c.n > TREE_DEPTH_MAX)
		r = err_set(e, -EOVERFLOW, "more than %u ancestors",
			    TREE_DEPTH_MAX);
	if (r < 0) {
		chain_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}

int tree_get(struct tree *t, const char *key, struct snap *ret,
	     struct chain *ret_chain, struct err *e)
{
	CLEANUP_SNAP struct snap s = {0};
	struct chain chain = {0};
	int64_t parent = 0;
	enum snap_kind kind;
	LOCKED(t);
	int r;

	r = get(t, key, &s, e);
	if (r == 0 && ret_chain != NULL && s.parent[0] != '\0')
		r = find(t, s.parent, &parent, &kind, e);
	if (r >= 0 && parent != 0)
		r = get_chain(t, parent, &chain, e);
	if (r < 0)
		return r;
	*ret = s;
	s = (struct snap){0};
	if (ret_chain != NULL)
		*ret_chain = chain;
	return 0;
}

int tree_has_id(struct tree *t, int64_t id)
{
	LOCKED(t);
	DB_STMT *st = db_stmt(&t->db, SNAP_HAS_ID);
	int r;

	db_bind_int(st, 1, id);
	r = db_step(&t->db, st, NULL);
	return r;
}

static int read_page(struct tree *t, const char *after, struct snap *v,
		     size_t *ret_n, struct err *e)
{
	LOCKED(t);
	DB_STMT *st = db_stmt(&t->db, SNAP_PAGE);
	size_t n = 0;
	int r;

	db_bind_str(st, 1, after);
	db_bind_int(st, 2, PAGE_ROWS);
	while ((r = db_step(&t->db, st, e)) > 0) {
		assert(n < PAGE_ROWS);
		r = column_snap(st, &v[n], e);
		if (r < 0)
			break;
		n++;
	}
	*ret_n = n;
	return r;
}

int tree_walk(struct tree *t, int (*fn)(void *arg, const struct snap *s),
	      void *arg, struct err *e)
{
	CLEANUP_FREE char *after = strdup("");
	struct snap v[PAGE_ROWS];
	size_t n;
	int r;

	do {
		if (after == NULL)
			return err_no_memory(e);
		r = read_page(t, after, v, &n, e);
		free(after);
		after = n > 0 ? strdup(v[n - 1].name) : NULL;
		for (size_t i = 0; i < n; i++) {
			if (r >= 0)
				r = fn(arg, &v[i]);
			snap_done(&v[i]);
		}
	} while (r >= 0 && n == PAGE_ROWS);
	return r < 0 ? r : 0;
}

/*** Changing ***/

int tree_sync(struct tree *t, struct err *e)
{
	return db_sync(&t->db, e);
}

int64_t tree_id_new(struct tree *t)
{
	LOCKED(t);

	return t->next_id++;
}

void tree_id_skip(struct tree *t, int64_t id)
{
	LOCKED(t);

	t->next_id = MAX(t->next_id, id + 1);
}

/* What is written of a snapshot: borrowed text. */
struct new_row {
	int64_t id;
	const char *name;
	const char *parent;
	enum snap_kind kind;
	int64_t now_ns;
	int64_t layer;
	uint64_t bytes;
	uint64_t inodes;
	struct buf labels;
};

static int new_row_check(struct new_row *n, const struct labels *labels,
			 struct err *e)
{
	int r;

	if (n->name[0] == '\0')
		return err_set(e, -EINVAL, "a snapshot needs a name");
	if (strlen(n->name) > TREE_KEY_MAX)
		return err_set(e, -EINVAL, "name of more than %u bytes",
			       TREE_KEY_MAX);
	n->labels = BUF_INIT(LABELS_BYTES_MAX);
	r = labels_encode(labels, &n->labels);
	return r < 0 ? err_set(e, r, "labels: %s", err_name(r)) : 0;
}

static int insert(struct tree *t, const struct new_row *n, int64_t parent,
		  struct err *e)
{
	DB_STMT *st = db_stmt(&t->db, SNAP_INSERT);

	db_bind_int(st, 1, n->id);
	db_bind_str(st, 2, n->name);
	if (parent != 0)
		db_bind_int(st, 3, parent);
	db_bind_int(st, 4, n->kind);
	db_bind_int(st, 5, n->now_ns);
	if (n->layer != 0)
		db_bind_int(st, 6, n->layer);
	db_bind_blob(st, 7, n->labels.p, n->labels.len);
	return db_step(&t->db, st, e);
}

/* Whether @chain, which was asked for in a transaction before, is still that of a
 * parent: ids are never given twice, and what is committed keeps its ancestors. */
static int check_parent(int64_t parent, const struct chain *chain,
			const char *key, struct err *e)
{
	if (chain == NULL || parent == (chain->n > 0 ? chain->v[0].id : 0))
		return 0;
	return err_set(e, -EAGAIN, "parent %s: was made anew", key);
}

/* In a transaction. What is wrong with the parent comes first, as containerd
 * has it. */
static int create(struct tree *t, const struct new_row *n,
		  const struct chain *chain, struct err *e)
{
	CLEANUP_CHAIN struct chain above = {0};
	int64_t parent = 0, other;
	enum snap_kind kind;
	int r;

	if (n->parent[0] != '\0') {
		r = find(t, n->parent, &parent, &kind, e);
		if (r < 0)
			return r;
		if (r == 0)
			return err_set(e, -ENOENT, "parent %s: not found",
				       n->parent);
		if (kind != SNAP_COMMITTED)
			return err_set(e, -EINVAL, "parent %s is not committed",
				       n->parent);
	}
	r = find(t, n->name, &other, &kind, e);
	if (r < 0)
		return r;
	if (r > 0)
		return err_set(e, -EEXIST, "snapshot %s: already exists",
			       n->name);
	r = get_chain(t, parent, &above, e);
	if (r == 0)
		r = check_parent(parent, chain, n->parent, e);
	if (r == 0)
		r = insert(t, n, parent, e);
	if (r == 0 && chain != NULL)
		r = tree_name_locked(t, n->id, chain, e);
	return r;
}

static int add(struct tree *t, struct new_row *n, const struct labels *labels,
	       const struct chain *chain, struct err *e)
{
	int r;

	r = new_row_check(n, labels, e);
	if (r == 0) {
		LOCKED(t);

		if (n->id == 0)
			n->id = t->next_id++;
		r = db_begin(&t->db, e);
		if (r == 0)
			r = db_end(&t->db, create(t, n, chain, e), e);
	}
	buf_done(&n->labels);
	return r;
}

int tree_create(struct tree *t, int64_t id, enum snap_kind kind,
		const char *key, const char *parent,
		const struct labels *labels, int64_t now_ns,
		const struct chain *chain, struct err *e)
{
	struct new_row n = {
		.id = id,
		.name = key,
		.parent = parent,
		.kind = kind,
		.now_ns = now_ns,
	};

	assert(id > 0);
	assert(kind == SNAP_ACTIVE || kind == SNAP_VIEW);
	return add(t, &n, labels, chain, e);
}

int tree_create_lazy(struct tree *t, const char *name, const char *parent,
		     const struct labels *labels, int64_t layer, int64_t now_ns,
		     struct err *e)
{
	struct new_row n = {
		.name = name,
		.parent = parent,
		.kind = SNAP_COMMITTED,
		.now_ns = now_ns,
		.layer = layer,
	};
	int r;

	assert(layer > 0);
	r = add(t, &n, labels, NULL, e);
	return r == 0 ? tree_sync(t, e) : r;
}

/* In a transaction. */
static int commit(struct tree *t, const char *key, const struct new_row *n,
		  struct err *e)
{
	int64_t id, other;
	enum snap_kind kind, other_kind;
	int r;

	r = find(t, key, &id, &kind, e);
	if (r < 0)
		return r;
	if (r == 0)
		return not_found(key, e);
	r = find(t, n->name, &other, &other_kind, e);
	if (r < 0)
		return r;
	if (r > 0)
		return err_set(e, -EEXIST,
			       "committed snapshot %s: already exists",
			       n->name);
	if (kind != SNAP_ACTIVE)
		return err_set(e, -EBUSY, "snapshot %s is not active", key);
	r = tree_forget_locked(t, id, e);
	if (r < 0)
		return r;
	{
		DB_STMT *st = db_stmt(&t->db, SNAP_COMMIT);

		db_bind_int(st, 1, id);
		db_bind_str(st, 2, n->name);
		db_bind_int(st, 3, SNAP_COMMITTED);
		db_bind_int(st, 4, n->now_ns);
		db_bind_int(st, 5, (int64_t)n->bytes);
		db_bind_int(st, 6, (int64_t)n->inodes);
		db_bind_blob(st, 7, n->labels.p, n->labels.len);
		return db_step(&t->db, st, e);
	}
}

int tree_commit(struct tree *t, const char *key, const char *name,
		const struct labels *labels, uint64_t bytes, uint64_t inodes,
		int64_t now_ns, struct err *e)
{
	struct new_row n = {
		.name = name,
		.now_ns = now_ns,
		.bytes = bytes,
		.inodes = inodes,
	};
	int r;

	r = new_row_check(&n, labels, e);
	if (r == 0) {
		LOCKED(t);

		r = db_begin(&t->db, e);
		if (r == 0)
			r = db_end(&t->db, commit(t, key, &n, e), e);
	}
	buf_done(&n.labels);
	return r == 0 ? tree_sync(t, e) : r;
}

/* In a transaction. */
static int remove_row(struct tree *t, const char *key, struct snap *ret,
		      struct err *e)
{
	int r;

	r = get(t, key, ret, e);
	if (r < 0)
		return r;
	{
		DB_STMT *st = db_stmt(&t->db, SNAP_CHILD);

		db_bind_int(st, 1, ret->id);
		r = db_step(&t->db, st, e);
	}
	if (r < 0)
		return r;
	if (r > 0)
		return err_set(e, -EBUSY,
			       "cannot remove snapshot %s: it has children",
			       key);
	{
		DB_STMT *st = db_stmt(&t->db, SNAP_DELETE);

		db_bind_int(st, 1, ret->id);
		return db_step(&t->db, st, e);
	}
}

static int remove_tx(struct tree *t, const char *key, struct snap *ret,
		     struct err *e)
{
	int r;

	snap_done(ret);
	r = db_begin(&t->db, e);
	return r < 0 ? r : db_end(&t->db, remove_row(t, key, ret, e), e);
}

int tree_remove(struct tree *t, const char *key, struct snap *ret,
		struct err *e)
{
	CLEANUP_SNAP struct snap s = {0};
	LOCKED(t);
	int r;

	r = remove_tx(t, key, &s, e);
	/* What makes room on a full disk must not need any. */
	if (r == -ENOSPC && db_make_room(&t->db) == 0)
		r = remove_tx(t, key, &s, e);
	if (r < 0)
		return r;
	*ret = s;
	s = (struct snap){0};
	return 0;
}

/* One path of a field mask. */
static int update_path(struct snap *s, const struct labels *labels,
		       const char *path, struct err *e)
{
	int r;

	if (strcmp(path, "labels") == 0)
		r = labels_copy(&s->labels, labels);
	else if (strncmp(path, "labels.", 7) == 0)
		r = labels_set(&s->labels, path + 7,
			       labels_get(labels, path + 7));
	else
		return err_set(e, -EINVAL,
			       "cannot update field %s of snapshot %s", path,
			       s->name);
	return r < 0 ? err_set(e, r, "labels: %s", err_name(r)) : 0;
}

/* In a transaction. */
static int write_labels(struct tree *t, const struct snap *s, struct err *e)
{
	CLEANUP_BUF struct buf b = BUF_INIT(LABELS_BYTES_MAX);
	DB_STMT *st = db_stmt(&t->db, SNAP_UPDATE);
	int r;

	r = labels_encode(&s->labels, &b);
	if (r < 0)
		return err_set(e, r, "labels: %s", err_name(r));
	db_bind_int(st, 1, s->id);
	db_bind_int(st, 2, s->updated_ns);
	db_bind_blob(st, 3, b.p, b.len);
	return db_step(&t->db, st, e);
}

int tree_update(struct tree *t, const char *key, const struct labels *labels,
		const char *const *paths, size_t n_paths, int64_t now_ns,
		struct snap *ret, struct err *e)
{
	CLEANUP_SNAP struct snap s = {0};
	LOCKED(t);
	int r;

	r = db_begin(&t->db, e);
	if (r == 0) {
		r = get(t, key, &s, e);
		if (r == 0 && n_paths == 0)
			r = update_path(&s, labels, "labels", e);
		for (size_t i = 0; i < n_paths && r == 0; i++)
			r = update_path(&s, labels, paths[i], e);
		s.updated_ns = now_ns;
		if (r == 0)
			r = write_labels(t, &s, e);
		r = db_end(&t->db, r, e);
	}
	if (r < 0)
		return r;
	*ret = s;
	s = (struct snap){0};
	return 0;
}

/*** Opening ***/

int tree_open(struct tree **ret, const char *path, struct err *e)
{
	struct tree *t = calloc(1, sizeof(*t));
	int r;

	if (t == NULL)
		return err_no_memory(e);
	r = db_open(&t->db, path, &schema, e);
	if (r < 0) {
		free(t);
		return r;
	}
	(void)pthread_mutex_init(&t->lock, NULL);
	{
		DB_STMT *st = db_stmt(&t->db, SNAP_LAST_ID);

		r = db_step(&t->db, st, e);
		if (r >= 0)
			t->next_id = sqlite3_column_int64(st, 0) + 1;
	}
	if (r >= 0)
		r = tree_boot(t, e);
	if (r < 0) {
		tree_close(t);
		return r;
	}
	*ret = t;
	return 0;
}

void tree_close(struct tree *t)
{
	if (t == NULL)
		return;
	db_close(&t->db);
	(void)pthread_mutex_destroy(&t->lock);
	free(t);
}
