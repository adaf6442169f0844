/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of snapshots: containerd's rules, one by one. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "daemon/snapshotter/tree.h"

static char dir[] = "/tmp/test-tree.XXXXXX";
static char path[64];
static struct tree *t;
static struct err e;

static void remove_db(void)
{
	static const char *const tails[] = {"", "-wal", "-reserve"};
	char name[80];

	for (size_t i = 0; i < ARRAY_SIZE(tails); i++) {
		(void)snprintf(name, sizeof(name), "%s%s", path, tails[i]);
		(void)unlink(name);
	}
}

static int fresh(void **state)
{
	(void)state;
	remove_db();
	e = (struct err){0};
	return tree_open(&t, path, &e);
}

static int end(void **state)
{
	(void)state;
	tree_close(t);
	t = NULL;
	return 0;
}

static const struct labels none;

static int make(enum snap_kind kind, const char *key, const char *parent)
{
	return tree_create(t, tree_id_new(t), kind, key, parent, &none, 1, NULL,
			   &e);
}

static int commit(const char *key, const char *name)
{
	return tree_commit(t, key, name, &none, 0, 0, 2, &e);
}

static void committed(const char *name, const char *parent)
{
	assert_int_equal(make(SNAP_ACTIVE, "tmp", parent), 0);
	assert_int_equal(commit("tmp", name), 0);
}

static int drop(const char *key)
{
	CLEANUP_SNAP struct snap s = {0};

	return tree_remove(t, key, &s, &e);
}

static void test_life(void **state)
{
	CLEANUP_LABELS struct labels a = {0}, b = {0};
	struct snap s = {0};
	int64_t id = tree_id_new(t);

	(void)state;
	assert_int_equal(labels_set(&a, "x", "1"), 0);
	assert_int_equal(labels_set(&b, "y", "2"), 0);
	assert_int_equal(
		tree_create(t, id, SNAP_ACTIVE, "k", "", &a, 1000, NULL, &e),
		0);
	assert_int_equal(tree_get(t, "k", &s, NULL, &e), 0);
	assert_int_equal(s.id, id);
	assert_string_equal(s.name, "k");
	assert_string_equal(s.parent, "");
	assert_int_equal(s.kind, SNAP_ACTIVE);
	assert_int_equal(s.created_ns, 1000);
	assert_int_equal(s.updated_ns, 1000);
	assert_int_equal(s.layer, 0);
	assert_string_equal(labels_get(&s.labels, "x"), "1");
	snap_done(&s);
	assert_int_equal(tree_commit(t, "k", "n", &b, 77, 7, 2000, &e), 0);
	assert_int_equal(tree_get(t, "k", &s, NULL, &e), -ENOENT);
	assert_int_equal(tree_get(t, "n", &s, NULL, &e), 0);
	assert_int_equal(s.id, id);
	assert_int_equal(s.kind, SNAP_COMMITTED);
	assert_int_equal(s.created_ns, 2000);
	assert_int_equal(s.updated_ns, 2000);
	assert_int_equal(s.bytes, 77);
	assert_int_equal(s.inodes, 7);
	/* Replaced, not inherited. */
	assert_null(labels_get(&s.labels, "x"));
	assert_string_equal(labels_get(&s.labels, "y"), "2");
	snap_done(&s);
	assert_int_equal(tree_has_id(t, id), 1);
	assert_int_equal(tree_remove(t, "n", &s, &e), 0);
	assert_int_equal(s.id, id);
	snap_done(&s);
	assert_int_equal(tree_has_id(t, id), 0);
	assert_int_equal(drop("n"), -ENOENT);
}

