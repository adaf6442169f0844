/* SPDX-License-Identifier: Apache-2.0 */
/* imgcopy SRC DST: an image from one place to another, through the functions of
 * cli/image; an index with all that it names. */
#include "config.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli/image/doc.h"
#include "cli/image/manifest.h"
#include "common/limits.h"

/* A layout has no types of docker. */
static bool to_oci(const struct image_name *n)
{
	return n->transport == IMAGE_OCI || n->transport == IMAGE_OCI_ARCHIVE;
}

/* @desc, @doc: of the manifest, and then of what it became. */
static int copy_image(struct image_src *s, struct image_dst *d,
		      struct image_desc *desc, struct buf *doc, bool oci,
		      struct err *e)
{
	CLEANUP_BUF struct buf config = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_MANIFEST struct manifest m = {0};
	int r = manifest_load(s, desc, doc->p, doc->len, &m, e);

	for (size_t i = 0; r == 0 && i < m.n_layers; i++)
		r = image_dst_copy(d, s, &m.layers[i].desc, NULL, NULL, e);
	if (r < 0)
		return r;
	buf_clear(doc);
	r = manifest_finish(&m, oci, &config, doc);
	if (r == 0)
		r = image_dst_document(d, &m.config_desc, config.p, e);
	image_desc_done(desc);
	return r == 0 ? image_desc_copy(&m.desc, desc) : r;
}

/* What is no image: a manifest with blobs of any kind. */
static int copy_other(struct image_src *s, struct image_dst *d,
		      const struct buf *doc, struct err *e)
{
	CLEANUP_DOC struct json_object *o = NULL;
	int r = doc_parse(doc->p, doc->len, "manifest", &o, e);
	struct json_object *list = r == 0 ? doc_array(o, "layers") : NULL;
	size_t n = list != NULL ? json_object_array_length(list) : 0;

	for (size_t i = 0; r == 0 && i <= n; i++) {
		CLEANUP(image_desc_done) struct image_desc b = {0};

		r = doc_desc(i < n ? json_object_array_get_idx(list, i)
				   : doc_object(o, "config"),
			     "manifest", &b, e);
		if (r == 0)
			r = image_dst_copy(d, s, &b, NULL, NULL, e);
	}
	return r;
}

static int copy_index(struct image_src *s, struct image_dst *d,
		      struct image_desc *desc, struct buf *doc, bool oci,
		      struct err *e)
{
	CLEANUP_INDEX struct index x = {0};
	int r = index_load(desc, doc->p, doc->len, &x, e);

	for (size_t i = 0; r == 0 && i < x.n; i++) {
		CLEANUP_BUF struct buf m = BUF_INIT(MANIFEST_BYTES_MAX);
		CLEANUP(image_desc_done) struct image_desc one = {0};

		r = image_desc_copy(&x.images[i].desc, &one);
		if (r == 0)
			r = image_src_document(s, &one, &m, e);
		if (r == 0)
			r = x.images[i].skip
				    ? copy_other(s, d, &m, e)
				    : copy_image(s, d, &one, &m, oci, e);
		if (r == 0)
			r = image_dst_document(d, &one, m.p, e);
		if (r == 0)
			r = index_set(&x, i, &one);
	}
	if (r < 0)
		return r;
	buf_clear(doc);
	image_desc_done(desc);
	r = index_finish(&x, oci, doc);
	return r == 0 ? image_desc_copy(&x.desc, desc) : r;
}

static int copy(const char *from, const char *to, struct err *e)
{
	CLEANUP_IMAGE_NAME struct image_name sn = {0}, dn = {0};
	CLEANUP(image_src_close_cleanup) struct image_src *s = NULL;
	CLEANUP(image_dst_close_cleanup) struct image_dst *d = NULL;
	CLEANUP(image_desc_done) struct image_desc root = {0};
	CLEANUP_BUF struct buf doc = BUF_INIT(MANIFEST_BYTES_MAX);
	const struct image_opts opts = {.plain_http = true};
	int r = image_name_parse(from, &sn, e);

	if (r == 0)
		r = image_name_parse(to, &dn, e);
	if (r == 0)
		r = image_src_open(&sn, &opts, &s, e);
	if (r == 0)
		r = image_src_root(s, &root, &doc, e);
	if (r == 0)
		r = image_dst_open(&dn, &opts, &d, e);
	if (r == 0 && media_type_is_index(root.media_type))
		r = copy_index(s, d, &root, &doc, to_oci(&dn), e);
	else if (r == 0)
		r = copy_image(s, d, &root, &doc, to_oci(&dn), e);
	return r == 0 ? image_dst_commit(d, &root, doc.p, e) : r;
}

int main(int argc, char **argv)
{
	struct err e = {0};

	if (argc != 3)
		return 2;
	if (copy(argv[1], argv[2], &e) < 0) {
		(void)fprintf(stderr, "imgcopy: %s\n", e.text);
		return 1;
	}
	return 0;
}
