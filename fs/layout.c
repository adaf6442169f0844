/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <json.h>
#include <stdio.h>
#include <string.h>

#include "common/io.h"
#include "common/limits.h"
#include "common/oci.h"

#define ARTIFACTS_MAX 64u /* looked at */

int layout_blob_path(const char *dir, const struct digest *d, char **ret)
{
	char hex[DIGEST_HEX_BYTES + 1];

	if (asprintf(ret, "%s/blobs/sha256/%s", dir, digest_hex(d, hex)) >= 0)
		return 0;
	*ret = NULL;
	return -ENOMEM;
}

int layout_document(const char *dir, const struct digest *d, const char *what,
		    struct buf *ret, struct err *e)
{
	struct sha256 *h CLEANUP(sha256_free_cleanup) = sha256_new();
	CLEANUP_FREE char *path = NULL;
	struct digest got;

	if (h == NULL || layout_blob_path(dir, d, &path) < 0)
		return err_no_memory(e);
	if (io_read_regular(AT_FDCWD, path, ret, e) < 0)
		return err_wrap(e, "%s %s", what, path);
	sha256_all(h, ret->p, ret->len, &got);
	if (!digest_equal(&got, d))
		return err_set(e, -EBADMSG, "%s %s does not have its digest",
			       what, path);
	return 0;
}

int layout_index(const char *dir, struct json_object **ret_doc,
		 struct json_object **ret_list, struct err *e)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_FREE char *path = NULL;
	struct json_object *doc;

	if (asprintf(&path, "%s/index.json", dir) < 0) {
		path = NULL;
		return err_no_memory(e);
	}
	if (io_read_regular(AT_FDCWD, path, &b, e) < 0)
		return err_wrap(e, "%s", path);
	doc = json_tokener_parse(b.p != NULL ? b.p : "");
	if (!json_object_object_get_ex(doc, "manifests", ret_list) ||
	    !json_object_is_type(*ret_list, json_type_array)) {
		(void)json_object_put(doc);
		return err_set(e, -EBADMSG, "%s: no manifests in it", path);
	}
	*ret_doc = doc;
	return 0;
}

/* ---- the trace --------------------------------------------------------- */

static const char *str_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) &&
			       json_object_is_type(v, json_type_string)
		       ? json_object_get_string(v)
		       : NULL;
}

static const char *note_of(struct json_object *o, const char *key)
{
	struct json_object *notes;

	return json_object_object_get_ex(o, "annotations", &notes)
		       ? str_of(notes, key)
		       : NULL;
}

/* Whether an entry is of an artifact with the trace of an image: of this one, or
 * it does not say of which. */
static bool may_be_its(struct json_object *o, const char *manifest)
{
	const char *type = str_of(o, "artifactType");
	const char *subject = note_of(o, OCI_LAYOUT_SUBJECT_ANNOTATION);

	return type != NULL && strcmp(type, OCI_TRACE_MEDIA_TYPE) == 0 &&
	       (subject == NULL || strcmp(subject, manifest) == 0);
}

/* What an entry leads to. Return: 0, -ENOENT (nothing of this image) */
static int follow(const char *dir, struct json_object *o,
		  const struct digest *manifest, struct digest *ret)
{
	CLEANUP_BUF struct buf b = BUF_INIT(REFERRERS_BYTES_MAX);
	const char *s = str_of(o, "digest");
	struct digest d;

	if (s == NULL || digest_parse(s, strlen(s), &d) < 0 ||
	    layout_document(dir, &d, "artifact", &b, NULL) < 0 ||
	    oci_artifact_parse(b.p != NULL ? b.p : "", b.len,
			       OCI_TRACE_MEDIA_TYPE, manifest, ret, NULL) < 0)
		return -ENOENT;
	return 0;
}

/* The newest of a list. Return: 0, -ENOENT */
static int newest(const char *dir, struct json_object *list,
		  const struct digest *manifest, struct digest *ret)
{
	char text[DIGEST_STR_BYTES];
	const char *best = NULL;
	unsigned looked = 0;

	digest_str(manifest, text);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		const char *when = note_of(o, OCI_CREATED_ANNOTATION);
		struct digest d;

		if (when == NULL)
			when = "";
		if (!may_be_its(o, text) || looked++ >= ARTIFACTS_MAX ||
		    (best != NULL && strcmp(when, best) < 0) ||
		    follow(dir, o, manifest, &d) < 0)
			continue;
		best = when;
		*ret = d;
	}
	return best != NULL ? 0 : -ENOENT;
}

static int find(const char *dir, const struct digest *manifest,
		struct digest *ret, struct err *e)
{
	struct json_object *doc, *list;
	int r = layout_index(dir, &doc, &list, e);

	if (r < 0)
		return r;
	r = newest(dir, list, manifest, ret);
	(void)json_object_put(doc);
	return r;
}

int layout_trace(const char *dir, const struct digest *manifest,
		 const struct digest *named, struct trace *ret, struct err *e)
{
	CLEANUP_BUF struct buf b = BUF_INIT(TRACE_BYTES_MAX);
	struct digest d;
	int r = 0;

	if (named != NULL)
		d = *named;
	else
		r = find(dir, manifest, &d, e);
	if (r == 0)
		r = layout_document(dir, &d, "trace", &b, e);
	return r == 0 ? trace_parse(b.p, b.len, ret, e) : r;
}
