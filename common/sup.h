/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what a supervisor (estargz-snapshotter) and the monitor of a layer
 * (estargzfs) say to each other.
 *
 * A SOCK_SEQPACKET Unix socket, one message a packet, little-endian, no
 * padding. The two may be of different versions: an upgrade restarts the
 * supervisor, not the layers.
 *
 * There are two ways to such a socket:
 *   start   estargzfs is executed with --supervisor=FD, one end of a socket
 *           pair. The supervisor's first message is START; with a session in
 *           it (the descriptor of /dev/fuse comes with the packet), estargzfs
 *           goes on serving that mount, whose monitor was killed, instead of
 *           making one. The answer is READY or FAILED.
 *   adopt   a monitor that has a supervisor or had one listens on
 *           SUP_DIR/<pid>.sup and answers a connection with READY. The
 *           newest connection is the supervisor's; older ones are closed.
 *           Listens from its start: a connection made while it is still making
 *           the mount is answered when that is there, or closed where it
 *           failed (its command line says which mount point it is for).
 *
 * READY brings a duplicate of the descriptor of /dev/fuse and the INIT
 * request that the kernel sent, which is all that a successor of the monitor
 * needs. Whoever holds that descriptor keeps the session, and with it everybody
 * who waits for an answer: a supervisor that does not start a successor must
 * close it.
 *
 * After FAILED the process ends; where START had a session, that is still
 * there, and has no server. Its code says ECHILD where a worker died, ECONNRESET,
 * EPIPE or ECONNREFUSED where the fetcher did: another try may well succeed.
 *
 * A closed connection with no ENDED before it: the monitor was killed. A
 * supervisor that goes away changes nothing: the mount stays. Where monitor and
 * supervisor are both killed, the session is lost: readers get an error.
 */
#ifndef COMMON_SUP_H
#define COMMON_SUP_H

#include "common/base.h"

#define SUP_VERSION 1u
#define SUP_DIR "/run/estargz/layers"
#define SUP_INIT_BYTES 256u
#define SUP_TEXT_BYTES 4096u

enum sup_type {
	SUP_START = 1,  /* to the monitor; may carry /dev/fuse */
	SUP_END = 2,    /* to the monitor: detach the mount, then end */
	SUP_READY = 16, /* from it; carries /dev/fuse */
	SUP_FAILED = 17,
	SUP_ENDED = 18, /* from it: the session is over, or given up */
	SUP_STATE = 19, /* from it: the layer is complete now */
};

struct sup_hdr {
	uint16_t type;
	uint16_t version;
	uint32_t len; /* of the packet */
} __attribute__((packed));
static_assert(sizeof(struct sup_hdr) == 8, "wire");

/* A mount that exists: what a successor needs beside the descriptor. It must answer
 * INIT as its predecessor did: who changes the answer raises SUP_VERSION, and a session
 * is gone on with only by the version that began it. */
struct sup_session {
	uint32_t dev_major; /* st_dev of the mount */
	uint32_t dev_minor;
	uint32_t init_len; /* 0: no session */
	uint32_t index;    /* which index the kernel has inode numbers of: the
			      monitor's affair, to be handed on */
	uint8_t init[SUP_INIT_BYTES];
} __attribute__((packed));
static_assert(sizeof(struct sup_session) == 272, "wire");

struct sup_start {
	struct sup_hdr h;
	struct sup_session session;
} __attribute__((packed));
static_assert(sizeof(struct sup_start) == 280, "wire");

#define SUP_COMPLETE 1u
/* Text behind it: the mount point, not terminated. */
struct sup_ready {
	struct sup_hdr h;
	uint32_t pid;
	uint32_t flags;
	struct sup_session session;
} __attribute__((packed));
static_assert(sizeof(struct sup_ready) == 288, "wire");

/* code: a positive errno; text behind it: one line. */
struct sup_failed {
	struct sup_hdr h;
	uint32_t code;
	uint32_t reserved;
} __attribute__((packed));
static_assert(sizeof(struct sup_failed) == 16, "wire");

#endif
