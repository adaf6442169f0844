/* SPDX-License-Identifier: Apache-2.0 */
/* A layer and the miss engine on it. */
#ifndef TESTS_UNIT_MISSLAB_H
#define TESTS_UNIT_MISSLAB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include "common/chunks.h"
#include "common/io.h"
#include "common/log.h"
#include "common/present.h"
#include "common/proto.h"
#include "fs/fill.h"
#include "fs/miss.h"

#define CHUNK KIB(64)
#define N_CHUNKS 64u
#define SPAN (N_CHUNKS * CHUNK)
#define WAIT_MS 60000
#define THREADS 2u

static const uint8_t boot_id[16] = "boot";

/**
 * struct lab - a layer of N_CHUNKS chunks, an engine on it, and the far end
 * of its link
 */
struct lab {
	uint8_t *data; /* [SPAN] what the file holds */
	uint8_t *blob;
	size_t blob_len;
	uint8_t *table;
	size_t table_len;
	struct chunks ch;
	struct present pr;
	void *present_map;
	int cache_fd;
	struct stats *st;
	struct miss m;
	struct lane lane; /* of the main thread */
	struct fill fills[THREADS];
	pthread_t threads[THREADS];
	int far; /* the fetcher's end */
	uint8_t *arena;
	/* answers */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool lane_optional; /* a read found its bytes itself */
	unsigned n_ready;
	unsigned n_failed;
	int last_error;
	uint8_t *got; /* [SPAN] */
};

static void on_ready(void *arg, struct lane *lane, struct waiter *w)
{
	struct lab *l = arg;
	uint8_t *p = malloc(w->size);

	assert_non_null(p);
	if (w->bounce != NULL)
		memcpy(p, w->bounce, w->size);
	else
		assert_int_equal(
			pread(l->cache_fd, p, w->size, (off_t)w->image_off),
			w->size);
	/* Every answer comes with a lane to read by; ours is a file. */
	assert_true(lane != NULL || l->lane_optional);
	pthread_mutex_lock(&l->lock);
	memcpy(l->got + w->image_off - CHUNK, p, w->size);
	l->n_ready++;
	pthread_cond_broadcast(&l->cond);
	pthread_mutex_unlock(&l->lock);
	free(p);
}

static void on_failed(void *arg, struct waiter *w)
{
	struct lab *l = arg;

	pthread_mutex_lock(&l->lock);
	l->n_failed++;
	l->last_error = w->error;
	pthread_cond_broadcast(&l->cond);
	pthread_mutex_unlock(&l->lock);
}

/* Waits until so many reads have been answered. */
static void await(struct lab *l, unsigned n_ready, unsigned n_failed)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_MS / 1000;
	pthread_mutex_lock(&l->lock);
	while (l->n_ready < n_ready || l->n_failed < n_failed) {
		if (pthread_cond_timedwait(&l->cond, &l->lock, &until) != 0)
			break;
	}
	assert_int_equal(l->n_ready, n_ready);
	assert_int_equal(l->n_failed, n_failed);
	pthread_mutex_unlock(&l->lock);
}

static size_t gzip(const uint8_t *p, size_t n, uint8_t *out, size_t cap)
{
	z_stream z = {0};
	size_t len;

	assert_int_equal(
		deflateInit2(&z, 1, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY),
		Z_OK);
	z.next_in = (Bytef *)(uintptr_t)p;
	z.avail_in = (uInt)n;
	z.next_out = out;
	z.avail_out = (uInt)cap;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	len = z.total_out;
	deflateEnd(&z);
	return len;
}

/* A blob of members of @per chunks each, and its chunk table. */
static void make_layer(struct lab *l, unsigned per)
{
	struct chunks_header_le h = {.magic = "eszchunk"};
	struct sha256 *sha = sha256_new();
	struct chunk_le *c;
	struct err e = {0};
	size_t cap = SPAN + KIB(64) * N_CHUNKS;

	l->data = malloc(SPAN);
	l->blob = malloc(cap);
	l->got = calloc(1, SPAN);
	l->table_len = sizeof(h) + N_CHUNKS * sizeof(*c);
	l->table = calloc(1, l->table_len);
	assert_non_null(l->data);
	assert_non_null(l->blob);
	assert_non_null(l->table);
	for (size_t i = 0; i < SPAN; i++)
		l->data[i] = (uint8_t)((i * 2654435761u) >> 13);
	c = (struct chunk_le *)(l->table + sizeof(h));
	for (unsigned i = 0; i < N_CHUNKS; i += per) {
		size_t n = gzip(l->data + i * CHUNK, per * CHUNK,
				l->blob + l->blob_len, cap - l->blob_len);

		for (unsigned k = 0; k < per; k++) {
			struct digest d;

			sha256_all(sha, l->data + (i + k) * CHUNK, CHUNK, &d);
			c[i + k] = (struct chunk_le){
				.blob_off = htole64(l->blob_len),
				.blob_len = htole64(n),
				.inner_off = htole64(k * CHUNK),
				.image_off = htole64((i + k) * CHUNK + CHUNK),
				.len = htole64(CHUNK),
			};
			memcpy(c[i + k].digest, d.b, sizeof(d.b));
		}
		l->blob_len += n;
	}
	h.version = htole32(CHUNKS_VERSION);
	h.blob_size = htole64(l->blob_len);
	h.toc_off = htole64(l->blob_len);
	h.image_bytes = htole64(SPAN + CHUNK);
	h.meta_len = htole64(CHUNK);
	h.n_chunks = htole64(N_CHUNKS);
	h.codec = htole32(CODEC_GZIP);
	memcpy(l->table, &h, sizeof(h));
	assert_int_equal(chunks_open(&l->ch, l->table, l->table_len, &e), 0);
	sha256_free(sha);
}

/* Starts the engine. @cache: -1 for a temporary file. */
static void start(struct lab *l, unsigned per, int cache, uint64_t timeout_ms)
{
	struct err e = {0};
	char path[] = "/tmp/test-miss.XXXXXX";
	uint8_t index[32] = {0};
	size_t n;
	int sv[2];

	memset(l, 0, sizeof(*l));
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->cond, NULL);
	make_layer(l, per);
	l->cache_fd = cache;
	if (cache < 0) {
		l->cache_fd = mkstemp(path);
		assert_true(l->cache_fd >= 0);
		unlink(path);
		assert_int_equal(ftruncate(l->cache_fd, SPAN + CHUNK), 0);
	}
	n = (size_t)present_file_bytes(N_CHUNKS);
	l->present_map = mmap(NULL, n, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(l->present_map, MAP_FAILED);
	present_init(l->present_map, n, N_CHUNKS, index, boot_id);
	assert_int_equal(present_open(&l->pr, l->present_map, n, N_CHUNKS,
				      index, boot_id, true, &e),
			 0);
	l->st = stats_new();
	assert_int_equal(miss_init(&l->m, &e), 0);
	l->m.ch = &l->ch;
	l->m.pr = &l->pr;
	l->m.st = l->st;
	l->m.ops = (struct miss_ops){on_ready, on_failed, l};
	l->m.read_timeout_ns = timeout_ms * NSEC_PER_MSEC;
	l->m.nobackground = true;
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	l->m.link.sock = sv[0];
	l->m.link.handle = 1;
	l->far = sv[1];
	l->arena = l->m.link.arena;
	assert_int_equal(lane_init(&l->lane, MIB(1)), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		assert_int_equal(fill_init(&l->fills[i]), 0);
		assert_int_equal(lane_set_file(&l->fills[i].lane, l->cache_fd),
				 0);
	}
}

#endif
