/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/utf8.h"

#define REPLACEMENT "\xef\xbf\xbd"

/* Control characters beyond ASCII, and what XML has not: of each, bytes in UTF-8
 * that begin it, and the range of the last. */
static const struct {
	const char *lead;
	unsigned char first, last;
} unfit[] = {
	{"", 0x00, 0x1f},         {"", 0x7f, 0x7f},
	{"\xc2", 0x80, 0x9f},     /* U+0080 to U+009F */
	{"\xe2\x80", 0x8e, 0x8f}, /* U+200E, U+200F */
	{"\xe2\x80", 0xa8, 0xae}, /* U+2028 to U+202E */
	{"\xe2\x81", 0xa6, 0xa9}, /* U+2066 to U+2069 */
	{"\xef\xbf", 0xbe, 0xbf}, /* U+FFFE, U+FFFF */
};

static bool is_unfit(const char *s, size_t n)
{
	unsigned char last = (unsigned char)s[n - 1];

	for (size_t i = 0; i < ARRAY_SIZE(unfit); i++) {
		if (n == strlen(unfit[i].lead) + 1 &&
		    memcmp(s, unfit[i].lead, n - 1) == 0 &&
		    last >= unfit[i].first && last <= unfit[i].last)
			return true;
	}
	return false;
}

int text_clean(struct buf *b, const char *s)
{
	int r = buf_add(b, "", 0);

	while (r == 0 && *s != '\0') {
		size_t n = utf8_len(s);

		if (n == 0 || is_unfit(s, n))
			r = buf_add_str(b, REPLACEMENT);
		else
			r = buf_add(b, s, n);
		s += MAX(n, (size_t)1);
	}
	return r;
}

const char *text_tail(const char *s, size_t max, bool *ret_cut)
{
	size_t n = 0;

	for (const char *p = s; *p != '\0'; p += MAX(utf8_len(p), (size_t)1))
		n++;
	*ret_cut = n > max;
	if (n <= max)
		return s;
	for (n -= max - 1; n > 0; n--)
		s += MAX(utf8_len(s), (size_t)1);
	return s;
}

int text_xml(struct buf *b, const char *s)
{
	int r = buf_add(b, "", 0);

	while (r == 0 && *s != '\0') {
		size_t n = strcspn(s, "&<>\"'");

		r = buf_add(b, s, n);
		s += n;
		if (r < 0 || *s == '\0')
			break;
		r = buf_addf(b, "&#%d;", *s++);
	}
	return r;
}

char *text_time(uint64_t us, char *buf)
{
	double v = (double)us;

	if (us < 10000)
		(void)snprintf(buf, TEXT_TIME_BYTES, "%.2f ms", v / 1e3);
	else if (us < 1000000)
		(void)snprintf(buf, TEXT_TIME_BYTES, "%.1f ms", v / 1e3);
	else
		(void)snprintf(buf, TEXT_TIME_BYTES, "%.2f s", v / 1e6);
	return buf;
}

char *text_date(uint64_t wall_us, char *buf)
{
	time_t t = (time_t)(wall_us / 1000000);
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL ||
	    strftime(buf, TEXT_DATE_BYTES, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		buf[0] = '\0';
	return buf;
}
