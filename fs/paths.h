/* SPDX-License-Identifier: Apache-2.0 */
/* From an inode of an EROFS image to a path: all of its names, read once. */
#ifndef FS_PATHS_H
#define FS_PATHS_H

#include "common/base.h"
#include "common/buf.h"
#include "common/erofs.h"

/**
 * struct paths_node - a name
 * @name:	[@len] in the image's mapping
 * @parent:	number of its directory; the root's is itself
 */
struct paths_node {
	uint64_t nid;
	const char *name;
	uint32_t parent;
	uint8_t len;
	bool dir;
};

/**
 * struct paths - the tree, from the root downwards
 * @nodes:	[@n] the directory of a node comes before it
 * @sorted:	[@n] numbers of nodes by inode, the first name of each first
 */
struct paths {
	struct paths_node *nodes;
	uint32_t *sorted;
	uint32_t n;
	uint32_t cap;
};

/* Reads the names of @im, which must outlive @ret. Return: 0, -EBADMSG,
 * -EOVERFLOW, -ENOMEM */
int paths_read(const struct erofs_image *im, struct paths *ret);
void paths_done(struct paths *p);

/**
 * paths_find() - appends the path of an inode, without a slash in front
 *
 * Of a file with several names, the one nearest to the root, and of those the
 * first in the order of the directories.
 * Return: 0, -ENOENT, -EOVERFLOW (@ret is full), -ENOMEM
 */
int paths_find(const struct paths *p, uint64_t nid, struct buf *ret);

#endif
