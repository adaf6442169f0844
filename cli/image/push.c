/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: docker://, to write to. Blobs go to the first host that takes pushes,
 * in one request or, if they are large, in chunks: what a broken connection has
 * taken along is asked for, and sent again. An upload that the registry no
 * longer knows is begun anew. Tags come last, so what is pushed half is seen by
 * nobody, and its blobs serve the next try.
 *
 * Spec: OCI distribution-spec 1.1, "Push"
 */
#include "config.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli/image/client.h"
#include "cli/image/layout.h"
#include "cli/image/registry.h"
#include "cli/image/transport.h"
#include "common/limits.h"
#include "daemon/registry/headers.h"
#include "daemon/registry/hosts.h"

#define PUSH_CHUNK_BYTES MIB(16)
#define PUSH_CHUNK_BYTES_MAX MIB(1024)
/* Uploads of one blob that are begun before we give up; the last one goes in
 * one piece. */
#define PUSH_UPLOADS_MAX 4u
/* Requests beyond twice those that the chunks of a blob are. */
#define PUSH_STEPS_MORE 16u

struct registry_dst {
	struct image_dst dst; /* first */
	struct clients all;
};

static struct registry_dst *dst_of(struct image_dst *d)
{
	return (struct registry_dst *)(void *)d;
}

/* The host that takes pushes. */
static int push_open(struct call *q, struct registry_dst *d, struct err *e)
{
	int r = call_open(q, &d->all, e);
	size_t i = 0;

	if (r < 0)
		return r;
	while (i < q->c->hosts->n && !q->c->hosts->v[i].can_push)
		i++;
	if (i == q->c->hosts->n)
		return err_set(e, -EACCES,
			       "%s: hosts.toml has no host that takes pushes",
			       d->all.ns);
	q->host = i;
	q->x.push = true;
	return 0;
}

static char *push_url(const struct call *q, const char *what, const char *name)
{
	const struct client *c = q->c;

	return hosts_url(c->hosts, &c->hosts->v[q->host], c->all->repo, what,
			 name);
}

/* A request that may be repeated as it is, to its end. @ok: another status
 * that is no error, 0: none. */
static int push_call(struct call *q, const char *url, const char *what,
		     unsigned ok, struct err *e)
{
	for (unsigned tries = 1;; tries++) {
		char *copy = url != NULL ? strdup(url) : NULL;
		int r = call_run(q, copy, e);

		if (r < 0)
			return r;
		if (call_ok(q) || (ok != 0 && q->end.status == ok))
			return 0;
		if (!call_transient(q) || tries == CLIENT_TRIES_MAX)
			return call_error(q, what, e);
		r = client_wait(q->c, tries, q->end.retry_after_s, e);
		if (r < 0)
			return r;
	}
}

/* What a registry says that it has stored is what we have sent. */
static int check_digest(const struct call *q, const struct digest *d,
			const char *what, struct err *e)
{
	const char *s = q->resp.digest;
	struct digest is;

	if (s == NULL ||
	    (digest_parse(s, strlen(s), &is) == 0 && digest_equal(&is, d)))
		return 0;
	return err_set(
		e, -EBADMSG, "%s/%.80s: %s: the registry says it is %.80s",
		q->c->hosts->v[q->host].authority, q->c->all->repo, what, s);
}

/* ---- what is there ---- */

static int has(struct registry_dst *d, const struct image_desc *b,
	       struct err *e)
{
	CLEANUP_CALL struct call q = {.x.method = HTTP_HEAD};
	CLEANUP_FREE char *url = NULL;
	char digest[DIGEST_STR_BYTES], what[100];
	int r = push_open(&q, d, e);

	if (r < 0)
		return r;
	(void)digest_str(&b->digest, digest);
	(void)snprintf(what, sizeof(what), "look for blob %s", digest);
	url = push_url(&q, "blobs", digest);
	r = push_call(&q, url, what, 404, e);
	if (r < 0)
		return r;
	/* What has another size is not what we mean. */
	return call_ok(&q) && (!q.resp.has_length || q.resp.length == b->size);
}

static int dst_has(struct image_dst *dst, const struct image_desc *b,
		   struct err *e)
{
	return has(dst_of(dst), b, e);
}

/* ---- uploads ---- */

