/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/fill.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/chunks.h"
#include "common/limits.h"
#include "fs/miss.h"

/* Output room behind the bytes needed, so that the whole member fits. */
#define SLACK_BYTES MIB(1)
#define WINDOW_BYTES KIB(256)
#define BATCH_CHUNKS 64u

static_assert(BATCH_CHUNKS >= FILL_MEMBERS, "hashed side by side");
static_assert(FILL_SCRATCH_BYTES >= 2 * CHUNK_ONESHOT_BYTES_MAX + SLACK_BYTES,
	      "a member");
static_assert(FILL_SCRATCH_BYTES >= FILL_GROUP_BYTES + SLACK_BYTES, "a group");

struct fill_stream {
	struct miss *m;
	struct codec_stream *codec;
	struct sha256 *sha; /* of the chunk being filled */
	uint64_t chunk;
	uint64_t end;
	uint64_t pos; /* decoded bytes of the member so far */
	struct chunk c;
	int fd; /* layer.erofs */
	bool begun;
	bool locked;
	bool skip; /* the chunk is there already */
};

int fill_init(struct fill *f)
{
	int r;

	memset(f, 0, sizeof(*f));
	r = lane_init(&f->lane, FILL_SCRATCH_BYTES);
	if (r < 0)
		return r;
	f->codec = codec_new();
	f->sha = sha256_new();
	if (f->codec == NULL || f->sha == NULL) {
		fill_done(f);
		return -ENOMEM;
	}
	return 0;
}

void fill_done(struct fill *f)
{
	lane_done(&f->lane);
	codec_free(f->codec);
	sha256_free(f->sha);
	f->codec = NULL;
	f->sha = NULL;
}

bool fill_trim(struct fill *f)
{
	bool was = atomic_load_explicit(&f->lane.dirty, memory_order_relaxed);

	if (lane_trim(&f->lane))
		return true;
	/* The codec is used only while the lane is held. */
	if (was && pthread_mutex_trylock(&f->lane.busy) == 0) {
		codec_trim(f->codec);
		(void)pthread_mutex_unlock(&f->lane.busy);
	}
	return false;
}

/**
 * struct batch - decoded chunks, to be hashed side by side and written
 * @n:		so many
 * @i:		their numbers
 * @of:		what each is decoded from
 * @part:	their bytes; of no length, where there is no digest to compare with
 * @disk:	-errno of the last write that failed, or 0
 */
struct batch {
	unsigned n;
	uint64_t i[BATCH_CHUNKS];
	struct fill_member *of[BATCH_CHUNKS];
	struct chunk c[BATCH_CHUNKS];
	struct sha256_part part[BATCH_CHUNKS];
	int disk;
};

static const uint8_t *bytes_of(const struct batch *b, unsigned k)
{
	return b->part[k].p;
}

static bool chunk_ok(const struct miss *m, const struct batch *b, unsigned k)
{
	if (!b->c[k].has_digest)
		return m->unverified;
	return digest_equal(&b->part[k].digest, &b->c[k].digest);
}

/* Whether chunk @k goes on in memory and in the image where @k - 1 ends. */
static bool adjoins(const struct batch *b, unsigned k)
{
	const struct chunk *last = &b->c[k - 1];

	return b->c[k].image_off == last->image_off + last->len &&
	       bytes_of(b, k) == bytes_of(b, k - 1) + last->len;
}

/* Writes the verified chunks [from, end), and says that they are there. */
static void write_chunks(struct fill *f, struct miss *m, struct batch *b,
			 unsigned from, unsigned end)
{
	const struct chunk *last = &b->c[end - 1];
	const uint8_t *p = bytes_of(b, from);
	uint64_t off = b->c[from].image_off;
	size_t len = (size_t)(last->image_off + last->len - off);
	int r;

	lane_hold(&f->lane, p, len, off);
	r = lane_write(&f->lane, p, len, off);
	for (unsigned k = from; k < end; k++) {
		if (r == 0)
			miss_present(m, b->i[k]);
		else
			miss_deliver(m, b->i[k], bytes_of(b, k));
	}
	if (r < 0)
		b->disk = r;
}

