/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/registry/byteranges.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static const char *skip_space(const char *s)
{
	return s + strspn(s, " \t");
}

/* A token, or a quoted string without escapes. */
static int take_boundary(struct byteranges *m, const char *s)
{
	bool quoted = *s == '"';
	size_t n;

	s += quoted;
	n = strcspn(s, quoted ? "\"\\" : " \t;\"");
	if (n == 0 || n > BYTERANGES_BOUNDARY_MAX || (quoted && s[n] != '"'))
		return -EBADMSG;
	memcpy(m->delimiter, "--", 2);
	memcpy(m->delimiter + 2, s, n);
	m->delimiter[2 + n] = '\0';
	return 0;
}

int byteranges_init(struct byteranges *m, const char *content_type)
{
	static const char type[] = "multipart/byteranges";
	static const char boundary[] = "boundary=";
	const char *s = content_type;

	memset(m, 0, sizeof(*m));
	if (s == NULL || strncasecmp(s, type, strlen(type)) != 0)
		return -EBADMSG;
	s = skip_space(s + strlen(type));
	while (*s == ';') {
		s = skip_space(s + 1);
		if (strncasecmp(s, boundary, strlen(boundary)) == 0)
			return take_boundary(m, s + strlen(boundary));
		s += strcspn(s, ";");
	}
	return -EBADMSG;
}

/* The delimiter, or the last one; space may follow. */
static int on_delimiter(struct byteranges *m)
{
	size_t n = strlen(m->delimiter);
	const char *s = m->line + n;
	bool last;

	if (strncmp(m->line, m->delimiter, n) != 0)
		return -EBADMSG;
	last = s[0] == '-' && s[1] == '-';
	if (*skip_space(s + (last ? 2 : 0)) != '\0')
		return -EBADMSG;
	m->state = last ? BYTERANGES_OVER : BYTERANGES_HEADERS;
	m->has_range = false;
	return BYTERANGES_MORE;
}

static int on_header(struct byteranges *m)
{
	static const char name[] = "content-range:";

	if (strncasecmp(m->line, name, strlen(name)) != 0)
		return BYTERANGES_MORE;
	if (m->has_range ||
	    headers_content_range(m->line + strlen(name), &m->range) < 0 ||
	    !m->range.has_range)
		return -EBADMSG;
	m->has_range = true;
	return BYTERANGES_MORE;
}

/* m->line is complete. Return: as byteranges_next() */
static int on_line(struct byteranges *m)
{
	if (++m->n_lines > BYTERANGES_LINES_MAX)
		return -EBADMSG;
	if (m->line[0] != '\0')
		return m->state == BYTERANGES_HEADERS ? on_header(m)
						      : on_delimiter(m);
	if (m->state == BYTERANGES_OUTSIDE)
		return BYTERANGES_MORE;
	if (!m->has_range)
		return -EBADMSG;
	m->state = BYTERANGES_INSIDE;
	m->left = m->range.end - m->range.start + 1;
	m->n_lines = 0;
	return BYTERANGES_PART;
}

/* Takes as much as there is of a line. Return: as byteranges_next() */
static int take_line(struct byteranges *m, const uint8_t **p, size_t *n)
{
	const uint8_t *end = memchr(*p, '\n', *n);
	size_t k = end != NULL ? (size_t)(end - *p) : *n;

	if (k >= sizeof(m->line) - m->n_line || memchr(*p, '\0', k) != NULL)
		return -EBADMSG;
	memcpy(m->line + m->n_line, *p, k);
	m->n_line += k;
	k += end != NULL;
	*p += k;
	*n -= k;
	if (end == NULL)
		return BYTERANGES_MORE;
	if (m->n_line > 0 && m->line[m->n_line - 1] == '\r')
		m->n_line--;
	m->line[m->n_line] = '\0';
	m->n_line = 0;
	return on_line(m);
}

int byteranges_next(struct byteranges *m, const uint8_t **p, size_t *n,
		    const uint8_t **ret, size_t *ret_n)
{
	int r = BYTERANGES_MORE;

	while (*n > 0 && r == BYTERANGES_MORE) {
		if (m->state == BYTERANGES_OVER) {
			m->n_line += *n;
			if (m->n_line > BYTERANGES_LINE_MAX)
				return -EBADMSG;
			*p += *n;
			*n = 0;
		} else if (m->state == BYTERANGES_INSIDE) {
			*ret = *p;
			*ret_n = (size_t)MIN(m->left, (uint64_t)*n);
			*p += *ret_n;
			*n -= *ret_n;
			m->left -= *ret_n;
			if (m->left == 0)
				m->state = BYTERANGES_OUTSIDE;
			return BYTERANGES_DATA;
		} else {
			r = take_line(m, p, n);
		}
	}
	return r;
}
