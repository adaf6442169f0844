/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/sched.h"

#include "daemon/registry/hosts.h"

#include <string.h>

static struct sched_piece *piece_of(struct list *n)
{
	return LIST_ENTRY(n, struct sched_piece, node);
}

static struct sched_job *job_of(struct list *n)
{
	return LIST_ENTRY(n, struct sched_job, node);
}

void sched_init(struct sched *s, uint64_t bg_bytes_per_s)
{
	*s = (struct sched){
		.bg_rate = bg_bytes_per_s,
		.bg_tokens = (int64_t)MIN(bg_bytes_per_s, MIB(1)),
	};
	list_init(&s->active);
}

void sched_blob_init(struct sched_blob *b, struct sched_host *host)
{
	*b = (struct sched_blob){.host = host};
	for (int c = 0; c < PROTO_CLASS_N_; c++)
		list_init(&b->queued[c]);
	list_init(&b->jobs);
	list_init(&b->node);
}

unsigned sched_split(uint64_t len, enum proto_class class_, uint64_t *ret_len)
{
	static const uint64_t min[] = {
		[PROTO_CLASS_DEMAND] = MIB(1),
		[PROTO_CLASS_PREFETCH] = KIB(512),
		[PROTO_CLASS_BACKGROUND] = UINT64_MAX,
	};
	unsigned n =
		(unsigned)MIN(len / min[class_], (uint64_t)SCHED_SPLIT_MAX);
	uint64_t part;

	n = MAX(n, 1u);
	part = len / n;
	for (unsigned i = 0; i < n; i++)
		ret_len[i] = i + 1 < n ? part : len - part * (n - 1);
	return n;
}

static uint64_t piece_at(const struct sched_piece *p)
{
	return p->off + p->got;
}

static uint64_t piece_end(const struct sched_piece *p)
{
	return p->off + p->len;
}

static uint64_t job_end(const struct sched_job *j)
{
	return j->whole ? UINT64_MAX : j->off + j->len;
}

/* Whether a job asks for all of a piece. */
static bool job_has(const struct sched_job *j, const struct sched_piece *p)
{
	if (j->n_ranges == 0)
		return piece_end(p) <= job_end(j);
	for (unsigned i = 0; i < j->n_ranges; i++) {
		const struct sched_range *v = &j->ranges[i];

		if (piece_at(p) >= v->off && piece_end(p) <= v->off + v->len)
			return true;
	}
	return false;
}

/* Whether a running job passes all of the piece, soon enough to wait for. */
static bool job_will_pass(const struct sched_job *j,
			  const struct sched_piece *p)
{
	if (j->suffix || j->avoid != p->avoid || piece_at(p) < j->pos)
		return false;
	if (j->whole)
		return true;
	if (!job_has(j, p))
		return false;
	/* Of several ranges it is not far. */
	return j->n_ranges > 0 || p->class_ == PROTO_CLASS_BACKGROUND ||
	       piece_at(p) - j->pos <= SCHED_JOIN_BYTES_MAX;
}

static void enqueue(struct sched *s, struct sched_piece *p)
{
	struct sched_blob *b = p->blob;
	struct list *q = &b->queued[p->class_];

	/* A blob that was idle does not get to catch up. */
	if (list_empty(q))
		b->served[p->class_] =
			MAX(b->served[p->class_], s->vtime[p->class_]);
	list_add(q, &p->node);
	if (list_empty(&b->node))
		list_add(&s->active, &b->node);
}

static bool blob_queued(const struct sched_blob *b)
{
	for (int c = 0; c < PROTO_CLASS_N_; c++) {
		if (!list_empty(&b->queued[c]))
			return true;
	}
	return false;
}

static void dequeue(struct sched_piece *p)
{
	list_del(&p->node);
	if (p->job == NULL && !blob_queued(p->blob))
		list_del(&p->blob->node);
}

void sched_add(struct sched *s, struct sched_piece *p)
{
	assert(!sched_piece_done(p));
	p->job = NULL;
	if (p->node.next == NULL)
		list_init(&p->node);
	list_del(&p->node);
	if (!p->suffix && p->not_before_ns == 0) {
		LIST_EACH(n, &p->blob->jobs)
		{
			struct sched_job *j = job_of(n);

			if (!job_will_pass(j, p))
				continue;
			p->job = j;
			list_add(&j->pieces, &p->node);
			return;
		}
	}
	enqueue(s, p);
}

