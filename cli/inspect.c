/* SPDX-License-Identifier: Apache-2.0 */
/* estargz inspect: what an image is made of, and what it costs to start. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <json.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/source.h"
#include "common/io.h"
#include "common/trace.h"

/* Of a gzip member: 10 bytes in front, 8 behind. */
#define MEMBER_BYTES 18u

/* clang-format off */
static const char help[] =
	"Usage: estargz inspect [OPTION...] SRC\n"
	"Show how an image's layers are made: what of them is fetched before the\n"
	"image starts, and what the lazy format costs. Layers are not downloaded.\n"
	"\n"
	"  -j, --json                a JSON object\n"
	"      --toc                 the TOC of a layer, as it is in the blob\n"
	"      --layer N             which; 0 is the lowest [the only one with a\n"
	"                            TOC]\n"
	SOURCE_HELP
	"  -h, --help                print this\n";
/* clang-format on */

enum {
	TOC = 1,
	LAYER
};

/**
 * struct numbers - of a layer, or of all of them
 * @files:	regular ones
 * @chunk_min, @chunk_median, @chunk_max: decoded bytes
 * @members:	that chunks begin in
 * @extra:	bytes that the same tar in one gzip member would not have: footer,
 *		TOC, headers and trailers of the other members
 * @tail:	bytes that a mount asks for, to find footer and TOC
 * @start:	bytes fetched before the image starts, or meanwhile, unasked
 */
struct numbers {
	uint64_t size;
	uint64_t entries;
	uint64_t files;
	uint64_t chunks;
	uint64_t chunk_min;
	uint64_t chunk_median;
	uint64_t chunk_max;
	uint64_t members;
	uint64_t prioritised;
	uint64_t prioritised_files;
	uint64_t toc;
	uint64_t toc_json;
	uint64_t extra;
	uint64_t tail;
	uint64_t start;
	uint64_t traced;
	bool has_extra;
};

/**
 * struct view - an image as it is shown
 * @n:		[@s.m.n_layers]
 * @trace:	where @has_trace
 */
struct view {
	struct source s;
	struct layerinfo *layers;
	struct numbers *n;
	struct trace trace;
	struct digest trace_digest;
	bool has_trace;
	struct err trace_why_not;
};

/* ---- numbers ----------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int chunk_sizes(const struct layerinfo *l, struct numbers *n)
{
	CLEANUP_FREE uint64_t *v = calloc(l->n_chunks + 1, sizeof(*v));
	size_t k = l->n_chunks;

	if (v == NULL)
		return -ENOMEM;
	n->chunks = k;
	if (k == 0)
		return 0;
	for (size_t i = 0; i < k; i++)
		v[i] = l->chunks[i].len;
	qsort(v, k, sizeof(*v), by_value);
	n->chunk_min = v[0];
	n->chunk_median = v[k / 2];
	n->chunk_max = v[k - 1];
	for (size_t i = 0; i < k; i++)
		v[i] = l->chunks[i].t->offset;
	qsort(v, k, sizeof(*v), by_value);
	/* The first one may hold tar headers alone. */
	n->members = v[0] > 0 ? 2 : 1;
	for (size_t i = 1; i < k; i++)
		n->members += v[i] != v[i - 1];
	return 0;
}

/* Where that begins which is fetched of a blob's end. */
static uint64_t tail_begin(const struct layerinfo *l, const struct numbers *n)
{
	return MIN(l->size - n->tail, l->footer.toc_off);
}

/* [0, prioritised) and the tail, without counting bytes twice. */
static uint64_t start_bytes(const struct layerinfo *l, const struct numbers *n)
{
	uint64_t from = tail_begin(l, n);

	return l->size - from + MIN(n->prioritised, from);
}

/* @tail: as the manifest says, or 0 */
static int count(const struct layerinfo *l, uint32_t tail, struct numbers *n)
{
	*n = (struct numbers){.size = l->size};
	if (l->toc == NULL)
		return 0;
	for (uint32_t i = 0; i < l->toc->n_entries; i++) {
		n->entries += l->toc->entries[i].type != TOC_CHUNK;
		n->files += l->toc->entries[i].type == TOC_REG;
	}
	n->prioritised = l->prioritised;
	n->prioritised_files = l->n_prioritised;
	n->toc = l->footer.toc_len;
	n->toc_json = l->json.len;
	n->tail = MIN(tail != 0 ? tail : layer_tail_bytes(l->size), l->size);
	n->start = start_bytes(l, n);
	if (chunk_sizes(l, n) < 0)
		return -ENOMEM;
	n->has_extra = l->format != LAYER_ZSTD_CHUNKED;
	n->extra = l->size - l->footer.toc_off;
	if (n->has_extra && n->members > 1)
		n->extra += (n->members - 1) * MEMBER_BYTES;
	return 0;
}

