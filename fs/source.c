/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/limits.h"
#define LOG_MOD "source"
#include "common/log.h"
#include "common/oci.h"
#include "fs/layout.h"
#include "fs/link.h"
#include "fs/manifests.h"

#define INDEX_DEPTH_MAX 4

/* A layer of an image, before one of them is chosen. */
struct candidate {
	struct digest digest;
	struct digest toc_digest;
	struct digest trace;
	struct digest manifest; /* where a trace may be found */
	bool has_toc_digest;
	bool has_trace;
	bool has_manifest;
	int number; /* in the manifest, 0 the lowest; -1: not known */
	uint64_t size;
	uint32_t tail;
};

struct candidates {
	struct candidate *v;
	size_t n;
};

static int add_candidate(struct candidates *c, const struct candidate *one,
			 struct err *e)
{
	struct candidate *v;

	if (c->n >= MANIFEST_LAYERS_MAX)
		return err_set(e, -EOVERFLOW, "image has more than %u layers",
			       MANIFEST_LAYERS_MAX);
	v = realloc(c->v, (c->n + 1) * sizeof(*v));
	if (v == NULL)
		return err_no_memory(e);
	v[c->n] = *one;
	v[c->n].number = (int)c->n;
	c->n++;
	c->v = v;
	return 0;
}

static int new_layer(struct source *s, const struct options *o,
		     struct layer **ret, struct err *e)
{
	struct layer *v = realloc(s->layers, (s->n_layers + 1) * sizeof(*v));

	if (v == NULL)
		return err_no_memory(e);
	s->layers = v;
	*ret = &v[s->n_layers++];
	**ret = (struct layer){
		.blob_fd = -1,
		.plain_http = o->plain_http,
		.tail = o->tail,
		.source = strdup(o->source),
	};
	return (*ret)->source != NULL ? 0 : err_no_memory(e);
}

/* What the options say of a blob that no manifest describes. */
static void take_digests(struct layer *l, const struct options *o)
{
	l->has_digest = o->has_digest;
	l->digest = o->digest;
	l->has_toc_digest = o->has_toc_digest;
	l->toc_digest = o->toc_digest;
}

/* ---- one blob ---------------------------------------------------------- */

static int open_blob(struct layer *l, const char *path, struct err *e)
{
	l->kind = PROTO_BLOB_FD;
	l->blob_fd = io_open_regular(AT_FDCWD, path, &l->size, e);
	if (l->blob_fd < 0)
		return l->blob_fd;
	if (l->size == 0)
		return err_set(e, -EBADMSG, "not an eStargz blob: it is empty");
	return 0;
}

static int one_blob(struct source *s, const struct options *o, bool url,
		    struct err *e)
{
	struct layer *l;
	int r;

	if (o->layer != NULL)
		return err_set(e, -EINVAL,
			       "option layer= is for images, this is one blob");
	r = new_layer(s, o, &l, e);
	if (r < 0)
		return r;
	take_digests(l, o);
	l->open_name = strdup(o->source);
	if (l->open_name == NULL)
		return err_no_memory(e);
	if (url) {
		l->kind = PROTO_BLOB_URL;
		return 0;
	}
	return open_blob(l, o->source, e);
}

/* ---- an image ---------------------------------------------------------- */

