/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Artifacts that refer to an image: of image.h, over what any transport has.
 * Spec: OCI image-spec 1.1, "Guidelines for Artifact Usage"
 */
#include "config.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/image/doc.h"
#include "cli/image/image.h"
#include "cli/image/transport.h"
#include "common/limits.h"

static const char empty_config[] = "{}";

/* SOURCE_DATE_EPOCH, or now: tells the newest of several artifacts. */
static void created(char *buf, size_t n)
{
	const char *s = getenv("SOURCE_DATE_EPOCH");
	time_t t = time(NULL);
	struct tm tm;
	char *end;

	if (s != NULL && *s >= '0' && *s <= '9') {
		long long v = strtoll(s, &end, 10);

		if (*end == '\0')
			t = (time_t)v;
	}
	if (gmtime_r(&t, &tm) == NULL ||
	    strftime(buf, n, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		buf[0] = '\0';
}

/* Adds a descriptor under a key, or to an array. */
static int add_desc(struct json_object *to, const char *key,
		    const struct image_desc *d)
{
	struct json_object *o = json_object_new_object();
	int r = o != NULL ? doc_desc_set(o, d) : -ENOMEM;

	if (r == 0 && (key != NULL ? json_object_object_add(to, key, o)
				   : json_object_array_add(to, o)) < 0)
		r = -ENOMEM;
	if (r < 0)
		(void)json_object_put(o);
	return r;
}

static int artifact_print(const struct image_desc *subject, const char *type,
			  const struct image_desc *config,
			  const struct image_desc *b, struct buf *ret)
{
	CLEANUP_DOC struct json_object *o = json_object_new_object();
	struct json_object *layers = json_object_new_array();
	struct json_object *version = json_object_new_int(2);
	char when[32];
	int r;

	if (o == NULL || layers == NULL || version == NULL ||
	    json_object_object_add(o, "schemaVersion", version) < 0) {
		(void)json_object_put(layers);
		(void)json_object_put(version);
		return -ENOMEM;
	}
	r = doc_set_str(o, "mediaType", OCI_MANIFEST);
	if (r == 0)
		r = doc_set_str(o, "artifactType", type);
	if (r == 0)
		r = add_desc(o, "config", config);
	if (r == 0)
		r = add_desc(layers, NULL, b);
	if (r == 0 && json_object_object_add(o, "layers", layers) == 0)
		layers = NULL;
	else
		r = -ENOMEM;
	(void)json_object_put(layers);
	if (r == 0)
		r = add_desc(o, "subject", subject);
	created(when, sizeof(when));
	if (r == 0)
		r = doc_annotate(o, CREATED_ANNOTATION, when);
	return r == 0 ? doc_print(o, ret) : r;
}

int image_dst_refer(struct image_dst *d, const struct image_desc *subject,
		    const char *artifact_type, const struct image_desc *b,
		    const void *doc, struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP(image_desc_done) struct image_desc config = {0};
	CLEANUP(image_desc_done) struct image_desc m = {0};
	int r;

	assert(d->committed);
	if (d->ops->refer == NULL && d->ops->keep == NULL)
		return err_set(e, -EOPNOTSUPP,
			       "this kind of archive has no artifacts");
	if (d->ops->keep != NULL &&
	    (d->ops->refer == NULL || d->name.tag == NULL)) {
		r = image_dst_document(d, b, doc, e);
		return r == 0 ? d->ops->keep(d, e) : r;
	}
	r = doc_describe(OCI_EMPTY, empty_config, strlen(empty_config),
			 &config);
	if (r == 0)
		r = artifact_print(subject, artifact_type, &config, b, &text);
	if (r == 0)
		r = doc_describe(OCI_MANIFEST, text.p, text.len, &m);
	if (r < 0)
		return err_set(e, r, "artifact: %s", err_name(r));
	r = image_dst_document(d, b, doc, e);
	if (r == 0)
		r = image_dst_document(d, &config, empty_config, e);
	if (r == 0)
		r = d->ops->refer(d, subject, artifact_type, &m, text.p, e);
	return r;
}

/* The newest of a type in an index of referrers, or NULL. */
static struct json_object *newest(struct json_object *index, const char *type)
{
	struct json_object *list = doc_array(index, "manifests");
	struct json_object *best = NULL;
	const char *best_when = "";

	for (size_t i = 0; list != NULL && i < json_object_array_length(list);
	     i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		const char *t = doc_str(o, "artifactType");
		const char *when = doc_annotation(o, CREATED_ANNOTATION);

		if (t == NULL || strcmp(t, type) != 0)
			continue;
		if (when == NULL)
			when = "";
		if (best == NULL || strcmp(when, best_when) >= 0) {
			best = o;
			best_when = when;
		}
	}
	return best;
}

/* The one blob of an artifact, after a look at what it refers to. */
static int artifact_blob(const struct buf *doc,
			 const struct image_desc *subject, const char *type,
			 struct image_desc *ret, struct err *e)
{
	CLEANUP_DOC struct json_object *o = NULL;
	struct json_object *layers;
	CLEANUP(image_desc_done) struct image_desc of = {0};
	const char *t;
	int r = doc_parse(doc->p, doc->len, "artifact", &o, e);

	if (r < 0)
		return r;
	r = doc_desc(doc_object(o, "subject"), "artifact: subject", &of, e);
	if (r < 0)
		return r;
	if (!digest_equal(&of.digest, &subject->digest))
		return err_set(e, -EBADMSG, "artifact: of another image");
	t = doc_str(o, "artifactType");
	if (t == NULL)
		t = doc_str(doc_object(o, "config"), "mediaType");
	layers = doc_array(o, "layers");
	if (t == NULL || strcmp(t, type) != 0 || layers == NULL ||
	    json_object_array_length(layers) != 1)
		return err_set(e, -EBADMSG, "artifact: not a %s of one blob",
			       type);
	return doc_desc(json_object_array_get_idx(layers, 0), "artifact: blob",
			ret, e);
}

int image_src_whole(struct image_src *s, const struct image_desc *b,
		    struct buf *ret, struct err *e)
{
	CLEANUP(image_read_close_cleanup) struct image_read *in = NULL;
	size_t start = ret->len;
	char block[4096];
	ssize_t n;
	int r;

	if (b->size > ret->max - ret->len)
		return err_set(e, -EOVERFLOW, "blob: %" PRIu64 " bytes",
			       b->size);
	r = image_src_blob(s, b, &in, e);
	while (r == 0 &&
	       (n = image_read_some(in, block, sizeof(block), e)) != 0) {
		r = n < 0 ? (int)n : buf_add(ret, block, (size_t)n);
		if (r < 0 && n > 0)
			(void)err_set(e, r, "blob: %s", err_name(r));
	}
	if (r < 0)
		ret->len = start;
	return r;
}

int image_src_referrer(struct image_src *s, const struct image_desc *subject,
		       const char *artifact_type, struct buf *ret,
		       struct err *e)
{
	CLEANUP_BUF struct buf list = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_BUF struct buf doc = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_DOC struct json_object *index = NULL;
	CLEANUP(image_desc_done) struct image_desc m = {0};
	CLEANUP(image_desc_done) struct image_desc blob = {0};
	struct json_object *o;
	int r;

	if (s->ops->referrers == NULL)
		return -ENOENT;
	r = s->ops->referrers(s, subject, &list, e);
	if (r == 0)
		r = doc_parse(list.p, list.len, "list of artifacts", &index, e);
	if (r < 0)
		return r;
	o = newest(index, artifact_type);
	if (o == NULL)
		return err_set(e, -ENOENT, "no artifact %s", artifact_type);
	r = doc_desc(o, "list of artifacts", &m, e);
	if (r == 0)
		r = image_src_document(s, &m, &doc, e);
	if (r == 0)
		r = artifact_blob(&doc, subject, artifact_type, &blob, e);
	return r == 0 ? image_src_whole(s, &blob, ret, e) : r;
}
