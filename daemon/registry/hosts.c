/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/registry/hosts.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/buf.h"
#include "common/io.h"
#define LOG_MOD "hosts"
#include "common/log.h"
#include "common/toml.h"
#include "daemon/registry/registry.h"

static void origin_free(struct origin *o)
{
	list_del(&o->node);
	free(o->name);
	free(o);
}

struct origin *origin_ref(struct origin *o)
{
	o->refs++;
	return o;
}

void origin_unref(struct origin *o)
{
	if (o == NULL)
		return;
	assert(o->refs > 0);
	o->refs--;
}

/* Forgets the oldest that nobody names, where there are too many. */
static void prune(struct registry *g)
{
	struct origin *oldest = NULL;
	unsigned n = 0;

	LIST_EACH(it, &g->origins)
	{
		struct origin *o = LIST_ENTRY(it, struct origin, node);

		if (o->refs == 0 && oldest == NULL)
			oldest = o;
		n++;
	}
	if (n >= ORIGINS_MAX && oldest != NULL)
		origin_free(oldest);
}

struct origin *origin_get(struct registry *g, const char *name)
{
	struct origin *o;

	LIST_EACH(n, &g->origins)
	{
		o = LIST_ENTRY(n, struct origin, node);
		if (strcmp(o->name, name) == 0)
			return origin_ref(o);
	}
	prune(g);
	o = calloc(1, MAX(g->set.origin_bytes, sizeof(*o)));
	if (o == NULL)
		return NULL;
	o->name = strdup(name);
	if (o->name == NULL) {
		free(o);
		return NULL;
	}
	if (g->set.origin_init != NULL)
		g->set.origin_init(g->set.arg, o);
	list_add(&g->origins, &o->node);
	return origin_ref(o);
}

void origin_failed(struct origin *o, uint64_t now_ns)
{
	o->errors++;
	if (o->breaker.failures < UINT32_MAX)
		o->breaker.failures++;
	if (o->breaker.failures < BREAKER_FAILURES)
		return;
	o->breaker.probation = true;
	o->breaker.not_before_ns = now_ns + BREAKER_WAIT_NS;
}

void origin_worked(struct origin *o)
{
	o->breaker = (struct breaker){0};
}

void origin_free_all(struct registry *g)
{
	LIST_EACH_SAFE(n, &g->origins)
	origin_free(LIST_ENTRY(n, struct origin, node));
}

static void strv_free(char **v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(v[i]);
	free(v);
}

void hosts_free(struct hosts *h)
{
	if (h == NULL || --h->refs > 0)
		return;
	for (size_t i = 0; i < h->n; i++) {
		struct host *x = &h->v[i];

		origin_unref(x->origin);
		free(x->base);
		free(x->prefix);
		free(x->authority);
		free(x->ca_pem);
		free(x->client_cert);
		free(x->client_key);
		strv_free(x->headers, x->n_headers);
		strv_free(x->ca_files, x->n_ca_files);
	}
	free(h->v);
	free(h->ns);
	free(h);
}

struct hosts *hosts_ref(struct hosts *h)
{
	h->refs++;
	return h;
}

static struct hosts *hosts_new(const char *ns)
{
	struct hosts *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return NULL;
	h->refs = 1;
	h->ns = strdup(ns);
	if (h->ns == NULL) {
		free(h);
		return NULL;
	}
	return h;
}

bool hosts_is_local(const char *a)
{
	size_t n = strcspn(a, a[0] == '[' ? "]" : ":/?#");
	char name[INET_ADDRSTRLEN];
	struct in_addr v4;

	n += a[n] == ']';
	/* A name that only begins like an address is anybody's. */
	if (n >= sizeof(name) || (a[n] != '\0' && strchr(":/?#", a[n]) == NULL))
		return false;
	memcpy(name, a, n);
	name[n] = '\0';
	return strcasecmp(name, "localhost") == 0 ||
	       strcmp(name, "[::1]") == 0 ||
	       (inet_pton(AF_INET, name, &v4) == 1 &&
		ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET);
}

static int strv_add(char ***v, size_t *n, char *s)
{
	char **p;

	if (s == NULL)
		return -ENOMEM;
	p = realloc(*v, (*n + 1) * sizeof(*p));
	if (p == NULL) {
		free(s);
		return -ENOMEM;
	}
	p[(*n)++] = s;
	*v = p;
	return 0;
}

