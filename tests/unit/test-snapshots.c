/* SPDX-License-Identifier: Apache-2.0 */
/* What containerd may ask for: directories, lazy layers (made up here), and
 * what is left when things fail. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/log.h"
#include "daemon/snapshotter/disk.h"
#include "daemon/snapshotter/idmap.h"
#include "daemon/snapshotter/snapshots.h"

static char root[] = "/tmp/test-snapshots.XXXXXX";
static int root_fd;
static struct stack st = {.root = root};
static struct tree *t;
static struct snapshots *s;
static struct err e;
static const struct labels none;

/*** Layers that mount nothing ***/

struct layers {
	int mount_error;
	int need_error;
	int usage_error;
	_Atomic int n_mounts, n_held, n_needs, n_collects, n_forgotten;
	struct chain needed;
	bool native;   /* what links become */
	bool all_fuse; /* what was asked for last */
	int64_t used;  /* the layer that was asked for */
};
static struct layers layers;

int64_t layers_mount(struct layers *ls, const struct lazy *z, struct err *err)
{
	struct layer_row row = {.reference = z->reference,
				.repository = z->repository,
				.blob = z->blob,
				.toc = z->toc};
	char name[32];
	int64_t id;

	if (ls->mount_error != 0)
		return err_set(err, ls->mount_error, "the registry is away");
	id = tree_layer_put(t, &row, err);
	assert_true(id > 0);
	(void)snprintf(name, sizeof(name), "m/%d", (int)id);
	(void)mkdirat(root_fd, "m", 0755);
	(void)mkdirat(root_fd, name, 0755);
	assert_int_equal(fchownat(root_fd, name, 12, 34, 0), 0);
	ls->n_mounts++;
	ls->n_held++;
	return id;
}

void layers_release(struct layers *ls, int64_t id)
{
	(void)id;
	ls->n_held--;
}

int layers_need(struct layers *ls, struct chain *chain, bool all_fuse,
		struct err *err)
{
	ls->all_fuse = all_fuse;
	ls->n_needs++;
	chain_done(&ls->needed);
	if (chain->n > 0) {
		ls->needed.v = malloc(chain->n * sizeof(*chain->v));
		assert_non_null(ls->needed.v);
		memcpy(ls->needed.v, chain->v, chain->n * sizeof(*chain->v));
		ls->needed.n = chain->n;
	}
	if (ls->need_error != 0)
		return err_set(err, ls->need_error, "layer is not available");
	for (size_t i = 0; i < chain->n; i++)
		chain->v[i].native = ls->native && chain->v[i].layer > 0;
	ls->n_held++;
	return 0;
}

bool layers_are_native(struct layers *ls, const struct chain *chain)
{
	(void)chain;
	return ls->native;
}

/* By now what was needed is noted. */
void layers_named(struct layers *ls, const struct chain *chain)
{
	enum named kind = ls->native ? NAMED_NATIVE : NAMED_FUSE;

	ls->n_held--;
	for (size_t i = 0; i < chain->n; i++) {
		if (chain->v[i].layer > 0)
			assert_true(tree_named(t, kind, chain->v[i].layer) > 0);
	}
}

void layers_forgotten(struct layers *ls)
{
	ls->n_forgotten++;
}

void layers_collect(struct layers *ls)
{
	ls->n_collects++;
}

int layers_usage(struct layers *ls, int64_t id, uint64_t *ret_bytes,
		 uint64_t *ret_inodes)
{
	ls->used = id;
	if (ls->usage_error != 0)
		return ls->usage_error;
	*ret_bytes = 4242;
	*ret_inodes = 42;
	return 0;
}

/*** Merged metadata that nobody makes ***/

struct chains {
	bool usable;
	int need_error;
	_Atomic int n_held, n_needs, n_begun, n_collects, n_layers_gone;
};
static struct chains chains;

bool chains_usable(const struct chains *cs)
{
	return cs->usable;
}

int chains_need(struct chains *cs, struct chain *chain, struct err *err)
{
	cs->n_needs++;
	if (cs->need_error != 0)
		return err_set(err, cs->need_error, "no metadata");
	cs->n_held++;
	chain->merged = 77;
	return 0;
}

void chains_named(struct chains *cs, const struct chain *chain)
{
	assert_int_equal(chain->merged, 77);
	cs->n_held--;
}

void chains_begin(struct chains *cs, const struct chain *chain)
{
	assert_true(chain->n > 0 && chain->v[0].layer > 0);
	cs->n_begun++;
}

void chains_collect(struct chains *cs, bool of_layers)
{
	cs->n_collects++;
	cs->n_layers_gone += of_layers;
}

/*** Set-up ***/

static int open_with(struct layers *ls)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "%s/snapshots.db", root);
	if (tree_open(&t, path, &e) < 0)
		return -1;
	return snapshots_open(&s, &st, t, ls, &chains, &e);
}

