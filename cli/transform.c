/* SPDX-License-Identifier: Apache-2.0 */
/* From an image to the same image in eStargz. */
#include "config.h"

#include "cli/transform.h"

#include <errno.h>
#include <inttypes.h>
#include <json.h>
#include <stdio.h>
#include <string.h>

#include "cli/image/doc.h"
#include "cli/layers.h"
#include "cli/wanted.h"
#include "common/limits.h"
#include "common/trace.h"

/* Of lists, whose members have a comma each, or the end. */
#define TAILS_BYTES (OCI_TAILS_MAX * sizeof("8388608"))
#define TOCS_BYTES (OCI_TOCS_MAX * DIGEST_STR_BYTES)
/* Of all images of an index together. */
#define IMAGES_MAX 256u
#define LAYERS_MAX 8192u
#define DOCUMENTS_BYTES_MAX MIB(64)

/**
 * struct work - an image, or an index of them, on its way
 * @doc:	of @root
 * @manifests:	[@r->n_images], as @r->images
 * @docs:	[@r->n_images] the manifests' bytes, first those of the source
 * @configs:	[@r->n_images] new ones
 * @places:	[@r->n_images] numbers in @index
 */
struct work {
	struct image_src *src;
	struct image_dst *dst;
	const struct transform_opts *o;
	struct transform_result *r;
	struct image_desc root;
	struct buf doc;
	bool is_index;
	struct index index;
	struct manifest *manifests;
	struct buf *docs;
	struct buf *configs;
	size_t *places;
	uint64_t bytes;
};

static void work_done(struct work *w)
{
	for (size_t i = 0; i < w->r->n_images; i++) {
		manifest_done(&w->manifests[i]);
		buf_done(&w->docs[i]);
		buf_done(&w->configs[i]);
	}
	free(w->manifests);
	free(w->docs);
	free(w->configs);
	free(w->places);
	index_done(&w->index);
	image_desc_done(&w->root);
	buf_done(&w->doc);
}
#define CLEANUP_WORK CLEANUP(work_done)

void transform_result_done(struct transform_result *r)
{
	for (size_t i = 0; i < r->n_layers; i++) {
		image_desc_done(&r->layers[i].in);
		image_desc_done(&r->layers[i].out);
		cleanup_close(&r->layers[i].fd);
	}
	for (size_t i = 0; i < r->n_images; i++) {
		image_desc_done(&r->images[i].in);
		image_desc_done(&r->images[i].out);
		free(r->images[i].layers);
	}
	free(r->layers);
	free(r->images);
	image_desc_done(&r->root);
	*r = (struct transform_result){0};
}

void transform_stop(void)
{
	layers_stop();
}

/* ---- what is to be converted ------------------------------------------- */

/* Room for n images; nothing is in it yet. */
static int make_room(struct work *w, size_t n, struct err *e)
{
	if (n > IMAGES_MAX)
		return err_set(e, -EOVERFLOW, "more than %u images",
			       IMAGES_MAX);
	w->manifests = calloc(n + 1, sizeof(*w->manifests));
	w->docs = calloc(n + 1, sizeof(*w->docs));
	w->configs = calloc(n + 1, sizeof(*w->configs));
	w->places = calloc(n + 1, sizeof(*w->places));
	w->r->images = calloc(n + 1, sizeof(*w->r->images));
	if (w->manifests == NULL || w->docs == NULL || w->configs == NULL ||
	    w->places == NULL || w->r->images == NULL)
		return err_no_memory(e);
	for (size_t i = 0; i < n; i++) {
		w->docs[i] = BUF_INIT(MANIFEST_BYTES_MAX);
		w->configs[i] = BUF_INIT(MANIFEST_BYTES_MAX);
	}
	return 0;
}

