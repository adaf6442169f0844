/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index_build() of any TOC that the parser could give it: what is accepted
 * must be an image and a chunk table that their readers accept, that say the
 * same of every file, and in which links are counted right.
 */
#include "config.h"

#include <stdio.h>

#include "common/chunks.h"
#include "common/index.h"
#include "common/limits.h"
#include "tests/unit/erofs-walk.h"
#include "tests/unit/mktoc.h"

#define ENTRIES_MAX 200u
#define NAME_BYTES 1024u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Paths of few different names, so that entries meet. */
static const char *path(struct rd *r, char *buf)
{
	static const char *const names[] = {
		"a",
		"b",
		"c",
		".wh.a",
		".wh..wh..opq",
		".wh.",
		".wh...",
		".wh..wh.plnk",
		".prefetch.landmark",
		".no.prefetch.landmark",
		"stargz.index.json",
		"!",
		".-",
		"...",
		".wh..prefetch.landmark",
		"0123456789012345678901234567890123456789012345678901234567890"
		"0123456789012345678901234567890123456789012345678901234567890"
		"0123456789012345678901234567890123456789012345678901234567890",
	};
	unsigned depth = rd_u8(r) % 5;
	size_t len = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < depth; i++) {
		const char *name = names[rd_u8(r) % ARRAY_SIZE(names)];

		len += (size_t)snprintf(buf + len, NAME_BYTES - len, "%s%s",
					i > 0 ? "/" : "", name);
	}
	return buf;
}

static uint64_t number(struct rd *r)
{
	uint8_t kind = rd_u8(r);

	if (kind < 200)
		return kind;
	return kind < 240 ? rd_u16(r) : rd_u64(r);
}

static void entry(struct mktoc *m, struct rd *r, char *name, char *link,
		  struct toc_xattr *x)
{
	static const char *const xattrs[] = {
		"user.a",      "user.b",     "trusted.overlay.opaque",
		"user.empty",  "system.foo", "security.capability",
		"trusted.xyz", "user.",
	};
	uint8_t type = 1 + rd_u8(r) % TOC_CHUNK;
	struct toc_entry *en = mktoc_add(m, type, path(r, name));
	uint8_t flags = rd_u8(r);

	if (type == TOC_HARDLINK || type == TOC_SYMLINK) {
		en->link = path(r, link);
		en->link_len = (uint32_t)strlen(link);
	}
	if (type == TOC_REG)
		en->size = number(r);
	if (type == TOC_REG || type == TOC_CHUNK) {
		m->next_offset += rd_u8(r);
		en->offset = (flags & 1) != 0 ? number(r) : m->next_offset;
		en->inner_offset = (flags & 2) != 0 ? number(r) : 0;
		en->chunk_offset = type == TOC_CHUNK ? number(r) : 0;
		en->chunk_size = (flags & 4) != 0 ? number(r) : 0;
		en->has_chunk_digest = (flags & 8) == 0;
		en->chunk_digest.b[0] = 1;
	}
	if (type == TOC_CHAR || type == TOC_BLOCK) {
		en->devmajor = (uint32_t)number(r);
		en->devminor = (uint32_t)number(r);
	}
	en->mode = rd_u16(r) & 07777;
	en->mtime = (int64_t)number(r);
	en->uid = (uint32_t)number(r);
	for (en->n_xattrs = 0; en->n_xattrs < flags >> 6; en->n_xattrs++) {
		static const uint8_t value[65536];
		struct toc_xattr *one = &x[en->n_xattrs];

		one->name = xattrs[rd_u8(r) % ARRAY_SIZE(xattrs)];
		one->value = value;
		one->value_len = rd_u16(r);
	}
	en->xattrs = x;
}

/* Names of a file that were seen, and its chunks. */
struct seen {
	uint64_t nid;
	uint32_t nlink;
	uint32_t names;
};

static void check_data(const struct chunks *c, const struct erofs_inode *in)
{
	uint64_t at = in->data_off, end = at + in->size, i;

	while (at < end) {
		struct chunk k;

		assert(chunks_find(c, at, &i) == 0);
		chunks_get(c, i, &k);
		assert(k.image_off == at);
		at += k.len;
	}
	assert(at == end);
	assert(in->size == 0 || chunks_find(c, end, &i) < 0 ||
	       end % EROFS_BLOCK_BYTES == 0);
}

