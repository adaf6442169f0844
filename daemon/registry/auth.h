/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what to put into Authorization. For every server and scope there
 * is one entry: what the server asked for last, and the header that answers
 * it (Basic, or a Bearer token until it expires). A server's first scope
 * costs a 401; its other ones know what to fetch beforehand. Whoever needs a
 * token that is being fetched waits for that one.
 */
#ifndef REGISTRY_AUTH_H
#define REGISTRY_AUTH_H

#include "common/base.h"
#include "common/err.h"
#include "common/list.h"

struct auth;
struct registry;
struct host;

#define AUTH_EXPIRES_DEFAULT_S 60u
#define AUTH_SLACK_S 10u
#define AUTH_ENTRIES_MAX 1024u

/**
 * struct auth_scope - what is going to be done
 * @push:	not only pulled from
 * @from:	another repository, which is pulled from; NULL: none
 */
struct auth_scope {
	const char *repo;
	const char *from;
	bool push;
};

/**
 * struct auth_wait - somebody who waits for a header
 * @fn:		called once, from the loop: ask again where @e is NULL, else
 *		it failed (@permanent: for good)
 */
struct auth_wait {
	struct list node;
	void (*fn)(struct auth_wait *w, const struct err *e, bool permanent);
};

int auth_new(struct registry *g, struct auth **ret);
void auth_free(struct auth *a);

/**
 * auth_header() - the header for a request
 * @ns:		registry, as in image references
 * @ret_header:	"Authorization: …", borrowed until the loop turns; NULL: none
 * @ret_gen:	for auth_refused()
 *
 * Return: 0, 1 (@w will be called), -ENOMEM
 */
int auth_header(struct auth *a, const struct host *h, const char *ns,
		const struct auth_scope *scope, struct auth_wait *w,
		const char **ret_header, unsigned *ret_gen);
void auth_wait_cancel(struct auth_wait *w);

/**
 * auth_refused() - the server answered 401 or 403
 * @www:	its challenge, may be NULL
 * @gen:	of the header that was sent
 *
 * Return: true: ask for a header again and send once more
 */
bool auth_refused(struct auth *a, const struct host *h, const char *ns,
		  const struct auth_scope *scope, unsigned status,
		  const char *www, unsigned gen);

/**
 * auth_token_parse() - the answer of a token endpoint. Pure.
 * @ret_token:	heap
 *
 * Return: 0, -EBADMSG, -ENOMEM
 */
int auth_token_parse(const char *json, size_t len, char **ret_token,
		     uint64_t *ret_expires_s);

#endif
