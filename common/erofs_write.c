/* SPDX-License-Identifier: Apache-2.0 */
/* EROFS metadata writer: a layout pass and a write pass. */
#include "config.h"

#include "common/erofs_write.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "common/erofs.h"
#include "common/erofs_format.h"
#include "common/limits.h"
#include "common/rd.h"

bool erofs_w_rdev(uint32_t major, uint32_t minor, uint32_t *ret)
{
	/* The kernel's new_encode_dev(): 12 bits and 20 bits. */
	if (major > 0xfff || minor > 0xfffff)
		return false;
	*ret = (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
	return true;
}

/* Names of a directory in their order, "." and ".." in their places. */
struct names {
	const struct erofs_w *w;
	const struct erofs_w_inode *dir;
	uint32_t self;
	uint32_t i;
	unsigned dots;
};

static struct names names_of(const struct erofs_w *w, uint32_t dir)
{
	return (struct names){.w = w, .dir = &w->inodes[dir], .self = dir};
}

static bool names_next(struct names *it, struct erofs_w_dirent *ret)
{
	const struct erofs_w_dirent *d = NULL;
	size_t dots = it->dots + 1;

	if (it->i < it->dir->n)
		d = &it->w->dirents[it->dir->first + it->i];
	if (dots <= 2 && d != NULL) {
		int c = memcmp("..", d->name, MIN(dots, (size_t)d->name_len));

		if (c > 0 || (c == 0 && dots >= d->name_len))
			dots = 3;
	}
	if (dots <= 2) {
		it->dots++;
		*ret = (struct erofs_w_dirent){
			.name = "..",
			.name_len = (uint8_t)dots,
			.inode = dots == 1 ? it->self : it->dir->parent,
		};
		return true;
	}
	if (d == NULL)
		return false;
	it->i++;
	*ret = *d;
	return true;
}

/* Bytes of a directory: whole blocks, the last one as far as it is used. */
static uint64_t dir_bytes(const struct erofs_w *w, uint32_t dir)
{
	struct names it = names_of(w, dir);
	struct erofs_w_dirent d;
	uint64_t full = 0;
	uint32_t used = 0;

	while (names_next(&it, &d)) {
		uint32_t need = EROFS_DIRENT_BYTES + d.name_len;

		if (used + need > EROFS_BLOCK_BYTES) {
			full += EROFS_BLOCK_BYTES;
			used = 0;
		}
		used += need;
	}
	return full + used;
}

static int xattr_layout(struct erofs_w_inode *in, struct err *e)
{
	uint64_t n = EROFS_XATTR_HEADER_BYTES;

	in->xattr_bytes = 0;
	if (in->n_xattrs == 0)
		return 0;
	for (uint32_t i = 0; i < in->n_xattrs; i++) {
		const struct erofs_w_xattr *x = &in->xattrs[i];

		n += ALIGN_UP(EROFS_XATTR_ENTRY_BYTES + (uint32_t)x->name_len +
				      x->value_len,
			      4u);
	}
	if (n > EROFS_XATTR_BYTES_MAX)
		return err_set(e, -EOVERFLOW,
			       "extended attributes of one file above %u bytes",
			       EROFS_XATTR_BYTES_MAX);
	in->xattr_bytes = (uint32_t)n;
	return 0;
}

/*
 * Where the inode goes, at or behind @pos, and whether its tail is inline.
 * Inode, xattrs and tail then share one block: the kernel wants that of a
 * symlink, and we of all. If they do not fit here there are two ways to waste
 * space, and we take the cheaper: skip to the next block, or give the tail a
 * block of its own.
 */
static uint64_t place(struct erofs_w_inode *in, uint64_t pos)
{
	uint64_t fixed = EROFS_INODE_BYTES + in->xattr_bytes;
	uint64_t tail = in->size % EROFS_BLOCK_BYTES;
	uint64_t used;

	pos = ALIGN_UP(pos, EROFS_SLOT_BYTES);
	/* The inode itself never straddles two blocks. */
	if (pos % EROFS_BLOCK_BYTES + EROFS_INODE_BYTES > EROFS_BLOCK_BYTES)
		pos = ALIGN_UP(pos, EROFS_BLOCK_BYTES);
	used = pos % EROFS_BLOCK_BYTES;
	in->layout = EROFS_LAYOUT_PLAIN;
	if (in->hole && in->size > 0)
		in->layout = EROFS_LAYOUT_CHUNK;
	if ((!S_ISDIR(in->mode) && !S_ISLNK(in->mode)) || tail == 0 ||
	    fixed + tail > EROFS_BLOCK_BYTES)
		return pos;
	if (used + fixed + tail > EROFS_BLOCK_BYTES) {
		if (EROFS_BLOCK_BYTES - used > EROFS_BLOCK_BYTES - tail)
			return pos;
		pos = ALIGN_UP(pos, EROFS_BLOCK_BYTES);
	}
	in->layout = EROFS_LAYOUT_INLINE;
	return pos;
}

/* Bytes behind the inode and its xattrs, in the inode area. */
static uint64_t tail_bytes(const struct erofs_w_inode *in)
{
	if (in->layout == EROFS_LAYOUT_CHUNK)
		return erofs_hole_chunks(in->size) * EROFS_MAP_ENTRY_BYTES;
	return in->layout == EROFS_LAYOUT_INLINE ? in->size % EROFS_BLOCK_BYTES
						 : 0;
}

int erofs_w_layout(struct erofs_w *w, struct err *e)
{
	uint64_t pos = EROFS_SUPER_OFF + EROFS_SUPER_BYTES;
	int r;

	assert(w->n_inodes > 0);
	assert(S_ISDIR(w->inodes[0].mode));
	w->has_xattrs = w->has_holes = false;
	for (uint32_t i = 0; i < w->n_inodes; i++) {
		struct erofs_w_inode *in = &w->inodes[i];

		if (S_ISDIR(in->mode))
			in->size = dir_bytes(w, i);
		assert(!S_ISLNK(in->mode) || in->size <= EROFS_LINK_BYTES_MAX);
		r = xattr_layout(in, e);
		if (r < 0)
			return r;
		w->has_xattrs |= in->n_xattrs > 0;
		in->off = place(in, pos);
		w->has_holes |= in->layout == EROFS_LAYOUT_CHUNK;
		pos = in->off + EROFS_INODE_BYTES + in->xattr_bytes +
		      tail_bytes(in);
		if (pos > EROFS_META_BYTES_MAX)
			break;
	}
	for (uint32_t i = 0; i < w->n_inodes && pos <= EROFS_META_BYTES_MAX;
	     i++) {
		struct erofs_w_inode *in = &w->inodes[i];
		uint64_t n = in->size - tail_bytes(in);

		if ((!S_ISDIR(in->mode) && !S_ISLNK(in->mode)))
			continue;
		in->data_off = 0;
		if (n == 0)
			continue;
		in->data_off = ALIGN_UP(pos, EROFS_BLOCK_BYTES);
		pos = in->data_off + n;
	}
	if (pos > EROFS_META_BYTES_MAX)
		return err_set(e, -EOVERFLOW,
			       "metadata of the layer above %" PRIu64 " bytes",
			       EROFS_META_BYTES_MAX);
	w->meta_bytes = ALIGN_UP(pos, EROFS_BLOCK_BYTES);
	return 0;
}

static uint8_t file_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return EROFS_FT_REG;
	case S_IFDIR:
		return EROFS_FT_DIR;
	case S_IFCHR:
		return EROFS_FT_CHR;
	case S_IFBLK:
		return EROFS_FT_BLK;
	case S_IFIFO:
		return EROFS_FT_FIFO;
	case S_IFSOCK:
		return EROFS_FT_SOCK;
	case S_IFLNK:
		return EROFS_FT_LNK;
	default:
		return EROFS_FT_UNKNOWN;
	}
}

