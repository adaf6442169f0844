/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest client of estargzd (common/proto.h): it only sends WARM. */
#ifndef COMMON_PROTOCL_H
#define COMMON_PROTOCL_H

#include "common/base.h"
#include "common/err.h"

#define PROTOCL_TIMEOUT_MS 2000u /* for each answer */

/**
 * struct protocl_warm - what a WARM says
 * @names:	[@n] "HOST[:PORT]/REPO@sha256:…[ BYTES]", those wanted first in front;
 *		any number, but the fetcher keeps PROTO_WARM_BYTES_MAX only
 * @tail_bytes:	of each; 0: the fetcher's
 * @hold_ms:	how long they are kept; 0: the fetcher's 60 s
 */
struct protocl_warm {
	const char *const *names;
	size_t n;
	uint32_t tail_bytes;
	uint32_t hold_ms;
	bool plain_http;
};

/**
 * protocl_warm() - tell a fetcher which blobs will be mounted soon
 * @path:	its socket
 *
 * A hint: the blobs' mounts work without it. The fetcher goes on with it after
 * this has returned.
 * Context: any thread; blocks on the fetcher, never on the network
 * Return: 0: understood; -errno with @e (-ECONNREFUSED, -ENOENT: none listens;
 * -EOPNOTSUPP: too old; -EOVERFLOW: a name is too long)
 */
int protocl_warm(const char *path, const struct protocl_warm *w, struct err *e);

#endif
