/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/digest.h"

#include <errno.h>
#include <string.h>

/* A hex digit's value with 0x10 added, 0 for everything else. A table: a TOC
 * has hundreds of thousands of digests. */
static uint8_t hex_value(char c)
{
	static const uint8_t values[256] = {
		['0'] = 0x10, ['1'] = 0x11, ['2'] = 0x12, ['3'] = 0x13,
		['4'] = 0x14, ['5'] = 0x15, ['6'] = 0x16, ['7'] = 0x17,
		['8'] = 0x18, ['9'] = 0x19, ['a'] = 0x1a, ['b'] = 0x1b,
		['c'] = 0x1c, ['d'] = 0x1d, ['e'] = 0x1e, ['f'] = 0x1f,
	};

	return values[(uint8_t)c];
}

int digest_parse(const char *s, size_t len, struct digest *ret)
{
	static const char prefix[] = "sha256:";
	const size_t plen = sizeof(prefix) - 1;
	uint8_t ok = 0x10;
	struct digest d;

	if (len < plen || memcmp(s, prefix, plen) != 0)
		return memchr(s, ':', len) != NULL ? -EOPNOTSUPP : -EBADMSG;
	if (len != plen + DIGEST_HEX_BYTES)
		return -EBADMSG;
	s += plen;
	for (size_t i = 0; i < DIGEST_BYTES; i++) {
		uint8_t hi = hex_value(s[2 * i]);
		uint8_t lo = hex_value(s[2 * i + 1]);

		ok &= hi & lo;
		d.b[i] = (uint8_t)(hi << 4 | (lo & 15));
	}
	if (ok == 0)
		return -EBADMSG;
	*ret = d;
	return 0;
}

char *digest_hex(const struct digest *d, char *buf)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < DIGEST_BYTES; i++) {
		buf[2 * i] = hex[d->b[i] >> 4];
		buf[2 * i + 1] = hex[d->b[i] & 15];
	}
	buf[DIGEST_HEX_BYTES] = '\0';
	return buf;
}

char *digest_str(const struct digest *d, char *buf)
{
	memcpy(buf, "sha256:", 7);
	(void)digest_hex(d, buf + 7);
	return buf;
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
	return memcmp(a->b, b->b, DIGEST_BYTES) == 0;
}
