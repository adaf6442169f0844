/* SPDX-License-Identifier: Apache-2.0 */
/* estargz status: asks every monitor under RUN_DIR/layers for its layer, and
 * looks for what the kernel has mounted by itself. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <json.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "cli/cli.h"
#include "cli/natives.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/io.h"
#include "common/mnttab.h"
#include "common/sup.h"

#define ANSWER_BYTES_MAX KIB(64)
#define ANSWER_TIMEOUT_NS (2 * NSEC_PER_SEC)

static const char help[] =
	"Usage: estargz status [--json]\n"
	"Every mounted layer: where it is from, how much of it is here, how\n"
	"long readers waited, what went wrong, and what it costs; complete\n"
	"layers and merged metadata that the kernel has mounted by itself.\n"
	"\n"
	"  -j, --json   a JSON array, one object a layer\n"
	"  -h, --help   print this\n";

/* Reads a monitor's answer to its end. Return: 0, -errno */
static int ask(const char *path, struct buf *ret)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	CLEANUP_CLOSE int s = -EBADF;
	uint64_t deadline = io_now_ns() + ANSWER_TIMEOUT_NS;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s < 0 || connect(s, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	for (;;) {
		struct pollfd p = {.fd = s, .events = POLLIN};
		uint64_t now = io_now_ns();
		char block[4096];
		ssize_t n;
		int r;

		if (now >= deadline)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)((deadline - now) / NSEC_PER_MSEC) + 1) <
		    1)
			continue;
		n = read(s, block, sizeof(block));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		r = buf_add(ret, block, (size_t)n);
		if (r < 0)
			return r;
	}
}

/* Adds the object of each layer to @array. Return: how many did not answer. */
static int collect(struct json_object *array)
{
	DIR *d = opendir(SUP_DIR);
	struct dirent *de;
	int silent = 0;

	if (d == NULL && errno != ENOENT) {
		(void)fprintf(stderr, "estargz: " SUP_DIR ": %s\n",
			      err_name(errno));
		return 1;
	}
	while (d != NULL && (de = readdir(d)) != NULL) {
		CLEANUP_BUF struct buf b = BUF_INIT(ANSWER_BYTES_MAX);
		CLEANUP_FREE char *path = NULL;
		struct json_object *one;
		size_t n = strlen(de->d_name);
		int r;

		if (n < 6 || strcmp(de->d_name + n - 5, ".sock") != 0)
			continue;
		if (asprintf(&path, SUP_DIR "/%s", de->d_name) < 0) {
			path = NULL;
			break;
		}
		r = ask(path, &b);
		/* Left behind by a monitor that was killed. */
		if (r == -ECONNREFUSED || r == -ENOENT)
			continue;
		one = r == 0 && b.p != NULL ? json_tokener_parse(b.p) : NULL;
		if (one == NULL) {
			(void)fprintf(stderr, "estargz: %s: %s\n", path,
				      r < 0 ? err_name(r) : "no answer");
			silent++;
			continue;
		}
		(void)json_object_array_add(array, one);
	}
	if (d != NULL)
		(void)closedir(d);
	return silent;
}

static const char *str_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v)
						     : "";
}

static uint64_t num_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_uint64(v)
						     : 0;
}

static struct json_object *obj_of(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	(void)json_object_object_get_ex(o, key, &v);
	return v;
}

static void print_ms(char *buf, size_t n, uint64_t us, uint64_t count)
{
	if (count == 0)
		(void)snprintf(buf, n, "-");
	else
		(void)snprintf(buf, n, "%.1f ms", (double)us / 1000.0);
}

/* Rounded down: 100 is all of it. */
static uint64_t percent(uint64_t have, uint64_t total)
{
	return total > 0 ? (uint64_t)(100.0 * (double)have / (double)total)
			 : 100;
}

/* Of the kernel's EROFS: no counters, no processes. */
static void print_native(struct json_object *o)
{
	const char *digest = str_of(o, "digest");

	(void)printf("%s\n  source   %s, EROFS (%s)\n", str_of(o, "target"),
		     str_of(o, "source"), str_of(o, "how"));
	if (obj_of(o, "chain") != NULL) {
		(void)printf("  chain    %s\n  state    merged metadata\n",
			     str_of(o, "chain"));
		return;
	}
	(void)printf("  digest   %s\n",
		     digest[0] != '\0' ? digest : "not given");
	(void)printf("  TOC      %s\n  state    complete\n",
		     str_of(o, "toc_digest"));
}

