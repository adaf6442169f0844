/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what a client (estargzfs, mount.estargz, estargz) and the fetcher
 * (estargzd) say to each other.
 *
 * A SOCK_SEQPACKET Unix socket; every message is one packet: struct
 * proto_hdr, then the fixed body of its type, then at most PROTO_TEXT_MAX
 * bytes of text. Little-endian, no padding. Payload never travels in a
 * packet: the client hands over a memfd, the arena, at HELLO, and names for
 * every READ where in it the bytes go. So the client's arena is the credit:
 * a slow layer cannot make the fetcher buffer.
 * Order: HELLO first, both ways. Then any number of requests, each with an
 * id of the client's choice (unique while it is open); every request is
 * answered by one final message that carries its id: OPENED, DATA with
 * PROTO_DATA_END, or FAILED. A READ may be answered by several DATA before, and
 * an OPEN followed by HINTs. When the connection ends, everything of it is
 * forgotten by the fetcher; the client connects again, opens its blobs again
 * and asks again for what was open.
 * docs/PROTOCOL.md is the text of this; both change together, with
 * PROTO_VERSION.
 */
#ifndef COMMON_PROTO_H
#define COMMON_PROTO_H

#include "common/base.h"

#define PROTO_MAGIC UINT32_C(0x677a7365) /* "eszg" */
#define PROTO_VERSION 5u
#define PROTO_VERSION_MIN 1u /* spoken by estargzd: layers outlive it */

#define PROTO_TEXT_MAX 16384u
#define PROTO_PACKET_MAX (64u + PROTO_TEXT_MAX)
#define PROTO_ARENA_BYTES_MAX MIB(256)
#define PROTO_READ_BYTES_MAX MIB(64)
#define PROTO_READS_OPEN_MAX 1024u /* open requests of one connection */
#define PROTO_HANDLES_MAX 1024u    /* of one connection */

enum proto_type {
	PROTO_HELLO = 1,   /* both ways; the client's carries the arena memfd */
	PROTO_RESOLVE = 2, /* reference -> JSON document in the arena */
	PROTO_OPEN = 3,    /* a blob -> OPENED; asks nothing of the network */
	PROTO_READ = 4,    /* a range of it -> DATA… */
	PROTO_CANCEL = 5,  /* a READ or RESOLVE; answered as FAILED ECANCELED */
	PROTO_PRIO = 6,    /* changes the class of a READ; no answer */
	PROTO_CLOSE = 7,   /* a handle; its READs fail; no answer */
	PROTO_STATUS = 8,  /* -> JSON document in the arena */
	PROTO_WARM = 9,    /* the tails of blobs that will be mounted soon */
	PROTO_OPENED = 16,
	PROTO_DATA = 17,
	PROTO_FAILED = 18,
	PROTO_HINT =
		19, /* what of a blob its image's trace names: proto_hint.h */
};

/* Demand before prefetch before background, over all blobs of the node. */
enum proto_class {
	PROTO_CLASS_DEMAND = 0,
	PROTO_CLASS_PREFETCH = 1,
	PROTO_CLASS_BACKGROUND = 2,
	PROTO_CLASS_N_,
};

/**
 * struct proto_hdr - in front of every packet
 * @type:	enum proto_type
 * @flags:	of that type, unknown ones are a protocol error
 * @len:	bytes of the whole packet, header and text included
 * @id:		the request's; 0 in HELLO, PRIO and CLOSE (which name their
 *		target in the body)
 */
struct proto_hdr {
	uint16_t type;
	uint16_t flags;
	uint32_t len;
	uint64_t id;
} __attribute__((packed));
static_assert(sizeof(struct proto_hdr) == 16, "wire");

/* arena_bytes: 0 in the fetcher's answer, whose version is the client's. The
 * memfd must be sealed with F_SEAL_SHRINK and F_SEAL_GROW and be exactly
 * arena_bytes long; a client that only sends WARM says 0 and brings none. */
struct proto_hello {
	struct proto_hdr h;
	uint32_t magic;
	uint32_t version;
	uint64_t arena_bytes;
} __attribute__((packed));
static_assert(sizeof(struct proto_hello) == 32, "wire");

#define PROTO_RESOLVE_PLAIN_HTTP 1u
/*
 * RESOLVE. Text: the reference, "HOST[:PORT]/REPO[:TAG][@DIGEST]". The answer
 * is DATA with PROTO_DATA_END whose bytes are UTF-8 JSON:
 *   {"reference":"…","repository":"host/repo","manifest_digest":"sha256:…",
 *    "layers":[{"digest":"sha256:…","size":123,"media_type":"…",
 *               "toc_digest":"sha256:…" or absent}]}      lowest layer first
 * An index is followed to the manifest of linux and this machine's
 * architecture. -EOVERFLOW when it does not fit arena_len.
 */
struct proto_resolve {
	struct proto_hdr h;
	uint64_t arena_off;
	uint64_t arena_len;
	uint32_t deadline_ms; /* 0: the fetcher's default, 30 s */
	uint32_t reserved;
} __attribute__((packed));
static_assert(sizeof(struct proto_resolve) == 40, "wire");

/*
 * OPEN. What the text is depends on the kind:
 *   PROTO_BLOB_REGISTRY  "HOST[:PORT]/REPO@sha256:…", the digest the blob's
 *   PROTO_BLOB_URL       "http://…" or "https://…"
 *   PROTO_BLOB_FD        a name for messages; one descriptor comes with the
 *                        packet: a regular file open for reading, which the
 *                        fetcher reads without needing rights of its own
 * Behind a name of PROTO_BLOB_REGISTRY, '\n' and "sha256:…" (version 3): the trace of
 * the image, a blob of the same repository, or where it is found (proto_hint.h).
 * size: bytes of the blob where known, else 0 (checked against what the
 * server says: a mismatch fails reads with -ESTALE).
 */
