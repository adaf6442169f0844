/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer, converted: the first byte says how. What comes out is a blob that
 * readers take; its table says of every entry what the tar in it says, read
 * again; and converting the blob gives the blob.
 */
#include "config.h"

#include <string.h>
#include <sys/mman.h>

#include "cli/build/build.h"
#include "cli/build/tar.h"
#include "common/codec.h"
#include "common/io.h"
#include "common/limits.h"
#include "common/toc.h"
#include "tests/unit/memsource.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

static int build(const uint8_t *p, size_t len, const struct build_opts *o,
		 struct build_result *res, struct buf *blob)
{
	CLEANUP_CLOSE int fd = memfd_create("blob", MFD_CLOEXEC);
	struct memsource s = {p, len, 0, SIZE_MAX};
	struct err e = {0};
	int r;

	assert(fd >= 0);
	r = build_layer(&(struct build_in){memsource_read, &s}, o, fd, res, &e);
	if (r < 0) {
		assert(e.text[0] != '\0');
		return r;
	}
	*blob = BUF_INIT(MIB(64));
	assert(buf_reserve(blob, res->blob_bytes) == 0);
	assert(io_pread_all(fd, blob->p, res->blob_bytes, 0) == 0);
	blob->len = res->blob_bytes;
	return 0;
}

/* The next one of the table that is no further chunk. */
static const struct toc_entry *toc_next(const struct toc *toc, uint32_t *i)
{
	while (*i < toc->n_entries && toc->entries[*i].type == TOC_CHUNK)
		(*i)++;
	return *i < toc->n_entries ? &toc->entries[(*i)++] : NULL;
}

static void same(const struct toc_entry *t, const struct tar_entry *x)
{
	assert(t->type == x->type);
	assert(strcmp(t->name, x->name) == 0);
	assert((t->link != NULL) == (x->link != NULL));
	assert(t->link == NULL || strcmp(t->link, x->link) == 0);
	assert(t->size == x->size);
	assert(t->mode == x->mode);
	assert(t->uid == x->uid);
	assert(t->gid == x->gid);
	assert(t->n_xattrs == x->n_xattrs);
	for (uint32_t i = 0; i < t->n_xattrs; i++) {
		const struct toc_xattr *a = &t->xattrs[i], *b = &x->xattrs[i];

		assert(strcmp(a->name, b->name) == 0);
		assert(a->value_len == b->value_len);
		assert(memcmp(a->value, b->value, a->value_len) == 0);
	}
}

static void compare(const struct buf *blob, const struct build_result *res,
		    const struct toc *toc)
{
	struct codec *c = codec_new();
	uint8_t *tar = malloc(res->uncompressed_bytes);
	struct memsource s = {tar, res->uncompressed_bytes, 0, SIZE_MAX};
	const struct build_in in = {memsource_read, &s};
	struct tar *t = tar_new(&in);
	struct tar_entry x;
	uint32_t i = 0;

	assert(c != NULL && tar != NULL && t != NULL);
	assert(codec_decode(c, CODEC_GZIP, blob->p, blob->len, tar, s.len,
			    s.len, true) == 0);
	while (tar_next(t, &x, NULL) > 0) {
		const struct toc_entry *e;

		assert(!x.sparse);
		if (x.type == 0 || strcmp(x.name, "stargz.index.json") == 0)
			continue;
		e = toc_next(toc, &i);
		assert(e != NULL);
		same(e, &x);
	}
	assert(tar_ended(t));
	assert(toc_next(toc, &i) == NULL);
	tar_free(t);
	free(tar);
	codec_free(c);
}

static void blob_check(const struct buf *blob, const struct build_result *res)
{
	CLEANUP_BUF struct buf json = {0};
	struct toc_footer f;
	struct toc *toc;
	struct err e;

	assert(blob->len > TOC_FOOTER_BYTES_MAX);
	assert(toc_footer_parse((const uint8_t *)blob->p + blob->len - 64, 64,
				blob->len, &f, &e) == 0);
	assert(toc_decode(&f, (const uint8_t *)blob->p + f.toc_off, f.toc_len,
			  &json, &e) == 0);
	assert(toc_parse(json.p, json.len, &toc, &e) == 0);
	compare(blob, res, toc);
	toc_free(toc);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	CLEANUP_BUF struct buf blob = {0}, again = {0};
	const struct build_wanted wanted[] = {{.path = "a/b"}, {.path = "c"}};
	struct build_opts o = {.jobs = 1, .level = 1, .max_bytes = MIB(4)};
	struct build_result res, other;

	if (len == 0)
		return 0;
	o.wanted = wanted;
	o.n_wanted = (p[0] & 1) != 0 ? ARRAY_SIZE(wanted) : 0;
	o.min_chunk_bytes = (p[0] & 2) != 0 ? KIB(16) : 0;
	o.chunk_bytes = (p[0] & 4) != 0 ? KIB(4) : 0;
	if (build(p + 1, len - 1, &o, &res, &blob) < 0)
		return 0;
	blob_check(&blob, &res);
	/* What is in front is there already, and in the same order. */
	o.max_bytes = MIB(8);
	if (o.n_wanted > 0 && !res.landmark)
		o.n_wanted = 0;
	assert(build((const uint8_t *)blob.p, blob.len, &o, &other, &again) ==
	       0);
	assert(digest_equal(&other.blob, &res.blob));
	return 0;
}
