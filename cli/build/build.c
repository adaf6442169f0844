/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/build/build.h"

#include <inttypes.h>
#include <string.h>

#include "cli/build/compress.h"
#include "cli/build/input.h"
#include "cli/build/order.h"
#include "cli/build/tar.h"
#include "cli/build/write.h"
#include "common/io.h"
#include "common/limits.h"

#define CHUNK_BYTES_MIN KIB(4)
#define MAX_BYTES_DEFAULT (UINT64_C(1) << 40)

/**
 * struct build - a conversion
 * @o:		with every default filled in
 * @spool:	the uncompressed tar, @spool_bytes of it; -EBADF: there is none
 * @pos:	where it is read next
 * @total:	bytes of the entries, expanded
 */
struct build {
	struct build_opts o;
	struct input *in;
	int spool;
	uint64_t spool_bytes;
	uint64_t pos;
	uint64_t total;
	struct order order;
};

static void build_done(struct build *b)
{
	input_free(b->in);
	order_done(&b->order);
	if (b->spool >= 0)
		(void)close(b->spool);
}

static int options(struct build_opts *o, struct err *e)
{
	if (o->chunk_bytes == 0)
		o->chunk_bytes = BUILD_CHUNK_BYTES_DEFAULT;
	if (o->level == 0)
		o->level = BUILD_LEVEL_DEFAULT;
	if (o->max_bytes == 0)
		o->max_bytes = MAX_BYTES_DEFAULT;
	if (o->chunk_bytes < CHUNK_BYTES_MIN ||
	    o->chunk_bytes > CHUNK_ONESHOT_BYTES_MAX)
		return err_set(e, -EINVAL, "chunks may have 4 KiB to 16 MiB");
	if (o->min_chunk_bytes > CHUNK_ONESHOT_BYTES_MAX)
		return err_set(e, -EINVAL,
			       "the least size of a chunk is 16 MiB at most");
	if (o->level < 1 || o->level > COMP_LEVEL_MAX)
		return err_set(e, -EINVAL, "compression levels are 1 to 9");
	assert(o->jobs >= 1);
	return 0;
}

/* The input, which is spooled as it passes where there is a second reading. */
static ssize_t read_input(void *arg, void *p, size_t n, struct err *e)
{
	struct build *b = arg;
	ssize_t got = input_read(b->in, p, n, e);
	int r;

	if (got <= 0 || b->spool < 0)
		return got;
	r = io_write_all(b->spool, p, (size_t)got);
	if (r < 0)
		return err_set(e, r, "temporary file: %s", err_name(r));
	b->spool_bytes += (uint64_t)got;
	return got;
}

/* The spool, for the second one. */
static ssize_t read_spool(void *arg, void *p, size_t n, struct err *e)
{
	struct build *b = arg;
	int r;

	n = (size_t)MIN((uint64_t)n, b->spool_bytes - b->pos);
	if (n == 0)
		return 0;
	r = io_pread_all(b->spool, p, n, b->pos);
	if (r < 0)
		return err_set(e, r, "temporary file: %s", err_name(r));
	b->pos += n;
	return (ssize_t)n;
}

/* What an earlier conversion has added. */
static bool is_ours(const struct tar_entry *x)
{
	static const char *const names[] = {TOC_LANDMARK_NAME,
					    TOC_NO_LANDMARK_NAME, TOC_TAR_NAME};

	for (size_t i = 0; x->type != 0 && i < ARRAY_SIZE(names); i++) {
		if (strcmp(x->name, names[i]) == 0)
			return true;
	}
	return false;
}

/* Holes count as what they become. */
static int count(struct build *b, const struct tar_entry *x, struct err *e)
{
	if (x->head_len > b->o.max_bytes - b->total ||
	    x->size > b->o.max_bytes - b->total - x->head_len)
		return err_set(e, -EOVERFLOW,
			       "layer: more than %" PRIu64
			       " bytes uncompressed",
			       b->o.max_bytes);
	b->total += x->head_len + x->size;
	return 0;
}

static int note(struct build *b, const struct tar_entry *x, struct err *e)
{
	uint64_t end = x->data_off + ALIGN_UP(x->data_len, TAR_BLOCK_BYTES);
	int r = count(b, x, e);

	if (r < 0)
		return r;
	r = order_add(&b->order, x, end);
	if (r == -EOVERFLOW)
		return err_set(e, r, "layer: more than %u entries",
			       TOC_ENTRIES_MAX);
	return r < 0 ? err_no_memory(e) : 0;
}

/* What is behind the tar is hashed, as it is part of the layer, and dropped. */
static int drain(struct build *b, const struct tar *t, struct err *e)
{
	uint8_t buf[KIB(16)];
	ssize_t r;

	do
		r = input_read(b->in, buf, sizeof(buf), e);
	while (r > 0);
	if (r < 0)
		return (int)r;
	if (input_trailing(b->in) && !tar_ended(t))
		return err_set(e, -EBADMSG,
			       "layer: the gzip data ends before the tar does");
	return 0;
}

