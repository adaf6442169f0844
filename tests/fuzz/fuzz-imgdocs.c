/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests, indexes, configs and index.json of a layout: two documents, the
 * second, behind a NUL, being the config. */
#include "config.h"

#include <json-c/json.h>
#include <string.h>

#include "cli/image/doc.h"
#include "cli/image/layout.h"
#include "cli/image/manifest.h"
#include "cli/image/transport.h"
#include "common/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct one {
	struct image_src src;
	const char *config;
	size_t len;
};

/* Its digest is whatever the manifest says: only the shape is of interest. */
static int one_document(struct image_src *s, const struct image_desc *d,
			struct buf *doc, struct err *e)
{
	const struct one *o = (const struct one *)s;

	(void)d;
	(void)e;
	return buf_add(doc, o->config, o->len);
}

static void manifest(const char *p, size_t len, const char *config,
		     size_t config_len)
{
	static const struct image_src_ops ops = {.document = one_document};
	struct one o = {.src.ops = &ops, .config = config, .len = config_len};
	struct image_desc d = {.size = len};
	struct manifest m;
	struct err e = {0};
	CLEANUP_BUF struct buf c = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP_BUF struct buf t = BUF_INIT(MANIFEST_BYTES_MAX);
	struct digest id = {{1}};

	assert(doc_digest(p, len, &d.digest) == 0);
	if (manifest_load(&o.src, &d, p, len, &m, &e) < 0) {
		assert(e.code < 0);
		assert(e.text[0] != '\0');
		return;
	}
	for (size_t i = 0; i < m.n_layers; i++) {
		const char *notes[] = {ANNOTATION_TOC_DIGEST, NULL, "k", "v"};
		struct image_desc l = m.layers[i].desc;

		l.size++;
		assert(manifest_set_layer(&m, i, &l, &id, notes, 2) == 0);
		assert(!m.layers[i].has_toc_digest);
	}
	assert(manifest_finish(&m, true, &c, &t) == 0);
	assert(m.desc.size == t.len);
	manifest_done(&m);
}

static void index_(const char *p, size_t len)
{
	CLEANUP_BUF struct buf t = BUF_INIT(MANIFEST_BYTES_MAX);
	struct image_desc d = {.size = len};
	struct platform here;
	struct index x;
	struct err e = {0};
	ssize_t i;

	if (index_load(&d, p, len, &x, &e) < 0) {
		assert(e.code < 0);
		return;
	}
	platform_here(&here);
	i = index_find(&x, &here, &e);
	assert(i < (ssize_t)x.n);
	if (i >= 0) {
		struct image_desc new_ = {.size = 7};

		assert(!x.images[i].skip);
		assert(index_set(&x, (size_t)i, &new_) == 0);
	}
	if (x.n > 0)
		assert(index_set(&x, 0, NULL) == 0);
	assert(index_finish(&x, true, &t) == 0);
	index_done(&x);
}

static void layout(const char *p, size_t len)
{
	CLEANUP_DOC struct json_object *o = NULL;
	struct image_desc d = {.size = 3};
	struct err e = {0};

	if (layout_index_parse(p, len, &o, &e) == 0) {
		assert(layout_index_put(o, &d, "tag") == 0);
		assert(layout_index_put(o, &d, NULL) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *p = malloc(size + 1);
	size_t len;

	assert(p != NULL);
	memcpy(p, data, size);
	p[size] = '\0';
	len = strlen(p);
	manifest(p, len, len < size ? p + len + 1 : "",
		 len < size ? size - len - 1 : 0);
	index_(p, len);
	layout(p, len);
	return 0;
}
