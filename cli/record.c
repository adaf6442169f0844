/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/record.h"

#include <inttypes.h>
#include <string.h>

#include "common/json.h"
#include "common/limits.h"
#include "common/toc_text.h"

static void file_done(struct record_file *f)
{
	free(f->path);
	free(f->ranges);
	free(f->first);
	*f = (struct record_file){0};
}

void record_done(struct record *r)
{
	for (size_t i = 0; i < r->n_files; i++)
		file_done(&r->files[i]);
	free(r->files);
	*r = (struct record){0};
}

/* Room for one more of an array that doubles. */
static int grow(void *pp, size_t n, size_t size)
{
	void *p;

	/* Full where n is a power of two. */
	if ((n & (n - 1)) != 0)
		return 0;
	p = reallocarray(*(void **)pp, n == 0 ? 1 : n * 2, size);
	if (p == NULL)
		return -ENOMEM;
	*(void **)pp = p;
	return 0;
}

struct record_file *record_add(struct record *r, const char *path)
{
	struct record_file *f;

	if (grow(&r->files, r->n_files, sizeof(*r->files)) < 0)
		return NULL;
	f = &r->files[r->n_files];
	*f = (struct record_file){
		.path = strdup(path),
		.layer = RECORD_LAYER_ANY,
	};
	if (f->path == NULL)
		return NULL;
	r->n_files++;
	return f;
}

int record_add_range(struct record_file *f, uint64_t off, uint64_t len,
		     uint64_t first)
{
	if (grow(&f->ranges, f->n_ranges, sizeof(*f->ranges)) < 0 ||
	    grow(&f->first, f->n_ranges, sizeof(*f->first)) < 0)
		return -ENOMEM;
	f->ranges[f->n_ranges] = (struct build_range){.off = off, .len = len};
	f->first[f->n_ranges] = first;
	f->n_ranges++;
	return 0;
}

/* ---- parsing ----------------------------------------------------------- */

/* One line, and what it has so far. */
struct line {
	struct json j;
	struct record_file f;
	bool has_path;
	size_t ranges_left;
	const char *why; /* where it is not that of the JSON */
};

static int wrong(struct line *l, const char *why)
{
	if (l->why == NULL)
		l->why = why;
	return -EBADMSG;
}

/* [offset, length] or [offset, length, number]; the bracket was read. */
static int parse_range(struct line *l)
{
	uint64_t v[3] = {0};
	size_t n = 0;
	enum json_tok t;

	while ((t = json_next(&l->j)) == JSON_NUMBER) {
		if (n == ARRAY_SIZE(v) || json_u64(&l->j, INT64_MAX, &v[n]) < 0)
			return wrong(l, "a range is not two or three numbers");
		n++;
	}
	if (t != JSON_ARRAY_END || n < 2)
		return wrong(l, "a range is not two or three numbers");
	if (v[1] == 0 || v[1] > INT64_MAX - v[0])
		return wrong(l, "a range is empty, or ends too late");
	if (l->ranges_left == 0)
		return -EOVERFLOW;
	l->ranges_left--;
	return record_add_range(&l->f, v[0], v[1], v[2]);
}

static int parse_ranges(struct line *l)
{
	enum json_tok t;
	int r = 0;

	if (json_next(&l->j) != JSON_ARRAY)
		return wrong(l, "ranges is not a list");
	while (r == 0 && (t = json_next(&l->j)) != JSON_ARRAY_END)
		r = t == JSON_ARRAY ? parse_range(l)
				    : wrong(l, "ranges is not a list of lists");
	return r;
}

static int parse_path(struct line *l)
{
	size_t len;

	if (json_next(&l->j) != JSON_STRING)
		return wrong(l, "path is not a string");
	len = l->j.str_len;
	if (toc_path_clean(l->j.str, &len) < 0)
		return wrong(l, "path is not one");
	free(l->f.path);
	l->f.path = strdup(l->j.str);
	l->has_path = len > 0;
	return l->f.path != NULL ? 0 : -ENOMEM;
}

static int parse_value(struct line *l)
{
	const char *key = l->j.str;
	uint64_t v;

	if (strcmp(key, "path") == 0)
		return parse_path(l);
	if (strcmp(key, "ranges") == 0)
		return parse_ranges(l);
	if (strcmp(key, "manifestDigest") == 0) {
		if (json_next(&l->j) != JSON_STRING ||
		    digest_parse(l->j.str, l->j.str_len, &l->f.manifest) < 0)
			return wrong(l, "manifestDigest is not a digest");
		return 0;
	}
	if (strcmp(key, "layerIndex") == 0) {
		if (json_next(&l->j) != JSON_NUMBER ||
		    json_u64(&l->j, MANIFEST_LAYERS_MAX - 1, &v) < 0)
			return wrong(l, "layerIndex is not one");
		l->f.layer = (uint32_t)v;
		return 0;
	}
	return json_skip(&l->j);
}

