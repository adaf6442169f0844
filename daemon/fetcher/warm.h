/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the ends of blobs that will be mounted soon, fetched before they are
 * asked for. A mount reads the end of its blob first, and an image's layers
 * are mounted one after the other; fetched together, they cost the round
 * trips of one.
 *
 * A warm entry is a read of the blob's last bytes into memory of ours, of the
 * class prefetch. A READ of these bytes waits for it, and raises its class to
 * its own; when they are there, READs are answered by copying until the entry
 * is dropped: when its time is over, when there is no room for newer ones, or
 * when a READ says that what it got was corrupt.
 *
 * An entry never makes a READ worse: one that fails, or that does not get on,
 * sends those who wait for it to the network, where they begin with all their
 * tries.
 */
#ifndef FETCHER_WARM_H
#define FETCHER_WARM_H

#include "common/base.h"
#include "common/proto.h"

struct fetchd;
struct read;
struct warm;

#define WARM_PATIENCE_NS (2 * NSEC_PER_SEC) /* without a byte */

/**
 * warm_add() - fetch the ends of some blobs
 * @names:	as in a WARM message
 * @tail_bytes:	0: PROTO_WARM_TAIL_BYTES
 * @hold_ms:	0: PROTO_WARM_HOLD_MS
 *
 * Of a blob that has an entry, only the time is moved on.
 */
void warm_add(struct fetchd *d, const char *names, bool plain_http,
	      uint32_t tail_bytes, uint32_t hold_ms);

/* Serves a read that has just started: from this entry as far as it reaches,
 * when that is there; the rest from the network. */
void warm_read(struct warm *w, struct read *r);

/* Somebody who waits for it has become more urgent. */
void warm_raise(struct warm *w, enum proto_class class_);

/* Forgets it; who waits for it goes on without. NULL is nothing. */
void warm_drop(struct warm *w);
/* At the end: nobody may be waiting any more. */
void warm_drop_all(struct fetchd *d);

#endif
