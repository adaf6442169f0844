/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the parts of a play (play.h): ranges of its plan that are held, on their
 * way, or waited for. Only for play.c.
 *
 * A part counts in play.asked and fetchd.play_bytes from the moment it is asked
 * for. The opening of a blob is asked for before there is a plan; it becomes a
 * part when that names it, and counts from then on.
 */
#ifndef FETCHER_PARTS_H
#define FETCHER_PARTS_H

#include "common/trace.h"
#include "daemon/fetcher/blob.h"
#include "daemon/fetcher/plan.h"
#include "daemon/fetcher/play.h"

/**
 * struct part - a range of the plan that is held, on its way, or waited for
 * @rd:		fetches it, once @begun; its class is that of the part before
 * @touched:	in play.touched: more of it is there, or it has failed
 * @mem:	what came, once @begun
 * @taken:	bytes of it that were copied
 * @of_data:	from the trace's data
 */
struct part {
	struct read rd; /* first */
	struct play *p;
	struct list touched;
	struct list waits;
	uint32_t number;
	uint8_t *mem;
	uint64_t taken;
	bool begun;
	bool done;
	bool failed;
	bool of_data;
};

/* A blob that a trace is played for. */
struct link {
	struct list of_play;
	struct list of_blob;
	struct play *p;
	struct blob *b;
	size_t layer; /* once there is a plan; n_layers: it has none of it */
};

/**
 * struct play - a trace
 * @rd:		fetches it; without a blob when that is over
 * @mem:	[TRACE_BYTES_MAX] what it says, until there is a plan
 * @over:	[plan.n] a range is not to be played (any more); NULL: no plan
 * @parts:	[plan.n] NULL where nothing is held or waited for
 * @data:	what has the bytes of all ranges (common/trace.h); NULL: nothing
 * @data_failed: it has not, or wrong ones (@data_wrong); they come from the
 *		layers
 * @given:	[plan.n] with @data: how many bytes of it clients got of that, less
 *		those that turned out to be wrong; 0 once a host was asked for it
 * @linked:	[plan.n_layers] it is played for that blob
 * @opened:	the blob whose opening is fetched before there is a plan; NULL
 * @opening:	that, until it is a part of the plan; NULL
 * @next:	the ranges before are begun or over
 * @n_wanted:	parts that are not begun
 * @asked:	bytes of those begun and not done; @n_asked: how many they are
 * @seen:	how often something came; @seen_then: when @patience was set
 */
struct play {
	struct read rd; /* first */
	struct fetchd *d;
	struct list node; /* in d->plays, oldest first */
	char *name;
	uint8_t *mem;
	bool plain_http;
	bool fetched;
	int code;
	struct plan plan;
	bool *over;
	struct part **parts;
	struct blob *data;
	bool data_failed;
	bool data_wrong;
	uint64_t *given;
	bool *linked;
	struct blob *opened;
	struct part *opening;
	uint32_t next;
	uint32_t n_wanted;
	uint64_t asked;
	size_t n_asked;
	uint64_t seen;
	uint64_t seen_then;
	bool waited_for;
	struct list links;
	struct list watches;
	struct list touched;
	struct loop_task task; /* what has come is given out, more asked for */
	struct loop_timer end;
	struct loop_timer patience;
	struct loop_timer open;
};

/* What starts up by a trace is to have the link for itself. */
void play_keep_still(const struct play *p, struct blob *b);
/* NULL: it is not played for that */
struct link *link_of_blob(const struct play *p, const struct blob *b);

/* The part of range @i, a new one where there is none. Return: NULL where memory
 * is short */
struct part *part_of(struct play *p, uint32_t i);
/* Asks for it. Return: false where memory is short */
bool part_begin(struct part *pt, struct blob *b);
/* As if it had not been asked for; it is gone where nobody waits for it, and over
 * where somebody has some of it. Return: it, where it is still there */
struct part *part_put_back(struct part *pt);
/* The range is over; who waits for it goes to the network. */
void part_drop(struct part *pt);

/* The number in @t of the layer whose opening is on its way; t->n_layers: none. */
size_t opening_layer(const struct play *p, const struct trace *t);
/* Makes it a part of the plan, as far as that names it. */
void opening_join(struct play *p, size_t layer);
void opening_drop(struct play *p);
/* Of play.open. */
void opening_due(struct loop_timer *t);

#endif
