/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/evlog.h"

#include <errno.h>
#include <search.h>
#include <string.h>

#include "common/json.h"

#define BLOCK_BYTES KIB(64)

/* A line, before it is known what it is. Strings are in the line. */
struct line {
	const char *e;
	const char *l;
	const char *w;
	const char *c;
	const char *p;
	const char *layer;
	const char *toc;
	const char *source;
	bool has_t;
	bool has_number;
	uint64_t t, d, o, n, bo, bn, co, cn;
	uint64_t v, number, wall, chunks, bytes;
};

/* ---- one line ------------------------------------------------------------ */

static const char **string_of(struct line *x, const char *key)
{
	const struct {
		const char *key;
		const char **to;
	} all[] = {
		{"e", &x->e},     {"l", &x->l},           {"w", &x->w},
		{"c", &x->c},     {"p", &x->p},           {"layer", &x->layer},
		{"toc", &x->toc}, {"source", &x->source},
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		if (strcmp(key, all[i].key) == 0)
			return all[i].to;
	}
	return NULL;
}

static uint64_t *number_of(struct line *x, const char *key)
{
	const struct {
		const char *key;
		uint64_t *to;
	} all[] = {
		{"t", &x->t},         {"d", &x->d},
		{"o", &x->o},         {"n", &x->n},
		{"bo", &x->bo},       {"bn", &x->bn},
		{"co", &x->co},       {"cn", &x->cn},
		{"v", &x->v},         {"number", &x->number},
		{"wall", &x->wall},   {"chunks", &x->chunks},
		{"bytes", &x->bytes},
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		if (strcmp(key, all[i].key) == 0)
			return all[i].to;
	}
	return NULL;
}

/* The value of @key. Return: false: not as it should be */
static bool value(struct json *j, struct line *x, const char *key)
{
	const char **s = string_of(x, key);
	uint64_t *n = number_of(x, key);

	if (s == NULL && n == NULL)
		return json_skip(j) == 0;
	switch (json_next(j)) {
	case JSON_STRING:
		/* A path with a NUL is none. */
		if (s == NULL || strlen(j->str) != j->str_len)
			return false;
		*s = j->str;
		return true;
	case JSON_NUMBER:
		x->has_t = x->has_t || n == &x->t;
		x->has_number = x->has_number || n == &x->number;
		return n != NULL && json_u64(j, EVLOG_NUMBER_MAX, n) == 0;
	case JSON_ERROR:
	case JSON_END:
	case JSON_OBJECT:
	case JSON_OBJECT_END:
	case JSON_ARRAY:
	case JSON_ARRAY_END:
	case JSON_KEY:
	case JSON_TRUE:
	case JSON_FALSE:
	case JSON_NULL:
		break;
	}
	return false;
}

static bool parse(char *text, size_t len, struct line *ret)
{
	struct json j;
	enum json_tok tok;

	*ret = (struct line){0};
	json_start(&j, text, len);
	if (json_next(&j) != JSON_OBJECT)
		return false;
	while ((tok = json_next(&j)) == JSON_KEY) {
		if (!value(&j, ret, j.str))
			return false;
	}
	return tok == JSON_OBJECT_END && json_next(&j) == JSON_END &&
	       ret->has_t && ret->e != NULL && ret->l != NULL &&
	       strlen(ret->l) <= EVLOG_ID && ret->d <= ret->t &&
	       ret->d <= EVLOG_LENGTH_MAX && ret->n <= EVLOG_LENGTH_MAX &&
	       ret->bn <= EVLOG_LENGTH_MAX && ret->cn <= EVLOG_LENGTH_MAX;
}

/* Return: number in @names, @n where it is none of them */
static uint8_t one_of(const char *const *names, uint8_t n, const char *name)
{
	uint8_t i = 0;

	while (i < n && (name == NULL || strcmp(names[i], name) != 0))
		i++;
	return i;
}

static uint8_t class_of(const char *name)
{
	static const char *const names[EVLOG_CLASS_N_] = {
		[EVLOG_DEMAND] = "demand",
		[EVLOG_AHEAD] = "ahead",
		[EVLOG_PREFETCH] = "prefetch",
		[EVLOG_BACKGROUND] = "background",
		[EVLOG_TAIL] = "tail",
	};

	return one_of(names, EVLOG_CLASS_N_, name);
}

static uint8_t how_of(const char *name)
{
	static const char *const names[EVLOG_HOW_N_] = {
		[EVLOG_HIT] = "hit",
		[EVLOG_WAIT] = "wait",
		[EVLOG_ERROR] = "error",
	};

	return one_of(names, EVLOG_HOW_N_, name);
}

/* ---- what it adds to ------------------------------------------------------ */

/* The latest mount of a layer. */
struct latest {
	char id[EVLOG_ID + 1];
	uint32_t layer;
};

