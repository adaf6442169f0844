/* SPDX-License-Identifier: Apache-2.0 */
/* Events of mounts: any bytes, as a file. */
#include "config.h"

#include <string.h>

#include "cli/evlog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_EVLOG struct evlog l = {0};
	struct err e = {0};
	FILE *f =
		size > 0 ? fmemopen((void *)(uintptr_t)data, size, "r") : NULL;

	if (f == NULL)
		return 0;
	(void)evlog_read(&l, f, &e);
	(void)fclose(f);
	for (uint32_t i = 0; i < l.n_items; i++) {
		assert(l.items[i].us <= l.items[i].end_us);
		assert(l.items[i].layer < l.n_layers);
		if (l.items[i].kind == EVLOG_READ)
			assert(l.items[i].file < l.n_files);
	}
	return 0;
}
