/* SPDX-License-Identifier: Apache-2.0 */
/* config.toml of estargz-snapshotter. */
#include "config.h"

#include <stdint.h>

#include "daemon/snapshotter/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config conf;
	struct err e = {0};

	if (config_init(&conf) < 0)
		return 0;
	if (config_parse(&conf, (const char *)data, size, &e) == 0)
		assert(conf.root[0] == '/' && conf.address[0] == '/');
	else
		assert(e.text[0] != '\0');
	config_done(&conf);
	return 0;
}