static void emit_xattrs(const struct erofs_w_inode *in, uint8_t *p)
{
	p += EROFS_XATTR_HEADER_BYTES; /* zero: none shared, no filter */
	for (uint32_t i = 0; i < in->n_xattrs; i++) {
		const struct erofs_w_xattr *x = &in->xattrs[i];
		uint32_t n = EROFS_XATTR_ENTRY_BYTES;

		p[EROFS_XE_NAME_LEN] = x->name_len;
		p[EROFS_XE_INDEX] = x->index;
		le16_store(p + EROFS_XE_VALUE_LEN, x->value_len);
		memcpy(p + n, x->name, x->name_len);
		n += x->name_len;
		if (x->value_len > 0)
			memcpy(p + n, x->value, x->value_len);
		p += ALIGN_UP(n + x->value_len, 4u);
	}
}

static void emit_inode(const struct erofs_w *w, uint32_t i, uint8_t *out)
{
	const struct erofs_w_inode *in = &w->inodes[i];
	uint8_t *p = out + in->off;
	uint32_t u = (uint32_t)(in->data_off >> EROFS_BLOCK_BITS);

	if (S_ISCHR(in->mode) || S_ISBLK(in->mode))
		u = in->rdev;
	if (in->layout == EROFS_LAYOUT_CHUNK)
		u = erofs_hole_format(in->size);
	le16_store(p + EROFS_I_FORMAT, (uint16_t)(EROFS_FORMAT_EXTENDED |
						  (uint32_t)in->layout << 1));
	if (in->xattr_bytes > 0)
		le16_store(p + EROFS_I_XATTR_COUNT,
			   (uint16_t)((in->xattr_bytes -
				       EROFS_XATTR_HEADER_BYTES) /
					      4 +
				      1));
	le16_store(p + EROFS_I_MODE, (uint16_t)in->mode);
	le64_store(p + EROFS_I_SIZE, in->size);
	le32_store(p + EROFS_I_U, u);
	le32_store(p + EROFS_I_INO, i + 1);
	le32_store(p + EROFS_I_UID, in->uid);
	le32_store(p + EROFS_I_GID, in->gid);
	le64_store(p + EROFS_I_MTIME, (uint64_t)in->mtime);
	le32_store(p + EROFS_I_NLINK, in->nlink);
	if (in->n_xattrs > 0)
		emit_xattrs(in, p + EROFS_INODE_BYTES);
	if (in->layout == EROFS_LAYOUT_CHUNK)
		memset(p + EROFS_INODE_BYTES + in->xattr_bytes, 0xff,
		       tail_bytes(in)); /* EROFS_NULL_ADDR */
}

