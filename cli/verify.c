/* SPDX-License-Identifier: Apache-2.0 */
/* estargz verify: whether an image, or a blob, is what it says. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <json.h>
#include <stdio.h>
#include <string.h>

#include "cli/blobcheck.h"
#include "cli/cli.h"
#include "cli/image/doc.h"
#include "cli/image/span.h"
#include "cli/source.h"
#include "common/io.h"

/* So many are told; the others are counted. */
#define FINDINGS_MAX 100u

/* clang-format off */
static const char help[] =
	"Usage: estargz verify [OPTION...] SRC|BLOB\n"
	"Read an image, or a file that is a layer's blob, and say what in it is not\n"
	"as it says: digests and sizes of documents, blobs, TOC and chunks, and the\n"
	"tar of each layer against its TOC.\n"
	"\n"
	"  -j, --json                a JSON object\n"
	"  -q, --quiet               only what is wrong\n"
	"      --toc-digest DIGEST   of BLOB: what its TOC should be\n"
	SOURCE_HELP
	"  -h, --help                print this\n";
/* clang-format on */

enum {
	TOC_DIGEST = 1
};

/**
 * struct verify - a run
 * @n_found:	things that are wrong
 * @n_here:	those of the layer at hand
 * @layer:	its number, -1: a blob
 * @findings:	its array, with json
 * @layers:	the array of all, with json
 */
struct verify {
	struct source_opts source;
	bool json;
	bool quiet;
	bool has_toc_digest;
	struct digest toc_digest;
	uint64_t n_found;
	uint64_t n_here;
	long layer;
	struct json_object *findings;
	struct json_object *layers;
};

/* ---- what is wrong ----------------------------------------------------- */

static void add_str(struct json_object *o, const char *key, const char *s)
{
	(void)json_object_object_add(o, key, json_object_new_string(s));
}

static void add_num(struct json_object *o, const char *key, uint64_t n)
{
	(void)json_object_object_add(o, key, json_object_new_uint64(n));
}

static void found_json(struct verify *v, const char *entry, uint64_t off,
		       const char *text)
{
	struct json_object *o = json_object_new_object();

	if (entry != NULL)
		add_str(o, "entry", entry);
	if (off != BLOBCHECK_NOWHERE)
		add_num(o, "offset", off);
	add_str(o, "text", text);
	(void)json_object_array_add(v->findings, o);
}

static void found(void *arg, const char *entry, uint64_t off, const char *text)
{
	struct verify *v = arg;
	char line[ERR_TEXT_BYTES + 128], name[128];

	v->n_here++;
	if (++v->n_found > FINDINGS_MAX)
		return;
	/* Names in a layer are anybody's. */
	(void)snprintf(name, sizeof(name), "%.127s",
		       entry != NULL && *entry == '\0' ? "/"
		       : entry != NULL                 ? entry
						       : "");
	(void)snprintf(line, sizeof(line), "%s", text);
	err_sanitize(name);
	err_sanitize(line);
	if (v->json) {
		found_json(v, entry != NULL ? name : NULL, off, line);
		return;
	}
	if (v->layer >= 0)
		(void)printf("layer %ld: ", v->layer);
	if (entry != NULL)
		(void)printf("%s: ", name);
	if (off != BLOBCHECK_NOWHERE)
		(void)printf("at %" PRIu64 ": ", off);
	(void)puts(line);
}

/* ---- a layer ----------------------------------------------------------- */

struct layer {
	const struct layerinfo *info;
	const struct blobcheck_result *r;
	const struct digest *digest;
};

