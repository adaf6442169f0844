/* SPDX-License-Identifier: Apache-2.0 */
/* The ten methods on the wire, over snapshots that only note what is asked. */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/snapshotter/pb.h"
#include "daemon/snapshotter/service.h"
#include "daemon/snapshotter/snapshots.h"
#include "daemon/snapshotter/snapshots.pb-c.h"
#include "tests/unit/h2client.h"

#define SNAPSHOTS "/containerd.services.snapshots.v1.Snapshots/"
#define TOLD 1600000000123456789

/* ---- snapshots that only note what is asked ---- */

/* What was asked for last, as a text; what is to be said of it. */
struct snapshots {
	char asked[4096];
	int result;
	unsigned n_listed;
};

static void ask(struct snapshots *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void ask(struct snapshots *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(s->asked, sizeof(s->asked), fmt, ap);
	va_end(ap);
}

static void ask_labels(struct snapshots *s, const struct labels *l)
{
	for (size_t i = 0; i < l->n; i++) {
		size_t n = strlen(s->asked);

		(void)snprintf(s->asked + n, sizeof(s->asked) - n, " %s=%s",
			       l->v[i].key, l->v[i].value);
	}
}

static int answer(struct snapshots *s, struct err *e)
{
	return s->result < 0 ? err_set(e, s->result, "so it is") : 0;
}

static void make_mount(struct stack_mount *m)
{
	m->type = strdup("overlay");
	m->source = strdup("overlay");
	m->options = calloc(2, sizeof(char *));
	assert_non_null(m->options);
	m->options[0] = strdup("workdir=/w");
	m->options[1] = strdup("lowerdir=/a:/b");
	m->n_options = 2;
}

static void make_snap(struct snap *s, const char *name)
{
	*s = (struct snap){
		.name = strdup(name),
		.parent = strdup("below"),
		.kind = SNAP_COMMITTED,
		.created_ns = TOLD,
		.updated_ns = -1,
	};
	assert_int_equal(labels_set(&s->labels, "a", "1"), 0);
	assert_int_equal(labels_set(&s->labels, "b", "\xc3\xa9"), 0);
}

int snapshots_prepare(struct snapshots *s, enum snap_kind kind, const char *key,
		      const char *parent, const struct labels *labels,
		      struct stack_mount *ret, struct err *e)
{
	ask(s, "prepare %d %s on '%s'", (int)kind, key, parent);
	ask_labels(s, labels);
	if (s->result == 0)
		make_mount(ret);
	return answer(s, e);
}

int snapshots_mounts(struct snapshots *s, const char *key,
		     struct stack_mount *ret, struct err *e)
{
	ask(s, "mounts %s", key);
	if (s->result == 0)
		make_mount(ret);
	return answer(s, e);
}

int snapshots_commit(struct snapshots *s, const char *key, const char *name,
		     const struct labels *labels, struct err *e)
{
	ask(s, "commit %s as %s", key, name);
	ask_labels(s, labels);
	return answer(s, e);
}

int snapshots_remove(struct snapshots *s, const char *key, struct err *e)
{
	ask(s, "remove %s", key);
	return answer(s, e);
}

int snapshots_stat(struct snapshots *s, const char *key, struct snap *ret,
		   struct err *e)
{
	ask(s, "stat %s", key);
	if (s->result == 0)
		make_snap(ret, key);
	return answer(s, e);
}

int snapshots_update(struct snapshots *s, const char *key,
		     const struct labels *labels, const char *const *paths,
		     size_t n_paths, struct snap *ret, struct err *e)
{
	ask(s, "update %s", key);
	ask_labels(s, labels);
	for (size_t i = 0; i < n_paths; i++) {
		size_t n = strlen(s->asked);

		(void)snprintf(s->asked + n, sizeof(s->asked) - n, " /%s",
			       paths[i]);
	}
	if (s->result == 0)
		make_snap(ret, key);
	return answer(s, e);
}

int snapshots_list(struct snapshots *s, const char *const *filters, size_t n,
		   int (*fn)(void *arg, const struct snap *s), void *arg,
		   struct err *e)
{
	int r = 0;

	ask(s, "list %zu %s", n, n > 0 ? filters[n - 1] : "");
	for (unsigned i = 0; i < s->n_listed && r == 0; i++) {
		CLEANUP_SNAP struct snap snap = {0};
		char name[32];

		(void)snprintf(name, sizeof(name), "snap-%u", i);
		make_snap(&snap, name);
		r = fn(arg, &snap);
	}
	return r < 0 ? r : answer(s, e);
}

int snapshots_usage(struct snapshots *s, const char *key, uint64_t *ret_bytes,
		    uint64_t *ret_inodes, struct err *e)
{
	ask(s, "usage %s", key);
	*ret_bytes = UINT64_MAX;
	*ret_inodes = 42;
	return answer(s, e);
}

int snapshots_cleanup(struct snapshots *s, struct err *e)
{
	ask(s, "cleanup");
	return answer(s, e);
}

/* ---- calls ---- */

struct fixture {
	struct snapshots s;
	struct loop *loop;
	struct grpc *g;
	struct client c;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = {0};

	assert_non_null(f);
	f->loop = loop_new();
	assert_non_null(f->loop);
	assert_int_equal(grpc_new(&f->g, f->loop, NULL, -1, service_methods,
				  SERVICE_METHODS_N, &f->s, &e),
			 0);
	client_open(&f->c, f->g);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	client_close(&f->c);
	grpc_free(f->g);
	loop_free(f->loop);
	free(f);
	return 0;
}

static const struct outcome *call(struct fixture *f, const char *method,
				  const ProtobufCMessage *m)
{
	CLEANUP_BUF struct buf b = BUF_INIT(60000);
	char path[128];

	(void)snprintf(path, sizeof(path), SNAPSHOTS "%s", method);
	assert_int_equal(pb_pack(m, &b), 0);
	return client_call(&f->c, path, b.p, b.len);
}

static const struct outcome *call_ok(struct fixture *f, const char *method,
				     const ProtobufCMessage *m)
{
	const struct outcome *o = call(f, method, m);

	assert_string_equal(o->message, "");
	assert_string_equal(o->status, "0");
	assert_true(o->n_body >= 5);
	return o;
}

static void assert_failed(struct fixture *f, const char *method,
			  const ProtobufCMessage *m, const char *status)
{
	const struct outcome *o = call(f, method, m);

	assert_string_equal(o->status, status);
	assert_string_equal(o->message, "so it is");
	assert_true(o->trailers_only);
}

/* Strings of requests are not written to; protobuf-c has no const for them. */
static char *str(const char *s)
{
	union {
		const char *from;
		char *to;
	} u = {s};

	return u.to;
}

static void assert_mounts(const struct outcome *o)
{
	Pb__MountsResponse *m =
		pb__mounts_response__unpack(NULL, o->n_body - 5, o->body + 5);

	assert_non_null(m);
	assert_int_equal(m->n_mounts, 1);
	assert_string_equal(m->mounts[0]->type, "overlay");
	assert_string_equal(m->mounts[0]->source, "overlay");
	assert_string_equal(m->mounts[0]->target, "");
	assert_int_equal(m->mounts[0]->n_options, 2);
	assert_string_equal(m->mounts[0]->options[0], "workdir=/w");
	assert_string_equal(m->mounts[0]->options[1], "lowerdir=/a:/b");
	pb__mounts_response__free_unpacked(m, NULL);
}

static void assert_info(const Pb__Info *i, const char *name)
{
	assert_string_equal(i->name, name);
	assert_string_equal(i->parent, "below");
	assert_int_equal(i->kind, PB__KIND__COMMITTED);
	assert_int_equal(i->created_at->seconds, 1600000000);
	assert_int_equal(i->created_at->nanos, 123456789);
	/* One nanosecond before 1970. */
	assert_int_equal(i->updated_at->seconds, -1);
	assert_int_equal(i->updated_at->nanos, 999999999);
	assert_int_equal(i->n_labels, 2);
	assert_string_equal(i->labels[0]->key, "a");
	assert_string_equal(i->labels[0]->value, "1");
	assert_string_equal(i->labels[1]->key, "b");
	assert_string_equal(i->labels[1]->value, "\xc3\xa9");
}

static void test_prepare_and_view(void **state)
{
	struct fixture *f = *state;
	Pb__PrepareSnapshotRequest m;
	Pb__PrepareSnapshotRequest__LabelsEntry l[3], *labels[3];

	for (size_t i = 0; i < ARRAY_SIZE(l); i++) {
		pb__prepare_snapshot_request__labels_entry__init(&l[i]);
		labels[i] = &l[i];
	}
	l[0].key = str("z");
	l[0].value = str("26");
	l[1].key = str("containerd.io/snapshot.ref");
	l[1].value = str("sha256:1");
	l[2].key = str("empty"); /* as good as absent */
	pb__prepare_snapshot_request__init(&m);
	m.snapshotter = str("estargz");
	m.key = str("k 1/\xc3\xa9");
	assert_mounts(call_ok(f, "Prepare", &m.base));
	assert_string_equal(f->s.asked, "prepare 2 k 1/\xc3\xa9 on ''");
	m.parent = str("p");
	m.labels = labels;
	m.n_labels = ARRAY_SIZE(labels);
	assert_mounts(call_ok(f, "View", &m.base));
	assert_string_equal(f->s.asked,
			    "prepare 1 k 1/\xc3\xa9 on 'p' "
			    "containerd.io/snapshot.ref=sha256:1 z=26");
	f->s.result = -EEXIST;
	assert_failed(f, "Prepare", &m.base, "6");
	f->s.result = -EAGAIN;
	assert_failed(f, "View", &m.base, "14");
}

static void test_mounts(void **state)
{
	struct fixture *f = *state;
	Pb__MountsRequest m;

	pb__mounts_request__init(&m);
	m.key = str("k");
	assert_mounts(call_ok(f, "Mounts", &m.base));
	assert_string_equal(f->s.asked, "mounts k");
	f->s.result = -ENOENT;
	assert_failed(f, "Mounts", &m.base, "5");
}

static void test_commit(void **state)
{
	struct fixture *f = *state;
	Pb__CommitSnapshotRequest m;
	const struct outcome *o;

	pb__commit_snapshot_request__init(&m);
	m.key = str("k");
	m.name = str("n");
	assert_int_equal(call_ok(f, "Commit", &m.base)->n_body, 5);
	assert_string_equal(f->s.asked, "commit k as n");
	f->s.result = -EBUSY;
	assert_failed(f, "Commit", &m.base, "9");
	/* What only snapshotters that rebase are asked. */
	f->s.asked[0] = '\0';
	m.parent = str("p");
	o = call(f, "Commit", &m.base);
	assert_string_equal(o->status, "12");
	assert_string_equal(f->s.asked, "");
}

static void test_remove_and_cleanup(void **state)
{
	struct fixture *f = *state;
	Pb__RemoveSnapshotRequest m;
	Pb__CleanupRequest c;

	pb__remove_snapshot_request__init(&m);
	m.key = str("k");
	assert_int_equal(call_ok(f, "Remove", &m.base)->n_body, 5);
	assert_string_equal(f->s.asked, "remove k");
	pb__cleanup_request__init(&c);
	assert_int_equal(call_ok(f, "Cleanup", &c.base)->n_body, 5);
	assert_string_equal(f->s.asked, "cleanup");
	f->s.result = -EBUSY;
	assert_failed(f, "Remove", &m.base, "9");
	f->s.result = -EIO;
	assert_failed(f, "Cleanup", &c.base, "2");
}

static void test_stat(void **state)
{
	struct fixture *f = *state;
	Pb__StatSnapshotRequest m;
	Pb__StatSnapshotResponse *r;
	const struct outcome *o;

	pb__stat_snapshot_request__init(&m);
	m.key = str("k");
	o = call_ok(f, "Stat", &m.base);
	r = pb__stat_snapshot_response__unpack(NULL, o->n_body - 5,
					       o->body + 5);
	assert_non_null(r);
	assert_info(r->info, "k");
	pb__stat_snapshot_response__free_unpacked(r, NULL);
	f->s.result = -ENOENT;
	assert_failed(f, "Stat", &m.base, "5");
}

static void test_update(void **state)
{
	struct fixture *f = *state;
	Pb__UpdateSnapshotRequest m;
	Pb__UpdateSnapshotResponse *r;
	Pb__FieldMask mask;
	Pb__Info info;
	Pb__Info__LabelsEntry l, *labels[] = {&l};
	char *paths[] = {str("labels.a"), str("labels.b")};
	const struct outcome *o;

	pb__update_snapshot_request__init(&m);
	o = call(f, "Update", &m.base);
	assert_string_equal(o->status, "3");
	assert_string_equal(o->message, "no snapshot is named");
	assert_string_equal(f->s.asked, "");

	pb__info__init(&info);
	pb__info__labels_entry__init(&l);
	l.key = str("a");
	l.value = str("2");
	info.name = str("k");
	info.labels = labels;
	info.n_labels = 1;
	m.info = &info;
	o = call_ok(f, "Update", &m.base);
	assert_string_equal(f->s.asked, "update k a=2");
	r = pb__update_snapshot_response__unpack(NULL, o->n_body - 5,
						 o->body + 5);
	assert_non_null(r);
	assert_info(r->info, "k");
	pb__update_snapshot_response__free_unpacked(r, NULL);

	pb__field_mask__init(&mask);
	mask.paths = paths;
	mask.n_paths = ARRAY_SIZE(paths);
	m.update_mask = &mask;
	(void)call_ok(f, "Update", &m.base);
	assert_string_equal(f->s.asked, "update k a=2 /labels.a /labels.b");
}

/* Checks names from @from on. Return: how many there are in the message. */
static unsigned take_list(const uint8_t *p, size_t len, unsigned from)
{
	Pb__ListSnapshotsResponse *m =
		pb__list_snapshots_response__unpack(NULL, len, p);
	unsigned n;

	assert_non_null(m);
	n = (unsigned)m->n_info;
	for (unsigned i = 0; i < n; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "snap-%u", from + i);
		assert_info(m->info[i], name);
	}
	pb__list_snapshots_response__free_unpacked(m, NULL);
	return n;
}