/* The layer's number among those that differ; it is added if it is new. */
static int layer_number(struct work *w, const struct manifest_layer *l,
			size_t *ret, struct err *e)
{
	struct transform_result *r = w->r;
	char digest[DIGEST_STR_BYTES];
	struct transform_layer *v;

	for (*ret = 0; *ret < r->n_layers; (*ret)++) {
		v = &r->layers[*ret];
		if (!digest_equal(&v->in.digest, &l->desc.digest))
			continue;
		if (v->in.size != l->desc.size)
			return err_set(e, -EBADMSG,
				       "layer %s: %" PRIu64
				       " bytes, and %" PRIu64 " elsewhere",
				       digest_str(&l->desc.digest, digest),
				       l->desc.size, v->in.size);
		break;
	}
	if (*ret == LAYERS_MAX)
		return err_set(e, -EOVERFLOW, "more than %u layers",
			       LAYERS_MAX);
	if (*ret == r->n_layers) {
		v = reallocarray(r->layers, r->n_layers + 1, sizeof(*v));
		if (v == NULL)
			return err_no_memory(e);
		r->layers = v;
		v += r->n_layers;
		*v = (struct transform_layer){.fd = -EBADF};
		if (image_desc_copy(&l->desc, &v->in) < 0)
			return err_no_memory(e);
		r->n_layers++;
	}
	v = &r->layers[*ret];
	if (!v->has_toc && l->has_toc_digest) {
		v->has_toc = true;
		v->toc = l->toc_digest;
	}
	return 0;
}

/* One more image, whose manifest is in @doc, which is taken over. */
static int add_image(struct work *w, const struct image_desc *desc,
		     struct buf *doc, struct err *e)
{
	size_t i = w->r->n_images++;
	struct transform_image *im = &w->r->images[i];
	struct manifest *m = &w->manifests[i];
	int r;

	w->docs[i] = *doc;
	*doc = (struct buf){0};
	if (image_desc_copy(desc, &im->in) < 0)
		return err_no_memory(e);
	r = manifest_load(w->src, desc, w->docs[i].p, w->docs[i].len, m, e);
	if (r < 0)
		return r;
	w->bytes += w->docs[i].len + m->config_desc.size;
	if (w->bytes > DOCUMENTS_BYTES_MAX)
		return err_set(e, -EOVERFLOW,
			       "manifests and configs are larger than %" PRIu64
			       " MiB",
			       DOCUMENTS_BYTES_MAX / MIB(1));
	im->layers = calloc(m->n_layers + 1, sizeof(*im->layers));
	if (im->layers == NULL)
		return err_no_memory(e);
	for (; r == 0 && im->n_layers < m->n_layers; im->n_layers++)
		r = layer_number(w, &m->layers[im->n_layers],
				 &im->layers[im->n_layers], e);
	return r;
}

static const char *platform_str(const struct platform *p, char *buf, size_t n)
{
	(void)snprintf(buf, n, "%s/%s%s%s", p->os, p->arch,
		       p->variant[0] != '\0' ? "/" : "", p->variant);
	return buf;
}
#define PLATFORM_BYTES 100u

static const char *config_str(const struct manifest *m, const char *key)
{
	struct json_object *v = NULL;

	if (!json_object_object_get_ex(m->config, key, &v) ||
	    !json_object_is_type(v, json_type_string))
		return "";
	return json_object_get_string(v);
}

/* An image that is no index, for one platform that was asked for. */
static int check_platform(const struct work *w, struct err *e)
{
	const struct manifest *m = &w->manifests[0];
	const char *os = config_str(m, "os");
	const char *arch = config_str(m, "architecture");
	char want[PLATFORM_BYTES];

	for (size_t i = 0; i < w->o->n_platforms; i++) {
		const struct platform *p = &w->o->platforms[i];

		if (strcmp(p->os, os) != 0 || strcmp(p->arch, arch) != 0)
			return err_set(e, -ENOENT,
				       "no image for %s: it is for %.32s/%.32s",
				       platform_str(p, want, sizeof(want)), os,
				       arch);
	}
	return 0;
}

static int load_single(struct work *w, struct err *e)
{
	int r = make_room(w, 1, e);

	if (r == 0)
		r = add_image(w, &w->root, &w->doc, e);
	return r == 0 ? check_platform(w, e) : r;
}

/* Marks the images that are asked for. */
static int choose_images(const struct work *w, bool *chosen, struct err *e)
{
	const struct platform *p = w->o->platforms;
	size_t n = w->o->n_platforms;
	struct platform here;
	char name[PLATFORM_BYTES];

	if (w->o->all_platforms) {
		for (size_t i = 0; i < w->index.n; i++)
			chosen[i] = !w->index.images[i].skip;
		return 0;
	}
	if (n == 0) {
		platform_here(&here);
		p = &here;
		n = 1;
		progress_say(w->o->progress,
			     "of the index, only %s is converted "
			     "(--platform, --all-platforms)",
			     platform_str(p, name, sizeof(name)));
	}
	for (size_t i = 0; i < n; i++) {
		ssize_t at = index_find(&w->index, &p[i], e);

		if (at < 0)
			return (int)at;
		chosen[at] = true;
	}
	return 0;
}

