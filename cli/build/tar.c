/* SPDX-License-Identifier: Apache-2.0 */
/* The reader: blocks, entries, payloads. */
#include "config.h"

#include "cli/build/tar.h"

#include <inttypes.h>
#include <string.h>

#include "cli/build/tar_int.h"
#include "common/limits.h"
#include "common/toc_text.h"

#define WINDOW_BYTES KIB(128)
#define DEV_MAJOR_MAX 0xfff
#define DEV_MINOR_MAX 0xfffff

struct tar *tar_new(const struct build_in *in)
{
	struct tar *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->in = in;
	t->head.max = TAR_HEAD_BYTES_MAX;
	t->made.max = TAR_HEAD_BYTES_MAX;
	t->text.max = TAR_HEAD_BYTES_MAX * 2;
	t->win = malloc(WINDOW_BYTES);
	t->xattrs = calloc(TOC_XATTRS_MAX, sizeof(*t->xattrs));
	if (t->win == NULL || t->xattrs == NULL) {
		tar_free(t);
		return NULL;
	}
	return t;
}

void tar_free(struct tar *t)
{
	if (t == NULL)
		return;
	buf_done(&t->head);
	buf_done(&t->made);
	buf_done(&t->text);
	free(t->raw_xattrs);
	free(t->xattrs);
	free(t->segs.p);
	free(t->win);
	free(t);
}

void tar_seek(struct tar *t, uint64_t off)
{
	t->win_pos = t->win_len = 0;
	t->off = off;
	t->left = t->pad = 0;
	t->done = t->ended = false;
}

uint64_t tar_offset(const struct tar *t)
{
	return t->off;
}

bool tar_ended(const struct tar *t)
{
	return t->ended;
}

int tar_bad(const struct tar *t, struct err *e, int code, const char *what)
{
	if (t->name != NULL)
		return err_set(e, code, "tar: %.120s, at byte %" PRIu64 ": %s",
			       t->name, t->head_off, what);
	return err_set(e, code, "tar: entry at byte %" PRIu64 ": %s",
		       t->head_off, what);
}

/* Some bytes, at most n: read ahead ones first. Return: 0 at the end. */
static ssize_t take_some(struct tar *t, void *p, size_t n, struct err *e)
{
	ssize_t got;

	if (t->win_pos == t->win_len && n < WINDOW_BYTES) {
		got = t->in->read(t->in->arg, t->win, WINDOW_BYTES, e);
		if (got <= 0)
			return got;
		t->win_pos = 0;
		t->win_len = (size_t)got;
	}
	if (t->win_pos < t->win_len) {
		n = MIN(n, t->win_len - t->win_pos);
		memcpy(p, t->win + t->win_pos, n);
		t->win_pos += n;
	} else {
		got = t->in->read(t->in->arg, p, n, e);
		if (got <= 0)
			return got;
		n = (size_t)got;
	}
	t->off += n;
	return (ssize_t)n;
}

ssize_t tar_take(struct tar *t, void *p, size_t n, struct err *e)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = take_some(t, (uint8_t *)p + done, n - done, e);

		if (got < 0)
			return got;
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return (ssize_t)done;
}

/* Steps over n bytes. Return: bytes, fewer only at the end; -errno */
static int skip(struct tar *t, uint64_t n, uint64_t *ret, struct err *e)
{
	*ret = 0;
	while (*ret < n) {
		size_t in_win = t->win_len - t->win_pos;
		ssize_t got;

		if (in_win > 0) {
			in_win = (size_t)MIN((uint64_t)in_win, n - *ret);
			t->win_pos += in_win;
			t->off += in_win;
			*ret += in_win;
			continue;
		}
		got = t->in->read(t->in->arg, t->win, WINDOW_BYTES, e);
		if (got < 0)
			return (int)got;
		if (got == 0)
			break;
		t->win_pos = 0;
		t->win_len = (size_t)got;
	}
	return 0;
}

