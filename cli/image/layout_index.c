/* SPDX-License-Identifier: Apache-2.0 */
/* index.json of a layout. */
#include "config.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli/image/doc.h"
#include "cli/image/layout.h"

char *layout_blob_path(const struct digest *d, char *buf)
{
	char hex[DIGEST_HEX_BYTES + 1];

	(void)snprintf(buf, LAYOUT_BLOB_BYTES, LAYOUT_BLOBS "/%s",
		       digest_hex(d, hex));
	return buf;
}

int layout_index_parse(const char *doc, size_t len, struct json_object **ret,
		       struct err *e)
{
	CLEANUP_DOC struct json_object *o = NULL;
	struct json_object *list;
	int r = doc_parse(doc, len, "index.json", &o, e);

	if (r < 0)
		return r;
	list = doc_array(o, "manifests");
	if (list == NULL)
		return err_set(e, -EBADMSG, "index.json: no manifests");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		CLEANUP(image_desc_done) struct image_desc d = {0};

		r = doc_desc(json_object_array_get_idx(list, i), "index.json",
			     &d, e);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(o);
	return 0;
}

struct json_object *layout_index_new(void)
{
	CLEANUP_DOC struct json_object *o = json_object_new_object();
	struct json_object *version = json_object_new_int(2);
	struct json_object *list = json_object_new_array();

	if (o == NULL || version == NULL || list == NULL ||
	    json_object_object_add(o, "schemaVersion", version) < 0) {
		(void)json_object_put(version);
		(void)json_object_put(list);
		return NULL;
	}
	if (json_object_object_add(o, "manifests", list) < 0) {
		(void)json_object_put(list);
		return NULL;
	}
	return TAKE_PTR(o);
}

/* Whether a descriptor is of the image that a new one of this name replaces. */
static bool same_name(struct json_object *o, const char *tag)
{
	const char *name = doc_annotation(o, REF_NAME_ANNOTATION);

	if (tag == NULL || name == NULL)
		return tag == NULL && name == NULL &&
		       doc_str(o, "artifactType") == NULL;
	return strcmp(name, tag) == 0;
}

static void drop(struct json_object *list,
		 bool (*is)(struct json_object *o, const char *a,
			    const char *b),
		 const char *a, const char *b)
{
	for (size_t i = 0; i < json_object_array_length(list);) {
		if (is(json_object_array_get_idx(list, i), a, b))
			(void)json_object_array_del_idx(list, i, 1);
		else
			i++;
	}
}

static bool is_named(struct json_object *o, const char *tag, const char *b)
{
	(void)b;
	return same_name(o, tag);
}

static bool is_artifact(struct json_object *o, const char *subject,
			const char *type)
{
	const char *t = doc_str(o, "artifactType");
	const char *s = doc_annotation(o, LAYOUT_SUBJECT_ANNOTATION);

	return t != NULL && s != NULL && strcmp(t, type) == 0 &&
	       strcmp(s, subject) == 0;
}

static bool is_of(struct json_object *o, const char *digest, const char *b)
{
	const char *s = doc_str(o, "digest");

	(void)b;
	return s != NULL && strcmp(s, digest) == 0;
}

static bool refers_to(struct json_object *o, const char *subject, const char *b)
{
	const char *s = doc_annotation(o, LAYOUT_SUBJECT_ANNOTATION);

	(void)b;
	return s != NULL && strcmp(s, subject) == 0;
}

static struct json_object *find(struct json_object *list,
				bool (*is)(struct json_object *o, const char *a,
					   const char *b),
				const char *a)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		if (is(o, a, NULL))
			return o;
	}
	return NULL;
}

int layout_index_put(struct json_object *index, const struct image_desc *d,
		     const char *tag)
{
	struct json_object *list = doc_array(index, "manifests");
	CLEANUP_DOC struct json_object *o = json_object_new_object();
	CLEANUP_DOC struct json_object *old =
		json_object_get(find(list, is_named, tag));
	const char *was = old != NULL ? doc_str(old, "digest") : NULL;
	int r = o != NULL ? doc_desc_set(o, d) : -ENOMEM;

	if (r == 0)
		r = doc_annotate(o, REF_NAME_ANNOTATION, tag);
	if (r < 0)
		return r;
	drop(list, is_named, tag, NULL);
	if (json_object_array_add(list, o) < 0)
		return -ENOMEM;
	(void)TAKE_PTR(o);
	/* What refers to an image that nothing names any more. */
	if (was != NULL && find(list, is_of, was) == NULL)
		drop(list, refers_to, was, NULL);
	return 0;
}

int layout_index_refer(struct json_object *index, const struct image_desc *m,
		       const char *doc, const struct image_desc *subject,
		       const char *artifact_type, struct err *e)
{
	struct json_object *list = doc_array(index, "manifests");
	CLEANUP_DOC struct json_object *o = json_object_new_object();
	CLEANUP_DOC struct json_object *artifact = NULL;
	char digest[DIGEST_STR_BYTES];
	int r = doc_parse(doc, m->size, "artifact", &artifact, e);

	if (r < 0)
		return r;
	(void)digest_str(&subject->digest, digest);
	r = o != NULL ? doc_desc_set(o, m) : -ENOMEM;
	if (r == 0)
		r = doc_set_str(o, "artifactType", artifact_type);
	if (r == 0)
		r = doc_annotate(o, LAYOUT_SUBJECT_ANNOTATION, digest);
	if (r == 0)
		r = doc_annotate(o, CREATED_ANNOTATION,
				 doc_annotation(artifact, CREATED_ANNOTATION));
	if (r == 0) {
		drop(list, is_artifact, digest, artifact_type);
		r = json_object_array_add(list, o) < 0 ? -ENOMEM : 0;
	}
	if (r < 0)
		return err_no_memory(e);
	(void)TAKE_PTR(o);
	return 0;
}