static void test_list(void **state)
{
	static const struct {
		unsigned listed;
		unsigned messages;
	} rows[] = {{0, 0}, {1, 1}, {99, 1}, {100, 1}, {101, 2}, {350, 4}};
	struct fixture *f = *state;
	Pb__ListSnapshotsRequest m;
	char *filters[] = {str("name==a"), str("kind==view,parent~=/x/")};

	pb__list_snapshots_request__init(&m);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		unsigned n = 0, messages = 0;
		const struct outcome *o;
		size_t at = 0;

		f->s.n_listed = rows[i].listed;
		o = call(f, "List", &m.base);
		assert_string_equal(o->status, "0");
		assert_string_equal(f->s.asked, "list 0 ");
		while (at < o->n_body) {
			size_t len = (size_t)o->body[at + 2] << 16 |
				     (size_t)o->body[at + 3] << 8 |
				     o->body[at + 4];

			n += take_list(o->body + at + 5, len, n);
			at += 5 + len;
			messages++;
		}
		assert_int_equal(at, o->n_body);
		assert_int_equal(n, rows[i].listed);
		assert_int_equal(messages, rows[i].messages);
	}
	m.filters = filters;
	m.n_filters = ARRAY_SIZE(filters);
	f->s.n_listed = 0;
	f->s.result = -EINVAL;
	assert_failed(f, "List", &m.base, "3");
	assert_string_equal(f->s.asked, "list 2 kind==view,parent~=/x/");
}

