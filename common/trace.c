/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/trace.h"

#include <inttypes.h>
#include <string.h>

#include "common/json.h"

#define TRACE_VERSION 1u
#define READS_FIRST 256u

enum {
	SEEN_VERSION = 1,
	SEEN_LAYERS = 2,
	SEEN_READS = 4,
	SEEN_NEEDED = 7,
};

void trace_done(struct trace *t)
{
	free(t->layers);
	free(t->reads);
	*t = (struct trace){0};
}

static int bad(const struct json *j, struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "trace: byte %zu: %s", j->off,
		       j->why != NULL ? j->why : what);
}

/* Room for one more of @size in an array that grows by doubling. */
static int grow(void **p, size_t n, size_t *cap, size_t max, size_t size,
		struct err *e)
{
	size_t want = MIN(MAX(*cap * 2, (size_t)READS_FIRST), max);
	void *q;

	if (n < *cap)
		return 0;
	if (n >= max)
		return err_set(e, -EOVERFLOW, "trace: more than %zu entries",
			       max);
	q = realloc(*p, want * size);
	if (q == NULL)
		return err_no_memory(e);
	*p = q;
	*cap = want;
	return 0;
}

static int parse_version(struct json *j, struct err *e)
{
	uint64_t v;

	if (json_next(j) != JSON_NUMBER || json_u64(j, INT64_MAX, &v) < 0)
		return bad(j, e, "version is not a number");
	if (v != TRACE_VERSION)
		return err_set(e, -EOPNOTSUPP, "trace: version %" PRIu64, v);
	return 0;
}

static int parse_layers(struct json *j, struct trace *t, struct err *e)
{
	size_t cap = 0;
	enum json_tok tok;

	if (json_next(j) != JSON_ARRAY)
		return bad(j, e, "layers is not an array");
	while ((tok = json_next(j)) != JSON_ARRAY_END) {
		void *p = t->layers;
		int r;

		if (tok != JSON_STRING)
			return bad(j, e, "a layer is not a string");
		r = grow(&p, t->n_layers, &cap, TRACE_LAYERS_MAX,
			 sizeof(*t->layers), e);
		t->layers = p;
		if (r < 0)
			return r;
		if (digest_parse(j->str, j->str_len, &t->layers[t->n_layers]) <
		    0)
			return bad(j, e, "a layer is not a sha256 digest");
		t->n_layers++;
	}
	return 0;
}

/* [layer,offset,length], behind its '['. */
static int parse_read(struct json *j, struct trace_read *ret, struct err *e)
{
	static const uint64_t max[] = {TRACE_LAYERS_MAX - 1, INT64_MAX,
				       INT64_MAX};
	uint64_t v[ARRAY_SIZE(max)];

	for (size_t i = 0; i < ARRAY_SIZE(max); i++) {
		if (json_next(j) != JSON_NUMBER ||
		    json_u64(j, max[i], &v[i]) < 0)
			return bad(j, e, "a read is not three numbers");
	}
	if (json_next(j) != JSON_ARRAY_END)
		return bad(j, e, "a read is not three numbers");
	if (v[2] == 0 || v[2] > INT64_MAX - v[1])
		return bad(j, e, "a read is empty or past every end");
	*ret = (struct trace_read){
		.layer = (uint32_t)v[0],
		.off = v[1],
		.len = v[2],
	};
	return 0;
}

static int parse_reads(struct json *j, struct trace *t, struct err *e)
{
	size_t cap = 0;
	enum json_tok tok;

	if (json_next(j) != JSON_ARRAY)
		return bad(j, e, "reads is not an array");
	while ((tok = json_next(j)) != JSON_ARRAY_END) {
		void *p = t->reads;
		int r;

		if (tok != JSON_ARRAY)
			return bad(j, e, "a read is not an array");
		r = grow(&p, t->n_reads, &cap, TRACE_READS_MAX,
			 sizeof(*t->reads), e);
		t->reads = p;
		if (r == 0)
			r = parse_read(j, &t->reads[t->n_reads], e);
		if (r < 0)
			return r;
		t->n_reads++;
	}
	return 0;
}

