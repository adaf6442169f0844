/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a client what the trace that it named with OPEN says of the blob. */
#ifndef FETCHER_HINTS_H
#define FETCHER_HINTS_H

#include "common/base.h"

struct blob;
struct fetchd;
struct hints;

/**
 * struct hints_to - whom
 * @id:		of the OPEN, which gave @handle
 * @send:	[@n] a packet; maybe later, never after hints_free()
 */
struct hints_to {
	uint64_t id;
	uint32_t handle;
	void *ctx;
	void (*send)(void *ctx, const uint8_t *p, size_t n);
};

/**
 * hints_new() - find the trace, play it for a blob, and get ready to tell
 * @name:	of the blob, "HOST[:PORT]/REPO@sha256:…"
 * @trace:	"sha256:…", a blob of the same repository; "?sha256:…": that of the
 *		image with this manifest, found while nobody waits
 *
 * Return: NULL where there is nothing to tell
 */
struct hints *hints_new(struct fetchd *d, struct blob *b, const char *name,
			const char *trace, bool plain_http,
			const struct hints_to *to);
/* Begins to tell. */
void hints_start(struct hints *h);
void hints_free(struct hints *h);

#endif
