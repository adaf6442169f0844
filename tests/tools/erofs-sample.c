/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image with everything a layer may have in it, and three listings of it:
 *   erofs-sample build IMAGE	writes the image, prints what it should hold
 *   erofs-sample list DIR	prints what the kernel shows where it is mounted
 *   erofs-sample read IMAGE	prints what our own reader finds in it
 *   erofs-sample mount [KIND] IMAGE DIR	mounts it as common/kmount.h does: loop, file,
 *				direct, or what it chooses; prints how. Exit 3:
 *				the kernel does not know that way
 *   erofs-sample bench N	prints how long index_build() takes, N entries
 * All three must be the same. One line a name, sorted.
 */
#include "config.h"

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "common/chunks.h"
#include "common/erofs.h"
#include "common/index.h"
#include "common/io.h"
#include "common/kmount.h"
#include "tests/unit/mktoc.h"

#define WINDOW 4096u
#define WHOLE_MAX (1u << 20)
#define BIG_DIR_ENTRIES 100000u
#define PATH_BYTES 8192u

/* Lines, kept to be sorted. */
static char **lines;
static size_t n_lines, cap_lines;

static void add_line(char *text)
{
	if (n_lines == cap_lines) {
		cap_lines = cap_lines * 2 + 64;
		lines = realloc(lines, cap_lines * sizeof(*lines));
		assert(lines != NULL);
	}
	lines[n_lines++] = text;
}

static int line_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void print_lines(void)
{
	qsort(lines, n_lines, sizeof(*lines), line_cmp);
	for (size_t i = 0; i < n_lines; i++) {
		puts(lines[i]);
		free(lines[i]);
	}
	free(lines);
}

static uint64_t hash(uint64_t h, const void *p, size_t n)
{
	const uint8_t *b = p;

	while (n-- > 0)
		h = (h ^ *b++) * UINT64_C(0x100000001b3);
	return h;
}

#define HASH_INIT UINT64_C(0xcbf29ce484222325)

/* One thing in the image, however it was found. */
struct found {
	const char *path;
	const char *link;
	const char *same_as; /* another name of the file, or NULL */
	size_t link_len;
	uint64_t size;
	uint64_t rdev;
	int64_t mtime;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint32_t nlink;
	uint64_t data;   /* hash of the windows */
	uint64_t xattrs; /* sum of the hashes of names and values */
	size_t n_xattrs;
};

static void add_escaped(struct buf *b, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t c = (uint8_t)p[i];

		if (c > ' ' && c < 127 && c != '\\')
			assert(buf_addf(b, "%c", c) == 0);
		else
			assert(buf_addf(b, "\\%03o", c) == 0);
	}
}

static void add_found(const struct found *f)
{
	struct buf b = BUF_INIT(65536);
	bool dir = S_ISDIR(f->mode);

	add_escaped(&b, f->path, strlen(f->path));
	assert(buf_addf(&b,
			" %06o %u:%u mtime=%" PRId64 " size=%" PRIu64
			" nlink=%u dev=%u:%u xattrs=%zu,%016" PRIx64
			" data=%016" PRIx64,
			f->mode, f->uid, f->gid, f->mtime, dir ? 0 : f->size,
			f->nlink, major(f->rdev), minor(f->rdev), f->n_xattrs,
			f->xattrs, f->data) == 0);
	if (f->link != NULL) {
		assert(buf_add_str(&b, " -> ") == 0);
		add_escaped(&b, f->link, f->link_len);
	}
	if (f->same_as != NULL) {
		assert(buf_add_str(&b, " same-as ") == 0);
		add_escaped(&b, f->same_as, strlen(f->same_as));
	}
	add_line(b.p);
}

static void hash_xattr(struct found *f, const char *name, const void *value,
		       size_t len)
{
	uint64_t h = hash(HASH_INIT, name, strlen(name) + 1);

	f->xattrs += hash(h, value, len);
	f->n_xattrs++;
}

