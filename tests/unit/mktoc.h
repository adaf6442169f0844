/* SPDX-License-Identifier: Apache-2.0 */
/* TOCs made by hand, for tests. Strings are borrowed; out of memory aborts. */
#ifndef TESTS_UNIT_MKTOC_H
#define TESTS_UNIT_MKTOC_H

#include <string.h>

#include "common/toc.h"

struct mktoc {
	struct toc toc;
	uint32_t cap;
	uint64_t next_offset;
};

/* Valid until the next one is made. */
static inline struct toc_entry *mktoc_add(struct mktoc *m, enum toc_type type,
					  const char *name)
{
	struct toc_entry *en;

	if (m->toc.n_entries == m->cap) {
		m->cap = m->cap * 2 + 16;
		m->toc.entries = realloc(m->toc.entries,
					 m->cap * sizeof(*m->toc.entries));
		assert(m->toc.entries != NULL);
	}
	en = &m->toc.entries[m->toc.n_entries++];
	memset(en, 0, sizeof(*en));
	en->name = name;
	en->name_len = (uint32_t)strlen(name);
	en->type = (uint8_t)type;
	en->mode = type == TOC_DIR ? 0755 : 0644;
	return en;
}

static inline struct toc_entry *mktoc_link(struct mktoc *m, enum toc_type type,
					   const char *name, const char *link)
{
	struct toc_entry *en = mktoc_add(m, type, name);

	en->link = link;
	en->link_len = (uint32_t)strlen(link);
	return en;
}

/* The next place in the blob, each 1000 bytes behind the last. */
static inline void mktoc_place(struct mktoc *m, struct toc_entry *en)
{
	m->next_offset += 1000;
	en->offset = m->next_offset;
	en->has_chunk_digest = true;
	memset(en->chunk_digest.b, 0xd1, DIGEST_BYTES);
}

static inline struct toc_entry *mktoc_reg(struct mktoc *m, const char *name,
					  uint64_t size)
{
	struct toc_entry *en = mktoc_add(m, TOC_REG, name);

	en->size = size;
	if (size > 0)
		mktoc_place(m, en);
	return en;
}

/* A further chunk of the last file; @size 0: to the end. */
static inline struct toc_entry *mktoc_chunk(struct mktoc *m, const char *name,
					    uint64_t at, uint64_t size)
{
	struct toc_entry *en = mktoc_add(m, TOC_CHUNK, name);

	en->chunk_offset = at;
	en->chunk_size = size;
	mktoc_place(m, en);
	return en;
}

static inline void mktoc_done(struct mktoc *m)
{
	free(m->toc.entries);
	*m = (struct mktoc){0};
}

#endif