static void sum_up(const struct view *v, struct numbers *all)
{
	*all = (struct numbers){.has_extra = true};
	for (size_t i = 0; i < v->s.m.n_layers; i++) {
		const struct numbers *n = &v->n[i];

		all->size += n->size;
		all->entries += n->entries;
		all->files += n->files;
		all->chunks += n->chunks;
		all->members += n->members;
		all->prioritised += n->prioritised;
		all->prioritised_files += n->prioritised_files;
		all->toc += n->toc;
		all->toc_json += n->toc_json;
		all->extra += n->extra;
		all->tail += n->tail;
		all->start += n->start;
		all->traced += n->traced;
	}
}

/* ---- loading ----------------------------------------------------------- */

static int by_offset(const void *a, const void *b)
{
	const struct trace_read *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

/* Bytes below @end that the trace names of a layer, each once; the trace's reads
 * are sorted by it. */
static uint64_t traced_bytes(const struct trace *t, const struct digest *layer,
			     uint64_t end)
{
	uint64_t sum = 0, at = 0;

	for (size_t i = 0; i < t->n_reads; i++) {
		const struct trace_read *r = &t->reads[i];
		uint64_t from = MAX(r->off, at), to = end;

		if (!digest_equal(&t->layers[r->layer], layer))
			continue;
		if (r->off < end && r->len < end - r->off)
			to = r->off + r->len;
		if (from < to) {
			sum += to - from;
			at = to;
		}
	}
	return sum;
}

/* What is fetched of each layer by the trace; who follows it does so only where
 * the layers name it. */
static void count_trace(struct view *v, bool followed)
{
	if (v->trace.n_reads > 0)
		qsort(v->trace.reads, v->trace.n_reads, sizeof(*v->trace.reads),
		      by_offset);
	for (size_t i = 0; i < v->s.m.n_layers; i++) {
		const struct digest *d = &v->s.m.layers[i].desc.digest;
		struct numbers *n = &v->n[i];
		uint64_t from = tail_begin(&v->layers[i], n);

		n->traced = traced_bytes(&v->trace, d, n->size);
		if (followed && v->layers[i].toc != NULL)
			n->start = n->size - from +
				   traced_bytes(&v->trace, d, from);
	}
}

/* The trace that goes with the image; an image without one is none the worse. */
static int load_trace(struct view *v)
{
	CLEANUP_BUF struct buf text = BUF_INIT(TRACE_BYTES_MAX);
	CLEANUP(sha256_free_cleanup) struct sha256 *h = sha256_new();
	const char *said = manifest_trace_named(&v->s.m);
	char is[DIGEST_STR_BYTES];
	int r;

	if (h == NULL)
		return -ENOMEM;
	r = manifest_trace(v->s.src, &v->s.m, &v->s.m.desc, &text,
			   &v->trace_why_not);
	if (r == -ENOENT && said == NULL)
		v->trace_why_not = (struct err){0};
	if (r < 0)
		return 0;
	v->trace_why_not = (struct err){0};
	sha256_all(h, text.p, text.len, &v->trace_digest);
	r = trace_parse(text.p, text.len, &v->trace, &v->trace_why_not);
	if (r < 0)
		return 0;
	v->has_trace = true;
	if (said == NULL)
		(void)err_set(&v->trace_why_not, -ENOENT,
			      "the layers do not name it");
	else if (strcmp(said, digest_str(&v->trace_digest, is)) != 0)
		(void)err_set(&v->trace_why_not, -EBADMSG,
			      "the layers name another one, %.80s", said);
	count_trace(v, v->trace_why_not.code == 0);
	return 0;
}

static int load(struct view *v, const char *name, const struct source_opts *o,
		struct err *e)
{
	int r = source_open(name, o, &v->s, e);
	size_t n;

	if (r < 0)
		return r;
	n = v->s.m.n_layers;
	v->layers = calloc(n + 1, sizeof(*v->layers));
	v->n = calloc(n + 1, sizeof(*v->n));
	if (v->layers == NULL || v->n == NULL)
		return err_no_memory(e);
	for (size_t i = 0; i < n; i++) {
		r = source_layer(&v->s, i, &v->layers[i], e);
		if (r < 0)
			return err_wrap(e, "layer %zu", i);
		if (count(&v->layers[i], v->s.m.layers[i].tail, &v->n[i]) < 0)
			return err_no_memory(e);
	}
	return load_trace(v) < 0 ? err_no_memory(e) : 0;
}

static void view_done(struct view *v)
{
	for (size_t i = 0; v->layers != NULL && i < v->s.m.n_layers; i++)
		layerinfo_done(&v->layers[i]);
	free(v->layers);
	free(v->n);
	trace_done(&v->trace);
	source_close(&v->s);
}

/* ---- JSON -------------------------------------------------------------- */

static void add_str(struct json_object *o, const char *key, const char *s)
{
	(void)json_object_object_add(o, key, json_object_new_string(s));
}

static void add_num(struct json_object *o, const char *key, uint64_t n)
{
	(void)json_object_object_add(o, key, json_object_new_uint64(n));
}

static void add_digest(struct json_object *o, const char *key,
		       const struct digest *d)
{
	char s[DIGEST_STR_BYTES];

	add_str(o, key, digest_str(d, s));
}

static void add_numbers(struct json_object *o, const struct numbers *n)
{
	const struct {
		const char *key;
		uint64_t value;
	} list[] = {
		{"entries", n->entries},
		{"files", n->files},
		{"chunks", n->chunks},
		{"members", n->members},
		{"prioritised_bytes", n->prioritised},
		{"prioritised_files", n->prioritised_files},
		{"toc_bytes", n->toc},
		{"toc_json_bytes", n->toc_json},
		{"overhead_bytes", n->extra},
		{"mount_bytes", n->tail},
		{"start_bytes", n->start},
		{"trace_bytes", n->traced},
	};

	for (size_t i = 0; i < ARRAY_SIZE(list); i++)
		add_num(o, list[i].key, list[i].value);
}

static struct json_object *layer_json(const struct view *v, size_t i)
{
	const struct manifest_layer *m = &v->s.m.layers[i];
	const struct layerinfo *l = &v->layers[i];
	struct json_object *o = json_object_new_object();

	add_digest(o, "digest", &m->desc.digest);
	add_num(o, "size", l->size);
	add_str(o, "media_type", m->desc.media_type);
	add_str(o, "format", layer_format_name(l->format));
	add_digest(o, "diff_id", &v->s.m.diff_ids[i]);
	(void)json_object_object_add(o, "lazy",
				     json_object_new_boolean(l->toc != NULL));
	if (l->json.len > 0)
		add_digest(o, "toc_digest", &l->toc_digest);
	if (m->has_toc_digest)
		add_digest(o, "toc_digest_annotation", &m->toc_digest);
	if (l->why_not.code != 0)
		add_str(o, "why_not", l->why_not.text);
	if (l->toc == NULL)
		return o;
	add_numbers(o, &v->n[i]);
	add_num(o, "chunk_bytes_min", v->n[i].chunk_min);
	add_num(o, "chunk_bytes_median", v->n[i].chunk_median);
	add_num(o, "chunk_bytes_max", v->n[i].chunk_max);
	return o;
}

static struct json_object *trace_json(const struct view *v)
{
	struct json_object *o = json_object_new_object();

	if (v->has_trace) {
		add_digest(o, "digest", &v->trace_digest);
		add_num(o, "reads", v->trace.n_reads);
		add_num(o, "layers", v->trace.n_layers);
	}
	if (v->trace_why_not.code != 0)
		add_str(o, "warning", v->trace_why_not.text);
	return o;
}

static void print_json(const struct view *v, const char *name)
{
	struct json_object *o = json_object_new_object();
	struct json_object *layers = json_object_new_array();
	struct json_object *total = json_object_new_object();
	struct numbers all;

	sum_up(v, &all);
	add_str(o, "image", name);
	add_digest(o, "digest", &v->s.root.digest);
	add_digest(o, "manifest", &v->s.m.desc.digest);
	if (v->s.root.media_type != NULL)
		add_str(o, "media_type", v->s.root.media_type);
	add_str(o, "platform", v->s.platform);
	for (size_t i = 0; i < v->s.m.n_layers; i++)
		(void)json_object_array_add(layers, layer_json(v, i));
	(void)json_object_object_add(o, "layers", layers);
	add_num(total, "size", all.size);
	add_numbers(total, &all);
	(void)json_object_object_add(o, "total", total);
	if (v->has_trace || v->trace_why_not.code != 0)
		(void)json_object_object_add(o, "trace", trace_json(v));
	(void)puts(json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	(void)json_object_put(o);
}

/* ---- for people -------------------------------------------------------- */

/* "1.5 MiB", of few characters whatever it is. */
static const char *human(uint64_t n, char *buf, size_t size)
{
	if (n < 1024)
		(void)snprintf(buf, size, "%" PRIu64 " B", n);
	else if (n < MIB(1))
		(void)snprintf(buf, size, "%.1f KiB", (double)n / 1024.0);
	else
		(void)snprintf(buf, size, "%.1f MiB",
			       (double)n / (double)MIB(1));
	return buf;
}

static double percent(uint64_t part, uint64_t of)
{
	return of > 0 ? 100.0 * (double)part / (double)of : 0.0;
}

static void print_toc(const struct view *v, size_t i)
{
	const struct manifest_layer *m = &v->s.m.layers[i];
	const struct layerinfo *l = &v->layers[i];
	char s[DIGEST_STR_BYTES], a[32], b[32];

	if (l->json.len > 0)
		(void)printf("  TOC          %s, %s, of %s JSON%s\n",
			     digest_str(&l->toc_digest, s),
			     human(l->footer.toc_len, a, sizeof(a)),
			     human(l->json.len, b, sizeof(b)),
			     !m->has_toc_digest
				     ? "; the manifest does not name it"
			     : digest_equal(&m->toc_digest, &l->toc_digest)
				     ? ", as the manifest says"
				     : "; the manifest names another");
	if (l->why_not.code != 0)
		(void)printf("  not lazy     %s\n", l->why_not.text);
	else if (l->toc == NULL)
		(void)puts("  not lazy     it has no TOC: it is downloaded "
			   "before it is used");
}

static void print_layer(const struct view *v, size_t i)
{
	const struct manifest_layer *m = &v->s.m.layers[i];
	const struct layerinfo *l = &v->layers[i];
	const struct numbers *n = &v->n[i];
	char s[DIGEST_STR_BYTES], a[32], b[32], c[32];

	(void)printf("\nlayer %zu        %s\n", i,
		     digest_str(&m->desc.digest, s));
	(void)printf("  format       %s, %s (%s)\n",
		     layer_format_name(l->format), human(l->size, a, sizeof(a)),
		     m->desc.media_type);
	print_toc(v, i);
	if (l->toc == NULL)
		return;
	(void)printf("  entries      %" PRIu64 ", %" PRIu64 " of them files\n",
		     n->entries, n->files);
	(void)printf("  chunks       %" PRIu64 " in %" PRIu64 " %s", n->chunks,
		     n->members, n->has_extra ? "gzip members" : "zstd frames");
	if (n->chunks > 0)
		(void)printf(": %s to %s, half of them below %s",
			     human(n->chunk_min, a, sizeof(a)),
			     human(n->chunk_max, b, sizeof(b)),
			     human(n->chunk_median, c, sizeof(c)));
	(void)printf("\n  prioritised  %s in %" PRIu64 " files (%.1f %%)\n",
		     human(n->prioritised, a, sizeof(a)), n->prioritised_files,
		     percent(n->prioritised, n->size));
	(void)printf("  overhead     %s (%.2f %%): footer and TOC%s\n",
		     human(n->extra, a, sizeof(a)), percent(n->extra, n->size),
		     n->has_extra ? ", headers of members" : "");
	(void)printf("  to mount     %s\n", human(n->tail, a, sizeof(a)));
	(void)printf("  before start %s\n", human(n->start, a, sizeof(a)));
	if (v->has_trace)
		(void)printf("  of the trace %s\n",
			     human(n->traced, a, sizeof(a)));
}

static void print_human(const struct view *v, const char *name)
{
	struct numbers all;
	char s[DIGEST_STR_BYTES], a[32], b[32], c[32];

	sum_up(v, &all);
	(void)printf("%s\n", name);
	(void)printf("  %-12s %s\n", v->s.is_index ? "index" : "manifest",
		     digest_str(&v->s.root.digest, s));
	if (v->s.is_index)
		(void)printf("  manifest     %s\n",
			     digest_str(&v->s.m.desc.digest, s));
	(void)printf("  platform     %s\n",
		     v->s.platform[0] != '\0' ? v->s.platform : "not said");
	(void)printf("  layers       %zu, %s; overhead %s (%.2f %%)\n",
		     v->s.m.n_layers, human(all.size, a, sizeof(a)),
		     human(all.extra, b, sizeof(b)),
		     percent(all.extra, all.size));
	(void)printf("  to mount     %s; before start %s\n",
		     human(all.tail, a, sizeof(a)),
		     human(all.start, b, sizeof(b)));
	if (v->has_trace)
		(void)printf("  trace        %s: %zu reads, %s\n",
			     digest_str(&v->trace_digest, s), v->trace.n_reads,
			     human(all.traced, c, sizeof(c)));
	if (v->trace_why_not.code != 0)
		(void)printf("  trace        %s\n", v->trace_why_not.text);
	for (size_t i = 0; i < v->s.m.n_layers; i++)
		print_layer(v, i);
}

/* ---- the TOC ----------------------------------------------------------- */

/* The only layer that has one; @layer where it is given. */
static int toc_layer(const struct view *v, long layer, size_t *ret,
		     struct err *e)
{
	size_t n = 0;

	if (layer >= 0 && (size_t)layer >= v->s.m.n_layers)
		return err_set(e, -EINVAL, "--layer %ld: there are %zu layers",
			       layer, v->s.m.n_layers);
	for (size_t i = 0; i < v->s.m.n_layers; i++) {
		if (v->layers[i].json.len == 0 ||
		    (layer >= 0 && i != (size_t)layer))
			continue;
		*ret = i;
		n++;
	}
	if (n == 1)
		return 0;
	if (n > 1)
		return err_set(e, -EINVAL,
			       "%zu layers have a TOC: say which, with --layer",
			       n);
	if (layer >= 0)
		return err_set(e, -ENOENT, "layer %ld has no TOC", layer);
	return err_set(e, -ENOENT, "no layer has a TOC");
}

static int dump_toc(const struct view *v, long layer, struct err *e)
{
	size_t i = 0;
	int r = toc_layer(v, layer, &i, e);

	if (r < 0)
		return r;
	(void)fwrite(v->layers[i].json.p, 1, v->layers[i].json.len, stdout);
	return 0;
}

/* ---- the command ------------------------------------------------------- */

struct options {
	struct source_opts source;
	bool json;
	bool toc;
	long layer;
};

static int run(const struct options *o, const char *name)
{
	CLEANUP(view_done) struct view v = {0};
	struct err e = {0};
	int r = load(&v, name, &o->source, &e);

	if (r == 0 && o->toc)
		r = dump_toc(&v, o->layer, &e);
	else if (r == 0 && o->json)
		print_json(&v, name);
	else if (r == 0)
		print_human(&v, name);
	return r < 0 ? cli_fail("inspect", "%s", e.text) : 0;
}

static bool layer_number(const char *s, long *ret)
{
	char *end;

	errno = 0;
	*ret = strtol(s, &end, 10);
	return errno == 0 && end != s && *end == '\0' && *ret >= 0;
}

int cli_inspect(int argc, char **argv)
{
	static const struct option longs[] = {
		{"json", no_argument, NULL, 'j'},
		{"toc", no_argument, NULL, TOC},
		{"layer", required_argument, NULL, LAYER},
		SOURCE_LONGS,
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct options o = {.layer = -1};
	struct err e = {0};
	int c;

	source_opts_init(&o.source);
	while ((c = getopt_long(argc, argv, "jh", longs, NULL)) != -1) {
		if (c == 'h') {
			(void)fputs(help, stdout);
			return 0;
		} else if (c == 'j') {
			o.json = true;
		} else if (c == TOC) {
			o.toc = true;
		} else if (c == LAYER && !layer_number(optarg, &o.layer)) {
			return cli_fail("inspect", "--layer: not a number");
		} else if (c == '?') {
			return 1;
		} else if (source_opts_take(&o.source, c, optarg, &e) < 0) {
			return cli_fail("inspect", "%s", e.text);
		}
	}
	if (argc - optind != 1)
		return cli_fail("inspect",
				"wants one image (estargz inspect --help)");
	return run(&o, argv[optind]);
}