static void test_create_refuses(void **state)
{
	char key[TREE_KEY_MAX + 2];

	(void)state;
	committed("c", "");
	assert_int_equal(make(SNAP_ACTIVE, "a", "c"), 0);
	assert_int_equal(make(SNAP_ACTIVE, "a", "c"), -EEXIST);
	assert_non_null(strstr(e.text, "already exists"));
	assert_int_equal(make(SNAP_VIEW, "a", "c"), -EEXIST);
	assert_int_equal(make(SNAP_VIEW, "c", ""), -EEXIST);
	assert_int_equal(make(SNAP_ACTIVE, "b", "nobody"), -ENOENT);
	assert_non_null(strstr(e.text, "nobody"));
	/* The parent's fault comes first. */
	assert_int_equal(make(SNAP_ACTIVE, "a", "nobody"), -ENOENT);
	assert_int_equal(make(SNAP_ACTIVE, "b", "a"), -EINVAL);
	assert_int_equal(make(SNAP_VIEW, "v", "c"), 0);
	assert_int_equal(make(SNAP_ACTIVE, "b", "v"), -EINVAL);
	assert_int_equal(make(SNAP_ACTIVE, "", ""), -EINVAL);
	memset(key, 'k', sizeof(key));
	key[TREE_KEY_MAX + 1] = '\0';
	assert_int_equal(make(SNAP_ACTIVE, key, ""), -EINVAL);
	key[TREE_KEY_MAX] = '\0';
	assert_int_equal(make(SNAP_ACTIVE, key, ""), 0);
}

static void test_commit_refuses(void **state)
{
	(void)state;
	committed("c", "");
	assert_int_equal(make(SNAP_VIEW, "v", "c"), 0);
	assert_int_equal(make(SNAP_ACTIVE, "a", "c"), 0);
	assert_int_equal(commit("nobody", "n"), -ENOENT);
	assert_int_equal(commit("v", "n"), -EBUSY);
	assert_int_equal(commit("c", "n"), -EBUSY);
	assert_int_equal(commit("a", "c"), -EEXIST);
	assert_int_equal(commit("a", "a"), -EEXIST);
	assert_int_equal(commit("a", ""), -EINVAL);
	assert_int_equal(commit("a", "n"), 0);
	assert_int_equal(commit("a", "n"), -ENOENT);
}

static void test_remove_with_children(void **state)
{
	(void)state;
	committed("c1", "");
	committed("c2", "c1");
	assert_int_equal(make(SNAP_ACTIVE, "a", "c2"), 0);
	assert_int_equal(drop("c1"), -EBUSY);
	assert_non_null(strstr(e.text, "remove"));
	assert_int_equal(drop("c2"), -EBUSY);
	assert_int_equal(drop("a"), 0);
	assert_int_equal(drop("c1"), -EBUSY);
	assert_int_equal(drop("c2"), 0);
	assert_int_equal(drop("c1"), 0);
}

static void test_chain(void **state)
{
	CLEANUP_CHAIN struct chain c = {0}, d = {0};
	CLEANUP_SNAP struct snap s = {0};
	char name[16], parent[16] = "";
	int64_t layer;
	const struct layer_row row = {.reference = (char[]){"r"},
				      .repository = (char[]){"r"}};

	(void)state;
	layer = tree_layer_put(t, &row, &e);
	assert_true(layer > 0);
	for (int i = 0; i < 5; i++) {
		(void)snprintf(name, sizeof(name), "c%d", i);
		if (i == 2)
			assert_int_equal(tree_create_lazy(t, name, parent,
							  &none, layer, 1, &e),
					 0);
		else
			committed(name, parent);
		memcpy(parent, name, sizeof(name));
	}
	assert_int_equal(make(SNAP_ACTIVE, "a", "c4"), 0);
	assert_int_equal(tree_get(t, "a", &s, &c, &e), 0);
	assert_int_equal(c.n, 5);
	for (size_t i = 1; i < c.n; i++)
		assert_true(c.v[i - 1].id > c.v[i].id);
	assert_int_equal(c.v[2].layer, layer);
	assert_int_equal(c.v[1].layer, 0);
	assert_string_equal(s.parent, "c4");
	snap_done(&s);
	assert_int_equal(tree_get(t, "c0", &s, &d, &e), 0);
	assert_int_equal(d.n, 0);
}

static void test_depth(void **state)
{
	CLEANUP_CHAIN struct chain c = {0};
	CLEANUP_SNAP struct snap s = {0};
	char name[16], parent[16] = "";

	(void)state;
	for (unsigned i = 0; i < TREE_DEPTH_MAX; i++) {
		(void)snprintf(name, sizeof(name), "c%u", i);
		committed(name, parent);
		memcpy(parent, name, sizeof(name));
	}
	assert_int_equal(make(SNAP_ACTIVE, "a", name), 0);
	assert_int_equal(tree_get(t, "a", &s, &c, &e), 0);
	assert_int_equal(c.n, TREE_DEPTH_MAX);
	assert_int_equal(commit("a", "last"), 0);
	assert_int_equal(make(SNAP_ACTIVE, "b", "last"), -EOVERFLOW);
	assert_int_equal(make(SNAP_ACTIVE, "b", name), 0);
}

