/* SPDX-License-Identifier: Apache-2.0 */
/* From a TOC to the metadata of layer.erofs and the chunk table. */
#include "config.h"

#include "common/index.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "common/checked.h"
#include "common/chunks.h"
#include "common/erofs.h"
#include "common/erofs_format.h"
#include "common/erofs_write.h"
#include "common/limits.h"
#include "common/rd.h"
#include "common/tree.h"
#define LOG_MOD "index"
#include "common/log.h"

/**
 * struct name_key - a name while its directory is sorted
 * @head:	its first 8 bytes as a big-endian number, NULs behind the end:
 *		mostly decides without a look at the name
 */
struct name_key {
	uint64_t head;
	uint32_t node;
	uint32_t len;
	const char *name;
};

/* An attribute while those of its inode are sorted; @seq: the later wins. */
struct xattr_key {
	struct erofs_w_xattr x;
	uint32_t seq;
};

/* A regular file with data; sorted by where that is in the blob. */
struct file {
	uint64_t offset;
	uint64_t inner_offset;
	uint32_t number;
};

/**
 * struct build - everything index_build() allocates
 * @w:		the image: visible inodes, breadth first
 * @inode_of:	[n_inodes of the tree] of an image inode: its inode in the tree
 * @number_of:	[n_inodes of the tree] the reverse; TREE_NONE: not visible
 * @keys:	[n_nodes of the tree] scratch for one directory
 * @xattrs:	all attributes of the image
 * @xattr_keys:	scratch for one inode
 * @offsets:	[n_offsets] every blob offset that the TOC names, ascending
 * @at:		the first of @offsets behind the last chunk
 */
struct build {
	const struct index_in *in;
	struct tree *tree;
	struct erofs_w w;
	struct erofs_w_dirent *dirents;
	uint32_t *inode_of;
	uint32_t *number_of;
	struct name_key *keys;
	struct erofs_w_xattr *xattrs;
	struct xattr_key *xattr_keys;
	size_t n_xattrs;
	size_t n_dropped;
	struct file *files;
	size_t n_files;
	uint64_t *offsets;
	size_t n_offsets;
	size_t at;
	uint64_t image_bytes;
	uint64_t prefetch_end;
	uint64_t n_chunks;
	uint32_t flags;
	struct chunk last;
	struct buf meta;
	struct buf chunks;
};

static void build_done(struct build *b)
{
	tree_free(b->tree);
	free(b->w.inodes);
	free(b->dirents);
	free(b->inode_of);
	free(b->number_of);
	free(b->keys);
	free(b->xattrs);
	free(b->xattr_keys);
	free(b->files);
	free(b->offsets);
	buf_done(&b->meta);
	buf_done(&b->chunks);
}

static int name_key_cmp(const void *pa, const void *pb)
{
	const struct name_key *a = pa, *b = pb;
	int c;

	if (a->head != b->head)
		return a->head < b->head ? -1 : 1;
	c = memcmp(a->name, b->name, MIN(a->len, b->len));
	return c != 0 ? c : (a->len > b->len) - (a->len < b->len);
}

/* Sorts, unless it is sorted already, as what a tar was made from often is. */
static void sort(void *p, size_t n, size_t size,
		 int (*cmp)(const void *, const void *))
{
	const char *at = p;

	for (size_t i = 1; i < n; i++, at += size)
		if (cmp(at, at + size) > 0) {
			qsort(p, n, size, cmp);
			return;
		}
}

/* The names to show in a directory, sorted; returns how many. */
static uint32_t dir_names(struct build *b, const struct tree_inode *dir)
{
	const struct tree *t = b->tree;
	uint32_t n = 0;

	for (uint32_t at = dir->first_child; at != TREE_NONE;
	     at = t->nodes[at].next) {
		const struct tree_node *node = &t->nodes[at];
		struct name_key *k = &b->keys[n];

		if (node->hidden)
			continue;
		*k = (struct name_key){
			.node = at,
			.name = node->name,
			.len = node->name_len,
		};
		for (uint32_t i = 0; i < 8; i++)
			k->head = k->head << 8 |
				  (i < k->len ? (uint8_t)k->name[i] : 0);
		n++;
	}
	/* The newest child is the first in the list. */
	for (uint32_t i = 0; i < n / 2; i++) {
		struct name_key k = b->keys[i];

		b->keys[i] = b->keys[n - 1 - i];
		b->keys[n - 1 - i] = k;
	}
	sort(b->keys, n, sizeof(*b->keys), name_key_cmp);
	return n;
}

