/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: the entries of a layer, and in which order they are written.
 *
 * What is wanted goes in front, with the directories it is in before it and,
 * where it is a hard link, with the file it is a link to. That must not change
 * what the layer unpacks to. So an entry stays where it is if its name stands
 * in the layer more than once, if it is a whiteout or there is one of it, if
 * what it is in is anything but a directory there, or if that is so of the file it is a link
 * to: then what comes before what means something.
 */
#ifndef CLI_BUILD_ORDER_H
#define CLI_BUILD_ORDER_H

#include "cli/build/tar.h"
#include "common/base.h"
#include "common/buf.h"
#include "common/err.h"

#define ORDER_NONE UINT32_MAX

/**
 * struct order_entry - an entry of the input
 * @head_off, @end: from its header to what is behind its padding, in the tar
 * @name, @link: where in @names, NUL-terminated; @link is of a hard link
 * @wanted:	its number in what is wanted, or ORDER_NONE
 * @type:	enum toc_type, 0: global records
 */
struct order_entry {
	uint64_t head_off;
	uint64_t end;
	size_t name;
	size_t link;
	uint32_t wanted;
	uint8_t type;
	bool front;
};

/**
 * struct order - the entries
 * @e:		[@n] in the order of the tar
 * @by_name:	[@n] numbers of them, by name and then as in the tar; made by
 *		order_sort()
 * @front:	[@n_front] numbers, in the order of the output
 */
struct order {
	struct order_entry *e;
	size_t n;
	size_t cap;
	struct buf names;
	uint32_t *by_name;
	uint32_t *front;
	size_t n_front;
};

void order_init(struct order *o);
void order_done(struct order *o);
#define CLEANUP_ORDER CLEANUP(order_done)

/* Notes an entry that ends at @end. Return: 0, -EOVERFLOW, -ENOMEM */
int order_add(struct order *o, const struct tar_entry *t, uint64_t end);

const char *order_name(const struct order *o, size_t i);

/* Return: 0, -ENOMEM */
int order_sort(struct order *o);

/**
 * order_paths() - the names, none twice, in the order of the tar
 * @ret:	[*@ret_n], to be freed; the names are the order's
 *
 * Return: 0, -ENOMEM
 */
int order_paths(const struct order *o, const char ***ret, size_t *ret_n);

/* Puts what is wanted in front. Return: 0, -ENOMEM */
int order_front(struct order *o, const struct build_wanted *wanted, size_t n);

#endif
