/* SPDX-License-Identifier: Apache-2.0 */
/* Values of HTTP headers, from servers nobody trusts. Pure. */
#ifndef REGISTRY_HEADERS_H
#define REGISTRY_HEADERS_H

#include "common/base.h"
#include "common/err.h"

/**
 * struct content_range - bytes start to end (inclusive) of total
 * @has_range:	false for "bytes *" "/total", the answer with 416
 * @has_total:	false where total is "*"
 */
struct content_range {
	uint64_t start;
	uint64_t end;
	uint64_t total;
	bool has_range;
	bool has_total;
};

/**
 * headers_content_range() - parse the value of Content-Range
 *
 * Spec: RFC 9110 §14.4. Return: 0, -EBADMSG (not bytes, not numbers, end
 * before start, end behind total)
 */
int headers_content_range(const char *s, struct content_range *ret);

enum auth_scheme {
	AUTH_NONE,
	AUTH_BASIC,
	AUTH_BEARER
};

#define CHALLENGE_VALUE_MAX 2048u

/**
 * struct challenge - what a WWW-Authenticate asks for
 */
struct challenge {
	enum auth_scheme scheme;
	char realm[CHALLENGE_VALUE_MAX];
	char service[CHALLENGE_VALUE_MAX];
	char scope[CHALLENGE_VALUE_MAX];
};

/**
 * headers_challenge() - parse one value of WWW-Authenticate
 * @s:		may hold several challenges; Bearer is preferred to Basic
 *
 * Spec: RFC 9110 §11.6.1, RFC 6750 §3, distribution token specification
 * Return: 0, -EOPNOTSUPP (no scheme we know), -EBADMSG (does not parse, or a
 * value is too long, or Bearer without a realm)
 */
int headers_challenge(const char *s, struct challenge *ret);

/**
 * headers_retry_after() - seconds to wait
 * @wall_s:	now, seconds since the epoch, for the form that is a date
 *
 * Return: 0, -EBADMSG
 */
int headers_retry_after(const char *s, int64_t wall_s, uint64_t *ret_s);

/**
 * headers_upload_range() - how much of an upload is there
 * @s:		value of Range in an answer: "0-<last>", also "bytes=0-<last>"
 * @ret:	bytes; "0-0" is 0, because there is no other way to say that
 *
 * Spec: OCI distribution-spec, "Pushing a blob in chunks". Return: 0, -EBADMSG
 */
int headers_upload_range(const char *s, uint64_t *ret);

/**
 * headers_link_next() - where a list goes on
 * @s:		value of Link
 * @ret:	heap: the reference of relation "next", to be resolved
 *
 * Spec: RFC 8288 §3. Return: 0, -ENOENT, -EBADMSG, -ENOMEM
 */
int headers_link_next(const char *s, char **ret);

/* Decimal digits and nothing else. Return: 0, -EBADMSG. */
int headers_u64(const char *s, uint64_t *ret);

/**
 * headers_location() - the URL a Location means
 * @base:	URL of the request
 * @location:	absolute or relative
 * @ret_url:	heap, owned by the caller; http or https, no user info
 * @ret_same_origin: scheme, host and port are those of @base
 *
 * Return: 0, -EBADMSG, -EACCES (from https to http), -ENOMEM
 */
int headers_location(const char *base, const char *location, char **ret_url,
		     bool *ret_same_origin);

#endif