static void close_all(void)
{
	snapshots_close(s);
	tree_close(t);
	s = NULL;
	t = NULL;
}

static int fresh(void **state)
{
	(void)state;
	e = (struct err){0};
	layers = (struct layers){0};
	chains = (struct chains){0};
	if (mkdir(root, 0700) < 0)
		return -1;
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return open_with(&layers);
}

static int end(void **state)
{
	int parent = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	(void)state;
	close_all();
	chain_done(&layers.needed);
	(void)close(root_fd);
	r = disk_remove(parent, strrchr(root, '/') + 1);
	(void)close(parent);
	return r;
}

static int make(enum snap_kind kind, const char *key, const char *parent,
		const struct labels *labels)
{
	CLEANUP_STACK_MOUNT struct stack_mount m = {0};

	return snapshots_prepare(s, kind, key, parent, labels, &m, &e);
}

static void committed(const char *name, const char *parent)
{
	assert_int_equal(make(SNAP_ACTIVE, "tmp", parent, &none), 0);
	assert_int_equal(snapshots_commit(s, "tmp", name, &none, &e), 0);
}

static int64_t id_of(const char *key)
{
	CLEANUP_SNAP struct snap snap = {0};

	assert_int_equal(snapshots_stat(s, key, &snap, &e), 0);
	return snap.id;
}

static struct stat dir_of(int64_t id, const char *tail)
{
	char name[64];
	struct stat ret = {0};

	(void)snprintf(name, sizeof(name), "snapshots/%d%s", (int)id, tail);
	(void)fstatat(root_fd, name, &ret, AT_SYMLINK_NOFOLLOW);
	return ret;
}

static unsigned n_dirs(void)
{
	int fd = openat(root_fd, "snapshots", O_RDONLY | O_CLOEXEC);
	DIR *dir = fdopendir(fd);
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	(void)closedir(dir);
	return n - 2;
}

static void lazy_labels(struct labels *l, const char *target, char toc)
{
	char digest[] = "sha256:0123456789abcdef0123456789abcdef"
			"0123456789abcdef0123456789abcdef";

	assert_int_equal(labels_set(l, LABEL_REF, target), 0);
	assert_int_equal(
		labels_set(l, "containerd.io/snapshot/remote/stargz.reference",
			   "example.com/r:t"),
		0);
	assert_int_equal(
		labels_set(l, "containerd.io/snapshot/remote/stargz.digest",
			   digest),
		0);
	digest[7] = toc;
	assert_int_equal(labels_set(l,
				    "containerd.io/snapshot/stargz/toc.digest",
				    digest),
			 0);
}

/*** Ordinary ones ***/

static void test_directories(void **state)
{
	CLEANUP_STACK_MOUNT struct stack_mount m = {0};
	char want[128];
	mode_t old = umask(0077);
	int64_t id;

	(void)state;
	assert_int_equal(
		snapshots_prepare(s, SNAP_ACTIVE, "a", "", &none, &m, &e), 0);
	(void)umask(old);
	id = id_of("a");
	(void)snprintf(want, sizeof(want), "%s/snapshots/%d/fs", root, (int)id);
	assert_string_equal(m.source, want);
	assert_int_equal(dir_of(id, "").st_mode, S_IFDIR | 0700);
	assert_int_equal(dir_of(id, "/fs").st_mode, S_IFDIR | 0755);
	assert_int_equal(dir_of(id, "/work").st_mode, S_IFDIR | 0711);
	assert_int_equal(make(SNAP_VIEW, "v", "", &none), 0);
	assert_int_equal(dir_of(id_of("v"), "/fs").st_mode, S_IFDIR | 0755);
	assert_int_equal(dir_of(id_of("v"), "/work").st_mode, 0);
}

static void test_refused_leaves_nothing(void **state)
{
	CLEANUP_LABELS struct labels l = {0};

	(void)state;
	assert_int_equal(make(SNAP_ACTIVE, "a", "", &none), 0);
	assert_int_equal(make(SNAP_ACTIVE, "a", "", &none), -EEXIST);
	assert_int_equal(make(SNAP_VIEW, "a", "", &none), -EEXIST);
	assert_int_equal(make(SNAP_ACTIVE, "b", "nobody", &none), -ENOENT);
	assert_int_equal(make(SNAP_ACTIVE, "b", "a", &none), -EINVAL);
	assert_int_equal(labels_set(&l, LABEL_UIDMAPPING, "5:5:5"), 0);
	assert_int_equal(make(SNAP_ACTIVE, "b", "", &l), -EINVAL);
	assert_int_equal(snapshots_cleanup(s, &e), 0);
	assert_int_equal(n_dirs(), 1);
}

