/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ordinary snapshots without a wire, to be killed.
 *
 *   snaplab run ROOT SEED THREADS   prepares, commits and removes for ever. What it
 *                                   is about to do and what is done, a line each:
 *                                   "p KEY PARENT" … "P KEY PARENT", so c/C, r/R
 *   snaplab list ROOT               starts as a snapshotter does, cleans up, prints
 *                                   "KIND NAME PARENT" a snapshot; exit 1 where
 *                                   one has no directory, or a directory none
 *   snaplab empty ROOT              removes all of them
 *   snaplab full ROOT               prepares large ones until the disk is full, then
 *                                   removes all of them
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/io.h"
#include "daemon/snapshotter/snapshots.h"

#define NAMES_MAX 12u
#define NAME_BYTES 64

static struct stack st;
static struct tree *tree;
static struct snapshots *snaps;

struct worker {
	pthread_t thread;
	unsigned who;
	unsigned seed;
	unsigned serial;
	char names[NAMES_MAX][NAME_BYTES]; /* each on top of the one before */
	unsigned n;
};

static void die(const char *what, const struct err *e)
{
	(void)fprintf(stderr, "%s: %s\n", what, e->text);
	_exit(3);
}

static void say(const char *what, const char *name, const char *parent)
{
	char line[3 * NAME_BYTES];
	int n = snprintf(line, sizeof(line), "%s %s %s\n", what, name,
			 parent[0] != '\0' ? parent : "-");

	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		_exit(4);
}

static void grow(struct worker *w)
{
	CLEANUP_STACK_MOUNT struct stack_mount m = {0};
	CLEANUP_LABELS struct labels labels = {0};
	const char *parent = w->n > 0 ? w->names[w->n - 1] : "";
	char key[NAME_BYTES], *name = w->names[w->n];
	struct err e = {0};

	(void)snprintf(key, sizeof(key), "a%u-%u", w->who, w->serial);
	(void)snprintf(name, NAME_BYTES, "c%u-%u", w->who, w->serial++);
	(void)labels_set(&labels, "containerd.io/snapshot.ref", name);
	say("p", key, parent);
	if (snapshots_prepare(snaps, SNAP_ACTIVE, key, parent, &labels, &m,
			      &e) < 0)
		die(key, &e);
	say("P", key, parent);
	say("c", name, parent);
	if (snapshots_commit(snaps, key, name, &labels, &e) < 0)
		die(name, &e);
	say("C", name, parent);
	w->n++;
}

static void shrink(struct worker *w)
{
	char *name = w->names[--w->n];
	struct err e = {0};

	say("r", name, "");
	if (snapshots_remove(snaps, name, &e) < 0)
		die(name, &e);
	say("R", name, "");
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (;;) {
		bool up = rand_r(&w->seed) % 3 != 0;

		if (w->n == 0 || (up && w->n < NAMES_MAX))
			grow(w);
		else
			shrink(w);
		if (w->who == 0 && rand_r(&w->seed) % 16 == 0)
			(void)snapshots_cleanup(snaps, NULL);
	}
	return NULL;
}

static int run(unsigned seed, unsigned n)
{
	struct worker *workers = calloc(n, sizeof(*workers));

	if (workers == NULL)
		return 1;
	for (unsigned i = 0; i < n; i++) {
		workers[i].who = i;
		workers[i].seed = seed + i;
		workers[i].serial = seed % 1000 * 1000;
		if (pthread_create(&workers[i].thread, NULL, work,
				   &workers[i]) != 0)
			return 1;
	}
	(void)pthread_join(workers[0].thread, NULL);
	return 1;
}

static unsigned n_listed, n_bad;