static void tell_json(struct verify *v, const struct layer *l)
{
	struct json_object *o = json_object_new_object();
	char s[DIGEST_STR_BYTES];

	if (l->digest != NULL)
		add_str(o, "digest", digest_str(l->digest, s));
	if (l->info != NULL) {
		add_str(o, "format", layer_format_name(l->info->format));
		add_num(o, "size", l->info->size);
		if (l->info->json.len > 0)
			add_str(o, "toc_digest",
				digest_str(&l->info->toc_digest, s));
	}
	if (l->r != NULL) {
		add_num(o, "entries", l->r->n_entries);
		add_num(o, "chunks", l->r->n_chunks);
		add_num(o, "uncompressed_bytes", l->r->uncompressed);
		if (l->r->complete)
			add_str(o, "diff_id", digest_str(&l->r->diff_id, s));
	}
	(void)json_object_object_add(o, "ok",
				     json_object_new_boolean(v->n_here == 0));
	(void)json_object_object_add(o, "findings", TAKE_PTR(v->findings));
	(void)json_object_array_add(v->layers, o);
}

static void tell(struct verify *v, const struct layer *l)
{
	char s[DIGEST_STR_BYTES];

	if (v->json) {
		tell_json(v, l);
		return;
	}
	if (v->quiet || l->info == NULL || l->r == NULL)
		return;
	if (v->layer >= 0)
		(void)printf("layer %ld: ", v->layer);
	(void)printf("%s: %s, ",
		     l->digest != NULL ? digest_str(l->digest, s)
				       : "digest unknown",
		     layer_format_name(l->info->format));
	if (l->info->toc != NULL)
		(void)printf("%" PRIu64 " entries, %" PRIu64 " chunks: ",
			     l->r->n_entries, l->r->n_chunks);
	(void)printf(v->n_here == 0 ? "right\n" : "%" PRIu64 " wrong\n",
		     v->n_here);
}

static void start(struct verify *v, long layer)
{
	v->layer = layer;
	v->n_here = 0;
	if (v->json)
		v->findings = json_object_new_array();
}

/* What the ends of a blob say, against what is said of it. */
static void check_info(struct verify *v, const struct layerinfo *info,
		       const struct digest *toc_digest)
{
	struct err e = info->why_not;

	if (e.code == -EOPNOTSUPP)
		(void)err_wrap(&e, "cannot be checked");
	if (e.code != 0)
		found(v, NULL, BLOBCHECK_NOWHERE, e.text);
	else if (info->toc == NULL && toc_digest != NULL)
		found(v, NULL, BLOBCHECK_NOWHERE,
		      "it has no TOC, but should have one");
}

/* Bytes that are not there, or not right, are a finding; what is in the way of
 * looking at them is an error. */
static int take_as_found(struct verify *v, int r, const struct err *e)
{
	if (r != -EBADMSG && r != -ENOENT && r != -EOVERFLOW)
		return r;
	found(v, NULL, BLOBCHECK_NOWHERE, e->text);
	return 0;
}

/* ---- an image ---------------------------------------------------------- */

static ssize_t read_layer(void *arg, void *p, size_t n, struct err *e)
{
	return image_read_some(arg, p, n, e);
}

