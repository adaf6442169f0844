/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/image/tarfile.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/checked.h"
#include "common/io.h"
#include "common/limits.h"
#include "common/toc_text.h"

#define LINKS_MAX 8
#define BLOCK_BYTES 512u

/**
 * struct entry - a file or link of the archive
 * @link:	NULL: a file; else the name it leads to
 * @seq:	its place in the archive
 * @off, @size:	where a file's bytes are
 */
struct entry {
	char *name;
	char *link;
	size_t seq;
	uint64_t off;
	uint64_t size;
};

/**
 * struct tarfile - an archive
 * @entries:	[@n] by name, then place
 */
struct tarfile {
	char *path;
	int fd;
	uint64_t size;
	struct entry *entries;
	size_t n;
	size_t cap;
	uint64_t name_bytes;
};

void tarfile_close(struct tarfile *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < t->n; i++) {
		free(t->entries[i].name);
		free(t->entries[i].link);
	}
	free(t->entries);
	if (t->fd >= 0)
		(void)close(t->fd);
	free(t->path);
	free(t);
}

/* A name as relative to the top. Return: heap, NULL where it is none. */
static char *cleaned(const char *dir, size_t dir_len, const char *name)
{
	CLEANUP_FREE char *p = NULL;
	size_t len;

	if (asprintf(&p, "%.*s/%s", (int)dir_len, dir, name) < 0) {
		p = NULL;
		return NULL;
	}
	len = strlen(p);
	return toc_path_clean(p, &len) == 0 && len > 0 ? TAKE_PTR(p) : NULL;
}

/* Where a link leads to: a symlink's target is seen from its directory. */
static char *link_of(struct archive_entry *ae, const char *name)
{
	const char *hard = archive_entry_hardlink(ae);
	const char *sym = archive_entry_symlink(ae);
	const char *slash = strrchr(name, '/');

	if (hard != NULL)
		return cleaned("", 0, hard);
	if (sym == NULL || sym[0] == '/')
		return NULL;
	return cleaned(name, slash != NULL ? (size_t)(slash - name) : 0, sym);
}

static int grow(struct tarfile *t)
{
	size_t cap = t->cap == 0 ? 64 : t->cap * 2;
	struct entry *p;

	if (t->n < t->cap)
		return 0;
	if (t->n >= ARCHIVE_ENTRIES_MAX)
		return -EOVERFLOW;
	p = reallocarray(t->entries, cap, sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	t->entries = p;
	t->cap = cap;
	return 0;
}

/* Keeps an entry. Return: 1 a file, whose place is to be found; 0; -errno */
static int add(struct tarfile *t, struct archive_entry *ae)
{
	const char *path = archive_entry_pathname(ae);
	bool is_link = archive_entry_hardlink(ae) != NULL ||
		       archive_entry_filetype(ae) == AE_IFLNK;
	CLEANUP_FREE char *name = NULL;
	struct entry *en;
	int r;

	/* Sparse files are not in one piece, and nobody writes blobs so. */
	if (path == NULL || archive_entry_sparse_count(ae) > 0 ||
	    (!is_link && archive_entry_filetype(ae) != AE_IFREG) ||
	    archive_entry_size(ae) < 0)
		return 0;
	name = cleaned("", 0, path);
	if (name == NULL)
		return 0;
	t->name_bytes += strlen(name);
	if (t->name_bytes > ARCHIVE_NAMES_MAX)
		return -EOVERFLOW;
	r = grow(t);
	if (r < 0)
		return r;
	en = &t->entries[t->n];
	*en = (struct entry){.seq = t->n};
	if (is_link) {
		en->link = link_of(ae, name);
		if (en->link == NULL)
			return 0;
		t->name_bytes += strlen(en->link);
	} else {
		en->size = (uint64_t)archive_entry_size(ae);
	}
	en->name = TAKE_PTR(name);
	t->n++;
	return is_link ? 0 : 1;
}

/* The bytes of a file end, padded, where what follows it begins. */
static int place(const struct tarfile *t, struct entry *en, uint64_t next)
{
	uint64_t padded;

	if (!checked_add_u64(en->size, BLOCK_BYTES - 1, &padded))
		return -EBADMSG;
	padded -= padded % BLOCK_BYTES;
	if (padded > next || !checked_range(next - padded, en->size, t->size))
		return -EBADMSG;
	en->off = next - padded;
	return 0;
}

static int scan(struct tarfile *t, struct archive *a, struct err *e)
{
	bool open = false;

	for (;;) {
		struct archive_entry *ae;
		int r = archive_read_next_header(a, &ae);
		int64_t at = archive_read_header_position(a);

		if (r != ARCHIVE_OK && r != ARCHIVE_WARN && r != ARCHIVE_EOF)
			return err_set(e, -EBADMSG, "%s: %s: %s", t->path,
				       t->n > 0 ? "corrupt, or cut short"
						: "no tar archive",
				       archive_error_string(a));
		if (open && place(t, &t->entries[t->n - 1], (uint64_t)at) < 0)
			return err_set(e, -EBADMSG,
				       "%s: it is cut short, in %s", t->path,
				       t->entries[t->n - 1].name);
		if (r == ARCHIVE_EOF)
			return 0;
		r = add(t, ae);
		if (r < 0)
			return err_set(e, r,
				       "%s: more entries or longer names than "
				       "an image has",
				       t->path);
		open = r == 1;
	}
}

static int by_name(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int c = strcmp(x->name, y->name);

	if (c != 0)
		return c;
	return x->seq < y->seq ? -1 : 1;
}

/* A tar that is compressed as a whole has no places to read at. */
static int check_plain(const struct tarfile *t, struct err *e)
{
	static const struct {
		uint8_t magic[4];
		size_t n;
		const char *name;
	} known[] = {
		{{0x1f, 0x8b}, 2, "gzip"},
		{{0x28, 0xb5, 0x2f, 0xfd}, 4, "zstd"},
		{{0xfd, '7', 'z', 'X'}, 4, "xz"},
		{{'B', 'Z', 'h'}, 3, "bzip2"},
	};
	uint8_t p[4];

	if (io_pread_all(t->fd, p, sizeof(p), 0) < 0)
		return err_set(e, -EBADMSG, "%s: no tar archive", t->path);
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (memcmp(p, known[i].magic, known[i].n) == 0)
			return err_set(e, -EOPNOTSUPP,
				       "%s: compressed with %s: unpack it "
				       "first",
				       t->path, known[i].name);
	}
	return 0;
}

