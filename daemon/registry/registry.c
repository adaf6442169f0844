/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/registry/registry.h"

#include "daemon/registry/auth.h"
#include "daemon/registry/hosts.h"
#include "daemon/registry/http.h"

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