/* Hashes what is in the batch and writes what is right, which empties it. */
static void batch_flush(struct fill *f, struct miss *m, struct batch *b)
{
	sha256_many(f->sha, b->part, b->n);
	for (unsigned k = 0, end; k < b->n; k = end) {
		end = k + 1;
		if (!chunk_ok(m, b, k)) {
			b->of[k]->rc = -EBADMSG;
			continue;
		}
		while (end < b->n && adjoins(b, end) && chunk_ok(m, b, end))
			end++;
		write_chunks(f, m, b, k, end);
	}
	b->n = 0;
}

/* Decodes @v to @out [@cap]. Return: bytes of it that are chunks, -errno */
static ssize_t decode(struct fill *f, const struct miss *m,
		      const struct fill_member *v, uint8_t *out, size_t cap)
{
	bool full = false;
	uint64_t need = 0;
	int r;

	for (uint64_t i = v->first; i < v->first + v->n; i++) {
		struct chunk c;

		chunks_get(m->ch, i, &c);
		full = full || !c.has_digest;
		need = MAX(need, c.inner_off + c.len);
	}
	if (need > cap - SLACK_BYTES)
		return -EBADMSG;
	r = codec_decode(f->codec, (enum codec_kind)m->ch->codec, v->src,
			 v->len, out, cap, (size_t)need, full);
	return r < 0 ? r : (ssize_t)need;
}

int fill_members(struct fill *f, struct miss *m, struct fill_member *v,
		 unsigned n)
{
	uint8_t *out = f->lane.scratch;
	size_t cap = f->lane.scratch_bytes;
	struct batch b;

	b.n = 0;
	b.disk = 0;
	for (struct fill_member *end = v + n; v < end; v++) {
		ssize_t got = decode(f, m, v, out, cap);

		v->rc = (int)MIN(got, 0);
		if (got < 0)
			continue;
		for (uint64_t i = v->first; i < v->first + v->n; i++) {
			struct chunk *c = &b.c[b.n];

			if (present_test(m->pr, i))
				continue;
			chunks_get(m->ch, i, c);
			b.i[b.n] = i;
			b.of[b.n] = v;
			b.part[b.n] = (struct sha256_part){
				.p = out + c->inner_off,
				.n = c->has_digest ? (size_t)c->len : 0,
			};
			if (++b.n == BATCH_CHUNKS)
				batch_flush(f, m, &b);
		}
		/* The next one's bytes may so adjoin these. */
		out += got;
		cap -= (size_t)got;
	}
	batch_flush(f, m, &b);
	return b.disk;
}

int fill_verify(struct fill *f, struct miss *m, uint64_t i)
{
	struct digest d;
	struct chunk c;

	chunks_get(m->ch, i, &c);
	if (!c.has_digest)
		return -EBADMSG;
	sha256_start(f->sha);
	for (uint64_t at = 0; at < c.len;) {
		size_t k = (size_t)MIN(c.len - at, WINDOW_BYTES);
		ssize_t got = lane_read(&f->lane, f->lane.scratch, k,
					c.image_off + at);

		if (got < 0)
			return (int)got;
		if ((size_t)got != k)
			return -EBADMSG;
		sha256_add(f->sha, f->lane.scratch, k);
		at += k;
	}
	sha256_end(f->sha, &d);
	return digest_equal(&d, &c.digest) ? 0 : -EBADMSG;
}

/* Locks or unlocks the image range of the chunk being streamed. Its bytes go
 * into their place before they are verified, so no other process may stream
 * the same chunk meanwhile: it could set the bit over our bytes. (One-shot
 * chunks are verified first; two who write one write the same.) */
