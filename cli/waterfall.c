/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/waterfall.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cli/progress.h"
#include "cli/text.h"
#include "cli/wfplan.h"
#include "common/buf.h"

/* All in pixels of an unscaled drawing. */
#define WIDTH 1200
#define MARGIN 24
#define PLOT_X 330
#define PLOT_W 780
#define PLOT_R (PLOT_X + PLOT_W)
#define TILES_Y 76
#define LEGEND_Y 158
#define RATE_Y 180
#define RATE_H 64
#define AXIS_Y 262
#define ROWS_Y 272
#define GROUP_H 26
#define ROW_H 16
#define BAR_H 10
#define FOOT_H 34
#define LABEL_CHARS 44
#define TITLE_CHARS 90
#define BUCKETS (PLOT_W / 4)

/* Kinds of bars: their class in the style sheet, and in the legend. */
enum bar {
	BAR_HIT,
	BAR_WAIT,
	BAR_ERROR,
	BAR_DEMAND,
	BAR_AHEAD,
	BAR_PREFETCH,
	BAR_BACKGROUND,
	BAR_TAIL,
	BAR_N_,
};

static const struct {
	const char *css;
	const char *label;
} bars[BAR_N_] = {
	[BAR_HIT] = {"h", "read: was there"},
	[BAR_WAIT] = {"w", "read: waited"},
	[BAR_ERROR] = {"x", "read: failed"},
	[BAR_DEMAND] = {"d", "fetched on demand"},
	[BAR_AHEAD] = {"a", "ahead of readers"},
	[BAR_PREFETCH] = {"p", "prefetched"},
	[BAR_BACKGROUND] = {"b", "in the background"},
	[BAR_TAIL] = {"o", "table of contents"},
};

/* Media queries are for those who know them; the rest draws on white. */
static const char style[] =
	"svg{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',"
	"'DejaVu Sans',sans-serif}\n"
	".bg{fill:#ffffff}.t{fill:#1f2328;font-size:12px}"
	".m{fill:#656d76;font-size:11px}"
	".ti{fill:#1f2328;font-size:19px;font-weight:600}"
	".n{fill:#1f2328;font-size:21px;font-weight:600}"
	".bad{fill:#d1242f;font-size:21px;font-weight:600}"
	".c{font-family:ui-monospace,'SF Mono',Menlo,Consolas,"
	"'DejaVu Sans Mono',monospace;font-size:10.5px;fill:#3b424a}\n"
	".g{stroke:#d8dee4;stroke-width:1}.l{stroke:#c4ccd4;stroke-width:1}"
	".k{fill:#f6f8fa}.z{fill:#eef1f4}"
	".wm{fill:#cf222e;font-size:11px}\n"
	".h{fill:#1a9e6c}.w{fill:#e5383b}.x{fill:#bf3fb5}"
	".d{fill:#f08c00}.a{fill:#14a3b8}.p{fill:#3b82f6}.b{fill:#a3adb8}.o{fill:#8b5cf6}\n"
	"@media (prefers-color-scheme:dark){"
	".bg{fill:#0d1117}.t,.ti,.n{fill:#e6edf3}.m{fill:#8d96a0}"
	".bad{fill:#ff7b72}.c{fill:#c9d1d9}"
	".g{stroke:#262c34}.l{stroke:#3d444d}.k{fill:#161b22}.z{fill:#1c2128}"
	".wm{fill:#ff8e86}"
	".h{fill:#2fbf88}.w{fill:#ff5d5d}.x{fill:#e06bd6}"
	".d{fill:#ffb03a}.a{fill:#3fd0e0}.p{fill:#5b9bff}.b{fill:#69737e}.o{fill:#a98bff}}\n";

/* ---- text ----------------------------------------------------------------- */

