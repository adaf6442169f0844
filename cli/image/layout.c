/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/image/layout.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli/image/doc.h"
#include "common/io.h"
#include "common/limits.h"

/* Artifacts that do not say in index.json what they refer to are read. */
#define UNNAMED_ARTIFACTS_MAX 64

/* ---- reading ----------------------------------------------------------- */

/**
 * struct layout_src - a layout that is read
 * @where:	its path, for errors
 */
struct layout_src {
	struct image_src src;
	struct layout_files *files;
	char *where;
	char *tag;
};

static struct layout_src *src_of(struct image_src *s)
{
	return (struct layout_src *)s;
}

static int index_read(struct layout_src *l, struct json_object **ret,
		      struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_SPAN struct span s = SPAN_NONE;
	int r = l->files->open(l->files, "index.json", &s, e);

	if (r == -ENOENT)
		return err_set(e, r, "%s: no OCI layout: it has no index.json",
			       l->where);
	if (r == 0)
		r = span_document(&s, "index.json", &text, e);
	if (r == 0)
		r = layout_index_parse(text.p, text.len, ret, e);
	if (r < 0)
		(void)err_wrap(e, "%s", l->where);
	return r;
}

static int blob_open(struct layout_src *l, const struct image_desc *d,
		     struct span *ret, struct err *e)
{
	char path[LAYOUT_BLOB_BYTES], digest[DIGEST_STR_BYTES];
	int r = l->files->open(l->files, layout_blob_path(&d->digest, path),
			       ret, e);

	if (r == -ENOENT)
		return err_set(e, r, "%s: no blob %s", l->where,
			       digest_str(&d->digest, digest));
	if (r < 0)
		return err_wrap(e, "%s", l->where);
	return 0;
}

/* The descriptor that the name points to: as skopeo, without a tag the only
 * one there is. Artifacts are nobody's name. */
static struct json_object *root_find(struct json_object *index, const char *tag,
				     size_t *ret_n)
{
	struct json_object *list = doc_array(index, "manifests");
	struct json_object *found = NULL;

	*ret_n = 0;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		const char *name = doc_annotation(o, REF_NAME_ANNOTATION);

		if (tag != NULL ? name == NULL || strcmp(name, tag) != 0
				: doc_str(o, "artifactType") != NULL)
			continue;
		found = o;
		(*ret_n)++;
	}
	return found;
}

static int src_root(struct image_src *s, struct image_desc *ret,
		    struct buf *doc, struct err *e)
{
	struct layout_src *l = src_of(s);
	CLEANUP_DOC struct json_object *index = NULL;
	CLEANUP(image_desc_done) struct image_desc d = {0};
	CLEANUP_SPAN struct span span = SPAN_NONE;
	struct json_object *o;
	size_t n;
	int r = index_read(l, &index, e);

	if (r < 0)
		return r;
	o = root_find(index, l->tag, &n);
	if (n == 0 && l->tag != NULL)
		return err_set(e, -ENOENT, "%s: no image has the name %s",
			       l->where, l->tag);
	if (n == 0)
		return err_set(e, -ENOENT, "%s: no image is in it", l->where);
	if (n > 1 && l->tag != NULL)
		return err_set(e, -EBADMSG, "%s: %zu images have the name %s",
			       l->where, n, l->tag);
	if (n > 1)
		return err_set(e, -EINVAL,
			       "%s: %zu images are in it: say which, with :TAG",
			       l->where, n);
	r = doc_desc(o, "index.json", &d, e);
	if (r == 0)
		r = blob_open(l, &d, &span, e);
	if (r == 0)
		r = span_document(&span, l->where, doc, e);
	if (r < 0)
		return r;
	*ret = d;
	d = (struct image_desc){0};
	return 0;
}

static int src_document(struct image_src *s, const struct image_desc *d,
			struct buf *doc, struct err *e)
{
	struct layout_src *l = src_of(s);
	CLEANUP_SPAN struct span span = SPAN_NONE;
	int r = blob_open(l, d, &span, e);

	return r == 0 ? span_document(&span, l->where, doc, e) : r;
}

static int src_blob(struct image_src *s, const struct image_desc *d,
		    struct image_read **ret, struct err *e)
{
	CLEANUP_SPAN struct span span = SPAN_NONE;
	int r = blob_open(src_of(s), d, &span, e);

	return r == 0 ? span_read(&span, ret, e) : r;
}

