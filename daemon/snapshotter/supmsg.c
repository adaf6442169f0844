/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/supmsg.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/io.h"
#include "common/rd.h"

/* Text that ends with the packet, as a string. Return: 0, -EPROTO */
static int take_text(struct rd *r, char *ret, size_t max)
{
	size_t n = r->len - r->off;
	const uint8_t *p = rd_bytes(r, n);

	if (p == NULL || n > max || memchr(p, '\0', n) != NULL)
		return -EPROTO;
	memcpy(ret, p, n);
	ret[n] = '\0';
	return 0;
}

static int parse_ready(struct rd *r, struct supmsg *m)
{
	const uint8_t *init;

	m->pid = rd_u32(r);
	m->complete = (rd_u32(r) & SUP_COMPLETE) != 0;
	m->session.dev_major = rd_u32(r);
	m->session.dev_minor = rd_u32(r);
	m->session.init_len = rd_u32(r);
	m->session.index = rd_u32(r);
	init = rd_bytes(r, SUP_INIT_BYTES);
	if (init == NULL || m->fuse_fd < 0 || m->pid == 0 ||
	    m->pid > INT32_MAX || m->session.init_len == 0 ||
	    m->session.init_len > SUP_INIT_BYTES)
		return -EPROTO;
	memcpy(m->session.init, init, SUP_INIT_BYTES);
	return take_text(r, m->text, SUP_TEXT_BYTES);
}

static int parse_failed(struct rd *r, struct supmsg *m)
{
	uint32_t code = rd_u32(r);

	(void)rd_u32(r);
	if (r->bad || code == 0 || code > 4095)
		return -EPROTO;
	if (take_text(r, m->text, SUP_TEXT_BYTES) < 0)
		return -EPROTO;
	(void)err_set(&m->e, -(int)code, "%s",
		      m->text[0] != '\0' ? m->text : err_name((int)code));
	return 0;
}

int supmsg_parse(const uint8_t *p, size_t n, int fd, struct supmsg *ret)
{
	struct rd r = {.p = p, .len = n};
	uint16_t type = rd_u16(&r), version = rd_u16(&r);
	uint32_t len = rd_u32(&r);
	int rc = 0;

	*ret = (struct supmsg){.type = (enum sup_type)type, .fuse_fd = fd};
	if (r.bad || len != n)
		rc = -EPROTO;
	else if (version != SUP_VERSION)
		rc = -EOPNOTSUPP;
	else if (type == SUP_READY)
		rc = parse_ready(&r, ret);
	else if (type == SUP_FAILED)
		rc = parse_failed(&r, ret);
	else if (type != SUP_ENDED && type != SUP_STATE)
		rc = -EPROTO;
	if ((rc < 0 || type != SUP_READY) && ret->fuse_fd >= 0)
		(void)close(TAKE_FD(ret->fuse_fd));
	return rc < 0 ? rc : 1;
}

int supmsg_recv(int sock, struct supmsg *ret)
{
	uint8_t p[sizeof(struct sup_ready) + SUP_TEXT_BYTES];
	int fd;
	ssize_t n = io_recv_fds(sock, p, sizeof(p), &fd, 1, MSG_DONTWAIT);

	if (n == -EAGAIN || n == -EINTR)
		return -EAGAIN;
	/* A connection that was reset is one that has ended. */
	if (n <= 0)
		return n == -EMSGSIZE ? -EPROTO : 0;
	return supmsg_parse(p, (size_t)n, fd, ret);
}

int supmsg_start(int sock, const struct sup_session *session, int fuse_fd)
{
	struct sup_start m = {
		.h = {.type = htole16(SUP_START),
		      .version = htole16(SUP_VERSION),
		      .len = htole32(sizeof(m))},
	};

	if (session != NULL) {
		m.session = *session;
		m.session.dev_major = htole32(session->dev_major);
		m.session.dev_minor = htole32(session->dev_minor);
		m.session.init_len = htole32(session->init_len);
		m.session.index = htole32(session->index);
	}
	return io_send_fds(sock, &m, sizeof(m), &fuse_fd, session != NULL,
			   MSG_DONTWAIT);
}

int supmsg_end(int sock)
{
	const struct sup_hdr m = {
		.type = htole16(SUP_END),
		.version = htole16(SUP_VERSION),
		.len = htole32(sizeof(m)),
	};

	return io_send_fds(sock, &m, sizeof(m), NULL, 0, MSG_DONTWAIT);
}
