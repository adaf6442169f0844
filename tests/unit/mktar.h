/* SPDX-License-Identifier: Apache-2.0 */
/* Tar archives as tests want them, block by block. */
#ifndef TESTS_UNIT_MKTAR_H
#define TESTS_UNIT_MKTAR_H

#include <string.h>

#include "common/base.h"
#include "common/buf.h"

#define MKTAR_BLOCK 512u

enum mktar_format {
	MKTAR_V7,
	MKTAR_USTAR,
	MKTAR_GNU,
};

/* One entry; what is 0 or NULL is 0 or empty, but for the type: a file. */
struct mktar {
	const char *name;
	const char *prefix;
	char type;
	const char *link;
	const char *data;
	uint64_t size; /* where it is not the length of @data */
	unsigned mode;
	unsigned major;
	unsigned minor;
	enum mktar_format format;
	bool no_data; /* the header only */
};

static inline void mktar_add(struct buf *b, const void *p, size_t n)
{
	if (buf_add(b, p, n) < 0)
		abort();
}

static inline void mktar_pad(struct buf *b)
{
	static const char zeros[MKTAR_BLOCK];

	mktar_add(b, zeros, -b->len % MKTAR_BLOCK);
}

static inline void mktar_octal(char *p, size_t len, uint64_t v)
{
	p[len - 1] = '\0';
	for (size_t i = len - 1; i-- > 0; v >>= 3)
		p[i] = (char)('0' + (v & 7));
}

static inline void mktar_sum(char *h)
{
	unsigned sum = 0;

	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < MKTAR_BLOCK; i++)
		sum += (unsigned char)h[i];
	mktar_octal(h + 148, 7, sum);
}

/* Appends the entry's block. Return: where it is */
static inline size_t mktar_head(struct buf *b, const struct mktar *m)
{
	static const char *const magic[] = {[MKTAR_V7] = "\0\0\0\0\0\0\0",
					    [MKTAR_USTAR] = "ustar\00000",
					    [MKTAR_GNU] = "ustar  "};
	size_t size = m->data != NULL ? strlen(m->data) : 0;
	char h[MKTAR_BLOCK] = {0};

	if (m->size != 0)
		size = m->size;
	memcpy(h, m->name, strnlen(m->name, 100));
	mktar_octal(h + 100, 8, m->mode != 0 ? m->mode : 0644);
	mktar_octal(h + 108, 8, 1000);
	mktar_octal(h + 116, 8, 100);
	mktar_octal(h + 124, 12, size);
	mktar_octal(h + 136, 12, 1600000000);
	h[156] = m->type != 0 ? m->type : '0';
	if (m->link != NULL)
		memcpy(h + 157, m->link, strnlen(m->link, 100));
	memcpy(h + 257, magic[m->format], 8);
	if (m->format != MKTAR_V7) {
		memcpy(h + 265, "user", 4);
		memcpy(h + 297, "group", 5);
		mktar_octal(h + 329, 8, m->major);
		mktar_octal(h + 337, 8, m->minor);
	}
	if (m->prefix != NULL)
		memcpy(h + 345, m->prefix, strnlen(m->prefix, 155));
	mktar_sum(h);
	mktar_add(b, h, sizeof(h));
	return b->len - sizeof(h);
}

static inline void mktar_entry(struct buf *b, const struct mktar *m)
{
	(void)mktar_head(b, m);
	if (m->data != NULL && !m->no_data)
		mktar_add(b, m->data, strlen(m->data));
	mktar_pad(b);
}

#define MKTAR(b, ...) mktar_entry(b, &(struct mktar){__VA_ARGS__})

/* An entry of [n] bytes: 'x' and 'g' records, 'L' and 'K' names. */
static inline void mktar_ext(struct buf *b, char type, const void *p, size_t n)
{
	(void)mktar_head(b, &(struct mktar){.name = "ext",
					    .type = type,
					    .size = n,
					    .format = MKTAR_USTAR});
	mktar_add(b, p, n);
	mktar_pad(b);
}

/* A record of an 'x' entry. */
static inline void mktar_record(struct buf *b, const char *key,
				const void *value, size_t n)
{
	size_t len = strlen(key) + n + 3, digits = 1;

	for (size_t limit = 10; len + digits >= limit; limit *= 10)
		digits++;
	if (buf_addf(b, "%zu %s=", len + digits, key) < 0)
		abort();
	mktar_add(b, value, n);
	mktar_add(b, "\n", 1);
}

/* One 'x' entry with one record. */
static inline void mktar_pax(struct buf *b, const char *key, const char *value)
{
	CLEANUP_BUF struct buf r = BUF_INIT(MIB(1));

	mktar_record(&r, key, value, strlen(value));
	mktar_ext(b, 'x', r.p, r.len);
}

static inline void mktar_end(struct buf *b)
{
	static const char zeros[MKTAR_BLOCK * 2];

	mktar_add(b, zeros, sizeof(zeros));
}

/* A changed block has another checksum. */
static inline void mktar_resum(struct buf *b, size_t at)
{
	mktar_sum(b->p + at);
}

#endif
