/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: a run as a picture: time across, files down in the order in which they
 * were first touched, grouped by layer; above them what was fetched. An SVG
 * without scripts that is readable on light and on dark, or that in a page of
 * HTML with tables. Its size depends on how large it is drawn, not on how much
 * has happened: what is nearer than a pixel becomes one.
 */
#ifndef CLI_WATERFALL_H
#define CLI_WATERFALL_H

#include <stdio.h>

#include "cli/evlog.h"
#include "cli/runstat.h"

#define WATERFALL_ROWS 80u
#define WATERFALL_ROWS_MAX 2000u

/**
 * struct waterfall - what to draw
 * @title:	or NULL: what the run's layers are from
 * @rows:	so many files; of more, those that waited longest and came first
 * @top:	longest waits in the table of the HTML
 * @rtt_us:	a round trip, 0: none
 */
struct waterfall {
	const struct evlog *log;
	const struct runstat *stat;
	const char *title;
	unsigned rows;
	unsigned top;
	uint64_t rtt_us;
};

/* Both return 0, -ENOMEM; an error of writing is @to's. */
int waterfall_svg(const struct waterfall *w, FILE *to);
int waterfall_html(const struct waterfall *w, FILE *to);

#endif