static int scan(struct build *b, struct err *e)
{
	const struct build_in in = {read_input, b};
	CLEANUP(tar_free_cleanup) struct tar *t = tar_new(&in);
	struct tar_entry x;
	int r;

	if (t == NULL)
		return err_no_memory(e);
	while ((r = tar_next(t, &x, e)) > 0) {
		r = is_ours(&x) ? 0 : note(b, &x, e);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : drain(b, t, e);
}

static int arrange(struct build *b, struct err *e)
{
	CLEANUP_FREE const char **paths = NULL;
	size_t n;
	int r;

	r = order_sort(&b->order);
	if (r == 0 && b->o.choose != NULL) {
		r = order_paths(&b->order, &paths, &n);
		if (r < 0)
			return err_no_memory(e);
		r = b->o.choose(b->o.choose_arg, paths, n, &b->o.wanted,
				&b->o.n_wanted, e);
		if (r < 0)
			return r;
	}
	if (r == 0)
		r = order_front(&b->order, b->o.wanted, b->o.n_wanted);
	return r < 0 ? err_no_memory(e) : 0;
}

/* Entry number i is read again, and written. */
static int emit(struct build *b, struct tar *t, struct writer *w, size_t i,
		uint64_t *at, struct err *e)
{
	const struct order_entry *o = &b->order.e[i];
	struct tar_entry x;
	int r;

	if (*at != o->head_off) {
		b->pos = o->head_off;
		tar_seek(t, o->head_off);
	}
	r = tar_next(t, &x, e);
	if (r == 0)
		r = err_set(e, -EIO, "temporary file: it has changed");
	if (r < 0)
		return r;
	*at = o->end;
	return writer_entry(
		w, t, &x,
		o->wanted != ORDER_NONE ? &b->o.wanted[o->wanted] : NULL, e);
}

static int emit_all(struct build *b, struct writer *w, struct err *e)
{
	const struct build_in in = {read_spool, b};
	CLEANUP(tar_free_cleanup) struct tar *t = tar_new(&in);
	struct order *o = &b->order;
	uint64_t at = 0;
	int r = 0;

	if (t == NULL)
		return err_no_memory(e);
	for (size_t i = 0; r == 0 && i < o->n_front; i++)
		r = emit(b, t, w, o->front[i], &at, e);
	if (r == 0)
		r = writer_landmark(w,
				    o->n_front > 0 ? TOC_LANDMARK_NAME
						   : TOC_NO_LANDMARK_NAME,
				    e);
	for (size_t i = 0; r == 0 && i < o->n; i++) {
		if (!o->e[i].front)
			r = emit(b, t, w, i, &at, e);
	}
	return r;
}

/* In two readings: all entries are known before the first is written. */
static int reorder(struct build *b, int out_fd, struct writer **ret,
		   struct err *e)
{
	int r;

	b->spool = io_open_temp(b->o.tmp_dir, e);
	if (b->spool < 0)
		return b->spool;
	r = scan(b, e);
	if (r == 0)
		r = arrange(b, e);
	if (r == 0)
		r = writer_new(&b->o, out_fd, b->total, ret, e);
	return r == 0 ? emit_all(b, *ret, e) : r;
}

/* In one: they stay in their order. */
static int stream(struct build *b, int out_fd, struct writer **ret,
		  struct err *e)
{
	const struct build_in in = {read_input, b};
	CLEANUP(tar_free_cleanup) struct tar *t = tar_new(&in);
	struct tar_entry x;
	int r;

	if (t == NULL)
		return err_no_memory(e);
	r = writer_new(&b->o, out_fd, 0, ret, e);
	if (r == 0)
		r = writer_landmark(*ret, TOC_NO_LANDMARK_NAME, e);
	if (r < 0)
		return r;
	while ((r = tar_next(t, &x, e)) > 0) {
		if (is_ours(&x))
			continue;
		r = count(b, &x, e);
		if (r == 0)
			r = writer_entry(*ret, t, &x, NULL, e);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : drain(b, t, e);
}

static int run(struct build *b, const struct build_in *in, int out_fd,
	       struct build_result *ret, struct err *e)
{
	CLEANUP(writer_free_cleanup) struct writer *w = NULL;
	int r = options(&b->o, e);

	if (r < 0)
		return r;
	b->in = input_new(in, &b->o);
	if (b->in == NULL)
		return err_no_memory(e);
	if (b->o.n_wanted == 0 && b->o.choose == NULL)
		r = stream(b, out_fd, &w, e);
	else
		r = reorder(b, out_fd, &w, e);
	if (r < 0)
		return r;
	ret->landmark = b->order.n_front > 0;
	/* Makes room for the TOC. */
	order_done(&b->order);
	r = writer_finish(w, ret, e);
	if (r < 0)
		return r;
	ret->in_bytes = input_bytes(b->in);
	input_digest(b->in, &ret->in_diff_id);
	return 0;
}

int build_layer(const struct build_in *in, const struct build_opts *o,
		int out_fd, struct build_result *ret, struct err *e)
{
	struct build_result res = {0};
	struct build b = {.o = *o, .spool = -EBADF};
	int r;

	order_init(&b.order);
	r = run(&b, in, out_fd, &res, e);
	build_done(&b);
	if (r < 0)
		return r;
	*ret = res;
	return 0;
}
