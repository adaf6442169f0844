/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/play.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define LOG_MOD "play"
#include "common/log.h"
#include "daemon/fetcher/parts.h"
#include "daemon/fetcher/several.h"

static void hold(struct play *p)
{
	loop_timer_set(p->d->loop, &p->end,
		       loop_now(p->d->loop) + PLAY_HOLD_NS);
}

/* ---- what comes next ------------------------------------------------------ */

static struct link *link_of_layer(const struct play *p, size_t layer)
{
	LIST_EACH(n, &p->links)
	{
		struct link *k = LIST_ENTRY(n, struct link, of_play);

		if (k->layer == layer)
			return k;
	}
	return NULL;
}

/* The number of the range to ask for next; plan.n: none now. */
static uint32_t next_range(struct play *p)
{
	bool room = p->d->play_bytes <= PLAY_BYTES_MAX - PLAN_RANGE_BYTES_MAX &&
		    p->d->n_play_parts < PLAY_PARTS_MAX;

	for (uint32_t i = p->next; i < p->plan.n; i++) {
		const struct part *pt = p->parts[i];

		if (p->over[i] || (pt != NULL && pt->begun)) {
			p->next += i == p->next;
			continue;
		}
		if (pt != NULL || (room && p->linked[p->plan.v[i].layer]))
			return i;
		if (!room && p->n_wanted == 0)
			break;
	}
	return (uint32_t)p->plan.n;
}

/* Asks for what comes next. */
static void pump(struct play *p)
{
	while (p->over != NULL && p->asked < PLAY_AHEAD_BYTES &&
	       p->n_asked < PLAY_AHEAD_PARTS) {
		uint32_t i = next_range(p);
		struct link *k = i < p->plan.n
					 ? link_of_layer(p, p->plan.v[i].layer)
					 : NULL;
		struct part *pt = k != NULL ? part_of(p, i) : NULL;

		if (pt == NULL)
			return;
		if (!part_begin(pt, k->b)) {
			part_drop(pt);
			return;
		}
	}
}

/* ---- reads of them ----------------------------------------------------- */

static void set_patience(struct play *p)
{
	p->waited_for = true;
	p->seen_then = p->seen;
	loop_timer_set(p->d->loop, &p->patience,
		       loop_now(p->d->loop) + PLAY_PATIENCE_NS);
}

/* Whether all that a read still wants is planned by a link. */
static bool is_planned(const struct link *k, const struct read *r)
{
	const struct plan *plan = &k->p->plan;
	uint64_t at = r->off + r->got, end = r->off + r->len;
	uint32_t place;

	if (k->p->over == NULL || k->layer == plan->n_layers)
		return false;
	for (place = plan_place(plan, k->layer, at);
	     at < end && place < plan->first[k->layer + 1]; place++) {
		uint32_t i = plan->by_place[place];

		if (plan->v[i].off > at || k->p->over[i])
			return false;
		at = plan->v[i].off + plan->v[i].len;
	}
	return at >= end;
}

static struct link *link_for(const struct read *r)
{
	LIST_EACH(n, &r->blob->plays)
	{
		struct link *k = LIST_ENTRY(n, struct link, of_blob);

		if (is_planned(k, r))
			return k;
	}
	return NULL;
}

/**
 * struct walk - over the ranges that a read still wants something of
 * @i:		number of the range
 */
struct walk {
	const struct link *k;
	const struct read *r;
	uint32_t place;
	uint32_t i;
};

static struct walk walk_from(const struct link *k, const struct read *r)
{
	return (struct walk){
		.k = k,
		.r = r,
		.place = plan_place(&k->p->plan, k->layer, r->off + r->got),
	};
}

static bool walk_next(struct walk *w)
{
	const struct plan *plan = &w->k->p->plan;

	if (w->place >= plan->first[w->k->layer + 1])
		return false;
	w->i = plan->by_place[w->place++];
	return plan->v[w->i].off < w->r->off + w->r->len;
}

/* Copies what is there of a range that a read has come to. Return: whether that is
 * all it wants of it */
