/* SPDX-License-Identifier: Apache-2.0 */
/* A tar archive, read twice: in pieces, and entry by entry from its place. */
#include "config.h"

#include <string.h>

#include "cli/build/tar.h"
#include "common/limits.h"
#include "tests/unit/memsource.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

#define PAYLOAD_BYTES_MAX MIB(1)

/* What tar.h promises. */
static void entry_check(const struct tar_entry *x, const uint8_t *p, size_t len)
{
	assert(x->head_len >= TAR_BLOCK_BYTES);
	assert(x->head_len % TAR_BLOCK_BYTES == 0);
	assert(x->head_off % TAR_BLOCK_BYTES == 0);
	if (!x->sparse) {
		assert(x->head_off + x->head_len <= len);
		assert(memcmp(x->head, p + x->head_off, x->head_len) == 0);
	}
	if (x->type == 0)
		return;
	assert(x->type <= TOC_FIFO);
	assert(strlen(x->name) == x->name_len);
	assert(x->name_len <= TOC_NAME_BYTES_MAX);
	assert(x->name_len > 0 || x->type == TOC_DIR);
	assert((x->link != NULL) ==
	       (x->type == TOC_SYMLINK || x->type == TOC_HARDLINK));
	assert(x->type == TOC_REG || x->size == 0);
	assert(x->sparse || x->size == x->data_len);
	assert(x->mode <= 07777);
	for (size_t i = 0; i < x->n_xattrs; i++) {
		uint64_t sum = 0;

		assert(x->xattrs[i].name[0] != '\0');
		assert(i == 0 ||
		       strcmp(x->xattrs[i - 1].name, x->xattrs[i].name) < 0);
		for (uint32_t k = 0; k < x->xattrs[i].value_len; k++)
			sum += x->xattrs[i].value[k];
		assert(sum <= UINT64_C(255) * XATTR_VALUE_BYTES_MAX);
	}
}

/* A sum of the payload, as far as it is not too long. */
static bool payload_sum(struct tar *t, const struct tar_entry *x, uint32_t *ret)
{
	uint64_t left = MIN(x->size, PAYLOAD_BYTES_MAX);
	uint8_t buf[1000];

	*ret = 0;
	while (left > 0) {
		size_t n = (size_t)MIN(left, (uint64_t)sizeof(buf));
		ssize_t got = tar_read(t, buf, n, NULL);

		if (got < 0)
			return false;
		assert((size_t)got == n);
		for (size_t i = 0; i < n; i++)
			*ret = *ret * 31 + buf[i];
		left -= n;
	}
	return true;
}

/* Where an entry is it is found again, and is the same. */
static void again(const uint8_t *p, size_t len, const struct tar_entry *x,
		  uint32_t sum)
{
	struct memsource s = {p, len, (size_t)x->head_off, len + 1};
	const struct build_in in = {memsource_read, &s};
	struct tar *t = tar_new(&in);
	struct tar_entry y;
	uint32_t other;

	assert(t != NULL);
	tar_seek(t, x->head_off);
	assert(tar_next(t, &y, NULL) == 1);
	assert(x->type == y.type);
	assert(x->size == y.size);
	assert(x->head_len == y.head_len);
	assert(memcmp(x->head, y.head, x->head_len) == 0);
	assert(payload_sum(t, &y, &other));
	assert(sum == other);
	tar_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	struct memsource s = {p, len, 0, 700};
	const struct build_in in = {memsource_read, &s};
	struct tar *t = tar_new(&in);
	struct tar_entry x;
	struct err e = {0};
	int r;

	assert(t != NULL);
	while ((r = tar_next(t, &x, &e)) > 0) {
		uint32_t sum;

		entry_check(&x, p, len);
		if (!payload_sum(t, &x, &sum))
			break;
		again(p, len, &x, sum);
	}
	assert(r >= 0 || e.text[0] != '\0');
	tar_free(t);
	return 0;
}
