/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what a long command shows of itself, on standard error: a bar a layer,
 * redrawn in place, on a terminal; lines, or JSON lines, elsewhere. Any thread
 * may tell; what it tells is drawn ten times a second at most.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "common/base.h"
#include "common/err.h"

enum progress_mode {
	PROGRESS_AUTO = 0, /* bars on a terminal, else plain */
	PROGRESS_PLAIN,
	PROGRESS_JSON,
	PROGRESS_QUIET,
};

/* "auto", "plain", "json". Return: 0, -EINVAL */
int progress_mode_parse(const char *s, enum progress_mode *ret);

struct progress;

/**
 * progress_new() - begin to show
 * @fd:		where to, borrowed; standard error
 *
 * Return: 0, -ENOMEM
 */
int progress_new(enum progress_mode mode, int fd, struct progress **ret);
/* The bars stay as they are. NULL is fine. */
void progress_free(struct progress *p);
DEFINE_CLEANUP(struct progress, progress_free);

/* A JSON object of one text, on a line: what is said where all is JSON. */
void progress_json(int fd, const char *key, const char *text);

/* A line of its own, above the bars: what a person should know. */
void progress_say(struct progress *p, const char *fmt, ...) PRINTF_LIKE(2, 3);

/**
 * progress_add() - one more thing that will take its time
 * @name:	short: of a layer, the first digits of its digest
 * @total:	bytes, 0 where not known
 *
 * Return: its number, from 0
 */
size_t progress_add(struct progress *p, const char *name, uint64_t total);

/* Says what is done with it now (static text, "converting"): starts from 0. */
void progress_phase(struct progress *p, size_t item, const char *phase,
		    uint64_t total);
/* Bytes of the phase so far. */
void progress_at(struct progress *p, size_t item, uint64_t bytes);
/* It is over: @how is the rest of its line, NULL: it has none. */
void progress_end(struct progress *p, size_t item, const char *how);

/* "12.3 MiB"; @buf has PROGRESS_SIZE_BYTES. Return: @buf */
#define PROGRESS_SIZE_BYTES 24u
char *progress_size(uint64_t bytes, char *buf);

#endif
