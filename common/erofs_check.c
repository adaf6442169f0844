/* SPDX-License-Identifier: Apache-2.0 */
/* An image as a whole: every inode that can be reached, once. */
#include "config.h"

#include "common/erofs_check.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "common/checked.h"
#include "common/erofs_format.h"
#include "common/rd.h"

#define SEEN_DIR UINT32_MAX
#define OVERLAY "overlay."

/* A directory to be looked into. */
struct todo {
	uint64_t nid;
	uint64_t parent;
};

/**
 * struct check - what is known so far
 * @links:	by nid: how many names were found, or SEEN_DIR
 * @todo:	[@n_todo] directories, the first of them done
 * @dir_bytes:	of all directories
 */
struct check {
	const struct erofs_image *im;
	uint64_t image_bytes;
	uint32_t *links;
	struct todo *todo;
	size_t n_todo, cap_todo;
	uint64_t dir_bytes;
	uint64_t n_inodes;
	struct err *e;
};

static void check_done(struct check *c)
{
	free(c->links);
	free(c->todo);
}

static int bad(const struct check *c, uint64_t nid, const char *what)
{
	return err_set(c->e, -EBADMSG, "erofs: nid %" PRIu64 ": %s", nid, what);
}

/* ---- superblock -------------------------------------------------------- */

static bool is_label(const uint8_t *p)
{
	static const char labels[][EROFS_LABEL_BYTES] = {EROFS_LABEL_PLAIN,
							 EROFS_LABEL_XATTRS};

	return memcmp(p, labels[0], EROFS_LABEL_BYTES) == 0 ||
	       memcmp(p, labels[1], EROFS_LABEL_BYTES) == 0;
}

/* All of it but what may be anything is what the writer puts there. */
static int check_super(const struct check *c)
{
	static const struct {
		uint8_t off, len;
	} free_fields[] = {
		{EROFS_SB_CHECKSUM, 4}, {EROFS_SB_ROOT_NID, 2},
		{EROFS_SB_INOS, 8},     {EROFS_SB_BLOCKS, 4},
		{EROFS_SB_UUID, 16},    {EROFS_SB_LABEL, EROFS_LABEL_BYTES},
	};
	const struct erofs_image *im = c->im;
	uint8_t want[EROFS_SUPER_BYTES] = {0};
	const uint8_t *sb = im->map + EROFS_SUPER_OFF;

	le32_store(want + EROFS_SB_MAGIC, EROFS_MAGIC);
	le32_store(want + EROFS_SB_COMPAT,
		   EROFS_COMPAT_SB_CHKSUM | EROFS_COMPAT_MTIME);
	want[EROFS_SB_BLOCK_BITS] = EROFS_BLOCK_BITS;
	if (im->holes)
		le32_store(want + EROFS_SB_INCOMPAT,
			   EROFS_INCOMPAT_CHUNKED_FILE);
	for (size_t i = 0; i < ARRAY_SIZE(free_fields); i++)
		memcpy(want + free_fields[i].off, sb + free_fields[i].off,
		       free_fields[i].len);
	if (memcmp(want, sb, sizeof(want)) != 0 ||
	    !is_label(sb + EROFS_SB_LABEL))
		return err_set(c->e, -EBADMSG,
			       "erofs: superblock is none of ours");
	if (im->n_blocks != c->image_bytes / EROFS_BLOCK_BYTES ||
	    c->image_bytes % EROFS_BLOCK_BYTES != 0 ||
	    im->map_len % EROFS_BLOCK_BYTES != 0 ||
	    im->map_len > c->image_bytes)
		return err_set(c->e, -EBADMSG,
			       "erofs: image of %" PRIu64 " bytes, %" PRIu64
			       " blocks",
			       c->image_bytes, im->n_blocks);
	return 0;
}

/* ---- an inode ---------------------------------------------------------- */

/* "/<16 hex>/<number>", as common/merge.h writes it. */
static bool is_redirect(const struct erofs_xattr *x)
{
	size_t n = 0;

	if (x->value_len < 19 || x->value_len > 37 || x->value[0] != '/' ||
	    x->value[17] != '/' || x->value[18] == '0')
		return false;
	for (size_t i = 1; i < 17; i++)
		n += memchr("0123456789abcdef", x->value[i], 16) != NULL;
	for (size_t i = 18; i < x->value_len; i++)
		n += x->value[i] >= '0' && x->value[i] <= '9';
	return n == x->value_len - 2;
}

static bool is_named(const struct erofs_xattr *x, const char *name)
{
	return x->name_len == strlen(name) &&
	       memcmp(x->name, name, x->name_len) == 0;
}

