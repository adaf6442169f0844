/* SPDX-License-Identifier: Apache-2.0 */
/* A whole blob; or, where it has no footer, the JSON of a TOC. */
#include "config.h"

#include <string.h>

#include "common/checked.h"
#include "common/limits.h"
#include "common/toc.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

static void path_check(const char *p, uint32_t len)
{
	assert(strlen(p) == len);
	assert(len <= TOC_NAME_BYTES_MAX);
	assert(p[0] != '/');
	assert(len == 0 || p[len - 1] != '/');
	assert(strstr(p, "//") == NULL);
	for (const char *c = p; *c != '\0';) {
		size_t n = strcspn(c, "/");

		assert(n > 0);
		assert(n <= TOC_COMPONENT_BYTES_MAX);
		assert(n != 1 || c[0] != '.');
		assert(n != 2 || c[0] != '.' || c[1] != '.');
		c += n;
		c += *c == '/';
	}
}

/* What toc.h promises of an entry. */
static void entry_check(const struct toc_entry *t, const struct toc_entry *reg)
{
	uint32_t sum = 0;

	assert(t->type >= TOC_DIR);
	assert(t->type <= TOC_CHUNK);
	path_check(t->name, t->name_len);
	assert((t->link != NULL) ==
	       (t->type == TOC_SYMLINK || t->type == TOC_HARDLINK));
	if (t->link != NULL)
		assert(strlen(t->link) == t->link_len && t->link_len > 0);
	if (t->type == TOC_HARDLINK)
		path_check(t->link, t->link_len);
	assert((t->mode & ~07777u) == 0);
	if (t->type == TOC_REG || t->type == TOC_CHUNK) {
		assert(reg != NULL);
		assert(strcmp(reg->name, t->name) == 0);
		assert(checked_range(t->chunk_offset, t->chunk_size,
				     reg->size));
	}
	assert(t->n_xattrs <= TOC_XATTRS_MAX);
	for (uint32_t i = 0; i < t->n_xattrs; i++) {
		const struct toc_xattr *x = &t->xattrs[i];

		assert(strlen(x->name) > 0);
		assert(strlen(x->name) <= XATTR_NAME_BYTES_MAX);
		assert(x->value_len <= XATTR_VALUE_BYTES_MAX);
		assert(i == 0 || strcmp(x[-1].name, x->name) < 0);
		for (uint32_t k = 0; k < x->value_len; k++)
			sum += x->value[k];
	}
	assert(sum <= UINT32_MAX);
}

static void json_check(char *json, size_t len)
{
	const struct toc_entry *reg = NULL;
	struct err e = {0};
	struct toc *t = NULL;
	int r = toc_parse(json, len, &t, &e);

	if (r < 0) {
		assert(t == NULL);
		assert(e.code == r);
		assert(r == -EBADMSG || r == -EOVERFLOW || r == -EOPNOTSUPP);
		return;
	}
	for (uint32_t i = 0; i < t->n_entries; i++) {
		if (t->entries[i].type != TOC_CHUNK)
			reg = &t->entries[i];
		entry_check(&t->entries[i], reg);
	}
	toc_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	struct buf json = BUF_INIT(TOC_JSON_BYTES_MAX);
	size_t tail = MIN(len, (size_t)TOC_FOOTER_BYTES_MAX);
	struct toc_footer f;
	struct err e = {0};
	int r;

	if (toc_footer_parse(p + len - tail, tail, len, &f, &e) == 0) {
		r = toc_decode(&f, p + f.toc_off, f.toc_len, &json, &e);
		if (r < 0) {
			assert(json.p == NULL);
			assert(e.code == r);
		} else {
			assert(json.len <= TOC_JSON_BYTES_MAX);
			json_check(json.p, json.len);
		}
	} else {
		char *copy = malloc(len > 0 ? len : 1);

		assert(copy != NULL);
		memcpy(copy, p, len);
		json_check(copy, len);
		free(copy);
	}
	buf_done(&json);
	return 0;
}
