/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of files; each pattern is matched with every line of the text. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "cli/glob.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

#define MATCHES_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	CLEANUP_GLOB_LIST struct glob_list g = {0};
	CLEANUP_FREE char *text = malloc(len + 1);
	struct err e = {0};
	size_t n = 0;
	int r;

	if (text == NULL || len > 2048)
		return 0;
	memcpy(text, p, len);
	text[len] = '\0';
	r = glob_list_parse(text, len, &g, &e);
	assert(r == 0 || r == -EBADMSG || r == -EOVERFLOW || r == -ENOMEM);
	assert(r == 0 || (e.text[0] != '\0' && g.n == 0));
	for (size_t i = 0; i < g.n; i++) {
		char *save = NULL;

		assert(g.lines[i].pattern[0] != '\0' &&
		       g.lines[i].pattern[0] != '/');
		if (g.lines[i].literal)
			continue;
		memcpy(text, p, len);
		for (char *t = strtok_r(text, "\n", &save);
		     t != NULL && n < MATCHES_MAX;
		     t = strtok_r(NULL, "\n", &save), n++)
			(void)glob_match(g.lines[i].pattern, t);
	}
	return 0;
}
