/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>

int cli_fail(const char *command, const char *fmt, ...)
{
	va_list ap;

	(void)fprintf(stderr, "estargz: %s: ", command);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	return 1;
}