/* @s as XML, its last @max characters. */
static void put_text(const struct wfplan *p, const char *s, size_t max)
{
	CLEANUP_BUF struct buf clean = BUF_INIT(KIB(64));
	CLEANUP_BUF struct buf xml = BUF_INIT(KIB(512));
	const char *at;
	bool cut;

	if (text_clean(&clean, s) < 0)
		return;
	at = text_tail(clean.p, max, &cut);
	if (text_xml(&xml, at) < 0)
		return;
	(void)fprintf(p->f, "%s%s", cut ? "…" : "", xml.p);
}

static double x_of(const struct wfplan *p, uint64_t us)
{
	const struct runstat *s = p->w->stat;
	uint64_t at = MIN(MAX(us, s->from_us), s->to_us);

	return PLOT_X + (double)(at - s->from_us) * p->px_per_us;
}

static int height_of(const struct wfplan *p)
{
	return ROWS_Y + (int)p->n_groups * GROUP_H + (int)p->n_rows * ROW_H +
	       FOOT_H;
}

/* ---- the head ------------------------------------------------------------- */

static void put_tile(const struct wfplan *p, int i, bool bad,
		     const char *number, const char *label)
{
	const int w = (WIDTH - 2 * MARGIN) / 6;
	int x = MARGIN + i * w;

	(void)fprintf(p->f,
		      "<rect class=\"k\" x=\"%d\" y=\"%d\" width=\"%d\" "
		      "height=\"56\" rx=\"6\"/><text class=\"%s\" x=\"%d\" "
		      "y=\"%d\">%s</text><text class=\"m\" x=\"%d\" "
		      "y=\"%d\">%s</text>\n",
		      x, TILES_Y, w - 10, bad ? "bad" : "n", x + 12,
		      TILES_Y + 26, number, x + 12, TILES_Y + 45, label);
}

static void put_tiles(const struct wfplan *p)
{
	const struct runstat *s = p->w->stat;
	char number[64], label[128], a[TEXT_TIME_BYTES], b[PROGRESS_SIZE_BYTES];
	uint64_t bytes = runstat_fetched(s) + s->fetched[EVLOG_TAIL];

	put_tile(p, 0, false, text_time(s->to_us - s->from_us, a),
		 "from the first to the last");
	(void)snprintf(number, sizeof(number), "%" PRIu64, s->reads);
	(void)snprintf(label, sizeof(label), "reads of %" PRIu64 " file%s",
		       s->files, s->files == 1 ? "" : "s");
	put_tile(p, 1, false, number, label);
	(void)snprintf(number, sizeof(number), "%" PRIu64,
		       (uint64_t)s->n_waits);
	(void)snprintf(label, sizeof(label), "waited, %" PRIu64 " on demand",
		       s->met[EVLOG_DEMAND]);
	put_tile(p, 2, s->by_how[EVLOG_ERROR] > 0, number, label);
	put_tile(p, 3, false, text_time(s->blocked_us, a),
		 "in which somebody waited");
	if (p->w->rtt_us > 0)
		(void)snprintf(label, sizeof(label),
			       "the longest; %" PRIu64 " over %.4g ms",
			       s->over_rtt, (double)p->w->rtt_us / 1e3);
	else
		(void)snprintf(label, sizeof(label), "the longest wait");
	put_tile(p, 4, s->over_rtt > 0, text_time(s->longest_us, a), label);
	if (s->blob_bytes > 0)
		(void)snprintf(label, sizeof(label), "fetched, %s were used",
			       progress_size(s->blob_bytes, b));
	else
		(void)snprintf(label, sizeof(label), "fetched");
	put_tile(p, 5, false, progress_size(bytes, b), label);
}

static void put_legend(const struct wfplan *p)
{
	int x = MARGIN;

	for (int i = 0; i < BAR_N_; i++) {
		(void)fprintf(p->f,
			      "<rect class=\"%s\" x=\"%d\" y=\"%d\" "
			      "width=\"11\" height=\"11\" rx=\"2\"/><text "
			      "class=\"m\" x=\"%d\" y=\"%d\">%s</text>\n",
			      bars[i].css, x, LEGEND_Y - 10, x + 17, LEGEND_Y,
			      bars[i].label);
		x += 34 + (int)strlen(bars[i].label) * 6;
	}
}