/* Appends n bytes of the input to the head. */
static int head_take(struct tar *t, size_t n, struct err *e)
{
	ssize_t got;

	if (buf_reserve(&t->head, n) < 0)
		return tar_bad(t, e,
			       n > t->head.max - t->head.len ? -EOVERFLOW
							     : -ENOMEM,
			       "no room for its header");
	got = tar_take(t, t->head.p + t->head.len, n, e);
	if (got < 0)
		return (int)got;
	if ((size_t)got < n)
		return tar_bad(t, e, -EBADMSG,
			       "the archive ends in its header");
	t->head.len += n;
	return 0;
}

/* Two's complement; the bit below the mark is the sign. */
static int base256(const uint8_t *p, size_t len, int64_t *ret)
{
	uint8_t sign = (p[0] & 0x40) != 0 ? 0xff : 0;
	uint64_t v = 0;

	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)(p[i] ^ sign);

		if (v >> 55 != 0)
			return -EBADMSG;
		v = v << 8 | (i == 0 ? c & 0x7f : c);
	}
	*ret = sign != 0 ? -(int64_t)v - 1 : (int64_t)v;
	return 0;
}

int tar_number(const uint8_t *p, size_t len, int64_t *ret)
{
	uint64_t v = 0;
	size_t i = 0;

	if ((p[0] & 0x80) != 0)
		return base256(p, len, ret);
	while (i < len && (p[i] == ' ' || p[i] == '\0'))
		i++;
	for (; i < len && p[i] != ' ' && p[i] != '\0'; i++) {
		if (p[i] < '0' || p[i] > '7' || v >> 60 != 0)
			return -EBADMSG;
		v = v << 3 | (uint64_t)(p[i] - '0');
	}
	*ret = (int64_t)v;
	return 0;
}

/* Old ones added up signed characters. */
static bool sum_ok(const uint8_t *h)
{
	int64_t plain = 0, with_sign = 0, want;

	if (tar_number(h + TAR_SUM, 8, &want) < 0)
		return false;
	for (size_t i = 0; i < TAR_BLOCK_BYTES; i++) {
		uint8_t c = i >= TAR_SUM && i < TAR_SUM + 8 ? ' ' : h[i];

		plain += c;
		with_sign += (int8_t)c;
	}
	return want == plain || want == with_sign;
}

static bool all_zero(const char *p)
{
	return p[0] == '\0' && memcmp(p, p + 1, TAR_BLOCK_BYTES - 1) == 0;
}

/* What is behind the first block of zeros. Return: 0: the end; -EBADMSG */
static int end_marker(struct tar *t, struct err *e)
{
	char block[TAR_BLOCK_BYTES];
	ssize_t got = tar_take(t, block, sizeof(block), e);

	if (got < 0)
		return (int)got;
	if (got == (ssize_t)sizeof(block)) {
		if (!all_zero(block))
			return tar_bad(t, e, -EBADMSG,
				       "a block of zeros before more entries");
		t->ended = true;
	}
	t->done = true;
	return 0;
}

/* A header block is added to the head. Return: 1, 0 at the end */
static int block_take(struct tar *t, struct err *e)
{
	char block[TAR_BLOCK_BYTES];
	ssize_t got = tar_take(t, block, sizeof(block), e);

	if (got < 0)
		return (int)got;
	if (got == 0 && t->head.len == 0) {
		t->done = true;
		return 0;
	}
	if (got < (ssize_t)sizeof(block))
		return tar_bad(t, e, -EBADMSG,
			       "the archive ends in its header");
	if (all_zero(block)) {
		if (t->head.len > 0)
			return tar_bad(t, e, -EBADMSG,
				       "an extended header without an entry");
		return end_marker(t, e);
	}
	if (!sum_ok((const uint8_t *)block))
		return tar_bad(t, e, -EBADMSG, "wrong checksum of its header");
	if (buf_add(&t->head, block, sizeof(block)) < 0)
		return tar_bad(t, e, -EOVERFLOW, "too many extended headers");
	return 1;
}

