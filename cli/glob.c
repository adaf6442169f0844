/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of files: parsing them, and matching what they say. */
#include "config.h"

#include "cli/glob.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"

/* ---- matching ---------------------------------------------------------- */

/* Steps over "[…]" at *p, which is well-formed. Return: whether it has @c. */
static bool class_has(const char **p, char c)
{
	const unsigned char b = (unsigned char)c;
	const char *at = *p + 1;
	bool not = *at == '!' || *at == '^';
	bool has = false;

	at += not ? 1 : 0;
	/* A ']' in front is one of the class. */
	do {
		unsigned char lo, hi;

		at += *at == '\\' ? 1 : 0;
		lo = hi = (unsigned char)*at++;
		if (at[0] == '-' && at[1] != ']') {
			at += at[1] == '\\' ? 2 : 1;
			hi = (unsigned char)*at++;
		}
		has |= lo <= b && b <= hi;
	} while (*at != ']');
	*p = at + 1;
	return has != not ;
}

/* One character, however many bytes. */
static const char *next_char(const char *t, const char *end)
{
	t++;
	while (t < end && ((unsigned char)*t & 0xc0) == 0x80)
		t++;
	return t;
}

/* Matches what is at *p, no '*', with a character at *t; steps over both. */
static bool match_one(const char **p, const char **t, const char *t_end)
{
	const char *lit = *p;

	switch (**p) {
	case '?':
		*p += 1;
		*t = next_char(*t, t_end);
		return true;
	case '[':
		if (!class_has(p, **t))
			return false;
		*t += 1;
		return true;
	case '\\':
		lit++;
		break;
	default:
		break;
	}
	if (*lit != **t)
		return false;
	*p = lit + 1;
	*t += 1;
	return true;
}

/* A component of each. Only the last '*' need be tried again. */
static bool match_component(const char *p, const char *p_end, const char *t,
			    const char *t_end)
{
	const char *star = NULL, *star_t = NULL;

	while (t < t_end) {
		if (p < p_end && *p == '*') {
			star = ++p;
			star_t = t;
		} else if (p == p_end || !match_one(&p, &t, t_end)) {
			if (star == NULL)
				return false;
			p = star;
			t = ++star_t;
		}
	}
	while (p < p_end && *p == '*')
		p++;
	return p == p_end;
}

static const char *component_end(const char *s)
{
	return s + strcspn(s, "/");
}

static const char *component_next(const char *end)
{
	return *end == '/' ? end + 1 : end;
}

static bool is_globstar(const char *p, const char *p_end)
{
	return p_end - p == 2 && p[0] == '*' && p[1] == '*';
}

/* As match_component(), with "**" for '*' and components for characters. */
bool glob_match(const char *pattern, const char *path)
{
	const char *p = pattern, *t = path;
	const char *star = NULL, *star_t = NULL;

	while (*t != '\0') {
		const char *p_end = component_end(p);
		const char *t_end = component_end(t);

		if (is_globstar(p, p_end)) {
			star = component_next(p_end);
			star_t = t;
			p = star;
			/* At the end it is everything below. */
			if (*p == '\0')
				return true;
		} else if (p < p_end && match_component(p, p_end, t, t_end)) {
			p = component_next(p_end);
			t = component_next(t_end);
		} else if (star == NULL) {
			return false;
		} else {
			p = star;
			t = star_t = component_next(component_end(star_t));
		}
	}
	while (is_globstar(p, component_end(p)))
		p = component_next(component_end(p));
	return *p == '\0';
}

/* ---- parsing ----------------------------------------------------------- */

/* What a line that is being parsed is known by. */
struct parse {
	struct glob_list *list;
	size_t cap;
	unsigned line;
	struct err *e;
};

static int bad(const struct parse *s, const char *why)
{
	return err_set(s->e, -EBADMSG, "line %u: %s", s->line, why);
}

