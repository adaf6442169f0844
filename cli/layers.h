/* SPDX-License-Identifier: Apache-2.0 */
/* The layers of a transformation: several at a time, each once. */
#ifndef CLI_LAYERS_H
#define CLI_LAYERS_H

#include "cli/transform.h"
#include "cli/wanted.h"

/**
 * layers_convert() - make all layers
 * @r:		its layers have @in, and @toc where an annotation says so; the
 *		rest is filled in
 *
 * Return: 0; the first error there was, @e names its layer; -EINTR after
 * layers_stop()
 */
int layers_convert(struct image_src *src, const struct transform_opts *o,
		   struct wanted *w, struct transform_result *r, struct err *e);

/* Media type of what we write in the place of what was there. */
const char *layers_gzip_type(const char *was);

/* From a signal handler. */
void layers_stop(void);
bool layers_stopped(void);

#endif
