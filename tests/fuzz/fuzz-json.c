/* SPDX-License-Identifier: Apache-2.0 */
/* json.c takes and refuses what json-c in strict mode takes and refuses. */
#include "config.h"

#include <json-c/json.h>
#include <string.h>

#include "common/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

/* Runs the parser to its end. Return: NULL, or what it does not like */
static const char *ours(char *text, size_t len)
{
	struct json j;
	enum json_tok tok;
	uint64_t v, steps = 0;

	json_start(&j, text, len);
	do {
		tok = json_next(&j);
		assert(++steps <= 2 * len + 2);
		assert(j.off <= len);
		assert(j.depth <= JSON_DEPTH_MAX);
		if (tok == JSON_KEY || tok == JSON_STRING) {
			assert(j.str >= text);
			assert(j.str + j.str_len < text + j.off);
			assert(j.str[j.str_len] == '\0');
		}
		if (tok == JSON_NUMBER)
			(void)json_u64(&j, INT64_MAX, &v);
	} while (tok != JSON_ERROR && tok != JSON_END);
	assert(tok == json_next(&j));
	return tok == JSON_ERROR ? j.why : NULL;
}

static bool skips(char *text, size_t len)
{
	struct json j;

	json_start(&j, text, len);
	return json_skip(&j) == 0 && json_next(&j) == JSON_END;
}

static bool theirs(const char *text, size_t len)
{
	struct json_tokener *t = json_tokener_new_ex(4 * JSON_DEPTH_MAX);
	struct json_object *o;
	bool ok;

	assert(t != NULL);
	json_tokener_set_flags(t, JSON_TOKENER_STRICT);
	/* With the NUL, which ends a number at the top. */
	o = json_tokener_parse_ex(t, text, (int)len + 1);
	ok = json_tokener_get_error(t) == json_tokener_success;
	json_object_put(o);
	json_tokener_free(t);
	return ok;
}

/* Where json-c goes its own way, so that there is nothing to compare. */
static bool differs(const char *text, size_t len, const char *why)
{
	/* It stops at a NUL. */
	if (memchr(text, '\0', len) != NULL)
		return true;
	if (why == NULL)
		return false;
	/* It knows these words. */
	if (strcasestr(text, "nan") != NULL ||
	    strcasestr(text, "infinity") != NULL)
		return true;
	/* It has another depth, and takes control characters in strings and
	 * "-06.e5". */
	return strcmp(why, "nested too deeply") == 0 ||
	       strcmp(why, "bad number") == 0 ||
	       strcmp(why, "control character in a string") == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	char *text, *copy;
	const char *why;

	if (len > 65536)
		return 0;
	text = malloc(len + 1);
	copy = malloc(len > 0 ? len : 1);
	assert(text != NULL);
	assert(copy != NULL);
	memcpy(copy, p, len);
	memcpy(text, p, len);
	text[len] = '\0';
	why = ours(copy, len);
	memcpy(copy, p, len);
	assert(skips(copy, len) == (why == NULL));
	if (!differs(text, len, why))
		assert(theirs(text, len) == (why == NULL));
	free(text);
	free(copy);
	return 0;
}
