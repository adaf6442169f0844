/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long calls of a snapshotter take: rpc SOCKET [CALLS [NAMESPACE [NAME]]]
 * makes a chain of ordinary snapshots, calls Stat, Mounts, Prepare and Remove one
 * after the other over one connection, as containerd does, and prints
 * "METHOD MEDIAN P90 P99 MAX CALLS", times in microseconds. The rest is removed
 * again. Of containerd's own snapshotters with NAMESPACE and NAME.
 */
#include "config.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/base.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/io.h"
#include "daemon/snapshotter/grpcmsg.h"
#include "daemon/snapshotter/snapshots.pb-c.h"

#define SERVICE "/containerd.services.snapshots.v1.Snapshots/"
#define DEPTH 8

/* Without it containerd would collect them. */
static char gc_root[] = "containerd.io/gc.root", gc_value[] = "1";

struct rpc {
	int fd;
	nghttp2_session *session;
	const char *namespace;
	char *name;
	struct buf request;
	size_t off;
	int32_t stream;
	bool closed;
	char status[8];
	char message[256];
};

static void die(const char *what, const char *why)
{
	(void)fprintf(stderr, "rpc: %s: %s\n", what, why);
	exit(1);
}

static int on_header(nghttp2_session *s, const nghttp2_frame *f,
		     const uint8_t *name, size_t n_name, const uint8_t *value,
		     size_t n_value, uint8_t flags, void *arg)
{
	struct rpc *c = arg;

	(void)s;
	(void)f;
	(void)n_name;
	(void)flags;
	if (strcmp((const char *)name, "grpc-status") == 0)
		(void)snprintf(c->status, sizeof(c->status), "%.*s",
			       (int)n_value, (const char *)value);
	if (strcmp((const char *)name, "grpc-message") == 0)
		(void)snprintf(c->message, sizeof(c->message), "%.*s",
			       (int)n_value, (const char *)value);
	return 0;
}

static int on_close(nghttp2_session *s, int32_t id, uint32_t code, void *arg)
{
	struct rpc *c = arg;

	(void)s;
	(void)code;
	if (id == c->stream)
		c->closed = true;
	return 0;
}

