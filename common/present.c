/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The presence bitmaps, shared by several processes through one mapping.
 * Memory order: a bit of have is set with release after the data was written,
 * and tested with acquire before the data is read. The other bitmaps are read
 * and written by whoever syncs or opens, one at a time.
 */
#include "config.h"

#include "common/present.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "common/rd.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	      "bitmap words are used in place");
static_assert(sizeof(_Atomic uint64_t) == 8 && ATOMIC_LLONG_LOCK_FREE == 2,
	      "words are shared between processes");

#define HEADER_BYTES sizeof(struct present_header_le)
#define HEADER(field) offsetof(struct present_header_le, field)
#define WORD_BITS 64u

static uint64_t words_of(uint64_t n)
{
	return n / WORD_BITS + (n % WORD_BITS != 0);
}

uint64_t present_file_bytes(uint64_t n_chunks)
{
	return HEADER_BYTES + 3 * sizeof(uint64_t) * words_of(n_chunks);
}

static _Atomic uint64_t *n_have(const struct present *p)
{
	return (_Atomic uint64_t *)(void *)(p->map + HEADER(n_have));
}

static _Atomic uint32_t *state_of(const struct present *p)
{
	return (_Atomic uint32_t *)(void *)(p->map + HEADER(state));
}

static uint64_t bit_of(uint64_t i)
{
	return UINT64_C(1) << (i % WORD_BITS);
}

static uint64_t word_get(const _Atomic uint64_t *w)
{
	return atomic_load_explicit(w, memory_order_relaxed);
}

/* What a full word w of the bitmap looks like: the last may have a rest. */
static uint64_t full_word(uint64_t n, uint64_t w)
{
	uint64_t rest = n - w * WORD_BITS;

	return rest >= WORD_BITS ? UINT64_MAX : bit_of(rest) - 1;
}

void present_init(void *map, size_t map_len, uint64_t n_chunks,
		  const uint8_t index_digest[32], const uint8_t boot_id[16])
{
	uint8_t *p = map;

	assert(map_len == present_file_bytes(n_chunks));
	memcpy(p, "eszprsnt", 8);
	le32_store(p + HEADER(version), PRESENT_VERSION);
	le32_store(p + HEADER(state), PRESENT_LAZY);
	memcpy(p + HEADER(boot_id), boot_id, 16);
	le64_store(p + HEADER(n_chunks), n_chunks);
	le64_store(p + HEADER(n_have), 0);
	memcpy(p + HEADER(index_digest), index_digest, 32);
}

/*
 * Makes the bitmaps say what is true after a boot or a crash. After a boot
 * the pages of this file may come from different moments, so only what
 * all of them agree on is kept. Suspect is set before have is cleared and the
 * boot id is written last: a kill in between repeats the whole.
 */
static void settle(struct present *p, const uint8_t boot_id[16])
{
	bool booted = memcmp(p->map + HEADER(boot_id), boot_id, 16) != 0;
	uint64_t count = 0;
	bool all = true;

	for (uint64_t w = 0; w < present_words(p); w++) {
		uint64_t have = word_get(&p->have[w]);
		uint64_t durable = word_get(&p->durable[w]) & have;
		uint64_t suspect = word_get(&p->suspect[w]);

		if (booted) {
			suspect |= have & ~durable;
			have = durable;
		}
		suspect &= ~have;
		atomic_store_explicit(&p->suspect[w], suspect,
				      memory_order_seq_cst);
		atomic_store_explicit(&p->durable[w], durable,
				      memory_order_seq_cst);
		atomic_store_explicit(&p->have[w], have, memory_order_seq_cst);
		count += (uint64_t)__builtin_popcountll(have);
		all = all && have == full_word(p->n, w);
	}
	atomic_store_explicit(n_have(p), count, memory_order_release);
	if (!all)
		atomic_store_explicit(state_of(p), PRESENT_LAZY,
				      memory_order_release);
	memcpy(p->map + HEADER(boot_id), boot_id, 16);
}

/* The rest of the last word is zero in every bitmap. */
static bool tail_clear(const struct present *p)
{
	uint64_t words = present_words(p);
	uint64_t rest;

	if (words == 0)
		return true;
	rest = ~full_word(p->n, words - 1);
	return ((word_get(&p->have[words - 1]) |
		 word_get(&p->durable[words - 1]) |
		 word_get(&p->suspect[words - 1])) &
		rest) == 0;
}

int present_open(struct present *p, void *map, size_t map_len,
		 uint64_t n_chunks, const uint8_t index_digest[32],
		 const uint8_t boot_id[16], bool exclusive, struct err *e)
{
	uint8_t *m = map;
	uint64_t words = words_of(n_chunks);
	struct present it = {.map = m, .map_len = map_len, .n = n_chunks};
	uint32_t version;

	assert((uintptr_t)map % sizeof(uint64_t) == 0);
	if (map_len < HEADER_BYTES || memcmp(m, "eszprsnt", 8) != 0)
		return err_set(e, -EBADMSG, "present: not a presence file");
	version = le32_load(m + HEADER(version));
	if (version != PRESENT_VERSION)
		return err_set(e, -EOPNOTSUPP, "present: version %" PRIu32,
			       version);
	if (n_chunks > SIZE_MAX / 2 ||
	    le64_load(m + HEADER(n_chunks)) != n_chunks ||
	    map_len != present_file_bytes(n_chunks))
		return err_set(e, -EBADMSG,
			       "present: %zu bytes for %" PRIu64 " chunks",
			       map_len, n_chunks);
	if (memcmp(m + HEADER(index_digest), index_digest, 32) != 0)
		return err_set(e, -EBADMSG, "present: of another index");
	it.have = (_Atomic uint64_t *)(void *)(m + HEADER_BYTES);
	it.durable = it.have + words;
	it.suspect = it.durable + words;
	if (le32_load(m + HEADER(state)) > PRESENT_COMPLETE || !tail_clear(&it))
		return err_set(e, -EBADMSG, "present: torn");
	/* Whoever is first in a boot, even where somebody only looked and had
	 * the lock. Of two that are first at once, one may undo a bit that the
	 * other has set: then that chunk is verified, or fetched, again. */
	if (exclusive || memcmp(m + HEADER(boot_id), boot_id, 16) != 0)
		settle(&it, boot_id);
	*p = it;
	return 0;
}