static void test_update(void **state)
{
	CLEANUP_LABELS struct labels l = {0};
	const char *some[] = {"labels.a", "labels.b", "labels.new"};
	const char *all[] = {"labels"};
	const char *bad[] = {"labels.a", "parent"};
	struct snap s = {0};

	(void)state;
	assert_int_equal(labels_set(&l, "a", "1"), 0);
	assert_int_equal(labels_set(&l, "b", "1"), 0);
	assert_int_equal(labels_set(&l, "c", "1"), 0);
	assert_int_equal(tree_create(t, tree_id_new(t), SNAP_ACTIVE, "k", "",
				     &l, 1, NULL, &e),
			 0);
	labels_done(&l);
	assert_int_equal(labels_set(&l, "a", "2"), 0);
	assert_int_equal(labels_set(&l, "c", "2"), 0);
	assert_int_equal(labels_set(&l, "new", "2"), 0);
	/* b is not among the new ones, so it goes; c is not in the mask. */
	assert_int_equal(tree_update(t, "k", &l, some, 3, 5, &s, &e), 0);
	assert_int_equal(s.labels.n, 3);
	assert_string_equal(labels_get(&s.labels, "a"), "2");
	assert_string_equal(labels_get(&s.labels, "c"), "1");
	assert_string_equal(labels_get(&s.labels, "new"), "2");
	assert_int_equal(s.created_ns, 1);
	assert_int_equal(s.updated_ns, 5);
	snap_done(&s);
	/* One wrong path, and nothing is changed. */
	labels_done(&l);
	assert_int_equal(tree_update(t, "k", &l, bad, 2, 6, &s, &e), -EINVAL);
	assert_non_null(strstr(e.text, "parent"));
	assert_int_equal(tree_get(t, "k", &s, NULL, &e), 0);
	assert_int_equal(s.labels.n, 3);
	assert_int_equal(s.updated_ns, 5);
	snap_done(&s);
	assert_int_equal(labels_set(&l, "z", "3"), 0);
	assert_int_equal(tree_update(t, "k", &l, all, 1, 7, &s, &e), 0);
	assert_int_equal(s.labels.n, 1);
	snap_done(&s);
	labels_done(&l);
	assert_int_equal(tree_update(t, "k", &l, NULL, 0, 8, &s, &e), 0);
	assert_int_equal(s.labels.n, 0);
	snap_done(&s);
	assert_int_equal(tree_update(t, "nobody", &l, bad, 2, 8, &s, &e),
			 -ENOENT);
}

struct seen {
	unsigned n;
	char last[16];
	int stop_at;
};

static int see(void *arg, const struct snap *s)
{
	struct seen *seen = arg;
	struct snap other = {0};

	/* No lock is held: looking and changing works. */
	if (strcmp(s->name, "k050") != 0) {
		assert_int_equal(tree_get(t, s->name, &other, NULL, NULL), 0);
		snap_done(&other);
	}
	if (seen->n == 0)
		assert_int_equal(drop("k050"), 0);
	assert_true(strcmp(seen->last, s->name) < 0);
	(void)snprintf(seen->last, sizeof(seen->last), "%s", s->name);
	seen->n++;
	return (int)seen->n == seen->stop_at ? -ECANCELED : 0;
}

static void test_walk(void **state)
{
	struct seen seen = {0};
	char name[16];

	(void)state;
	assert_int_equal(tree_walk(t, see, &seen, &e), 0);
	assert_int_equal(seen.n, 0);
	for (int i = 199; i >= 0; i--) {
		(void)snprintf(name, sizeof(name), "k%03d", i);
		assert_int_equal(make(SNAP_ACTIVE, name, ""), 0);
	}
	assert_int_equal(tree_walk(t, see, &seen, &e), 0);
	/* k050 was read with the first page. */
	assert_true(seen.n == 199 || seen.n == 200);
	assert_int_equal(make(SNAP_ACTIVE, "k050", ""), 0);
	seen = (struct seen){.stop_at = 70};
	assert_int_equal(tree_walk(t, see, &seen, &e), -ECANCELED);
	assert_int_equal(seen.n, 70);
}

