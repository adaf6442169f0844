/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One image of a chain's metadata: breadth first over the merged tree, each
 * directory a merge of the sorted names of the layers that have it. No work
 * is done twice: a directory of a layer has one parent, and its bytes are
 * counted against the image that they are in.
 */
#include "config.h"

#include "common/merge.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/datapath.h"
#include "common/erofs_format.h"
#include "common/erofs_write.h"
#include "common/limits.h"
#include "common/rd.h"

#define MERGE_VERSION 1u
#define NONE UINT32_MAX
#define ARENA_BLOCK_BYTES KIB(256)
#define LINKS_MIN 1024u

/* A directory in a layer. */
struct source {
	uint64_t nid;
	uint32_t layer;
};

/* A directory of the image: the [@n] sources that it is merged from, topmost
 * first. */
struct dir {
	uint32_t inode;
	uint32_t n;
	size_t first;
};

/**
 * struct cursor - at a name of a directory in a layer
 * @head:	the name's first 8 bytes as a big-endian number, NULs behind the
 *		end: mostly decides without a look at the name
 */
struct cursor {
	uint64_t head;
	struct erofs_dirent d;
	struct erofs_inode dir;
	uint32_t layer;
};

/**
 * struct input - what is known of a layer
 * @seen:	bitmap by nid: directories that were entered
 * @dir_bytes:	and the bytes that these had
 */
struct input {
	const struct merge_layer *l;
	uint64_t *seen;
	uint64_t dir_bytes;
	char data_dir[DATAPATH_DIR_BYTES];
};

/* A file with several names in its layer, in an open-addressing table; @inode
 * NONE: free. */
struct link {
	uint64_t nid;
	uint32_t layer;
	uint32_t inode;
};

struct arena_block {
	struct arena_block *next;
	size_t used;
	size_t cap;
	_Alignas(16) uint8_t p[];
};

/**
 * struct merge - everything merge_build() allocates
 * @dirs:	in the order of their inodes; of those the first are done
 * @cursors:	a heap by name and layer, of the directory at hand
 * @xattrs:	scratch for one inode
 */
struct merge {
	struct input *in;
	size_t n_in;
	bool opaque_user;
	struct erofs_w w;
	size_t cap_inodes;
	struct erofs_w_dirent *dirents;
	size_t cap_dirents;
	struct dir *dirs;
	size_t n_dirs, cap_dirs;
	struct source *sources;
	size_t n_sources, cap_sources;
	struct cursor *cursors;
	size_t n_cursors;
	struct link *links;
	size_t n_links, cap_links;
	struct erofs_w_xattr *xattrs;
	size_t n_xattrs, cap_xattrs;
	size_t n_xattrs_all;
	struct arena_block *arena;
};

static void merge_done(struct merge *m)
{
	for (size_t i = 0; m->in != NULL && i < m->n_in; i++)
		free(m->in[i].seen);
	while (m->arena != NULL) {
		struct arena_block *next = m->arena->next;

		free(m->arena);
		m->arena = next;
	}
	free(m->in);
	free(m->w.inodes);
	free(m->dirents);
	free(m->dirs);
	free(m->sources);
	free(m->cursors);
	free(m->links);
	free(m->xattrs);
}

int merge_key(const struct digest *tocs, size_t n, bool opaque_user,
	      struct digest *ret)
{
	struct sha256 *h CLEANUP(sha256_free_cleanup) = sha256_new();
	uint8_t head[24] = "eszmerge";

	if (h == NULL)
		return -ENOMEM;
	le32_store(head + 8, MERGE_VERSION);
	le32_store(head + 12, opaque_user);
	le64_store(head + 16, n);
	sha256_start(h);
	sha256_add(h, head, sizeof(head));
	for (size_t i = 0; i < n; i++)
		sha256_add(h, tocs[i].b, DIGEST_BYTES);
	sha256_end(h, ret);
	return 0;
}

/* ---- memory ------------------------------------------------------------ */

