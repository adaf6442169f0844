/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/runimage.h"

#include <errno.h>
#include <fcntl.h>
#include <json.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "cli/runmount.h"
#include "common/io.h"

static bool is_unified(void)
{
	struct statfs sf;

	return statfs("/sys/fs/cgroup", &sf) == 0 &&
	       sf.f_type == CGROUP2_SUPER_MAGIC;
}

/* config.json of the bundle, for the tree that is mounted. */
static int write_spec(const struct rundir *d, const struct runimage *i,
		      struct err *e)
{
	CLEANUP_CLOSE int root = openat(d->fd, RUNMOUNT_ROOTFS,
					O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_RUNUSER struct runuser user = {0};
	CLEANUP_FREE char *cgroup = NULL;
	struct runspec_where w = {
		.rootfs = RUNMOUNT_ROOTFS,
		.unified = is_unified(),
		.user = &user,
	};
	struct json_object *spec;
	const char *text;
	int r;

	if (root < 0)
		return err_set(e, -errno, "%s/" RUNMOUNT_ROOTFS ": %s", d->path,
			       err_name(errno));
	if (asprintf(&cgroup, "/%s", d->id) < 0) {
		cgroup = NULL;
		return err_no_memory(e);
	}
	w.cgroup = cgroup;
	r = runuser_in(root, runspec_user(i->config, i->spec), &user, e);
	if (r == 0)
		r = runspec_make_dirs(i->config, i->spec, root, e);
	if (r == 0)
		r = runspec_make(i->config, i->spec, &w, &spec, e);
	if (r < 0)
		return r;
	text = json_object_to_json_string_ext(spec, JSON_C_TO_STRING_PLAIN);
	r = io_write_file(d->fd, "config.json", text, strlen(text), 0600);
	(void)json_object_put(spec);
	return r < 0 ? err_set(e, r, "%s/config.json: %s", d->path, err_name(r))
		     : 0;
}

static int read_events(const struct rundir *d, const struct runimage *i,
		       struct runimage_result *ret, struct err *e)
{
	CLEANUP_EVLOG struct evlog log = {0};
	int fd = openat(d->fd, RUNMOUNT_EVENTS, O_RDONLY | O_CLOEXEC);
	FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
	int r = f != NULL ? evlog_read(&log, f, e)
			  : err_set(e, -errno, "%s", err_name(errno));

	if (f != NULL)
		(void)fclose(f);
	else if (fd >= 0)
		(void)close(fd);
	/* The rest would be at the end. */
	ret->incomplete = r == -EOVERFLOW || log.lost > 0;
	if (r < 0 && r != -EOVERFLOW)
		return err_wrap(e, "%s/" RUNMOUNT_EVENTS, d->path);
	r = observe(&log, i->layers, i->n_layers, &i->manifest, &ret->seen);
	return r < 0 ? err_no_memory(e) : 0;
}

int runimage(struct rundir *d, const struct runimage *i,
	     struct runimage_result *ret, struct err *e)
{
	int r = runmount(d, i->source, i->plain_http, e);

	if (r == 0)
		r = write_spec(d, i, e);
	if (r == 0)
		r = run_container(d, i->run, &ret->how, &ret->status, e);
	/* What was read last is in the file when they have ended. */
	rundir_unmount(d);
	return r < 0 ? r : read_events(d, i, ret, e);
}