static void chown_fs(const char *key, uid_t uid, gid_t gid)
{
	char name[64];

	(void)snprintf(name, sizeof(name), "snapshots/%d/fs", (int)id_of(key));
	assert_int_equal(fchownat(root_fd, name, uid, gid, 0), 0);
}

static void test_owner(void **state)
{
	CLEANUP_LABELS struct labels l = {0};
	struct stat got;

	(void)state;
	assert_int_equal(make(SNAP_ACTIVE, "tmp", "", &none), 0);
	chown_fs("tmp", 77, 88);
	assert_int_equal(snapshots_commit(s, "tmp", "c", &none, &e), 0);
	assert_int_equal(make(SNAP_ACTIVE, "a", "c", &none), 0);
	got = dir_of(id_of("a"), "/fs");
	assert_int_equal(got.st_uid, 77);
	assert_int_equal(got.st_gid, 88);
	/* Unless a mapping is given. */
	assert_int_equal(labels_set(&l, LABEL_UIDMAPPING, "1:5:6,0:666:1000"),
			 0);
	assert_int_equal(labels_set(&l, LABEL_GIDMAPPING, "0:888:1"), 0);
	assert_int_equal(make(SNAP_ACTIVE, "b", "c", &l), 0);
	got = dir_of(id_of("b"), "/fs");
	assert_int_equal(got.st_uid, 666);
	assert_int_equal(got.st_gid, 888);
	assert_int_equal(make(SNAP_VIEW, "v", "", &l), 0);
	assert_int_equal(dir_of(id_of("v"), "/fs").st_uid, 666);
}

static void test_idmap(void **state)
{
	static const struct {
		const char *uids, *gids;
		int want;
		uid_t uid;
		gid_t gid;
	} cases[] = {
		{NULL, NULL, 0, 0, 0},
		{"0:5:1", NULL, 1, 5, 0},
		{NULL, "0:5:1", 1, 0, 5},
		{"1:2:3,0:7:1,0:9:1", "0:0:4294967294", 1, 7, 0},
		{"0:5:0", NULL, -EINVAL, 0, 0},
		{"666:666:666", "666:666:666", -EINVAL, 0, 0},
		{"0:0:66666", "-1:-1:-2", -EINVAL, 0, 0},
		{"0:1:1,-1:-1:-2", NULL, -EINVAL, 0, 0},
		{"0:4294967295:1", NULL, -EINVAL, 0, 0},
		{"0:1:99999999999999999999", NULL, -EINVAL, 0, 0},
		{"0:1", NULL, -EINVAL, 0, 0},
		{"0:1:", NULL, -EINVAL, 0, 0},
		{"0:1:1,", NULL, -EINVAL, 0, 0},
		{"0:1:1x", NULL, -EINVAL, 0, 0},
		{"0", NULL, -EINVAL, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_LABELS struct labels l = {0};
		uid_t uid = 0;
		gid_t gid = 0;

		(void)labels_set(&l, LABEL_UIDMAPPING, cases[i].uids);
		(void)labels_set(&l, LABEL_GIDMAPPING, cases[i].gids);
		assert_int_equal(idmap_root(&l, &uid, &gid, &e), cases[i].want);
		assert_int_equal(uid, cases[i].uid);
		assert_int_equal(gid, cases[i].gid);
	}
}

static void test_mounts(void **state)
{
	CLEANUP_STACK_MOUNT struct stack_mount m = {0};

	(void)state;
	committed("c", "");
	assert_int_equal(make(SNAP_ACTIVE, "a", "c", &none), 0);
	assert_int_equal(snapshots_mounts(s, "a", &m, &e), 0);
	assert_string_equal(m.type, "overlay");
	assert_int_equal(snapshots_mounts(s, "c", &m, &e), -EBUSY);
	assert_int_equal(snapshots_mounts(s, "nobody", &m, &e), -ENOENT);
}

static void test_usage(void **state)
{
	uint64_t bytes, inodes, now_bytes, now_inodes;
	char name[64];
	int fd;

	(void)state;
	assert_int_equal(make(SNAP_ACTIVE, "a", "", &none), 0);
	assert_int_equal(snapshots_usage(s, "a", &bytes, &inodes, &e), 0);
	assert_int_equal(inodes, 1);
	(void)snprintf(name, sizeof(name), "snapshots/%d/fs/f",
		       (int)id_of("a"));
	fd = openat(root_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, name, sizeof(name)), sizeof(name));
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(snapshots_usage(s, "a", &now_bytes, &now_inodes, &e),
			 0);
	assert_int_equal(now_inodes, 2);
	assert_true(now_bytes > bytes);
	/* A committed one has what was found then. */
	assert_int_equal(snapshots_commit(s, "a", "c", &none, &e), 0);
	(void)snprintf(name, sizeof(name), "snapshots/%d/fs/g",
		       (int)id_of("c"));
	assert_int_equal(mkdirat(root_fd, name, 0755), 0);
	assert_int_equal(snapshots_usage(s, "c", &bytes, &inodes, &e), 0);
	assert_int_equal(bytes, now_bytes);
	assert_int_equal(inodes, 2);
	assert_int_equal(make(SNAP_VIEW, "v", "c", &none), 0);
	assert_int_equal(snapshots_usage(s, "v", &bytes, &inodes, &e), 0);
	assert_int_equal(bytes, 0);
	assert_int_equal(snapshots_usage(s, "x", &bytes, &inodes, &e), -ENOENT);
}

