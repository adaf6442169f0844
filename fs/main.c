/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: mount.estargz, which is estargzfs under its mount helper's name.
 *
 *   front (this file, image.c)   parses, resolves, starts monitors, waits
 *     └ monitor (monitor.c)      one a layer: mounts, supervises, privileged
 *         └ worker (worker.c)    parses, serves; sandboxed
 *
 * With --supervisor there is no front: this process becomes the monitor. With
 * --meta nothing is mounted: see common/meta.h.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "common/err.h"
#include "common/log.h"
#include "common/meta.h"
#include "common/mnttab.h"
#include "fs/connect.h"
#include "fs/image.h"
#include "fs/monitor.h"
#include "fs/options.h"
#include "fs/source.h"
#include "fs/super.h"

/* Whether it is an overlayfs over layers as image.c makes it: their names are
 * numbers, relative to a directory that is gone. */
static bool is_image(const struct mntent *m)
{
	const char *lower = strstr(m->mnt_opts, "lowerdir=");
	size_t n;

	if (strcmp(m->mnt_type, "overlay") != 0 || lower == NULL)
		return false;
	lower += strlen("lowerdir=");
	n = strspn(lower, "0123456789:");
	return n > 0 && (lower[n] == ',' || lower[n] == '\0');
}

/* Whether the topmost mount at @path is one of ours. @path as /proc/mounts has
 * it: absolute. */
static bool is_ours(const char *path)
{
	CLEANUP_MNTTAB struct mnttab t = {0};
	FILE *f = fopen(MNTTAB_SELF, "re");
	bool ours = false;

	while (f != NULL && mnttab_next(&t, f)) {
		if (strcmp(t.m.mnt_dir, path) == 0)
			ours = strcmp(t.m.mnt_type, "fuse.estargz") == 0 ||
			       is_image(&t.m);
	}
	if (f != NULL)
		(void)fclose(f);
	return ours;
}

/* What nftw(3) returns. */
enum {
	DATA_THERE = 1,
	DATA_LOST
};

/* The first file that has bytes: opened, overlayfs looks for them; asked then,
 * whoever serves them is asked. Neither fetches anything. */
static int ask_data(const char *path, const struct stat *st, int flag,
		    struct FTW *ftw UNUSED)
{
	CLEANUP_CLOSE int fd = -EBADF;
	struct statx sx;

	if (flag != FTW_F || !S_ISREG(st->st_mode) || st->st_size == 0)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0 && statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC,
			     STATX_BLOCKS, &sx) == 0)
		return DATA_THERE;
	/* overlayfs says EIO where it finds no data. */
	return errno == ENOTCONN || errno == ECONNABORTED || errno == EIO
		       ? DATA_LOST
		       : DATA_THERE;
}

/* Attributes are cached for ever, also of a mount that nobody serves any more;
 * statfs(2) is always asked. Of merged metadata it asks the kernel, though. */
static bool is_dead(const char *path)
{
	struct statfs sf;

	if (statfs(path, &sf) < 0)
		return errno == ENOTCONN || errno == ECONNABORTED;
	return sf.f_type == OVERLAYFS_SUPER_MAGIC &&
	       nftw(path, ask_data, 8, FTW_PHYS | FTW_MOUNT) == DATA_LOST;
}

/* A mount of ours whose processes were killed: the only thing to be done with
 * it is to take it away. */
static void clear_dead_mount(const char *target)
{
	CLEANUP_FREE char *copy = strdup(target);
	CLEANUP_FREE char *parent = NULL;
	CLEANUP_FREE char *path = NULL;
	char *slash;
	size_t n;

	if (copy == NULL)
		return;
	for (n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
		copy[n - 1] = '\0';
	slash = strrchr(copy, '/');
	if (slash != NULL)
		*slash = '\0';
	parent = realpath(slash == NULL   ? "."
			  : slash == copy ? "/"
					  : copy,
			  NULL);
	if (parent == NULL ||
	    asprintf(&path, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent,
		     slash == NULL ? copy : slash + 1) < 0) {
		path = NULL;
		return;
	}
	for (int tries = 0; tries < 8 && is_ours(path) && is_dead(path);
	     tries++) {
		if (umount2(path, MNT_DETACH) < 0)
			return;
	}
}

/* Makes o->target the absolute path of a directory to mount on. */
static int find_target(struct options *o, struct err *e)
{
	struct stat st;
	char *path;

	clear_dead_mount(o->target);
	path = realpath(o->target, NULL);
	if (path == NULL || stat(path, &st) < 0) {
		int r = -errno;

		free(path);
		return err_set(e, r, "mount point %s: %s", o->target,
			       err_name(r));
	}
	free(o->target);
	o->target = path;
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "mount point %s: %s", path,
			       err_name(ENOTDIR));
	return 0;
}