static void note(struct seen *seen, size_t *n, const struct erofs_inode *in)
{
	size_t i = 0;

	while (i < *n && seen[i].nid != in->nid)
		i++;
	if (i == *n)
		seen[(*n)++] = (struct seen){in->nid, in->nlink, 0};
	seen[i].names++;
}

/* Every name once, each directory under its parent, links counted. */
static void check_tree(const struct erofs_image *im, const struct chunks *c)
{
	enum {
		MAX = ENTRIES_MAX * 6
	};
	struct seen *seen = malloc(MAX * sizeof(*seen));
	uint64_t *dirs = malloc(2 * MAX * sizeof(*dirs));
	size_t n_seen = 0, n_dirs = 0;

	assert(seen != NULL && dirs != NULL);
	dirs[n_dirs++] = im->root_nid;
	dirs[n_dirs++] = im->root_nid;
	while (n_dirs > 0) {
		uint64_t parent = dirs[--n_dirs];
		struct erofs_dirent d, last = {.name = ""};
		struct erofs_inode dir, in;
		uint32_t subdirs = 0;
		uint64_t pos, nid;

		assert(erofs_inode_get(im, dirs[--n_dirs], &dir) == 0);
		assert(erofs_lookup(im, &dir, "..", 2, &nid, NULL) == 0);
		assert(nid == parent);
		assert(erofs_lookup(im, &dir, ".", 1, &nid, NULL) == 0);
		assert(nid == dir.nid);
		for (pos = 0; erofs_readdir(im, &dir, pos, &d) == 1;
		     pos = d.next) {
			int order =
				memcmp(last.name, d.name, MIN(last.len, d.len));

			assert(order < 0 || (order == 0 && last.len < d.len));
			last = d;
			assert(erofs_inode_get(im, d.nid, &in) == 0);
			assert(IFTODT(in.mode) == d.dtype);
			if (d.name[0] == '.' &&
			    (d.len == 1 || (d.len == 2 && d.name[1] == '.')))
				continue;
			assert(d.len < 4 || memcmp(d.name, ".wh.", 4) != 0);
			if (d.dtype == DT_DIR) {
				subdirs++;
				assert(n_dirs + 2 <= 2 * MAX);
				dirs[n_dirs++] = d.nid;
				dirs[n_dirs++] = dir.nid;
				continue;
			}
			assert(n_seen < MAX);
			note(seen, &n_seen, &in);
			if (d.dtype == DT_REG)
				check_data(c, &in);
		}
		assert(dir.nlink == 2 + subdirs);
	}
	for (size_t i = 0; i < n_seen; i++)
		assert(seen[i].names == seen[i].nlink);
	free(seen);
	free(dirs);
}

static void check(const struct buf *meta, const struct buf *table)
{
	struct sha256 *h = sha256_new();
	struct erofs_image im;
	struct chunks c;
	int r;

	assert(h != NULL);
	assert(erofs_open(&im, meta->p, meta->len, NULL) == 0);
	assert(chunks_open(&c, table->p, table->len, NULL) == 0);
	assert(c.meta_len == meta->len);
	assert(chunks_verify(&c, (const uint8_t *)meta->p, h));
	r = walk_image(&im);
	assert(r == 0 || r == -E2BIG);
	check_tree(&im, &c);
	sha256_free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char names[ENTRIES_MAX][NAME_BYTES];
	static char links[ENTRIES_MAX][NAME_BYTES];
	static struct toc_xattr xattrs[ENTRIES_MAX][4];
	struct rd r = rd_init(data, size);
	struct mktoc m = {0};
	struct buf meta = {0}, table = {0};
	struct err e = {0};
	struct digest digest = {{0}};
	struct index_in in = {
		.toc = &m.toc,
		.toc_digest = &digest,
		.blob_size = 1 << 20,
		.toc_off = 1 << 19,
		.codec = CODEC_GZIP,
	};

	digest.b[0] = rd_u8(&r);
	in.allow_unverified = (digest.b[0] & 1) != 0;
	in.opaque_user = (digest.b[0] & 2) != 0;
	for (uint32_t i = 0; i < ENTRIES_MAX && r.off < size && !r.bad; i++)
		entry(&m, &r, names[i], links[i], xattrs[i]);
	if (index_build(&in, &meta, &table, &e) == 0)
		check(&meta, &table);
	else
		assert(e.text[0] != '\0');
	buf_done(&meta);
	buf_done(&table);
	mktoc_done(&m);
	return 0;
}
