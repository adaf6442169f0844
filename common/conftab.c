/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/conftab.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "common/io.h"
#include "common/log.h"
#include "common/toml.h"

/* What is being read. */
struct reader {
	const struct conf_key *keys;
	size_t n;
	char *conf;
	struct err *e;
};

/* A string without NUL inside, not longer than the key allows; else NULL. */
static const char *text_of(const struct conf_key *k, struct json_object *v)
{
	const char *s;
	size_t len;

	if (!json_object_is_type(v, json_type_string))
		return NULL;
	s = json_object_get_string(v);
	len = (size_t)json_object_get_string_len(v);
	if (len == 0 || strlen(s) != len)
		return NULL;
	if (k->kind != CONF_LIST && k->max != 0 && len > k->max)
		return NULL;
	return s;
}

static int set_string(const struct conf_key *k, char **at,
		      struct json_object *v)
{
	const char *s = text_of(k, v);
	char *copy;

	if (s == NULL || (k->kind == CONF_PATH && s[0] != '/'))
		return -EINVAL;
	copy = strdup(s);
	if (copy == NULL)
		return -ENOMEM;
	free(*at);
	*at = copy;
	return 0;
}

static int set_word(const struct conf_key *k, void *at, struct json_object *v)
{
	const char *s = text_of(k, v);

	return s == NULL ? -EINVAL : k->parse(s, at);
}

static int set_bool(bool *at, struct json_object *v)
{
	if (!json_object_is_type(v, json_type_boolean))
		return -EINVAL;
	*at = json_object_get_boolean(v);
	return 0;
}

static int number_of(const struct conf_key *k, struct json_object *v,
		     uint64_t *ret)
{
	if (json_object_is_type(v, json_type_int) &&
	    json_object_get_int64(v) >= 0) {
		*ret = (uint64_t)json_object_get_int64(v);
		return 0;
	}
	if (json_object_is_type(v, json_type_string) && k->kind == CONF_BYTES)
		return io_parse_bytes(json_object_get_string(v), ret);
	return -EINVAL;
}

static int set_number(const struct conf_key *k, char *at, struct json_object *v)
{
	uint64_t n;
	int r = number_of(k, v, &n);

	if (r < 0)
		return r;
	if (n < k->min || n > k->max)
		return -EINVAL;
	if (k->kind == CONF_BYTES)
		*(uint64_t *)(void *)at = n;
	else
		*(unsigned *)(void *)at = (unsigned)n;
	return 0;
}

void conftab_list_free(char **v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(v[i]);
	free(v);
}

static int set_list(const struct conf_key *k, char *conf, struct json_object *v)
{
	char ***at = (char ***)(void *)(conf + k->at);
	size_t *n_at = (size_t *)(void *)(conf + k->n_at);
	char **list;
	size_t n;
	int r = 0;

	if (!json_object_is_type(v, json_type_array))
		return -EINVAL;
	n = json_object_array_length(v);
	if (k->max != 0 && n > k->max)
		return -EINVAL;
	list = calloc(n + 1, sizeof(*list));
	if (list == NULL)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = set_string(k, &list[i], json_object_array_get_idx(v, i));
	if (r < 0) {
		conftab_list_free(list, n);
		return r;
	}
	conftab_list_free(*at, *n_at);
	*at = list;
	*n_at = n;
	return 0;
}

/* -EINVAL: not what the key takes. */
static int set(char *conf, const struct conf_key *k, struct json_object *v)
{
	char *at = conf + k->at;

	switch (k->kind) {
	case CONF_STRING:
	case CONF_PATH:
		return set_string(k, (char **)(void *)at, v);
	case CONF_BOOL:
		return set_bool((bool *)at, v);
	case CONF_WORD:
		return set_word(k, at, v);
	case CONF_LIST:
		return set_list(k, conf, v);
	case CONF_UINT:
	case CONF_BYTES:
		break;
	}
	return set_number(k, at, v);
}

