/* SPDX-License-Identifier: Apache-2.0 */
/* An image that is looked at: opened, of an index the one for a platform. */
#ifndef CLI_SOURCE_H
#define CLI_SOURCE_H

#include <getopt.h>

#include "cli/image/image.h"
#include "cli/image/manifest.h"
#include "cli/layerinfo.h"
#include "cli/regopts.h"

/* Options of whoever looks at an image; those of a command's own are letters
 * or below. */
enum {
	SOURCE_PLATFORM = 1000,
};
/* clang-format off */
#define SOURCE_LONGS \
	{"platform", required_argument, NULL, SOURCE_PLATFORM}, \
	REGOPTS_LONGS
#define SOURCE_HELP \
	"      --platform P          of an index, the image for OS/ARCH[/VARIANT]\n" \
	"                            [this machine's]\n" \
	REGOPTS_HELP
/* clang-format on */

/**
 * struct source_opts - what the options said
 */
struct source_opts {
	struct image_opts image;
	struct platform platform;
};
void source_opts_init(struct source_opts *o);
/* One option. Return: 1 taken, 0 not one of these, -EINVAL */
int source_opts_take(struct source_opts *o, int c, const char *value,
		     struct err *e);

/**
 * struct source - an image
 * @root:	what the name points to
 * @is_index:	the manifest is one of an index
 * @platform:	of the image, where an index or the config says it: "" if not
 */
struct source {
	struct image_src *src;
	struct image_desc root;
	bool is_index;
	char platform[100];
	struct manifest m;
};
int source_open(const char *name, const struct source_opts *o,
		struct source *ret, struct err *e);
void source_close(struct source *s);
#define CLEANUP_SOURCE CLEANUP(source_close)

/* Reads the ends of a layer. */
int source_layer(struct source *s, size_t i, struct layerinfo *ret,
		 struct err *e);

#endif
