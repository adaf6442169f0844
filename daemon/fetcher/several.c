/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/several.h"

#include <errno.h>
#include <stdio.h>

#define LOG_MOD "several"
#include "common/log.h"
#include "daemon/fetcher/blob.h"
#include "daemon/registry/byteranges.h"
#include "daemon/registry/exch.h"
#include "daemon/registry/hosts.h"

/* Too far apart to be answered as one range. */
#define TWO_BYTES "0-0,255-255"
#define TWO_BYTES_END 256u

/**
 * struct asking - of a host
 * @said:	the answer; SCHED_SEVERAL_UNKNOWN: none
 */
struct asking {
	struct exch x;
	struct list node; /* in d->severals */
	struct blob *b;
	struct sched_host *host;
	enum sched_several said;
};

static struct asking *asking_of(struct exch *x)
{
	return LIST_ENTRY(x, struct asking, x);
}

static void asking_free(struct asking *a)
{
	if (a->host->several == SCHED_SEVERAL_ASKED)
		a->host->several = a->said;
	exch_stop(&a->x);
	list_del(&a->node);
	blob_unref(a->b);
	free(a);
}

bool several_refused(unsigned status)
{
	switch (status) {
	case 200: /* the whole of it is more than was wanted */
	case 400:
	case 405:
	case 406:
	case 413:
	case 416:
	case 431:
	case 501:
		return true;
	default:
		return false;
	}
}

/* What the answer says of the host; UNKNOWN: it says something else. */
static enum sched_several meaning(const struct http_resp *resp)
{
	struct byteranges parts;

	if (resp->status != 206)
		return several_refused(resp->status) ? SCHED_SEVERAL_NO
						     : SCHED_SEVERAL_UNKNOWN;
	if (byteranges_init(&parts, resp->content_type) == 0)
		return SCHED_SEVERAL_YES;
	if (resp->has_range && resp->range.has_total &&
	    resp->range.total < TWO_BYTES_END)
		return SCHED_SEVERAL_UNKNOWN; /* there is no other */
	return SCHED_SEVERAL_NO;
}

static int on_headers(struct exch *x, const struct http_resp *resp)
{
	asking_of(x)->said = meaning(resp);
	/* Of another size it may be the whole blob. */
	return resp->status == 200 ? -ECANCELED : 0;
}

static void on_done(struct exch *x, const struct exch_end *end)
{
	struct asking *a = asking_of(x);

	log_debug("msg=\"several ranges\" host=%s taken=%d status=%u",
		  x->host->authority, a->said == SCHED_SEVERAL_YES,
		  end->status);
	asking_free(a);
}

static const struct exch_ops ops = {
	.headers = on_headers,
	.done = on_done,
};

static bool may_ask(const struct blob *b)
{
	return b->kind == PROTO_BLOB_REGISTRY && b->fd < 0 &&
	       (!b->size_known || b->size >= TWO_BYTES_END);
}

/* One that is hardly reached is left to those who wait for it. */
static bool may_be_asked(const struct sched_host *h)
{
	return h->several == SCHED_SEVERAL_UNKNOWN && !h->breaker->probation;
}

void several_ask(struct blob *b)
{
	struct asking *a;
	size_t host;
	char *url;

	if (!may_ask(b))
		return;
	host = blob_pick_host(b, 0);
	if (host >= b->hosts->n || !may_be_asked(b->sb.host))
		return;
	a = calloc(1, sizeof(*a));
	url = hosts_url(b->hosts, &b->hosts->v[host], b->repo, "blobs",
			b->digest);
	if (a == NULL || url == NULL) {
		free(a);
		free(url);
		return;
	}
	a->b = b;
	b->refs++;
	list_add(&b->d->severals, &a->node);
	a->host = b->sb.host;
	a->host->several = SCHED_SEVERAL_ASKED;
	a->x.g = &b->d->reg;
	a->x.ops = &ops;
	a->x.host = &b->hosts->v[host];
	a->x.ns = b->hosts->ns;
	a->x.repo = b->repo;
	(void)snprintf(a->x.range, sizeof(a->x.range), TWO_BYTES);
	exch_start(&a->x, url);
}

void several_distrust(const struct host *h)
{
	struct sched_host *host = origin_sched(h->origin);

	if (host->several == SCHED_SEVERAL_YES)
		host->several = SCHED_SEVERAL_NO;
}

void several_drop_all(struct fetchd *d)
{
	while (!list_empty(&d->severals))
		asking_free(LIST_ENTRY(d->severals.next, struct asking, node));
}
