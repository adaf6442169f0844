/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/conf.h"

#include <json-c/json.h>
#include <string.h>

#include "common/toml.h"

int config_init(struct config *c)
{
	const char *cache = getenv("CACHE_DIRECTORY"); /* systemd's */

	*c = (struct config){
		.socket = strdup("/run/estargz/fetcher.sock"),
		.hosts_dir = strdup("/etc/containerd/certs.d"),
		.spool_dir = strdup(
			cache != NULL && cache[0] == '/' ? cache : "/var/tmp"),
		.spool_bytes_max = MIB(4096),
		.socket_mode = 0600,
		.connections_per_host = 8,
		.connect_timeout_ms = 10000,
		.stall_timeout_s = 20,
		.log_level = LOG_INFO_,
	};
	if (c->socket != NULL && c->hosts_dir != NULL && c->spool_dir != NULL)
		return 0;
	config_done(c);
	return -ENOMEM;
}

void config_done(struct config *c)
{
	free(c->socket);
	free(c->socket_group);
	free(c->hosts_dir);
	free(c->docker_config);
	free(c->metrics_address);
	free(c->spool_dir);
	*c = (struct config){0};
}

enum key_kind {
	KEY_STRING,
	KEY_PATH,
	KEY_U64,
	KEY_UINT,
	KEY_MODE,
	KEY_LEVEL
};

#define KEY(name, kind, lo, hi)                                    \
	{                                                          \
#name, kind, offsetof(struct config, name), lo, hi \
	}

static const struct key {
	const char *name;
	enum key_kind kind;
	size_t at;
	uint64_t min;
	uint64_t max;
} keys[] = {
	KEY(socket, KEY_PATH, 0, 0),
	KEY(socket_group, KEY_STRING, 0, 0),
	KEY(socket_mode, KEY_MODE, 0, 0),
	KEY(hosts_dir, KEY_PATH, 0, 0),
	KEY(docker_config, KEY_PATH, 0, 0),
	KEY(metrics_address, KEY_STRING, 0, 0),
	KEY(spool_dir, KEY_PATH, 0, 0),
	KEY(spool_bytes_max, KEY_U64, 0, INT64_MAX),
	KEY(background_max_bytes_per_s, KEY_U64, 0, INT64_MAX),
	KEY(connections_per_host, KEY_UINT, 1, 256),
	KEY(connect_timeout_ms, KEY_UINT, 1, 600000),
	KEY(stall_timeout_s, KEY_UINT, 1, 3600),
	KEY(log_level, KEY_LEVEL, 0, 0),
};

static int set_string(char **dst, struct json_object *v)
{
	char *s = strdup(json_object_get_string(v));

	if (s == NULL)
		return -ENOMEM;
	free(*dst);
	*dst = s;
	return 0;
}

static int set_mode(unsigned *dst, const char *s)
{
	char *end;
	unsigned long v = strtoul(s, &end, 8);

	if (s[0] < '0' || s[0] > '7' || *end != '\0' || v > 0777)
		return -EINVAL;
	*dst = (unsigned)v;
	return 0;
}

/* -EINVAL: not what the key takes. */
static int set(struct config *c, const struct key *k, struct json_object *v)
{
	char *at = (char *)c + k->at;
	bool is_string = json_object_is_type(v, json_type_string);
	const char *s = is_string ? json_object_get_string(v) : "";
	int64_t n;

	if (k->kind == KEY_PATH || k->kind == KEY_STRING) {
		if (s[0] == '\0' || (k->kind == KEY_PATH && s[0] != '/'))
			return -EINVAL;
		return set_string((char **)(void *)at, v);
	}
	if (k->kind == KEY_MODE)
		return set_mode((unsigned *)(void *)at, s);
	if (k->kind == KEY_LEVEL)
		return log_parse_level(s, (enum log_level *)(void *)at);
	if (!json_object_is_type(v, json_type_int))
		return -EINVAL;
	n = json_object_get_int64(v);
	if (n < 0 || (uint64_t)n < k->min || (uint64_t)n > k->max)
		return -EINVAL;
	if (k->kind == KEY_U64)
		*(uint64_t *)(void *)at = (uint64_t)n;
	else
		*(unsigned *)(void *)at = (unsigned)n;
	return 0;
}

static int apply(struct config *c, struct json_object *o, struct err *e)
{
	json_object_object_foreach(o, name, v)
	{
		const struct key *k = NULL;
		int r;

		for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
			if (strcmp(keys[i].name, name) == 0)
				k = &keys[i];
		}
		if (k == NULL)
			return err_set(e, -EINVAL, "unknown key %s", name);
		r = set(c, k, v);
		if (r < 0)
			return err_set(e, r, "bad value for %s", name);
	}
	return 0;
}

int config_parse(struct config *c, const char *text, size_t len, struct err *e)
{
	struct json_object *o;
	int r = toml_parse(text, len, &o, e);

	if (r < 0)
		return r;
	r = apply(c, o, e);
	json_object_put(o);
	return r;
}