static void test_remove(void **state)
{
	(void)state;
	committed("c", "");
	assert_int_equal(make(SNAP_ACTIVE, "a", "c", &none), 0);
	assert_int_equal(n_dirs(), 2);
	assert_int_equal(snapshots_remove(s, "c", &e), -EBUSY);
	assert_int_equal(snapshots_remove(s, "a", &e), 0);
	assert_int_equal(snapshots_remove(s, "c", &e), 0);
	assert_int_equal(snapshots_remove(s, "c", &e), -ENOENT);
	assert_int_equal(snapshots_cleanup(s, &e), 0);
	assert_int_equal(n_dirs(), 0);
}

/* What a crash may leave goes; what is needed, or not ours, stays. */
static void test_rubbish(void **state)
{
	static const char *const rubbish[] = {"98", "99", "7", "8"};
	static const char *const others[] = {"lost+found", "07", "1x", "-5",
					     "rm-9"};
	char name[64];
	int64_t id;

	(void)state;
	committed("c", "");
	close_all();
	for (size_t i = 0; i < ARRAY_SIZE(rubbish); i++) {
		(void)snprintf(name, sizeof(name), "snapshots/%s", rubbish[i]);
		assert_int_equal(mkdirat(root_fd, name, 0700), 0);
		(void)snprintf(name, sizeof(name), "snapshots/%s/fs",
			       rubbish[i]);
		assert_int_equal(mkdirat(root_fd, name, 0), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		(void)snprintf(name, sizeof(name), "snapshots/%s", others[i]);
		assert_int_equal(mkdirat(root_fd, name, 0700), 0);
	}
	assert_int_equal(open_with(&layers), 0);
	/* No id is given twice, not even to a directory that was rubbish. */
	assert_int_equal(make(SNAP_ACTIVE, "a", "c", &none), 0);
	id = id_of("a");
	assert_int_equal(id, 100);
	assert_int_equal(snapshots_cleanup(s, &e), 0);
	assert_int_equal(n_dirs(), 2 + ARRAY_SIZE(others));
	assert_int_equal(dir_of(id, "/fs").st_mode, S_IFDIR | 0755);
	assert_int_equal(dir_of(id_of("c"), "/fs").st_mode, S_IFDIR | 0755);
}

static void remove_dir(int64_t id, const char *tail)
{
	char name[64];

	(void)snprintf(name, sizeof(name), "snapshots/%d%s", (int)id, tail);
	assert_int_equal(unlinkat(root_fd, name, AT_REMOVEDIR), 0);
}

/* Rows that outlived the directories of new snapshots in a power cut. */
static void test_mends(void **state)
{
	int64_t a, b, v;

	(void)state;
	assert_int_equal(make(SNAP_ACTIVE, "tmp", "", &none), 0);
	chown_fs("tmp", 77, 88);
	assert_int_equal(snapshots_commit(s, "tmp", "c", &none, &e), 0);
	assert_int_equal(make(SNAP_ACTIVE, "a", "c", &none), 0);
	assert_int_equal(make(SNAP_ACTIVE, "b", "", &none), 0);
	assert_int_equal(make(SNAP_VIEW, "v", "c", &none), 0);
	a = id_of("a");
	b = id_of("b");
	v = id_of("v");
	close_all();
	remove_dir(a, "/work");
	remove_dir(a, "/fs");
	remove_dir(a, "");
	remove_dir(b, "/work");
	remove_dir(v, "/fs");
	assert_int_equal(open_with(&layers), 0);
	assert_int_equal(dir_of(a, "/fs").st_mode, S_IFDIR | 0755);
	assert_int_equal(dir_of(a, "/fs").st_uid, 77);
	assert_int_equal(dir_of(a, "/fs").st_gid, 88);
	assert_int_equal(dir_of(a, "/work").st_mode, S_IFDIR | 0711);
	assert_int_equal(dir_of(b, "/work").st_mode, S_IFDIR | 0711);
	assert_int_equal(dir_of(v, "/fs").st_mode, S_IFDIR | 0755);
	assert_int_equal(dir_of(v, "/work").st_mode, 0);
	assert_int_equal(snapshots_cleanup(s, &e), 0);
	assert_int_equal(n_dirs(), 4);
}

static _Atomic bool stop;

static void *clean(void *arg)
{
	(void)arg;
	while (!atomic_load_explicit(&stop, memory_order_relaxed))
		(void)snapshots_cleanup(s, NULL);
	return NULL;
}

/* A Cleanup does not take away what a Prepare is making. */
static void test_cleanup_meanwhile(void **state)
{
	pthread_t thread;
	char key[16];

	(void)state;
	atomic_store_explicit(&stop, false, memory_order_relaxed);
	assert_int_equal(pthread_create(&thread, NULL, clean, NULL), 0);
	for (int i = 0; i < 300; i++) {
		(void)snprintf(key, sizeof(key), "k%d", i);
		assert_int_equal(make(SNAP_ACTIVE, key, "", &none), 0);
		if (i % 3 == 0)
			assert_int_equal(snapshots_remove(s, key, &e), 0);
	}
	atomic_store_explicit(&stop, true, memory_order_relaxed);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(snapshots_cleanup(s, &e), 0);
	assert_int_equal(n_dirs(), 200);
}

static void test_bad_root(void **state)
{
	static const char *const roots[] = {"relative", "/a:b", "/a,b",
					    "/a\\b"};
	struct snapshots *other = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
		const struct stack bad = {.root = roots[i]};

		assert_int_equal(
			snapshots_open(&other, &bad, t, NULL, NULL, &e),
			-EINVAL);
		assert_non_null(strstr(e.text, roots[i]));
	}
	assert_null(other);
}