/* What is expected, where the key does not say it itself. */
static int explain(struct err *e, const struct conf_key *k, unsigned line,
		   const char *where)
{
	static const char *const kinds[] = {
		[CONF_STRING] = "a string",
		[CONF_PATH] = "an absolute path",
		[CONF_BOOL] = "true or false",
		[CONF_UINT] = "a number",
		[CONF_BYTES] = "bytes: a number, or \"16GiB\"",
		[CONF_WORD] = "another word",
		[CONF_LIST] = "a list of strings",
	};
	const char *what = k->what != NULL ? k->what : kinds[k->kind];
	char range[64] = "";

	if (k->kind == CONF_UINT)
		(void)snprintf(range, sizeof(range),
			       " from %" PRIu64 " to %" PRIu64, k->min, k->max);
	else if (k->max != 0 && k->kind != CONF_BYTES)
		(void)snprintf(range, sizeof(range), ", at most %" PRIu64 " %s",
			       k->max,
			       k->kind == CONF_LIST ? "of them" : "bytes");
	return err_set(e, -EINVAL, "line %u: bad value for %s%s: expected %s%s",
		       line, k->name, where, what, range);
}

static const struct conf_key *find(const struct reader *rd, const char *table,
				   const char *name)
{
	for (size_t i = 0; i < rd->n; i++) {
		if (strcmp(rd->keys[i].table, table) == 0 &&
		    strcmp(rd->keys[i].name, name) == 0)
			return &rd->keys[i];
	}
	return NULL;
}

static bool is_table(const struct reader *rd, const char *name)
{
	for (size_t i = 0; i < rd->n; i++) {
		if (name[0] != '\0' && strcmp(rd->keys[i].table, name) == 0)
			return true;
	}
	return false;
}

static int apply_key(const struct reader *rd, const char *table,
		     const char *name, struct json_object *v)
{
	const struct conf_key *k = find(rd, table, name);
	unsigned line = toml_line(v);
	char where[80] = "";
	int r;

	if (table[0] != '\0')
		(void)snprintf(where, sizeof(where), " in [%s]", table);
	if (k == NULL && table[0] == '\0' &&
	    json_object_is_type(v, json_type_object))
		return err_set(rd->e, -EINVAL, "line %u: unknown table [%s]",
			       line, name);
	if (k == NULL)
		return err_set(rd->e, -EINVAL, "line %u: unknown key %s%s",
			       line, name, where);
	r = set(rd->conf, k, v);
	if (r == -EINVAL)
		return explain(rd->e, k, line, where);
	return r < 0 ? err_no_memory(rd->e) : 0;
}

static int apply_table(const struct reader *rd, const char *table,
		       struct json_object *o)
{
	json_object_object_foreach(o, name, v)
	{
		int r = apply_key(rd, table, name, v);

		if (r < 0)
			return r;
	}
	return 0;
}

static int apply(const struct reader *rd, struct json_object *o)
{
	json_object_object_foreach(o, name, v)
	{
		bool table = is_table(rd, name);
		int r;

		if (table && !json_object_is_type(v, json_type_object))
			return err_set(rd->e, -EINVAL,
				       "line %u: %s is a table: [%s]",
				       toml_line(v), name, name);
		r = table ? apply_table(rd, name, v)
			  : apply_key(rd, "", name, v);
		if (r < 0)
			return r;
	}
	return 0;
}

int conftab_parse(const struct conf_key *keys, size_t n, void *conf,
		  const char *text, size_t len, struct err *e)
{
	struct reader rd = {.keys = keys, .n = n, .conf = conf, .e = e};
	struct json_object *o;
	int r = toml_parse(text, len, &o, e);

	if (r < 0)
		return r;
	r = apply(&rd, o);
	json_object_put(o);
	return r;
}

int conftab_log_level(const char *s, void *at)
{
	return log_parse_level(s, at);
}
