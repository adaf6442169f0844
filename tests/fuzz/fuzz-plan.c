/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a trace says, its plan is in order, disjoint and bounded. */
#include "config.h"

#include "common/trace.h"
#include "daemon/fetcher/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	CLEANUP_TRACE struct trace t = {0};
	struct plan plan = {0};
	uint64_t total = 0;

	if (trace_parse((const char *)p, len, &t, NULL) < 0)
		return 0;
	if (plan_make(&t, len % (t.n_layers + 1), &plan) < 0)
		return 0;
	assert(plan.first[plan.n_layers] == plan.n);
	for (size_t k = 0; k < plan.n_layers; k++) {
		uint64_t end = 0;

		for (uint32_t i = plan.first[k]; i < plan.first[k + 1]; i++) {
			const struct plan_range *r = &plan.v[plan.by_place[i]];

			assert(r->layer == k);
			assert(r->off >= end && r->len > 0);
			assert(r->len <= PLAN_RANGE_BYTES_MAX);
			end = r->off + r->len;
			total += r->len;
		}
		assert(plan_place(&plan, k, end) == plan.first[k + 1]);
	}
	/* A gap for each read at most. */
	assert(total <= PLAN_BYTES_MAX + TRACE_READS_MAX * PLAN_GAP_BYTES +
				PLAN_OPENING_BYTES);
	for (size_t i = 1; i < plan.n; i++)
		assert(plan.v[i - 1].rank <= plan.v[i].rank);
	plan_done(&plan);
	return 0;
}