void sched_remove(struct sched *s, struct sched_piece *p)
{
	(void)s;
	if (p->node.next == NULL || list_empty(&p->node))
		return;
	dequeue(p);
	p->job = NULL;
}

void sched_set_class(struct sched *s, struct sched_piece *p,
		     enum proto_class class_)
{
	bool queued =
		p->job == NULL && p->node.next != NULL && !list_empty(&p->node);

	if (queued)
		dequeue(p);
	p->class_ = class_;
	if (queued)
		enqueue(s, p);
}

static unsigned host_room(const struct sched_host *h, enum proto_class class_)
{
	unsigned max = h->breaker->probation ? 1 : h->max;

	if (class_ == PROTO_CLASS_PREFETCH)
		max -= max / 4;
	else if (class_ == PROTO_CLASS_BACKGROUND)
		max -= max / 2;
	return h->running < max ? max - h->running : 0;
}

static bool whole_running(const struct sched_blob *b)
{
	LIST_EACH(n, &b->jobs)
	{
		if (job_of(n)->whole)
			return true;
	}
	return false;
}

void sched_keep_quiet(struct sched_host *h, uint64_t now_ns)
{
	h->quiet_until_ns = now_ns + SCHED_QUIET_NS;
	h->step_ns = now_ns + SCHED_QUIET_STEP_NS;
}

/* Whether others leave room for a background job now. The end of a job brings
 * the next call: no need to be woken for that. */
static bool host_is_quiet(const struct sched_host *h, uint64_t now_ns,
			  uint64_t *wake_ns)
{
	if (h->running > h->running_bg)
		return false;
	if (now_ns < h->still_until_ns) {
		*wake_ns = MIN(*wake_ns, h->still_until_ns);
		return false;
	}
	if (now_ns >= h->quiet_until_ns)
		return true;
	if (h->running > 0)
		return false;
	if (now_ns < h->step_ns) {
		*wake_ns = MIN(*wake_ns, h->step_ns);
		return false;
	}
	return true;
}

/* Whether @a is to be asked for before @b, of one class. */
static bool goes_first(const struct sched_piece *a, const struct sched_piece *b)
{
	/* What has no rank is behind all that do. */
	uint32_t ra = a->rank - 1, rb = b->rank - 1;

	if (a->class_ == PROTO_CLASS_PREFETCH) {
		if (a->suffix != b->suffix)
			return a->suffix;
		if (ra != rb)
			return ra < rb;
	}
	return a->blob->served[a->class_] < b->blob->served[b->class_];
}

/* Whether a blob may have another job of the class now; else when. */
static bool blob_may_start(const struct sched_blob *b, enum proto_class class_,
			   uint64_t now_ns, uint64_t *wake_ns)
{
	if (list_empty(&b->queued[class_]) || host_room(b->host, class_) == 0)
		return false;
	if (b->whole && whole_running(b))
		return false;
	if (class_ == PROTO_CLASS_BACKGROUND && !b->whole &&
	    !host_is_quiet(b->host, now_ns, wake_ns))
		return false;
	if (b->host->breaker->not_before_ns > now_ns) {
		*wake_ns = MIN(*wake_ns, b->host->breaker->not_before_ns);
		return false;
	}
	return true;
}

/* Whether a piece may be asked for although the link is full, as it seems. */
static bool may_fill(const struct sched_piece *p)
{
	/* For a blob's end a mount will wait, as WARM has said. What a trace
	 * names is small: a server that is slow to answer is not a slow link. */
	return p->suffix || (p->rank != 0 && p->blob->host->pace.in_flight <
						     SCHED_RANKED_BYTES_MIN);
}

/* The piece of the class to start with now. */
static struct sched_piece *blob_ready(struct sched_blob *b,
				      enum proto_class class_, uint64_t now_ns,
				      uint64_t *wake_ns)
{
	/* What arrives brings the next call. */
	bool full = class_ != PROTO_CLASS_DEMAND && !b->whole &&
		    pace_full(&b->host->pace);
	struct sched_piece *best = NULL;

	if (!blob_may_start(b, class_, now_ns, wake_ns))
		return NULL;
	LIST_EACH(n, &b->queued[class_])
	{
		struct sched_piece *p = piece_of(n);

		if (full && !may_fill(p))
			continue;
		if (p->not_before_ns > now_ns)
			*wake_ns = MIN(*wake_ns, p->not_before_ns);
		else if (best == NULL || goes_first(p, best))
			best = p;
	}
	return best;
}

