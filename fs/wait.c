/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/wait.h"

#include "common/present.h"
#include "fs/miss.h"

void wait_free(struct waiter *w)
{
	free(w->bounce);
	free(w->mem);
	free(w);
}

bool wait_bounce(struct waiter *w)
{
	w->bounce = calloc(1, w->size);
	w->mem = calloc(w->end - w->first, sizeof(*w->mem));
	if (w->bounce != NULL && w->mem != NULL)
		return true;
	free(w->bounce);
	free(w->mem);
	w->bounce = NULL;
	w->mem = NULL;
	return false;
}

bool wait_ready(const struct miss *m, const struct waiter *w)
{
	if (w->mem == NULL)
		return present_test_range(m->pr, w->first, w->end - w->first);
	for (uint64_t i = w->first; i < w->end; i++) {
		if (!w->mem[i - w->first] && !present_test(m->pr, i))
			return false;
	}
	return true;
}

void wait_take_ready(struct miss *m, uint64_t first, uint64_t end,
		     struct waiter **list)
{
	struct waiter **at = &m->waiters;

	while (*at != NULL) {
		struct waiter *w = *at;

		if (w->first >= end || w->end <= first || !wait_ready(m, w)) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		w->next = *list;
		*list = w;
	}
}

void wait_take_failed(struct miss *m, uint64_t first, uint64_t end,
		      uint64_t since_ns, int error, struct waiter **list)
{
	struct waiter **at = &m->waiters;

	while (*at != NULL) {
		struct waiter *w = *at;
		uint64_t a = MAX(first, w->first), z = MIN(end, w->end);

		if (a >= z || w->start_ns > since_ns ||
		    present_test_range(m->pr, a, z - a)) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		w->error = error;
		w->next = *list;
		*list = w;
	}
}

bool wait_anyone(const struct miss *m, uint64_t first, uint64_t end)
{
	for (struct waiter *w = m->waiters; w != NULL; w = w->next) {
		if (w->first < end && first < w->end)
			return true;
	}
	return false;
}
