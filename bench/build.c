/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One layer through the builder: build [options] IN OUT prints what was made as
 * JSON. For measurements and tests; the product is `estargz convert`.
 */
#include "config.h"

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/build/build.h"
#include "common/io.h"

static const char usage[] =
	"build [options] IN OUT\n"
	"  -c BYTES   of a chunk\n"
	"  -m BYTES   a gzip member has at least so many\n"
	"  -l LEVEL   1 to 9\n"
	"  -j JOBS    threads\n"
	"  -w PATH[:OFF+LEN,...]  in front; may be repeated\n"
	"  -x BYTES   of the uncompressed layer, at most\n";

#define WANTED_MAX 1024u
#define RANGES_MAX 1024u

static struct build_wanted wanted[WANTED_MAX];
static size_t n_wanted;

static ssize_t from_fd(void *arg, void *p, size_t n, struct err *e)
{
	ssize_t r = read(*(const int *)arg, p, n);

	return r < 0 ? err_set(e, -errno, "read: %s", err_name(errno)) : r;
}

static uint64_t bytes(const char *s)
{
	uint64_t v;

	if (io_parse_bytes(s, &v) < 0) {
		(void)fprintf(stderr, "build: %s: not a size\n", s);
		exit(2);
	}
	return v;
}

static void add_wanted(char *s)
{
	static struct build_range ranges[RANGES_MAX];
	static size_t n_ranges;
	char *colon = strchr(s, ':'), *p = colon, *end;
	struct build_wanted *w = &wanted[n_wanted++];

	assert(n_wanted < WANTED_MAX);
	*w = (struct build_wanted){.path = s, .ranges = &ranges[n_ranges]};
	if (colon == NULL)
		return;
	*colon = '\0';
	while (p != NULL && n_ranges < RANGES_MAX) {
		struct build_range *r = &ranges[n_ranges++];

		r->off = strtoull(p + 1, &end, 10);
		r->len = strtoull(end + 1, &end, 10);
		p = *end == ',' ? end : NULL;
		w->n_ranges++;
	}
}

static void print(const struct build_result *r)
{
	char s[DIGEST_STR_BYTES];

	(void)printf("{\"blob\":\"%s\",", digest_str(&r->blob, s));
	(void)printf("\"diff_id\":\"%s\",", digest_str(&r->diff_id, s));
	(void)printf("\"toc\":\"%s\",", digest_str(&r->toc, s));
	(void)printf("\"in_diff_id\":\"%s\",", digest_str(&r->in_diff_id, s));
	(void)printf("\"blob_bytes\":%" PRIu64 ",\"in_bytes\":%" PRIu64
		     ",\"uncompressed_bytes\":%" PRIu64 ",\"entries\":%" PRIu64
		     ",\"chunks\":%" PRIu64 ",\"landmark\":%s}\n",
		     r->blob_bytes, r->in_bytes, r->uncompressed_bytes,
		     r->n_entries, r->n_chunks, r->landmark ? "true" : "false");
}

static void parse(int argc, char **argv, struct build_opts *o)
{
	int c;

	while ((c = getopt(argc, argv, "c:m:l:j:w:x:")) >= 0) {
		switch (c) {
		case 'c':
			o->chunk_bytes = bytes(optarg);
			break;
		case 'm':
			o->min_chunk_bytes = bytes(optarg);
			break;
		case 'l':
			o->level = (int)strtol(optarg, NULL, 10);
			break;
		case 'j':
			o->jobs = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'w':
			add_wanted(optarg);
			break;
		case 'x':
			o->max_bytes = bytes(optarg);
			break;
		default:
			optind = argc;
		}
	}
	if (argc - optind != 2 || o->jobs == 0) {
		(void)fputs(usage, stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct build_opts o = {.jobs = 2};
	struct build_result res;
	struct err e = {0};
	int in_fd, out_fd;

	parse(argc, argv, &o);
	o.wanted = wanted;
	o.n_wanted = n_wanted;
	in_fd = open(argv[optind], O_RDONLY | O_CLOEXEC);
	out_fd = open(argv[optind + 1],
		      O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (in_fd < 0 || out_fd < 0) {
		perror("build: open");
		return 1;
	}
	if (build_layer(&(struct build_in){from_fd, &in_fd}, &o, out_fd, &res,
			&e) < 0) {
		(void)fprintf(stderr, "build: %s\n", e.text);
		return 1;
	}
	print(&res);
	return 0;
}
