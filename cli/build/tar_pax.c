/* SPDX-License-Identifier: Apache-2.0 */
/* Extended headers: records "LENGTH KEY=VALUE\n". */
#include "config.h"

#include <string.h>

#include "cli/build/tar_int.h"
#include "common/limits.h"

#define XATTR_PREFIX "SCHILY.xattr."

enum kind {
	KIND_TEXT,
	KIND_NUM,
	KIND_TIME
};

static const struct key {
	const char *key;
	enum kind kind;
	size_t off;
} keys[] = {
	{"path", KIND_TEXT, offsetof(struct tar_pax, path)},
	{"linkpath", KIND_TEXT, offsetof(struct tar_pax, linkpath)},
	{"uname", KIND_TEXT, offsetof(struct tar_pax, uname)},
	{"gname", KIND_TEXT, offsetof(struct tar_pax, gname)},
	{"size", KIND_NUM, offsetof(struct tar_pax, size)},
	{"uid", KIND_NUM, offsetof(struct tar_pax, uid)},
	{"gid", KIND_NUM, offsetof(struct tar_pax, gid)},
	{"mtime", KIND_TIME, offsetof(struct tar_pax, mtime)},
	{"GNU.sparse.name", KIND_TEXT, offsetof(struct tar_pax, sparse_name)},
	{"GNU.sparse.major", KIND_NUM, offsetof(struct tar_pax, sparse_major)},
	{"GNU.sparse.minor", KIND_NUM, offsetof(struct tar_pax, sparse_minor)},
	{"GNU.sparse.size", KIND_NUM, offsetof(struct tar_pax, sparse_size)},
	{"GNU.sparse.realsize", KIND_NUM,
	 offsetof(struct tar_pax, sparse_size)},
};

int tar_decimal(const char *p, size_t len, int64_t *ret)
{
	bool minus = len > 0 && p[0] == '-';
	size_t i = minus || (len > 0 && p[0] == '+');
	int64_t v = 0;

	if (i == len)
		return -EBADMSG;
	for (; i < len; i++) {
		if (p[i] < '0' || p[i] > '9' ||
		    __builtin_mul_overflow(v, 10, &v) ||
		    __builtin_sub_overflow(v, p[i] - '0', &v))
			return -EBADMSG;
	}
	/* Collected below zero, where there is one more. */
	if (!minus && __builtin_sub_overflow(0, v, &v))
		return -EBADMSG;
	*ret = v;
	return 0;
}

/* Seconds with a fraction, rounded down. */
static int time_parse(const char *p, size_t len, int64_t *ret)
{
	const char *dot = memchr(p, '.', len);
	size_t whole = dot != NULL ? (size_t)(dot - p) : len;
	bool minus = p[0] == '-', fraction = false;

	if (tar_decimal(p, whole, ret) < 0)
		return -EBADMSG;
	for (size_t i = whole + 1; i < len; i++) {
		if (p[i] < '0' || p[i] > '9')
			return -EBADMSG;
		fraction = fraction || p[i] != '0';
	}
	if (minus && fraction && __builtin_sub_overflow(*ret, 1, ret))
		return -EBADMSG;
	return 0;
}

int tar_pax_record(const char *p, size_t len, size_t *off, const char **ret_key,
		   size_t *ret_key_len, const char **ret_value,
		   size_t *ret_value_len)
{
	const char *rec = p + *off, *space, *eq;
	size_t left = len - *off, n;
	int64_t v;

	space = memchr(rec, ' ', left);
	if (space == NULL || rec[0] < '0' || rec[0] > '9' ||
	    tar_decimal(rec, (size_t)(space - rec), &v) < 0)
		return -EBADMSG;
	if (v < 5 || (uint64_t)v > left || rec + v <= space + 1 ||
	    rec[v - 1] != '\n')
		return -EBADMSG;
	n = (size_t)v;
	*ret_key = space + 1;
	eq = memchr(*ret_key, '=', (size_t)(rec + n - 1 - *ret_key));
	if (eq == NULL || eq == *ret_key)
		return -EBADMSG;
	*ret_key_len = (size_t)(eq - *ret_key);
	*ret_value = eq + 1;
	*ret_value_len = (size_t)(rec + n - 1 - *ret_value);
	*off += n;
	return 0;
}

static bool key_is(const char *key, size_t len, const char *name)
{
	return strlen(name) == len && memcmp(key, name, len) == 0;
}

static struct tar_text text_of(const struct tar *t, const char *p, size_t len)
{
	return (struct tar_text){
		.off = (size_t)(p - t->head.p), .len = len, .set = true};
}

