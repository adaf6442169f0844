/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/registry/creds.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include <openssl/evp.h>

#define LOG_MOD "creds"
#include "common/buf.h"
#include "common/io.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/loop.h"

static const char docker_key[] = "https://index.docker.io/v1/";

static void wipe_free(char *s)
{
	if (s != NULL)
		explicit_bzero(s, strlen(s));
	free(s);
}

void cred_done(struct cred *c)
{
	wipe_free(c->user);
	wipe_free(c->secret);
	wipe_free(c->identity_token);
	wipe_free(c->registry_token);
	*c = (struct cred){0};
}

static void wipe_buf(struct buf *b)
{
	if (b->p != NULL)
		explicit_bzero(b->p, b->cap);
	buf_done(b);
}

/* json-c frees strings without clearing them. */
static void wipe_json(struct json_object *o)
{
	if (o == NULL)
		return;
	if (json_object_is_type(o, json_type_string)) {
		uintptr_t p = (uintptr_t)json_object_get_string(o);

		explicit_bzero((void *)p,
			       (size_t)json_object_get_string_len(o));
	} else if (json_object_is_type(o, json_type_object)) {
		json_object_object_foreach(o, key, v)
		{
			(void)key;
			wipe_json(v);
		}
	} else if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++)
			wipe_json(json_object_array_get_idx(o, i));
	}
}

static int parse(const char *json, size_t len, struct json_object **ret)
{
	struct json_tokener *t;

	if (len > CREDS_BYTES_MAX)
		return -EBADMSG;
	t = json_tokener_new_ex(JSON_DEPTH_MAX);
	if (t == NULL)
		return -ENOMEM;
	*ret = json_tokener_parse_ex(t, json, (int)len);
	json_tokener_free(t);
	if (*ret != NULL && json_object_is_type(*ret, json_type_object))
		return 0;
	wipe_json(*ret);
	json_object_put(*ret);
	return -EBADMSG;
}

static struct json_object *get(struct json_object *o, const char *key,
			       enum json_type type)
{
	struct json_object *v;

	if (!json_object_is_type(o, json_type_object) ||
	    !json_object_object_get_ex(o, key, &v) ||
	    !json_object_is_type(v, type))
		return NULL;
	return v;
}

/* Copies a string that is there and not empty. */
static int copy(struct json_object *o, const char *key, char **ret)
{
	struct json_object *v = get(o, key, json_type_string);

	if (v == NULL || json_object_get_string_len(v) == 0)
		return 0;
	*ret = strdup(json_object_get_string(v));
	return *ret != NULL ? 0 : -ENOMEM;
}

static bool is_docker(const char *host, size_t n)
{
	static const char *const names[] = {"docker.io", "index.docker.io",
					    "registry-1.docker.io"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (n == strlen(names[i]) &&
		    strncasecmp(host, names[i], n) == 0)
			return true;
	}
	return false;
}

/* Whether a key of auths or credHelpers means the host. */
static bool key_is(const char *key, const char *host)
{
	const char *rest = strstr(key, "://");
	size_t n;

	rest = rest != NULL ? rest + 3 : key;
	n = strcspn(rest, "/");
	if (is_docker(host, strlen(host)))
		return is_docker(rest, n);
	return n == strlen(host) && strncasecmp(rest, host, n) == 0;
}

static struct json_object *find(struct json_object *o, const char *host)
{
	if (o == NULL)
		return NULL;
	json_object_object_foreach(o, key, v)
	{
		if (key_is(key, host))
			return v;
	}
	return NULL;
}

/* base64 of "user:secret". */
static int decode_auth(const char *s, struct cred *ret)
{
	size_t n = strlen(s), pad = 0, colon;
	CLEANUP_FREE unsigned char *out = NULL;
	int len;

	if (n == 0 || n % 4 != 0 || n > KIB(64))
		return -EBADMSG;
	while (pad < 2 && s[n - 1 - pad] == '=')
		pad++;
	out = malloc(n);
	if (out == NULL)
		return -ENOMEM;
	len = EVP_DecodeBlock(out, (const unsigned char *)s, (int)n);
	if (len < 0 || (size_t)len < pad)
		return -EBADMSG;
	out[(size_t)len - pad] = '\0';
	colon = strcspn((char *)out, ":");
	/* Docker pads with NUL bytes. */
	if (out[colon] == ':') {
		ret->user = strndup((char *)out, colon);
		ret->secret = strdup((char *)out + colon + 1);
	}
	explicit_bzero(out, n);
	if (colon == (size_t)len - pad)
		return -EBADMSG;
	return ret->user != NULL && ret->secret != NULL ? 0 : -EBADMSG;
}

