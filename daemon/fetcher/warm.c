/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/warm.h"

#include <string.h>
#include <sys/mman.h>

#define LOG_MOD "warm"
#include "common/limits.h"
#include "common/log.h"
#include "common/proto_hint.h"
#include "common/toc.h"
#include "daemon/fetcher/blob.h"
#include "daemon/fetcher/play.h"
#include "daemon/fetcher/refer.h"
#include "daemon/registry/hosts.h"

/**
 * struct warm - the end of a blob
 * @rd:		fetches it; then rd.off, rd.len say what is in @mem
 * @bytes:	of @mem; those never written to take no memory
 * @waits:	reads of it while it is on its way
 * @seen:	what had arrived when @patience was set
 */
struct warm {
	struct read rd; /* first */
	struct list node;
	uint8_t *mem;
	size_t bytes;
	bool done;
	struct list waits;
	struct loop_timer end;
	struct loop_timer patience;
	uint64_t seen;
};

static struct fetchd *daemon_of(const struct warm *w)
{
	return w->rd.blob->d;
}

void warm_drop(struct warm *w)
{
	struct list waits;
	struct blob *b;

	if (w == NULL)
		return;
	b = w->rd.blob;
	read_stop(&w->rd);
	loop_timer_clear(&w->end);
	loop_timer_clear(&w->patience);
	list_del(&w->node);
	b->d->warm_bytes -= w->bytes;
	b->warm = NULL;
	list_init(&waits);
	list_splice(&waits, &w->waits);
	(void)munmap(w->mem, w->bytes);
	free(w);
	while (!list_empty(&waits)) {
		struct list *n = waits.next;

		list_del(n);
		read_go_on(LIST_ENTRY(n, struct read, node), false);
	}
	blob_unref(b);
}

void warm_drop_all(struct fetchd *d)
{
	while (!list_empty(&d->warms))
		warm_drop(LIST_ENTRY(d->warms.next, struct warm, node));
}

/* ---- reads of it ---- */

/* Copies what is there of a read whose place is known. */
static void copy(struct warm *w, struct read *r)
{
	struct stats *st = &daemon_of(w)->stats;
	uint64_t end = r->off + r->len, from = MAX(r->off, w->rd.off);

	assert(end <= w->rd.off + w->rd.len);
	if (from >= end)
		return;
	memcpy(r->dst + (from - r->off), w->mem + (from - w->rd.off),
	       (size_t)(end - from));
	r->held = end - from;
	st->bytes[r->class_] += r->held;
	st->warm_reads++;
}

static void serve(struct warm *w, struct read *r)
{
	if (!read_fit(r))
		return;
	copy(w, r);
	read_go_on(r, true);
}

/* Whether a read may want some of what is on its way. */
static bool wants(const struct warm *w, const struct read *r)
{
	const struct blob *b = r->blob;
	uint64_t size = b->size_known ? b->size : r->expect_size;

	if (r->suffix)
		return true;
	return r->off < size &&
	       r->off + MIN(r->len, size - r->off) + w->rd.len > size;
}

static void set_patience(struct warm *w)
{
	w->seen = w->rd.got;
	loop_timer_set(daemon_of(w)->loop, &w->patience,
		       loop_now(daemon_of(w)->loop) + WARM_PATIENCE_NS);
}

void warm_read(struct warm *w, struct read *r)
{
	if (w->done) {
		serve(w, r);
	} else if (!wants(w, r)) {
		read_go_on(r, true);
	} else {
		if (list_empty(&w->waits))
			set_patience(w);
		list_add(&w->waits, &r->node);
		warm_raise(w, r->class_);
	}
}

void warm_raise(struct warm *w, enum proto_class class_)
{
	if (class_ < w->rd.class_)
		read_set_class(&w->rd, class_);
}

/* ---- life ---- */

static void on_patience(struct loop_timer *t)
{
	struct warm *w = LIST_ENTRY(t, struct warm, patience);

	if (list_empty(&w->waits))
		return;
	if (w->rd.got > w->seen)
		set_patience(w);
	else
		warm_drop(w);
}

