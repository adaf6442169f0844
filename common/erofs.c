/* SPDX-License-Identifier: Apache-2.0 */
/* EROFS metadata reader. Every offset from the image goes through at(). */
#include "config.h"

#include "common/erofs.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/checked.h"
#include "common/erofs_format.h"
#include "common/limits.h"
#include "common/rd.h"

static const char *const xattr_prefixes[EROFS_XATTR_N_] = {
	[EROFS_XATTR_USER] = "user.",
	[EROFS_XATTR_ACL_ACCESS] = "system.posix_acl_access",
	[EROFS_XATTR_ACL_DEFAULT] = "system.posix_acl_default",
	[EROFS_XATTR_TRUSTED] = "trusted.",
	[EROFS_XATTR_SECURITY] = "security.",
};

const char *erofs_xattr_prefix(unsigned index)
{
	return index < ARRAY_SIZE(xattr_prefixes) ? xattr_prefixes[index]
						  : NULL;
}

bool erofs_xattr_split(const char *name, uint8_t *ret_index,
		       const char **ret_rest)
{
	for (uint8_t i = 0; i < ARRAY_SIZE(xattr_prefixes); i++) {
		const char *prefix = xattr_prefixes[i];
		size_t n = prefix == NULL ? 0 : strlen(prefix);

		if (n == 0 || strncmp(name, prefix, n) != 0)
			continue;
		/* An ACL has its whole name in the prefix, others never. */
		if ((prefix[n - 1] == '.') == (name[n] == '\0'))
			continue;
		*ret_index = i;
		*ret_rest = name + n;
		return true;
	}
	return false;
}

uint32_t erofs_super_checksum(const uint8_t *block0)
{
	/* crc32c (Castagnoli), reflected, four bits at a time. */
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
		0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
		0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	uint32_t crc = UINT32_MAX;

	for (uint32_t i = EROFS_SUPER_OFF; i < EROFS_BLOCK_BYTES; i++) {
		uint32_t field = i - EROFS_SUPER_OFF - EROFS_SB_CHECKSUM;

		crc ^= field < 4 ? 0 : block0[i];
		crc = (crc >> 4) ^ table[crc & 15];
		crc = (crc >> 4) ^ table[crc & 15];
	}
	return crc;
}

/* [off, off + len) of the metadata, NULL where it is not all there. */
static const uint8_t *at(const struct erofs_image *im, uint64_t off,
			 uint64_t len)
{
	if (!checked_range(off, len, im->map_len))
		return NULL;
	return im->map + off;
}

static int open_known(struct erofs_image *im, const void *map, size_t map_len,
		      uint32_t features, struct err *e)
{
	struct erofs_image it = {.map = map, .map_len = map_len};
	const uint8_t *sb = at(&it, EROFS_SUPER_OFF, EROFS_SUPER_BYTES);
	uint32_t compat, incompat;

	if (sb == NULL || map_len < EROFS_BLOCK_BYTES)
		return err_set(e, -EBADMSG, "erofs: %zu bytes are no image",
			       map_len);
	if (le32_load(sb + EROFS_SB_MAGIC) != EROFS_MAGIC)
		return err_set(e, -EBADMSG, "erofs: no magic number");
	compat = le32_load(sb + EROFS_SB_COMPAT);
	incompat = le32_load(sb + EROFS_SB_INCOMPAT);
	if (sb[EROFS_SB_BLOCK_BITS] != EROFS_BLOCK_BITS ||
	    sb[EROFS_SB_DIR_BLOCK_BITS] != 0)
		return err_set(e, -EOPNOTSUPP, "erofs: block size 2^%u",
			       sb[EROFS_SB_BLOCK_BITS]);
	if ((incompat & ~features) != 0)
		return err_set(e, -EOPNOTSUPP, "erofs: features %#x", incompat);
	if ((compat & EROFS_COMPAT_SB_CHKSUM) != 0 &&
	    le32_load(sb + EROFS_SB_CHECKSUM) != erofs_super_checksum(map))
		return err_set(e, -EBADMSG, "erofs: superblock checksum");
	it.meta_off = (uint64_t)le32_load(sb + EROFS_SB_META_BLOCK)
		      << EROFS_BLOCK_BITS;
	it.xattr_off = (uint64_t)le32_load(sb + EROFS_SB_XATTR_BLOCK)
		       << EROFS_BLOCK_BITS;
	it.root_nid = le16_load(sb + EROFS_SB_ROOT_NID);
	it.n_inodes = le64_load(sb + EROFS_SB_INOS);
	it.n_blocks = le32_load(sb + EROFS_SB_BLOCKS);
	it.epoch = (int64_t)le64_load(sb + EROFS_SB_EPOCH);
	it.epoch_nsec = le32_load(sb + EROFS_SB_EPOCH_NSEC);
	memcpy(it.uuid, sb + EROFS_SB_UUID, sizeof(it.uuid));
	it.holes = (incompat & EROFS_INCOMPAT_CHUNKED_FILE) != 0;
	*im = it;
	return 0;
}

