/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: a layer whose cache is complete, mounted by the kernel's EROFS: without
 * a process of ours, without a fetcher.
 *
 * A process that can do nothing else (common/meta.h) says whether the cache is
 * complete and durable, and its metadata what our writer makes. No lock is held on
 * to: who evicts sees that the kernel has the file open (common/layerdir.h).
 */
#ifndef FS_NATIVE_H
#define FS_NATIVE_H

#include <signal.h>

#include "common/base.h"
#include "common/err.h"
#include "common/kmount.h"
#include "fs/layer.h"
#include "fs/options.h"

/* Whether the kernel's EROFS may have anything to do with the layer, by the
 * options. */
bool native_wanted(const struct layer *layer, const struct options *o);

/* Whether it is worth asking: wanted, and COMPLETE is what the cache says of
 * itself. */
bool native_may(const struct layer *layer, const struct options *o);

/**
 * native_mount() - the mount, without a place, with the options' flags
 *
 * Return: a descriptor (common/kmount.h); -errno with @e: FUSE it is
 */
int native_mount(const struct layer *layer, const struct options *o,
		 struct err *e);

/* Puts the mount @fd at @target. Return: 0, -errno with @e */
int native_attach(int fd, const char *target, struct err *e);

/**
 * native_await() - wait until a mount that nobody serves is gone
 * @target:	where it is; @id: its number
 * @signals:	blocked; when one of them comes, it is taken away
 */
void native_await(const char *target, uint64_t id, const sigset_t *signals);

/* Number of the topmost mount at @target, 0 where it is not to be had. */
uint64_t native_mount_id(const char *target);

#endif
