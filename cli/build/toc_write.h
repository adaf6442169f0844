/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the table of contents as it is written: JSON in a file without a name,
 * because it may be of 100 MiB, indented by tabs as that of ctr-remote.
 *
 * An entry is made of two parts. The first, toc_text(), is what its header
 * says; the second, toc_entry(), where its first chunk is. The digest of a file
 * of several chunks is not known when its first chunk is written, so there is a
 * place for it that is filled in later.
 */
#ifndef CLI_BUILD_TOC_WRITE_H
#define CLI_BUILD_TOC_WRITE_H

#include "cli/build/tar.h"
#include "common/base.h"
#include "common/buf.h"
#include "common/digest.h"
#include "common/err.h"

/* Appends the fields of an entry. Return: 0, -EOVERFLOW, -ENOMEM */
int toc_text(struct buf *b, const struct tar_entry *t);
/* Those of a further chunk of the file @t. Same returns. */
int toc_text_chunk(struct buf *b, const struct tar_entry *t);

struct toc_writer;
/* The JSON goes to @fd, which is borrowed, from @off on. Return: NULL where there
 * is no memory */
struct toc_writer *toc_writer_new(int fd, uint64_t off);
void toc_writer_free(struct toc_writer *w);
DEFINE_CLEANUP(struct toc_writer, toc_writer_free);

/**
 * struct toc_place - the second part of an entry
 * @has_chunk:	the others mean something
 * @offset:	of the member in the blob
 * @chunk_off, @chunk_size: 0 are left out
 * @chunk:	digest of the chunk
 * @file:	of the file; NULL: not known yet
 */
struct toc_place {
	bool has_chunk;
	uint64_t offset;
	uint64_t inner_offset;
	uint64_t chunk_off;
	uint64_t chunk_size;
	const struct digest *chunk;
	const struct digest *file;
	bool first;
};

/**
 * toc_entry() - write an entry
 * @text:	[@len] its first part
 * @ret_place:	where the digest of its file is to be; may be NULL
 *
 * Return: 0, -EOVERFLOW (more than readers take), -ENOMEM, -errno
 */
int toc_entry(struct toc_writer *w, const char *text, size_t len,
	      const struct toc_place *p, uint64_t *ret_place, struct err *e);

/* Fills in a digest. Return: 0, -errno */
int toc_set_digest(struct toc_writer *w, uint64_t place,
		   const struct digest *file, struct err *e);

/* Ends the JSON, and says how long it is. Return: 0, -EOVERFLOW, -ENOMEM,
 * -errno */
int toc_finish(struct toc_writer *w, uint64_t *ret_bytes, struct err *e);

#endif