int erofs_open(struct erofs_image *im, const void *map, size_t map_len,
	       struct err *e)
{
	return open_known(im, map, map_len, EROFS_INCOMPAT_ZERO_PADDING, e);
}

int erofs_open_any(struct erofs_image *im, const void *map, size_t map_len,
		   struct err *e)
{
	return open_known(
		im, map, map_len,
		EROFS_INCOMPAT_ZERO_PADDING | EROFS_INCOMPAT_CHUNKED_FILE, e);
}

bool erofs_has_xattrs(const struct erofs_image *im)
{
	char label[EROFS_LABEL_BYTES] = EROFS_LABEL_PLAIN;
	const uint8_t *sb = at(im, EROFS_SUPER_OFF, EROFS_SUPER_BYTES);

	return sb == NULL ||
	       memcmp(sb + EROFS_SB_LABEL, label, sizeof(label)) != 0;
}

/* The kernel's new_decode_dev(). */
static uint64_t rdev_decode(uint32_t v)
{
	return makedev((v >> 8) & 0xfff, (v & 0xff) | ((v >> 12) & 0xfff00));
}

static void inode_decode_extended(const uint8_t *p, struct erofs_inode *in)
{
	in->inode_bytes = EROFS_INODE_BYTES;
	in->size = le64_load(p + EROFS_I_SIZE);
	in->uid = le32_load(p + EROFS_I_UID);
	in->gid = le32_load(p + EROFS_I_GID);
	in->mtime = (int64_t)le64_load(p + EROFS_I_MTIME);
	in->mtime_nsec = le32_load(p + EROFS_I_MTIME_NSEC);
	in->nlink = le32_load(p + EROFS_I_NLINK);
}

static void inode_decode_compact(const struct erofs_image *im, const uint8_t *p,
				 struct erofs_inode *in)
{
	in->inode_bytes = EROFS_INODE_COMPACT_BYTES;
	in->size = le32_load(p + EROFS_IC_SIZE);
	in->uid = le16_load(p + EROFS_IC_UID);
	in->gid = le16_load(p + EROFS_IC_GID);
	in->mtime = im->epoch;
	in->mtime_nsec = im->epoch_nsec;
	in->nlink = le16_load(p + EROFS_IC_NLINK);
}

uint32_t erofs_hole_format(uint64_t size)
{
	uint64_t blocks = ((size - 1) >> EROFS_BLOCK_BITS) + 1;
	uint32_t bits = 0;

	assert(size > 0);
	while (bits < EROFS_CHUNK_BITS_MAX && blocks > UINT64_C(1) << bits)
		bits++;
	return bits;
}

uint64_t erofs_hole_chunks(uint64_t size)
{
	return ((size - 1) >> (erofs_hole_format(size) + EROFS_BLOCK_BITS)) + 1;
}

