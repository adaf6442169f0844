/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker may do once it parses bytes from the network: nothing but
 * compute, and use the descriptors it was given. */
#ifndef FS_SANDBOX_H
#define FS_SANDBOX_H

#include "common/base.h"
#include "common/err.h"

/**
 * sandbox_enter() - give up uid, groups, capabilities and most system calls
 *
 * No file can be opened, no socket made, no program run afterwards; threads
 * may be started. What is refused gets EPERM, so that a library that probes
 * goes on; execve and ptrace kill.
 * Return: 0, -errno
 */
int sandbox_enter(struct err *e);

#endif
