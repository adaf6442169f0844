/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/grpcmsg.h"

#include <errno.h>
#include <string.h>

#include "common/utf8.h"
#include "daemon/snapshotter/grpc.h"

unsigned grpc_status(int r)
{
	static const struct {
		int err;
		enum grpc_code code;
	} codes[] = {
		{EEXIST, GRPC_ALREADY_EXISTS},
		{ENOENT, GRPC_NOT_FOUND},
		{EBUSY, GRPC_FAILED_PRECONDITION},
		{EINVAL, GRPC_INVALID_ARGUMENT},
		{EAGAIN, GRPC_UNAVAILABLE},
		{ENOSYS, GRPC_UNIMPLEMENTED},
		{ETIMEDOUT, GRPC_DEADLINE_EXCEEDED},
		{ECANCELED, GRPC_CANCELLED},
		{ENOMEM, GRPC_RESOURCE_EXHAUSTED},
		{ENOSPC, GRPC_RESOURCE_EXHAUSTED},
	};

	if (r >= 0)
		return GRPC_OK;
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		if (codes[i].err == -r)
			return codes[i].code;
	}
	return GRPC_UNKNOWN;
}

char *grpcmsg_escape(const char *text)
{
	static const char hex[] = "0123456789ABCDEF";
	char *to = malloc(strlen(text) * 3 + 1), *at = to;

	if (to == NULL)
		return NULL;
	while (*text != '\0') {
		size_t n = utf8_len(text);

		if (n == 0)
			text++; /* the end of a text that was cut */
		for (; n > 0; n--, text++) {
			unsigned char c = (unsigned char)*text;

			if (c >= 0x20 && c < 0x7f && c != '%') {
				*at++ = (char)c;
				continue;
			}
			*at++ = '%';
			*at++ = hex[c >> 4];
			*at++ = hex[c & 15];
		}
	}
	*at = '\0';
	return to;
}

int grpcmsg_timeout(const char *text, uint64_t *ret_ns)
{
	static const char units[] = "HMSmun";
	static const uint64_t unit_ns[] = {
		3600 * NSEC_PER_SEC,
		60 * NSEC_PER_SEC,
		NSEC_PER_SEC,
		NSEC_PER_MSEC,
		1000,
		1,
	};
	size_t digits = strspn(text, "0123456789");
	uint64_t v, ns;
	const char *unit;

	if (digits < 1 || digits > 8 || strlen(text) != digits + 1)
		return -EBADMSG;
	unit = strchr(units, text[digits]);
	if (unit == NULL)
		return -EBADMSG;
	v = strtoull(text, NULL, 10);
	ns = unit_ns[unit - units];
	*ret_ns = v > GRPC_TIMEOUT_NS_MAX / ns ? GRPC_TIMEOUT_NS_MAX : v * ns;
	return 0;
}

bool grpcmsg_content_type(const char *text)
{
	static const char type[] = "application/grpc";
	size_t n = sizeof(type) - 1;

	return strncmp(text, type, n) == 0 &&
	       (text[n] == '\0' || text[n] == '+' || text[n] == ';');
}

void grpcmsg_put_prefix(uint8_t *to, uint32_t len)
{
	to[0] = 0; /* not compressed */
	to[1] = (uint8_t)(len >> 24);
	to[2] = (uint8_t)(len >> 16);
	to[3] = (uint8_t)(len >> 8);
	to[4] = (uint8_t)len;
}

static enum grpc_code take_prefix(struct grpcmsg_in *in, const char **ret_why)
{
	const uint8_t *p = in->prefix;

	in->len = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 |
		  (uint32_t)p[3] << 8 | p[4];
	if (p[0] > 1) {
		*ret_why = "malformed message prefix";
		return GRPC_INTERNAL;
	}
	if (p[0] == 1) {
		*ret_why = "compressed messages are not supported";
		return GRPC_UNIMPLEMENTED;
	}
	if (in->len > in->body.max) {
		*ret_why = "the message is too large";
		return GRPC_RESOURCE_EXHAUSTED;
	}
	return GRPC_OK;
}

enum grpc_code grpcmsg_add(struct grpcmsg_in *in, const uint8_t *p, size_t n,
			   const char **ret_why)
{
	enum grpc_code code;

	while (n > 0 && in->n_prefix < GRPC_PREFIX_BYTES) {
		in->prefix[in->n_prefix++] = *p++;
		n--;
		if (in->n_prefix < GRPC_PREFIX_BYTES)
			continue;
		code = take_prefix(in, ret_why);
		if (code != GRPC_OK)
			return code;
	}
	if (n > in->len - in->body.len) {
		*ret_why = "more than one message";
		return GRPC_UNIMPLEMENTED;
	}
	if (n > 0 && buf_add(&in->body, p, n) < 0) {
		*ret_why = "out of memory";
		return GRPC_RESOURCE_EXHAUSTED;
	}
	return GRPC_OK;
}

enum grpc_code grpcmsg_end(const struct grpcmsg_in *in, const char **ret_why)
{
	if (in->n_prefix == 0) {
		*ret_why = "no message";
		return GRPC_UNIMPLEMENTED;
	}
	if (in->n_prefix < GRPC_PREFIX_BYTES || in->body.len < in->len) {
		*ret_why = "the message is cut off";
		return GRPC_INTERNAL;
	}
	return GRPC_OK;
}
