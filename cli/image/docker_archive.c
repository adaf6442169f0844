/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what `docker save` writes and `docker load` reads: manifest.json, which
 * names configs and layers by their files. It has no manifests; one is made for
 * who reads it. The digest of a plain layer is its diff_id, which the config
 * has; only compressed ones must be hashed for it.
 */
#include "config.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli/image/archive.h"
#include "cli/image/doc.h"
#include "cli/image/tarfile.h"
#include "common/io.h"
#include "common/limits.h"

#define HASH_BYTES KIB(256)

/* ---- names ------------------------------------------------------------- */

/* A name as docker spells it in full: "docker.io/library/x:latest". */
static int full_name(const char *s, char **ret, struct err *e)
{
	CLEANUP_FREE char *docker = NULL;
	CLEANUP_IMAGE_NAME struct image_name n = {0};
	int r;

	if (asprintf(&docker, "docker://%s", s) < 0) {
		docker = NULL;
		return err_no_memory(e);
	}
	r = image_name_parse(docker, &n, e);
	if (r < 0)
		return r;
	if (n.ref.has_digest)
		return err_set(e, -EINVAL,
			       "%.128s: an archive has no images by digest", s);
	if (asprintf(ret, "%s/%s:%s", n.ref.host, n.ref.repo, n.ref.tag) < 0)
		return err_no_memory(e);
	return 0;
}

/* ---- reading ----------------------------------------------------------- */

/**
 * struct layer - a layer's file
 */
struct layer {
	struct image_desc desc;
	char *path;
};

/**
 * struct docker_src - an archive of docker that is read
 * @config:	its path; @config_desc: what it is in the manifest
 * @layers:	[@n_layers], after root()
 */
struct docker_src {
	struct image_src src;
	struct tarfile *tar;
	char *where;
	char *tag;
	char *config;
	struct image_desc config_desc;
	struct layer *layers;
	size_t n_layers;
};

static void forget(struct docker_src *d)
{
	for (size_t i = 0; i < d->n_layers; i++) {
		image_desc_done(&d->layers[i].desc);
		free(d->layers[i].path);
	}
	free(d->layers);
	free(d->config);
	image_desc_done(&d->config_desc);
	d->layers = NULL;
	d->n_layers = 0;
	d->config = NULL;
}

static void src_close(struct image_src *s)
{
	struct docker_src *d = (struct docker_src *)s;

	forget(d);
	tarfile_close(d->tar);
	free(d->where);
	free(d->tag);
	free(d);
}

static bool named(struct json_object *item, const char *tag)
{
	struct json_object *tags = doc_array(item, "RepoTags");

	for (size_t i = 0; tags != NULL && i < json_object_array_length(tags);
	     i++) {
		struct json_object *v = json_object_array_get_idx(tags, i);
		CLEANUP_FREE char *full = NULL;

		if (json_object_is_type(v, json_type_string) &&
		    full_name(json_object_get_string(v), &full, NULL) == 0 &&
		    strcmp(full, tag) == 0)
			return true;
	}
	return false;
}

/* The image that the name is of; without one, the only one there is. */
static int item_find(const struct docker_src *d, struct json_object *list,
		     struct json_object **ret, struct err *e)
{
	CLEANUP_FREE char *tag = NULL;
	size_t n = json_object_array_length(list);
	int r;

	if (d->tag == NULL && n != 1)
		return err_set(e, n == 0 ? -ENOENT : -EINVAL,
			       "%s: %zu images are in it%s", d->where, n,
			       n == 0 ? "" : ": say which, with :NAME");
	if (d->tag == NULL) {
		*ret = json_object_array_get_idx(list, 0);
		return 0;
	}
	r = full_name(d->tag, &tag, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		*ret = json_object_array_get_idx(list, i);
		if (named(*ret, tag))
			return 0;
	}
	return err_set(e, -ENOENT, "%s: no image has the name %s", d->where,
		       tag);
}

static int hash(const struct span *s, struct digest *ret, struct err *e)
{
	CLEANUP_FREE char *p = malloc(HASH_BYTES);
	CLEANUP(sha256_free_cleanup) struct sha256 *h = sha256_new();

	if (p == NULL || h == NULL)
		return err_no_memory(e);
	sha256_start(h);
	for (uint64_t at = 0; at < s->size;) {
		size_t n = (size_t)MIN(s->size - at, (uint64_t)HASH_BYTES);
		int r = io_pread_all(s->fd, p, n, s->off + at);

		if (r < 0)
			return err_set(e, r, "%s", err_name(r));
		sha256_add(h, p, n);
		at += n;
	}
	sha256_end(h, ret);
	return 0;
}

