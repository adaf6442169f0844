/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the blob: gzip members, and in them the tar.
 *
 * Each chunk of a file begins a member. What follows it, padding and the
 * headers up to the next chunk, is in the same one, as the specification has
 * it; but a run of headers that is longer than TAIL_BYTES goes on in another,
 * so that who wants the chunk need not inflate them, and memory is bounded.
 * With min_chunk_bytes a chunk begins a member only where the one before it has
 * as many bytes.
 *
 * Last come a member with the TOC's tar entry and the tar's end, and the footer.
 */
#ifndef CLI_BUILD_WRITE_H
#define CLI_BUILD_WRITE_H

#include "cli/build/build.h"
#include "cli/build/tar.h"

struct writer;
/**
 * writer_new() - begin a blob
 * @o:		borrowed, every field set
 * @out_fd:	borrowed
 * @total:	for o->progress: uncompressed bytes there will be, about; 0: that
 *		is told by the input
 *
 * Return: 0, -ENOMEM, what io_open_temp() says
 */
int writer_new(const struct build_opts *o, int out_fd, uint64_t total,
	       struct writer **ret, struct err *e);
void writer_free(struct writer *w);
DEFINE_CLEANUP(struct writer, writer_free);

/**
 * writer_entry() - an entry with its payload
 * @t:		where the payload is read from
 * @wanted:	its ranges are where chunks begin and end; may be NULL
 *
 * Return: 0, -EBADMSG, -EOVERFLOW, -ENOMEM, -errno
 */
int writer_entry(struct writer *w, struct tar *t, const struct tar_entry *x,
		 const struct build_wanted *wanted, struct err *e);

/* An ordinary file that holds one byte, which begins a member. Same returns. */
int writer_landmark(struct writer *w, const char *name, struct err *e);

/* Ends the blob; @ret gets all that is of the output. Same returns. */
int writer_finish(struct writer *w, struct build_result *ret, struct err *e);

#endif