static int stream_lock(const struct fill_stream *s, short type)
{
	struct flock fl = {
		.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = (off_t)s->c.image_off,
		.l_len = (off_t)s->c.len,
	};
	int r;

	do {
		r = fcntl(s->fd, F_OFD_SETLKW, &fl);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* Begins with chunk s->chunk. */
static int stream_chunk(struct fill_stream *s)
{
	int r;

	chunks_get(s->m->ch, s->chunk, &s->c);
	sha256_start(s->sha);
	s->skip = present_test(s->m->pr, s->chunk);
	if (s->skip)
		return 0;
	r = stream_lock(s, F_WRLCK);
	if (r < 0)
		return r;
	s->locked = true;
	s->skip = present_test(s->m->pr, s->chunk);
	return 0;
}

static void stream_unlock(struct fill_stream *s)
{
	if (s->locked)
		(void)stream_lock(s, F_UNLCK);
	s->locked = false;
}

struct fill_stream *fill_stream_new(struct miss *m, int fd, uint64_t first,
				    uint64_t end)
{
	struct fill_stream *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->m = m;
	s->fd = fd;
	s->chunk = first;
	s->end = end;
	s->codec = codec_stream_new((enum codec_kind)m->ch->codec);
	s->sha = sha256_new();
	if (s->codec == NULL || s->sha == NULL) {
		fill_stream_free(s);
		return NULL;
	}
	return s;
}

void fill_stream_free(struct fill_stream *s)
{
	if (s == NULL)
		return;
	stream_unlock(s);
	codec_stream_free(s->codec);
	sha256_free(s->sha);
	free(s);
}

/* Return: 1 that was the last chunk, 0, -EBADMSG. */
static int stream_finish_chunk(struct fill_stream *s)
{
	struct digest d;

	if (!s->skip) {
		sha256_end(s->sha, &d);
		if (s->c.has_digest ? !digest_equal(&d, &s->c.digest)
				    : !s->m->unverified)
			return -EBADMSG;
		miss_present(s->m, s->chunk);
	}
	stream_unlock(s);
	s->chunk++;
	if (s->chunk == s->end)
		return 1;
	return stream_chunk(s);
}

/* Takes [p, p+n) at decoded position s->pos. */
static int stream_take(struct fill *f, struct fill_stream *s, const uint8_t *p,
		       size_t n, int *ret_disk)
{
	while (n > 0) {
		uint64_t start = s->c.inner_off;
		uint64_t end = start + s->c.len;
		size_t k;

		if (s->pos < start) {
			k = (size_t)MIN(start - s->pos, (uint64_t)n);
		} else {
			if (s->pos >= end)
				return -EBADMSG;
			k = (size_t)MIN(end - s->pos, (uint64_t)n);
			if (!s->skip) {
				int r = lane_write(&f->lane, p, k,
						   s->c.image_off +
							   (s->pos - start));

				if (r < 0) {
					*ret_disk = r;
					return r;
				}
				sha256_add(s->sha, p, k);
			}
		}
		s->pos += k;
		p += k;
		n -= k;
		if (s->pos == end) {
			int r = stream_finish_chunk(s);

			if (r != 0)
				return r;
		}
	}
	return 0;
}

int fill_stream_run(struct fill *f, struct fill_stream *s, const uint8_t *src,
		    size_t len, int *ret_disk)
{
	uint8_t *out = f->lane.scratch + WINDOW_BYTES;

	if (!s->begun) {
		int r = stream_chunk(s);

		if (r < 0)
			return r;
		s->begun = true;
	}

	for (;;) {
		size_t used = len, made = 0;
		int r = codec_stream_run(s->codec, src, &used, out,
					 WINDOW_BYTES, &made);

		if (r < 0)
			return r;
		src += used;
		len -= used;
		r = stream_take(f, s, out, made, ret_disk);
		if (r != 0)
			return r;
		if (used == 0 && made == 0)
			return len == 0 ? 0 : -EBADMSG;
	}
}

void fill_drop_locks(int fd)
{
	struct flock fl = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	(void)fcntl(fd, F_OFD_SETLK, &fl);
}
