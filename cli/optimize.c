/* SPDX-License-Identifier: Apache-2.0 */
/* estargz optimize: what an image's workload reads goes to the front. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <json.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/hints.h"
#include "cli/runimage.h"
#include "cli/runproc.h"
#include "cli/source.h"
#include "common/checked.h"
#include "common/io.h"

#define PERIOD_DEFAULT_S 10u
#define PERIOD_MAX_S 86400u
#define BASE_DIR "image" /* in the run's directory */
#define BASE_TAG "run"

/* clang-format off */
static const char help[] =
	"Usage: estargz optimize [OPTION...] SRC DST [-- COMMAND...]\n"
	"Run an image's workload, record what it reads, and convert the image to\n"
	"eStargz with that in front. Needs root, and runc or crun.\n"
	"\n"
	ARGS_HELP_IMAGE
	"COMMAND is run in the place of the image's entry point and arguments.\n"
	"\n"
	"      --entrypoint JSON     a list, in the place of the image's\n"
	"      --args JSON           the same of its arguments\n"
	"      --env NAME[=VALUE]    set, or take away; may be repeated\n"
	"      --env-file FILE       the same, one a line\n"
	"      --cwd DIR             where it starts\n"
	"      --user USER[:GROUP]   who it is\n"
	"      --mount type=bind,src=A,dst=B,options=rbind:ro\n"
	"                            one mount more; may be repeated\n"
	"      --net-host            the host's network [loopback alone]\n"
	"  -t, --terminal            with a terminal of its own\n"
	"  -i, --stdin               with our standard input\n"
	"      --period SECONDS      it runs so long at most; 0: until it ends [10]\n"
	"      --wait-on-line TEXT   until it writes a line that has TEXT, or matches\n"
	"                            it as an extended regular expression\n"
	"      --wait-on-signal      until SIGINT or SIGTERM\n"
	"      --ignore-status       a workload that fails, or does not write the\n"
	"                            line, is good enough\n"
	"      --runtime NAME        runc, crun or a path [runc, or else crun]\n"
	"      --record-out FILE     what was read, for estargz convert and ctr-remote\n"
	"\n"
	ARGS_HELP;
/* clang-format on */

enum {
	OPT_ENTRYPOINT = 1,
	OPT_ARGS,
	OPT_ENV,
	OPT_ENV_FILE,
	OPT_CWD,
	OPT_USER,
	OPT_MOUNT,
	OPT_NET_HOST,
	OPT_PERIOD,
	OPT_LINE,
	OPT_SIGNAL,
	OPT_IGNORE_STATUS,
	OPT_RUNTIME,
	OPT_RECORD_OUT,
};

/**
 * struct optimize - the command
 * @src:	name of the image
 * @got:	of the run
 * @source:	the image that is run; @platform: which of an index
 * @trace:	JSON; empty where there is none
 * @data:	bytes of its reads (common/trace.h); empty: not with it
 * @trace_bytes: what is in it, of the blobs; @chunk_bytes: the same, uncompressed
 */
struct optimize {
	struct args a;
	const char *src;
	struct runspec spec;
	struct run_opts run;
	struct runline line;
	bool has_period;
	bool ignore_status;
	const char *runtime;
	const char *record_out;
	struct runimage_result got;
	struct source source;
	struct platform platform;
	struct buf trace;
	struct digest trace_digest;
	struct buf data;
	struct digest data_digest;
	uint64_t trace_bytes;
	uint64_t chunk_bytes;
};

static void optimize_done(struct optimize *o)
{
	observed_done(&o->got.seen);
	runspec_done(&o->spec);
	runline_done(&o->line);
	buf_done(&o->trace);
	buf_done(&o->data);
	source_close(&o->source);
	args_done(&o->a);
}

/* ---- the command line -------------------------------------------------- */

static int take_period(struct optimize *o, const char *value, struct err *e)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 ||
	    n > PERIOD_MAX_S)
		return err_set(e, -EINVAL,
			       "--period %s: not a number of seconds from 0 "
			       "to %u",
			       value, PERIOD_MAX_S);
	o->run.period_s = (unsigned)n;
	o->has_period = true;
	return 0;
}

