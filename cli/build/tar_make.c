/* SPDX-License-Identifier: Apache-2.0 */
/* Headers that the input does not have. */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/build/tar_int.h"

static void octal(uint8_t *p, size_t len, uint64_t v)
{
	p[len - 1] = '\0';
	for (size_t i = len - 1; i-- > 0; v >>= 3)
		p[i] = (uint8_t)('0' + (v & 7));
}

/* Octal where it fits, else base-256. */
static void size_put(uint8_t *h, uint64_t v)
{
	uint8_t *p = h + TAR_SIZE;

	if (v <= TAR_SIZE_OCTAL_MAX) {
		octal(p, TAR_SIZE_LEN, v);
		return;
	}
	memset(p, 0, TAR_SIZE_LEN);
	p[0] = 0x80;
	for (size_t i = TAR_SIZE_LEN; i-- > 4; v >>= 8)
		p[i] = (uint8_t)v;
}

static void sum_put(uint8_t *h)
{
	uint64_t sum = 0;

	memset(h + TAR_SUM, ' ', 8);
	for (size_t i = 0; i < TAR_BLOCK_BYTES; i++)
		sum += h[i];
	octal(h + TAR_SUM, 7, sum);
}

static void block_init(uint8_t h[TAR_BLOCK_BYTES], const char *name, size_t len,
		       char type, uint64_t size)
{
	memset(h, 0, TAR_BLOCK_BYTES);
	memcpy(h + TAR_NAME, name, MIN(len, (size_t)TAR_NAME_LEN));
	octal(h + TAR_MODE, 8, 0444);
	octal(h + TAR_UID, 8, 0);
	octal(h + TAR_GID, 8, 0);
	size_put(h, size);
	octal(h + TAR_MTIME, 12, 0);
	h[TAR_TYPE] = (uint8_t)type;
	memcpy(h + TAR_MAGIC, "ustar\00000", 8);
	octal(h + TAR_DEVMAJOR, 8, 0);
	octal(h + TAR_DEVMINOR, 8, 0);
}

int tar_make(struct buf *b, const char *name, uint64_t size)
{
	uint8_t h[TAR_BLOCK_BYTES];

	assert(strlen(name) <= TAR_NAME_LEN);
	assert(size <= TAR_SIZE_OCTAL_MAX);
	block_init(h, name, strlen(name), '0', size);
	sum_put(h);
	return buf_add(b, h, sizeof(h));
}

/* "LENGTH KEY=VALUE\n", whose length counts itself. */
static int record_add(struct buf *b, const char *key, size_t key_len,
		      const char *value, size_t len)
{
	size_t n = key_len + len + 3, digits = 1;
	int r;

	for (size_t limit = 10; n + digits >= limit; limit *= 10)
		digits++;
	r = buf_addf(b, "%zu %.*s=", n + digits, (int)key_len, key);
	if (r == 0)
		r = buf_add(b, value, len);
	return r == 0 ? buf_add(b, "\n", 1) : r;
}

/* Whether a record of the input stays as it is. */
static bool stays(const char *key, size_t len)
{
	static const char prefix[] = "GNU.sparse.";

	if (len >= sizeof(prefix) - 1 &&
	    memcmp(key, prefix, sizeof(prefix) - 1) == 0)
		return false;
	return !(len == 4 && memcmp(key, "path", 4) == 0) &&
	       !(len == 4 && memcmp(key, "size", 4) == 0);
}

static int records_make(const struct tar *t, const char *name, size_t len,
			struct buf *b)
{
	const char *p = t->head.p + t->pax.all.off;
	size_t off = 0;
	char size[24];
	int r = 0;

	if (len > TAR_NAME_LEN)
		r = record_add(b, "path", 4, name, len);
	if (r == 0 && t->size > TAR_SIZE_OCTAL_MAX) {
		(void)snprintf(size, sizeof(size), "%" PRIu64, t->size);
		r = record_add(b, "size", 4, size, strlen(size));
	}
	while (r == 0 && off < t->pax.all.len) {
		const char *key, *value;
		size_t key_len, value_len;

		r = tar_pax_record(p, t->pax.all.len, &off, &key, &key_len,
				   &value, &value_len);
		if (r == 0 && stays(key, key_len))
			r = record_add(b, key, key_len, value, value_len);
	}
	return r;
}

static int pad(struct buf *b, size_t len)
{
	static const char zeros[TAR_BLOCK_BYTES];

	return buf_add(b, zeros, -len % TAR_BLOCK_BYTES);
}

int tar_make_plain(struct tar *t, size_t block, const char *name, size_t len)
{
	CLEANUP_BUF struct buf records = BUF_INIT(TAR_EXT_BYTES_MAX * 2);
	uint8_t h[TAR_BLOCK_BYTES];
	int r;

	buf_clear(&t->made);
	r = records_make(t, name, len, &records);
	if (r == 0 && records.len > 0) {
		block_init(h, "PaxHeaders/sparse", 17, 'x', records.len);
		sum_put(h);
		r = buf_add(&t->made, h, sizeof(h));
		if (r == 0)
			r = buf_add(&t->made, records.p, records.len);
		if (r == 0)
			r = pad(&t->made, records.len);
	}
	if (r < 0)
		return r;
	/* Owner, mode and times as they are; what GNU has where USTAR has the
	 * front of the name goes. */
	memcpy(h, t->head.p + block, sizeof(h));
	memset(h + TAR_NAME, 0, TAR_NAME_LEN);
	memcpy(h + TAR_NAME, name, MIN(len, (size_t)TAR_NAME_LEN));
	memset(h + TAR_PREFIX, 0, TAR_BLOCK_BYTES - TAR_PREFIX);
	memcpy(h + TAR_MAGIC, "ustar\00000", 8);
	h[TAR_TYPE] = '0';
	size_put(h, t->size);
	sum_put(h);
	return buf_add(&t->made, h, sizeof(h));
}
