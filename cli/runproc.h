/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that are started, and that do not outlive who started them. */
#ifndef CLI_RUNPROC_H
#define CLI_RUNPROC_H

#include <sys/types.h>

#include "common/base.h"
#include "common/err.h"

/**
 * struct runproc - a program to start
 * @argv:	NULL at the end; the first is a path
 * @dir_fd:	directory it starts in, -1: ours
 * @in, @out, @err: its first three descriptors, borrowed; -1: /dev/null
 */
struct runproc {
	const char *const *argv;
	int dir_fd;
	int in;
	int out;
	int err;
};

/* Starts it; SIGKILL is sent to it when the calling thread ends. Return: pid,
 * -errno */
pid_t runproc_start(const struct runproc *p, struct err *e);

/* Waits for a child; killed where it takes longer. Return: its wait(2) status,
 * -ETIMEDOUT, -errno */
int runproc_wait(pid_t pid, unsigned timeout_ms);

/**
 * runproc_run() - start and wait
 *
 * What it writes is kept to itself; where it fails, the last line on its
 * standard error is in @e. Return: 0, -EIO (it failed), -ETIMEDOUT, -errno
 */
int runproc_run(const char *const *argv, int dir_fd, unsigned timeout_ms,
		struct err *e);

/* The last line of what a program wrote into a file (a memfd, say), without
 * what log libraries put around it. Return: heap, NULL: nothing there */
char *runproc_last_line(int fd);

/* A program of @name in PATH, or @name where it has a slash. Return: 0,
 * -ENOENT, -ENOMEM */
int runproc_find(const char *name, char **ret);

/* The same of ours: beside this one, in a build tree at @built from here, in
 * SBINDIR, in PATH. */
int runproc_find_ours(const char *name, const char *built, char **ret);

#endif
