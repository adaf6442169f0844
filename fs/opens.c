/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/opens.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"

/* A handle is both, so that an old one does not release the slot's next user:
 * requests are numbered from 2 on in steps of 2. */
#define SLOT_BITS 20u
static_assert(OPENS_MAX == 1u << SLOT_BITS, "a slot's number fits");
static_assert(sizeof(struct opens_id) == 16, "no padding");
static_assert(sizeof(struct opens_slot) == 24, "no padding");
static_assert(offsetof(struct opens_file, ids) == 4096, "no padding");

static uint64_t fh_of(uint64_t unique, uint32_t slot)
{
	return (unique >> 1) << SLOT_BITS | slot;
}

static uint64_t get(const _Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static uint32_t get32(const _Atomic uint32_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

int opens_format(int fd)
{
	if (ftruncate(fd, 0) < 0 ||
	    ftruncate(fd, (off_t)sizeof(struct opens_file)) < 0)
		return -errno;
	return 0;
}

/* Puts a slot that nobody uses in front of the list. */
static void put_free(struct opens *o, uint32_t slot)
{
	atomic_store_explicit(&o->f->slots[slot].nid, o->free,
			      memory_order_relaxed);
	o->free = slot + 1;
}

static void count(struct opens *o, uint64_t nid, uint32_t id)
{
	struct opens_inode *in = &o->inodes[nid];

	in->n++;
	in->through = id != 0;
	/* What is open counts, whatever else is said. */
	if (id != 0) {
		in->id = id;
		o->n_through++;
	}
}

/* From the slots and the numbers of backing files to what is known of inodes. */
static void recount(struct opens *o)
{
	struct opens_file *f = o->f;
	uint32_t used = MIN(get32(&f->used), OPENS_MAX);

	for (uint32_t i = 0; i < OPENS_IDS_MAX; i++) {
		if (f->ids[i].id == 0 || f->ids[i].nid >= o->n_nids)
			continue;
		o->inodes[f->ids[i].nid].id = f->ids[i].id;
		o->n_ids++;
	}
	for (uint32_t i = 0; i < used; i++) {
		/* Pairs with the release in take(). */
		uint64_t unique = atomic_load_explicit(&f->slots[i].unique,
						       memory_order_acquire);
		uint64_t nid = get(&f->slots[i].nid);

		if (unique == 0)
			put_free(o, i);
		else if (nid < o->n_nids)
			count(o, nid, get32(&f->slots[i].id));
	}
}

int opens_attach(struct opens *o, int fd, uint64_t n_nids, struct err *e)
{
	struct stat st;
	void *p;

	*o = (struct opens){.n_nids = n_nids};
	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "opens: %s", err_name(errno));
	if ((uint64_t)st.st_size != sizeof(struct opens_file))
		return err_set(e, -EPROTO, "opens: of another size");
	o->inodes = calloc(n_nids, sizeof(*o->inodes));
	if (o->inodes == NULL)
		return err_no_memory(e);
	p = mmap(NULL, sizeof(struct opens_file), PROT_READ | PROT_WRITE,
		 MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_set(e, -errno, "opens: %s", err_name(errno));
	o->f = p;
	(void)pthread_mutex_init(&o->lock, NULL);
	recount(o);
	return 0;
}

void opens_detach(struct opens *o)
{
	if (o->f != NULL)
		(void)munmap(o->f, sizeof(*o->f));
	free(o->inodes);
	*o = (struct opens){0};
}

enum opens_mode opens_recorded(int fd)
{
	struct opens_mark m;

	if (io_pread_all(fd, &m, sizeof(m), 0) < 0)
		return OPENS_NOOPEN;
	if (m.version == 0 && m.mode == OPENS_UNDECIDED)
		return OPENS_UNDECIDED;
	return m.version == OPENS_VERSION && m.mode == OPENS_PASSTHROUGH
		       ? OPENS_PASSTHROUGH
		       : OPENS_NOOPEN;
}

int opens_record(int fd, enum opens_mode mode)
{
	const struct opens_mark m = {.version = OPENS_VERSION, .mode = mode};

	return io_pwrite_all(fd, &m, sizeof(m), 0);
}

void opens_stop(struct opens *o)
{
	(void)pthread_mutex_lock(&o->lock);
	o->stopped = true;
	(void)pthread_mutex_unlock(&o->lock);
}

/* A request that was noted by a worker that died. */
static bool find(const struct opens *o, uint64_t unique, uint64_t nid,
		 uint32_t *ret)
{
	uint32_t used = MIN(get32(&o->f->used), OPENS_MAX);

	for (uint32_t i = 0; i < used; i++) {
		if (get(&o->f->slots[i].unique) == unique &&
		    get(&o->f->slots[i].nid) == nid) {
			*ret = i;
			return true;
		}
	}
	return false;
}

static bool take(struct opens *o, uint64_t unique, uint64_t nid, uint32_t id,
		 uint32_t *ret)
{
	struct opens_file *f = o->f;
	uint32_t used = get32(&f->used);
	uint32_t slot = o->free - 1;

	if (o->free != 0 && slot < OPENS_MAX) {
		o->free = (uint32_t)get(&f->slots[slot].nid);
	} else {
		if (used >= OPENS_MAX)
			return false;
		slot = used;
		atomic_store_explicit(&f->used, used + 1, memory_order_relaxed);
	}
	atomic_store_explicit(&f->slots[slot].nid, nid, memory_order_relaxed);
	atomic_store_explicit(&f->slots[slot].id, id, memory_order_relaxed);
	/* Pairs with the acquire in recount(), in another process. */
	atomic_store_explicit(&f->slots[slot].unique, unique,
			      memory_order_release);
	count(o, nid, id);
	*ret = slot;
	return true;
}

static int open_locked(struct opens *o, uint64_t nid, uint64_t unique,
		       bool resent, bool through, uint32_t *ret_slot,
		       uint32_t *ret_id)
{
	const struct opens_inode *in = &o->inodes[nid];

	if (resent && find(o, unique, nid, ret_slot)) {
		*ret_id = get32(&o->f->slots[*ret_slot].id);
		return 0;
	}
	if (o->stopped && o->n_through == 0)
		return -ENOSYS;
	if (in->n > 0)
		through = in->through;
	else if (o->stopped)
		through = false;
	if (through && in->id == 0)
		return -EAGAIN;
	*ret_id = through ? in->id : 0;
	return take(o, unique, nid, *ret_id, ret_slot) ? 0 : -ENFILE;
}

int opens_open(struct opens *o, uint64_t nid, uint64_t unique, bool resent,
	       bool through, uint64_t *ret_fh, uint32_t *ret_id)
{
	uint32_t slot;
	int r;

	assert(nid < o->n_nids);
	assert(unique != 0);
	(void)pthread_mutex_lock(&o->lock);
	r = open_locked(o, nid, unique, resent, through, &slot, ret_id);
	(void)pthread_mutex_unlock(&o->lock);
	if (r == 0)
		*ret_fh = fh_of(unique, slot);
	return r;
}

void opens_release(struct opens *o, uint64_t fh)
{
	uint32_t i = (uint32_t)fh & (OPENS_MAX - 1);
	struct opens_slot *s = &o->f->slots[i];
	uint64_t unique, nid;

	(void)pthread_mutex_lock(&o->lock);
	unique = get(&s->unique);
	nid = get(&s->nid);
	if (unique != 0 && fh_of(unique, i) == fh) {
		atomic_store_explicit(&s->unique, 0, memory_order_release);
		if (nid < o->n_nids && o->inodes[nid].n > 0)
			o->inodes[nid].n--;
		if (get32(&s->id) != 0 && o->n_through > 0)
			o->n_through--;
		put_free(o, i);
	}
	(void)pthread_mutex_unlock(&o->lock);
}

void opens_learn(struct opens *o, uint64_t nid, uint32_t id)
{
	if (nid >= o->n_nids)
		return;
	(void)pthread_mutex_lock(&o->lock);
	if (o->inodes[nid].id == 0)
		o->n_ids++;
	/* Never another one under an open file. */
	if (o->inodes[nid].n == 0 || !o->inodes[nid].through)
		o->inodes[nid].id = id;
	(void)pthread_mutex_unlock(&o->lock);
}

bool opens_evict(struct opens *o, uint64_t *ret_nid)
{
	bool found = false;

	(void)pthread_mutex_lock(&o->lock);
	for (uint64_t i = 0;
	     !found && o->n_ids >= OPENS_IDS_MAX && i < o->n_nids; i++) {
		struct opens_inode *in;

		o->hand = o->hand + 1 < o->n_nids ? o->hand + 1 : 0;
		in = &o->inodes[o->hand];
		found = in->id != 0 && (in->n == 0 || !in->through);
		if (found) {
			in->id = 0;
			o->n_ids--;
			*ret_nid = o->hand;
		}
	}
	(void)pthread_mutex_unlock(&o->lock);
	return found;
}