/* Splits "scheme://authority/path"; the scheme may be missing. */
static int host_url(struct host *h, const char *url, bool override_path,
		    struct err *e)
{
	const char *rest = strstr(url, "://");
	const char *scheme = "https", *path;
	char shown[160];
	size_t n;

	if (rest != NULL) {
		if (strncasecmp(url, "http://", 7) == 0)
			scheme = "http";
		else if (strncasecmp(url, "https://", 8) != 0)
			return err_set(e, -EBADMSG, "bad URL %s",
				       log_url(url, shown, sizeof(shown)));
		rest += 3;
	} else {
		rest = url;
	}
	path = rest + strcspn(rest, "/?#");
	n = (size_t)(path - rest);
	if (n == 0 || n > 255 || memchr(rest, '@', n) != NULL ||
	    strcspn(rest, " \t\r\n\\") < strlen(rest) || path[0] == '?' ||
	    path[0] == '#')
		return err_set(e, -EBADMSG, "bad URL %s",
			       log_url(url, shown, sizeof(shown)));
	h->authority = strndup(rest, n);
	n = strlen(path);
	while (n > 0 && path[n - 1] == '/')
		n--;
	if (n >= 3 && strncmp(path + n - 3, "/v2", 3) == 0)
		override_path = true;
	if (asprintf(&h->prefix, "%.*s%s", (int)n, path,
		     override_path ? "" : "/v2") < 0)
		h->prefix = NULL;
	if (h->authority == NULL || h->prefix == NULL ||
	    asprintf(&h->base, "%s://%s", scheme, h->authority) < 0) {
		h->base = NULL;
		return err_no_memory(e);
	}
	return 0;
}

static struct json_object *get(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	if (o == NULL || !json_object_object_get_ex(o, key, &v))
		return NULL;
	return v;
}

/* Nothing, or a list of nothing. */
static bool empty(struct json_object *v)
{
	return v == NULL || (json_object_is_type(v, json_type_array) &&
			     json_object_array_length(v) == 0);
}

static bool get_bool(struct json_object *o, const char *key)
{
	struct json_object *v = get(o, key);

	return v != NULL && json_object_is_type(v, json_type_boolean) &&
	       json_object_get_boolean(v);
}

static int capabilities(struct host *h, struct json_object *o, struct err *e)
{
	struct json_object *v = get(o, "capabilities");

	h->can_pull = v == NULL;
	h->can_resolve = v == NULL;
	h->can_push = v == NULL;
	if (v == NULL)
		return 0;
	if (!json_object_is_type(v, json_type_array))
		return err_set(e, -EBADMSG, "capabilities is not a list");
	for (size_t i = 0; i < json_object_array_length(v); i++) {
		const char *s =
			json_object_get_string(json_object_array_get_idx(v, i));

		if (s == NULL)
			return err_set(e, -EBADMSG, "bad capability");
		if (strcmp(s, "pull") == 0)
			h->can_pull = true;
		else if (strcmp(s, "resolve") == 0)
			h->can_resolve = true;
		else if (strcmp(s, "push") == 0)
			h->can_push = true;
	}
	return 0;
}

static int authorities(struct host *h, struct json_object *v, struct err *e)
{
	int r = 0;

	if (v == NULL)
		return 0;
	if (json_object_is_type(v, json_type_string))
		r = strv_add(&h->ca_files, &h->n_ca_files,
			     strdup(json_object_get_string(v)));
	else if (!json_object_is_type(v, json_type_array))
		r = -EBADMSG;
	else
		for (size_t i = 0; r == 0 && i < json_object_array_length(v);
		     i++) {
			struct json_object *s = json_object_array_get_idx(v, i);

			if (!json_object_is_type(s, json_type_string))
				r = -EBADMSG;
			else
				r = strv_add(&h->ca_files, &h->n_ca_files,
					     strdup(json_object_get_string(s)));
		}
	return r < 0 ? err_set(e, r, "bad ca") : 0;
}

