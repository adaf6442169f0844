/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: whether a host takes requests of several ranges, found out by one of two
 * bytes while a trace is on its way. Nobody waits for it: until it is known,
 * and where it fails, each range is a request of its own.
 */
#ifndef FETCHER_SEVERAL_H
#define FETCHER_SEVERAL_H

#include "common/base.h"

struct blob;
struct fetchd;
struct host;

/* Asks the host of a registry's blob, where that is not known. */
void several_ask(struct blob *b);
/* What it sent was not right. */
void several_distrust(const struct host *h);
/* Whether a status says that several ranges cannot be asked for, and nothing
 * of the blob. */
bool several_refused(unsigned status);
/* At the end. */
void several_drop_all(struct fetchd *d);

#endif