/**
 * struct upload - a blob on its way
 * @location:	where it goes on, NULL: not begun
 * @away:	that is another server
 * @off:	bytes that are there
 * @whole:	the registry does not take chunks
 * @resumed:	after an error: who knows what is there
 * @told:	progress that was told, which never goes back
 * @sent:	bytes of the present request
 */
struct upload {
	struct call q; /* first */
	const struct image_desc *b;
	const void *data; /* or */
	int fd;
	char digest[DIGEST_STR_BYTES];
	char what[100];
	char *location;
	bool away;
	bool whole;
	bool resumed;
	uint64_t off;
	uint64_t chunk;
	uint64_t sent;
	uint64_t told;
	void (*progress)(void *arg, uint64_t bytes);
	void *arg;
};

static void on_sent(void *arg, size_t n)
{
	struct upload *u = arg;
	uint64_t at;

	u->sent += n;
	at = MIN(u->off + u->sent, u->b->size);
	if (at <= u->told)
		return;
	u->told = at;
	if (u->progress != NULL)
		u->progress(u->arg, at);
}

/* Where the registry wants to see the rest. */
static int moved(struct upload *u, struct err *e)
{
	char *url = NULL;
	bool same;
	int r;

	if (u->q.resp.location == NULL)
		return u->location != NULL
			       ? 0
			       : err_set(e, -EPROTO, "%s: no Location",
					 u->what);
	r = headers_location(u->q.x.url, u->q.resp.location, &url, &same);
	if (r < 0)
		return err_set(e, r, "%s: %s Location", u->what,
			       r == -EACCES ? "plain HTTP in" : "bad");
	free(u->location);
	u->location = url;
	u->away = u->q.x.away || !same;
	return 0;
}

/* Sets what is asked next: a method, and [off, off + len) of the blob. */
static void ask(struct upload *u, enum http_method m, uint64_t off,
		uint64_t len)
{
	struct exch *x = &u->q.x;

	u->sent = 0;
	u->q.away = u->away;
	x->method = m;
	x->from = NULL;
	x->content_range = NULL;
	x->content_type = len > 0 ? "application/octet-stream" : NULL;
	x->patient = m == HTTP_PUT;
	x->body = (struct http_body){.fd = u->fd, .off = off, .len = len};
	if (u->data != NULL && len > 0)
		x->body.data = (const char *)u->data + off;
}

static void upload_cancel(struct upload *u)
{
	struct err e;

	if (u->location == NULL)
		return;
	ask(u, HTTP_DELETE, 0, 0);
	(void)call_run(&u->q, TAKE_PTR(u->location), &e);
}

static int upload_begin(struct upload *u, struct err *e)
{
	CLEANUP_FREE char *url = push_url(&u->q, "blobs", "uploads/");
	uint64_t min;
	int r;

	u->away = false;
	u->resumed = false;
	u->off = 0;
	ask(u, HTTP_POST, 0, 0);
	r = push_call(&u->q, url, u->what, 0, e);
	if (r == 0)
		r = moved(u, e);
	if (r < 0)
		return r;
	u->chunk = PUSH_CHUNK_BYTES;
	if (u->q.resp.chunk_min != NULL &&
	    headers_u64(u->q.resp.chunk_min, &min) == 0)
		u->chunk = MAX(u->chunk, min);
	if (u->chunk > PUSH_CHUNK_BYTES_MAX)
		u->whole = true;
	return 0;
}

/* Asks how much is there. Return: 0, -ESTALE (nobody knows of it) */
static int upload_state(struct upload *u, struct err *e)
{
	int r;

	u->resumed = true;
	ask(u, HTTP_GET, 0, 0);
	r = push_call(&u->q, u->location, u->what, 0, e);
	if (r < 0)
		return exch_status_permanent(u->q.end.status) && r != -EACCES
			       ? -ESTALE
			       : r;
	r = moved(u, e);
	if (r == 0 && (u->q.resp.upload == NULL ||
		       headers_upload_range(u->q.resp.upload, &u->off) < 0 ||
		       u->off > u->b->size))
		r = err_set(e, -ESTALE, "%s: the registry has lost the upload",
			    u->what);
	return r;
}

