/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/image/span.h"

#include <inttypes.h>

#include "common/checked.h"
#include "common/io.h"
#include "common/limits.h"

/**
 * struct span_reader - an image_read of a span
 * @at:		bytes of it read so far
 */
struct span_reader {
	struct image_read read;
	struct span span;
	uint64_t at;
};

void span_done(struct span *s)
{
	if (s->fd >= 0)
		(void)close(s->fd);
	*s = SPAN_NONE;
}

/* Appends [n] at @off of the span. */
static int add(const struct span *s, const char *what, uint64_t off, size_t n,
	       struct buf *ret, struct err *e)
{
	int r = buf_reserve(ret, n);

	if (r < 0)
		return err_set(e, r, "%s: %zu bytes: %s", what, n, err_name(r));
	r = io_pread_all(s->fd, ret->p + ret->len, n, s->off + off);
	if (r < 0)
		return err_set(e, r, "%s: %s", what,
			       r == -EBADMSG ? "it is cut short" : err_name(r));
	ret->len += n;
	ret->p[ret->len] = '\0';
	return 0;
}

int span_document(const struct span *s, const char *what, struct buf *doc,
		  struct err *e)
{
	if (s->size > MANIFEST_BYTES_MAX)
		return err_set(e, -EOVERFLOW, "%s: %" PRIu64 " bytes", what,
			       s->size);
	return add(s, what, 0, (size_t)s->size, doc, e);
}

int span_range(const struct span *s, const char *what, uint64_t off, size_t n,
	       struct buf *ret, uint64_t *ret_size, struct err *e)
{
	int r;

	if (off == UINT64_MAX) {
		n = (size_t)MIN((uint64_t)n, s->size);
		off = s->size - n;
	}
	if (!checked_range(off, n, s->size))
		return err_set(e, -EBADMSG,
			       "%s: bytes %" PRIu64 " to %" PRIu64
			       " of %" PRIu64,
			       what, off, off + n, s->size);
	r = add(s, what, off, n, ret, e);
	if (r == 0)
		*ret_size = s->size;
	return r;
}

static ssize_t reader_some(struct image_read *read, void *p, size_t n,
			   struct err *e)
{
	struct span_reader *r = (struct span_reader *)read;
	uint64_t left = r->span.size - r->at;
	ssize_t got;

	n = (size_t)MIN((uint64_t)n, left);
	if (n == 0)
		return 0;
	do
		got = pread(r->span.fd, p, n, (off_t)(r->span.off + r->at));
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_set(e, -errno, "read: %s", err_name(errno));
	if (got == 0)
		return err_set(e, -EBADMSG, "the file became shorter");
	r->at += (uint64_t)got;
	return got;
}

static void reader_close(struct image_read *read)
{
	struct span_reader *r = (struct span_reader *)read;

	span_done(&r->span);
	free(r);
}

int span_read(struct span *s, struct image_read **ret, struct err *e)
{
	static const struct image_read_ops ops = {
		.some = reader_some,
		.close = reader_close,
	};
	struct span_reader *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return err_no_memory(e);
	r->read.ops = &ops;
	r->span = *s;
	*s = SPAN_NONE;
	*ret = &r->read;
	return 0;
}
