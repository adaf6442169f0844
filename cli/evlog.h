/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: events of mounts (docs/FORMAT.md, Traces and events), read back. The
 * lines may be cut, or anybody's: what is no event is counted and skipped, and
 * all is bounded.
 *
 * A file may tell of a layer several times, when it was mounted several times:
 * each `mount` makes a struct evlog_layer of its own.
 */
#ifndef CLI_EVLOG_H
#define CLI_EVLOG_H

#include <stdio.h>

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"

#define EVLOG_LINE_BYTES_MAX 4096u
#define EVLOG_ITEMS_MAX 2000000u
#define EVLOG_LAYERS_MAX 4096u
#define EVLOG_PATH_BYTES_MAX MIB(256) /* of all of them */
#define EVLOG_ID 12u
/* Sums of two numbers, and of all lengths and durations, do not overflow. */
#define EVLOG_NUMBER_MAX (UINT64_C(1) << 60)
#define EVLOG_LENGTH_MAX (UINT64_C(1) << 40)

enum evlog_kind {
	EVLOG_READ,
	EVLOG_FETCH,
};

enum evlog_how {
	EVLOG_HIT,
	EVLOG_WAIT,
	EVLOG_ERROR,
	EVLOG_HOW_N_,
};

enum evlog_class {
	EVLOG_DEMAND,
	EVLOG_AHEAD,
	EVLOG_PREFETCH,
	EVLOG_BACKGROUND,
	EVLOG_TAIL,
	EVLOG_CLASS_N_,
};

/**
 * struct evlog_layer - a mount of a layer
 * @id:		"l" of its events
 * @number:	in the image, -1 where not known
 * @mount_us:	0 where its `mount` is not there
 * @wall_us:	since 1970, at @mount_us
 * @end_us:	0 where its `end` is not there
 * @source:	or NULL
 */
struct evlog_layer {
	char id[EVLOG_ID + 1];
	int number;
	bool has_digest;
	bool has_toc_digest;
	struct digest digest;
	struct digest toc_digest;
	uint64_t mount_us;
	uint64_t wall_us;
	uint64_t end_us;
	uint64_t chunks;
	uint64_t bytes;
	char *source;
};

/**
 * struct evlog_file - a path in a layer
 * @path:	any bytes but NUL
 */
struct evlog_file {
	char *path;
	uint32_t layer;
	uint32_t number; /* in struct evlog's files */
};

/**
 * struct evlog_item - a read or a fetch
 * @end_us:	when it was answered, or had arrived; @us: how long that took,
 *		not more than @end_us
 * @off:	and @len: of the file; EVLOG_FETCH: of the blob
 * @blob_off:	and @blob_len: members of the blob that hold what was read;
 * @chunk_off:	and @chunk_len: what of the file they hold. Lengths of 0: not
 *		known
 */
struct evlog_item {
	uint64_t end_us;
	uint64_t us;
	uint64_t off;
	uint64_t len;
	uint64_t blob_off;
	uint64_t blob_len;
	uint64_t chunk_off;
	uint64_t chunk_len;
	uint32_t layer;
	uint32_t file; /* EVLOG_READ */
	uint8_t kind;
	uint8_t how;    /* EVLOG_READ */
	uint8_t class_; /* EVLOG_FETCH, and what a read met that was no hit */
};

/**
 * struct evlog - all of it, in the order of the lines
 * @lost:	events that were not written
 * @n_bad:	lines that were skipped
 */
struct evlog {
	struct evlog_layer *layers;
	struct evlog_file **files;
	struct evlog_item *items;
	uint32_t n_layers;
	uint32_t n_files;
	uint32_t n_items;
	uint64_t lost;
	uint64_t n_bad;
	/* private */
	uint32_t cap_files;
	uint32_t cap_items;
	uint64_t path_bytes;
	void *tree; /* of struct evlog_file, by layer and path */
	void *ids;  /* the latest layer of each id */
};

/**
 * evlog_line() - one line more; @line [@len] is changed
 *
 * Return: 0 also where it was skipped; -EOVERFLOW: there is too much; -ENOMEM
 */
int evlog_line(struct evlog *l, char *line, size_t len);

/* All of @f. Return: 0, -EOVERFLOW, -ENOMEM, -EIO and the like, with @e */
int evlog_read(struct evlog *l, FILE *f, struct err *e);

void evlog_done(struct evlog *l);
#define CLEANUP_EVLOG CLEANUP(evlog_done)

#endif