static int count(void *arg, const struct snap *snap)
{
	unsigned *n = arg;

	(void)snap;
	(*n)++;
	return 0;
}

static void test_list(void **state)
{
	const char *filters[] = {"kind==committed", "name==a"};
	const char *bad[] = {"kind=committed"};
	unsigned n = 0;

	(void)state;
	committed("c1", "");
	committed("c2", "c1");
	assert_int_equal(make(SNAP_ACTIVE, "a", "c2", &none), 0);
	assert_int_equal(make(SNAP_VIEW, "v", "c2", &none), 0);
	assert_int_equal(snapshots_list(s, NULL, 0, count, &n, &e), 0);
	assert_int_equal(n, 4);
	n = 0;
	assert_int_equal(snapshots_list(s, filters, 2, count, &n, &e), 0);
	assert_int_equal(n, 3);
	assert_int_equal(snapshots_list(s, bad, 1, count, &n, &e), -EINVAL);
}

/*** Lazy ones ***/

static void test_lazy(void **state)
{
	CLEANUP_LABELS struct labels l = {0}, l2 = {0};
	CLEANUP_STACK_MOUNT struct stack_mount m = {0};
	struct snap snap = {0};
	struct stat got;
	uint64_t bytes, inodes;

	(void)state;
	lazy_labels(&l, "chain1", '1');
	assert_int_equal(make(SNAP_ACTIVE, "x1", "", &l), -EEXIST);
	assert_string_equal(e.text, "target snapshot \"chain1\": already "
				    "exists");
	assert_int_equal(snapshots_stat(s, "x1", &snap, &e), -ENOENT);
	assert_int_equal(snapshots_stat(s, "chain1", &snap, &e), 0);
	assert_int_equal(snap.kind, SNAP_COMMITTED);
	assert_true(snap.layer > 0);
	assert_string_equal(labels_get(&snap.labels, LABEL_REF), "chain1");
	assert_string_equal(labels_get(&snap.labels, LABEL_REMOTE),
			    LABEL_REMOTE_VALUE);
	snap_done(&snap);
	assert_int_equal(n_dirs(), 0);
	/* Again: it is there, and nothing is mounted. */
	assert_int_equal(make(SNAP_ACTIVE, "x2", "", &l), -EEXIST);
	assert_int_equal(layers.n_mounts, 1);
	/* The next layer is the same blob: empty ones are. */
	lazy_labels(&l2, "chain2", '1');
	assert_int_equal(make(SNAP_ACTIVE, "x3", "chain1", &l2), -EEXIST);
	assert_int_equal(snapshots_stat(s, "chain2", &snap, &e), 0);
	assert_string_equal(snap.parent, "chain1");
	snap_done(&snap);
	assert_int_equal(snapshots_usage(s, "chain1", &bytes, &inodes, &e), 0);
	assert_int_equal(bytes, 4242);
	assert_int_equal(inodes, 42);
	layers.usage_error = -ENOENT;
	assert_int_equal(snapshots_usage(s, "chain1", &bytes, &inodes, &e), 0);
	assert_int_equal(bytes, 0);
	layers.usage_error = -EIO;
	assert_int_equal(snapshots_usage(s, "chain1", &bytes, &inodes, &e),
			 -EIO);
	/* Their bytes count once. */
	assert_int_equal(snapshots_usage(s, "chain2", &bytes, &inodes, &e), 0);
	assert_int_equal(bytes, 0);
	assert_int_equal(inodes, 0);
	/* An ordinary one above is root's, whatever the layer says. */
	assert_int_equal(
		snapshots_prepare(s, SNAP_ACTIVE, "a", "chain2", &none, &m, &e),
		0);
	assert_int_equal(layers.needed.n, 2);
	got = dir_of(id_of("a"), "/fs");
	assert_int_equal(got.st_uid, 0);
	assert_int_equal(got.st_gid, 0);
	assert_int_equal(m.n_options, 3);
	assert_non_null(strstr(m.options[2], "/m/1"));
	assert_null(strchr(m.options[2], ':'));
	assert_int_equal(layers.n_held, 0);
	layers.n_collects = 0;
	layers.n_forgotten = 0;
	assert_int_equal(snapshots_remove(s, "a", &e), 0);
	assert_int_equal(layers.n_forgotten, 1);
	assert_int_equal(snapshots_remove(s, "chain2", &e), 0);
	assert_int_equal(layers.n_collects, 1);
}

