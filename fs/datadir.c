/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/datadir.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/erofs_format.h"

/* What is known while the tree is read. */
struct walk {
	const struct erofs_image *im;
	uint64_t *files;
	uint64_t *dirs; /* seen, so that a circle ends */
	uint64_t *stack;
	size_t n;
	size_t cap;
};

void datadir_init(struct datadir *d, const struct erofs_image *im,
		  const struct digest *toc_digest)
{
	d->im = im;
	datapath_dir(toc_digest, d->name);
	(void)pthread_mutex_init(&d->lock, NULL);
	atomic_init(&d->files, NULL);
}

void datadir_done(struct datadir *d)
{
	free(atomic_load_explicit(&d->files, memory_order_relaxed));
	(void)pthread_mutex_destroy(&d->lock);
}

void datadir_inode(struct erofs_inode *ret)
{
	*ret = (struct erofs_inode){
		.nid = DATADIR_INO,
		.mode = S_IFDIR | S_IRUSR | S_IXUSR,
		.nlink = 2,
	};
}

static uint64_t slots(const struct erofs_image *im)
{
	return im->map_len / EROFS_SLOT_BYTES;
}

static bool test_bit(const uint64_t *bits, uint64_t i)
{
	return (bits[i / 64] >> (i % 64) & 1) != 0;
}

static void set_bit(uint64_t *bits, uint64_t i)
{
	bits[i / 64] |= UINT64_C(1) << (i % 64);
}

static int push(struct walk *w, uint64_t nid)
{
	if (test_bit(w->dirs, nid))
		return 0;
	if (w->n == w->cap) {
		size_t cap = MAX(w->cap * 2, (size_t)256);
		uint64_t *stack = reallocarray(w->stack, cap, sizeof(*stack));

		if (stack == NULL)
			return -ENOMEM;
		w->stack = stack;
		w->cap = cap;
	}
	set_bit(w->dirs, nid);
	w->stack[w->n++] = nid;
	return 0;
}

static int read_names(struct walk *w, uint64_t nid)
{
	struct erofs_inode dir;
	struct erofs_dirent d;
	uint64_t pos = 0;
	int r = erofs_inode_get(w->im, nid, &dir);

	while (r == 0 && (r = erofs_readdir(w->im, &dir, pos, &d)) > 0) {
		r = d.nid < slots(w->im) ? 0 : -EBADMSG;
		if (r == 0 && d.dtype == DT_DIR)
			r = push(w, d.nid);
		else if (r == 0 && d.dtype == DT_REG)
			set_bit(w->files, d.nid);
		pos = d.next;
	}
	return r;
}

static int read_tree(const struct erofs_image *im, uint64_t **ret)
{
	size_t words = (size_t)(slots(im) / 64 + 1);
	CLEANUP_FREE uint64_t *files = calloc(words, sizeof(*files));
	CLEANUP_FREE uint64_t *dirs = calloc(words, sizeof(*dirs));
	struct walk w = {.im = im, .files = files, .dirs = dirs};
	int r;

	if (files == NULL || dirs == NULL)
		return -ENOMEM;
	r = im->root_nid < slots(im) ? push(&w, im->root_nid) : -EBADMSG;
	while (r == 0 && w.n > 0)
		r = read_names(&w, w.stack[--w.n]);
	free(w.stack);
	if (r == 0)
		*ret = TAKE_PTR(files);
	return r;
}

static int files_of(struct datadir *d, const uint64_t **ret)
{
	uint64_t *files = atomic_load_explicit(&d->files, memory_order_acquire);
	int r = 0;

	if (files == NULL) {
		(void)pthread_mutex_lock(&d->lock);
		files = atomic_load_explicit(&d->files, memory_order_relaxed);
		if (files == NULL) {
			r = read_tree(d->im, &files);
			if (r == 0)
				atomic_store_explicit(&d->files, files,
						      memory_order_release);
		}
		(void)pthread_mutex_unlock(&d->lock);
	}
	*ret = files;
	return r;
}

int datadir_find(struct datadir *d, const char *name, uint64_t *ret_nid)
{
	const uint64_t *files;
	struct erofs_inode in;
	uint64_t nid;
	int r;

	if (!datapath_nid(name, &nid) || nid >= slots(d->im))
		return -ENOENT;
	r = files_of(d, &files);
	if (r < 0)
		return r;
	if (!test_bit(files, nid))
		return -ENOENT;
	/* A directory may call regular what its inode does not. */
	r = erofs_inode_get(d->im, nid, &in);
	if (r == 0 && !S_ISREG(in.mode))
		r = -EBADMSG;
	if (r == 0)
		*ret_nid = nid;
	return r;
}