static bool take(struct part *pt, const struct plan_range *v, struct read *r)
{
	uint64_t from = r->off + r->got - v->off;
	uint64_t end = MIN(r->off + r->len - v->off, (uint64_t)v->len);
	uint64_t there = pt->begun ? MIN(pt->rd.got, end) : 0;

	if (there > from) {
		memcpy(r->dst + r->got, pt->mem + from, (size_t)(there - from));
		pt->taken += there - from;
		if (pt->of_data)
			pt->p->given[pt->number] += there - from;
		r->got += there - from;
		pt->p->d->stats.bytes[r->class_] += there - from;
	}
	if (there < end)
		return false;
	if (pt->done && pt->taken >= v->len)
		part_drop(pt);
	return true;
}

/* A read waits for more of a part. */
static void await(struct link *k, struct part *pt, struct read *r)
{
	struct play *p = pt->p;

	list_add(&pt->waits, &r->node);
	if (pt->begun && r->class_ < pt->rd.class_) {
		read_set_class(&pt->rd, r->class_);
	} else if (!pt->begun && r->class_ == PROTO_CLASS_DEMAND) {
		/* It was put back; demand is not behind what comes earlier. */
		pt->rd.class_ = r->class_;
		(void)part_begin(pt, k->b);
	}
	if (!p->waited_for)
		set_patience(p);
	loop_task_add(p->d->loop, &p->task);
}

/* Gives a read what is there, up to the first part of which that is not all. */
static void serve(struct link *k, struct read *r)
{
	struct walk w = walk_from(k, r);
	uint64_t got = r->got;

	while (walk_next(&w)) {
		struct part *pt = part_of(k->p, w.i);

		if (pt == NULL) {
			read_go_on(r, true);
			return;
		}
		if (!take(pt, &k->p->plan.v[w.i], r)) {
			await(k, pt, r);
			if (r->got > got)
				r->progress(r);
			return;
		}
	}
	play_keep_still(k->p, k->b);
	k->p->d->stats.trace_reads++;
	loop_task_add(k->p->d->loop, &k->p->task);
	read_go_on(r, true);
}

/* Whether nothing of what a read wants is still to be asked for. */
static bool all_begun(const struct link *k, const struct read *r)
{
	struct walk w = walk_from(k, r);

	while (walk_next(&w)) {
		if (k->p->parts[w.i] == NULL || !k->p->parts[w.i]->begun)
			return false;
	}
	return true;
}

/* A read goes to the network: what it brings is not played as well. */
static void give_way(struct link *k, const struct read *r)
{
	struct walk w;

	if (k->p->over == NULL || k->layer == k->p->plan.n_layers)
		return;
	w = walk_from(k, r);
	while (walk_next(&w)) {
		const struct plan_range *v = &k->p->plan.v[w.i];

		if (k->p->parts[w.i] == NULL && v->off >= r->off &&
		    v->off + v->len <= r->off + r->len)
			k->p->over[w.i] = true;
		/* It is a host that gives it now. */
		if (k->p->given != NULL)
			k->p->given[w.i] = 0;
	}
}

bool play_read(struct read *r)
{
	struct link *k;

	/* What must come in one piece, a mount checks by itself. */
	if (list_empty(&r->blob->plays) || r->suffix || r->one ||
	    r->other_source)
		return false;
	k = link_for(r);
	if (k != NULL && (r->class_ != PROTO_CLASS_DEMAND || all_begun(k, r))) {
		if (read_fit(r))
			serve(k, r);
		return true;
	}
	LIST_EACH(n, &r->blob->plays)
	give_way(LIST_ENTRY(n, struct link, of_blob), r);
	return false;
}

void play_raise(struct read *r)
{
	struct link *k = link_for(r);
	struct walk w;

	if (k == NULL)
		return;
	w = walk_from(k, r);
	while (walk_next(&w)) {
		struct part *pt = part_of(k->p, w.i);

		if (pt == NULL)
			continue;
		if (!pt->begun) {
			pt->rd.class_ = MIN(pt->rd.class_, r->class_);
			(void)part_begin(pt, k->b);
		} else if (!pt->done && r->class_ < pt->rd.class_) {
			read_set_class(&pt->rd, r->class_);
		}
	}
}

/* ---- without its data -------------------------------------------------- */

/* A trace is played from the layers from now on; what its data has brought is
 * forgotten where it is @wrong. */