/* The payload of an extended header, which becomes part of the head. */
static int ext_take(struct tar *t, size_t block, struct tar_text *ret,
		    struct err *e)
{
	int64_t size;

	if (tar_number((const uint8_t *)t->head.p + block + TAR_SIZE,
		       TAR_SIZE_LEN, &size) < 0 ||
	    size < 0)
		return tar_bad(t, e, -EBADMSG,
			       "bad size of an extended header");
	if ((uint64_t)size > TAR_EXT_BYTES_MAX)
		return tar_bad(t, e, -EOVERFLOW,
			       "an extended header of more than 1 MiB");
	*ret = (struct tar_text){t->head.len, (size_t)size, true};
	return head_take(t, (size_t)ALIGN_UP((uint64_t)size, TAR_BLOCK_BYTES),
			 e);
}

/* The name of an 'L' or 'K' entry ends at its first NUL. */
static int name_take(struct tar *t, size_t block, struct tar_text *ret,
		     struct err *e)
{
	int r = ext_take(t, block, ret, e);

	if (r < 0)
		return r;
	ret->len = strnlen(t->head.p + ret->off, ret->len);
	return 0;
}

/*
 * Collects extended headers and the block they belong to, which is at
 * *@ret_block. Return: 1, 0 at the end
 */
static int head_collect(struct tar *t, size_t *ret_block, struct err *e)
{
	struct tar_text x;

	for (;;) {
		size_t block = t->head.len;
		int r = block_take(t, e);

		if (r <= 0)
			return r;
		*ret_block = block;
		switch (t->head.p[block + TAR_TYPE]) {
		case 'x':
			r = ext_take(t, block, &x, e);
			if (r == 0)
				r = tar_pax_parse(t, x, e);
			break;
		case 'L':
			r = name_take(t, block, &t->longname, e);
			break;
		case 'K':
			r = name_take(t, block, &t->longlink, e);
			break;
		case 'g':
			r = ext_take(t, block, &x, e);
			return r < 0 ? r : 1;
		default:
			return 1;
		}
		if (r < 0)
			return r;
	}
}

static char *text_add(struct tar *t, const char *p, size_t len)
{
	char *at = t->text.p + t->text.len;

	/* The room was made for all of them. */
	assert(len + 1 < t->text.cap - t->text.len);
	memcpy(at, p, len);
	at[len] = '\0';
	t->text.len += len + 1;
	return at;
}

/* The name in the header block, with its front where that is apart. */
static char *block_name(struct tar *t, const uint8_t *h)
{
	const char *name = (const char *)h + TAR_NAME;
	const char *front = (const char *)h + TAR_PREFIX;
	size_t len = strnlen(name, TAR_NAME_LEN), max = TAR_PREFIX_LEN;
	size_t front_len;
	char path[TAR_PREFIX_LEN + 1 + TAR_NAME_LEN];

	if (memcmp(h + TAR_MAGIC, "ustar\0", 6) != 0)
		return text_add(t, name, len);
	if (memcmp(h + TAR_STAR_MAGIC, "tar\0", 4) == 0)
		max = TAR_STAR_PREFIX_LEN;
	front_len = strnlen(front, max);
	if (front_len == 0)
		return text_add(t, name, len);
	memcpy(path, front, front_len);
	path[front_len] = '/';
	memcpy(path + front_len + 1, name, len);
	return text_add(t, path, front_len + 1 + len);
}

/* GNU's, else that of PAX, else of the block. */
static char *choose(struct tar *t, struct tar_text gnu, struct tar_text pax,
		    const void *field, size_t max)
{
	if (gnu.set && gnu.len > 0)
		return text_add(t, t->head.p + gnu.off, gnu.len);
	if (pax.set)
		return text_add(t, t->head.p + pax.off, pax.len);
	return text_add(t, field, strnlen(field, max));
}