static int parse_data(struct json *j, struct trace *t, struct err *e)
{
	if (json_next(j) != JSON_STRING ||
	    digest_parse(j->str, j->str_len, &t->data) < 0)
		return bad(j, e, "data is not a sha256 digest");
	t->has_data = true;
	return 0;
}

static int parse_member(struct json *j, struct trace *t, unsigned *seen,
			struct err *e)
{
	static const char *const names[] = {"version", "layers", "reads",
					    "data"};
	size_t i = 0;

	while (i < ARRAY_SIZE(names) &&
	       (j->str_len != strlen(names[i]) ||
		memcmp(j->str, names[i], j->str_len) != 0))
		i++;
	if (i == ARRAY_SIZE(names))
		return json_skip(j) < 0 ? bad(j, e, "malformed") : 0;
	if ((*seen & 1u << i) != 0)
		return bad(j, e, "a key twice");
	*seen |= 1u << i;
	if (1u << i == SEEN_VERSION)
		return parse_version(j, e);
	if (1u << i == SEEN_LAYERS)
		return parse_layers(j, t, e);
	if (1u << i == SEEN_READS)
		return parse_reads(j, t, e);
	return parse_data(j, t, e);
}

static int parse(struct json *j, struct trace *t, struct err *e)
{
	unsigned seen = 0;
	enum json_tok tok;

	if (json_next(j) != JSON_OBJECT)
		return bad(j, e, "not an object");
	while ((tok = json_next(j)) == JSON_KEY) {
		int r = parse_member(j, t, &seen, e);

		if (r < 0)
			return r;
	}
	if (tok != JSON_OBJECT_END || json_next(j) != JSON_END)
		return bad(j, e, "malformed");
	if ((seen & SEEN_NEEDED) != SEEN_NEEDED)
		return bad(j, e, "version, layers or reads is missing");
	for (size_t i = 0; i < t->n_reads; i++) {
		if (t->reads[i].layer >= t->n_layers)
			return bad(j, e, "a read of a layer that is not there");
	}
	return 0;
}

int trace_parse(const char *json, size_t len, struct trace *ret, struct err *e)
{
	CLEANUP_TRACE struct trace t = {0};
	CLEANUP_FREE char *text = NULL;
	struct json j;
	int r;

	if (len > TRACE_BYTES_MAX)
		return err_set(e, -EOVERFLOW, "trace: larger than %u bytes",
			       (unsigned)TRACE_BYTES_MAX);
	text = malloc(MAX(len, (size_t)1)); /* the parser changes it */
	if (text == NULL)
		return err_no_memory(e);
	memcpy(text, json, len);
	json_start(&j, text, len);
	r = parse(&j, &t, e);
	if (r < 0)
		return r;
	*ret = t;
	t = (struct trace){0};
	return 0;
}

int trace_print(const struct trace *t, struct buf *ret)
{
	char digest[DIGEST_STR_BYTES];
	int r;

	if (t->n_layers > TRACE_LAYERS_MAX || t->n_reads > TRACE_READS_MAX)
		return -EOVERFLOW;
	r = buf_addf(ret, "{\"version\":%u,\"layers\":[", TRACE_VERSION);
	for (size_t i = 0; r == 0 && i < t->n_layers; i++)
		r = buf_addf(ret, "%s\"%s\"", i > 0 ? "," : "",
			     digest_str(&t->layers[i], digest));
	if (r == 0)
		r = buf_add_str(ret, "],\"reads\":[");
	for (size_t i = 0; r == 0 && i < t->n_reads; i++) {
		const struct trace_read *rd = &t->reads[i];

		r = buf_addf(ret, "%s[%u,%" PRIu64 ",%" PRIu64 "]",
			     i > 0 ? "," : "", rd->layer, rd->off, rd->len);
	}
	if (r == 0 && t->has_data)
		r = buf_addf(ret, "],\"data\":\"%s\"}",
			     digest_str(&t->data, digest));
	else if (r == 0)
		r = buf_add_str(ret, "]}");
	return r;
}
