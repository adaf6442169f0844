/* SPDX-License-Identifier: Apache-2.0 */
/* Events of mounts: any bytes, as a file; what they come to, and their picture. */
#include "config.h"

#include <string.h>

#include "cli/evlog.h"
#include "cli/runstat.h"
#include "cli/waterfall.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bytes that XML has for itself come from us alone. */
static void draw(const struct evlog *l, uint64_t idle_us)
{
	const struct runstat_window window = {
		.from_us = RUNSTAT_NEVER,
		.to_us = RUNSTAT_NEVER,
		.idle_us = idle_us,
		.rtt_us = 20000,
	};
	CLEANUP_RUNSTAT struct runstat s = {0};
	CLEANUP_FREE char *text = NULL;
	struct waterfall w = {
		.log = l,
		.stat = &s,
		.title = "t",
		.rows = 3,
		.top = 10,
	};
	struct err e = {0};
	size_t n = 0;
	FILE *f;

	if (runstat_make(l, &window, &s, &e) < 0)
		return;
	assert(s.to_us >= s.from_us && s.n_waits <= s.reads);
	assert(s.by_how[EVLOG_HIT] + s.n_waits == s.reads);
	f = open_memstream(&text, &n);
	if (f == NULL)
		return;
	(void)waterfall_html(&w, f);
	(void)fclose(f);
	assert(strstr(text, "=\"nan") == NULL &&
	       strstr(text, "=\"-nan") == NULL);
}

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
	draw(&l, 0);
	draw(&l, 1000);
	return 0;
}
