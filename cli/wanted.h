/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: which files of which layer go in front, by what was recorded and what
 * is listed. Asked about a layer once its entries are known; remembers which
 * of the files were found anywhere. Layers may be asked about by a thread each.
 */
#ifndef CLI_WANTED_H
#define CLI_WANTED_H

#include "cli/build/build.h"
#include "cli/glob.h"
#include "cli/progress.h"
#include "cli/record.h"
#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"

/**
 * struct wanted_image - an image whose layers will be asked about
 * @layers:	[@n_layers] numbers of layers, lowest first; may repeat
 */
struct wanted_image {
	struct digest manifest;
	const size_t *layers;
	size_t n_layers;
};

struct wanted;

/**
 * wanted_new() - prepare
 * @record, @list: may be NULL; borrowed
 * @images:	[@n]; borrowed
 *
 * A recorded file is of the image whose manifest it names, or of all images
 * where it names none of them.
 * Return: 0, -ENOMEM
 */
int wanted_new(const struct record *record, const struct glob_list *list,
	       const struct wanted_image *images, size_t n,
	       struct wanted **ret);
void wanted_free(struct wanted *w);
DEFINE_CLEANUP(struct wanted, wanted_free);

/**
 * struct wanted_layer - what goes in front in one layer
 * @layer:	its number in the images' @layers
 */
struct wanted_layer {
	struct wanted *wanted;
	size_t layer;
	/* what was chosen */
	struct build_wanted *v;
	struct build_range **ranges;
	size_t n;
};
void wanted_layer_done(struct wanted_layer *l);
#define CLEANUP_WANTED_LAYER CLEANUP(wanted_layer_done)

/* build_opts.choose; @arg: a struct wanted_layer. */
int wanted_choose(void *arg, const char *const *paths, size_t n,
		  const struct build_wanted **ret, size_t *ret_n,
		  struct err *e);

/* A layer is kept as it is: its files are in no order of ours. */
void wanted_kept(struct wanted *w, size_t layer);

/* Says which files were in none of their layers; some of them, if many. */
void wanted_say(const struct wanted *w, struct progress *p);

#endif