static void on_end(struct loop_timer *t)
{
	warm_drop(LIST_ENTRY(t, struct warm, end));
}

static void on_progress(struct read *rd)
{
	(void)rd;
}

static void on_done(struct read *rd, int code, const char *text)
{
	struct warm *w = (struct warm *)(void *)rd;
	size_t page = (size_t)sysconf(_SC_PAGESIZE), keep;
	struct list waits;

	if (code < 0) {
		log_info("msg=\"not warm: %s\" err=%s", text, err_symbol(code));
		/* Later: the job that failed still needs the blob. */
		loop_timer_set(rd->blob->d->loop, &w->end, 0);
		return;
	}
	w->done = true;
	loop_timer_clear(&w->patience);
	/* A blob may be smaller than was thought. */
	keep = MAX(ALIGN_UP((size_t)rd->len, page), page);
	if (keep < w->bytes) {
		(void)munmap(w->mem + keep, w->bytes - keep);
		rd->blob->d->warm_bytes -= w->bytes - keep;
		w->bytes = keep;
	}
	list_init(&waits);
	list_splice(&waits, &w->waits);
	while (!list_empty(&waits)) {
		struct list *n = waits.next;

		list_del(n);
		serve(w, LIST_ENTRY(n, struct read, node));
	}
}

/* Takes over the reference to the blob. Return: 0, -ENOMEM. */
static int warm_new(struct blob *b, size_t bytes, uint64_t end_ns)
{
	struct fetchd *d = b->d;
	struct warm *w = calloc(1, sizeof(*w));
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (w == NULL || p == MAP_FAILED) {
		if (p != MAP_FAILED)
			(void)munmap(p, bytes);
		free(w);
		return -ENOMEM;
	}
	w->mem = p;
	w->bytes = bytes;
	w->end.fn = on_end;
	w->patience.fn = on_patience;
	list_init(&w->waits);
	list_add(&d->warms, &w->node);
	d->warm_bytes += bytes;
	loop_timer_set(d->loop, &w->end, end_ns);
	b->warm = w;
	w->rd = (struct read){
		.blob = b,
		.dst = w->mem,
		.len = bytes,
		.deadline_ns = end_ns,
		.class_ = PROTO_CLASS_PREFETCH,
		.suffix = true,
		.one = true,
		.hint = true,
		.progress = on_progress,
		.done = on_done,
	};
	read_start(&w->rd);
	return 0;
}

/**
 * struct follow - blobs that follow the trace of their image, once that is known
 * @v:		[@n], a reference each
 */
struct follow {
	struct refer_wait w; /* first */
	struct fetchd *d;
	bool plain_http;
	size_t n;
	struct blob *v[PROTO_WARM_BLOBS_MAX];
};

static void on_trace(struct refer_wait *w, const char *name)
{
	struct follow *fo = (struct follow *)(void *)w;
	struct play *p =
		name != NULL ? play_find(fo->d, name, fo->plain_http) : NULL;

	for (size_t i = 0; i < fo->n; i++) {
		if (p != NULL)
			play_add(p, fo->v[i]);
		if (p != NULL && i == 0)
			play_open(p, fo->v[i]);
		blob_unref(fo->v[i]);
	}
	free(fo);
}

/* Adds it to @fo. */
static void warm_one(struct fetchd *d, const char *name, bool plain_http,
		     size_t bytes, uint64_t end_ns, struct follow *fo)
{
	struct blob *b = NULL;
	struct err e = {0};
	int r = blob_open(d, PROTO_BLOB_REGISTRY, name, plain_http, -1, &b, &e);

	if (r < 0) {
		log_info("msg=\"not warm: %s\" err=%s", e.text, err_symbol(r));
		return;
	}
	if (b->fd < 0 && fo->n < ARRAY_SIZE(fo->v)) {
		b->refs++;
		fo->v[fo->n++] = b;
	}
	if (b->warm != NULL) {
		list_del(&b->warm->node);
		list_add(&d->warms, &b->warm->node);
		loop_timer_set(d->loop, &b->warm->end, end_ns);
	} else if (b->fd < 0) {
		/* Somebody waits for mounts: the link is for them. */
		sched_keep_quiet(b->sb.host, loop_now(d->loop));
		while (d->warm_bytes > PROTO_WARM_BYTES_MAX - bytes)
			warm_drop(LIST_ENTRY(d->warms.next, struct warm, node));
		if (warm_new(b, bytes, end_ns) == 0)
			return;
	}
	blob_unref(b);
}

