/* SPDX-License-Identifier: Apache-2.0 */
/* estargzd.toml. */
#ifndef FETCHER_CONF_H
#define FETCHER_CONF_H

#include "common/base.h"
#include "common/err.h"
#include "common/log.h"

#define CONFIG_BYTES_MAX KIB(256)

/* estargzd(8) describes the keys, which have the names of the fields. */
struct config {
	char *socket;
	char *socket_group; /* NULL: unchanged */
	char *hosts_dir;
	char *docker_config;   /* a file; NULL: where docker looks */
	char *metrics_address; /* NULL: none */
	char *spool_dir;
	uint64_t spool_bytes_max;
	uint64_t background_max_bytes_per_s;
	unsigned socket_mode;
	unsigned connections_per_host;
	unsigned connect_timeout_ms;
	unsigned stall_timeout_s;
	enum log_level log_level;
};

/* Fills in the defaults. Return: 0, -ENOMEM. */
int config_init(struct config *c);
void config_done(struct config *c);

/**
 * config_parse() - apply a document to a configuration
 * @text:	[@len] TOML
 *
 * Return: 0, -EINVAL (unknown key, wrong type or value; @e names the key),
 * -EBADMSG (not TOML), -ENOMEM
 */
int config_parse(struct config *c, const char *text, size_t len, struct err *e);

#endif
