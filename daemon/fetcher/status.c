/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/fetcher/status.h"

#include <inttypes.h>

#include "common/buf.h"
#include "common/err.h"
#include "daemon/fetcher/blob.h"
#include "daemon/fetcher/server.h"
#include "daemon/registry/http.h"

static const char *const class_names[] = {
	[PROTO_CLASS_DEMAND] = "demand",
	[PROTO_CLASS_PREFETCH] = "prefetch",
	[PROTO_CLASS_BACKGROUND] = "background",
};
static_assert(ARRAY_SIZE(class_names) == PROTO_CLASS_N_, "a name for each");

static unsigned open_blobs(const struct fetchd *d)
{
	unsigned n = 0;

	LIST_EACH(it, &d->blobs)
	n += LIST_ENTRY(it, struct blob, node)->refs > 0;
	return n;
}

static const char *breaker(const struct fetchd *d, const struct origin *o)
{
	if (!o->breaker.probation)
		return "closed";
	return o->breaker.not_before_ns > loop_now(d->loop) ? "open"
							    : "probing";
}

static int add_classes(const struct stats *st, struct buf *b)
{
	int r = buf_add_str(b, ",\"classes\":{");

	for (int c = 0; r == 0 && c < PROTO_CLASS_N_; c++)
		r = buf_addf(b,
			     "%s\"%s\":{\"bytes\":%" PRIu64
			     ",\"reads\":%" PRIu64 ",\"requests\":%" PRIu64 "}",
			     c > 0 ? "," : "", class_names[c], st->bytes[c],
			     st->reads[c], st->requests[c]);
	return r == 0 ? buf_add_str(b, "}") : r;
}

static int add_failed(const struct stats *st, struct buf *b)
{
	int r = buf_add_str(b, ",\"failed\":{");

	for (size_t i = 0; r == 0 && i < STATS_CODES && st->failed[i].code != 0;
	     i++)
		r = buf_addf(b, "%s\"%s\":%" PRIu64, i > 0 ? "," : "",
			     err_symbol(st->failed[i].code), st->failed[i].n);
	return r == 0 ? buf_add_str(b, "}") : r;
}

static int add_hosts(const struct fetchd *d, struct buf *b)
{
	int r = buf_add_str(b, ",\"hosts\":[");
	const char *comma = "";

	LIST_EACH(n, &d->reg.origins)
	{
		struct origin *o = LIST_ENTRY(n, struct origin, node);

		if (r == 0)
			r = buf_addf(b, "%s{\"url\":", comma);
		if (r == 0)
			r = buf_add_json_str(b, o->name);
		if (r == 0)
			r = buf_addf(b,
				     ",\"breaker\":\"%s\",\"running\":%u,"
				     "\"requests\":%" PRIu64
				     ",\"errors\":%" PRIu64 "}",
				     breaker(d, o), origin_sched(o)->running,
				     o->requests, o->errors);
		comma = ",";
	}
	return r == 0 ? buf_add_str(b, "]}") : r;
}

int status_json(const struct fetchd *d, struct buf *b)
{
	const struct stats *st = &d->stats;
	int r = buf_addf(
		b,
		"{\"version\":\"%s\",\"protocol\":%u,\"pid\":%d,"
		"\"uptime_s\":%" PRIu64 ",\"clients\":%u,\"requests_open\":%u,"
		"\"blobs_open\":%u,\"network_bytes\":%" PRIu64
		",\"local_bytes\":%" PRIu64 ",\"spool_bytes\":%" PRIu64
		",\"retries\":%" PRIu64 ",\"redirects\":%" PRIu64
		",\"tokens\":%" PRIu64 ",\"protocol_errors\":%" PRIu64
		",\"warm_bytes\":%" PRIu64 ",\"warm_reads\":%" PRIu64
		",\"trace_bytes\":%" PRIu64 ",\"trace_reads\":%" PRIu64,
		VERSION, PROTO_VERSION, (int)getpid(),
		(loop_now(d->loop) - d->started_ns) / NSEC_PER_SEC,
		server_clients(d->server), server_requests(d->server),
		open_blobs(d), http_bytes(d->reg.http), st->local_bytes,
		d->spool_bytes, st->retries, d->reg.stats.redirects,
		d->reg.stats.tokens, st->protocol_errors, d->warm_bytes,
		st->warm_reads, d->play_bytes, st->trace_reads);

	if (r == 0)
		r = add_classes(st, b);
	if (r == 0)
		r = add_failed(st, b);
	return r == 0 ? add_hosts(d, b) : r;
}

