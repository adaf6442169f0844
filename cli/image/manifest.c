/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/image/manifest.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli/image/doc.h"
#include "common/limits.h"

/* ---- media types ------------------------------------------------------- */

bool media_type_is_index(const char *media_type)
{
	return media_type != NULL && (strcmp(media_type, OCI_INDEX) == 0 ||
				      strcmp(media_type, DOCKER_LIST) == 0);
}

/* What OCI calls a type of docker; the same where it is one of OCI. */
static const char *oci_type(const char *type)
{
	static const struct {
		const char *docker;
		const char *oci;
	} types[] = {
		{DOCKER_MANIFEST, OCI_MANIFEST},
		{DOCKER_LIST, OCI_INDEX},
		{DOCKER_CONFIG, OCI_CONFIG},
		{DOCKER_LAYER, OCI_LAYER},
		{DOCKER_LAYER ".gzip", OCI_LAYER "+gzip"},
		{DOCKER_LAYER ".zstd", OCI_LAYER "+zstd"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (strcmp(types[i].docker, type) == 0)
			return types[i].oci;
	}
	return type;
}

static bool layer_type_known(const char *type)
{
	static const char *const known[] = {
		OCI_LAYER,    OCI_LAYER "+gzip",    OCI_LAYER "+zstd",
		DOCKER_LAYER, DOCKER_LAYER ".gzip", DOCKER_LAYER ".zstd",
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strcmp(known[i], type) == 0)
			return true;
	}
	return false;
}

/* ---- loading ----------------------------------------------------------- */

void manifest_done(struct manifest *m)
{
	for (size_t i = 0; i < m->n_layers; i++)
		image_desc_done(&m->layers[i].desc);
	free(m->layers);
	free(m->diff_ids);
	image_desc_done(&m->desc);
	image_desc_done(&m->config_desc);
	(void)json_object_put(m->json);
	(void)json_object_put(m->config);
	buf_done(&m->json_text);
	buf_done(&m->config_text);
	*m = (struct manifest){0};
}

static void annotated(struct json_object *o, struct manifest_layer *l)
{
	const char *s = doc_annotation(o, ANNOTATION_TOC_DIGEST);

	l->has_toc_digest =
		s != NULL && digest_parse(s, strlen(s), &l->toc_digest) == 0;
	s = doc_annotation(o, ANNOTATION_TAILS);
	oci_tails_parse(s != NULL ? s : "", &l->tail, 1);
}

static int layer_load(struct json_object *o, size_t i, struct manifest_layer *l,
		      struct err *e)
{
	char what[64];
	int r;

	(void)snprintf(what, sizeof(what), "manifest: layer %zu", i);
	r = doc_desc(o, what, &l->desc, e);
	if (r < 0)
		return r;
	if (l->desc.media_type == NULL)
		return err_set(e, -EBADMSG, "%s: no media type", what);
	if (!layer_type_known(l->desc.media_type))
		return err_set(e, -EOPNOTSUPP, "%s: media type %.80s", what,
			       l->desc.media_type);
	annotated(o, l);
	return 0;
}

static int layers_load(struct manifest *m, struct err *e)
{
	struct json_object *list = doc_array(m->json, "layers");
	size_t n;

	if (list == NULL)
		return err_set(e, -EBADMSG, "manifest: no layers");
	n = json_object_array_length(list);
	if (n > MANIFEST_LAYERS_MAX)
		return err_set(e, -EOVERFLOW, "manifest: %zu layers", n);
	m->layers = calloc(n + 1, sizeof(*m->layers));
	m->diff_ids = calloc(n + 1, sizeof(*m->diff_ids));
	if (m->layers == NULL || m->diff_ids == NULL)
		return err_no_memory(e);
	for (size_t i = 0; i < n; i++) {
		int r = layer_load(json_object_array_get_idx(list, i), i,
				   &m->layers[i], e);

		m->n_layers = i + 1;
		if (r < 0)
			return r;
	}
	return 0;
}