/* The parts of a file that are written and compared: large ones have holes. */
static unsigned windows(uint64_t size, uint64_t off[3], uint64_t len[3])
{
	if (size <= WHOLE_MAX) {
		off[0] = 0;
		len[0] = size;
		return 1;
	}
	off[0] = 0;
	off[1] = size / 2;
	off[2] = size - WINDOW;
	len[0] = len[1] = len[2] = WINDOW;
	return 3;
}

static uint64_t hash_windows(int fd, uint64_t base, uint64_t size)
{
	uint8_t *p = malloc(WHOLE_MAX);
	uint64_t off[3], len[3], h = HASH_INIT;
	unsigned n = windows(size, off, len);

	assert(p != NULL);
	for (unsigned i = 0; i < n; i++) {
		if (io_pread_all(fd, p, len[i], base + off[i]) < 0)
			errx(1, "read of %" PRIu64, base + off[i]);
		h = hash(h, p, len[i]);
	}
	free(p);
	return h;
}

/* What byte @off of the file at blob offset @seed is. */
static uint8_t content(uint64_t seed, uint64_t off)
{
	uint64_t v = (seed + off / 8) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint8_t)(v >> (off % 8 * 8));
}

/* What is asked for: a TOC, and beside each entry what it must become. */
struct sample {
	struct mktoc m;
	struct found *want; /* [n_entries], path NULL: none */
	uint32_t cap;
};

static struct found *add(struct sample *s, enum toc_type type, const char *name,
			 const char *link)
{
	struct toc_entry *en = link == NULL
				       ? mktoc_add(&s->m, type, name)
				       : mktoc_link(&s->m, type, name, link);
	uint32_t i = s->m.toc.n_entries - 1;
	struct found *f;

	if (i >= s->cap) {
		s->cap = s->cap * 2 + 64;
		s->want = realloc(s->want, s->cap * sizeof(*s->want));
		assert(s->want != NULL);
	}
	f = &s->want[i];
	*f = (struct found){.path = name, .nlink = 1, .data = HASH_INIT};
	en->uid = f->uid = 1000 + i % 7;
	en->gid = f->gid = 70000 + i % 5;
	en->mtime = f->mtime = 1700000000 + i;
	if (type == TOC_DIR)
		f->nlink = 2;
	return f;
}

static struct toc_entry *last(struct sample *s)
{
	return &s->m.toc.entries[s->m.toc.n_entries - 1];
}

static struct found *add_dir(struct sample *s, const char *name, uint32_t mode,
			     uint32_t nlink)
{
	struct found *f = add(s, TOC_DIR, name, NULL);

	last(s)->mode = mode;
	f->mode = S_IFDIR | mode;
	f->nlink = nlink;
	return f;
}

static struct found *add_reg(struct sample *s, const char *name, uint64_t size)
{
	struct found *f = add(s, TOC_REG, name, NULL);
	uint64_t off[3], len[3];
	unsigned n = windows(size, off, len);

	f->mode = S_IFREG | 0644;
	last(s)->size = f->size = size;
	if (size > 0)
		mktoc_place(&s->m, last(s));
	for (unsigned i = 0; i < n; i++)
		for (uint64_t k = off[i]; k < off[i] + len[i]; k++) {
			uint8_t c = content(last(s)->offset, k);

			f->data = hash(f->data, &c, 1);
		}
	return f;
}

static struct found *add_link(struct sample *s, const char *name,
			      const char *target)
{
	struct found *f = add(s, TOC_SYMLINK, name, target);

	f->mode = S_IFLNK | 0777;
	f->link = target;
	f->link_len = f->size = strlen(target);
	return f;
}

static void add_dev(struct sample *s, enum toc_type type, const char *name,
		    uint32_t maj, uint32_t min)
{
	struct found *f = add(s, type, name, NULL);

	last(s)->mode = 0600;
	last(s)->devmajor = maj;
	last(s)->devminor = min;
	f->rdev = makedev(maj, min);
	f->mode = 0600 | (type == TOC_CHAR    ? S_IFCHR
			  : type == TOC_BLOCK ? S_IFBLK
					      : S_IFIFO);
}

