/* SPDX-License-Identifier: Apache-2.0 */
/* Options about registries, of all commands that read or write images. */
#ifndef CLI_REGOPTS_H
#define CLI_REGOPTS_H

#include <getopt.h>

#include "cli/image/image.h"

/* Values of getopt_long(), above everybody else's. */
enum {
	REGOPTS_PLAIN_HTTP = 2000,
	REGOPTS_HOSTS_DIR,
	REGOPTS_DOCKER_CONFIG,
};
/* clang-format off */
#define REGOPTS_LONGS \
	{"plain-http", no_argument, NULL, REGOPTS_PLAIN_HTTP}, \
	{"hosts-dir", required_argument, NULL, REGOPTS_HOSTS_DIR}, \
	{"docker-config", required_argument, NULL, REGOPTS_DOCKER_CONFIG}
#define REGOPTS_HELP \
	"      --plain-http          registries do not have TLS\n" \
	"      --hosts-dir DIR       hosts.toml of registries [as estargzd]\n" \
	"      --docker-config FILE  credentials [as estargzd]\n"
/* clang-format on */

/* One option; @value is borrowed. Return: whether it was one of these */
bool regopts_take(struct image_opts *o, int c, const char *value);

#endif