static int load_of_index(struct work *w, size_t at, struct err *e)
{
	const struct index_image *x = &w->index.images[at];
	CLEANUP_BUF struct buf doc = BUF_INIT(MANIFEST_BYTES_MAX);
	struct transform_image *im = &w->r->images[w->r->n_images];
	int r = image_src_document(w->src, &x->desc, &doc, e);

	if (r < 0)
		return r;
	w->places[w->r->n_images] = at;
	im->platform = x->platform;
	im->has_platform = x->has_platform;
	return add_image(w, &x->desc, &doc, e);
}

static int load_index(struct work *w, struct err *e)
{
	CLEANUP_FREE bool *chosen = NULL;
	size_t n = 0;
	int r = index_load(&w->root, w->doc.p, w->doc.len, &w->index, e);

	if (r < 0)
		return r;
	chosen = calloc(w->index.n + 1, sizeof(*chosen));
	if (chosen == NULL)
		return err_no_memory(e);
	r = choose_images(w, chosen, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < w->index.n; i++)
		n += chosen[i] ? 1 : 0;
	if (n == 0)
		return err_set(e, -ENOENT, "the index has no image");
	w->is_index = w->o->all_platforms || w->o->n_platforms > 1;
	if (w->is_index && w->o->single)
		return err_set(e, -EOPNOTSUPP,
			       "the destination takes one image, not an index");
	r = make_room(w, n, e);
	for (size_t i = 0; r == 0 && i < w->index.n; i++) {
		if (chosen[i])
			r = load_of_index(w, i, e);
	}
	return r;
}

static int load(struct work *w, struct err *e)
{
	int r;

	w->doc = BUF_INIT(MANIFEST_BYTES_MAX);
	r = image_src_root(w->src, &w->root, &w->doc, e);
	if (r < 0)
		return r;
	return media_type_is_index(w->root.media_type) ? load_index(w, e)
						       : load_single(w, e);
}

/* ---- layers ------------------------------------------------------------ */

/* A layer is what the config says that it is, wherever it is used. */
static int check_diff_ids(struct work *w, struct err *e)
{
	char digest[DIGEST_STR_BYTES];

	for (size_t i = 0; i < w->r->n_images; i++) {
		const struct transform_image *im = &w->r->images[i];
		const struct manifest *m = &w->manifests[i];

		for (size_t k = 0; k < im->n_layers; k++) {
			struct transform_layer *l =
				&w->r->layers[im->layers[k]];

			if (l->kept)
				l->diff_id = m->diff_ids[k];
			else if (!digest_equal(&l->built.in_diff_id,
					       &m->diff_ids[k]))
				return err_set(
					e, -EBADMSG,
					"layer %s: is not the one that "
					"the config has the diff_id of",
					digest_str(&l->in.digest, digest));
		}
	}
	return 0;
}

static int make_layers(struct work *w, struct err *e)
{
	CLEANUP_FREE struct wanted_image *images =
		calloc(w->r->n_images + 1, sizeof(*images));
	CLEANUP(wanted_free_cleanup) struct wanted *wanted = NULL;
	int r;

	if (images == NULL)
		return err_no_memory(e);
	for (size_t i = 0; i < w->r->n_images; i++)
		images[i] = (struct wanted_image){
			.manifest = w->r->images[i].in.digest,
			.layers = w->r->images[i].layers,
			.n_layers = w->r->images[i].n_layers};
	if (wanted_new(w->o->record, w->o->prefetch, images, w->r->n_images,
		       &wanted) < 0)
		return err_no_memory(e);
	r = layers_convert(w->src, w->o, wanted, w->r, e);
	if (r == 0)
		wanted_say(wanted, w->o->progress);
	return r == 0 ? check_diff_ids(w, e) : r;
}

/* ---- documents --------------------------------------------------------- */

/* Whether no layer of an image has become another one. */
static bool all_kept(const struct work *w, const struct transform_image *im)
{
	for (size_t k = 0; k < im->n_layers; k++) {
		if (!w->r->layers[im->layers[k]].kept)
			return false;
	}
	return true;
}

