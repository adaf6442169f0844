/* SPDX-License-Identifier: Apache-2.0 */
/* estargz trace: a recorded run, as text, JSON or a picture. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/evlog.h"
#include "cli/progress.h"
#include "cli/runstat.h"
#include "cli/text.h"
#include "cli/waterfall.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/io.h"

#define IDLE_S_DEFAULT 1.0
#define SECONDS_MAX 1e9
#define TOP_DEFAULT 10u
#define TOP_MAX 10000u
#define JSON_BYTES_MAX MIB(64)

static const char help[] =
	"Usage: estargz trace [OPTION...] FILE|DIR...\n"
	"Why a container started slowly: what was read, what that waited for, and\n"
	"what was fetched, as events= of mount.estargz has recorded it.\n"
	"\n"
	"  -o, --output FILE      a picture, FILE.svg or FILE.html\n"
	"  -j, --json             a JSON object\n"
	"      --run N            of several in the files: the Nth [the last]\n"
	"      --from SECONDS     from then on; below 0: before the end [0]\n"
	"      --to SECONDS       until then [the end]\n"
	"      --until-idle[=SECONDS]\n"
	"                         until no read comes for so long [1]\n"
	"      --rtt MS           a round trip: which waits are longer\n"
	"      --top N            so many of the longest waits [10]\n"
	"      --rows N           files in the picture [80]\n"
	"  -h, --help             print this\n";

/* What the command line says. */
struct trace {
	struct runstat_window window;
	const char *output;
	bool html;
	bool json;
	unsigned top;
	unsigned rows;
};

/* ---- reading -------------------------------------------------------------- */

static int read_one(struct evlog *l, int dirfd, const char *name, struct err *e)
{
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
	int r;

	if (f == NULL) {
		r = -errno;
		if (fd >= 0)
			(void)close(fd);
		return err_set(e, r, "%s: %s", name, err_name(r));
	}
	r = evlog_read(l, f, e);
	(void)fclose(f);
	return r < 0 ? err_wrap(e, "%s", name) : 0;
}

static int is_events(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return n > 6 && strcmp(d->d_name + n - 6, ".jsonl") == 0;
}

/* Every .jsonl of a directory, as the snapshotter makes them. */
static int read_dir(struct evlog *l, const char *path, struct err *e)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent **v = NULL;
	int n = fd >= 0 ? scandirat(fd, ".", &v, is_events, alphasort) : -1;
	int r = n < 0 ? -errno : 0;

	if (r < 0)
		return err_set(e, r, "%s: %s", path, err_name(r));
	for (int i = 0; i < n; i++) {
		struct stat st;

		if (r == 0 && fstatat(fd, v[i]->d_name, &st, 0) == 0 &&
		    S_ISREG(st.st_mode))
			r = read_one(l, fd, v[i]->d_name, e);
		free(v[i]);
	}
	free(v);
	return r < 0 ? err_wrap(e, "%s", path) : 0;
}

static int read_all(struct evlog *l, char **paths, struct err *e)
{
	int r = 0;

	for (; r == 0 && *paths != NULL; paths++) {
		struct stat st;

		if (strcmp(*paths, "-") == 0)
			r = evlog_read(l, stdin, e);
		else if (stat(*paths, &st) == 0 && S_ISDIR(st.st_mode))
			r = read_dir(l, *paths, e);
		else
			r = read_one(l, AT_FDCWD, *paths, e);
	}
	if (r == 0 && l->n_layers == 0)
		r = err_set(e, -ENOENT, "%s",
			    l->n_bad > 0 ? "no line is an event"
					 : "no events are recorded there");
	return r;
}

/* What the layers of the run are from; NULL where nobody says. */
static const char *title_of(const struct evlog *l, const struct runstat *s)
{
	for (uint32_t i = 0; i < l->n_layers; i++) {
		if (s->layers[i] && l->layers[i].source != NULL)
			return l->layers[i].source;
	}
	return NULL;
}

/* ---- text ----------------------------------------------------------------- */

static void print_clean(const char *s)
{
	CLEANUP_BUF struct buf b = BUF_INIT(KIB(64));

	if (text_clean(&b, s) == 0)
		(void)fputs(b.p, stdout);
}

