/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void err_sanitize(char *text)
{
	for (unsigned char *p = (unsigned char *)text; *p != '\0'; p++) {
		if (*p < 0x20 || *p == 0x7f)
			*p = '?';
	}
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	assert(code < 0);
	if (e == NULL)
		return code;
	e->code = code;
	va_start(ap, fmt);
	(void)vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	err_sanitize(e->text);
	return code;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
	char text[ERR_TEXT_BYTES];
	va_list ap;
	size_t len;
	int n;

	if (e == NULL || e->code == 0)
		return -EIO;
	va_start(ap, fmt);
	/* The clause may take half the room; the cause keeps the rest. */
	n = vsnprintf(text, sizeof(text) / 2, fmt, ap);
	va_end(ap);
	if (n < 0)
		return e->code;
	len = MIN((size_t)n, sizeof(text) / 2 - 1);
	n = snprintf(text + len, sizeof(text) - len, ": %s", e->text);
	assert(n > 0);
	memcpy(e->text, text, sizeof(text));
	err_sanitize(e->text);
	return e->code;
}

const char *err_name(int code)
{
	const char *s = strerrordesc_np(code < 0 ? -code : code);

	return s != NULL ? s : "unknown error";
}

const char *err_symbol(int code)
{
	const char *s = strerrorname_np(code < 0 ? -code : code);

	return s != NULL ? s : "E?";
}
