/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/toc_text.h"

#include <errno.h>
#include <string.h>

#include "common/limits.h"

/* Takes the last component off p, of which out bytes are in use. */
static size_t path_pop(const char *p, size_t out)
{
	while (out > 0 && p[out - 1] != '/')
		out--;
	return out > 0 ? out - 1 : 0;
}

int toc_path_clean(char *p, size_t *len)
{
	size_t in = 0, out = 0, depth = 0;

	while (in < *len) {
		size_t start = in, n;

		while (in < *len && p[in] != '/' && p[in] != '\0')
			in++;
		if (in < *len && p[in] == '\0')
			return -EBADMSG;
		n = in - start;
		in++;
		if (n == 0 || (n == 1 && p[start] == '.'))
			continue;
		if (n == 2 && p[start] == '.' && p[start + 1] == '.') {
			out = path_pop(p, out);
			depth -= depth > 0;
			continue;
		}
		if (n > TOC_COMPONENT_BYTES_MAX || ++depth > TOC_DEPTH_MAX)
			return -EOVERFLOW;
		/* There was a slash before it, so there is room for one. */
		if (out > 0)
			p[out++] = '/';
		if (out != start)
			memmove(p + out, p + start, n);
		out += n;
	}
	if (out > TOC_NAME_BYTES_MAX)
		return -EOVERFLOW;
	p[out] = '\0';
	*len = out;
	return 0;
}

/* A decimal of n digits at s, -1 if it is not one. */
static int decimal(const char *s, size_t n)
{
	int v = 0;

	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -1;
		v = v * 10 + (s[i] - '0');
	}
	return v;
}

static bool leap_year(int y)
{
	return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

/* Days from 1970-01-01, in the Gregorian calendar throughout. */
static int64_t days_of(int year, int month, int day)
{
	static const int before[] = {0,   31,  59,  90,  120, 151,
				     181, 212, 243, 273, 304, 334};
	int64_t y = year - 1; /* whole years since 0001-01-01; -1 for year 0 */
	int64_t days = y * 365;

	/* Rounded towards minus infinity: year 0 is a leap year. */
	if (y >= 0)
		days += y / 4 - y / 100 + y / 400;
	else
		days -= 1;
	days += before[month - 1] + (day - 1);
	if (month > 2 && leap_year(year))
		days++;
	return days - 719162;
}

/* "Z", "+hh:mm" or "-hh:mm" and nothing behind it: seconds east of UTC. */
static bool zone(const char *s, size_t len, int *ret)
{
	int h, m;

	*ret = 0;
	if (len == 1 && s[0] == 'Z')
		return true;
	if (len != 6 || (s[0] != '+' && s[0] != '-') || s[3] != ':')
		return false;
	h = decimal(s + 1, 2);
	m = decimal(s + 4, 2);
	if (h < 0 || h > 23 || m < 0 || m > 59)
		return false;
	*ret = (h * 60 + m) * (s[0] == '-' ? -60 : 60);
	return true;
}

static bool date_ok(int year, int month, int day)
{
	static const int days[] = {31, 28, 31, 30, 31, 30,
				   31, 31, 30, 31, 30, 31};

	if (year < 0 || month < 1 || month > 12 || day < 1)
		return false;
	return day <= days[month - 1] + (month == 2 && leap_year(year));
}

int64_t toc_time(const char *s, size_t len)
{
	int year, month, day, h, m, sec, east;
	size_t i = 19;

	if (len < 20 || s[4] != '-' || s[7] != '-' || s[10] != 'T' ||
	    s[13] != ':' || s[16] != ':')
		return 0;
	year = decimal(s, 4);
	month = decimal(s + 5, 2);
	day = decimal(s + 8, 2);
	h = decimal(s + 11, 2);
	m = decimal(s + 14, 2);
	sec = decimal(s + 17, 2);
	if (!date_ok(year, month, day) || h < 0 || h > 23 || m < 0 || m > 59 ||
	    sec < 0 || sec > 59)
		return 0;
	if (s[i] == '.') {
		size_t digits = ++i;

		while (i < len && s[i] >= '0' && s[i] <= '9')
			i++;
		if (i == digits)
			return 0;
	}
	if (!zone(s + i, len - i, &east))
		return 0;
	return days_of(year, month, day) * 86400 + h * 3600 + m * 60 + sec -
	       east;
}

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

int toc_base64(char *p, size_t *len)
{
	size_t out = 0, pad = 0;

	if (*len % 4 != 0)
		return -EBADMSG;
	if (*len > 0)
		pad = p[*len - 1] != '=' ? 0 : p[*len - 2] != '=' ? 1 : 2;
	for (size_t i = 0; i < *len; i += 4) {
		size_t n = i + 4 < *len ? 4 : 4 - pad;
		uint32_t v = 0;

		for (size_t k = 0; k < 4; k++) {
			int d = k < n ? base64_value(p[i + k]) : 0;

			if (d < 0)
				return -EBADMSG;
			v = v << 6 | (uint32_t)d;
		}
		/* Bits that no byte takes up have to be 0. */
		if ((v & ((1u << (8 * (4 - n))) - 1)) != 0)
			return -EBADMSG;
		for (size_t k = 0; k + 1 < n; k++)
			p[out++] = (char)(v >> (16 - 8 * k) & 0xff);
	}
	*len = out;
	return 0;
}
