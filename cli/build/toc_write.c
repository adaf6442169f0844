/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/build/toc_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/io.h"
#include "common/limits.h"

#define FLUSH_BYTES KIB(256)
#define ENTRY_BYTES_MAX MIB(8)
/* 0000-01-01 and the last second of 9999: what RFC 3339 can say. */
#define TIME_MIN INT64_C(-62167219200)
#define TIME_MAX INT64_C(253402300799)

/**
 * struct toc_writer - the JSON
 * @text:	not written yet; goes to @off of the file; all of it is from @start
 */
struct toc_writer {
	int fd;
	struct buf text;
	uint64_t start;
	uint64_t off;
	uint32_t n;
};

/* A JSON string. Bytes that are no UTF-8 stay as they are, because there is no
 * other way to say them, and readers in C want the name as it was. */
static int add_str(struct buf *b, const char *s, size_t len)
{
	size_t from = 0, i = 0;
	int r = buf_add(b, "\"", 1);

	while (r == 0 && i < len) {
		unsigned char c = (unsigned char)s[i];

		if (c >= 0x20 && c != '"' && c != '\\') {
			i++;
			continue;
		}
		r = buf_add(b, s + from, i - from);
		if (r == 0 && c < 0x20)
			r = buf_addf(b, "\\u%04x", c);
		else if (r == 0)
			r = buf_addf(b, "\\%c", c);
		from = ++i;
	}
	if (r == 0)
		r = buf_add(b, s + from, len - from);
	return r == 0 ? buf_add(b, "\"", 1) : r;
}

static int add_key(struct buf *b, const char *key)
{
	return buf_addf(b, ",\n\t\t\t\"%s\": ", key);
}

static int add_text(struct buf *b, const char *key, const char *s, size_t len)
{
	int r = add_key(b, key);

	return r == 0 ? add_str(b, s, len) : r;
}

/* 0 is what is meant where there is none. */
static int add_num(struct buf *b, const char *key, uint64_t v)
{
	return v != 0 ? buf_addf(b, ",\n\t\t\t\"%s\": %" PRIu64, key, v) : 0;
}

/* Of 1970 too: without it, stargz-snapshotter shows the year 1. */
static int add_time(struct buf *b, int64_t mtime)
{
	time_t t = (time_t)MIN(MAX(mtime, TIME_MIN), TIME_MAX);
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL)
		return 0;
	return buf_addf(
		b, ",\n\t\t\t\"modtime\": \"%04d-%02d-%02dT%02d:%02d:%02dZ\"",
		tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		tm.tm_min, tm.tm_sec);
}

static int add_base64(struct buf *b, const uint8_t *p, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "abcdefghijklmnopqrstuvwxyz0123456789+/";
	int r = buf_reserve(b, len / 3 * 4 + 6);

	if (r == 0)
		r = buf_add(b, "\"", 1);
	for (size_t i = 0; r == 0 && i < len; i += 3) {
		size_t n = MIN(len - i, (size_t)3);
		uint32_t v = (uint32_t)p[i] << 16;
		char c[4] = "====";

		if (n > 1)
			v |= (uint32_t)p[i + 1] << 8;
		if (n > 2)
			v |= p[i + 2];
		for (size_t k = 0; k <= n; k++)
			c[k] = digits[v >> (18 - 6 * k) & 63];
		r = buf_add(b, c, sizeof(c));
	}
	return r == 0 ? buf_add(b, "\"", 1) : r;
}

static int add_xattrs(struct buf *b, const struct tar_entry *t)
{
	int r = 0;

	if (t->n_xattrs == 0)
		return 0;
	r = add_key(b, "xattrs");
	for (size_t i = 0; r == 0 && i < t->n_xattrs; i++) {
		const struct toc_xattr *x = &t->xattrs[i];

		r = buf_add_str(b, i == 0 ? "{\n\t\t\t\t" : ",\n\t\t\t\t");
		if (r == 0)
			r = add_str(b, x->name, strlen(x->name));
		if (r == 0)
			r = buf_add(b, ": ", 2);
		if (r == 0)
			r = add_base64(b, x->value, x->value_len);
	}
	return r == 0 ? buf_add_str(b, "\n\t\t\t}") : r;
}

static int add_owner(struct buf *b, const struct tar_entry *t)
{
	int r = add_num(b, "mode", t->mode);

	if (r == 0)
		r = add_num(b, "uid", t->uid);
	if (r == 0)
		r = add_num(b, "gid", t->gid);
	if (r == 0 && t->uname[0] != '\0')
		r = add_text(b, "userName", t->uname, strlen(t->uname));
	if (r == 0 && t->gname[0] != '\0')
		r = add_text(b, "groupName", t->gname, strlen(t->gname));
	if (r == 0)
		r = add_num(b, "devMajor", t->devmajor);
	return r == 0 ? add_num(b, "devMinor", t->devminor) : r;
}

static int add_digest(struct buf *b, const char *key, const struct digest *d)
{
	char s[DIGEST_STR_BYTES];

	return buf_addf(b, ",\n\t\t\t\"%s\": \"%s\"", key, digest_str(d, s));
}

/* Directories have a slash behind their name, the root is "./". */
static int add_name(struct buf *b, const struct tar_entry *t, const char *type)
{
	int r = buf_add_str(b, "\t\t{\n\t\t\t\"name\": ");

	if (r == 0 && t->type == TOC_DIR && t->name_len == 0)
		r = add_str(b, "./", 2);
	else if (r == 0)
		r = add_str(b, t->name, t->name_len);
	if (r == 0 && t->type == TOC_DIR && t->name_len > 0) {
		b->p[b->len - 1] = '/';
		r = buf_add(b, "\"", 1);
	}
	return r == 0 ? buf_addf(b, ",\n\t\t\t\"type\": \"%s\"", type) : r;
}

