/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/runline.h"

#include <string.h>

int runline_init(struct runline *l, const char *text, struct err *e)
{
	*l = (struct runline){.text = text};
	if (*text == '\0' || strchr(text, '\n') != NULL)
		return err_set(e, -EINVAL,
			       "--wait-on-line: not the text of a line");
	l->has_regex = regcomp(&l->regex, text, REG_EXTENDED | REG_NOSUB) == 0;
	return 0;
}

void runline_done(struct runline *l)
{
	if (l->has_regex)
		regfree(&l->regex);
	*l = (struct runline){0};
}

void runline_stream_done(struct runline_stream *s)
{
	free(s->line);
	*s = (struct runline_stream){0};
}

static bool matches(const struct runline *l, const struct runline_stream *s)
{
	if (strstr(s->line, l->text) != NULL)
		return true;
	return l->has_regex && regexec(&l->regex, s->line, 0, NULL, 0) == 0;
}

int runline_feed(const struct runline *l, struct runline_stream *s,
		 const char *p, size_t n)
{
	bool found = false;

	if (s->line == NULL)
		s->line = malloc(RUNLINE_BYTES_MAX + 1);
	if (s->line == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\n') {
			s->line[s->len] = '\0';
			found = found || matches(l, s);
			s->len = 0;
		} else if (s->len < RUNLINE_BYTES_MAX && p[i] != '\r' &&
			   p[i] != '\0') {
			s->line[s->len++] = p[i];
		}
	}
	/* A prompt has no end of line. But "$" is not where a part ends. */
	s->line[s->len] = '\0';
	return found || (s->len > 0 && strstr(s->line, l->text) != NULL);
}