/* What is an order to overlayfs is one that our writers give. */
static bool is_order_of_ours(const struct check *c,
			     const struct erofs_inode *in,
			     const struct erofs_xattr *x)
{
	if (!c->im->holes)
		return S_ISDIR(in->mode) && is_named(x, OVERLAY "opaque") &&
		       x->value_len == 1 && x->value[0] == 'y';
	if (!S_ISREG(in->mode) || in->size == 0)
		return false;
	return (is_named(x, OVERLAY "metacopy") && x->value_len == 0) ||
	       (is_named(x, OVERLAY "redirect") && is_redirect(x));
}

static bool is_good_xattr(const struct check *c, const struct erofs_inode *in,
			  const struct erofs_xattr *x)
{
	bool acl = x->index == EROFS_XATTR_ACL_ACCESS ||
		   x->index == EROFS_XATTR_ACL_DEFAULT;
	bool overlay = x->name_len >= strlen(OVERLAY) &&
		       memcmp(x->name, OVERLAY, strlen(OVERLAY)) == 0;

	if (erofs_xattr_prefix(x->index) == NULL || acl != (x->name_len == 0))
		return false;
	if (overlay &&
	    (x->index == EROFS_XATTR_USER || x->index == EROFS_XATTR_TRUSTED))
		return is_order_of_ours(c, in, x);
	return true;
}

static int check_xattrs(const struct check *c, const struct erofs_inode *in)
{
	static const uint8_t head[EROFS_XATTR_HEADER_BYTES];
	struct erofs_xattr_iter it;
	struct erofs_xattr x;
	int r = erofs_xattr_begin(&it, c->im, in);

	if (r == 0 && in->xattr_bytes > 0 &&
	    memcmp(c->im->map + in->inode_off + in->inode_bytes, head,
		   sizeof(head)) != 0)
		return bad(c, in->nid, "shared attributes");
	while (r == 0 && (r = erofs_xattr_next(&it, &x)) > 0)
		r = is_good_xattr(c, in, &x) ? 0 : -EBADMSG;
	return r < 0 ? bad(c, in->nid, "extended attributes") : 0;
}

/* Where the bytes of a directory or symbolic link are. */
static bool has_content(const struct check *c, const struct erofs_inode *in)
{
	uint64_t meta = c->im->map_len;
	uint64_t tail = in->size % EROFS_BLOCK_BYTES;
	uint64_t at = in->inode_off + in->inode_bytes + in->xattr_bytes;

	if (in->size == 0 || in->size > meta)
		return false;
	if (in->layout != EROFS_LAYOUT_INLINE)
		return checked_range(
			in->data_off,
			ALIGN_UP(in->size, (uint64_t)EROFS_BLOCK_BYTES), meta);
	return tail > 0 && at % EROFS_BLOCK_BYTES + tail <= EROFS_BLOCK_BYTES &&
	       checked_range(at, tail, meta) &&
	       checked_range(in->data_off, in->size - tail, meta);
}

/* Where its bytes are. The decoder knows which layouts there are. */
static bool has_place(const struct check *c, const struct erofs_inode *in)
{
	if (S_ISDIR(in->mode) || S_ISLNK(in->mode))
		return has_content(c, in);
	if (!S_ISREG(in->mode) || in->size == 0)
		return in->layout == EROFS_LAYOUT_PLAIN && in->size == 0;
	if (in->layout == EROFS_LAYOUT_CHUNK)
		return true;
	return in->data_off >= c->im->map_len &&
	       checked_range(in->data_off, in->size, c->image_bytes);
}

/* Looks at an inode that was not seen before. */
static int check_inode(struct check *c, const struct erofs_inode *in)
{
	const char *link;
	size_t len;

	c->n_inodes++;
	if (in->inode_off < EROFS_SUPER_OFF + EROFS_SUPER_BYTES ||
	    in->inode_bytes != EROFS_INODE_BYTES ||
	    in->inode_off % EROFS_BLOCK_BYTES + EROFS_INODE_BYTES >
		    EROFS_BLOCK_BYTES)
		return bad(c, in->nid, "no inode of ours");
	if (in->mtime_nsec >= NSEC_PER_SEC || in->nlink == 0)
		return bad(c, in->nid, "attributes");
	if (!has_place(c, in))
		return bad(c, in->nid, "data out of bounds");
	if (S_ISLNK(in->mode) && erofs_readlink(c->im, in, &link, &len) < 0)
		return bad(c, in->nid, "symbolic link");
	return check_xattrs(c, in);
}

static int add_dir(struct check *c, const struct erofs_inode *in,
		   uint64_t parent)
{
	if (c->links[in->nid] != 0)
		return bad(c, in->nid, "directory with several names");
	if (in->size > c->im->map_len - c->dir_bytes)
		return bad(c, in->nid, "directories over one another");
	c->links[in->nid] = SEEN_DIR;
	c->dir_bytes += in->size;
	if (c->n_todo == c->cap_todo) {
		size_t cap = c->cap_todo * 2 + 64;
		struct todo *todo =
			reallocarray(c->todo, cap, sizeof(*c->todo));

		if (todo == NULL)
			return err_no_memory(c->e);
		c->todo = todo;
		c->cap_todo = cap;
	}
	c->todo[c->n_todo++] = (struct todo){.nid = in->nid, .parent = parent};
	return check_inode(c, in);
}

