/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshotter on the wire: containerd.services.snapshots.v1.Snapshots, and
 * grpc.health.v1.Health. */
#ifndef SNAPSHOTTER_SERVICE_H
#define SNAPSHOTTER_SERVICE_H

#include "daemon/snapshotter/grpc.h"

#define SERVICE_LIST_BATCH 100u     /* snapshots in a message of List */
#define SERVICE_LIST_BYTES KIB(256) /* or so many bytes; clients take 4 MiB */

#define SERVICE_METHODS_N 11u
/* For grpc_new(), with a struct snapshots as the argument. */
extern const struct grpc_method service_methods[SERVICE_METHODS_N];

#endif
