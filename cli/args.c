/* SPDX-License-Identifier: Apache-2.0 */
/* Options of convert and optimize, and a run of either. */
#include "config.h"

#include "cli/args.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/log.h"

#define JOBS_MAX 256u
/* What build_layer() takes. */
#define CHUNK_SIZE_MIN KIB(4)
#define CHUNK_SIZE_MAX MIB(16)
#define LIST_BYTES_MAX MIB(16)
/* Who does not end by then is ended. */
#define END_SECONDS 5u

/* @key: of JSON; "error" also goes where it is to be quiet. @named: with the
 * command in front, where it is text */
static void PRINTF_LIKE(4, 0) tell(const struct args *a, const char *key,
				   bool named, const char *fmt, va_list ap)
{
	CLEANUP_FREE char *text = NULL;

	if (vasprintf(&text, fmt, ap) < 0) {
		text = NULL;
		return;
	}
	if (a->mode == PROGRESS_JSON)
		progress_json(STDERR_FILENO, key, text);
	else
		(void)fprintf(stderr, "%s%s%s%s\n", named ? "estargz: " : "",
			      named ? a->command : "", named ? ": " : "", text);
}

int args_fail(const struct args *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell(a, "error", true, fmt, ap);
	va_end(ap);
	return 1;
}

void args_warn(const struct args *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell(a, "message", true, fmt, ap);
	va_end(ap);
}

void args_say(const struct args *a, const char *fmt, ...)
{
	va_list ap;

	if (a->mode == PROGRESS_QUIET)
		return;
	va_start(ap, fmt);
	tell(a, "message", false, fmt, ap);
	va_end(ap);
}

static void log_as_json(const char *line)
{
	progress_json(STDERR_FILENO, "log", line);
}

static unsigned n_cpus(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) < 0 ? 1
							    : CPU_COUNT(&set);

	return MIN((unsigned)MAX(n, 1), JOBS_MAX);
}

void args_init(struct args *a, const char *command)
{
	*a = (struct args){.command = command, .image.try_push = true};
	a->t.build.jobs = n_cpus();
}

void args_done(struct args *a)
{
	glob_list_done(&a->prefetch);
	free(a->platforms);
	*a = (struct args){0};
}

/* ---- options ----------------------------------------------------------- */

static int refuse(const struct args *a, const char *option, const char *value,
		  const char *why)
{
	(void)args_fail(a, "%s %s: %s", option, value, why);
	return -EINVAL;
}

static int take_size(const struct args *a, const char *option,
		     const char *value, uint64_t min, uint64_t *ret)
{
	if (io_parse_bytes(value, ret) < 0)
		return refuse(a, option, value, "not a size, as 64KiB is");
	if (*ret < min || *ret > CHUNK_SIZE_MAX)
		return refuse(a, option, value,
			      min > 0 ? "not from 4KiB to 16MiB"
				      : "more than 16MiB");
	return 0;
}

static int take_number(const struct args *a, const char *option,
		       const char *value, unsigned max, unsigned *ret)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 ||
	    n < 1 || n > max) {
		(void)args_fail(a, "%s %s: not a number from 1 to %u", option,
				value, max);
		return -EINVAL;
	}
	*ret = (unsigned)n;
	return 0;
}

static int take_platform(struct args *a, const char *value)
{
	struct platform *p =
		reallocarray(a->platforms, a->n_platforms + 1, sizeof(*p));
	struct err e = {0};

	if (p == NULL)
		return refuse(a, "--platform", value, err_name(ENOMEM));
	a->platforms = p;
	a->t.platforms = p;
	if (platform_parse(value, &p[a->n_platforms], &e) < 0) {
		(void)args_fail(a, "--platform %s", e.text);
		return -EINVAL;
	}
	a->t.n_platforms = ++a->n_platforms;
	return 0;
}

static int take_list(struct args *a, const char *path)
{
	CLEANUP_BUF struct buf text = BUF_INIT(LIST_BYTES_MAX);
	struct err e = {0};
	int r = io_read_file(AT_FDCWD, path, &text);

	if (r < 0)
		return refuse(a, "--prefetch-list", path, err_name(r));
	glob_list_done(&a->prefetch);
	r = glob_list_parse(text.p, text.len, &a->prefetch, &e);
	if (r < 0)
		return refuse(a, "--prefetch-list", path, e.text);
	a->t.prefetch = &a->prefetch;
	return 0;
}

static int take_progress(struct args *a, const char *value)
{
	enum progress_mode mode;

	if (progress_mode_parse(value, &mode) < 0)
		return refuse(a, "--progress", value,
			      "not auto, plain or json");
	if (a->mode != PROGRESS_QUIET)
		a->mode = mode;
	log_set_sink(a->mode == PROGRESS_JSON ? log_as_json : NULL);
	return 0;
}

