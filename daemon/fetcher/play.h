/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: following the trace of an image (common/trace.h): what its workload
 * will want is fetched in the order in which it will, over all of its layers,
 * into memory of ours; layers are mounted one after the other, and the link need
 * not wait for that.
 *
 * A play begins with WARM or OPEN, which name its trace: the trace is fetched,
 * checked against its digest, and made a plan (plan.h). It is played for those
 * blobs that were named with it, and no others. A client that has named it is
 * told which ranges of its blob are planned, and reads them as it gets to it.
 *
 * A round trip goes by until the trace is there. Meanwhile the opening of one of
 * the blobs is fetched, behind what was asked for at the same time: the files
 * that are wanted first are there, if `estargz optimize` has made it. What the trace
 * does not name of it is thrown away.
 *
 * A READ of planned bytes is answered by copying, as they come, and waits for the
 * rest in the order of the plan. Bytes that were copied are forgotten. Demand for what is
 * not asked for yet goes to the network as if there were no plan.
 *
 * No READ is the worse for it: where a range fails, or nothing gets on for two
 * seconds, those who wait go to the network, with all their tries. Data of a
 * trace that fails, or is wrong as a client finds, is left: what is still to come
 * is asked for of the layers. What is held
 * that nobody has asked for is bounded by PLAY_BYTES_MAX and PLAY_PARTS_MAX, and
 * an opening a play.
 */
#ifndef FETCHER_PLAY_H
#define FETCHER_PLAY_H

#include "common/base.h"
#include "common/list.h"
#include "daemon/fetcher/plan.h"

struct blob;
struct fetchd;
struct play;
struct read;

#define PLAYS_MAX 16u
#define PLAY_BYTES_MAX MIB(16)  /* held or on their way, and nobody waits */
#define PLAY_PARTS_MAX 16384u   /* the same; one is a KiB by itself */
#define PLAY_AHEAD_BYTES MIB(2) /* of a plan, asked for at a time */
#define PLAY_AHEAD_PARTS 1024u  /* the same */
#define PLAY_PATIENCE_NS (2 * NSEC_PER_SEC) /* without a byte */
#define PLAY_STILL_NS \
	NSEC_PER_SEC /* without background after each read of it */
#define PLAY_HOLD_NS (60 * NSEC_PER_SEC)
#define PLAY_OPENING_NS (10 * NSEC_PER_MSEC) /* later than the trace */

/**
 * struct play_watch - somebody who wants to know what is planned of a blob
 * @told:	@plan NULL: nothing will come; else the blob is number @layer of
 *		it, n_layers where it has none of that blob. Once; never after
 *		play_unwatch().
 */
struct play_watch {
	struct list node;
	struct blob *blob;
	void (*told)(struct play_watch *w, const struct plan *plan,
		     size_t layer);
};

/**
 * play_find() - the play of a trace, begun where it is not known
 * @name:	"HOST[:PORT]/REPO@sha256:…" of the trace
 *
 * It is kept for some time after this. Return: NULL where it cannot be
 */
struct play *play_find(struct fetchd *d, const char *name, bool plain_http);
/* Plays it for a blob, too. */
void play_add(struct play *p, struct blob *b);
/* Has the opening of a blob that was added fetched, if the trace is still to come. */
void play_open(struct play *p, struct blob *b);
/* Tells @w, at once or later. */
void play_watch(struct play *p, struct play_watch *w);
void play_unwatch(struct play_watch *w);

/* Takes over a read that has just started, if all of it is planned. */
bool play_read(struct read *r);
/**
 * play_blame() - what came for a read of @b was wrong
 *
 * Return: whether it came of a trace's data. That is not used any more then, and
 * nothing is said of the hosts of @b.
 */
bool play_blame(struct blob *b, const struct read *r);
/* One that waits has become more urgent. */
void play_raise(struct read *r);

void play_drop_all(struct fetchd *d);

#endif
