/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers and chains without anything around them:
 *   metactl index [-u] BLOB DIR	layer.erofs, chunks and present of a blob
 *   metactl fill DIR TREE	takes the data from an unpacked TREE: complete
 *   metactl data DIR TREE OUT	OUT/<16 hex>/<nid>, files of TREE
 *   metactl merge [-u] FILE DIR…	one image of layers, topmost first, made by a
 *				process of $ESTARGZFS and checked by another;
 *				prints what it took
 *   metactl check DIR		may the kernel have it?
 *   metactl mount FILE DIR	mounts an image, without a loop device where possible
 * Those of which an image tells them are the only ones that need no root.
 */
#include "config.h"

#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/chunks.h"
#include "common/datapath.h"
#include "common/index.h"
#include "common/io.h"
#include "common/kmount.h"
#include "common/limits.h"
#include "common/merge.h"
#include "common/meta.h"
#include "common/present.h"

static struct err e;

static void must(int r, const char *what)
{
	if (r < 0)
		errx(1, "%s: %s", what,
		     e.text[0] != '\0' ? e.text : err_name(r));
}

static char *join(const char *a, const char *b)
{
	char *s;

	if (asprintf(&s, "%s/%s", a, b) < 0)
		errx(1, "no memory");
	return s;
}

static int open_at(const char *dir, const char *name, int flags)
{
	char *path = join(dir, name);
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		err(1, "%s", path);
	free(path);
	return fd;
}

static void *map_fd(int fd, size_t *ret_len, int prot)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		err(1, "fstat");
	p = mmap(NULL, (size_t)st.st_size, prot, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		err(1, "mmap");
	*ret_len = (size_t)st.st_size;
	return p;
}

static void put(const char *dir, const char *name, const struct buf *b)
{
	int fd = open_at(dir, name, O_RDWR | O_CREAT | O_TRUNC);

	must(io_write_all(fd, b->p, b->len), name);
	(void)close(fd);
}

/* ---- one layer --------------------------------------------------------- */

static void write_index(const char *dir, const struct buf *meta,
			const struct buf *table)
{
	static const uint8_t boot[16];
	struct buf present = BUF_INIT(EROFS_META_BYTES_MAX);
	struct chunks ch;
	size_t bytes;
	int fd;

	must(chunks_open(&ch, table->p, table->len, &e), "chunks");
	bytes = (size_t)present_file_bytes(ch.n);
	must(buf_reserve(&present, bytes), "present");
	memset(present.p, 0, bytes);
	present.len = bytes;
	present_init(present.p, bytes, ch.n, ch.index_digest.b, boot);
	put(dir, "layer.erofs", meta);
	put(dir, "chunks", table);
	put(dir, "present", &present);
	fd = open_at(dir, "layer.erofs", O_RDWR);
	if (ftruncate(fd, (off_t)ch.image_bytes) < 0)
		err(1, "ftruncate");
	(void)close(fd);
}

static void do_index(const char *blob, const char *dir, bool user)
{
	int fd = open(blob, O_RDONLY | O_CLOEXEC);
	size_t len, tail;
	const uint8_t *p;
	struct sha256 *h = sha256_new();
	struct buf json = BUF_INIT(0), meta = BUF_INIT(EROFS_META_BYTES_MAX),
		   table = BUF_INIT(EROFS_META_BYTES_MAX);
	struct toc_footer f;
	struct digest d;
	struct index_in in = {.toc_digest = &d, .opaque_user = user};
	struct toc *toc;

	if (fd < 0 || h == NULL)
		err(1, "%s", blob);
	p = map_fd(fd, &len, PROT_READ);
	tail = MIN(len, (size_t)TOC_FOOTER_BYTES_MAX);
	must(toc_footer_parse(p + len - tail, tail, len, &f, &e), blob);
	must(toc_decode(&f, p + f.toc_off, (size_t)f.toc_len, &json, &e), blob);
	sha256_all(h, json.p, json.len, &d);
	must(toc_parse(json.p, json.len, &toc, &e), blob);
	in.toc = toc;
	in.blob_size = len;
	in.toc_off = f.toc_off;
	in.codec = f.format == TOC_ZSTD_CHUNKED ? CODEC_ZSTD : CODEC_GZIP;
	must(index_build(&in, &meta, &table, &e), blob);
	must(io_mkdir_p(dir, 0755), dir);
	write_index(dir, &meta, &table);
}

