/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/parts.h"

#include <string.h>

#define LOG_MOD "play"
#include "common/log.h"

void play_keep_still(const struct play *p, struct blob *b)
{
	b->sb.host->still_until_ns = loop_now(p->d->loop) + PLAY_STILL_NS;
}

struct link *link_of_blob(const struct play *p, const struct blob *b)
{
	LIST_EACH(n, &p->links)
	{
		struct link *k = LIST_ENTRY(n, struct link, of_play);

		if (k->b == b)
			return k;
	}
	return NULL;
}

static struct part *part_new(struct play *p)
{
	struct part *pt = calloc(1, sizeof(*pt));

	if (pt == NULL)
		return NULL;
	pt->p = p;
	pt->rd.class_ = PROTO_CLASS_PREFETCH;
	list_init(&pt->waits);
	list_init(&pt->touched);
	return pt;
}

struct part *part_of(struct play *p, uint32_t i)
{
	struct part *pt = p->parts[i];

	if (pt != NULL)
		return pt;
	pt = part_new(p);
	if (pt == NULL)
		return NULL;
	pt->number = i;
	p->parts[i] = pt;
	p->n_wanted++;
	return pt;
}

static void part_asked_done(struct part *pt)
{
	pt->p->asked -= pt->p->plan.v[pt->number].len;
	pt->p->n_asked--;
}

/* It is only wanted again. */
static void part_stop(struct part *pt)
{
	struct play *p = pt->p;
	uint32_t len = p->plan.v[pt->number].len;

	if (!pt->begun)
		return;
	read_stop(&pt->rd);
	p->d->play_bytes -= len;
	p->d->n_play_parts--;
	if (!pt->done)
		part_asked_done(pt);
	p->n_wanted++;
	pt->begun = pt->done = pt->failed = pt->of_data = false;
	list_del(&pt->touched);
	free(TAKE_PTR(pt->mem));
}

/* Nobody waits for it. */
static void part_free(struct part *pt)
{
	struct play *p = pt->p;

	part_stop(pt);
	assert(list_empty(&pt->waits));
	p->parts[pt->number] = NULL;
	p->n_wanted--;
	free(pt);
}

void part_drop(struct part *pt)
{
	struct list waits;

	pt->p->over[pt->number] = true;
	list_init(&waits);
	list_splice(&waits, &pt->waits);
	part_free(pt);
	while (!list_empty(&waits)) {
		struct list *n = waits.next;

		list_del(n);
		read_go_on(LIST_ENTRY(n, struct read, node), false);
	}
}

/* Something of it came. What follows from that is done at the end of the turn:
 * it may take away what the caller is looking at. */
static void touch(struct part *pt)
{
	struct play *p = pt->p;

	p->seen++;
	if (list_empty(&pt->touched))
		list_add(&p->touched, &pt->touched);
	loop_task_add(p->d->loop, &p->task);
}

static void on_part_progress(struct read *rd)
{
	touch((struct part *)(void *)rd);
}

static void on_part_done(struct read *rd, int code, const char *text)
{
	struct part *pt = (struct part *)(void *)rd;

	if (code < 0)
		log_debug("msg=\"not prefetched: %s\" err=%s", text,
			  err_symbol(code));
	pt->done = true;
	/* The data may end too soon, which is no failure of a read. */
	pt->failed = code < 0 ||
		     (pt->of_data && rd->got < pt->p->plan.v[pt->number].len);
	if (pt->begun)
		part_asked_done(pt);
	touch(pt);
}

/* It counts from now on. */
static void part_count(struct part *pt)
{
	struct play *p = pt->p;
	uint32_t len = p->plan.v[pt->number].len;

	pt->begun = true;
	p->n_wanted--;
	p->d->play_bytes += len;
	p->d->n_play_parts++;
	if (!pt->done) {
		p->asked += len;
		p->n_asked++;
	}
}

/* Bytes of @b from @off on. */
static void part_fetch(struct part *pt, struct blob *b, uint64_t off,
		       const struct plan_range *v)
{
	struct play *p = pt->p;
	bool apart = p->data != NULL && !pt->of_data;

	play_keep_still(p, b);
	pt->rd = (struct read){
		.blob = b,
		.dst = pt->mem,
		.off = off,
		.len = v->len,
		.rank = v->rank,
		/* For the layers nobody has made ranges of its reads. */
		.gap = apart ? PLAN_GAP_BYTES : 0,
		.deadline_ns = loop_now(p->d->loop) + PLAY_HOLD_NS,
		.class_ = pt->rd.class_,
		.hint = true,
		.progress = on_part_progress,
		.done = on_part_done,
	};
	read_start(&pt->rd);
}

bool part_begin(struct part *pt, struct blob *b)
{
	const struct plan_range *v = &pt->p->plan.v[pt->number];

	pt->mem = malloc(v->len);
	if (pt->mem == NULL)
		return false;
	part_count(pt);
	pt->of_data = pt->p->data != NULL && !pt->p->data_failed;
	part_fetch(pt, pt->of_data ? pt->p->data : b,
		   pt->of_data ? v->at : v->off, v);
	return true;
}

struct part *part_put_back(struct part *pt)
{
	struct play *p = pt->p;

	if (pt->taken > 0) {
		part_drop(pt);
		return NULL;
	}
	p->next = MIN(p->next, pt->number);
	if (list_empty(&pt->waits)) {
		part_free(pt);
		return NULL;
	}
	part_stop(pt);
	return pt;
}

/* ---- an opening -------------------------------------------------------- */

void opening_drop(struct play *p)
{
	struct part *pt = TAKE_PTR(p->opening);

	if (pt == NULL)
		return;
	read_stop(&pt->rd);
	list_del(&pt->touched);
	free(pt->mem);
	free(pt);
}

void opening_due(struct loop_timer *t)
{
	struct play *p = LIST_ENTRY(t, struct play, open);
	const struct plan_range all = {.len = PLAN_OPENING_BYTES, .rank = 1};
	struct part *pt;

	if (p->fetched)
		return;
	pt = part_new(p);
	if (pt != NULL)
		pt->mem = malloc(all.len);
	if (pt == NULL || pt->mem == NULL) {
		free(pt);
		return;
	}
	p->opening = pt;
	part_fetch(pt, p->opened, 0, &all);
}

void play_open(struct play *p, struct blob *b)
{
	if (p->fetched || p->opened != NULL || link_of_blob(p, b) == NULL)
		return;
	p->opened = b;
	loop_timer_set(p->d->loop, &p->open,
		       loop_now(p->d->loop) + PLAY_OPENING_NS);
}

size_t opening_layer(const struct play *p, const struct trace *t)
{
	size_t i = t->n_layers;
	struct digest d;

	if (p->opening != NULL &&
	    digest_parse(p->opened->digest, strlen(p->opened->digest), &d) == 0)
		for (i = 0; i < t->n_layers; i++)
			if (digest_equal(&t->layers[i], &d))
				break;
	return i;
}

void opening_join(struct play *p, size_t layer)
{
	struct part *pt = p->opening;
	uint32_t i;

	if (pt == NULL || layer >= p->plan.n_layers ||
	    p->plan.first[layer] == p->plan.first[layer + 1])
		return;
	i = p->plan.by_place[p->plan.first[layer]];
	if (p->plan.v[i].off != 0)
		return;
	p->opening = NULL;
	pt->number = i;
	p->parts[i] = pt;
	p->n_wanted++;
	part_count(pt);
	touch(pt);
}
