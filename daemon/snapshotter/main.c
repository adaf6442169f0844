/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: estargz-snapshotter.
 *
 * | thread | owns                                  | may block on              |
 * | loop   | connections, calls, monitors, signals | epoll; the disk (tree.h)  |
 * | pool   | a method of a call (grpc.h)           | disk, mounts, the network |
 *
 * Made in the order tree, layers, chains, snapshots, grpc; unmade in the other. One
 * instance serves a state directory, which a lock on ROOT/snapshotter.lock
 * sees to. Everything that matters is on disk or in the kernel: being killed
 * at any moment is as good as a shutdown, but for the calls that are under way.
 */
#include "config.h"

#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define LOG_MOD "main"
#include "common/buf.h"
#include "common/io.h"
#include "common/listen.h"
#include "common/systemd.h"
#include "daemon/snapshotter/chains.h"
#include "daemon/snapshotter/layers.h"
#include "daemon/snapshotter/pool.h"
#include "daemon/snapshotter/service.h"
#include "daemon/snapshotter/snapshots.h"

#define CONFIG_PATH "/etc/estargz/config.toml"
#define LOCK_NAME "snapshotter.lock"
#define LOCK_TRIES 100u
#define LOCK_PAUSE_NS 20000000L
/* Together less than 10 s. */
#define ANSWER_MS 8000u
#define FINISH_MS 1000u
#define OOM_SCORE "-999"

struct options {
	const char *address;
	const char *root;
	const char *config;
	const char *log_level;
};

struct snapshotter {
	struct config c;
	int lock_fd;
	int listen_fd;
	bool made_socket;
	struct loop *loop;
	struct loop_io signals;
	bool ending;
	struct pool *pool;
	struct stack stack;
	struct tree *tree;
	struct layers *layers;
	struct chains *chains;
	struct snapshots *snapshots;
	struct grpc *grpc;
};

static const char usage[] =
	"Usage: estargz-snapshotter [OPTION]...\n"
	"Serve snapshots to containerd; mount the layers of images lazily.\n"
	"\n"
	"  --address PATH     listen there (/run/estargz/snapshotter.sock)\n"
	"  --root DIR         state directory (/var/lib/estargz)\n"
	"  --config FILE      configuration (" CONFIG_PATH ")\n"
	"  --log-level LEVEL  err, warn, info or debug\n"
	"  --help             show this\n"
	"  --version          show the version\n";

static int bad_usage(void)
{
	(void)fputs("Try 'estargz-snapshotter --help'.\n", stderr);
	return -EINVAL;
}

/* Return: 0, 1 (done: help or version), -EINVAL. */
static int options_parse(int argc, char **argv, struct options *o)
{
	enum {
		ADDRESS = 256,
		ROOT,
		CONFIG,
		LEVEL,
		HELP,
		VERS
	};
	static const struct option longs[] = {
		{"address", required_argument, NULL, ADDRESS},
		{"root", required_argument, NULL, ROOT},
		{"config", required_argument, NULL, CONFIG},
		{"log-level", required_argument, NULL, LEVEL},
		{"help", no_argument, NULL, HELP},
		{"version", no_argument, NULL, VERS},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == ADDRESS) {
			o->address = optarg;
		} else if (c == ROOT) {
			o->root = optarg;
		} else if (c == CONFIG) {
			o->config = optarg;
		} else if (c == LEVEL) {
			o->log_level = optarg;
		} else if (c == HELP) {
			(void)fputs(usage, stdout);
			return 1;
		} else if (c == VERS) {
			(void)puts("estargz-snapshotter " VERSION);
			return 1;
		} else {
			return bad_usage();
		}
	}
	if (optind < argc) {
		(void)fprintf(stderr, "estargz-snapshotter: what is %s?\n",
			      argv[optind]);
		return bad_usage();
	}
	return 0;
}

/* ---- configuration ---- */

static int replace(char **at, const char *value, struct err *e)
{
	char *s;

	if (value == NULL)
		return 0;
	s = strdup(value);
	if (s == NULL)
		return err_no_memory(e);
	free(*at);
	*at = s;
	return 0;
}

static int read_config(struct config *c, const struct options *o, struct err *e)
{
	const char *path = o->config != NULL ? o->config : CONFIG_PATH;
	CLEANUP_BUF struct buf b = BUF_INIT(CONFIG_BYTES_MAX);
	int r = io_read_file(AT_FDCWD, path, &b);

	if (r == -ENOENT && o->config == NULL)
		return 0;
	if (r < 0)
		return err_set(e, r, "%s: %s", path, err_name(r));
	r = config_parse(c, b.p != NULL ? b.p : "", b.len, e);
	return r < 0 ? err_wrap(e, "%s", path) : 0;
}