static struct layer_row row_of(uint8_t blob, uint8_t toc, bool user)
{
	static char reference[] = "h/r:t", repository[] = "h/r";
	struct layer_row l = {.reference = reference,
			      .repository = repository,
			      .opaque_user = user};

	memset(l.blob.b, blob, DIGEST_BYTES);
	memset(l.toc.b, toc, DIGEST_BYTES);
	return l;
}

static int count(void *arg, const struct layer_row *l)
{
	uint64_t *n = arg;

	n[0]++;
	n[1] += l->n_snapshots;
	return 0;
}

static void test_layers(void **state)
{
	struct layer_row a = row_of(1, 2, false), b = row_of(1, 3, false);
	struct layer_row c = row_of(1, 2, true), got = {0};
	int64_t ia, ib, ic;
	struct snap s = {0};
	uint64_t n[2] = {0};

	(void)state;
	ia = tree_layer_put(t, &a, &e);
	ib = tree_layer_put(t, &b, &e);
	ic = tree_layer_put(t, &c, &e);
	assert_true(ia > 0);
	assert_true(ib > 0 && ib != ia);
	assert_true(ic > 0 && ic != ia && ic != ib);
	a.reference = (char[]){"other"};
	assert_int_equal(tree_layer_put(t, &a, &e), ia);
	assert_int_equal(tree_layer_get(t, ia, &got, &e), 0);
	assert_string_equal(got.reference, "h/r:t");
	assert_string_equal(got.repository, "h/r");
	assert_true(digest_equal(&got.blob, &a.blob));
	assert_true(digest_equal(&got.toc, &a.toc));
	assert_false(got.opaque_user);
	assert_int_equal(got.n_snapshots, 0);
	a.id = ia;
	assert_int_equal(tree_layer_rename(t, &a), 0);
	layer_row_done(&got);
	assert_int_equal(tree_layer_get(t, ia, &got, &e), 0);
	assert_string_equal(got.reference, "other");
	assert_string_equal(got.repository, "h/r");
	layer_row_done(&got);
	assert_int_equal(tree_create_lazy(t, "one", "", &none, ia, 1, &e), 0);
	assert_int_equal(tree_create_lazy(t, "one", "", &none, ia, 1, &e),
			 -EEXIST);
	assert_int_equal(tree_create_lazy(t, "two", "one", &none, ia, 1, &e),
			 0);
	assert_int_equal(tree_create_lazy(t, "x", "nobody", &none, ia, 1, &e),
			 -ENOENT);
	/* No such layer. */
	assert_true(tree_create_lazy(t, "x", "", &none, 99, 1, &e) < 0);
	assert_int_equal(tree_get(t, "one", &s, NULL, &e), 0);
	assert_int_equal(s.kind, SNAP_COMMITTED);
	assert_int_equal(s.layer, ia);
	assert_int_equal(tree_layer_first(t, &s), 1);
	snap_done(&s);
	assert_int_equal(tree_get(t, "two", &s, NULL, &e), 0);
	assert_int_equal(tree_layer_first(t, &s), 0);
	snap_done(&s);
	assert_int_equal(tree_layer_walk(t, count, n, &e), 0);
	assert_int_equal(n[0], 3);
	assert_int_equal(n[1], 2);
	assert_int_equal(tree_layer_drop(t, ia), 0);
	assert_int_equal(drop("two"), 0);
	assert_int_equal(drop("one"), 0);
	assert_int_equal(tree_layer_drop(t, ia), 1);
	assert_int_equal(tree_layer_drop(t, ia), 0);
	assert_int_equal(tree_layer_get(t, ia, &got, &e), -ENOENT);
	/* Its mount point's name is not used again. */
	assert_true(tree_layer_put(t, &a, &e) > ic);
}