/* "file", ["file"…] or [["cert", "key"]…]; the first one is used. */
static int client(struct host *h, struct json_object *v, struct err *e)
{
	struct json_object *cert = v, *key = NULL;

	if (empty(v))
		return 0;
	if (json_object_is_type(v, json_type_array)) {
		cert = json_object_array_get_idx(v, 0);
		if (cert != NULL &&
		    json_object_is_type(cert, json_type_array)) {
			key = json_object_array_get_idx(cert, 1);
			cert = json_object_array_get_idx(cert, 0);
		}
	}
	if (!json_object_is_type(cert, json_type_string) ||
	    (key != NULL && !json_object_is_type(key, json_type_string)))
		return err_set(e, -EBADMSG, "bad client");
	h->client_cert = strdup(json_object_get_string(cert));
	if (key != NULL && json_object_get_string_len(key) > 0)
		h->client_key = strdup(json_object_get_string(key));
	return h->client_cert != NULL ? 0 : err_no_memory(e);
}

static int header(struct host *h, const char *name, struct json_object *v,
		  struct err *e)
{
	const char *s = json_object_get_string(v);
	char *line;

	if (!json_object_is_type(v, json_type_string) ||
	    strpbrk(s, "\r\n") != NULL || strpbrk(name, "\r\n: ") != NULL)
		return err_set(e, -EBADMSG, "bad header %s", name);
	if (asprintf(&line, "%s: %s", name, s) < 0)
		line = NULL;
	if (strv_add(&h->headers, &h->n_headers, line) < 0)
		return err_no_memory(e);
	return 0;
}