/* Another name; the names of one file differ in nothing but themselves. */
static void add_hard(struct sample *s, const char *name, uint32_t of,
		     const char *same_as)
{
	struct found *f = add(s, TOC_HARDLINK, name, s->want[of].path);

	*f = s->want[of];
	f->path = name;
	f->same_as = same_as;
}

static void add_xattrs(struct sample *s, const struct toc_xattr *x, uint32_t n)
{
	struct found *f = &s->want[s->m.toc.n_entries - 1];

	last(s)->xattrs = x;
	last(s)->n_xattrs = n;
	for (uint32_t i = 0; i < n; i++)
		hash_xattr(f, x[i].name, x[i].value, x[i].value_len);
}

static char *repeat(char c, size_t n)
{
	char *p = malloc(n + 1);

	assert(p != NULL);
	memset(p, c, n);
	p[n] = '\0';
	return p;
}

static char *name_of(const char *fmt, const char *dir, uint32_t i)
{
	struct buf b = BUF_INIT(PATH_BYTES);

	assert(buf_addf(&b, "%s", dir) == 0);
	assert(buf_addf(&b, "/%s%u", fmt, i) == 0);
	return b.p;
}

static void sample_xattrs(struct sample *s)
{
	static uint8_t big[65535];
	static const uint8_t acl[] = {
		2,    0,    0,    0,    1,    0,    6,  0,    0xff, 0xff, 0xff,
		0xff, 2,    0,    4,    0,    0xe8, 3,  0,    0,    4,    0,
		4,    0,    0xff, 0xff, 0xff, 0xff, 16, 0,    4,    0,    0xff,
		0xff, 0xff, 0xff, 32,   0,    4,    0,  0xff, 0xff, 0xff, 0xff,
	};
	static const uint8_t cap[20] = {1, 0, 0, 2, 0, 4};
	static const uint8_t binary[] = {0, 255, '\n', 0, 128, '"'};
	static struct toc_xattr many[300];
	static const struct toc_xattr x[] = {
		{"user.fourteen-kilobytes", big, 14000},
		{"user.sixty-four-kilobytes", big, 65535},
		{"user.binary", binary, sizeof(binary)},
		{"user.empty", binary, 0},
		{"trusted.of-root", binary, 3},
	};
	static const struct toc_xattr c[] = {
		{"security.capability", cap, sizeof(cap)},
	};
	static const struct toc_xattr a[] = {
		{"system.posix_acl_access", acl, sizeof(acl)},
	};
	static const struct toc_xattr on_link[] = {
		{"trusted.on-a-link", big, 300},
	};
	static const struct toc_xattr on_link_far[] = {
		{"trusted.on-a-link", big, 9000},
	};

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = content(7, i);
	add_dir(s, "xattrs", 0755, 2);
	add_xattrs(s, x, 5);
	for (uint32_t i = 0; i < ARRAY_SIZE(many); i++) {
		many[i].name = name_of("", "user.many", i);
		many[i].value = big;
		many[i].value_len = i;
	}
	add_reg(s, "xattrs/file", 5);
	add_xattrs(s, x, 5);
	add_reg(s, "xattrs/many", 0);
	add_xattrs(s, many, ARRAY_SIZE(many));
	add_reg(s, "xattrs/capability", 4096);
	add_xattrs(s, c, 1);
	add_reg(s, "xattrs/acl", 4097);
	add_xattrs(s, a, 1);
	add_link(s, "xattrs/link", "somewhere");
	add_xattrs(s, on_link, 1);
	add_link(s, "xattrs/link-far", "somewhere else");
	add_xattrs(s, on_link_far, 1);
}

