/* SPDX-License-Identifier: Apache-2.0 */
/* A trace that is taken is in bounds, and says the same when printed. */
#include "config.h"

#include <string.h>

#include "common/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	CLEANUP_TRACE struct trace t = {0}, again = {0};
	/* Numbers grow by nothing, digests not at all. */
	CLEANUP_BUF struct buf b = BUF_INIT(len + 256);
	struct err e = {0};

	if (trace_parse((const char *)p, len, &t, &e) < 0) {
		assert(e.text[0] != '\0');
		return 0;
	}
	for (size_t i = 0; i < t.n_reads; i++) {
		assert(t.reads[i].layer < t.n_layers);
		assert(t.reads[i].len > 0);
		assert(t.reads[i].off <= INT64_MAX - t.reads[i].len);
	}
	assert(trace_print(&t, &b) == 0);
	assert(trace_parse(b.p, b.len, &again, &e) == 0);
	assert(t.n_layers == again.n_layers);
	assert(t.n_reads == again.n_reads);
	for (size_t i = 0; i < t.n_reads; i++) {
		assert(t.reads[i].layer == again.reads[i].layer);
		assert(t.reads[i].off == again.reads[i].off);
		assert(t.reads[i].len == again.reads[i].len);
	}
	return 0;
}
