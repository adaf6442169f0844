/* SPDX-License-Identifier: Apache-2.0 */
/* The process behind common/meta.h: one request, in the worker's sandbox. */
#include "config.h"

#include "common/meta.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/chunks.h"
#include "common/erofs_check.h"
#include "common/io.h"
#include "common/limits.h"
#include "common/merge.h"
#include "common/present.h"
#include "fs/sandbox.h"

#define REQUEST_TIMEOUT_S 10
#define FDS_MAX (1 + 2 * META_LAYERS_MAX)

struct mapped {
	const uint8_t *p;
	size_t len;
};

/* Descriptors end with the process; so do the mappings. */
struct work {
	struct meta_request q;
	int fds[FDS_MAX];
	size_t n_fds;
	struct sha256 *h;
};

static int map_file(int fd, uint64_t bytes, const char *what,
		    struct mapped *ret, struct err *e)
{
	void *p;

	if (bytes == 0 || bytes > SIZE_MAX)
		return err_set(e, -EBADMSG, "%s: %" PRIu64 " bytes", what,
			       bytes);
	p = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_set(e, -errno, "%s: %s", what, err_name(errno));
	*ret = (struct mapped){.p = p, .len = (size_t)bytes};
	return 0;
}

static int file_bytes(int fd, const char *what, uint64_t *ret, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "%s: %s", what, err_name(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EBADMSG, "%s: no regular file", what);
	*ret = (uint64_t)st.st_size;
	return 0;
}

/* A layer's metadata, if the index is what its digest says. */
static int open_layer(const struct work *w, int erofs, int table,
		      struct chunks *ret_chunks, struct erofs_image *ret_im,
		      struct err *e)
{
	struct mapped m = {0};
	uint64_t bytes;
	int r = file_bytes(table, "chunks", &bytes, e);

	if (r == 0)
		r = map_file(table, bytes, "chunks", &m, e);
	if (r == 0)
		r = chunks_open(ret_chunks, m.p, m.len, e);
	if (r == 0)
		r = file_bytes(erofs, "layer.erofs", &bytes, e);
	if (r == 0 && bytes != ret_chunks->image_bytes)
		r = err_set(e, -EBADMSG, "layer.erofs: %" PRIu64 " bytes",
			    bytes);
	if (r == 0)
		r = map_file(erofs, ret_chunks->meta_len, "layer.erofs", &m, e);
	if (r < 0)
		return r;
	if (!chunks_verify(ret_chunks, m.p, w->h))
		return err_set(e, -EBADMSG, "the index has another digest");
	return erofs_open(ret_im, m.p, m.len, e);
}

static int merge_open(const struct work *w, struct merge_layer *layers,
		      struct err *e)
{
	struct digest tocs[META_LAYERS_MAX];
	struct digest key;

	for (uint32_t i = 0; i < w->q.n; i++) {
		struct chunks ch;
		int r = open_layer(w, w->fds[1 + 2 * i], w->fds[2 + 2 * i], &ch,
				   &layers[i].im, e);

		if (r < 0)
			return err_wrap(e, "layer %" PRIu32, i);
		layers[i].toc_digest = tocs[i] = ch.toc_digest;
		if (((ch.flags & CHUNKS_F_OPAQUE_USER) != 0) !=
		    (w->q.opaque_user != 0))
			return err_set(e, -EBADMSG,
				       "layer %" PRIu32
				       ": opaque directories of another kind",
				       i);
	}
	if (merge_key(tocs, w->q.n, w->q.opaque_user != 0, &key) < 0)
		return err_no_memory(e);
	if (!digest_equal(&key, &w->q.key))
		return err_set(e, -EBADMSG, "the layers are of another chain");
	return 0;
}

static int do_merge(const struct work *w, struct err *e)
{
	struct merge_layer layers[META_LAYERS_MAX];
	CLEANUP_BUF struct buf out = BUF_INIT(0);
	int r;

	if (w->q.n == 0 || w->q.n > META_LAYERS_MAX ||
	    w->n_fds != 1 + 2 * w->q.n)
		return err_set(e, -EPROTO, "%" PRIu32 " layers, %zu files",
			       w->q.n, w->n_fds);
	r = merge_open(w, layers, e);
	if (r == 0)
		r = merge_build(layers, w->q.n, w->q.opaque_user != 0,
				&w->q.key, &out, e);
	if (r < 0)
		return r;
	r = io_pwrite_all(w->fds[0], out.p, out.len, 0);
	return r < 0 ? err_set(e, r, "cannot write: %s", err_name(r)) : 0;
}

