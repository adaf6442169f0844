/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/json.h"

#include <endian.h>
#include <string.h>

enum expect {
	EXPECT_VALUE,
	EXPECT_FIRST_VALUE, /* or the end of the array */
	EXPECT_KEY,
	EXPECT_FIRST_KEY, /* or the end of the object */
	EXPECT_AFTER,     /* a comma, the end of what is open, or of the text */
	EXPECT_NOTHING,   /* failed */
};

void json_start(struct json *j, char *text, size_t len)
{
	*j = (struct json){.p = text, .len = len, .expect = EXPECT_VALUE};
}

static enum json_tok fail(struct json *j, const char *why)
{
	j->expect = EXPECT_NOTHING;
	j->why = why;
	return JSON_ERROR;
}

/* Bytes before the first quote, backslash or control character. */
static size_t plain_len(const char *p, size_t n)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	size_t i = 0;

	/*
	 * Eight at a time: x - ones borrows into the top bit of each byte
	 * that is zero. A borrow may spill upwards, so only the lowest hit is
	 * sure; it is the one wanted.
	 */
	for (; n - i >= 8; i += 8) {
		uint64_t w, quote, slash, hit;

		memcpy(&w, p + i, sizeof(w));
		w = le64toh(w);
		quote = w ^ (ones * '"');
		slash = w ^ (ones * '\\');
		hit = ((quote - ones) & ~quote) | ((slash - ones) & ~slash) |
		      ((w - ones * 0x20) & ~w);

		hit &= ones * 0x80;
		if (hit != 0)
			return i + (size_t)__builtin_ctzll(hit) / 8;
	}
	while (i < n && p[i] != '"' && p[i] != '\\' &&
	       (unsigned char)p[i] >= 0x20)
		i++;
	return i;
}