static int take_line(struct optimize *o, const char *value, struct err *e)
{
	runline_done(&o->line);
	o->run.line = &o->line;
	return runline_init(&o->line, value, e);
}

/* What is run, and with what. */
static int take_spec(struct optimize *o, int c, const char *value,
		     struct err *e)
{
	struct runspec *s = &o->spec;

	switch (c) {
	case OPT_ENTRYPOINT:
		return runspec_parse_list(value, &s->entrypoint, e);
	case OPT_ARGS:
		return runspec_parse_list(value, &s->args, e);
	case OPT_ENV:
		return runspec_add(&s->env, value);
	case OPT_ENV_FILE:
		return runspec_add_env_file(s, value, e);
	case OPT_MOUNT:
		return runspec_add_mount(s, value, e);
	case OPT_CWD:
		s->cwd = value;
		return 0;
	case OPT_USER:
		s->user = value;
		return 0;
	case OPT_NET_HOST:
		s->net_host = true;
		return 0;
	default:
		return -ENOENT;
	}
}

/* How it is run, and until when. */
static int take_run(struct optimize *o, int c, const char *value, struct err *e)
{
	switch (c) {
	case OPT_PERIOD:
		return take_period(o, value, e);
	case OPT_LINE:
		return take_line(o, value, e);
	case OPT_SIGNAL:
		o->run.until_signal = true;
		return 0;
	case OPT_IGNORE_STATUS:
		o->ignore_status = true;
		return 0;
	case OPT_RUNTIME:
		o->runtime = value;
		return 0;
	case OPT_RECORD_OUT:
		o->record_out = value;
		return 0;
	case 't':
		o->run.terminal = o->spec.terminal = true;
		return 0;
	case 'i':
		o->run.with_stdin = true;
		return 0;
	default:
		return take_spec(o, c, value, e);
	}
}

static int find_runtime(struct optimize *o, char **ret)
{
	static const char *const names[] = {"runc", "crun"};

	if (o->runtime != NULL)
		return runproc_find(o->runtime, ret);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (runproc_find(names[i], ret) == 0)
			return 0;
	}
	return -ENOENT;
}

/* ---- the run ----------------------------------------------------------- */

/* The platform to run: this machine's, if it is one of those asked for. */
static struct platform run_platform(const struct args *a)
{
	struct platform here;

	platform_here(&here);
	for (size_t i = 0; i < a->n_platforms; i++) {
		if (strcmp(a->platforms[i].os, here.os) == 0 &&
		    strcmp(a->platforms[i].arch, here.arch) == 0)
			return a->platforms[i];
	}
	return a->n_platforms > 0 && !a->t.all_platforms ? a->platforms[0]
							 : here;
}

/* The image as eStargz, quickly, in the run's directory. */
static int make_base(const struct optimize *o, const char *base,
		     struct transform_result *ret, struct err *e)
{
	CLEANUP(progress_free_cleanup) struct progress *progress = NULL;
	CLEANUP(image_dst_close_cleanup) struct image_dst *dst = NULL;
	CLEANUP_IMAGE_NAME struct image_name name = {0};
	struct transform_opts t = {
		.build = {.level = 1, .jobs = o->a.t.build.jobs},
		.reuse = true,
		.oci = true,
		.platforms = &o->platform,
		.n_platforms = o->source.is_index ? 1 : 0,
	};
	int r = progress_new(o->a.mode, STDERR_FILENO, &progress);

	if (r < 0)
		return err_no_memory(e);
	t.progress = progress;
	r = image_name_parse(base, &name, e);
	if (r == 0)
		r = image_dst_open(&name, &o->a.image, &dst, e);
	return r == 0 ? transform_image(o->source.src, dst, &t, ret, e) : r;
}

/**
 * struct base - the image as it is mounted for the run
 * @source:	as mount.estargz has it
 * @layers:	[@source.m.n_layers]
 */
struct base {
	char *source;
	struct observe_layer *layers;
};

static void base_done(struct base *b)
{
	free(b->source);
	free(b->layers);
}

