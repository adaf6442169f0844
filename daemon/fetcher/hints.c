/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/hints.h"

#include <stdio.h>
#include <string.h>

#include "daemon/fetcher/play.h"
#include "daemon/fetcher/refer.h"
#include "daemon/fetcher/wire.h"

/* @f:	the image's, where @p is not known */
struct hints {
	struct play_watch w; /* first */
	struct refer_wait found;
	struct fetchd *d;
	bool plain_http;
	struct play *p;
	struct refer *f;
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

static void on_found(struct refer_wait *w, const char *name)
{
	struct hints *h = LIST_ENTRY(w, struct hints, found);

	if (name != NULL)
		h->p = play_find(h->d, name, h->plain_http);
	if (h->p == NULL) {
		on_told(&h->w, NULL, 0);
		return;
	}
	play_add(h->p, h->w.blob);
	play_watch(h->p, &h->w);
}

struct hints *hints_new(struct fetchd *d, struct blob *b, const char *name,
			const char *trace, bool plain_http,
			const struct hints_to *to)
{
	bool of_image = trace[0] == PROTO_OPEN_IMAGE;
	CLEANUP_FREE char *full = NULL;
	struct hints *h = NULL;
	struct play *p = NULL;
	struct refer *f = NULL;

	if (asprintf(&full, "%.*s@%s", (int)strcspn(name, "@"), name,
		     trace + of_image) < 0)
		full = NULL;
	if (full != NULL && of_image)
		f = refer_find(d, full, plain_http);
	else if (full != NULL)
		p = play_find(d, full, plain_http);
	if (p != NULL || f != NULL)
		h = calloc(1, sizeof(*h));
	if (h == NULL)
		return NULL;
	h->w = (struct play_watch){.blob = b, .told = on_told};
	h->found.told = on_found;
	h->d = d;
	h->plain_http = plain_http;
	h->p = p;
	h->f = f;
	h->to = *to;
	if (p != NULL)
		play_add(p, b);
	return h;
}

void hints_start(struct hints *h)
{
	if (h->p != NULL)
		play_watch(h->p, &h->w);
	else
		refer_wait(h->f, &h->found);
}

void hints_free(struct hints *h)
{
	if (h == NULL)
		return;
	refer_unwait(&h->found);
	play_unwatch(&h->w);
	free(h);
}