/* ---- a directory ------------------------------------------------------- */

static const uint8_t dtypes[] = {
	[S_IFREG >> 12] = DT_REG,  [S_IFDIR >> 12] = DT_DIR,
	[S_IFCHR >> 12] = DT_CHR,  [S_IFBLK >> 12] = DT_BLK,
	[S_IFIFO >> 12] = DT_FIFO, [S_IFSOCK >> 12] = DT_SOCK,
	[S_IFLNK >> 12] = DT_LNK,
};

/* A name that is neither "." nor "..". Return: 1 a directory, 0, -errno */
static int check_name(struct check *c, const struct erofs_dirent *d,
		      uint64_t parent)
{
	struct erofs_inode in;
	int r = erofs_inode_get(c->im, d->nid, &in);

	if (r < 0)
		return bad(c, d->nid, "no inode");
	/* The decoder knows all types. */
	if (dtypes[(in.mode & S_IFMT) >> 12] != d->dtype)
		return bad(c, d->nid, "type in the directory");
	if (S_ISDIR(in.mode)) {
		r = add_dir(c, &in, parent);
		return r < 0 ? r : 1;
	}
	if (c->links[d->nid] == 0)
		r = check_inode(c, &in);
	if (r == 0 && ++c->links[d->nid] > in.nlink)
		return bad(c, d->nid, "more names than links");
	return r;
}

/* "." and "..". Return: which of them, 0 none. */
static unsigned dots_of(const struct erofs_dirent *d)
{
	return d->len <= 2 && memcmp(d->name, "..", d->len) == 0
		       ? (unsigned)d->len
		       : 0;
}

static int check_dir(struct check *c, struct todo t)
{
	struct erofs_dirent last = {0}, d;
	struct erofs_inode dir;
	uint64_t subdirs = 0;
	unsigned dots = 0;
	int r = erofs_inode_get(c->im, t.nid, &dir);

	assert(r == 0); /* add_dir() had it */
	while ((r = erofs_readdir(c->im, &dir, last.next, &d)) > 0) {
		int order = memcmp(last.len > 0 ? last.name : "", d.name,
				   MIN(last.len, d.len));
		unsigned n = dots_of(&d);

		if (order > 0 || (order == 0 && last.len >= d.len))
			return bad(c, t.nid, "names out of order");
		last = d;
		if (n > 0) {
			if (d.nid != (n == 1 ? t.nid : t.parent) ||
			    d.dtype != DT_DIR)
				return bad(c, t.nid, "\".\" or \"..\"");
			dots |= n;
			continue;
		}
		r = check_name(c, &d, t.nid);
		if (r < 0)
			return r;
		subdirs += (uint64_t)r;
	}
	if (r < 0)
		return bad(c, t.nid, "names");
	if (dots != 3)
		return bad(c, t.nid, "\".\" or \"..\" missing");
	/* 1: merged, nobody has counted. */
	if (dir.nlink != 1 && dir.nlink != subdirs + 2)
		return bad(c, t.nid, "links");
	return 0;
}

/* ---- the image --------------------------------------------------------- */

/* Link counts of files, once all names are known. */
static int check_links(const struct check *c)
{
	/* Those of an image of a chain are those of its layers, of which
	 * other layers can hide names. */
	for (uint64_t nid = 0; nid < c->im->map_len / EROFS_SLOT_BYTES; nid++) {
		struct erofs_inode in;

		if (c->links[nid] == 0 || c->links[nid] == SEEN_DIR)
			continue;
		if (erofs_inode_get(c->im, nid, &in) < 0 ||
		    (in.nlink != c->links[nid] && !c->im->holes))
			return bad(c, nid, "links");
	}
	return 0;
}

int erofs_check(const struct erofs_image *im, uint64_t image_bytes,
		struct err *e)
{
	CLEANUP(check_done)
	struct check c = {.im = im, .image_bytes = image_bytes, .e = e};
	struct erofs_inode root;
	int r = check_super(&c);

	if (r < 0)
		return r;
	c.links = calloc(im->map_len / EROFS_SLOT_BYTES, sizeof(*c.links));
	if (c.links == NULL)
		return err_no_memory(e);
	if (erofs_inode_get(im, im->root_nid, &root) < 0 || !S_ISDIR(root.mode))
		return bad(&c, im->root_nid, "no root directory");
	r = add_dir(&c, &root, im->root_nid);
	for (size_t i = 0; r == 0 && i < c.n_todo; i++)
		r = check_dir(&c, c.todo[i]);
	if (r == 0 && c.n_inodes != im->n_inodes)
		r = err_set(e, -EBADMSG,
			    "erofs: %" PRIu64 " inodes, says %" PRIu64,
			    c.n_inodes, im->n_inodes);
	return r < 0 ? r : check_links(&c);
}
