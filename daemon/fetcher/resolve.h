/* SPDX-License-Identifier: Apache-2.0 */
/* A reference to the layers of an image: RESOLVE of the protocol. */
#ifndef FETCHER_RESOLVE_H
#define FETCHER_RESOLVE_H

#include "common/base.h"
#include "common/err.h"

struct fetchd;
struct resolve;

#define RESOLVE_TRIES_MAX 4u /* rounds over the hosts */

/**
 * resolve_start() - ask for a manifest
 * @fn:		called once, from the loop: [@len] the JSON document, or NULL
 *		and @e
 *
 * Return: 0, or an error about the reference or the configuration
 */
int resolve_start(struct fetchd *d, const char *reference, bool plain_http,
		  uint64_t deadline_ns,
		  void (*fn)(void *ctx, const char *json, size_t len,
			     const struct err *e),
		  void *ctx, struct resolve **ret, struct err *e);
/* Stops it, with no callback. */
void resolve_stop(struct resolve *r);

#endif