static int from_auths(struct json_object *o, const char *host, struct cred *ret)
{
	struct json_object *a = find(o, host), *auth;
	int r;

	if (a == NULL || !json_object_is_type(a, json_type_object))
		return a == NULL ? 0 : -EBADMSG;
	r = copy(a, "identitytoken", &ret->identity_token);
	if (r == 0)
		r = copy(a, "registrytoken", &ret->registry_token);
	if (r < 0)
		return r;
	auth = get(a, "auth", json_type_string);
	if (auth != NULL && json_object_get_string_len(auth) > 0)
		return decode_auth(json_object_get_string(auth), ret);
	r = copy(a, "username", &ret->user);
	return r == 0 ? copy(a, "password", &ret->secret) : r;
}

static bool helper_ok(const char *s)
{
	return s[0] != '\0' && s[0] != '.' && s[0] != '-' &&
	       s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
			   "WXYZ0123456789._-")] == '\0';
}

int creds_lookup(const char *json, size_t len, const char *host,
		 struct cred *ret, char **ret_helper, struct err *e)
{
	CLEANUP_CRED struct cred c = {0};
	struct json_object *o, *helper;
	int r = parse(json, len, &o);

	if (r < 0)
		return err_set(e, r, "not a JSON object");
	helper = find(get(o, "credHelpers", json_type_object), host);
	r = from_auths(get(o, "auths", json_type_object), host, &c);
	if (r < 0)
		err_set(e, r, "bad entry for %s", host);
	*ret_helper = NULL;
	/* The general store is asked unless the file itself has the answer. */
	if (r == 0 && helper == NULL && c.user == NULL &&
	    c.identity_token == NULL && c.registry_token == NULL)
		helper = get(o, "credsStore", json_type_string);
	if (r == 0 && helper != NULL &&
	    json_object_is_type(helper, json_type_string) &&
	    json_object_get_string_len(helper) > 0) {
		if (!helper_ok(json_object_get_string(helper)))
			r = err_set(e, -EBADMSG, "bad credential helper name");
		else if ((*ret_helper = strdup(
				  json_object_get_string(helper))) == NULL)
			r = err_no_memory(e);
	}
	wipe_json(o);
	json_object_put(o);
	if (r < 0)
		return r;
	*ret = c;
	c = (struct cred){0};
	return 0;
}

int creds_helper_parse(const char *json, size_t len, struct cred *ret)
{
	CLEANUP_CRED struct cred c = {0};
	struct json_object *o;
	int r = parse(json, len, &o);

	if (r < 0)
		return r;
	r = copy(o, "Username", &c.user);
	if (r == 0)
		r = copy(o, "Secret", &c.secret);
	wipe_json(o);
	json_object_put(o);
	if (r == 0 && c.secret == NULL)
		r = -EBADMSG;
	if (r < 0)
		return r;
	if (c.user != NULL && strcmp(c.user, "<token>") == 0) {
		c.identity_token = TAKE_PTR(c.secret);
		wipe_free(TAKE_PTR(c.user));
	}
	*ret = c;
	c = (struct cred){0};
	return 0;
}

/* ---- asking a helper ---- */

struct creds_query {
	struct loop_io io; /* first: its standard output */
	struct loop_timer timer;
	struct loop *loop;
	pid_t pid;
	char *helper;
	struct buf out;
	void (*fn)(void *ctx, struct cred *c);
	void *ctx;
};

static void query_end(struct creds_query *q)
{
	int status;

	loop_io_del(q->loop, &q->io);
	loop_timer_clear(&q->timer);
	(void)close(q->io.fd);
	/* It has closed its output: it ends, or is made to. */
	(void)kill(q->pid, SIGKILL);
	while (waitpid(q->pid, &status, 0) < 0 && errno == EINTR)
		continue;
	wipe_buf(&q->out);
	free(q->helper);
	free(q);
}

void creds_cancel(struct creds_query *q)
{
	if (q != NULL)
		query_end(q);
}

static void query_answer(struct creds_query *q)
{
	CLEANUP_CRED struct cred c = {0};
	void (*fn)(void *, struct cred *) = q->fn;
	void *ctx = q->ctx;
	int r = creds_helper_parse(q->out.p != NULL ? q->out.p : "", q->out.len,
				   &c);

	/* What it printed is not logged: it may be the secret. */
	if (r < 0)
		log_warn("msg=\"no credentials from helper\" helper=%s",
			 q->helper);
	query_end(q);
	fn(ctx, &c);
}

static void on_output(struct loop_io *io, uint32_t events)
{
	struct creds_query *q = (struct creds_query *)(void *)io;
	char block[4096];
	ssize_t n;

	(void)events;
	n = read(io->fd, block, sizeof(block));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && buf_add(&q->out, block, (size_t)n) == 0) {
		explicit_bzero(block, sizeof(block));
		return;
	}
	explicit_bzero(block, sizeof(block));
	query_answer(q);
}

static void on_late(struct loop_timer *t)
{
	struct creds_query *q = LIST_ENTRY(t, struct creds_query, timer);

	log_warn("msg=\"credential helper takes too long\" helper=%s",
		 q->helper);
	buf_clear(&q->out);
	query_answer(q);
}