/* What a document is that says it is a manifest. */
static int manifest_check(struct manifest *m, struct err *e)
{
	struct json_object *version;
	const char *type = doc_str(m->json, "mediaType");

	if (!json_object_object_get_ex(m->json, "schemaVersion", &version) ||
	    !json_object_is_type(version, json_type_int))
		return err_set(e, -EBADMSG, "manifest: no schemaVersion");
	if (json_object_get_int(version) != 2)
		return err_set(e, -EOPNOTSUPP, "manifest: schema %d",
			       json_object_get_int(version));
	/* One document that is two things would be read differently by others:
	 * CVE-2021-41190. */
	if (json_object_object_get_ex(m->json, "manifests", NULL))
		return err_set(e, -EBADMSG,
			       "manifest: it has layers and manifests");
	if (type == NULL)
		type = m->desc.media_type;
	if (type != NULL && type[0] != '\0' &&
	    strcmp(oci_type(type), OCI_MANIFEST) != 0)
		return err_set(e, -EOPNOTSUPP, "manifest: media type %.80s",
			       type);
	return 0;
}

static int config_desc_load(struct manifest *m, struct err *e)
{
	int r = doc_desc(doc_object(m->json, "config"), "manifest: config",
			 &m->config_desc, e);

	if (r < 0)
		return r;
	if (m->config_desc.media_type == NULL)
		return err_set(e, -EBADMSG, "manifest: config: no media type");
	if (strcmp(oci_type(m->config_desc.media_type), OCI_CONFIG) != 0)
		return err_set(e, -EOPNOTSUPP,
			       "no image: its config is of the type %.80s",
			       m->config_desc.media_type);
	return 0;
}

static int diff_ids_load(struct manifest *m, struct err *e)
{
	struct json_object *list =
		doc_array(doc_object(m->config, "rootfs"), "diff_ids");
	size_t n;

	if (list == NULL)
		return err_set(e, -EBADMSG, "config: no diff_ids");
	n = json_object_array_length(list);
	if (n != m->n_layers)
		return err_set(e, -EBADMSG,
			       "config: %zu diff_ids, manifest: %zu layers", n,
			       m->n_layers);
	for (size_t i = 0; i < n; i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		int r = -EBADMSG;

		if (json_object_is_type(v, json_type_string))
			r = digest_parse(json_object_get_string(v),
					 (size_t)json_object_get_string_len(v),
					 &m->diff_ids[i]);
		if (r < 0)
			return err_set(e, r, "config: bad diff_id of layer %zu",
				       i);
	}
	return 0;
}

static int load(struct image_src *s, const char *doc, size_t len,
		struct manifest *m, struct err *e)
{
	int r = doc_parse(doc, len, "manifest", &m->json, e);

	if (r == 0)
		r = manifest_check(m, e);
	if (r == 0)
		r = config_desc_load(m, e);
	if (r == 0)
		r = layers_load(m, e);
	if (r < 0)
		return r;
	r = buf_add(&m->json_text, doc, len);
	if (r < 0)
		return err_set(e, r, "manifest: %s", err_name(r));
	r = image_src_document(s, &m->config_desc, &m->config_text, e);
	if (r == 0)
		r = doc_parse(m->config_text.p, m->config_text.len, "config",
			      &m->config, e);
	return r == 0 ? diff_ids_load(m, e) : r;
}

int manifest_load(struct image_src *s, const struct image_desc *desc,
		  const char *doc, size_t len, struct manifest *ret,
		  struct err *e)
{
	struct manifest m = {
		.json_text = BUF_INIT(MANIFEST_BYTES_MAX),
		.config_text = BUF_INIT(MANIFEST_BYTES_MAX),
	};
	int r = image_desc_copy(desc, &m.desc);

	if (r < 0)
		(void)err_no_memory(e);
	else
		r = load(s, doc, len, &m, e);
	if (r < 0) {
		manifest_done(&m);
		return r;
	}
	*ret = m;
	return 0;
}

/* ---- the trace --------------------------------------------------------- */

const char *manifest_trace_named(const struct manifest *m)
{
	struct json_object *list = doc_array(m->json, "layers");
	const char *s = NULL;

	for (size_t i = 0; s == NULL && i < m->n_layers; i++)
		s = doc_annotation(json_object_array_get_idx(list, i),
				   ANNOTATION_TRACE_DIGEST);
	return s;
}

int manifest_trace(struct image_src *s, const struct manifest *m,
		   const struct image_desc *subject, struct buf *ret,
		   struct err *e)
{
	const char *named = manifest_trace_named(m);
	struct image_desc blob = {0};
	struct err why = {0};
	int r = image_src_referrer(s, subject, TRACE_MEDIA_TYPE, ret, e);

