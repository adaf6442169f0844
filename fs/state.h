/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the directory of a layer under ROOT/layers, and who may write its
 * index.
 *
 *   ROOT/layers/sha256/<hex of the TOC digest>[.user]/
 *   ROOT/layers/unverified/<hex>[.user]/     where the digest was not given
 *   ROOT/layers/tmp.<pid>/                   while the digest is not known
 *
 * The name is the TOC's digest, not the blob's: the TOC holds the digest of
 * every chunk and so says what the bytes are, while a blob's digest is only a
 * claim until all of it is here. An image that names a well-known blob with a
 * TOC of its own gets a directory of its own.
 *
 * A flock on the directory is held shared by everyone who serves the layer,
 * exclusively by who makes the index. Files appear by rename.
 */
#ifndef FS_STATE_H
#define FS_STATE_H

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"

enum {
	STATE_EROFS,
	STATE_CHUNKS,
	STATE_PRESENT,
	STATE_FILES
};

/**
 * struct state - an opened layer directory
 * @dirfd:	holds the lock
 * @fds:	the three files, or -1
 * @building:	they are to be filled, and then published
 * @exclusive:	nobody else serves the layer now
 * @temporary:	the directory is to be renamed when the digest is known
 * @sealed:	the image is complete (common/seal.h): @fds are for reading alone
 */
struct state {
	char *root;
	char *path;
	int dirfd;
	int fds[STATE_FILES];
	bool building;
	bool exclusive;
	bool temporary;
	bool sealed;
};

/**
 * state_open() - the directory of a layer
 * @toc_digest:	NULL while not known: a temporary directory
 *
 * Makes ROOT and what is below it with mode 0700. Waits for another mount
 * that is just making the index of this layer.
 * Return: 0, -errno with @e
 */
int state_open(struct state *s, const char *root,
	       const struct digest *toc_digest, bool opaque_user,
	       bool unverified, struct err *e);

/* The index on disk is damaged: make it anew. -EBUSY where others serve it. */
int state_rebuild(struct state *s, struct err *e);

/**
 * state_publish() - the worker has filled the files
 * @toc_digest:	and the rest: as found, for a temporary directory
 * @ret_other:	another mount was faster: @s now has its files, to be used
 *		instead
 */
int state_publish(struct state *s, const struct digest *toc_digest,
		  bool opaque_user, bool unverified, bool *ret_other,
		  struct err *e);

/**
 * state_seal() - the image is complete, and is not to be written any more
 *
 * From now on @s has the files open for reading alone; whom they were given to
 * has them open as before.
 * Return: 0, -errno with @e: they are as they were, but for the seal
 */
int state_seal(struct state *s, struct err *e);

/* Makes the names durable; not needed before the mount is ready. */
void state_sync(const struct state *s);

/* From now on others may serve the layer too. Return: 0, -ESTALE: it was
 * evicted in that moment, and is to be opened anew */
int state_share(struct state *s);
void state_close(struct state *s);

#endif