static void leave_data(struct play *p, bool wrong)
{
	p->data_failed = true;
	for (uint32_t i = 0; i < p->plan.n; i++) {
		struct part *pt = p->parts[i];
		struct link *k;

		if (pt == NULL || !pt->of_data ||
		    (pt->done && !pt->failed && !wrong))
			continue;
		pt = part_put_back(pt);
		k = link_of_layer(p, p->plan.v[i].layer);
		/* Demand is not behind what comes earlier in the trace. */
		if (pt != NULL && pt->rd.class_ == PROTO_CLASS_DEMAND &&
		    k != NULL)
			(void)part_begin(pt, k->b);
	}
	loop_task_add(p->d->loop, &p->task);
}

/* Of a read that was wrong, what data is to blame for. Return: whether it is */
static bool take_blame(struct link *k, const struct read *r)
{
	struct play *p = k->p;
	struct walk w;
	bool any = false;

	if (p->given == NULL || k->layer == p->plan.n_layers)
		return false;
	w = walk_from(k, r);
	while (walk_next(&w)) {
		const struct plan_range *v = &p->plan.v[w.i];
		uint64_t n = MIN(r->off + r->len, v->off + v->len) -
			     MAX(r->off, v->off);

		any = any || p->given[w.i] > 0;
		p->given[w.i] -= MIN(p->given[w.i], n);
	}
	return any;
}

bool play_blame(struct blob *b, const struct read *r)
{
	bool any = false;

	LIST_EACH(n, &b->plays)
	{
		struct link *k = LIST_ENTRY(n, struct link, of_blob);
		struct play *p = k->p;

		if (!take_blame(k, r))
			continue;
		any = true;
		if (p->data_wrong)
			continue;
		p->data_wrong = true;
		log_warn("msg=\"data of a trace is wrong: its layers are "
			 "asked\" trace=%s data=%s layer=%s",
			 p->name, p->data->digest, b->digest);
		leave_data(p, true);
	}
	return any;
}

/* ---- a trace ----------------------------------------------------------- */

static void play_free(struct play *p)
{
	opening_drop(p);
	loop_timer_clear(&p->open);
	if (p->rd.blob != NULL) {
		read_stop(&p->rd);
		blob_unref(p->rd.blob);
	}
	loop_timer_clear(&p->end);
	loop_timer_clear(&p->patience);
	loop_task_del(&p->task);
	list_del(&p->node);
	for (uint32_t i = 0; p->parts != NULL && i < p->plan.n; i++) {
		if (p->parts[i] != NULL)
			part_drop(p->parts[i]);
	}
	/* Reads that went on above may have asked for another turn. */
	loop_task_del(&p->task);
	while (!list_empty(&p->links)) {
		struct link *k =
			LIST_ENTRY(p->links.next, struct link, of_play);

		list_del(&k->of_play);
		list_del(&k->of_blob);
		blob_unref(k->b);
		free(k);
	}
	while (!list_empty(&p->watches)) {
		struct play_watch *w =
			LIST_ENTRY(p->watches.next, struct play_watch, node);

		list_del(&w->node);
		w->told(w, NULL, 0);
	}
	if (p->data != NULL)
		blob_unref(p->data);
	if (p->mem != NULL)
		(void)munmap(p->mem, TRACE_BYTES_MAX);
	plan_done(&p->plan);
	free(p->over);
	free(p->given);
	free(p->parts);
	free(p->linked);
	free(p->name);
	free(p);
}

void play_drop_all(struct fetchd *d)
{
	while (!list_empty(&d->plays))
		play_free(LIST_ENTRY(d->plays.next, struct play, node));
}

static bool anybody_waits(const struct play *p)
{
	for (uint32_t i = 0; p->parts != NULL && i < p->plan.n; i++) {
		if (p->parts[i] != NULL && !list_empty(&p->parts[i]->waits))
			return true;
	}
	return false;
}

static void on_end(struct loop_timer *t)
{
	struct play *p = LIST_ENTRY(t, struct play, end);

	if (anybody_waits(p))
		hold(p);
	else
		play_free(p);
}

static void on_patience(struct loop_timer *t)
{
	struct play *p = LIST_ENTRY(t, struct play, patience);

	p->waited_for = false;
	if (!anybody_waits(p))
		return;
	if (p->seen == p->seen_then) {
		log_info("msg=\"trace does not get on\" name=%s", p->name);
		play_free(p);
		return;
	}
	set_patience(p);
}

