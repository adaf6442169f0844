/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What programs do to a tree, without the time it takes to start them: ops OP DIR
 * LIST [N] prints how long OP took below DIR, in seconds. LIST has the tree's entries,
 * a line each, "SIZE PATH" of regular files and "- PATH" of others, relative.
 *
 *   stat    lstat() of all entries
 *   open    open() and close() of all files
 *   small   all files up to 64 KiB: open, read, close
 *   big     all files from 16 MiB on: read from one end to the other
 *   read    all files: open, read, close
 *   rand    N random 4 KiB, read from files from 1 MiB on, which are open
 *   fault   the same pages, touched in mappings of the files
 *
 *   ops exec DIR PROGRAM [ARG...]   runs it in DIR as its root
 *   ops run PROGRAM [ARG...]        runs it
 *   ops miss FILE N PAUSE_MS        N times 4 KiB at random; a line each, in ms
 *
 * What it reads is the same in every run: the random numbers are always these.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base.h"

#define SMALL_BYTES KIB(64)
#define BIG_BYTES MIB(16)
#define RANDOM_BYTES MIB(1)
#define PAGE 4096u
#define NS_PER_S 1e9

struct entry {
	char *path;
	uint64_t size;
	bool regular;
};

struct tree {
	int dir;
	struct entry *entry;
	size_t n;
	size_t cap;
};

static char buf[MIB(1)];

static _Noreturn void die(const char *what)
{
	(void)fprintf(stderr, "ops: %s: %m\n", what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / NS_PER_S;
}

/* xorshift64*; good enough to be at another page each time. */
static uint64_t random_u64(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

static void tree_add(struct tree *t, const char *size, const char *path)
{
	struct entry *e;

	if (t->n == t->cap) {
		t->cap = t->cap == 0 ? 1024 : 2 * t->cap;
		t->entry = reallocarray(t->entry, t->cap, sizeof(*t->entry));
		if (t->entry == NULL)
			die("memory");
	}
	e = &t->entry[t->n++];
	e->regular = size[0] != '-';
	e->size = e->regular ? strtoull(size, NULL, 10) : 0;
	e->path = strdup(path);
	if (e->path == NULL)
		die("memory");
}

static void tree_load(struct tree *t, const char *dir, const char *list)
{
	FILE *f = fopen(list, "re");
	char *line = NULL, *path;
	size_t cap = 0;
	ssize_t len;

	t->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dir < 0)
		die(dir);
	if (f == NULL)
		die(list);
	while ((len = getline(&line, &cap, f)) > 0) {
		line[len - 1] = '\0';
		path = strchr(line, ' ');
		if (path == NULL) {
			errno = EBADMSG;
			die(list);
		}
		*path = '\0';
		tree_add(t, line, path + 1);
	}
	free(line);
	(void)fclose(f);
}

static int open_entry(const struct tree *t, const struct entry *e)
{
	int fd = openat(t->dir, e->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		die(e->path);
	return fd;
}

static void do_stat(const struct tree *t)
{
	struct stat st;

	for (size_t i = 0; i < t->n; i++)
		if (fstatat(t->dir, t->entry[i].path, &st,
			    AT_SYMLINK_NOFOLLOW) < 0)
			die(t->entry[i].path);
}

static void do_open(const struct tree *t)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->entry[i].regular)
			(void)close(open_entry(t, &t->entry[i]));
}

static void read_all(const struct tree *t, uint64_t min, uint64_t max)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct entry *e = &t->entry[i];
		ssize_t r;
		int fd;

		if (!e->regular || e->size < min || e->size > max)
			continue;
		fd = open_entry(t, e);
		while ((r = read(fd, buf, sizeof(buf))) > 0)
			;
		if (r < 0)
			die(e->path);
		(void)close(fd);
	}
}

static void do_small(const struct tree *t)
{
	read_all(t, 0, SMALL_BYTES);
}

static void do_big(const struct tree *t)
{
	read_all(t, BIG_BYTES, UINT64_MAX);
}

static void do_read(const struct tree *t)
{
	read_all(t, 0, UINT64_MAX);
}

/* A file that random pages are read of. */
struct big {
	int fd;
	const char *map;
	uint64_t pages;
};

static struct big *open_big(const struct tree *t, size_t *ret_n, bool map)
{
	struct big *big = calloc(t->n, sizeof(*big));
	size_t n = 0;

