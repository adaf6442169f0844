/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/source.h"

#include <json.h>
#include <stdio.h>

#include "cli/image/doc.h"
#include "common/limits.h"

void source_opts_init(struct source_opts *o)
{
	*o = (struct source_opts){0};
	platform_here(&o->platform);
}

int source_opts_take(struct source_opts *o, int c, const char *value,
		     struct err *e)
{
	if (c == SOURCE_PLATFORM)
		return platform_parse(value, &o->platform, e) < 0 ? -EINVAL : 1;
	return regopts_take(&o->image, c, value) ? 1 : 0;
}

void source_close(struct source *s)
{
	manifest_done(&s->m);
	image_desc_done(&s->root);
	image_src_close(s->src);
	*s = (struct source){0};
}

static void note_platform(struct source *s)
{
	const char *os = doc_str(s->m.config, "os");
	const char *arch = doc_str(s->m.config, "architecture");
	const char *variant = doc_str(s->m.config, "variant");

	if (os != NULL && arch != NULL)
		(void)snprintf(s->platform, sizeof(s->platform),
			       "%.31s/%.31s%s%.31s", os, arch,
			       variant != NULL && *variant != '\0' ? "/" : "",
			       variant != NULL ? variant : "");
	err_sanitize(s->platform);
}

static int open_of_index(struct source *s, const struct source_opts *o,
			 const struct buf *doc, struct err *e)
{
	CLEANUP_INDEX struct index x = {0};
	CLEANUP_BUF struct buf text = BUF_INIT(MANIFEST_BYTES_MAX);
	ssize_t i;
	int r = index_load(&s->root, doc->p, doc->len, &x, e);

	if (r < 0)
		return r;
	i = index_find(&x, &o->platform, e);
	if (i < 0)
		return (int)i;
	s->is_index = true;
	r = image_src_document(s->src, &x.images[i].desc, &text, e);
	return r == 0 ? manifest_load(s->src, &x.images[i].desc, text.p,
				      text.len, &s->m, e)
		      : r;
}

int source_open(const char *name, const struct source_opts *o,
		struct source *ret, struct err *e)
{
	CLEANUP_IMAGE_NAME struct image_name n = {0};
	CLEANUP_SOURCE struct source s = {0};
	CLEANUP_BUF struct buf doc = BUF_INIT(MANIFEST_BYTES_MAX);
	int r = image_name_parse(name, &n, e);

	if (r < 0)
		return r;
	r = image_src_open(&n, &o->image, &s.src, e);
	if (r == 0)
		r = image_src_root(s.src, &s.root, &doc, e);
	if (r == 0)
		r = media_type_is_index(s.root.media_type)
			    ? open_of_index(&s, o, &doc, e)
			    : manifest_load(s.src, &s.root, doc.p, doc.len,
					    &s.m, e);
	if (r < 0)
		return r;
	note_platform(&s);
	*ret = s;
	s = (struct source){0};
	return 0;
}

struct at {
	struct source *s;
	const struct image_desc *d;
};

static int range(void *arg, uint64_t off, size_t n, struct buf *ret,
		 uint64_t *ret_size, struct err *e)
{
	const struct at *a = arg;

	return image_src_range(a->s->src, a->d, off, n, ret, ret_size, e);
}

int source_layer(struct source *s, size_t i, struct layerinfo *ret,
		 struct err *e)
{
	const struct manifest_layer *l = &s->m.layers[i];
	struct at a = {.s = s, .d = &l->desc};
	const struct layer_in in = {.range = range, .arg = &a};

	return layerinfo_read(&in, l->desc.size,
			      l->has_toc_digest ? &l->toc_digest : NULL, ret,
			      e);
}