static void put_head(const struct wfplan *p)
{
	const struct runstat *s = p->w->stat;
	char date[TEXT_DATE_BYTES];

	(void)fprintf(p->f, "<text class=\"ti\" x=\"%d\" y=\"40\">", MARGIN);
	put_text(p, p->w->title != NULL ? p->w->title : "estargz", TITLE_CHARS);
	(void)fprintf(p->f,
		      "</text>\n<text class=\"m\" x=\"%d\" y=\"60\">%u "
		      "layer%s with reads",
		      MARGIN, p->n_groups, p->n_groups == 1 ? "" : "s");
	if (s->wall_us > 0)
		(void)fprintf(p->f, ", %s",
			      text_date(s->wall_us + (s->from_us - s->start_us),
					date));
	if (p->w->log->lost > 0)
		(void)fprintf(p->f, ", %" PRIu64 " events were lost",
			      p->w->log->lost);
	(void)fputs("</text>\n", p->f);
	put_tiles(p);
	put_legend(p);
}

/* ---- what was fetched, when ----------------------------------------------- */

static enum bar bar_of(const struct evlog_item *x)
{
	if (x->kind == EVLOG_FETCH)
		return BAR_DEMAND + x->class_;
	return BAR_HIT + x->how;
}

/* Spreads the bytes of a fetch evenly over the time that it took. */
static void spread(const struct wfplan *p, const struct evlog_item *x,
		   double rate[BUCKETS][EVLOG_CLASS_N_])
{
	double a = (x_of(p, wfplan_start(x)) - PLOT_X) * BUCKETS / PLOT_W;
	double z = (x_of(p, x->end_us) - PLOT_X) * BUCKETS / PLOT_W;
	int first = (int)MIN(a, BUCKETS - 1.0),
	    last = (int)MIN(z, BUCKETS - 1.0);

	for (int i = first; i <= last; i++) {
		double part = last == first
				      ? 1
				      : (MIN(z, i + 1.0) - MAX(a, (double)i)) /
						(z - a);

		rate[i][x->class_] += (double)x->len * MAX(part, 0.0);
	}
}

static double tallest(double rate[BUCKETS][EVLOG_CLASS_N_])
{
	double max = 0;

	for (int i = 0; i < BUCKETS; i++) {
		double sum = 0;

		for (int c = 0; c < EVLOG_CLASS_N_; c++)
			sum += rate[i][c];
		max = MAX(max, sum);
	}
	return max;
}

static void put_rate(const struct wfplan *p)
{
	const struct runstat *s = p->w->stat;
	CLEANUP_FREE double(*rate)[EVLOG_CLASS_N_] =
		calloc(BUCKETS, sizeof(*rate));
	CLEANUP_FREE double *base = calloc(BUCKETS, sizeof(*base));
	const double w = (double)PLOT_W / BUCKETS;
	double max, mbits;

	if (rate == NULL || base == NULL)
		return;
	for (uint32_t i = 0; i < s->n_items; i++) {
		const struct evlog_item *x = wfplan_item(p, i);

		if (x->kind == EVLOG_FETCH && runstat_counts(s, x))
			spread(p, x, rate);
	}
	max = tallest(rate);
	mbits = (double)(runstat_fetched(s) + s->fetched[EVLOG_TAIL]) * 8 /
		(double)MAX(s->to_us - s->from_us, UINT64_C(1));
	(void)fprintf(
		p->f,
		"<text class=\"t\" x=\"%d\" y=\"%d\">Network</text>"
		"<text class=\"m\" x=\"%d\" y=\"%d\">%.*f "
		"Mbit/s on average</text><rect class=\"k\" x=\"%d\" y=\"%d\" "
		"width=\"%d\" height=\"%d\"/>\n",
		MARGIN, RATE_Y + 16, MARGIN, RATE_Y + 32, mbits < 10 ? 1 : 0,
		mbits, PLOT_X, RATE_Y, PLOT_W, RATE_H);
	for (int c = 0; max > 0 && c < EVLOG_CLASS_N_; c++) {
		(void)fprintf(p->f, "<path class=\"%s\" d=\"",
			      bars[BAR_DEMAND + c].css);
		for (int i = 0; i < BUCKETS; i++) {
			double h = rate[i][c] / max * (RATE_H - 4);

			if (h < 0.05)
				continue;
			(void)fprintf(p->f, "M%.1f %.1fh%.1fv%.1fh-%.1fz",
				      PLOT_X + i * w,
				      RATE_Y + RATE_H - base[i] - h, w - 0.4, h,
				      w - 0.4);
			base[i] += h;
		}
		(void)fputs("\"/>\n", p->f);
	}
}