static int set_attributes(const struct toc_entry *en, struct erofs_w_inode *in,
			  struct err *e)
{
	static const uint32_t types[] = {
		[TOC_DIR] = S_IFDIR,     [TOC_REG] = S_IFREG,
		[TOC_SYMLINK] = S_IFLNK, [TOC_CHAR] = S_IFCHR,
		[TOC_BLOCK] = S_IFBLK,   [TOC_FIFO] = S_IFIFO,
		[TOC_CHUNK] = 0,
	};
	uint32_t type = en->type < ARRAY_SIZE(types) ? types[en->type] : 0;

	if (type == 0)
		return err_set(e, -EBADMSG, "%.100s: unknown type %u", en->name,
			       en->type);
	in->mode = type | (en->mode & 07777);
	in->uid = en->uid;
	in->gid = en->gid;
	in->mtime = en->mtime;
	if (en->type == TOC_REG)
		in->size = en->size;
	if (en->type == TOC_SYMLINK) {
		if (en->link_len == 0 || en->link_len > EROFS_LINK_BYTES_MAX)
			return err_set(e, -EBADMSG,
				       "%.100s: symlink of %" PRIu32 " bytes",
				       en->name, en->link_len);
		/* All that symlink(2) makes, whatever the archive says. */
		in->mode = S_IFLNK | 0777;
		in->link = en->link;
		in->size = en->link_len;
	}
	if ((type == S_IFCHR || type == S_IFBLK) &&
	    !erofs_w_rdev(en->devmajor, en->devminor, &in->rdev))
		return err_set(e, -EBADMSG,
			       "%.100s: no device number: %" PRIu32 ":%" PRIu32,
			       en->name, en->devmajor, en->devminor);
	return 0;
}

/* Gives the tree's inode @inode the next place in the image. */
static int inode_append(struct build *b, uint32_t inode, uint32_t parent,
			struct err *e)
{
	const struct tree_inode *ti = &b->tree->inodes[inode];
	struct erofs_w_inode *in = &b->w.inodes[b->w.n_inodes];

	*in = (struct erofs_w_inode){.parent = parent};
	if (ti->type == TOC_DIR) {
		in->mode = S_IFDIR | 0755;
		in->nlink = 2;
	} else if (ti->entry == TREE_NONE) {
		in->mode = S_IFCHR; /* a whiteout: device 0:0 */
	}
	b->number_of[inode] = b->w.n_inodes;
	b->inode_of[b->w.n_inodes++] = inode;
	if (ti->entry == TREE_NONE)
		return 0;
	return set_attributes(&b->in->toc->entries[ti->entry], in, e);
}

/*
 * The image's inodes and names: breadth first, so that the inodes of a
 * directory are neighbours. What is only under hidden names is not reached.
 */
static int flatten(struct build *b, struct err *e)
{
	const struct tree *t = b->tree;
	uint32_t n_dirents = 0;
	int r;

	r = inode_append(b, t->nodes[0].inode, 0, e);
	for (uint32_t i = 0; r == 0 && i < b->w.n_inodes; i++) {
		const struct tree_inode *ti = &t->inodes[b->inode_of[i]];
		uint32_t n;

		if (ti->type != TOC_DIR)
			continue;
		n = dir_names(b, ti);
		b->w.inodes[i].first = n_dirents;
		b->w.inodes[i].n = n;
		for (uint32_t k = 0; r == 0 && k < n; k++) {
			uint32_t inode = t->nodes[b->keys[k].node].inode;
			uint32_t number = b->number_of[inode];

			if (number == TREE_NONE) {
				number = b->w.n_inodes;
				r = inode_append(b, inode, i, e);
			}
			if (t->inodes[inode].type == TOC_DIR)
				b->w.inodes[i].nlink++;
			else
				b->w.inodes[number].nlink++;
			b->dirents[n_dirents++] = (struct erofs_w_dirent){
				.name = b->keys[k].name,
				.name_len = (uint8_t)b->keys[k].len,
				.inode = number,
			};
		}
	}
	b->w.dirents = b->dirents;
	b->w.n_dirents = n_dirents;
	return r;
}