static void refill(struct sched *s, uint64_t now_ns)
{
	uint64_t burst = MIN(s->bg_rate, MIB(1)), ns, add;

	if (s->bg_last_ns == 0)
		s->bg_last_ns = now_ns;
	ns = now_ns - s->bg_last_ns;
	s->bg_last_ns = now_ns;
	if (ns >= NSEC_PER_SEC * 60) {
		s->bg_tokens = (int64_t)burst;
		return;
	}
	add = (uint64_t)((unsigned __int128)ns * s->bg_rate / NSEC_PER_SEC);
	add = MIN(add, MIB(1024));
	s->bg_tokens = MIN(s->bg_tokens + (int64_t)add, (int64_t)burst);
}

/* Whether background may start; else when. */
static bool bg_allowed(struct sched *s, uint64_t now_ns, uint64_t *wake_ns)
{
	uint64_t ns;

	if (s->bg_rate == 0)
		return true;
	refill(s, now_ns);
	if (s->bg_tokens > 0)
		return true;
	ns = (uint64_t)((unsigned __int128)(1 - s->bg_tokens) * NSEC_PER_SEC /
			s->bg_rate) +
	     NSEC_PER_MSEC;
	*wake_ns = MIN(*wake_ns, now_ns + ns);
	return false;
}

/* Takes a queued piece into a job. */
static void job_take(struct sched_job *j, struct sched_piece *p)
{
	list_del(&p->node);
	p->job = j;
	p->not_before_ns = 0;
	list_add(&j->pieces, &p->node);
}

/* Adds queued pieces of the class that lie in, at or near the job's range. */
static void job_merge(struct sched_job *j, uint64_t now_ns)
{
	uint64_t lo = j->off, hi = j->off + j->len, max = SCHED_JOB_BYTES_MAX;
	const struct sched_piece *first = piece_of(j->pieces.next);
	/* Who made a trace into ranges has weighed the gaps. */
	uint64_t gap = first->rank != 0 ? first->gap : SCHED_GAP_BYTES;
	unsigned n_pieces = 1;
	bool grown = true;

	/* Two of them, so that one is on its way when the other ends. */
	if (j->class_ != PROTO_CLASS_DEMAND)
		max = MIN(max, pace_limit(&j->host->pace) / 2);
	while (grown) {
		grown = false;
		LIST_EACH_SAFE(n, &j->blob->queued[j->class_])
		{
			struct sched_piece *p = piece_of(n);
			uint64_t at = piece_at(p), end = piece_end(p);

			if (p->suffix || p->alone || p->avoid != j->avoid ||
			    p->not_before_ns > now_ns)
				continue;
			if ((at > hi && at - hi > gap) ||
			    (end < lo && lo - end > gap))
				continue;
			if (MAX(hi, end) - MIN(lo, at) > MAX(max, hi - lo) ||
			    n_pieces >= SCHED_JOB_PIECES_MAX)
				continue;
			lo = MIN(lo, at);
			hi = MAX(hi, end);
			job_take(j, p);
			n_pieces++;
			grown = true;
		}
	}
	j->off = lo;
	j->pos = lo;
	j->len = hi - lo;
}

/* The queued piece that a trace wants next, or NULL. */
static struct sched_piece *next_of_several(const struct sched_job *j,
					   uint32_t rank, uint64_t now_ns)
{
	struct sched_piece *best = NULL;

	LIST_EACH(n, &j->blob->queued[j->class_])
	{
		struct sched_piece *p = piece_of(n);

		if (p->suffix || p->alone || p->rank == 0 ||
		    p->rank - rank > SCHED_SEVERAL_RANKS_MAX ||
		    p->avoid != j->avoid || p->not_before_ns > now_ns)
			continue;
		if (best == NULL || p->rank < best->rank)
			best = p;
	}
	return best;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct sched_range *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

/* Has a job ask for its @n ranges, as they were added. */
static void set_ranges(struct sched_job *j, unsigned n)
{
	struct sched_range *v = j->ranges;
	unsigned out = 1;

	qsort(v, n, sizeof(*v), compare_ranges);
	for (unsigned i = 1; i < n; i++) {
		struct sched_range *last = &v[out - 1];
		uint64_t end = last->off + last->len;

		if (v[i].off > end && v[i].off - end > SCHED_SEVERAL_GAP_BYTES)
			v[out++] = v[i];
		else
			last->len = MAX(end, v[i].off + v[i].len) - last->off;
	}
	j->n_ranges = out > 1 ? out : 0;
	j->off = v[0].off;
	j->pos = v[0].off;
	j->len = v[out - 1].off + v[out - 1].len - j->off;
}

/* What a job asks for. */
static uint64_t job_bytes(const struct sched_job *j)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < j->n_ranges; i++)
		n += j->ranges[i].len;
	return j->n_ranges > 0 ? n : j->len;
}