struct layer {
	struct erofs_image im;
	struct chunks ch;
};

static struct layer layer_open(const char *dir)
{
	struct layer l;
	size_t len;
	const void *p;

	p = map_fd(open_at(dir, "chunks", O_RDONLY), &len, PROT_READ);
	must(chunks_open(&l.ch, p, len, &e), dir);
	p = map_fd(open_at(dir, "layer.erofs", O_RDONLY), &len, PROT_READ);
	must(erofs_open(&l.im, p, (size_t)l.ch.meta_len, &e), dir);
	return l;
}

struct name {
	uint64_t nid;
	char *path;
};

/* Calls fn for each name of a regular file with bytes. */
static void each_file(const struct layer *l,
		      void (*fn)(void *arg, const char *path,
				 const struct erofs_inode *in),
		      void *arg)
{
	size_t n = 1, cap = 1024;
	struct name *todo = calloc(cap, sizeof(*todo));

	assert(todo != NULL);
	todo[0] = (struct name){l->im.root_nid, strdup(".")};
	while (n > 0) {
		struct name at = todo[--n];
		struct erofs_dirent d = {0};
		struct erofs_inode in;

		must(erofs_inode_get(&l->im, at.nid, &in), at.path);
		if (S_ISREG(in.mode) && in.size > 0)
			fn(arg, at.path, &in);
		while (S_ISDIR(in.mode) &&
		       erofs_readdir(&l->im, &in, d.next, &d) > 0) {
			char *name = strndup(d.name, d.len);

			if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
				if (n == cap)
					todo = reallocarray(todo, cap *= 2,
							    sizeof(*todo));
				assert(todo != NULL);
				todo[n++] = (struct name){d.nid,
							  join(at.path, name)};
			}
			free(name);
		}
		free(at.path);
	}
	free(todo);
}

struct trees {
	const char *tree;
	const char *out;
	int fd;
};

static void fill_file(void *arg, const char *path, const struct erofs_inode *in)
{
	const struct trees *t = arg;
	int fd = open_at(t->tree, path, O_RDONLY);
	uint8_t *p = malloc((size_t)in->size);

	assert(p != NULL);
	must(io_pread_all(fd, p, (size_t)in->size, 0), path);
	must(io_pwrite_all(t->fd, p, (size_t)in->size, in->data_off), path);
	free(p);
	(void)close(fd);
}

static void do_fill(const char *dir, const char *tree)
{
	static const uint8_t boot[16];
	struct layer l = layer_open(dir);
	struct trees t = {.tree = tree,
			  .fd = open_at(dir, "layer.erofs", O_RDWR)};
	struct present p;
	uint64_t *words;
	size_t len;
	void *map;

	each_file(&l, fill_file, &t);
	map = map_fd(open_at(dir, "present", O_RDWR), &len,
		     PROT_READ | PROT_WRITE);
	must(present_open(&p, map, len, l.ch.n, l.ch.index_digest.b, boot, true,
			  &e),
	     dir);
	for (uint64_t i = 0; i < l.ch.n; i++)
		(void)present_set(&p, i);
	words = calloc(present_words(&p) + 1, sizeof(*words));
	assert(words != NULL);
	present_snapshot(&p, words);
	present_synced(&p, words);
	present_set_complete(&p);
}

/* A copy: a link would be counted where it is compared. */
static void copy_file(void *arg, const char *path, const struct erofs_inode *in)
{
	const struct trees *t = arg;
	int from = open_at(t->tree, path, O_RDONLY), to;
	uint64_t left = in->size;
	char *name;

	if (asprintf(&name, "%" PRIu64, in->nid) < 0)
		errx(1, "no memory");
	to = open_at(t->out, name, O_WRONLY | O_CREAT | O_TRUNC);
	while (left > 0) {
		ssize_t n =
			copy_file_range(from, NULL, to, NULL, (size_t)left, 0);

		if (n <= 0)
			err(1, "%s -> %s", path, name);
		left -= (uint64_t)n;
	}
	free(name);
	(void)close(from);
	(void)close(to);
}

