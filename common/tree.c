/* SPDX-License-Identifier: Apache-2.0 */
/* From the entries of a TOC to a tree of names. */
#include "config.h"

#include "common/tree.h"

#include <string.h>

#include "common/limits.h"
#include "common/rd.h"

/*
 * SipHash-1-3 (Aumasson and Bernstein) of a parent and a name: short, and
 * nobody can make collisions without the key.
 */
static inline uint64_t rotl(uint64_t v, unsigned n)
{
	return v << n | v >> (64 - n);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t m)
{
	v[3] ^= m;
	sip_round(v);
	v[0] ^= m;
}

static uint32_t hash_name(const struct tree *t, uint32_t parent,
			  const char *name, size_t len)
{
	uint64_t v[4] = {
		t->key[0] ^ UINT64_C(0x736f6d6570736575),
		t->key[1] ^ UINT64_C(0x646f72616e646f6d),
		t->key[0] ^ UINT64_C(0x6c7967656e657261),
		t->key[1] ^ UINT64_C(0x7465646279746573),
	};
	uint8_t last[8] = {0};

	sip_word(v, (uint64_t)parent << 32 | (uint64_t)len);
	for (; len >= 8; len -= 8, name += 8)
		sip_word(v, le64_load(name));
	memcpy(last, name, len);
	sip_word(v, le64_load(last));
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	v[0] ^= v[1] ^ v[2] ^ v[3];
	return (uint32_t)(v[0] ^ v[0] >> 32);
}

/* The slot of a name in the table, or the free one where it would go. */
static uint32_t *slot_of(const struct tree *t, uint32_t hash, uint32_t parent,
			 const char *name, size_t len)
{
	uint32_t i = hash & t->table_mask;

	for (; t->table[i] != TREE_NONE; i = (i + 1) & t->table_mask) {
		const struct tree_node *n = &t->nodes[t->table[i]];

		if (n->hash == hash && n->parent == parent &&
		    n->name_len == len && memcmp(n->name, name, len) == 0)
			break;
	}
	return &t->table[i];
}

uint32_t tree_lookup(const struct tree *t, uint32_t parent, const char *name,
		     size_t len)
{
	if (len > TOC_COMPONENT_BYTES_MAX)
		return TREE_NONE;
	return *slot_of(t, hash_name(t, parent, name, len), parent, name, len);
}

/* A table of @n slots, a power of two, with every node but the root in it. */
static int table_resize(struct tree *t, uint32_t n)
{
	uint32_t *p = malloc(n * sizeof(*p));

	if (p == NULL)
		return -ENOMEM;
	memset(p, 0xff, n * sizeof(*p)); /* TREE_NONE */
	free(t->table);
	t->table = p;
	t->table_mask = n - 1;
	for (uint32_t i = 1; i < t->n_nodes; i++) {
		uint32_t at = t->nodes[i].hash & t->table_mask;

		while (t->table[at] != TREE_NONE)
			at = (at + 1) & t->table_mask;
		t->table[at] = i;
	}
	return 0;
}

