/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/registry/registry.h"

#include <sys/random.h>

#include "daemon/registry/auth.h"
#include "daemon/registry/hosts.h"
#include "daemon/registry/http.h"

uint64_t registry_backoff_ns(unsigned tries, uint64_t retry_after_s)
{
	uint64_t ns = REGISTRY_BACKOFF_NS << MIN(tries - 1, 7u);
	uint32_t random;

	assert(tries > 0);
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) !=
	    (ssize_t)sizeof(random))
		random = 0;
	ns = MIN(ns, REGISTRY_BACKOFF_MAX_NS);
	ns = ns / 2 + ns / 2 * (random % 1024) / 1024;
	retry_after_s =
		MIN(retry_after_s, (uint64_t)REGISTRY_RETRY_AFTER_MAX_S);
	return MAX(ns, retry_after_s * NSEC_PER_SEC);
}

int registry_init(struct registry *g, struct loop *l,
		  const struct registry_settings *set)
{
	int r;

	*g = (struct registry){.loop = l, .set = *set};
	list_init(&g->origins);
	r = http_new(g, &g->http);
	return r == 0 ? auth_new(g, &g->auth) : r;
}

void registry_done(struct registry *g)
{
	auth_free(g->auth);
	http_free(g->http);
	if (g->loop != NULL)
		origin_free_all(g);
	*g = (struct registry){0};
}
