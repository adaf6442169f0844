/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/service.h"

#include <string.h>

#include "daemon/snapshotter/pb.h"
#include "daemon/snapshotter/snapshots.h"
#include "daemon/snapshotter/snapshots.pb-c.h"

#define SERVICE_NAME "containerd.services.snapshots.v1.Snapshots"
#define REPLY_BYTES_MAX MIB(8)

#define CLEANUP_MSG CLEANUP(msg_free)

static void msg_free(void *pp)
{
	pb_free(*(ProtobufCMessage **)pp);
}

/* A request of the type that the method's descriptor says. */
#define TAKE_REQUEST(m, desc)                                 \
	({                                                    \
		ProtobufCMessage *msg_ = NULL;                \
		int r_ = pb_unpack(desc, req, len, &msg_, e); \
		(m) = (__typeof__(m))(void *)msg_;            \
		r_;                                           \
	})

/* The entries of a map are of another type in each message, but alike. */
#define TAKE_LABELS(to, m)                                               \
	({                                                               \
		int r_ = 0;                                              \
		for (size_t i_ = 0; i_ < (m)->n_labels && r_ == 0; i_++) \
			r_ = labels_set(to, (m)->labels[i_]->key,        \
					(m)->labels[i_]->value);         \
		r_ < 0 ? err_set(e, r_, "labels: %s", err_name(r_)) : 0; \
	})

static int reply(struct grpc_call *call, const ProtobufCMessage *m)
{
	CLEANUP_BUF struct buf b = BUF_INIT(REPLY_BYTES_MAX);
	int r = pb_pack(m, &b);

	return r < 0 ? r : grpc_reply(call, b.p, b.len);
}

static int reply_empty(struct grpc_call *call)
{
	return grpc_reply(call, NULL, 0);
}

/* PrepareSnapshotResponse, ViewSnapshotResponse and this are one on the wire. */
static int reply_mounts(struct grpc_call *call, const struct stack_mount *m)
{
	Pb__Mount mount;
	Pb__MountsResponse response;
	Pb__Mount *mounts[] = {&mount};

	pb__mount__init(&mount);
	pb__mounts_response__init(&response);
	mount.type = m->type;
	mount.source = m->source;
	mount.options = m->options;
	mount.n_options = m->n_options;
	response.mounts = mounts;
	response.n_mounts = ARRAY_SIZE(mounts);
	return reply(call, &response.base);
}

/**
 * struct info - a snapshot on the wire; borrows from the snapshot
 * @entries:	[labels.n], as are @labels
 */
struct info {
	Pb__Info msg;
	Pb__Timestamp created;
	Pb__Timestamp updated;
	Pb__Info__LabelsEntry *entries;
	Pb__Info__LabelsEntry **labels;
};

#define CLEANUP_INFO CLEANUP(info_done)

static void info_done(struct info *i)
{
	free(i->entries);
	free(i->labels);
}

static void set_time(Pb__Timestamp *t, int64_t ns)
{
	int64_t nanos = ns % (int64_t)NSEC_PER_SEC;

	pb__timestamp__init(t);
	/* Before 1970 too nanos count forward. */
	if (nanos < 0)
		nanos += (int64_t)NSEC_PER_SEC;
	t->seconds = (ns - nanos) / (int64_t)NSEC_PER_SEC;
	t->nanos = (int32_t)nanos;
}

static int info_init(struct info *i, const struct snap *s)
{
	size_t n = s->labels.n;

	*i = (struct info){
		.entries = calloc(MAX(n, (size_t)1), sizeof(*i->entries)),
		.labels = calloc(MAX(n, (size_t)1),
				 sizeof(Pb__Info__LabelsEntry *)),
	};
	if (i->entries == NULL || i->labels == NULL)
		return -ENOMEM;
	pb__info__init(&i->msg);
	for (size_t k = 0; k < n; k++) {
		pb__info__labels_entry__init(&i->entries[k]);
		i->entries[k].key = s->labels.v[k].key;
		i->entries[k].value = s->labels.v[k].value;
		i->labels[k] = &i->entries[k];
	}
	set_time(&i->created, s->created_ns);
	set_time(&i->updated, s->updated_ns);
	i->msg.name = s->name;
	i->msg.parent = s->parent;
	i->msg.kind = (Pb__Kind)s->kind;
	i->msg.created_at = &i->created;
	i->msg.updated_at = &i->updated;
	i->msg.labels = i->labels;
	i->msg.n_labels = n;
	return 0;
}

