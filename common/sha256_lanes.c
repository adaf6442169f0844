/* SPDX-License-Identifier: Apache-2.0 */
/* Source: FIPS 180-4, 4.1.2 (functions), 4.2.2 (constants), 5.1.1 (padding),
 * 5.3.3 (initial value), 6.2.2 (the computation). */
#include "config.h"

#include "common/sha256_lanes.h"

#include <endian.h>
#include <string.h>

#ifdef __x86_64__

#include <immintrin.h>

#define BLOCK_BYTES 64u
#define LENGTH_BYTES 8u /* of the message in bits, at the end of its padding */
#define STATE_WORDS 8u
#define WITH_AVX512 __attribute__((target("avx512f,avx512bw")))

static const uint32_t initial[STATE_WORDS] = {
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
	0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static const uint32_t constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
	0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
	0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
	0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
	0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
	0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
	0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
	0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* Word w of lane l is state[w][l]. */
struct lanes {
	uint32_t state[STATE_WORDS][SHA256_LANES];
	const uint8_t *at[SHA256_LANES];
};

/* w[i] = the big-endian word i of the block that each lane has at @off. */
static inline WITH_AVX512 void load_words(const struct lanes *s, size_t off,
					  __m512i w[16])
{
	const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi8(
		12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
	__m512i r[16], t[16];

	for (unsigned i = 0; i < 16; i++)
		r[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(s->at[i] + off),
					   swap);
	/* A transposition of 16 times 16: pairs of rows, pairs of those, then
	 * quarters of registers twice. */
	for (unsigned i = 0; i < 16; i += 2) {
		t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
	}
	for (unsigned i = 0; i < 16; i += 4) {
		r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
		r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
		r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
	for (unsigned i = 0; i < 4; i++) {
		t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
		t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
		t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
		t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
	}
	for (unsigned i = 0; i < 4; i++) {
		w[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
		w[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
		w[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
		w[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
	}
}

#define ADD _mm512_add_epi32
/* a ^ b ^ c, a ? b : c, the majority: the truth tables of one instruction. */
#define XOR3(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
#define CHOOSE(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xca)
#define MAJORITY(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xe8)
#define ROTATED3(x, i, j, k)                                 \
	XOR3(_mm512_ror_epi32(x, i), _mm512_ror_epi32(x, j), \
	     _mm512_ror_epi32(x, k))
#define SHIFTED3(x, i, j, k)                                 \
	XOR3(_mm512_ror_epi32(x, i), _mm512_ror_epi32(x, j), \
	     _mm512_srli_epi32(x, k))

/* The word of round t + 16, in the place of round t's. */
static inline WITH_AVX512 __m512i next_word(const __m512i w[16], unsigned t)
{
	return ADD(ADD(w[t & 15], w[(t + 9) & 15]),
		   ADD(SHIFTED3(w[(t + 1) & 15], 7, 18, 3),
		       SHIFTED3(w[(t + 14) & 15], 17, 19, 10)));
}

/* v[0] to v[7] are a to h; what they are called moves on instead of them. */
static inline WITH_AVX512 void one_round(__m512i v[8], __m512i w, unsigned t)
{
	const __m512i a = v[(0 - t) & 7], e = v[(4 - t) & 7];
	__m512i *d = &v[(3 - t) & 7], *h = &v[(7 - t) & 7];
	__m512i k = ADD(w, _mm512_set1_epi32((int)constants[t]));
	__m512i t1 =
		ADD(ADD(*h, k), ADD(ROTATED3(e, 6, 11, 25),
				    CHOOSE(e, v[(5 - t) & 7], v[(6 - t) & 7])));

	*d = ADD(*d, t1);
	*h = ADD(t1, ADD(ROTATED3(a, 2, 13, 22),
			 MAJORITY(a, v[(1 - t) & 7], v[(2 - t) & 7])));
}

/* Takes @n blocks of each lane. */
static WITH_AVX512 void take_blocks(struct lanes *s, size_t n)
{
	__m512i sum[STATE_WORDS];

	for (unsigned i = 0; i < STATE_WORDS; i++)
		sum[i] = _mm512_loadu_si512(s->state[i]);
	for (size_t b = 0; b < n; b++) {
		__m512i v[STATE_WORDS], w[16];

		load_words(s, b * BLOCK_BYTES, w);
		memcpy(v, sum, sizeof(v));
#pragma GCC unroll 64
		for (unsigned t = 0; t < 64; t++) {
			one_round(v, w[t & 15], t);
			if (t < 48)
				w[t & 15] = next_word(w, t);
		}
		for (unsigned i = 0; i < STATE_WORDS; i++)
			sum[i] = ADD(sum[i], v[i]);
	}
	for (unsigned i = 0; i < STATE_WORDS; i++)
		_mm512_storeu_si512(s->state[i], sum[i]);
	for (unsigned i = 0; i < SHA256_LANES; i++)
		s->at[i] += n * BLOCK_BYTES;
}

/**
 * struct message - what a lane is at
 * @part:	NULL: at nothing
 * @left:	blocks before the lane has to be looked after
 * @tail:	[@tail_blocks] the end of the message and its padding
 */
struct message {
	struct sha256_part *part;
	size_t left;
	unsigned tail_blocks; /* 0: at them now */
	uint8_t tail[2 * BLOCK_BYTES];
};

/* Its blocks are done: on to the padding, or to the digest. */
static void go_on(struct message *msg, struct lanes *s, unsigned lane)
{
	if (msg->tail_blocks > 0) {
		msg->left = msg->tail_blocks;
		msg->tail_blocks = 0;
		s->at[lane] = msg->tail;
		return;
	}
	for (unsigned i = 0; i < STATE_WORDS; i++) {
		uint32_t word = htobe32(s->state[i][lane]);

		memcpy(msg->part->digest.b + 4 * i, &word, sizeof(word));
	}
	msg->part = NULL;
}

static void begin(struct message *msg, struct lanes *s, unsigned lane,
		  struct sha256_part *part)
{
	size_t rest = part->n % BLOCK_BYTES;
	uint64_t bits = htobe64((uint64_t)part->n * 8);

	msg->part = part;
	msg->left = part->n / BLOCK_BYTES;
	msg->tail_blocks = rest + 1 + LENGTH_BYTES <= BLOCK_BYTES ? 1 : 2;
	memset(msg->tail, 0, sizeof(msg->tail));
	if (rest > 0)
		memcpy(msg->tail, (const uint8_t *)part->p + part->n - rest,
		       rest);
	msg->tail[rest] = 0x80;
	memcpy(msg->tail + msg->tail_blocks * BLOCK_BYTES - LENGTH_BYTES, &bits,
	       LENGTH_BYTES);
	s->at[lane] = part->p;
	for (unsigned i = 0; i < STATE_WORDS; i++)
		s->state[i][lane] = initial[i];
	if (msg->left == 0)
		go_on(msg, s, lane);
}

void sha256_lanes(struct sha256_part *v, size_t n)
{
	struct message msg[SHA256_LANES] = {0};
	struct lanes s = {0};

	for (;;) {
		size_t blocks = SIZE_MAX;
		unsigned some = SHA256_LANES;

		for (unsigned l = 0; l < SHA256_LANES; l++) {
			if (msg[l].part == NULL && n > 0) {
				begin(&msg[l], &s, l, v++);
				n--;
			}
			if (msg[l].part == NULL)
				continue;
			some = l;
			blocks = MIN(blocks, msg[l].left);
		}
		if (some == SHA256_LANES)
			return;
		/* A lane that is at nothing has to read something. */
		for (unsigned l = 0; l < SHA256_LANES; l++) {
			if (msg[l].part == NULL)
				s.at[l] = s.at[some];
		}
		take_blocks(&s, blocks);
		for (unsigned l = 0; l < SHA256_LANES; l++) {
			if (msg[l].part == NULL)
				continue;
			msg[l].left -= blocks;
			if (msg[l].left == 0)
				go_on(&msg[l], &s, l);
		}
	}
}

bool sha256_lanes_usable(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx512f") != 0 &&
	       __builtin_cpu_supports("avx512bw") != 0;
}

#else

void sha256_lanes(struct sha256_part *v, size_t n)
{
	(void)v;
	(void)n;
	assert(!"not without sha256_lanes_usable()");
}

bool sha256_lanes_usable(void)
{
	return false;
}

#endif