static void test_usage(void **state)
{
	struct fixture *f = *state;
	Pb__UsageRequest m;
	Pb__UsageResponse *r;
	const struct outcome *o;

	pb__usage_request__init(&m);
	m.key = str("k");
	o = call_ok(f, "Usage", &m.base);
	r = pb__usage_response__unpack(NULL, o->n_body - 5, o->body + 5);
	assert_non_null(r);
	assert_int_equal(r->size, INT64_MAX);
	assert_int_equal(r->inodes, 42);
	pb__usage_response__free_unpacked(r, NULL);
}

static void test_health(void **state)
{
	static const char path[] = "/grpc.health.v1.Health/Check";
	struct fixture *f = *state;
	const struct outcome *o;

	o = client_call(&f->c, path, NULL, 0);
	assert_string_equal(o->status, "0");
	assert_int_equal(o->n_body, 7);
	assert_memory_equal(o->body + 5, "\x08\x01", 2);
	o = client_call(&f->c, path,
			"\n\x2a"
			"containerd.services.snapshots.v1.Snapshots",
			0x2a + 2);
	assert_string_equal(o->status, "0");
	o = client_call(&f->c, path, "\n\1x", 3);
	assert_string_equal(o->status, "5");
	assert_string_equal(o->message, "unknown service");
}

