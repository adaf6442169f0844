/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs/image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "common/buf.h"
#include "common/io.h"
#include "fs/merged.h"
#include "fs/monitor.h"
#include "fs/native.h"
#define LOG_MOD "image"
#include "common/log.h"

#define IMAGES_DIR OPTIONS_RUN_DIR "/images"
#define OVERLAY_OPTIONS_MAX 4095u /* mount(2) takes one page */

/* A layer, and the monitor that was started for it. */
struct child {
	pid_t pid;
	int ready_fd; /* its end, or struct err */
	char *target; /* NULL: not one of ours */
	bool native;  /* the kernel's, without a monitor */
};

/* A daemon's log: syslog's socket where there is one. */
static void log_to_syslog(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0)
		return;
	if (connect(s, (const struct sockaddr *)&sa, sizeof(sa)) < 0) {
		(void)close(s);
		return;
	}
	log_set_fd(s);
}

/* In the child: a session of its own, no terminal. */
static void detach(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)setsid();
	if (chdir("/") < 0 || null < 0)
		return;
	(void)dup2(null, STDIN_FILENO);
	(void)dup2(null, STDOUT_FILENO);
	(void)dup2(null, STDERR_FILENO);
	if (null > STDERR_FILENO)
		(void)close(null);
	log_to_syslog();
}

static int start_child(struct child *ch, const struct layer *layer,
		       const char *target, const struct options *o,
		       struct connect *c, struct err *e)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(e, -errno, "socketpair: %s", err_name(errno));
	ch->pid = fork();
	if (ch->pid < 0) {
		int r = -errno;

		(void)close(sv[0]);
		(void)close(sv[1]);
		ch->pid = 0;
		return err_set(e, r, "fork: %s", err_name(r));
	}
	if (ch->pid == 0) {
		(void)close(sv[0]);
		connect_forked(c);
		if (!o->foreground)
			detach();
		_exit(monitor_main(layer, target, o, c, sv[1]));
	}
	(void)close(sv[1]);
	ch->ready_fd = sv[0];
	return 0;
}

/* Waits until a child is ready. Return: 0, its error */
static int await_child(struct child *ch, struct err *e)
{
	struct err got = {0};
	size_t n = 0;

	while (n < sizeof(got)) {
		ssize_t k =
			read(ch->ready_fd, (char *)&got + n, sizeof(got) - n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			break;
		n += (size_t)k;
	}
	if (n == sizeof(got) && got.code == 0)
		return 0;
	(void)close(ch->ready_fd);
	ch->ready_fd = -1;
	if (n < sizeof(got))
		return err_set(e, -EIO, "estargzfs died while mounting");
	*e = got;
	return got.code < 0 ? got.code : -EIO;
}

/* Tells a child that its mount is wanted; without that it takes it away. */
static void keep_child(struct child *ch)
{
	(void)io_write_all(ch->ready_fd, "k", 1);
	(void)close(ch->ready_fd);
	ch->ready_fd = -1;
}

static void await_exit(struct child *ch)
{
	while (ch->pid > 0 && waitpid(ch->pid, NULL, 0) < 0 && errno == EINTR)
		;
	ch->pid = 0;
}

static sigset_t held_signals(void)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	return set;
}

/* In the foreground: until all monitors have ended. Asked to end, it
 * unmounts, which ends them. */
static void await_unmount(struct child *v, size_t n, const char *target)
{
	sigset_t set = held_signals();

	for (;;) {
		size_t alive = 0;
		int sig;

		for (size_t i = 0; i < n; i++) {
			if (v[i].pid > 0 &&
			    waitpid(v[i].pid, NULL, WNOHANG) == v[i].pid)
				v[i].pid = 0;
			alive += v[i].pid > 0;
		}
		if (alive == 0)
			return;
		sig = sigwaitinfo(&set, NULL);
		if (sig > 0 && sig != SIGCHLD)
			(void)umount2(target, MNT_DETACH);
	}
}

