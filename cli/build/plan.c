/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/build/plan.h"

struct plan plan_init(const struct build_wanted *wanted, uint64_t chunk_bytes,
		      uint64_t size)
{
	struct plan p = {.chunk_bytes = chunk_bytes, .size = size};

	if (wanted != NULL) {
		p.ranges = wanted->ranges;
		p.n = wanted->n_ranges;
	}
	return p;
}

/* Whole pages of a range, within the file. */
static struct build_range pages(const struct plan *p, size_t i)
{
	uint64_t off = MIN(p->ranges[i].off, p->size);
	uint64_t end = off + MIN(p->ranges[i].len, p->size - off);

	off &= ~(PLAN_PAGE_BYTES - 1);
	end = MIN(ALIGN_UP(end, PLAN_PAGE_BYTES), p->size);
	return (struct build_range){off, end - off};
}

uint64_t plan_next(struct plan *p, uint64_t off)
{
	uint64_t end = p->size;

	while (p->i < p->n) {
		struct build_range r = pages(p, p->i), next;
		size_t k = p->i + 1;

		for (; k < p->n; k++) {
			next = pages(p, k);
			if (next.off > r.off + r.len + PLAN_GAP_BYTES)
				break;
			r.len = MAX(r.off + r.len, next.off + next.len) - r.off;
		}
		if (off < r.off) {
			end = r.off;
			break;
		}
		if (off < r.off + r.len) {
			end = r.off + r.len;
			break;
		}
		p->i = k;
	}
	return end - off > p->chunk_bytes ? off + p->chunk_bytes : end;
}

bool plan_was_read(const struct plan *p, uint64_t off)
{
	return p->i < p->n && off >= pages(p, p->i).off;
}
