/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: SHA-256 of many messages side by side, one in each 32-bit lane of the
 * registers of AVX-512: about twice as fast as one after the other with the CPU's own
 * SHA instructions (bench/hash). For sha256_many(), which everybody else calls.
 */
#ifndef COMMON_SHA256_LANES_H
#define COMMON_SHA256_LANES_H

#include "common/digest.h"

#define SHA256_LANES 16u

/* Whether this CPU and its kernel have what it takes. */
bool sha256_lanes_usable(void);

/* Hashes @v[@n], any lengths. Only where sha256_lanes_usable(). The more alike
 * they are in length, the fuller the lanes. */
void sha256_lanes(struct sha256_part *v, size_t n);

#endif
