/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic on numbers from outside: false means it would have overflowed. */
#ifndef COMMON_CHECKED_H
#define COMMON_CHECKED_H

#include "common/base.h"

static inline bool checked_add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	return !__builtin_add_overflow(a, b, ret);
}

static inline bool checked_mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	return !__builtin_mul_overflow(a, b, ret);
}

static inline bool checked_add_size(size_t a, size_t b, size_t *ret)
{
	return !__builtin_add_overflow(a, b, ret);
}

static inline bool checked_mul_size(size_t a, size_t b, size_t *ret)
{
	return !__builtin_mul_overflow(a, b, ret);
}

/* [off, off + len) lies within [0, total). */
static inline bool checked_range(uint64_t off, uint64_t len, uint64_t total)
{
	return off <= total && len <= total - off;
}

#endif