/* What was taken of [off, off + n), which was sent. */
static int chunk_taken(struct upload *u, uint64_t n, struct err *e)
{
	uint64_t there = u->off + n;

	if (u->q.resp.upload != NULL && n > 1 &&
	    (headers_upload_range(u->q.resp.upload, &there) < 0 ||
	     there > u->off + n || there <= u->off)) {
		/* Who ignores chunks may still take all at once. */
		u->whole |= u->off == 0;
		return err_set(e, -ESTALE, "%s: the registry took %.40s",
			       u->what, u->q.resp.upload);
	}
	u->off = there;
	return 0;
}

/* One chunk. Return: 0, -ESTALE (to be begun anew), -errno */
static int upload_chunk(struct upload *u, struct err *e)
{
	uint64_t n = MIN(u->chunk, u->b->size - u->off);
	char range[64];
	struct call *q = &u->q;
	int r;

	(void)snprintf(range, sizeof(range), "%" PRIu64 "-%" PRIu64, u->off,
		       u->off + n - 1);
	ask(u, HTTP_PATCH, u->off, n);
	q->x.content_range = range;
	r = call_run(q, strdup(u->location), e);
	q->x.content_range = NULL;
	if (r < 0)
		return r;
	if (call_ok(q)) {
		r = moved(u, e);
		return r == 0 ? chunk_taken(u, n, e) : r;
	}
	r = call_error(q, u->what, e);
	if ((call_transient(q) && q->end.status != 501) || q->end.status == 416)
		return -EAGAIN;
	if (q->end.status == 404 || q->end.status == 410)
		return -ESTALE;
	/* 405, 501 and whatever else says that chunks are not liked. */
	if (r != -EACCES && q->end.status != 413) {
		u->whole = true;
		return -ESTALE;
	}
	return r;
}

static int upload_chunks(struct upload *u, struct err *e)
{
	uint64_t steps_max = 2 * (u->b->size / u->chunk) + PUSH_STEPS_MORE;
	unsigned tries = 0;

	for (uint64_t steps = 0; u->off < u->b->size; steps++) {
		uint64_t before = u->off;
		int r;

		if (steps == steps_max)
			return err_set(e, -EPROTO,
				       "%s: the registry takes crumbs",
				       u->what);
		r = upload_chunk(u, e);

		if (r == -EAGAIN) {
			if (++tries == CLIENT_TRIES_MAX)
				return e->code;
			r = client_wait(u->q.c, tries, u->q.end.retry_after_s,
					e);
			if (r == 0)
				r = upload_state(u, e);
		}
		if (r < 0)
			return r;
		if (u->off > before)
			tries = 0;
	}
	return 0;
}

/* The end of it, with all that is not there yet. Return: as upload_chunk() */
static int upload_finish(struct upload *u, struct err *e)
{
	CLEANUP_FREE char *url = strdup(u->location);
	int r;

	ask(u, HTTP_PUT, u->off, u->b->size - u->off);
	r = url_add(&url, "digest", u->digest);
	if (r < 0)
		return err_set(e, r, "out of memory");
	r = call_run(&u->q, TAKE_PTR(url), e);
	if (r < 0)
		return r;
	if (call_ok(&u->q))
		return check_digest(&u->q, &u->b->digest, u->what, e);
	r = call_error(&u->q, u->what, e);
	return call_transient(&u->q) || r == -ENOENT ||
			       u->q.end.status == 416 || u->resumed
		       ? -ESTALE
		       : r;
}

static int upload_once(struct upload *u, struct err *e)
{
	int r = upload_begin(u, e);

	if (r == 0 && !u->whole && u->b->size > u->chunk)
		r = upload_chunks(u, e);
	return r == 0 ? upload_finish(u, e) : r;
}

static int upload(struct registry_dst *d, struct upload *u, struct err *e)
{
	int r;

	(void)digest_str(&u->b->digest, u->digest);
	(void)snprintf(u->what, sizeof(u->what), "push blob %s", u->digest);
	u->q.sent = on_sent;
	u->q.arg = u;
	r = push_open(&u->q, d, e);
	for (unsigned tries = 1; r == 0; tries++) {
		uint64_t retry_after_s;

		u->whole |= tries == PUSH_UPLOADS_MAX;
		r = upload_once(u, e);
		if (r == 0)
			break;
		retry_after_s = u->q.end.retry_after_s;
		upload_cancel(u);
		if (r != -ESTALE)
			break;
		/* An answer may have got lost on its way to us. */
		if (has(d, u->b, e) == 1) {
			r = 0;
			break;
		}
		r = tries < PUSH_UPLOADS_MAX
			    ? client_wait(u->q.c, tries, retry_after_s, e)
			    : e->code;
	}
	free(u->location);
	call_done(&u->q);
	return r;
}

