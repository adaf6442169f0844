/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/utf8.h"

void buf_done(struct buf *b)
{
	free(b->p);
	*b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	if (b->p != NULL)
		b->p[0] = '\0';
}

int buf_reserve(struct buf *b, size_t n)
{
	size_t cap;
	char *p;

	assert(b->len <= b->max);
	if (n > b->max - b->len)
		return -EOVERFLOW;
	if (b->p != NULL && b->len + n < b->cap)
		return 0;
	cap = MAX(b->cap * 2, b->len + n + 1);
	cap = MIN(MAX(cap, (size_t)64), b->max + 1);
	p = realloc(b->p, cap);
	if (p == NULL)
		return -ENOMEM;
	b->p = p;
	b->cap = cap;
	return 0;
}

int buf_add(struct buf *b, const void *p, size_t n)
{
	int r = buf_reserve(b, n);

	if (r < 0)
		return r;
	if (n > 0)
		memcpy(b->p + b->len, p, n);
	b->len += n;
	b->p[b->len] = '\0';
	return 0;
}

int buf_add_str(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s));
}

int buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n, r;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -EINVAL;
	r = buf_reserve(b, (size_t)n);
	if (r < 0)
		return r;
	va_start(ap, fmt);
	(void)vsnprintf(b->p + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
	return 0;
}

int buf_add_json_str(struct buf *b, const char *s)
{
	size_t start = b->len;
	int r = buf_add(b, "\"", 1);

	while (r == 0 && *s != '\0') {
		size_t n = utf8_len(s);

		if (n == 0) {
			r = buf_add_str(b, "\\ufffd");
			s++;
		} else if (n == 1 && (*s == '"' || *s == '\\')) {
			r = buf_addf(b, "\\%c", *s);
			s++;
		} else if (n == 1 && *s < 0x20) {
			r = buf_addf(b, "\\u%04x", (unsigned)*s);
			s++;
		} else {
			r = buf_add(b, s, n);
			s += n;
		}
	}
	if (r == 0)
		r = buf_add(b, "\"", 1);
	if (r < 0 && b->p != NULL) {
		b->len = start;
		b->p[start] = '\0';
	}
	return r;
}