/* Which layer of the plan its blob is. */
static void link_find(struct link *k)
{
	struct play *p = k->p;
	struct digest d;

	k->layer = p->plan.n_layers;
	if (digest_parse(k->b->digest, strlen(k->b->digest), &d) == 0)
		k->layer = plan_layer(&p->plan, &d);
	if (k->layer < p->plan.n_layers)
		p->linked[k->layer] = true;
}

static void tell(struct play *p, struct play_watch *w)
{
	const struct link *k = link_of_blob(p, w->blob);

	w->told(w, p->over != NULL ? &p->plan : NULL,
		k != NULL ? k->layer : p->plan.n_layers);
}

/* Beside the trace. Where it cannot be had, the layers have it. */
static void open_data(struct play *p, const struct digest *data)
{
	CLEANUP_FREE char *name = NULL;
	char digest[DIGEST_STR_BYTES];
	struct err e = {0};

	if (asprintf(&name, "%.*s@%s", (int)strcspn(p->name, "@"), p->name,
		     digest_str(data, digest)) < 0)
		return;
	if (blob_open(p->d, PROTO_BLOB_REGISTRY, name, p->plain_http, -1,
		      &p->data, &e) < 0)
		log_info("msg=\"no data of a trace: %s\"", e.text);
}

static int make_plan(struct play *p, struct err *e)
{
	CLEANUP_TRACE struct trace t = {0};
	char digest[DIGEST_STR_BYTES];
	struct digest d;
	size_t opened = 0;
	int r;

	sha256_all(p->d->sha256, p->mem, p->rd.got, &d);
	if (strcmp(digest_str(&d, digest), p->rd.blob->digest) != 0)
		return err_set(e, -EBADMSG, "it does not have its digest");
	r = trace_parse((const char *)p->mem, p->rd.got, &t, e);
	if (r == 0) {
		if (t.has_data)
			open_data(p, &t.data);
		t.has_data = p->data != NULL;
		opened = opening_layer(p, &t);
		if (plan_make(&t, opened, &p->plan) < 0)
			r = err_no_memory(e);
	}
	if (r < 0)
		return r;
	p->parts = calloc(p->plan.n + 1, sizeof(struct part *));
	p->linked = calloc(p->plan.n_layers + 1, sizeof(*p->linked));
	p->over = calloc(p->plan.n + 1, sizeof(*p->over));
	if (t.has_data)
		p->given = calloc(p->plan.n + 1, sizeof(*p->given));
	if (p->parts != NULL && p->linked != NULL && p->over != NULL &&
	    (!t.has_data || p->given != NULL)) {
		opening_join(p, opened);
		return 0;
	}
	free(TAKE_PTR(p->over)); /* its being there says that there is a plan */
	plan_done(&p->plan);
	return err_no_memory(e);
}

/* The trace is here, or will not come. */
static void begin(struct play *p)
{
	struct err e = {0};
	int r = p->code;

	if (r == 0)
		r = make_plan(p, &e);
	if (r < 0)
		log_info("msg=\"trace is not used: %s\" name=%s err=%s", e.text,
			 p->name, err_symbol(r));
	else
		log_debug("msg=\"trace\" name=%s ranges=%zu", p->name,
			  p->plan.n);
	opening_drop(p);
	blob_unref(TAKE_PTR(p->rd.blob));
	(void)munmap(TAKE_PTR(p->mem), TRACE_BYTES_MAX);
	LIST_EACH(n, &p->links)
	link_find(LIST_ENTRY(n, struct link, of_play));
	while (!list_empty(&p->watches)) {
		struct play_watch *w =
			LIST_ENTRY(p->watches.next, struct play_watch, node);

		list_del(&w->node);
		tell(p, w);
	}
}

static void part_failed(struct part *pt)
{
	struct play *p = pt->p;

	if (!pt->of_data) {
		part_drop(pt);
		return;
	}
	log_info("msg=\"a trace goes on without its data\" trace=%s data=%s",
		 p->name, p->data->digest);
	leave_data(p, false);
}