/* Keeps of @c what option layer= names, or every digest once. */
static int choose(const struct options *o, struct candidates *c, struct err *e)
{
	struct digest d;
	size_t i = 0;

	if (c->n == 0)
		return err_set(e, -ENOENT, "image has no layers");
	if (o->layer == NULL) {
		if (o->has_digest || o->has_toc_digest)
			return err_set(e, -EINVAL,
				       "options digest= and toc_digest= need "
				       "option layer=");
		/* The lower of two equal layers adds nothing. */
		for (size_t k = 0; k < c->n; k++) {
			bool again = false;

			for (size_t j = k + 1; j < c->n; j++)
				again = again || digest_equal(&c->v[k].digest,
							      &c->v[j].digest);
			if (!again)
				c->v[i++] = c->v[k];
		}
		c->n = i;
		return 0;
	}
	if (digest_parse(o->layer, strlen(o->layer), &d) == 0) {
		while (i < c->n && !digest_equal(&c->v[i].digest, &d))
			i++;
	} else {
		i = (size_t)strtoul(o->layer, NULL, 10);
	}
	if (i >= c->n)
		return err_set(e, -ENOENT, "image has no layer %s (it has %zu)",
			       o->layer, c->n);
	c->v[0] = c->v[i];
	c->n = 1;
	if (o->has_digest && !digest_equal(&o->digest, &c->v[0].digest))
		return err_set(e, -EBADMSG,
			       "layer %s does not have the digest expected",
			       o->layer);
	if (o->has_toc_digest) {
		c->v[0].has_toc_digest = true;
		c->v[0].toc_digest = o->toc_digest;
	}
	if (o->has_trace) {
		c->v[0].has_trace = true;
		c->v[0].trace = o->trace;
	}
	if (o->has_manifest) {
		c->v[0].has_manifest = true;
		c->v[0].manifest = o->manifest;
	}
	if (o->tail != 0)
		c->v[0].tail = o->tail;
	return 0;
}

/* Makes a layer of a chosen candidate; where its bytes are is left open. */
static int take_candidate(struct source *s, const struct options *o,
			  const struct candidate *c, struct layer **ret,
			  struct err *e)
{
	/* What nothing is checked against is not taken from a trace's data. */
	bool follows = c->has_toc_digest && !o->noprefetch && !o->notrace;
	int r = new_layer(s, o, ret, e);

	if (r < 0)
		return r;
	(*ret)->number = c->number;
	(*ret)->has_digest = true;
	(*ret)->digest = c->digest;
	(*ret)->size = c->size;
	(*ret)->has_toc_digest = c->has_toc_digest;
	(*ret)->toc_digest = c->toc_digest;
	(*ret)->has_trace = c->has_trace && follows;
	(*ret)->trace = c->trace;
	(*ret)->has_manifest = c->has_manifest && !c->has_trace && follows;
	(*ret)->manifest = c->manifest;
	(*ret)->tail = c->tail;
	return 0;
}

static int json_digest(struct json_object *o, const char *key,
		       struct digest *ret)
{
	struct json_object *v;
	const char *s;

	if (!json_object_object_get_ex(o, key, &v) ||
	    !json_object_is_type(v, json_type_string))
		return -ENOENT;
	s = json_object_get_string(v);
	return digest_parse(s, strlen(s), ret);
}

/* The trace of an image whose layers name none is looked for. */
static void look_for_trace(struct candidates *c, const struct digest *manifest)
{
	bool any = false;

	for (size_t i = 0; i < c->n; i++)
		any = any || c->v[i].has_trace;
	for (size_t i = 0; !any && i < c->n; i++) {
		c->v[i].has_manifest = true;
		c->v[i].manifest = *manifest;
	}
}

/* Reads the answer to RESOLVE. */
static int read_resolved(const char *json, struct candidates *c, struct err *e)
{
	struct json_object *doc = json_tokener_parse(json != NULL ? json : "");
	struct json_object *layers = NULL, *size;
	struct digest manifest;
	int r = 0;

	if (!json_object_object_get_ex(doc, "layers", &layers) ||
	    !json_object_is_type(layers, json_type_array))
		r = err_set(e, -EPROTO, "fetcher gave a wrong answer");
	for (size_t i = 0; r == 0 && i < json_object_array_length(layers);
	     i++) {
		struct json_object *l = json_object_array_get_idx(layers, i);
		struct candidate one = {0};

		if (json_digest(l, "digest", &one.digest) < 0) {
			r = err_set(e, -EPROTO, "fetcher gave a wrong answer");
			break;
		}
		one.has_toc_digest =
			json_digest(l, "toc_digest", &one.toc_digest) == 0;
		one.has_trace = json_digest(l, "trace_digest", &one.trace) == 0;
		if (json_object_object_get_ex(l, "size", &size))
			one.size = json_object_get_uint64(size);
		if (json_object_object_get_ex(l, "tail", &size))
			one.tail = (uint32_t)MIN(json_object_get_uint64(size),
						 OCI_TAIL_BYTES_MAX);
		r = add_candidate(c, &one, e);
	}
	if (json_digest(doc, "manifest_digest", &manifest) == 0)
		look_for_trace(c, &manifest);
	(void)json_object_put(doc);
	return r;
}

