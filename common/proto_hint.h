/* SPDX-License-Identifier: Apache-2.0 */
/* The packet HINT of common/proto.h. */
#ifndef COMMON_PROTO_HINT_H
#define COMMON_PROTO_HINT_H

#include "common/base.h"
#include "common/proto.h"

/*
 * The trace of an image (common/trace.h) may be named with OPEN and WARM, or the
 * manifest that it refers to. The fetcher finds it, gets it, and begins to fetch what it names of all blobs that were
 * named with it, in its order.
 *
 * HINT, with the id of the OPEN that named a trace: n ranges of the blob follow,
 * in the order in which they will be wanted; disjoint, but where the blob ends is
 * not looked at. READs of these as they are, in this order, cost the least:
 * they may be there already. Several of them, if need be; the last has
 * PROTO_HINT_END. PROTO_HINT_NONE, which is the last then: there is no trace to
 * be had, or no good one.
 */
#define PROTO_WARM_TRACE '+' /* in front of a name of WARM */
/* In front of a digest of OPEN, and a name of WARM (version 5): it is of the image's
 * manifest, the trace is what refers to it, and nothing waits until it is found. */
#define PROTO_OPEN_IMAGE '?'
#define PROTO_WARM_IMAGE PROTO_OPEN_IMAGE
#define PROTO_OPENED_HINTS 1u /* flag of OPENED: HINTs will come */
#define PROTO_HINT_END 1u
#define PROTO_HINT_NONE 2u
#define PROTO_HINT_RANGES_MAX 1024u /* of a packet */
#define PROTO_HINTS_MAX (1u << 17)  /* of a blob */
/* So many handles of one connection: of the next, OPENED does not promise any. */
#define PROTO_HINT_HANDLES_MAX 4u
struct proto_hint {
	struct proto_hdr h;
	uint32_t handle;
	uint32_t n;
} __attribute__((packed));
static_assert(sizeof(struct proto_hint) == 24, "wire");
struct proto_hint_range {
	uint64_t off;
	uint64_t len;
} __attribute__((packed));
static_assert(sizeof(struct proto_hint_range) == 16, "wire");
static_assert(sizeof(struct proto_hint) +
			      PROTO_HINT_RANGES_MAX *
				      sizeof(struct proto_hint_range) <=
		      PROTO_PACKET_MAX,
	      "fits");

#endif