/* Room for one more of @size bytes in [*@cap] at *@p, of which @n are used. */
static int grow(void *p, size_t n, size_t *cap, size_t size)
{
	void *old, *new;
	size_t want = *cap * 2 + 256;

	if (n < *cap)
		return 0;
	memcpy(&old, p, sizeof(old));
	new = reallocarray(old, want, size);
	if (new == NULL)
		return -ENOMEM;
	memcpy(p, &new, sizeof(new));
	*cap = want;
	return 0;
}

/* Bytes that stay where they are. */
static void *arena_alloc(struct merge *m, size_t n)
{
	struct arena_block *b = m->arena;
	void *p;

	n = ALIGN_UP(n, (size_t)16);
	if (b == NULL || n > b->cap - b->used) {
		size_t cap = MAX(n, (size_t)ARENA_BLOCK_BYTES);

		b = malloc(sizeof(*b) + cap);
		if (b == NULL)
			return NULL;
		*b = (struct arena_block){.next = m->arena, .cap = cap};
		m->arena = b;
	}
	p = b->p + b->used;
	b->used += n;
	return p;
}

/* ---- files with several names ------------------------------------------ */

/* Where (layer, nid) is, or would be. */
static struct link *link_at(struct link *links, size_t cap, uint32_t layer,
			    uint64_t nid)
{
	uint64_t h =
		(nid ^ (uint64_t)layer << 40) * UINT64_C(0x9e3779b97f4a7c15);
	size_t i = (size_t)(h >> 32) & (cap - 1);

	while (links[i].inode != NONE &&
	       (links[i].nid != nid || links[i].layer != layer))
		i = (i + 1) & (cap - 1);
	return &links[i];
}

/* At most half of the table is used. */
static int links_grow(struct merge *m)
{
	size_t cap = MAX(m->cap_links * 2, (size_t)LINKS_MIN);
	struct link *links;

	if (m->n_links < m->cap_links / 2)
		return 0;
	links = reallocarray(NULL, cap, sizeof(*links));
	if (links == NULL)
		return -ENOMEM;
	memset(links, 0xff, cap * sizeof(*links)); /* NONE */
	for (size_t i = 0; i < m->cap_links; i++) {
		const struct link *l = &m->links[i];

		if (l->inode != NONE)
			*link_at(links, cap, l->layer, l->nid) = *l;
	}
	free(m->links);
	m->links = links;
	m->cap_links = cap;
	return 0;
}

/* ---- attributes -------------------------------------------------------- */

static bool is_overlay_xattr(const struct erofs_xattr *x)
{
	return (x->index == EROFS_XATTR_TRUSTED ||
		x->index == EROFS_XATTR_USER) &&
	       x->name_len >= 8 && memcmp(x->name, "overlay.", 8) == 0;
}

static int add_xattr(struct merge *m, const struct erofs_w_xattr *x)
{
	int r = grow(&m->xattrs, m->n_xattrs, &m->cap_xattrs,
		     sizeof(*m->xattrs));

	if (r == 0)
		m->xattrs[m->n_xattrs++] = *x;
	return r;
}

/* What sends overlayfs to the data. First, because they are always asked for. */
static int add_redirect(struct merge *m, uint32_t layer, uint64_t nid)
{
	static const char metacopy[] = "overlay.metacopy";
	static const char redirect[] = "overlay.redirect";
	struct erofs_w_xattr x = {
		.name = metacopy,
		.name_len = sizeof(metacopy) - 1,
		.index =
			m->opaque_user ? EROFS_XATTR_USER : EROFS_XATTR_TRUSTED,
	};
	char *path = arena_alloc(m, DATAPATH_BYTES);
	int r = path == NULL ? -ENOMEM : add_xattr(m, &x);

	if (r < 0)
		return r;
	x.value_len = (uint16_t)snprintf(path, DATAPATH_BYTES, "/%s/%" PRIu64,
					 m->in[layer].data_dir, nid);
	x.value = (const uint8_t *)path;
	x.name = redirect;
	x.name_len = sizeof(redirect) - 1;
	return add_xattr(m, &x);
}

