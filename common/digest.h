/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256, and OCI digest strings "sha256:<64 hex>". */
#ifndef COMMON_DIGEST_H
#define COMMON_DIGEST_H

#include "common/base.h"

#define DIGEST_BYTES 32u
#define DIGEST_HEX_BYTES 64u
#define DIGEST_STR_BYTES 72u /* "sha256:" + hex + NUL */

struct digest {
	uint8_t b[DIGEST_BYTES];
};

/**
 * digest_parse() - "sha256:<64 lower-case hex>"
 * @s:		[@len], need not be NUL-terminated
 *
 * Source: OCI image-spec descriptor.md, "Digests"
 * Return: 0, -EOPNOTSUPP another algorithm, -EBADMSG
 */
int digest_parse(const char *s, size_t len, struct digest *ret);

/* Formats "sha256:…"; @buf has DIGEST_STR_BYTES. Return: @buf */
char *digest_str(const struct digest *d, char *buf);
/* Formats the 64 hex digits; @buf has DIGEST_HEX_BYTES + 1. Return: @buf */
char *digest_hex(const struct digest *d, char *buf);

bool digest_equal(const struct digest *a, const struct digest *b);

/**
 * struct sha256 - an incremental hash; one per thread, re-usable
 *
 * sha256_new() fetches the implementation once (0.5 us a call saved by it).
 */
struct sha256;
struct sha256 *sha256_new(void);
void sha256_free(struct sha256 *h);
DEFINE_CLEANUP(struct sha256, sha256_free);
void sha256_start(struct sha256 *h);
void sha256_add(struct sha256 *h, const void *p, size_t n);
void sha256_end(struct sha256 *h, struct digest *ret);

/* One shot over re-used state, hashed in windows of 256 KiB. */
void sha256_all(struct sha256 *h, const void *p, size_t n, struct digest *ret);

/**
 * struct sha256_part - a message of several
 * @p:		[@n]
 * @digest:	of it, when it has been hashed
 */
struct sha256_part {
	const void *p;
	size_t n;
	struct digest digest;
};

/* Hashes @v[@n] each for itself, side by side where that is faster. */
void sha256_many(struct sha256 *h, struct sha256_part *v, size_t n);

#endif
