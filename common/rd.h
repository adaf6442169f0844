/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds-checked little-endian cursor: the only way untrusted bytes become
 * numbers. */
#ifndef COMMON_RD_H
#define COMMON_RD_H

#include "common/base.h"

/**
 * struct rd - read cursor over borrowed bytes
 * @p:		bytes, @len of them; borrowed, must outlive the cursor
 * @len:	bytes available
 * @off:	next byte to read, @off <= @len always
 * @bad:	sticky: a read went past the end; later reads return 0
 */
struct rd {
	const uint8_t *p;
	size_t len;
	size_t off;
	bool bad;
};

struct rd rd_init(const void *p, size_t len);

/* Returns n bytes and steps over them, or NULL and marks the cursor bad. */
const uint8_t *rd_bytes(struct rd *r, size_t n);
uint8_t rd_u8(struct rd *r);
uint16_t rd_u16(struct rd *r);
uint32_t rd_u32(struct rd *r);
uint64_t rd_u64(struct rd *r);

/* Unchecked little-endian loads and stores, for bytes already bounded. */
uint16_t le16_load(const void *p);
uint32_t le32_load(const void *p);
uint64_t le64_load(const void *p);
void le16_store(void *p, uint16_t v);
void le32_store(void *p, uint32_t v);
void le64_store(void *p, uint64_t v);

#endif