static void print_layer(struct json_object *o)
{
	struct json_object *demand = obj_of(o, "demand");
	struct json_object *errors = obj_of(o, "errors");
	uint64_t total = num_of(o, "bytes_total");
	uint64_t have = num_of(o, "bytes_present");
	uint64_t misses = num_of(demand, "misses");
	uint64_t kb = num_of(obj_of(o, "monitor"), "private_dirty_kb") +
		      num_of(obj_of(o, "worker"), "private_dirty_kb");
	uint64_t failed = num_of(errors, "reads") + num_of(errors, "verify") +
			  num_of(errors, "fetch") + num_of(errors, "disk");
	char p50[32], p99[32];
	const char *last = str_of(errors, "last");

	print_ms(p50, sizeof(p50), num_of(demand, "p50_us"), misses);
	print_ms(p99, sizeof(p99), num_of(demand, "p99_us"), misses);
	(void)fputs(str_of(o, "target"), stdout);
	if (obj_of(o, "layer") != NULL)
		(void)printf(", layer %" PRIu64, num_of(o, "layer"));
	(void)putchar('\n');
	(void)printf("  source   %s\n", str_of(o, "source"));
	(void)printf("  digest   %s\n", str_of(o, "digest")[0] != '\0'
						? str_of(o, "digest")
						: "not given");
	(void)printf("  TOC      %s\n", str_of(o, "toc_digest"));
	(void)printf("  state    %s, %.1f of %.1f MiB here (%" PRIu64
		     " %%), %.1f MiB "
		     "fetched in %" PRIu64 " requests\n",
		     str_of(o, "state"), (double)have / 1048576.0,
		     (double)total / 1048576.0, percent(have, total),
		     (double)num_of(o, "bytes_fetched") / 1048576.0,
		     num_of(o, "fetches"));
	(void)printf("  misses   %" PRIu64 ", waited p50 %s, p99 %s; %" PRIu64
		     " waiting\n",
		     misses, p50, p99, num_of(demand, "waiting"));
	(void)printf("  errors   %" PRIu64 "%s%s\n", failed,
		     last[0] != '\0' ? ", last: " : "", last);
	(void)printf("  process  monitor %" PRIu64 ", worker %" PRIu64
		     ", %.1f MiB private, fetcher %s, supervisor %s\n",
		     num_of(obj_of(o, "monitor"), "pid"),
		     num_of(obj_of(o, "worker"), "pid"), (double)kb / 1024.0,
		     str_of(o, "fetcher"), str_of(o, "supervisor"));
}

static void print_image(struct json_object *o)
{
	(void)printf("%s\n  source   %s\n  layers   %" PRIu64 " of %" PRIu64
		     " complete, by EROFS\n  state    %s\n",
		     str_of(o, "target"), str_of(o, "source"),
		     num_of(o, "layers_erofs"), num_of(o, "layers"),
		     str_of(o, "state"));
}

static void print_one(struct json_object *o)
{
	if (strcmp(str_of(o, "mount"), "overlay") == 0)
		print_image(o);
	else if (strcmp(str_of(o, "mount"), "erofs") == 0)
		print_native(o);
	else
		print_layer(o);
}

/* Return: 0, or 1 where the mounts are not to be had */
static int collect_natives(struct json_object *array)
{
	FILE *mounts = fopen(MNTTAB_SELF, "re");
	int r = mounts != NULL ? natives_collect(mounts, array) : -errno;

	if (mounts != NULL)
		(void)fclose(mounts);
	if (r == 0)
		return 0;
	(void)fprintf(stderr, "estargz: " MNTTAB_SELF ": %s\n", err_name(r));
	return 1;
}

static int by_target(const void *a, const void *b)
{
	struct json_object *const *x = a, *const *y = b;
	int c = strcmp(str_of(*x, "target"), str_of(*y, "target"));

	if (c != 0)
		return c;
	return num_of(*x, "layer") < num_of(*y, "layer") ? -1 : 1;
}

int cli_status(int argc, char **argv)
{
	static const struct option longs[] = {
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct json_object *array;
	bool json = false;
	int c, silent;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "jh", longs, NULL)) != -1) {
		if (c == 'h') {
			(void)fputs(help, stdout);
			return 0;
		}
		if (c != 'j') {
			(void)fprintf(stderr,
				      "estargz status: %s: unknown option "
				      "(estargz status --help)\n",
				      argv[optind - 1]);
			return 1;
		}
		json = true;
	}
	if (optind < argc) {
		(void)fprintf(stderr, "estargz status: %s: not expected\n",
			      argv[optind]);
		return 1;
	}
	array = json_object_new_array();
	if (array == NULL)
		return 1;
	silent = collect(array) + collect_natives(array);
	json_object_array_sort(array, by_target);
	if (json)
		(void)puts(json_object_to_json_string_ext(
			array, JSON_C_TO_STRING_PRETTY |
				       JSON_C_TO_STRING_NOSLASHESCAPE));
	for (size_t i = 0; !json && i < json_object_array_length(array); i++) {
		if (i > 0)
			(void)putchar('\n');
		print_one(json_object_array_get_idx(array, i));
	}
	if (!json && json_object_array_length(array) == 0 && silent == 0)
		(void)puts("no layer is mounted");
	(void)json_object_put(array);
	return silent > 0 ? 1 : 0;
}
