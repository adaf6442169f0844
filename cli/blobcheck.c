/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/blobcheck.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/build/tar.h"
#include "cli/members.h"

#define READ_BYTES KIB(128)
/* So far ahead an entry of the tar is looked for in the TOC; and so many steps
 * beyond the next one in all, lest all entries are looked for everywhere. */
#define AHEAD_MAX 4096u
#define STEPS_MAX 10000000u

/**
 * struct check - a blob that is being read
 * @fault:	why it cannot be read on, code 0 as long as it can
 * @next:	entry of the TOC that the next of the tar should be
 * @steps:	beyond it, so far
 * @next_chunk:	the first of l->chunks not yet passed
 * @index:	the TOC's own entry was met
 */
struct check {
	const struct layerinfo *l;
	const struct blobcheck_opts *o;
	struct blobcheck_result *ret;
	struct members *m;
	struct sha256 *all;
	struct sha256 *one;
	uint8_t *buf;
	struct err fault;
	uint32_t next;
	uint32_t steps;
	size_t next_chunk;
	bool index;
};

PRINTF_LIKE(4, 5)
static void found(struct check *c, const char *entry, uint64_t off,
		  const char *fmt, ...)
{
	char text[ERR_TEXT_BYTES];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	c->o->found(c->o->arg, entry, off, text);
}

/* The decoded blob, as the tar reader wants it. */
static ssize_t decoded(void *arg, void *p, size_t n, struct err *e)
{
	struct check *c = arg;
	ssize_t got;

	if (c->fault.code < 0) {
		*e = c->fault;
		return c->fault.code;
	}
	got = members_read(c->m, p, n, &c->fault);
	if (got < 0) {
		*e = c->fault;
		return got;
	}
	sha256_add(c->all, p, (size_t)got);
	c->ret->uncompressed += (uint64_t)got;
	return got;
}

/* ---- an entry of the tar, and one of the TOC --------------------------- */

static void differ(struct check *c, const struct tar_entry *te,
		   const char *what, int64_t tar, int64_t toc)
{
	if (tar != toc)
		found(c, te->name, BLOBCHECK_NOWHERE,
		      "%s %" PRId64 ", the TOC says %" PRId64, what, tar, toc);
}

static const char *type_name(uint8_t type)
{
	static const char *const names[] = {
		[TOC_DIR] = "dir",         [TOC_REG] = "reg",
		[TOC_SYMLINK] = "symlink", [TOC_HARDLINK] = "hardlink",
		[TOC_CHAR] = "char",       [TOC_BLOCK] = "block",
		[TOC_FIFO] = "fifo",       [TOC_CHUNK] = "chunk",
	};

	return names[type];
}

static void compare_xattrs(struct check *c, const struct tar_entry *te,
			   const struct toc_entry *t)
{
	bool same = te->n_xattrs == t->n_xattrs;

	for (size_t i = 0; same && i < te->n_xattrs; i++) {
		const struct toc_xattr *a = &te->xattrs[i], *b = &t->xattrs[i];

		same = strcmp(a->name, b->name) == 0 &&
		       a->value_len == b->value_len &&
		       (a->value_len == 0 ||
			memcmp(a->value, b->value, a->value_len) == 0);
		if (!same)
			found(c, te->name, BLOBCHECK_NOWHERE,
			      "xattr %.80s is not as in the TOC", a->name);
	}
	if (te->n_xattrs != t->n_xattrs)
		found(c, te->name, BLOBCHECK_NOWHERE,
		      "%zu xattrs, the TOC says %" PRIu32, te->n_xattrs,
		      t->n_xattrs);
}

static void compare(struct check *c, const struct tar_entry *te,
		    const struct toc_entry *t)
{
	if (te->type != t->type) {
		found(c, te->name, BLOBCHECK_NOWHERE,
		      "type %s, the TOC says %s", type_name(te->type),
		      type_name(t->type));
		return;
	}
	if (te->mode != t->mode)
		found(c, te->name, BLOBCHECK_NOWHERE,
		      "mode %04o, the TOC says %04o", te->mode, t->mode);
	differ(c, te, "uid", te->uid, t->uid);
	differ(c, te, "gid", te->gid, t->gid);
	/* Some writers round fractions of a second up. */
	if (t->mtime != te->mtime + 1)
		differ(c, te, "mtime", te->mtime, t->mtime);
	if (te->type == TOC_REG)
		differ(c, te, "size", (int64_t)te->size, (int64_t)t->size);
	if (te->type == TOC_CHAR || te->type == TOC_BLOCK) {
		differ(c, te, "major", te->devmajor, t->devmajor);
		differ(c, te, "minor", te->devminor, t->devminor);
	}
	if (te->link != NULL && t->link != NULL &&
	    strcmp(te->link, t->link) != 0)
		found(c, te->name, BLOBCHECK_NOWHERE,
		      "links to %.80s, the TOC says %.80s", te->link, t->link);
	compare_xattrs(c, te, t);
}

