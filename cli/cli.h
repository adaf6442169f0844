/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands of estargz. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "common/base.h"

/* Prints "estargz: COMMAND: …" on standard error. Return: 1, the exit status */
int cli_fail(const char *command, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Standard output is looked after at the end, for all. Each gets its own name as argv[0]. Return: exit status. */
int cli_status(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_verify(int argc, char **argv);
int cli_prune(int argc, char **argv);
int cli_convert(int argc, char **argv);
int cli_optimize(int argc, char **argv);
int cli_trace(int argc, char **argv);

#endif