static const char *met_name(const struct evlog_item *x)
{
	static const char *const names[EVLOG_CLASS_N_] = {
		[EVLOG_DEMAND] = "demand",
		[EVLOG_AHEAD] = "ahead",
		[EVLOG_PREFETCH] = "prefetch",
		[EVLOG_BACKGROUND] = "background",
		[EVLOG_TAIL] = "tail",
	};

	return x->how == EVLOG_ERROR ? "error" : names[x->class_];
}

static void print_run(const struct evlog *l, const struct runstat *s)
{
	const char *title = title_of(l, s);
	char date[TEXT_DATE_BYTES], took[TEXT_TIME_BYTES];
	unsigned n = 0;

	for (uint32_t i = 0; i < l->n_layers; i++)
		n += s->layers[i];
	(void)fputs("run       ", stdout);
	if (title != NULL) {
		print_clean(title);
		(void)fputs(", ", stdout);
	}
	(void)printf("%u layer%s, %s", n, n == 1 ? "" : "s",
		     text_time(s->to_us - s->from_us, took));
	if (s->wall_us > 0)
		(void)printf(" from %s",
			     text_date(s->wall_us + (s->from_us - s->start_us),
				       date));
	if (s->n_runs > 1)
		(void)printf(", run %u of %u", s->run, s->n_runs);
	(void)putchar('\n');
}

static void print_reads(const struct runstat *s, uint64_t rtt_us)
{
	char a[PROGRESS_SIZE_BYTES], t[TEXT_TIME_BYTES], u[TEXT_TIME_BYTES],
		v[TEXT_TIME_BYTES];

	(void)printf("reads     %" PRIu64 ", %s, of %" PRIu64 " files: %" PRIu64
		     " hit, %" PRIu64 " waited, %" PRIu64 " failed\n",
		     s->reads, progress_size(s->read_bytes, a), s->files,
		     s->by_how[EVLOG_HIT], s->by_how[EVLOG_WAIT],
		     s->by_how[EVLOG_ERROR]);
	(void)printf("waits     %" PRIu64 " on demand, %" PRIu64
		     " for read-ahead, %" PRIu64 " for prefetch, %" PRIu64
		     " for the background\n",
		     s->met[EVLOG_DEMAND], s->met[EVLOG_AHEAD],
		     s->met[EVLOG_PREFETCH], s->met[EVLOG_BACKGROUND]);
	(void)printf("          %s in total, longest %s; somebody waited for "
		     "%s\n",
		     text_time(s->wait_us, t), text_time(s->longest_us, u),
		     text_time(s->blocked_us, v));
	if (rtt_us > 0)
		(void)printf("          %" PRIu64
			     " longer than a round trip of %s\n",
			     s->over_rtt, text_time(rtt_us, t));
}

static double ratio(uint64_t a, uint64_t b)
{
	return b > 0 ? (double)a / (double)b : 0;
}

static void print_bytes(const struct runstat *s)
{
	static const char *const names[EVLOG_CLASS_N_] = {
		"demand", "ahead", "prefetch", "background", "TOC"};
	char a[PROGRESS_SIZE_BYTES], b[PROGRESS_SIZE_BYTES];
	uint64_t bytes = runstat_fetched(s);

	(void)printf("fetched   %s",
		     progress_size(bytes + s->fetched[EVLOG_TAIL], a));
	for (int i = 0; i < EVLOG_CLASS_N_; i++)
		(void)printf("%s %s %s (%" PRIu64 ")", i == 0 ? ":" : ",",
			     names[i], progress_size(s->fetched[i], a),
			     s->fetches[i]);
	(void)printf("\ntouched   %" PRIu64 " pages, %s, in chunks of %s, ",
		     s->pages, progress_size(s->pages * RUNSTAT_PAGE, a),
		     progress_size(s->chunk_bytes, b));
	(void)printf("%s compressed\n", progress_size(s->blob_bytes, a));
	if (s->blob_bytes > 0)
		(void)printf(
			"ratios    fetched / chunks %.2f (with the TOC "
			"%.2f), chunks / pages %.2f\n",
			ratio(bytes, s->blob_bytes),
			ratio(bytes + s->fetched[EVLOG_TAIL], s->blob_bytes),
			ratio(s->chunk_bytes, s->pages * RUNSTAT_PAGE));
}