/* The entry of the TOC for one of the tar. Return: n_entries where none is */
static uint32_t match(struct check *c, const struct tar_entry *te)
{
	const struct toc *toc = c->l->toc;
	uint32_t seen = 0;

	for (uint32_t i = c->next; i < toc->n_entries && seen < AHEAD_MAX;
	     i++) {
		if (toc->entries[i].type == TOC_CHUNK)
			continue;
		if (strcmp(toc->entries[i].name, te->name) == 0)
			return i;
		if (c->steps == STEPS_MAX)
			break;
		c->steps++;
		seen++;
	}
	return toc->n_entries;
}

static void missing_until(struct check *c, uint32_t end)
{
	for (; c->next < end; c->next++) {
		const struct toc_entry *t = &c->l->toc->entries[c->next];

		if (t->type != TOC_CHUNK)
			found(c, t->name, BLOBCHECK_NOWHERE,
			      "in the TOC, but not in the tar");
	}
}

/* ---- chunks ------------------------------------------------------------ */

static void check_place(struct check *c, const struct tar_entry *te,
			const struct layer_chunk *k)
{
	uint64_t off, inner;

	members_find(c->m, te->data_off + k->at, &off, &inner);
	if (off != k->t->offset || inner != k->t->inner_offset)
		found(c, te->name, off,
		      "chunk at %" PRIu64 " is at %" PRIu64 "+%" PRIu64
		      " of the blob, the TOC says %" PRIu64 "+%" PRIu64,
		      k->at, off, inner, k->t->offset, k->t->inner_offset);
}

static void check_digest(struct check *c, const char *name,
			 const struct layer_chunk *k)
{
	char is[DIGEST_STR_BYTES], want[DIGEST_STR_BYTES];
	struct digest d;

	sha256_end(c->one, &d);
	c->ret->n_chunks++;
	if (!k->t->has_chunk_digest)
		found(c, name, k->t->offset,
		      "chunk at %" PRIu64 " has no digest in the TOC", k->at);
	else if (!digest_equal(&d, &k->t->chunk_digest))
		found(c, name, k->t->offset,
		      "chunk at %" PRIu64 " is %s, the TOC says %s", k->at,
		      digest_str(&d, is),
		      digest_str(&k->t->chunk_digest, want));
}

/* One chunk, next in the payload. Return: 0, -errno */
static int check_chunk(struct check *c, struct tar *tar,
		       const struct tar_entry *te, const struct layer_chunk *k,
		       struct err *e)
{
	uint64_t left = k->len;

	sha256_start(c->one);
	while (left > 0) {
		ssize_t n =
			tar_read(tar, c->buf,
				 (size_t)MIN(left, (uint64_t)READ_BYTES), e);

		if (n < 0)
			return (int)n;
		if (n == 0) {
			found(c, te->name, k->t->offset,
			      "chunk at %" PRIu64 " has %" PRIu64
			      " bytes, the TOC says %" PRIu64,
			      k->at, k->len - left, k->len);
			return 0;
		}
		/* Now at the latest its member has begun. */
		if (left == k->len && !te->sparse)
			check_place(c, te, k);
		sha256_add(c->one, c->buf, (size_t)n);
		left -= (uint64_t)n;
	}
	check_digest(c, te->name, k);
	return 0;
}

static int check_payload(struct check *c, struct tar *tar,
			 const struct tar_entry *te, uint32_t entry,
			 struct err *e)
{
	const struct layerinfo *l = c->l;
	uint64_t at = 0;

	while (c->next_chunk < l->n_chunks &&
	       l->chunks[c->next_chunk].entry < entry)
		c->next_chunk++;
	for (; c->next_chunk < l->n_chunks &&
	       l->chunks[c->next_chunk].entry == entry;
	     c->next_chunk++) {
		const struct layer_chunk *k = &l->chunks[c->next_chunk];
		int r;

		if (k->at != at) {
			found(c, te->name, k->t->offset,
			      "a chunk at %" PRIu64 " follows what ends at "
			      "%" PRIu64,
			      k->at, at);
			break;
		}
		r = check_chunk(c, tar, te, k, e);
		if (r < 0)
			return r;
		at += k->len;
	}
	if (at < te->size && at < l->toc->entries[entry].size)
		found(c, te->name, BLOBCHECK_NOWHERE,
		      "the chunks of the TOC end at %" PRIu64, at);
	return 0;
}

