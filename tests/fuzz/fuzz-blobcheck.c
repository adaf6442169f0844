/* SPDX-License-Identifier: Apache-2.0 */
/* A blob, checked against its own TOC. */
#include "config.h"

#include <string.h>

#include "cli/blobcheck.h"
#include "common/checked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct blob {
	const uint8_t *p;
	size_t len;
	size_t at;
};

static int range(void *arg, uint64_t off, size_t n, struct buf *ret,
		 uint64_t *ret_size, struct err *e)
{
	const struct blob *b = arg;

	if (off == UINT64_MAX) {
		n = MIN(n, b->len);
		off = b->len - n;
	}
	assert(checked_range(off, n, b->len));
	*ret_size = b->len;
	if (buf_add(ret, b->p + off, n) < 0)
		return err_set(e, -EOVERFLOW, "too large");
	return 0;
}

static ssize_t some(void *arg, void *p, size_t n, struct err *e)
{
	struct blob *b = arg;

	(void)e;
	n = MIN(n, b->len - b->at);
	if (n > 0)
		memcpy(p, b->p + b->at, n);
	b->at += n;
	return (ssize_t)n;
}

static void found(void *arg, const char *entry, uint64_t off, const char *text)
{
	(void)entry;
	(void)off;
	assert(text[0] != '\0');
	(*(unsigned *)arg)++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct blob b = {.p = data, .len = size};
	unsigned n = 0;
	const struct layer_in in = {.range = range, .arg = &b};
	const struct build_in stream = {.read = some, .arg = &b};
	const struct blobcheck_opts o = {.found = found, .arg = &n};
	struct blobcheck_result result;
	struct layerinfo l;
	struct err e = {0};

	if (layerinfo_read(&in, size, NULL, &l, &e) < 0) {
		assert(e.code < 0);
		return 0;
	}
	/* A corrupt member is found, or the blob is right to its end. */
	if (blobcheck(&l, &stream, &o, &result, &e) == 0)
		assert(result.complete || n > 0);
	layerinfo_done(&l);
	return 0;
}