static int by_id(const void *a, const void *b)
{
	const struct latest *x = a, *y = b;

	return strcmp(x->id, y->id);
}

static struct latest key_of(const struct line *x)
{
	struct latest key = {.layer = 0};

	(void)stpncpy(key.id, x->l, EVLOG_ID);
	return key;
}

static int set_latest(struct evlog *l, const struct line *x, uint32_t layer)
{
	struct latest key = key_of(x);
	struct latest *const *found = tfind(&key, &l->ids, by_id);
	struct latest *fresh;

	if (found != NULL) {
		(*found)->layer = layer;
		return 0;
	}
	fresh = malloc(sizeof(*fresh));
	if (fresh == NULL)
		return -ENOMEM;
	*fresh = key;
	fresh->layer = layer;
	if (tsearch(fresh, &l->ids, by_id) != NULL)
		return 0;
	free(fresh);
	return -ENOMEM;
}

static int add_layer(struct evlog *l, const struct line *x, uint32_t *ret)
{
	struct evlog_layer *v;
	int r;

	if (l->n_layers >= EVLOG_LAYERS_MAX)
		return -EOVERFLOW;
	v = reallocarray(l->layers, l->n_layers + 1, sizeof(*v));
	if (v == NULL)
		return -ENOMEM;
	l->layers = v;
	r = set_latest(l, x, l->n_layers);
	if (r < 0)
		return r;
	v += l->n_layers;
	*v = (struct evlog_layer){.number = -1};
	(void)stpncpy(v->id, x->l, EVLOG_ID);
	*ret = l->n_layers++;
	return 0;
}

/* The latest mount of a layer, made up where there is none. */
static int layer_of(struct evlog *l, const struct line *x, uint32_t *ret)
{
	const struct latest key = key_of(x);
	struct latest *const *found = tfind(&key, &l->ids, by_id);

	if (found == NULL)
		return add_layer(l, x, ret);
	*ret = (*found)->layer;
	return 0;
}

static int add_mount(struct evlog *l, const struct line *x)
{
	struct evlog_layer *v;
	uint32_t i;
	int r = add_layer(l, x, &i);

	if (r < 0)
		return r;
	v = &l->layers[i];
	v->mount_us = x->t;
	v->wall_us = x->wall;
	v->chunks = x->chunks;
	v->bytes = x->bytes;
	if (x->has_number && x->number < EVLOG_LAYERS_MAX)
		v->number = (int)x->number;
	v->has_digest =
		x->layer != NULL &&
		digest_parse(x->layer, strlen(x->layer), &v->digest) == 0;
	v->has_toc_digest =
		x->toc != NULL &&
		digest_parse(x->toc, strlen(x->toc), &v->toc_digest) == 0;
	if (x->source != NULL) {
		v->source = strdup(x->source);
		if (v->source == NULL)
			return -ENOMEM;
	}
	return 0;
}

static int by_path(const void *a, const void *b)
{
	const struct evlog_file *x = a, *y = b;

	if (x->layer != y->layer)
		return x->layer < y->layer ? -1 : 1;
	return strcmp(x->path, y->path);
}

static void file_free(void *p)
{
	struct evlog_file *f = p;

	free(f->path);
	free(f);
}

static int grow(void *pp, uint32_t n, uint32_t *cap, size_t bytes)
{
	uint32_t more = MAX(*cap * 2, 1024u);
	void *p;

	if (n < *cap)
		return 0;
	p = reallocarray(*(void **)pp, more, bytes);
	if (p == NULL)
		return -ENOMEM;
	*(void **)pp = p;
	*cap = more;
	return 0;
}

static int add_file(struct evlog *l, const struct evlog_file *key,
		    uint32_t *ret)
{
	size_t bytes = strlen(key->path) + 1;
	struct evlog_file *f;
	int r = grow(&l->files, l->n_files, &l->cap_files, sizeof(*l->files));

	if (r < 0)
		return r;
	if (bytes > EVLOG_PATH_BYTES_MAX - l->path_bytes)
		return -EOVERFLOW;
	f = malloc(sizeof(*f));
	if (f == NULL)
		return -ENOMEM;
	*f = (struct evlog_file){
		.path = strdup(key->path),
		.layer = key->layer,
		.number = l->n_files,
	};
	if (f->path == NULL || tsearch(f, &l->tree, by_path) == NULL) {
		file_free(f);
		return -ENOMEM;
	}
	l->path_bytes += bytes;
	l->files[l->n_files++] = f;
	*ret = f->number;
	return 0;
}

static int file_of(struct evlog *l, const char *path, uint32_t layer,
		   uint32_t *ret)
{
	const struct evlog_file key = {
		.path = (char *)(uintptr_t)path,
		.layer = layer,
	};
	struct evlog_file *const *found = tfind(&key, &l->tree, by_path);

	if (found == NULL)
		return add_file(l, &key, ret);
	*ret = (*found)->number;
	return 0;
}

