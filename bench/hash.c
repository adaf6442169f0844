/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 as the worker's fill threads ask for it: MB/s of 16 chunks of 64 KiB, one
 * after the other by libcrypto, then as sha256_many() does them. One thread, CPU time.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base.h"
#include "common/digest.h"

#define CHUNKS 16u
#define CHUNK_BYTES KIB(64)
#define ROUNDS 500u

static double cpu_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double mb_per_s(struct sha256 *h, struct sha256_part *v, bool many)
{
	double t = cpu_s();

	for (unsigned k = 0; k < ROUNDS; k++) {
		if (many)
			sha256_many(h, v, CHUNKS);
		for (unsigned i = 0; !many && i < CHUNKS; i++)
			sha256_all(h, v[i].p, v[i].n, &v[i].digest);
	}
	return 1.0 * ROUNDS * CHUNKS * CHUNK_BYTES / 1e6 / (cpu_s() - t);
}

int main(void)
{
	uint8_t *p = malloc(CHUNKS * CHUNK_BYTES);
	struct sha256_part v[CHUNKS];
	struct sha256 *h = sha256_new();

	if (p == NULL || h == NULL)
		return 1;
	memset(p, 0x5a, CHUNKS * CHUNK_BYTES);
	for (unsigned i = 0; i < CHUNKS; i++)
		v[i] = (struct sha256_part){.p = p + i * CHUNK_BYTES,
					    .n = CHUNK_BYTES};
	printf("%.0f ", mb_per_s(h, v, false));
	printf("%.0f\n", mb_per_s(h, v, true));
	sha256_free(h);
	free(p);
	return 0;
}