/* ---- the axis ------------------------------------------------------------- */

/* A step of 1, 2 or 5 with zeros, of which there are at most ten. */
static uint64_t step_of(uint64_t span)
{
	static const unsigned factors[] = {1, 2, 5};

	for (uint64_t ten = 1;; ten *= 10) {
		for (size_t i = 0; i < ARRAY_SIZE(factors); i++) {
			if (span / (ten * factors[i]) <= 10)
				return ten * factors[i];
		}
	}
}

static void put_axis(const struct wfplan *p)
{
	const struct runstat *s = p->w->stat;
	uint64_t step = step_of(s->to_us - s->from_us);
	uint64_t t = (s->from_us - s->start_us + step - 1) / step * step;
	int bottom = height_of(p) - FOOT_H + 4;

	for (; t <= s->to_us - s->start_us; t += step) {
		double x = x_of(p, s->start_us + t);

		(void)fprintf(p->f,
			      "<path class=\"g\" d=\"M%.1f %dV%d\"/><text "
			      "class=\"m\" x=\"%.1f\" y=\"%d\" "
			      "text-anchor=\"middle\">",
			      x, AXIS_Y + 4, bottom, x, AXIS_Y);
		if (step >= 100000)
			(void)fprintf(p->f, "%.10g s", (double)t / 1e6);
		else
			(void)fprintf(p->f, "%.10g ms", (double)t / 1e3);
		(void)fputs("</text>\n", p->f);
	}
}

/* ---- rows ----------------------------------------------------------------- */

/**
 * struct stroke - bars of a row that are too near to each other are one
 * @worst:	the longest of them
 */
struct stroke {
	double x0, x1;
	bool any;
	const struct evlog_item *worst;
	uint32_t n;
};

static void put_titled(const struct wfplan *p, const struct stroke *s, double y,
		       enum bar bar)
{
	const struct evlog_item *x = s->worst;
	static const char *const met[EVLOG_CLASS_N_] = {
		"was not asked for before", "met its read-ahead",
		"met its prefetch", "met the background",
		"met the table of contents"};
	char t[TEXT_TIME_BYTES];

	(void)fprintf(p->f,
		      "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" "
		      "width=\"%.1f\" height=\"%d\"><title>",
		      bars[bar].css, s->x0, y, s->x1 - s->x0, BAR_H);
	put_text(p, p->w->log->files[x->file]->path, KIB(4));
	(void)fprintf(p->f,
		      "\n%s %s at %.3f s: %" PRIu64 " bytes from %" PRIu64
		      ", %s",
		      x->how == EVLOG_ERROR ? "failed after" : "waited",
		      text_time(x->us, t),
		      (double)(wfplan_start(x) - p->w->stat->start_us) / 1e6,
		      x->len, x->off, met[x->class_]);
	if (s->n > 1)
		(void)fprintf(p->f, ", and %u more", s->n - 1);
	(void)fputs("</title></rect>\n", p->f);
}

static void put_stroke(const struct wfplan *p, struct stroke *s, double y,
		       double h, enum bar bar, bool titled)
{
	if (!s->any)
		return;
	s->any = false;
	if (titled)
		put_titled(p, s, y, bar);
	else
		(void)fprintf(p->f, "M%.1f %.1fh%.1fv%.1fh-%.1fz", s->x0, y,
			      s->x1 - s->x0, h, s->x1 - s->x0);
}

