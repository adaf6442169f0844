/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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

/* Length of the valid UTF-8 sequence at s, 0 when there is none. */
static size_t utf8_len(const unsigned char *s)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t min;
	} forms[] = {
		{0xe0, 0xc0, 0x80},
		{0xf0, 0xe0, 0x800},
		{0xf8, 0xf0, 0x10000},
	};

	if (s[0] < 0x80)
		return 1;
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		uint32_t v;

		if ((s[0] & forms[i].mask) != forms[i].lead)
			continue;
		v = (uint32_t)(s[0] & ~forms[i].mask & 0xff);
		for (size_t k = 1; k <= i + 1; k++) {
			if ((s[k] & 0xc0) != 0x80)
				return 0;
			v = (v << 6) | (s[k] & 0x3fu);
		}
		if (v < forms[i].min || v > 0x10ffff ||
		    (v >= 0xd800 && v <= 0xdfff))
			return 0;
		return i + 2;
	}
	return 0;
}

int buf_add_json_str(struct buf *b, const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t start = b->len;
	int r = buf_add(b, "\"", 1);

	while (r == 0 && *p != '\0') {
		size_t n = utf8_len(p);

		if (n == 0) {
			r = buf_add_str(b, "\\ufffd");
			p++;
		} else if (n == 1 && (*p == '"' || *p == '\\')) {
			r = buf_addf(b, "\\%c", *p);
			p++;
		} else if (n == 1 && *p < 0x20) {
			r = buf_addf(b, "\\u%04x", *p);
			p++;
		} else {
			r = buf_add(b, p, n);
			p += n;
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
