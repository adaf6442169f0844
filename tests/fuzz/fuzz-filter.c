/* SPDX-License-Identifier: Apache-2.0 */
/* Filters: each line of the input is one. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "daemon/snapshotter/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

#define LINES_MAX 8

static void match(const struct filter *f, size_t n)
{
	char name[] = "sha256:0123", parent[] = "k8s.io/7/base";
	CLEANUP_LABELS struct labels l = {0};
	struct snap s = {.name = name, .parent = parent, .kind = SNAP_ACTIVE};

	if (labels_set(&l, "containerd.io/snapshot.ref", "sha256:0123") < 0 ||
	    labels_set(&l, "l", "1") < 0)
		return;
	s.labels = l;
	/* None at all is true. */
	assert(filter_match(f, &s) || n > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	const char *lines[LINES_MAX];
	char *text;
	size_t n = 0;
	struct filter *f = NULL;
	struct err e = {0};
	int r;

	if (len > 4096)
		return 0;
	text = malloc(len + 1);
	if (text == NULL)
		return 0;
	memcpy(text, p, len);
	text[len] = '\0';
	for (char *at = text; at != NULL && n < LINES_MAX;) {
		char *end = strchr(at, '\n');

		lines[n++] = at;
		if (end != NULL)
			*end++ = '\0';
		at = end;
	}
	r = filter_parse(&f, lines, n, &e);
	assert(r == 0 || r == -EINVAL || r == -ENOMEM);
	assert((f != NULL) == (r == 0));
	assert(r == 0 || e.text[0] != '\0');
	if (r == 0)
		match(f, n);
	filter_free(f);
	free(text);
	return 0;
}
