/* SPDX-License-Identifier: Apache-2.0 */
/* docker://, to read from. push.c writes. */
#include "config.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli/image/client.h"
#include "cli/image/doc.h"
#include "cli/image/registry.h"
#include "cli/image/transport.h"
#include "common/limits.h"
#include "daemon/registry/headers.h"
#include "daemon/registry/hosts.h"

#define READ_RING_BYTES KIB(512)
/* What a connection must have brought to count as one that works. */
#define READ_PROGRESS_BYTES MIB(1)
#define REFERRERS_PAGES_MAX 64u

struct registry_src {
	struct image_src src; /* first */
	struct clients all;
};

static struct registry_src *src_of(struct image_src *s)
{
	return (struct registry_src *)(void *)s;
}

/* ---- documents ---- */

/* "type; charset=utf-8" is type. */
static char *media_type(const char *s)
{
	return s != NULL ? strndup(s, strcspn(s, " \t;")) : NULL;
}

/* GET of a whole document into doc. */
static int get(struct registry_src *s, const char *what, const char *name,
	       const struct digest *want, struct buf *doc, char **ret_type,
	       struct err *e)
{
	CLEANUP_CALL struct call q = {.reply = BUF_INIT(MANIFEST_BYTES_MAX)};
	int r = call_open(&q, &s->all, e);

	if (r < 0)
		return r;
	q.x.accept = strcmp(what, "manifests") == 0 ? OCI_ACCEPT : NULL;
	r = call_pull(&q, what, name, want, e);
	if (r == 0 && ret_type != NULL)
		*ret_type = media_type(q.resp.content_type);
	if (r == 0 && q.reply.len > 0) {
		r = buf_add(doc, q.reply.p, q.reply.len);
		if (r < 0)
			err_set(e, r, "%s/%s: %s: %s", s->all.ns, s->all.repo,
				name, err_name(r));
	}
	return r;
}

static int src_root(struct image_src *src, struct image_desc *ret,
		    struct buf *doc, struct err *e)
{
	struct registry_src *s = src_of(src);
	const struct oci_ref *ref = &src->name.ref;
	const struct digest *want = ref->has_digest ? &ref->digest : NULL;
	char digest[DIGEST_STR_BYTES];
	const char *name = ref->tag;
	size_t start = doc->len;
	int r;

	if (want != NULL)
		name = digest_str(want, digest);
	r = get(s, "manifests", name, want, doc, &ret->media_type, e);
	if (r == 0)
		r = doc_digest(doc->p + start, doc->len - start, &ret->digest);
	ret->size = doc->len - start;
	return r;
}

static int src_document(struct image_src *src, const struct image_desc *d,
			struct buf *doc, struct err *e)
{
	char name[DIGEST_STR_BYTES];

	return get(src_of(src),
		   registry_is_manifest(d->media_type) ? "manifests" : "blobs",
		   digest_str(&d->digest, name), &d->digest, doc, NULL, e);
}

/* ---- blobs ---- */

/**
 * struct registry_read - a blob that is read
 * @off:	bytes that are in the ring or were given out
 * @skip:	bytes of this response before them
 * @ring:	[@ring_len] to be given out from @ring_at on
 * @tries:	since @tries_off
 * @dead:	hosts that do not have it, a bit each
 * @last:	what went wrong last
 */
struct registry_read {
	struct image_read read; /* first */
	struct registry_src *src;
	struct call q;
	char name[DIGEST_STR_BYTES];
	uint64_t size;
	uint64_t off;
	uint64_t skip;
	char *ring;
	size_t ring_at;
	size_t ring_len;
	unsigned tries;
	uint64_t tries_off;
	uint32_t dead;
	bool paused;
	struct err last;
};

static struct registry_read *read_of(struct image_read *r)
{
	return (struct registry_read *)(void *)r;
}

/**
 * check_headers() - whether an answer has the bytes of a blob from @off on
 * @size:	of the blob; 0 where not known, set where the answer tells it
 * @ret_skip:	bytes in front of them
 */
static int check_headers(struct call *q, const struct http_resp *resp,
			 uint64_t off, uint64_t *size, uint64_t *ret_skip)
{
	const struct content_range *c = &resp->range;
	uint64_t total = 0;

	*ret_skip = 0;
	if (resp->has_encoding) {
		q->why = "sent with an encoding";
	} else if (resp->status != 206) {
		total = resp->has_length ? resp->length : 0;
		*ret_skip = off;
	} else if (!resp->has_range || !c->has_range || c->start != off) {
		q->why = "sent another range";
	} else {
		total = c->has_total ? c->total : 0;
	}
	if (*size == 0)
		*size = total;
	else if (total != 0 && total != *size)
		q->why = "has another size";
	return q->why == NULL ? 1 : -EBADMSG;
}

