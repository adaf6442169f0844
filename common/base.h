/* SPDX-License-Identifier: Apache-2.0 */
/* Macros every file may use, and cleanup on scope exit. */
#ifndef COMMON_BASE_H
#define COMMON_BASE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef NDEBUG
#error "assertions are part of the program"
#endif

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define UNUSED __attribute__((unused))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

#define MIN(a, b)                                  \
	({                                         \
		__typeof__(a) min_a_ = (a);        \
		__typeof__(b) min_b_ = (b);        \
		min_a_ < min_b_ ? min_a_ : min_b_; \
	})
#define MAX(a, b)                                  \
	({                                         \
		__typeof__(a) max_a_ = (a);        \
		__typeof__(b) max_b_ = (b);        \
		max_a_ > max_b_ ? max_a_ : max_b_; \
	})

/* Rounds v up to a multiple of a, a power of two; v + a must not overflow. */
#define ALIGN_UP(v, a) (((v) + ((a)-1)) & ~((__typeof__(v))(a)-1))

#define KIB(n) ((n)*UINT64_C(1024))
#define MIB(n) ((n)*UINT64_C(1048576))
#define NSEC_PER_SEC UINT64_C(1000000000)
#define NSEC_PER_MSEC UINT64_C(1000000)

static inline void cleanup_free(void *pp)
{
	free(*(void **)pp);
}

static inline void cleanup_close(const int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

/* CLEANUP_FREE char *p = NULL; CLEANUP_CLOSE int fd = -EBADF; */
#define CLEANUP(func) __attribute__((cleanup(func)))
#define CLEANUP_FREE CLEANUP(cleanup_free)
#define CLEANUP_CLOSE CLEANUP(cleanup_close)

/* Ownership leaves the scope only through these. */
#define TAKE_PTR(p)                          \
	({                                   \
		__typeof__(p) take_p_ = (p); \
		(p) = NULL;                  \
		take_p_;                     \
	})
#define TAKE_FD(fd)                  \
	({                           \
		int take_fd_ = (fd); \
		(fd) = -1;           \
		take_fd_;            \
	})

/* Defines a cleanup function for a heap object with a NULL-safe _free. */
#define DEFINE_CLEANUP(type, func)                   \
	static inline void func##_cleanup(type **pp) \
	{                                            \
		func(*pp);                           \
	}                                            \
	struct base_swallow_semicolon_

#endif
