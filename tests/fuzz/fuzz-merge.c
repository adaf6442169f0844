/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two or three layers whose metadata is any bytes: merged, or refused. What
 * comes of it is an image that can be walked. Each is looked at as one that the
 * kernel might be given, too; what is let through can be walked as well.
 */
#include "config.h"

#include "common/erofs_check.h"
#include "common/merge.h"
#include "common/rd.h"
#include "tests/unit/erofs-walk.h"

#define LAYERS_MAX 3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct erofs_image *im, uint64_t bytes)
{
	struct err e = {0};

	if (erofs_check(im, bytes, &e) == 0) {
		int r = walk_image(im);

		assert(r == 0 || r == -E2BIG);
	}
}

static void merge(const struct merge_layer *layers, size_t n, bool user)
{
	struct digest key = {{0}};
	struct buf out = {0};
	struct erofs_image im;
	struct err e = {0};

	if (merge_build(layers, n, user, &key, &out, &e) == 0) {
		int r = erofs_open_any(&im, out.p, out.len, &e);

		assert(r == 0);
		r = walk_image(&im);
		assert(r == 0 || r == -E2BIG);
		check(&im, out.len);
	}
	buf_done(&out);
}

/* One byte: how many, and of which kind; then the images, as long as each other. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct merge_layer layers[LAYERS_MAX] = {0};
	size_t n, len, k = 0;
	uint8_t *copies[LAYERS_MAX] = {0};

	if (size == 0)
		return 0;
	n = 1 + data[0] % LAYERS_MAX;
	len = (size - 1) / n;
	for (size_t i = 0; i < n; i++) {
		struct err e = {0};
		uint8_t *copy = malloc(len + 1);

		if (copy == NULL)
			break;
		copies[i] = copy;
		memcpy(copy, data + 1 + i * len, len);
		fix_checksum(copy, len);
		layers[k].toc_digest.b[0] = (uint8_t)i;
		if (erofs_open_any(&layers[k].im, copy, len, &e) < 0)
			continue;
		check(&layers[k].im, layers[k].im.n_blocks * 4096);
		k += !layers[k].im.holes;
	}
	if (k > 0)
		merge(layers, k, (data[0] & 0x80) != 0);
	for (size_t i = 0; i < LAYERS_MAX; i++)
		free(copies[i]);
	return 0;
}