/* ---- Prometheus ---- */

static int prom(struct buf *b, const char *name, const char *type,
		const char *help, uint64_t v)
{
	return buf_addf(b,
			"# HELP estargzd_%s %s\n# TYPE estargzd_%s %s\n"
			"estargzd_%s %" PRIu64 "\n",
			name, help, name, type, name, v);
}

static int prom_classes(struct buf *b, const char *name, const char *help,
			const uint64_t *v)
{
	int r = buf_addf(b,
			 "# HELP estargzd_%s %s\n# TYPE estargzd_%s counter\n",
			 name, help, name);

	for (int c = 0; r == 0 && c < PROTO_CLASS_N_; c++)
		r = buf_addf(b, "estargzd_%s{class=\"%s\"} %" PRIu64 "\n", name,
			     class_names[c], v[c]);
	return r;
}

static int prom_failed(const struct stats *st, struct buf *b)
{
	int r = buf_add_str(b, "# HELP estargzd_failed_total Requests failed\n"
			       "# TYPE estargzd_failed_total counter\n");

	for (size_t i = 0; r == 0 && i < STATS_CODES && st->failed[i].code != 0;
	     i++)
		r = buf_addf(b,
			     "estargzd_failed_total{code=\"%s\"} %" PRIu64 "\n",
			     err_symbol(st->failed[i].code), st->failed[i].n);
	return r;
}

static int prom_hosts(const struct fetchd *d, struct buf *b)
{
	int r = buf_add_str(
		b, "# HELP estargzd_host_up 0 while a host is not tried\n"
		   "# TYPE estargzd_host_up gauge\n");

	LIST_EACH(n, &d->reg.origins)
	{
		const struct origin *o = LIST_ENTRY(n, struct origin, node);

		if (r == 0)
			r = buf_add_str(b, "estargzd_host_up{host=");
		/* A URL has nothing that JSON and Prometheus quote apart. */
		if (r == 0)
			r = buf_add_json_str(b, o->name);
		if (r == 0)
			r = buf_addf(b, "} %d\n", o->breaker.probation ? 0 : 1);
	}
	return r;
}

int status_prometheus(const struct fetchd *d, struct buf *b)
{
	const struct stats *st = &d->stats;
	const struct {
		const char *name;
		const char *type;
		const char *help;
		uint64_t v;
	} rows[] = {
		{"clients", "gauge", "Clients connected",
		 server_clients(d->server)},
		{"requests_open", "gauge", "Requests open",
		 server_requests(d->server)},
		{"blobs_open", "gauge", "Blobs open", open_blobs(d)},
		{"spool_bytes", "gauge", "Bytes spooled", d->spool_bytes},
		{"warm_bytes", "gauge", "Bytes kept for mounts to come",
		 d->warm_bytes},
		{"warm_reads_total", "counter", "READs that these answered",
		 st->warm_reads},
		{"trace_bytes", "gauge", "Bytes kept as images' traces say",
		 d->play_bytes},
		{"trace_reads_total", "counter", "READs that these answered",
		 st->trace_reads},
		{"network_bytes_total", "counter", "Body bytes received",
		 http_bytes(d->reg.http)},
		{"local_bytes_total", "counter", "Bytes read from files",
		 st->local_bytes},
		{"retries_total", "counter", "Ranges asked for again",
		 st->retries},
		{"redirects_total", "counter", "Redirects followed",
		 d->reg.stats.redirects},
		{"tokens_total", "counter", "Tokens fetched",
		 d->reg.stats.tokens},
		{"protocol_errors_total", "counter", "Clients dropped",
		 st->protocol_errors},
	};
	int r = prom_classes(b, "bytes_total", "Bytes handed to clients",
			     st->bytes);

	if (r == 0)
		r = prom_classes(b, "reads_total", "READs of clients",
				 st->reads);
	if (r == 0)
		r = prom_classes(b, "requests_total", "Range requests sent",
				 st->requests);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(rows); i++)
		r = prom(b, rows[i].name, rows[i].type, rows[i].help,
			 rows[i].v);
	if (r == 0)
		r = prom_failed(st, b);
	return r == 0 ? prom_hosts(d, b) : r;
}