/* ---- requests that are not ---- */

struct bytes {
	const char *p;
	size_t n;
	const char *message;
};

static void assert_malformed(struct fixture *f, const char *p, size_t n,
			     const char *message)
{
	const struct outcome *o = client_call(&f->c, SNAPSHOTS "Prepare", p, n);

	assert_string_equal(o->status, "3");
	assert_string_equal(o->message, message);
	assert_string_equal(f->s.asked, "");
}

static void test_malformed(void **state)
{
#define ROW(s, m)                                            \
	{                                                    \
		s, sizeof(s) - 1, "PrepareSnapshotRequest" m \
	}
	static const struct bytes rows[] = {
		ROW("\x12", ": malformed"),
		ROW("\x12\5abc", ": malformed"),
		ROW("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
		    ": malformed"),
		ROW("\x12\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\1",
		    ": malformed"),
		ROW("\x13\1", ": malformed"), /* a group */
		ROW("\x17", ": malformed"),   /* no such type */
		ROW("\x15\1\2\3", ": malformed"),
		ROW("\x11\1\2\3\4\5\6\7", ": malformed"),
		ROW("\x12\3a\0b", ".key: not a UTF-8 text"),
		ROW("\x1a\1\xff", ".parent: not a UTF-8 text"),
		ROW("\x12\1\xc3", ".key: not a UTF-8 text"),
		ROW("\x12\2\xc0\x80", ".key: not a UTF-8 text"),
		ROW("\x12\3\xed\xa0\x80", ".key: not a UTF-8 text"),
	};
#undef ROW
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_malformed(f, rows[i].p, rows[i].n, rows[i].message);
	assert_malformed(f, "\"\5\n\3a\0b", 7,
			 "LabelsEntry.key: not a UTF-8 text");
	assert_malformed(f, "\"\2\n\5", 4, "LabelsEntry: malformed");
	/* A field of another type than it has. */
	assert_malformed(f, "\x10\1", 2, "PrepareSnapshotRequest: malformed");
}

