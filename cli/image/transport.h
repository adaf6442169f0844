/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what a transport of image.h is made of. image.c checks digests, sizes
 * and media types, and calls these, which only move bytes: registry.c,
 * layout.c (oci:, and the directory behind archives), archive.c.
 */
#ifndef CLI_IMAGE_TRANSPORT_H
#define CLI_IMAGE_TRANSPORT_H

#include "cli/image/image.h"

/* Functions that a transport does not have are NULL. */
struct image_src_ops {
	int (*root)(struct image_src *s, struct image_desc *ret,
		    struct buf *doc, struct err *e);
	int (*document)(struct image_src *s, const struct image_desc *d,
			struct buf *doc, struct err *e);
	int (*blob)(struct image_src *s, const struct image_desc *d,
		    struct image_read **ret, struct err *e);
	int (*range)(struct image_src *s, const struct image_desc *d,
		     uint64_t off, size_t n, struct buf *ret,
		     uint64_t *ret_size, struct err *e);
	/* The artifacts' list: an index whose manifests refer to @subject. */
	int (*referrers)(struct image_src *s, const struct image_desc *subject,
			 struct buf *doc, struct err *e);
	void (*close)(struct image_src *s);
};

struct image_src {
	const struct image_src_ops *ops;
	struct image_name name;
};

struct image_read_ops {
	ssize_t (*some)(struct image_read *r, void *p, size_t n, struct err *e);
	void (*close)(struct image_read *r);
};

struct image_read {
	const struct image_read_ops *ops;
	/* image.c's */
	struct image_desc desc;
	struct sha256 *sha256;
	uint64_t n_read;
};

struct image_dst_ops {
	int (*has)(struct image_dst *d, const struct image_desc *b,
		   struct err *e);
	int (*put)(struct image_dst *d, const struct image_desc *b, int fd,
		   void (*progress)(void *arg, uint64_t bytes), void *arg,
		   struct err *e);
	/* Return: 1 done, 0 not possible here */
	int (*mount)(struct image_dst *d, struct image_src *s,
		     const struct image_desc *b, struct err *e);
	int (*document)(struct image_dst *d, const struct image_desc *b,
			const void *doc, struct err *e);
	int (*commit)(struct image_dst *d, const struct image_desc *root,
		      const void *doc, struct err *e);
	/* The artifact's manifest @m is to be found by its subject. */
	int (*refer)(struct image_dst *d, const struct image_desc *subject,
		     const char *artifact_type, const struct image_desc *m,
		     const void *doc, struct err *e);
	/* What was written after the commit is to be there. For those where an
	 * artifact's manifest would be one image more to who asks for the only
	 * one: without refer, or without a tag. */
	int (*keep)(struct image_dst *d, struct err *e);
	void (*close)(struct image_dst *d);
};

struct image_dst {
	const struct image_dst_ops *ops;
	struct image_name name;
	bool committed;
};

/* Each makes a struct whose first member is the one above; *@ret is NULL and
 * @e set where it fails. image.c copies @n into it. */
int registry_src(const struct image_name *n, const struct image_opts *o,
		 struct image_src **ret, struct err *e);
int registry_dst(const struct image_name *n, const struct image_opts *o,
		 struct image_dst **ret, struct err *e);
int layout_src(const struct image_name *n, struct image_src **ret,
	       struct err *e);
int layout_dst(const struct image_name *n, struct image_dst **ret,
	       struct err *e);
int archive_src(const struct image_name *n, struct image_src **ret,
		struct err *e);
int archive_dst(const struct image_name *n, struct image_dst **ret,
		struct err *e);

#endif