static void sample_odd(struct sample *s)
{
	char *deep = repeat('d', 2 * 300 - 1);

	add_dir(s, "odd", 01777, 2);
	add_reg(s, name_of(repeat('n', 254), "odd", 1), 1);
	add_reg(s, "odd/\xff\xfe not UTF-8 \x80\n\"\\", 8191);
	add_reg(s, "odd/!before-the-dots", 2);
	add_reg(s, "odd/.-between-the-dots", 3);
	add_reg(s, "odd/...", 3);
	add_reg(s, "odd/year-1", 0)->mtime = INT64_C(-62135596800);
	last(s)->mtime = INT64_C(-62135596800);
	add_reg(s, "odd/far", 0)->mtime = INT64_C(1) << 40;
	last(s)->mtime = INT64_C(1) << 40;
	add_reg(s, "odd/setuid", 10)->mode = S_IFREG | 06755;
	last(s)->mode = 06755;
	add_reg(s, "odd/no-mode", 10)->mode = S_IFREG;
	last(s)->mode = 0;
	add_reg(s, "odd/six-gibibytes", UINT64_C(6) << 30);
	add_dev(s, TOC_CHAR, "odd/null", 1, 3);
	add_dev(s, TOC_CHAR, "odd/zero-zero", 0, 0);
	add_dev(s, TOC_BLOCK, "odd/large-minor", 259, 70000);
	add_dev(s, TOC_FIFO, "odd/fifo", 0, 0);
	add_link(s, "odd/link", "target");
	add_link(s, "odd/link-4095", repeat('l', 4095));
	add_link(s, "odd/link-3900", repeat('l', 3900));
	/* 300 directories, each in the last. */
	for (size_t i = 1; i < 2 * 300 - 1; i += 2)
		deep[i] = '/';
	for (size_t i = 1; i <= 2 * 300 - 1; i += 2) {
		char *path = strndup(deep, i);

		add_dir(s, path, 0750, i == 2 * 300 - 1 ? 2 : 3);
	}
}

static void sample_links(struct sample *s)
{
	uint32_t of;

	add_dir(s, "links", 0700, 2);
	add_reg(s, "links/a", 12345)->nlink = 3;
	of = s->m.toc.n_entries - 1;
	add_hard(s, "links/b", of, "links/a");
	add_hard(s, "links/c", of, "links/a");
	add_link(s, "links/s", "a")->nlink = 2;
	of = s->m.toc.n_entries - 1;
	add_hard(s, "links/t", of, "links/s");
}

static void sample_large(struct sample *s)
{
	struct found *f;
	uint32_t i;

	/* Directories whose names end at, before and behind a block's end. */
	add_dir(s, "blocks", 0755, 2 + 600);
	for (i = 0; i < 600; i++) {
		char *dir = name_of("d", "blocks", i);
		char *long_name = repeat('x', 200 + i % 50);

		add_dir(s, dir, 0755, 2);
		for (uint32_t k = 0; k < i % 40; k++)
			add_reg(s, name_of(long_name, dir, k), 0);
		free(long_name);
	}
	add_dir(s, "big", 0755, 2);
	for (i = 0; i < BIG_DIR_ENTRIES; i++)
		add_reg(s, name_of("entry-", "big", i), i % 1000 == 0 ? i : 0);
	/* A file of three chunks. */
	f = add_reg(s, "chunked", 10000);
	assert(f != NULL);
	last(s)->chunk_size = 5000;
	mktoc_chunk(&s->m, "chunked", 5000, 4999);
	mktoc_chunk(&s->m, "chunked", 9999, 0);
	s->want[s->m.toc.n_entries - 2] = (struct found){0};
	s->want[s->m.toc.n_entries - 1] = (struct found){0};
}

static struct sample sample_new(void)
{
	struct sample s = {0};

	add_dir(&s, "", 0755, 2 + 6);
	sample_xattrs(&s);
	sample_odd(&s);
	sample_links(&s);
	s.want = realloc(s.want, (s.cap += BIG_DIR_ENTRIES) * sizeof(*s.want));
	sample_large(&s);
	return s;
}