static int type_of(const struct tar *t, char flag, const char *name,
		   uint8_t *ret, struct err *e)
{
	static const uint8_t of_digit[] = {TOC_REG,  TOC_HARDLINK, TOC_SYMLINK,
					   TOC_CHAR, TOC_BLOCK,    TOC_DIR,
					   TOC_FIFO, TOC_REG};
	size_t len = strlen(name);

	if (flag == '\0')
		*ret = len > 0 && name[len - 1] == '/' ? TOC_DIR : TOC_REG;
	else if (flag >= '0' && flag <= '7')
		*ret = of_digit[flag - '0'];
	else if (flag == 'S')
		*ret = TOC_REG;
	else
		return tar_bad(t, e, -EOPNOTSUPP, "entry of an unknown type");
	return 0;
}

/* A number of PAX, else of the block; from 0 to max. */
static int number(struct tar_num pax, const uint8_t *field, size_t len,
		  int64_t max, int64_t *ret)
{
	if (pax.set)
		*ret = pax.v;
	else if (tar_number(field, len, ret) < 0)
		return -EBADMSG;
	return *ret < 0 || *ret > max ? -EBADMSG : 0;
}

static int numbers(struct tar *t, const uint8_t *h, struct tar_entry *ret,
		   struct err *e)
{
	const struct tar_num none = {0};
	int64_t v, minor;

	if (tar_number(h + TAR_MODE, 8, &v) < 0)
		return tar_bad(t, e, -EBADMSG, "bad mode");
	ret->mode = (uint32_t)v & 07777;
	if (number(t->pax.uid, h + TAR_UID, 8, UINT32_MAX, &v) < 0)
		return tar_bad(t, e, -EBADMSG, "bad user id");
	ret->uid = (uint32_t)v;
	if (number(t->pax.gid, h + TAR_GID, 8, UINT32_MAX, &v) < 0)
		return tar_bad(t, e, -EBADMSG, "bad group id");
	ret->gid = (uint32_t)v;
	ret->mtime = t->pax.mtime.v;
	if (!t->pax.mtime.set && tar_number(h + TAR_MTIME, 12, &ret->mtime) < 0)
		return tar_bad(t, e, -EBADMSG, "bad time");
	if (ret->type != TOC_CHAR && ret->type != TOC_BLOCK)
		return 0;
	if (number(none, h + TAR_DEVMAJOR, 8, DEV_MAJOR_MAX, &v) < 0 ||
	    number(none, h + TAR_DEVMINOR, 8, DEV_MINOR_MAX, &minor) < 0)
		return tar_bad(t, e, -EBADMSG, "bad device number");
	ret->devmajor = (uint32_t)v;
	ret->devminor = (uint32_t)minor;
	return 0;
}

static int compare_xattrs(const void *a, const void *b)
{
	const struct toc_xattr *x = a, *y = b;
	int r = strcmp(x->name, y->name);

	/* Texts are in the order of the records. */
	return r != 0 ? r : (x->name > y->name) - (x->name < y->name);
}

/* Of several of a name the last one counts. */
static void xattrs(struct tar *t, struct tar_entry *ret)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n_raw_xattrs; i++) {
		const struct tar_raw_xattr *x = &t->raw_xattrs[i];

		t->xattrs[i] = (struct toc_xattr){
			.name = text_add(t, t->head.p + x->name.off,
					 x->name.len),
			.value = (const uint8_t *)t->head.p + x->value.off,
			.value_len = (uint32_t)x->value.len};
	}
	if (t->n_raw_xattrs > 1)
		qsort(t->xattrs, t->n_raw_xattrs, sizeof(t->xattrs[0]),
		      compare_xattrs);
	for (size_t i = 0; i < t->n_raw_xattrs; i++) {
		if (i + 1 < t->n_raw_xattrs &&
		    strcmp(t->xattrs[i].name, t->xattrs[i + 1].name) == 0)
			continue;
		t->xattrs[n++] = t->xattrs[i];
	}
	ret->xattrs = t->xattrs;
	ret->n_xattrs = n;
}