/* Whether a file is a hole as our writer makes them. */
static bool is_hole(const struct erofs_image *im, uint32_t format,
		    const struct erofs_inode *in)
{
	uint64_t n;
	const uint8_t *p;

	if (!im->holes || in->size > EROFS_BYTES_MAX ||
	    format != erofs_hole_format(in->size))
		return false;
	n = erofs_hole_chunks(in->size);
	p = at(im, in->inode_off + in->inode_bytes + in->xattr_bytes,
	       n * EROFS_MAP_ENTRY_BYTES);
	for (uint64_t i = 0; p != NULL && i < n; i++) {
		if (le32_load(p + i * EROFS_MAP_ENTRY_BYTES) != EROFS_NULL_ADDR)
			return false;
	}
	return p != NULL;
}

/* What i_u means, by type, and whether the layout is one we read. */
static int inode_decode_data(const struct erofs_image *im, uint32_t u,
			     struct erofs_inode *in)
{
	bool plain = in->layout == EROFS_LAYOUT_PLAIN;
	uint64_t start = (uint64_t)u << EROFS_BLOCK_BITS;

	switch (in->mode & S_IFMT) {
	case S_IFREG:
		if (in->size == 0)
			return 0;
		if (in->layout == EROFS_LAYOUT_CHUNK)
			return is_hole(im, u, in) ? 0 : -EBADMSG;
		if (!plain || !checked_range(start, in->size,
					     im->n_blocks << EROFS_BLOCK_BITS))
			return -EBADMSG;
		in->data_off = start;
		return 0;
	case S_IFDIR:
	case S_IFLNK:
		if (!plain && in->layout != EROFS_LAYOUT_INLINE)
			return -EBADMSG;
		in->data_off = start;
		return 0;
	case S_IFCHR:
	case S_IFBLK:
		in->rdev = rdev_decode(u);
		return 0;
	case S_IFIFO:
	case S_IFSOCK:
		return 0;
	default:
		return -EBADMSG;
	}
}

int erofs_inode_get(const struct erofs_image *im, uint64_t nid,
		    struct erofs_inode *ret)
{
	struct erofs_inode in = {.nid = nid};
	uint16_t format, count;
	const uint8_t *p;
	uint64_t off;
	int r;

	if (!checked_mul_u64(nid, EROFS_SLOT_BYTES, &off) ||
	    !checked_add_u64(off, im->meta_off, &off))
		return -EBADMSG;
	p = at(im, off, EROFS_INODE_COMPACT_BYTES);
	if (p == NULL)
		return -EBADMSG;
	format = le16_load(p + EROFS_I_FORMAT);
	if ((format & ~EROFS_FORMAT_KNOWN) != 0)
		return -EBADMSG;
	in.inode_off = off;
	in.layout = EROFS_FORMAT_LAYOUT(format);
	in.mode = le16_load(p + EROFS_I_MODE);
	if ((format & EROFS_FORMAT_EXTENDED) != 0) {
		if (at(im, off, EROFS_INODE_BYTES) == NULL)
			return -EBADMSG;
		inode_decode_extended(p, &in);
	} else {
		inode_decode_compact(im, p, &in);
	}
	count = le16_load(p + EROFS_I_XATTR_COUNT);
	if (count > 0)
		in.xattr_bytes = EROFS_XATTR_HEADER_BYTES + 4u * (count - 1u);
	if (at(im, off + in.inode_bytes, in.xattr_bytes) == NULL)
		return -EBADMSG;
	r = inode_decode_data(im, le32_load(p + EROFS_I_U), &in);
	if (r < 0)
		return r;
	*ret = in;
	return 0;
}

int erofs_inode_next(const struct erofs_image *im, const struct erofs_inode *in,
		     struct erofs_inode *ret)
{
	const uint8_t *p = at(im, in->inode_off, EROFS_INODE_BYTES);
	uint64_t off = in->inode_off + in->inode_bytes + in->xattr_bytes;
	uint32_t number;