static void print_longest(const struct evlog *l, const struct runstat *s,
			  unsigned top)
{
	char at[TEXT_TIME_BYTES], took[TEXT_TIME_BYTES];

	if (s->n_waits == 0 || top == 0)
		return;
	(void)printf("\n%10s %10s  %-10s %6s  %s\n", "WAITED", "AT", "MET",
		     "LAYER", "FILE");
	for (uint32_t i = 0; i < MIN(s->n_waits, top); i++) {
		const struct evlog_item *x = &l->items[s->waits[i]];
		const struct evlog_layer *v = &l->layers[x->layer];

		(void)printf("%10s %10s  %-10s ", text_time(x->us, took),
			     text_time(x->end_us - x->us - s->start_us, at),
			     met_name(x));
		if (v->number >= 0)
			(void)printf("%6d  ", v->number);
		else
			(void)printf("%.6s  ", v->id);
		print_clean(l->files[x->file]->path);
		(void)printf(" %" PRIu64 "+%" PRIu64 "\n", x->off, x->len);
	}
}

static void print_text(const struct evlog *l, const struct runstat *s,
		       const struct trace *t)
{
	print_run(l, s);
	print_reads(s, t->window.rtt_us);
	print_bytes(s);
	if (l->lost > 0 || l->n_bad > 0)
		(void)printf("missing   %" PRIu64 " events were lost, %" PRIu64
			     " lines are none\n",
			     l->lost, l->n_bad);
	print_longest(l, s, t->top);
}

/* ---- JSON ----------------------------------------------------------------- */

static int json_layer(struct buf *b, const struct evlog_layer *v)
{
	char digest[DIGEST_STR_BYTES];
	int r = buf_add_str(b, "{\"id\":");

	if (r == 0)
		r = buf_add_json_str(b, v->id);
	if (r == 0 && v->number >= 0)
		r = buf_addf(b, ",\"number\":%d", v->number);
	if (r == 0 && v->has_digest)
		r = buf_addf(b, ",\"digest\":\"%s\"",
			     digest_str(&v->digest, digest));
	if (r == 0 && v->has_toc_digest)
		r = buf_addf(b, ",\"toc_digest\":\"%s\"",
			     digest_str(&v->toc_digest, digest));
	if (r == 0 && v->source != NULL)
		r = buf_add_str(b, ",\"source\":");
	if (r == 0 && v->source != NULL)
		r = buf_add_json_str(b, v->source);
	if (r == 0)
		r = buf_addf(b,
			     ",\"chunks\":%" PRIu64 ",\"bytes\":%" PRIu64 "}",
			     v->chunks, v->bytes);
	return r;
}

static int json_layers(struct buf *b, const struct evlog *l,
		       const struct runstat *s)
{
	int r = buf_add_str(b, ",\"layers\":[");
	const char *comma = "";

	for (uint32_t i = 0; r == 0 && i < l->n_layers; i++) {
		if (!s->layers[i])
			continue;
		r = buf_add_str(b, comma);
		if (r == 0)
			r = json_layer(b, &l->layers[i]);
		comma = ",";
	}
	return r == 0 ? buf_add_str(b, "]") : r;
}

static int json_longest(struct buf *b, const struct evlog *l,
			const struct runstat *s, unsigned top)
{
	int r = buf_add_str(b, ",\"longest\":[");

	for (uint32_t i = 0; r == 0 && i < MIN(s->n_waits, top); i++) {
		const struct evlog_item *x = &l->items[s->waits[i]];

		r = buf_addf(b,
			     "%s{\"us\":%" PRIu64 ",\"at_us\":%" PRIu64
			     ",\"met\":\"%s\",\"offset\":%" PRIu64
			     ",\"bytes\":%" PRIu64 ",\"layer\":",
			     i > 0 ? "," : "", x->us,
			     x->end_us - x->us - s->start_us, met_name(x),
			     x->off, x->len);
		if (r == 0)
			r = buf_add_json_str(b, l->layers[x->layer].id);
		if (r == 0)
			r = buf_add_str(b, ",\"path\":");
		if (r == 0)
			r = buf_add_json_str(b, l->files[x->file]->path);
		if (r == 0)
			r = buf_add_str(b, "}");
	}
	return r == 0 ? buf_add_str(b, "]}\n") : r;
}