	if (big == NULL)
		die("memory");
	for (size_t i = 0; i < t->n; i++) {
		const struct entry *e = &t->entry[i];
		void *p = NULL;

		if (!e->regular || e->size < RANDOM_BYTES)
			continue;
		big[n].fd = open_entry(t, e);
		if (map)
			p = mmap(NULL, e->size, PROT_READ, MAP_PRIVATE,
				 big[n].fd, 0);
		if (p == MAP_FAILED ||
		    (map && madvise(p, e->size, MADV_RANDOM) < 0))
			die(e->path);
		big[n].map = p;
		big[n].pages = e->size / PAGE;
		(void)posix_fadvise(big[n].fd, 0, 0, POSIX_FADV_RANDOM);
		n++;
	}
	if (n == 0) {
		errno = ENODATA;
		die("no file of 1 MiB");
	}
	*ret_n = n;
	return big;
}

/* The pages are spread over the files' bytes, not over the files. */
static double at_random(const struct tree *t, unsigned reads, bool map)
{
	uint64_t total = 0, state = 88172645463325252u;
	struct big *big;
	double begin;
	size_t n, k;

	big = open_big(t, &n, map);
	for (k = 0; k < n; k++)
		total += big[k].pages;
	begin = now();
	for (unsigned i = 0; i < reads; i++) {
		uint64_t page = random_u64(&state) % total;

		for (k = 0; page >= big[k].pages; k++)
			page -= big[k].pages;
		if (map)
			buf[i % PAGE] = big[k].map[page * PAGE];
		else if (pread(big[k].fd, buf, PAGE, (off_t)(page * PAGE)) !=
			 PAGE)
			die("pread");
	}
	begin = now() - begin;
	free(big);
	return begin;
}

static int run(const char *root, char **argv)
{
	double begin = now();
	int status;
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		if (root != NULL && (chroot(root) < 0 || chdir("/") < 0))
			die(root);
		(void)dup2(STDERR_FILENO, STDOUT_FILENO);
		(void)execvp(argv[0], argv);
		die(argv[0]);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	begin = now() - begin;
	(void)printf("%.6f\n", begin);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int miss(const char *file, unsigned n, unsigned pause_ms)
{
	struct timespec pause = {.tv_sec = pause_ms / 1000,
				 .tv_nsec = pause_ms % 1000 * 1000000L};
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	uint64_t state = 88172645463325252u;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < PAGE)
		die(file);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	while (n-- > 0) {
		uint64_t page =
			random_u64(&state) % ((uint64_t)st.st_size / PAGE);
		double begin;

		(void)nanosleep(&pause, NULL);
		begin = now();
		if (pread(fd, buf, PAGE, (off_t)(page * PAGE)) != PAGE)
			die(file);
		(void)printf("%.3f\n", (now() - begin) * 1e3);
		(void)fflush(stdout);
	}
	(void)close(fd);
	return 0;
}

static int usage(void)
{
	(void)fputs("usage: ops stat|open|small|big|read DIR LIST\n"
		    "       ops rand|fault DIR LIST N\n"
		    "       ops exec DIR PROGRAM [ARG...]\n"
		    "       ops run PROGRAM [ARG...]\n"
		    "       ops miss FILE N PAUSE_MS\n",
		    stderr);
	return 2;
}

static int on_tree(const char *op, const char *dir, const char *list,
		   unsigned reads)
{
	static const struct {
		const char *name;
		void (*f)(const struct tree *t);
	} ops[] = {
		{"stat", do_stat}, {"open", do_open}, {"small", do_small},
		{"big", do_big},   {"read", do_read},
	};
	struct tree t = {0};
	double begin;

	tree_load(&t, dir, list);
	if (strcmp(op, "rand") == 0 || strcmp(op, "fault") == 0) {
		(void)printf("%.6f\n", at_random(&t, reads, op[0] == 'f'));
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		if (strcmp(op, ops[i].name) != 0)
			continue;
		begin = now();
		ops[i].f(&t);
		(void)printf("%.6f\n", now() - begin);
		return 0;
	}
	return usage();
}

int main(int argc, char **argv)
{
	if (argc >= 4 && strcmp(argv[1], "exec") == 0)
		return run(argv[2], argv + 3);
	if (argc >= 3 && strcmp(argv[1], "run") == 0)
		return run(NULL, argv + 2);
	if (argc == 5 && strcmp(argv[1], "miss") == 0)
		return miss(argv[2], (unsigned)strtoul(argv[3], NULL, 10),
			    (unsigned)strtoul(argv[4], NULL, 10));
	if (argc != 4 && argc != 5)
		return usage();
	return on_tree(argv[1], argv[2], argv[3],
		       argc == 5 ? (unsigned)strtoul(argv[4], NULL, 10) : 0);
}
