/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/registry/headers.h"

#include <string.h>
#include <strings.h>
#include <time.h>

#include <curl/curl.h>

#include "common/checked.h"
#include "common/limits.h"

static const char *skip_space(const char *s)
{
	while (*s == ' ' || *s == '\t')
		s++;
	return s;
}

/* Digits at *s; steps over them. */
static int digits(const char **s, uint64_t *ret)
{
	const char *p = *s;
	uint64_t v = 0;

	if (*p < '0' || *p > '9')
		return -EBADMSG;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (!checked_mul_u64(v, 10, &v) ||
		    !checked_add_u64(v, (uint64_t)(*p - '0'), &v))
			return -EBADMSG;
	}
	*s = p;
	*ret = v;
	return 0;
}

int headers_u64(const char *s, uint64_t *ret)
{
	uint64_t v;

	s = skip_space(s);
	if (digits(&s, &v) < 0 || *skip_space(s) != '\0')
		return -EBADMSG;
	*ret = v;
	return 0;
}

int headers_content_range(const char *s, struct content_range *ret)
{
	struct content_range cr = {0};

	s = skip_space(s);
	if (strncasecmp(s, "bytes", 5) != 0 ||
	    (s[5] != ' ' && s[5] != '\t' && s[5] != '='))
		return -EBADMSG;
	s = skip_space(s + 6);
	if (*s == '*') {
		s++;
	} else {
		if (digits(&s, &cr.start) < 0 || *s++ != '-' ||
		    digits(&s, &cr.end) < 0 || cr.end < cr.start ||
		    cr.end == UINT64_MAX)
			return -EBADMSG;
		cr.has_range = true;
	}
	if (*s++ != '/')
		return -EBADMSG;
	if (*s == '*') {
		s++;
	} else {
		if (digits(&s, &cr.total) < 0)
			return -EBADMSG;
		cr.has_total = true;
	}
	if (*skip_space(s) != '\0' || (!cr.has_range && !cr.has_total) ||
	    (cr.has_range && cr.has_total && cr.end >= cr.total))
		return -EBADMSG;
	*ret = cr;
	return 0;
}

static bool token_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~/", c) != NULL);
}

/* A quoted string or a token at *s into buf; steps over it. */
static int value(const char **s, char *buf, size_t cap)
{
	const char *p = *s;
	size_t n = 0;

	if (*p == '"') {
		for (p++; *p != '"'; p++) {
			if (*p == '\\')
				p++;
			if (*p == '\0' || n + 1 >= cap ||
			    (unsigned char)*p < 0x20)
				return -EBADMSG;
			buf[n++] = *p;
		}
		p++;
	} else {
		for (; token_char(*p) || *p == ':' || *p == '='; p++) {
			if (n + 1 >= cap)
				return -EBADMSG;
			buf[n++] = *p;
		}
	}
	buf[n] = '\0';
	*s = p;
	return 0;
}

/* auth-param list up to the next scheme or the end. */
static int params(const char **s, struct challenge *c)
{
	const char *p = *s;

	for (;;) {
		char scratch[CHALLENGE_VALUE_MAX];
		const char *name, *after;
		char *dst = scratch;
		size_t n;

		while (*p == ',' || *p == ' ' || *p == '\t')
			p++;
		name = p;
		while (token_char(*p))
			p++;
		n = (size_t)(p - name);
		after = skip_space(p);
		if (n == 0 || *after != '=') {
			/* The name of the next scheme, or the end. */
			*s = name;
			return n == 0 && *p != '\0' ? -EBADMSG : 0;
		}
		p = skip_space(after + 1);
		if (n == 5 && strncasecmp(name, "realm", n) == 0)
			dst = c->realm;
		else if (n == 7 && strncasecmp(name, "service", n) == 0)
			dst = c->service;
		else if (n == 5 && strncasecmp(name, "scope", n) == 0)
			dst = c->scope;
		if (value(&p, dst, CHALLENGE_VALUE_MAX) < 0)
			return -EBADMSG;
		p = skip_space(p);
		if (*p != ',' && *p != '\0')
			return -EBADMSG;
	}
}

int headers_challenge(const char *s, struct challenge *ret)
{
	bool found = false;

	while (*(s = skip_space(s)) != '\0') {
		struct challenge c = {.scheme = AUTH_NONE};
		const char *name = s;
		size_t n;
		int r;

		while (token_char(*s))
			s++;
		n = (size_t)(s - name);
		if (n == 0)
			return -EBADMSG;
		if (n == 6 && strncasecmp(name, "bearer", n) == 0)
			c.scheme = AUTH_BEARER;
		else if (n == 5 && strncasecmp(name, "basic", n) == 0)
			c.scheme = AUTH_BASIC;
		/* Negotiate and the like may carry a token68 first. */
		if (c.scheme == AUTH_NONE) {
			const char *p = skip_space(s);
			const char *q = p;

			while (token_char(*q) || *q == '=')
				q++;
			if (*q == '\0' || (*q == ',' && q > p && q[-1] == '='))
				s = q;
		}
		r = params(&s, &c);
		if (r < 0)
			return r;
		if (s == name)
			return -EBADMSG;
		if (c.scheme == AUTH_BEARER && c.realm[0] == '\0')
			return -EBADMSG;
		if (c.scheme != AUTH_NONE &&
		    (!found || c.scheme > ret->scheme)) {
			*ret = c;
			found = true;
		}
	}
	return found ? 0 : -EOPNOTSUPP;
}

