/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/registry/reply.h"

#include <json-c/json.h>
#include <stdio.h>

#include "common/err.h"
#include "common/limits.h"

static const char *string(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	if (!json_object_object_get_ex(o, key, &v) ||
	    !json_object_is_type(v, json_type_string))
		return "";
	return json_object_get_string(v);
}

char *reply_error(const char *json, size_t len, char *buf, size_t cap)
{
	struct json_tokener *t = json_tokener_new_ex(JSON_DEPTH_MAX);
	struct json_object *o = NULL, *list = NULL, *first = NULL;
	const char *code, *text;

	buf[0] = '\0';
	if (t != NULL && len > 0 && len <= REPLY_BYTES_MAX)
		o = json_tokener_parse_ex(t, json, (int)len);
	if (json_object_is_type(o, json_type_object) &&
	    json_object_object_get_ex(o, "errors", &list) &&
	    json_object_is_type(list, json_type_array))
		first = json_object_array_get_idx(list, 0);
	if (json_object_is_type(first, json_type_object)) {
		code = string(first, "code");
		text = string(first, "message");
		(void)snprintf(buf, cap, "%s%s%s", code,
			       code[0] != '\0' && text[0] != '\0' ? ": " : "",
			       text);
		err_sanitize(buf);
	}
	json_object_put(o);
	if (t != NULL)
		json_tokener_free(t);
	return buf;
}