static int base_convert(struct optimize *o, const struct rundir *d,
			struct base *b, struct err *e)
{
	CLEANUP_TRANSFORM_RESULT struct transform_result r = {0};
	int rc;

	if (asprintf(&b->source, "oci:%s/" BASE_DIR ":" BASE_TAG, d->path) <
	    0) {
		b->source = NULL;
		return err_no_memory(e);
	}
	rc = make_base(o, b->source, &r, e);
	if (rc < 0)
		return rc;
	assert(r.n_images == 1);
	assert(r.images[0].n_layers == o->source.m.n_layers);
	for (size_t i = 0; i < r.images[0].n_layers; i++)
		b->layers[i].toc = r.layers[r.images[0].layers[i]].toc;
	return 0;
}

/* Whether the image is eStargz where it is, and mount.estargz finds it there
 * with no more than its name. */
static bool is_mountable(const struct optimize *o, const struct image_name *n)
{
	const struct manifest *m = &o->source.m;

	for (size_t i = 0; i < m->n_layers; i++) {
		if (!m->layers[i].has_toc_digest)
			return false;
	}
	if (n->transport == IMAGE_DOCKER)
		return o->a.image.hosts_dir == NULL &&
		       o->a.image.docker_config == NULL;
	return n->transport == IMAGE_OCI && !o->source.is_index;
}

static int base_as_it_is(const struct optimize *o, const struct image_name *n,
			 const char *src, struct base *b)
{
	const struct manifest *m = &o->source.m;
	char digest[DIGEST_STR_BYTES];

	for (size_t i = 0; i < m->n_layers; i++)
		b->layers[i].toc = m->layers[i].toc_digest;
	if (n->transport == IMAGE_OCI)
		b->source = strdup(src);
	else if (asprintf(&b->source, "%s/%s@%s", n->ref.host, n->ref.repo,
			  digest_str(&m->desc.digest, digest)) < 0)
		b->source = NULL;
	return b->source != NULL ? 0 : -ENOMEM;
}

static int run_base(struct optimize *o, struct rundir *d, const char *src,
		    struct err *e)
{
	CLEANUP_IMAGE_NAME struct image_name name = {0};
	CLEANUP(base_done) struct base b = {0};
	const struct manifest *m = &o->source.m;
	struct runimage i = {
		.plain_http = o->a.image.plain_http,
		.config = m->config,
		.spec = &o->spec,
		.run = &o->run,
		.n_layers = m->n_layers,
		.manifest = m->desc.digest,
	};
	int r = image_name_parse(src, &name, e);

	if (r < 0)
		return r;
	b.layers = calloc(m->n_layers + 1, sizeof(*b.layers));
	if (b.layers == NULL)
		return err_no_memory(e);
	for (size_t k = 0; k < m->n_layers; k++)
		b.layers[k].index = (uint32_t)k;
	if (!is_mountable(o, &name))
		r = base_convert(o, d, &b, e);
	else if (base_as_it_is(o, &name, src, &b) < 0)
		r = err_no_memory(e);
	i.source = b.source;
	i.layers = b.layers;
	return r == 0 ? runimage(d, &i, &o->got, e) : r;
}

/* Whether the workload did what it was run for; what we end did. */
static int judge(const struct optimize *o, struct err *e)
{
	const struct run_opts *r = &o->run;
	char when[40] = "before it ended";

	if (o->got.how == RUN_EXITED && o->got.status != 0)
		return err_set(e, -ECANCELED,
			       "the workload ended with exit status %d",
			       o->got.status);
	if (r->line == NULL || o->got.how == RUN_LINE ||
	    o->got.how == RUN_SIGNAL)
		return 0;
	if (o->got.how == RUN_PERIOD)
		(void)snprintf(when, sizeof(when), "in %u s", r->period_s);
	return err_set(e, -ECANCELED,
		       "the workload did not write the line \"%.80s\" %s",
		       r->line->text, when);
}

