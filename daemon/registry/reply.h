/* SPDX-License-Identifier: Apache-2.0 */
/* What registries say in the bodies of their answers. Pure. */
#ifndef REGISTRY_REPLY_H
#define REGISTRY_REPLY_H

#include "common/base.h"

#define REPLY_BYTES_MAX KIB(64) /* of an answer that is an error */

/**
 * reply_error() - the first error of a body, as a line: "CODE: message"
 * @json:	[@len], may be anything
 * @buf:	[@cap], @cap > 0; printable; "" where the body has no error
 *
 * Spec: OCI distribution-spec, "Error Codes"
 * Return: @buf
 */
char *reply_error(const char *json, size_t len, char *buf, size_t cap);

#endif
