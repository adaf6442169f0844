/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/utf8.h"

static const struct form {
	unsigned char mask, lead;
	uint32_t min;
} forms[] = {
	{0xe0, 0xc0, 0x80},
	{0xf0, 0xe0, 0x800},
	{0xf8, 0xf0, 0x10000},
};

/* As utf8_len(), of at most n bytes, n > 0. */
static size_t sequence(const unsigned char *s, size_t n)
{
	if (s[0] < 0x80)
		return 1;
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		uint32_t v;

		if ((s[0] & forms[i].mask) != forms[i].lead)
			continue;
		v = (uint32_t)(s[0] & ~forms[i].mask & 0xff);
		for (size_t k = 1; k <= i + 1; k++) {
			if (k >= n || (s[k] & 0xc0) != 0x80)
				return 0;
			v = (v << 6) | (s[k] & 0x3fu);
		}
		if (v < forms[i].min || v > 0x10ffff ||
		    (v >= 0xd800 && v <= 0xdfff))
			return 0;
		return i + 2;
	}
	return 0;
}

size_t utf8_len(const char *s)
{
	return sequence((const unsigned char *)s, 4);
}

bool utf8_valid(const void *p, size_t n)
{
	const unsigned char *s = p;

	while (n > 0) {
		size_t k = s[0] != 0 ? sequence(s, n) : 0;

		if (k == 0)
			return false;
		s += k;
		n -= k;
	}
	return true;
}