/* ---- the tar ----------------------------------------------------------- */

/* The TOC's own entry: where the footer says, and nothing behind it. */
static void check_index(struct check *c, const struct tar_entry *te)
{
	uint64_t off, inner;

	members_find(c->m, te->head_off, &off, &inner);
	if (off != c->l->footer.toc_off || inner != 0)
		found(c, te->name, off,
		      "at %" PRIu64 "+%" PRIu64 ", the footer says %" PRIu64,
		      off, inner, c->l->footer.toc_off);
	c->index = true;
}

static int check_entry(struct check *c, struct tar *tar,
		       const struct tar_entry *te, struct err *e)
{
	uint64_t off, inner;
	uint32_t i;

	if (te->type == 0)
		return 0;
	c->ret->n_entries++;
	if (strcmp(te->name, TOC_TAR_NAME) == 0 &&
	    c->l->format != LAYER_ZSTD_CHUNKED) {
		check_index(c, te);
		return 0;
	}
	i = match(c, te);
	if (i == c->l->toc->n_entries) {
		members_find(c->m, te->head_off, &off, &inner);
		found(c, te->name, off, "in the tar, but not in the TOC");
		return 0;
	}
	missing_until(c, i);
	c->next = i + 1;
	compare(c, te, &c->l->toc->entries[i]);
	if (te->type != TOC_REG || c->l->toc->entries[i].type != TOC_REG)
		return 0;
	return check_payload(c, tar, te, i, e);
}

/* Return: 0 to the end; -EBADMSG, where what is wrong was said; -errno */
static int walk(struct check *c, struct err *e)
{
	const struct build_in in = {.read = decoded, .arg = c};
	CLEANUP(tar_free_cleanup) struct tar *tar = tar_new(&in);
	struct tar_entry te;
	int r;

	if (tar == NULL)
		return err_no_memory(e);
	do {
		r = tar_next(tar, &te, e);
		if (r > 0 && check_entry(c, tar, &te, e) < 0)
			r = e->code;
	} while (r > 0);
	if (r < 0 && c->fault.code == 0 && r != -ENOMEM) {
		found(c, NULL, members_offset(c->m), "tar: %s", e->text);
		return -EBADMSG;
	}
	if (r < 0)
		return r;
	if (!c->index && c->l->format != LAYER_ZSTD_CHUNKED)
		found(c, NULL, BLOBCHECK_NOWHERE,
		      "the tar has no " TOC_TAR_NAME);
	missing_until(c, c->l->toc->n_entries);
	c->next_chunk = c->l->n_chunks;
	return 0;
}

static int drain(struct check *c, struct err *e)
{
	ssize_t n;

	do
		n = decoded(c, c->buf, READ_BYTES, e);
	while (n > 0);
	return (int)n;
}

/* ---- where the tar is lost --------------------------------------------- */

static int by_place(const void *a, const void *b)
{
	const struct layer_chunk *x = *(const struct layer_chunk *const *)a;
	const struct layer_chunk *y = *(const struct layer_chunk *const *)b;

	if (x->t->offset != y->t->offset)
		return x->t->offset < y->t->offset ? -1 : 1;
	if (x->t->inner_offset != y->t->inner_offset)
		return x->t->inner_offset < y->t->inner_offset ? -1 : 1;
	return 0;
}

/* Reads and forgets up to @end of the member, or hashes it. */
static int pass(struct check *c, uint64_t end, bool hash, struct err *e)
{
	while (members_tell(c->m) < end) {
		uint64_t left = end - members_tell(c->m);
		ssize_t n = members_read(
			c->m, c->buf, (size_t)MIN(left, (uint64_t)READ_BYTES),
			e);

		if (n == 0)
			return err_set(e, -EBADMSG, "the blob ends");
		if (n < 0)
			return (int)n;
		if (hash)
			sha256_add(c->one, c->buf, (size_t)n);
	}
	return 0;
}

/* A chunk where the TOC says that it is. Return: 0, -EBADMSG its member cannot
 * be read on, -errno */
