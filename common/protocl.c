/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/protocl.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "common/io.h"
#include "common/proto.h"
#include "common/rd.h"

static int dial(const char *path, int *ret_sock, struct err *e)
{
	const struct timeval t = {.tv_sec = PROTOCL_TIMEOUT_MS / 1000};
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	CLEANUP_CLOSE int s = -EBADF;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(e, -ENAMETOOLONG, "fetcher %s", path);
	memcpy(sa.sun_path, path, strlen(path));
	s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s < 0 ||
	    setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)) < 0 ||
	    connect(s, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return err_set(e, -errno, "fetcher %s: %s", path,
			       err_name(errno));
	*ret_sock = TAKE_FD(s);
	return 0;
}

/* Not by SO_RCVTIMEO, which begins anew whenever we are stopped and go on. Return: 0,
 * -ETIMEDOUT, -errno */
static int await_answer(int sock)
{
	uint64_t until = io_now_ns() + PROTOCL_TIMEOUT_MS * NSEC_PER_MSEC;
	struct pollfd p = {.fd = sock, .events = POLLIN};
	int r;

	do {
		uint64_t now = io_now_ns();
		uint64_t left = until - MIN(now, until);

		r = poll(&p, 1,
			 (int)((left + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC));
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return r > 0 ? 0 : -ETIMEDOUT;
}

/* Sends a packet and waits for its answer, which must be of @want. */
static int ask(int sock, const void *p, size_t n, enum proto_type want,
	       struct err *e)
{
	uint8_t got[PROTO_PACKET_MAX];
	ssize_t k;
	int r = io_send_fds(sock, p, n, NULL, 0, 0);

	if (r < 0)
		return err_set(e, r, "fetcher: %s", err_name(r));
	k = await_answer(sock);
	if (k == 0)
		k = io_recv_fds(sock, got, sizeof(got), NULL, 0, MSG_DONTWAIT);
	if (k < 0)
		return err_set(e, (int)k, "fetcher does not answer");
	if ((size_t)k < sizeof(struct proto_hdr))
		return err_set(e, -EPROTO, "fetcher closed the connection");
	if (le16_load(got) == PROTO_FAILED &&
	    (size_t)k >= sizeof(struct proto_failed)) {
		uint32_t code =
			le32_load(got + offsetof(struct proto_failed, code));

		return err_set(e, code > 0 && code < 4096 ? -(int)code : -EIO,
			       "fetcher: %.*s",
			       (int)((size_t)k - sizeof(struct proto_failed)),
			       (const char *)got + sizeof(struct proto_failed));
	}
	if (le16_load(got) != (uint16_t)want)
		return err_set(e, -EPROTO, "fetcher gave a wrong answer");
	return 0;
}

static int hello(int sock, struct err *e)
{
	const struct proto_hello m = {
		.h = {.type = htole16(PROTO_HELLO), .len = htole32(sizeof(m))},
		.magic = htole32(PROTO_MAGIC),
		.version = htole32(PROTO_VERSION),
	};

	return ask(sock, &m, sizeof(m), PROTO_HELLO, e);
}

/* One message of as many of the @n names as fit, from @i on. Return: the first that
 * did not, or -errno. */
static ssize_t warm(int sock, const struct protocl_warm *w, size_t n, size_t i,
		    struct err *e)
{
	struct proto_warm m = {
		.h = {.type = htole16(PROTO_WARM), .id = htole64(1)},
		.tail_bytes = htole32(w->tail_bytes),
		.hold_ms = htole32(w->hold_ms),
	};
	uint8_t p[PROTO_PACKET_MAX];
	size_t len = sizeof(m), first = i;
	int r;

	for (; i < n && i - first < PROTO_WARM_BLOBS_MAX; i++) {
		size_t k = strlen(w->names[i]);

		if (k >= PROTO_TEXT_MAX - (len - sizeof(m)))
			break;
		if (i > first)
			p[len++] = '\n';
		memcpy(p + len, w->names[i], k);
		len += k;
	}
	if (i == first)
		return err_set(e, -EOVERFLOW, "fetcher: a name is too long");
	m.h.flags = htole16(w->plain_http ? PROTO_WARM_PLAIN_HTTP : 0);
	m.h.len = htole32((uint32_t)len);
	memcpy(p, &m, sizeof(m));
	r = ask(sock, p, len, PROTO_DATA, e);
	return r < 0 ? r : (ssize_t)i;
}

int protocl_warm(const char *path, const struct protocl_warm *w, struct err *e)
{
	size_t tail =
		w->tail_bytes != 0 ? w->tail_bytes : PROTO_WARM_TAIL_BYTES;
	/* More would only push out those that are wanted first. */
	size_t n = MIN(w->n, PROTO_WARM_BYTES_MAX / tail);
	CLEANUP_CLOSE int sock = -EBADF;
	int r;

	if (n == 0)
		return 0;
	r = dial(path, &sock, e);
	if (r == 0)
		r = hello(sock, e);
	for (size_t i = 0; r == 0 && i < n;) {
		ssize_t next = warm(sock, w, n, i, e);

		if (next < 0)
			r = (int)next;
		else
			i = (size_t)next;
	}
	return r;
}