static ssize_t read_request(nghttp2_session *s, int32_t id, uint8_t *to,
			    size_t n, uint32_t *flags,
			    nghttp2_data_source *source, void *arg)
{
	struct rpc *c = source->ptr;

	(void)s;
	(void)id;
	(void)arg;
	n = MIN(n, c->request.len - c->off);
	memcpy(to, c->request.p + c->off, n);
	c->off += n;
	if (c->off == c->request.len)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

static void send_all(struct rpc *c)
{
	static uint8_t out[KIB(64)];
	const uint8_t *p;
	size_t used = 0;
	ssize_t n;

	while ((n = nghttp2_session_mem_send(c->session, &p)) > 0) {
		assert((size_t)n <= sizeof(out) - used);
		memcpy(out + used, p, (size_t)n);
		used += (size_t)n;
	}
	if (n < 0 || io_write_all(c->fd, out, used) < 0)
		die("send", "the connection is gone");
}

static nghttp2_nv nv(const char *name, const char *value)
{
	union {
		const char *from;
		uint8_t *to;
	} n = {name}, v = {value};

	return (nghttp2_nv){n.to, v.to, strlen(name), strlen(value),
			    NGHTTP2_NV_FLAG_NONE};
}

static void connect_to(struct rpc *c, const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	nghttp2_session_callbacks *cb;

	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	if (c->fd < 0 ||
	    connect(c->fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		die(path, err_name(errno));
	if (nghttp2_session_callbacks_new(&cb) != 0)
		die(path, "out of memory");
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	if (nghttp2_session_client_new(&c->session, cb, c) != 0 ||
	    nghttp2_submit_settings(c->session, 0, NULL, 0) != 0)
		die(path, "out of memory");
	nghttp2_session_callbacks_del(cb);
}

/* Return: nanoseconds. */
static uint64_t call(struct rpc *c, const char *method,
		     const ProtobufCMessage *m)
{
	nghttp2_data_provider from = {{.ptr = c}, read_request};
	size_t len = protobuf_c_message_get_packed_size(m);
	uint64_t begin = io_now_ns();
	const nghttp2_nv headers[] = {
		nv(":method", "POST"),
		nv(":scheme", "http"),
		nv(":path", method),
		nv(":authority", "localhost"),
		nv("content-type", "application/grpc"),
		nv("te", "trailers"),
		nv("containerd-namespace", c->namespace),
	};
	size_t n = ARRAY_SIZE(headers) - (c->namespace[0] == '\0');
	uint8_t in[16384];

	buf_clear(&c->request);
	if (buf_reserve(&c->request, GRPC_PREFIX_BYTES + len) < 0)
		die(method, "out of memory");
	grpcmsg_put_prefix((uint8_t *)c->request.p, (uint32_t)len);
	c->request.len = GRPC_PREFIX_BYTES +
			 protobuf_c_message_pack(m, (uint8_t *)c->request.p +
							    GRPC_PREFIX_BYTES);
	c->off = 0;
	c->closed = false;
	c->status[0] = c->message[0] = '\0';
	c->stream = nghttp2_submit_request(c->session, NULL, headers, n, &from,
					   NULL);
	send_all(c);
	while (!c->closed) {
		ssize_t got = read(c->fd, in, sizeof(in));

		if (got <= 0 || nghttp2_session_mem_recv(c->session, in,
							 (size_t)got) != got)
			die(method, "the connection is gone");
		send_all(c);
	}
	if (strcmp(c->status, "0") != 0)
		die(method, c->message);
	return io_now_ns() - begin;
}

static uint64_t prepare(struct rpc *c, char *key, char *parent)
{
	Pb__PrepareSnapshotRequest m;
	Pb__PrepareSnapshotRequest__LabelsEntry l, *labels[] = {&l};

	pb__prepare_snapshot_request__init(&m);
	pb__prepare_snapshot_request__labels_entry__init(&l);
	l.key = gc_root;
	l.value = gc_value;
	m.labels = labels;
	m.n_labels = 1;
	m.snapshotter = c->name;
	m.key = key;
	m.parent = parent;
	return call(c, SERVICE "Prepare", &m.base);
}

static void commit(struct rpc *c, char *key, char *name)
{
	Pb__CommitSnapshotRequest m;
	Pb__CommitSnapshotRequest__LabelsEntry l, *labels[] = {&l};

	pb__commit_snapshot_request__init(&m);
	pb__commit_snapshot_request__labels_entry__init(&l);
	l.key = gc_root;
	l.value = gc_value;
	m.labels = labels;
	m.n_labels = 1;
	m.snapshotter = c->name;
	m.key = key;
	m.name = name;
	(void)call(c, SERVICE "Commit", &m.base);
}

static uint64_t mounts(struct rpc *c, char *key)
{
	Pb__MountsRequest m;

	pb__mounts_request__init(&m);
	m.snapshotter = c->name;
	m.key = key;
	return call(c, SERVICE "Mounts", &m.base);
}

static uint64_t stat_(struct rpc *c, char *key)
{
	Pb__StatSnapshotRequest m;

	pb__stat_snapshot_request__init(&m);
	m.snapshotter = c->name;
	m.key = key;
	return call(c, SERVICE "Stat", &m.base);
}

static uint64_t remove_(struct rpc *c, char *key)
{
	Pb__RemoveSnapshotRequest m;

	pb__remove_snapshot_request__init(&m);
	m.snapshotter = c->name;
	m.key = key;
	return call(c, SERVICE "Remove", &m.base);
}

static int by_size(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void report(const char *method, uint64_t *ns, size_t n)
{
	qsort(ns, n, sizeof(*ns), by_size);
	(void)printf("%s %.1f %.1f %.1f %.1f %zu\n", method,
		     (double)ns[n / 2] / 1e3, (double)ns[n * 9 / 10] / 1e3,
		     (double)ns[n * 99 / 100] / 1e3, (double)ns[n - 1] / 1e3,
		     n);
}

int main(int argc, char **argv)
{
	struct rpc c = {.request = BUF_INIT(KIB(64))};
	size_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000;
	uint64_t *ns = calloc(MAX(n, (size_t)1), sizeof(*ns));
	char key[64], name[DEPTH + 1][80];

	if (argc < 2 || argc > 5 || n == 0 || ns == NULL) {
		(void)fputs("usage: rpc SOCKET [CALLS [NAMESPACE [NAME]]]\n",
			    stderr);
		return 2;
	}
	c.namespace = argc > 3 ? argv[3] : "";
	c.name = argc > 4 ? argv[4] : argv[0];
	connect_to(&c, argv[1]);
	name[0][0] = '\0';
	for (unsigned i = 1; i <= DEPTH; i++) {
		(void)snprintf(key, sizeof(key), "rpc-%d-%u", (int)getpid(), i);
		(void)snprintf(name[i], sizeof(name[i]), "%s-done", key);
		(void)prepare(&c, key, name[i - 1]);
		commit(&c, key, name[i]);
	}
	(void)snprintf(key, sizeof(key), "rpc-%d-top", (int)getpid());
	(void)prepare(&c, key, name[DEPTH]);
	for (size_t i = 0; i < n; i++)
		ns[i] = stat_(&c, key);
	report("Stat", ns, n);
	for (size_t i = 0; i < n; i++)
		ns[i] = mounts(&c, key);
	report("Mounts", ns, n);
	(void)remove_(&c, key);
	for (size_t i = 0; i < n; i++) {
		(void)snprintf(key, sizeof(key), "rpc-%d-p%zu", (int)getpid(),
			       i);
		ns[i] = prepare(&c, key, name[DEPTH]);
	}
	report("Prepare", ns, n);
	for (size_t i = 0; i < n; i++) {
		(void)snprintf(key, sizeof(key), "rpc-%d-p%zu", (int)getpid(),
			       i);
		ns[i] = remove_(&c, key);
	}
	report("Remove", ns, n);
	for (unsigned i = DEPTH; i > 0; i--)
		(void)remove_(&c, name[i]);
	nghttp2_session_del(c.session);
	buf_done(&c.request);
	free(ns);
	return 0;
}