static int check_alone(struct check *c, const struct layer_chunk *k,
		       bool same_member, struct err *e)
{
	const struct toc_entry *t = k->t;
	int r = same_member ? 1 : members_skip_to(c->m, t->offset, e);

	if (r == 0)
		r = err_set(e, -EBADMSG, "the blob ends before it");
	if (r > 0 && members_tell(c->m) > t->inner_offset)
		r = err_set(e, -EBADMSG, "it overlaps the one before");
	if (r > 0)
		r = pass(c, t->inner_offset, false, e);
	sha256_start(c->one);
	if (r == 0)
		r = pass(c, t->inner_offset + k->len, true, e);
	if (r == 0)
		check_digest(c, t->name, k);
	else if (r == -EBADMSG)
		found(c, t->name, t->offset, "chunk at %" PRIu64 ": %s", k->at,
		      e->text);
	return r;
}

static int check_rest(struct check *c, struct err *e)
{
	const struct layerinfo *l = c->l;
	size_t n = l->n_chunks - c->next_chunk;
	CLEANUP_FREE const struct layer_chunk **list =
		calloc(n + 1, sizeof(*list));
	uint64_t member = UINT64_MAX;
	bool bad = false;

	if (list == NULL)
		return err_no_memory(e);
	for (size_t i = 0; i < n; i++)
		list[i] = &l->chunks[c->next_chunk + i];
	qsort(list, n, sizeof(*list), by_place);
	for (size_t i = 0; i < n; i++) {
		uint64_t off = list[i]->t->offset;
		bool same = off == member;
		int r;

		/* It was in what is already behind us. */
		if (same ? bad : off < members_consumed(c->m))
			continue;
		r = check_alone(c, list[i], same, e);
		if (r < 0 && r != -EBADMSG)
			return r;
		member = off;
		bad = r < 0;
	}
	return 0;
}

/* What could not be read is said, and the rest looked at without the tar. */
static int after_fault(struct check *c, struct err *e)
{
	struct err again = {0};
	int r;

	if (c->fault.code < 0 && c->fault.code != -EBADMSG) {
		*e = c->fault;
		return e->code;
	}
	if (c->fault.code < 0)
		found(c,
		      c->next > 0 && c->l->toc != NULL
			      ? c->l->toc->entries[c->next - 1].name
			      : NULL,
		      members_consumed(c->m), "%s", c->fault.text);
	if (c->l->toc == NULL)
		return 0;
	found(c, NULL, BLOBCHECK_NOWHERE,
	      "the tar behind it is not compared with the TOC");
	r = check_rest(c, &again);
	if (r < 0)
		*e = again;
	return r;
}

/* ---- all of it --------------------------------------------------------- */

static void check_whole(struct check *c)
{
	const struct blobcheck_opts *o = c->o;
	char is[DIGEST_STR_BYTES], want[DIGEST_STR_BYTES];

	sha256_end(c->all, &c->ret->diff_id);
	c->ret->complete = true;
	if (o->diff_id != NULL && !digest_equal(o->diff_id, &c->ret->diff_id))
		found(c, NULL, BLOBCHECK_NOWHERE,
		      "diff_id is %s, the config says %s",
		      digest_str(&c->ret->diff_id, is),
		      digest_str(o->diff_id, want));
	if (o->has_uncompressed && o->uncompressed != c->ret->uncompressed)
		found(c, NULL, BLOBCHECK_NOWHERE,
		      "%" PRIu64 " bytes uncompressed, the manifest says "
		      "%" PRIu64,
		      c->ret->uncompressed, o->uncompressed);
}

static int run(struct check *c, struct err *e)
{
	int r = c->l->toc != NULL ? walk(c, e) : 0;

	if (r == 0)
		r = drain(c, e);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return after_fault(c, e);
	check_whole(c);
	return 0;
}

int blobcheck(const struct layerinfo *l, const struct build_in *blob,
	      const struct blobcheck_opts *o, struct blobcheck_result *ret,
	      struct err *e)
{
	struct check c = {.l = l, .o = o, .ret = ret};
	int r;

	*ret = (struct blobcheck_result){0};
	c.m = members_new(layer_codec(l->format), blob);
	c.all = sha256_new();
	c.one = sha256_new();
	c.buf = malloc(READ_BYTES);
	if (c.m == NULL || c.all == NULL || c.one == NULL || c.buf == NULL) {
		r = err_no_memory(e);
	} else {
		sha256_start(c.all);
		r = run(&c, e);
	}
	members_free(c.m);
	sha256_free(c.all);
	sha256_free(c.one);
	free(c.buf);
	return r;
}
