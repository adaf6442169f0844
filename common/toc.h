/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the table of contents of an eStargz layer, and the footers that lead
 * to it.
 *
 * The input is hostile. The footer is found first (toc_footer_parse), the
 * compressed TOC is decoded with a bound (toc_decode) and hashed by the
 * caller; only when the digest is right is the JSON parsed (toc_parse).
 *
 * Source: eStargz specification; names of types and fields as there.
 */
#ifndef COMMON_TOC_H
#define COMMON_TOC_H

#include "common/base.h"
#include "common/buf.h"
#include "common/digest.h"
#include "common/err.h"

enum toc_format {
	TOC_ESTARGZ = 1,      /* 51-byte footer, gzip members */
	TOC_STARGZ = 2,       /* legacy, 47-byte footer, gzip members */
	TOC_ZSTD_CHUNKED = 3, /* 40-byte footer "GnUlInUx" or 64-byte
				 "GNUlInUx", zstd frames */
};

/* Names in the root of a layer that are the format's, and never shown: files
 * before the first are prioritised, the second says that none is; the third is
 * the TOC's entry in the tar. */
#define TOC_LANDMARK_NAME ".prefetch.landmark"
#define TOC_NO_LANDMARK_NAME ".no.prefetch.landmark"
#define TOC_TAR_NAME "stargz.index.json"

#define TOC_FOOTER_BYTES_MAX 64u

/**
 * struct toc_footer - where the TOC is
 * @toc_off:	byte offset in the blob of the compressed TOC (for gzip: of
 *		the member whose tar entry is stargz.index.json); also the end
 *		of the last chunk
 * @toc_len:	compressed bytes; for gzip formats up to the footer
 */
struct toc_footer {
	enum toc_format format;
	uint64_t toc_off;
	uint64_t toc_len;
	uint64_t toc_json_len; /* zstd:chunked only, else 0 */
};

/**
 * toc_footer_parse() - find the TOC from the end of a blob
 * @tail:	[@len] the last bytes of the blob
 * @blob_size:	bytes of the whole blob, >= @len
 *
 * Checks toc_off and toc_len against @blob_size and TOC_BLOB_BYTES_MAX.
 * Return: 0, -EBADMSG (no footer, or one that lies), -EOPNOTSUPP (external
 * TOC), -EOVERFLOW
 */
int toc_footer_parse(const uint8_t *tail, size_t len, uint64_t blob_size,
		     struct toc_footer *ret, struct err *e);

/**
 * toc_decode() - inflate the TOC to its JSON
 * @p:		[@len] the compressed TOC, @f->toc_len bytes
 * @ret_json:	receives the JSON, exactly the bytes that the TOC digest is
 *		over; its maximum is set to TOC_JSON_BYTES_MAX
 *
 * Memory is bounded by TOC_JSON_BYTES_MAX whatever the input.
 * Return: 0, -EBADMSG, -EOVERFLOW, -ENOMEM
 */
int toc_decode(const struct toc_footer *f, const uint8_t *p, size_t len,
	       struct buf *ret_json, struct err *e);

enum toc_type {
	TOC_DIR = 1,
	TOC_REG,
	TOC_SYMLINK,
	TOC_HARDLINK,
	TOC_CHAR,
	TOC_BLOCK,
	TOC_FIFO,
	TOC_CHUNK, /* a further chunk of the last TOC_REG before it */
};

struct toc_xattr {
	const char *name;     /* NUL-terminated */
	const uint8_t *value; /* [value_len], any bytes */
	uint32_t value_len;
};

/**
 * struct toc_entry - one entry, as the TOC has it, in the TOC's order
 * @name:	cleaned: no leading '/', './' or '../', no '//', no trailing
 *		'/'; "" is the root. Any bytes but NUL. Components are at most
 *		255 bytes. TOC_CHUNK entries: the file's name, as cleaned.
 * @link:	TOC_SYMLINK: target, verbatim, not empty.
 *		TOC_HARDLINK: target's path, cleaned like @name. Else NULL.
 * @size:	TOC_REG: bytes of the file
 * @mtime:	seconds since the epoch, may be negative; 0 where absent
 * @mode:	permission and setuid/setgid/sticky bits only (07777)
 * @offset:	byte offset in the blob of the gzip member (zstd frame) that
 *		holds this chunk; 0 where absent
 * @inner_offset: byte offset of the chunk in the member's uncompressed bytes
 * @chunk_offset: byte offset of the chunk in its file
 * @chunk_size:	bytes of the chunk, 0: up to the end of the file
 * @has_chunk_digest: @chunk_digest holds chunkDigest, or, for a TOC_REG that
 *		is one chunk, digest
 * @xattrs:	[@n_xattrs]
 */
struct toc_entry {
	const char *name;
	const char *link;
	const struct toc_xattr *xattrs;
	uint64_t size;
	uint64_t offset;
	uint64_t inner_offset;
	uint64_t chunk_offset;
	uint64_t chunk_size;
	int64_t mtime;
	uint32_t name_len;
	uint32_t link_len;
	uint32_t n_xattrs;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint32_t devmajor;
	uint32_t devminor;
	uint8_t type; /* enum toc_type */
	bool has_chunk_digest;
	struct digest chunk_digest;
};

/**
 * struct toc - a parsed TOC; everything in it lives until toc_free()
 */
struct toc {
	struct toc_entry *entries;
	uint32_t n_entries;
	/* private: memory behind names, links and xattrs */
	void *pool;
};

/**
 * toc_parse() - JSON to entries
 * @json:	[@len], changed in place (strings are unescaped there) and
 *		borrowed: must outlive the result
 *
 * Refuses: bad JSON, an unknown version (only 1), types outside the list,
 * null entries, names with NUL or over the limits, numbers outside their
 * range, negative sizes, chunks without a file, chunkOffset + chunkSize past
 * the file's size, digests that do not parse. Unknown keys are skipped.
 * Return: 0, -EBADMSG, -EOVERFLOW, -EOPNOTSUPP, -ENOMEM; @e names the entry
 */
int toc_parse(char *json, size_t len, struct toc **ret, struct err *e);

void toc_free(struct toc *t);
DEFINE_CLEANUP(struct toc, toc_free);

#endif