int headers_retry_after(const char *s, int64_t wall_s, uint64_t *ret_s)
{
	time_t t;

	if (headers_u64(s, ret_s) == 0)
		return 0;
	t = curl_getdate(s, NULL);
	if (t == -1)
		return -EBADMSG;
	*ret_s = (int64_t)t > wall_s ? (uint64_t)((int64_t)t - wall_s) : 0;
	return 0;
}

static bool part_equal(CURLU *a, CURLU *b, CURLUPart part)
{
	char *x = NULL, *y = NULL;
	bool equal =
		curl_url_get(a, part, &x, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		curl_url_get(b, part, &y, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		strcasecmp(x, y) == 0;

	curl_free(x);
	curl_free(y);
	return equal;
}

static bool scheme_is(CURLU *u, const char *scheme)
{
	char *s = NULL;
	bool is = curl_url_get(u, CURLUPART_SCHEME, &s, 0) == CURLUE_OK &&
		  strcasecmp(s, scheme) == 0;

	curl_free(s);
	return is;
}

static int location(CURLU *base, CURLU *to, const char *where, char **ret_url,
		    bool *ret_same_origin)
{
	char *url = NULL;

	for (const char *p = where; *p != '\0'; p++) {
		if ((unsigned char)*p <= 0x20 || *p == 0x7f)
			return -EBADMSG;
	}
	if (curl_url_set(to, CURLUPART_URL, where, 0) != CURLUE_OK ||
	    (!scheme_is(to, "http") && !scheme_is(to, "https")))
		return -EBADMSG;
	/* What was encrypted is not sent on in the clear. */
	if (scheme_is(base, "https") && !scheme_is(to, "https"))
		return -EACCES;
	if (curl_url_set(to, CURLUPART_USER, NULL, 0) != CURLUE_OK ||
	    curl_url_set(to, CURLUPART_PASSWORD, NULL, 0) != CURLUE_OK ||
	    curl_url_set(to, CURLUPART_FRAGMENT, NULL, 0) != CURLUE_OK)
		return -ENOMEM;
	if (curl_url_get(to, CURLUPART_URL, &url, 0) != CURLUE_OK)
		return -EBADMSG;
	if (strlen(url) > URL_BYTES_MAX) {
		curl_free(url);
		return -EBADMSG;
	}
	*ret_url = strdup(url);
	curl_free(url);
	*ret_same_origin = part_equal(base, to, CURLUPART_SCHEME) &&
			   part_equal(base, to, CURLUPART_HOST) &&
			   part_equal(base, to, CURLUPART_PORT);
	return *ret_url != NULL ? 0 : -ENOMEM;
}

int headers_location(const char *base, const char *where, char **ret_url,
		     bool *ret_same_origin)
{
	CURLU *b = curl_url(), *to = NULL;
	int r = -ENOMEM;

	if (b == NULL)
		return -ENOMEM;
	if (curl_url_set(b, CURLUPART_URL, base, 0) == CURLUE_OK)
		to = curl_url_dup(b);
	if (to != NULL)
		r = location(b, to, where, ret_url, ret_same_origin);
	curl_url_cleanup(to);
	curl_url_cleanup(b);
	return r;
}

int headers_upload_range(const char *s, uint64_t *ret)
{
	uint64_t first, last;

	s = skip_space(s);
	if (strncasecmp(s, "bytes", 5) == 0 && (s[5] == '=' || s[5] == ' '))
		s += 6;
	if (digits(&s, &first) < 0 || first != 0 || *s++ != '-' ||
	    digits(&s, &last) < 0 || *skip_space(s) != '\0' ||
	    last == UINT64_MAX)
		return -EBADMSG;
	*ret = last > 0 ? last + 1 : 0;
	return 0;
}

/* Whether the value of a rel parameter names a relation. */
static bool has_relation(const char *v, const char *relation)
{
	size_t n = strlen(relation);

	for (v = skip_space(v); *v != '\0'; v = skip_space(v)) {
		size_t k = strcspn(v, " \t");

		if (k == n && strncasecmp(v, relation, n) == 0)
			return true;
		v += k;
	}
	return false;
}

/* The parameters of one link; steps over them and the comma behind. */
static int link_params(const char **s, bool *ret_next)
{
	const char *p = skip_space(*s);
	char v[CHALLENGE_VALUE_MAX];

	*ret_next = false;
	while (*p == ';') {
		const char *name = skip_space(p + 1);
		size_t n = strcspn(name, " \t=;,");

		p = skip_space(name + n);
		v[0] = '\0';
		if (*p == '=') {
			p = skip_space(p + 1);
			if (value(&p, v, sizeof(v)) < 0)
				return -EBADMSG;
		}
		if (n == 3 && strncasecmp(name, "rel", n) == 0)
			*ret_next = has_relation(v, "next");
		p = skip_space(p);
	}
	if (*p != ',' && *p != '\0')
		return -EBADMSG;
	*s = *p == ',' ? p + 1 : p;
	return 0;
}

int headers_link_next(const char *s, char **ret)
{
	for (s = skip_space(s); *s != '\0'; s = skip_space(s)) {
		const char *url = s + 1;
		size_t n = strcspn(url, ">");
		bool next;

		if (*s != '<' || url[n] == '\0')
			return -EBADMSG;
		s = url + n + 1;
		if (link_params(&s, &next) < 0)
			return -EBADMSG;
		if (!next)
			continue;
		*ret = strndup(url, n);
		return *ret != NULL ? 0 : -ENOMEM;
	}
	return -ENOENT;
}
