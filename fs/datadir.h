/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the data of files by their numbers (common/datapath.h): one directory
 * that no inode of the image is, and what may be looked up in it.
 *
 * A number is believed only where a directory of the tree names it as a regular
 * file: what a layer put into a link or an attribute may look like an
 * inode. So the first look-up reads the names of the whole tree, for
 * one bit a slot of the metadata. Layers that are not below merged metadata
 * never pay for that.
 *
 * The directory is root's alone, and so is the way around the permissions of
 * the directories that its files are in.
 */
#ifndef FS_DATADIR_H
#define FS_DATADIR_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/base.h"
#include "common/datapath.h"
#include "common/erofs.h"

/* Numbers of the image are below 2^59: an offset, by 32. */
#define DATADIR_INO (UINT64_C(1) << 62)

/**
 * struct datadir
 * @files:	a bit a number; NULL until they are asked for. Set with release,
 *		read with acquire.
 * @lock:	held by who reads the tree
 */
struct datadir {
	const struct erofs_image *im;
	char name[DATAPATH_DIR_BYTES];
	pthread_mutex_t lock;
	_Atomic(uint64_t *) files;
};

/* @im must outlive it. */
void datadir_init(struct datadir *d, const struct erofs_image *im,
		  const struct digest *toc_digest);
void datadir_done(struct datadir *d);

/* The directory itself. */
void datadir_inode(struct erofs_inode *ret);

/**
 * datadir_find() - a name in it
 *
 * Context: any thread
 * Return: 0, -ENOENT, -EBADMSG (the tree is damaged), -ENOMEM
 */
int datadir_find(struct datadir *d, const char *name, uint64_t *ret_nid);

#endif