/* A name that was mistyped is not to become a tree of directories. */
static int make_root(const struct options *o, struct err *e)
{
	if (mkdir(o->root, 0700) < 0 && errno != EEXIST)
		return err_set(e, -errno, "root=%s: %s", o->root,
			       err_name(errno));
	return 0;
}

static int run(struct options *o, struct err *e)
{
	struct source s = {0};
	struct connect c;
	int r;

	if (geteuid() != 0)
		return err_set(e, -EPERM, "mounting needs root");
	r = find_target(o, e);
	if (r == 0)
		r = make_root(o, e);
	if (r < 0)
		return r;
	r = connect_init(&c, o);
	if (r < 0)
		return err_no_memory(e);
	r = source_resolve(&s, o, &c, e);
	if (r == 0)
		r = image_mount(&s, o->target, o, &c, e);
	source_done(&s);
	connect_done(&c);
	return r;
}

/* With a supervisor: this process is the monitor of one layer. */
static int run_supervised(struct options *o, struct super *s, struct err *e)
{
	struct sup_session session;
	CLEANUP_CLOSE int fuse_fd = -EBADF;
	struct source src = {0};
	struct connect c;
	int r = super_begin(s, o->supervisor_fd, &session, &fuse_fd, e);

	/* What is mounted there already is not asked anything: nobody may
	 * answer. */
	if (r == 0 && session.init_len == 0)
		r = find_target(o, e);
	if (r < 0)
		return r;
	r = connect_init(&c, o);
	if (r < 0)
		return err_no_memory(e);
	connect_shared_only(&c);
	r = source_resolve(&src, o, &c, e);
	if (r == 0 && src.n_layers != 1)
		r = err_set(e, -EINVAL, "a supervisor has one layer mounted");
	if (r == 0)
		r = monitor_supervised(&src.layers[0], o->target, o, &c, s,
				       &session, TAKE_FD(fuse_fd), e);
	source_done(&src);
	connect_done(&c);
	return r;
}

/* @ret_said: why it failed is the supervisor's to say */
static int supervised(struct options *o, bool *ret_said, struct err *e)
{
	struct super s;
	int r = run_supervised(o, &s, e);

	if (r < 0)
		*ret_said = super_failed(&s, e);
	super_close(&s);
	return r;
}

int main(int argc, char **argv)
{
	struct options o;
	struct err e = {0};
	bool said = false;
	int r;

	(void)signal(SIGPIPE, SIG_IGN);
	r = options_parse(&o, argc, argv, &e);
	if (r < 0) {
		(void)fprintf(stderr,
			      "mount.estargz: %s (mount.estargz --help)\n",
			      e.text[0] != '\0' ? e.text : err_name(r));
		options_done(&o);
		return 1;
	}
	if (o.action == OPTIONS_META)
		r = meta_serve(o.meta_fd);
	else if (o.action == OPTIONS_HELP)
		(void)fputs(options_help, stdout);
	else if (o.action == OPTIONS_VERSION)
		(void)printf("mount.estargz %s\n", PACKAGE_VERSION);
	else {
		log_set_level(o.log_level);
		r = o.supervisor_fd < 0 ? run(&o, &e)
					: supervised(&o, &said, &e);
	}
	if (r < 0 && !said && o.source != NULL)
		(void)fprintf(stderr, "mount.estargz: %s: %s\n", o.source,
			      e.text[0] != '\0' ? e.text : err_name(r));
	options_done(&o);
	return r == 0 ? 0 : 1;
}