static void do_data(const char *dir, const char *tree, const char *out)
{
	struct layer l = layer_open(dir);
	char hex[DATAPATH_DIR_BYTES];
	struct trees t = {.tree = tree};

	datapath_dir(&l.ch.toc_digest, hex);
	t.out = join(out, hex);
	must(io_mkdir_p(t.out, 0755), t.out);
	each_file(&l, copy_file, &t);
}

/* ---- by a process of its own ------------------------------------------- */

static pid_t start(int *ret_sock)
{
	const char *program = getenv("ESTARGZFS");
	int pair[2];
	pid_t pid;

	if (program == NULL)
		errx(1, "$ESTARGZFS is not set");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		err(1, "socketpair");
	pid = fork();
	if (pid == 0) {
		char arg[32];

		(void)snprintf(arg, sizeof(arg), "--meta=%d", pair[1]);
		(void)fcntl(pair[1], F_SETFD, 0);
		(void)execl(program, "estargzfs", arg, NULL);
		_exit(127);
	}
	if (pid < 0)
		err(1, "fork");
	(void)close(pair[1]);
	*ret_sock = pair[0];
	return pid;
}

static void end(pid_t pid, int sock)
{
	int status;

	(void)close(sock);
	if (waitpid(pid, &status, 0) < 0 || status != 0)
		errx(1, "estargzfs ended with %#x", (unsigned)status);
}

static void do_merge(const char *file, char **dirs, size_t n, bool user)
{
	struct meta_files *files = calloc(n, sizeof(*files));
	struct digest *tocs = calloc(n, sizeof(*tocs)), key;
	int out = open(file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	uint64_t t0, t1, t2;
	struct stat st;
	int sock, r;
	pid_t pid;

	if (files == NULL || tocs == NULL || out < 0)
		err(1, "%s", file);
	for (size_t i = 0; i < n; i++) {
		tocs[i] = layer_open(dirs[i]).ch.toc_digest;
		files[i].erofs = open_at(dirs[i], "layer.erofs", O_RDONLY);
		files[i].chunks = open_at(dirs[i], "chunks", O_RDONLY);
	}
	must(merge_key(tocs, n, user, &key), "merge_key");
	t0 = io_now_ns();
	pid = start(&sock);
	r = meta_merge(sock, out, files, n, user, &key, &e);
	must(r, "merge");
	end(pid, sock);
	t1 = io_now_ns();
	pid = start(&sock);
	must(meta_check_chain(sock, out, &key, &e), "check");
	end(pid, sock);
	t2 = io_now_ns();
	if (fstat(out, &st) < 0)
		err(1, "%s", file);
	printf("%zu layers, %lld bytes, merged in %" PRIu64
	       " us, checked in %" PRIu64 " us\n",
	       n, (long long)st.st_size, (t1 - t0) / 1000, (t2 - t1) / 1000);
}

static void do_check(const char *dir)
{
	const struct meta_files f = {
		.erofs = open_at(dir, "layer.erofs", O_RDONLY),
		.chunks = open_at(dir, "chunks", O_RDONLY),
		.present = open_at(dir, "present", O_RDONLY),
	};
	int sock;
	pid_t pid = start(&sock);

	must(meta_check(sock, &f, &e), dir);
	end(pid, sock);
}

int main(int argc, char **argv)
{
	bool user = argc > 2 && strcmp(argv[2], "-u") == 0;
	const char *verb = argc > 1 ? argv[1] : "";
	char **a = argv + 2 + user;
	int n = argc - 2 - user;

	if (strcmp(verb, "index") == 0 && n == 2)
		do_index(a[0], a[1], user);
	else if (strcmp(verb, "fill") == 0 && n == 2)
		do_fill(a[0], a[1]);
	else if (strcmp(verb, "data") == 0 && n == 3)
		do_data(a[0], a[1], a[2]);
	else if (strcmp(verb, "merge") == 0 && n >= 2)
		do_merge(a[0], a + 1, (size_t)n - 1, user);
	else if (strcmp(verb, "check") == 0 && n == 1)
		do_check(a[0]);
	else if (strcmp(verb, "mount") == 0 && n == 2)
		must(kmount_at(a[0], a[1], 0, NULL, &e), a[1]);
	else
		errx(2, "usage: see tests/tools/metactl.c");
	return 0;
}
