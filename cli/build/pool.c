/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/build/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "cli/build/compress.h"

#define TEXT_BYTES_MAX MIB(64)

/**
 * struct pool - the ring
 * @filled:	batches taken so far, @handed submitted, @begun taken up by a
 *		thread, @back released: counters that only grow; a batch's
 *		place is its number modulo @n
 */
struct pool {
	pthread_mutex_t lock;
	pthread_cond_t work;
	pthread_cond_t done;
	/* immutable */
	struct pool_batch *ring;
	size_t n;
	int level;
	sem_t *slots;
	pthread_t *threads;
	unsigned n_threads;
	/* the filling thread only */
	uint64_t filled;
	uint64_t back;
	/* guarded by lock */
	uint64_t handed;
	uint64_t begun;
	bool stop;
	bool failed; /* a thread has no memory */
};

/* What a thread works with. @best: NULL as long as it is not needed */
struct tools {
	struct comp *comp;
	struct comp *best;
	struct sha256 *hash;
};

static void tools_done(struct tools *t)
{
	comp_free(t->comp);
	comp_free(t->best);
	sha256_free(t->hash);
}

/* Return: NULL where there is no memory */
static struct comp *comp_for(struct tools *t, const struct pool_member *m)
{
	if (!m->best)
		return t->comp;
	if (t->best == NULL)
		t->best = comp_new(COMP_LEVEL_BEST);
	return t->best;
}

/* Return: false where there is no memory */
static bool compress_batch(struct pool *p, struct tools *t,
			   struct pool_batch *b)
{
	b->out_len = 0;
	for (size_t i = 0; i < b->n_members; i++) {
		struct pool_member *m = &b->members[i];
		struct comp *c = comp_for(t, m);

		if (c == NULL)
			return false;
		while (p->slots != NULL && sem_wait(p->slots) < 0)
			assert(errno == EINTR);
		m->out_len = comp_member(c, b->in + m->in_off, m->in_len,
					 b->out + b->out_len);
		if (p->slots != NULL)
			(void)sem_post(p->slots);
		b->out_len += m->out_len;
	}
	for (size_t i = 0; i < b->n_notes; i++) {
		struct pool_note *n = &b->notes[i];

		if (n->len > 0)
			sha256_all(t->hash, b->in + n->in_off, n->len,
				   &n->digest);
	}
	return true;
}

static void *thread_main(void *arg)
{
	struct pool *p = arg;
	CLEANUP(tools_done)
	struct tools t = {.comp = comp_new(p->level), .hash = sha256_new()};
	bool able = t.comp != NULL && t.hash != NULL;

	(void)pthread_mutex_lock(&p->lock);
	while (able) {
		struct pool_batch *b;

		while (!p->stop && p->begun == p->handed)
			(void)pthread_cond_wait(&p->work, &p->lock);
		if (p->stop)
			break;
		b = &p->ring[p->begun++ % p->n];
		(void)pthread_mutex_unlock(&p->lock);
		able = compress_batch(p, &t, b);
		(void)pthread_mutex_lock(&p->lock);
		b->done = able;
		(void)pthread_cond_signal(&p->done);
	}
	if (!able && !p->stop) {
		p->failed = true;
		(void)pthread_cond_broadcast(&p->done);
	}
	(void)pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* Signals are for who called. */
static bool threads_start(struct pool *p, unsigned jobs)
{
	sigset_t all, old;
	int r = 0;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	while (r == 0 && p->n_threads < jobs) {
		r = pthread_create(&p->threads[p->n_threads], NULL, thread_main,
				   p);
		p->n_threads += r == 0;
	}
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r == 0;
}

struct pool *pool_new(unsigned jobs, size_t n_batches, int level, sem_t *slots)
{
	struct pool *p = calloc(1, sizeof(*p));

	assert(jobs >= 1 && n_batches >= 2);
	if (p == NULL)
		return NULL;
	*p = (struct pool){.n = n_batches, .level = level, .slots = slots};
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_cond_init(&p->work, NULL);
	(void)pthread_cond_init(&p->done, NULL);
	p->ring = calloc(n_batches, sizeof(*p->ring));
	p->threads = calloc(jobs, sizeof(*p->threads));
	for (size_t i = 0; p->ring != NULL && i < n_batches; i++)
		p->ring[i].text.max = TEXT_BYTES_MAX;
	if (p->ring == NULL || p->threads == NULL || !threads_start(p, jobs)) {
		pool_free(p);
		return NULL;
	}
	return p;
}

void pool_free(struct pool *p)
{
	if (p == NULL)
		return;
	(void)pthread_mutex_lock(&p->lock);
	p->stop = true;
	(void)pthread_cond_broadcast(&p->work);
	(void)pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->n_threads; i++)
		(void)pthread_join(p->threads[i], NULL);
	for (size_t i = 0; p->ring != NULL && i < p->n; i++) {
		free(p->ring[i].in);
		free(p->ring[i].out);
		free(p->ring[i].members);
		free(p->ring[i].notes);
		buf_done(&p->ring[i].text);
	}
	(void)pthread_cond_destroy(&p->done);
	(void)pthread_cond_destroy(&p->work);
	(void)pthread_mutex_destroy(&p->lock);
	free(p->threads);
	free(p->ring);
	free(p);
}