static int take_flag(struct args *a, int c)
{
	switch (c) {
	case ARGS_ALL_PLATFORMS:
		a->t.all_platforms = true;
		return 0;
	case ARGS_REUSE:
		a->t.reuse = true;
		return 0;
	case ARGS_OCI:
		a->t.oci = true;
		return 0;
	case 'q':
		a->mode = PROGRESS_QUIET;
		log_set_sink(NULL);
		return 0;
	default:
		return -EINVAL;
	}
}

int args_take(struct args *a, int c, const char *value)
{
	struct build_opts *b = &a->t.build;
	unsigned level;

	switch (c) {
	case ARGS_CHUNK_SIZE:
		return take_size(a, "--chunk-size", value, CHUNK_SIZE_MIN,
				 &b->chunk_bytes);
	case ARGS_MIN_CHUNK_SIZE:
		return take_size(a, "--min-chunk-size", value, 0,
				 &b->min_chunk_bytes);
	case ARGS_LEVEL:
		if (take_number(a, "--compression-level", value, 9, &level) < 0)
			return -EINVAL;
		b->level = (int)level;
		return 0;
	case 'j':
		return take_number(a, "--jobs", value, JOBS_MAX, &b->jobs);
	case ARGS_PLATFORM:
		return take_platform(a, value);
	case ARGS_PREFETCH_LIST:
		return take_list(a, value);
	case ARGS_PROGRESS:
		return take_progress(a, value);
	case ARGS_DIGEST_FILE:
		a->digest_file = value;
		return 0;
	default:
		return regopts_take(&a->image, c, value) ? 0 : take_flag(a, c);
	}
}

/* ---- signals ----------------------------------------------------------- */

static atomic_int signalled;

static void on_alarm(int sig)
{
	(void)sig;
	_exit(128 + atomic_load_explicit(&signalled, memory_order_relaxed));
}

static void on_signal(int sig)
{
	int none = 0;

	if (!atomic_compare_exchange_strong_explicit(&signalled, &none, sig,
						     memory_order_relaxed,
						     memory_order_relaxed))
		return;
	transform_stop();
	(void)alarm(END_SECONDS);
}

/* What blocks is interrupted. One more changes nothing: timeout(1) sends two. */
static void catch_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal};

	(void)sigaction(SIGINT, &sa, NULL);
	(void)sigaction(SIGTERM, &sa, NULL);
	sa.sa_handler = on_alarm;
	(void)sigaction(SIGALRM, &sa, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
}

/* ---- the summary ------------------------------------------------------- */

