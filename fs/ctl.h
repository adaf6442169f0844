/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what a monitor and its worker say to each other over a SEQPACKET
 * socket pair. Both are of one program and one build, so these are plain
 * structs.
 *
 *   monitor -> worker                     worker -> monitor
 *   START   files, fetcher                INDEXED | BAD_INDEX | FAILED
 *   (START again after BAD_INDEX, or when another mount was faster)
 *   SERVE   /dev/fuse and its INIT        READY
 *   FETCHER a new connection              NEED_FETCHER
 *                                         COMPLETE: all of the layer is here
 *   RELIEVE another will serve              (exits with WORKER_RELIEVED)
 *   BACKED  the number of that            BACK: a file's backing file is wanted
 * A worker ends by itself, with exit status 0, when its session ends.
 */
#ifndef FS_CTL_H
#define FS_CTL_H

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"
#include "common/sup.h"

#define CTL_INIT_BYTES SUP_INIT_BYTES

enum ctl_type {
	CTL_START = 1,
	CTL_SERVE,
	CTL_FETCHER,
	CTL_INDEXED,
	CTL_BAD_INDEX,
	CTL_FAILED,
	CTL_READY,
	CTL_NEED_FETCHER,
	CTL_COMPLETE,
	CTL_BACK,
	CTL_BACKED,
	CTL_RELIEVE,
};

/* Descriptors of START, in this order; the blob is there for PROTO_BLOB_FD.
 * Where @build, the three files are empty and the worker fills them. */
enum ctl_start_fd {
	CTL_FD_EROFS,
	CTL_FD_CHUNKS,
	CTL_FD_PRESENT,
	CTL_FD_FETCHER, /* only with has_fetcher */
	CTL_FD_N_,
};

struct ctl_start {
	uint32_t type;
	bool build;
	bool has_fetcher;
	bool exclusive; /* nobody else serves this layer */
	bool sealed;    /* it is complete: the files are for reading alone */
	uint8_t boot_id[16];
};

/* With /dev/fuse and the file of opens (fs/opens.h); that it is open, too, says
 * that the worker lives, where the monitor has a supervisor (fs/super.h). */
struct ctl_serve {
	uint32_t type;
	bool fail_resent; /* answer re-sent requests with EIO */
	bool again;       /* somebody has served this mount before */
	bool relieves;    /* and was told to end */
	uint32_t init_len;
	uint8_t init[CTL_INIT_BYTES];
};

struct ctl_indexed {
	uint32_t type;
	bool unverified;
	uint32_t index; /* the begin of its digest */
	struct digest toc_digest;
	uint64_t image_bytes;
};

struct ctl_failed {
	uint32_t type;
	struct err e;
};

/* @close_nid: another, whose backing file is not needed; 0: none. */
struct ctl_back {
	uint32_t type;
	uint64_t nid;
	uint64_t close_nid;
};

struct ctl_backed {
	uint32_t type;
	int32_t error; /* 0 or -errno */
	uint64_t nid;
	uint32_t id;
};

/* FETCHER, READY, NEED_FETCHER, COMPLETE, BAD_INDEX, RELIEVE. */
struct ctl_plain {
	uint32_t type;
};

union ctl_msg {
	uint32_t type;
	struct ctl_start start;
	struct ctl_serve serve;
	struct ctl_indexed indexed;
	struct ctl_failed failed;
	struct ctl_back back;
	struct ctl_backed backed;
	struct ctl_plain plain;
};

#endif
