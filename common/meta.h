/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: work on the metadata of layers that a process does which can do nothing
 * else: estargzfs, executed with --meta=FD, one end of a SEQPACKET socket pair.
 * It takes one request with descriptors, gives up all rights, verifies the digest of each
 * index that it is given, does the work, answers, ends. So neither the
 * snapshotter nor the front of mount.estargz looks into a layer.
 *
 * Both ends are of one installation, so these are plain structs; the version is
 * looked at nevertheless.
 */
#ifndef COMMON_META_H
#define COMMON_META_H

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"

#define META_VERSION 1u
#define META_LAYERS_MAX 120u /* with two descriptors each: SCM_MAX_FD is 253 */
#define META_TIMEOUT_S 60u

enum meta_type {
	META_MERGE =
		1, /* descriptors: output (empty, writable), then of each layer layer.erofs, chunks */
	META_CHECK = 2,       /* layer.erofs, chunks; present or not */
	META_CHECK_CHAIN = 3, /* meta.erofs */
};

struct meta_request {
	uint32_t version;
	uint32_t type;
	uint32_t n; /* layers */
	uint32_t opaque_user;
	struct digest
		key; /* MERGE, CHECK_CHAIN: of merge_key() over what the layers' indexes say they are */
};

/* Text behind it: one line where code (a positive errno) is not 0. */
struct meta_reply {
	uint32_t version;
	uint32_t code;
};

/* Descriptors of one layer; borrowed. */
struct meta_files {
	int erofs;
	int chunks;
	int present; /* CHECK alone; -1: how much is there does not matter */
};

/**
 * meta_merge() - have merge_build() done, written to @out
 * @sock:	our end; borrowed
 * @layers:	[@n], topmost first
 *
 * Waits, META_TIMEOUT_S at most. Return: 0, -ECHILD it died, -ETIMEDOUT,
 * -errno, with @e
 */
int meta_merge(int sock, int out, const struct meta_files *layers, size_t n,
	       bool opaque_user, const struct digest *key, struct err *e);

/**
 * meta_check() - may the kernel be given layer.erofs?
 *
 * The index is right, the metadata is as erofs_check() wants it; present, where
 * there is one, is of this index, COMPLETE, and durable in every bit.
 * Return: 0; -EAGAIN it is not complete; others as meta_merge()
 */
int meta_check(int sock, const struct meta_files *layer, struct err *e);

/**
 * meta_check_chain() - may the kernel be given what meta_merge() had written?
 * @image:	meta.erofs, readable
 *
 * The process that wrote it has parsed what is hostile; this one is another.
 * Return: 0; -EBADMSG; others as meta_merge()
 */
int meta_check_chain(int sock, int image, const struct digest *key,
		     struct err *e);

/* The other end, in a process of its own, which ends when the thread that started it
 * does (fs/meta.c). Return: exit status */
int meta_serve(int sock);

#endif