/* Starts "docker-credential-<name> get". Return: 0 or -errno. */
static int spawn_helper(const char *name, const char *server, int *ret_out,
			pid_t *ret_pid)
{
	CLEANUP_FREE char *prog = NULL;
	CLEANUP_CLOSE int in_r = -EBADF, in_w = -EBADF;
	CLEANUP_CLOSE int out_r = -EBADF, out_w = -EBADF;
	char get_word[] = "get";
	char *argv[] = {NULL, get_word, NULL};
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	sigset_t none, pipe_set;
	int p[2], r;

	if (asprintf(&prog, "docker-credential-%s", name) < 0)
		return -ENOMEM;
	argv[0] = prog;
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	in_r = p[0];
	in_w = p[1];
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	out_r = p[0];
	out_w = p[1];
	/* A host name always fits a pipe. */
	r = io_write_all(in_w, server, strlen(server));
	if (r < 0)
		return r;
	(void)sigemptyset(&none);
	(void)sigemptyset(&pipe_set);
	(void)sigaddset(&pipe_set, SIGPIPE);
	if (posix_spawn_file_actions_init(&fa) != 0)
		return -ENOMEM;
	if (posix_spawnattr_init(&at) != 0) {
		(void)posix_spawn_file_actions_destroy(&fa);
		return -ENOMEM;
	}
	r = posix_spawn_file_actions_adddup2(&fa, in_r, 0);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&fa, out_w, 1);
	if (r == 0)
		r = posix_spawnattr_setsigmask(&at, &none);
	if (r == 0)
		r = posix_spawnattr_setsigdefault(&at, &pipe_set);
	if (r == 0)
		r = posix_spawnattr_setflags(
			&at, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (r == 0)
		r = posix_spawnp(ret_pid, prog, &fa, &at, argv, environ);
	(void)posix_spawn_file_actions_destroy(&fa);
	(void)posix_spawnattr_destroy(&at);
	if (r != 0)
		return -r;
	*ret_out = TAKE_FD(out_r);
	return 0;
}

static int query_start(struct loop *l, const char *helper, const char *host,
		       struct creds_query **ret)
{
	struct creds_query *q = calloc(1, sizeof(*q));
	const char *server = is_docker(host, strlen(host)) ? docker_key : host;
	int r;

	if (q == NULL)
		return -ENOMEM;
	q->loop = l;
	q->out = BUF_INIT(KIB(64));
	q->helper = strdup(helper);
	r = q->helper != NULL ? spawn_helper(helper, server, &q->io.fd, &q->pid)
			      : -ENOMEM;
	if (r < 0) {
		free(q->helper);
		free(q);
		return r;
	}
	q->io.fn = on_output;
	q->timer.fn = on_late;
	(void)fcntl(q->io.fd, F_SETFL, O_NONBLOCK);
	r = loop_io_add(l, &q->io, EPOLLIN);
	loop_timer_set(l, &q->timer,
		       loop_now(l) + CREDS_HELPER_WAIT_S * NSEC_PER_SEC);
	if (r < 0) {
		query_end(q);
		return r;
	}
	*ret = q;
	return 0;
}

static int read_config(const char *config, struct buf *b)
{
	CLEANUP_FREE char *path = NULL;
	const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
	int n = 0;

	if (config != NULL)
		return io_read_file(AT_FDCWD, config, b);
	if (dir != NULL && dir[0] != '\0')
		n = asprintf(&path, "%s/config.json", dir);
	else if (home != NULL)
		n = asprintf(&path, "%s/.docker/config.json", home);
	if (n <= 0) {
		path = NULL;
		return n < 0 ? -ENOMEM : -ENOENT;
	}
	return io_read_file(AT_FDCWD, path, b);
}

void creds_ask(struct loop *l, const char *config, const char *host,
	       void (*fn)(void *ctx, struct cred *c), void *ctx,
	       struct creds_query **ret)
{
	CLEANUP_CRED struct cred c = {0};
	CLEANUP_FREE char *helper = NULL;
	struct buf b = BUF_INIT(CREDS_BYTES_MAX);
	struct err e = {0};
	int r = read_config(config, &b);

	*ret = NULL;
	if (r == 0)
		r = creds_lookup(b.p != NULL ? b.p : "", b.len, host, &c,
				 &helper, &e);
	else if (r != -ENOENT || config != NULL)
		err_set(&e, r, "%s", err_name(r));
	wipe_buf(&b);
	if (e.code != 0)
		log_warn("msg=\"docker config: %s\"", e.text);
	if (r == 0 && helper != NULL) {
		r = query_start(l, helper, host, ret);
		if (r == 0) {
			(*ret)->fn = fn;
			(*ret)->ctx = ctx;
			return;
		}
		log_warn("msg=\"cannot run credential helper: %s\" helper=%s",
			 err_name(r), helper);
	}
	fn(ctx, &c);
}
