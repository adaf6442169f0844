/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: which chunks of a layer are in the cache. A file mapped shared by every
 * process that serves the layer: a header, then three bitmaps of one bit a
 * chunk:
 *   have      the bytes are in layer.erofs, verified: may be read
 *   durable   and they were synced since; survives a power cut
 *   suspect   were there before an unclean stop and must be verified again
 * A bit of have is set after its data is written and verified (release), and
 * tested before the data is read (acquire). Setting it twice is harmless, and
 * two processes that write the same chunk write the same bytes.
 */
#ifndef COMMON_PRESENT_H
#define COMMON_PRESENT_H

#include "common/base.h"
#include "common/err.h"

#define PRESENT_VERSION 1u

struct present_header_le {
	uint8_t magic[8]; /* "eszprsnt" */
	uint32_t version;
	uint32_t state;      /* enum present_state */
	uint8_t boot_id[16]; /* of the boot that wrote to it last */
	uint64_t n_chunks;
	uint64_t n_have;          /* atomic: bits set in have */
	uint8_t index_digest[32]; /* of the chunk table it belongs to */
	uint8_t reserved[48];
} __attribute__((packed));
static_assert(sizeof(struct present_header_le) == 128, "on disk");

enum present_state {
	PRESENT_LAZY = 0,
	PRESENT_COMPLETE = 1
};

struct present {
	uint8_t *map; /* shared, writable */
	size_t map_len;
	uint64_t n;
	_Atomic uint64_t *have;
	_Atomic uint64_t *durable;
	_Atomic uint64_t *suspect;
};

/* Bytes of the file for @n_chunks. */
uint64_t present_file_bytes(uint64_t n_chunks);

/**
 * present_init() - an empty bitmap in a fresh, zeroed mapping
 * @map:	[@map_len == present_file_bytes(@n_chunks)]
 */
void present_init(void *map, size_t map_len, uint64_t n_chunks,
		  const uint8_t index_digest[32], const uint8_t boot_id[16]);

/**
 * present_open() - use a mapped file
 * @exclusive:	nobody else serves the layer: what a kill has left is put right
 *
 * If the boot id differs from @boot_id, what is in have but not in durable
 * goes to suspect, and the boot id is set.
 * Return: 0, -EBADMSG (torn, or of another index), -EOPNOTSUPP
 */
int present_open(struct present *p, void *map, size_t map_len,
		 uint64_t n_chunks, const uint8_t index_digest[32],
		 const uint8_t boot_id[16], bool exclusive, struct err *e);

bool present_test(const struct present *p, uint64_t i);
/* All of [first, first + n) are there. */
bool present_test_range(const struct present *p, uint64_t first, uint64_t n);
/* And were synced. */
bool present_test_durable(const struct present *p, uint64_t first, uint64_t n);
/* Return: true when this call set it. Clears suspect. */
bool present_set(struct present *p, uint64_t i);
bool present_suspect(const struct present *p, uint64_t i);
void present_clear_suspect(struct present *p, uint64_t i);
/* First chunk >= @from that is not there; p->n where none. */
uint64_t present_next_missing(const struct present *p, uint64_t from);
uint64_t present_count(const struct present *p);

/* Before a sync of the data: copies have to @snapshot [words of p->n]; after
 * it succeeded: or's @snapshot into durable; after it failed: have becomes
 * durable again (what was not synced is forgotten). */
size_t present_words(const struct present *p);
void present_snapshot(const struct present *p, uint64_t *snapshot);
void present_synced(struct present *p, const uint64_t *snapshot);
void present_sync_failed(struct present *p);
uint64_t present_count_durable(const struct present *p);

enum present_state present_state(const struct present *p);
void present_set_complete(struct present *p);

#endif