static int xattr_add(struct tar *t, const char *key, size_t key_len,
		     const char *value, size_t value_len)
{
	size_t skip = sizeof(XATTR_PREFIX) - 1;
	struct tar_raw_xattr *x;

	if (key_len == skip)
		return -EBADMSG;
	if (key_len - skip > XATTR_NAME_BYTES_MAX ||
	    value_len > XATTR_VALUE_BYTES_MAX ||
	    t->n_raw_xattrs == TOC_XATTRS_MAX)
		return -EOVERFLOW;
	if (t->n_raw_xattrs == t->raw_xattrs_cap) {
		size_t cap = MAX((size_t)16, t->raw_xattrs_cap * 2);

		x = realloc(t->raw_xattrs, cap * sizeof(*x));
		if (x == NULL)
			return -ENOMEM;
		t->raw_xattrs = x;
		t->raw_xattrs_cap = cap;
	}
	t->raw_xattrs[t->n_raw_xattrs++] =
		(struct tar_raw_xattr){text_of(t, key + skip, key_len - skip),
				       text_of(t, value, value_len)};
	return 0;
}

/* "OFFSET,LENGTH,…" of 0.1. */
static int map_parse(struct tar *t, const char *p, size_t len)
{
	t->segs.n = 0;
	t->pax.sparse_map = len > 0;
	for (size_t i = 0; i < len;) {
		int64_t v[2];

		for (size_t k = 0; k < 2; k++) {
			const char *comma =
				i < len ? memchr(p + i, ',', len - i) : NULL;
			size_t end = comma != NULL ? (size_t)(comma - p) : len;

			if (i >= len ||
			    tar_decimal(p + i, end - i, &v[k]) < 0 || v[k] < 0)
				return -EBADMSG;
			i = end + 1;
		}
		int r = tar_seg_add(t, (uint64_t)v[0], (uint64_t)v[1]);

		if (r < 0)
			return r;
	}
	return 0;
}

/* The pieces of 0.0 come one by one, an offset and a length in turn. */
static int map_piece(struct tar *t, bool length, const char *value, size_t len)
{
	int64_t v;

	if (length != t->pax.sparse_half || tar_decimal(value, len, &v) < 0 ||
	    v < 0)
		return -EBADMSG;
	t->pax.sparse_half = !length;
	t->pax.sparse_map = true;
	if (!length)
		return tar_seg_add(t, (uint64_t)v, 0);
	t->segs.p[t->segs.n - 1].len = (uint64_t)v;
	return 0;
}

static int known_key(struct tar *t, const struct key *k, const char *value,
		     size_t len)
{
	char *field = (char *)&t->pax + k->off;
	struct tar_num n = {.set = len > 0};
	struct tar_text text = {0};
	int r = 0;

	if (k->kind == KIND_TEXT) {
		if (memchr(value, '\0', len) != NULL)
			return -EBADMSG;
		if (len > 0)
			text = text_of(t, value, len);
		memcpy(field, &text, sizeof(text));
		return 0;
	}
	if (len > 0 && k->kind == KIND_NUM)
		r = tar_decimal(value, len, &n.v);
	else if (len > 0)
		r = time_parse(value, len, &n.v);
	memcpy(field, &n, sizeof(n));
	return r;
}

static int record_apply(struct tar *t, const char *key, size_t key_len,
			const char *value, size_t len)
{
	if (memchr(key, '\0', key_len) != NULL)
		return -EBADMSG;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (key_is(key, key_len, keys[i].key))
			return known_key(t, &keys[i], value, len);
	}
	if (key_len >= sizeof(XATTR_PREFIX) - 1 &&
	    memcmp(key, XATTR_PREFIX, sizeof(XATTR_PREFIX) - 1) == 0)
		return xattr_add(t, key, key_len, value, len);
	if (key_is(key, key_len, "GNU.sparse.map"))
		return map_parse(t, value, len);
	if (key_is(key, key_len, "GNU.sparse.offset"))
		return map_piece(t, false, value, len);
	if (key_is(key, key_len, "GNU.sparse.numbytes"))
		return map_piece(t, true, value, len);
	return 0;
}

int tar_pax_parse(struct tar *t, struct tar_text text, struct err *e)
{
	const char *p = t->head.p + text.off;
	size_t off = 0;

	t->pax = (struct tar_pax){.all = text};
	t->n_raw_xattrs = 0;
	t->segs.n = 0;
	while (off < text.len) {
		const char *key, *value;
		size_t key_len, value_len;
		int r;

		r = tar_pax_record(p, text.len, &off, &key, &key_len, &value,
				   &value_len);
		if (r == 0)
			r = record_apply(t, key, key_len, value, value_len);
		if (r == -EOVERFLOW)
			return tar_bad(t, e, r,
				       "an extended attribute, or a map of "
				       "holes, is over the limit");
		if (r < 0)
			return tar_bad(t, e, r, "bad PAX record");
	}
	if (t->pax.sparse_half)
		return tar_bad(t, e, -EBADMSG, "bad map of holes");
	return 0;
}