/* The layer's, but for orders to overlayfs. */
static int copy_xattrs(struct merge *m, const struct erofs_image *im,
		       const struct erofs_inode *in)
{
	struct erofs_xattr_iter it;
	struct erofs_xattr x;
	int r = erofs_xattr_begin(&it, im, in);

	while (r == 0 && (r = erofs_xattr_next(&it, &x)) > 0) {
		const struct erofs_w_xattr wx = {
			.name = x.name,
			.name_len = (uint8_t)x.name_len,
			.value = x.value,
			.value_len = (uint16_t)x.value_len,
			.index = x.index,
		};

		if (erofs_xattr_prefix(x.index) == NULL)
			return -EBADMSG;
		r = is_overlay_xattr(&x) ? 0 : add_xattr(m, &wx);
	}
	return r;
}

static int set_xattrs(struct merge *m, uint32_t layer,
		      const struct erofs_inode *in, struct erofs_w_inode *out)
{
	struct erofs_w_xattr *kept;
	int r = 0;

	m->n_xattrs = 0;
	if (out->hole)
		r = add_redirect(m, layer, in->nid);
	if (r == 0)
		r = copy_xattrs(m, &m->in[layer].l->im, in);
	if (r < 0 || m->n_xattrs == 0)
		return r;
	m->n_xattrs_all += m->n_xattrs;
	if (m->n_xattrs_all > MERGE_XATTRS_MAX)
		return -EOVERFLOW;
	kept = arena_alloc(m, m->n_xattrs * sizeof(*kept));
	if (kept == NULL)
		return -ENOMEM;
	memcpy(kept, m->xattrs, m->n_xattrs * sizeof(*kept));
	out->xattrs = kept;
	out->n_xattrs = (uint32_t)m->n_xattrs;
	return 0;
}

/* ---- inodes and names -------------------------------------------------- */

/* Whether it hides what is below it: 0 no, 1 yes, -EBADMSG. */
static int is_opaque(const struct merge *m, const struct erofs_image *im,
		     const struct erofs_inode *in)
{
	const uint8_t *value;
	size_t len;
	int r = erofs_xattr_get(im, in,
				m->opaque_user ? "user.overlay.opaque"
					       : "trusted.overlay.opaque",
				&value, &len);

	if (r == -ENODATA)
		return 0;
	return r < 0 ? r : len == 1 && value[0] == 'y';
}

static bool is_whiteout(const struct erofs_inode *in)
{
	return S_ISCHR(in->mode) && in->rdev == 0;
}

/* A new inode of the image, after that of a layer. */
static int add_inode(struct merge *m, uint32_t layer,
		     const struct erofs_inode *in, uint32_t parent,
		     uint32_t *ret)
{
	struct erofs_w_inode out = {
		.mode = in->mode,
		.uid = in->uid,
		.gid = in->gid,
		.mtime = in->mtime,
		.nlink = in->nlink,
		.parent = parent,
		.hole = S_ISREG(in->mode) && in->size > 0,
	};
	int r = 0;

	if (in->nlink == 0)
		return -EBADMSG;
	if (m->w.n_inodes >= TREE_NODES_MAX)
		return -EOVERFLOW;
	if (out.hole)
		out.size = in->size;
	if (S_ISLNK(in->mode)) {
		size_t len = 0;

		r = erofs_readlink(&m->in[layer].l->im, in, &out.link, &len);
		out.size = len;
	}
	if (r == 0 && (S_ISCHR(in->mode) || S_ISBLK(in->mode)) &&
	    !erofs_w_rdev(major(in->rdev), minor(in->rdev), &out.rdev))
		r = -EBADMSG;
	if (r == 0)
		r = set_xattrs(m, layer, in, &out);
	if (r == 0)
		r = grow(&m->w.inodes, m->w.n_inodes, &m->cap_inodes,
			 sizeof(*m->w.inodes));
	if (r < 0)
		return r;
	*ret = m->w.n_inodes;
	m->w.inodes[m->w.n_inodes++] = out;
	return 0;
}