static int src_range(struct image_src *s, const struct image_desc *d,
		     uint64_t off, size_t n, struct buf *ret,
		     uint64_t *ret_size, struct err *e)
{
	CLEANUP_SPAN struct span span = SPAN_NONE;
	char digest[DIGEST_STR_BYTES];
	int r = blob_open(src_of(s), d, &span, e);

	return r == 0 ? span_range(&span, digest_str(&d->digest, digest), off,
				   n, ret, ret_size, e)
		      : r;
}

/* Whether an artifact of index.json refers to an image. */
static bool refers(struct layout_src *l, struct json_object *o,
		   const char *subject, unsigned *n_read)
{
	CLEANUP_BUF struct buf text = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_DOC struct json_object *m = NULL;
	CLEANUP(image_desc_done) struct image_desc d = {0};
	const char *s = doc_annotation(o, LAYOUT_SUBJECT_ANNOTATION);

	if (doc_str(o, "artifactType") == NULL)
		return false;
	if (s == NULL && (*n_read)++ < UNNAMED_ARTIFACTS_MAX &&
	    doc_desc(o, "index.json", &d, NULL) == 0 &&
	    image_src_document(&l->src, &d, &text, NULL) == 0 &&
	    doc_parse(text.p, text.len, "artifact", &m, NULL) == 0)
		s = doc_str(doc_object(m, "subject"), "digest");
	return s != NULL && strcmp(s, subject) == 0;
}

static int src_referrers(struct image_src *s, const struct image_desc *subject,
			 struct buf *doc, struct err *e)
{
	struct layout_src *l = src_of(s);
	CLEANUP_DOC struct json_object *index = NULL;
	struct json_object *list;
	char digest[DIGEST_STR_BYTES];
	unsigned n_read = 0;
	int r = index_read(l, &index, e);

	if (r < 0)
		return r;
	list = doc_array(index, "manifests");
	(void)digest_str(&subject->digest, digest);
	for (size_t i = 0; i < json_object_array_length(list);) {
		if (refers(l, json_object_array_get_idx(list, i), digest,
			   &n_read))
			i++;
		else
			(void)json_object_array_del_idx(list, i, 1);
	}
	r = doc_print(index, doc);
	return r < 0 ? err_set(e, r, "index.json: %s", err_name(r)) : 0;
}

static void src_close(struct image_src *s)
{
	struct layout_src *l = src_of(s);

	l->files->close(l->files);
	free(l->where);
	free(l->tag);
	free(l);
}

int layout_src_over(struct layout_files *f, const struct image_name *n,
		    struct image_src **ret, struct err *e)
{
	static const struct image_src_ops ops = {
		.root = src_root,
		.document = src_document,
		.blob = src_blob,
		.range = src_range,
		.referrers = src_referrers,
		.close = src_close,
	};
	struct layout_src *l = calloc(1, sizeof(*l));

	if (l == NULL) {
		f->close(f);
		return err_no_memory(e);
	}
	l->src.ops = &ops;
	l->files = f;
	l->where = strdup(n->path);
	l->tag = n->tag != NULL ? strdup(n->tag) : NULL;
	if (l->where == NULL || (n->tag != NULL && l->tag == NULL)) {
		src_close(&l->src);
		return err_no_memory(e);
	}
	*ret = &l->src;
	return 0;
}

/* A directory's files. */
struct dir_files {
	struct layout_files files;
	int fd;
};

static int dir_open(struct layout_files *f, const char *path, struct span *ret,
		    struct err *e)
{
	const struct dir_files *d = (const struct dir_files *)f;
	uint64_t size;
	int fd = io_open_regular(d->fd, path, &size, e);

	if (fd < 0) {
		(void)err_wrap(e, "%s", path);
		return fd;
	}
	*ret = (struct span){.fd = fd, .size = size};
	return 0;
}

static void dir_close(struct layout_files *f)
{
	struct dir_files *d = (struct dir_files *)f;

	(void)close(d->fd);
	free(d);
}

int layout_src(const struct image_name *n, struct image_src **ret,
	       struct err *e)
{
	CLEANUP_CLOSE int fd =
		open(n->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dir_files *d;

	if (fd < 0)
		return err_set(e, -errno, "%s: %s", n->path, err_name(errno));
	d = calloc(1, sizeof(*d));
	if (d == NULL)
		return err_no_memory(e);
	d->files = (struct layout_files){.open = dir_open, .close = dir_close};
	d->fd = TAKE_FD(fd);
	return layout_src_over(&d->files, n, ret, e);
}
