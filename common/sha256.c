/* SPDX-License-Identifier: Apache-2.0 */
/* Apart from digest.c: who only compares digests is not linked with libcrypto, which
 * costs a process 0.4 MiB of its own. */
#include "config.h"

#include "common/digest.h"

#include <openssl/evp.h>

#include "common/sha256_lanes.h"

/* Side by side is faster from this many lanes on that are never empty. */
#define LANES_WORTH 8u

struct sha256 {
	EVP_MD *md;
	EVP_MD_CTX *ctx;
	bool lanes;
};

struct sha256 *sha256_new(void)
{
	struct sha256 *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return NULL;
	h->md = EVP_MD_fetch(NULL, "SHA256", NULL);
	h->ctx = EVP_MD_CTX_new();
	h->lanes = sha256_lanes_usable();
	if (h->md == NULL || h->ctx == NULL) {
		sha256_free(h);
		return NULL;
	}
	return h;
}

void sha256_free(struct sha256 *h)
{
	if (h == NULL)
		return;
	EVP_MD_CTX_free(h->ctx);
	EVP_MD_free(h->md);
	free(h);
}

/* SHA-256 over memory cannot fail once the implementation is fetched. */
static void must(int ok)
{
	assert(ok == 1);
}

void sha256_start(struct sha256 *h)
{
	must(EVP_DigestInit_ex2(h->ctx, h->md, NULL));
}

void sha256_add(struct sha256 *h, const void *p, size_t n)
{
	must(EVP_DigestUpdate(h->ctx, p, n));
}

void sha256_end(struct sha256 *h, struct digest *ret)
{
	unsigned len = 0;

	must(EVP_DigestFinal_ex(h->ctx, ret->b, &len));
	assert(len == DIGEST_BYTES);
}

void sha256_all(struct sha256 *h, const void *p, size_t n, struct digest *ret)
{
	const uint8_t *at = p;

	sha256_start(h);
	while (n > 0) {
		size_t k = MIN(n, (size_t)KIB(256));

		sha256_add(h, at, k);
		at += k;
		n -= k;
	}
	sha256_end(h, ret);
}

/* Whether the longest of them leaves the others' lanes empty for too long. */
static bool worth_lanes(const struct sha256_part *v, size_t n)
{
	size_t sum = 0, most = 0;

	for (size_t i = 0; i < n; i++) {
		sum += v[i].n;
		most = MAX(most, v[i].n);
	}
	return n >= LANES_WORTH && sum / LANES_WORTH >= most;
}

void sha256_many(struct sha256 *h, struct sha256_part *v, size_t n)
{
	if (h->lanes && worth_lanes(v, n)) {
		sha256_lanes(v, n);
		return;
	}
	for (size_t i = 0; i < n; i++)
		sha256_all(h, v[i].p, v[i].n, &v[i].digest);
}