/* In a user namespace overlayfs keeps its own xattrs in user.*. */
static bool in_user_namespace(void)
{
	static const char all[] = "         0          0 4294967295\n";
	CLEANUP_BUF struct buf b = BUF_INIT(KIB(64));

	return io_read_file(AT_FDCWD, "/proc/self/uid_map", &b) == 0 &&
	       strcmp(b.p != NULL ? b.p : "", all) != 0;
}

static int configure(struct config *c, const struct options *o, struct err *e)
{
	int r = config_init(c);

	if (r < 0)
		return err_no_memory(e);
	r = read_config(c, o, e);
	if (r == 0)
		r = replace(&c->address, o->address, e);
	if (r == 0)
		r = replace(&c->root, o->root, e);
	if (r == 0)
		r = config_check(c, e);
	if (r == 0 && o->log_level != NULL &&
	    log_parse_level(o->log_level, &c->log_level) < 0)
		r = err_set(e, -EINVAL, "bad log level %s", o->log_level);
	if (r < 0)
		return r;
	log_set_level(c->log_level);
	if (c->userxattr == USERXATTR_AUTO)
		c->userxattr =
			in_user_namespace() ? USERXATTR_YES : USERXATTR_NO;
	return 0;
}

/* ---- the process ---- */

/* As the unit would have it, where nobody has said otherwise. */
static void set_oom_score(void)
{
	static const char path[] = "/proc/self/oom_score_adj";
	CLEANUP_BUF struct buf b = BUF_INIT(64);
	CLEANUP_CLOSE int fd = -EBADF;

	if (io_read_file(AT_FDCWD, path, &b) < 0 || b.p == NULL ||
	    strcmp(b.p, "0\n") != 0)
		return;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || io_write_all(fd, OOM_SCORE, strlen(OOM_SCORE)) < 0)
		log_debug("msg=\"oom_score_adj not set: %s\"", err_name(errno));
}

static void set_limits(void)
{
	struct rlimit rl;

	/* Directories are what containers will see: no mask but the usual. */
	(void)umask(022);
	/* Two descriptors a layer, one a connection. */
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
	/* Threads come and go: one heap, which shrinks when they have gone. */
	(void)mallopt(M_ARENA_MAX, 1);
	(void)mallopt(M_TRIM_THRESHOLD, KIB(64));
	(void)mallopt(M_MMAP_THRESHOLD, KIB(64));
	set_oom_score();
}

/* An instance that is killed while it starts a process leaves the lock to that
 * one, until it executes its program. */
