/* SPDX-License-Identifier: Apache-2.0 */
/* Converts layers, several at a time. */
#include "config.h"

#include "cli/layers.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "cli/reuse.h"
#include "common/io.h"

/* Layers at once: each has its chunks in memory, and one connection. */
#define AT_ONCE_MAX 4u
#define READ_BYTES KIB(128)

static atomic_bool stopped;

void layers_stop(void)
{
	atomic_store_explicit(&stopped, true, memory_order_relaxed);
}

bool layers_stopped(void)
{
	return atomic_load_explicit(&stopped, memory_order_relaxed);
}

/**
 * struct pool - what the threads share
 * @src_lock:	@src, but for blobs that are open
 * @lock:	@next, @code, @e
 * @order:	[@r->n_layers] the largest first, so that it is not alone at
 *		the end
 * @code:	of the first that failed; the others end then (@failed)
 */
struct pool {
	const struct transform_opts *o;
	struct wanted *wanted;
	struct transform_result *r;
	pthread_mutex_t src_lock;
	struct image_src *src;
	pthread_mutex_t lock;
	size_t next;
	size_t *order;
	sem_t slots;
	atomic_bool failed;
	int code;
	struct err *e;
};

static bool must_end(const struct pool *p)
{
	return layers_stopped() ||
	       atomic_load_explicit(&p->failed, memory_order_relaxed);
}

/* What a thread works at. */
struct task {
	struct pool *pool;
	struct transform_layer *l;
	struct image_read *in;
	uint64_t total;
};

static ssize_t read_in(void *arg, void *to, size_t n, struct err *e)
{
	struct task *t = arg;

	if (must_end(t->pool))
		return err_set(e, -EINTR, "interrupted");
	return image_read_some(t->in, to, n, e);
}

static int show(void *arg, uint64_t done, uint64_t total)
{
	struct task *t = arg;

	if (must_end(t->pool))
		return -EINTR;
	if (total != t->total) {
		t->total = total;
		progress_phase(t->pool->o->progress, t->l->item, "converting",
			       total);
	}
	progress_at(t->pool->o->progress, t->l->item, done);
	return 0;
}

static int open_in(struct task *t, struct err *e)
{
	struct pool *p = t->pool;
	int r;

	(void)pthread_mutex_lock(&p->src_lock);
	r = image_src_blob(p->src, &t->l->in, &t->in, e);
	(void)pthread_mutex_unlock(&p->src_lock);
	return r;
}

const char *layers_gzip_type(const char *was)
{
	static const char docker[] = "application/vnd.docker.";

	if (was != NULL && strncmp(was, docker, sizeof(docker) - 1) == 0)
		return "application/vnd.docker.image.rootfs.diff.tar.gzip";
	return "application/vnd.oci.image.layer.v1.tar+gzip";
}

static int converted(struct transform_layer *l, int fd, struct err *e)
{
	char *type = strdup(layers_gzip_type(l->in.media_type));

	if (type == NULL)
		return err_no_memory(e);
	l->out = (struct image_desc){.media_type = type,
				     .digest = l->built.blob,
				     .size = l->built.blob_bytes};
	l->fd = fd;
	l->has_toc = true;
	l->toc = l->built.toc;
	l->tail_bytes = l->built.tail_bytes;
	l->diff_id = l->built.diff_id;
	l->uncompressed_bytes = l->built.uncompressed_bytes;
	return 0;
}

static int build(struct task *t, size_t number, struct err *e)
{
	struct pool *p = t->pool;
	CLEANUP_WANTED_LAYER struct wanted_layer choice = {.wanted = p->wanted,
							   .layer = number};
	const struct build_in in = {.read = read_in, .arg = t};
	struct build_opts o = p->o->build;
	CLEANUP_CLOSE int fd = -EBADF;
	int r = open_in(t, e);

	if (r < 0)
		return r;
	o.slots = &p->slots;
	o.choose = wanted_choose;
	o.choose_arg = &choice;
	o.progress = show;
	o.progress_arg = t;
	fd = io_open_temp(o.tmp_dir, e);
	if (fd < 0)
		return fd;
	r = build_layer(&in, &o, fd, &t->l->built, e);
	if (r == 0)
		r = converted(t->l, fd, e);
	if (r == 0)
		(void)TAKE_FD(fd);
	return r;
}