/* Which of the bars are drawn now: of a row, a kind, titled or not. */
struct pick {
	enum bar bar;
	bool titled;
	double y;
	double h;
};

/* One bar more; what it does not touch is drawn. */
static void add_bar(const struct wfplan *p, struct stroke *s,
		    const struct evlog_item *x, const struct pick *k)
{
	double a = x_of(p, wfplan_start(x)),
	       z = MAX(x_of(p, x->end_us), a + 1.6);

	a = MIN(a, PLOT_R - 1.6);
	z = MIN(z, (double)PLOT_R);
	if (s->any && a > s->x1 + 0.3)
		put_stroke(p, s, k->y, k->h, k->bar, k->titled);
	if (!s->any)
		*s = (struct stroke){.x0 = a, .x1 = z, .any = true, .worst = x};
	s->x1 = MAX(s->x1, z);
	s->n++;
	if (x->us > s->worst->us)
		s->worst = x;
}

static bool is_titled(const struct wfplan *p, const struct evlog_item *x)
{
	return x->kind == EVLOG_READ && x->how != EVLOG_HIT &&
	       x->us >= p->threshold_us;
}

/* The bars of one kind, of items [@v, @v + @n). */
static void put_bars(const struct wfplan *p, const uint32_t *v, uint32_t n,
		     const struct pick *k)
{
	struct stroke s = {0};
	bool open = false;

	for (uint32_t i = 0; i < n; i++) {
		const struct evlog_item *x = &p->w->log->items[v[i]];

		if (bar_of(x) != k->bar || is_titled(p, x) != k->titled)
			continue;
		if (!open && !k->titled)
			(void)fprintf(p->f, "<path class=\"%s\" d=\"",
				      bars[k->bar].css);
		open = true;
		add_bar(p, &s, x, k);
	}
	put_stroke(p, &s, k->y, k->h, k->bar, k->titled);
	if (open && !k->titled)
		(void)fputs("\"/>\n", p->f);
}

static void put_row(const struct wfplan *p, const struct wfrow *r, int y,
		    const uint32_t *v, uint32_t n)
{
	static const enum bar kinds[] = {BAR_HIT, BAR_WAIT, BAR_ERROR};
	char t[TEXT_TIME_BYTES];

	(void)fprintf(p->f, "<g><text class=\"c\" x=\"%d\" y=\"%d\">",
		      MARGIN + 8, y + 12);
	if (r->file == UINT32_MAX)
		(void)fprintf(p->f, "%" PRIu64 " more file%s", r->files,
			      r->files == 1 ? "" : "s");
	else
		put_text(p, p->w->log->files[r->file]->path, LABEL_CHARS);
	(void)fputs("<title>", p->f);
	if (r->file != UINT32_MAX)
		put_text(p, p->w->log->files[r->file]->path, KIB(4));
	(void)fprintf(p->f,
		      "\n%" PRIu64 " reads, %" PRIu64
		      " waited</title></text><path class=\"l\" "
		      "d=\"M%.1f %.1fH%.1f\"/>\n",
		      r->reads, r->waits, x_of(p, r->first_us), y + 8.5,
		      x_of(p, r->last_us));
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		bool hit = kinds[i] == BAR_HIT;
		struct pick k = {kinds[i], false, y + (hit ? 5.5 : 3.5),
				 hit ? 6 : BAR_H};

		put_bars(p, v, n, &k);
		k.titled = true;
		put_bars(p, v, n, &k);
	}
	if (r->wait_us > 0)
		(void)fprintf(p->f,
			      "<text class=\"wm\" x=\"%d\" y=\"%d\" "
			      "text-anchor=\"end\">%s</text>\n",
			      WIDTH - MARGIN, y + 12, text_time(r->wait_us, t));
	(void)fputs("</g>\n", p->f);
}