/* Who converts what was optimized should know what becomes of that. */
static void say_traces(const struct work *w)
{
	for (size_t i = 0; w->o->made == NULL && i < w->r->n_images; i++) {
		if (manifest_trace_named(&w->manifests[i]) == NULL ||
		    all_kept(w, &w->r->images[i]))
			continue;
		progress_say(w->o->progress,
			     "the image was optimized: its order of files and "
			     "its trace are not kept%s",
			     w->o->reuse ? "" : " (--reuse keeps them)");
		return;
	}
}

/* Where the ends of layer @k and of those above it begin. */
static void list_tails(const struct work *w, const struct transform_image *im,
		       size_t k, char ret[TAILS_BYTES])
{
	size_t len = 0, end = MIN(im->n_layers, k + OCI_TAILS_MAX);

	for (size_t i = k; i < end; i++) {
		uint64_t n = w->r->layers[im->layers[i]].tail_bytes;

		len += (size_t)snprintf(ret + len, TAILS_BYTES - len,
					"%s%" PRIu64, i > k ? "," : "",
					n <= OCI_TAIL_BYTES_MAX ? n : 0);
	}
}

/* The TOCs of layer @k and of those above it. */
static void list_tocs(const struct work *w, const struct transform_image *im,
		      size_t k, char ret[TOCS_BYTES])
{
	size_t len = 0, end = MIN(im->n_layers, k + OCI_TOCS_MAX);

	for (size_t i = k; i < end; i++) {
		char d[DIGEST_STR_BYTES];

		digest_str(&w->r->layers[im->layers[i]].toc, d);
		len += (size_t)snprintf(ret + len, TOCS_BYTES - len, "%s%s",
					i > k ? "," : "", d);
	}
}

/* Tells of the layer's new descriptor. @trace: NULL: it has none. */
static int set_layer(struct manifest *m, size_t k,
		     const struct transform_layer *l, const char *trace,
		     const char *tails, const char *tocs)
{
	char toc[DIGEST_STR_BYTES], size[24];
	struct image_desc d = l->kept ? m->layers[k].desc : l->out;
	const char *annotations[] = {
		ANNOTATION_TRACE_DIGEST, trace,
		ANNOTATION_TAILS,        tails,
		ANNOTATION_TOCS,         tocs,
		ANNOTATION_TOC_DIGEST,   digest_str(&l->toc, toc),
		ANNOTATION_UNCOMPRESSED, size,
	};
	CLEANUP_FREE char *type = NULL;

	/* It may be a layer of a docker image and of one of OCI. */
	type = strdup(l->kept ? d.media_type
			      : layers_gzip_type(m->layers[k].desc.media_type));
	if (type == NULL)
		return -ENOMEM;
	d.media_type = type;
	(void)snprintf(size, sizeof(size), "%" PRIu64, l->uncompressed_bytes);
	/* Of a layer that is kept, the last is not known. */
	return manifest_set_layer(m, k, &d, &l->diff_id, annotations,
				  ARRAY_SIZE(annotations) / 2 -
					  (l->kept ? 1 : 0));
}

static int finish_image(struct work *w, size_t i, struct err *e)
{
	struct transform_image *im = &w->r->images[i];
	struct manifest *m = &w->manifests[i];
	struct digest trace = {0};
	char trace_str[DIGEST_STR_BYTES];
	int r = 0;

	if (w->o->made != NULL)
		r = w->o->made(w->o->made_arg, w->r, im, &trace, e);
	if (r < 0)
		return r;
	digest_str(&trace, trace_str);
	for (size_t k = 0; k < im->n_layers; k++) {
		char tails[TAILS_BYTES], tocs[TOCS_BYTES];
		int c;

		/* With all others its trace is still right. */
		if (r == 0 && m->layers[k].has_toc_digest && all_kept(w, im))
			continue;
		list_tails(w, im, k, tails);
		list_tocs(w, im, k, tocs);
		c = set_layer(m, k, &w->r->layers[im->layers[k]],
			      r == 1 ? trace_str : NULL, tails, tocs);
		if (c < 0)
			return err_no_memory(e);
	}
	buf_clear(&w->docs[i]);
	r = manifest_finish(m, w->o->oci, &w->configs[i], &w->docs[i]);
	if (r < 0)
		return err_set(e, r, "manifest: %s", err_name(r));
	return image_desc_copy(&m->desc, &im->out) < 0 ? err_no_memory(e) : 0;
}

