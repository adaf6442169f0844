/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of containerd. The first byte chooses the method. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "common/utf8.h"
#include "daemon/snapshotter/service.h"
#include "daemon/snapshotter/snapshots.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned n_replies;

static void check_text(const char *s)
{
	assert(s != NULL);
	assert(utf8_valid(s, strlen(s)));
}

static void check_labels(const struct labels *l)
{
	for (size_t i = 0; i < l->n; i++) {
		check_text(l->v[i].key);
		check_text(l->v[i].value);
		assert(i == 0 || strcmp(l->v[i - 1].key, l->v[i].key) < 0);
	}
}

/* In the place of the server's. */
int grpc_reply(struct grpc_call *call, const void *msg, size_t len)
{
	(void)call;
	assert(len == 0 || msg != NULL);
	n_replies++;
	return 0;
}

static int give_mount(struct stack_mount *m)
{
	m->type = strdup("bind");
	m->source = strdup("/s");
	return m->type != NULL && m->source != NULL ? 0 : -ENOMEM;
}

static int give_snap(struct snap *s, const char *key,
		     const struct labels *labels)
{
	s->name = strdup(key);
	s->parent = strdup("");
	s->kind = SNAP_VIEW;
	return labels != NULL ? labels_copy(&s->labels, labels) : 0;
}

int snapshots_prepare(struct snapshots *s, enum snap_kind kind, const char *key,
		      const char *parent, const struct labels *labels,
		      struct stack_mount *ret, struct err *e)
{
	(void)s;
	(void)kind;
	(void)e;
	check_text(key);
	check_text(parent);
	check_labels(labels);
	return give_mount(ret);
}

int snapshots_mounts(struct snapshots *s, const char *key,
		     struct stack_mount *ret, struct err *e)
{
	(void)s;
	(void)e;
	check_text(key);
	return give_mount(ret);
}

int snapshots_commit(struct snapshots *s, const char *key, const char *name,
		     const struct labels *labels, struct err *e)
{
	(void)s;
	(void)e;
	check_text(key);
	check_text(name);
	check_labels(labels);
	return 0;
}

int snapshots_remove(struct snapshots *s, const char *key, struct err *e)
{
	(void)s;
	(void)e;
	check_text(key);
	return 0;
}

int snapshots_stat(struct snapshots *s, const char *key, struct snap *ret,
		   struct err *e)
{
	(void)s;
	(void)e;
	check_text(key);
	return give_snap(ret, key, NULL);
}

int snapshots_update(struct snapshots *s, const char *key,
		     const struct labels *labels, const char *const *paths,
		     size_t n_paths, struct snap *ret, struct err *e)
{
	(void)s;
	(void)e;
	check_text(key);
	check_labels(labels);
	for (size_t i = 0; i < n_paths; i++)
		check_text(paths[i]);
	return give_snap(ret, key, labels);
}

int snapshots_list(struct snapshots *s, const char *const *filters, size_t n,
		   int (*fn)(void *arg, const struct snap *s), void *arg,
		   struct err *e)
{
	int r = 0;

	(void)s;
	(void)e;
	for (size_t i = 0; i < n && r == 0; i++) {
		CLEANUP_SNAP struct snap snap = {0};

		check_text(filters[i]);
		r = give_snap(&snap, filters[i], NULL);
		if (r == 0)
			r = fn(arg, &snap);
	}
	return r;
}

int snapshots_usage(struct snapshots *s, const char *key, uint64_t *ret_bytes,
		    uint64_t *ret_inodes, struct err *e)
{
	(void)s;
	(void)e;
	check_text(key);
	*ret_bytes = strlen(key);
	*ret_inodes = 1;
	return 0;
}

int snapshots_cleanup(struct snapshots *s, struct err *e)
{
	(void)s;
	(void)e;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct grpc_method *m;
	struct err e = {0};
	int r;

	if (size < 1)
		return 0;
	m = &service_methods[data[0] % SERVICE_METHODS_N];
	n_replies = 0;
	r = m->fn(NULL, NULL, data + 1, size - 1, &e);
	/* Understood and answered, or refused with a reason. */
	if (r == 0) {
		assert(n_replies > 0 || strstr(m->path, "/List") != NULL);
	} else {
		assert(r == -EINVAL || r == -ENOSYS || r == -ENOENT);
		assert(e.text[0] != '\0');
		assert(n_replies == 0);
	}
	return 0;
}
