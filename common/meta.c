/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/meta.h"

#include <string.h>
#include <sys/socket.h>

#include "common/io.h"

/* Sends what is to be done, waits for the answer. */
static int ask(int sock, const struct meta_request *q, const int *fds,
	       size_t n_fds, struct err *e)
{
	const struct timeval wait = {.tv_sec = META_TIMEOUT_S};
	struct {
		struct meta_reply r;
		char text[ERR_TEXT_BYTES];
	} got = {0};
	ssize_t n;
	int r;

	(void)setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	r = io_send_fds(sock, q, sizeof(*q), fds, n_fds, 0);
	if (r < 0)
		return err_set(e, r == -EPIPE ? -ECHILD : r,
			       "cannot ask estargzfs: %s", err_name(r));
	n = io_recv_fds(sock, &got, sizeof(got) - 1, NULL, 0, 0);
	if (n == -EAGAIN)
		return err_set(e, -ETIMEDOUT,
			       "estargzfs says nothing about the metadata");
	if (n == 0 || n == -ECONNRESET)
		return err_set(e, -ECHILD,
			       "estargzfs died looking at the metadata");
	if (n < 0)
		return err_set(e, (int)n, "estargzfs: %s", err_name((int)n));
	if ((size_t)n < sizeof(got.r) || got.r.version != META_VERSION ||
	    got.r.code >= 4096)
		return err_set(e, -EPROTO, "estargzfs says something wrong");
	if (got.r.code == 0)
		return 0;
	err_sanitize(got.text);
	return err_set(e, -(int)got.r.code, "%s", got.text);
}

int meta_merge(int sock, int out, const struct meta_files *layers, size_t n,
	       bool opaque_user, const struct digest *key, struct err *e)
{
	const struct meta_request q = {
		.version = META_VERSION,
		.type = META_MERGE,
		.n = (uint32_t)n,
		.opaque_user = opaque_user,
		.key = *key,
	};
	int fds[1 + 2 * META_LAYERS_MAX];
	size_t k = 0;

	if (n == 0 || n > META_LAYERS_MAX)
		return err_set(e, -EOVERFLOW, "a chain of %zu layers", n);
	fds[k++] = out;
	for (size_t i = 0; i < n; i++) {
		fds[k++] = layers[i].erofs;
		fds[k++] = layers[i].chunks;
	}
	return ask(sock, &q, fds, k, e);
}

int meta_check(int sock, const struct meta_files *layer, struct err *e)
{
	const struct meta_request q = {
		.version = META_VERSION, .type = META_CHECK, .n = 1};
	const int fds[] = {layer->erofs, layer->chunks, layer->present};

	return ask(sock, &q, fds,
		   layer->present >= 0 ? ARRAY_SIZE(fds) : ARRAY_SIZE(fds) - 1,
		   e);
}

int meta_check_chain(int sock, int image, const struct digest *key,
		     struct err *e)
{
	const struct meta_request q = {
		.version = META_VERSION, .type = META_CHECK_CHAIN, .key = *key};

	return ask(sock, &q, &image, 1, e);
}