/* What a reply names is noted, and what later ones name beside it. */
static void test_names(void **state)
{
	CLEANUP_STACK_MOUNT struct stack_mount m = {0};
	CLEANUP_LABELS struct labels l = {0};

	(void)state;
	lazy_labels(&l, "chain", '1');
	assert_int_equal(make(SNAP_ACTIVE, "x", "", &l), -EEXIST);
	assert_int_equal(tree_named(t, NAMED_FUSE, 1), 0);
	assert_int_equal(make(SNAP_ACTIVE, "a", "chain", &none), 0);
	assert_int_equal(make(SNAP_VIEW, "v", "chain", &none), 0);
	assert_int_equal(tree_named(t, NAMED_FUSE, 1), 2);
	layers.native = true;
	assert_int_equal(snapshots_mounts(s, "a", &m, &e), 0);
	assert_non_null(strstr(m.options[2], "/e/1"));
	assert_int_equal(tree_named(t, NAMED_FUSE, 1), 2);
	assert_int_equal(tree_named(t, NAMED_NATIVE, 1), 1);
	/* What was refused has named nothing. */
	assert_int_equal(make(SNAP_ACTIVE, "a", "chain", &none), -EEXIST);
	layers.need_error = -EAGAIN;
	assert_int_equal(make(SNAP_ACTIVE, "b", "chain", &none), -EAGAIN);
	assert_int_equal(tree_named(t, NAMED_NATIVE, 1), 1);
	assert_int_equal(layers.n_held, 0);
	assert_int_equal(snapshots_remove(s, "a", &e), 0);
	assert_int_equal(tree_named(t, NAMED_FUSE, 1), 1);
	assert_int_equal(tree_named(t, NAMED_NATIVE, 1), 0);
}

/* Of a chain of two lazy layers. */
static void make_chain(void)
{
	CLEANUP_LABELS struct labels l1 = {0}, l2 = {0};

	lazy_labels(&l1, "one", '1');
	assert_int_equal(make(SNAP_ACTIVE, "x", "", &l1), -EEXIST);
	lazy_labels(&l2, "two", '2');
	assert_int_equal(make(SNAP_ACTIVE, "x", "one", &l2), -EEXIST);
}

/* Return: lowerdir= of an active one, borrowed */
static const char *lowerdir(struct stack_mount *m, const char *key,
			    const struct labels *l)
{
	stack_mount_done(m);
	assert_int_equal(
		snapshots_prepare(s, SNAP_ACTIVE, key, "two", l, m, &e), 0);
	assert_true(m->n_options >= 3);
	return m->options[2];
}

