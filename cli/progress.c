/* SPDX-License-Identifier: Apache-2.0 */
/* Progress on standard error. */
#include "config.h"

#include "cli/progress.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/buf.h"
#include "common/io.h"

#define DRAW_EVERY_NS (100 * NSEC_PER_MSEC)
#define JSON_EVERY_NS NSEC_PER_SEC
#define NAME_BYTES 32u
#define BAR_COLUMNS_MAX 40u
#define TEXT_BYTES_MAX KIB(64)
#define JSON_BYTES_MAX KIB(128) /* of 16 KiB, with what it takes to write it */

/**
 * struct item - something that takes its time
 * @phase:	NULL before the first and after the last
 * @told_ns:	when a JSON line of it was last written
 */
struct item {
	char name[NAME_BYTES];
	const char *phase;
	uint64_t at;
	uint64_t total;
	uint64_t told_ns;
};

/**
 * struct progress - what is shown
 * @n_drawn:	lines of bars above the cursor, which the next drawing replaces
 */
struct progress {
	pthread_mutex_t lock;
	enum progress_mode mode;
	bool bars;
	int fd;
	struct item *items;
	size_t n;
	unsigned n_drawn;
	uint64_t drawn_ns;
};

int progress_mode_parse(const char *s, enum progress_mode *ret)
{
	static const char *const names[] = {
		[PROGRESS_AUTO] = "auto",
		[PROGRESS_PLAIN] = "plain",
		[PROGRESS_JSON] = "json",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(s, names[i]) == 0) {
			*ret = (enum progress_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

int progress_new(enum progress_mode mode, int fd, struct progress **ret)
{
	struct progress *p = calloc(1, sizeof(*p));
	const char *term = getenv("TERM");

	if (p == NULL)
		return -ENOMEM;
	p->mode = mode;
	p->fd = fd;
	p->bars = mode == PROGRESS_AUTO && isatty(fd) &&
		  (term == NULL || strcmp(term, "dumb") != 0);
	(void)pthread_mutex_init(&p->lock, NULL);
	*ret = p;
	return 0;
}

void progress_free(struct progress *p)
{
	if (p == NULL)
		return;
	(void)pthread_mutex_destroy(&p->lock);
	free(p->items);
	free(p);
}

char *progress_size(uint64_t bytes, char *buf)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
	double v = (double)bytes / 1024;
	size_t i = 0;

	if (bytes < 1024) {
		(void)snprintf(buf, PROGRESS_SIZE_BYTES, "%" PRIu64 " B",
			       bytes);
		return buf;
	}
	/* 1023.95 would be printed as 1024.0. */
	while (v >= 1023.95 && i + 1 < ARRAY_SIZE(units)) {
		v /= 1024;
		i++;
	}
	(void)snprintf(buf, PROGRESS_SIZE_BYTES, "%.1f %s", v, units[i]);
	return buf;
}

/* ---- bars -------------------------------------------------------------- */

static void window(const struct progress *p, unsigned *cols, unsigned *rows)
{
	struct winsize w = {0};

	(void)ioctl(p->fd, TIOCGWINSZ, &w);
	*cols = w.ws_col > 0 ? w.ws_col : 80;
	*rows = w.ws_row > 0 ? w.ws_row : 24;
}

/* A line that fits: on the last column some terminals wrap. */
static void add_line(struct buf *b, const char *line, unsigned cols)
{
	(void)buf_addf(b, "%.*s\033[K\n", (int)(cols - 1), line);
}

static void add_bar(struct buf *b, const struct item *it, unsigned cols)
{
	char at[PROGRESS_SIZE_BYTES], total[PROGRESS_SIZE_BYTES];
	char bar[BAR_COLUMNS_MAX + 1], line[256];
	/* Of an input that grows, or is longer than its manifest says. */
	uint64_t done = MIN(it->at, it->total);
	unsigned width = cols > 60 ? MIN(cols - 60, BAR_COLUMNS_MAX) : 0;
	unsigned full;

	progress_size(it->at, at);
	progress_size(it->total, total);
	if (it->total == 0) {
		(void)snprintf(line, sizeof(line), "%s  %-10s %s", it->name,
			       it->phase, at);
	} else if (width < 8) {
		(void)snprintf(line, sizeof(line), "%s  %-10s %3.0f %%",
			       it->name, it->phase,
			       100.0 * (double)done / (double)it->total);
	} else {
		full = (unsigned)((double)width * (double)done /
				  (double)it->total);
		full = MIN(full, width);
		memset(bar, '=', full);
		memset(bar + full, ' ', width - full);
		bar[width] = '\0';
		(void)snprintf(line, sizeof(line), "%s  %-10s [%s] %s / %s",
			       it->name, it->phase, bar, at, total);
	}
	add_line(b, line, cols);
}

/* Replaces the bars by @line, if there is one, and the bars of now. */
static void draw(struct progress *p, const char *line)
{
	CLEANUP_BUF struct buf b = BUF_INIT(TEXT_BYTES_MAX);
	unsigned cols, rows, n = 0;

	window(p, &cols, &rows);
	if (p->n_drawn > 0)
		(void)buf_addf(&b, "\r\033[%uA", p->n_drawn);
	/* It stays: it may wrap. What is behind it, is no more. */
	if (line != NULL)
		(void)buf_addf(&b, "\033[J%s\n", line);
	for (size_t i = 0; i < p->n && n + 1 < rows; i++) {
		if (p->items[i].phase == NULL)
			continue;
		add_bar(&b, &p->items[i], cols);
		n++;
	}
	(void)buf_add_str(&b, "\033[J");
	p->n_drawn = n;
	p->drawn_ns = io_now_ns();
	(void)io_write_all(p->fd, b.p, b.len);
}

/* ---- lines ------------------------------------------------------------- */

static void tell(struct progress *p, const char *line)
{
	CLEANUP_BUF struct buf b = BUF_INIT(TEXT_BYTES_MAX);

	if (p->bars) {
		draw(p, line);
		return;
	}
	if (buf_addf(&b, "%s\n", line) == 0)
		(void)io_write_all(p->fd, b.p, b.len);
}

static void tell_json(struct progress *p, struct item *it)
{
	CLEANUP_BUF struct buf b = BUF_INIT(TEXT_BYTES_MAX);

	it->told_ns = io_now_ns();
	if (buf_add_str(&b, "{\"layer\":") == 0 &&
	    buf_add_json_str(&b, it->name) == 0 &&
	    buf_addf(&b,
		     ",\"phase\":\"%s\",\"bytes\":%" PRIu64
		     ",\"total\":%" PRIu64 "}\n",
		     it->phase, it->at, it->total) == 0)
		(void)io_write_all(p->fd, b.p, b.len);
}

void progress_json(int fd, const char *key, const char *text)
{
	CLEANUP_BUF struct buf b = BUF_INIT(JSON_BYTES_MAX);

	if (buf_addf(&b, "{\"%s\":", key) == 0 &&
	    buf_add_json_str(&b, text) == 0 && buf_add_str(&b, "}\n") == 0)
		(void)io_write_all(fd, b.p, b.len);
}

static void tell_json_end(struct progress *p, const struct item *it,
			  const char *text)
{
	CLEANUP_BUF struct buf b = BUF_INIT(TEXT_BYTES_MAX);
	int r = buf_add_str(&b, "{\"layer\":");

	if (r == 0)
		r = buf_add_json_str(&b, it->name);
	if (r == 0)
		r = buf_add_str(&b, ",\"phase\":\"done\",\"text\":");
	if (r == 0)
		r = buf_add_json_str(&b, text);
	if (r == 0 && buf_add_str(&b, "}\n") == 0)
		(void)io_write_all(p->fd, b.p, b.len);
}

void progress_say(struct progress *p, const char *fmt, ...)
{
	char *line;
	va_list ap;
	int n;

	if (p == NULL || p->mode == PROGRESS_QUIET)
		return;
	va_start(ap, fmt);
	n = vasprintf(&line, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	err_sanitize(line);
	(void)pthread_mutex_lock(&p->lock);
	if (p->mode == PROGRESS_JSON)
		progress_json(p->fd, "message", line);
	else
		tell(p, line);
	(void)pthread_mutex_unlock(&p->lock);
	free(line);
}

/* ---- items ------------------------------------------------------------- */

/* Where there is no memory, it is not shown. */
size_t progress_add(struct progress *p, const char *name, uint64_t total)
{
	struct item *items;
	size_t i = SIZE_MAX;

	if (p == NULL)
		return i;
	(void)pthread_mutex_lock(&p->lock);
	items = reallocarray(p->items, p->n + 1, sizeof(*items));
	if (items != NULL) {
		p->items = items;
		i = p->n++;
		items[i] = (struct item){.total = total};
		(void)snprintf(items[i].name, NAME_BYTES, "%s", name);
	}
	(void)pthread_mutex_unlock(&p->lock);
	return i;
}

void progress_phase(struct progress *p, size_t item, const char *phase,
		    uint64_t total)
{
	if (p == NULL || item == SIZE_MAX)
		return;
	(void)pthread_mutex_lock(&p->lock);
	p->items[item].phase = phase;
	p->items[item].at = 0;
	p->items[item].total = total;
	if (p->mode == PROGRESS_JSON)
		tell_json(p, &p->items[item]);
	else if (p->bars)
		draw(p, NULL);
	(void)pthread_mutex_unlock(&p->lock);
}

void progress_at(struct progress *p, size_t item, uint64_t bytes)
{
	struct item *it;
	uint64_t now;

	if (p == NULL || item == SIZE_MAX)
		return;
	(void)pthread_mutex_lock(&p->lock);
	/* Not before what others have drawn. */
	now = io_now_ns();
	it = &p->items[item];
	it->at = bytes;
	if (p->mode == PROGRESS_JSON && now - it->told_ns >= JSON_EVERY_NS)
		tell_json(p, it);
	else if (p->bars && now - p->drawn_ns >= DRAW_EVERY_NS)
		draw(p, NULL);
	(void)pthread_mutex_unlock(&p->lock);
}

void progress_end(struct progress *p, size_t item, const char *how)
{
	CLEANUP_FREE char *line = NULL;

	if (p == NULL || item == SIZE_MAX)
		return;
	(void)pthread_mutex_lock(&p->lock);
	p->items[item].phase = NULL;
	if (how != NULL &&
	    asprintf(&line, "%s  %s", p->items[item].name, how) < 0)
		line = NULL;
	if (p->mode == PROGRESS_JSON)
		tell_json_end(p, &p->items[item], how != NULL ? how : "");
	else if (p->bars)
		draw(p, line);
	else if (p->mode != PROGRESS_QUIET && line != NULL)
		tell(p, line);
	(void)pthread_mutex_unlock(&p->lock);
}
