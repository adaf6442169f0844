/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: which servers have the content of a registry: the mirrors of its
 * hosts.toml in their order, then the registry itself. And what is known of
 * each server ("origin": scheme, host, port), which outlives all of that.
 *
 * Source: containerd docs/hosts.md
 */
#ifndef REGISTRY_HOSTS_H
#define REGISTRY_HOSTS_H

#include "common/base.h"
#include "common/err.h"
#include "common/list.h"

struct registry;

#define HOSTS_MAX 31u /* a bit each in a mask of them */
#define HOSTS_TOML_BYTES_MAX KIB(256)
#define HOSTS_CA_BYTES_MAX MIB(4)

/* Connection failures in a row until a host is only probed. */
#define BREAKER_FAILURES 5u
#define BREAKER_WAIT_NS (3 * NSEC_PER_SEC)

/**
 * struct breaker - whether a server is worth an attempt
 * @failures:	connections failed in a row
 * @probation:	one request at a time
 * @not_before_ns: none before then
 */
struct breaker {
	unsigned failures;
	bool probation;
	uint64_t not_before_ns;
};

/**
 * struct origin - one server
 * @name:	"https://host:port", as in the URL
 * @refs:	hosts and authentication entries that name it; one that nobody
 *		names is forgotten when there are more than ORIGINS_MAX
 */
struct origin {
	char *name;
	unsigned refs;
	struct breaker breaker;
	uint64_t requests;
	uint64_t errors;
	struct list node;
};

#define ORIGINS_MAX 256u

/* Return: the origin, made where it is new, with one more reference; NULL
 * when out of memory. */
struct origin *origin_get(struct registry *g, const char *name);
struct origin *origin_ref(struct origin *o);
void origin_unref(struct origin *o);
void origin_failed(struct origin *o, uint64_t now_ns);
void origin_worked(struct origin *o);
void origin_free_all(struct registry *g);

/**
 * struct host - one server for the content of a registry
 * @base:	"https://host[:port]"
 * @prefix:	path in front of "/<repo>/…": "/v2", or as override_path has it
 * @authority:	host[:port], for messages and credentials
 * @mirror:	not the registry itself: ?ns= is added
 * @ca_pem:	additional authorities, NULL for none
 * @headers:	[@n_headers] "Name: value"
 * @all:	what it is one of
 */
struct host {
	struct hosts *all;
	char *base;
	char *prefix;
	char *authority;
	bool mirror;
	bool can_pull;
	bool can_resolve;
	bool can_push;
	bool skip_verify;
	char *ca_pem;
	char *client_cert;
	char *client_key;
	char **headers;
	size_t n_headers;
	struct origin *origin; /* set by hosts_load() */
	/* private: files to read, relative to the directory of hosts.toml */
	char **ca_files;
	size_t n_ca_files;
};

/**
 * struct hosts - the servers of one registry, in the order of preference
 * @ns:		name of the registry, as in image references
 *
 * Counted: hosts_ref(), and hosts_free() drops one.
 */
struct hosts {
	unsigned refs;
	char *ns;
	struct host *v;
	size_t n;
};

struct hosts *hosts_ref(struct hosts *h);
void hosts_free(struct hosts *h);
DEFINE_CLEANUP(struct hosts, hosts_free);

/**
 * hosts_parse() - servers for a registry
 * @toml:	[@len] hosts.toml; NULL: there is none
 * @plain_http:	the registry itself is asked over plain HTTP
 *
 * A loopback registry with a port that is not 443 is spoken to over plain HTTP,
 * unless there are settings for TLS; the certificate of another one is not
 * looked at, unless there are authorities for it. Both is what containerd
 * does (core/remotes/docker/config/hosts.go, ConfigureHosts()).
 *
 * Return: 0, -EBADMSG, -ENOMEM
 */
int hosts_parse(const char *toml, size_t len, const char *ns, bool plain_http,
		struct hosts **ret, struct err *e);

/**
 * hosts_load() - the same, from the files below the directory of @g
 *
 * Return: as hosts_parse(), and -errno for files that cannot be read
 */
int hosts_load(struct registry *g, const char *ns, bool plain_http,
	       struct hosts **ret, struct err *e);

/* One server for a blob that is just a URL. Return: 0, -EBADMSG, -ENOMEM. */
int hosts_for_url(struct registry *g, const char *url, struct hosts **ret,
		  struct err *e);

/* Whether a host ("name[:port]", what follows is not looked at) is localhost,
 * 127.0.0.0/8 or [::1]. */
bool hosts_is_local(const char *authority);

/**
 * hosts_url() - "<base><prefix>/<repo>/<what>/<name>[?ns=]"
 * @what:	"blobs", "manifests" or "referrers"
 *
 * Return: heap, NULL when out of memory
 */
char *hosts_url(const struct hosts *hs, const struct host *h, const char *repo,
		const char *what, const char *name);

#endif
