/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/blob.h"

#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define LOG_MOD "blob"
#include "common/log.h"
#include "common/oci.h"
#include "daemon/fetcher/conf.h"
#include "daemon/fetcher/play.h"
#include "daemon/fetcher/several.h"
#include "daemon/fetcher/warm.h"
#include "daemon/registry/hosts.h"

static void local_task(struct loop_task *t);

void blob_free(struct blob *b)
{
	if (b == NULL)
		return;
	assert(list_empty(&b->locals));
	job_stop_all(b);
	loop_task_del(&b->local_task);
	list_del(&b->node);
	list_del(&b->idle);
	if (b->fd >= 0) {
		(void)close(b->fd);
		if (b->kind != PROTO_BLOB_FD)
			b->d->spool_bytes -= b->fd_have;
	}
	hosts_free(b->hosts);
	free(b->name);
	free(b->repo);
	free(b->digest);
	free(b->soft_ns);
	free(b->redirect);
	free(b);
}

static struct blob *blob_new(struct fetchd *d, enum proto_blob_kind kind,
			     const char *name)
{
	struct blob *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return NULL;
	b->d = d;
	b->kind = kind;
	b->fd = -1;
	b->refs = 1;
	b->local_task.fn = local_task;
	sched_blob_init(&b->sb, NULL);
	list_init(&b->node);
	list_init(&b->idle);
	list_init(&b->locals);
	list_init(&b->jobs);
	list_init(&b->plays);
	b->name = strdup(name);
	if (b->name == NULL) {
		free(b);
		return NULL;
	}
	return b;
}

static int open_registry(struct blob *b, struct err *e)
{
	CLEANUP_OCI_REF struct oci_ref ref = {0};
	char digest[DIGEST_STR_BYTES];
	int r = oci_ref_parse(b->name, &ref, e);

	if (r < 0)
		return r;
	if (!ref.has_digest || ref.tag != NULL)
		return err_set(e, -EBADMSG, "blob %s: no digest", b->name);
	b->digest = strdup(digest_str(&ref.digest, digest));
	b->repo = TAKE_PTR(ref.repo);
	if (b->digest == NULL)
		return err_no_memory(e);
	return hosts_load(&b->d->reg, ref.host, b->plain_http, &b->hosts, e);
}

static int open_url(struct blob *b, struct err *e)
{
	if (strncasecmp(b->name, "http://", 7) != 0 &&
	    strncasecmp(b->name, "https://", 8) != 0)
		return err_set(e, -EBADMSG, "not an http or https URL");
	return hosts_for_url(&b->d->reg, b->name, &b->hosts, e);
}