/* Its length from '[' on, 0 where it has no end or spans components. */
static size_t class_len(const char *p)
{
	const char *at = p + 1;

	at += *at == '!' || *at == '^' ? 1 : 0;
	for (bool first = true; first || *at != ']'; first = false) {
		at += *at == '\\' ? 1 : 0;
		if (*at == '\0' || *at == '/')
			return 0;
		at++;
		/* A range's end may be ']' only with '\' before it. */
		if (at[0] == '-' && at[1] != ']') {
			at += at[1] == '\\' ? 2 : 1;
			if (*at == '\0' || *at == '/')
				return 0;
			at++;
		}
	}
	return (size_t)(at + 1 - p);
}

/* Whether a pattern can be matched; says whether it is only a path. */
static int check(const struct parse *s, const char *p, bool *ret_literal)
{
	*ret_literal = true;
	for (size_t n; *p != '\0'; p += n) {
		n = 1;
		if (*p == '\\') {
			if (p[1] == '\0' || p[1] == '/')
				return bad(s, "'\\' in front of nothing");
			n = 2;
		} else if (*p == '[') {
			n = class_len(p);
			if (n == 0)
				return bad(s, "'[' without ']'");
			*ret_literal = false;
		} else if (*p == '*' || *p == '?') {
			*ret_literal = false;
		}
	}
	return 0;
}

/* Takes away leading and repeated '/', "." components, a '/' at the end; and
 * '\' of a literal. In place. */
static int clean(const struct parse *s, char *p, bool literal)
{
	char *to = p;

	for (const char *at = p, *end; *at != '\0'; at = component_next(end)) {
		size_t n;

		end = component_end(at);
		n = (size_t)(end - at);
		if (n == 2 && at[0] == '.' && at[1] == '.')
			return bad(s, "\"..\" in a path");
		if (n == 0 || (n == 1 && at[0] == '.'))
			continue;
		if (to != p)
			*to++ = '/';
		memmove(to, at, n);
		to += n;
	}
	*to = '\0';
	if (literal) {
		to = p;
		for (const char *at = p; *at != '\0'; at++) {
			at += *at == '\\' ? 1 : 0;
			*to++ = *at;
		}
		*to = '\0';
	}
	return *p == '\0' ? bad(s, "no path") : 0;
}

/* Takes over @pattern, which has no braces any more. */
static int add(struct parse *s, char *pattern)
{
	CLEANUP_FREE char *own = pattern;
	bool literal;
	int r = check(s, own, &literal);

	if (r == 0)
		r = clean(s, own, literal);
	if (r < 0)
		return r;
	if (s->list->n == GLOB_LINES_MAX)
		return err_set(s->e, -EOVERFLOW, "line %u: more than %u files",
			       s->line, GLOB_LINES_MAX);
	if (s->list->n == s->cap) {
		size_t cap = MAX(s->cap * 2, (size_t)64);
		struct glob_line *p = realloc(s->list->lines, cap * sizeof(*p));

		if (p == NULL)
			return -ENOMEM;
		s->list->lines = p;
		s->cap = cap;
	}
	s->list->lines[s->list->n++] = (struct glob_line){
		.pattern = TAKE_PTR(own), .line = s->line, .literal = literal};
	return 0;
}

/**
 * struct braces - the first "{a,b}" of a pattern
 * @open, @close: offsets of both, SIZE_MAX where there is none
 * @commas:	how many alternatives there are but one
 */
struct braces {
	size_t open;
	size_t close;
	size_t commas;
};