static int parse_line(struct line *l, char *text, size_t len)
{
	enum json_tok t;
	int r = 0;

	json_start(&l->j, text, len);
	if (json_next(&l->j) != JSON_OBJECT)
		return wrong(l, "not a JSON object");
	while (r == 0 && (t = json_next(&l->j)) != JSON_OBJECT_END)
		r = t == JSON_KEY ? parse_value(l) : -EBADMSG;
	if (r == 0 && json_next(&l->j) != JSON_END)
		r = -EBADMSG;
	if (r == 0 && !l->has_path)
		r = wrong(l, "no path");
	return r;
}

static bool is_blank(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n && strchr(" \t\r", s[i]) != NULL && s[i] != '\0')
		i++;
	return i == n;
}

/* Appends the file of one line. */
static int take_line(struct record *to, char *text, size_t len,
		     size_t *ranges_left, const char **ret_why)
{
	struct line l = {
		.f.layer = RECORD_LAYER_ANY,
		.ranges_left = *ranges_left,
	};
	int r = to->n_files < TOC_ENTRIES_MAX ? parse_line(&l, text, len)
					      : -EOVERFLOW;

	if (r == 0)
		r = grow(&to->files, to->n_files, sizeof(*to->files));
	if (r == 0) {
		to->files[to->n_files++] = l.f;
		*ranges_left = l.ranges_left;
		return 0;
	}
	file_done(&l.f);
	*ret_why = r == -EOVERFLOW   ? "too much of it"
		   : r == -ENOMEM    ? err_name(r)
		   : l.why != NULL   ? l.why
		   : l.j.why != NULL ? l.j.why
				     : "malformed";
	return r;
}

int record_parse(const char *text, size_t len, struct record *ret,
		 struct err *e)
{
	CLEANUP_FREE char *copy = NULL;
	CLEANUP_RECORD struct record all = {0};
	size_t ranges_left = RECORD_RANGES_MAX, line = 0;

	if (len > RECORD_BYTES_MAX)
		return err_set(e, -EOVERFLOW, "more than %" PRIu64 " bytes",
			       RECORD_BYTES_MAX);
	copy = malloc(len + 1);
	if (copy == NULL)
		return err_no_memory(e);
	memcpy(copy, text, len);
	for (size_t at = 0, n; at < len; at += n + 1) {
		char *end = memchr(copy + at, '\n', len - at);
		const char *why;
		int r;

		n = end != NULL ? (size_t)(end - copy) - at : len - at;
		line++;
		if (is_blank(copy + at, n))
			continue;
		r = take_line(&all, copy + at, n, &ranges_left, &why);
		if (r < 0)
			return err_set(e, r, "line %zu: %s", line, why);
	}
	*ret = all;
	all = (struct record){0};
	return 0;
}

/* ---- printing ---------------------------------------------------------- */

static int print_ranges(const struct record_file *f, struct buf *b)
{
	int r = buf_add_str(b, ",\"ranges\":[");

	for (size_t i = 0; r == 0 && i < f->n_ranges; i++) {
		r = buf_addf(b, "%s[%" PRIu64 ",%" PRIu64, i > 0 ? "," : "",
			     f->ranges[i].off, f->ranges[i].len);
		if (r == 0 && f->first[i] != 0)
			r = buf_addf(b, ",%" PRIu64, f->first[i]);
		if (r == 0)
			r = buf_add_str(b, "]");
	}
	return r < 0 ? r : buf_add_str(b, "]");
}

static int print_file(const struct record_file *f, struct buf *b)
{
	static const struct digest none;
	char d[DIGEST_STR_BYTES];
	int r = buf_add_str(b, "{\"path\":");

	if (r == 0)
		r = buf_add_json_str(b, f->path);
	if (r == 0 && !digest_equal(&f->manifest, &none))
		r = buf_addf(b, ",\"manifestDigest\":\"%s\"",
			     digest_str(&f->manifest, d));
	if (r == 0 && f->layer != RECORD_LAYER_ANY)
		r = buf_addf(b, ",\"layerIndex\":%" PRIu32, f->layer);
	if (r == 0 && f->n_ranges > 0)
		r = print_ranges(f, b);
	return r < 0 ? r : buf_add_str(b, "}\n");
}

int record_print(const struct record *r, struct buf *ret)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < r->n_files; i++)
		rc = print_file(&r->files[i], ret);
	return rc;
}