/* An id names a directory, so it is never given twice. */
static void test_ids(void **state)
{
	int64_t id = tree_id_new(t), last;

	(void)state;
	assert_int_equal(id, 1);
	assert_int_equal(tree_id_new(t), 2);
	tree_id_skip(t, 40);
	assert_int_equal(tree_id_new(t), 41);
	tree_id_skip(t, 7);
	last = tree_id_new(t);
	assert_int_equal(last, 42);
	assert_int_equal(
		tree_create(t, last, SNAP_ACTIVE, "k", "", &none, 1, NULL, &e),
		0);
	assert_int_equal(drop("k"), 0);
	tree_close(t);
	assert_int_equal(tree_open(&t, path, &e), 0);
	assert_int_equal(tree_id_new(t), 43);
}

static void test_survives(void **state)
{
	CLEANUP_SNAP struct snap s = {0};

	(void)state;
	committed("c", "");
	assert_int_equal(make(SNAP_ACTIVE, "a", "c"), 0);
	tree_close(t);
	assert_int_equal(tree_open(&t, path, &e), 0);
	assert_int_equal(tree_get(t, "a", &s, NULL, &e), 0);
	assert_string_equal(s.parent, "c");
}

/* Two snapshotters over one tree would remove each other's directories. */
static void test_one_process(void **state)
{
	int status, up[2], down[2];
	char c;
	pid_t pid;

	(void)state;
	tree_close(t);
	t = NULL;
	assert_int_equal(pipe(up), 0);
	assert_int_equal(pipe(down), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct tree *other;

		/* Open until the parent is done. */
		if (tree_open(&other, path, NULL) < 0 || close(down[1]) < 0 ||
		    write(up[1], "", 1) != 1)
			_exit(1);
		_exit(read(down[0], &c, 1) == 0 ? 0 : 1);
	}
	assert_int_equal(close(up[1]), 0);
	assert_int_equal(read(up[0], &c, 1), 1);
	assert_int_equal(tree_open(&t, path, &e), -EBUSY);
	assert_int_equal(close(down[1]), 0);
	assert_int_equal(close(down[0]), 0);
	assert_int_equal(close(up[0]), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	/* Whoever was killed does not lock it. */
	assert_int_equal(tree_open(&t, path, &e), 0);
}

static void write_file(const void *p, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), n);
	assert_int_equal(close(fd), 0);
}

static void exec_sql(const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_not_ours(void **state)
{
	char junk[8192];
	struct stat st;

	(void)state;
	tree_close(t);
	t = NULL;
	exec_sql("PRAGMA user_version = 3");
	assert_int_equal(tree_open(&t, path, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "version 3"));
	/* It was left alone. */
	exec_sql("PRAGMA user_version = 2");
	assert_int_equal(tree_open(&t, path, &e), 0);
	tree_close(t);
	t = NULL;
	remove_db();
	exec_sql("CREATE TABLE snapshots (x)");
	assert_int_equal(tree_open(&t, path, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "not ours"));
	memset(junk, 'j', sizeof(junk));
	write_file(junk, sizeof(junk));
	assert_int_equal(tree_open(&t, path, &e), -EBADMSG);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, sizeof(junk));
	assert_null(t);
	assert_int_equal(tree_open(&t, "/nonexistent/x.db", &e), -ENOENT);
	assert_non_null(strstr(e.text, "/nonexistent/x.db"));
}

/* A file as version 1 has left it: an image of an ordinary layer over two lazy
 * ones, with a container and a view of the lowest. */
static const char version_1[] =
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
	"INSERT INTO layers VALUES (4, x'01', x'01', 0, 'r', 'r'),"
	" (5, x'02', x'02', 0, 'r', 'r'), (6, x'03', x'03', 0, 'r', 'r');"
	"INSERT INTO snapshots VALUES (1, 'l4', NULL, 4, 3, 1, 1, 0, 0, x''),"
	" (2, 'l5', 1, 5, 3, 1, 1, 0, 0, x''),"
	" (3, 'o', 2, NULL, 3, 1, 1, 0, 0, x''),"
	" (4, 'container', 3, NULL, 2, 1, 1, 0, 0, x''),"
	" (5, 'view', 1, NULL, 1, 1, 1, 0, 0, x''),"
	" (6, 'l6', NULL, 6, 3, 1, 1, 0, 0, x'')";

