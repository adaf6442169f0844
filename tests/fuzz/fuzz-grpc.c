/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a connection, into a server of methods that echo, fail and
 * stream. First byte: 1 the preface and SETTINGS go before, 2 fed in
 * steps of as many bytes as the rest of it says, 4 a shutdown half-way. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "common/log.h"
#include "daemon/snapshotter/grpc.h"
#include "daemon/snapshotter/h2.h"

#define PULL_BYTES_MAX MIB(4)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int do_echo(void *arg, struct grpc_call *call, const uint8_t *req,
		   size_t len, struct err *e)
{
	(void)arg;
	(void)e;
	return grpc_reply(call, req, len);
}

static int do_fail(void *arg, struct grpc_call *call, const uint8_t *req,
		   size_t len, struct err *e)
{
	(void)arg;
	(void)call;
	return err_set(e, -ENOENT, "%.*s", (int)MIN(len, (size_t)200),
		       len > 0 ? (const char *)req : "");
}

/* Less than grpc_reply() would wait for. */
static int do_stream(void *arg, struct grpc_call *call, const uint8_t *req,
		     size_t len, struct err *e)
{
	static const uint8_t piece[1000];
	int r = 0;

	(void)arg;
	(void)e;
	for (unsigned i = 0; len > 0 && i < req[0] && r == 0; i++)
		r = grpc_reply(call, piece, sizeof(piece));
	return r;
}

static const struct grpc_method methods[] = {
	{.path = "/e", .fn = do_echo},
	{.path = "/f", .fn = do_fail},
	{.path = "/s", .fn = do_stream},
};

/* What it says; that is bounded by what it was told. */
static int pull(struct h2_conn *c)
{
	size_t total = 0;
	const uint8_t *p;
	ssize_t n;

	while ((n = h2_pull(c, &p)) > 0) {
		total += (size_t)n;
		assert(total < PULL_BYTES_MAX);
	}
	return (int)n;
}

static int feed(struct h2_conn *c, const uint8_t *p, size_t n, size_t step)
{
	int r = 0;

	while (n > 0 && r == 0) {
		size_t part = MIN(n, step);

		r = h2_feed(c, p, part);
		if (r == 0)
			r = pull(c);
		p += part;
		n -= part;
	}
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char start[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
				    "\0\0\0\4\0\0\0\0\0";
	struct loop *loop;
	struct grpc *g;
	struct h2_conn *c;
	struct err e;
	size_t step;
	int r = 0;

	if (size < 1)
		return 0;
	log_set_level(LOG_ERR_);
	loop = loop_new();
	assert(loop != NULL);
	assert(grpc_new(&g, loop, NULL, -1, methods, ARRAY_SIZE(methods), NULL,
			&e) == 0);
	c = h2_conn_new(grpc_h2(g), -1);
	assert(c != NULL);
	step = (data[0] & 2) != 0 ? 1u + (data[0] >> 3) : size;
	if ((data[0] & 1) != 0)
		r = feed(c, (const uint8_t *)start, sizeof(start) - 1, step);
	if (r == 0 && (data[0] & 4) != 0) {
		r = feed(c, data + 1, (size - 1) / 2, step);
		h2_drain(grpc_h2(g));
		data += (size - 1) / 2;
		size -= (size - 1) / 2;
	}
	if (r == 0)
		(void)feed(c, data + 1, size - 1, step);
	h2_conn_free(c);
	grpc_free(g);
	loop_free(loop);
	return 0;
}