enum proto_blob_kind {
	PROTO_BLOB_REGISTRY = 1,
	PROTO_BLOB_URL = 2,
	PROTO_BLOB_FD = 3,
};
#define PROTO_OPEN_PLAIN_HTTP 1u
struct proto_open {
	struct proto_hdr h;
	uint32_t kind;
	uint32_t reserved;
	uint64_t size;
} __attribute__((packed));
static_assert(sizeof(struct proto_open) == 32, "wire");

struct proto_opened {
	struct proto_hdr h;
	uint32_t handle; /* > 0 */
	uint32_t reserved;
} __attribute__((packed));
static_assert(sizeof(struct proto_opened) == 24, "wire");

/*
 * READ [off, off + len) of a blob to arena_off. The region must lie in the
 * arena and belongs to the fetcher until the final message.
 * PROTO_READ_SUFFIX: the last len bytes of the blob instead (all of it where
 * it is shorter); off is 0. They are placed at arena_off from the first byte
 * of the suffix on; DATA.off tells where in the blob that is.
 * PROTO_READ_OTHER_SOURCE: what came before was corrupt; ask another mirror,
 * or at least not a cache of the same redirect.
 * PROTO_READ_ONE: in one request: not split over parallel ones. (A mount is to
 * cost one request, and registries count them.) Given up after a few tries
 * without a byte: somebody waits for the mount.
 * deadline_ms: give up, with retries, after that long; 0: 300 s.
 */
#define PROTO_READ_SUFFIX 1u
#define PROTO_READ_OTHER_SOURCE 2u
#define PROTO_READ_ONE 4u
struct proto_read {
	struct proto_hdr h;
	uint32_t handle;
	uint32_t class_;
	uint64_t off;
	uint64_t len;
	uint64_t arena_off;
	uint32_t deadline_ms;
	uint32_t reserved;
} __attribute__((packed));
static_assert(sizeof(struct proto_read) == 56, "wire");

struct proto_cancel {
	struct proto_hdr h; /* id: of the request to cancel */
} __attribute__((packed));
static_assert(sizeof(struct proto_cancel) == 16, "wire");

struct proto_prio {
	struct proto_hdr h;
	uint64_t read_id;
	uint32_t class_;
	uint32_t reserved;
} __attribute__((packed));
static_assert(sizeof(struct proto_prio) == 32, "wire");

struct proto_close {
	struct proto_hdr h;
	uint32_t handle;
	uint32_t reserved;
} __attribute__((packed));
static_assert(sizeof(struct proto_close) == 24, "wire");

/* STATUS. The answer is DATA with PROTO_DATA_END, JSON (PROTOCOL.md §STATUS). */
struct proto_status {
	struct proto_hdr h;
	uint64_t arena_off;
	uint64_t arena_len;
} __attribute__((packed));
static_assert(sizeof(struct proto_status) == 32, "wire");

/*
 * WARM. Text: names as in OPEN of PROTO_BLOB_REGISTRY, with '\n' between them,
 * those that will be wanted first in front. The fetcher resolves and connects, and
 * fetches the last tail_bytes (0: 512 KiB) of each blob, or as many as a blank and a
 * number behind its name say (version 4), all of them at once, into memory of its
 * own, where they are kept for hold_ms (0: 60 s). A READ of the same name by any
 * client is answered from there as far as that reaches, and waits for it while it is
 * on its way rather than asking twice. A hint: failures are only logged, and what is
 * kept is bounded (PROTO_WARM_BYTES_MAX: of one message the last names are left out,
 * of several the oldest are dropped). A name with '+' in front (version 3) is that of
 * the image's trace, which is followed for the blobs of the message (proto_hint.h).
 * The answer, DATA with PROTO_DATA_END and nothing else, says only that it was
 * understood; it outlives its connection. */
#define PROTO_WARM_PLAIN_HTTP 1u
#define PROTO_WARM_BLOBS_MAX 128u /* of one message */
#define PROTO_WARM_BYTES_MAX MIB(64)
#define PROTO_WARM_TAIL_BYTES KIB(512)
#define PROTO_WARM_TAIL_BYTES_MAX MIB(8)
#define PROTO_WARM_HOLD_MS 60000u
#define PROTO_WARM_HOLD_MS_MAX 600000u
struct proto_warm {
	struct proto_hdr h;
	uint32_t tail_bytes;
	uint32_t hold_ms;
} __attribute__((packed));
static_assert(sizeof(struct proto_warm) == 24, "wire");

/*
 * DATA. got: bytes from arena_off on that are there, contiguous, growing from
 * one DATA to the next; the fetcher sends one whenever 128 KiB more are there,
 * and at the end. off: of the first byte in the blob. blob_size: bytes of the
 * whole blob, 0 while not known. PROTO_DATA_END: this was all; a range that
 * reaches past the end of the blob ends early.
 */
#define PROTO_DATA_END 1u
struct proto_data {
	struct proto_hdr h;
	uint64_t got;
	uint64_t off;
	uint64_t blob_size;
} __attribute__((packed));
static_assert(sizeof(struct proto_data) == 40, "wire");

/* FAILED. code: an errno, positive, of common/err.h's vocabulary. Text: one
 * line for a person, without URL queries or secrets. */
struct proto_failed {
	struct proto_hdr h;
	uint32_t code;
	uint32_t reserved;
} __attribute__((packed));
static_assert(sizeof(struct proto_failed) == 24, "wire");

#endif
