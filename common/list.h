/* SPDX-License-Identifier: Apache-2.0 */
/* Intrusive doubly linked lists; a head is a node of its own. */
#ifndef COMMON_LIST_H
#define COMMON_LIST_H

#include "common/base.h"

struct list {
	struct list *next;
	struct list *prev;
};

#define LIST_ENTRY(node, type, member) \
	((type *)(void *)((char *)(node)-offsetof(type, member)))
#define LIST_EACH(it, head) \
	for (struct list *it = (head)->next; it != (head); it = it->next)
/* The current node may be removed in the body, no other one. */
#define LIST_EACH_SAFE(it, head)                                    \
	for (struct list *it = (head)->next, *it##_next = it->next; \
	     it != (head); it = it##_next, it##_next = it->next)

static inline void list_init(struct list *l)
{
	l->next = l;
	l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

/* Puts n in front of at; with a head as at, that is the end of the list. */
static inline void list_add(struct list *at, struct list *n)
{
	n->next = at;
	n->prev = at->prev;
	at->prev->next = n;
	at->prev = n;
}

/* Leaves n empty, so that removing it again does nothing. */
static inline void list_del(struct list *n)
{
	n->next->prev = n->prev;
	n->prev->next = n->next;
	list_init(n);
}

/* Moves all of from to the end of to. */
static inline void list_splice(struct list *to, struct list *from)
{
	while (!list_empty(from)) {
		struct list *n = from->next;

		list_del(n);
		list_add(to, n);
	}
}

#endif