/* The first '{' that means something, and what belongs to it. */
static int find_braces(const struct parse *s, const char *p, struct braces *ret)
{
	size_t depth = 0;

	*ret = (struct braces){.open = SIZE_MAX, .close = SIZE_MAX};
	for (size_t i = 0; p[i] != '\0'; i++) {
		size_t n = p[i] == '[' ? class_len(p + i) : 0;

		if (n > 0)
			i += n - 1;
		else if (p[i] == '\\' && p[i + 1] != '\0')
			i++;
		else if (p[i] == '{' && depth++ == 0)
			ret->open = i;
		else if (p[i] == ',' && depth == 1)
			ret->commas++;
		else if (p[i] == '}' && depth > 0 && --depth == 0) {
			ret->close = i;
			return 0;
		}
	}
	return depth > 0 ? bad(s, "'{' without '}'") : 0;
}

/* The end of the alternative that begins at @at. */
static size_t alternative_end(const char *p, size_t at, size_t close)
{
	size_t depth = 0;

	for (size_t i = at; i < close; i++) {
		size_t n = p[i] == '[' ? class_len(p + i) : 0;

		if (n > 0)
			i += n - 1;
		else if (p[i] == '\\')
			i++;
		else if (p[i] == '{')
			depth++;
		else if (p[i] == '}')
			depth--;
		else if (p[i] == ',' && depth == 0)
			return i;
	}
	return close;
}

/* Writes out the braces of a line: a stack, the first alternative on top. */
static int expand(struct parse *s, const char *text, size_t len)
{
	char *stack[GLOB_BRACES_MAX];
	size_t n = 0, done = 0;
	int r = 0;

	stack[n++] = strndup(text, len);
	while (r == 0 && n > 0) {
		CLEANUP_FREE char *p = stack[--n];
		struct braces b;
		size_t k;

		r = p == NULL ? -ENOMEM : find_braces(s, p, &b);
		if (r < 0)
			break;
		if (b.close == SIZE_MAX) {
			r = add(s, TAKE_PTR(p));
			done++;
			continue;
		}
		if (b.commas >= GLOB_BRACES_MAX - n - done) {
			r = err_set(s->e, -EOVERFLOW,
				    "line %u: stands for more than %u", s->line,
				    GLOB_BRACES_MAX);
			break;
		}
		k = n += b.commas + 1;
		for (size_t at = b.open + 1; k > n - b.commas - 1;) {
			size_t end = alternative_end(p, at, b.close);

			if (asprintf(&stack[--k], "%.*s%.*s%s", (int)b.open, p,
				     (int)(end - at), p + at,
				     p + b.close + 1) < 0)
				stack[k] = NULL;
			at = end + 1;
		}
	}
	while (n > 0)
		free(stack[--n]);
	return r;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static int parse_line(struct parse *s, const char *p, size_t len)
{
	while (len > 0 && is_blank(p[len - 1]))
		len--;
	while (len > 0 && is_blank(*p)) {
		p++;
		len--;
	}
	if (len == 0 || *p == '#')
		return 0;
	if (memchr(p, '\0', len) != NULL)
		return bad(s, "a NUL byte");
	if (len > GLOB_PATTERN_BYTES_MAX)
		return err_set(s->e, -EOVERFLOW, "line %u: longer than %u",
			       s->line, GLOB_PATTERN_BYTES_MAX);
	return expand(s, p, len);
}

int glob_list_parse(const char *text, size_t len, struct glob_list *ret,
		    struct err *e)
{
	CLEANUP_GLOB_LIST struct glob_list list = {0};
	struct parse s = {.list = &list, .e = e};

	while (len > 0) {
		const char *nl = memchr(text, '\n', len);
		size_t n = nl != NULL ? (size_t)(nl - text) : len;
		int r;

		s.line++;
		r = parse_line(&s, text, n);
		if (r == -ENOMEM)
			return err_set(e, r, "%s", err_name(r));
		if (r < 0)
			return r;
		n += nl != NULL ? 1 : 0;
		text += n;
		len -= n;
	}
	*ret = list;
	list = (struct glob_list){0};
	return 0;
}

void glob_list_done(struct glob_list *g)
{
	for (size_t i = 0; i < g->n; i++)
		free(g->lines[i].pattern);
	free(g->lines);
	*g = (struct glob_list){0};
}
