/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of several parts. The first line is the type; then the body, which must
 * mean the same however it is cut. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "daemon/registry/byteranges.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a body came to. */
struct sum {
	uint64_t parts;
	uint64_t bytes;
	uint64_t hash;
	bool bad;
	bool over;
};

static void add(struct sum *s, uint64_t v)
{
	s->hash = (s->hash ^ v) * 0x100000001b3u;
}

static struct sum run(const char *type, const uint8_t *data, size_t size,
		      size_t step)
{
	struct byteranges m;
	struct sum s = {.bad = byteranges_init(&m, type) < 0};

	while (size > 0 && !s.bad) {
		const uint8_t *p = data, *got = NULL;
		size_t n = MIN(size, step), k = 0;

		data += n;
		size -= n;
		while (n > 0 && !s.bad) {
			size_t before = n;
			int r = byteranges_next(&m, &p, &n, &got, &k);

			assert(n < before || r < 0);
			s.bad = r < 0;
			if (r == BYTERANGES_PART) {
				assert(m.range.has_range);
				assert(m.range.start <= m.range.end);
				s.parts++;
				add(&s, m.range.start);
				add(&s, m.range.end);
			}
			for (size_t i = 0; r == BYTERANGES_DATA && i < k; i++)
				add(&s, got[i]);
			s.bytes += r == BYTERANGES_DATA ? k : 0;
		}
	}
	s.over = !s.bad && byteranges_over(&m);
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nl = size > 0 ? memchr(data, '\n', size) : NULL;
	CLEANUP_FREE char *type = NULL;
	struct sum a, b;

	if (nl == NULL)
		return 0;
	type = strndup((const char *)data, (size_t)(nl - data));
	if (type == NULL)
		return 0;
	size -= (size_t)(nl + 1 - data);
	a = run(type, nl + 1, size, size);
	b = run(type, nl + 1, size, 3);
	assert(a.bad == b.bad && a.over == b.over);
	if (!a.bad)
		assert(a.parts == b.parts && a.bytes == b.bytes &&
		       a.hash == b.hash);
	return 0;
}
