/* SPDX-License-Identifier: Apache-2.0 */
/* Chains of layers made by hand, and what they are merged to. */
#ifndef TESTS_UNIT_MKSTACK_H
#define TESTS_UNIT_MKSTACK_H

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/chunks.h"
#include "common/codec.h"
#include "common/erofs_format.h"
#include "common/index.h"
#include "common/limits.h"
#include "common/merge.h"
#include "tests/unit/mktoc.h"

#define MKSTACK_MAX 32u

struct mkstack {
	struct merge_layer layers[MKSTACK_MAX]; /* topmost first */
	struct buf meta[MKSTACK_MAX];
	size_t n;
	bool user;
	struct digest key;
	struct buf out;
	struct erofs_image im; /* of out */
	struct err e;
};

/* One word of an entry, ended by a space or the end; moves *@at behind it. */
static inline char *mkstack_word(char **at)
{
	char *w = strsep(at, " ");

	assert(w != NULL);
	return w;
}

/*
 * A layer below those that are there. @spec: entries, one a line: "d PATH", "f PATH
 * BYTES", "s PATH TARGET", "h PATH OF", "c PATH", and "x NAME VALUE" for
 * an attribute of the entry before it. Whiteouts as tars have them.
 */
static inline void mkstack_add(struct mkstack *s, const char *spec)
{
	static struct toc_xattr xattrs[64];
	char *text = strdup(spec), *rest = text, *line;
	struct buf table = BUF_INIT(EROFS_META_BYTES_MAX);
	struct merge_layer *l = &s->layers[s->n];
	struct mktoc m = {0};
	struct toc_entry *en = NULL;
	struct index_in in = {
		.toc = &m.toc,
		.toc_digest = &l->toc_digest,
		.blob_size = 200000000,
		.toc_off = 100000000,
		.codec = CODEC_GZIP,
		.opaque_user = s->user,
	};
	size_t n_xattrs = 0;

	assert(text != NULL && s->n < MKSTACK_MAX);
	l->toc_digest.b[0] = (uint8_t)s->n;
	while ((line = strsep(&rest, "\n")) != NULL) {
		char *at = line, *kind = mkstack_word(&at), *path;

		if (*kind == '\0')
			continue;
		path = mkstack_word(&at);
		if (*kind == 'd')
			en = mktoc_add(&m, TOC_DIR, path);
		else if (*kind == 'f')
			en = mktoc_reg(&m, path, strtoull(at, NULL, 10));
		else if (*kind == 's')
			en = mktoc_link(&m, TOC_SYMLINK, path, at);
		else if (*kind == 'h')
			en = mktoc_link(&m, TOC_HARDLINK, path, at);
		else if (*kind == 'c')
			en = mktoc_add(&m, TOC_CHAR, path), en->devmajor = 1;
		else {
			struct toc_xattr *x = &xattrs[n_xattrs++];

			assert(*kind == 'x' && n_xattrs < 64);
			x->name = path;
			x->value = (const uint8_t *)at;
			x->value_len = (uint32_t)strlen(at);
			en->xattrs = x;
			en->n_xattrs = 1;
			continue;
		}
		en->mtime = (int64_t)s->n;
		en->uid = (uint32_t)s->n;
	}
	s->meta[s->n] = BUF_INIT(EROFS_META_BYTES_MAX);
	if (index_build(&in, &s->meta[s->n], &table, &s->e) < 0 ||
	    erofs_open(&l->im, s->meta[s->n].p, s->meta[s->n].len, &s->e) < 0) {
		(void)fprintf(stderr, "%s\n", s->e.text);
		abort();
	}
	s->n++;
	buf_done(&table);
	mktoc_done(&m);
	free(text);
}

static inline int mkstack_merge(struct mkstack *s)
{
	struct digest tocs[MKSTACK_MAX];
	int r;

	for (size_t i = 0; i < s->n; i++)
		tocs[i] = s->layers[i].toc_digest;
	r = merge_key(tocs, s->n, s->user, &s->key);
	if (r == 0)
		r = merge_build(s->layers, s->n, s->user, &s->key, &s->out,
				&s->e);
	if (r == 0)
		r = erofs_open_any(&s->im, s->out.p, s->out.len, &s->e);
	return r;
}

static inline void mkstack_done(struct mkstack *s)
{
	for (size_t i = 0; i < s->n; i++)
		buf_done(&s->meta[i]);
	buf_done(&s->out);
	*s = (struct mkstack){0};
}

/* The layer that a file's redirect names, by the digests above; -1: none. */
static inline int mkstack_layer(const struct mkstack *s,
				const struct erofs_inode *in, uint64_t *ret_nid)
{
	const uint8_t *p;
	size_t len;
	char text[64] = {0};
	unsigned layer;

	if (erofs_xattr_get(&s->im, in,
			    s->user ? "user.overlay.redirect"
				    : "trusted.overlay.redirect",
			    &p, &len) < 0)
		return -1;
	assert(len < sizeof(text));
	memcpy(text, p, len);
	assert(sscanf(text, "/%2x00000000000000/%" SCNu64, &layer, ret_nid) ==
	       2);
	return (int)layer;
}

#endif