/* The next line of a list. Return: false where it is too long */
static bool take_line(const char **at, char *ret)
{
	size_t n = strcspn(*at, "\n");
	bool fits = n <= REFERENCE_BYTES_MAX;

	memcpy(ret, *at, fits ? n : 0);
	ret[fits ? n : 0] = '\0';
	*at += n;
	*at += **at == '\n';
	return fits;
}

/* Takes off what is said of the tail. Return: bytes; 0: nothing, or nonsense */
static size_t take_tail(char *name)
{
	char *at = strchr(name, ' '), *end;
	unsigned long long n;

	if (at == NULL)
		return 0;
	*at++ = '\0';
	n = strtoull(at, &end, 10);
	return *at >= '0' && *at <= '9' && *end == '\0' &&
			       n <= PROTO_WARM_TAIL_BYTES_MAX
		       ? (size_t)n
		       : 0;
}

/* Whether a name is not of a blob, but of the trace or of the image. */
static bool says_trace(const char *name)
{
	return name[0] == PROTO_WARM_TRACE || name[0] == PROTO_WARM_IMAGE;
}

/* What is said of the trace. A trace is asked for before all else. */
static void begin_trace(struct fetchd *d, const char *names, bool plain_http,
			char *ret)
{
	while (*names != '\0') {
		if (take_line(&names, ret) && says_trace(ret))
			break;
		ret[0] = '\0';
	}
	if (ret[0] == PROTO_WARM_TRACE)
		(void)play_find(d, ret + 1, plain_http);
}

/* Nobody waits for a trace that is still to be found. */
static void follow_trace(struct follow *fo, const char *trace)
{
	struct refer *f = NULL;

	if (trace[0] == PROTO_WARM_IMAGE)
		f = refer_find(fo->d, trace + 1, fo->plain_http);
	if (f != NULL)
		refer_wait(f, &fo->w);
	else
		on_trace(&fo->w,
			 trace[0] == PROTO_WARM_TRACE ? trace + 1 : NULL);
}

void warm_add(struct fetchd *d, const char *names, bool plain_http,
	      uint32_t tail_bytes, uint32_t hold_ms)
{
	size_t each = tail_bytes != 0 ? tail_bytes : PROTO_WARM_TAIL_BYTES;
	uint64_t hold_ns =
		(hold_ms != 0 ? hold_ms : PROTO_WARM_HOLD_MS) * NSEC_PER_MSEC;
	char name[REFERENCE_BYTES_MAX + 1];
	char trace[REFERENCE_BYTES_MAX + 1] = "";
	struct follow *fo = calloc(1, sizeof(*fo));
	uint64_t room = PROTO_WARM_BYTES_MAX;

	if (fo == NULL)
		return;
	fo->w.told = on_trace;
	fo->d = d;
	fo->plain_http = plain_http;
	begin_trace(d, names, plain_http, trace);
	while (*names != '\0') {
		size_t bytes;

		if (!take_line(&names, name) || name[0] == '\0' ||
		    says_trace(name))
			continue;
		bytes = take_tail(name);
		bytes = MAX(bytes != 0 ? bytes : each,
			    (size_t)TOC_FOOTER_BYTES_MAX);
		/* The first names are the ones that are wanted first. */
		if (room < bytes)
			break;
		warm_one(d, name, plain_http, bytes,
			 loop_now(d->loop) + hold_ns, fo);
		room -= bytes;
	}
	follow_trace(fo, trace);
}
