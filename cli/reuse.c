/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/reuse.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/limits.h"
#include "common/toc.h"

/* The blob, here or there. */
struct blob {
	int fd;
	struct image_src *src;
	const struct image_desc *desc;
	uint64_t size;
};

static int blob_read(struct blob *b, uint64_t off, size_t n, struct buf *ret,
		     struct err *e)
{
	int r;

	if (b->src != NULL)
		return image_src_range(b->src, b->desc, off, n, ret, &b->size,
				       e);
	r = buf_reserve(ret, n);
	if (r == 0)
		r = io_pread_all(b->fd, ret->p, n, off);
	if (r < 0)
		return err_set(e, r, "temporary file: %s", err_name(r));
	ret->len = n;
	return 0;
}

/* Finds and hashes the TOC. Return: 1, 0 where there is none. */
static int toc_digest(struct blob *b, struct digest *ret, uint64_t *ret_tail,
		      struct err *e)
{
	CLEANUP_BUF struct buf end = BUF_INIT(TOC_FOOTER_BYTES_MAX);
	CLEANUP_BUF struct buf toc = BUF_INIT(TOC_BLOB_BYTES_MAX);
	CLEANUP_BUF struct buf json = BUF_INIT(TOC_JSON_BYTES_MAX);
	CLEANUP(sha256_free_cleanup) struct sha256 *h = sha256_new();
	struct toc_footer f;
	uint64_t off = UINT64_MAX;
	int r;

	if (h == NULL)
		return err_no_memory(e);
	if (b->src == NULL) {
		if (b->size < TOC_FOOTER_BYTES_MAX)
			return 0;
		off = b->size - TOC_FOOTER_BYTES_MAX;
	}
	r = blob_read(b, off, TOC_FOOTER_BYTES_MAX, &end, e);
	if (r < 0)
		return r;
	if (toc_footer_parse((const uint8_t *)end.p, end.len, b->size, &f,
			     NULL) < 0 ||
	    f.format != TOC_ESTARGZ)
		return 0;
	r = blob_read(b, f.toc_off, (size_t)f.toc_len, &toc, e);
	if (r < 0)
		return r;
	r = toc_decode(&f, (const uint8_t *)toc.p, toc.len, &json, e);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	sha256_all(h, json.p, json.len, ret);
	*ret_tail = b->size - f.toc_off;
	return 1;
}

int reuse_check(struct image_src *src, struct transform_layer *l, struct err *e)
{
	struct blob b = {.fd = -EBADF, .src = src, .desc = &l->in};
	struct digest is;
	int r = toc_digest(&b, &is, &l->tail_bytes, e);

	return r == 1 ? digest_equal(&is, &l->toc) : r;
}

int reuse_check_file(int fd, struct transform_layer *l, struct err *e)
{
	struct blob b = {.fd = fd};
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "fstat: %s", err_name(errno));
	b.size = (uint64_t)st.st_size;
	r = toc_digest(&b, &l->toc, &l->tail_bytes, e);
	l->has_toc = r == 1;
	return r;
}