static int nodes_reserve(struct tree *t)
{
	uint32_t cap = t->cap_nodes * 2;
	struct tree_node *p;

	if (t->n_nodes >= TREE_NODES_MAX)
		return -EOVERFLOW;
	if (t->n_nodes < t->cap_nodes)
		return 0;
	p = realloc(t->nodes, cap * sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	t->nodes = p;
	t->cap_nodes = cap;
	/* Half full at most. */
	return cap > t->table_mask / 2 ? table_resize(t, t->table_mask * 2 + 2)
				       : 0;
}

static int inode_add(struct tree *t, uint32_t entry, enum toc_type type,
		     uint32_t *ret)
{
	if (t->n_inodes == t->cap_inodes) {
		uint32_t cap = t->cap_inodes * 2;
		struct tree_inode *p = realloc(t->inodes, cap * sizeof(*p));

		/* Inodes come from nodes or entries, so both bound them. */
		if (p == NULL)
			return -ENOMEM;
		t->inodes = p;
		t->cap_inodes = cap;
	}
	t->inodes[t->n_inodes] = (struct tree_inode){
		.entry = entry,
		.first_child = TREE_NONE,
		.type = (uint8_t)type,
	};
	*ret = t->n_inodes++;
	return 0;
}

/* The node of a name, made where there is none; its inode is the caller's. */
static int node_get(struct tree *t, uint32_t parent, const char *name,
		    size_t len, uint32_t *ret)
{
	uint32_t hash = hash_name(t, parent, name, len);
	uint32_t *slot = slot_of(t, hash, parent, name, len);
	struct tree_inode *dir;
	int r;

	if (*slot != TREE_NONE) {
		*ret = *slot;
		return 0;
	}
	r = nodes_reserve(t);
	if (r < 0)
		return r;
	slot = slot_of(t, hash, parent, name, len); /* it may have moved */
	dir = &t->inodes[t->nodes[parent].inode];
	t->nodes[t->n_nodes] = (struct tree_node){
		.name = name,
		.hash = hash,
		.parent = parent,
		.inode = TREE_NONE,
		.link_entry = TREE_NONE,
		.next = dir->first_child,
		.name_len = (uint8_t)len,
	};
	dir->first_child = t->n_nodes;
	*slot = t->n_nodes;
	*ret = t->n_nodes++;
	return 0;
}

static bool is_dir(const struct tree *t, uint32_t node)
{
	uint32_t inode = t->nodes[node].inode;

	return inode != TREE_NONE && t->inodes[inode].type == TOC_DIR;
}

static bool name_fits(const char *name, size_t len)
{
	return len > 0 && len <= TOC_COMPONENT_BYTES_MAX &&
	       !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

/* The first component of [@p, @end): its length. */
static size_t component(const char *p, const char *end)
{
	const char *slash = memchr(p, '/', (size_t)(end - p));

	return (size_t)((slash != NULL ? slash : end) - p);
}

/* A name in a directory; where it is new, it is a directory. */
static int dir_child(struct tree *t, uint32_t parent, const char *name,
		     size_t len, uint32_t *ret)
{
	struct tree_node *node;
	int r = node_get(t, parent, name, len, ret);

	if (r < 0)
		return r;
	node = &t->nodes[*ret];
	if (node->inode != TREE_NONE || node->link_entry != TREE_NONE)
		return 0;
	return inode_add(t, TREE_NONE, TOC_DIR, &node->inode);
}

/*
 * The directory with this path, made with everything above it where no entry
 * has named it yet.
 */
static int dir_get(struct tree *t, const char *path, size_t len, uint32_t *ret,
		   struct err *e)
{
	const char *end = path + len;
	int shown = (int)MIN(len, (size_t)100);
	uint32_t at = 0;
	int r;

	if (len == t->last_dir_len && memcmp(path, t->last_dir, len) == 0 &&
	    is_dir(t, t->last_node)) {
		*ret = t->last_node;
		return 0;
	}
	/* A slash at the end has the empty name behind it, which is none. */
	for (const char *p = path; len > 0 && p <= end;) {
		size_t n = component(p, end);

		if (!name_fits(p, n))
			return err_set(e, -EBADMSG, "%.*s: bad name", shown,
				       path);
		r = dir_child(t, at, p, n, &at);
		if (r < 0)
			return err_set(e, r, "%.*s: tree of names", shown,
				       path);
		p += n;
		if (!is_dir(t, at))
			return err_set(e, -EBADMSG,
				       "%.*s: has files in it, but is no "
				       "directory",
				       (int)MIN(p - path, 100), path);
		p++;
	}
	t->last_dir = path;
	t->last_dir_len = (uint32_t)len;
	t->last_node = at;
	*ret = at;
	return 0;
}

/* The node with this path. Return: node, TREE_NONE */
static uint32_t path_lookup(const struct tree *t, const char *path, size_t len)
{
	const char *end = path + len;
	uint32_t at = 0;

	for (const char *p = path; p < end && at != TREE_NONE;) {
		size_t n = component(p, end);

		if (!is_dir(t, at))
			return TREE_NONE;
		at = tree_lookup(t, at, p, n);
		p += n;
		if (p < end)
			p++;
	}
	return at;
}

/* Another entry for the same directory: its attributes, and the older one is
 * kept for the xattrs that the new one does not set. */
static int dir_update(struct tree *t, struct tree_inode *in, uint32_t entry)
{
	if (in->entry != TREE_NONE) {
		if (t->older == NULL) {
			size_t n = t->toc->n_entries * sizeof(*t->older);

			t->older = malloc(n);
			if (t->older == NULL)
				return -ENOMEM;
			memset(t->older, 0xff, n); /* TREE_NONE */
		}
		t->older[entry] = in->entry;
	}
	in->entry = entry;
	return 0;
}

static int add_hardlink(struct tree *t, uint32_t node, uint32_t i,
			struct err *e)
{
	const struct toc_entry *en = &t->toc->entries[i];
	struct tree_node *n = &t->nodes[node];
	uint32_t target = path_lookup(t, en->link, en->link_len);
	uint32_t inode = TREE_NONE;

	if (target != TREE_NONE)
		inode = t->nodes[target].inode;
	if (inode != TREE_NONE && t->inodes[inode].type == TOC_DIR)
		return err_set(e, -EBADMSG,
			       "%.100s: hardlink to the directory %.100s",
			       en->name, en->link);
	/* A link of a file to itself is no change. */
	if (inode != TREE_NONE && inode == n->inode)
		return 0;
	n->inode = inode;
	n->link_entry = inode == TREE_NONE ? i : TREE_NONE;
	return 0;
}

static int add_entry(struct tree *t, uint32_t i, struct err *e)
{
	const struct toc_entry *en = &t->toc->entries[i];
	const char *slash = memrchr(en->name, '/', en->name_len);
	size_t dir_len = slash == NULL ? 0 : (size_t)(slash - en->name);
	const char *base = slash == NULL ? en->name : slash + 1;
	size_t base_len = (size_t)(en->name + en->name_len - base);
	uint32_t node = 0, parent = 0;
	int r;

	if (en->name_len > 0) {
		r = dir_get(t, en->name, dir_len, &parent, e);
		if (r < 0)
			return r;
		if (!name_fits(base, base_len) || slash == en->name)
			return err_set(e, -EBADMSG, "%.100s: bad name",
				       en->name);
		r = node_get(t, parent, base, base_len, &node);
		if (r < 0)
			return err_set(e, r, "%.100s: tree of names", en->name);
	} else if (en->type != TOC_DIR) {
		return err_set(e, -EBADMSG, "the root is not a directory");
	}
	if (is_dir(t, node)) {
		struct tree_inode *in = &t->inodes[t->nodes[node].inode];

		if (en->type == TOC_DIR) {
			r = dir_update(t, in, i);
			return r < 0 ? err_set(e, r, "%.100s", en->name) : 0;
		}
		/* An empty one is replaced, as rmdir(2) would let tar do. */
		if (in->first_child != TREE_NONE)
			return err_set(
				e, -EBADMSG,
				"%.100s: in the place of a directory with "
				"files in it",
				en->name);
	}
	if (en->type == TOC_HARDLINK)
		return add_hardlink(t, node, i, e);
	t->nodes[node].link_entry = TREE_NONE;
	r = inode_add(t, i, en->type, &t->nodes[node].inode);
	return r < 0 ? err_set(e, r, "%.100s", en->name) : 0;
}

/*
 * Binds hardlinks to names that came later. A link may lead to another one:
 * the chain is followed to its end, then gone through again to bind its
 * members, so that all chains together take time in proportion to the links.
 */
static int bind_link(struct tree *t, uint32_t node, struct err *e)
{
	const struct toc_entry *en =
		&t->toc->entries[t->nodes[node].link_entry];
	uint32_t at = node, inode;

	while (t->nodes[at].inode == TREE_NONE) {
		const struct toc_entry *link =
			&t->toc->entries[t->nodes[at].link_entry];

		if (t->nodes[at].visited)
			return err_set(e, -EBADMSG,
				       "%.100s: hardlinks in a circle",
				       en->name);
		t->nodes[at].visited = true;
		at = path_lookup(t, link->link, link->link_len);
		if (at == TREE_NONE)
			return err_set(
				e, -EBADMSG,
				"%.100s: hardlink to %.100s, which is not there",
				link->name, link->link);
	}
	inode = t->nodes[at].inode;
	if (t->inodes[inode].type == TOC_DIR)
		return err_set(e, -EBADMSG,
			       "%.100s: hardlink to the directory %.100s",
			       en->name, en->link);
	for (at = node; t->nodes[at].inode == TREE_NONE;) {
		const struct toc_entry *link =
			&t->toc->entries[t->nodes[at].link_entry];
		uint32_t next = path_lookup(t, link->link, link->link_len);

		t->nodes[at].inode = inode;
		t->nodes[at].link_entry = TREE_NONE;
		at = next;
	}
	return 0;
}

static bool has_prefix(const struct tree_node *n, const char *prefix)
{
	size_t len = strlen(prefix);

	return n->name_len >= len && memcmp(n->name, prefix, len) == 0;
}

static bool is_name(const struct tree_node *n, const char *name)
{
	return n->name_len == strlen(name) && has_prefix(n, name);
}

/* `.wh.X` hides X of the layers below; where X is in this layer too it stays
 * as it is. */
static int whiteout(struct tree *t, uint32_t node)
{
	const char *name = t->nodes[node].name + 4;
	size_t len = t->nodes[node].name_len - 4u;
	uint32_t parent = t->nodes[node].parent, at;
	int r;

	if (!name_fits(name, len))
		return 0;
	r = node_get(t, parent, name, len, &at);
	if (r < 0)
		return r;
	if (t->nodes[at].inode != TREE_NONE)
		return 0;
	return inode_add(t, TREE_NONE, TOC_CHAR, &t->nodes[at].inode);
}

/* The names that mean something to a layer, and are never shown. */
static int apply_conventions(struct tree *t)
{
	static const char *const landmarks[] = {
		TOC_LANDMARK_NAME,
		TOC_NO_LANDMARK_NAME,
		TOC_TAR_NAME,
	};
	uint32_t n_nodes = t->n_nodes;
	int r;

	for (uint32_t i = 1; i < n_nodes; i++) {
		struct tree_node *n = &t->nodes[i];

		if (!has_prefix(n, ".wh."))
			continue;
		n->hidden = true;
		if (is_name(n, ".wh..wh..opq")) {
			t->inodes[t->nodes[n->parent].inode].opaque = true;
		} else if (!has_prefix(n, ".wh..wh.")) {
			/* The others are AUFS's own: only hidden. */
			r = whiteout(t, i);
			if (r < 0)
				return r;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(landmarks); i++) {
		uint32_t at =
			tree_lookup(t, 0, landmarks[i], strlen(landmarks[i]));

		if (at != TREE_NONE)
			t->nodes[at].hidden = true;
	}
	return 0;
}

static int tree_init(struct tree *t, const struct toc *toc,
		     const uint8_t key[16])
{
	uint32_t n = toc->n_entries;
	uint32_t slots = 64;
	int r;

	t->toc = toc;
	t->key[0] = le64_load(key);
	t->key[1] = le64_load(key + 8);
	t->last_dir = "";
	t->cap_nodes = t->cap_inodes = n + n / 8 + 16;
	t->nodes = malloc(t->cap_nodes * sizeof(*t->nodes));
	t->inodes = malloc(t->cap_inodes * sizeof(*t->inodes));
	if (t->nodes == NULL || t->inodes == NULL)
		return -ENOMEM;
	while (slots < t->cap_nodes * 2)
		slots *= 2;
	r = table_resize(t, slots);
	if (r < 0)
		return r;
	t->nodes[0] = (struct tree_node){
		.name = "",
		.link_entry = TREE_NONE,
		.next = TREE_NONE,
	};
	t->n_nodes = 1;
	return inode_add(t, TREE_NONE, TOC_DIR, &t->nodes[0].inode);
}

int tree_build(const struct toc *toc, const uint8_t key[16], struct tree **ret,
	       struct err *e)
{
	CLEANUP(tree_free_cleanup) struct tree *t = calloc(1, sizeof(*t));
	int r;

	if (t == NULL)
		return err_set(e, -ENOMEM, "tree of names");
	if (toc->n_entries > TOC_ENTRIES_MAX)
		return err_set(e, -EOVERFLOW, "more than %u entries",
			       TOC_ENTRIES_MAX);
	r = tree_init(t, toc, key);
	if (r < 0)
		return err_set(e, r, "tree of names");
	for (uint32_t i = 0; i < toc->n_entries; i++) {
		if (toc->entries[i].type == TOC_CHUNK)
			continue;
		r = add_entry(t, i, e);
		if (r < 0)
			return r;
	}
	for (uint32_t i = 1; i < t->n_nodes; i++) {
		if (t->nodes[i].inode != TREE_NONE)
			continue;
		r = bind_link(t, i, e);
		if (r < 0)
			return r;
	}
	r = apply_conventions(t);
	if (r < 0)
		return err_set(e, r, "tree of names");
	*ret = TAKE_PTR(t);
	return 0;
}

void tree_free(struct tree *t)
{
	if (t == NULL)
		return;
	free(t->nodes);
	free(t->inodes);
	free(t->table);
	free(t->older);
	free(t);
}
