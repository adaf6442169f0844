/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/refer.h"

#include <stdio.h>
#include <string.h>

#define LOG_MOD "refer"
#include "common/buf.h"
#include "common/digest.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/oci.h"
#include "daemon/fetcher/fetchd.h"
#include "daemon/registry/exch.h"
#include "daemon/registry/hosts.h"

/* The type, as a query has it. */
#define TYPE_QUERY "artifactType=application%2Fvnd.estargz.trace.v1%2Bjson"

enum step {
	BY_API,
	BY_TAG,
	ARTIFACT
};

/**
 * struct asking - a refer that is on its way
 * @failed:	some host gave an answer that was no good, or none: @last
 * @artifact:	digest of its manifest, in step ARTIFACT
 */
struct asking {
	struct refer *f;
	struct exch x;
	struct oci_ref ref;
	struct hosts *hosts;
	size_t host;
	enum step step;
	bool failed;
	struct digest artifact;
	struct buf body;
	struct loop_timer start;
	struct loop_timer deadline;
	struct err last;
};

/**
 * struct refer - an image
 * @asking:	NULL: it is known, until @until_ns
 * @trace:	name of the trace; NULL: it has none
 */
struct refer {
	struct list node; /* in d->refers, oldest first */
	struct fetchd *d;
	char *name;
	bool plain_http;
	struct asking *asking;
	char *trace;
	uint64_t until_ns;
	struct list waits;
};

static void asking_free(struct asking *a)
{
	if (a == NULL)
		return;
	exch_stop(&a->x);
	loop_timer_clear(&a->start);
	loop_timer_clear(&a->deadline);
	oci_ref_done(&a->ref);
	hosts_free(a->hosts);
	buf_done(&a->body);
	free(a);
}

static void tell(struct refer *f)
{
	while (!list_empty(&f->waits)) {
		struct refer_wait *w =
			LIST_ENTRY(f->waits.next, struct refer_wait, node);

		list_del(&w->node);
		w->told(w, f->trace);
	}
}

static void refer_free(struct refer *f)
{
	asking_free(f->asking);
	list_del(&f->node);
	tell(f);
	free(f->name);
	free(f->trace);
	free(f);
}

/* All has been said. @trace: digest, NULL: there is none, or it failed */
static void end(struct asking *a, const struct digest *trace)
{
	struct refer *f = a->f;
	char d[DIGEST_STR_BYTES];
	bool failed = a->failed;

	if (trace != NULL && asprintf(&f->trace, "%s/%s@%s", a->ref.host,
				      a->ref.repo, digest_str(trace, d)) < 0)
		f->trace = NULL;
	if (f->trace == NULL && failed)
		log_info("msg=\"no trace: %s\" image=%s err=%s", a->last.text,
			 f->name, err_symbol(a->last.code));
	else
		log_debug("msg=\"trace of an image\" image=%s name=%s", f->name,
			  f->trace != NULL ? f->trace : "none");
	f->until_ns =
		loop_now(f->d->loop) +
		(f->trace == NULL && failed ? REFER_FAILED_NS : REFER_HOLD_NS);
	asking_free(TAKE_PTR(f->asking));
	tell(f);
}

/* ---- asking ------------------------------------------------------------ */

static void go_on(struct asking *a, enum step step)
{
	a->step = step;
	loop_timer_set(a->f->d->loop, &a->start, 0);
}

/* @why: NULL: this host has none */
static void next_host(struct asking *a, const struct err *why)
{
	if (why != NULL) {
		a->failed = true;
		a->last = *why;
	}
	a->host++;
	while (a->host < a->hosts->n && !a->hosts->v[a->host].can_resolve)
		a->host++;
	if (a->host < a->hosts->n)
		go_on(a, BY_API);
	else
		end(a, NULL);
}

/* A list that is none is what some hosts say who know of no such thing. */
static void listed(struct asking *a)
{
	struct err e = {0};
	int r = oci_referrers_parse(a->body.p != NULL ? a->body.p : "",
				    a->body.len, OCI_TRACE_MEDIA_TYPE,
				    &a->artifact, &e);

	if (r == 0)
		go_on(a, ARTIFACT);
	else if (r == -ENOENT)
		next_host(a, NULL);
	else if (a->step == BY_API)
		go_on(a, BY_TAG);
	else
		next_host(a, &e);
}

static void artifact(struct asking *a)
{
	struct digest got, trace;
	struct err e = {0};
	int r = 0;

	sha256_all(a->f->d->sha256, a->body.p, a->body.len, &got);
	if (!digest_equal(&got, &a->artifact))
		r = err_set(&e, -EBADMSG, "artifact does not have its digest");
	if (r == 0)
		r = oci_artifact_parse(a->body.p, a->body.len,
				       OCI_TRACE_MEDIA_TYPE, &a->ref.digest,
				       &trace, &e);
	if (r < 0)
		next_host(a, &e);
	else
		end(a, &trace);
}

static int on_headers(struct exch *x, const struct http_resp *resp)
{
	struct asking *a = LIST_ENTRY(x, struct asking, x);

	buf_clear(&a->body);
	return resp->status == 200 ? 1 : 0;
}

static int on_data(struct exch *x, const void *p, size_t n)
{
	struct asking *a = LIST_ENTRY(x, struct asking, x);

	return buf_add(&a->body, p, n);
}

