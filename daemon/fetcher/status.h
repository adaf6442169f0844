/* SPDX-License-Identifier: Apache-2.0 */
/* What the fetcher tells of itself: JSON for STATUS, Prometheus text. */
#ifndef FETCHER_STATUS_H
#define FETCHER_STATUS_H

#include "common/base.h"

struct buf;
struct fetchd;

/* Append; Return: 0, -ENOMEM, -EOVERFLOW. docs/PROTOCOL.md has the keys. */
int status_json(const struct fetchd *d, struct buf *b);
int status_prometheus(const struct fetchd *d, struct buf *b);

#endif
