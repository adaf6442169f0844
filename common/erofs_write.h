/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: writing the metadata of an EROFS image. Private to common/.
 *
 * Two passes over an inode table that the caller fills: erofs_w_layout()
 * places every inode and directory and so knows where the metadata ends and
 * what nid each inode has; the caller then places file data behind it
 * (data_off); erofs_w_emit() writes.
 *
 * Order in the image: superblock, inodes in the order of the table with
 * their xattrs and inline tails, whole blocks of directories and long
 * symlinks, file data.
 */
#ifndef COMMON_EROFS_WRITE_H
#define COMMON_EROFS_WRITE_H

#include "common/base.h"
#include "common/err.h"

/**
 * struct erofs_w_xattr - an extended attribute
 * @name:	without its prefix, [@name_len]; borrowed
 * @value:	[@value_len]; borrowed
 * @index:	enum erofs_xattr_index
 */
struct erofs_w_xattr {
	const char *name;
	const uint8_t *value;
	uint16_t value_len;
	uint8_t name_len;
	uint8_t index;
};

/**
 * struct erofs_w_dirent - a name in a directory
 * @name:	[@name_len], 1 to 255 bytes; borrowed
 * @inode:	index in the inode table
 */
struct erofs_w_dirent {
	const char *name;
	uint32_t inode;
	uint8_t name_len;
};

/**
 * struct erofs_w_inode - one inode
 * @link:	symlink: target, @size bytes
 * @size:	regular file or symlink: bytes. Directory: set by the layout.
 * @data_off:	regular file: where its data is in the image, 4 KiB-aligned.
 *		Set between layout and emit; 0 where @size is 0, or @hole.
 *		Others: private.
 * @hole:	regular file: it has a size and no data
 * @off:	set by the layout; nid = @off / 32
 * @mode:	st_mode
 * @rdev:	device: as erofs_w_rdev() gives it
 * @parent:	directory: index of its parent (its own for the root)
 * @first:	directory: its names are [@first, @first + @n) of the dirents,
 *		sorted by bytes, "." and ".." not among them
 */
struct erofs_w_inode {
	const char *link;
	const struct erofs_w_xattr *xattrs;
	uint64_t size;
	uint64_t data_off;
	uint64_t off;
	int64_t mtime;
	uint32_t n_xattrs;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint32_t nlink;
	uint32_t rdev;
	uint32_t parent;
	uint32_t first;
	uint32_t n;
	uint32_t xattr_bytes; /* private */
	uint8_t layout;       /* private */
	bool hole;
};

/**
 * struct erofs_w - an image to write
 * @inodes:	[@n_inodes]; the root directory is the first
 * @dirents:	[@n_dirents]
 * @n_blocks:	of the whole image, data included; set before emit
 */
struct erofs_w {
	struct erofs_w_inode *inodes;
	const struct erofs_w_dirent *dirents;
	uint64_t meta_bytes;
	uint64_t n_blocks;
	uint32_t n_inodes;
	uint32_t n_dirents;
	uint8_t uuid[16];
	bool has_xattrs; /* private */
	bool has_holes;  /* private */
};

/* A device number as EROFS has it; false where the kernel has no such one. */
bool erofs_w_rdev(uint32_t major, uint32_t minor, uint32_t *ret);

/**
 * erofs_w_layout() - place everything, set @w->meta_bytes
 *
 * Return: 0, -EOVERFLOW (metadata above EROFS_META_BYTES_MAX, xattrs of one
 * inode above EROFS_XATTR_BYTES_MAX)
 */
int erofs_w_layout(struct erofs_w *w, struct err *e);

/**
 * erofs_w_emit() - write the metadata
 * @out:	[@w->meta_bytes], zeroed by the callee
 */
void erofs_w_emit(const struct erofs_w *w, uint8_t *out);

#endif