static int json_counts(struct buf *b, const struct runstat *s)
{
	uint64_t bytes = runstat_fetched(s);
	int r;

	r = buf_addf(b,
		     ",\"reads\":{\"count\":%" PRIu64 ",\"bytes\":%" PRIu64
		     ",\"files\":%" PRIu64 ",\"hit\":%" PRIu64
		     ",\"wait\":%" PRIu64 ",\"error\":%" PRIu64 "}",
		     s->reads, s->read_bytes, s->files, s->by_how[EVLOG_HIT],
		     s->by_how[EVLOG_WAIT], s->by_how[EVLOG_ERROR]);
	if (r == 0)
		r = buf_addf(
			b,
			",\"waits\":{\"demand\":%" PRIu64 ",\"ahead\":%" PRIu64
			",\"prefetch\":%" PRIu64 ",\"background\":%" PRIu64
			",\"demand_us\":%" PRIu64 ",\"total_us\":%" PRIu64
			",\"longest_us\":%" PRIu64 ",\"blocked_us\":%" PRIu64
			",\"over_rtt\":%" PRIu64 "}",
			s->met[EVLOG_DEMAND], s->met[EVLOG_AHEAD],
			s->met[EVLOG_PREFETCH], s->met[EVLOG_BACKGROUND],
			s->demand_us, s->wait_us, s->longest_us, s->blocked_us,
			s->over_rtt);
	if (r == 0)
		r = buf_addf(b,
			     ",\"fetched\":{\"demand\":%" PRIu64
			     ",\"ahead\":%" PRIu64 ",\"prefetch\":%" PRIu64
			     ",\"background\":%" PRIu64 ",\"toc\":%" PRIu64
			     ",\"quickest_us\":%" PRIu64 "}",
			     s->fetched[EVLOG_DEMAND], s->fetched[EVLOG_AHEAD],
			     s->fetched[EVLOG_PREFETCH],
			     s->fetched[EVLOG_BACKGROUND],
			     s->fetched[EVLOG_TAIL], s->quickest_us);
	if (r == 0)
		r = buf_addf(b,
			     ",\"touched\":{\"pages\":%" PRIu64
			     ",\"chunk_bytes\":%" PRIu64
			     ",\"compressed_bytes\":%" PRIu64
			     "},\"ratios\":{\"fetched_chunks\":%.4f,"
			     "\"chunks_pages\":%.4f}",
			     s->pages, s->chunk_bytes, s->blob_bytes,
			     ratio(bytes, s->blob_bytes),
			     ratio(s->chunk_bytes, s->pages * RUNSTAT_PAGE));
	return r;
}

static int print_json(const struct evlog *l, const struct runstat *s,
		      const struct trace *t)
{
	CLEANUP_BUF struct buf b = BUF_INIT(JSON_BYTES_MAX);
	int r = buf_addf(&b,
			 "{\"run\":%u,\"runs\":%u,\"wall_us\":%" PRIu64
			 ",\"from_us\":%" PRIu64 ",\"to_us\":%" PRIu64
			 ",\"rtt_us\":%" PRIu64 ",\"lost\":%" PRIu64
			 ",\"skipped\":%" PRIu64,
			 s->run, s->n_runs, s->wall_us,
			 s->from_us - s->start_us, s->to_us - s->start_us,
			 t->window.rtt_us, l->lost, l->n_bad);

	if (r == 0)
		r = json_layers(&b, l, s);
	if (r == 0)
		r = json_counts(&b, s);
	if (r == 0)
		r = json_longest(&b, l, s, t->top);
	if (r == 0)
		(void)fputs(b.p, stdout);
	return r;
}

/* ---- the command ---------------------------------------------------------- */

static int draw(const struct evlog *l, const struct runstat *s,
		const struct trace *t, struct err *e)
{
	const struct waterfall w = {
		.log = l,
		.stat = s,
		.title = title_of(l, s),
		.rows = t->rows,
		.top = t->top,
		.rtt_us = t->window.rtt_us,
	};
	CLEANUP_FREE char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	int r = -ENOMEM;

	if (f != NULL) {
		r = t->html ? waterfall_html(&w, f) : waterfall_svg(&w, f);
		if (fclose(f) != 0 && r == 0)
			r = -ENOMEM;
	}
	if (r == 0)
		r = io_write_file(AT_FDCWD, t->output, text, n, 0644);
	return r < 0 ? err_set(e, r, "%s: %s", t->output, err_name(r)) : 0;
}

