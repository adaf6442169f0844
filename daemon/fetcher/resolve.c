/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/resolve.h"

#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/digest.h"
#include "common/limits.h"
#include "common/oci.h"
#include "daemon/fetcher/conf.h"
#include "daemon/fetcher/fetchd.h"
#include "daemon/registry/exch.h"
#include "daemon/registry/hosts.h"

struct resolve {
	struct fetchd *d;
	struct exch x;
	struct oci_ref ref;
	char *reference;
	struct hosts *hosts;
	size_t host;
	unsigned rounds;
	bool transient; /* in this round somebody may answer later */
	bool has_want;
	struct digest want; /* of the document asked for */
	bool told;          /* Docker-Content-Digest of the answer */
	struct digest told_digest;
	unsigned indexes;
	struct buf body;
	uint64_t retry_after_s;
	struct loop_timer retry;
	struct loop_timer deadline;
	struct err last;
	void (*fn)(void *ctx, const char *json, size_t len,
		   const struct err *e);
	void *ctx;
};

static void ask(struct resolve *r);

void resolve_stop(struct resolve *r)
{
	if (r == NULL)
		return;
	exch_stop(&r->x);
	loop_timer_clear(&r->retry);
	loop_timer_clear(&r->deadline);
	oci_ref_done(&r->ref);
	hosts_free(r->hosts);
	buf_done(&r->body);
	free(r->reference);
	free(r);
}

static void end(struct resolve *r, const char *json, size_t len,
		const struct err *e)
{
	if (e != NULL)
		stats_failed(&r->d->stats, e->code);
	r->fn(r->ctx, json, len, e);
	resolve_stop(r);
}

/* This host is no use now: the next one, another round, or the end. */
static void next_host(struct resolve *r, bool transient)
{
	uint64_t now = loop_now(r->d->loop), ns;

	r->transient |= transient;
	r->host++;
	while (r->host < r->hosts->n && !r->hosts->v[r->host].can_resolve)
		r->host++;
	if (r->host < r->hosts->n) {
		loop_timer_set(r->d->loop, &r->retry, now);
		return;
	}
	if (!r->transient || ++r->rounds >= RESOLVE_TRIES_MAX) {
		end(r, NULL, 0, &r->last);
		return;
	}
	r->d->stats.retries++;
	ns = registry_backoff_ns(r->rounds + 1, r->retry_after_s);
	r->host = 0;
	r->transient = false;
	r->retry_after_s = 0;
	while (!r->hosts->v[r->host].can_resolve)
		r->host++;
	loop_timer_set(r->d->loop, &r->retry, now + ns);
}

static int put_layer(struct buf *b, const struct oci_layer *l, bool first)
{
	char s[DIGEST_STR_BYTES];
	int rc = buf_addf(b,
			  "%s{\"digest\":\"%s\",\"size\":%llu,"
			  "\"media_type\":",
			  first ? "" : ",", digest_str(&l->digest, s),
			  (unsigned long long)l->size);

	if (rc == 0)
		rc = buf_add_json_str(b, l->media_type);
	if (rc == 0 && l->has_toc_digest)
		rc = buf_addf(b, ",\"toc_digest\":\"%s\"",
			      digest_str(&l->toc_digest, s));
	if (rc == 0 && l->has_trace)
		rc = buf_addf(b, ",\"trace_digest\":\"%s\"",
			      digest_str(&l->trace, s));
	if (rc == 0 && l->tail != 0)
		rc = buf_addf(b, ",\"tail\":%u", l->tail);
	return rc == 0 ? buf_add_str(b, "}") : rc;
}

static void answer(struct resolve *r, const struct digest *digest,
		   const struct oci_manifest *m)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MANIFEST_BYTES_MAX);
	char s[DIGEST_STR_BYTES];
	int rc = buf_add_str(&b, "{\"reference\":");

	if (rc == 0)
		rc = buf_add_json_str(&b, r->reference);
	if (rc == 0)
		rc = buf_addf(&b,
			      ",\"repository\":\"%s/%s\","
			      "\"manifest_digest\":\"%s\",\"layers\":[",
			      r->ref.host, r->ref.repo, digest_str(digest, s));
	for (size_t i = 0; rc == 0 && i < m->n_layers; i++)
		rc = put_layer(&b, &m->layers[i], i == 0);
	if (rc == 0)
		rc = buf_add_str(&b, "]}");
	if (rc < 0) {
		struct err e = {0};

		err_set(&e, rc, "%s: cannot describe it", r->reference);
		end(r, NULL, 0, &e);
		return;
	}
	end(r, b.p, b.len, NULL);
}

static int check_digest(struct resolve *r, struct digest *ret, struct err *e)
{
	sha256_all(r->d->sha256, r->body.p, r->body.len, ret);
	if (r->has_want && !digest_equal(ret, &r->want))
		return err_set(e, -EBADMSG,
			       "%s: manifest does not have its digest",
			       r->reference);
	if (!r->has_want && r->told && !digest_equal(ret, &r->told_digest))
		return err_set(e, -EBADMSG,
			       "%s: manifest does not have the digest that "
			       "%s told",
			       r->reference, r->hosts->v[r->host].authority);
	return 0;
}

