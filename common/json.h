/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: a strict pull parser for JSON (RFC 8259), for one document that is
 * large and hostile: the TOC. Small documents go through json-c.
 *
 * The caller asks for token after token. Strings are unescaped in place, so
 * nothing is allocated and a string lives as long as the text. Nesting is
 * bounded by JSON_DEPTH_MAX. Bytes of a string that are not UTF-8 are passed
 * on as they are; half a surrogate pair becomes U+FFFD. Keys may repeat: what
 * that means is up to the caller.
 */
#ifndef COMMON_JSON_H
#define COMMON_JSON_H

#include "common/base.h"
#include "common/err.h"
#include "common/limits.h"

enum json_tok {
	JSON_ERROR, /* sticky */
	JSON_END,   /* the value is over, and the text with it; sticky */
	JSON_OBJECT,
	JSON_OBJECT_END,
	JSON_ARRAY,
	JSON_ARRAY_END,
	JSON_KEY, /* a value follows */
	JSON_STRING,
	JSON_NUMBER,
	JSON_TRUE,
	JSON_FALSE,
	JSON_NULL,
};

/**
 * struct json - where the parser is
 * @str:	JSON_KEY, JSON_STRING: unescaped bytes, NUL-terminated, may
 *		hold NUL; JSON_NUMBER: the digits as written, not terminated
 * @str_len:	bytes of @str, without the terminator
 * @why:	after JSON_ERROR: what is wrong, static text
 * @off:	next byte of the text; after JSON_ERROR: where it is wrong
 */
struct json {
	char *str;
	size_t str_len;
	const char *why;
	size_t off;
	/* private */
	char *p;
	size_t len;
	uint32_t depth;
	uint8_t expect;
	bool in_object[JSON_DEPTH_MAX];
};

/* Starts over text [len], which is changed in the course of parsing. */
void json_start(struct json *j, char *text, size_t len);

enum json_tok json_next(struct json *j);

/**
 * json_skip() - step over one value, as deep as it goes
 *
 * To be called after JSON_KEY, or in an array that is known to go on.
 * Return: 0, -EBADMSG: the next token is JSON_ERROR
 */
int json_skip(struct json *j);

/**
 * json_u64() - the JSON_NUMBER just read, as an integer
 *
 * Return: 0, -EBADMSG (a sign, fraction or exponent), -EOVERFLOW (over @max)
 */
int json_u64(const struct json *j, uint64_t max, uint64_t *ret);

#endif