static int on_headers(void *arg, const struct http_resp *resp)
{
	struct registry_read *r = arg;
	uint64_t size = r->size;

	return check_headers(&r->q, resp, r->off, &size, &r->skip);
}

static int on_data(void *arg, const void *p, size_t n)
{
	struct registry_read *r = arg;
	size_t skip = (size_t)MIN((uint64_t)n, r->skip), have;

	if (r->skip < n) {
		have = n - skip;
		if (r->ring_at == r->ring_len)
			r->ring_at = r->ring_len = 0;
		if (have > READ_RING_BYTES - r->ring_len) {
			r->paused = true;
			return HTTP_PAUSE;
		}
		if (r->size != 0 && have > r->size - r->off) {
			r->q.why = "is longer than it should be";
			return -EBADMSG;
		}
		memcpy(r->ring + r->ring_len, (const char *)p + skip, have);
		r->ring_len += have;
		r->off += have;
	}
	r->skip -= skip;
	return 0;
}

/* The next host that may have it, from the present one on. */
static bool next_host(struct registry_read *r)
{
	struct client *c = r->q.c;

	for (size_t i = 0; i < c->hosts->n; i++) {
		size_t h = (r->q.host + i) % c->hosts->n;

		if ((r->dead & (1u << h)) == 0 &&
		    call_may_pull(c, h, "blobs", r->name)) {
			r->q.host = h;
			return true;
		}
	}
	return false;
}

static int read_start(struct registry_read *r, struct err *e)
{
	struct client *c = r->q.c;

	if (!next_host(r)) {
		if (r->last.code == 0)
			err_set(&r->last, -ENOENT,
				"%s: no host may be asked for blobs",
				c->all->ns);
		return err_set(e, r->last.code, "%s", r->last.text);
	}
	r->paused = false;
	r->q.x.range[0] = '\0';
	if (r->off > 0)
		(void)snprintf(r->q.x.range, sizeof(r->q.x.range),
			       "%" PRIu64 "-", r->off);
	return call_start(&r->q,
			  hosts_url(c->hosts, &c->hosts->v[r->q.host],
				    c->all->repo, "blobs", r->name),
			  e);
}

/* A response has ended before the blob has. */
static int read_broken(struct registry_read *r, struct err *e)
{
	struct call *q = &r->q;
	char shown[100];
	bool transient = q->why == NULL && (call_transient(q) || call_ok(q));

	(void)snprintf(shown, sizeof(shown), "blob %s", r->name);
	if (call_ok(q)) {
		err_set(&r->last, -EIO, "%s/%.80s: %s: ends too early",
			q->c->hosts->v[q->host].authority, r->src->all.repo,
			shown);
	} else {
		(void)call_error(q, shown, &r->last);
	}
	if (r->off - r->tries_off >= READ_PROGRESS_BYTES) {
		r->tries = 0;
		r->tries_off = r->off;
	}
	if (!transient) {
		r->dead |= 1u << q->host;
		return 0;
	}
	if (++r->tries == CLIENT_TRIES_MAX)
		return err_set(e, r->last.code, "%s", r->last.text);
	q->host++; /* or the same, where there is no other */
	return client_wait(q->c, r->tries, q->end.retry_after_s, e);
}

static bool read_is_over(const struct registry_read *r)
{
	if (r->size != 0)
		return r->off == r->size;
	return !r->q.running && r->q.streaming && r->q.end.code == 0;
}

static ssize_t read_some(struct image_read *read, void *p, size_t n,
			 struct err *e)
{
	struct registry_read *r = read_of(read);
	int rc = 0;

	while (r->ring_at == r->ring_len && !read_is_over(r)) {
		if (r->paused) {
			r->paused = false;
			exch_resume(&r->q.x);
		} else if (r->q.running) {
			rc = client_turn(r->q.c, e);
		} else {
			if (r->q.x.g != NULL)
				rc = read_broken(r, e);
			if (rc == 0)
				rc = read_start(r, e);
		}
		if (rc < 0)
			return rc;
	}
	n = MIN(n, r->ring_len - r->ring_at);
	memcpy(p, r->ring + r->ring_at, n);
	r->ring_at += n;
	return (ssize_t)n;
}

static void read_close(struct image_read *read)
{
	struct registry_read *r = read_of(read);
	struct client *c = r->q.c;
	struct err e;

	/* What ends by itself leaves its connection to others. */
	while (r->q.running && r->size != 0 && r->off == r->size &&
	       client_turn(c, &e) == 0)
		continue;
	call_done(&r->q);
	free(r->ring);
	free(r);
}