/* Writes the data of chunk @k where the table says, as a fetch would. */
static void fill(const struct sample *s, int fd, const struct chunk *k)
{
	const struct toc *toc = &s->m.toc;
	uint64_t off[3], len[3], from = 0;
	uint32_t lo = 0, file;
	unsigned n;

	while (toc->entries[lo].offset != k->blob_off)
		lo++;
	for (file = lo; toc->entries[file].type == TOC_CHUNK;)
		file--;
	from = toc->entries[lo].chunk_offset;
	n = windows(toc->entries[file].size, off, len);
	for (unsigned w = 0; w < n; w++) {
		uint64_t a = MAX(off[w], from);
		uint64_t b = MIN(off[w] + len[w], from + k->len);
		uint8_t *p = malloc(WHOLE_MAX);

		assert(p != NULL);
		for (uint64_t i = a; i < b; i++)
			p[i - a] = content(toc->entries[file].offset, i);
		if (a < b &&
		    io_pwrite_all(fd, p, b - a, k->image_off + (a - from)) < 0)
			err(1, "write");
		free(p);
	}
}

static struct index_in index_in(const struct toc *toc, const struct digest *d)
{
	return (struct index_in){
		.toc = toc,
		.toc_digest = d,
		.blob_size = UINT64_C(1) << 40,
		.toc_off = UINT64_C(1) << 39,
		.codec = CODEC_GZIP,
	};
}

static int cmd_build(const char *path)
{
	struct sample s = sample_new();
	const struct digest d = {{0xa5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};
	struct index_in in = index_in(&s.m.toc, &d);
	struct buf meta = {0}, table = {0};
	struct err e = {0};
	struct chunks c;
	struct chunk k;
	int fd;

	if (index_build(&in, &meta, &table, &e) < 0)
		errx(1, "%s", e.text);
	if (chunks_open(&c, table.p, table.len, &e) < 0)
		errx(1, "%s", e.text);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)c.image_bytes) < 0 ||
	    io_pwrite_all(fd, meta.p, meta.len, 0) < 0)
		err(1, "%s", path);
	for (uint64_t i = 0; i < c.n; i++) {
		chunks_get(&c, i, &k);
		fill(&s, fd, &k);
	}
	close(fd);
	for (uint32_t i = 0; i < s.m.toc.n_entries; i++)
		if (s.want[i].path != NULL) {
			if (s.want[i].same_as == NULL && s.want[i].nlink > 1 &&
			    !S_ISDIR(s.want[i].mode))
				s.want[i].same_as = s.want[i].path;
			add_found(&s.want[i]);
		}
	buf_done(&meta);
	buf_done(&table);
	return 0;
}

/* The first name, by bytes, of each file with several. Few, so a list. */
static struct first_name {
	uint64_t ino;
	char *path;
} firsts[64];
static size_t n_firsts;

static const char *first_name(uint64_t ino, const char *path)
{
	for (size_t i = 0; i < n_firsts; i++)
		if (firsts[i].ino == ino)
			return firsts[i].path;
	assert(n_firsts < ARRAY_SIZE(firsts));
	firsts[n_firsts].ino = ino;
	firsts[n_firsts].path = strdup(path);
	return firsts[n_firsts++].path;
}

static void list_xattrs(struct found *f, const char *path)
{
	static char names[65536], value[65536];
	ssize_t n = llistxattr(path, names, sizeof(names)), len;

	if (n < 0)
		err(1, "listxattr %s", path);
	for (const char *p = names; p < names + n; p += strlen(p) + 1) {
		len = lgetxattr(path, p, value, sizeof(value));
		if (len < 0)
			err(1, "getxattr %s %s", path, p);
		hash_xattr(f, p, value, (size_t)len);
	}
}

