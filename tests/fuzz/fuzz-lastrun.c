/* SPDX-License-Identifier: Apache-2.0 */
/* What was read first: what is taken is in bounds. The digest is mended. */
#include "config.h"

#include <string.h>

#include "common/lastrun.h"
#include "common/rd.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

#define DIGEST_OFF 56u

static void mend(uint8_t *p, size_t len, struct sha256 *h)
{
	uint32_t n = le32_load(p + 12);
	struct digest d;

	if (n > (len - LASTRUN_HEADER_BYTES) / sizeof(uint32_t))
		return;
	sha256_start(h);
	sha256_add(h, p, DIGEST_OFF);
	sha256_add(h, p + LASTRUN_HEADER_BYTES, n * sizeof(uint32_t));
	sha256_end(h, &d);
	memcpy(p + DIGEST_OFF, d.b, sizeof(d.b));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	static uint32_t v[LASTRUN_CHUNKS_MAX];
	struct sha256 *h = sha256_new();
	uint8_t *copy = malloc(len + 1);
	struct lastrun l = {.n_chunks = 1000, .v = v};

	assert(h != NULL && copy != NULL);
	memcpy(copy, p, len);
	if (len >= LASTRUN_HEADER_BYTES) {
		le64_store(copy + 16, l.n_chunks);
		memcpy(l.toc.b, copy + 24, sizeof(l.toc.b));
		mend(copy, len, h);
	}
	if (lastrun_parse(copy, len, h, &l) == 0) {
		assert(l.n <= LASTRUN_CHUNKS_MAX);
		for (uint32_t i = 0; i < l.n; i++)
			assert(v[i] < l.n_chunks);
	}
	free(copy);
	sha256_free(h);
	return 0;
}