	if (p == NULL || in->inode_bytes != EROFS_INODE_BYTES)
		return 0;
	number = le32_load(p + EROFS_I_INO) + 1;
	if (in->layout == EROFS_LAYOUT_INLINE)
		off += in->size % EROFS_BLOCK_BYTES;
	off = ALIGN_UP(off, (uint64_t)EROFS_SLOT_BYTES);
	/* There, or where the next block begins: none lies across two. */
	for (int i = 0; i < 2; i++) {
		p = at(im, off, EROFS_INODE_BYTES);
		if (p != NULL && le32_load(p + EROFS_I_INO) == number &&
		    (le16_load(p + EROFS_I_FORMAT) & EROFS_FORMAT_EXTENDED) !=
			    0)
			return erofs_inode_get(im,
					       (off - im->meta_off) /
						       EROFS_SLOT_BYTES,
					       ret) == 0;
		off = ALIGN_UP(off, (uint64_t)EROFS_BLOCK_BYTES);
	}
	return 0;
}

/*
 * Block @blk of a directory's or symlink's content; *ret_len bytes of it are
 * in use. NULL where the image does not have it.
 */
static const uint8_t *content(const struct erofs_image *im,
			      const struct erofs_inode *in, uint64_t blk,
			      uint32_t *ret_len)
{
	uint64_t off, start = blk << EROFS_BLOCK_BITS;
	uint32_t len;

	/* The reader of @in bounded it: no more bytes than the image has. */
	if (in->size > im->map_len || start >= in->size)
		return NULL;
	len = (uint32_t)MIN(in->size - start, (uint64_t)EROFS_BLOCK_BYTES);
	off = in->data_off + start;
	if (in->layout == EROFS_LAYOUT_INLINE && start + len == in->size)
		off = in->inode_off + in->inode_bytes + in->xattr_bytes;
	*ret_len = len;
	return at(im, off, len);
}

/* One directory block: @n entries in [@p, @p + @len). */
struct dir_block {
	const uint8_t *p;
	uint32_t len;
	uint32_t n;
};

static int dir_block(const struct erofs_image *im,
		     const struct erofs_inode *dir, uint64_t blk,
		     struct dir_block *ret)
{
	uint32_t first;

	ret->p = content(im, dir, blk, &ret->len);
	if (ret->p == NULL || ret->len < EROFS_DIRENT_BYTES)
		return -EBADMSG;
	first = le16_load(ret->p + EROFS_DE_NAME_OFF);
	if (first == 0 || first % EROFS_DIRENT_BYTES != 0 || first >= ret->len)
		return -EBADMSG;
	ret->n = first / EROFS_DIRENT_BYTES;
	return 0;
}

static int dir_entry(const struct dir_block *b, uint32_t i,
		     struct erofs_dirent *ret)
{
	static const uint8_t dtypes[EROFS_FT_N_] = {
		[EROFS_FT_UNKNOWN] = DT_UNKNOWN, [EROFS_FT_REG] = DT_REG,
		[EROFS_FT_DIR] = DT_DIR,         [EROFS_FT_CHR] = DT_CHR,
		[EROFS_FT_BLK] = DT_BLK,         [EROFS_FT_FIFO] = DT_FIFO,
		[EROFS_FT_SOCK] = DT_SOCK,       [EROFS_FT_LNK] = DT_LNK,
	};
	const uint8_t *de = b->p + i * EROFS_DIRENT_BYTES;
	uint32_t start = le16_load(de + EROFS_DE_NAME_OFF);
	uint32_t end = b->len;
	uint8_t type = de[EROFS_DE_TYPE];

	if (i + 1 < b->n)
		end = le16_load(de + EROFS_DIRENT_BYTES + EROFS_DE_NAME_OFF);
	if (start < b->n * EROFS_DIRENT_BYTES || end > b->len || start >= end)
		return -EBADMSG;
	/* The last name may have padding behind it. */
	if (i + 1 == b->n)
		end = start + (uint32_t)strnlen((const char *)b->p + start,
						end - start);
	ret->name = (const char *)b->p + start;
	ret->len = end - start;
	ret->nid = le64_load(de + EROFS_DE_NID);
	ret->dtype = type < EROFS_FT_N_ ? dtypes[type] : DT_UNKNOWN;
	if (ret->len == 0 || ret->len > EROFS_NAME_BYTES_MAX)
		return -EBADMSG;
	return 0;
}