static int ask_registry(const struct options *o, struct connect *c,
			struct buf *ret_json, struct err *e)
{
	struct link l;
	int sock = -1;
	int r = connect_fetcher(c, &sock, e);

	if (r < 0)
		return r;
	r = link_init(&l, e);
	if (r < 0) {
		(void)close(sock);
		return r;
	}
	r = link_hello(&l, sock, e);
	if (r == 0)
		r = link_resolve(&l, o->source, o->plain_http, ret_json, e);
	link_done(&l);
	return r;
}

/* Also under the digest that a tag, or an index, led to. */
static void keep_by_manifest(const struct options *o, const struct buf *json)
{
	struct json_object *doc = json_tokener_parse(json->p);
	struct digest d;

	if (json_digest(doc, "manifest_digest", &d) == 0)
		manifests_put(o->root, &d, json);
	(void)json_object_put(doc);
}

/* The layers of an image: from what is known of its digest, else asked. */
static int resolve(const struct options *o, struct connect *c,
		   const struct oci_ref *ref, struct candidates *out,
		   struct err *e)
{
	CLEANUP_BUF struct buf json = BUF_INIT(MANIFEST_BYTES_MAX);
	int r;

	if (ref->has_digest &&
	    manifests_get(o->root, &ref->digest, &json) == 0 &&
	    read_resolved(json.p, out, NULL) == 0)
		return 0;
	buf_clear(&json);
	out->n = 0;
	r = ask_registry(o, c, &json, e);
	if (r == 0)
		r = read_resolved(json.p, out, e);
	if (r == 0 && ref->has_digest)
		manifests_put(o->root, &ref->digest, &json);
	if (r == 0)
		keep_by_manifest(o, &json);
	return r;
}

/* Where the options say both digests of a layer, the manifest has nothing to
 * add. Return: 1 so it is, 0 not, -errno */
static int name_layer(const struct options *o, struct candidates *out,
		      struct err *e)
{
	struct candidate one = {
		.has_toc_digest = true,
		.toc_digest = o->toc_digest,
		.has_trace = o->has_trace,
		.trace = o->trace,
		.has_manifest = o->has_manifest,
		.manifest = o->manifest,
		.tail = o->tail,
	};

	if (o->layer == NULL || !o->has_toc_digest ||
	    digest_parse(o->layer, strlen(o->layer), &one.digest) < 0)
		return 0;
	if (add_candidate(out, &one, e) < 0)
		return -ENOMEM;
	out->v[0].number = -1;
	return 1;
}

static int registry_image(struct source *s, const struct options *o,
			  struct connect *c, struct candidates *list,
			  struct err *e)
{
	CLEANUP_FREE char *repository = NULL;
	CLEANUP_OCI_REF struct oci_ref ref = {0};
	int r = oci_ref_parse(o->source, &ref, e);

	if (r < 0)
		return r;
	if (asprintf(&repository, "%s/%s", ref.host, ref.repo) < 0) {
		repository = NULL;
		return err_no_memory(e);
	}
	r = name_layer(o, list, e);
	if (r == 0)
		r = resolve(o, c, &ref, list, e);
	if (r >= 0)
		r = choose(o, list, e);
	for (size_t i = 0; r == 0 && i < list->n; i++) {
		char d[DIGEST_STR_BYTES];
		struct layer *l;

		r = take_candidate(s, o, &list->v[i], &l, e);
		if (r < 0)
			return r;
		l->kind = PROTO_BLOB_REGISTRY;
		if (asprintf(&l->open_name, "%s@%s", repository,
			     digest_str(&l->digest, d)) < 0) {
			l->open_name = NULL;
			return err_no_memory(e);
		}
	}
	return r;
}

