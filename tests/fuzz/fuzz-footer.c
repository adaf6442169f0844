/* SPDX-License-Identifier: Apache-2.0 */
/* 8 bytes: the blob's size; the rest: its tail. */
#include "config.h"

#include "common/checked.h"
#include "common/limits.h"
#include "common/rd.h"
#include "common/toc.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	struct err e = {0};
	struct toc_footer f;
	uint64_t size;
	int r;

	if (len < 8)
		return 0;
	size = le64_load(p);
	p += 8;
	len -= 8;
	size = MAX(size, (uint64_t)len);
	r = toc_footer_parse(p, len, size, &f, &e);
	if (r < 0) {
		assert(e.code == r);
		return 0;
	}
	assert(checked_range(f.toc_off, f.toc_len, size));
	assert(f.toc_len > 0);
	assert(f.toc_len <= TOC_BLOB_BYTES_MAX);
	assert(f.toc_json_len <= TOC_JSON_BYTES_MAX);
	return 0;
}
