/* SPDX-License-Identifier: Apache-2.0 */
/* Options that convert and optimize have in common, and what they do with an
 * image in common: opening both sides, signals, the summary. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <getopt.h>

#include "cli/image/image.h"
#include "cli/regopts.h"
#include "cli/transform.h"

/* Values of getopt_long(); a command's own are below, or letters. */
enum {
	ARGS_FIRST = 1000,
	ARGS_CHUNK_SIZE = ARGS_FIRST,
	ARGS_MIN_CHUNK_SIZE,
	ARGS_LEVEL,
	ARGS_PLATFORM,
	ARGS_ALL_PLATFORMS,
	ARGS_PREFETCH_LIST,
	ARGS_REUSE,
	ARGS_OCI,
	ARGS_PROGRESS,
	ARGS_DIGEST_FILE,
};

#define ARGS_SHORTS "hj:q"
/* clang-format off */
#define ARGS_LONGS \
	{"chunk-size", required_argument, NULL, ARGS_CHUNK_SIZE}, \
	{"min-chunk-size", required_argument, NULL, ARGS_MIN_CHUNK_SIZE}, \
	{"compression-level", required_argument, NULL, ARGS_LEVEL}, \
	{"jobs", required_argument, NULL, 'j'}, \
	{"platform", required_argument, NULL, ARGS_PLATFORM}, \
	{"all-platforms", no_argument, NULL, ARGS_ALL_PLATFORMS}, \
	{"prefetch-list", required_argument, NULL, ARGS_PREFETCH_LIST}, \
	{"reuse", no_argument, NULL, ARGS_REUSE}, \
	{"oci", no_argument, NULL, ARGS_OCI}, \
	{"quiet", no_argument, NULL, 'q'}, \
	{"progress", required_argument, NULL, ARGS_PROGRESS}, \
	{"digest-file", required_argument, NULL, ARGS_DIGEST_FILE}, \
	REGOPTS_LONGS, \
	{"help", no_argument, NULL, 'h'}
#define ARGS_HELP_IMAGE \
	"SRC and DST are docker://HOST/REPO[:TAG|@DIGEST], oci:DIR[:TAG],\n" \
	"oci-archive:FILE[:TAG] or docker-archive:FILE[:REF].\n"
#define ARGS_HELP \
	"      --chunk-size SIZE     files are cut into chunks of so many bytes,\n" \
	"                            compressed each by itself [64KiB]\n" \
	"      --min-chunk-size SIZE chunks share a gzip member until it has so\n" \
	"                            many bytes [0: each has its own]\n" \
	"      --compression-level N 1 to 9 [6]\n" \
	"  -j, --jobs N              threads that compress [number of CPUs]\n" \
	"      --platform P          of an index, the image for OS/ARCH[/VARIANT];\n" \
	"                            repeated: an index of these [this machine's]\n" \
	"      --all-platforms       the whole index\n" \
	"      --prefetch-list FILE  files that go in front: paths or globs,\n" \
	"                            one a line\n" \
	"      --reuse               keep layers that are eStargz already\n" \
	"      --oci                 media types of OCI in the place of docker's\n" \
	"  -q, --quiet               no progress, no summary\n" \
	"      --progress HOW        auto, plain or json [auto]\n" \
	"      --digest-file FILE    the digest of what was written, there too\n" \
	REGOPTS_HELP \
	"  -h, --help                print this\n"
/* clang-format on */

/**
 * struct args - what the options said
 * @command:	"convert", for messages
 * @t, @image:	as the options are; @t.progress is made by args_run()
 * @digest_file: NULL: standard output alone
 */
struct args {
	const char *command;
	struct transform_opts t;
	struct image_opts image;
	enum progress_mode mode;
	const char *digest_file;
	struct glob_list prefetch;
	struct platform *platforms;
	size_t n_platforms;
};
void args_init(struct args *a, const char *command);
void args_done(struct args *a);
#define CLEANUP_ARGS CLEANUP(args_done)

/**
 * args_take() - one option
 * @c:		from getopt_long()
 * @value:	optarg
 *
 * Return: 0, -EINVAL; the reason was printed, but for one that is unknown to
 * getopt_long() as well, which prints it
 */
int args_take(struct args *a, int c, const char *value);

/* A line on standard error, with --progress=json as JSON. "estargz: COMMAND: …";
 * key "error". Return: 1, the exit status */
int args_fail(const struct args *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The same of what is no failure; key "message", as of progress_say(). */
void args_warn(const struct args *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Without a command in front, and nothing with --quiet. */
void args_say(const struct args *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

/**
 * struct args_hooks - what a command does besides, while both ends are open
 * @opened:	before anything is converted. Return: 0, -errno, > 0: the exit
 *		status, of which the reason was printed
 * @refer:	with what was committed: artifacts that go with it
 */
struct args_hooks {
	int (*opened)(void *arg, struct err *e);
	int (*refer)(void *arg, struct image_dst *dst,
		     const struct transform_result *r, struct err *e);
	void *arg;
};

/**
 * args_run() - convert from SRC to DST with @a->t
 * @h:		may be NULL
 *
 * Prints progress and a summary to standard error, the digest of what was
 * committed to standard output. SIGINT and SIGTERM end it.
 * Return: exit status: 0, 1, or 128 and the signal's number
 */
int args_run(struct args *a, const char *src, const char *dst,
	     const struct args_hooks *h);

#endif