static int build_alloc(struct build *b)
{
	const struct toc *toc = b->in->toc;
	size_t n = b->tree->n_inodes, n_nodes = b->tree->n_nodes;
	size_t n_xattrs = 1;

	for (uint32_t i = 0; i < toc->n_entries; i++)
		n_xattrs += toc->entries[i].n_xattrs;
	for (uint32_t i = 0; i < b->tree->n_inodes; i++)
		n_xattrs += b->tree->inodes[i].opaque;
	b->w.inodes = malloc(n * sizeof(*b->w.inodes));
	b->inode_of = malloc(n * sizeof(*b->inode_of));
	b->number_of = malloc(n * sizeof(*b->number_of));
	b->dirents = malloc(n_nodes * sizeof(*b->dirents));
	b->keys = malloc(n_nodes * sizeof(*b->keys));
	b->xattrs = malloc(n_xattrs * sizeof(*b->xattrs));
	/* In the worst case they all are on one directory. */
	b->xattr_keys = malloc(n_xattrs * sizeof(*b->xattr_keys));
	b->files = malloc(n * sizeof(*b->files));
	b->offsets = malloc((toc->n_entries + 1u) * sizeof(*b->offsets));
	if (b->w.inodes == NULL || b->inode_of == NULL ||
	    b->number_of == NULL || b->dirents == NULL || b->keys == NULL ||
	    b->xattrs == NULL || b->xattr_keys == NULL || b->files == NULL ||
	    b->offsets == NULL)
		return -ENOMEM;
	memset(b->number_of, 0xff, n * sizeof(*b->number_of)); /* TREE_NONE */
	return 0;
}

static int xattr_key_cmp(const void *pa, const void *pb)
{
	const struct xattr_key *a = pa, *b = pb;
	int c;

	if (a->x.index != b->x.index)
		return a->x.index < b->x.index ? -1 : 1;
	c = memcmp(a->x.name, b->x.name,
		   (size_t)MIN(a->x.name_len, b->x.name_len));
	if (c == 0)
		c = a->x.name_len - b->x.name_len;
	return c != 0 ? c : (a->seq > b->seq) - (a->seq < b->seq);
}

static bool xattr_same_name(const struct erofs_w_xattr *a,
			    const struct erofs_w_xattr *b)
{
	return a->index == b->index && a->name_len == b->name_len &&
	       memcmp(a->name, b->name, a->name_len) == 0;
}

/* The attributes of one entry that the image gets. */
static int entry_xattrs(struct build *b, const struct toc_entry *en, size_t *n,
			struct err *e)
{
	/* Later attributes of an entry win, and later entries over earlier
	 * ones, which are collected after them: so count down. */
	for (uint32_t i = en->n_xattrs; i-- > 0;) {
		const struct toc_xattr *tx = &en->xattrs[i];
		struct xattr_key *k = &b->xattr_keys[*n];
		const char *rest;
		size_t len;

		if (strncmp(tx->name, "trusted.overlay.", 16) == 0 ||
		    strncmp(tx->name, "user.overlay.", 13) == 0 ||
		    !erofs_xattr_split(tx->name, &k->x.index, &rest)) {
			b->n_dropped++;
			continue;
		}
		len = strlen(rest);
		if (len > XATTR_NAME_BYTES_MAX ||
		    tx->value_len > XATTR_VALUE_BYTES_MAX)
			return err_set(e, -EOVERFLOW,
				       "%.100s: extended attribute of %" PRIu32
				       " bytes, %u is the most",
				       en->name, tx->value_len,
				       XATTR_VALUE_BYTES_MAX);
		k->x.name = rest;
		k->x.name_len = (uint8_t)len;
		k->x.value = tx->value;
		k->x.value_len = (uint16_t)tx->value_len;
		k->seq = (uint32_t)*n;
		(*n)++;
	}
	return 0;
}

static void opaque_xattr(struct build *b, size_t *n)
{
	static const uint8_t yes[] = {'y'};

	b->xattr_keys[*n] = (struct xattr_key){
		.x =
			{
				.name = "overlay.opaque",
				.name_len = 14,
				.index = b->in->opaque_user
						 ? EROFS_XATTR_USER
						 : EROFS_XATTR_TRUSTED,
				.value = yes,
				.value_len = sizeof(yes),
			},
	};
	(*n)++;
}