bool present_test(const struct present *p, uint64_t i)
{
	assert(i < p->n);
	/* Pairs with the release in present_set(). */
	return (atomic_load_explicit(&p->have[i / WORD_BITS],
				     memory_order_acquire) &
		bit_of(i)) != 0;
}

uint64_t present_next_missing(const struct present *p, uint64_t from)
{
	while (from < p->n) {
		uint64_t have = atomic_load_explicit(&p->have[from / WORD_BITS],
						     memory_order_acquire);
		uint64_t missing = ~have & ~(bit_of(from) - 1);

		from -= from % WORD_BITS;
		if (missing != 0) {
			from += (uint64_t)__builtin_ctzll(missing);
			break;
		}
		from += WORD_BITS;
	}
	return MIN(from, p->n);
}

static bool test_range(const struct present *p, const _Atomic uint64_t *bits,
		       uint64_t first, uint64_t n)
{
	assert(first <= p->n);
	assert(n <= p->n - first);
	for (uint64_t i = first; i < first + n;) {
		uint64_t in_word =
			MIN(WORD_BITS - i % WORD_BITS, first + n - i);
		uint64_t want =
			(in_word == WORD_BITS ? UINT64_MAX
					      : (UINT64_C(1) << in_word) - 1)
			<< (i % WORD_BITS);

		if ((atomic_load_explicit(&bits[i / WORD_BITS],
					  memory_order_acquire) &
		     want) != want)
			return false;
		i += in_word;
	}
	return true;
}

bool present_test_range(const struct present *p, uint64_t first, uint64_t n)
{
	return test_range(p, p->have, first, n);
}

bool present_test_durable(const struct present *p, uint64_t first, uint64_t n)
{
	return test_range(p, p->durable, first, n) &&
	       test_range(p, p->have, first, n);
}

bool present_set(struct present *p, uint64_t i)
{
	uint64_t old;

	assert(i < p->n);
	/* Pairs with the acquire in present_test(). */
	old = atomic_fetch_or_explicit(&p->have[i / WORD_BITS], bit_of(i),
				       memory_order_release);
	present_clear_suspect(p, i);
	if ((old & bit_of(i)) != 0)
		return false;
	atomic_fetch_add_explicit(n_have(p), 1, memory_order_release);
	return true;
}

bool present_suspect(const struct present *p, uint64_t i)
{
	assert(i < p->n);
	return (word_get(&p->suspect[i / WORD_BITS]) & bit_of(i)) != 0;
}

void present_clear_suspect(struct present *p, uint64_t i)
{
	assert(i < p->n);
	/* Rarely set, and a write would make the page dirty for nothing. */
	if (present_suspect(p, i))
		atomic_fetch_and_explicit(&p->suspect[i / WORD_BITS],
					  ~bit_of(i), memory_order_relaxed);
}

/* Counted, not read from the header: a process killed between setting a bit
 * and counting it leaves n_have one short. */
uint64_t present_count(const struct present *p)
{
	uint64_t n = 0;

	for (size_t w = 0; w < present_words(p); w++)
		n += (uint64_t)__builtin_popcountll(word_get(&p->have[w]));
	return n;
}

size_t present_words(const struct present *p)
{
	return (size_t)words_of(p->n);
}

void present_snapshot(const struct present *p, uint64_t *snapshot)
{
	for (size_t w = 0; w < present_words(p); w++)
		snapshot[w] =
			atomic_load_explicit(&p->have[w], memory_order_acquire);
}

void present_synced(struct present *p, const uint64_t *snapshot)
{
	for (size_t w = 0; w < present_words(p); w++)
		if ((snapshot[w] & ~word_get(&p->durable[w])) != 0)
			atomic_fetch_or_explicit(&p->durable[w], snapshot[w],
						 memory_order_release);
}

void present_sync_failed(struct present *p)
{
	for (size_t w = 0; w < present_words(p); w++) {
		uint64_t keep = word_get(&p->durable[w]);
		uint64_t old = atomic_fetch_and_explicit(&p->have[w], keep,
							 memory_order_acq_rel);
		int lost = __builtin_popcountll(old & ~keep);

		atomic_fetch_sub_explicit(n_have(p), (uint64_t)lost,
					  memory_order_release);
	}
	atomic_store_explicit(state_of(p), PRESENT_LAZY, memory_order_release);
}

uint64_t present_count_durable(const struct present *p)
{
	uint64_t n = 0;

	for (size_t w = 0; w < present_words(p); w++)
		n += (uint64_t)__builtin_popcountll(word_get(&p->durable[w]));
	return n;
}

enum present_state present_state(const struct present *p)
{
	return atomic_load_explicit(state_of(p), memory_order_acquire) ==
			       PRESENT_COMPLETE
		       ? PRESENT_COMPLETE
		       : PRESENT_LAZY;
}

void present_set_complete(struct present *p)
{
	atomic_store_explicit(state_of(p), PRESENT_COMPLETE,
			      memory_order_release);
}