/* Four hex digits at the cursor, stepping over them; -1 if they are not. */
static int32_t hex4(struct json *j)
{
	int32_t v = 0;

	if (j->len - j->off < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = j->p[j->off++];

		if (c >= '0' && c <= '9')
			v = v * 16 + (c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v * 16 + (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			v = v * 16 + (c - 'A' + 10);
		else
			return -1;
	}
	return v;
}

static size_t utf8_put(char *out, uint32_t v)
{
	unsigned char *o = (unsigned char *)out;

	if (v < 0x80) {
		o[0] = (unsigned char)v;
		return 1;
	}
	if (v < 0x800) {
		o[0] = (unsigned char)(0xc0 | v >> 6);
		o[1] = (unsigned char)(0x80 | (v & 0x3f));
		return 2;
	}
	if (v < 0x10000) {
		o[0] = (unsigned char)(0xe0 | v >> 12);
		o[1] = (unsigned char)(0x80 | (v >> 6 & 0x3f));
		o[2] = (unsigned char)(0x80 | (v & 0x3f));
		return 3;
	}
	o[0] = (unsigned char)(0xf0 | v >> 18);
	o[1] = (unsigned char)(0x80 | (v >> 12 & 0x3f));
	o[2] = (unsigned char)(0x80 | (v >> 6 & 0x3f));
	o[3] = (unsigned char)(0x80 | (v & 0x3f));
	return 4;
}

/*
 * The code point after a backslash and a u. Half a pair becomes U+FFFD, and
 * what follows the half is left to be read on its own.
 */
static int64_t unicode_escape(struct json *j)
{
	int32_t lead = hex4(j), trail;
	size_t at;

	if (lead < 0xd800 || lead > 0xdfff)
		return lead;
	at = j->off;
	if (lead > 0xdbff || j->len - at < 2 || j->p[at] != '\\' ||
	    j->p[at + 1] != 'u')
		return 0xfffd;
	j->off += 2;
	trail = hex4(j);
	if (trail < 0)
		return -1;
	if (trail < 0xdc00 || trail > 0xdfff) {
		j->off = at;
		return 0xfffd;
	}
	return 0x10000 + ((int64_t)(lead - 0xd800) << 10) + (trail - 0xdc00);
}

/* One escape at the cursor, after its backslash; 0 bytes: it is not one. */
static size_t escape(struct json *j, char *out)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/\b\f\n\r\t";
	const char *at;
	int64_t v;
	char c;

	if (j->off == j->len)
		return 0;
	c = j->p[j->off++];
	if (c == 'u') {
		v = unicode_escape(j);
		return v < 0 ? 0 : utf8_put(out, (uint32_t)v);
	}
	at = memchr(from, c, sizeof(from) - 1);
	if (at == NULL)
		return 0;
	*out = to[at - from];
	return 1;
}

/* A string, from behind its opening quote to behind its closing one. */
static bool string(struct json *j)
{
	char *out = j->p + j->off;

	j->str = out;
	for (;;) {
		char *run = j->p + j->off;
		size_t n = plain_len(run, j->len - j->off), k;

		if (out != run)
			memmove(out, run, n);
		out += n;
		j->off += n;
		if (j->off == j->len) {
			(void)fail(j, "string without an end");
			return false;
		}
		if (j->p[j->off] == '"') {
			j->off++;
			/* At the closing quote or before it. */
			*out = '\0';
			j->str_len = (size_t)(out - j->str);
			return true;
		}
		if (j->p[j->off] != '\\') {
			(void)fail(j, "control character in a string");
			return false;
		}
		j->off++;
		k = escape(j, out);
		if (k == 0) {
			(void)fail(j, "bad escape");
			return false;
		}
		out += k;
	}
}

static bool digits(struct json *j)
{
	size_t start = j->off;

	while (j->off < j->len && j->p[j->off] >= '0' && j->p[j->off] <= '9')
		j->off++;
	return j->off > start;
}

static bool at(const struct json *j, char c)
{
	return j->off < j->len && j->p[j->off] == c;
}

static bool number_text(struct json *j)
{
	size_t start;

	if (at(j, '-'))
		j->off++;
	start = j->off;
	if (!digits(j) || (j->p[start] == '0' && j->off - start > 1))
		return false;
	if (at(j, '.')) {
		j->off++;
		if (!digits(j))
			return false;
	}
	if (at(j, 'e') || at(j, 'E')) {
		j->off++;
		if (at(j, '+') || at(j, '-'))
			j->off++;
		if (!digits(j))
			return false;
	}
	return true;
}

static enum json_tok number(struct json *j)
{
	j->str = j->p + j->off;
	if (!number_text(j))
		return fail(j, "bad number");
	j->str_len = (size_t)(j->p + j->off - j->str);
	return JSON_NUMBER;
}

static enum json_tok word(struct json *j, const char *w, enum json_tok tok)
{
	size_t n = strlen(w);

	if (j->len - j->off < n || memcmp(j->p + j->off, w, n) != 0)
		return fail(j, "unknown word");
	j->off += n;
	return tok;
}

static enum json_tok open_nested(struct json *j, bool object)
{
	if (j->depth == JSON_DEPTH_MAX)
		return fail(j, "nested too deeply");
	j->off++;
	j->in_object[j->depth++] = object;
	j->expect = object ? EXPECT_FIRST_KEY : EXPECT_FIRST_VALUE;
	return object ? JSON_OBJECT : JSON_ARRAY;
}

static enum json_tok close_nested(struct json *j)
{
	assert(j->depth > 0);
	j->off++;
	j->depth--;
	j->expect = EXPECT_AFTER;
	return j->in_object[j->depth] ? JSON_OBJECT_END : JSON_ARRAY_END;
}

static enum json_tok value(struct json *j)
{
	if (j->off == j->len)
		return fail(j, "value missing");
	if (j->p[j->off] == ']' && j->expect == EXPECT_FIRST_VALUE)
		return close_nested(j);
	j->expect = EXPECT_AFTER;
	switch (j->p[j->off]) {
	case '"':
		j->off++;
		return string(j) ? JSON_STRING : JSON_ERROR;
	case '{':
		return open_nested(j, true);
	case '[':
		return open_nested(j, false);
	case 't':
		return word(j, "true", JSON_TRUE);
	case 'f':
		return word(j, "false", JSON_FALSE);
	case 'n':
		return word(j, "null", JSON_NULL);
	case '-':
	case '0':
	case '1':
	case '2':
	case '3':
	case '4':
	case '5':
	case '6':
	case '7':
	case '8':
	case '9':
		return number(j);
	default:
		return fail(j, "value missing");
	}
}

static void skip_space(struct json *j)
{
	while (j->off < j->len) {
		char c = j->p[j->off];

		if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
			return;
		j->off++;
	}
}

static enum json_tok key(struct json *j)
{
	if (at(j, '}') && j->expect == EXPECT_FIRST_KEY)
		return close_nested(j);
	if (!at(j, '"'))
		return fail(j, "key missing");
	j->off++;
	if (!string(j))
		return JSON_ERROR;
	skip_space(j);
	if (!at(j, ':'))
		return fail(j, "colon missing");
	j->off++;
	j->expect = EXPECT_VALUE;
	return JSON_KEY;
}

enum json_tok json_next(struct json *j)
{
	if (j->expect == EXPECT_NOTHING)
		return JSON_ERROR;
	skip_space(j);
	if (j->expect == EXPECT_AFTER) {
		bool object;

		if (j->depth == 0 && j->off == j->len)
			return JSON_END;
		if (j->depth == 0)
			return fail(j, "bytes after the value");
		object = j->in_object[j->depth - 1];
		if (at(j, object ? '}' : ']'))
			return close_nested(j);
		if (!at(j, ','))
			return fail(j, "comma missing");
		j->off++;
		j->expect = object ? EXPECT_KEY : EXPECT_VALUE;
		skip_space(j);
	}
	if (j->expect == EXPECT_KEY || j->expect == EXPECT_FIRST_KEY)
		return key(j);
	return value(j);
}

int json_skip(struct json *j)
{
	uint32_t depth = j->depth;

	do {
		enum json_tok t = json_next(j);

		if (t == JSON_ERROR || t == JSON_END)
			return -EBADMSG;
	} while (j->depth > depth || j->expect != EXPECT_AFTER);
	return 0;
}

int json_u64(const struct json *j, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	for (size_t i = 0; i < j->str_len; i++) {
		char c = j->str[i];

		if (c < '0' || c > '9')
			return -EBADMSG;
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(c - '0'), &v) ||
		    v > max) {
			/* A fraction further on is still the graver fault. */
			for (; i < j->str_len; i++) {
				if (j->str[i] < '0' || j->str[i] > '9')
					return -EBADMSG;
			}
			return -EOVERFLOW;
		}
	}
	*ret = v;
	return 0;
}
