/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: merged metadata of a chain of layers on disk.
 *
 *   ROOT/chains/sha256/<hex of merge_key()>/meta.erofs
 *
 * The image (common/merge.h), and behind it one block of the snapshotter's, which
 * says what it was made of and has the digest of all of it. The snapshotter hashes
 * the file and parses nothing of it: a process that has seen nothing else
 * has looked through the image before it was written here (common/meta.h).
 */
#ifndef SNAPSHOTTER_CHAINFILE_H
#define SNAPSHOTTER_CHAINFILE_H

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"
#include "common/meta.h"

#define CHAINFILE_NAME "meta.erofs"
#define CHAINFILE_TAIL_BYTES 4096u

/**
 * struct chainfile - what it is made of
 * @tocs:	[@n] of the layers, topmost first, each once
 */
struct chainfile {
	struct digest tocs[META_LAYERS_MAX];
	size_t n;
	bool opaque_user;
};

/* Return: 0, -ENOMEM */
int chainfile_key(const struct chainfile *c, struct digest *ret);

/**
 * chainfile_write() - put an image there
 * @dir:	of the chain; is made
 * @image:	descriptor of what nobody writes to any more
 *
 * By rename. Not synced: one that a power cut has torn has another digest.
 * Return: 0; -ENOSPC; -errno, with @e
 */
int chainfile_write(const char *dir, int image, const struct chainfile *c,
		    struct err *e);

/* What the file says it is made of; it may be damaged elsewhere.
 * Return: 0, -ENOENT, -EBADMSG it is of another chain than @key, -errno, with @e */
int chainfile_read(const char *dir, const struct digest *key,
		   struct chainfile *ret, struct err *e);

/* Whether all of it is as it was written. Return: as chainfile_read() */
int chainfile_verify(const char *dir, const struct digest *key, struct err *e);

#endif
