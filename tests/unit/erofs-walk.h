/* SPDX-License-Identifier: Apache-2.0 */
/* Reads everything there is in an image, however broken it is. */
#ifndef TESTS_UNIT_EROFS_WALK_H
#define TESTS_UNIT_EROFS_WALK_H

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "common/erofs.h"
#include "common/erofs_format.h"
#include "common/rd.h"

#define WALK_VISITS_MAX 2000u

/* Uses every byte, so that a sanitizer sees a bad pointer. */
static inline unsigned walk_touch(const void *p, size_t n)
{
	const uint8_t *b = p;
	unsigned sum = 0;

	while (n-- > 0)
		sum += *b++;
	return sum;
}

static inline int walk_xattrs(const struct erofs_image *im,
			      const struct erofs_inode *in)
{
	ssize_t n = erofs_xattr_list(im, in, NULL, 0);
	char *names;
	int r = 0;

	if (n < 0)
		return (int)n;
	names = malloc((size_t)n + 1);
	assert(names != NULL);
	assert(n == 0 || erofs_xattr_list(im, in, names, (size_t)n) == n);
	for (const char *p = names; p < names + n; p += strlen(p) + 1) {
		const uint8_t *value;
		size_t len;

		r = erofs_xattr_get(im, in, p, &value, &len);
		assert(r == 0);
		(void)walk_touch(value, len);
	}
	free(names);
	return 0;
}

/*
 * Return: 0 and everything was right, -EBADMSG something was not, -E2BIG more
 * than WALK_VISITS_MAX names (a circle, perhaps).
 */
static inline int walk_image(const struct erofs_image *im)
{
	uint64_t *stack = malloc(WALK_VISITS_MAX * sizeof(*stack));
	size_t n = 0, visits = 0;
	int ret = 0, r;

	assert(stack != NULL);
	stack[n++] = im->root_nid;
	while (n > 0) {
		struct erofs_inode in;
		struct erofs_dirent d;
		const char *link;
		size_t len;

		r = erofs_inode_get(im, stack[--n], &in);
		if (r < 0) {
			ret = r;
			continue;
		}
		r = walk_xattrs(im, &in);
		if (r < 0)
			ret = r;
		r = erofs_readlink(im, &in, &link, &len);
		if (r == 0)
			(void)walk_touch(link, len);
		else if (r != -EINVAL)
			ret = r;
		if (!S_ISDIR(in.mode))
			continue;
		for (uint64_t pos = 0;
		     (r = erofs_readdir(im, &in, pos, &d)) > 0; pos = d.next) {
			uint64_t nid;
			uint8_t type;

			(void)walk_touch(d.name, d.len);
			assert(d.next > pos);
			r = erofs_lookup(im, &in, d.name, d.len, &nid, &type);
			if (r < 0 || nid != d.nid || type != d.dtype)
				ret = -EBADMSG;
			if (memcmp(d.name, "..", MIN(d.len, (size_t)2)) == 0 &&
			    d.len <= 2)
				continue;
			if (++visits >= WALK_VISITS_MAX) {
				free(stack);
				return -E2BIG;
			}
			stack[n++] = d.nid;
		}
		if (r < 0)
			ret = r;
	}
	free(stack);
	return ret;
}

/* After a change behind the superblock's back. */
static inline void fix_checksum(uint8_t *image, size_t len)
{
	if (len >= EROFS_BLOCK_BYTES)
		le32_store(image + EROFS_SUPER_OFF + EROFS_SB_CHECKSUM,
			   erofs_super_checksum(image));
}

#endif
