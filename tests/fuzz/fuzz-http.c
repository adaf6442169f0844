/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of servers: ranges, challenges, dates, redirects, links; tokens and
 * errors. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "daemon/registry/auth.h"
#include "daemon/registry/headers.h"
#include "daemon/registry/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *s = strndup((const char *)data, size);
	CLEANUP_FREE char *url = NULL, *token = NULL, *next = NULL;
	char said[100];
	struct content_range cr;
	static struct challenge c;
	uint64_t v;
	bool same;

	if (s == NULL)
		return 0;
	if (headers_content_range(s, &cr) == 0) {
		assert(cr.has_range || cr.has_total);
		assert(!cr.has_range || cr.start <= cr.end);
		assert(!cr.has_range || !cr.has_total || cr.end < cr.total);
	}
	if (headers_challenge(s, &c) == 0)
		assert(c.scheme != AUTH_NONE);
	(void)headers_retry_after(s, 1700000000, &v);
	if (headers_location("https://a.io/v2/x?y", s, &url, &same) == 0)
		assert(strncmp(url, "https://", 8) == 0);
	if (headers_upload_range(s, &v) == 0)
		assert(v != 1);
	if (headers_link_next(s, &next) == 0)
		assert(strlen(next) < size);
	(void)reply_error((const char *)data, size, said, sizeof(said));
	for (const char *p = said; *p != '\0'; p++)
		assert((unsigned char)*p >= 0x20);
	(void)auth_token_parse((const char *)data, size, &token, &v);
	return 0;
}