/* What is no directory: the inode of another name of it, or a new one. */
static int add_file(struct merge *m, uint32_t layer,
		    const struct erofs_inode *in, uint32_t *ret)
{
	struct link *l;
	int r;

	if (in->nlink <= 1)
		return add_inode(m, layer, in, 0, ret);
	r = links_grow(m);
	if (r < 0)
		return r;
	l = link_at(m->links, m->cap_links, layer, in->nid);
	if (l->inode == NONE) {
		r = add_inode(m, layer, in, 0, ret);
		if (r < 0)
			return r;
		*l = (struct link){
			.nid = in->nid, .layer = layer, .inode = *ret};
		m->n_links++;
	}
	*ret = l->inode;
	return 0;
}

static int add_dir(struct merge *m, uint32_t layer,
		   const struct erofs_inode *in, uint32_t parent, uint32_t *ret)
{
	int r = add_inode(m, layer, in, parent, ret);

	if (r == 0)
		r = grow(&m->dirs, m->n_dirs, &m->cap_dirs, sizeof(*m->dirs));
	if (r == 0)
		m->dirs[m->n_dirs++] =
			(struct dir){.inode = *ret, .first = m->n_sources};
	return r;
}

/* One more layer for the newest directory. */
static int add_source(struct merge *m, uint32_t layer, uint64_t nid)
{
	struct dir *d = &m->dirs[m->n_dirs - 1];
	int r = grow(&m->sources, m->n_sources, &m->cap_sources,
		     sizeof(*m->sources));

	if (r < 0)
		return r;
	m->sources[m->n_sources++] =
		(struct source){.nid = nid, .layer = layer};
	/* As overlayfs says of a directory that it merges. */
	if (++d->n > 1)
		m->w.inodes[d->inode].nlink = 1;
	return 0;
}

/**
 * struct entry - a name, while the layers that have it are looked at
 * @inode:	what it is, or NONE
 * @open:	a directory that goes on in the next layer that has the name
 * @first:	no layer was looked at
 */
struct entry {
	uint32_t parent;
	uint32_t inode;
	bool first;
	bool open;
};

/* The next layer that has the name. */
static int entry_add(struct merge *m, struct entry *en, const struct cursor *c)
{
	const struct erofs_image *im = &m->in[c->layer].l->im;
	struct erofs_inode in;
	int r;

	if (!en->first && !en->open)
		return 0;
	r = erofs_inode_get(im, c->d.nid, &in);
	if (r < 0)
		return r;
	if (!S_ISDIR(in.mode)) {
		bool shown = en->first && !is_whiteout(&in);

		en->first = en->open = false;
		return shown ? add_file(m, c->layer, &in, &en->inode) : 0;
	}
	if (en->first)
		r = add_dir(m, c->layer, &in, en->parent, &en->inode);
	if (r == 0)
		r = add_source(m, c->layer, in.nid);
	if (r == 0)
		r = is_opaque(m, im, &in);
	en->first = false;
	en->open = r == 0;
	return MIN(r, 0);
}

/* ---- merging the names of a directory ---------------------------------- */

static bool is_dots(const struct erofs_dirent *d)
{
	return d->name[0] == '.' &&
	       (d->len == 1 || (d->len == 2 && d->name[1] == '.'));
}

static int name_cmp(const struct erofs_dirent *a, const struct erofs_dirent *b)
{
	int c = memcmp(a->name, b->name, MIN(a->len, b->len));

	return c != 0 ? c : (a->len > b->len) - (a->len < b->len);
}

static bool same_name(const struct erofs_dirent *a,
		      const struct erofs_dirent *b)
{
	return a->len == b->len && memcmp(a->name, b->name, a->len) == 0;
}