static int finish_index(struct work *w, struct err *e)
{
	size_t next = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < w->index.n; i++) {
		const struct index_image *x = &w->index.images[i];
		const struct image_desc *new = NULL;

		if (next < w->r->n_images && w->places[next] == i)
			new = &w->r->images[next++].out;
		else if (x->skip)
			continue;
		if (new == NULL || !digest_equal(&new->digest, &x->desc.digest))
			r = index_set(&w->index, i, new);
	}
	buf_clear(&w->doc);
	if (r == 0)
		r = index_finish(&w->index, w->o->oci, &w->doc);
	if (r < 0)
		return err_set(e, r, "index: %s", err_name(r));
	return 0;
}

static int finish(struct work *w, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < w->r->n_images; i++)
		r = finish_image(w, i, e);
	if (r == 0 && w->is_index)
		r = finish_index(w, e);
	return r;
}

/* ---- writing ----------------------------------------------------------- */

static int interrupted(struct err *e)
{
	return layers_stopped() ? err_set(e, -EINTR, "interrupted") : 0;
}

/* What is told of a blob on its way. */
struct shown {
	struct progress *progress;
	size_t item;
};

static void show(void *arg, uint64_t bytes)
{
	const struct shown *s = arg;

	progress_at(s->progress, s->item, bytes);
}

static int write_layer(struct work *w, struct transform_layer *l, struct err *e)
{
	struct shown s = {.progress = w->o->progress, .item = l->item};
	char digest[DIGEST_STR_BYTES];
	int r = interrupted(e);

	if (r < 0)
		return r;
	progress_phase(s.progress, s.item, "writing", l->out.size);
	if (l->kept) {
		r = image_dst_copy(w->dst, w->src, &l->out, show, &s, e);
	} else {
		r = image_dst_has(w->dst, &l->out, e);
		if (r == 0)
			r = image_dst_put(w->dst, &l->out, l->fd, show, &s, e);
	}
	progress_end(s.progress, s.item, NULL);
	return r < 0 ? err_wrap(e, "layer %s",
				digest_str(&l->out.digest, digest))
		     : 0;
}

static int write_image(struct work *w, size_t i, struct err *e)
{
	int r = interrupted(e);

	if (r == 0)
		r = image_dst_document(w->dst, &w->manifests[i].config_desc,
				       w->configs[i].p, e);
	if (r == 0 && w->is_index)
		r = image_dst_document(w->dst, &w->r->images[i].out,
				       w->docs[i].p, e);
	return r;
}

static int copy_blob(struct work *w, struct json_object *o, struct err *e)
{
	CLEANUP(image_desc_done) struct image_desc d = {0};
	int r = doc_desc(o, "blob", &d, e);

	return r < 0 ? r : image_dst_copy(w->dst, w->src, &d, NULL, NULL, e);
}

/* The blobs of a manifest that is no image's. */
static int copy_blobs(struct work *w, const struct buf *doc, const char *what,
		      struct err *e)
{
	CLEANUP_DOC struct json_object *o = NULL;
	struct json_object *config, *layers;
	int r = doc_parse(doc->p, doc->len, what, &o, e);

	if (r < 0)
		return r;
	if (doc_array(o, "manifests") != NULL)
		return err_set(e, -EOPNOTSUPP, "%s: an index in the index",
			       what);
	config = doc_object(o, "config");
	layers = doc_array(o, "layers");
	if (config != NULL)
		r = copy_blob(w, config, e);
	for (size_t i = 0;
	     r == 0 && layers != NULL && i < json_object_array_length(layers);
	     i++)
		r = copy_blob(w, json_object_array_get_idx(layers, i), e);
	return r < 0 ? err_wrap(e, "%s", what) : 0;
}

