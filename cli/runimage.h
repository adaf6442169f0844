/* SPDX-License-Identifier: Apache-2.0 */
/* Runs an image's workload once, and tells what it has read. */
#ifndef CLI_RUNIMAGE_H
#define CLI_RUNIMAGE_H

#include "cli/observe.h"
#include "cli/run.h"
#include "cli/rundir.h"
#include "cli/runspec.h"

/**
 * struct runimage - what is run
 * @source:	the image, as mount.estargz has it
 * @config:	its config's document, borrowed
 * @layers:	[@n_layers] what is mounted
 * @manifest:	what the record is to be about
 */
struct runimage {
	const char *source;
	bool plain_http;
	const struct json_object *config;
	const struct runspec *spec;
	const struct run_opts *run;
	const struct observe_layer *layers;
	size_t n_layers;
	struct digest manifest;
};

/**
 * struct runimage_result - how it went
 * @status:	as of run_container()
 * @incomplete:	there was more than could be recorded
 */
struct runimage_result {
	enum run_end how;
	int status;
	bool incomplete;
	struct observed seen;
};

/**
 * runimage() - run it, and take it away
 *
 * Return: 0, -EINTR, -errno: it did not run
 */
int runimage(struct rundir *d, const struct runimage *i,
	     struct runimage_result *ret, struct err *e);

#endif