static int set_xattrs(struct build *b, uint32_t number, struct err *e)
{
	const struct tree *t = b->tree;
	const struct tree_inode *ti = &t->inodes[b->inode_of[number]];
	struct erofs_w_inode *in = &b->w.inodes[number];
	size_t n = 0;
	int r;

	if (ti->opaque)
		opaque_xattr(b, &n);
	for (uint32_t i = ti->entry; i != TREE_NONE;
	     i = t->older == NULL ? TREE_NONE : t->older[i]) {
		r = entry_xattrs(b, &b->in->toc->entries[i], &n, e);
		if (r < 0)
			return r;
	}
	if (n == 0)
		return 0;
	sort(b->xattr_keys, n, sizeof(*b->xattr_keys), xattr_key_cmp);
	in->xattrs = &b->xattrs[b->n_xattrs];
	for (size_t i = 0; i < n; i++) {
		if (i > 0 && xattr_same_name(&b->xattr_keys[i - 1].x,
					     &b->xattr_keys[i].x))
			continue;
		b->xattrs[b->n_xattrs++] = b->xattr_keys[i].x;
		in->n_xattrs++;
	}
	b->flags |= CHUNKS_F_XATTRS;
	return 0;
}

static int u64_cmp(const void *pa, const void *pb)
{
	const uint64_t *a = pa, *b = pb;

	return (*a > *b) - (*a < *b);
}

static int file_cmp(const void *pa, const void *pb)
{
	const struct file *a = pa, *b = pb;

	if (a->offset != b->offset)
		return a->offset < b->offset ? -1 : 1;
	return (a->inner_offset > b->inner_offset) -
	       (a->inner_offset < b->inner_offset);
}

/* Every offset there is in the TOC: where one member ends another begins. */
static void collect_offsets(struct build *b)
{
	const struct toc *toc = b->in->toc;

	for (uint32_t i = 0; i < toc->n_entries; i++)
		if (toc->entries[i].offset > 0)
			b->offsets[b->n_offsets++] = toc->entries[i].offset;
	sort(b->offsets, b->n_offsets, sizeof(*b->offsets), u64_cmp);
}

static const struct toc_entry *entry_of(const struct build *b, uint32_t number)
{
	return &b->in->toc->entries[b->tree->inodes[b->inode_of[number]].entry];
}

/* Places the data of every file, in the order of the blob. */
static int place_files(struct build *b, struct err *e)
{
	uint64_t at = b->w.meta_bytes;

	for (uint32_t i = 0; i < b->w.n_inodes; i++) {
		const struct toc_entry *en;

		if (!S_ISREG(b->w.inodes[i].mode) || b->w.inodes[i].size == 0)
			continue;
		en = entry_of(b, i);
		b->files[b->n_files++] = (struct file){
			.offset = en->offset,
			.inner_offset = en->inner_offset,
			.number = i,
		};
	}
	sort(b->files, b->n_files, sizeof(*b->files), file_cmp);
	for (size_t i = 0; i < b->n_files; i++) {
		struct erofs_w_inode *in = &b->w.inodes[b->files[i].number];

		/* Below, not at, so that the last block number stays free:
		 * to EROFS it means that there is no block. */
		if (in->size >= EROFS_BYTES_MAX - EROFS_BLOCK_BYTES - at)
			return err_set(e, -EOVERFLOW,
				       "%.100s: the layer is above %" PRIu64
				       " bytes",
				       entry_of(b, b->files[i].number)->name,
				       EROFS_BYTES_MAX);
		in->data_off = at;
		at = ALIGN_UP(at + in->size, (uint64_t)EROFS_BLOCK_BYTES);
	}
	b->image_bytes = at;
	b->w.n_blocks = at / EROFS_BLOCK_BYTES;
	return 0;
}

/* A chunk by itself, and behind the one before it. */
static int check_chunk(const struct build *b, const struct toc_entry *file,
		       const struct chunk *k, struct err *e)
{
	const struct chunk *last = &b->last;

	/* A tar header comes before any data, so 0 and 0 is no place. */
	if (k->blob_off == 0 && k->inner_off == 0)
		return err_set(e, -EBADMSG, "%.100s: has no data in the blob",
			       file->name);
	if (k->blob_off >= b->in->toc_off)
		return err_set(e, -EBADMSG,
			       "%.100s: data at %" PRIu64
			       ", behind the last at "
			       "%" PRIu64,
			       file->name, k->blob_off, b->in->toc_off);
	if (k->inner_off > CHUNK_BYTES_MAX || k->len > CHUNK_BYTES_MAX)
		return err_set(e, -EOVERFLOW,
			       "%.100s: chunk of %" PRIu64 " bytes", file->name,
			       k->len);
	if (!k->has_digest && !b->in->allow_unverified)
		return err_set(e, -EBADMSG, "%.100s: a chunk has no digest",
			       file->name);
	if (b->n_chunks == 0)
		return 0;
	if (k->blob_off < last->blob_off ||
	    (k->blob_off == last->blob_off &&
	     k->inner_off < last->inner_off + last->len))
		return err_set(
			e, -EBADMSG,
			"%.100s: chunks out of order or over one another",
			file->name);
	return 0;
}

