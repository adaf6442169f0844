/* SPDX-License-Identifier: Apache-2.0 */
/* Archives: which kind, and those that are layouts in a tar. */
#include "config.h"

#include "cli/image/archive.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli/image/doc.h"
#include "cli/image/layout.h"
#include "cli/image/tarfile.h"
#include "common/limits.h"

/* ---- reading ----------------------------------------------------------- */

struct tar_files {
	struct layout_files files;
	struct tarfile *tar;
};

static int files_open(struct layout_files *f, const char *path,
		      struct span *ret, struct err *e)
{
	return tarfile_find(((struct tar_files *)f)->tar, path, ret, e);
}

static void files_close(struct layout_files *f)
{
	struct tar_files *t = (struct tar_files *)f;

	tarfile_close(t->tar);
	free(t);
}

static int oci_archive_src(const struct image_name *n, struct image_src **ret,
			   struct err *e)
{
	struct tar_files *t = calloc(1, sizeof(*t));
	int r;

	if (t == NULL)
		return err_no_memory(e);
	t->files = (struct layout_files){
		.open = files_open,
		.close = files_close,
	};
	r = tarfile_open(n->path, &t->tar, e);
	if (r < 0) {
		free(t);
		return r;
	}
	return layout_src_over(&t->files, n, ret, e);
}

int archive_src(const struct image_name *n, struct image_src **ret,
		struct err *e)
{
	return n->transport == IMAGE_OCI_ARCHIVE
		       ? oci_archive_src(n, ret, e)
		       : docker_archive_src(n, ret, e);
}

/* ---- writing ----------------------------------------------------------- */

int archive_dst_new(const struct image_name *n, const struct image_dst_ops *ops,
		    struct archive_dst **ret, struct err *e)
{
	struct archive_dst *a = calloc(1, sizeof(*a));
	int r;

	if (a == NULL)
		return err_no_memory(e);
	a->dst.ops = ops;
	r = tarout_open(n->path, &a->out, e);
	if (r < 0) {
		free(a);
		return r;
	}
	*ret = a;
	return 0;
}

void archive_dst_close(struct image_dst *d)
{
	struct archive_dst *a = (struct archive_dst *)d;

	tarout_close(a->out);
	(void)json_object_put(a->index);
	free(a->there);
	free(a);
}

int archive_dst_has(struct image_dst *d, const struct image_desc *b,
		    struct err *e)
{
	const struct archive_dst *a = (const struct archive_dst *)d;

	(void)e;
	for (size_t i = 0; i < a->n_there; i++) {
		if (digest_equal(&a->there[i], &b->digest))
			return 1;
	}
	return 0;
}

int archive_dst_note(struct archive_dst *a, const struct digest *d,
		     struct err *e)
{
	struct digest *p =
		reallocarray(a->there, a->n_there + 1, sizeof(*a->there));

	if (p == NULL)
		return err_no_memory(e);
	a->there = p;
	a->there[a->n_there++] = *d;
	return 0;
}

/* What comes after the archive was published goes into another one, which has
 * all of it but the index. */
static int reopen(struct archive_dst *a, struct err *e)
{
	int r;

	if (!a->published)
		return 0;
	r = tarout_again(a->out, a->end, e);
	if (r == 0)
		a->published = false;
	return r;
}

static int oci_put(struct image_dst *d, const struct image_desc *b, int fd,
		   void (*progress)(void *arg, uint64_t bytes), void *arg,
		   struct err *e)
{
	struct archive_dst *a = (struct archive_dst *)d;
	char path[LAYOUT_BLOB_BYTES];
	int r;

	if (archive_dst_has(d, b, e) > 0) {
		if (progress != NULL)
			progress(arg, b->size);
		return 0;
	}
	r = reopen(a, e);
	if (r == 0)
		r = tarout_add_blob(a->out, layout_blob_path(&b->digest, path),
				    b, fd, progress, arg, e);
	return r == 0 ? archive_dst_note(a, &b->digest, e) : r;
}

static int oci_document(struct image_dst *d, const struct image_desc *b,
			const void *doc, struct err *e)
{
	struct archive_dst *a = (struct archive_dst *)d;
	char path[LAYOUT_BLOB_BYTES];
	int r;

	if (archive_dst_has(d, b, e) > 0)
		return 0;
	r = reopen(a, e);
	if (r == 0)
		r = tarout_add(a->out, layout_blob_path(&b->digest, path), doc,
			       b->size, e);
	return r == 0 ? archive_dst_note(a, &b->digest, e) : r;
}

static int publish(struct archive_dst *a, struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT(MANIFEST_BYTES_MAX);
	int r = doc_print(a->index, &text);

	if (r < 0)
		return err_set(e, r, "index.json: %s", err_name(r));
	a->end = tarout_at(a->out);
	r = tarout_add(a->out, "index.json", text.p, text.len, e);
	if (r == 0)
		r = tarout_publish(a->out, e);
	a->published = r == 0;
	return r;
}

static int oci_commit(struct image_dst *d, const struct image_desc *root,
		      const void *doc, struct err *e)
{
	struct archive_dst *a = (struct archive_dst *)d;
	int r = oci_document(d, root, doc, e);

	if (r == 0)
		r = tarout_add(a->out, "oci-layout", LAYOUT_FILE,
			       strlen(LAYOUT_FILE), e);
	if (r < 0)
		return r;
	a->index = layout_index_new();
	if (a->index == NULL ||
	    layout_index_put(a->index, root, d->name.tag) < 0)
		return err_no_memory(e);
	return publish(a, e);
}

static int oci_keep(struct image_dst *d, struct err *e)
{
	struct archive_dst *a = (struct archive_dst *)d;

	return a->published ? 0 : publish(a, e);
}

static int oci_archive_dst(const struct image_name *n, struct image_dst **ret,
			   struct err *e)
{
	static const struct image_dst_ops ops = {
		.has = archive_dst_has,
		.put = oci_put,
		.document = oci_document,
		.commit = oci_commit,
		.keep = oci_keep,
		.close = archive_dst_close,
	};
	struct archive_dst *a;
	int r = archive_dst_new(n, &ops, &a, e);

	if (r == 0)
		*ret = &a->dst;
	return r;
}

int archive_dst(const struct image_name *n, struct image_dst **ret,
		struct err *e)
{
	return n->transport == IMAGE_OCI_ARCHIVE
		       ? oci_archive_dst(n, ret, e)
		       : docker_archive_dst(n, ret, e);
}
