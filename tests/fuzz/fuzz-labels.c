/* SPDX-License-Identifier: Apache-2.0 */
/* Labels of a snapshot: lines, each a key, a tab and a value. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "common/proto.h"
#include "daemon/snapshotter/labels.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = strndup((const char *)data, size);
	CLEANUP_LABELS struct labels l = {0};
	CLEANUP_LAZY struct lazy z = {0};
	struct err e = {0};
	char *next = text;
	int r;

	while (next != NULL) {
		char *line = strsep(&next, "\n");
		char *key = strsep(&line, "\t");

		if (labels_set(&l, key, line) < 0)
			return 0;
	}
	r = labels_lazy(&l, &z, &e);
	if (r == 1) {
		assert(z.repository != NULL && z.reference != NULL);
		assert(strpbrk(z.reference, " \n") == NULL);
		assert(z.n_others <= PROTO_WARM_BLOBS_MAX);
	} else {
		assert(z.reference == NULL);
		assert(r == 0 || e.text[0] != '\0');
	}
	return 0;
}