static int dst_put(struct image_dst *dst, const struct image_desc *b, int fd,
		   void (*progress)(void *arg, uint64_t bytes), void *arg,
		   struct err *e)
{
	struct upload u = {.b = b, .fd = fd, .progress = progress, .arg = arg};

	return upload(dst_of(dst), &u, e);
}

static int dst_mount(struct image_dst *dst, struct image_src *src,
		     const struct image_desc *b, struct err *e)
{
	struct registry_dst *d = dst_of(dst);
	struct upload u = {.b = b};
	char *url;
	int r;

	if (strcmp(src->name.ref.host, d->all.ns) != 0 ||
	    strcmp(src->name.ref.repo, d->all.repo) == 0)
		return 0;
	(void)digest_str(&b->digest, u.digest);
	(void)snprintf(u.what, sizeof(u.what), "mount blob %s", u.digest);
	r = push_open(&u.q, d, e);
	if (r == 0) {
		url = push_url(&u.q, "blobs", "uploads/");
		r = url_add(&url, "mount", u.digest);
		if (r == 0)
			r = url_add(&url, "from", src->name.ref.repo);
		ask(&u, HTTP_POST, 0, 0);
		u.q.x.from = src->name.ref.repo;
		if (r == 0)
			r = call_run(&u.q, url, e);
	}
	if (r == 0 && call_ok(&u.q) && u.q.end.status == 201)
		r = 1;
	else if (r == 0 && call_ok(&u.q) && moved(&u, NULL) == 0)
		upload_cancel(&u); /* one was begun instead */
	call_done(&u.q);
	return r;
}

/* Whether the registry takes pushes of us: begins an upload that is taken back
 * at once. */
static int try_push(struct registry_dst *d, struct err *e)
{
	struct upload u = {.fd = -1, .what = "begin an upload"};
	struct err why = {0};
	int r = push_open(&u.q, d, e);

	if (r == 0) {
		r = upload_begin(&u, &why);
		if (r < 0)
			(void)err_set(e, r, "%s%s", why.text,
				      u.q.end.status == 405
					      ? " (it may be read-only)"
					      : "");
		upload_cancel(&u);
	}
	free(u.location);
	call_done(&u.q);
	return r;
}

/* ---- documents ---- */

static int put_manifest(struct call *q, const char *name,
			const struct image_desc *m, const void *doc,
			struct err *e)
{
	CLEANUP_FREE char *url = push_url(q, "manifests", name);
	char what[100];
	int r;

	(void)snprintf(what, sizeof(what), "push manifest %.80s", name);
	q->x.method = HTTP_PUT;
	q->x.patient = true;
	q->x.content_type = m->media_type;
	q->x.body = (struct http_body){.data = doc, .fd = -1, .len = m->size};
	r = push_call(q, url, what, 0, e);
	return r == 0 ? check_digest(q, &m->digest, what, e) : r;
}

static int dst_document(struct image_dst *dst, const struct image_desc *b,
			const void *doc, struct err *e)
{
	struct registry_dst *d = dst_of(dst);
	CLEANUP_CALL struct call q = {0};
	struct upload u = {.b = b, .data = doc, .fd = -1};
	char name[DIGEST_STR_BYTES];
	int r;

	if (!registry_is_manifest(b->media_type)) {
		r = has(d, b, e);
		return r == 0 ? upload(d, &u, e) : MIN(r, 0);
	}
	r = push_open(&q, d, e);
	return r == 0 ? put_manifest(&q, digest_str(&b->digest, name), b, doc,
				     e)
		      : r;
}