static int list_one(void *arg, const struct snap *s)
{
	static const char *const kinds[] = {
		[SNAP_VIEW] = "view",
		[SNAP_ACTIVE] = "active",
		[SNAP_COMMITTED] = "committed",
	};
	CLEANUP_FREE char *path = stack_snapshot_path(&st, s->id, "/fs");
	struct stat sb;

	(void)arg;
	n_listed++;
	(void)printf("%s %s %s\n", kinds[s->kind], s->name,
		     s->parent[0] != '\0' ? s->parent : "-");
	if (path == NULL || stat(path, &sb) < 0) {
		(void)fprintf(stderr, "%s: no %s\n", s->name, path);
		n_bad++;
	}
	return 0;
}

static int list(const char *root)
{
	char path[4096];
	struct err e = {0};
	unsigned n = 0;
	DIR *dir;

	if (snapshots_cleanup(snaps, &e) < 0 ||
	    snapshots_list(snaps, NULL, 0, list_one, NULL, &e) < 0)
		die("list", &e);
	(void)snprintf(path, sizeof(path), "%s/snapshots", root);
	dir = opendir(path);
	if (dir == NULL)
		return 1;
	while (readdir(dir) != NULL)
		n++;
	(void)closedir(dir);
	if (n - 2 != n_listed) {
		(void)fprintf(stderr, "%u directories, %u snapshots\n", n - 2,
			      n_listed);
		n_bad++;
	}
	return n_bad > 0;
}

struct names {
	char *v[4096];
	size_t n;
};

static int take_name(void *arg, const struct snap *s)
{
	struct names *names = arg;

	if (names->n == ARRAY_SIZE(names->v))
		return -EOVERFLOW;
	names->v[names->n] = strdup(s->name);
	return names->v[names->n++] != NULL ? 0 : -ENOMEM;
}

/* Children before their parents: until a round removes none. */
static int empty(void)
{
	struct names names;
	struct err e = {0};
	size_t removed;

	do {
		names.n = removed = 0;
		if (snapshots_list(snaps, NULL, 0, take_name, &names, &e) < 0)
			die("list", &e);
		for (size_t i = 0; i < names.n; i++) {
			int r = snapshots_remove(snaps, names.v[i], &e);

			if (r < 0 && r != -EBUSY)
				die(names.v[i], &e);
			removed += r == 0;
			free(names.v[i]);
		}
	} while (removed > 0);
	if (snapshots_cleanup(snaps, &e) < 0)
		die("cleanup", &e);
	return names.n > 0;
}

static int full(void)
{
	static char value[65536];
	CLEANUP_LABELS struct labels labels = {0};
	struct err e = {0};
	int r = 0;

	memset(value, 'v', sizeof(value) - 1);
	(void)labels_set(&labels, "large", value);
	for (unsigned i = 0; r == 0; i++) {
		CLEANUP_STACK_MOUNT struct stack_mount m = {0};
		char key[NAME_BYTES];

		(void)snprintf(key, sizeof(key), "full%u", i);
		r = snapshots_prepare(snaps, SNAP_ACTIVE, key, "", &labels, &m,
				      &e);
	}
	(void)printf("%s: %s\n", err_symbol(r), e.text);
	return empty();
}

int main(int argc, char **argv)
{
	char db[4096];
	struct err e = {0};
	int r;

	if (argc < 3)
		return 2;
	st.root = argv[2];
	(void)snprintf(db, sizeof(db), "%s/snapshots.db", st.root);
	(void)io_mkdir_p(st.root, 0700);
	if (tree_open(&tree, db, &e) < 0 ||
	    snapshots_open(&snaps, &st, tree, NULL, NULL, &e) < 0)
		die("open", &e);
	if (strcmp(argv[1], "run") == 0 && argc == 5)
		r = run((unsigned)strtoul(argv[3], NULL, 10),
			(unsigned)strtoul(argv[4], NULL, 10));
	else if (strcmp(argv[1], "empty") == 0)
		r = empty();
	else if (strcmp(argv[1], "full") == 0)
		r = full();
	else
		r = list(st.root);
	snapshots_close(snaps);
	tree_close(tree);
	return r;
}