static int name_cmp(const char *name, size_t len, const struct erofs_dirent *d)
{
	int c = memcmp(name, d->name, MIN(len, d->len));

	return c != 0 ? c : (len > d->len) - (len < d->len);
}

/* The last block whose first name is not behind @name. */
static int dir_find_block(const struct erofs_image *im,
			  const struct erofs_inode *dir, const char *name,
			  size_t len, struct dir_block *ret)
{
	uint64_t lo = 0, hi = (dir->size - 1) >> EROFS_BLOCK_BITS;
	struct erofs_dirent d;
	int r;

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo + 1) / 2;

		r = dir_block(im, dir, mid, ret);
		if (r == 0)
			r = dir_entry(ret, 0, &d);
		if (r < 0)
			return r;
		if (name_cmp(name, len, &d) < 0)
			hi = mid - 1;
		else
			lo = mid;
	}
	return dir_block(im, dir, lo, ret);
}

int erofs_lookup(const struct erofs_image *im, const struct erofs_inode *dir,
		 const char *name, size_t len, uint64_t *ret_nid,
		 uint8_t *ret_dtype)
{
	struct dir_block b;
	struct erofs_dirent d;
	uint32_t lo = 0, hi;
	int r;

	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	if (dir->size == 0)
		return -ENOENT;
	r = dir_find_block(im, dir, name, len, &b);
	if (r < 0)
		return r;
	for (hi = b.n; lo < hi;) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c;

		r = dir_entry(&b, mid, &d);
		if (r < 0)
			return r;
		c = name_cmp(name, len, &d);
		if (c == 0) {
			*ret_nid = d.nid;
			if (ret_dtype != NULL)
				*ret_dtype = d.dtype;
			return 0;
		}
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return -ENOENT;
}

/* A position is the block's number, shifted, and the entry's in the block. */
int erofs_readdir(const struct erofs_image *im, const struct erofs_inode *dir,
		  uint64_t pos, struct erofs_dirent *ret)
{
	uint64_t blk = pos >> EROFS_BLOCK_BITS;
	uint32_t i = (uint32_t)(pos & (EROFS_BLOCK_BYTES - 1));
	struct erofs_dirent d;
	struct dir_block b;
	int r;

	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	if (blk >= (dir->size >> EROFS_BLOCK_BITS) +
			   (dir->size % EROFS_BLOCK_BYTES != 0))
		return 0;
	r = dir_block(im, dir, blk, &b);
	if (r < 0)
		return r;
	if (i >= b.n) /* no position of ours */
		return -EBADMSG;
	r = dir_entry(&b, i, &d);
	if (r < 0)
		return r;
	if (memchr(d.name, '/', d.len) != NULL ||
	    memchr(d.name, '\0', d.len) != NULL)
		return -EBADMSG;
	d.next = i + 1 < b.n ? pos + 1 : (blk + 1) << EROFS_BLOCK_BITS;
	*ret = d;
	return 1;
}

int erofs_readlink(const struct erofs_image *im, const struct erofs_inode *in,
		   const char **ret, size_t *ret_len)
{
	const uint8_t *p;
	uint32_t len;

	if (!S_ISLNK(in->mode))
		return -EINVAL;
	if (in->size == 0 || in->size > EROFS_LINK_BYTES_MAX)
		return -EBADMSG;
	p = content(im, in, 0, &len);
	if (p == NULL || memchr(p, '\0', len) != NULL)
		return -EBADMSG;
	*ret = (const char *)p;
	*ret_len = len;
	return 0;
}

int erofs_xattr_begin(struct erofs_xattr_iter *it, const struct erofs_image *im,
		      const struct erofs_inode *in)
{
	uint64_t off = in->inode_off + in->inode_bytes;
	const uint8_t *p;

	*it = (struct erofs_xattr_iter){.im = im};
	if (in->xattr_bytes == 0)
		return 0;
	p = at(im, off, in->xattr_bytes);
	if (p == NULL || in->xattr_bytes < EROFS_XATTR_HEADER_BYTES)
		return -EBADMSG;
	it->n_shared = p[EROFS_XH_SHARED_COUNT];
	it->id_off = off + EROFS_XATTR_HEADER_BYTES;
	it->off = it->id_off + 4u * it->n_shared;
	it->end = off + in->xattr_bytes;
	return it->off <= it->end ? 0 : -EBADMSG;
}

