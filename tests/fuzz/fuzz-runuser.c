/* SPDX-License-Identifier: Apache-2.0 */
/* passwd and group of an image: a user, a line, the files. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "cli/runroot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = strndup((const char *)data, size);
	CLEANUP_RUNUSER struct runuser u = {0};
	struct err e = {0};
	char *files = text;
	const char *user = strsep(&files, "\n");

	if (runuser_find(files, files, user, &u, &e) < 0)
		assert(e.text[0] != '\0' && u.groups == NULL);
	else
		assert(u.uid != UINT32_MAX && u.gid != UINT32_MAX);
	return 0;
}
