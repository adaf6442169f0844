/* SPDX-License-Identifier: Apache-2.0 */
/* What both directions of docker:// know of registries. */
#ifndef CLI_IMAGE_REGISTRY_H
#define CLI_IMAGE_REGISTRY_H

#include <stdio.h>
#include <string.h>

#include "cli/image/doc.h"

/* Whether a document is a manifest or an index: those have a place of their
 * own in registries. NULL is neither. */
static inline bool registry_is_manifest(const char *media_type)
{
	return media_type != NULL &&
	       (strcmp(media_type, OCI_MANIFEST) == 0 ||
		strcmp(media_type, OCI_INDEX) == 0 ||
		strcmp(media_type, DOCKER_MANIFEST) == 0 ||
		strcmp(media_type, DOCKER_LIST) == 0);
}

#define REGISTRY_TAG_BYTES (sizeof("sha256-") + DIGEST_HEX_BYTES)

/* The tag of the list of artifacts, where a registry does not keep one.
 * Spec: OCI distribution-spec, "Referrers Tag Schema" */
static inline char *registry_referrers_tag(const struct digest *d, char *buf)
{
	char hex[DIGEST_HEX_BYTES + 1];

	(void)snprintf(buf, REGISTRY_TAG_BYTES, "sha256-%s",
		       digest_hex(d, hex));
	return buf;
}

#endif
