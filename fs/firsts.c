/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/firsts.h"

#include <errno.h>
#include <unistd.h>

#include "common/io.h"
#include "common/lastrun.h"
#include "fs/miss.h"

#define LOG_MOD "firsts"
#include "common/log.h"

#define NONE UINT32_MAX
#define RANGE_BYTES_MAX KIB(512) /* of several members */

int firsts_start(struct firsts *f, int fd, const struct chunks *ch, int wake_fd)
{
	*f = (struct firsts){.ch = ch, .fd = fd, .wake_fd = wake_fd};
	f->seen = calloc((size_t)(ch->n / 64 + 1), sizeof(*f->seen));
	f->v = calloc(LASTRUN_CHUNKS_MAX, sizeof(*f->v));
	if (f->seen == NULL || f->v == NULL || ch->n > UINT32_MAX) {
		free(f->seen);
		free(f->v);
		*f = (struct firsts){.fd = -1};
		return -ENOMEM;
	}
	/* Release: pairs with acquire in firsts_read(). */
	atomic_store_explicit(&f->on, true, memory_order_release);
	return 0;
}

uint64_t firsts_since(const struct firsts *f)
{
	return f->v == NULL || f->fd < 0
		       ? FIRSTS_NOT_ON
		       : atomic_load_explicit(&f->since_ns,
					      memory_order_relaxed);
}

/* The numbers of a file, in @v [LASTRUN_CHUNKS_MAX]. Return: how many */
static uint32_t load(int fd, const struct chunks *ch, struct sha256 *h,
		     uint32_t *v)
{
	CLEANUP_FREE uint8_t *p = malloc(LASTRUN_BYTES_MAX);
	struct lastrun l = {
		.toc = ch->toc_digest,
		.n_chunks = ch->n,
		.v = v,
	};
	ssize_t len = p != NULL ? pread(fd, p, LASTRUN_BYTES_MAX, 0) : 0;

	if (len <= 0 || lastrun_parse(p, (size_t)len, h, &l) < 0)
		return 0;
	return l.n;
}

void firsts_resume(struct firsts *f, struct sha256 *h, uint64_t since_ns)
{
	CLEANUP_FREE uint32_t *v = calloc(LASTRUN_CHUNKS_MAX, sizeof(*v));
	uint32_t n = v != NULL ? load(f->fd, f->ch, h, v) : 0;

	for (uint32_t i = 0; i < n; i++)
		firsts_note(f, v[i], (uint64_t)v[i] + 1);
	atomic_store_explicit(&f->since_ns, since_ns, memory_order_relaxed);
}

void firsts_note(struct firsts *f, uint64_t first, uint64_t end)
{
	for (uint64_t i = first; i < end; i++) {
		uint64_t bit = UINT64_C(1) << (i % 64);
		uint32_t at;

		if ((atomic_fetch_or_explicit(&f->seen[i / 64], bit,
					      memory_order_relaxed) &
		     bit) != 0)
			continue;
		at = atomic_fetch_add_explicit(&f->n, 1u, memory_order_relaxed);
		/* A number more than it is: 0 is one that is not there yet. */
		if (at < LASTRUN_CHUNKS_MAX)
			atomic_store_explicit(&f->v[at], (uint32_t)i + 1,
					      memory_order_relaxed);
		if (at != 0 && at != LASTRUN_CHUNKS_MAX)
			continue;
		if (at == 0)
			atomic_store_explicit(&f->since_ns, io_now_ns(),
					      memory_order_relaxed);
		else
			atomic_store_explicit(&f->on, false,
					      memory_order_relaxed);
		miss_poke(f->wake_fd);
	}
}

static void save(struct firsts *f, struct sha256 *h)
{
	uint32_t n = MIN(atomic_load_explicit(&f->n, memory_order_relaxed),
			 LASTRUN_CHUNKS_MAX);
	CLEANUP_FREE uint8_t *p =
		malloc(LASTRUN_HEADER_BYTES + n * sizeof(uint32_t));
	CLEANUP_FREE uint32_t *v = calloc(n + 1u, sizeof(*v));
	struct lastrun l = {
		.toc = f->ch->toc_digest,
		.n_chunks = f->ch->n,
		.v = v,
	};
	int r;

	if (p == NULL || v == NULL)
		return;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t k =
			atomic_load_explicit(&f->v[i], memory_order_relaxed);

		if (k != 0)
			v[l.n++] = k - 1;
	}
	lastrun_print(&l, h, p);
	r = io_pwrite_all(f->fd, p,
			  LASTRUN_HEADER_BYTES + l.n * sizeof(uint32_t), 0);
	if (r < 0)
		log_warn("err=%s msg=\"what was read first is not kept\"",
			 err_symbol(r));
	else
		log_debug("msg=\"what was read first is kept\" chunks=%u", l.n);
}

void firsts_end(struct firsts *f, struct sha256 *h)
{
	if (f->v == NULL || f->fd < 0)
		return;
	atomic_store_explicit(&f->on, false, memory_order_relaxed);
	/* A mount that nobody has read from says nothing. */
	if (atomic_load_explicit(&f->n, memory_order_relaxed) > 0)
		save(f, h);
	(void)close(TAKE_FD(f->fd));
}

int firsts_tick(struct firsts *f, struct sha256 *h, uint64_t now_ns)
{
	uint64_t since_ns =
		atomic_load_explicit(&f->since_ns, memory_order_relaxed);

	if (f->v == NULL || f->fd < 0 || since_ns == 0)
		return -1;
	if (atomic_load_explicit(&f->on, memory_order_relaxed) &&
	    now_ns < since_ns + FIRSTS_NS)
		return (int)((since_ns + FIRSTS_NS - now_ns) / NSEC_PER_MSEC) +
		       1;
	firsts_end(f, h);
	return -1;
}

/* The members of [@n] chunks, those that follow one another as one. */
static void add_ranges(const struct chunks *ch, const uint32_t *v, uint32_t n,
		       struct link_hints *ret)
{
	for (uint32_t i = 0; i < n; i++) {
		struct layer_range *last =
			ret->n > 0 ? &ret->v[ret->n - 1] : NULL;
		struct chunk c;

		chunks_get(ch, v[i], &c);
		if (last != NULL && last->off + last->len == c.blob_off &&
		    last->len + c.blob_len <= RANGE_BYTES_MAX)
			last->len += c.blob_len;
		else if (last == NULL || last->off > c.blob_off ||
			 last->off + last->len < c.blob_off + c.blob_len)
			ret->v[ret->n++] = (struct layer_range){
				.off = c.blob_off,
				.len = c.blob_len,
			};
	}
}

size_t firsts_load(int fd, const struct chunks *ch, struct sha256 *h,
		   struct link_hints *ret)
{
	CLEANUP_FREE uint32_t *v = calloc(LASTRUN_CHUNKS_MAX, sizeof(*v));
	uint32_t n = v != NULL ? load(fd, ch, h, v) : 0;

	if (n == 0)
		return 0;
	ret->v = calloc(n, sizeof(*ret->v));
	if (ret->v == NULL)
		return 0;
	ret->cap = n;
	add_ranges(ch, v, n, ret);
	ret->state = LINK_HINTS_THERE;
	return ret->n;
}