/* Signals wait from before the first child until await_unmount(). */
static void hold_signals(void)
{
	sigset_t set = held_signals();

	(void)sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Return: whether the kernel has it mounted there now */
static bool mount_native(const struct layer *layer, const char *target,
			 const struct options *o)
{
	CLEANUP_CLOSE int fd = -EBADF;
	struct err e;
	int r;

	if (!native_may(layer, o))
		return false;
	fd = native_mount(layer, o, &e);
	r = fd < 0 ? fd : native_attach(fd, target, &e);
	if (r < 0 && r != -EAGAIN && r != -ENOSYS)
		log_warn("err=%s msg=\"%s; it is not mounted by the kernel\"",
			 err_symbol(r), e.text);
	return r == 0;
}

static void await_native(const char *target)
{
	sigset_t set = held_signals();

	native_await(target, native_mount_id(target), &set);
}

static int mount_one(const struct layer *layer, const char *target,
		     const struct options *o, struct connect *c, struct err *e)
{
	struct child ch = {.ready_fd = -1};
	int r;

	if (mount_native(layer, target, o)) {
		if (o->foreground)
			await_native(target);
		return 0;
	}
	r = start_child(&ch, layer, target, o, c, e);
	if (r < 0)
		return r;
	r = await_child(&ch, e);
	if (r < 0) {
		await_exit(&ch);
		return r;
	}
	keep_child(&ch);
	if (o->foreground)
		await_unmount(&ch, 1, target);
	return r;
}

/* ---- several layers ---------------------------------------------------- */

static int make_place(struct child *v, size_t i, const char *dir, struct err *e)
{
	if (asprintf(&v[i].target, "%s/%zu", dir, i) < 0) {
		v[i].target = NULL;
		return err_no_memory(e);
	}
	if (mkdir(v[i].target, 0700) < 0 && errno != EEXIST)
		return err_set(e, -errno, "%s: %s", v[i].target,
			       err_name(errno));
	return 0;
}

/* Those that need a monitor first: they get ready while the others are looked
 * at. */
static int start_layers(struct child *v, const struct source *s,
			const char *dir, const struct options *o,
			struct connect *c, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->n_layers; i++)
		r = make_place(v, i, dir, e);
	for (size_t i = 0; r == 0 && i < s->n_layers; i++) {
		if (!v[i].native)
			r = start_child(&v[i], &s->layers[i], v[i].target, o, c,
					e);
	}
	for (size_t i = 0; r == 0 && i < s->n_layers; i++) {
		if (!v[i].native)
			continue;
		v[i].native = mount_native(&s->layers[i], v[i].target, o);
		if (!v[i].native)
			r = start_child(&v[i], &s->layers[i], v[i].target, o, c,
					e);
	}
	return r;
}

static int await_layers(struct child *v, const struct source *s, struct err *e)
{
	int first = 0;

	for (size_t i = 0; i < s->n_layers; i++) {
		char d[DIGEST_STR_BYTES];
		struct err mine = {0};
		int r;

		if (v[i].ready_fd < 0)
			continue;
		r = await_child(&v[i], &mine);
		if (r < 0 && first == 0) {
			first = r;
			*e = mine;
			(void)err_wrap(e, "layer %s",
				       digest_str(&s->layers[i].digest, d));
		}
	}
	return first;
}

/* overlayfs copies mode and owner of its root from the inode of the topmost
 * layer's root, and FUSE knows nothing of that one before it is asked. */
static void learn_roots(const struct child *v, size_t n)
{
	struct stat st;

	for (size_t i = 0; i < n; i++) {
		if (stat(v[i].target, &st) < 0)
			log_debug("target=%s err=%s", v[i].target,
				  err_symbol(errno));
	}
}

/* lowerdir=N-1:…:0, relative to the directory, so that 120 layers fit. With
 * merged metadata, lowerdir=N::N-1::…::0: the layers have data alone. */
static int mount_overlay(const struct source *s, const char *dir,
			 const char *target, bool merged,
			 const struct options *o, struct err *e)
{
	CLEANUP_BUF struct buf opts = BUF_INIT(OVERLAY_OPTIONS_MAX);
	int r = buf_add_str(&opts, "lowerdir=");

	if (r == 0 && merged)
		r = buf_addf(&opts, "%zu::", s->n_layers);
	for (size_t i = s->n_layers; r == 0 && i-- > 0;)
		r = buf_addf(&opts, "%zu%s", i,
			     i == 0   ? ""
			     : merged ? "::"
				      : ":");
	if (r == 0 && o->opaque_user)
		r = buf_add_str(&opts, ",userxattr");
	if (r < 0)
		return err_set(e, r, "too many layers for overlayfs");
	if (chdir(dir) < 0)
		return err_set(e, -errno, "%s: %s", dir, err_name(errno));
	r = mount(o->source, target, "overlay", o->mount_flags, opts.p) < 0
		    ? -errno
		    : 0;
	if (chdir("/") < 0 || r < 0)
		return err_set(e, r < 0 ? r : -EIO,
			       "cannot mount overlayfs on %s: %s", target,
			       err_name(r));
	return 0;
}

/* With all layers mounted by FUSE: names and attributes by the kernel. Return:
 * whether it is mounted so */
static bool mount_merged(struct child *v, const struct source *s,
			 const char *dir, const char *target,
			 const struct options *o)
{
	CLEANUP_CLOSE int fd = -EBADF;
	struct err e;
	int r;

	fd = merged_mount(s, o, &e);
	r = fd < 0 ? fd : make_place(v, s->n_layers, dir, &e);
	if (r == 0)
		r = native_attach(fd, v[s->n_layers].target, &e);
	if (r == 0)
		r = mount_overlay(s, dir, target, true, o, &e);
	if (r < 0)
		log_debug("err=%s msg=\"%s; no merged metadata\"",
			  err_symbol(r), e.text);
	return r == 0;
}

/* Lets go of the layers' mounts: the overlayfs keeps what it needs; without
 * one their monitors end. */
static void drop_layers(struct child *v, size_t n, const char *dir)
{
	for (size_t i = 0; i < n; i++) {
		if (v[i].target == NULL)
			continue;
		(void)umount2(v[i].target, MNT_DETACH);
		(void)rmdir(v[i].target);
		free(v[i].target);
		v[i].target = NULL;
	}
	(void)rmdir(dir);
}