/* Return: bytes of the entry at @off, which must end before @end; -EBADMSG. */
static int xattr_decode(const struct erofs_image *im, uint64_t off,
			uint64_t end, struct erofs_xattr *ret)
{
	const uint8_t *p = at(im, off, EROFS_XATTR_ENTRY_BYTES);
	uint32_t n = EROFS_XATTR_ENTRY_BYTES;

	if (p == NULL)
		return -EBADMSG;
	ret->index = p[EROFS_XE_INDEX];
	ret->name_len = p[EROFS_XE_NAME_LEN];
	ret->value_len = le16_load(p + EROFS_XE_VALUE_LEN);
	if (!checked_range(off, n + ret->name_len + ret->value_len, end) ||
	    at(im, off, n + ret->name_len + ret->value_len) == NULL)
		return -EBADMSG;
	ret->name = (const char *)p + n;
	ret->value = p + n + ret->name_len;
	if (memchr(ret->name, '\0', ret->name_len) != NULL)
		return -EBADMSG;
	return (int)ALIGN_UP(n + ret->name_len + ret->value_len, 4u);
}

int erofs_xattr_next(struct erofs_xattr_iter *it, struct erofs_xattr *ret)
{
	int r;

	if (it->n_shared > 0) {
		const uint8_t *id = at(it->im, it->id_off, 4);

		if (id == NULL)
			return -EBADMSG;
		it->id_off += 4;
		it->n_shared--;
		r = xattr_decode(it->im,
				 it->im->xattr_off + 4ull * le32_load(id),
				 it->im->map_len, ret);
		return r < 0 ? r : 1;
	}
	if (it->off >= it->end)
		return 0;
	r = xattr_decode(it->im, it->off, it->end, ret);
	if (r < 0)
		return r;
	it->off += (uint32_t)r;
	return 1;
}

int erofs_xattr_get(const struct erofs_image *im, const struct erofs_inode *in,
		    const char *name, const uint8_t **ret, size_t *ret_len)
{
	size_t len = strlen(name);
	struct erofs_xattr_iter it;
	struct erofs_xattr x;
	int r;

	r = erofs_xattr_begin(&it, im, in);
	if (r < 0)
		return r;
	while ((r = erofs_xattr_next(&it, &x)) > 0) {
		const char *prefix = erofs_xattr_prefix(x.index);
		size_t n = prefix == NULL ? 0 : strlen(prefix);

		if (n == 0 || len != n + x.name_len ||
		    memcmp(name, prefix, n) != 0 ||
		    memcmp(name + n, x.name, x.name_len) != 0)
			continue;
		*ret = x.value;
		*ret_len = x.value_len;
		return 0;
	}
	return r < 0 ? r : -ENODATA;
}

ssize_t erofs_xattr_list(const struct erofs_image *im,
			 const struct erofs_inode *in, char *buf, size_t cap)
{
	struct erofs_xattr_iter it;
	struct erofs_xattr x;
	size_t len = 0;
	int r;

	r = erofs_xattr_begin(&it, im, in);
	if (r < 0)
		return r;
	while ((r = erofs_xattr_next(&it, &x)) > 0) {
		const char *prefix = erofs_xattr_prefix(x.index);
		size_t n = prefix == NULL ? 0 : strlen(prefix);

		if (n == 0)
			continue;
		if (cap > 0) {
			if (n + x.name_len + 1 > cap - len)
				return -ERANGE;
			memcpy(buf + len, prefix, n);
			memcpy(buf + len + n, x.name, x.name_len);
			buf[len + n + x.name_len] = '\0';
		}
		len += n + x.name_len + 1;
	}
	return r < 0 ? r : (ssize_t)len;
}
