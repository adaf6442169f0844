/* SPDX-License-Identifier: Apache-2.0 */
/* Mappings of user namespaces, as containerd's labels have them:
 * "CONTAINER:HOST:SIZE[,…]". Pure. */
#ifndef SNAPSHOTTER_IDMAP_H
#define SNAPSHOTTER_IDMAP_H

#include <sys/types.h>

#include "common/base.h"
#include "common/err.h"
#include "daemon/snapshotter/labels.h"

#define LABEL_UIDMAPPING "containerd.io/snapshot/uidmapping"
#define LABEL_GIDMAPPING "containerd.io/snapshot/gidmapping"

/* Who on the host is root in the namespace; a mapping that is not given maps
 * 0 to 0. Return: 1; 0 there is no such label; -EINVAL with @e */
int idmap_root(const struct labels *labels, uid_t *ret_uid, gid_t *ret_gid,
	       struct err *e);

#endif