static void test_merged(void **state)
{
	CLEANUP_STACK_MOUNT struct stack_mount m = {0};
	CLEANUP_LABELS struct labels ids = {0};
	char want[128];

	(void)state;
	chains.usable = true;
	make_chain();
	(void)snprintf(want, sizeof(want), "lowerdir=%s/c/77::%s/m/2::%s/m/1",
		       root, root, root);
	assert_string_equal(lowerdir(&m, "default/1/a", &none), want);
	assert_true(layers.all_fuse);
	assert_int_equal(tree_named(t, NAMED_CHAIN, 77), 1);
	assert_int_equal(tree_named(t, NAMED_FUSE, 2), 1);
	stack_mount_done(&m);
	assert_int_equal(snapshots_mounts(s, "default/1/a", &m, &e), 0);
	assert_string_equal(m.options[2], want);
	assert_int_equal(chains.n_needs, 2);
	/* What is of no use there. */
	(void)snprintf(want, sizeof(want), "lowerdir=%s/m/2:%s/m/1", root,
		       root);
	assert_string_equal(lowerdir(&m, "default/2/extract-1 two", &none),
			    want);
	assert_string_equal(lowerdir(&m, "no-extract-/2/extract-1 two", &none),
			    want);
	assert_false(layers.all_fuse);
	assert_int_equal(labels_set(&ids, LABEL_UIDMAPPING, "0:1000:10"), 0);
	assert_string_equal(lowerdir(&m, "default/3/b", &ids), want);
	assert_int_equal(chains.n_needs, 2);
	/* This time without. */
	chains.need_error = -ENOSPC;
	assert_string_equal(lowerdir(&m, "default/4/c", &none), want);
	assert_int_equal(chains.n_needs, 3);
	chains.need_error = 0;
	layers.native = true;
	(void)snprintf(want, sizeof(want), "lowerdir=%s/e/2:%s/e/1", root,
		       root);
	assert_string_equal(lowerdir(&m, "default/5/d", &none), want);
	assert_int_equal(chains.n_needs, 3);
	assert_int_equal(chains.n_held, 0);
	assert_int_equal(layers.n_held, 0);
	assert_int_equal(chains.n_collects, 0);
	assert_int_equal(snapshots_remove(s, "default/1/a", &e), 0);
	assert_int_equal(tree_named(t, NAMED_CHAIN, 77), 0);
	assert_int_equal(chains.n_collects, 1);
	assert_int_equal(chains.n_layers_gone, 0);
}

/* In the background: behind the last layer, and while an ordinary one comes. */
static void test_merged_begins(void **state)
{
	static const char list[] = "containerd.io/snapshot/remote/"
				   "stargz.layers";
	static const char mine[] = "sha256:0123456789abcdef0123456789abcdef"
				   "0123456789abcdef0123456789abcdef";
	static const char both[] = "sha256:0123456789abcdef0123456789abcdef"
				   "0123456789abcdef0123456789abcdef,"
				   "sha256:1123456789abcdef0123456789abcdef"
				   "0123456789abcdef0123456789abcdef";
	CLEANUP_LABELS struct labels l1 = {0}, l2 = {0};

	(void)state;
	chains.usable = true;
	lazy_labels(&l1, "one", '1');
	assert_int_equal(labels_set(&l1, list, both), 0);
	assert_int_equal(make(SNAP_ACTIVE, "x", "", &l1), -EEXIST);
	assert_int_equal(chains.n_begun, 0);
	lazy_labels(&l2, "two", '2');
	assert_int_equal(labels_set(&l2, list, mine), 0);
	assert_int_equal(make(SNAP_ACTIVE, "x", "one", &l2), -EEXIST);
	assert_int_equal(chains.n_begun, 1);
	assert_int_equal(make(SNAP_ACTIVE, "d/1/extract-1 three", "two", &none),
			 0);
	assert_int_equal(chains.n_begun, 2);
	assert_int_equal(
		snapshots_commit(s, "d/1/extract-1 three", "three", &none, &e),
		0);
	assert_int_equal(snapshots_remove(s, "three", &e), 0);
	assert_int_equal(chains.n_layers_gone, 0);
	assert_int_equal(snapshots_remove(s, "two", &e), 0);
	assert_int_equal(chains.n_layers_gone, 1);
}

static void test_lazy_needs_its_parent(void **state)
{
	CLEANUP_LABELS struct labels l = {0};

	(void)state;
	lazy_labels(&l, "chain", '1');
	assert_int_equal(make(SNAP_ACTIVE, "x", "nobody", &l), -ENOENT);
	assert_int_equal(make(SNAP_ACTIVE, "a", "", &none), 0);
	assert_int_equal(make(SNAP_ACTIVE, "x", "a", &l), -EINVAL);
	assert_int_equal(layers.n_mounts, 0);
}

/* What cannot be had lazily is an ordinary snapshot, labels and all. */
static void test_lazy_falls_back(void **state)
{
	CLEANUP_LABELS struct labels l = {0}, bad = {0};
	struct snap snap = {0};

	(void)state;
	lazy_labels(&l, "chain", '1');
	layers.mount_error = -EACCES;
	assert_int_equal(make(SNAP_ACTIVE, "x", "", &l), 0);
	assert_int_equal(snapshots_stat(s, "x", &snap, &e), 0);
	assert_int_equal(snap.kind, SNAP_ACTIVE);
	assert_string_equal(labels_get(&snap.labels, LABEL_REF), "chain");
	assert_null(labels_get(&snap.labels, LABEL_REMOTE));
	snap_done(&snap);
	/* That says nothing of the target. */
	layers.mount_error = -EEXIST;
	assert_int_equal(make(SNAP_ACTIVE, "w", "", &l), 0);
	layers.mount_error = 0;
	/* No TOC digest. */
	assert_int_equal(labels_copy(&bad, &l), 0);
	assert_int_equal(labels_set(&bad,
				    "containerd.io/snapshot/stargz/toc.digest",
				    ""),
			 0);
	assert_int_equal(make(SNAP_ACTIVE, "y", "", &bad), 0);
	/* No word of an image. */
	labels_done(&bad);
	assert_int_equal(labels_set(&bad, LABEL_REF, "chain"), 0);
	assert_int_equal(make(SNAP_ACTIVE, "z", "", &bad), 0);
	assert_int_equal(layers.n_mounts, 0);
	/* Views are never lazy. */
	assert_int_equal(make(SNAP_VIEW, "v", "", &l), 0);
	assert_int_equal(layers.n_mounts, 0);
	/* The fallback needs the key. */
	layers.mount_error = -EACCES;
	assert_int_equal(make(SNAP_ACTIVE, "x", "", &l), -EEXIST);
	assert_null(strstr(e.text, "target"));
}

