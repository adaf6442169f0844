/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/image/doc.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "common/limits.h"

void doc_put(struct json_object **o)
{
	(void)json_object_put(*o);
	*o = NULL;
}

static size_t trimmed(const char *p, size_t n)
{
	while (n > 0 && strchr(" \t\r\n", p[n - 1]) != NULL && p[n - 1] != '\0')
		n--;
	return n;
}

static int parse(const char *doc, size_t len, const char *what,
		 enum json_type type, struct json_object **ret, struct err *e)
{
	CLEANUP_DOC struct json_object *o = NULL;
	struct json_tokener *t;
	enum json_tokener_error je;

	if (len > MANIFEST_BYTES_MAX)
		return err_set(e, -EOVERFLOW, "%s: %zu bytes, at most %u", what,
			       len, (unsigned)MANIFEST_BYTES_MAX);
	len = trimmed(doc, len);
	if (len == 0)
		return err_set(e, -EBADMSG, "%s: empty", what);
	if (memchr(doc, '\0', len) != NULL)
		return err_set(e, -EBADMSG, "%s: not JSON: a NUL byte", what);
	t = json_tokener_new_ex(DOC_DEPTH_MAX);
	if (t == NULL)
		return err_no_memory(e);
	json_tokener_set_flags(t, JSON_TOKENER_STRICT);
	o = json_tokener_parse_ex(t, doc, (int)len);
	je = json_tokener_get_error(t);
	json_tokener_free(t);
	if (je != json_tokener_success)
		return err_set(e, -EBADMSG, "%s: not JSON: %s", what,
			       je == json_tokener_continue
				       ? "it ends too early"
				       : json_tokener_error_desc(je));
	if (!json_object_is_type(o, type))
		return err_set(e, -EBADMSG, "%s: not a JSON %s", what,
			       json_type_to_name(type));
	*ret = TAKE_PTR(o);
	return 0;
}

int doc_parse(const char *doc, size_t len, const char *what,
	      struct json_object **ret, struct err *e)
{
	return parse(doc, len, what, json_type_object, ret, e);
}

int doc_parse_list(const char *doc, size_t len, const char *what,
		   struct json_object **ret, struct err *e)
{
	return parse(doc, len, what, json_type_array, ret, e);
}

static struct json_object *of_type(struct json_object *o, const char *key,
				   enum json_type type)
{
	struct json_object *v;

	if (!json_object_is_type(o, json_type_object) ||
	    !json_object_object_get_ex(o, key, &v) ||
	    !json_object_is_type(v, type))
		return NULL;
	return v;
}

const char *doc_str(struct json_object *o, const char *key)
{
	struct json_object *v = of_type(o, key, json_type_string);

	return v != NULL ? json_object_get_string(v) : NULL;
}

struct json_object *doc_object(struct json_object *o, const char *key)
{
	return of_type(o, key, json_type_object);
}

struct json_object *doc_array(struct json_object *o, const char *key)
{
	return of_type(o, key, json_type_array);
}

const char *doc_annotation(struct json_object *o, const char *key)
{
	return doc_str(doc_object(o, "annotations"), key);
}

int doc_desc(struct json_object *o, const char *what, struct image_desc *ret,
	     struct err *e)
{
	const char *digest = doc_str(o, "digest");
	const char *type = doc_str(o, "mediaType");
	struct json_object *size = of_type(o, "size", json_type_int);
	struct image_desc d = {0};
	int r;

	if (digest == NULL)
		return err_set(e, -EBADMSG, "%s: no digest", what);
	r = digest_parse(digest, strlen(digest), &d.digest);
	if (r < 0)
		return err_set(e, r, "%s: digest %.80s: %s", what, digest,
			       r == -EOPNOTSUPP ? "another algorithm than "
						  "sha256"
						: "malformed");
	if (size == NULL || json_object_get_int64(size) < 0)
		return err_set(e, -EBADMSG, "%s: no size", what);
	d.size = json_object_get_uint64(size);
	if (type != NULL) {
		d.media_type = strdup(type);
		if (d.media_type == NULL)
			return err_no_memory(e);
	}
	*ret = d;
	return 0;
}

int doc_set_str(struct json_object *o, const char *key, const char *value)
{
	struct json_object *v;

	if (value == NULL) {
		json_object_object_del(o, key);
		return 0;
	}
	v = json_object_new_string(value);
	if (v == NULL)
		return -ENOMEM;
	if (json_object_object_add(o, key, v) < 0) {
		(void)json_object_put(v);
		return -ENOMEM;
	}
	return 0;
}

int doc_annotate(struct json_object *o, const char *key, const char *value)
{
	struct json_object *notes = doc_object(o, "annotations");
	int r;

	if (notes == NULL && value == NULL)
		return 0;
	if (notes == NULL) {
		notes = json_object_new_object();
		if (notes == NULL)
			return -ENOMEM;
		if (json_object_object_add(o, "annotations", notes) < 0) {
			(void)json_object_put(notes);
			return -ENOMEM;
		}
	}
	r = doc_set_str(notes, key, value);
	if (json_object_object_length(notes) == 0)
		json_object_object_del(o, "annotations");
	return r;
}

int doc_desc_set(struct json_object *o, const struct image_desc *d)
{
	char digest[DIGEST_STR_BYTES];
	struct json_object *size;
	int r = 0;

	if (d->media_type != NULL)
		r = doc_set_str(o, "mediaType", d->media_type);
	if (r == 0)
		r = doc_set_str(o, "digest", digest_str(&d->digest, digest));
	if (r < 0)
		return r;
	size = json_object_new_uint64(d->size);
	if (size == NULL)
		return -ENOMEM;
	if (json_object_object_add(o, "size", size) < 0) {
		(void)json_object_put(size);
		return -ENOMEM;
	}
	return 0;
}

int doc_print(struct json_object *o, struct buf *ret)
{
	size_t n;
	const char *s = json_object_to_json_string_length(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &n);

	return s != NULL ? buf_add(ret, s, n) : -ENOMEM;
}

const char *doc_media_type(struct json_object *o)
{
	const char *s = doc_str(o, "mediaType");

	if (s != NULL)
		return s;
	if (doc_array(o, "manifests") != NULL)
		return OCI_INDEX;
	return doc_array(o, "layers") != NULL ? OCI_MANIFEST : NULL;
}

int doc_digest(const void *p, size_t n, struct digest *ret)
{
	struct sha256 *h = sha256_new();

	if (h == NULL)
		return -ENOMEM;
	sha256_all(h, p, n, ret);
	sha256_free(h);
	return 0;
}

int doc_describe(const char *media_type, const void *p, size_t n,
		 struct image_desc *ret)
{
	struct image_desc d = {.size = n, .media_type = strdup(media_type)};
	int r = d.media_type != NULL ? doc_digest(p, n, &d.digest) : -ENOMEM;

	if (r < 0) {
		image_desc_done(&d);
		return r;
	}
	*ret = d;
	return 0;
}