static const struct image_read_ops read_ops = {
	.some = read_some,
	.close = read_close,
};

static int src_blob(struct image_src *src, const struct image_desc *d,
		    struct image_read **ret, struct err *e)
{
	struct registry_read *r = calloc(1, sizeof(*r));
	int rc;

	if (r == NULL)
		return err_no_memory(e);
	r->read.ops = &read_ops;
	r->src = src_of(src);
	r->size = d->size;
	(void)digest_str(&d->digest, r->name);
	r->q.x.bulk = true;
	r->q.headers = on_headers;
	r->q.data = on_data;
	r->q.arg = r;
	r->ring = malloc(READ_RING_BYTES);
	rc = r->ring != NULL ? call_open(&r->q, &r->src->all, e)
			     : err_no_memory(e);
	if (rc < 0) {
		read_close(&r->read);
		return rc;
	}
	*ret = &r->read;
	return 0;
}

/* ---- ranges ---- */

/**
 * struct span_get - part of a blob that is fetched
 * @off:	next byte wanted
 * @left:	bytes wanted
 * @base:	bytes of @to before those of the present request
 */
struct span_get {
	struct call q;
	uint64_t off;
	size_t left;
	uint64_t skip;
	uint64_t size;
	struct buf *to;
	size_t base;
};

static int span_headers(void *arg, const struct http_resp *resp)
{
	struct span_get *g = arg;
	size_t got = g->to->len - g->base;

	/* The same request again: one that broke off, or of the last host. */
	g->off -= got;
	g->left += got;
	g->to->len = g->base;
	return check_headers(&g->q, resp, g->off, &g->size, &g->skip);
}

static int span_data(void *arg, const void *p, size_t n)
{
	struct span_get *g = arg;
	size_t skip = (size_t)MIN((uint64_t)n, g->skip);
	size_t have = MIN(n - skip, g->left);

	g->skip -= skip;
	if (buf_add(g->to, (const char *)p + skip, have) < 0) {
		g->q.why = "does not fit into memory";
		return -ENOMEM;
	}
	g->off += have;
	g->left -= have;
	g->q.enough = g->left == 0;
	return g->q.enough ? -ECANCELED : 0;
}

/* The size of a blob, of which nobody has told. */
static int blob_size(struct call *q, const char *name, uint64_t *ret,
		     struct err *e)
{
	int r;

	q->x.method = HTTP_HEAD;
	r = call_pull(q, "blobs", name, NULL, e);
	q->x.method = HTTP_GET;
	if (r < 0)
		return r;
	if (!q->resp.has_length)
		return err_set(e, -EOPNOTSUPP,
			       "%s: blob %s: no host tells its size",
			       q->c->all->ns, name);
	*ret = q->resp.length;
	return 0;
}

/* What is left after a response that broke off is asked for again. */
static int span_get(struct span_get *g, const char *name, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && g->left > 0; i++) {
		if (i == CLIENT_TRIES_MAX)
			return err_set(
				e, -EIO, "%s/%s: blob %s: ends too early",
				g->q.c->all->ns, g->q.c->all->repo, name);
		(void)snprintf(g->q.x.range, sizeof(g->q.x.range),
			       "%" PRIu64 "-%" PRIu64, g->off,
			       g->off + g->left - 1);
		g->base = g->to->len;
		r = call_pull(&g->q, "blobs", name, NULL, e);
	}
	return r;
}

static int src_range(struct image_src *src, const struct image_desc *d,
		     uint64_t off, size_t n, struct buf *ret,
		     uint64_t *ret_size, struct err *e)
{
	struct registry_src *s = src_of(src);
	struct span_get g = {.size = d->size, .to = ret};
	char name[DIGEST_STR_BYTES];
	int r = call_open(&g.q, &s->all, e);

	if (r < 0)
		return r;
	(void)digest_str(&d->digest, name);
	if (g.size == 0)
		r = blob_size(&g.q, name, &g.size, e);
	g.off = off == UINT64_MAX ? g.size - MIN(g.size, (uint64_t)n) : off;
	if (r == 0 && off != UINT64_MAX && (off > g.size || n > g.size - off))
		r = err_set(e, -EBADMSG,
			    "%s/%s: blob %s: has %" PRIu64 " bytes", s->all.ns,
			    s->all.repo, name, g.size);
	g.left = (size_t)MIN((uint64_t)n, g.size - g.off);
	g.q.headers = span_headers;
	g.q.data = span_data;
	g.q.arg = &g;
	if (r == 0)
		r = span_get(&g, name, e);
	*ret_size = g.size;
	call_done(&g.q);
	return r;
}