static void test_version_1(void **state)
{
	CLEANUP_SNAP struct snap s = {0};
	CLEANUP_CHAIN struct chain c = {0};

	(void)state;
	tree_close(t);
	t = NULL;
	remove_db();
	exec_sql(version_1);
	assert_int_equal(tree_open(&t, path, &e), 0);
	assert_int_equal(tree_get(t, "container", &s, &c, &e), 0);
	assert_int_equal(c.n, 3);
	assert_int_equal(c.v[1].layer, 5);
	/* What its replies have named is known, and not given up. */
	assert_int_equal(tree_named(t, NAMED_FUSE, 4), 2);
	assert_int_equal(tree_named(t, NAMED_FUSE, 5), 1);
	assert_int_equal(tree_named(t, NAMED_FUSE, 6), 0);
	assert_int_equal(tree_named(t, NAMED_NATIVE, 4), 0);
	assert_int_equal(drop("container"), 0);
	/* Once. */
	tree_close(t);
	assert_int_equal(tree_open(&t, path, &e), 0);
	assert_int_equal(tree_named(t, NAMED_FUSE, 4), 1);
	assert_int_equal(tree_named(t, NAMED_FUSE, 5), 0);
	assert_int_equal(tree_id_new(t), 7);
}

static int64_t layer_of(uint8_t n)
{
	char r[] = "r";
	struct layer_row row = {.reference = r, .repository = r};

	row.blob.b[0] = n;
	return tree_layer_put(t, &row, &e);
}

/* Two lazy layers, the lower one twice, and an ordinary one on top. */
static void chain_of(struct chain *ret)
{
	CLEANUP_SNAP struct snap s = {0};
	int64_t a = layer_of(1), b = layer_of(2);
	struct chain_link *v;

	assert_int_equal(tree_create_lazy(t, "a", "", &none, a, 1, &e), 0);
	assert_int_equal(tree_create_lazy(t, "b", "a", &none, b, 1, &e), 0);
	assert_int_equal(tree_create_lazy(t, "a2", "b", &none, a, 1, &e), 0);
	committed("top", "a2");
	assert_int_equal(tree_get(t, "top", &s, ret, &e), 0);
	v = reallocarray(ret->v, ret->n + 1, sizeof(*v));
	assert_non_null(v);
	memmove(v + 1, v, ret->n++ * sizeof(*v));
	v[0] = (struct chain_link){.id = s.id};
	ret->v = v;
	assert_int_equal(v[1].layer, a);
	assert_int_equal(v[2].layer, b);
	assert_int_equal(v[3].layer, a);
}

static int make_named(const char *key, const struct chain *c)
{
	return tree_create(t, tree_id_new(t), SNAP_ACTIVE, key, "top", &none, 1,
			   c, &e);
}

static void assert_named(const struct chain *c, int a_fuse, int b_fuse,
			 int b_native, int merged)
{
	assert_int_equal(tree_named(t, NAMED_FUSE, c->v[1].layer), a_fuse);
	assert_int_equal(tree_named(t, NAMED_FUSE, c->v[2].layer), b_fuse);
	assert_int_equal(tree_named(t, NAMED_NATIVE, c->v[2].layer), b_native);
	assert_int_equal(tree_named(t, NAMED_CHAIN, 77), merged);
}

