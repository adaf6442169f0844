/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/conf.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/un.h>

#include "common/conftab.h"
#include "common/layerdir.h"
#include "daemon/snapshotter/evfiles.h"

#define OPTIONS_MAX 32u
#define PATH_BYTES_MAX 1024u
#define SOCKET_BYTES_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

int config_init(struct config *c)
{
	*c = (struct config){
		.root = strdup(LAYERDIR_ROOT_DEFAULT),
		.address = strdup("/run/estargz/snapshotter.sock"),
		.log_level = LOG_INFO_,
		.fetcher_address = strdup("/run/estargz/fetcher.sock"),
		.fetcher_start = true,
		.fetcher_program = strdup(SBINDIR "/estargzd"),
		.lazy = true,
		.prefetch = true,
		.background = true,
		.open_mode = "auto",
		.native = true,
		.estargzfs = strdup(SBINDIR "/mount.estargz"),
		.mount_timeout_s = 40,
		.read_timeout_s = 300,
		.events_max_bytes = MIB(256),
		.scope = true,
		.cache_max_bytes = MIB(16384),
		.userxattr = USERXATTR_AUTO,
		.metadata = METADATA_AUTO,
	};
	if (c->root != NULL && c->address != NULL &&
	    c->fetcher_address != NULL && c->fetcher_program != NULL &&
	    c->estargzfs != NULL)
		return 0;
	config_done(c);
	return -ENOMEM;
}

void config_done(struct config *c)
{
	free(c->root);
	free(c->address);
	free(c->fetcher_address);
	free(c->fetcher_program);
	free(c->estargzfs);
	free(c->events_dir);
	conftab_list_free(c->options, c->n_options);
	*c = (struct config){0};
}

/* Return: which of [@n] words, -EINVAL */
static int word(const char *s, const char *const *words, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(s, words[i]) == 0)
			return (int)i;
	}
	return -EINVAL;
}

static int parse_userxattr(const char *s, void *at)
{
	static const char *const words[] = {
		[USERXATTR_AUTO] = "auto",
		[USERXATTR_YES] = "yes",
		[USERXATTR_NO] = "no",
	};
	int i = word(s, words, ARRAY_SIZE(words));

	if (i >= 0)
		*(enum userxattr *)at = (enum userxattr)i;
	return MIN(i, 0);
}

static int parse_metadata(const char *s, void *at)
{
	static const char *const words[] = {
		[METADATA_AUTO] = "auto",
		[METADATA_EROFS] = "erofs",
		[METADATA_FUSE] = "fuse",
	};
	int i = word(s, words, ARRAY_SIZE(words));

	if (i >= 0)
		*(enum metadata *)at = (enum metadata)i;
	return MIN(i, 0);
}

static int parse_open_mode(const char *s, void *at)
{
	static const char *const words[] = {"auto", "noopen", "passthrough"};
	int i = word(s, words, ARRAY_SIZE(words));

	if (i >= 0)
		*(const char **)at = words[i];
	return MIN(i, 0);
}

#define FIELD(tab, key, field) \
	.table = (tab), .name = (key), .at = offsetof(struct config, field)
#define KEY(tab, key, field, type, lo, hi)                           \
	{                                                            \
		FIELD(tab, key, field), .kind = (type), .min = (lo), \
					.max = (hi)                  \
	}
#define WORD(tab, key, field, fn, text)                                   \
	{                                                                 \
		FIELD(tab, key, field), .kind = CONF_WORD, .parse = (fn), \
					.what = (text)                    \
	}