static int clean(const struct tar *t, char *p, size_t *len, struct err *e)
{
	int r;

	*len = strlen(p);
	r = toc_path_clean(p, len);
	return r < 0 ? tar_bad(t, e, r, "path is too long or too deep") : 0;
}

static int link_of(struct tar *t, const uint8_t *h, struct tar_entry *ret,
		   struct err *e)
{
	char *link;

	if (ret->type != TOC_SYMLINK && ret->type != TOC_HARDLINK)
		return 0;
	link = choose(t, t->longlink, t->pax.linkpath, h + TAR_LINK,
		      TAR_LINK_LEN);
	ret->link = link;
	ret->link_len = strlen(link);
	if (ret->link_len == 0)
		return tar_bad(t, e, -EBADMSG, "link without a target");
	if (ret->type == TOC_SYMLINK)
		return ret->link_len < TOC_NAME_BYTES_MAX
			       ? 0
			       : tar_bad(t, e, -EOVERFLOW,
					 "symbolic link is too long");
	if (clean(t, link, &ret->link_len, e) < 0)
		return -EOVERFLOW;
	if (ret->link_len == 0)
		return tar_bad(t, e, -EBADMSG, "hard link to the root");
	return 0;
}

/* The name as it is written, then cleaned in place. */
static char *name_of(struct tar *t, const uint8_t *h)
{
	const struct tar_text none = {0};

	if (t->longname.set && t->longname.len > 0)
		return choose(t, t->longname, none, h, 0);
	if (t->pax.sparse_name.set)
		return choose(t, none, t->pax.sparse_name, h, 0);
	if (t->pax.path.set)
		return choose(t, none, t->pax.path, h, 0);
	return block_name(t, h);
}

static int payload_start(struct tar *t, size_t block, struct tar_entry *ret,
			 struct err *e)
{
	const uint8_t *h = (const uint8_t *)t->head.p + block;
	uint64_t stored;
	int64_t v;
	int r;

	if (number(t->pax.size, h + TAR_SIZE, TAR_SIZE_LEN, INT64_MAX, &v) < 0)
		return tar_bad(t, e, -EBADMSG, "bad size");
	t->size = stored = (uint64_t)v;
	t->pad = -(uint32_t)stored % TAR_BLOCK_BYTES;
	r = tar_sparse_start(t, block, &stored, e);
	if (r < 0)
		return r;
	t->left = ret->data_len = stored;
	ret->size = t->size;
	return 0;
}

static int entry(struct tar *t, size_t block, struct tar_entry *ret,
		 struct err *e)
{
	const uint8_t *h = (const uint8_t *)t->head.p + block;
	const struct tar_text none = {0};
	char flag = t->head.p[block + TAR_TYPE], *name, *raw;
	size_t raw_len;
	int r;

	/* Each text is a part of the head, and gets one NUL. */
	buf_clear(&t->text);
	if (buf_reserve(&t->text, t->head.len * 2 + KIB(4)) < 0)
		return tar_bad(t, e, -ENOMEM, "no memory");
	raw = name_of(t, h);
	raw_len = strlen(raw);
	name = text_add(t, raw, raw_len);
	t->name = raw;
	r = type_of(t, flag, name, &ret->type, e);
	if (r == 0)
		r = clean(t, name, &ret->name_len, e);
	if (r < 0)
		return r;
	ret->name = name;
	if (ret->name_len == 0 && ret->type != TOC_DIR)
		return tar_bad(t, e, -EBADMSG, "no name");
	r = link_of(t, h, ret, e);
	if (r == 0)
		r = numbers(t, h, ret, e);
	if (r < 0)
		return r;
	ret->uname =
		choose(t, none, t->pax.uname, h + TAR_UNAME, TAR_OWNER_LEN);
	ret->gname =
		choose(t, none, t->pax.gname, h + TAR_GNAME, TAR_OWNER_LEN);
	xattrs(t, ret);
	if (ret->type == TOC_REG)
		r = payload_start(t, block, ret, e);
	if (r == 0 && t->sparse && tar_make_plain(t, block, raw, raw_len) < 0)
		return tar_bad(t, e, -EOVERFLOW, "no room for its header");
	return r;
}