/* Adds what a trace names next of the blob. */
static void job_several(struct sched_job *j, uint32_t rank, uint64_t now_ns)
{
	uint64_t room =
		MIN(SCHED_SEVERAL_BYTES_MAX, pace_limit(&j->host->pace) / 2);
	unsigned n = 1;

	room -= MIN(room, j->len);
	j->ranges[0] = (struct sched_range){.off = j->off, .len = j->len};
	while (n < SCHED_RANGES_MAX) {
		struct sched_piece *p = next_of_several(j, rank, now_ns);

		if (p == NULL || p->len - p->got > room)
			break;
		room -= p->len - p->got;
		j->ranges[n++] = (struct sched_range){.off = piece_at(p),
						      .len = p->len - p->got};
		job_take(j, p);
	}
	set_ranges(j, n);
}

static void take_all(struct sched_job *j)
{
	for (int c = 0; c < PROTO_CLASS_N_; c++) {
		LIST_EACH_SAFE(n, &j->blob->queued[c])
		{
			struct sched_piece *p = piece_of(n);

			if (!p->suffix && piece_at(p) >= j->pos &&
			    p->avoid == j->avoid)
				job_take(j, p);
		}
	}
	if (!blob_queued(j->blob))
		list_del(&j->blob->node);
}

/* What goes with the piece @p, which the job has. */
static void job_extend(struct sched_job *j, const struct sched_piece *p,
		       uint64_t now_ns)
{
	if (j->blob->whole && !p->suffix) {
		j->whole = true;
		j->off = 0;
		j->pos = 0;
		j->len = UINT64_MAX;
		take_all(j);
	} else if (!p->suffix && !p->alone) {
		job_merge(j, now_ns);
		if (p->rank != 0 && j->class_ == PROTO_CLASS_PREFETCH &&
		    j->host->several == SCHED_SEVERAL_YES)
			job_several(j, p->rank, now_ns);
	}
}

static void job_make(struct sched *s, struct sched_piece *p, uint64_t now_ns,
		     struct sched_job *j)
{
	struct sched_blob *b = p->blob;

	*j = (struct sched_job){
		.blob = b,
		.host = b->host,
		.class_ = p->class_,
		.suffix = p->suffix,
		.avoid = p->avoid,
		.off = piece_at(p),
		.len = p->len - p->got,
		.pos = piece_at(p),
		.start_ns = now_ns,
	};
	list_init(&j->pieces);
	list_init(&j->node);
	s->vtime[p->class_] = b->served[p->class_];
	job_take(j, p);
	job_extend(j, p, now_ns);
	if (j->class_ == PROTO_CLASS_BACKGROUND && !j->whole && !j->suffix) {
		if (s->bg_rate != 0)
			j->len = MIN(j->len, SCHED_PACED_BYTES_MAX);
		if (now_ns < b->host->quiet_until_ns)
			j->len = MIN(j->len, SCHED_QUIET_BYTES_MAX);
		b->host->step_ns = now_ns + SCHED_QUIET_STEP_NS;
	}
	if (!j->whole) {
		/* More than that is asked for where the length is unknown. */
		j->asked = j->suffix ? MIN(j->len, SCHED_SUFFIX_BYTES)
				     : job_bytes(j);
		pace_ask(&b->host->pace, j->asked, now_ns);
		b->served[j->class_] += j->suffix ? j->len : j->asked;
		if (j->class_ == PROTO_CLASS_BACKGROUND && s->bg_rate != 0)
			s->bg_tokens -= (int64_t)MIN(j->len, MIB(1024));
	}
	if (!blob_queued(b))
		list_del(&b->node);
	list_add(&b->jobs, &j->node);
	b->host->running++;
	b->host->running_bg += j->class_ == PROTO_CLASS_BACKGROUND;
}

