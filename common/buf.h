/* SPDX-License-Identifier: Apache-2.0 */
/* A growable byte buffer with a maximum, fixed when it is made. */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include "common/base.h"

/**
 * struct buf - bytes
 * @p:		[@len]; NUL-terminated after every successful append
 * @max:	largest @len allowed
 */
struct buf {
	char *p;
	size_t len;
	size_t cap;
	size_t max;
};

#define BUF_INIT(max_bytes) ((struct buf){.max = (max_bytes)})
#define CLEANUP_BUF CLEANUP(buf_done)

void buf_done(struct buf *b);
void buf_clear(struct buf *b);

/* Appends. Return: 0, -EOVERFLOW past the maximum, -ENOMEM; @b unchanged then. */
int buf_add(struct buf *b, const void *p, size_t n);
int buf_add_str(struct buf *b, const char *s);
int buf_addf(struct buf *b, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Appends s as a JSON string with quotes; bytes that are not UTF-8 become
 * U+FFFD. Same returns. */
int buf_add_json_str(struct buf *b, const char *s);

/* Room for n more bytes at the end without changing len; same returns. */
int buf_reserve(struct buf *b, size_t n);

#endif