static void document(struct resolve *r)
{
	CLEANUP_OCI_MANIFEST struct oci_manifest m = {0};
	struct digest digest;
	struct err e = {0};
	int rc = -EBADMSG;

	if (r->body.len == 0)
		err_set(&e, rc, "%s: empty manifest", r->reference);
	else
		rc = check_digest(r, &digest, &e);
	if (rc == 0)
		rc = oci_manifest_parse(r->body.p, r->body.len, oci_arch(), &m,
					&e);
	if (rc == 0 && m.is_index && r->indexes++ > 0)
		rc = err_set(&e, -EBADMSG, "%s: an index in an index",
			     r->reference);
	if (rc < 0) {
		/* Another host may have a better one. */
		r->last = e;
		next_host(r, false);
		return;
	}
	if (!m.is_index) {
		answer(r, &digest, &m);
		return;
	}
	r->want = m.next;
	r->has_want = true;
	loop_timer_set(r->d->loop, &r->retry, loop_now(r->d->loop));
}

static int on_headers(struct exch *x, const struct http_resp *resp)
{
	struct resolve *r = LIST_ENTRY(x, struct resolve, x);

	buf_clear(&r->body);
	r->told = resp->digest != NULL &&
		  digest_parse(resp->digest, strlen(resp->digest),
			       &r->told_digest) == 0;
	return resp->status == 200 ? 1 : 0;
}

static int on_data(struct exch *x, const void *p, size_t n)
{
	struct resolve *r = LIST_ENTRY(x, struct resolve, x);

	return buf_add(&r->body, p, n);
}

static void on_done(struct exch *x, const struct exch_end *he)
{
	struct resolve *r = LIST_ENTRY(x, struct resolve, x);
	struct exch_end ee = *he;

	if (ee.code == 0 && ee.status == 200) {
		document(r);
		return;
	}
	if (ee.code == -ECANCELED) {
		ee.code = -EOVERFLOW;
		ee.permanent = true;
		(void)snprintf(ee.text, sizeof(ee.text),
			       "manifest is too large");
	}
	exch_status_error(x, &ee, &r->last);
	r->retry_after_s = MAX(r->retry_after_s, ee.retry_after_s);
	next_host(r, !ee.permanent);
}

static const struct exch_ops ops = {
	.headers = on_headers,
	.data = on_data,
	.done = on_done,
};

static void ask(struct resolve *r)
{
	const struct host *h = &r->hosts->v[r->host];
	char digest[DIGEST_STR_BYTES];
	char *url = hosts_url(r->hosts, h, r->ref.repo, "manifests",
			      r->has_want ? digest_str(&r->want, digest)
					  : r->ref.tag);

	if (url == NULL) {
		err_no_memory(&r->last);
		end(r, NULL, 0, &r->last);
		return;
	}
	exch_stop(&r->x);
	r->x = (struct exch){
		.g = &r->d->reg,
		.ops = &ops,
		.host = h,
		.ns = r->hosts->ns,
		.repo = r->ref.repo,
		.accept = OCI_ACCEPT,
	};
	exch_start(&r->x, url);
}

static void on_retry(struct loop_timer *t)
{
	ask(LIST_ENTRY(t, struct resolve, retry));
}

static void on_deadline(struct loop_timer *t)
{
	struct resolve *r = LIST_ENTRY(t, struct resolve, deadline);
	struct err e = {0};

	if (r->last.code != 0)
		err_set(&e, -ETIMEDOUT, "deadline passed; last: %.200s",
			r->last.text);
	else
		err_set(&e, -ETIMEDOUT, "%s: deadline passed", r->reference);
	end(r, NULL, 0, &e);
}

static int prepare(struct resolve *r, bool plain_http, struct err *e)
{
	int rc = oci_ref_parse(r->reference, &r->ref, e);

	if (rc < 0)
		return rc;
	r->has_want = r->ref.has_digest;
	r->want = r->ref.digest;
	rc = hosts_load(&r->d->reg, r->ref.host, plain_http, &r->hosts, e);
	if (rc < 0)
		return rc;
	while (r->host < r->hosts->n && !r->hosts->v[r->host].can_resolve)
		r->host++;
	if (r->host == r->hosts->n)
		return err_set(e, -ENOENT, "%s: no host may resolve it",
			       r->reference);
	return 0;
}

int resolve_start(struct fetchd *d, const char *reference, bool plain_http,
		  uint64_t deadline_ns,
		  void (*fn)(void *ctx, const char *json, size_t len,
			     const struct err *e),
		  void *ctx, struct resolve **ret, struct err *e)
{
	struct resolve *r = calloc(1, sizeof(*r));
	int rc = -ENOMEM;

	if (r == NULL)
		return err_no_memory(e);
	r->d = d;
	r->fn = fn;
	r->ctx = ctx;
	r->body = BUF_INIT(MANIFEST_BYTES_MAX);
	r->retry.fn = on_retry;
	r->deadline.fn = on_deadline;
	r->reference = strdup(reference);
	if (r->reference != NULL)
		rc = prepare(r, plain_http, e);
	else
		err_no_memory(e);
	if (rc < 0) {
		resolve_stop(r);
		return rc;
	}
	loop_timer_set(d->loop, &r->deadline, deadline_ns);
	loop_timer_set(d->loop, &r->retry, 0);
	*ret = r;
	return 0;
}
