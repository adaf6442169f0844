/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the tar reader share. */
#ifndef CLI_BUILD_TAR_INT_H
#define CLI_BUILD_TAR_INT_H

#include "cli/build/tar.h"

/* Where the fields of a header block are. */
#define TAR_NAME 0u
#define TAR_NAME_LEN 100u
#define TAR_MODE 100u
#define TAR_UID 108u
#define TAR_GID 116u
#define TAR_SIZE 124u
#define TAR_SIZE_LEN 12u
#define TAR_MTIME 136u
#define TAR_SUM 148u
#define TAR_TYPE 156u
#define TAR_LINK 157u
#define TAR_LINK_LEN 100u
#define TAR_MAGIC 257u
#define TAR_UNAME 265u
#define TAR_GNAME 297u
#define TAR_OWNER_LEN 32u
#define TAR_DEVMAJOR 329u
#define TAR_DEVMINOR 337u
#define TAR_PREFIX 345u
#define TAR_PREFIX_LEN 155u
#define TAR_STAR_PREFIX_LEN 131u
#define TAR_STAR_MAGIC 508u

#define TAR_SIZE_OCTAL_MAX ((UINT64_C(1) << 33) - 1)

/* Bytes of the head, by place, because it moves while it grows. */
struct tar_text {
	size_t off;
	size_t len;
	bool set;
};

struct tar_num {
	int64_t v;
	bool set;
};

/* A piece of a sparse file that is there. */
struct tar_seg {
	uint64_t off;
	uint64_t len;
};

struct tar_segs {
	struct tar_seg *p;
	size_t n;
	size_t cap;
};

struct tar_raw_xattr {
	struct tar_text name;
	struct tar_text value;
};

/* The records of an extended header. */
struct tar_pax {
	struct tar_text all;
	struct tar_text path;
	struct tar_text linkpath;
	struct tar_text uname;
	struct tar_text gname;
	struct tar_text sparse_name;
	struct tar_num size;
	struct tar_num uid;
	struct tar_num gid;
	struct tar_num mtime;
	struct tar_num sparse_major;
	struct tar_num sparse_minor;
	struct tar_num sparse_size;
	bool sparse_map;  /* 0.0 or 0.1; it is in segs */
	bool sparse_half; /* 0.0: an offset without its length */
};

/**
 * struct tar - the reader
 * @win:	[@win_len] input read ahead, consumed up to @win_pos
 * @off:	bytes consumed
 * @head:	of the entry in work, as it came
 * @made:	its header where it is another one
 * @text:	names of the entry, NUL-terminated, its capacity made for all
 * @left:	stored payload not read yet, @pad bytes of padding behind it
 * @segs:	of a sparse file; @seg is the one at or after @pos
 * @pos, @size:	in the expanded file
 */
struct tar {
	const struct build_in *in;
	uint8_t *win;
	size_t win_pos;
	size_t win_len;
	uint64_t off;
	uint64_t head_off;
	bool ended;
	bool done;
	struct buf head;
	struct buf made;
	struct buf text;
	struct tar_pax pax;
	struct tar_text longname;
	struct tar_text longlink;
	struct tar_raw_xattr *raw_xattrs;
	size_t n_raw_xattrs;
	size_t raw_xattrs_cap;
	struct toc_xattr *xattrs;
	const char *name; /* for messages; NULL: not known yet */
	uint64_t left;
	uint32_t pad;
	bool sparse;
	struct tar_segs segs;
	size_t seg;
	uint64_t pos;
	uint64_t size;
};

/* An error in the entry in work. Return: @code */
int tar_bad(const struct tar *t, struct err *e, int code, const char *what);

/* n bytes of the input. Return: bytes, fewer only at its end; -errno */
ssize_t tar_take(struct tar *t, void *p, size_t n, struct err *e);

/* A decimal number, the whole text. Return: 0, -EBADMSG */
int tar_decimal(const char *p, size_t len, int64_t *ret);

/* Parses @text of the head, the records of an 'x' entry, into @t->pax, which
 * is set anew. Return: 0, -EBADMSG, -EOVERFLOW, -ENOMEM */
int tar_pax_parse(struct tar *t, struct tar_text text, struct err *e);

/**
 * tar_pax_record() - the record at *@off of [@len]
 * @off:	in: where it starts; out: behind it
 *
 * Return: 0, -EBADMSG
 */
int tar_pax_record(const char *p, size_t len, size_t *off, const char **ret_key,
		   size_t *ret_key_len, const char **ret_value,
		   size_t *ret_value_len);

/* A segment more. Return: 0, -EOVERFLOW, -ENOMEM */
int tar_seg_add(struct tar *t, uint64_t off, uint64_t len);

/**
 * tar_sparse_start() - the entry in work may be sparse: reads its map
 * @block:	where in the head its header block is
 * @stored:	in: bytes of payload; out: without the map
 *
 * Return: 0 and @t->sparse says it, -EBADMSG, -EOVERFLOW, -ENOMEM
 */
int tar_sparse_start(struct tar *t, size_t block, uint64_t *stored,
		     struct err *e);

/* Makes @t->made, for a file of t->size bytes whose name is [@len]. Return: 0,
 * -EOVERFLOW, -ENOMEM */
int tar_make_plain(struct tar *t, size_t block, const char *name, size_t len);

/* A number of a header field: octal, or base-256. Return: 0, -EBADMSG */
int tar_number(const uint8_t *p, size_t len, int64_t *ret);

#endif