/* Says how it went. */
static void say(const struct optimize *o)
{
	static const char *const how[] = {
		[RUN_EXITED] = "it ended",
		[RUN_PERIOD] = "the period was over",
		[RUN_LINE] = "the line was there",
		[RUN_SIGNAL] = "a signal",
	};
	const struct observed *seen = &o->got.seen;
	uint64_t ranges = 0;
	char size[PROGRESS_SIZE_BYTES];

	if (o->got.incomplete)
		args_warn(&o->a, "it read more than could be recorded");
	if (seen->record.n_files == 0)
		args_warn(&o->a, "it has read nothing of the image");
	for (size_t i = 0; i < seen->record.n_files; i++)
		ranges += seen->record.files[i].n_ranges;
	args_say(&o->a,
		 "recorded until %s: %s in %" PRIu64 " ranges of %zu files",
		 how[o->got.how], progress_size(seen->bytes, size), ranges,
		 seen->record.n_files);
}

static int write_record(const struct optimize *o, struct err *e)
{
	CLEANUP_BUF struct buf b = BUF_INIT(RECORD_BYTES_MAX);
	int r = record_print(&o->got.seen.record, &b);

	if (r == 0)
		r = io_write_file(AT_FDCWD, o->record_out, b.p, b.len, 0644);
	return r < 0 ? err_set(e, r, "%s: %s", o->record_out, err_name(r)) : 0;
}

static int run(struct optimize *o, struct err *e)
{
	CLEANUP_RUNDIR struct rundir d = {.fd = -1};
	const char *src = o->src;
	struct source_opts so = {.image = o->a.image};
	struct err why = {0};
	int r = rundir_open(&d, e);

	if (r < 0)
		return r;
	o->platform = so.platform = run_platform(&o->a);
	r = source_open(src, &so, &o->source, e);
	if (r < 0)
		return err_wrap(e, "%s", src);
	r = run_base(o, &d, src, e);
	if (r < 0)
		return r;
	r = judge(o, &why);
	if (r < 0 && !o->ignore_status)
		return err_set(e, r,
			       "%s: nothing is written (--ignore-status uses "
			       "what it has read)",
			       why.text);
	if (r < 0)
		args_warn(&o->a, "%s; what it has read is used all the same",
			  why.text);
	say(o);
	return o->record_out != NULL ? write_record(o, e) : 0;
}

/* ---- the image --------------------------------------------------------- */

static bool is_run(const struct optimize *o, const struct transform_image *i)
{
	return digest_equal(&i->in.digest, &o->source.m.desc.digest);
}

static int print_trace(struct optimize *o, struct trace *t, struct err *e)
{
	CLEANUP(sha256_free_cleanup) struct sha256 *h = sha256_new();
	int r = -EOVERFLOW;

	if (h == NULL)
		return err_no_memory(e);
	/* What is last matters least. */
	for (; t->n_reads > 0; t->n_reads /= 2) {
		buf_clear(&o->trace);
		r = trace_print(t, &o->trace);
		if (r != -EOVERFLOW)
			break;
	}
	if (r < 0)
		return err_set(e, r, "trace: %s", err_name(r));
	sha256_all(h, o->trace.p, o->trace.len, &o->trace_digest);
	for (size_t i = 0; i < t->n_reads; i++)
		o->trace_bytes += t->reads[i].len;
	return 0;
}

/* A layer that was made, or one of the source that was kept. */
struct blob_at {
	struct optimize *o;
	const struct transform_layer *l;
};

static int range_of(void *arg, uint64_t off, size_t n, struct buf *ret,
		    uint64_t *ret_size, struct err *e)
{
	const struct blob_at *at = arg;
	int r;

	if (at->l->fd < 0)
		return image_src_range(at->o->source.src, &at->l->in, off, n,
				       ret, ret_size, e);
	*ret_size = at->l->out.size;
	if (off == UINT64_MAX) {
		n = (size_t)MIN((uint64_t)n, *ret_size);
		off = *ret_size - n;
	}
	r = checked_range(off, n, *ret_size) ? buf_reserve(ret, n) : -EBADMSG;
	if (r == 0)
		r = io_pread_all(at->l->fd, ret->p + ret->len, n, off);
	if (r < 0)
		return err_set(e, r, "%s", err_name(r));
	ret->len += n;
	ret->p[ret->len] = '\0';
	return 0;
}

