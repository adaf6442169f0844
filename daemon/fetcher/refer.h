/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the trace of an image whose layers do not name it (common/trace.h): the
 * newest artifact of its type that refers to the image's manifest. Asked of
 * each host of the repository, once: its list of referrers, or, where it keeps
 * none, the tag "sha256-<hex>"; then the artifact, whose digest is checked. Of
 * a list that comes in pages the first is read.
 *
 * Nobody waits for it: whoever asked goes on, and is told. What came out is
 * remembered for some time, also that there is none, or that it failed.
 */
#ifndef FETCHER_REFER_H
#define FETCHER_REFER_H

#include "common/base.h"
#include "common/list.h"

struct fetchd;
struct refer;

#define REFERS_MAX 256u   /* remembered */
#define REFERS_ASKING 16u /* on their way */
#define REFER_DEADLINE_NS (10 * NSEC_PER_SEC)
#define REFER_HOLD_NS (600 * NSEC_PER_SEC)
#define REFER_FAILED_NS (60 * NSEC_PER_SEC)

/**
 * struct refer_wait - somebody who wants to know
 * @told:	once, never after refer_unwait(); @name: of the trace, as
 *		play_find() has it, valid during the call; NULL: there is none
 */
struct refer_wait {
	struct list node;
	void (*told)(struct refer_wait *w, const char *name);
};

/**
 * refer_find() - what is known of an image's trace; asked for where nothing is
 * @image:	"HOST[:PORT]/REPO@sha256:…" of its manifest
 *
 * Return: NULL where there is none, or it cannot be asked for; else valid until
 * the loop's next turn, for refer_wait()
 */
struct refer *refer_find(struct fetchd *d, const char *image, bool plain_http);
/* Tells @w, at once or later. */
void refer_wait(struct refer *f, struct refer_wait *w);
void refer_unwait(struct refer_wait *w);

/* At the end: who still waits is told that there is none. */
void refer_drop_all(struct fetchd *d);

#endif