/* The annotation with the size, where it is a number. */
static bool annotated_size(const struct source *s, size_t i, uint64_t *ret)
{
	const char *text = doc_annotation(
		json_object_array_get_idx(doc_array(s->m.json, "layers"), i),
		ANNOTATION_UNCOMPRESSED);
	char *end;

	if (text == NULL || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0';
}

static int check_blob(struct verify *v, struct source *s, size_t i,
		      const struct layerinfo *info,
		      struct blobcheck_result *ret, struct err *e)
{
	struct blobcheck_opts o = {
		.diff_id = &s->m.diff_ids[i], .found = found, .arg = v};
	CLEANUP(image_read_close_cleanup) struct image_read *in = NULL;
	struct build_in blob = {.read = read_layer};
	int r = image_src_blob(s->src, &s->m.layers[i].desc, &in, e);

	if (r < 0)
		return r;
	blob.arg = in;
	o.has_uncompressed = annotated_size(s, i, &o.uncompressed);
	return blobcheck(info, &blob, &o, ret, e);
}

/* The compression is the media type's. */
static void check_media_type(struct verify *v, const struct layerinfo *info,
			     const char *type)
{
	const char *name = layer_format_name(info->format);
	enum codec_kind is = layer_codec(info->format);
	enum codec_kind said = strstr(type, "gzip") != NULL ? CODEC_GZIP
			       : strstr(type, "zstd") != NULL
				       ? CODEC_ZSTD
				       : (enum codec_kind)0;
	char text[ERR_TEXT_BYTES];

	if (is == said || info->size == 0)
		return;
	(void)snprintf(text, sizeof(text), "it is %s, its media type %.100s",
		       name, type);
	found(v, NULL, BLOBCHECK_NOWHERE, text);
}

static int check_layer(struct verify *v, struct source *s, size_t i,
		       struct err *e)
{
	const struct manifest_layer *m = &s->m.layers[i];
	CLEANUP_LAYERINFO struct layerinfo info = {0};
	struct blobcheck_result result = {0};
	struct layer l = {.digest = &m->desc.digest};
	int r = source_layer(s, i, &info, e);

	start(v, (long)i);
	if (r == 0) {
		l.info = &info;
		check_info(v, &info, m->has_toc_digest ? &m->toc_digest : NULL);
		check_media_type(v, &info, m->desc.media_type);
		r = check_blob(v, s, i, &info, &result, e);
	}
	if (r == 0)
		l.r = &result;
	else
		r = take_as_found(v, r, e);
	tell(v, &l);
	return r < 0 ? err_wrap(e, "layer %zu", i) : 0;
}

/* Whether a layer was checked already, lower in the image. */
static bool repeats(const struct source *s, size_t i)
{
	const struct manifest_layer *l = s->m.layers;

	for (size_t k = 0; k < i; k++) {
		if (digest_equal(&l[k].desc.digest, &l[i].desc.digest) &&
		    l[k].desc.size == l[i].desc.size &&
		    digest_equal(&s->m.diff_ids[k], &s->m.diff_ids[i]) &&
		    l[k].has_toc_digest == l[i].has_toc_digest &&
		    (!l[k].has_toc_digest ||
		     digest_equal(&l[k].toc_digest, &l[i].toc_digest)))
			return true;
	}
	return false;
}

static int verify_image(struct verify *v, const char *name, struct err *e)
{
	CLEANUP_SOURCE struct source s = {0};
	int r = source_open(name, &v->source, &s, e);

	for (size_t i = 0; r == 0 && i < s.m.n_layers; i++) {
		if (!repeats(&s, i))
			r = check_layer(v, &s, i, e);
	}
	return r;
}

/* ---- a blob ------------------------------------------------------------ */

/* A file that is read from its first byte, and hashed. */
struct file {
	struct span span;
	uint64_t at;
	struct sha256 *h;
};

static ssize_t read_file(void *arg, void *p, size_t n, struct err *e)
{
	struct file *f = arg;
	int r;

	n = (size_t)MIN((uint64_t)n, f->span.size - f->at);
	r = io_pread_all(f->span.fd, p, n, f->at);
	if (r < 0)
		return err_set(e, r, "read: %s", err_name(r));
	sha256_add(f->h, p, n);
	f->at += n;
	return (ssize_t)n;
}

static int range_file(void *arg, uint64_t off, size_t n, struct buf *ret,
		      uint64_t *ret_size, struct err *e)
{
	const struct file *f = arg;

	return span_range(&f->span, "blob", off, n, ret, ret_size, e);
}

static int check_file(struct verify *v, struct file *f, struct err *e)
{
	const struct digest *toc = v->has_toc_digest ? &v->toc_digest : NULL;
	const struct layer_in in = {.range = range_file, .arg = f};
	const struct build_in blob = {.read = read_file, .arg = f};
	const struct blobcheck_opts o = {.found = found, .arg = v};
	CLEANUP_LAYERINFO struct layerinfo info = {0};
	struct blobcheck_result result = {0};
	struct layer l = {.info = &info, .r = &result};
	struct digest digest;
	int r;

	f->h = sha256_new();
	if (f->h == NULL)
		return err_no_memory(e);
	sha256_start(f->h);
	start(v, -1);
	r = layerinfo_read(&in, f->span.size, toc, &info, e);
	if (r == 0) {
		check_info(v, &info, toc);
		if (toc == NULL && info.toc == NULL && info.why_not.code == 0)
			found(v, NULL, BLOBCHECK_NOWHERE,
			      "no footer: not an eStargz or zstd:chunked blob");
		r = blobcheck(&info, &blob, &o, &result, e);
	}
	sha256_end(f->h, &digest);
	sha256_free(f->h);
	if (f->at == f->span.size)
		l.digest = &digest;
	if (r == 0)
		tell(v, &l);
	return r;
}

static int verify_blob(struct verify *v, const char *path, struct err *e)
{
	struct file f = {.span = SPAN_NONE};
	int r;

	f.span.fd = io_open_regular(AT_FDCWD, path, &f.span.size, e);
	if (f.span.fd < 0)
		return err_wrap(e, "%s", path);
	r = check_file(v, &f, e);
	span_done(&f.span);
	return r;
}

/* ---- the command ------------------------------------------------------- */

static void summary(struct verify *v, const char *name)
{
	struct json_object *o;

	if (!v->json) {
		if (v->n_found > FINDINGS_MAX)
			(void)printf("and %" PRIu64 " more\n",
				     v->n_found - FINDINGS_MAX);
		return;
	}
	o = json_object_new_object();
	add_str(o, "name", name);
	(void)json_object_object_add(o, "ok",
				     json_object_new_boolean(v->n_found == 0));
	add_num(o, "wrong", v->n_found);
	(void)json_object_object_add(o, "layers", TAKE_PTR(v->layers));
	(void)puts(json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	(void)json_object_put(o);
}

static bool is_image(const char *name)
{
	CLEANUP_IMAGE_NAME struct image_name n = {0};

	return image_name_parse(name, &n, NULL) != -EINVAL;
}

static int run(struct verify *v, const char *name)
{
	struct err e = {0};
	int r;

	if (is_image(name) && v->has_toc_digest)
		return cli_fail("verify", "--toc-digest is for a file");
	v->layers = v->json ? json_object_new_array() : NULL;
	r = is_image(name) ? verify_image(v, name, &e)
			   : verify_blob(v, name, &e);
	if (r == 0)
		summary(v, name);
	(void)json_object_put(v->findings);
	(void)json_object_put(v->layers);
	if (r < 0)
		return cli_fail("verify", "%s", e.text);
	return v->n_found == 0 ? 0 : 1;
}

/* Return: 0, 1: the reason was printed */
static int take(struct verify *v, int c, const char *value)
{
	struct err e = {0};

	if (c == 'j')
		v->json = true;
	else if (c == 'q')
		v->quiet = true;
	else if (c == '?')
		return 1;
	else if (c == TOC_DIGEST) {
		if (digest_parse(value, strlen(value), &v->toc_digest) < 0)
			return cli_fail("verify",
					"--toc-digest: not a sha256 digest");
		v->has_toc_digest = true;
	} else if (source_opts_take(&v->source, c, value, &e) < 0)
		return cli_fail("verify", "%s", e.text);
	return 0;
}

int cli_verify(int argc, char **argv)
{
	static const struct option longs[] = {
		{"json", no_argument, NULL, 'j'},
		{"quiet", no_argument, NULL, 'q'},
		{"toc-digest", required_argument, NULL, TOC_DIGEST},
		SOURCE_LONGS,
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct verify v = {0};
	int c;

	source_opts_init(&v.source);
	while ((c = getopt_long(argc, argv, "jqh", longs, NULL)) != -1) {
		if (c == 'h') {
			(void)fputs(help, stdout);
			return 0;
		}
		if (take(&v, c, optarg) != 0)
			return 1;
	}
	if (argc - optind != 1)
		return cli_fail("verify",
				"wants one image or file (estargz verify "
				"--help)");
	return run(&v, argv[optind]);
}