static void put_group(const struct wfplan *p, const struct wfgroup *g, int y,
		      const uint32_t *v, uint32_t n)
{
	const struct evlog_layer *l = &p->w->log->layers[g->layer];
	char a[PROGRESS_SIZE_BYTES], b[PROGRESS_SIZE_BYTES];

	(void)fprintf(p->f,
		      "<rect class=\"z\" x=\"%d\" y=\"%d\" width=\"%d\" "
		      "height=\"%d\" rx=\"3\"/><text class=\"t\" x=\"%d\" "
		      "y=\"%d\">Layer ",
		      MARGIN, y + 4, WIDTH - 2 * MARGIN, GROUP_H - 6,
		      MARGIN + 8, y + 18);
	if (l->number >= 0)
		(void)fprintf(p->f, "%d", l->number);
	else
		put_text(p, l->id, EVLOG_ID);
	(void)fprintf(p->f,
		      "</text><text class=\"m\" x=\"%d\" y=\"%d\" "
		      "text-anchor=\"end\">%s",
		      PLOT_X - 14, y + 18, progress_size(g->fetched, a));
	if (l->bytes > 0)
		(void)fprintf(p->f, " of %s", progress_size(l->bytes, b));
	(void)fputs("</text>\n", p->f);
	/* What is wanted most is drawn last. */
	for (int i = EVLOG_CLASS_N_ - 1; i >= 0; i--) {
		const struct pick k = {BAR_DEMAND + (unsigned)i, false, y + 8.0,
				       GROUP_H - 14};

		put_bars(p, v, n, &k);
	}
}

/* Items by the row, or the group's head, that they are drawn in. */
static int sort_items(const struct wfplan *p, uint32_t **ret,
		      uint32_t **ret_begin)
{
	const struct runstat *s = p->w->stat;
	uint32_t places = p->n_rows + p->n_groups;
	CLEANUP_FREE uint32_t *v = calloc((size_t)s->n_items + 1, sizeof(*v));
	CLEANUP_FREE uint32_t *at = calloc((size_t)s->n_items + 1, sizeof(*at));
	uint32_t *begin = calloc((size_t)places + 2, sizeof(*begin));

	if (v == NULL || at == NULL || begin == NULL) {
		free(begin);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < s->n_items; i++) {
		const struct evlog_item *x = wfplan_item(p, i);

		at[i] = places;
		if (!runstat_counts(s, x))
			continue;
		if (x->kind == EVLOG_READ)
			at[i] = p->row_of[x->file];
		else if (p->group_of[x->layer] != UINT32_MAX)
			at[i] = p->n_rows + p->group_of[x->layer];
	}
	for (uint32_t i = 0; i < s->n_items; i++)
		begin[at[i] + 1]++;
	for (uint32_t i = 0; i <= places; i++)
		begin[i + 1] += begin[i];
	for (uint32_t i = 0; i < s->n_items; i++)
		v[begin[at[i]]++] = s->items[i];
	/* Each has moved to where the next begins. */
	memmove(begin + 1, begin, (places + 1) * sizeof(*begin));
	begin[0] = 0;
	*ret = TAKE_PTR(v);
	*ret_begin = begin;
	return 0;
}

static int put_groups(const struct wfplan *p)
{
	CLEANUP_FREE uint32_t *v = NULL;
	CLEANUP_FREE uint32_t *begin = NULL;
	int y = ROWS_Y, r = sort_items(p, &v, &begin);

	for (uint32_t g = 0; r == 0 && g < p->n_groups; g++) {
		const struct wfgroup *gr = &p->groups[g];
		uint32_t k = p->n_rows + g;

		put_group(p, gr, y, v + begin[k], begin[k + 1] - begin[k]);
		y += GROUP_H;
		for (uint32_t i = gr->row; i < gr->row + gr->n; i++) {
			put_row(p, &p->rows[i], y, v + begin[i],
				begin[i + 1] - begin[i]);
			y += ROW_H;
		}
	}
	return r;
}

/* ---- all of it ------------------------------------------------------------ */