static int open_and_scan(struct tarfile *t, struct err *e)
{
	struct archive *a;
	int r;

	t->fd = io_open_regular(AT_FDCWD, t->path, &t->size, e);
	if (t->fd < 0)
		return err_wrap(e, "%s", t->path);
	r = check_plain(t, e);
	if (r < 0)
		return r;
	a = archive_read_new();
	if (a == NULL)
		return err_no_memory(e);
	if (archive_read_support_format_tar(a) != ARCHIVE_OK ||
	    archive_read_open_fd(a, t->fd, KIB(64)) != ARCHIVE_OK)
		r = err_set(e, -EBADMSG, "%s: no tar archive", t->path);
	else
		r = scan(t, a, e);
	(void)archive_read_free(a);
	return r;
}

int tarfile_open(const char *path, struct tarfile **ret, struct err *e)
{
	CLEANUP(tarfile_close_cleanup)
	struct tarfile *t = calloc(1, sizeof(*t));
	int r;

	if (t == NULL)
		return err_no_memory(e);
	t->fd = -1;
	t->path = strdup(path);
	if (t->path == NULL)
		return err_no_memory(e);
	r = open_and_scan(t, e);
	if (r < 0)
		return r;
	if (t->n > 0)
		qsort(t->entries, t->n, sizeof(*t->entries), by_name);
	*ret = TAKE_PTR(t);
	return 0;
}

/* The first entry of a name, or NULL. */
static const struct entry *first(const struct tarfile *t, const char *name)
{
	size_t lo = 0, hi = t->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(t->entries[mid].name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < t->n && strcmp(t->entries[lo].name, name) == 0
		       ? &t->entries[lo]
		       : NULL;
}

int tarfile_find(struct tarfile *t, const char *name, struct span *ret,
		 struct err *e)
{
	CLEANUP_FREE char *path = cleaned("", 0, name);
	const char *at = path != NULL ? path : "";

	for (int i = 0; i <= LINKS_MAX; i++) {
		const struct entry *en = first(t, at);
		size_t next;
		int fd;

		if (en == NULL)
			return err_set(e, -ENOENT, "%s: no file %.128s in it",
				       t->path, name);
		next = (size_t)(en - t->entries) + 1;
		if (next < t->n && strcmp(t->entries[next].name, at) == 0)
			return err_set(e, -EBADMSG,
				       "%s: two entries are called %.128s",
				       t->path, at);
		if (en->link != NULL) {
			at = en->link;
			continue;
		}
		fd = fcntl(t->fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return err_set(e, -errno, "%s: %s", t->path,
				       err_name(errno));
		*ret = (struct span){
			.fd = fd, .off = en->off, .size = en->size};
		return 0;
	}
	return err_set(e, -ELOOP, "%s: %.128s: links in a circle", t->path,
		       name);
}