static void on_task(struct loop_task *t)
{
	struct play *p = LIST_ENTRY(t, struct play, task);

	if (p->fetched && p->rd.blob != NULL)
		begin(p);
	while (!list_empty(&p->touched)) {
		struct part *pt =
			LIST_ENTRY(p->touched.next, struct part, touched);
		struct list waits;

		list_del(&pt->touched);
		if (pt == p->opening)
			continue;
		if (pt->failed) {
			part_failed(pt);
			continue;
		}
		list_init(&waits);
		list_splice(&waits, &pt->waits);
		while (!list_empty(&waits)) {
			struct read *r =
				LIST_ENTRY(waits.next, struct read, node);
			struct link *k;

			list_del(&r->node);
			if (!read_fit(r))
				continue;
			k = link_for(r);
			if (k != NULL)
				serve(k, r);
			else
				read_go_on(r, false);
		}
	}
	pump(p);
}

static void on_trace_progress(struct read *rd)
{
	((struct play *)(void *)rd)->seen++;
}

static void on_trace_done(struct read *rd, int code, const char *text)
{
	struct play *p = (struct play *)(void *)rd;

	if (code < 0)
		log_info("msg=\"no trace: %s\" err=%s", text, err_symbol(code));
	p->code = code;
	p->fetched = true;
	loop_task_add(p->d->loop, &p->task);
}

static struct play *play_new(struct fetchd *d, const char *name,
			     bool plain_http, struct blob *b)
{
	struct play *p = calloc(1, sizeof(*p));
	void *mem = mmap(NULL, TRACE_BYTES_MAX, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p != NULL)
		p->name = strdup(name);
	if (p == NULL || p->name == NULL || mem == MAP_FAILED) {
		if (mem != MAP_FAILED)
			(void)munmap(mem, TRACE_BYTES_MAX);
		free(p);
		return NULL;
	}
	p->d = d;
	p->mem = mem;
	p->plain_http = plain_http;
	p->task.fn = on_task;
	p->end.fn = on_end;
	p->patience.fn = on_patience;
	p->open.fn = opening_due;
	list_init(&p->links);
	list_init(&p->watches);
	list_init(&p->touched);
	list_add(&d->plays, &p->node);
	p->rd = (struct read){
		.blob = b,
		.dst = p->mem,
		.len = TRACE_BYTES_MAX,
		.deadline_ns = loop_now(d->loop) + PLAY_HOLD_NS,
		.class_ = PROTO_CLASS_PREFETCH,
		/* All of it, with the urgency that ends of blobs have. */
		.suffix = true,
		.one = true,
		.hint = true,
		.progress = on_trace_progress,
		.done = on_trace_done,
	};
	read_start(&p->rd);
	return p;
}

struct play *play_find(struct fetchd *d, const char *name, bool plain_http)
{
	struct blob *b = NULL;
	struct play *p = NULL;
	struct err e = {0};
	unsigned n = 0;

	LIST_EACH(at, &d->plays)
	{
		struct play *q = LIST_ENTRY(at, struct play, node);

		n++;
		if (q->plain_http == plain_http && strcmp(q->name, name) == 0)
			p = q;
	}
	if (p != NULL) {
		hold(p);
		return p;
	}
	if (blob_open(d, PROTO_BLOB_REGISTRY, name, plain_http, -1, &b, &e) <
	    0) {
		log_info("msg=\"no trace: %s\"", e.text);
		return NULL;
	}
	if (n >= PLAYS_MAX)
		play_free(LIST_ENTRY(d->plays.next, struct play, node));
	p = play_new(d, name, plain_http, b);
	if (p == NULL)
		blob_unref(b);
	else
		hold(p);
	return p;
}

void play_add(struct play *p, struct blob *b)
{
	struct link *k;

	if (link_of_blob(p, b) != NULL)
		return;
	k = calloc(1, sizeof(*k));
	if (k == NULL)
		return;
	k->p = p;
	k->b = b;
	b->refs++;
	list_add(&p->links, &k->of_play);
	list_add(&b->plays, &k->of_blob);
	if (p->over != NULL)
		link_find(k);
	loop_task_add(p->d->loop, &p->task);
	several_ask(b);
}

void play_watch(struct play *p, struct play_watch *w)
{
	if (p->rd.blob == NULL)
		tell(p, w);
	else
		list_add(&p->watches, &w->node);
}

void play_unwatch(struct play_watch *w)
{
	if (w->node.next != NULL)
		list_del(&w->node);
}