static int dst_commit(struct image_dst *dst, const struct image_desc *root,
		      const void *doc, struct err *e)
{
	const struct oci_ref *ref = &dst->name.ref;
	CLEANUP_CALL struct call q = {0};
	char is[DIGEST_STR_BYTES], named[DIGEST_STR_BYTES];
	int r;

	(void)digest_str(&root->digest, is);
	if (ref->has_digest && !digest_equal(&ref->digest, &root->digest))
		return err_set(e, -EINVAL, "%s/%.80s: is %s, not %s as named",
			       ref->host, ref->repo, is,
			       digest_str(&ref->digest, named));
	r = push_open(&q, dst_of(dst), e);
	return r == 0 ? put_manifest(&q, ref->tag != NULL ? ref->tag : is, root,
				     doc, e)
		      : r;
}

/* ---- artifacts ---- */

/* The list behind a tag, or a new one. */
static int list_get(struct call *q, const char *tag, struct json_object **ret,
		    struct err *e)
{
	CLEANUP_FREE char *url = push_url(q, "manifests", tag);
	char what[100];
	int r;

	(void)snprintf(what, sizeof(what), "get manifest %s", tag);
	q->x.method = HTTP_GET;
	q->x.accept = OCI_ACCEPT;
	q->x.body = (struct http_body){0};
	q->x.content_type = NULL;
	r = push_call(q, url, what, 404, e);
	q->x.accept = NULL;
	if (r < 0)
		return r;
	if (call_ok(q))
		return layout_index_parse(q->reply.p != NULL ? q->reply.p : "",
					  q->reply.len, ret, e);
	*ret = layout_index_new();
	if (*ret == NULL || doc_set_str(*ret, "mediaType", OCI_INDEX) < 0)
		return err_no_memory(e);
	return 0;
}

/* The registry did not say that it keeps the list itself. */
static int refer_by_tag(struct call *q, const struct image_desc *subject,
			const char *artifact_type, const struct image_desc *m,
			const void *doc, struct err *e)
{
	CLEANUP_DOC struct json_object *list = NULL;
	CLEANUP_BUF struct buf text = BUF_INIT(MANIFEST_BYTES_MAX);
	CLEANUP(image_desc_done) struct image_desc is = {0};
	char tag[OCI_REFERRERS_TAG_BYTES];
	int r;

	(void)oci_referrers_tag(&subject->digest, tag);
	r = list_get(q, tag, &list, e);
	if (r < 0)
		return r;
	r = layout_index_refer(list, m, doc, subject, artifact_type, e);
	if (r < 0)
		return err_wrap(e, "%s/%.80s: %s", q->c->all->ns,
				q->c->all->repo, tag);
	if (doc_print(list, &text) < 0 ||
	    doc_describe(OCI_INDEX, text.p, text.len, &is) < 0)
		return err_no_memory(e);
	return put_manifest(q, tag, &is, text.p, e);
}

static int dst_refer(struct image_dst *dst, const struct image_desc *subject,
		     const char *artifact_type, const struct image_desc *m,
		     const void *doc, struct err *e)
{
	CLEANUP_CALL struct call q = {.reply = BUF_INIT(MANIFEST_BYTES_MAX)};
	char name[DIGEST_STR_BYTES];
	int r = push_open(&q, dst_of(dst), e);

	if (r == 0)
		r = put_manifest(&q, digest_str(&m->digest, name), m, doc, e);
	if (r < 0)
		return r;
	if (q.resp.subject != NULL)
		return 0;
	return refer_by_tag(&q, subject, artifact_type, m, doc, e);
}

/* ---- open and close ---- */

static void dst_close(struct image_dst *dst)
{
	struct registry_dst *d = dst_of(dst);

	clients_done(&d->all);
	free(d);
}

static const struct image_dst_ops dst_ops = {
	.has = dst_has,
	.put = dst_put,
	.mount = dst_mount,
	.document = dst_document,
	.commit = dst_commit,
	.refer = dst_refer,
	.close = dst_close,
};

int registry_dst(const struct image_name *n, const struct image_opts *o,
		 struct image_dst **ret, struct err *e)
{
	struct registry_dst *d = calloc(1, sizeof(*d));
	int r;

	if (d == NULL)
		return err_no_memory(e);
	d->dst.ops = &dst_ops;
	r = clients_init(&d->all, &n->ref, o, e);
	if (r == 0 && o->try_push)
		r = try_push(d, e);
	if (r < 0) {
		dst_close(&d->dst);
		return r;
	}
	*ret = &d->dst;
	return 0;
}