/* ---- artifacts ---- */

/* Adds the manifests of one list to another. */
static int list_join(struct json_object *to, struct json_object *from)
{
	struct json_object *a = doc_array(to, "manifests");
	struct json_object *b = doc_array(from, "manifests");

	for (size_t i = 0; b != NULL && i < json_object_array_length(b); i++) {
		struct json_object *o = json_object_array_get_idx(b, i);

		if (a == NULL || json_object_array_add(a, o) < 0)
			return -ENOMEM;
		(void)json_object_get(o);
	}
	return 0;
}

/* The pages behind the first one, which q has just got. */
static int pages(struct call *q, struct json_object *list, struct err *e)
{
	size_t bytes = q->reply.len;

	for (unsigned i = 1; q->resp.link != NULL; i++) {
		CLEANUP_DOC struct json_object *page = NULL;
		CLEANUP_FREE char *next = NULL;
		char *url = NULL;
		bool same;
		int r = headers_link_next(q->resp.link, &next);

		if (r == -ENOENT)
			return 0;
		if (r == 0)
			r = headers_location(q->x.url, next, &url, &same);
		if (r < 0)
			return err_set(e, r, "list of artifacts: bad Link");
		if (i == REFERRERS_PAGES_MAX || bytes > MANIFEST_BYTES_MAX) {
			free(url);
			return err_set(e, -EOVERFLOW,
				       "list of artifacts: too long");
		}
		q->away = q->x.away || !same;
		r = call_run(q, url, e);
		bytes += q->reply.len;
		if (r == 0 && !call_ok(q))
			r = call_error(q, "list of artifacts", e);
		if (r == 0)
			r = doc_parse(q->reply.p != NULL ? q->reply.p : "",
				      q->reply.len, "list of artifacts", &page,
				      e);
		if (r == 0 && list_join(list, page) < 0)
			r = err_no_memory(e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Return: 0, -ENOENT (no such thing as lists of artifacts here), -errno */
static int by_api(struct call *q, const char *digest, struct buf *doc,
		  struct err *e)
{
	CLEANUP_DOC struct json_object *list = NULL;
	int r = call_pull(q, "referrers", digest, NULL, e);

	if (r < 0)
		return r != -EACCES && exch_status_permanent(q->end.status)
			       ? -ENOENT
			       : r;
	if (doc_parse(q->reply.p != NULL ? q->reply.p : "", q->reply.len,
		      "list of artifacts", &list, e) < 0 ||
	    doc_array(list, "manifests") == NULL)
		return -ENOENT;
	r = pages(q, list, e);
	if (r == 0 && doc_print(list, doc) < 0)
		r = err_set(e, -EOVERFLOW, "list of artifacts: too long");
	return r;
}

static int src_referrers(struct image_src *src,
			 const struct image_desc *subject, struct buf *doc,
			 struct err *e)
{
	CLEANUP_CALL struct call q = {.reply = BUF_INIT(MANIFEST_BYTES_MAX)};
	struct registry_src *s = src_of(src);
	char digest[DIGEST_STR_BYTES], tag[OCI_REFERRERS_TAG_BYTES];
	int r = call_open(&q, &s->all, e);

	if (r < 0)
		return r;
	r = by_api(&q, digest_str(&subject->digest, digest), doc, e);
	if (r != -ENOENT)
		return r;
	/* What is said of that is not the answer. */
	if (e != NULL)
		*e = (struct err){0};
	return get(s, "manifests", oci_referrers_tag(&subject->digest, tag),
		   NULL, doc, NULL, e);
}

/* ---- open and close ---- */

static void src_close(struct image_src *src)
{
	struct registry_src *s = src_of(src);

	clients_done(&s->all);
	free(s);
}

static const struct image_src_ops src_ops = {
	.root = src_root,
	.document = src_document,
	.blob = src_blob,
	.range = src_range,
	.referrers = src_referrers,
	.close = src_close,
};

int registry_src(const struct image_name *n, const struct image_opts *o,
		 struct image_src **ret, struct err *e)
{
	struct registry_src *s = calloc(1, sizeof(*s));
	int r;

	if (s == NULL)
		return err_no_memory(e);
	s->src.ops = &src_ops;
	r = clients_init(&s->all, &n->ref, o, e);
	if (r < 0) {
		src_close(&s->src);
		return r;
	}
	*ret = &s->src;
	return 0;
}
