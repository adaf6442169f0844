/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/filter.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "common/buf.h"
#include "common/utf8.h"

#define TEXT_BYTES_MAX MIB(4)
#define REGEXP_BYTES_MAX 4096u
#define MATCH_STEPS_MAX 1000000u
#define MATCH_HEAP_KIB_MAX 1024u
#define CONTEXT_BYTES 80 /* of the text in an error, on each side */
#define RUNE_BYTES_MAX 4u

/*** Runes ***/

#define RUNE_END (-1)
#define RUNE_BAD (-2)

static int32_t rune_at(const char *s, size_t *ret_bytes)
{
	static const unsigned char first[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	size_t n = utf8_len(s);
	int32_t rune;

	*ret_bytes = MAX(n, (size_t)1);
	if (n == 0)
		return RUNE_BAD;
	assert(n < ARRAY_SIZE(first));
	rune = (unsigned char)s[0] & first[n];
	for (size_t i = 1; i < n; i++)
		rune = rune << 6 | (s[i] & 0x3f);
	return rune;
}

static int rune_add(struct buf *b, uint32_t rune)
{
	char s[RUNE_BYTES_MAX];
	size_t n = rune < 0x80 ? 1 : rune < 0x800 ? 2 : rune < 0x10000 ? 3 : 4;

	/* A half of a surrogate pair is none. */
	if (rune >= 0xd800 && rune <= 0xdfff)
		rune = 0xfffd;
	if (n == 1) {
		s[0] = (char)rune;
		return buf_add(b, s, 1);
	}
	for (size_t i = n - 1; i > 0; i--, rune >>= 6)
		s[i] = (char)(0x80 | (rune & 0x3f));
	s[0] = (char)((0xf0u << (4 - n)) | rune);
	return buf_add(b, s, n);
}

static bool is_space(int32_t r)
{
	return r == ' ' || (r >= '\t' && r <= '\r') || r == 0x85 || r == 0xa0 ||
	       r == 0x1680 || (r >= 0x2000 && r <= 0x200a) || r == 0x2028 ||
	       r == 0x2029 || r == 0x202f || r == 0x205f || r == 0x3000;
}

static bool is_field(int32_t r)
{
	return (r >= '0' && r <= '9') || (r >= 'a' && r <= 'z') ||
	       (r >= 'A' && r <= 'Z') || r == '-' || r == '_';
}

static bool is_quote(int32_t r)
{
	return r == '/' || r == '|' || r == '"';
}

static bool is_operator(int32_t r)
{
	return r == '=' || r == '!' || r == '~';
}

/*** Tokens ***/

enum token {
	TOKEN_END,
	TOKEN_QUOTED,
	TOKEN_VALUE,
	TOKEN_FIELD,
	TOKEN_SEPARATOR, /* ',' or '.' */
	TOKEN_OPERATOR,
	TOKEN_BAD, /* see scan.why */
	TOKEN_OTHER,
};

/**
 * struct scan - where we are in a text
 * @at:		the next byte
 * @value:	behind an operator: what comes is a value
 * @why:	the first thing that was wrong
 * @pos, @end:	of the last token
 */
struct scan {
	const char *text;
	size_t len;
	size_t at;
	bool value;
	const char *why;
	size_t pos;
	size_t end;
};

static void complain(struct scan *s, const char *why)
{
	if (s->why == NULL)
		s->why = why;
}

static int32_t peek(struct scan *s, size_t *ret_bytes)
{
	int32_t r;

	*ret_bytes = 0;
	if (s->at >= s->len)
		return RUNE_END;
	r = rune_at(s->text + s->at, ret_bytes);
	if (r == RUNE_BAD)
		complain(s, "not UTF-8");
	return r;
}

static int32_t next(struct scan *s)
{
	size_t n;
	int32_t r = peek(s, &n);

	s->at += n;
	return r;
}

static void scan_while(struct scan *s, bool (*is)(int32_t r))
{
	size_t n;
	int32_t r;

	while ((r = peek(s, &n)) >= 0 && is(r))
		s->at += n;
}

static bool is_value(int32_t r)
{
	return r != ',' && !is_space(r);
}

static int digit(int32_t r)
{
	return r >= '0' && r <= '9'   ? r - '0'
	       : r >= 'a' && r <= 'f' ? r - 'a' + 10
	       : r >= 'A' && r <= 'F' ? r - 'A' + 10
				      : 16;
}

/* Behind a backslash. Return: what comes after the escape */
static int32_t scan_escape(struct scan *s, int32_t quote, bool *legal)
{
	int32_t r = next(s);
	int base = 16, n;

	if (r == quote || (r > 0 && strchr("abfnrtv\\", r) != NULL))
		return next(s);
	if (r >= '0' && r <= '7') {
		base = 8;
		n = 3;
	} else if (r == 'x' || r == 'u' || r == 'U') {
		n = r == 'x' ? 2 : r == 'u' ? 4 : 8;
		r = next(s);
	} else {
		complain(s, "illegal escape sequence");
		*legal = false;
		return r;
	}
	for (; n > 0 && digit(r) < base; n--)
		r = next(s);
	if (n > 0) {
		complain(s, "illegal numeric escape sequence");
		*legal = false;
	}
	return r;
}

static enum token scan_quoted(struct scan *s, int32_t quote)
{
	bool legal = true;
	int32_t r = next(s);

	while (r != quote) {
		if (r < 0 || r == '\n') {
			complain(s, "quoted literal not terminated");
			return TOKEN_BAD;
		}
		r = r == '\\' ? scan_escape(s, quote, &legal) : next(s);
	}
	return legal ? TOKEN_QUOTED : TOKEN_BAD;
}

static enum token scan_token(struct scan *s)
{
	int32_t r;

	do {
		s->pos = s->at;
		r = next(s);
	} while (r >= 0 && is_space(r));
	if (r == RUNE_END)
		return TOKEN_END;
	if (r == RUNE_BAD)
		return TOKEN_BAD;
	if (is_quote(r))
		return scan_quoted(s, r);
	if (r == ',' || r == '.') {
		s->value = false;
		return TOKEN_SEPARATOR;
	}
	if (is_operator(r)) {
		scan_while(s, is_operator);
		s->value = true;
		return TOKEN_OPERATOR;
	}
	if (s->value) {
		scan_while(s, is_value);
		s->value = false;
		return TOKEN_VALUE;
	}
	if (!is_field(r))
		return TOKEN_OTHER;
	scan_while(s, is_field);
	return TOKEN_FIELD;
}

static enum token scan(struct scan *s)
{
	enum token t = scan_token(s);

	s->end = s->at;
	return t;
}

/*** What a filter is ***/

enum field {
	FIELD_OTHER, /* nobody has it */
	FIELD_NAME,
	FIELD_PARENT,
	FIELD_KIND,
	FIELD_LABEL,
};

enum op {
	OP_PRESENT,
	OP_EQUAL,
	OP_NOT_EQUAL,
	OP_MATCHES,
};

/**
 * struct selector - one condition
 * @label:	of FIELD_LABEL
 * @value:	may have NULs in it, which nothing is equal to
 * @re, @match:	of OP_MATCHES
 */
struct selector {
	enum field field;
	enum op op;
	struct buf label;
	struct buf value;
	pcre2_code *re;
	pcre2_match_data *match;
};

/* All of them. */
struct clause {
	struct selector *v;
	size_t n;
};

/* One of them. */
struct filter {
	struct clause *v;
	size_t n;
	pcre2_match_context *limits;
};

static void selector_done(struct selector *s)
{
	buf_done(&s->label);
	buf_done(&s->value);
	pcre2_code_free(s->re);
	pcre2_match_data_free(s->match);
}

void filter_free(struct filter *f)
{
	if (f == NULL)
		return;
	for (size_t i = 0; i < f->n; i++) {
		for (size_t k = 0; k < f->v[i].n; k++)
			selector_done(&f->v[i].v[k]);
		free(f->v[i].v);
	}
	free(f->v);
	pcre2_match_context_free(f->limits);
	free(f);
}

/*** Parsing ***/

/* "filters: parse error: [name=bar >|,|< x]: why" */
static int parse_error(const struct scan *s, size_t pos, const char *why,
		       struct err *e)
{
	int before = (int)MIN(pos, (size_t)CONTEXT_BYTES);
	int after;

	if (pos >= s->len)
		return err_set(e, -EINVAL, "filters: parse error: [%.*s]: %s",
			       before, s->text + s->len - before, why);
	after = (int)MIN(s->len - pos - 1, (size_t)CONTEXT_BYTES);
	return err_set(e, -EINVAL,
		       "filters: parse error: [%.*s >|%c|< %.*s]: %s", before,
		       s->text + pos - before, s->text[pos], after,
		       s->text + pos + 1, why);
}

static uint32_t number(const char *s, size_t n, unsigned bits)
{
	uint32_t v = 0;

	for (size_t i = 0; i < n; i++)
		v = v << bits | (uint32_t)digit(s[i]);
	return v;
}

/* One escape, which the scanner has found to be one. Return: its bytes, 0: its
 * number is too large; -errno */
static int unescape(const char *s, struct buf *b)
{
	static const char from[] = "abfnrtv", to[] = "\a\b\f\n\r\t\v";
	const char *known = strchr(from, s[1]);
	char byte = known != NULL ? to[known - from] : s[1];
	bool rune = s[1] == 'u' || s[1] == 'U';
	uint32_t v = 0;
	int r, n = 2;

	if (rune) {
		n = s[1] == 'u' ? 6 : 10;
		v = number(s + 2, (size_t)n - 2, 4);
	} else if (s[1] == 'x') {
		n = 4;
		byte = (char)number(s + 2, 2, 4);
	} else if (s[1] >= '0' && s[1] <= '7') {
		n = 4;
		v = number(s + 1, 3, 3);
		byte = (char)v;
	}
	if (v > (rune ? 0x10ffff : 0xff))
		return 0;
	r = rune ? rune_add(b, v) : buf_add(b, &byte, 1);
	return r < 0 ? r : n;
}

/* The text of a quoted token, its quotes left out. */
static int unquote(const struct scan *s, bool any_quote, struct buf *b,
		   struct err *e)
{
	const char *p = s->text + s->pos, *end = s->text + s->end - 1;

	if (!any_quote && *p != '"')
		return parse_error(s, s->pos, "invalid quote encountered", e);
	for (p++; p < end;) {
		int n = 1, r = 0;

		if (*p == '\\')
			r = n = unescape(p, b);
		else
			r = buf_add(b, p, 1);
		if (r < 0)
			return err_set(e, r, "filters: %s", err_name(r));
		if (n == 0)
			return parse_error(s, s->pos,
					   "unquoting failed: number too large",
					   e);
		p += n;
	}
	return 0;
}

/* A plain token's text. */
static int plain(const struct scan *s, struct buf *b, struct err *e)
{
	int r = buf_add(b, s->text + s->pos, s->end - s->pos);

	return r < 0 ? err_set(e, r, "filters: %s", err_name(r)) : 0;
}

static int parse_field(struct scan *s, struct buf *b, struct err *e)
{
	switch (scan(s)) {
	case TOKEN_FIELD:
		return plain(s, b, e);
	case TOKEN_QUOTED:
		return unquote(s, false, b, e);
	case TOKEN_BAD:
		return parse_error(s, s->pos, s->why, e);
	case TOKEN_END:
	case TOKEN_VALUE:
	case TOKEN_SEPARATOR:
	case TOKEN_OPERATOR:
	case TOKEN_OTHER:
	default:
		return parse_error(s, s->pos, "expected field or quoted", e);
	}
}

static enum field field_of(const struct buf *b)
{
	static const struct {
		const char *name;
		enum field field;
	} fields[] = {{"name", FIELD_NAME},
		      {"parent", FIELD_PARENT},
		      {"kind", FIELD_KIND},
		      {"labels", FIELD_LABEL}};

	for (size_t i = 0; b->p != NULL && i < ARRAY_SIZE(fields); i++) {
		if (strcmp(b->p, fields[i].name) == 0)
			return fields[i].field;
	}
	return FIELD_OTHER;
}

/* Behind the first field: the name of a label, whose dots need no quotes. */
static int parse_path(struct scan *s, struct selector *sel, struct err *e)
{
	CLEANUP_BUF struct buf first = BUF_INIT(TEXT_BYTES_MAX);
	size_t n;
	int r;

	r = parse_field(s, &first, e);
	sel->field = field_of(&first);
	for (bool more = false; r == 0 && peek(s, &n) == '.'; more = true) {
		(void)scan(s);
		if (more && buf_add_str(&sel->label, ".") < 0)
			return err_no_memory(e);
		r = parse_field(s, &sel->label, e);
	}
	/* No label has a NUL in its name. */
	if (sel->label.p != NULL && strlen(sel->label.p) < sel->label.len)
		sel->field = FIELD_OTHER;
	return r;
}

static int parse_op(struct scan *s, struct selector *sel, struct err *e)
{
	static const char *const names[] = {
		[OP_EQUAL] = "==", [OP_NOT_EQUAL] = "!=", [OP_MATCHES] = "~="};
	enum token t = scan(s);

	if (t == TOKEN_BAD)
		return parse_error(s, s->pos, s->why, e);
	if (t != TOKEN_OPERATOR)
		return parse_error(s, s->pos,
				   "expected an operator "
				   "(\"==\"|\"!=\"|\"~=\")",
				   e);
	for (size_t i = OP_EQUAL; i < ARRAY_SIZE(names); i++) {
		if (s->end - s->pos == 2 &&
		    memcmp(s->text + s->pos, names[i], 2) == 0) {
			sel->op = (enum op)i;
			return 0;
		}
	}
	return parse_error(s, s->pos, "unsupported operator", e);
}

static int compile(const struct scan *s, size_t pos, struct selector *sel,
		   struct err *e)
{
	unsigned char why[128];
	int code;
	PCRE2_SIZE at;

	if (sel->value.len > REGEXP_BYTES_MAX)
		return parse_error(s, pos, "regular expression too long", e);
	sel->re = pcre2_compile(
		(PCRE2_SPTR)(sel->value.p != NULL ? sel->value.p : ""),
		sel->value.len,
		PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_DOLLAR_ENDONLY |
			PCRE2_NEVER_BACKSLASH_C,
		&code, &at, NULL);
	if (sel->re == NULL) {
		(void)pcre2_get_error_message(code, why, sizeof(why));
		return parse_error(s, pos, (const char *)why, e);
	}
	sel->match = pcre2_match_data_create(1, NULL);
	return sel->match != NULL ? 0 : err_no_memory(e);
}

static int parse_value(struct scan *s, struct selector *sel, struct err *e)
{
	enum token t = scan(s);
	size_t pos = s->pos;
	int r;

	if (t == TOKEN_BAD)
		return parse_error(s, pos, s->why, e);
	if (t == TOKEN_QUOTED)
		r = unquote(s, sel->op == OP_MATCHES, &sel->value, e);
	else if (t == TOKEN_VALUE || t == TOKEN_FIELD)
		r = plain(s, &sel->value, e);
	else
		return parse_error(s, pos, "expected value or quoted", e);
	if (r == 0 && sel->op == OP_MATCHES)
		r = compile(s, pos, sel, e);
	return r;
}

static int parse_selector(struct scan *s, struct selector *sel, struct err *e)
{
	size_t n;
	int32_t rune;
	int r;

	r = parse_path(s, sel, e);
	if (r < 0)
		return r;
	rune = peek(s, &n);
	if (rune == ',' || rune == RUNE_END)
		return 0;
	r = parse_op(s, sel, e);
	return r < 0 ? r : parse_value(s, sel, e);
}

static int parse_clause(struct scan *s, struct clause *c, struct err *e)
{
	size_t n;
	int r;

	for (;;) {
		struct selector *v;

		/* Room doubles: it is full when n is a power of two. */
		if ((c->n & (c->n - 1)) == 0) {
			size_t cap = c->n == 0 ? 1 : 2 * c->n;

			v = reallocarray(c->v, cap, sizeof(*v));
			if (v == NULL)
				return err_no_memory(e);
			c->v = v;
		}
		v = &c->v[c->n++];
		*v = (struct selector){.label = BUF_INIT(TEXT_BYTES_MAX),
				       .value = BUF_INIT(TEXT_BYTES_MAX)};
		r = parse_selector(s, v, e);
		if (r < 0)
			return r;
		switch (peek(s, &n)) {
		case RUNE_END:
			return 0;
		case ',':
			(void)scan(s);
			break;
		default:
			return parse_error(s, s->at, "unexpected input", e);
		}
	}
}

int filter_parse(struct filter **ret, const char *const *texts, size_t n,
		 struct err *e)
{
	struct filter *f = calloc(1, sizeof(*f));
	int r = 0;

	if (f != NULL) {
		f->v = calloc(MAX(n, (size_t)1), sizeof(*f->v));
		f->limits = pcre2_match_context_create(NULL);
	}
	if (f == NULL || f->v == NULL || f->limits == NULL) {
		filter_free(f);
		return err_no_memory(e);
	}
	(void)pcre2_set_match_limit(f->limits, MATCH_STEPS_MAX);
	(void)pcre2_set_heap_limit(f->limits, MATCH_HEAP_KIB_MAX);
	for (f->n = 0; f->n < n && r == 0; f->n++) {
		struct scan s = {.text = texts[f->n],
				 .len = strlen(texts[f->n])};

		/* An empty one is true. */
		if (s.len > 0)
			r = parse_clause(&s, &f->v[f->n], e);
	}
	if (r < 0) {
		filter_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

/*** Matching ***/

static const char *kind_name(enum snap_kind kind)
{
	switch (kind) {
	case SNAP_VIEW:
		return "view";
	case SNAP_ACTIVE:
		return "active";
	case SNAP_COMMITTED:
	default:
		return "committed";
	}
}

/* Return: NULL where there is none */
static const char *value_of(const struct selector *sel, const struct snap *s)
{
	switch (sel->field) {
	case FIELD_NAME:
		return s->name;
	case FIELD_PARENT:
		return s->parent;
	case FIELD_KIND:
		return kind_name(s->kind);
	case FIELD_LABEL:
		return sel->label.p != NULL
			       ? labels_get(&s->labels, sel->label.p)
			       : NULL;
	case FIELD_OTHER:
	default:
		return NULL;
	}
}

static bool equal(const struct selector *sel, const char *value)
{
	return strlen(value) == sel->value.len &&
	       (sel->value.len == 0 ||
		memcmp(value, sel->value.p, sel->value.len) == 0);
}

static bool selector_match(const struct filter *f, const struct selector *sel,
			   const struct snap *s)
{
	const char *there = value_of(sel, s);
	const char *value = there != NULL ? there : "";

	switch (sel->op) {
	case OP_EQUAL:
		return there != NULL && equal(sel, value);
	case OP_NOT_EQUAL:
		return !equal(sel, value);
	case OP_MATCHES:
		return pcre2_match(sel->re, (PCRE2_SPTR)value, strlen(value), 0,
				   0, sel->match, f->limits) >= 0;
	case OP_PRESENT:
	default:
		return there != NULL;
	}
}

static bool clause_match(const struct filter *f, const struct clause *c,
			 const struct snap *s)
{
	for (size_t i = 0; i < c->n; i++) {
		if (!selector_match(f, &c->v[i], s))
			return false;
	}
	return true;
}

bool filter_match(const struct filter *f, const struct snap *s)
{
	for (size_t i = 0; i < f->n; i++) {
		if (clause_match(f, &f->v[i], s))
			return true;
	}
	return f->n == 0;
}