bool sched_next(struct sched *s, uint64_t now_ns, struct sched_job *ret,
		uint64_t *ret_wake_ns)
{
	uint64_t wake_ns = UINT64_MAX;

	for (int c = 0; c < PROTO_CLASS_N_; c++) {
		struct sched_piece *best = NULL;

		LIST_EACH(n, &s->active)
		{
			struct sched_blob *b =
				LIST_ENTRY(n, struct sched_blob, node);
			struct sched_piece *p = blob_ready(
				b, (enum proto_class)c, now_ns, &wake_ns);

			if (p != NULL && (best == NULL || goes_first(p, best)))
				best = p;
		}
		if (best == NULL || (c == PROTO_CLASS_BACKGROUND &&
				     !bg_allowed(s, now_ns, &wake_ns)))
			continue;
		job_make(s, best, now_ns, ret);
		*ret_wake_ns = UINT64_MAX;
		return true;
	}
	*ret_wake_ns = wake_ns;
	return false;
}

/* All but @n bytes of what was asked for will not come. */
static void job_asked(struct sched_job *j, uint64_t n)
{
	if (n >= j->asked)
		return;
	pace_drop(&j->host->pace, j->asked - n);
	j->asked = n;
}

void sched_job_range(struct sched_job *j, uint64_t off, uint64_t len)
{
	if (j->suffix) {
		j->suffix = false;
		j->off = off;
		j->pos = off;
		LIST_EACH(n, &j->pieces)
		{
			struct sched_piece *p = piece_of(n);

			p->suffix = false;
			p->off = off;
			p->len = len;
		}
	}
	assert(off == j->off);
	j->n_ranges = 0;
	j->len = MIN(j->len, len);
	job_asked(j, j->len);
}

bool sched_job_part(struct sched_job *j, uint64_t off, uint64_t len)
{
	for (unsigned i = 0; i < j->n_ranges && off >= j->pos; i++) {
		const struct sched_range *v = &j->ranges[i];

		if (off != v->off || len > v->len)
			continue;
		j->pos = off;
		return true;
	}
	return false;
}

bool sched_job_whole(struct sched *s, struct sched_job *j)
{
	(void)s;
	j->blob->whole = true;
	if (whole_running(j->blob))
		return j->whole;
	assert(!j->suffix);
	j->whole = true;
	j->off = 0;
	j->pos = 0;
	j->len = UINT64_MAX;
	job_asked(j, 0);
	take_all(j);
	return true;
}

void sched_job_data(struct sched_job *j, const void *data, size_t n,
		    uint64_t now_ns,
		    void (*deliver)(struct sched_piece *p, uint64_t at,
				    const void *data, size_t n))
{
	const uint8_t *p = data;
	uint64_t end = j->pos + n, asked = MIN((uint64_t)n, j->asked);
	struct list todo;

	if (j->start_ns != 0)
		pace_first(&j->host->pace, now_ns - j->start_ns);
	j->start_ns = 0;
	pace_data(&j->host->pace, n, asked, now_ns);
	j->asked -= asked;

	/* Pieces wait on a list of their own, so that deliver() may remove
	 * any of them. */
	list_init(&todo);
	list_splice(&todo, &j->pieces);
	while (!list_empty(&todo)) {
		struct sched_piece *pc = piece_of(todo.next);
		uint64_t at = piece_at(pc), got = pc->got, k;

		list_del(&pc->node);
		list_add(&j->pieces, &pc->node);
		if (at < j->pos || at >= end)
			continue;
		k = MIN(end - at, pc->len - got);
		pc->got += k;
		if (pc->got == pc->len) {
			list_del(&pc->node);
			pc->job = NULL;
		}
		deliver(pc, got, p + (at - j->pos), (size_t)k);
	}
	j->pos = end;
}

void sched_job_end(struct sched_job *j, uint64_t now_ns, struct list *left)
{
	assert(j->host->running > 0);
	job_asked(j, 0);
	j->host->running--;
	if (j->class_ == PROTO_CLASS_BACKGROUND)
		j->host->running_bg--;
	else
		sched_keep_quiet(j->host, now_ns);
	list_del(&j->node);
	LIST_EACH(n, &j->pieces)
	piece_of(n)->job = NULL;
	list_splice(left, &j->pieces);
}
