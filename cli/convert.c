/* SPDX-License-Identifier: Apache-2.0 */
/* estargz convert: any image to eStargz. */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/record.h"
#include "common/buf.h"
#include "common/io.h"

/* clang-format off */
static const char help[] =
	"Usage: estargz convert [OPTION...] SRC DST\n"
	"Convert an image to eStargz, so that it can be mounted before it is\n"
	"there. " ARGS_HELP_IMAGE
	"\n"
	"      --record-in FILE      files that were read go in front, as\n"
	"                            estargz optimize and ctr-remote record\n"
	ARGS_HELP;
/* clang-format on */

static int read_record(const struct args *a, const char *path,
		       struct record *ret)
{
	CLEANUP_BUF struct buf text = BUF_INIT(RECORD_BYTES_MAX);
	struct err e = {0};
	int r = io_read_file(AT_FDCWD, path, &text);

	if (r < 0)
		(void)err_set(&e, r, "%s", err_name(r));
	else
		r = record_parse(text.p, text.len, ret, &e);
	return r < 0 ? args_fail(a, "--record-in %s: %s", path, e.text) : 0;
}

int cli_convert(int argc, char **argv)
{
	enum {
		RECORD_IN = 1
	};
	static const struct option longs[] = {
		{"record-in", required_argument, NULL, RECORD_IN},
		ARGS_LONGS,
		{NULL, 0, NULL, 0},
	};
	CLEANUP_RECORD struct record record = {0};
	CLEANUP_ARGS struct args a;
	const char *record_in = NULL;
	int c;

	args_init(&a, "convert");
	while ((c = getopt_long(argc, argv, ARGS_SHORTS, longs, NULL)) != -1) {
		if (c == 'h') {
			(void)fputs(help, stdout);
			return 0;
		}
		if (c == RECORD_IN)
			record_in = optarg;
		else if (args_take(&a, c, optarg) < 0)
			return 1;
	}
	if (argc - optind != 2)
		return args_fail(&a, "wants SRC and DST (estargz convert "
				     "--help)");
	if (record_in != NULL && read_record(&a, record_in, &record) != 0)
		return 1;
	if (record_in != NULL)
		a.t.record = &record;
	return args_run(&a, argv[optind], argv[optind + 1], NULL);
}
