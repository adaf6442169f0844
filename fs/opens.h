/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: who has which file of a layer open, where OPEN is answered
 * (fs/passthru.h), and which files the kernel has backing files of.
 *
 * The kernel fails an open() with EIO where its answer does not fit the opens
 * there are: while a file is open in one way (by estargzfs, or with a backing
 * file, and then with that very one), it must be opened so. It does not say
 * what is open, so that is written down, where it outlives worker and
 * monitor: in a file, which the worker maps.
 *
 * The opens are a set, not a count, so that what is done twice is done once.
 * Each has a slot, which holds the number of its OPEN request, and is one
 * store of that number: a worker can be killed at any instruction. A request
 * that is sent again to the next worker finds its slot taken; a RELEASE names
 * slot and request, and finds nothing the second time. A slot is taken before
 * the answer and given up after the kernel has, so there may be one too many for a
 * while, never one too few. What is counted from it is each worker's own.
 *
 * The numbers of backing files are the monitor's (fs/backing.h), which writes
 * them with pwrite(2): it maps nothing that a worker could truncate.
 */
#ifndef FS_OPENS_H
#define FS_OPENS_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/base.h"
#include "common/err.h"

#define OPENS_VERSION 1u
#define OPENS_IDS_MAX 1024u
#define OPENS_MAX (1u << 20) /* more is ENFILE */

/* Of a connection; fixed by its first worker. */
enum opens_mode {
	OPENS_UNDECIDED = 0,
	OPENS_NOOPEN,
	OPENS_PASSTHROUGH,
};

/* What a file begins with; read and written, not mapped. */
struct opens_mark {
	uint32_t version;
	uint32_t mode; /* enum opens_mode */
};

/* Written by the monitor. */
struct opens_id {
	uint64_t nid;
	uint32_t id; /* 0: free */
	uint32_t reserved;
};

/* @unique: of the OPEN request, 0: free; @nid is then the next free one, or 0 */
struct opens_slot {
	_Atomic uint64_t unique;
	_Atomic uint64_t nid;
	_Atomic uint32_t id; /* of the backing file; 0: none */
	uint32_t reserved;
};

/* Fresh, it is all zeros. */
struct opens_file {
	struct opens_mark mark;
	_Atomic uint32_t used; /* slots from here on were never taken */
	uint32_t reserved[1021];
	struct opens_id ids[OPENS_IDS_MAX];
	struct opens_slot slots[OPENS_MAX];
};

/* What a worker knows of an inode. */
struct opens_inode {
	uint32_t n;   /* opens */
	uint32_t id;  /* of the backing file that there is; 0: none */
	bool through; /* open with it; only where @n > 0 */
};

/**
 * struct opens - a worker's view
 * @free:	slot to be taken next, plus one; 0: none that was ever used
 * @n_ids:	backing files; @n_through: opens with one
 * @hand:	where opens_evict() looks next
 */
struct opens {
	struct opens_file *f;
	struct opens_inode *inodes; /* [@n_nids] */
	uint64_t n_nids;
	pthread_mutex_t lock;
	/* guarded by lock */
	uint32_t free;
	uint32_t n_ids;
	uint32_t n_through;
	bool stopped;
	uint64_t hand;
};

/* An empty file: cleared, and of the right size. Return: 0, -errno */
int opens_format(int fd);

/**
 * opens_attach() - map the file, and see what is there
 * @fd:		borrowed
 * @n_nids:	inode numbers are below that
 *
 * What does not make sense in it is left out: it was written by a worker.
 * Return: 0; -EPROTO: of another size; -errno
 */
int opens_attach(struct opens *o, int fd, uint64_t n_nids, struct err *e);
void opens_detach(struct opens *o);

/* How the connection was begun. NOOPEN where the file says nothing sensible. */
enum opens_mode opens_recorded(int fd);
/* Return: 0, -errno */
int opens_record(int fd, enum opens_mode mode);

/* No more backing files: what is open with one keeps it, and is opened with it. */
void opens_stop(struct opens *o);

/**
 * opens_open() - note an open, before it is answered
 * @unique:	of the request, without the mark of one that is sent again
 * @resent:	it may have been noted
 * @through:	with a backing file, where the file's state allows it
 * @ret_fh:	for opens_release(); @ret_id: backing file, 0: without
 *
 * Context: any thread
 * Return: 0; else nothing is noted: -EAGAIN: with a backing file, of which no
 * number is known; -ENFILE; -ENOSYS: stopped, and nothing is open with one, so that
 * the kernel need not ask any more (where something is, it would get EIO)
 */
int opens_open(struct opens *o, uint64_t nid, uint64_t unique, bool resent,
	       bool through, uint64_t *ret_fh, uint32_t *ret_id);
/* Any number of times. */
void opens_release(struct opens *o, uint64_t fh);

/* The monitor has opened a backing file. */
void opens_learn(struct opens *o, uint64_t nid, uint32_t id);
/* Where OPENS_IDS_MAX are known: forgets one of a file that nobody has open.
 * Return: whether *@ret_nid is to be closed */
bool opens_evict(struct opens *o, uint64_t *ret_nid);

#endif
