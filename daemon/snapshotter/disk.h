/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: directory trees of other people's making: as deep as they like, with
 * mounts in them, changed meanwhile. No recursion, two descriptors, no symbolic
 * link is followed, no mount is entered.
 */
#ifndef SNAPSHOTTER_DISK_H
#define SNAPSHOTTER_DISK_H

#include "common/base.h"

/* Allocated bytes and inodes of a directory and what is in it; a hard link
 * counts once. What vanishes meanwhile does not count. Return: 0, -errno */
int disk_usage(const char *path, uint64_t *ret_bytes, uint64_t *ret_inodes);

/* Removes a directory and what is in it, immutable files too. Goes on behind what cannot
 * be removed (a mount). Return: 0, also where there is none; the first -errno */
int disk_remove(int dirfd, const char *name);

#endif