static int open_fd(struct blob *b, struct err *e)
{
	struct stat st;

	if (fstat(b->fd, &st) < 0)
		return err_set(e, -errno, "%s: %s", b->name, err_name(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EBADMSG, "%s: not a regular file", b->name);
	b->size = (uint64_t)st.st_size;
	b->size_known = true;
	b->fd_have = b->size;
	b->fd_whole = true;
	return 0;
}

/* What hosts.toml says may have changed while nobody used the blob. */
static int reload(struct blob *b, struct err *e)
{
	struct fetchd *d = b->d;
	struct hosts *hs = NULL;
	uint64_t *soft;
	bool same;
	int r;

	if (b->kind != PROTO_BLOB_REGISTRY || !list_empty(&b->jobs))
		return 0;
	r = hosts_load(&d->reg, b->hosts->ns, b->plain_http, &hs, e);
	if (r < 0)
		return r;
	soft = calloc(hs->n, sizeof(*soft));
	if (soft == NULL) {
		hosts_free(hs);
		return err_no_memory(e);
	}
	same = hs->n == b->hosts->n;
	for (size_t i = 0; same && i < hs->n; i++)
		same = strcmp(hs->v[i].base, b->hosts->v[i].base) == 0;
	if (!same)
		blob_redirect_drop(b);
	hosts_free(b->hosts);
	free(b->soft_ns);
	b->hosts = hs;
	b->soft_ns = soft;
	b->last_host = 0;
	b->sb.host = origin_sched(hs->v[0].origin);
	return 0;
}

/* Return: 0; *ret is NULL where it is a new one. */
static int blob_find(struct fetchd *d, enum proto_blob_kind kind,
		     const char *name, bool plain_http, struct blob **ret,
		     struct err *e)
{
	int r;

	*ret = NULL;
	LIST_EACH(n, &d->blobs)
	{
		struct blob *b = LIST_ENTRY(n, struct blob, node);

		if (b->kind != kind || b->plain_http != plain_http ||
		    strcmp(b->name, name) != 0)
			continue;
		if (b->refs == 0) {
			r = reload(b, e);
			if (r < 0)
				return r;
			list_del(&b->idle);
			d->n_idle_blobs--;
		}
		b->refs++;
		*ret = b;
		return 0;
	}
	return 0;
}

int blob_open(struct fetchd *d, enum proto_blob_kind kind, const char *name,
	      bool plain_http, int fd, struct blob **ret, struct err *e)
{
	struct blob *b = NULL;
	int r;

	if (kind != PROTO_BLOB_FD) {
		r = blob_find(d, kind, name, plain_http, &b, e);
		if (r < 0)
			return r;
		if (b != NULL) {
			*ret = b;
			return 0;
		}
	}
	b = blob_new(d, kind, name);
	if (b == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return err_no_memory(e);
	}
	b->fd = fd;
	b->plain_http = plain_http;
	if (kind == PROTO_BLOB_REGISTRY)
		r = open_registry(b, e);
	else if (kind == PROTO_BLOB_URL)
		r = open_url(b, e);
	else
		r = open_fd(b, e);
	if (r == 0 && b->hosts != NULL) {
		b->soft_ns = calloc(b->hosts->n, sizeof(*b->soft_ns));
		if (b->soft_ns == NULL)
			r = err_no_memory(e);
		else
			b->sb.host = origin_sched(b->hosts->v[0].origin);
	}
	if (r < 0) {
		blob_free(b);
		return r;
	}
	list_add(&d->blobs, &b->node);
	*ret = b;
	return 0;
}

void blob_unref(struct blob *b)
{
	struct fetchd *d;

	if (b == NULL)
		return;
	d = b->d;
	assert(b->refs > 0);
	if (--b->refs > 0)
		return;
	blob_unref(TAKE_PTR(b->stand_in));
	/* A spool that is nearly there is finished: the next client of the
	 * blob would have it sent again from the start. */
	if (b->spooler == NULL || !b->size_known ||
	    b->size - MIN(b->fd_have, b->size) > BLOB_FINISH_BYTES)
		job_stop_all(b);
	if (b->kind == PROTO_BLOB_FD ||
	    (b->fd >= 0 && !b->fd_whole && b->spooler == NULL)) {
		blob_free(b);
		return;
	}
	list_add(&d->idle_blobs, &b->idle);
	if (++d->n_idle_blobs > BLOB_IDLE_MAX) {
		d->n_idle_blobs--;
		blob_free(LIST_ENTRY(d->idle_blobs.next, struct blob, idle));
	}
}

bool blob_learn_size(struct blob *b, uint64_t size)
{
	if (b->size_known)
		return b->size == size;
	b->size = size;
	b->size_known = true;
	return true;
}

size_t blob_pick_host(struct blob *b, uint32_t refused)
{
	uint64_t now = loop_now(b->d->loop);

	/* First without those that failed lately or are dead, then with. */
	for (int pass = 0; pass < 3; pass++) {
		for (size_t i = 0; i < b->hosts->n; i++) {
			const struct host *h = &b->hosts->v[i];

			if (!h->can_pull || (refused & (1u << i)) != 0)
				continue;
			if ((pass < 1 && b->soft_ns[i] > now) ||
			    (pass < 2 &&
			     h->origin->breaker.not_before_ns > now))
				continue;
			b->sb.host = origin_sched(h->origin);
			return i;
		}
	}
	return b->hosts->n;
}

bool blob_is_down(const struct blob *b)
{
	for (size_t i = 0; i < b->hosts->n; i++) {
		const struct host *h = &b->hosts->v[i];

		if (h->can_pull && !h->origin->breaker.probation)
			return false;
	}
	return true;
}

void blob_redirect_set(struct blob *b, size_t host, const char *url)
{
	free(b->redirect);
	b->redirect = strdup(url);
	b->redirect_host = host;
	b->redirect_until_ns = loop_now(b->d->loop) + BLOB_REDIRECT_NS;
}

void blob_redirect_drop(struct blob *b)
{
	free(TAKE_PTR(b->redirect));
}

/* ---- reads ---- */

static void read_end(struct read *r, int code, const char *text)
{
	read_stop(r);
	if (code < 0 && !r->hint)
		stats_failed(&r->blob->d->stats, code);
	r->done(r, code, text);
}

void read_fail(struct read *r, int code, const char *text)
{
	read_end(r, code, text);
}

static void drop_pieces(struct read *r, unsigned from, bool late)
{
	for (unsigned i = from; i < r->n_pieces; i++) {
		struct sched_piece *sp = &r->pieces[i].sp;
		struct sched_job *j = sp->job;

		sched_remove(&r->blob->d->sched, sp);
		if (j != NULL)
			job_left(j, late);
	}
	r->n_pieces = from;
}

/* The blob to ask for another: itself, as long as it is not refused. */
static struct blob *blob_to_ask(struct blob *b)
{
	while (b->stand_in != NULL &&
	       b->refused_until_ns > loop_now(b->d->loop))
		b = b->stand_in;
	return b;
}

/* The same content by another name that somebody has open. A stand-in has
 * none of its own at first, so they never form a circle. */
static struct blob *blob_other(const struct blob *b)
{
	LIST_EACH(n, &b->d->blobs)
	{
		struct blob *o = LIST_ENTRY(n, struct blob, node);

		if (o != b && o->kind == PROTO_BLOB_REGISTRY && o->refs > 0 &&
		    o->stand_in == NULL && strcmp(o->digest, b->digest) == 0 &&
		    o->refused_until_ns <= loop_now(b->d->loop) &&
		    (!o->size_known || !b->size_known || o->size == b->size) &&
		    !blob_is_down(o))
			return o;
	}
	return NULL;
}

bool read_elsewhere(struct read *r)
{
	struct blob *b = r->blob, *o;

	/* What is fetched unasked is no reason to look for another name. */
	if (b->kind != PROTO_BLOB_REGISTRY || r->hint)
		return false;
	b->refused_until_ns = loop_now(b->d->loop) + BLOB_REFUSED_NS;
	if (b->stand_in == NULL) {
		b->stand_in = blob_other(b);
		if (b->stand_in == NULL)
			return false;
		b->stand_in->refs++;
		log_info("msg=\"asked by another name\" blob=%s name=%s",
			 b->name, b->stand_in->name);
	}
	o = blob_to_ask(b);
	if (o->refused_until_ns > loop_now(b->d->loop))
		return false;
	for (unsigned i = 0; i < r->n_pieces; i++)
		sched_remove(&b->d->sched, &r->pieces[i].sp);
	r->n_pieces = 0;
	if (b->size_known)
		r->expect_size = b->size;
	r->blob = o;
	read_go_on(r, true);
	return true;
}

static void on_deadline(struct loop_timer *t)
{
	struct read *r = LIST_ENTRY(t, struct read, deadline);
	struct err e = {0};

	drop_pieces(r, 0, true);
	if (r->last.code != 0)
		err_set(&e, -ETIMEDOUT, "deadline passed; last: %.200s",
			r->last.text);
	else
		err_set(&e, -ETIMEDOUT, "deadline passed");
	read_fail(r, -ETIMEDOUT, e.text);
}

bool read_fit(struct read *r)
{
	struct blob *b = r->blob;
	uint64_t size = b->size_known ? b->size : r->expect_size;

	if (r->expect_size != 0 && size != r->expect_size) {
		struct err e;

		err_set(&e, -ESTALE, "%s: size is %llu, not %llu",
			b->digest != NULL ? b->digest : "blob",
			(unsigned long long)size,
			(unsigned long long)r->expect_size);
		read_fail(r, -ESTALE, e.text);
		return false;
	}
	if (size == 0 && !b->size_known)
		return true;
	if (r->suffix) {
		r->len = MIN(r->len, size);
		r->off = size - r->len;
		r->suffix = false;
	}
	r->len = r->off < size ? MIN(r->len, size - r->off) : 0;
	if (r->got < r->len)
		return true;
	read_end(r, 0, NULL);
	return false;
}

void read_go_network(struct read *r, uint64_t not_before_ns)
{
	uint64_t lens[SCHED_SPLIT_MAX], off, left;
	struct fetchd *d = r->blob->d;

	list_del(&r->node);
	r->local = false;
	if (!read_fit(r))
		return;
	off = r->off + r->got;
	left = r->len - r->got - r->held;
	lens[0] = r->suffix ? r->len : left;
	r->n_pieces =
		r->suffix || r->one ? 1 : sched_split(left, r->class_, lens);
	for (unsigned i = 0; i < r->n_pieces; i++) {
		struct read_piece *p = &r->pieces[i];

		*p = (struct read_piece){
			.sp = {.blob = &r->blob->sb,
			       .off = off,
			       .len = lens[i],
			       .rank = r->rank,
			       .gap = r->gap,
			       .class_ = r->class_,
			       .suffix = r->suffix,
			       .alone = r->n_pieces > 1 &&
					r->class_ == PROTO_CLASS_DEMAND,
			       .not_before_ns = not_before_ns},
			.read = r,
		};
		off += lens[i];
		sched_add(&d->sched, &p->sp);
	}
	job_dispatch_soon(d);
}

void read_go_local(struct read *r)
{
	for (unsigned i = 0; i < r->n_pieces; i++)
		sched_remove(&r->blob->d->sched, &r->pieces[i].sp);
	r->n_pieces = 0;
	r->held = 0;
	r->local = true;
	list_del(&r->node);
	list_add(&r->blob->locals, &r->node);
	blob_local_kick(r->blob);
}

/* Whether no host of the blob that is named, nor of the one that is asked for it, has
 * sent what was wrong. */
static bool was_of_data(struct blob *named, struct blob *asked,
			const struct read *r)
{
	bool any = play_blame(named, r);

	return (asked != named && play_blame(asked, r)) || any;
}

/* What came for a read of @r->blob, for which @b is asked, was wrong. */
static void blame(struct blob *b, const struct read *r)
{
	if ((!r->suffix && was_of_data(r->blob, b, r)) || b->hosts == NULL)
		return;
	warm_drop(b->warm);
	b->soft_ns[b->last_host] = loop_now(b->d->loop) + 6 * BLOB_SOFT_NS;
	several_distrust(&b->hosts->v[b->last_host]);
	blob_redirect_drop(b);
	if (b->fd >= 0 && b->spooler == NULL)
		blob_spool_drop(b, 0);
}

void read_start(struct read *r)
{
	struct blob *b = r->hint ? r->blob : blob_to_ask(r->blob);
	struct fetchd *d = b->d;

	if (r->other_source)
		blame(b, r);
	r->blob = b;
	list_init(&r->node);
	r->running = true;
	r->deadline.fn = on_deadline;
	loop_timer_set(d->loop, &r->deadline, r->deadline_ns);
	if (!r->hint)
		d->stats.reads[r->class_]++;
	if (b->fd < 0 && !r->hint && play_read(r))
		return;
	if (b->fd < 0 && b->warm != NULL && !r->hint)
		warm_read(b->warm, r);
	else
		read_go_on(r, !r->other_source);
}

void read_go_on(struct read *r, bool join)
{
	struct blob *b = r->blob;

	if (r->got + r->held == r->len) {
		r->got = r->len;
		read_end(r, 0, NULL);
		return;
	}
	if (b->fd >= 0) {
		if (read_fit(r))
			read_go_local(r);
		return;
	}
	(void)blob_pick_host(b, 0);
	/* A time, even one long past, keeps it from joining a request, which
	 * may be the corrupt one, or one that has stopped. */
	read_go_network(r, join ? 0 : 1);
}

void read_stop(struct read *r)
{
	if (!r->running)
		return;
	r->running = false;
	loop_timer_clear(&r->deadline);
	list_del(&r->node);
	drop_pieces(r, 0, false);
}

void read_set_class(struct read *r, enum proto_class class_)
{
	r->class_ = class_;
	if (r->n_pieces == 0 && !r->local && r->blob->warm != NULL)
		warm_raise(r->blob->warm, class_);
	if (r->n_pieces == 0 && !r->local && !r->hint)
		play_raise(r);
	for (unsigned i = 0; i < r->n_pieces; i++)
		sched_set_class(&r->blob->d->sched, &r->pieces[i].sp, class_);
	job_dispatch_soon(r->blob->d);
}

void read_advance(struct read *r)
{
	uint64_t got = 0;

	if (r->n_pieces == 0)
		return;
	for (unsigned i = 0; i < r->n_pieces; i++) {
		const struct sched_piece *p = &r->pieces[i].sp;

		got = p->off + p->got - r->off;
		if (!sched_piece_done(p))
			break;
	}
	r->got = got;
	if (got < r->len - r->held) {
		r->progress(r);
		return;
	}
	r->got = r->len;
	read_end(r, 0, NULL);
}

void read_piece_eof(struct read_piece *p)
{
	struct read *r = p->read;
	unsigned i = (unsigned)(p - r->pieces);

	assert(i < r->n_pieces);
	r->held = 0;
	p->sp.len = p->sp.got;
	r->len = MIN(r->len, p->sp.off + p->sp.got - r->off);
	sched_remove(&r->blob->d->sched, &p->sp);
	drop_pieces(r, i + 1, false);
	read_advance(r);
}

/* ---- local reads ---- */

void blob_spool_drop(struct blob *b, uint64_t not_before_ns)
{
	struct list waiting;

	(void)close(b->fd);
	b->fd = -1;
	b->d->spool_bytes -= b->fd_have;
	b->fd_have = 0;
	b->spooler = NULL;
	list_init(&waiting);
	list_splice(&waiting, &b->locals);
	while (!list_empty(&waiting)) {
		struct read *r = LIST_ENTRY(waiting.next, struct read, node);

		list_del(&r->node);
		read_go_network(r, not_before_ns);
	}
}

void blob_local_kick(struct blob *b)
{
	if (!list_empty(&b->locals))
		loop_task_add(b->d->loop, &b->local_task);
}

/* At most this much a read and turn, so that the loop goes on. */
#define LOCAL_BYTES_A_TURN MIB(1)

/* Copies some. True: there is more to copy at once. */
static bool local_copy(struct read *r)
{
	struct blob *b = r->blob;
	uint64_t at, n;
	ssize_t k;

	if ((r->suffix || b->fd_whole) && (!b->size_known || !read_fit(r)))
		return false;
	at = r->off + r->got;
	if (at >= b->fd_have)
		return false;
	n = MIN(r->len - r->got, b->fd_have - at);
	n = MIN(n, LOCAL_BYTES_A_TURN);
	do {
		k = pread(b->fd, r->dst + r->got, (size_t)n, (off_t)at);
	} while (k < 0 && errno == EINTR);
	if (k <= 0) {
		struct err e;

		err_set(&e, -EIO, "%s: %s", b->name,
			k < 0 ? err_name(errno) : "file was truncated");
		read_fail(r, e.code, e.text);
		return false;
	}
	r->got += (uint64_t)k;
	b->d->stats.local_bytes += (uint64_t)k;
	b->d->stats.bytes[r->class_] += (uint64_t)k;
	if (r->got == r->len) {
		read_end(r, 0, NULL);
		return false;
	}
	r->progress(r);
	return r->off + r->got < b->fd_have;
}

static void local_task(struct loop_task *t)
{
	struct blob *b = LIST_ENTRY(t, struct blob, local_task);
	struct list todo;
	bool more = false;

	list_init(&todo);
	list_splice(&todo, &b->locals);
	while (!list_empty(&todo)) {
		struct list *n = todo.next;

		list_del(n);
		list_add(&b->locals, n);
		if (local_copy(LIST_ENTRY(n, struct read, node)))
			more = true;
	}
	if (more)
		blob_local_kick(b);
}
