/* SPDX-License-Identifier: Apache-2.0 */
/* From SOURCE and the options to the layers that are to be mounted. */
#ifndef FS_SOURCE_H
#define FS_SOURCE_H

#include "common/base.h"
#include "common/err.h"
#include "fs/connect.h"
#include "fs/layer.h"
#include "fs/options.h"

/**
 * struct source - what is to be mounted
 * @layers:	[@n_layers], lowest first, each digest once (at its upper
 *		place, which is equivalent)
 */
struct source {
	struct layer *layers;
	size_t n_layers;
};

/**
 * source_resolve() - find the layers
 * @c:		asked for a fetcher only where SOURCE is an image in a
 *		registry
 *
 * Every layer has a TOC digest to check against, or -EACCES, unless
 * @o->no_verify.
 * Return: 0, -errno with @e
 */
int source_resolve(struct source *s, const struct options *o, struct connect *c,
		   struct err *e);
void source_done(struct source *s);

#endif