static int run(const struct trace *t, char **paths)
{
	CLEANUP_EVLOG struct evlog l = {0};
	CLEANUP_RUNSTAT struct runstat s = {0};
	struct err e = {0};
	int r = read_all(&l, paths, &e);

	if (r == 0)
		r = runstat_make(&l, &t->window, &s, &e);
	if (r == 0 && t->output != NULL)
		r = draw(&l, &s, t, &e);
	if (r == 0 && t->json)
		r = print_json(&l, &s, t);
	else if (r == 0 && t->output == NULL)
		print_text(&l, &s, t);
	return r < 0 ? cli_fail("trace", "%s",
				e.text[0] != '\0' ? e.text : err_name(r))
		     : 0;
}

static bool parse_seconds(const char *s, double scale, double min, int64_t *ret)
{
	char *end;
	double v = strtod(s, &end);

	if (end == s || *end != '\0' || !(v >= min && v <= SECONDS_MAX))
		return false;
	*ret = (int64_t)(v * scale);
	return true;
}

static bool parse_number(const char *s, unsigned min, unsigned max,
			 unsigned *ret)
{
	char *end;
	unsigned long v = strtoul(s, &end, 10);

	if (*s < '0' || *s > '9' || *end != '\0' || v < min || v > max)
		return false;
	*ret = (unsigned)v;
	return true;
}

static bool take_output(struct trace *t, const char *name)
{
	const char *dot = strrchr(name, '.');

	t->output = name;
	t->html = dot != NULL && strcmp(dot, ".html") == 0;
	return t->html || (dot != NULL && strcmp(dot, ".svg") == 0);
}

/* Return: whether the value is as it should be */
static bool take(struct trace *t, int c, const char *v)
{
	struct runstat_window *w = &t->window;
	int64_t us = (int64_t)(IDLE_S_DEFAULT * 1e6);
	bool good = true;

	switch (c) {
	case 'o':
		return take_output(t, v);
	case 'j':
		t->json = true;
		return true;
	case 'n':
		return parse_number(v, 1, UINT32_MAX, &w->run);
	case 'f':
		return parse_seconds(v, 1e6, -SECONDS_MAX, &w->from_us);
	case 't':
		return parse_seconds(v, 1e6, -SECONDS_MAX, &w->to_us);
	case 'i':
		good = v == NULL || parse_seconds(v, 1e6, 1e-6, &us);
		w->idle_us = (uint64_t)us;
		return good;
	case 'r':
		good = parse_seconds(v, 1e3, 1e-3, &us);
		w->rtt_us = (uint64_t)us;
		return good;
	case 'p':
		return parse_number(v, 0, TOP_MAX, &t->top);
	default:
		return parse_number(v, 1, WATERFALL_ROWS_MAX, &t->rows);
	}
}

int cli_trace(int argc, char **argv)
{
	static const struct option longs[] = {
		{"output", required_argument, NULL, 'o'},
		{"json", no_argument, NULL, 'j'},
		{"run", required_argument, NULL, 'n'},
		{"from", required_argument, NULL, 'f'},
		{"to", required_argument, NULL, 't'},
		{"until-idle", optional_argument, NULL, 'i'},
		{"rtt", required_argument, NULL, 'r'},
		{"top", required_argument, NULL, 'p'},
		{"rows", required_argument, NULL, 'w'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct trace t = {
		.window = {.from_us = RUNSTAT_NEVER, .to_us = RUNSTAT_NEVER},
		.top = TOP_DEFAULT,
		.rows = WATERFALL_ROWS,
	};
	int c, at = 0;

	while ((c = getopt_long(argc, argv, "o:jh", longs, &at)) != -1) {
		if (c == 'h') {
			(void)fputs(help, stdout);
			return 0;
		}
		if (c == '?')
			return 1;
		if (!take(&t, c, optarg))
			return c == 'o'
				       ? cli_fail("trace",
						  "%s: not a name that ends in "
						  ".svg or .html",
						  optarg)
				       : cli_fail(
						 "trace",
						 "--%s %s: not a number that it "
						 "may be",
						 longs[at].name, optarg);
	}
	if (optind == argc)
		return cli_fail("trace", "which events? FILE or DIR is needed");
	return run(&t, argv + optind);
}
