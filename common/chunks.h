/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the chunk table of a layer: where in the blob the bytes of each chunk
 * are, where in the EROFS image they go, and their digest. A mapped file of
 * one header and one fixed record a chunk, sorted by image offset, which is
 * also the order in the blob (index.c refuses a TOC where it is not).
 *
 * A *member* is the unit of fetching and decoding: a gzip member (zstd frame)
 * that holds one chunk, or several neighbouring ones (innerOffset). The
 * chunks of a member are neighbours in the table.
 */
#ifndef COMMON_CHUNKS_H
#define COMMON_CHUNKS_H

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"

#define CHUNKS_VERSION 1u

/* On disk, little-endian (docs/FORMAT.md). */
struct chunks_header_le {
	uint8_t magic[8]; /* "eszchunk" */
	uint32_t version;
	uint32_t flags;                     /* CHUNKS_F_… */
	uint8_t index_digest[DIGEST_BYTES]; /* over the meta_len bytes of
	    layer.erofs, then this file with this field zero */
	uint8_t toc_digest[DIGEST_BYTES];
	uint8_t blob_digest[DIGEST_BYTES]; /* zero where not known */
	uint64_t blob_size;
	uint64_t toc_off;      /* end of the last chunk's member */
	uint64_t prefetch_end; /* blob offset; 0: nothing prioritised */
	uint64_t image_bytes;  /* of layer.erofs */
	uint64_t meta_len;     /* metadata at the front of layer.erofs */
	uint64_t n_chunks;
	uint32_t codec; /* enum codec_kind */
	uint32_t reserved[17];
} __attribute__((packed));
static_assert(sizeof(struct chunks_header_le) == 232, "on disk");

#define CHUNKS_F_UNVERIFIED 1u  /* some chunk has no digest */
#define CHUNKS_F_OPAQUE_USER 2u /* user.overlay.opaque, not trusted. */
#define CHUNKS_F_XATTRS 4u      /* some inode has an extended attribute */

struct chunk_le {
	uint64_t blob_off;            /* of the member */
	uint64_t blob_len;            /* of the member, up to the next one */
	uint64_t inner_off;           /* of the chunk in the decoded member */
	uint64_t image_off;           /* where it goes in layer.erofs */
	uint64_t len;                 /* bytes, decoded */
	uint8_t digest[DIGEST_BYTES]; /* zero: none */
} __attribute__((packed));
static_assert(sizeof(struct chunk_le) == 72, "on disk");

struct chunk {
	uint64_t blob_off;
	uint64_t blob_len;
	uint64_t inner_off;
	uint64_t image_off;
	uint64_t len;
	bool has_digest;
	struct digest digest;
};

/**
 * struct chunks - an opened table
 * @map:	[@map_len] the file, borrowed
 */
struct chunks {
	const uint8_t *map;
	size_t map_len;
	uint64_t n;
	uint64_t blob_size;
	uint64_t toc_off;
	uint64_t prefetch_end;
	uint64_t image_bytes;
	uint64_t meta_len;
	uint32_t flags;
	uint32_t codec;
	struct digest toc_digest;
	struct digest blob_digest;
	struct digest index_digest;
};

/* Header, sizes, order of the records. Return: 0, -EBADMSG, -EOPNOTSUPP. */
int chunks_open(struct chunks *c, const void *map, size_t map_len,
		struct err *e);

/* Whether index_digest is that of @meta [@c->meta_len] and the table. */
bool chunks_verify(const struct chunks *c, const uint8_t *meta,
		   struct sha256 *h);

/* Decodes record @i; @i < @c->n. */
void chunks_get(const struct chunks *c, uint64_t i, struct chunk *ret);

/* The chunk that covers image byte @off. Return: 0, -ENODATA (no chunk does). */
int chunks_find(const struct chunks *c, uint64_t off, uint64_t *ret_i);

/* The first chunk at or behind blob offset @blob_off; @c->n where none. */
uint64_t chunks_find_blob(const struct chunks *c, uint64_t blob_off);

/* The member that chunk @i is in: chunks [*ret_first, *ret_first + *ret_n). */
void chunks_member(const struct chunks *c, uint64_t i, uint64_t *ret_first,
		   uint64_t *ret_n);

#endif
