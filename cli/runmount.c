/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/runmount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "cli/runproc.h"

#define MOUNT_TIMEOUT_MS 120000
#define EVENTS_MAX "512MiB"

static int make_dirs(const struct rundir *d, struct err *e)
{
	static const char *const names[] = {"lower", "upper", "work",
					    RUNMOUNT_ROOTFS, "state"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (mkdirat(d->fd, names[i], 0755) < 0)
			return err_set(e, -errno, "%s/%s: %s", d->path,
				       names[i], err_name(errno));
	}
	return 0;
}

static int mount_layers(const struct rundir *d, const char *source,
			bool plain_http, struct err *e)
{
	CLEANUP_FREE char *program = NULL;
	CLEANUP_FREE char *target = NULL;
	CLEANUP_FREE char *opts = NULL;
	const char *argv[] = {NULL, source, NULL, "-o", NULL, NULL};
	int r = runproc_find_ours("mount.estargz", "../fs/", &program);

	if (r < 0)
		return err_set(e, r, "mount.estargz: %s", err_name(r));
	/* No fetcher that others use: it may have the bytes already, and what
	 * it is asked for now is in no hurry. */
	if (asprintf(&target, "%s/lower", d->path) < 0 ||
	    asprintf(&opts,
		     "root=%s/state,fetcher=%s/none,events=%s/" RUNMOUNT_EVENTS
		     ",events_max=" EVENTS_MAX
		     ",noreadahead,noprefetch,nobackground%s",
		     d->path, d->path, d->path,
		     plain_http ? ",plain_http" : "") < 0)
		return err_no_memory(e);
	argv[0] = program;
	argv[2] = target;
	argv[4] = opts;
	return runproc_run(argv, -1, MOUNT_TIMEOUT_MS, e);
}

/* Relative names: what is above them may be long. */
static int mount_overlay(const struct rundir *d, struct err *e)
{
	CLEANUP_CLOSE int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (here < 0 || fchdir(d->fd) < 0)
		return err_set(e, -errno, "%s: %s", d->path, err_name(errno));
	r = mount("overlay", RUNMOUNT_ROOTFS, "overlay", 0,
		  "lowerdir=lower,upperdir=upper,workdir=work") < 0
		    ? -errno
		    : 0;
	if (fchdir(here) < 0 && r == 0)
		r = -errno;
	return r < 0 ? err_set(e, r,
			       "cannot mount overlayfs on %s/" RUNMOUNT_ROOTFS
			       ": %s",
			       d->path, err_name(r))
		     : 0;
}

int runmount(const struct rundir *d, const char *source, bool plain_http,
	     struct err *e)
{
	int r = make_dirs(d, e);

	if (r == 0)
		r = mount_layers(d, source, plain_http, e);
	return r == 0 ? mount_overlay(d, e) : r;
}
