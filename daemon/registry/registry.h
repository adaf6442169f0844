/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: what it takes to speak to registries: HTTP on a loop, the servers of a
 * registry (hosts.h), what they want in Authorization (auth.h), and exchanges
 * that use all of that (exch.h). One thread.
 */
#ifndef REGISTRY_REGISTRY_H
#define REGISTRY_REGISTRY_H

#include "common/base.h"
#include "common/list.h"

struct auth;
struct http;
struct loop;
struct origin;

#define REGISTRY_HOSTS_DIR "/etc/containerd/certs.d"
#define REGISTRY_CONNECT_TIMEOUT_MS 10000u
#define REGISTRY_STALL_TIMEOUT_S 20u

/**
 * struct registry_settings - strings are borrowed
 * @agent:	name of the program, for User-Agent and as client_id of tokens
 * @hosts_dir:	where <registry>/hosts.toml is
 * @docker_config: a file, NULL: where docker looks
 * @stall_timeout_s: a connection that brings nothing for so long is given up
 * @origin_bytes: size of what begins with a struct origin, 0: just that
 * @origin_init: the rest of it, which is zeroed; may be NULL
 */
struct registry_settings {
	const char *agent;
	const char *hosts_dir;
	const char *docker_config;
	unsigned connect_timeout_ms;
	unsigned stall_timeout_s;
	size_t origin_bytes;
	void (*origin_init)(void *arg, struct origin *o);
	void *arg;
};

/* Counted since the start. */
struct registry_stats {
	uint64_t redirects;
	uint64_t tokens;
};

struct registry {
	struct loop *loop;
	struct registry_settings set;
	struct http *http;
	struct auth *auth;
	struct list origins; /* hosts.h */
	struct registry_stats stats;
};

#define REGISTRY_BACKOFF_NS (100 * NSEC_PER_MSEC)
#define REGISTRY_BACKOFF_MAX_NS (10 * NSEC_PER_SEC)
#define REGISTRY_RETRY_AFTER_MAX_S 60u

/**
 * registry_backoff_ns() - how long to wait before something is tried again
 * @tries:	1 after the first failure, and so on
 * @retry_after_s: what the server asked for
 *
 * Twice as long each time, less by chance, so that not all come back at once.
 */
uint64_t registry_backoff_ns(unsigned tries, uint64_t retry_after_s);

/* l: outlives it. Return: 0, -ENOMEM; registry_done() in either case. */
int registry_init(struct registry *g, struct loop *l,
		  const struct registry_settings *set);
/* Zeroed memory, too. Exchanges and hosts are gone before. */
void registry_done(struct registry *g);

#endif
