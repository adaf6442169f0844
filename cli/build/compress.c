/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/build/compress.h"

#include <isa-l.h>
#include <libdeflate.h>

#define IGZIP_LEVEL 0
#define DEFLATE_LEVEL_MAX 8
#define DEFLATE_LEVEL_BEST 12

struct comp {
	struct libdeflate_compressor *deflate; /* NULL: level 1 */
	struct isal_zstream z;
};

struct comp *comp_new(int level)
{
	struct comp *c = calloc(1, sizeof(*c));

	assert(level >= 1);
	assert(level <= COMP_LEVEL_MAX || level == COMP_LEVEL_BEST);
	if (c == NULL)
		return NULL;
	if (level > 1)
		c->deflate = libdeflate_alloc_compressor(
			level == COMP_LEVEL_BEST
				? DEFLATE_LEVEL_BEST
				: MIN(level, DEFLATE_LEVEL_MAX));
	if (level > 1 && c->deflate == NULL) {
		comp_free(c);
		return NULL;
	}
	return c;
}

void comp_free(struct comp *c)
{
	if (c == NULL)
		return;
	libdeflate_free_compressor(c->deflate);
	free(c);
}

size_t comp_bound(size_t n)
{
	/* Stored blocks are the worst: 5 bytes for each 64 KiB at most. Both
	 * want some more to work with. */
	return n + n / 16 + 1024;
}

static size_t igzip(struct comp *c, const void *in, size_t n, void *out)
{
	struct isal_zstream *z = &c->z;
	int r;

	isal_deflate_stateless_init(z);
	z->level = IGZIP_LEVEL;
	z->gzip_flag = IGZIP_GZIP;
	z->end_of_stream = 1;
	/* igzip does not write there, it is only declared so. */
	z->next_in = (uint8_t *)(uintptr_t)in;
	z->avail_in = (uint32_t)n;
	z->next_out = out;
	z->avail_out = (uint32_t)comp_bound(n);
	r = isal_deflate_stateless(z);
	assert(r == COMP_OK);
	return z->total_out;
}

size_t comp_member(struct comp *c, const void *in, size_t n, void *out)
{
	size_t len;

	assert(n <= UINT32_MAX / 2);
	if (c->deflate == NULL)
		return igzip(c, in, n, out);
	len = libdeflate_gzip_compress(c->deflate, in, n, out, comp_bound(n));
	assert(len > 0);
	return len;
}