static void test_named(void **state)
{
	CLEANUP_CHAIN struct chain c = {0};
	CLEANUP_SNAP struct snap s = {0};

	(void)state;
	chain_of(&c);
	assert_named(&c, 0, 0, 0, 0);
	assert_int_equal(make_named("k1", &c), 0);
	assert_named(&c, 1, 1, 0, 0);
	/* b is native by now: more is named, nothing is forgotten. */
	c.v[2].native = true;
	assert_int_equal(tree_get(t, "k1", &s, NULL, &e), 0);
	assert_int_equal(tree_name(t, s.id, &c, &e), 0);
	assert_int_equal(tree_name(t, s.id, &c, &e), 0);
	assert_named(&c, 1, 1, 1, 0);
	assert_int_equal(make_named("k2", &c), 0);
	assert_named(&c, 2, 1, 2, 0);
	/* Below merged metadata there are FUSE mounts alone. */
	c.merged = 77;
	assert_int_equal(make_named("k3", &c), 0);
	assert_named(&c, 3, 2, 2, 1);
	/* What was not made has named nothing. */
	assert_int_equal(make_named("k3", &c), -EEXIST);
	assert_named(&c, 3, 2, 2, 1);
	assert_int_equal(drop("k1"), 0);
	assert_named(&c, 2, 1, 1, 1);
	assert_int_equal(tree_name(t, s.id, &c, &e), -ENOENT);
	assert_named(&c, 2, 1, 1, 1);
	/* Who has unpacked something has no mount any more. */
	assert_int_equal(commit("k2", "n2"), 0);
	assert_named(&c, 1, 1, 0, 1);
	/* A crash later. */
	tree_close(t);
	assert_int_equal(tree_open(&t, path, &e), 0);
	assert_named(&c, 1, 1, 0, 1);
	/* And another boot. */
	tree_close(t);
	t = NULL;
	exec_sql("UPDATE boot SET id = x'00112233445566778899aabbccddeeff'");
	assert_int_equal(tree_open(&t, path, &e), 0);
	assert_named(&c, 0, 0, 0, 0);
	assert_int_equal(make_named("k4", &c), 0);
	tree_close(t);
	assert_int_equal(tree_open(&t, path, &e), 0);
	assert_named(&c, 1, 1, 0, 1);
}

/* Whoever asked for the ancestors of a parent must get those. */
static void test_parent_made_anew(void **state)
{
	CLEANUP_CHAIN struct chain c = {0};

	(void)state;
	chain_of(&c);
	assert_int_equal(drop("top"), 0);
	assert_int_equal(make_named("k", &c), -ENOENT);
	committed("top", "b");
	assert_int_equal(make_named("k", &c), -EAGAIN);
	assert_non_null(strstr(e.text, "top"));
	assert_named(&c, 0, 0, 0, 0);
	assert_int_equal(drop("k"), -ENOENT);
}

static int count_chain(void *arg, int64_t id, const struct digest *key)
{
	int *n = arg;

	assert_int_equal(tree_chain_get(t, key), id);
	return ++*n == 70 ? -ECANCELED : 0;
}

static void test_chains(void **state)
{
	CLEANUP_CHAIN struct chain c = {0};
	struct digest key = {0};
	int64_t id;
	int n = 0;

	(void)state;
	chain_of(&c);
	assert_int_equal(tree_chain_get(t, &key), -ENOENT);
	assert_int_equal(tree_chain_drop(t, &key), 0);
	id = tree_chain_put(t, &key, &e);
	assert_true(id > 0);
	assert_int_equal(tree_chain_put(t, &key, &e), id);
	assert_int_equal(tree_chain_get(t, &key), id);
	c.merged = id;
	assert_int_equal(make_named("k", &c), 0);
	assert_int_equal(tree_chain_drop(t, &key), 0);
	assert_int_equal(drop("k"), 0);
	assert_int_equal(tree_chain_drop(t, &key), 1);
	assert_int_equal(tree_chain_get(t, &key), -ENOENT);
	/* Its mount point's name is not used again. */
	assert_true(tree_chain_put(t, &key, &e) > id);
	for (uint8_t i = 1; i < 70; i++) {
		key.b[0] = i;
		assert_true(tree_chain_put(t, &key, &e) > 0);
	}
	assert_int_equal(tree_chain_walk(t, count_chain, &n, &e), -ECANCELED);
	assert_int_equal(n, 70);
	key.b[0] = 3;
	assert_int_equal(tree_chain_drop(t, &key), 1);
	n = 0;
	assert_int_equal(tree_chain_walk(t, count_chain, &n, &e), 0);
	assert_int_equal(n, 69);
}

/* Labels that our own encoder would not have written. */
static void test_broken_row(void **state)
{
	static const char *const labels[] = {"x'61'", "x'6100'", "x'610062'",
					     "x'6100620063'"};
	char sql[128];
	CLEANUP_SNAP struct snap s = {0};

	(void)state;
	assert_int_equal(make(SNAP_ACTIVE, "k", ""), 0);
	for (size_t i = 0; i < ARRAY_SIZE(labels); i++) {
		tree_close(t);
		(void)snprintf(sql, sizeof(sql),
			       "UPDATE snapshots SET labels = %s", labels[i]);
		exec_sql(sql);
		assert_int_equal(tree_open(&t, path, &e), 0);
		assert_int_equal(tree_get(t, "k", &s, NULL, &e), -EBADMSG);
	}
}