/* Sums of sizes that registries say. */
static uint64_t add(uint64_t a, uint64_t b)
{
	return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

static struct json_object *layer_json(const struct transform_layer *l)
{
	struct json_object *o = json_object_new_object();
	char digest[DIGEST_STR_BYTES];
	const struct {
		const char *key;
		const struct digest *value;
	} digests[] = {
		{"source", &l->in.digest},
		{"digest", &l->out.digest},
		{"toc_digest", &l->toc},
		{"diff_id", &l->diff_id},
	};

	for (size_t i = 0; i < ARRAY_SIZE(digests); i++)
		(void)json_object_object_add(
			o, digests[i].key,
			json_object_new_string(
				digest_str(digests[i].value, digest)));
	(void)json_object_object_add(o, "kept",
				     json_object_new_boolean(l->kept));
	(void)json_object_object_add(o, "bytes_before",
				     json_object_new_uint64(l->in.size));
	(void)json_object_object_add(o, "bytes_after",
				     json_object_new_uint64(l->out.size));
	return o;
}

static void print_json(const struct transform_result *r, const char *digest,
		       uint64_t ns)
{
	struct json_object *o = json_object_new_object();
	struct json_object *layers = json_object_new_array();

	for (size_t i = 0; i < r->n_layers; i++)
		(void)json_object_array_add(layers, layer_json(&r->layers[i]));
	(void)json_object_object_add(o, "digest",
				     json_object_new_string(digest));
	(void)json_object_object_add(
		o, "seconds",
		json_object_new_double((double)ns / (double)NSEC_PER_SEC));
	(void)json_object_object_add(o, "layers", layers);
	(void)fprintf(stderr, "%s\n",
		      json_object_to_json_string_ext(
			      o, JSON_C_TO_STRING_PLAIN |
					 JSON_C_TO_STRING_NOSLASHESCAPE));
	(void)json_object_put(o);
}

static void print_text(const struct args *a, const struct transform_result *r,
		       uint64_t ns)
{
	uint64_t before = 0, after = 0;
	char in[PROGRESS_SIZE_BYTES], out[PROGRESS_SIZE_BYTES];
	size_t kept = 0;

	for (size_t i = 0; i < r->n_layers; i++) {
		before = add(before, r->layers[i].in.size);
		after = add(after, r->layers[i].out.size);
		kept += r->layers[i].kept ? 1 : 0;
	}
	args_say(a, "%zu image%s, %zu layer%s (%zu kept): %s -> %s in %.1f s",
		 r->n_images, r->n_images == 1 ? "" : "s", r->n_layers,
		 r->n_layers == 1 ? "" : "s", kept, progress_size(before, in),
		 progress_size(after, out), (double)ns / (double)NSEC_PER_SEC);
}

/* ---- a run ------------------------------------------------------------- */

/* Both ends of it. */
struct ends {
	struct image_name src_name;
	struct image_name dst_name;
	struct image_src *src;
	struct image_dst *dst;
};

static void ends_done(struct ends *x)
{
	image_src_close(x->src);
	image_dst_close(x->dst);
	image_name_done(&x->src_name);
	image_name_done(&x->dst_name);
}

/* @ret_what: what an error is about. */
static int ends_open(struct args *a, const char *src, const char *dst,
		     struct ends *x, const char **ret_what, struct err *e)
{
	int r = image_name_parse(src, &x->src_name, e);

	*ret_what = NULL;
	if (r == 0)
		r = image_name_parse(dst, &x->dst_name, e);
	if (r == 0 && x->dst_name.ref.has_digest)
		r = err_set(e, -EINVAL, "%.128s: a digest cannot be chosen",
			    dst);
	if (r < 0)
		return r;
	*ret_what = src;
	r = image_src_open(&x->src_name, &a->image, &x->src, e);
	if (r < 0)
		return r;
	*ret_what = dst;
	r = image_dst_open(&x->dst_name, &a->image, &x->dst, e);
	a->t.single = x->dst_name.transport == IMAGE_DOCKER_ARCHIVE;
	/* Others do not find what is of docker in a layout. */
	a->t.oci |= x->dst_name.transport == IMAGE_OCI ||
		    x->dst_name.transport == IMAGE_OCI_ARCHIVE;
	return r;
}

static int failed(const struct args *a, int r, const char *what,
		  const struct err *e)
{
	int sig = atomic_load_explicit(&signalled, memory_order_relaxed);

	if (r == -EINTR && sig != 0)
		return 128 + sig;
	if (what == NULL)
		return args_fail(a, "%s", e->text);
	return args_fail(a, "%s: %s", what,
			 e->text[0] != '\0' ? e->text : err_name(r));
}

/* Return: exit status */
static int tell_digest(const struct args *a, const char *digest)
{
	char line[DIGEST_STR_BYTES + 1];
	int n = snprintf(line, sizeof(line), "%s\n", digest), r = 0;

	if (a->digest_file != NULL)
		r = io_write_file(AT_FDCWD, a->digest_file, line, (size_t)n,
				  0644);
	if (r < 0)
		return args_fail(a, "--digest-file %s: %s", a->digest_file,
				 err_name(r));
	if (fputs(line, stdout) == EOF || fflush(stdout) != 0)
		return args_fail(a, "standard output: %s", err_name(errno));
	return 0;
}

int args_run(struct args *a, const char *src, const char *dst,
	     const struct args_hooks *h)
{
	CLEANUP(progress_free_cleanup) struct progress *progress = NULL;
	CLEANUP_TRANSFORM_RESULT struct transform_result result = {0};
	CLEANUP(ends_done) struct ends ends = {0};
	uint64_t begun;
	char digest[DIGEST_STR_BYTES];
	const char *what;
	struct err e = {0};
	int r;

	catch_signals();
	r = ends_open(a, src, dst, &ends, &what, &e);
	if (r == 0 && h != NULL) {
		what = NULL;
		r = h->opened(h->arg, &e);
	}
	if (r != 0)
		return r < 0 ? failed(a, r, what, &e) : r;
	begun = io_now_ns();
	if (progress_new(a->mode, STDERR_FILENO, &progress) < 0)
		return args_fail(a, "%s", err_name(ENOMEM));
	a->t.progress = progress;
	what = src;
	r = transform_image(ends.src, ends.dst, &a->t, &result, &e);
	if (result.writing)
		what = dst;
	if (r == 0 && h != NULL) {
		r = h->refer(h->arg, ends.dst, &result, &e);
	}
	a->t.progress = NULL;
	if (r < 0)
		return failed(a, r, what, &e);
	digest_str(&result.root.digest, digest);
	if (a->mode == PROGRESS_JSON)
		print_json(&result, digest, io_now_ns() - begun);
	else
		print_text(a, &result, io_now_ns() - begun);
	return tell_digest(a, digest);
}