static int add_chunk(struct build *b, const struct toc_entry *file,
		     struct chunk *k, struct err *e)
{
	struct chunk_le le = {0};
	uint64_t end = b->in->toc_off;
	int r;

	r = check_chunk(b, file, k, e);
	if (r < 0)
		return r;
	while (b->at < b->n_offsets && b->offsets[b->at] <= k->blob_off)
		b->at++;
	if (b->at < b->n_offsets)
		end = MIN(end, b->offsets[b->at]);
	k->blob_len = end - k->blob_off;
	if (k->has_digest)
		memcpy(le.digest, k->digest.b, DIGEST_BYTES);
	else
		b->flags |= CHUNKS_F_UNVERIFIED;
	le64_store(&le.blob_off, k->blob_off);
	le64_store(&le.blob_len, k->blob_len);
	le64_store(&le.inner_off, k->inner_off);
	le64_store(&le.image_off, k->image_off);
	le64_store(&le.len, k->len);
	b->last = *k;
	b->n_chunks++;
	r = buf_add(&b->chunks, &le, sizeof(le));
	return r < 0 ? err_set(e, r, "chunk table") : 0;
}

/* The chunks of one file: the entry itself, and those behind it. */
static int file_chunks(struct build *b, uint32_t number, struct err *e)
{
	const struct toc *toc = b->in->toc;
	const struct erofs_w_inode *in = &b->w.inodes[number];
	uint32_t first = b->tree->inodes[b->inode_of[number]].entry;
	const struct toc_entry *file = &toc->entries[first];
	uint64_t at = 0;
	int r;

	for (uint32_t i = first; i < toc->n_entries; i++) {
		const struct toc_entry *en = &toc->entries[i];
		uint64_t left = in->size - at;
		struct chunk k = {
			.blob_off = en->offset,
			.inner_off = en->inner_offset,
			.image_off = in->data_off + at,
			.len = en->chunk_size != 0 ? en->chunk_size : left,
			.has_digest = en->has_chunk_digest,
			.digest = en->chunk_digest,
		};

		if (i > first && en->type == TOC_REG)
			break;
		if (i > first && en->type != TOC_CHUNK)
			continue;
		if (en->chunk_offset != at || left == 0 || k.len > left)
			return err_set(e, -EBADMSG,
				       "%.100s: chunk at %" PRIu64
				       " of %" PRIu64 " bytes, %" PRIu64
				       " of %" PRIu64 " are covered",
				       file->name, en->chunk_offset, k.len, at,
				       in->size);
		r = add_chunk(b, file, &k, e);
		if (r < 0)
			return r;
		at += k.len;
	}
	if (at != in->size)
		return err_set(e, -EBADMSG,
			       "%.100s: chunks cover %" PRIu64 " of %" PRIu64
			       " bytes",
			       file->name, at, in->size);
	return 0;
}

/* The entry of a file in the root, NULL where there is none. */
static const struct toc_entry *root_file(const struct build *b,
					 const char *name)
{
	const struct tree *t = b->tree;
	uint32_t at = tree_lookup(t, 0, name, strlen(name));
	const struct tree_inode *ti;

	if (at == TREE_NONE)
		return NULL;
	ti = &t->inodes[t->nodes[at].inode];
	if (ti->type != TOC_REG)
		return NULL;
	return &b->in->toc->entries[ti->entry];
}

static int find_prefetch_end(struct build *b, struct err *e)
{
	const struct toc_entry *mark = root_file(b, TOC_LANDMARK_NAME);

	if (mark == NULL || root_file(b, TOC_NO_LANDMARK_NAME) != NULL)
		return 0;
	if (mark->offset > b->in->toc_off)
		return err_set(e, -EBADMSG, "%.100s: at %" PRIu64 ", outside",
			       mark->name, mark->offset);
	b->prefetch_end = mark->offset;
	return 0;
}

