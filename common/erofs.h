/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: reading the metadata of an EROFS image of ours (or of mkfs.erofs's,
 * without compression). Pure: a mapping in, numbers out. The image was
 * written by us, but a disk may lie: every offset is bounds-checked and a bad
 * one is -EBADMSG, never a crash.
 *
 * Source: Linux Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h
 * (the on-disk format; EROFS_SUPER_MAGIC_V1 0xE0F5E1E2).
 */
#ifndef COMMON_EROFS_H
#define COMMON_EROFS_H

#include "common/base.h"
#include "common/err.h"

#define EROFS_BLOCK_BYTES 4096u

/**
 * struct erofs_image - an opened image
 * @map:	[@map_len] the metadata, from byte 0 of the image; borrowed.
 *		@map_len may be less than the image: data beyond it is not
 *		needed here.
 * @root_nid:	inode number of the root directory
 * @n_inodes:	as the superblock counts them
 * @n_blocks:	4 KiB blocks of the whole image
 * @holes:	its files are holes; data_off says nothing
 */
struct erofs_image {
	const uint8_t *map;
	size_t map_len;
	uint64_t meta_off;
	uint64_t root_nid;
	uint64_t n_inodes;
	uint64_t n_blocks;
	uint64_t xattr_off;
	int64_t epoch;
	uint32_t epoch_nsec;
	bool holes;
	uint8_t uuid[16];
};

/* Return: 0, -EBADMSG, -EOPNOTSUPP (feature or block size we do not read). */
int erofs_open(struct erofs_image *im, const void *map, size_t map_len,
	       struct err *e);

/* The same, of an image without data as well (common/merge.h). */
int erofs_open_any(struct erofs_image *im, const void *map, size_t map_len,
		   struct err *e);

/**
 * struct erofs_inode - one inode, decoded
 * @mode:	type and permission bits, st_mode
 * @rdev:	as makedev() packs it on Linux (gnu_dev_makedev)
 * @data_off:	regular file: byte offset in the image of its first byte, a
 *		multiple of 4096 (0 where @size is 0); the data is contiguous
 */
struct erofs_inode {
	uint64_t nid;
	uint64_t size;
	uint64_t data_off;
	uint64_t rdev;
	int64_t mtime;
	uint32_t mtime_nsec;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint32_t nlink;
	/* private: for the functions below */
	uint64_t inode_off;
	uint32_t inode_bytes;
	uint32_t xattr_bytes;
	uint8_t layout;
};

/* Return: 0, -EBADMSG. */
int erofs_inode_get(const struct erofs_image *im, uint64_t nid,
		    struct erofs_inode *ret);

/**
 * erofs_inode_next() - the inode behind another one in the image
 *
 * In images that are written here: breadth first, so that files of a directory
 * follow one another in the order of their names (docs/FORMAT.md §2.2).
 * Return: 1, 0 there is none, or none that was written so
 */
int erofs_inode_next(const struct erofs_image *im, const struct erofs_inode *in,
		     struct erofs_inode *ret);

/**
 * erofs_lookup() - a name in a directory (binary search, O(log n))
 * @name:	[@len], no '/'
 * @ret_dtype:	DT_… of <dirent.h>, may be NULL
 *
 * Return: 0, -ENOENT, -ENOTDIR, -EBADMSG
 */
int erofs_lookup(const struct erofs_image *im, const struct erofs_inode *dir,
		 const char *name, size_t len, uint64_t *ret_nid,
		 uint8_t *ret_dtype);

/**
 * struct erofs_dirent - what erofs_readdir() yields
 * @name:	[@len], not NUL-terminated, in the mapping
 * @next:	position to go on from after this entry
 */
struct erofs_dirent {
	const char *name;
	size_t len;
	uint64_t nid;
	uint64_t next;
	uint8_t dtype;
};

/**
 * erofs_readdir() - the entry at a position; "." and ".." included
 * @pos:	0 to begin, else a struct erofs_dirent's @next
 *
 * Return: 1 an entry, 0 the end, -ENOTDIR, -EBADMSG
 */
int erofs_readdir(const struct erofs_image *im, const struct erofs_inode *dir,
		  uint64_t pos, struct erofs_dirent *ret);

/* Return: 0 and [*ret_len] bytes in the mapping, -EINVAL, -EBADMSG. */
int erofs_readlink(const struct erofs_image *im, const struct erofs_inode *in,
		   const char **ret, size_t *ret_len);

/* Value of an attribute by its full name ("user.x", "security.capability",
 * "system.posix_acl_access"). Return: 0 and [*ret_len] in the mapping,
 * -ENODATA, -EBADMSG. */
int erofs_xattr_get(const struct erofs_image *im, const struct erofs_inode *in,
		    const char *name, const uint8_t **ret, size_t *ret_len);

/* All full names, each NUL-terminated, as listxattr(2) gives them. Where
 * @cap is 0 only counts. Return: bytes, -ERANGE, -EBADMSG. */
ssize_t erofs_xattr_list(const struct erofs_image *im,
			 const struct erofs_inode *in, char *buf, size_t cap);

/**
 * struct erofs_xattr - an attribute, as the image has it
 * @index:	enum erofs_xattr_index (common/erofs_format.h), or unknown
 * @name:	[@name_len] what is behind the index's prefix, without NUL
 * @value:	[@value_len]
 */
struct erofs_xattr {
	const char *name;
	const uint8_t *value;
	uint32_t name_len;
	uint32_t value_len;
	uint8_t index;
};

/* A walk over the attributes of an inode: the shared ones, by their numbers,
 * then the inline ones. The members are private. */
struct erofs_xattr_iter {
	const struct erofs_image *im;
	uint64_t id_off;
	uint64_t off;
	uint64_t end;
	uint32_t n_shared;
};

/* Return: 0, -EBADMSG */
int erofs_xattr_begin(struct erofs_xattr_iter *it, const struct erofs_image *im,
		      const struct erofs_inode *in);
/* Return: 1 one, 0 the end, -EBADMSG */
int erofs_xattr_next(struct erofs_xattr_iter *it, struct erofs_xattr *ret);

/* Whether any inode of the image has an attribute (from the volume label that
 * our writer sets; true where not known). */
bool erofs_has_xattrs(const struct erofs_image *im);

#endif
