/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/idmap.h"

#include <errno.h>

/* Steps over a number; UINT32_MAX is nobody's id. */
static bool number(const char **at, uint32_t *ret)
{
	const char *p = *at;
	uint64_t v = 0;

	while (*p >= '0' && *p <= '9' && v < UINT32_MAX)
		v = 10 * v + (uint64_t)(*p++ - '0');
	if (p == *at || v >= UINT32_MAX)
		return false;
	*at = p;
	*ret = (uint32_t)v;
	return true;
}

/* What 0 is mapped to. */
static int map_root(const char *name, const char *text, uint32_t *ret,
		    struct err *e)
{
	const char *p = text;
	bool found = false;
	uint32_t inside, outside, size;

	*ret = 0;
	if (text == NULL)
		return 0;
	do {
		if (!number(&p, &inside) || *p++ != ':' ||
		    !number(&p, &outside) || *p++ != ':' ||
		    !number(&p, &size) || (*p != ',' && *p != '\0'))
			return err_set(e, -EINVAL, "label %s: bad mapping: %s",
				       name, text);
		if (inside == 0 && size > 0 && !found) {
			found = true;
			*ret = outside;
		}
	} while (*p++ == ',');
	return found ? 0
		     : err_set(e, -EINVAL, "label %s: root is not mapped: %s",
			       name, text);
}

int idmap_root(const struct labels *labels, uid_t *ret_uid, gid_t *ret_gid,
	       struct err *e)
{
	const char *uids = labels_get(labels, LABEL_UIDMAPPING);
	const char *gids = labels_get(labels, LABEL_GIDMAPPING);
	uint32_t uid, gid;
	int r;

	if (uids == NULL && gids == NULL)
		return 0;
	r = map_root(LABEL_UIDMAPPING, uids, &uid, e);
	if (r == 0)
		r = map_root(LABEL_GIDMAPPING, gids, &gid, e);
	if (r < 0)
		return r;
	*ret_uid = uid;
	*ret_gid = gid;
	return 1;
}
