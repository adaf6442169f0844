/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: containerd's filter grammar (pkg/filters):
 *   filter   = selector *("," selector)              all of them
 *   selector = fieldpath [operator value]            without: is present
 *   fieldpath = field *("." field); field = quoted | [A-Za-z] [A-Za-z0-9_]+
 *   operator = "==" | "!=" | "~=";  value = quoted | [^\s,]+
 * quoted as Go's strconv.Unquote has it; after ~= also |regexp| and /regexp/.
 * Fields of a snapshot: name, parent, kind (view, active, committed), labels.
 * Regular expressions are PCRE2's, a superset of Go's, with a limit on matching.
 */
#ifndef SNAPSHOTTER_FILTER_H
#define SNAPSHOTTER_FILTER_H

#include "common/base.h"
#include "common/err.h"
#include "daemon/snapshotter/tree.h"

struct filter;

/* All of [@n], of which one has to match; none: matches everything.
 * Return: 0, -EINVAL with the place in @e, -ENOMEM */
int filter_parse(struct filter **ret, const char *const *texts, size_t n,
		 struct err *e);
void filter_free(struct filter *f);
bool filter_match(const struct filter *f, const struct snap *s);

#endif
