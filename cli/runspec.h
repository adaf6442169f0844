/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: how an image is run: config.json of an OCI bundle, made from the image's
 * config and what the command line says. It is what containerd makes of an
 * image without further words, so that what is recorded is what will be needed.
 * Pure, but for the file of --env-file.
 */
#ifndef CLI_RUNSPEC_H
#define CLI_RUNSPEC_H

#include "cli/runroot.h"
#include "common/base.h"
#include "common/err.h"

struct json_object;

/**
 * struct runspec - what the command line says; JSON is owned, NULL: not given
 * @entrypoint, @args: lists of strings in the place of the image's
 * @command:	the same, in the place of both
 * @env:	list of "K=V", or "K": without it, in order
 * @mounts:	list of mounts as config.json has them
 * @cwd, @user:	borrowed
 */
struct runspec {
	struct json_object *entrypoint;
	struct json_object *args;
	struct json_object *command;
	struct json_object *env;
	struct json_object *mounts;
	const char *cwd;
	const char *user;
	bool net_host;
	bool terminal;
};
void runspec_done(struct runspec *s);

/* A JSON list of strings. Return: 0, -EINVAL, -ENOMEM */
int runspec_parse_list(const char *text, struct json_object **ret,
		       struct err *e);
/* Appends a string to a list, which is made where it is NULL. Return: 0,
 * -ENOMEM */
int runspec_add(struct json_object **list, const char *s);
/* "type=bind,src=/a,dst=/b,options=rbind:ro", as ctr has it. Return: 0,
 * -EINVAL, -ENOMEM */
int runspec_add_mount(struct runspec *s, const char *text, struct err *e);
/* Lines "K=V", or "K": that of our environment; '#' begins a comment. Return: 0,
 * -errno */
int runspec_add_env_file(struct runspec *s, const char *path, struct err *e);

/**
 * struct runspec_where - what is known when the tree is there
 * @rootfs:	path of the tree, from the bundle
 * @cgroup:	path of its cgroup
 * @unified:	the host has cgroup v2 alone
 */
struct runspec_where {
	const char *rootfs;
	const char *cgroup;
	bool unified;
	const struct runuser *user;
};

/* User the process runs as; borrowed from @config or @s. */
const char *runspec_user(const struct json_object *config,
			 const struct runspec *s);

/* Makes the directories of the image that must be there: its volumes, and
 * where it starts. Return: 0, -errno */
int runspec_make_dirs(const struct json_object *config, const struct runspec *s,
		      int root_fd, struct err *e);

/**
 * runspec_make() - the bundle's config.json
 * @config:	the image's config, its whole document
 *
 * Return: 0; -EINVAL: there is nothing to run; -EBADMSG: the config has it that
 * things are of other types; -ENOMEM
 */
int runspec_make(const struct json_object *config, const struct runspec *s,
		 const struct runspec_where *w, struct json_object **ret,
		 struct err *e);

#endif