static bool comes_before(const struct cursor *a, const struct cursor *b)
{
	int c;

	if (a->head != b->head)
		return a->head < b->head;
	c = name_cmp(&a->d, &b->d);
	return c != 0 ? c < 0 : a->layer < b->layer;
}

/* Return: 1, 0 at the end, -EBADMSG */
static int cursor_next(const struct merge *m, struct cursor *c)
{
	const struct erofs_image *im = &m->in[c->layer].l->im;
	struct erofs_dirent d = c->d;
	int r;

	do {
		struct erofs_dirent last = d;

		r = erofs_readdir(im, &c->dir, last.next, &d);
		if (r > 0 && last.len > 0 && name_cmp(&last, &d) >= 0)
			r = -EBADMSG;
	} while (r > 0 && is_dots(&d));
	if (r <= 0)
		return r;
	c->d = d;
	c->head = 0;
	for (uint32_t i = 0; i < 8; i++)
		c->head = c->head << 8 | (i < d.len ? (uint8_t)d.name[i] : 0);
	return 1;
}

/* Return: 1, 0 it is empty, -EBADMSG */
static int cursor_open(struct merge *m, const struct source *s,
		       struct cursor *c)
{
	struct input *in = &m->in[s->layer];
	uint64_t bit = UINT64_C(1) << s->nid % 64;
	int r;

	*c = (struct cursor){.layer = s->layer};
	r = erofs_inode_get(&in->l->im, s->nid, &c->dir);
	if (r < 0)
		return r;
	assert(s->nid < in->l->im.map_len / EROFS_SLOT_BYTES);
	if ((in->seen[s->nid / 64] & bit) != 0 ||
	    c->dir.size > in->l->im.map_len - in->dir_bytes)
		return -EBADMSG;
	in->seen[s->nid / 64] |= bit;
	in->dir_bytes += c->dir.size;
	return cursor_next(m, c);
}

static void sift_down(struct merge *m, size_t i)
{
	struct cursor c = m->cursors[i];

	for (;;) {
		size_t k = 2 * i + 1;

		if (k >= m->n_cursors)
			break;
		if (k + 1 < m->n_cursors &&
		    comes_before(&m->cursors[k + 1], &m->cursors[k]))
			k++;
		if (!comes_before(&m->cursors[k], &c))
			break;
		m->cursors[i] = m->cursors[k];
		i = k;
	}
	m->cursors[i] = c;
}

static int bad_layer(int r, uint32_t layer, struct err *e)
{
	if (r == -EBADMSG)
		return err_set(e, r,
			       "metadata of layer %" PRIu32
			       " of the chain is damaged",
			       layer);
	if (r == -EOVERFLOW)
		return err_set(e, r, "the chain has too many files");
	return err_no_memory(e);
}

/* Takes the first name off the heap, of all layers that have it. */
static int take_name(struct merge *m, struct entry *en, struct err *e)
{
	const struct erofs_dirent d = m->cursors[0].d;
	int r = 0;

	while (m->n_cursors > 0 && same_name(&m->cursors[0].d, &d)) {
		struct cursor *c = &m->cursors[0];
		uint32_t layer = c->layer;

		r = entry_add(m, en, c);
		if (r == 0)
			r = cursor_next(m, c);
		if (r < 0)
			return bad_layer(r, layer, e);
		if (r == 0)
			*c = m->cursors[--m->n_cursors];
		if (m->n_cursors > 0)
			sift_down(m, 0);
	}
	if (en->inode == NONE)
		return 0;
	if (m->w.n_dirents >= TREE_NODES_MAX)
		return bad_layer(-EOVERFLOW, 0, e);
	r = grow(&m->dirents, m->w.n_dirents, &m->cap_dirents,
		 sizeof(*m->dirents));
	if (r < 0)
		return bad_layer(r, 0, e);
	m->dirents[m->w.n_dirents++] = (struct erofs_w_dirent){
		.name = d.name,
		.name_len = (uint8_t)d.len,
		.inode = en->inode,
	};
	return 0;
}

