/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the image of a complete layer is not written any more, and the kernel is
 * given none that somebody could still write to: what is looked through must be
 * what is mounted then.
 *
 * layer.erofs is sealed by taking away its write permission (0400). That is a mark on
 * the inode, for root, who would be let in nevertheless: nobody of ours opens a
 * sealed one for writing (fs/state.c looks behind open(2), too). Who has had it
 * open since before is found by a read lease (fcntl(2), F_SETLEASE), which the
 * kernel refuses while a file is open for writing, be it as a descriptor, a
 * mapping or a file of an io_uring.
 */
#ifndef COMMON_SEAL_H
#define COMMON_SEAL_H

#include "common/base.h"
#include "common/err.h"

/* @fd: open in any way. What is sealed is left alone, so that it may lie where nothing
 * can be changed. Return: 0, -errno */
int seal_set(int fd);
bool seal_is_set(int fd);

/**
 * seal_hold() - nobody has it open for writing, nor opens it so
 * @fd:		open for reading; who is looked for may find it sealed only when the
 *		lease goes, so it is to be sealed before that
 * @wait_ms:	for those who have it open: an exiting process lets go of its
 *		files a moment later
 *
 * Holds until @fd is closed, or somebody has waited longer for an open(2) than the
 * kernel lets us (/proc/sys/fs/lease-break-time): seal_holds() then says no.
 * Return: 0; -EBUSY somebody has; -errno: there are no leases here; with @e
 */
int seal_hold(int fd, unsigned wait_ms, struct err *e);
bool seal_holds(int fd);

#endif