/* Return: 0; -EAGAIN not all of it is there, for good */
static int check_present(int fd, const struct chunks *ch, struct err *e)
{
	static const uint8_t boot[16]; /* none: what is durable counts */
	struct present p;
	uint64_t bytes;
	void *map;
	int r = file_bytes(fd, "present", &bytes, e);

	if (r < 0)
		return r;
	/* A copy, because what opens it puts it right. */
	map = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd,
		   0);
	if (map == MAP_FAILED)
		return err_set(e, -errno, "present: %s", err_name(errno));
	r = present_open(&p, map, (size_t)bytes, ch->n, ch->index_digest.b,
			 boot, false, e);
	if (r < 0)
		return r;
	if (present_state(&p) != PRESENT_COMPLETE ||
	    present_count_durable(&p) != ch->n)
		return err_set(e, -EAGAIN, "the layer is not complete");
	return 0;
}

static int do_check(const struct work *w, struct err *e)
{
	struct erofs_image im;
	struct chunks ch;
	int r;

	if (w->n_fds != 2 && w->n_fds != 3)
		return err_set(e, -EPROTO, "%zu files", w->n_fds);
	r = open_layer(w, w->fds[0], w->fds[1], &ch, &im, e);
	if (r == 0 && w->n_fds == 3)
		r = check_present(w->fds[2], &ch, e);
	return r < 0 ? r : erofs_check(&im, ch.image_bytes, e);
}

static int do_check_chain(const struct work *w, struct err *e)
{
	struct mapped m = {0};
	struct erofs_image im;
	uint64_t bytes;
	int r;

	if (w->n_fds != 1)
		return err_set(e, -EPROTO, "%zu files", w->n_fds);
	r = file_bytes(w->fds[0], "meta.erofs", &bytes, e);
	if (r == 0)
		r = map_file(w->fds[0], bytes, "meta.erofs", &m, e);
	if (r == 0)
		r = erofs_open_any(&im, m.p, m.len, e);
	if (r < 0)
		return r;
	if (memcmp(im.uuid, w->q.key.b, sizeof(im.uuid)) != 0)
		return err_set(e, -EBADMSG, "meta.erofs is of another chain");
	return erofs_check(&im, bytes, e);
}

static int receive(int sock, struct work *w, struct err *e)
{
	const struct timeval wait = {.tv_sec = REQUEST_TIMEOUT_S};
	ssize_t n;

	(void)setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	n = io_recv_fds(sock, &w->q, sizeof(w->q), w->fds, FDS_MAX, 0);
	if (n < 0)
		return err_set(e, (int)n, "no request: %s", err_name((int)n));
	if ((size_t)n != sizeof(w->q) || w->q.version != META_VERSION)
		return err_set(e, -EPROTO, "no request of version %u",
			       META_VERSION);
	while (w->n_fds < FDS_MAX && w->fds[w->n_fds] >= 0)
		w->n_fds++;
	return 0;
}

static int work(int sock, struct work *w, struct err *e)
{
	int r = receive(sock, w, e);

	if (r == 0)
		r = sandbox_enter(e);
	if (r < 0)
		return r;
	w->h = sha256_new();
	if (w->h == NULL)
		return err_set(e, -ENOMEM, "SHA-256 is not available");
	if (w->q.type == META_MERGE)
		r = do_merge(w, e);
	else if (w->q.type == META_CHECK)
		r = do_check(w, e);
	else if (w->q.type == META_CHECK_CHAIN)
		r = do_check_chain(w, e);
	else
		r = err_set(e, -EPROTO, "no request %" PRIu32, w->q.type);
	sha256_free(w->h);
	return r;
}

int meta_serve(int sock)
{
	struct {
		struct meta_reply r;
		char text[ERR_TEXT_BYTES];
	} said = {.r.version = META_VERSION};
	struct work w = {0};
	struct err e = {0};
	size_t n;
	int r;

	/* Nothing of the caller's but what it says. */
	(void)close_range(STDERR_FILENO + 1, (unsigned)sock - 1, 0);
	(void)close_range((unsigned)sock + 1, ~0u, 0);
	r = work(sock, &w, &e);
	said.r.code = (uint32_t)-r;
	n = strlen(e.text);
	memcpy(said.text, e.text, n);
	r = io_send_fds(sock, &said, sizeof(said.r) + n, NULL, 0, 0);
	return r < 0;
}