static void test_not_available(void **state)
{
	CLEANUP_STACK_MOUNT struct stack_mount m = {0};
	CLEANUP_LABELS struct labels l = {0}, l2 = {0};

	(void)state;
	lazy_labels(&l, "chain", '1');
	assert_int_equal(make(SNAP_ACTIVE, "x", "", &l), -EEXIST);
	assert_int_equal(make(SNAP_ACTIVE, "a", "chain", &none), 0);
	layers.need_error = -EAGAIN;
	assert_int_equal(make(SNAP_ACTIVE, "b", "chain", &none), -EAGAIN);
	assert_int_equal(make(SNAP_VIEW, "b", "chain", &none), -EAGAIN);
	assert_int_equal(snapshots_mounts(s, "a", &m, &e), -EAGAIN);
	assert_string_equal(e.text, "layer is not available");
	/* The next lazy layer needs nothing of those below. */
	lazy_labels(&l2, "chain2", '2');
	assert_int_equal(make(SNAP_ACTIVE, "x", "chain", &l2), -EEXIST);
	/* Nor does whatever only looks or takes away. */
	assert_int_equal(snapshots_commit(s, "a", "c", &none, &e), 0);
	assert_int_equal(snapshots_remove(s, "c", &e), 0);
	assert_int_equal(n_dirs() <= 1, 1);
}

struct racer {
	unsigned who;
	int r;
};

static void *race(void *arg)
{
	struct racer *racer = arg;
	CLEANUP_LABELS struct labels l = {0};
	CLEANUP_STACK_MOUNT struct stack_mount m = {0};
	struct err err = {0};
	char key[16];

	lazy_labels(&l, "chain", '1');
	(void)snprintf(key, sizeof(key), "x%u", racer->who);
	racer->r = snapshots_prepare(s, SNAP_ACTIVE, key, "", &l, &m, &err);
	return NULL;
}

/* All who ask for one target at once are told that it is there. */
static void test_lazy_race(void **state)
{
	pthread_t threads[8];
	struct racer racers[8];

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		racers[i].who = i;
		assert_int_equal(
			pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	}
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(racers[i].r, -EEXIST);
	}
	assert_int_equal(layers.n_held, 0);
	assert_int_equal(n_dirs(), 0);
}

/* Without layers everything is ordinary. */
static void test_no_layers(void **state)
{
	CLEANUP_LABELS struct labels l = {0};

	(void)state;
	close_all();
	assert_int_equal(open_with(NULL), 0);
	lazy_labels(&l, "chain", '1');
	assert_int_equal(make(SNAP_ACTIVE, "x", "", &l), 0);
	assert_int_equal(snapshots_commit(s, "x", "chain", &l, &e), 0);
	assert_int_equal(make(SNAP_ACTIVE, "y", "", &l), 0);
	assert_int_equal(snapshots_commit(s, "y", "chain", &l, &e), -EEXIST);
	assert_int_equal(snapshots_remove(s, "chain", &e), 0);
	assert_int_equal(snapshots_cleanup(s, &e), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fresh, end)
	const struct CMUnitTest tests[] = {
		T(test_directories),
		T(test_refused_leaves_nothing),
		T(test_owner),
		cmocka_unit_test(test_idmap),
		T(test_mounts),
		T(test_usage),
		T(test_remove),
		T(test_rubbish),
		T(test_mends),
		T(test_cleanup_meanwhile),
		T(test_bad_root),
		T(test_list),
		T(test_lazy),
		T(test_names),
		T(test_merged),
		T(test_merged_begins),
		T(test_lazy_needs_its_parent),
		T(test_lazy_falls_back),
		T(test_not_available),
		T(test_lazy_race),
		T(test_no_layers),
	};

	log_set_level(LOG_ERR_);
	if (mkdtemp(root) == NULL || rmdir(root) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