static int take_lock(int fd)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};

	for (unsigned i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (i >= LOCK_TRIES || (errno != EWOULDBLOCK && errno != EINTR))
			return -errno;
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

/* Return: 0, -EBUSY another instance has it, -errno */
static int lock_root(struct snapshotter *s, struct err *e)
{
	CLEANUP_CLOSE int dir = -EBADF;
	int r = io_mkdir_p(s->c.root, 0700);

	if (r == 0) {
		dir = open(s->c.root, O_PATH | O_DIRECTORY | O_CLOEXEC);
		r = dir < 0 ? -errno : 0;
	}
	if (r < 0)
		return err_set(e, r, "%s: %s", s->c.root, err_name(r));
	s->lock_fd = openat(dir, LOCK_NAME,
			    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd < 0)
		return err_set(e, -errno, "%s/" LOCK_NAME ": %s", s->c.root,
			       err_name(errno));
	r = take_lock(s->lock_fd);
	if (r == -EWOULDBLOCK)
		return err_set(e, -EBUSY,
			       "%s: another estargz-snapshotter serves it",
			       s->c.root);
	return r < 0 ? err_set(e, r, "%s/" LOCK_NAME ": flock: %s", s->c.root,
			       err_name(r))
		     : 0;
}

static int open_socket(struct snapshotter *s, struct err *e)
{
	int fd = systemd_socket();

	if (fd >= 0) {
		s->listen_fd = listen_inherited(fd, SOCK_STREAM, e);
	} else {
		s->listen_fd = listen_unix(s->c.address, SOCK_STREAM, e);
		s->made_socket = s->listen_fd >= 0;
	}
	return MIN(s->listen_fd, 0);
}

/* ---- signals ---- */

static void on_answered(void *arg)
{
	struct snapshotter *s = arg;

	loop_stop(s->loop);
}

/* The first asks; the second does not wait. */
static void on_signal(struct loop_io *io, uint32_t events)
{
	struct snapshotter *s = LIST_ENTRY(io, struct snapshotter, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(io->fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	if (s->ending) {
		loop_stop(s->loop);
		return;
	}
	s->ending = true;
	log_info("msg=ending signal=%u", info.ssi_signo);
	systemd_notify("STOPPING=1");
	grpc_shutdown(s->grpc, ANSWER_MS, on_answered, s);
}

static int watch_signals(struct snapshotter *s, struct err *e)
{
	sigset_t set;
	int r;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	r = sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -errno : 0;
	s->signals.fn = on_signal;
	s->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (r == 0 && s->signals.fd < 0)
		r = -errno;
	if (r == 0)
		r = loop_io_add(s->loop, &s->signals, EPOLLIN);
	return r < 0 ? err_set(e, r, "signals: %s", err_name(r)) : 0;
}

/* ---- life ---- */

static int open_snapshots(struct snapshotter *s, struct err *e)
{
	CLEANUP_FREE char *db = NULL;
	int r;

	if (asprintf(&db, "%s/snapshots.db", s->c.root) < 0)
		return err_no_memory(e);
	s->stack = (struct stack){
		.root = s->c.root,
		.userxattr = s->c.userxattr == USERXATTR_YES,
		.options = (const char *const *)s->c.options,
		.n_options = s->c.n_options,
	};
	r = tree_open(&s->tree, db, e);
	if (r == 0)
		r = layers_open(&s->layers, &s->c, s->tree, s->loop, e);
	if (r == 0)
		r = chains_open(&s->chains, &s->c, &s->stack, s->tree, e);
	if (r == 0)
		r = snapshots_open(&s->snapshots, &s->stack, s->tree, s->layers,
				   s->chains, e);
	return r;
}

/* Without them there are no lazy layers but those that are mounted; all else works. */
static void look_for_programs(const struct config *c)
{
	if (c->lazy && access(c->estargzfs, X_OK) < 0)
		log_err("msg=\"program in [layers]: %s: %s: no layer is mounted "
			"lazily\"",
			c->estargzfs, err_name(-errno));
	if (c->lazy && c->fetcher_start && access(c->fetcher_program, X_OK) < 0)
		log_err("msg=\"program in [fetcher]: %s: %s: no estargzd is "
			"started\"",
			c->fetcher_program, err_name(-errno));
}

static int start(struct snapshotter *s, const struct options *o, struct err *e)
{
	int r = configure(&s->c, o, e);

	if (r < 0)
		return r;
	look_for_programs(&s->c);
	set_limits();
	r = lock_root(s, e);
	if (r == 0)
		r = open_socket(s, e);
	if (r < 0)
		return r;
	s->loop = loop_new();
	s->pool = pool_new(POOL_THREADS_MAX);
	if (s->loop == NULL || s->pool == NULL)
		return err_no_memory(e);
	/* Before the first thread, which inherits the mask. */
	r = watch_signals(s, e);
	if (r == 0)
		r = open_snapshots(s, e);
	if (r == 0)
		r = grpc_new(&s->grpc, s->loop, s->pool, s->listen_fd,
			     service_methods, SERVICE_METHODS_N, s->snapshots,
			     e);
	if (r == 0)
		s->listen_fd = -1;
	return r;
}

static int serve(struct snapshotter *s, struct err *e)
{
	int r;

	log_info("msg=listening version=" VERSION " socket=%s root=%s",
		 s->made_socket ? s->c.address : "inherited", s->c.root);
	systemd_notify("READY=1");
	r = loop_run(s->loop);
	if (r < 0)
		return err_set(e, r, "event loop: %s", err_name(r));
	if (pool_wait(s->pool, FINISH_MS) == 0 &&
	    chains_wait(s->chains, FINISH_MS) == 0)
		return 0;
	/* Nobody waits for what these do, and it may take long: it is left as a
	 * crash would leave it. */
	log_info("msg=\"calls are left behind\"");
	if (s->made_socket)
		(void)unlink(s->c.address);
	_exit(EXIT_SUCCESS);
}

static void finish(struct snapshotter *s)
{
	pool_free(s->pool);
	grpc_free(s->grpc);
	snapshots_close(s->snapshots);
	chains_close(s->chains);
	layers_close(s->layers);
	tree_close(s->tree);
	if (s->signals.fd >= 0)
		(void)close(s->signals.fd);
	loop_free(s->loop);
	if (s->listen_fd >= 0)
		(void)close(s->listen_fd);
	if (s->made_socket)
		(void)unlink(s->c.address);
	if (s->lock_fd >= 0)
		(void)close(s->lock_fd);
	config_done(&s->c);
}

int main(int argc, char **argv)
{
	struct options o = {0};
	struct snapshotter s = {
		.lock_fd = -1,
		.listen_fd = -1,
		.signals = {.fd = -1},
	};
	struct err e = {0};
	int r = options_parse(argc, argv, &o);

	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : 2;
	r = start(&s, &o, &e);
	if (r == 0)
		r = serve(&s, &e);
	finish(&s);
	if (r < 0) {
		(void)fprintf(stderr, "estargz-snapshotter: %s\n", e.text);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