static int put_svg(const struct wfplan *p)
{
	int h = height_of(p), r;

	(void)fprintf(p->f,
		      "<svg xmlns=\"http://www.w3.org/2000/svg\" "
		      "viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\">\n"
		      "<style>\n%s</style>\n<rect class=\"bg\" width=\"%d\" "
		      "height=\"%d\"/>\n",
		      WIDTH, h, WIDTH, h, style, WIDTH, h);
	put_head(p);
	put_rate(p);
	put_axis(p);
	r = put_groups(p);
	(void)fprintf(p->f,
		      "<text class=\"m\" x=\"%d\" y=\"%d\">estargz trace: "
		      "time across, files down in the order of their first "
		      "read; in red at the right, how long reads of the file "
		      "waited</text>\n</svg>\n",
		      MARGIN, h - 12);
	return r;
}

static int begin(struct wfplan *p, const struct waterfall *w, FILE *to)
{
	const struct runstat *s = w->stat;
	int r = wfplan_make(p, w);

	p->f = to;
	p->px_per_us = (double)PLOT_W /
		       (double)MAX(s->to_us - s->from_us, UINT64_C(1));
	return r;
}

int waterfall_svg(const struct waterfall *w, FILE *to)
{
	struct wfplan p;
	int r = begin(&p, w, to);

	if (r < 0)
		return r;
	r = put_svg(&p);
	wfplan_done(&p);
	return r;
}

static void put_waits(const struct wfplan *p)
{
	const struct runstat *s = p->w->stat;
	const struct evlog *l = p->w->log;
	static const char *const met[EVLOG_CLASS_N_] = {
		"nothing: fetched on demand", "its read-ahead", "its prefetch",
		"the background", "the table of contents"};
	char a[TEXT_TIME_BYTES], b[TEXT_TIME_BYTES];

	(void)fputs("<h2>Longest waits</h2>\n<table><tr><th>waited<th>at"
		    "<th>met<th>layer<th>file<th>offset<th>bytes</tr>\n",
		    p->f);
	for (uint32_t i = 0; i < MIN(s->n_waits, p->w->top); i++) {
		const struct evlog_item *x = &l->items[s->waits[i]];

		(void)fprintf(
			p->f, "<tr><td>%s<td>%s<td>%s<td>", text_time(x->us, a),
			text_time(wfplan_start(x) - s->start_us, b),
			x->how == EVLOG_ERROR ? "an error" : met[x->class_]);
		if (l->layers[x->layer].number >= 0)
			(void)fprintf(p->f, "%d", l->layers[x->layer].number);
		else
			put_text(p, l->layers[x->layer].id, EVLOG_ID);
		(void)fputs("<td><code>", p->f);
		put_text(p, l->files[x->file]->path, KIB(4));
		(void)fprintf(p->f,
			      "</code><td>%" PRIu64 "<td>%" PRIu64 "</tr>\n",
			      x->off, x->len);
	}
	(void)fputs("</table>\n", p->f);
}

int waterfall_html(const struct waterfall *w, FILE *to)
{
	struct wfplan p;
	int r = begin(&p, w, to);

	if (r < 0)
		return r;
	(void)fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta "
		    "charset=\"utf-8\"><meta name=\"color-scheme\" "
		    "content=\"light dark\"><title>",
		    to);
	put_text(&p, w->title != NULL ? w->title : "estargz trace", 200);
	(void)fputs("</title>\n<style>body{margin:0 "
		    "auto;max-width:1240px;font:14px system-ui,sans-serif;"
		    "background:#fff;color:#1f2328}svg{width:100%;height:auto}"
		    "h2{font-size:16px;margin:20px 24px 8px}table{margin:0 "
		    "24px 32px;border-collapse:collapse}td,th{padding:3px "
		    "14px 3px 0;text-align:left;vertical-align:top;"
		    "overflow-wrap:anywhere}th{font-weight:600}"
		    "svg g:hover .l{stroke-width:3}"
		    "@media (prefers-color-scheme:dark){body{background:"
		    "#0d1117;color:#e6edf3}}</style></head><body>\n",
		    to);
	r = put_svg(&p);
	put_waits(&p);
	(void)fputs("</body></html>\n", to);
	wfplan_done(&p);
	return r;
}
