/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: runs a container of a bundle by an OCI runtime (runc, crun) until it
 * ends, or until it is made to. What it writes is passed on as it is. The
 * runtime's commands are used apart (create, start), so that what fails before
 * the container's process began is told from what that process did.
 */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "cli/rundir.h"
#include "cli/runline.h"
#include "common/base.h"
#include "common/err.h"

/**
 * struct run_opts - how, and until when
 * @runtime:	path of it
 * @period_s:	0: for ever
 * @line:	may be NULL: until this is written
 * @until_signal: SIGINT and SIGTERM end the run; without it they end all
 * @json:	what it writes to standard error is passed on as JSON lines
 * @with_stdin:	our standard input is its, too
 * @terminal:	it has a terminal; config.json says so, too
 */
struct run_opts {
	const char *runtime;
	unsigned period_s;
	const struct runline *line;
	bool until_signal;
	bool json;
	bool with_stdin;
	bool terminal;
};

enum run_end {
	RUN_EXITED = 1,
	RUN_PERIOD,
	RUN_LINE,
	RUN_SIGNAL,
};

/**
 * run_container() - run the bundle in @d
 * @ret_how:	why it ended
 * @ret_status:	RUN_EXITED: its exit status, 128 + n for signal n; where that
 *		was for us (-EINTR): 128 + n
 *
 * The process is dead when it returns, the container is not taken away yet.
 * Return: 0; -EINTR: a signal; -EIO: the runtime could not start it
 */
int run_container(const struct rundir *d, const struct run_opts *o,
		  enum run_end *ret_how, int *ret_status, struct err *e);

#endif
