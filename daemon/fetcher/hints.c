/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/hints.h"

#include <stdio.h>
#include <string.h>

#include "daemon/fetcher/play.h"
#include "daemon/fetcher/wire.h"

struct hints {
	struct play_watch w; /* first */
	struct play *p;
	struct hints_to to;
};

static void send_some(const struct hints *h, unsigned flags,
		      const struct proto_hint_range *v, uint32_t n)
{
	uint8_t buf[PROTO_PACKET_MAX];

	h->to.send(h->to.ctx, buf,
		   wire_put_hint(buf, h->to.id, flags, h->to.handle, v, n));
}

static void on_told(struct play_watch *w, const struct plan *plan, size_t layer)
{
	const struct hints *h = (struct hints *)(void *)w;
	struct proto_hint_range v[PROTO_HINT_RANGES_MAX];
	uint32_t n = 0;

	for (size_t i = 0; plan != NULL && i < plan->n; i++) {
		if (plan->v[i].layer != layer)
			continue;
		if (n == ARRAY_SIZE(v)) {
			send_some(h, 0, v, n);
			n = 0;
		}
		v[n].off = plan->v[i].off;
		v[n++].len = plan->v[i].len;
	}
	send_some(h, PROTO_HINT_END | (plan == NULL ? PROTO_HINT_NONE : 0), v,
		  n);
}

struct hints *hints_new(struct fetchd *d, struct blob *b, const char *name,
			const char *trace, bool plain_http,
			const struct hints_to *to)
{
	CLEANUP_FREE char *full = NULL;
	struct hints *h = NULL;
	struct play *p = NULL;

	if (asprintf(&full, "%.*s@%s", (int)strcspn(name, "@"), name, trace) <
	    0)
		full = NULL;
	if (full != NULL)
		p = play_find(d, full, plain_http);
	if (p != NULL)
		h = calloc(1, sizeof(*h));
	if (h == NULL)
		return NULL;
	h->w = (struct play_watch){.blob = b, .told = on_told};
	h->p = p;
	h->to = *to;
	play_add(p, b);
	return h;
}

void hints_start(struct hints *h)
{
	play_watch(h->p, &h->w);
}

void hints_free(struct hints *h)
{
	if (h == NULL)
		return;
	play_unwatch(&h->w);
	free(h);
}