/* Puts the bytes of all reads into one blob, where they are not too many. A trace
 * is good without. */
static void make_data(struct optimize *o, struct trace *t,
		      const struct hints_layer *layers)
{
	CLEANUP(sha256_free_cleanup) struct sha256 *h = sha256_new();
	struct err e = {0};
	int r = h != NULL ? hints_data(t, layers, &o->data, &e)
			  : err_no_memory(&e);

	if (r < 0)
		args_warn(&o->a, "the trace goes without its data: %s", e.text);
	if (r <= 0)
		return;
	sha256_all(h, o->data.p, o->data.len, &o->data_digest);
	t->data = o->data_digest;
	t->has_data = true;
}

/* The trace of the image that was run, of the layers as they are now. */
static int made(void *arg, const struct transform_result *r,
		const struct transform_image *image, struct digest *ret,
		struct err *e)
{
	struct optimize *o = arg;
	CLEANUP_TRACE struct trace trace = {0};
	CLEANUP_FREE struct hints_layer *layers =
		calloc(image->n_layers + 1, sizeof(*layers));
	CLEANUP_FREE struct blob_at *at =
		calloc(image->n_layers + 1, sizeof(*at));
	int rc;

	if (!is_run(o, image))
		return 0;
	*ret = o->trace_digest;
	if (o->trace.len > 0)
		return 1; /* an index may list it twice */
	if (layers == NULL || at == NULL)
		return err_no_memory(e);
	for (size_t i = 0; i < image->n_layers; i++) {
		const struct transform_layer *l = &r->layers[image->layers[i]];

		at[i] = (struct blob_at){.o = o, .l = l};
		layers[i] = (struct hints_layer){
			.blob = l->out.digest,
			.toc = l->toc,
			.size = l->out.size,
			.in = {.range = l->has_toc || l->fd >= 0 ? range_of
								 : NULL,
			       .arg = &at[i]},
		};
	}
	rc = hints_make(&o->got.seen, layers, image->n_layers, &trace,
			&o->chunk_bytes, e);
	if (rc < 0 || trace.n_reads == 0)
		return rc;
	make_data(o, &trace, layers);
	rc = print_trace(o, &trace, e);
	*ret = o->trace_digest;
	return rc < 0 ? rc : 1;
}

/* The trace, behind its data: who finds the one finds the other. */
static int refer_trace(struct optimize *o, struct image_dst *dst,
		       const struct image_desc *subject, struct err *e)
{
	char type[] = TRACE_MEDIA_TYPE, data_type[] = TRACE_DATA_MEDIA_TYPE;
	const struct image_desc b = {
		.media_type = type,
		.digest = o->trace_digest,
		.size = o->trace.len,
	};
	const struct image_desc data = {
		.media_type = data_type,
		.digest = o->data_digest,
		.size = o->data.len,
	};
	int r = 0;

	if (o->data.len > 0)
		r = image_dst_refer(dst, subject, data_type, &data, o->data.p,
				    e);
	return r == 0 ? image_dst_refer(dst, subject, type, &b, o->trace.p, e)
		      : r;
}

/* Puts the trace beside the image. */
static int refer(void *arg, struct image_dst *dst,
		 const struct transform_result *r, struct err *e)
{
	struct optimize *o = arg;
	char sizes[3][PROGRESS_SIZE_BYTES];
	int rc = 0;

	for (size_t i = 0; rc == 0 && o->trace.len > 0 && i < r->n_images;
	     i++) {
		if (is_run(o, &r->images[i]))
			rc = refer_trace(o, dst, &r->images[i].out, e);
	}
	if (rc == 0 && o->trace.len > 0)
		args_say(&o->a, "trace: %s, chunks of %s for %s that were read",
			 progress_size(o->trace_bytes, sizes[0]),
			 progress_size(o->chunk_bytes, sizes[1]),
			 progress_size(o->got.seen.bytes, sizes[2]));
	if (rc != -EOPNOTSUPP)
		return rc;
	args_warn(&o->a, "an archive of docker has no place for the trace: "
			 "files are in order, ranges are not known");
	return 0;
}