/* StatSnapshotResponse and UpdateSnapshotResponse. */
static int reply_info(struct grpc_call *call, const struct snap *s)
{
	CLEANUP_INFO struct info i = {0};
	Pb__StatSnapshotResponse response;
	int r = info_init(&i, s);

	pb__stat_snapshot_response__init(&response);
	response.info = &i.msg;
	return r < 0 ? r : reply(call, &response.base);
}

/* ---- methods ---- */

/* Prepare and View; their requests are one on the wire. */
static int create(struct snapshots *s, enum snap_kind kind,
		  struct grpc_call *call, const uint8_t *req, size_t len,
		  struct err *e)
{
	CLEANUP_MSG Pb__PrepareSnapshotRequest *m = NULL;
	CLEANUP_LABELS struct labels labels = {0};
	CLEANUP_STACK_MOUNT struct stack_mount mount = {0};
	int r = TAKE_REQUEST(m, &pb__prepare_snapshot_request__descriptor);

	if (r == 0)
		r = TAKE_LABELS(&labels, m);
	if (r == 0)
		r = snapshots_prepare(s, kind, m->key, m->parent, &labels,
				      &mount, e);
	return r < 0 ? r : reply_mounts(call, &mount);
}

static int do_prepare(void *arg, struct grpc_call *call, const uint8_t *req,
		      size_t len, struct err *e)
{
	return create(arg, SNAP_ACTIVE, call, req, len, e);
}

static int do_view(void *arg, struct grpc_call *call, const uint8_t *req,
		   size_t len, struct err *e)
{
	return create(arg, SNAP_VIEW, call, req, len, e);
}

static int do_mounts(void *arg, struct grpc_call *call, const uint8_t *req,
		     size_t len, struct err *e)
{
	CLEANUP_MSG Pb__MountsRequest *m = NULL;
	CLEANUP_STACK_MOUNT struct stack_mount mount = {0};
	int r = TAKE_REQUEST(m, &pb__mounts_request__descriptor);

	if (r == 0)
		r = snapshots_mounts(arg, m->key, &mount, e);
	return r < 0 ? r : reply_mounts(call, &mount);
}

static int do_commit(void *arg, struct grpc_call *call, const uint8_t *req,
		     size_t len, struct err *e)
{
	CLEANUP_MSG Pb__CommitSnapshotRequest *m = NULL;
	CLEANUP_LABELS struct labels labels = {0};
	int r = TAKE_REQUEST(m, &pb__commit_snapshot_request__descriptor);

	/* Given only to snapshotters that say that they can rebase. */
	if (r == 0 && m->parent[0] != '\0')
		r = err_set(e, -ENOSYS, "a commit does not change the parent");
	if (r == 0)
		r = TAKE_LABELS(&labels, m);
	if (r == 0)
		r = snapshots_commit(arg, m->key, m->name, &labels, e);
	return r < 0 ? r : reply_empty(call);
}

static int do_remove(void *arg, struct grpc_call *call, const uint8_t *req,
		     size_t len, struct err *e)
{
	CLEANUP_MSG Pb__RemoveSnapshotRequest *m = NULL;
	int r = TAKE_REQUEST(m, &pb__remove_snapshot_request__descriptor);

	if (r == 0)
		r = snapshots_remove(arg, m->key, e);
	return r < 0 ? r : reply_empty(call);
}

static int do_stat(void *arg, struct grpc_call *call, const uint8_t *req,
		   size_t len, struct err *e)
{
	CLEANUP_MSG Pb__StatSnapshotRequest *m = NULL;
	CLEANUP_SNAP struct snap snap = {0};
	int r = TAKE_REQUEST(m, &pb__stat_snapshot_request__descriptor);

	if (r == 0)
		r = snapshots_stat(arg, m->key, &snap, e);
	return r < 0 ? r : reply_info(call, &snap);
}

static int do_update(void *arg, struct grpc_call *call, const uint8_t *req,
		     size_t len, struct err *e)
{
	CLEANUP_MSG Pb__UpdateSnapshotRequest *m = NULL;
	CLEANUP_LABELS struct labels labels = {0};
	CLEANUP_SNAP struct snap snap = {0};
	Pb__FieldMask all;
	const Pb__FieldMask *mask = &all;
	int r = TAKE_REQUEST(m, &pb__update_snapshot_request__descriptor);

	if (r == 0 && m->info == NULL)
		r = err_set(e, -EINVAL, "no snapshot is named");
	if (r == 0)
		r = TAKE_LABELS(&labels, m->info);
	if (r < 0)
		return r;
	pb__field_mask__init(&all);
	if (m->update_mask != NULL)
		mask = m->update_mask;
	r = snapshots_update(arg, m->info->name, &labels,
			     (const char *const *)mask->paths, mask->n_paths,
			     &snap, e);
	return r < 0 ? r : reply_info(call, &snap);
}

