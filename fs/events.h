/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what happens in a layer, as JSON lines (docs/FORMAT.md, Traces and
 * events), for who mounts with events=FILE.
 *
 * The monitor opens the file; its workers have the descriptor one after the
 * other. Threads that serve only put a record into a ring, under a lock that is
 * held for the copy of it; a thread of its own finds paths, writes text, and
 * waits for the disk. What does not find room is counted, and the number is an
 * event. Off is a NULL where a struct events * is asked for.
 *
 * Lines of several workers do not mix: each write(2) is of whole lines, with
 * O_APPEND, and not longer than what a pipe takes at once.
 */
#ifndef FS_EVENTS_H
#define FS_EVENTS_H

#include "common/base.h"
#include "common/chunks.h"
#include "common/erofs.h"
#include "common/err.h"
#include "common/proto.h"
#include "fs/layer.h"

/* How a read was answered. */
enum events_how {
	EVENTS_HIT,
	EVENTS_WAIT,
	EVENTS_ERROR,
};

/* Classes beyond those of the protocol. */
enum {
	EVENTS_CLASS_AHEAD = PROTO_CLASS_N_, /* of a reader */
	EVENTS_CLASS_TAIL,
};

struct events;

/**
 * struct events_layer - what lines of a layer need to know; borrowed
 * @again:	somebody has served this mount before, and died
 * @relieves:	or was relieved: the one goes on where the other left off
 * @bytes_max:	of the file: where it has that many, nothing more is written
 */
struct events_layer {
	const struct layer *layer;
	const struct erofs_image *im;
	const struct chunks *ch;
	uint64_t bytes_max;
	bool again;
	bool relieves;
};

/* Opens, or makes, a regular file or a pipe. Return: descriptor, -errno */
int events_open(const char *path, struct err *e);

/**
 * events_start() - take over @fd, say `mount` or `again`, or nothing
 *
 * Context: in the sandbox, before the threads that serve.
 * Return: NULL where memory is short; @fd is closed then
 */
struct events *events_start(int fd, const struct events_layer *of);

/**
 * events_stop() - say `end` and write what is left
 * @ev:		or NULL
 * @relieved:	`end` is for another to say
 *
 * A reader of a pipe that does not read is waited for, but not for long. Threads
 * that still run may go on to report; nothing comes of it.
 */
void events_stop(struct events *ev, bool relieved);

/* Only after events_stop(), and when nobody reports any more. */
void events_free(struct events *ev);

/**
 * events_read() - a read is about to be answered
 * @image_off:	and @len: what is asked for, in layer.erofs
 * @start_ns:	when it came
 * @class_:	EVENTS_WAIT: of the fetch it waited for
 *
 * Context: any thread; takes a lock inside which nothing is locked.
 */
void events_read(struct events *ev, enum events_how how, uint64_t nid,
		 uint64_t image_off, size_t len, uint64_t start_ns,
		 uint8_t class_);

/**
 * events_fetch() - the last of [@off, @off + @len) of the blob has arrived
 * @class_:	as which it was asked for, at @start_ns
 * @now_ns:	when that was
 *
 * Context: as events_read(); may be called with miss.lock held.
 */
void events_fetch(struct events *ev, uint8_t class_, uint64_t off, uint64_t len,
		  uint64_t start_ns, uint64_t now_ns);

#endif