static int build_image(struct build *b, struct err *e)
{
	const uint8_t *d = b->in->toc_digest->b;
	int r;

	r = tree_build(b->in->toc, d, &b->tree, e);
	if (r < 0)
		return r;
	r = build_alloc(b);
	if (r < 0)
		return err_set(e, r, "index");
	r = flatten(b, e);
	for (uint32_t i = 0; r == 0 && i < b->w.n_inodes; i++)
		r = set_xattrs(b, i, e);
	if (r < 0)
		return r;
	if (b->n_dropped > 0)
		log_debug("msg=\"xattrs not taken over\" n=%zu", b->n_dropped);
	r = erofs_w_layout(&b->w, e);
	if (r < 0)
		return r;
	r = place_files(b, e);
	if (r < 0)
		return r;
	r = buf_reserve(&b->meta, b->w.meta_bytes);
	if (r < 0)
		return err_set(e, r, "metadata");
	/* A UUID from the digest, in the form of RFC 4122: equal ones would
	 * make overlayfs switch features off. */
	memcpy(b->w.uuid, d, sizeof(b->w.uuid));
	b->w.uuid[6] = (b->w.uuid[6] & 0x0f) | 0x50;
	b->w.uuid[8] = (b->w.uuid[8] & 0x3f) | 0x80;
	erofs_w_emit(&b->w, (uint8_t *)b->meta.p);
	b->meta.len = b->w.meta_bytes;
	b->meta.p[b->meta.len] = '\0';
	return 0;
}

static int build_chunks(struct build *b, struct err *e)
{
	static const struct chunks_header_le none;
	int r;

	r = buf_add(&b->chunks, &none, sizeof(none));
	if (r < 0)
		return err_set(e, r, "chunk table");
	collect_offsets(b);
	for (size_t i = 0; i < b->n_files; i++) {
		r = file_chunks(b, b->files[i].number, e);
		if (r < 0)
			return r;
	}
	return find_prefetch_end(b, e);
}

static int seal_chunks(struct build *b, struct err *e)
{
	CLEANUP(sha256_free_cleanup) struct sha256 *h = sha256_new();
	const struct index_in *in = b->in;
	struct chunks_header_le le = {.magic = "eszchunk"};
	struct digest d;

	if (h == NULL)
		return err_set(e, -ENOMEM, "index digest");
	if (in->opaque_user)
		b->flags |= CHUNKS_F_OPAQUE_USER;
	le32_store(&le.version, CHUNKS_VERSION);
	le32_store(&le.flags, b->flags);
	memcpy(le.toc_digest, in->toc_digest->b, DIGEST_BYTES);
	if (in->blob_digest != NULL)
		memcpy(le.blob_digest, in->blob_digest->b, DIGEST_BYTES);
	le64_store(&le.blob_size, in->blob_size);
	le64_store(&le.toc_off, in->toc_off);
	le64_store(&le.prefetch_end, b->prefetch_end);
	le64_store(&le.image_bytes, b->image_bytes);
	le64_store(&le.meta_len, b->w.meta_bytes);
	le64_store(&le.n_chunks, b->n_chunks);
	le32_store(&le.codec, in->codec);
	memcpy(b->chunks.p, &le, sizeof(le));
	sha256_start(h);
	sha256_add(h, b->meta.p, b->meta.len);
	sha256_add(h, b->chunks.p, b->chunks.len);
	sha256_end(h, &d);
	memcpy(b->chunks.p + offsetof(struct chunks_header_le, index_digest),
	       d.b, DIGEST_BYTES);
	return 0;
}

int index_build(const struct index_in *in, struct buf *ret_meta,
		struct buf *ret_chunks, struct err *e)
{
	CLEANUP(build_done)
	struct build b = {
		.in = in,
		.meta = BUF_INIT(EROFS_META_BYTES_MAX),
		.chunks = BUF_INIT(sizeof(struct chunks_header_le) +
				   (size_t)TOC_ENTRIES_MAX *
					   sizeof(struct chunk_le)),
	};
	int r;

	if (in->toc_off > in->blob_size)
		return err_set(e, -EBADMSG, "the TOC is outside the blob");
	r = build_image(&b, e);
	if (r < 0)
		return r;
	r = build_chunks(&b, e);
	if (r < 0)
		return r;
	r = seal_chunks(&b, e);
	if (r < 0)
		return r;
	buf_done(ret_meta);
	buf_done(ret_chunks);
	*ret_meta = b.meta;
	*ret_chunks = b.chunks;
	b.meta = b.chunks = (struct buf){0};
	return 0;
}
