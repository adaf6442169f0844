/* SPDX-License-Identifier: Apache-2.0 */
/* Image references, manifests and indexes, artifacts and lists of them. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "common/oci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void artifacts(const char *json, size_t n)
{
	const struct digest subject = {0};
	struct digest d;
	struct err e = {0};

	if (oci_referrers_parse(json, n, OCI_TRACE_MEDIA_TYPE, &d, &e) < 0)
		assert(e.text[0] != '\0');
	e = (struct err){0};
	if (oci_artifact_parse(json, n, OCI_TRACE_MEDIA_TYPE, &subject, &d,
			       &e) < 0)
		assert(e.text[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *s = strndup((const char *)data, size);
	struct oci_manifest m;
	struct oci_ref r;
	struct err e = {0};

	if (s == NULL)
		return 0;
	if (oci_ref_parse(s, &r, &e) == 0) {
		assert(r.host != NULL && r.repo != NULL);
		assert(r.tag != NULL || r.has_digest);
		oci_ref_done(&r);
	}
	if (oci_manifest_parse((const char *)data, size, "amd64", &m, &e) ==
	    0) {
		assert(!m.is_index || m.n_layers == 0);
		oci_manifest_done(&m);
	} else {
		assert(e.text[0] != '\0');
	}
	artifacts((const char *)data, size);
	return 0;
}
