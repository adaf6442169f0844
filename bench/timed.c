/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a command and writes how long it took: timed FILE COMMAND [ARG...]
 * writes "WALL CPU\n" to FILE, in seconds: from before the fork until the
 * command has ended, and user + system of it and of the children it waited
 * for. What it left in the background does not count. Exits as it did.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	struct rusage u;
	double begin, wall;
	FILE *out;
	pid_t pid;
	int r, status;

	if (argc < 3) {
		(void)fputs("usage: timed FILE COMMAND [ARG...]\n", stderr);
		return 2;
	}
	out = fopen(argv[1], "we");
	if (out == NULL) {
		perror(argv[1]);
		return 2;
	}
	begin = now();
	r = posix_spawnp(&pid, argv[2], NULL, NULL, argv + 2, environ);
	if (r != 0) {
		(void)fprintf(stderr, "%s: %s\n", argv[2], strerror(r));
		return 127;
	}
	while (wait4(pid, &status, 0, &u) < 0)
		if (errno != EINTR)
			return 2;
	wall = now() - begin;
	if (fprintf(out, "%.6f %.6f\n", wall,
		    seconds(&u.ru_utime) + seconds(&u.ru_stime)) < 0 ||
	    fclose(out) != 0)
		return 2;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