static void *many(void *arg)
{
	unsigned who = *(unsigned *)arg;
	char key[32], name[32];

	for (unsigned i = 0; i < 30; i++) {
		CLEANUP_SNAP struct snap s = {0};
		struct err err = {0};

		(void)snprintf(key, sizeof(key), "k%u-%u", who, i);
		(void)snprintf(name, sizeof(name), "n%u-%u", who, i);
		if (tree_create(t, tree_id_new(t), SNAP_ACTIVE, key, "base",
				&none, 1, NULL, &err) != 0 ||
		    tree_commit(t, key, name, &none, 1, 1, 1, &err) != 0 ||
		    tree_get(t, name, &s, NULL, &err) != 0)
			return strdup(err.text);
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[8];
	unsigned who[8];
	struct seen seen = {0};

	(void)state;
	committed("base", "");
	for (unsigned i = 0; i < 8; i++) {
		who[i] = i;
		assert_int_equal(
			pthread_create(&threads[i], NULL, many, &who[i]), 0);
	}
	for (unsigned i = 0; i < 8; i++) {
		void *text;

		assert_int_equal(pthread_join(threads[i], &text), 0);
		assert_null(text);
	}
	assert_int_equal(make(SNAP_ACTIVE, "k050", ""), 0);
	assert_int_equal(tree_walk(t, see, &seen, &e), 0);
	assert_true(seen.n >= 241);
}

static void fill(const char *file)
{
	static const uint8_t zeros[KIB(4)];
	CLEANUP_CLOSE int fd =
		open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	while (write(fd, zeros, sizeof(zeros)) > 0)
		;
	assert_int_equal(errno, ENOSPC);
}

/* Removals are what makes room on a full disk, whoever else takes it. */
static void test_full_disk(void **state)
{
	char mnt[sizeof(dir) + 8], db[sizeof(mnt) + 8], file[sizeof(mnt) + 8];
	char name[8];

	(void)state;
	(void)snprintf(mnt, sizeof(mnt), "%s/m", dir);
	(void)snprintf(db, sizeof(db), "%s/db", mnt);
	(void)snprintf(file, sizeof(file), "%s/f", mnt);
	assert_int_equal(mkdir(mnt, 0700), 0);
	if (geteuid() != 0 || mount("x", mnt, "tmpfs", 0, "size=16m") < 0) {
		(void)rmdir(mnt);
		skip();
	}
	tree_close(t);
	assert_int_equal(tree_open(&t, db, &e), 0);
	for (int i = 0; i < 64; i++) {
		(void)snprintf(name, sizeof(name), "s%d", i);
		assert_int_equal(make(SNAP_ACTIVE, name, ""), 0);
	}
	fill(file);
	tree_close(t);
	fill(file);
	if (tree_open(&t, db, &e) < 0)
		fail_msg("%s", e.text);
	for (int i = 0; i < 64; i++) {
		fill(file);
		(void)snprintf(name, sizeof(name), "s%d", i);
		if (drop(name) < 0)
			fail_msg("%s: %s", name, e.text);
	}
	tree_close(t);
	assert_int_equal(tree_open(&t, path, &e), 0);
	assert_int_equal(umount2(mnt, MNT_DETACH), 0);
	assert_int_equal(rmdir(mnt), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fresh, end)
	const struct CMUnitTest tests[] = {
		T(test_life),
		T(test_create_refuses),
		T(test_commit_refuses),
		T(test_remove_with_children),
		T(test_chain),
		T(test_depth),
		T(test_update),
		T(test_walk),
		T(test_layers),
		T(test_ids),
		T(test_survives),
		T(test_one_process),
		T(test_not_ours),
		T(test_broken_row),
		T(test_threads),
		T(test_full_disk),
		T(test_version_1),
		T(test_named),
		T(test_parent_made_anew),
		T(test_chains),
	};
	int r;

	if (mkdtemp(dir) == NULL)
		return 1;
	(void)snprintf(path, sizeof(path), "%s/snapshots.db", dir);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	remove_db();
	(void)rmdir(dir);
	return r;
}
