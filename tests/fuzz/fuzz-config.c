/* SPDX-License-Identifier: Apache-2.0 */
/* estargzd.toml, hosts.toml, docker's config.json, output of helpers. */
#include "config.h"

#include <stdint.h>

#include "daemon/fetcher/conf.h"
#include "daemon/registry/creds.h"
#include "daemon/registry/hosts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(hosts_free_cleanup) struct hosts *hosts = NULL;
	CLEANUP_CRED struct cred c = {0}, c2 = {0};
	CLEANUP_FREE char *helper = NULL;
	const char *s = (const char *)data;
	struct config conf;
	struct err e = {0};

	if (config_init(&conf) == 0) {
		(void)config_parse(&conf, s, size, &e);
		config_done(&conf);
	}
	(void)hosts_parse(s, size, "docker.io", false, &hosts, &e);
	(void)creds_lookup(s, size, "docker.io", &c, &helper, &e);
	(void)creds_helper_parse(s, size, &c2);
	return 0;
}