struct batch {
	struct grpc_call *call;
	struct buf b;
	unsigned n; /* snapshots in it */
};

static int list_send(struct batch *l)
{
	int r = l->n > 0 ? grpc_reply(l->call, l->b.p, l->b.len) : 0;

	buf_clear(&l->b);
	l->n = 0;
	return r;
}

static int list_add_snap(void *arg, const struct snap *s)
{
	struct batch *l = arg;
	CLEANUP_INFO struct info i = {0};
	Pb__ListSnapshotsResponse response;
	Pb__Info *infos[] = {&i.msg};
	int r = info_init(&i, s);

	pb__list_snapshots_response__init(&response);
	response.info = infos;
	response.n_info = ARRAY_SIZE(infos);
	if (r == 0)
		r = pb_pack(&response.base, &l->b);
	l->n++;
	if (r == 0 &&
	    (l->n >= SERVICE_LIST_BATCH || l->b.len >= SERVICE_LIST_BYTES))
		r = list_send(l);
	return r;
}

static int do_list(void *arg, struct grpc_call *call, const uint8_t *req,
		   size_t len, struct err *e)
{
	CLEANUP_MSG Pb__ListSnapshotsRequest *m = NULL;
	struct batch l = {.call = call, .b = BUF_INIT(REPLY_BYTES_MAX)};
	int r = TAKE_REQUEST(m, &pb__list_snapshots_request__descriptor);

	if (r == 0)
		r = snapshots_list(arg, (const char *const *)m->filters,
				   m->n_filters, list_add_snap, &l, e);
	if (r == 0)
		r = list_send(&l);
	buf_done(&l.b);
	return r;
}

static int do_usage(void *arg, struct grpc_call *call, const uint8_t *req,
		    size_t len, struct err *e)
{
	CLEANUP_MSG Pb__UsageRequest *m = NULL;
	Pb__UsageResponse response;
	uint64_t bytes = 0, inodes = 0;
	int r = TAKE_REQUEST(m, &pb__usage_request__descriptor);

	if (r == 0)
		r = snapshots_usage(arg, m->key, &bytes, &inodes, e);
	pb__usage_response__init(&response);
	response.size = (int64_t)MIN(bytes, (uint64_t)INT64_MAX);
	response.inodes = (int64_t)MIN(inodes, (uint64_t)INT64_MAX);
	return r < 0 ? r : reply(call, &response.base);
}

static int do_cleanup(void *arg, struct grpc_call *call, const uint8_t *req,
		      size_t len, struct err *e)
{
	CLEANUP_MSG Pb__CleanupRequest *m = NULL;
	int r = TAKE_REQUEST(m, &pb__cleanup_request__descriptor);

	if (r == 0)
		r = snapshots_cleanup(arg, e);
	return r < 0 ? r : reply_empty(call);
}

static int do_health(void *arg, struct grpc_call *call, const uint8_t *req,
		     size_t len, struct err *e)
{
	CLEANUP_MSG Pb__HealthCheckRequest *m = NULL;
	Pb__HealthCheckResponse response;
	int r = TAKE_REQUEST(m, &pb__health_check_request__descriptor);

	(void)arg;
	if (r == 0 && m->service[0] != '\0' &&
	    strcmp(m->service, SERVICE_NAME) != 0)
		r = err_set(e, -ENOENT, "unknown service");
	pb__health_check_response__init(&response);
	response.status = 1;
	return r < 0 ? r : reply(call, &response.base);
}

const struct grpc_method service_methods[SERVICE_METHODS_N] = {
	{.path = "/" SERVICE_NAME "/Prepare", .fn = do_prepare},
	{.path = "/" SERVICE_NAME "/View", .fn = do_view},
	{.path = "/" SERVICE_NAME "/Mounts", .fn = do_mounts},
	{.path = "/" SERVICE_NAME "/Commit", .fn = do_commit},
	{.path = "/" SERVICE_NAME "/Remove", .fn = do_remove},
	{.path = "/" SERVICE_NAME "/Stat", .fn = do_stat},
	{.path = "/" SERVICE_NAME "/Update", .fn = do_update},
	{.path = "/" SERVICE_NAME "/List", .fn = do_list},
	{.path = "/" SERVICE_NAME "/Usage", .fn = do_usage},
	{.path = "/" SERVICE_NAME "/Cleanup", .fn = do_cleanup},
	{.path = "/grpc.health.v1.Health/Check",
	 .fn = do_health,
	 .quick = true},
};
