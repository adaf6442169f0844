/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: threads that compress, and the ring of batches they work on.
 *
 * A batch is some gzip members, because a file is often so small that handing
 * it over would cost more than compressing it. One thread fills batches, hands
 * them over, and gets them back in the same order, so that the number of
 * threads cannot be seen in the result. Memory is that of the ring.
 */
#ifndef CLI_BUILD_POOL_H
#define CLI_BUILD_POOL_H

#include <semaphore.h>

#include "common/base.h"
#include "common/buf.h"
#include "common/digest.h"

/**
 * struct pool_member - a gzip member
 * @in_off, @in_len: in the batch's @in
 * @best:	at COMP_LEVEL_BEST, whatever the pool's level
 * @out_len:	compressed; members lie one behind the other in @out
 */
struct pool_member {
	size_t in_off;
	size_t in_len;
	size_t out_len;
	bool best;
};

/**
 * struct pool_note - an entry of the table of contents
 * @text_off, @text_len: in the batch's @text: what is known of it already
 * @member:	that holds the chunk; others have no chunk: @len is 0
 * @in_off, @len: the chunk in the batch's @in
 * @chunk_off, @chunk_size: in its file; the size is 0 for the last one
 * @digest:	of the chunk; set by the pool
 * @file:	of the whole file; of a file of several chunks the first note
 *		has it, as soon as @file_known
 * @first, @last: chunk of its file
 */
struct pool_note {
	size_t text_off;
	size_t text_len;
	size_t member;
	size_t in_off;
	size_t len;
	uint64_t chunk_off;
	uint64_t chunk_size;
	struct digest digest;
	struct digest file;
	bool file_known;
	bool first;
	bool last;
};

/* A growing array of the batch. */
struct pool_batch {
	uint8_t *in;
	size_t in_len;
	size_t in_cap;
	uint8_t *out;
	size_t out_len;
	size_t out_cap;
	struct pool_member *members;
	size_t n_members;
	size_t members_cap;
	struct pool_note *notes;
	size_t n_notes;
	size_t notes_cap;
	struct buf text;
	bool done; /* guarded by the pool's lock */
};

struct pool;
/**
 * pool_new() - start threads
 * @n_batches:	in the ring, >= 2
 * @slots:	held by a thread while it compresses a member; may be NULL
 *
 * Return: NULL where there is no memory, or no thread
 */
struct pool *pool_new(unsigned jobs, size_t n_batches, int level, sem_t *slots);
/* Ends the threads, whatever they still have to do. */
void pool_free(struct pool *p);
DEFINE_CLEANUP(struct pool, pool_free);

/* An empty batch, NULL where all are handed over: pool_wait() gives the oldest
 * back. */
struct pool_batch *pool_take(struct pool *p);

/* Hands over the batch taken last. Return: 0, -ENOMEM */
int pool_submit(struct pool *p, struct pool_batch *b);

/* Waits for the oldest batch handed over, NULL where there is none. It is empty
 * again after pool_release(). */
struct pool_batch *pool_wait(struct pool *p);
void pool_release(struct pool *p, struct pool_batch *b);

/* Room for one more, zeroed. Return: NULL where there is no memory */
struct pool_member *pool_member_add(struct pool_batch *b);
struct pool_note *pool_note_add(struct pool_batch *b);
/* Room for n more bytes at the end of @in. Return: NULL: no memory */
uint8_t *pool_in(struct pool_batch *b, size_t n);

#endif