static int layer_load(struct docker_src *d, const char *path,
		      const char *diff_id, struct layer *l, struct err *e)
{
	CLEANUP_SPAN struct span s = SPAN_NONE;
	uint8_t magic[4] = {0};
	const char *type = DOCKER_LAYER;
	int r = tarfile_find(d->tar, path, &s, e);

	if (r < 0)
		return r;
	r = digest_parse(diff_id, strlen(diff_id), &l->desc.digest);
	if (r < 0)
		return err_set(e, r, "%s: config: bad diff_id %.80s", d->where,
			       diff_id);
	l->desc.size = s.size;
	(void)io_pread_all(s.fd, magic, (size_t)MIN(s.size, sizeof(magic)),
			   s.off);
	if (magic[0] == 0x1f && magic[1] == 0x8b)
		type = DOCKER_LAYER ".gzip";
	else if (memcmp(magic, "\x28\xb5\x2f\xfd", sizeof(magic)) == 0)
		type = DOCKER_LAYER ".zstd";
	if (strcmp(type, DOCKER_LAYER) != 0) {
		r = hash(&s, &l->desc.digest, e);
		if (r < 0)
			return err_wrap(e, "%s: %s", d->where, path);
	}
	l->desc.media_type = strdup(type);
	l->path = strdup(path);
	return l->desc.media_type != NULL && l->path != NULL ? 0
							     : err_no_memory(e);
}

static int layers_load(struct docker_src *d, struct json_object *item,
		       struct json_object *config, struct err *e)
{
	struct json_object *paths = doc_array(item, "Layers");
	struct json_object *ids =
		doc_array(doc_object(config, "rootfs"), "diff_ids");
	size_t n = paths != NULL ? json_object_array_length(paths) : 0;