/* Spools a blob of which only all of it can say that it is eStargz. */
static int spool(struct task *t, int *ret_fd, struct err *e)
{
	CLEANUP_CLOSE int fd = io_open_temp(t->pool->o->build.tmp_dir, e);
	CLEANUP_FREE uint8_t *block = malloc(READ_BYTES);
	int r;

	if (fd < 0)
		return fd;
	if (block == NULL)
		return err_no_memory(e);
	r = open_in(t, e);
	while (r == 0) {
		ssize_t n = read_in(t, block, READ_BYTES, e);

		if (n <= 0) {
			r = (int)n;
			break;
		}
		r = io_write_all(fd, block, (size_t)n);
		if (r < 0)
			(void)err_set(e, r, "temporary file: %s", err_name(r));
	}
	image_read_close(TAKE_PTR(t->in));
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Return: 1 the layer is eStargz and stays, 0 it is to be converted. */
static int keep(struct task *t, struct err *e)
{
	struct pool *p = t->pool;
	struct transform_layer *l = t->l;
	CLEANUP_CLOSE int fd = -EBADF;
	int r;

	if (!l->has_toc) {
		r = spool(t, &fd, e);
		if (r < 0)
			return r;
		r = reuse_check_file(fd, l, e);
	} else {
		(void)pthread_mutex_lock(&p->src_lock);
		r = reuse_check(p->src, l, e);
		(void)pthread_mutex_unlock(&p->src_lock);
	}
	if (r <= 0)
		return r;
	l->kept = true;
	return image_desc_copy(&l->in, &l->out) < 0 ? err_no_memory(e) : 1;
}

static void show_end(const struct task *t)
{
	char in[PROGRESS_SIZE_BYTES], out[PROGRESS_SIZE_BYTES];
	char toc[DIGEST_STR_BYTES], line[160];
	const struct transform_layer *l = t->l;

	progress_size(l->in.size, in);
	progress_size(l->out.size, out);
	digest_str(&l->toc, toc);
	if (l->kept)
		(void)snprintf(line, sizeof(line), "kept       %s, TOC %.19s",
			       in, toc);
	else
		(void)snprintf(line, sizeof(line),
			       "converted  %s -> %s, TOC %.19s, %.1f s", in,
			       out, toc, (double)l->ns / (double)NSEC_PER_SEC);
	progress_end(t->pool->o->progress, t->l->item, line);
}

static int one(struct pool *p, size_t number, struct err *e)
{
	struct task t = {.pool = p, .l = &p->r->layers[number]};
	uint64_t begun = io_now_ns();
	int r = 0;

	progress_phase(p->o->progress, t.l->item, "reading", t.l->in.size);
	if (p->o->reuse)
		r = keep(&t, e);
	if (r == 0)
		r = build(&t, number, e);
	else if (r > 0)
		wanted_kept(p->wanted, number);
	image_read_close(t.in);
	if (r < 0) {
		char digest[DIGEST_STR_BYTES];

		return err_wrap(e, "layer %s",
				digest_str(&t.l->in.digest, digest));
	}
	t.l->ns = io_now_ns() - begun;
	if (t.l->in.size == 0)
		t.l->in.size = t.l->built.in_bytes;
	show_end(&t);
	return 0;
}

static void *work(void *arg)
{
	struct pool *p = arg;

	for (;;) {
		struct err e = {0};
		size_t i;
		int r;

		(void)pthread_mutex_lock(&p->lock);
		i = p->next < p->r->n_layers && !must_end(p) ? p->next++
							     : SIZE_MAX;
		(void)pthread_mutex_unlock(&p->lock);
		if (i == SIZE_MAX)
			return NULL;
		r = one(p, p->order[i], &e);
		if (r == 0)
			continue;
		(void)pthread_mutex_lock(&p->lock);
		if (p->code == 0) {
			p->code = r;
			*p->e = e;
		}
		(void)pthread_mutex_unlock(&p->lock);
		atomic_store_explicit(&p->failed, true, memory_order_relaxed);
		return NULL;
	}
}

/* Insertion: there are few hundreds of them. */
static int plan(struct pool *p)
{
	struct transform_layer *v = p->r->layers;
	size_t n = p->r->n_layers;

	p->order = calloc(n + 1, sizeof(*p->order));
	if (p->order == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		char name[DIGEST_HEX_BYTES + 1];
		size_t k = i;

		digest_hex(&v[i].in.digest, name);
		name[12] = '\0';
		v[i].item = progress_add(p->o->progress, name, v[i].in.size);
		for (; k > 0 && v[p->order[k - 1]].in.size < v[i].in.size; k--)
			p->order[k] = p->order[k - 1];
		p->order[k] = i;
	}
	return 0;
}

static int run(struct pool *p, struct err *e)
{
	pthread_t threads[AT_ONCE_MAX];
	size_t n = 0, want = MIN(p->o->build.jobs, AT_ONCE_MAX);

	want = MIN(want, p->r->n_layers);
	for (; n < want; n++) {
		int r = pthread_create(&threads[n], NULL, work, p);

		if (r != 0 && n == 0)
			return err_set(e, -r, "thread: %s", err_name(r));
		if (r != 0)
			break;
	}
	while (n > 0)
		(void)pthread_join(threads[--n], NULL);
	if (layers_stopped())
		return err_set(e, -EINTR, "interrupted");
	return p->code;
}

int layers_convert(struct image_src *src, const struct transform_opts *o,
		   struct wanted *w, struct transform_result *r, struct err *e)
{
	struct err own = {0};
	struct pool p = {.o = o,
			 .wanted = w,
			 .r = r,
			 .src = src,
			 .lock = PTHREAD_MUTEX_INITIALIZER,
			 .src_lock = PTHREAD_MUTEX_INITIALIZER,
			 .e = e != NULL ? e : &own};
	int code;

	if (sem_init(&p.slots, 0, o->build.jobs) < 0)
		return err_set(e, -errno, "semaphore: %s", err_name(errno));
	code = plan(&p);
	if (code < 0)
		(void)err_set(e, code, "%s", err_name(code));
	else
		code = run(&p, e);
	free(p.order);
	(void)sem_destroy(&p.slots);
	return code;
}