static int merge_dir(struct merge *m, struct dir dir, struct err *e)
{
	uint32_t first = m->w.n_dirents;
	int r;

	m->n_cursors = 0;
	for (size_t i = 0; i < dir.n; i++) {
		const struct source *s = &m->sources[dir.first + i];

		r = cursor_open(m, s, &m->cursors[m->n_cursors]);
		if (r < 0)
			return bad_layer(r, s->layer, e);
		m->n_cursors += (size_t)r;
	}
	for (size_t i = m->n_cursors / 2; i-- > 0;)
		sift_down(m, i);
	while (m->n_cursors > 0) {
		struct entry en = {
			.parent = dir.inode, .inode = NONE, .first = true};

		r = take_name(m, &en, e);
		if (r < 0)
			return r;
	}
	m->w.inodes[dir.inode].first = first;
	m->w.inodes[dir.inode].n = m->w.n_dirents - first;
	return 0;
}

/* The roots are one directory, opaque or not. */
static int merge_roots(struct merge *m, struct err *e)
{
	uint32_t inode;

	for (uint32_t i = 0; i < m->n_in; i++) {
		const struct erofs_image *im = &m->in[i].l->im;
		struct erofs_inode in;
		int r = erofs_inode_get(im, im->root_nid, &in);

		if (r == 0 && !S_ISDIR(in.mode))
			r = -EBADMSG;
		if (r == 0 && i == 0)
			r = add_dir(m, i, &in, 0, &inode);
		if (r == 0)
			r = add_source(m, i, in.nid);
		if (r < 0)
			return bad_layer(r, i, e);
	}
	return 0;
}

/* ---- the image --------------------------------------------------------- */

static int merge_init(struct merge *m, const struct merge_layer *layers,
		      size_t n)
{
	m->in = calloc(n, sizeof(*m->in));
	m->cursors = reallocarray(NULL, n, sizeof(*m->cursors));
	if (m->in == NULL || m->cursors == NULL)
		return -ENOMEM;
	m->n_in = n;
	for (size_t i = 0; i < n; i++) {
		struct input *in = &m->in[i];

		in->l = &layers[i];
		in->seen =
			calloc(layers[i].im.map_len / EROFS_SLOT_BYTES / 64 + 1,
			       sizeof(*in->seen));
		if (in->seen == NULL)
			return -ENOMEM;
		datapath_dir(&layers[i].toc_digest, in->data_dir);
	}
	return 0;
}

static int emit(struct merge *m, const struct digest *key, struct buf *ret,
		struct err *e)
{
	CLEANUP_BUF struct buf out = BUF_INIT(EROFS_META_BYTES_MAX);
	int r;

	m->w.dirents = m->dirents;
	memcpy(m->w.uuid, key->b, sizeof(m->w.uuid));
	r = erofs_w_layout(&m->w, e);
	if (r < 0)
		return r;
	m->w.n_blocks = m->w.meta_bytes / EROFS_BLOCK_BYTES;
	r = buf_reserve(&out, (size_t)m->w.meta_bytes);
	if (r < 0)
		return err_set(e, r, "no memory");
	erofs_w_emit(&m->w, (uint8_t *)out.p);
	out.len = (size_t)m->w.meta_bytes;
	buf_done(ret);
	*ret = out;
	out = (struct buf){0};
	return 0;
}

int merge_build(const struct merge_layer *layers, size_t n, bool opaque_user,
		const struct digest *key, struct buf *ret, struct err *e)
{
	CLEANUP(merge_done) struct merge m = {.opaque_user = opaque_user};
	int r;

	assert(n > 0);
	assert(n <= MERGE_LAYERS_MAX);
	r = merge_init(&m, layers, n);
	if (r < 0)
		return err_no_memory(e);
	r = merge_roots(&m, e);
	for (size_t i = 0; r == 0 && i < m.n_dirs; i++)
		r = merge_dir(&m, m.dirs[i], e);
	return r < 0 ? r : emit(&m, key, ret, e);
}