#define LIST(tab, key, field, hi)                                  \
	{                                                          \
		FIELD(tab, key, field),                            \
			.kind = CONF_LIST, .max = (hi),            \
			.n_at = offsetof(struct config, n_##field) \
	}

static const struct conf_key keys[] = {
	KEY("", "root", root, CONF_PATH, 0, PATH_BYTES_MAX),
	KEY("", "address", address, CONF_PATH, 0, SOCKET_BYTES_MAX),
	WORD("", "log_level", log_level, conftab_log_level,
	     "err, warn, info or debug"),
	KEY("fetcher", "address", fetcher_address, CONF_PATH, 0,
	    SOCKET_BYTES_MAX),
	KEY("fetcher", "start", fetcher_start, CONF_BOOL, 0, 0),
	KEY("fetcher", "program", fetcher_program, CONF_PATH, 0,
	    PATH_BYTES_MAX),
	KEY("layers", "lazy", lazy, CONF_BOOL, 0, 0),
	KEY("layers", "prefetch", prefetch, CONF_BOOL, 0, 0),
	KEY("layers", "background", background, CONF_BOOL, 0, 0),
	WORD("layers", "open_mode", open_mode, parse_open_mode,
	     "\"auto\", \"noopen\" or \"passthrough\""),
	KEY("layers", "native", native, CONF_BOOL, 0, 0),
	KEY("layers", "program", estargzfs, CONF_PATH, 0, PATH_BYTES_MAX),
	KEY("layers", "mount_timeout_s", mount_timeout_s, CONF_UINT, 1, 3600),
	KEY("layers", "read_timeout_s", read_timeout_s, CONF_UINT, 1, 3600),
	KEY("layers", "events_dir", events_dir, CONF_PATH, 0, PATH_BYTES_MAX),
	KEY("layers", "events_max_bytes", events_max_bytes, CONF_BYTES,
	    EVFILES_EACH_BYTES, INT64_MAX),
	KEY("layers", "scope", scope, CONF_BOOL, 0, 0),
	KEY("cache", "max_bytes", cache_max_bytes, CONF_BYTES, 0, INT64_MAX),
	LIST("mount", "options", options, OPTIONS_MAX),
	WORD("mount", "userxattr", userxattr, parse_userxattr,
	     "\"auto\", \"yes\" or \"no\""),
	WORD("mount", "metadata", metadata, parse_metadata,
	     "\"auto\", \"erofs\" or \"fuse\""),
};

/*
 * Where the state is stands in lowerdir=, where commas end the option, colons
 * the directory, and backslashes quote. Commas end options of estargzfs, too.
 */
static int check_plain(const char *key, const char *s, struct err *e)
{
	for (const char *p = s; *p != '\0'; p++) {
		if (strchr(",:\\", *p) != NULL || iscntrl((unsigned char)*p))
			return err_set(
				e, -EINVAL,
				"%s: no comma, colon, backslash or control character: %s",
				key, s);
	}
	for (const char *p = s; (p = strchr(p, '/')) != NULL; p++) {
		size_t n = strcspn(p + 1, "/");

		if (n == 0 || (n <= 2 && strncmp(p + 1, "..", n) == 0))
			return err_set(
				e, -EINVAL,
				"%s: no empty, \".\" or \"..\" component: %s",
				key, s);
	}
	return 0;
}

static int check_path(const char *key, const char *s, size_t max, struct err *e)
{
	if (s[0] != '/')
		return err_set(e, -EINVAL, "%s: not an absolute path: %s", key,
			       s);
	if (strlen(s) > max)
		return err_set(e, -EINVAL, "%s: longer than %zu bytes: %s", key,
			       max, s);
	return 0;
}

/* Those that say what is mounted, that make a writable snapshot something
 * else, or that containerd takes for flags of its own. */
static bool option_is_ours(const char *s)
{
	static const char *const ours[] = {
		"lowerdir", "lowerdir+", "datadir+", "upperdir",
		"workdir",  "userxattr", "ro",       "rw",
		"bind",     "rbind",     "remount",  "loop",
	};
	size_t n = strcspn(s, "=");

	for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
		if (strlen(ours[i]) == n && strncmp(s, ours[i], n) == 0)
			return true;
	}
	return false;
}

static int check_options(const struct config *c, struct err *e)
{
	for (size_t i = 0; i < c->n_options; i++) {
		const char *s = c->options[i];

		if (strchr(s, ',') != NULL)
			return err_set(e, -EINVAL,
				       "options in [mount]: one a string: %s",
				       s);
		if (option_is_ours(s))
			return err_set(
				e, -EINVAL,
				"options in [mount]: not to be chosen: %s", s);
		/* A file that was only chmodded would be a hollow one, whose
		 * data is in our cache: not what a commit may contain. */
		if (strcmp(s, "metacopy=on") == 0)
			return err_set(e, -EINVAL,
				       "options in [mount]: breaks commits: %s",
				       s);
	}
	return 0;
}

int config_check(const struct config *c, struct err *e)
{
	int r = check_path("root", c->root, PATH_BYTES_MAX, e);

	if (r == 0)
		r = check_plain("root", c->root, e);
	if (r == 0 && c->events_dir != NULL)
		r = check_plain("events_dir", c->events_dir, e);
	if (r == 0)
		r = check_path("address", c->address, SOCKET_BYTES_MAX, e);
	if (r == 0 && strcmp(c->address, c->fetcher_address) == 0)
		r = err_set(e, -EINVAL, "address: also that of [fetcher]: %s",
			    c->address);
	if (r == 0)
		r = check_options(c, e);
	return r;
}

int config_parse(struct config *c, const char *text, size_t len, struct err *e)
{
	int r = conftab_parse(keys, ARRAY_SIZE(keys), c, text, len, e);

	return r < 0 ? r : config_check(c, e);
}