	if (r != -ENOENT || named == NULL ||
	    digest_parse(named, strlen(named), &blob.digest) < 0)
		return r;
	r = image_src_whole(s, &blob, ret, &why);
	/* That there is no artifact is what is said then. */
	if (r < 0 && r != -ENOENT)
		*e = why;
	return r;
}

/* ---- changing ---------------------------------------------------------- */

int manifest_set_layer(struct manifest *m, size_t i,
		       const struct image_desc *new_,
		       const struct digest *diff_id,
		       const char *const *annotations, size_t n)
{
	struct json_object *o, *ids, *id;
	struct image_desc d;
	char digest[DIGEST_STR_BYTES];
	int r;

	assert(i < m->n_layers);
	o = json_object_array_get_idx(doc_array(m->json, "layers"), i);
	ids = doc_array(doc_object(m->config, "rootfs"), "diff_ids");
	id = json_object_new_string(digest_str(diff_id, digest));
	if (id == NULL)
		return -ENOMEM;
	if (json_object_array_put_idx(ids, i, id) < 0) {
		(void)json_object_put(id);
		return -ENOMEM;
	}
	r = doc_desc_set(o, new_);
	/* Where another blob was to be had, this one is not. */
	json_object_object_del(o, "urls");
	for (size_t k = 0; k < n && r == 0; k++)
		r = doc_annotate(o, annotations[2 * k], annotations[2 * k + 1]);
	if (r == 0)
		r = image_desc_copy(new_, &d);
	if (r < 0)
		return r;
	if (d.media_type == NULL)
		d.media_type = TAKE_PTR(m->layers[i].desc.media_type);
	image_desc_done(&m->layers[i].desc);
	m->layers[i].desc = d;
	annotated(o, &m->layers[i]);
	m->config_changed |= !digest_equal(&m->diff_ids[i], diff_id);
	m->diff_ids[i] = *diff_id;
	m->changed = true;
	return 0;
}

/* Gives a key of docker's types its name in OCI. */
static int to_oci(struct json_object *o, bool *changed)
{
	const char *type = doc_str(o, "mediaType");

	if (type == NULL || oci_type(type) == type)
		return 0;
	*changed = true;
	return doc_set_str(o, "mediaType", oci_type(type));
}

static int desc_renew(struct image_desc *d, const char *media_type,
		      const char *p, size_t n)
{
	struct image_desc new_;
	int r = doc_describe(media_type, p, n, &new_);

	if (r < 0)
		return r;
	image_desc_done(d);
	*d = new_;
	return 0;
}

static int all_to_oci(struct manifest *m)
{
	struct json_object *layers = doc_array(m->json, "layers");
	int r = to_oci(m->json, &m->changed);

	if (r == 0)
		r = to_oci(doc_object(m->json, "config"), &m->changed);
	for (size_t i = 0; i < m->n_layers && r == 0; i++)
		r = to_oci(json_object_array_get_idx(layers, i), &m->changed);
	return r;
}

/* The bytes as they were, where nothing was changed in them. */
static int text(struct json_object *o, const struct buf *was, bool changed,
		struct buf *ret)
{
	return changed ? doc_print(o, ret) : buf_add(ret, was->p, was->len);
}

int manifest_finish(struct manifest *m, bool oci, struct buf *ret_config,
		    struct buf *ret_manifest)
{
	size_t c = ret_config->len, d = ret_manifest->len;
	const char *type;
	int r = oci ? all_to_oci(m) : 0;

	if (r == 0)
		r = text(m->config, &m->config_text, m->config_changed,
			 ret_config);
	if (r == 0)
		r = desc_renew(
			&m->config_desc,
			doc_str(doc_object(m->json, "config"), "mediaType"),
			ret_config->p + c, ret_config->len - c);
	if (r == 0 && m->config_changed)
		r = doc_desc_set(doc_object(m->json, "config"),
				 &m->config_desc);
	if (r == 0)
		r = text(m->json, &m->json_text,
			 m->changed || m->config_changed, ret_manifest);
	if (r < 0)
		return r;
	type = doc_str(m->json, "mediaType");
	if (type == NULL)
		type = OCI_MANIFEST;
	return desc_renew(&m->desc, type, ret_manifest->p + d,
			  ret_manifest->len - d);
}