struct pool_batch *pool_take(struct pool *p)
{
	if (p->filled - p->back == p->n)
		return NULL;
	return &p->ring[p->filled++ % p->n];
}

int pool_submit(struct pool *p, struct pool_batch *b)
{
	size_t need = 0;

	for (size_t i = 0; i < b->n_members; i++)
		need += comp_bound(b->members[i].in_len);
	if (need > b->out_cap) {
		free(b->out);
		b->out_cap = 0;
		b->out = malloc(need);
		if (b->out == NULL)
			return -ENOMEM;
		b->out_cap = need;
	}
	(void)pthread_mutex_lock(&p->lock);
	p->handed++;
	(void)pthread_cond_signal(&p->work);
	(void)pthread_mutex_unlock(&p->lock);
	return 0;
}

struct pool_batch *pool_wait(struct pool *p)
{
	struct pool_batch *b = &p->ring[p->back % p->n];

	(void)pthread_mutex_lock(&p->lock);
	if (p->back == p->handed)
		b = NULL;
	while (b != NULL && !b->done && !p->failed)
		(void)pthread_cond_wait(&p->done, &p->lock);
	if (b != NULL && !b->done)
		b = NULL;
	(void)pthread_mutex_unlock(&p->lock);
	return b;
}

void pool_release(struct pool *p, struct pool_batch *b)
{
	assert(b == &p->ring[p->back % p->n]);
	b->in_len = b->out_len = 0;
	b->n_members = b->n_notes = 0;
	b->done = false;
	buf_clear(&b->text);
	p->back++;
}

/* Room for one more element. */
static bool grow(void **p, size_t n, size_t *cap, size_t size)
{
	size_t want = MAX((size_t)64, *cap * 2);
	void *q;

	if (n < *cap)
		return true;
	q = reallocarray(*p, want, size);
	if (q == NULL)
		return false;
	*p = q;
	*cap = want;
	return true;
}

struct pool_member *pool_member_add(struct pool_batch *b)
{
	void *p = b->members;

	if (!grow(&p, b->n_members, &b->members_cap, sizeof(*b->members)))
		return NULL;
	b->members = p;
	b->members[b->n_members] = (struct pool_member){.in_off = b->in_len};
	return &b->members[b->n_members++];
}

struct pool_note *pool_note_add(struct pool_batch *b)
{
	void *p = b->notes;

	if (!grow(&p, b->n_notes, &b->notes_cap, sizeof(*b->notes)))
		return NULL;
	b->notes = p;
	b->notes[b->n_notes] = (struct pool_note){.text_off = b->text.len};
	return &b->notes[b->n_notes++];
}

uint8_t *pool_in(struct pool_batch *b, size_t n)
{
	size_t cap;
	uint8_t *p;

	if (n <= b->in_cap - b->in_len)
		return b->in + b->in_len;
	cap = b->in_len + MAX(n, b->in_cap / 4);
	p = realloc(b->in, cap);
	if (p == NULL)
		return NULL;
	b->in = p;
	b->in_cap = cap;
	return b->in + b->in_len;
}
