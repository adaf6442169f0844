/* SPDX-License-Identifier: Apache-2.0 */
/* The chunk table: opened once with every record checked, then searched. */
#include "config.h"

#include "common/chunks.h"

#include <inttypes.h>
#include <string.h>

#include "common/checked.h"
#include "common/codec.h"
#include "common/limits.h"
#include "common/rd.h"

#define HEADER_BYTES sizeof(struct chunks_header_le)
#define RECORD_BYTES sizeof(struct chunk_le)
#define HEADER(field) offsetof(struct chunks_header_le, field)
#define RECORD(field) offsetof(struct chunk_le, field)
#define FLAGS_KNOWN \
	(CHUNKS_F_UNVERIFIED | CHUNKS_F_OPAQUE_USER | CHUNKS_F_XATTRS)
#define IMAGE_BLOCK_BYTES 4096u

static const uint8_t *record(const struct chunks *c, uint64_t i)
{
	return c->map + HEADER_BYTES + i * RECORD_BYTES;
}

void chunks_get(const struct chunks *c, uint64_t i, struct chunk *ret)
{
	static const struct digest none;
	const uint8_t *p;

	assert(i < c->n);
	p = record(c, i);
	ret->blob_off = le64_load(p + RECORD(blob_off));
	ret->blob_len = le64_load(p + RECORD(blob_len));
	ret->inner_off = le64_load(p + RECORD(inner_off));
	ret->image_off = le64_load(p + RECORD(image_off));
	ret->len = le64_load(p + RECORD(len));
	memcpy(ret->digest.b, p + RECORD(digest), DIGEST_BYTES);
	ret->has_digest = memcmp(ret->digest.b, none.b, DIGEST_BYTES) != 0;
}

/* A record by itself, against the header. */
static bool record_fits(const struct chunks *c, const struct chunk *k)
{
	return k->len > 0 && k->len <= CHUNK_BYTES_MAX &&
	       k->inner_off <= CHUNK_BYTES_MAX && k->image_off >= c->meta_len &&
	       checked_range(k->image_off, k->len, c->image_bytes) &&
	       k->blob_len > 0 &&
	       checked_range(k->blob_off, k->blob_len, c->toc_off) &&
	       (k->has_digest || (c->flags & CHUNKS_F_UNVERIFIED) != 0);
}

/* A record behind the one before it, in the image and in the blob. */
static bool record_follows(const struct chunk *a, const struct chunk *b)
{
	if (b->image_off < a->image_off + a->len)
		return false;
	if (b->blob_off == a->blob_off)
		return b->blob_len == a->blob_len &&
		       b->inner_off >= a->inner_off + a->len;
	return b->blob_off >= a->blob_off + a->blob_len;
}

static int check_records(const struct chunks *c, struct err *e)
{
	struct chunk last = {0}, k;

	for (uint64_t i = 0; i < c->n; i++) {
		chunks_get(c, i, &k);
		if (!record_fits(c, &k) ||
		    (i > 0 && !record_follows(&last, &k)))
			return err_set(e, -EBADMSG,
				       "chunks: record %" PRIu64 " is wrong",
				       i);
		last = k;
	}
	return 0;
}

static bool header_fits(const struct chunks *c)
{
	return c->toc_off <= c->blob_size && c->prefetch_end <= c->toc_off &&
	       c->image_bytes <= EROFS_BYTES_MAX &&
	       c->image_bytes % IMAGE_BLOCK_BYTES == 0 &&
	       c->meta_len % IMAGE_BLOCK_BYTES == 0 && c->meta_len > 0 &&
	       c->meta_len <= c->image_bytes &&
	       (c->codec == CODEC_GZIP || c->codec == CODEC_ZSTD);
}

int chunks_open(struct chunks *c, const void *map, size_t map_len,
		struct err *e)
{
	const uint8_t *p = map;
	struct chunks it = {.map = map, .map_len = map_len};
	uint32_t version;
	int r;

	if (map_len < HEADER_BYTES || memcmp(p, "eszchunk", 8) != 0)
		return err_set(e, -EBADMSG, "chunks: not a chunk table");
	version = le32_load(p + HEADER(version));
	it.flags = le32_load(p + HEADER(flags));
	if (version != CHUNKS_VERSION || (it.flags & ~FLAGS_KNOWN) != 0)
		return err_set(e, -EOPNOTSUPP,
			       "chunks: version %" PRIu32 ", flags %#" PRIx32,
			       version, it.flags);
	memcpy(it.index_digest.b, p + HEADER(index_digest), DIGEST_BYTES);
	memcpy(it.toc_digest.b, p + HEADER(toc_digest), DIGEST_BYTES);
	memcpy(it.blob_digest.b, p + HEADER(blob_digest), DIGEST_BYTES);
	it.blob_size = le64_load(p + HEADER(blob_size));
	it.toc_off = le64_load(p + HEADER(toc_off));
	it.prefetch_end = le64_load(p + HEADER(prefetch_end));
	it.image_bytes = le64_load(p + HEADER(image_bytes));
	it.meta_len = le64_load(p + HEADER(meta_len));
	it.n = le64_load(p + HEADER(n_chunks));
	it.codec = le32_load(p + HEADER(codec));
	if ((map_len - HEADER_BYTES) % RECORD_BYTES != 0 ||
	    it.n != (map_len - HEADER_BYTES) / RECORD_BYTES)
		return err_set(e, -EBADMSG,
			       "chunks: %zu bytes for %" PRIu64 " chunks",
			       map_len, it.n);
	if (!header_fits(&it))
		return err_set(e, -EBADMSG, "chunks: header is wrong");
	r = check_records(&it, e);
	if (r < 0)
		return r;
	*c = it;
	return 0;
}

bool chunks_verify(const struct chunks *c, const uint8_t *meta,
		   struct sha256 *h)
{
	static const uint8_t zero[DIGEST_BYTES];
	size_t after = HEADER(index_digest) + DIGEST_BYTES;
	struct digest d;

	sha256_start(h);
	sha256_add(h, meta, c->meta_len);
	sha256_add(h, c->map, HEADER(index_digest));
	sha256_add(h, zero, sizeof(zero));
	sha256_add(h, c->map + after, c->map_len - after);
	sha256_end(h, &d);
	return digest_equal(&d, &c->index_digest);
}

/* The first record whose u64 at @field is >= @v; c->n where none. */
static uint64_t lower_bound(const struct chunks *c, size_t field, uint64_t v)
{
	uint64_t lo = 0, hi = c->n;

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (le64_load(record(c, mid) + field) < v)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int chunks_find(const struct chunks *c, uint64_t off, uint64_t *ret_i)
{
	struct chunk k;
	uint64_t i;

	if (off >= c->image_bytes)
		return -ENODATA;
	i = lower_bound(c, RECORD(image_off), off + 1);
	if (i == 0)
		return -ENODATA;
	chunks_get(c, i - 1, &k);
	if (off - k.image_off >= k.len)
		return -ENODATA;
	*ret_i = i - 1;
	return 0;
}

uint64_t chunks_find_blob(const struct chunks *c, uint64_t blob_off)
{
	return lower_bound(c, RECORD(blob_off), blob_off);
}

void chunks_member(const struct chunks *c, uint64_t i, uint64_t *ret_first,
		   uint64_t *ret_n)
{
	uint64_t off, first;

	assert(i < c->n);
	off = le64_load(record(c, i) + RECORD(blob_off));
	first = lower_bound(c, RECORD(blob_off), off);
	*ret_first = first;
	*ret_n = lower_bound(c, RECORD(blob_off), off + 1) - first;
}
