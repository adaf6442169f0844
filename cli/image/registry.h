/* SPDX-License-Identifier: Apache-2.0 */
/* What both directions of docker:// know of registries. */
#ifndef CLI_IMAGE_REGISTRY_H
#define CLI_IMAGE_REGISTRY_H

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

#endif