static int headers(struct host *h, struct json_object *o, struct err *e)
{
	int r = 0;

	if (o == NULL)
		return 0;
	if (!json_object_is_type(o, json_type_object))
		return err_set(e, -EBADMSG, "header is not a table");
	json_object_object_foreach(o, name, v)
	{
		if (!json_object_is_type(v, json_type_array)) {
			r = header(h, name, v, e);
		} else {
			for (size_t i = 0;
			     r == 0 && i < json_object_array_length(v); i++)
				r = header(h, name,
					   json_object_array_get_idx(v, i), e);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

/* Where the registry of a name is. */
static const char *registry_host(const char *ns)
{
	return strcmp(ns, "docker.io") == 0 ? "registry-1.docker.io" : ns;
}

/* Adds a server; o has its keys and may be NULL. @mirror: it may be another
 * one than the registry itself. */
static int add(struct hosts *hs, const char *url, struct json_object *o,
	       bool mirror, struct err *e)
{
	struct host *v, *h;
	int r;

	if (hs->n >= HOSTS_MAX)
		return err_set(e, -EBADMSG, "more than %u hosts", HOSTS_MAX);
	v = realloc(hs->v, (hs->n + 1) * sizeof(*v));
	if (v == NULL)
		return err_no_memory(e);
	hs->v = v;
	h = &v[hs->n++];
	*h = (struct host){.all = hs};
	r = host_url(h, url, get_bool(o, "override_path"), e);
	if (r == 0)
		h->mirror = mirror &&
			    strcmp(h->authority, registry_host(hs->ns)) != 0;
	if (r == 0)
		r = capabilities(h, o, e);
	if (r == 0)
		r = authorities(h, get(o, "ca"), e);
	if (r == 0)
		r = client(h, get(o, "client"), e);
	if (r == 0)
		r = headers(h, get(o, "header"), e);
	h->skip_verify = get_bool(o, "skip_verify");
	return r;
}

/* Whether a loopback registry means plain HTTP: by its port, as containerd
 * has it, unless somebody has thought of TLS. */
static bool local_plain(const char *host, struct json_object *o)
{
	const char *colon = strrchr(host, ':');

	if (!hosts_is_local(host) || !empty(get(o, "ca")) ||
	    !empty(get(o, "client")) || get(o, "skip_verify") != NULL)
		return false;
	return colon != NULL && strchr(colon, ']') == NULL &&
	       strcmp(colon, ":443") != 0;
}

static char *registry_url(const char *ns, struct json_object *o,
			  bool plain_http)
{
	const char *host = registry_host(ns);
	char *url;

	if (asprintf(&url, "%s://%s",
		     plain_http || local_plain(host, o) ? "http" : "https",
		     host) < 0)
		return NULL;
	return url;
}

/* The registry itself, where hosts.toml does not say which server it is. */
static int add_own(struct hosts *hs, const char *url, struct json_object *o,
		   struct err *e)
{
	int r = add(hs, url, o, false, e);
	struct host *h;

	if (r < 0)
		return r;
	h = &hs->v[hs->n - 1];
	/* Hardly anybody has a certificate for that. */
	if (hosts_is_local(h->authority) && h->n_ca_files == 0 &&
	    get(o, "skip_verify") == NULL)
		h->skip_verify = true;
	return 0;
}

static int mirrors(struct hosts *hs, struct json_object *o, struct err *e)
{
	if (o == NULL)
		return 0;
	if (!json_object_is_type(o, json_type_object))
		return err_set(e, -EBADMSG, "host is not a table");
	json_object_object_foreach(o, url, v)
	{
		int r;

		if (!json_object_is_type(v, json_type_object))
			return err_set(e, -EBADMSG, "host %s is not a table",
				       url);
		r = add(hs, url, v, true, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int servers(struct hosts *hs, struct json_object *o, bool plain_http,
		   struct err *e)
{
	struct json_object *server = get(o, "server");
	CLEANUP_FREE char *own = registry_url(hs->ns, o, plain_http);
	int r;

	if (own == NULL)
		return err_no_memory(e);
	r = mirrors(hs, get(o, "host"), e);
	if (r < 0)
		return r;
	if (server == NULL)
		return add_own(hs, own, o, e);
	if (!json_object_is_type(server, json_type_string))
		return err_set(e, -EBADMSG, "server is not a string");
	return add(hs, json_object_get_string(server), o, true, e);
}

int hosts_parse(const char *toml, size_t len, const char *ns, bool plain_http,
		struct hosts **ret, struct err *e)
{
	CLEANUP(hosts_free_cleanup) struct hosts *hs = hosts_new(ns);
	struct json_object *o = NULL;
	int r = 0;

	if (hs == NULL)
		return err_no_memory(e);
	if (toml != NULL)
		r = toml_parse(toml, len, &o, e);
	if (r == 0)
		r = servers(hs, o, plain_http, e);
	json_object_put(o);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(hs);
	return 0;
}

static int read_ca(struct host *h, const char *dir, struct err *e)
{
	CLEANUP_BUF struct buf b = BUF_INIT(HOSTS_CA_BYTES_MAX);

	for (size_t i = 0; i < h->n_ca_files; i++) {
		CLEANUP_FREE char *path = NULL;
		int r;

		if (h->ca_files[i][0] == '/')
			path = strdup(h->ca_files[i]);
		else if (asprintf(&path, "%s/%s", dir, h->ca_files[i]) < 0)
			path = NULL;
		if (path == NULL)
			return err_no_memory(e);
		r = io_read_file(AT_FDCWD, path, &b);
		if (r == 0)
			r = buf_add_str(&b, "\n");
		if (r < 0)
			return err_set(e, r, "read %s: %s", path, err_name(r));
	}
	h->ca_pem = TAKE_PTR(b.p);
	return 0;
}

static int absolute(char **path, const char *dir)
{
	char *p;

	if (*path == NULL || (*path)[0] == '/')
		return 0;
	if (asprintf(&p, "%s/%s", dir, *path) < 0)
		return -ENOMEM;
	free(*path);
	*path = p;
	return 0;
}

static int finish(struct registry *g, struct hosts *hs, const char *dir,
		  struct err *e)
{
	for (size_t i = 0; i < hs->n; i++) {
		struct host *h = &hs->v[i];
		int r = read_ca(h, dir, e);

		if (r < 0)
			return r;
		h->origin = origin_get(g, h->base);
		if (h->origin == NULL || absolute(&h->client_cert, dir) < 0 ||
		    absolute(&h->client_key, dir) < 0)
			return err_no_memory(e);
	}
	return 0;
}

/* The directory of a registry below dir. Return: 0, -ENOENT, -errno. */
static int find_dir(const char *dir, const char *ns, char **ret)
{
	const char *names[] = {ns, NULL, "_default"};
	CLEANUP_FREE char *port = NULL;
	const char *colon = strrchr(ns, ':');

	/* Where ':' cannot be in a name, containerd takes host_port_. */
	if (colon != NULL && strchr(colon, ']') == NULL) {
		if (asprintf(&port, "%.*s_%s_", (int)(colon - ns), ns,
			     colon + 1) < 0) {
			port = NULL;
			return -ENOMEM;
		}
		names[1] = port;
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		CLEANUP_FREE char *d = NULL;

		if (names[i] == NULL)
			continue;
		if (asprintf(&d, "%s/%s", dir, names[i]) < 0) {
			d = NULL;
			return -ENOMEM;
		}
		if (access(d, F_OK) == 0) {
			*ret = TAKE_PTR(d);
			return 0;
		}
		if (errno != ENOENT && errno != ENOTDIR)
			return -errno;
	}
	return -ENOENT;
}

static bool is_cert(const char *name, const char *suffix, size_t *ret_stem)
{
	size_t n = strlen(name), k = strlen(suffix);

	/* They go into a string of TOML that has no escapes. */
	if (n <= k || strcmp(name + n - k, suffix) != 0 ||
	    strpbrk(name, "'\n") != NULL)
		return false;
	*ret_stem = n - k;
	return true;
}

/* Docker's files for a registry, told as hosts.toml would: x.crt are
 * authorities, x.cert with x.key is for us to show. */
static int cert_files(const char *dir, struct buf *b)
{
	struct dirent **v = NULL;
	int n = scandir(dir, &v, NULL, alphasort), r;
	size_t k;

	if (n < 0)
		return errno == ENOTDIR ? 0 : -errno;
	r = buf_add_str(b, "ca = [");
	for (int i = 0; r == 0 && i < n; i++) {
		if (is_cert(v[i]->d_name, ".crt", &k))
			r = buf_addf(b, "'%s',", v[i]->d_name);
	}
	if (r == 0)
		r = buf_add_str(b, "]\nclient = [");
	for (int i = 0; r == 0 && i < n; i++) {
		if (is_cert(v[i]->d_name, ".cert", &k))
			r = buf_addf(b, "['%s','%.*s.key'],", v[i]->d_name,
				     (int)k, v[i]->d_name);
	}
	for (int i = 0; i < n; i++)
		free(v[i]);
	free(v);
	return r == 0 ? buf_add_str(b, "]\n") : r;
}

/* What a registry's directory says, as TOML. */
static int read_dir(const char *dir, struct buf *b)
{
	CLEANUP_FREE char *f = NULL;
	int r;

	if (asprintf(&f, "%s/hosts.toml", dir) < 0) {
		f = NULL;
		return -ENOMEM;
	}
	r = io_read_file(AT_FDCWD, f, b);
	if (r == -ENOENT || r == -ENOTDIR || (r == 0 && b->len == 0))
		r = cert_files(dir, b);
	return r;
}

int hosts_load(struct registry *g, const char *ns, bool plain_http,
	       struct hosts **ret, struct err *e)
{
	const char *dir = g->set.hosts_dir;
	CLEANUP(hosts_free_cleanup) struct hosts *hs = NULL;
	CLEANUP_BUF struct buf b = BUF_INIT(HOSTS_TOML_BYTES_MAX);
	CLEANUP_FREE char *sub = NULL;
	int r = find_dir(dir, ns, &sub);

	if (r == 0)
		r = read_dir(sub, &b);
	else if (r == -ENOENT)
		r = 0;
	if (r < 0)
		return err_set(e, r, "read %s/hosts.toml: %s",
			       sub != NULL ? sub : dir, err_name(r));
	r = hosts_parse(b.p, b.len, ns, plain_http, &hs, e);
	if (r < 0 && sub != NULL)
		return err_wrap(e, "%s/hosts.toml", sub);
	if (r == 0)
		r = finish(g, hs, sub != NULL ? sub : dir, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(hs);
	return 0;
}

int hosts_for_url(struct registry *g, const char *url, struct hosts **ret,
		  struct err *e)
{
	CLEANUP(hosts_free_cleanup) struct hosts *hs = hosts_new("");
	CLEANUP_FREE char *base = NULL;
	const char *rest = strstr(url, "://");
	int r;

	if (rest == NULL)
		return err_set(e, -EBADMSG, "not a URL: %s", url);
	base = strndup(url,
		       (size_t)(rest + 3 - url) + strcspn(rest + 3, "/?#"));
	if (hs == NULL || base == NULL)
		return err_no_memory(e);
	r = add(hs, base, NULL, false, e);
	if (r == 0)
		r = finish(g, hs, "/", e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(hs);
	return 0;
}

char *hosts_url(const struct hosts *hs, const struct host *h, const char *repo,
		const char *what, const char *name)
{
	char *url;

	if (asprintf(&url, "%s%s/%s/%s/%s%s%s", h->base, h->prefix, repo, what,
		     name, h->mirror ? "?ns=" : "",
		     h->mirror ? hs->ns : "") < 0)
		return NULL;
	return url;
}