/* Where byte @at of a directory or symlink is; [at, block end) is there. */
static uint8_t *data_at(const struct erofs_w_inode *in, uint8_t *out,
			uint64_t at)
{
	uint64_t full = in->size - tail_bytes(in);

	if (at < full)
		return out + in->data_off + at;
	return out + in->off + EROFS_INODE_BYTES + in->xattr_bytes +
	       (at - full);
}

/* One block of a directory: [@n] names from @it on. */
static void emit_dir_block(const struct erofs_w *w, struct names *it,
			   uint32_t n, uint8_t *p)
{
	uint32_t name_off = n * EROFS_DIRENT_BYTES;
	struct erofs_w_dirent d;

	for (uint32_t i = 0; i < n; i++) {
		const struct erofs_w_inode *in;
		bool more = names_next(it, &d);

		assert(more);
		in = &w->inodes[d.inode];
		le64_store(p + EROFS_DE_NID, in->off / EROFS_SLOT_BYTES);
		le16_store(p + EROFS_DE_NAME_OFF, (uint16_t)name_off);
		p[EROFS_DE_TYPE] = file_type(in->mode);
		memcpy(p + (name_off - i * EROFS_DIRENT_BYTES), d.name,
		       d.name_len);
		name_off += d.name_len;
		p += EROFS_DIRENT_BYTES;
	}
}

static void emit_dir(const struct erofs_w *w, uint32_t dir, uint8_t *out)
{
	struct names ahead = names_of(w, dir);
	struct names from = ahead;
	struct erofs_w_dirent d;
	uint64_t at = 0;
	uint32_t n = 0, used = 0;

	while (names_next(&ahead, &d)) {
		uint32_t need = EROFS_DIRENT_BYTES + d.name_len;

		if (used + need > EROFS_BLOCK_BYTES) {
			emit_dir_block(w, &from, n, data_at(from.dir, out, at));
			at += EROFS_BLOCK_BYTES;
			n = used = 0;
		}
		used += need;
		n++;
	}
	assert(at + used == from.dir->size);
	emit_dir_block(w, &from, n, data_at(from.dir, out, at));
}

static void emit_super(const struct erofs_w *w, uint8_t *out)
{
	uint8_t *sb = out + EROFS_SUPER_OFF;
	const char *label =
		w->has_xattrs ? EROFS_LABEL_XATTRS : EROFS_LABEL_PLAIN;

	static_assert(sizeof(EROFS_LABEL_XATTRS) <= EROFS_LABEL_BYTES,
		      "fits the superblock");
	le32_store(sb + EROFS_SB_MAGIC, EROFS_MAGIC);
	le32_store(sb + EROFS_SB_COMPAT,
		   EROFS_COMPAT_SB_CHKSUM | EROFS_COMPAT_MTIME);
	sb[EROFS_SB_BLOCK_BITS] = EROFS_BLOCK_BITS;
	le16_store(sb + EROFS_SB_ROOT_NID,
		   (uint16_t)(w->inodes[0].off / EROFS_SLOT_BYTES));
	le64_store(sb + EROFS_SB_INOS, w->n_inodes);
	le32_store(sb + EROFS_SB_BLOCKS, (uint32_t)w->n_blocks);
	memcpy(sb + EROFS_SB_UUID, w->uuid, sizeof(w->uuid));
	memcpy(sb + EROFS_SB_LABEL, label, strlen(label));
	if (w->has_holes)
		le32_store(sb + EROFS_SB_INCOMPAT, EROFS_INCOMPAT_CHUNKED_FILE);
	le32_store(sb + EROFS_SB_CHECKSUM, erofs_super_checksum(out));
}

void erofs_w_emit(const struct erofs_w *w, uint8_t *out)
{
	assert(w->n_blocks <= UINT32_MAX);
	assert(w->n_blocks >= w->meta_bytes / EROFS_BLOCK_BYTES);
	memset(out, 0, w->meta_bytes);
	for (uint32_t i = 0; i < w->n_inodes; i++) {
		const struct erofs_w_inode *in = &w->inodes[i];

		emit_inode(w, i, out);
		if (S_ISDIR(in->mode))
			emit_dir(w, i, out);
		else if (S_ISLNK(in->mode) && in->size > 0)
			memcpy(data_at(in, out, 0), in->link, in->size);
	}
	emit_super(w, out);
}