/* Directories of mounts that were killed before they were complete. */
static void sweep(void)
{
	DIR *d = opendir(IMAGES_DIR);
	struct dirent *de;

	while (d != NULL && (de = readdir(d)) != NULL) {
		int pid = (int)strtol(de->d_name, NULL, 10);
		CLEANUP_FREE char *dir = NULL;
		DIR *in;

		if (pid <= 0 || kill(pid, 0) == 0 || errno != ESRCH)
			continue;
		if (asprintf(&dir, IMAGES_DIR "/%d", pid) < 0) {
			dir = NULL;
			break;
		}
		in = opendir(dir);
		while (in != NULL && (de = readdir(in)) != NULL) {
			struct statfs sf;

			if (de->d_name[0] == '.' || fchdir(dirfd(in)) < 0)
				continue;
			/* Asks whoever serves it, unlike stat(2). */
			if (statfs(de->d_name, &sf) < 0
				    ? errno == ENOTCONN || errno == ECONNABORTED
				    : sf.f_type == EROFS_SUPER_MAGIC_V1)
				(void)umount2(de->d_name, MNT_DETACH);
			(void)unlinkat(dirfd(in), de->d_name, AT_REMOVEDIR);
		}
		if (in != NULL)
			(void)closedir(in);
		(void)rmdir(dir);
	}
	if (d != NULL)
		(void)closedir(d);
	if (chdir("/") < 0)
		return;
}

static size_t count_native(const struct child *v, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		k += v[i].native;
	return k;
}

/**
 * try_layers() - all of it, or nothing is left
 * @v:		[n_layers + 1]; those that are native may be had so
 * @merged:	none is; merged metadata may be tried
 *
 * Return: 0; 1 not with layers that the kernel has mounted; -errno
 */
static int try_layers(struct child *v, const struct source *s, const char *dir,
		      const char *target, bool merged, const struct options *o,
		      struct connect *c, struct err *e)
{
	size_t n = s->n_layers;
	int r = start_layers(v, s, dir, o, c, e);

	if (r == 0)
		r = await_layers(v, s, e);
	else
		(void)await_layers(v, s, NULL);
	if (r == 0)
		learn_roots(v, n);
	if (r == 0 && !(merged && mount_merged(v, s, dir, target, o))) {
		r = mount_overlay(s, dir, target, false, o, e);
		if (r < 0 && count_native(v, n) > 0) {
			log_warn("err=%s msg=\"%s; without EROFS, then\"",
				 err_symbol(r), e->text);
			r = 1;
		}
	}
	for (size_t i = 0; i < n; i++) {
		if (r == 0 && !v[i].native)
			keep_child(&v[i]);
		else if (v[i].ready_fd >= 0)
			(void)close(TAKE_FD(v[i].ready_fd));
	}
	drop_layers(v, n + 1, dir);
	for (size_t i = 0; r != 0 && i < n; i++)
		await_exit(&v[i]);
	return r;
}

/* All layers complete: the kernel's, one a layer. Else all by FUSE, below merged
 * metadata where that can be; a layer without a name in the cache has none, and
 * beside it the kernel's for those that are complete. */
static int try_forms(struct child *v, const struct source *s, const char *dir,
		     const char *target, const struct options *o,
		     struct connect *c, struct err *e)
{
	size_t n = s->n_layers;
	bool merged;
	int r = 1;

	for (size_t i = 0; i < n; i++)
		v[i].native = native_may(&s->layers[i], o);
	merged = count_native(v, n) < n && merged_may(s, o);
	for (int tries = 0; r > 0 && tries < 2; tries++) {
		for (size_t i = 0; (merged || tries > 0) && i < n; i++)
			v[i].native = false;
		r = io_mkdir_p(dir, 0700);
		if (r < 0)
			return err_set(e, r, "%s: %s", dir, err_name(r));
		r = try_layers(v, s, dir, target, merged, o, c, e);
	}
	return r;
}

static int mount_image(const struct source *s, const char *target,
		       const struct options *o, struct connect *c,
		       struct err *e)
{
	CLEANUP_FREE struct child *v = calloc(s->n_layers + 1, sizeof(*v));
	CLEANUP_FREE char *dir = NULL;
	int r;

	if (v == NULL || asprintf(&dir, IMAGES_DIR "/%d", (int)getpid()) < 0) {
		dir = NULL;
		return err_no_memory(e);
	}
	for (size_t i = 0; i < s->n_layers; i++)
		v[i].ready_fd = -1;
	sweep();
	r = try_forms(v, s, dir, target, o, c, e);
	if (r == 0 && o->foreground &&
	    count_native(v, s->n_layers) < s->n_layers)
		await_unmount(v, s->n_layers, target);
	else if (r == 0 && o->foreground)
		await_native(target);
	return r;
}

int image_mount(const struct source *s, const char *target,
		const struct options *o, struct connect *c, struct err *e)
{
	if (o->foreground)
		hold_signals();
	if (s->n_layers == 1)
		return mount_one(&s->layers[0], target, o, c, e);
	return mount_image(s, target, o, c, e);
}