/* ---- an OCI image layout ----------------------------------------------- */

/* Whether an entry of index.json has this tag; without one, whether it is an
 * image, and not an artifact that is about one. */
static bool entry_is(struct json_object *m, const char *tag)
{
	struct json_object *ann, *name;

	if (tag == NULL)
		return !json_object_object_get_ex(m, "artifactType", NULL);
	return json_object_object_get_ex(m, "annotations", &ann) &&
	       json_object_object_get_ex(
		       ann, "org.opencontainers.image.ref.name", &name) &&
	       json_object_is_type(name, json_type_string) &&
	       strcmp(json_object_get_string(name), tag) == 0;
}

/* The entry of index.json with this tag; the only one where there is none. */
static int find_manifest(const char *dir, const char *tag, struct digest *ret,
			 struct err *e)
{
	struct json_object *doc, *list;
	size_t n, found = 0;
	int r = layout_index(dir, &doc, &list, e);

	if (r < 0)
		return r;
	n = json_object_array_length(list);
	for (size_t i = 0; i < n; i++) {
		struct json_object *m = json_object_array_get_idx(list, i);

		if (entry_is(m, tag) && json_digest(m, "digest", ret) == 0)
			found++;
	}
	(void)json_object_put(doc);
	if (found == 1)
		return 0;
	if (tag == NULL)
		return err_set(e, found == 0 ? -ENOENT : -EINVAL,
			       found == 0
				       ? "%s/index.json: no image in it"
				       : "%s/index.json: more than one image "
					 "in it, name one: oci:DIR:TAG",
			       dir);
	return err_set(e, -ENOENT, "%s/index.json: no image with tag %s", dir,
		       tag);
}

static int read_layout(const char *dir, const char *tag, struct candidates *out,
		       struct err *e)
{
	struct digest at;
	int r = find_manifest(dir, tag, &at, e);

	for (int depth = 0; r == 0; depth++) {
		CLEANUP_BUF struct buf b = BUF_INIT(MANIFEST_BYTES_MAX);
		CLEANUP_OCI_MANIFEST struct oci_manifest m = {0};

		if (depth == INDEX_DEPTH_MAX)
			return err_set(e, -EBADMSG, "indexes are nested");
		r = layout_document(dir, &at, "manifest", &b, e);
		if (r == 0)
			r = oci_manifest_parse(b.p, b.len, oci_arch(), &m, e);
		if (r < 0)
			return r;
		if (m.is_index) {
			at = m.next;
			continue;
		}
		for (size_t i = 0; r == 0 && i < m.n_layers; i++) {
			const struct candidate one = {
				.digest = m.layers[i].digest,
				.size = m.layers[i].size,
				.has_toc_digest = m.layers[i].has_toc_digest,
				.toc_digest = m.layers[i].toc_digest,
				.has_trace = m.layers[i].has_trace,
				.trace = m.layers[i].trace,
				.manifest = at,
			};

			r = add_candidate(out, &one, e);
		}
		break;
	}
	return r;
}

/* Of a trace, what it wants of a layer. Without memory, nothing. */
static void take_wanted(struct layer *l, const struct trace *t)
{
	l->wanted = calloc(t->n_reads, sizeof(*l->wanted));
	for (size_t i = 0; l->wanted != NULL && i < t->n_reads; i++) {
		const struct trace_read *rd = &t->reads[i];

		if (digest_equal(&t->layers[rd->layer], &l->digest))
			l->wanted[l->n_wanted++] =
				(struct layer_range){rd->off, rd->len};
	}
}

