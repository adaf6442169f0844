/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: read-ahead of whole small files, in the order of the names of a directory.
 * Who reads many files one after the other reads them so, and a blob may have them
 * in any order: as a file system gave them to who made it, or with some in front.
 *
 * Inodes lie in that order in the image (erofs_inode_next()). A file that is read
 * not far behind the last one of a cursor continues it; from the third one that
 * missed on, those that follow are asked for, NEXTFILES_BYTES_MIN of them and twice as
 * much with each further miss. Where a directory ends is not looked at: what is
 * fetched of the next one is little.
 *
 * Part of the miss engine: with miss.lock held.
 */
#ifndef FS_NEXTFILES_H
#define FS_NEXTFILES_H

#include "common/base.h"

struct miss;

#define NEXTFILES_FILE_BYTES_MAX KIB(256) /* larger ones are left out */
#define NEXTFILES_BYTES_MIN KIB(512)
#define NEXTFILES_BYTES_MAX MIB(4)
#define NEXTFILES_MISSES 3u
#define NEXTFILES_NEAR 256u  /* nids: some 60 files */
#define NEXTFILES_RUNS 64u   /* asked for at a time */
#define NEXTFILES_STEPS 512u /* inodes looked at, at a time */

/* A file is read, whose bytes were missing or not. Return: whether what follows is
 * asked for, so that what lies behind it in the blob need not be */
bool nextfiles(struct miss *m, uint64_t nid, bool missed, uint64_t now_ns);

#endif
