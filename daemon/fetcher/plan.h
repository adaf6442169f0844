/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what a trace comes to: ranges to be asked for, and in which order. Pure.
 *
 * The reads of a trace are small, and there is a request a range: neighbours
 * that are wanted at about the same time, or of which the later one is small, are
 * one range, with what lies between them where that is little. Ranges of a blob are disjoint; what a trace names
 * twice is fetched once. Of a trace with data they are its reads: nothing lies between those there.
 *
 * The opening of a blob may have been asked for before its trace was there: it is
 * a range as far as the trace names any of it.
 */
#ifndef FETCHER_PLAN_H
#define FETCHER_PLAN_H

#include "common/base.h"
#include "common/trace.h"

#define PLAN_RANGE_BYTES_MAX KIB(512) /* who needs a part waits for the rest */
#define PLAN_GAP_BYTES KIB(16)        /* they cost no more than a request */
#define PLAN_EPOCH_BYTES MIB(1)  /* so far apart may merged reads be wanted */
#define PLAN_SMALL_BYTES KIB(16) /* such a one may be wanted at any time */
#define PLAN_BYTES_MAX MIB(1024) /* what a trace names after that is left out */
#define PLAN_OPENING_BYTES KIB(256)

/**
 * struct plan_range - bytes of a blob
 * @at:		where they are in the trace's data (common/trace.h)
 * @rank:	> 0; those wanted first have the smaller ones. Counts KiB of the
 *		trace, so that two plans advance alike.
 */
struct plan_range {
	uint64_t off;
	uint64_t at;
	uint32_t len;
	uint32_t layer;
	uint32_t rank;
};

/**
 * struct plan - ranges in the order in which they are wanted
 * @v:		[@n]
 * @by_place:	[@n] numbers of them, by layer and then by offset
 * @first:	[@n_layers + 1] where a layer begins in @by_place
 */
struct plan {
	struct plan_range *v;
	size_t n;
	uint32_t *by_place;
	uint32_t *first;
	struct digest *layers;
	size_t n_layers;
};

/**
 * plan_make() - takes over @t->layers
 * @opened:	the layer whose opening is asked for already; t->n_layers: none
 *
 * Return: 0, -ENOMEM
 */
int plan_make(struct trace *t, size_t opened, struct plan *ret);
void plan_done(struct plan *p);

/* The number of a blob; n_layers where the trace has none of it. */
size_t plan_layer(const struct plan *p, const struct digest *blob);

/* The first of a layer's places whose range ends behind @off; first[layer + 1]
 * where none does. */
uint32_t plan_place(const struct plan *p, size_t layer, uint64_t off);

#endif