static void test_unknown_fields_are_ignored(void **state)
{
	struct fixture *f = *state;
	static const char m[] = "\x12\1k\xf8\1\1\x92\3\2\xff\xff\x9d\3\1\2\3\4";
	const struct outcome *o =
		client_call(&f->c, SNAPSHOTS "Prepare", m, sizeof(m) - 1);

	assert_string_equal(o->status, "0");
	assert_string_equal(f->s.asked, "prepare 2 k on ''");
}

/* Cheap on the wire, dear in memory: empty labels, two bytes each. */
static void test_too_many_fields(void **state)
{
	static uint8_t m[2 * (PB_FIELDS_MAX + 1)];
	ProtobufCMessage *msg = NULL;
	struct err e = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(m); i += 2)
		m[i] = '"';
	assert_int_equal(pb_unpack(&pb__prepare_snapshot_request__descriptor, m,
				   sizeof(m), &msg, &e),
			 -EINVAL);
	assert_string_equal(e.text, "PrepareSnapshotRequest: too many fields");
	assert_int_equal(pb_unpack(&pb__prepare_snapshot_request__descriptor, m,
				   sizeof(m) - 2, &msg, &e),
			 0);
	pb_free(msg);
}

int main(void)
{
#define CALL(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		CALL(test_prepare_and_view),
		CALL(test_mounts),
		CALL(test_commit),
		CALL(test_remove_and_cleanup),
		CALL(test_stat),
		CALL(test_update),
		CALL(test_list),
		CALL(test_usage),
		CALL(test_health),
		CALL(test_malformed),
		CALL(test_unknown_fields_are_ignored),
		CALL(test_too_many_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