int toc_text(struct buf *b, const struct tar_entry *t)
{
	static const char *const types[] = {
		[TOC_DIR] = "dir",         [TOC_REG] = "reg",
		[TOC_SYMLINK] = "symlink", [TOC_HARDLINK] = "hardlink",
		[TOC_CHAR] = "char",       [TOC_BLOCK] = "block",
		[TOC_FIFO] = "fifo"};
	/* SHA-256 of nothing. */
	static const struct digest empty = {
		{0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14,
		 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
		 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c,
		 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}};
	int r;

	assert(t->type > 0 && t->type < ARRAY_SIZE(types));
	r = add_name(b, t, types[t->type]);
	if (r == 0)
		r = add_num(b, "size", t->size);
	if (r == 0)
		r = add_time(b, t->mtime);
	if (r == 0 && t->link != NULL)
		r = add_text(b, "linkName", t->link, t->link_len);
	if (r == 0)
		r = add_owner(b, t);
	if (r == 0 && t->type == TOC_REG && t->size == 0)
		r = add_digest(b, "digest", &empty);
	return r == 0 ? add_xattrs(b, t) : r;
}

int toc_text_chunk(struct buf *b, const struct tar_entry *t)
{
	return add_name(b, t, "chunk");
}

struct toc_writer *toc_writer_new(int fd, uint64_t off)
{
	struct toc_writer *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->fd = fd;
	w->start = w->off = off;
	w->text.max = FLUSH_BYTES + ENTRY_BYTES_MAX;
	if (buf_add_str(&w->text, "{\n\t\"version\": 1,\n\t\"entries\": [") <
	    0) {
		toc_writer_free(w);
		return NULL;
	}
	return w;
}

void toc_writer_free(struct toc_writer *w)
{
	if (w == NULL)
		return;
	buf_done(&w->text);
	free(w);
}

static int flush(struct toc_writer *w, struct err *e)
{
	int r = io_pwrite_all(w->fd, w->text.p, w->text.len, w->off);

	if (r < 0)
		return err_set(e, r, "temporary file: %s", err_name(r));
	w->off += w->text.len;
	buf_clear(&w->text);
	return 0;
}

/* The digest of the file comes last of the key, so that its place is known. */
static int add_place(struct toc_writer *w, const struct toc_place *p,
		     uint64_t *ret_place)
{
	static const struct digest unknown;
	struct buf *b = &w->text;
	int r = add_num(b, "offset", p->offset);

	if (r == 0 && p->first)
		r = add_digest(b, "digest",
			       p->file != NULL ? p->file : &unknown);
	if (r == 0 && ret_place != NULL)
		*ret_place = w->off + b->len - 1 - (DIGEST_STR_BYTES - 1);
	if (r == 0)
		r = add_num(b, "chunkOffset", p->chunk_off);
	if (r == 0)
		r = add_num(b, "chunkSize", p->chunk_size);
	if (r == 0)
		r = add_digest(b, "chunkDigest", p->chunk);
	return r == 0 ? add_num(b, "innerOffset", p->inner_offset) : r;
}

int toc_entry(struct toc_writer *w, const char *text, size_t len,
	      const struct toc_place *p, uint64_t *ret_place, struct err *e)
{
	int r;

	if (w->n == TOC_ENTRIES_MAX || w->off - w->start > TOC_JSON_BYTES_MAX)
		return err_set(e, -EOVERFLOW,
			       "layer: its table of contents would have more "
			       "than %u entries or %" PRIu64
			       " MiB (larger chunks make it smaller)",
			       TOC_ENTRIES_MAX, TOC_JSON_BYTES_MAX >> 20);
	r = buf_add_str(&w->text, w->n++ == 0 ? "\n" : ",\n");
	if (r == 0)
		r = buf_add(&w->text, text, len);
	if (r == 0 && p->has_chunk)
		r = add_place(w, p, ret_place);
	if (r == 0)
		r = buf_add_str(&w->text, "\n\t\t}");
	if (r < 0)
		return err_set(e, r, "layer: table of contents: %s",
			       err_name(r));
	return w->text.len >= FLUSH_BYTES ? flush(w, e) : 0;
}

int toc_set_digest(struct toc_writer *w, uint64_t place,
		   const struct digest *file, struct err *e)
{
	char s[DIGEST_STR_BYTES];
	int r;

	(void)digest_str(file, s);
	if (place >= w->off) {
		memcpy(w->text.p + (place - w->off), s, DIGEST_STR_BYTES - 1);
		return 0;
	}
	r = io_pwrite_all(w->fd, s, DIGEST_STR_BYTES - 1, place);
	return r < 0 ? err_set(e, r, "temporary file: %s", err_name(r)) : 0;
}

int toc_finish(struct toc_writer *w, uint64_t *ret_bytes, struct err *e)
{
	int r = buf_add_str(&w->text, w->n > 0 ? "\n\t]\n}" : "]\n}");

	if (r < 0)
		return err_set(e, r, "layer: table of contents: %s",
			       err_name(r));
	r = flush(w, e);
	if (r < 0)
		return r;
	if (w->off - w->start > TOC_JSON_BYTES_MAX)
		return err_set(
			e, -EOVERFLOW,
			"layer: its table of contents would have %" PRIu64
			" bytes, which no reader takes",
			w->off - w->start);
	*ret_bytes = w->off - w->start;
	return 0;
}
