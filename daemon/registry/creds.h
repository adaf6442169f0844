/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: credentials from docker's config.json: auths, identitytoken,
 * registrytoken, credHelpers, credsStore. The file is read again for every
 * question (there is one for each token, not for each request), so changes
 * count at once; nothing secret is kept here. Helpers run as children while
 * the loop goes on.
 */
#ifndef REGISTRY_CREDS_H
#define REGISTRY_CREDS_H

#include "common/base.h"
#include "common/err.h"

struct loop;

#define CREDS_BYTES_MAX KIB(1024)
#define CREDS_HELPER_WAIT_S 30u

/**
 * struct cred - what is known of a server; all NULL: anonymous
 */
struct cred {
	char *user;
	char *secret;
	char *identity_token;
	char *registry_token;
};

/* Overwrites and frees. */
void cred_done(struct cred *c);
#define CLEANUP_CRED CLEANUP(cred_done)

/**
 * creds_lookup() - what a config.json says about a server. Pure.
 * @json:	[@len]
 * @host:	"host[:port]" as in image references ("docker.io")
 * @ret_helper:	heap: the helper to ask, NULL: @ret has the answer
 *
 * Return: 0, -EBADMSG, -ENOMEM
 */
int creds_lookup(const char *json, size_t len, const char *host,
		 struct cred *ret, char **ret_helper, struct err *e);

/* Parses what a helper prints. Return: 0, -EBADMSG, -ENOMEM. */
int creds_helper_parse(const char *json, size_t len, struct cred *ret);

struct creds_query;

/**
 * creds_ask() - credentials for a server
 * @config:	file, NULL: where docker has it
 * @fn:		called once, maybe before this returns; @c may be taken from.
 *		Problems are logged and answered with nothing.
 * @ret:	where there is a child to wait for: for creds_cancel(); else
 *		NULL
 */
void creds_ask(struct loop *l, const char *config, const char *host,
	       void (*fn)(void *ctx, struct cred *c), void *ctx,
	       struct creds_query **ret);
void creds_cancel(struct creds_query *q);

#endif