/* To the block behind the last entry. */
static int finish(struct tar *t, struct err *e)
{
	uint64_t n, left = t->left;
	int r = skip(t, left, &n, e);

	if (r < 0)
		return r;
	if (n < left)
		return tar_bad(t, e, -EBADMSG, "the archive ends in its data");
	/* Not all write the last padding. */
	r = skip(t, t->pad, &n, e);
	t->left = t->pad = 0;
	return r;
}

int tar_next(struct tar *t, struct tar_entry *ret, struct err *e)
{
	struct tar_entry x = {.uname = "", .gname = ""};
	size_t block;
	int r;

	if (t->done)
		return 0;
	r = finish(t, e);
	if (r < 0)
		return r;
	buf_clear(&t->head);
	t->pax = (struct tar_pax){0};
	t->longname = t->longlink = (struct tar_text){0};
	t->n_raw_xattrs = 0;
	t->segs.n = 0;
	t->sparse = false;
	t->size = t->pos = 0;
	t->name = NULL;
	t->head_off = x.head_off = t->off;
	r = head_collect(t, &block, e);
	if (r <= 0)
		return r;
	if (t->head.p[block + TAR_TYPE] != 'g') {
		r = entry(t, block, &x, e);
		if (r < 0)
			return r;
	}
	x.sparse = t->sparse;
	x.head = (const uint8_t *)(x.sparse ? t->made.p : t->head.p);
	x.head_len = x.sparse ? t->made.len : t->head.len;
	x.data_off = t->off;
	*ret = x;
	return 1;
}

/* Zeros up to the next piece, or bytes of it. */
static ssize_t sparse_read(struct tar *t, void *p, size_t n, struct err *e)
{
	const struct tar_seg *s;
	uint64_t end;
	ssize_t got;

	while (t->seg < t->segs.n &&
	       t->pos >= t->segs.p[t->seg].off + t->segs.p[t->seg].len)
		t->seg++;
	s = t->seg < t->segs.n ? &t->segs.p[t->seg] : NULL;
	if (s == NULL || t->pos < s->off) {
		end = s != NULL ? s->off : t->size;
		n = (size_t)MIN((uint64_t)n, end - t->pos);
		memset(p, 0, n);
		return (ssize_t)n;
	}
	n = (size_t)MIN((uint64_t)n, s->off + s->len - t->pos);
	got = tar_take(t, p, n, e);
	if (got > 0)
		t->left -= (uint64_t)got;
	return got;
}

ssize_t tar_read(struct tar *t, void *p, size_t n, struct err *e)
{
	size_t done = 0;

	n = (size_t)MIN((uint64_t)n, t->size - t->pos);
	while (done < n) {
		uint8_t *at = (uint8_t *)p + done;
		ssize_t got;

		if (t->sparse) {
			got = sparse_read(t, at, n - done, e);
		} else {
			got = tar_take(t, at, n - done, e);
			if (got > 0)
				t->left -= (uint64_t)got;
		}
		if (got < 0)
			return got;
		if (got == 0)
			return tar_bad(t, e, -EBADMSG,
				       "the archive ends in its data");
		done += (size_t)got;
		t->pos += (uint64_t)got;
	}
	return (ssize_t)done;
}