static void on_done(struct exch *x, const struct exch_end *he)
{
	struct asking *a = LIST_ENTRY(x, struct asking, x);
	struct exch_end ee = *he;
	struct err e = {0};

	if (ee.code == 0 && ee.status == 200) {
		if (a->step == ARTIFACT)
			artifact(a);
		else
			listed(a);
		return;
	}
	if (ee.code == -ECANCELED)
		(void)snprintf(ee.text, sizeof(ee.text),
			       "what is said of artifacts is too large");
	exch_status_error(x, &ee, &e);
	if (ee.code < 0 || e.code == -EACCES ||
	    !exch_status_permanent(ee.status))
		next_host(a, &e);
	else if (a->step == BY_API)
		go_on(a, BY_TAG);
	else
		next_host(a,
			  a->step == BY_TAG && e.code == -ENOENT ? NULL : &e);
}

static const struct exch_ops ops = {
	.headers = on_headers,
	.data = on_data,
	.done = on_done,
};

static char *url_of(const struct asking *a, const struct host *h)
{
	char digest[DIGEST_STR_BYTES], tag[OCI_REFERRERS_TAG_BYTES];
	CLEANUP_FREE char *list = NULL;
	char *url;

	if (a->step == ARTIFACT)
		return hosts_url(a->hosts, h, a->ref.repo, "manifests",
				 digest_str(&a->artifact, digest));
	if (a->step == BY_TAG)
		return hosts_url(a->hosts, h, a->ref.repo, "manifests",
				 oci_referrers_tag(&a->ref.digest, tag));
	list = hosts_url(a->hosts, h, a->ref.repo, "referrers",
			 digest_str(&a->ref.digest, digest));
	if (list == NULL ||
	    asprintf(&url, "%s%c%s", list,
		     strchr(list, '?') != NULL ? '&' : '?', TYPE_QUERY) < 0)
		return NULL;
	return url;
}

static void on_start(struct loop_timer *t)
{
	struct asking *a = LIST_ENTRY(t, struct asking, start);
	const struct host *h = &a->hosts->v[a->host];
	char *url = url_of(a, h);

	if (url == NULL) {
		a->failed = true;
		err_no_memory(&a->last);
		end(a, NULL);
		return;
	}
	exch_stop(&a->x);
	a->x = (struct exch){
		.g = &a->f->d->reg,
		.ops = &ops,
		.host = h,
		.ns = a->hosts->ns,
		.repo = a->ref.repo,
		.accept = OCI_ACCEPT,
	};
	exch_start(&a->x, url);
}

static void on_deadline(struct loop_timer *t)
{
	struct asking *a = LIST_ENTRY(t, struct asking, deadline);

	a->failed = true;
	err_set(&a->last, -ETIMEDOUT, "deadline passed");
	end(a, NULL);
}

/* ---- what others call -------------------------------------------------- */

static int ask(struct refer *f, struct err *e)
{
	struct asking *a = calloc(1, sizeof(*a));
	int r;

	if (a == NULL)
		return err_no_memory(e);
	f->asking = a;
	a->f = f;
	a->body = BUF_INIT(REFERRERS_BYTES_MAX);
	a->start.fn = on_start;
	a->deadline.fn = on_deadline;
	r = oci_ref_parse(f->name, &a->ref, e);
	if (r == 0 && !a->ref.has_digest)
		r = err_set(e, -EBADMSG, "%s: no digest", f->name);
	if (r == 0)
		r = hosts_load(&f->d->reg, a->ref.host, f->plain_http,
			       &a->hosts, e);
	if (r < 0)
		return r;
	while (a->host < a->hosts->n && !a->hosts->v[a->host].can_resolve)
		a->host++;
	if (a->host == a->hosts->n)
		return err_set(e, -ENOENT, "%s: no host may resolve it",
			       f->name);
	loop_timer_set(f->d->loop, &a->deadline,
		       loop_now(f->d->loop) + REFER_DEADLINE_NS);
	/* In the next turn: after the ends of the blobs that are asked for now. */
	go_on(a, BY_API);
	return 0;
}

static struct refer *refer_new(struct fetchd *d, const char *image,
			       bool plain_http)
{
	struct refer *f = calloc(1, sizeof(*f));
	struct err e = {0};

	if (f == NULL)
		return NULL;
	f->d = d;
	f->plain_http = plain_http;
	list_init(&f->waits);
	list_init(&f->node);
	f->name = strdup(image);
	if (f->name == NULL || ask(f, &e) < 0) {
		if (f->name != NULL)
			log_info("msg=\"no trace: %s\"", e.text);
		refer_free(f);
		return NULL;
	}
	list_add(&d->refers, &f->node);
	return f;
}

struct refer *refer_find(struct fetchd *d, const char *image, bool plain_http)
{
	uint64_t now = loop_now(d->loop);
	struct refer *oldest = NULL;
	unsigned n = 0, asking = 0;

	LIST_EACH_SAFE(at, &d->refers)
	{
		struct refer *f = LIST_ENTRY(at, struct refer, node);

		if (f->asking == NULL && now >= f->until_ns) {
			refer_free(f);
			continue;
		}
		if (f->plain_http == plain_http && strcmp(f->name, image) == 0)
			return f->asking != NULL || f->trace != NULL ? f : NULL;
		if (oldest == NULL && f->asking == NULL)
			oldest = f;
		asking += f->asking != NULL;
		n++;
	}
	if (asking >= REFERS_ASKING)
		return NULL;
	if (n >= REFERS_MAX)
		refer_free(oldest);
	return refer_new(d, image, plain_http);
}

void refer_wait(struct refer *f, struct refer_wait *w)
{
	if (f->asking != NULL)
		list_add(&f->waits, &w->node);
	else
		w->told(w, f->trace);
}

void refer_unwait(struct refer_wait *w)
{
	if (w->node.next != NULL)
		list_del(&w->node);
}

void refer_drop_all(struct fetchd *d)
{
	while (!list_empty(&d->refers))
		refer_free(LIST_ENTRY(d->refers.next, struct refer, node));
}
