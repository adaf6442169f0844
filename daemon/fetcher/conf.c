/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/conf.h"

#include <string.h>

#include "common/conftab.h"
#include "daemon/registry/registry.h"

int config_init(struct config *c)
{
	const char *cache = getenv("CACHE_DIRECTORY"); /* systemd's */

	*c = (struct config){
		.socket = strdup("/run/estargz/fetcher.sock"),
		.hosts_dir = strdup(REGISTRY_HOSTS_DIR),
		.spool_dir = strdup(
			cache != NULL && cache[0] == '/' ? cache : "/var/tmp"),
		.spool_bytes_max = MIB(4096),
		.socket_mode = 0600,
		.connections_per_host = 24,
		.connect_timeout_ms = REGISTRY_CONNECT_TIMEOUT_MS,
		.stall_timeout_s = REGISTRY_STALL_TIMEOUT_S,
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

/* strtoul() takes signs and blanks, too. */
static int parse_mode(const char *s, void *at)
{
	char *end;
	unsigned long v = strtoul(s, &end, 8);

	if (s[0] < '0' || s[0] > '7' || *end != '\0' || v > 0777)
		return -EINVAL;
	*(unsigned *)at = (unsigned)v;
	return 0;
}

#define FIELD(key) .table = "", .name = #key, .at = offsetof(struct config, key)
#define KEY(key, kind_, lo, hi)                                       \
	{                                                             \
		FIELD(key), .kind = (kind_), .min = (lo), .max = (hi) \
	}
#define WORD(key, fn, text)                                                  \
	{                                                                    \
		FIELD(key), .kind = CONF_WORD, .parse = (fn), .what = (text) \
	}

static const struct conf_key keys[] = {
	KEY(socket, CONF_PATH, 0, 0),
	KEY(socket_group, CONF_STRING, 0, 0),
	WORD(socket_mode, parse_mode, "octal digits in quotes"),
	KEY(hosts_dir, CONF_PATH, 0, 0),
	KEY(docker_config, CONF_PATH, 0, 0),
	KEY(metrics_address, CONF_STRING, 0, 0),
	KEY(spool_dir, CONF_PATH, 0, 0),
	KEY(spool_bytes_max, CONF_BYTES, 0, INT64_MAX),
	KEY(background_max_bytes_per_s, CONF_BYTES, 0, INT64_MAX),
	KEY(connections_per_host, CONF_UINT, 1, 256),
	KEY(connect_timeout_ms, CONF_UINT, 1, 600000),
	KEY(stall_timeout_s, CONF_UINT, 1, 3600),
	WORD(log_level, conftab_log_level, "err, warn, info or debug"),
};

int config_parse(struct config *c, const char *text, size_t len, struct err *e)
{
	return conftab_parse(keys, ARRAY_SIZE(keys), c, text, len, e);
}
