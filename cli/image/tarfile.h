/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: archives of images as files that are read in place. Nothing is unpacked:
 * the tar is looked through once, and what is in it found by name from then
 * on. Entries that are neither regular files nor links are ignored. A name
 * that two entries have is refused when it is asked for, because it would be
 * another one for others; links lead nowhere but to other entries.
 */
#ifndef CLI_IMAGE_TARFILE_H
#define CLI_IMAGE_TARFILE_H

#include "cli/image/span.h"

struct tarfile;

/* Return: 0, -ENOENT, -EBADMSG (no tar, or truncated), -EOPNOTSUPP (a
 * compressed one), -EOVERFLOW (ARCHIVE_ENTRIES_MAX, ARCHIVE_NAMES_MAX) */
int tarfile_open(const char *path, struct tarfile **ret, struct err *e);
void tarfile_close(struct tarfile *t);
DEFINE_CLEANUP(struct tarfile, tarfile_close);

/* A file by its name, or by a link's. Return: 0, -ENOENT, -EBADMSG (stands
 * twice), -ELOOP, -errno */
int tarfile_find(struct tarfile *t, const char *name, struct span *ret,
		 struct err *e);

#endif
