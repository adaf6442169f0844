/* SPDX-License-Identifier: Apache-2.0 */
/* What the fetcher gives up at its start. */
#ifndef FETCHER_SANDBOX_H
#define FETCHER_SANDBOX_H

#include "common/err.h"

/* No new privileges, no capabilities, no core file, no system call that a
 * fetcher and its credential helpers have no use for. Return: 0 or -errno. */
int sandbox_enter(struct err *e);

#endif
