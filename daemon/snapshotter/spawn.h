/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the processes that are started here: estargzfs, estargzd, busctl. Each
 * has a session of its own, /dev/null as input and output, our stderr, and one
 * more descriptor at most. That one has ended is seen on the loop's thread.
 */
#ifndef SNAPSHOTTER_SPAWN_H
#define SNAPSHOTTER_SPAWN_H

#include <pthread.h>
#include <sys/types.h>

#include "common/base.h"
#include "common/err.h"
#include "common/list.h"
#include "common/loop.h"

#define SPAWN_FD 3 /* where a child finds the descriptor that it is given */

/* All processes that are looked after. */
struct spawner {
	struct loop *loop;    /* immutable */
	pthread_mutex_t lock; /* nothing is locked inside */
	struct list all;      /* guarded by lock */
};

/**
 * struct child - a process
 * @fn:		it has ended (the loop's thread); @status as of waitpid(2), -1
 *		where it is not our child. Freed by then.
 */
struct child {
	/* private */
	struct loop_io io; /* a pidfd */
	struct spawner *s;
	struct list node;
	pid_t pid;
	void (*fn)(void *arg, int status);
	void *arg;
};

void spawner_init(struct spawner *s, struct loop *loop);
/* Lets go of all; they go on. The loop must not run any more. */
void spawner_done(struct spawner *s);

/**
 * spawn() - start a program
 * @argv:	argv[0] is a path, or a name to be looked for in $PATH
 * @fd:		borrowed; the child's SPAWN_FD. -1: none
 * @quiet:	/dev/null as stderr, too
 * @fn:		may be NULL
 * @ret:	where to put it for child_kill(), before @fn can be called; may
 *		be NULL
 *
 * Context: any thread
 * Return: 0, -errno with @e
 */
int spawn(struct spawner *s, const char *const *argv, int fd, bool quiet,
	  void (*fn)(void *arg, int status), void *arg, struct child **ret,
	  struct err *e);

/* Looks after a process that somebody else has started. Return: 0, -errno */
int spawn_adopt(struct spawner *s, pid_t pid, void (*fn)(void *arg, int status),
		void *arg, struct child **ret);

/* Starts a program as spawn() does, not looked after: the caller waits for it.
 * Return: 0, -errno with @e */
int spawn_own(const char *const *argv, int fd, pid_t *ret, struct err *e);

/* SIGKILL. Until fn has been called. */
void child_kill(const struct child *c);
/* fn is not called any more. Context: the loop's thread */
void child_forget(struct child *c);

#endif