static int add_item(struct evlog *l, const struct line *x, uint8_t kind)
{
	struct evlog_item item = {
		.end_us = x->t,
		.us = x->d,
		.off = x->o,
		.len = x->n,
		.kind = kind,
		.class_ = class_of(x->c),
	};
	int r;

	if (l->n_items >= EVLOG_ITEMS_MAX)
		return -EOVERFLOW;
	if (kind == EVLOG_READ) {
		item.how = how_of(x->w);
		item.blob_off = x->bo;
		item.blob_len = x->bn;
		item.chunk_off = x->co;
		item.chunk_len = x->cn;
	}
	if (item.how == EVLOG_HOW_N_ ||
	    (kind == EVLOG_READ ? x->p == NULL
				: item.class_ == EVLOG_CLASS_N_)) {
		l->n_bad++;
		return 0;
	}
	if (item.class_ == EVLOG_CLASS_N_)
		item.class_ = EVLOG_DEMAND;
	r = layer_of(l, x, &item.layer);
	if (r == 0 && kind == EVLOG_READ)
		r = file_of(l, x->p, item.layer, &item.file);
	if (r == 0)
		r = grow(&l->items, l->n_items, &l->cap_items, sizeof(item));
	if (r == 0)
		l->items[l->n_items++] = item;
	return r;
}

static int add_end(struct evlog *l, const struct line *x)
{
	uint32_t i;
	int r = layer_of(l, x, &i);

	if (r == 0)
		l->layers[i].end_us = x->t;
	return r;
}

int evlog_line(struct evlog *l, char *line, size_t len)
{
	struct line x;

	if (len > EVLOG_LINE_BYTES_MAX || !parse(line, len, &x)) {
		l->n_bad++;
		return 0;
	}
	if (strcmp(x.e, "read") == 0)
		return add_item(l, &x, EVLOG_READ);
	if (strcmp(x.e, "fetch") == 0)
		return add_item(l, &x, EVLOG_FETCH);
	if (strcmp(x.e, "mount") == 0)
		return add_mount(l, &x);
	if (strcmp(x.e, "end") == 0)
		return add_end(l, &x);
	if (strcmp(x.e, "lost") == 0)
		l->lost = MIN(l->lost + x.n, EVLOG_NUMBER_MAX);
	return 0;
}

/* ---- all of them ---------------------------------------------------------- */

/**
 * lines() - the whole lines of @buf [@n]
 * @skip:	in the middle of one that is too long
 * @last:	nothing comes behind: what is left is a line, too
 *
 * Return: bytes used, -errno
 */
static ssize_t lines(struct evlog *l, char *buf, size_t n, bool *skip,
		     bool last)
{
	size_t at = 0;

	while (at < n) {
		char *end = memchr(buf + at, '\n', n - at);
		size_t len = end != NULL ? (size_t)(end - buf) - at : n - at;
		int r = 0;

		if (end == NULL && !last && len <= EVLOG_LINE_BYTES_MAX)
			break;
		if (!*skip && len > 0)
			r = evlog_line(l, buf + at, len);
		if (r < 0)
			return r;
		*skip = end == NULL;
		at += len + (end != NULL);
	}
	return (ssize_t)at;
}

int evlog_read(struct evlog *l, FILE *f, struct err *e)
{
	CLEANUP_FREE char *buf = malloc(BLOCK_BYTES);
	size_t have = 0, got = 1;
	bool skip = false;
	ssize_t used = buf != NULL ? 0 : -ENOMEM;

	while (used >= 0 && got > 0) {
		got = fread(buf + have, 1, BLOCK_BYTES - have, f);
		have += got;
		used = lines(l, buf, have, &skip, got == 0);
		if (used > 0) {
			have -= (size_t)used;
			memmove(buf, buf + used, have);
		}
	}
	if (used >= 0 && ferror(f))
		used = -EIO;
	if (used == -EOVERFLOW)
		return err_set(e, -EOVERFLOW,
			       "more than %u events, %u layers or %u MiB of "
			       "names",
			       EVLOG_ITEMS_MAX, EVLOG_LAYERS_MAX,
			       (unsigned)(EVLOG_PATH_BYTES_MAX >> 20));
	return used < 0 ? err_set(e, (int)used, "%s", err_name((int)used)) : 0;
}

void evlog_done(struct evlog *l)
{
	for (uint32_t i = 0; i < l->n_layers; i++)
		free(l->layers[i].source);
	tdestroy(l->tree, file_free);
	tdestroy(l->ids, free);
	free(l->layers);
	free(l->files);
	free(l->items);
	*l = (struct evlog){0};
}