/* The trace of an image in a layout. It is a hint: no mount fails for it. */
static void follow_layout(struct source *s, const struct options *o,
			  const char *dir, const struct candidate *c)
{
	CLEANUP_TRACE struct trace t = {0};
	struct err e = {0};
	int r;

	if (o->noprefetch || o->notrace)
		return;
	r = layout_trace(dir, &c->manifest, c->has_trace ? &c->trace : NULL, &t,
			 &e);
	if (r < 0 && r != -ENOENT)
		log_warn("err=%s msg=\"trace is not used: %s\"", err_symbol(r),
			 e.text);
	for (size_t i = 0; r == 0 && i < s->n_layers; i++)
		take_wanted(&s->layers[i], &t);
}

static int layout_image(struct source *s, const struct options *o,
			struct candidates *list, struct err *e)
{
	CLEANUP_FREE char *dir = strdup(o->source + strlen("oci:"));
	const char *tag = NULL;
	char *colon;
	int r;

	if (dir == NULL)
		return err_no_memory(e);
	colon = strrchr(dir, ':');
	if (colon != NULL && strchr(colon, '/') == NULL) {
		*colon = '\0';
		tag = colon + 1;
	}
	r = read_layout(dir, tag, list, e);
	if (r == 0)
		r = choose(o, list, e);
	for (size_t i = 0; r == 0 && i < list->n; i++) {
		struct layer *l;

		r = take_candidate(s, o, &list->v[i], &l, e);
		if (r == 0) {
			l->has_trace = false; /* follow_layout() */
			r = layout_blob_path(dir, &l->digest, &l->open_name);
		}
		if (r == 0) {
			r = open_blob(l, l->open_name, e);
			if (r < 0)
				(void)err_wrap(e, "%s", l->open_name);
		}
		if (r == 0 && list->v[i].size != 0 &&
		    list->v[i].size != l->size)
			r = err_set(e, -EBADMSG,
				    "%s has %" PRIu64 " bytes, the manifest "
				    "says %" PRIu64,
				    l->open_name, l->size, list->v[i].size);
	}
	if (r == 0)
		follow_layout(s, o, dir, &list->v[0]);
	return r;
}

/* ---- all --------------------------------------------------------------- */

static bool is_file(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0;
}

static bool looks_like_path(const char *s)
{
	return s[0] == '/' || strncmp(s, "./", 2) == 0 ||
	       strncmp(s, "../", 3) == 0 || is_file(s);
}

static int check_verifiable(const struct source *s, const struct options *o,
			    struct err *e)
{
	char d[DIGEST_STR_BYTES];

	for (size_t i = 0; i < s->n_layers; i++) {
		const struct layer *l = &s->layers[i];

		if (l->has_toc_digest || o->no_verify)
			continue;
		if (!l->has_digest)
			return err_set(e, -EACCES,
				       "no TOC digest to check against: give "
				       "toc_digest=, or insecure_no_verify");
		return err_set(e, -EACCES,
			       "layer %s has no TOC digest in the manifest: "
			       "not an eStargz layer, or give "
			       "insecure_no_verify",
			       digest_str(&l->digest, d));
	}
	return 0;
}

int source_resolve(struct source *s, const struct options *o, struct connect *c,
		   struct err *e)
{
	struct candidates list = {0};
	const char *src = o->source;
	int r;

	*s = (struct source){0};
	if (strncmp(src, "oci:", 4) == 0)
		r = layout_image(s, o, &list, e);
	else if (strncmp(src, "http://", 7) == 0 ||
		 strncmp(src, "https://", 8) == 0)
		r = one_blob(s, o, true, e);
	else if (looks_like_path(src))
		r = one_blob(s, o, false, e);
	else
		r = registry_image(s, o, c, &list, e);
	free(list.v);
	if (r == 0)
		r = check_verifiable(s, o, e);
	if (r < 0)
		source_done(s);
	return r;
}

void source_done(struct source *s)
{
	for (size_t i = 0; i < s->n_layers; i++)
		layer_done(&s->layers[i]);
	free(s->layers);
	*s = (struct source){0};
}
