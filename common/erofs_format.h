/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of the EROFS on-disk format that we write and read, as offsets
 * into little-endian structures. Private to erofs.c, erofs_write.c and their
 * tests.
 *
 * Source: Linux Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h.
 */
#ifndef COMMON_EROFS_FORMAT_H
#define COMMON_EROFS_FORMAT_H

#include "common/base.h"

#define EROFS_MAGIC 0xE0F5E1E2u
#define EROFS_BLOCK_BITS 12u
#define EROFS_SUPER_OFF 1024u
#define EROFS_SUPER_BYTES 128u
#define EROFS_SLOT_BYTES 32u
#define EROFS_LINK_BYTES_MAX 4095u /* PATH_MAX less the NUL */
#define EROFS_NAME_BYTES_MAX 255u
#define EROFS_NULL_ADDR UINT32_MAX

/* Superblock fields, from EROFS_SUPER_OFF. */
#define EROFS_SB_MAGIC 0u           /* u32 */
#define EROFS_SB_CHECKSUM 4u        /* u32 */
#define EROFS_SB_COMPAT 8u          /* u32 */
#define EROFS_SB_BLOCK_BITS 12u     /* u8 */
#define EROFS_SB_EXT_SLOTS 13u      /* u8 */
#define EROFS_SB_ROOT_NID 14u       /* u16 */
#define EROFS_SB_INOS 16u           /* u64 */
#define EROFS_SB_EPOCH 24u          /* u64 */
#define EROFS_SB_EPOCH_NSEC 32u     /* u32 */
#define EROFS_SB_BLOCKS 36u         /* u32 */
#define EROFS_SB_META_BLOCK 40u     /* u32 */
#define EROFS_SB_XATTR_BLOCK 44u    /* u32 */
#define EROFS_SB_UUID 48u           /* 16 bytes */
#define EROFS_SB_LABEL 64u          /* 16 bytes */
#define EROFS_SB_INCOMPAT 80u       /* u32 */
#define EROFS_SB_DIR_BLOCK_BITS 90u /* u8 */

#define EROFS_COMPAT_SB_CHKSUM 1u
#define EROFS_COMPAT_MTIME 2u
/* Only says how LZ4 data would be padded: harmless without compression. */
#define EROFS_INCOMPAT_ZERO_PADDING 1u
#define EROFS_INCOMPAT_CHUNKED_FILE 4u

/* What our writer puts into the volume label. The kernel's feature bits are
 * not ours to take, so the label says whether there are xattrs. */
#define EROFS_LABEL_BYTES 16u
#define EROFS_LABEL_PLAIN "estargz"
#define EROFS_LABEL_XATTRS "estargz+xattr"

/* Inodes. The first four fields are common to both forms. */
#define EROFS_INODE_COMPACT_BYTES 32u
#define EROFS_INODE_BYTES 64u  /* the extended form */
#define EROFS_I_FORMAT 0u      /* u16: bit 0 extended, bits 1..3 layout */
#define EROFS_I_XATTR_COUNT 2u /* u16 */
#define EROFS_I_MODE 4u        /* u16 */
#define EROFS_IC_NLINK 6u      /* u16, compact */
#define EROFS_IC_SIZE 8u       /* u32, compact */
#define EROFS_IC_UID 24u       /* u16, compact */
#define EROFS_IC_GID 26u       /* u16, compact */
#define EROFS_I_SIZE 8u        /* u64 */
#define EROFS_I_U 16u          /* u32: start block, device, chunk format */
#define EROFS_I_INO 20u        /* u32 */
#define EROFS_I_UID 24u        /* u32 */
#define EROFS_I_GID 28u        /* u32 */
#define EROFS_I_MTIME 32u      /* s64 */
#define EROFS_I_MTIME_NSEC 40u /* u32 */
#define EROFS_I_NLINK 44u      /* u32 */

#define EROFS_FORMAT_EXTENDED 1u
#define EROFS_FORMAT_LAYOUT(f) (((f) >> 1) & 7u)
#define EROFS_FORMAT_KNOWN 0xfu
#define EROFS_LAYOUT_PLAIN 0u
#define EROFS_LAYOUT_INLINE 2u
#define EROFS_LAYOUT_CHUNK 4u

/*
 * A file that is a hole: as few chunks as can be, each without a block
 * (EROFS_NULL_ADDR), in a map of one u32 each behind the xattrs. The chunk format
 * is the logarithm of the blocks of a chunk, at most 31.
 */
#define EROFS_MAP_ENTRY_BYTES 4u
#define EROFS_CHUNK_BITS_MAX 31u

/* Directory entries: an array at the start of each block, then the names. */
#define EROFS_DIRENT_BYTES 12u
#define EROFS_DE_NID 0u      /* u64 */
#define EROFS_DE_NAME_OFF 8u /* u16 */
#define EROFS_DE_TYPE 10u    /* u8 */

enum erofs_ft {
	EROFS_FT_UNKNOWN,
	EROFS_FT_REG,
	EROFS_FT_DIR,
	EROFS_FT_CHR,
	EROFS_FT_BLK,
	EROFS_FT_FIFO,
	EROFS_FT_SOCK,
	EROFS_FT_LNK,
	EROFS_FT_N_
};

/* Extended attributes: a header behind the inode, then the entries. */
#define EROFS_XATTR_HEADER_BYTES 12u
#define EROFS_XH_SHARED_COUNT 4u /* u8 */
#define EROFS_XATTR_ENTRY_BYTES 4u
#define EROFS_XE_NAME_LEN 0u  /* u8 */
#define EROFS_XE_INDEX 1u     /* u8 */
#define EROFS_XE_VALUE_LEN 2u /* u16 */
/* i_xattr_icount is 16 bits wide and counts words after the header. */
#define EROFS_XATTR_BYTES_MAX \
	(EROFS_XATTR_HEADER_BYTES + 4u * (UINT16_MAX - 1u))

enum erofs_xattr_index {
	EROFS_XATTR_USER = 1,
	EROFS_XATTR_ACL_ACCESS = 2,
	EROFS_XATTR_ACL_DEFAULT = 3,
	EROFS_XATTR_TRUSTED = 4,
	EROFS_XATTR_SECURITY = 6,
	EROFS_XATTR_N_
};

/**
 * erofs_xattr_prefix() - what the names of an index begin with
 *
 * Return: the prefix (the whole name for the two ACLs), NULL where not known
 */
const char *erofs_xattr_prefix(unsigned index);

/**
 * erofs_xattr_split() - a full attribute name to its index and the rest
 *
 * Return: true; false where EROFS has no index for it
 */
bool erofs_xattr_split(const char *name, uint8_t *ret_index,
		       const char **ret_rest);

/* Of a hole of @size > 0 bytes: its chunk format, and how many chunks. */
uint32_t erofs_hole_format(uint64_t size);
uint64_t erofs_hole_chunks(uint64_t size);

/* The checksum of the superblock: crc32c over block 0 from EROFS_SUPER_OFF
 * on, the checksum field taken as zero. @block0 has EROFS_BLOCK_BYTES. */
uint32_t erofs_super_checksum(const uint8_t *block0);

#endif
