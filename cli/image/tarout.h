/* SPDX-License-Identifier: Apache-2.0 */
/* A tar that is written beside its place, and takes it when it is complete. */
#ifndef CLI_IMAGE_TAROUT_H
#define CLI_IMAGE_TAROUT_H

#include "cli/image/image.h"

struct tarout;

int tarout_open(const char *path, struct tarout **ret, struct err *e);
/* Without tarout_publish(): what was written is removed. */
void tarout_close(struct tarout *t);
DEFINE_CLEANUP(struct tarout, tarout_close);

/* A small file. */
int tarout_add(struct tarout *t, const char *name, const void *p, size_t n,
	       struct err *e);

/* A blob from a file, whose digest and size are checked; where they are wrong,
 * the whole archive is lost. */
int tarout_add_blob(struct tarout *t, const char *name,
		    const struct image_desc *b, int fd,
		    void (*progress)(void *arg, uint64_t bytes), void *arg,
		    struct err *e);

/* Ends the archive, syncs it, and renames it to its place. */
int tarout_publish(struct tarout *t, struct err *e);

/* Where the next entry would begin. */
uint64_t tarout_at(const struct tarout *t);

/* Goes on with another archive in the same place, that begins with the first
 * @n bytes of what was published. */
int tarout_again(struct tarout *t, uint64_t n, struct err *e);

#endif