	if (paths == NULL || ids == NULL || json_object_array_length(ids) != n)
		return err_set(e, -EBADMSG,
			       "%s: manifest.json and config do not have the "
			       "same layers",
			       d->where);
	if (n > MANIFEST_LAYERS_MAX)
		return err_set(e, -EOVERFLOW, "%s: %zu layers", d->where, n);
	d->layers = calloc(n + 1, sizeof(*d->layers));
	if (d->layers == NULL)
		return err_no_memory(e);
	for (size_t i = 0; i < n; i++) {
		struct json_object *path = json_object_array_get_idx(paths, i);
		struct json_object *id = json_object_array_get_idx(ids, i);
		int r;

		if (!json_object_is_type(path, json_type_string) ||
		    !json_object_is_type(id, json_type_string))
			return err_set(e, -EBADMSG, "%s: layer %zu: no string",
				       d->where, i);
		d->n_layers = i + 1;
		r = layer_load(d, json_object_get_string(path),
			       json_object_get_string(id), &d->layers[i], e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int file_read(struct docker_src *d, const char *path, struct buf *ret,
		     struct err *e)
{
	CLEANUP_SPAN struct span s = SPAN_NONE;
	int r = tarfile_find(d->tar, path, &s, e);

	return r == 0 ? span_document(&s, path, ret, e) : r;
}

static int item_load(struct docker_src *d, struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_BUF struct buf config_text = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_DOC struct json_object *list = NULL, *config = NULL;
	struct json_object *item = NULL;
	const char *path;
	int r = file_read(d, "manifest.json", &text, e);

	if (r == 0)
		r = doc_parse_list(text.p, text.len, "manifest.json", &list, e);
	if (r == 0)
		r = item_find(d, list, &item, e);
	if (r < 0)
		return r;
	path = doc_str(item, "Config");
	if (path == NULL)
		return err_set(e, -EBADMSG, "%s: manifest.json: no Config",
			       d->where);
	r = file_read(d, path, &config_text, e);
	if (r == 0)
		r = doc_parse(config_text.p, config_text.len, "config", &config,
			      e);
	if (r < 0)
		return r;
	d->config = strdup(path);
	if (d->config == NULL ||
	    doc_describe(DOCKER_CONFIG, config_text.p, config_text.len,
			 &d->config_desc) < 0)
		return err_no_memory(e);
	return layers_load(d, item, config, e);
}

static int add_desc(struct buf *b, const struct image_desc *d)
{
	char digest[DIGEST_STR_BYTES];

	return buf_addf(b,
			"{\"mediaType\":\"%s\",\"size\":%" PRIu64
			",\"digest\":\"%s\"}",
			d->media_type, d->size, digest_str(&d->digest, digest));
}

static int manifest_print(const struct docker_src *d, struct buf *b)
{
	int r = buf_add_str(b, "{\"schemaVersion\":2,\"mediaType\":"
			       "\"" DOCKER_MANIFEST "\",\"config\":");

	if (r == 0)
		r = add_desc(b, &d->config_desc);
	if (r == 0)
		r = buf_add_str(b, ",\"layers\":[");
	for (size_t i = 0; i < d->n_layers && r == 0; i++) {
		if (i > 0)
			r = buf_add_str(b, ",");
		if (r == 0)
			r = add_desc(b, &d->layers[i].desc);
	}
	return r == 0 ? buf_add_str(b, "]}") : r;
}

static int src_root(struct image_src *s, struct image_desc *ret,
		    struct buf *doc, struct err *e)
{
	struct docker_src *d = (struct docker_src *)s;
	size_t start = doc->len;
	int r;

	forget(d);
	r = item_load(d, e);
	if (r < 0)
		return r;
	r = manifest_print(d, doc);
	if (r == 0)
		r = doc_describe(DOCKER_MANIFEST, doc->p + start,
				 doc->len - start, ret);
	return r < 0 ? err_set(e, r, "%s: %s", d->where, err_name(r)) : 0;
}

static int blob_open(struct docker_src *d, const struct image_desc *b,
		     struct span *ret, struct err *e)
{
	char digest[DIGEST_STR_BYTES];

	if (d->config != NULL &&
	    digest_equal(&d->config_desc.digest, &b->digest))
		return tarfile_find(d->tar, d->config, ret, e);
	for (size_t i = 0; i < d->n_layers; i++) {
		if (digest_equal(&d->layers[i].desc.digest, &b->digest))
			return tarfile_find(d->tar, d->layers[i].path, ret, e);
	}
	return err_set(e, -ENOENT, "%s: no blob %s", d->where,
		       digest_str(&b->digest, digest));
}

static int src_document(struct image_src *s, const struct image_desc *d,
			struct buf *doc, struct err *e)
{
	CLEANUP_SPAN struct span span = SPAN_NONE;
	int r = blob_open((struct docker_src *)s, d, &span, e);

	return r == 0 ? span_document(&span, "config", doc, e) : r;
}

static int src_blob(struct image_src *s, const struct image_desc *d,
		    struct image_read **ret, struct err *e)
{
	CLEANUP_SPAN struct span span = SPAN_NONE;
	int r = blob_open((struct docker_src *)s, d, &span, e);

	return r == 0 ? span_read(&span, ret, e) : r;
}

static int src_range(struct image_src *s, const struct image_desc *d,
		     uint64_t off, size_t n, struct buf *ret,
		     uint64_t *ret_size, struct err *e)
{
	CLEANUP_SPAN struct span span = SPAN_NONE;
	char digest[DIGEST_STR_BYTES];
	int r = blob_open((struct docker_src *)s, d, &span, e);

	return r == 0 ? span_range(&span, digest_str(&d->digest, digest), off,
				   n, ret, ret_size, e)
		      : r;
}

int docker_archive_src(const struct image_name *n, struct image_src **ret,
		       struct err *e)
{
	static const struct image_src_ops ops = {
		.root = src_root,
		.document = src_document,
		.blob = src_blob,
		.range = src_range,
		.close = src_close,
	};
	struct docker_src *d = calloc(1, sizeof(*d));
	int r;

	if (d == NULL)
		return err_no_memory(e);
	d->src.ops = &ops;
	d->where = strdup(n->path);
	d->tag = n->tag != NULL ? strdup(n->tag) : NULL;
	if (d->where == NULL || (n->tag != NULL && d->tag == NULL))
		r = err_no_memory(e);
	else
		r = tarfile_open(n->path, &d->tar, e);
	if (r < 0) {
		src_close(&d->src);
		return r;
	}
	*ret = &d->src;
	return 0;
}

/* ---- writing ----------------------------------------------------------- */

static const char *file_name(const struct digest *d, const char *suffix,
			     char *buf, size_t n)
{
	char hex[DIGEST_HEX_BYTES + 1];

	(void)snprintf(buf, n, "%s%s", digest_hex(d, hex), suffix);
	return buf;
}

static int dst_put(struct image_dst *d, const struct image_desc *b, int fd,
		   void (*progress)(void *arg, uint64_t bytes), void *arg,
		   struct err *e)
{
	struct archive_dst *a = (struct archive_dst *)d;
	char name[DIGEST_STR_BYTES];
	int r;

	if (archive_dst_has(d, b, e) > 0) {
		if (progress != NULL)
			progress(arg, b->size);
		return 0;
	}
	r = tarout_add_blob(a->out,
			    file_name(&b->digest, ".tar", name, sizeof(name)),
			    b, fd, progress, arg, e);
	return r == 0 ? archive_dst_note(a, &b->digest, e) : r;
}

static int dst_document(struct image_dst *d, const struct image_desc *b,
			const void *doc, struct err *e)
{
	struct archive_dst *a = (struct archive_dst *)d;
	char name[DIGEST_STR_BYTES];
	int r;

	if (archive_dst_has(d, b, e) > 0)
		return 0;
	r = tarout_add(a->out,
		       file_name(&b->digest, ".json", name, sizeof(name)), doc,
		       b->size, e);
	return r == 0 ? archive_dst_note(a, &b->digest, e) : r;
}

/* A blob that the manifest names, as a file that is there. */
static int refer_to(struct archive_dst *a, struct json_object *o,
		    const char *suffix, char *name, size_t n, struct err *e)
{
	CLEANUP(image_desc_done) struct image_desc d = {0};
	int r = doc_desc(o, "manifest", &d, e);

	if (r < 0)
		return r;
	if (d.media_type != NULL && strstr(d.media_type, "zstd") != NULL)
		return err_set(e, -EOPNOTSUPP,
			       "docker-archive: has no zstd layers");
	(void)file_name(&d.digest, suffix, name, n);
	if (archive_dst_has(&a->dst, &d, e) == 0)
		return err_set(e, -EBADMSG, "%s was not put", name);
	return 0;
}

/* manifest.json; @top: the file of the uppermost layer, "" where none. */
static int manifest_text(struct archive_dst *a, const char *doc, size_t n,
			 const char *tag, struct buf *ret, char *top,
			 size_t top_size, struct err *e)
{
	CLEANUP_DOC struct json_object *o = NULL;
	struct json_object *layers;
	char name[DIGEST_STR_BYTES];
	int r = doc_parse(doc, n, "manifest", &o, e);

	if (r < 0)
		return r;
	layers = doc_array(o, "layers");
	if (layers == NULL)
		return err_set(e, -EOPNOTSUPP,
			       "docker-archive: takes one image, no index");
	r = refer_to(a, doc_object(o, "config"), ".json", name, sizeof(name),
		     e);
	if (r < 0)
		return r;
	r = buf_addf(ret, "[{\"Config\":\"%s\",\"RepoTags\":[", name);
	if (r == 0 && tag != NULL)
		r = buf_add_json_str(ret, tag);
	if (r == 0)
		r = buf_add_str(ret, "],\"Layers\":[");
	top[0] = '\0';
	for (size_t i = 0; r == 0 && i < json_object_array_length(layers);
	     i++) {
		r = refer_to(a, json_object_array_get_idx(layers, i), ".tar",
			     name, sizeof(name), e);
		if (r < 0)
			return r;
		(void)snprintf(top, top_size, "%.*s", (int)DIGEST_HEX_BYTES,
			       name);
		r = buf_addf(ret, "%s\"%s\"", i > 0 ? "," : "", name);
	}
	if (r == 0)
		r = buf_add_str(ret, "]}]\n");
	return r < 0 ? err_set(e, r, "manifest.json: %s", err_name(r)) : 0;
}

/* {"docker.io/library/x":{"latest":"<top>"}}: only old readers want it. */
static int repositories(struct archive_dst *a, const char *tag, const char *top,
			struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT(KIB(8));
	const char *colon = tag != NULL ? strrchr(tag, ':') : NULL;
	int r;

	if (colon == NULL)
		return 0;
	r = buf_addf(&text, "{\"%.*s\":{\"%s\":\"%s\"}}\n", (int)(colon - tag),
		     tag, colon + 1, top);
	if (r < 0)
		return err_set(e, r, "repositories: %s", err_name(r));
	return tarout_add(a->out, "repositories", text.p, text.len, e);
}

static int dst_commit(struct image_dst *d, const struct image_desc *root,
		      const void *doc, struct err *e)
{
	struct archive_dst *a = (struct archive_dst *)d;
	CLEANUP_BUF struct buf text = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_FREE char *tag = NULL;
	char top[DIGEST_HEX_BYTES + 1];
	int r = 0;

	if (d->name.tag != NULL)
		r = full_name(d->name.tag, &tag, e);
	if (r == 0)
		r = manifest_text(a, doc, root->size, tag, &text, top,
				  sizeof(top), e);
	if (r == 0)
		r = tarout_add(a->out, "manifest.json", text.p, text.len, e);
	if (r == 0)
		r = repositories(a, tag, top, e);
	return r == 0 ? tarout_publish(a->out, e) : r;
}

int docker_archive_dst(const struct image_name *n, struct image_dst **ret,
		       struct err *e)
{
	static const struct image_dst_ops ops = {
		.has = archive_dst_has,
		.put = dst_put,
		.document = dst_document,
		.commit = dst_commit,
		.close = archive_dst_close,
	};
	CLEANUP_FREE char *tag = NULL;
	struct archive_dst *a;
	int r = 0;

	/* Before anything is written for nothing. */
	if (n->tag != NULL)
		r = full_name(n->tag, &tag, e);
	if (r == 0)
		r = archive_dst_new(n, &ops, &a, e);
	if (r == 0)
		*ret = &a->dst;
	return r;
}