/* @path is absolute for the kernel, @path + @skip for the listing. */
static void list_one(const char *path, size_t skip, const struct dirent *de)
{
	char link[4097];
	struct stat st;
	struct found f = {.data = HASH_INIT};

	if (lstat(path, &st) < 0)
		err(1, "%s", path);
	if (de != NULL && (de->d_type != IFTODT(st.st_mode) ||
			   (!S_ISDIR(st.st_mode) && de->d_ino != st.st_ino)))
		errx(1, "%s: type or number differs in readdir", path);
	f.path = path + skip;
	f.mode = st.st_mode;
	f.uid = st.st_uid;
	f.gid = st.st_gid;
	f.mtime = st.st_mtime;
	f.size = (uint64_t)st.st_size;
	f.nlink = (uint32_t)st.st_nlink;
	f.rdev = st.st_rdev;
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlink(path, link, sizeof(link));

		if (n < 0)
			err(1, "%s", path);
		f.link = link;
		f.link_len = (size_t)n;
	}
	if (S_ISREG(st.st_mode)) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			err(1, "%s", path);
		f.data = hash_windows(fd, 0, f.size);
		close(fd);
	}
	list_xattrs(&f, path);
	if (f.nlink > 1 && !S_ISDIR(f.mode))
		f.same_as = first_name(st.st_ino, f.path);
	add_found(&f);
}

static void list_dir(struct buf *path, size_t skip)
{
	struct dirent **names;
	int n = scandir(path->p, &names, NULL, alphasort);
	size_t len = path->len;

	if (n < 0)
		err(1, "%s", path->p);
	for (int i = 0; i < n; i++) {
		const char *name = names[i]->d_name;

		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
			assert(buf_addf(path, "/%s", name) == 0);
			list_one(path->p, skip, names[i]);
			if (names[i]->d_type == DT_DIR)
				list_dir(path, skip);
			path->len = len;
			path->p[len] = '\0';
		}
		free(names[i]);
	}
	free(names);
}

static int cmd_list(const char *dir)
{
	struct buf path = BUF_INIT(PATH_BYTES);

	assert(buf_add_str(&path, dir) == 0);
	list_one(dir, strlen(dir), NULL);
	list_dir(&path, strlen(dir) + 1);
	buf_done(&path);
	return 0;
}

static void read_xattrs(struct found *f, const struct erofs_image *im,
			const struct erofs_inode *in)
{
	ssize_t n = erofs_xattr_list(im, in, NULL, 0);
	char *names = malloc((size_t)n + 1);
	const uint8_t *value;
	size_t len;

	assert(n >= 0 && names != NULL);
	assert(erofs_xattr_list(im, in, names, (size_t)n + 1) == n);
	for (const char *p = names; p < names + n; p += strlen(p) + 1) {
		if (erofs_xattr_get(im, in, p, &value, &len) < 0)
			errx(1, "xattr %s of %s", p, f->path);
		hash_xattr(f, p, value, len);
	}
	free(names);
}

static void read_one(const struct erofs_image *im, uint64_t nid,
		     struct buf *path, int fd)
{
	struct erofs_inode in;
	struct found f = {.path = path->p, .data = HASH_INIT};
	struct erofs_dirent d;
	size_t at = path->len;
	int r;

	if (erofs_inode_get(im, nid, &in) < 0)
		errx(1, "%s: inode", path->p);
	f.mode = in.mode;
	f.uid = in.uid;
	f.gid = in.gid;
	f.mtime = in.mtime;
	f.size = in.size;
	f.nlink = in.nlink;
	f.rdev = in.rdev;
	if (S_ISLNK(in.mode) &&
	    erofs_readlink(im, &in, &f.link, &f.link_len) < 0)
		errx(1, "%s: link", path->p);
	if (S_ISREG(in.mode))
		f.data = hash_windows(fd, in.data_off, in.size);
	read_xattrs(&f, im, &in);
	if (f.nlink > 1 && !S_ISDIR(f.mode))
		f.same_as = first_name(nid, f.path);
	add_found(&f);
	if (!S_ISDIR(in.mode))
		return;
	for (uint64_t pos = 0; (r = erofs_readdir(im, &in, pos, &d)) > 0;
	     pos = d.next) {
		uint64_t same;
		uint8_t type;

		if (erofs_lookup(im, &in, d.name, d.len, &same, &type) < 0 ||
		    same != d.nid || type != d.dtype)
			errx(1, "%s: lookup of %.*s", path->p, (int)d.len,
			     d.name);
		if ((d.len == 1 && d.name[0] == '.') ||
		    (d.len == 2 && memcmp(d.name, "..", 2) == 0))
			continue;
		if (at > 0)
			assert(buf_add_str(path, "/") == 0);
		assert(buf_add(path, d.name, d.len) == 0);
		read_one(im, d.nid, path, fd);
		path->len = at;
		path->p[at] = '\0';
	}
	if (r < 0)
		errx(1, "%s: readdir", path->p);
}

