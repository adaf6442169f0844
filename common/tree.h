/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the file tree that a TOC describes. Private to index.c and its tests.
 *
 * Names (nodes) and files (inodes) are apart, as in a file system: a hardlink
 * is a second node of an inode, and a node that a later entry replaces gets
 * another inode while other links to the first keep it. Nodes are never
 * removed, so what an entry means depends on the entries before it alone,
 * hardlinks to names that come later excepted: those are bound at the end.
 *
 * Names are found by a hash of parent and name, keyed with the TOC's digest:
 * whoever writes a TOC cannot choose names that collide, because every choice
 * changes the key, and the result is still the same on every machine.
 */
#ifndef COMMON_TREE_H
#define COMMON_TREE_H

#include "common/base.h"
#include "common/err.h"
#include "common/toc.h"

#define TREE_NONE UINT32_MAX

/**
 * struct tree_node - a name in a directory
 * @name:	[@name_len], not NUL-terminated, in the TOC
 * @parent:	node of the directory; the root's is itself
 * @inode:	TREE_NONE while @link_entry waits for its target
 * @link_entry:	TOC_HARDLINK entry not bound yet, else TREE_NONE
 * @next:	next child of the same directory; any order
 * @hidden:	not to be shown
 */
struct tree_node {
	const char *name;
	uint32_t hash;
	uint32_t parent;
	uint32_t inode;
	uint32_t link_entry;
	uint32_t next;
	uint8_t name_len;
	bool hidden;
	bool visited; /* private to the binding of links */
};

/**
 * struct tree_inode - a file
 * @entry:	its entry in the TOC; TREE_NONE: a directory that no entry
 *		has, or a whiteout
 * @first_child: directory: node, TREE_NONE where empty
 * @type:	enum toc_type
 * @opaque:	directory: hides what layers below have there
 */
struct tree_inode {
	uint32_t entry;
	uint32_t first_child;
	uint8_t type;
	bool opaque;
};

/**
 * struct tree - a built tree; node 0 and inode 0 are the root
 * @older:	[n_entries] or NULL: of a directory's entry, the entry before
 *		it of the same directory; TREE_NONE where there is none
 */
struct tree {
	const struct toc *toc;
	struct tree_node *nodes;
	struct tree_inode *inodes;
	uint32_t *table;
	uint32_t *older;
	uint32_t n_nodes;
	uint32_t cap_nodes;
	uint32_t n_inodes;
	uint32_t cap_inodes;
	uint32_t table_mask;
	uint64_t key[2];
	/* the directory of the last entry, because the next is likely there */
	const char *last_dir;
	uint32_t last_dir_len;
	uint32_t last_node;
};

/**
 * tree_build() - make the tree of a TOC
 * @toc:	borrowed, must outlive the tree
 * @key:	any 16 bytes that depend on all of the TOC
 *
 * Return: 0, -EBADMSG, -EOVERFLOW, -ENOMEM; @e names the entry
 */
int tree_build(const struct toc *toc, const uint8_t key[16], struct tree **ret,
	       struct err *e);

void tree_free(struct tree *t);
DEFINE_CLEANUP(struct tree, tree_free);

/* A name in a directory. Return: node, TREE_NONE */
uint32_t tree_lookup(const struct tree *t, uint32_t parent, const char *name,
		     size_t len);

#endif
