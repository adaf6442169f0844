/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: a pull reader of tar archives: v7, USTAR, PAX and GNU, over a stream.
 *
 * What an archive means is what Go's archive/tar makes of it, because that is
 * what containerd, docker and podman unpack layers with:
 *
 *   - Two blocks of zeros, or the end of the input between two entries, end the
 *     archive; whatever follows is not looked at. A single block of zeros with
 *     something behind it is an error.
 *   - Global PAX records are not applied. Their entry is given out with type 0,
 *     so that its bytes can be kept.
 *   - Names of GNU entries ('L', 'K') win over PAX records, which win over the
 *     header; an empty PAX value is as none. Several extended headers before an
 *     entry: the last of a kind.
 *   - Links, directories, devices and fifos have no payload, whatever their
 *     size says. A name that ends in a slash makes a directory of type NUL only.
 *   - Extended attributes are SCHILY.xattr.*; of LIBARCHIVE.xattr.*, which
 *     neither Go nor GNU tar unpacks, nothing is taken.
 *
 * Beyond it: sparse files (old GNU 'S', PAX 0.0, 0.1 and 1.0) are given out
 * expanded, and their header rewritten as that of an ordinary file of full
 * size. These are the only header bytes that are not those of the input.
 *
 * The input is hostile. Refused: wrong checksums, numbers that are not ones or
 * out of range, names over the limits of limits.h, extended headers over
 * TAR_EXT_BYTES_MAX, maps of holes that overlap or lie about the size, types
 * that are unknown (-EOPNOTSUPP).
 *
 * Source: POSIX pax; GNU tar manual, "Tar Internals"; Go archive/tar
 */
#ifndef CLI_BUILD_TAR_H
#define CLI_BUILD_TAR_H

#include "cli/build/build.h"
#include "common/base.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/toc.h"

#define TAR_BLOCK_BYTES 512u
/* Of an extended header, as in Go; of all of them before one entry. */
#define TAR_EXT_BYTES_MAX MIB(1)
#define TAR_HEAD_BYTES_MAX MIB(4)

/**
 * struct tar_entry - an entry; everything it points at lives until the next
 * call of tar_next(), tar_seek() or tar_free()
 * @head:	[@head_len] its header blocks, extended ones included, up to the
 *		payload: as in the input, but for sparse files
 * @head_off:	where the first of them is in the input
 * @data_off:	where the payload is in the input
 * @data_len:	bytes of it there, without padding; @size but for sparse files
 * @type:	enum toc_type, never TOC_CHUNK; 0: global records, of which only
 *		@head and @head_off are set
 * @sparse:	@head is not the input's
 * @name:	[@name_len] cleaned as in toc.h, NUL-terminated; "" is the root
 * @link:	[@link_len] as in toc.h, NULL where there is none
 * @uname:	NUL-terminated, never NULL
 * @xattrs:	[@n_xattrs] sorted by name
 * @mode:	07777 of it
 * @mtime:	seconds; fractions are rounded down
 * @size:	bytes of a file, holes included; 0 of others
 */
struct tar_entry {
	const uint8_t *head;
	size_t head_len;
	uint64_t head_off;
	uint64_t data_off;
	uint64_t data_len;
	uint8_t type;
	bool sparse;
	const char *name;
	size_t name_len;
	const char *link;
	size_t link_len;
	const char *uname;
	const char *gname;
	const struct toc_xattr *xattrs;
	size_t n_xattrs;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint32_t devmajor;
	uint32_t devminor;
	int64_t mtime;
	uint64_t size;
};

struct tar;
/* Over @in, which must outlive it; only its read() is called, in order. */
struct tar *tar_new(const struct build_in *in);
void tar_free(struct tar *t);
DEFINE_CLEANUP(struct tar, tar_free);

/**
 * tar_next() - step over what is left of the last entry, to the next one
 *
 * Return: 1, 0 at the end of the archive, -EBADMSG, -EOVERFLOW, -EOPNOTSUPP,
 * -ENOMEM, what the input says; @e names the entry and where it is
 */
int tar_next(struct tar *t, struct tar_entry *ret, struct err *e);

/**
 * tar_read() - some of the payload of the last entry, holes as zeros
 *
 * Return: > 0 bytes, as many as @n where the entry has them; 0 at its end;
 * -EBADMSG where the input ends before, what the input says
 */
ssize_t tar_read(struct tar *t, void *p, size_t n, struct err *e);

/* Starts over: the input has been set to the entry whose @head_off is @off. */
void tar_seek(struct tar *t, uint64_t off);

/* Bytes of the input consumed so far; after tar_next() has returned 0, the end
 * marker included where there is one. */
uint64_t tar_offset(const struct tar *t);
/* Whether the archive ended by two blocks of zeros. */
bool tar_ended(const struct tar *t);

/**
 * tar_make() - append the header of an ordinary file, mode 0444, of root's
 * @name:	at most 100 bytes
 * @size:	less than 8 GiB
 *
 * Return: 0, -EOVERFLOW, -ENOMEM
 */
int tar_make(struct buf *b, const char *name, uint64_t size);

#endif