/* What an index has beside images and is kept: attestations. */
static int write_others(struct work *w, struct err *e)
{
	for (size_t i = 0; i < w->index.n; i++) {
		const struct index_image *x = &w->index.images[i];
		CLEANUP_BUF struct buf doc = BUF_INIT(MANIFEST_BYTES_MAX);
		char digest[DIGEST_STR_BYTES];
		int r;

		if (!x->skip || x->dropped)
			continue;
		r = image_src_document(w->src, &x->desc, &doc, e);
		if (r == 0)
			r = copy_blobs(w, &doc,
				       digest_str(&x->desc.digest, digest), e);
		if (r == 0)
			r = image_dst_document(w->dst, &x->desc, doc.p, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What a trace has beside it; it is right without. */
static void copy_data(struct work *w, const struct image_desc *subject,
		      const struct buf *trace)
{
	CLEANUP_TRACE struct trace t = {0};
	CLEANUP_BUF struct buf data = BUF_INIT(TRACE_DATA_BYTES_MAX);
	char type[] = TRACE_DATA_MEDIA_TYPE;
	struct image_desc d = {.media_type = type};
	struct err e = {0};
	int r;

	if (trace_parse(trace->p, trace->len, &t, &e) < 0 || !t.has_data)
		return;
	d.digest = t.data;
	r = image_src_whole(w->src, &d, &data, &e);
	d.size = data.len;
	if (r == 0)
		r = image_dst_refer(w->dst, subject, type, &d, data.p, &e);
	if (r < 0 && r != -ENOENT)
		progress_say(w->o->progress,
			     "the trace was copied without its data: %s",
			     e.text);
}

/* The trace of an image that is in another place now, layer for layer. */
static int copy_trace(struct work *w, size_t i, struct err *e)
{
	const struct transform_image *im = &w->r->images[i];
	CLEANUP_BUF struct buf doc = BUF_INIT(TRACE_BYTES_MAX);
	CLEANUP(image_desc_done) struct image_desc d = {0};
	int r = manifest_trace(w->src, &w->manifests[i], &im->in, &doc, e);

	if (r == 0)
		r = doc_describe(TRACE_MEDIA_TYPE, doc.p, doc.len, &d);
	if (r == 0) {
		copy_data(w, &im->out, &doc); /* who finds the one finds both */
		r = image_dst_refer(w->dst, &im->out, TRACE_MEDIA_TYPE, &d,
				    doc.p, e);
	}
	return r;
}

/* The image is there, and is right without. */
static void copy_traces(struct work *w)
{
	for (size_t i = 0; w->o->made == NULL && i < w->r->n_images; i++) {
		struct err e = {0};
		int r = 0;

		if (all_kept(w, &w->r->images[i]))
			r = copy_trace(w, i, &e);
		if (r < 0 && r != -ENOENT && r != -EOPNOTSUPP)
			progress_say(w->o->progress,
				     "the trace was not copied: %s", e.text);
	}
}

static int write_all(struct work *w, struct err *e)
{
	const struct image_desc *root = &w->index.desc;
	const char *doc = w->doc.p;
	int r = 0;

	for (size_t i = 0; r == 0 && i < w->r->n_layers; i++)
		r = write_layer(w, &w->r->layers[i], e);
	for (size_t i = 0; r == 0 && i < w->r->n_images; i++)
		r = write_image(w, i, e);
	if (r == 0 && w->is_index)
		r = write_others(w, e);
	if (!w->is_index) {
		root = &w->r->images[0].out;
		doc = w->docs[0].p;
	}
	if (r == 0)
		r = interrupted(e);
	if (r == 0)
		r = image_dst_commit(w->dst, root, doc, e);
	if (r < 0)
		return r;
	copy_traces(w);
	return image_desc_copy(root, &w->r->root) < 0 ? err_no_memory(e) : 0;
}

int transform_image(struct image_src *src, struct image_dst *dst,
		    const struct transform_opts *o,
		    struct transform_result *ret, struct err *e)
{
	CLEANUP_TRANSFORM_RESULT struct transform_result result = {0};
	CLEANUP_WORK struct work w = {
		.src = src, .dst = dst, .o = o, .r = &result};
	int r = load(&w, e);

	if (r == 0)
		r = make_layers(&w, e);
	if (r == 0) {
		say_traces(&w);
		r = finish(&w, e);
	}
	if (r == 0) {
		ret->writing = result.writing = true;
		r = write_all(&w, e);
	}
	if (r < 0)
		return r;
	*ret = result;
	/* What is left is of the documents. */
	w.r = ret;
	result = (struct transform_result){0};
	return 0;
}
