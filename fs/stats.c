/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/stats.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "common/chunks.h"
#include "common/present.h"

struct stats *stats_new(void)
{
	void *p = mmap(NULL, sizeof(struct stats), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p != MAP_FAILED ? p : NULL;
}

static unsigned bucket_of(uint64_t us)
{
	unsigned octave, quarter;

	if (us < 4)
		return (unsigned)us;
	octave = 63u - (unsigned)__builtin_clzll(us);
	quarter = (unsigned)(us >> (octave - 2)) & 3u;
	return MIN(octave * 4 + quarter - 4, STATS_BUCKETS - 1);
}

static uint64_t bucket_end_us(unsigned b)
{
	unsigned octave = (b + 4) / 4, quarter = (b + 4) % 4;

	if (b < 4)
		return b;
	return (UINT64_C(5) + quarter) << (octave - 2);
}

void stats_latency(struct stats *s, uint64_t ns)
{
	stats_add(&s->demand_misses, 1);
	stats_add(&s->demand_latency[bucket_of(ns / 1000)], 1);
}

uint64_t stats_quantile_us(const struct stats *s, double q)
{
	uint64_t total = 0, seen = 0, want;

	for (unsigned b = 0; b < STATS_BUCKETS; b++)
		total += stats_get(&s->demand_latency[b]);
	if (total == 0)
		return 0;
	want = (uint64_t)(q * (double)total);
	want = MIN(MAX(want, UINT64_C(1)), total);
	for (unsigned b = 0; b < STATS_BUCKETS; b++) {
		seen += stats_get(&s->demand_latency[b]);
		if (seen >= want)
			return bucket_end_us(b);
	}
	return bucket_end_us(STATS_BUCKETS - 1);
}

/* Of this process's threads; the monitor is another process, and writes when
 * there is no worker. */
static pthread_mutex_t error_lock = PTHREAD_MUTEX_INITIALIZER;

void stats_error(struct stats *s, const char *text)
{
	uint32_t next;

	(void)pthread_mutex_lock(&error_lock);
	next = 1u -
	       (atomic_load_explicit(&s->error_shown, memory_order_relaxed) &
		1u);
	(void)snprintf(s->error[next], sizeof(s->error[next]), "%s", text);
	/* Pairs with the acquire in stats_last_error(). */
	atomic_store_explicit(&s->error_shown, next, memory_order_release);
	(void)pthread_mutex_unlock(&error_lock);
}

void stats_last_error(const struct stats *s, char *buf, size_t n)
{
	uint32_t shown =
		atomic_load_explicit(&s->error_shown, memory_order_acquire) &
		1u;

	(void)snprintf(buf, n, "%.*s", (int)sizeof(s->error[shown]) - 1,
		       s->error[shown]);
}

void stats_count(struct stats *s, const struct chunks *ch,
		 const struct present *pr)
{
	uint64_t have = 0, total = 0;

	for (uint64_t i = 0; i < ch->n;) {
		uint64_t first, n;
		struct chunk c;

		chunks_member(ch, i, &first, &n);
		chunks_get(ch, first, &c);
		total += c.blob_len;
		if (present_test_range(pr, first, n))
			have += c.blob_len;
		i = first + n;
	}
	stats_set(&s->blob_bytes_total, total);
	stats_set(&s->blob_bytes_have, have);
	stats_set(&s->blob_size, ch->blob_size);
	stats_set(&s->chunks_total, ch->n);
	stats_set(&s->chunks_have, present_count(pr));
	stats_set(&s->image_bytes, ch->image_bytes);
}
