/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/regopts.h"

bool regopts_take(struct image_opts *o, int c, const char *value)
{
	switch (c) {
	case REGOPTS_PLAIN_HTTP:
		o->plain_http = true;
		return true;
	case REGOPTS_HOSTS_DIR:
		o->hosts_dir = value;
		return true;
	case REGOPTS_DOCKER_CONFIG:
		o->docker_config = value;
		return true;
	default:
		return false;
	}
}