/* The workload is run once it is known that there is a place for the image. */
static int opened(void *arg, struct err *e)
{
	struct optimize *o = arg;
	int r = run(o, e);

	if (r == -EINTR && o->got.status > 128)
		return o->got.status;
	if (r < 0)
		return r;
	o->a.t.record = &o->got.seen.record;
	o->a.t.made = made;
	o->a.t.made_arg = o;
	return 0;
}

static int optimize(struct optimize *o, const char *dst)
{
	const struct args_hooks hooks = {
		.opened = opened,
		.refer = refer,
		.arg = o,
	};
	CLEANUP_FREE char *runtime = NULL;
	int r;

	if (geteuid() != 0)
		return args_fail(&o->a, "running a container needs root");
	r = find_runtime(o, &runtime);
	if (r < 0)
		return args_fail(&o->a, "%s: %s",
				 o->runtime != NULL ? o->runtime
						    : "runc or crun",
				 r == -ENOENT ? "not found" : err_name(r));
	o->run.runtime = runtime;
	o->run.json = o->a.mode == PROGRESS_JSON;
	/* Who does not read what the workload writes does not end it. */
	(void)signal(SIGPIPE, SIG_IGN);
	if (!o->has_period && o->run.line == NULL && !o->run.until_signal)
		o->run.period_s = PERIOD_DEFAULT_S;
	return args_run(&o->a, o->src, dst, &hooks);
}

/* Return: 0, -EINVAL: said why; 1: help was printed */
static int parse(struct optimize *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{"entrypoint", required_argument, NULL, OPT_ENTRYPOINT},
		{"args", required_argument, NULL, OPT_ARGS},
		{"env", required_argument, NULL, OPT_ENV},
		{"env-file", required_argument, NULL, OPT_ENV_FILE},
		{"cwd", required_argument, NULL, OPT_CWD},
		{"user", required_argument, NULL, OPT_USER},
		{"mount", required_argument, NULL, OPT_MOUNT},
		{"net-host", no_argument, NULL, OPT_NET_HOST},
		{"terminal", no_argument, NULL, 't'},
		{"stdin", no_argument, NULL, 'i'},
		{"period", required_argument, NULL, OPT_PERIOD},
		{"wait-on-line", required_argument, NULL, OPT_LINE},
		{"wait-on-signal", no_argument, NULL, OPT_SIGNAL},
		{"ignore-status", no_argument, NULL, OPT_IGNORE_STATUS},
		{"runtime", required_argument, NULL, OPT_RUNTIME},
		{"record-out", required_argument, NULL, OPT_RECORD_OUT},
		ARGS_LONGS,
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, ARGS_SHORTS "ti", longs, NULL)) !=
	       -1) {
		struct err e = {0};
		int r;

		if (c == 'h') {
			(void)fputs(help, stdout);
			return 1;
		}
		r = take_run(o, c, optarg, &e);
		if (r == -ENOENT && e.code == 0)
			r = args_take(&o->a, c, optarg);
		else if (r < 0)
			(void)args_fail(&o->a, "%s",
					e.code != 0 ? e.text : err_name(r));
		if (r < 0)
			return -EINVAL;
	}
	return 0;
}

int cli_optimize(int argc, char **argv)
{
	CLEANUP(optimize_done)
	struct optimize o = {
		.trace = BUF_INIT(TRACE_BYTES_MAX),
		.data = BUF_INIT(TRACE_DATA_BYTES_MAX),
	};
	int r;

	args_init(&o.a, "optimize");
	r = parse(&o, argc, argv);
	if (r != 0)
		return r < 0 ? 1 : 0;
	if (argc - optind < 2)
		return args_fail(&o.a, "wants SRC and DST (estargz optimize "
				       "--help)");
	for (int i = optind + 2; i < argc; i++) {
		if (runspec_add(&o.spec.command, argv[i]) < 0)
			return args_fail(&o.a, "no memory");
	}
	o.src = argv[optind];
	return optimize(&o, argv[optind + 1]);
}
