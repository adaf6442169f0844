/* SPDX-License-Identifier: Apache-2.0 */
/* estargz: the command-line tool. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "common/base.h"
#include "common/err.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} commands[] = {
	{"convert", cli_convert, "convert an image to eStargz"},
	{"optimize", cli_optimize, "put in front what its workload reads"},
	{"inspect", cli_inspect, "how an image is made, what its start costs"},
	{"verify", cli_verify, "whether an image is what it says"},
	{"status", cli_status, "mounted layers, and how they are doing"},
	{"prune", cli_prune, "remove cached layers that nobody uses"},
	{"trace", cli_trace, "why a container started slowly"},
};

static void help(FILE *to)
{
	(void)fputs("Usage: estargz COMMAND [OPTION...]\n\nCommands:\n", to);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		(void)fprintf(to, "  %-10s %s\n", commands[i].name,
			      commands[i].what);
	(void)fputs("\nestargz COMMAND --help tells more.\n", to);
}

static int run(int argc, char **argv)
{
	bool asks = strcmp(argv[1], "help") == 0;

	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    (asks && argc < 3)) {
		help(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		(void)printf("estargz %s\n", PACKAGE_VERSION);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		char *help_argv[] = {argv[asks ? 2 : 1], (char[]){"--help"},
				     NULL};

		if (asks && strcmp(argv[2], commands[i].name) == 0)
			return commands[i].run(2, help_argv);
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	}
	(void)fprintf(stderr, "estargz: %s: unknown command (estargz --help)\n",
		      argv[asks ? 2 : 1]);
	return 1;
}

int main(int argc, char **argv)
{
	int rc;

	if (argc < 2) {
		help(stderr);
		return 1;
	}
	rc = run(argc, argv);
	/* What a script reads is all there, or it is told. */
	errno = 0;
	if ((fflush(stdout) != 0 || ferror(stdout) != 0) && rc == 0) {
		(void)fprintf(stderr, "estargz: cannot write: %s\n",
			      err_name(errno != 0 ? errno : EIO));
		rc = 1;
	}
	return rc;
}