static int cmd_read(const char *image)
{
	int fd = open(image, O_RDONLY | O_CLOEXEC);
	struct buf path = BUF_INIT(PATH_BYTES);
	struct erofs_image im;
	struct err e = {0};
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", image);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		err(1, "%s", image);
	if (erofs_open(&im, p, (size_t)st.st_size, &e) < 0)
		errx(1, "%s", e.text);
	assert(buf_add_str(&path, "") == 0);
	read_one(&im, im.root_nid, &path, fd);
	munmap(p, (size_t)st.st_size);
	close(fd);
	buf_done(&path);
	return 0;
}

/* What a layer of @n entries looks like: 20 files a directory, 4 deep. */
static int cmd_bench(uint32_t n)
{
	struct mktoc m = {0};
	const struct digest d = {{1}};
	struct index_in in;
	struct buf meta = {0}, table = {0};
	struct err e = {0};
	uint64_t best = UINT64_MAX;

	for (uint32_t i = 0; i < n; i++) {
		struct buf b = BUF_INIT(PATH_BYTES);

		assert(buf_addf(&b, "usr/lib/node_modules/m%u/d%u/file-%u.js",
				i / 400, i / 20, i) == 0);
		mktoc_reg(&m, b.p, 5000);
	}
	in = index_in(&m.toc, &d);
	for (int i = 0; i < 10; i++) {
		uint64_t t = io_now_ns();

		if (index_build(&in, &meta, &table, &e) < 0)
			errx(1, "%s", e.text);
		best = MIN(best, io_now_ns() - t);
	}
	printf("%u entries: %.2f ms, metadata %zu, chunks %zu bytes\n", n,
	       (double)best / 1e6, meta.len, table.len);
	buf_done(&meta);
	buf_done(&table);
	for (uint32_t i = 0; i < n; i++)
		free((void *)(uintptr_t)m.toc.entries[i].name);
	mktoc_done(&m);
	return 0;
}

static int mount_auto(const char *image, const char *dir)
{
	enum kmount_kind kind;
	struct err e;

	if (kmount_at(image, dir, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, &kind,
		      &e) < 0)
		errx(1, "%s", e.text);
	puts(kmount_kind_str(kind));
	return 0;
}

static int mount_as(const char *name, const char *image, const char *dir)
{
	enum kmount_kind kind = strcmp(name, "loop") == 0   ? KMOUNT_LOOP
				: strcmp(name, "file") == 0 ? KMOUNT_FILE
							    : KMOUNT_DIRECT;
	struct err e;
	int fd = kmount_as(kind, image, 0, &e);

	if (fd < 0)
		errx(fd == -ENOTBLK || fd == -EOPNOTSUPP ? 3 : 1, "%s", e.text);
	if (move_mount(fd, "", AT_FDCWD, dir, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		err(1, "%s", dir);
	return 0;
}

int main(int argc, char **argv)
{
	int r = 2;

	if (argc == 3 && strcmp(argv[1], "build") == 0)
		r = cmd_build(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "list") == 0)
		r = cmd_list(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "read") == 0)
		r = cmd_read(argv[2]);
	else if (argc == 4 && strcmp(argv[1], "mount") == 0)
		return mount_auto(argv[2], argv[3]);
	else if (argc == 5 && strcmp(argv[1], "mount") == 0)
		return mount_as(argv[2], argv[3], argv[4]);
	else if (argc == 3 && strcmp(argv[1], "bench") == 0)
		return cmd_bench((uint32_t)strtoul(argv[2], NULL, 10));
	else
		errx(2, "usage: erofs-sample build|list|read|mount|bench ARG");
	print_lines();
	return r;
}
