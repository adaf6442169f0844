/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/mnttab.h"

#include <string.h>

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* In place. */
static char *unescape(char *s)
{
	char *to = s;

	for (const char *p = s; *p != '\0'; to++) {
		if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' &&
		    is_octal(p[2]) && is_octal(p[3])) {
			*to = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 |
				     (p[3] - '0'));
			p += 4;
		} else {
			*to = *p++;
		}
	}
	*to = '\0';
	return s;
}

static char *field(char **at)
{
	char *s = strsep(at, " ");

	return s != NULL ? unescape(s) : NULL;
}

bool mnttab_next(struct mnttab *t, FILE *list)
{
	while (getline(&t->line, &t->cap, list) > 0) {
		char *at = t->line;

		at[strcspn(at, "\n")] = '\0';
		t->m = (struct mntent){0};
		t->m.mnt_fsname = field(&at);
		t->m.mnt_dir = field(&at);
		t->m.mnt_type = field(&at);
		t->m.mnt_opts = field(&at);
		if (t->m.mnt_opts != NULL)
			return true;
	}
	return false;
}

void mnttab_done(struct mnttab *t)
{
	free(t->line);
}
