/* SPDX-License-Identifier: Apache-2.0 */
/* Every bound on what comes from outside, in one place. */
#ifndef COMMON_LIMITS_H
#define COMMON_LIMITS_H

#include "common/base.h"

/* TOC: 368 B an entry is usual, so 128 MiB holds some 350,000 entries. */
#define TOC_JSON_BYTES_MAX MIB(128)
#define TOC_BLOB_BYTES_MAX MIB(64) /* compressed */
#define TOC_ENTRIES_MAX 1000000u
#define TOC_NAME_BYTES_MAX 4096u      /* one path, PATH_MAX */
#define TOC_COMPONENT_BYTES_MAX 255u  /* NAME_MAX */
#define TOC_DEPTH_MAX 512u            /* components in a path */
#define TOC_XATTRS_MAX 4096u          /* of one entry */
#define TOC_XATTRS_TOTAL_MAX 4000000u /* of all entries together */
#define XATTR_VALUE_BYTES_MAX 65535u  /* erofs: e_value_size is 16 bits */
#define XATTR_NAME_BYTES_MAX 255u
#define JSON_DEPTH_MAX 16u

/* EROFS: 32-bit block addresses of 4 KiB. */
#define EROFS_BYTES_MAX (UINT64_C(1) << 44)
#define EROFS_META_BYTES_MAX MIB(1024)
/* Names in a layer, parents that no entry has included. */
#define TREE_NODES_MAX 2000000u
/* One image of a chain of layers: its names are bounded as a layer's are. */
#define MERGE_LAYERS_MAX 512u
#define MERGE_XATTRS_MAX (2u * TREE_NODES_MAX + TOC_XATTRS_TOTAL_MAX)

/* Chunks up to this are decoded in one shot; larger ones are streamed. */
#define CHUNK_ONESHOT_BYTES_MAX MIB(16)
/* 32 MiB: the largest window of the encoders that write zstd:chunked. */
#define CODEC_ZSTD_WINDOW_LOG_MAX 25
#define CHUNK_BYTES_MAX (UINT64_C(1) << 40)

/* Registry documents. */
#define MANIFEST_BYTES_MAX MIB(4)
#define MANIFEST_LAYERS_MAX 512u
/* Of what is in it: 800 bytes of memory for three of text, where it is objects. */
#define MANIFEST_VALUES_MAX 131072u
#define REFERRERS_BYTES_MAX KIB(512) /* what is said of artifacts */
#define INDEX_IMAGES_MAX 512u
/* Archives of images: files and links, and their names together. */
#define ARCHIVE_ENTRIES_MAX 65536u
#define ARCHIVE_NAMES_MAX MIB(16)
#define TOKEN_BYTES_MAX KIB(64)
#define REFERENCE_BYTES_MAX 1024u
#define URL_BYTES_MAX 8192u

/* The tail fetch: footer and TOC in one request, with luck. A TOC is half a per
 * cent of the blob, to two where all files are small. What is fetched in vain
 * costs more on a slow link than a second request where it was too little. */
#define TAIL_BYTES_MIN KIB(256)
#define TAIL_BYTES_MAX MIB(2)
#define TAIL_BYTES_UNKNOWN KIB(512) /* where the blob's size is not known */
#define TAIL_FRACTION 96u

#endif
