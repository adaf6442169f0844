/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: whether merged metadata works here, found out by doing it: an EROFS image of
 * one file without data, mounted from ROOT, under an overlayfs that finds the
 * data in another directory; the file is read, and copied up.
 *
 * Kernels before 6.16 refuse the overlayfs; others lack EROFS, cannot mount it from a
 * file and have no loop devices; or we may not, in a user namespace.
 */
#ifndef SNAPSHOTTER_PROBE_H
#define SNAPSHOTTER_PROBE_H

#include "common/base.h"
#include "common/err.h"
#include "daemon/snapshotter/stack.h"

/* Works below ROOT/probe, and leaves nothing there. Return: 0; -errno with @e: why
 * not */
int probe_merged(const struct stack *st, struct err *e);

#endif
