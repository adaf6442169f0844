/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics, on a TCP address or a Unix socket; driven by the loop. */
#ifndef FETCHER_METRICS_H
#define FETCHER_METRICS_H

#include "common/base.h"
#include "common/err.h"

struct fetchd;
struct metrics;

/**
 * metrics_new() - listen
 * @address:	"HOST:PORT", "[HOST]:PORT" or "unix:/path"
 *
 * Return: 0, -EINVAL (address), -errno
 */
int metrics_new(struct fetchd *d, const char *address, struct metrics **ret,
		struct err *e);
void metrics_free(struct metrics *m);

#endif
