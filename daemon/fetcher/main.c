/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: estargzd, the fetcher. One thread runs the loop and owns everything:
 * clients, connections, timers. (libcurl starts a thread of its own for each
 * name it looks up; it touches nothing of ours.) The loop blocks in
 * epoll_wait() and in reads of local files: at most 1 MiB of a passed
 * descriptor or a spool at a time, and small configuration files.
 *
 * Nothing here is durable: a fetcher that is killed is started again, and its
 * clients connect and ask again.
 */
#include "config.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#define LOG_MOD "main"
#include "common/buf.h"
#include "common/io.h"
#include "common/listen.h"
#include "common/systemd.h"
#include "daemon/fetcher/blob.h"
#include "daemon/fetcher/fetchd.h"
#include "daemon/fetcher/metrics.h"
#include "daemon/fetcher/play.h"
#include "daemon/fetcher/refer.h"
#include "daemon/fetcher/sandbox.h"
#include "daemon/fetcher/server.h"
#include "daemon/fetcher/several.h"
#include "daemon/fetcher/warm.h"

#define CONFIG_PATH "/etc/estargz/estargzd.toml"

struct options {
	const char *socket;
	const char *config;
	const char *log_level;
	int socket_fd;
	bool exit_when_idle;
};

struct signals {
	struct loop_io io; /* first */
	struct loop *loop;
};

static const char usage[] =
	"Usage: estargzd [OPTION]...\n"
	"Fetch blobs and manifests from registries for estargzfs.\n"
	"\n"
	"  --socket PATH      listen there (/run/estargz/fetcher.sock)\n"
	"  --socket-fd N      use an inherited listening socket\n"
	"  --config FILE      configuration (" CONFIG_PATH ")\n"
	"  --log-level LEVEL  err, warn, info or debug\n"
	"  --exit-when-idle   end a second after the last client has gone\n"
	"  --help             show this\n"
	"  --version          show the version\n";

static int bad_usage(void)
{
	(void)fputs("Try 'estargzd --help'.\n", stderr);
	return -EINVAL;
}

/* Return: 0, 1 (done: help or version), -EINVAL. */
static int options_parse(int argc, char **argv, struct options *o)
{
	enum {
		SOCKET = 256,
		SOCKET_FD,
		CONFIG,
		LEVEL,
		IDLE,
		HELP,
		VERS
	};
	static const struct option longs[] = {
		{"socket", required_argument, NULL, SOCKET},
		{"socket-fd", required_argument, NULL, SOCKET_FD},
		{"config", required_argument, NULL, CONFIG},
		{"log-level", required_argument, NULL, LEVEL},
		{"exit-when-idle", no_argument, NULL, IDLE},
		{"help", no_argument, NULL, HELP},
		{"version", no_argument, NULL, VERS},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == SOCKET) {
			o->socket = optarg;
		} else if (c == SOCKET_FD) {
			char *end;
			long n = strtol(optarg, &end, 10);

			if (end == optarg || *end != '\0' || n < 0 ||
			    n > 1048576) {
				(void)fprintf(stderr,
					      "estargzd: bad descriptor %s\n",
					      optarg);
				return bad_usage();
			}
			o->socket_fd = (int)n;
		} else if (c == CONFIG) {
			o->config = optarg;
		} else if (c == LEVEL) {
			o->log_level = optarg;
		} else if (c == IDLE) {
			o->exit_when_idle = true;
		} else if (c == HELP) {
			(void)fputs(usage, stdout);
			return 1;
		} else if (c == VERS) {
			(void)puts("estargzd " VERSION);
			return 1;
		} else {
			return bad_usage();
		}
	}
	if (optind < argc) {
		(void)fprintf(stderr, "estargzd: what is %s?\n", argv[optind]);
		return bad_usage();
	}
	return 0;
}

static int configure(struct config *c, const struct options *o, struct err *e)
{
	const char *path = o->config != NULL ? o->config : CONFIG_PATH;
	CLEANUP_BUF struct buf b = BUF_INIT(CONFIG_BYTES_MAX);
	int r = config_init(c);

	if (r < 0)
		return err_no_memory(e);
	r = io_read_file(AT_FDCWD, path, &b);
	if (r == 0)
		r = config_parse(c, b.p != NULL ? b.p : "", b.len, e);
	else if (r == -ENOENT && o->config == NULL)
		return 0;
	else
		return err_set(e, r, "%s: %s", path, err_name(r));
	return r < 0 ? err_wrap(e, "%s", path) : 0;
}

static int apply_options(struct config *c, const struct options *o,
			 struct err *e)
{
	if (o->log_level != NULL &&
	    log_parse_level(o->log_level, &c->log_level) < 0)
		return err_set(e, -EINVAL, "bad log level %s", o->log_level);
	if (o->socket != NULL) {
		char *s = strdup(o->socket);

		if (s == NULL)
			return err_no_memory(e);
		free(c->socket);
		c->socket = s;
	}
	log_set_level(c->log_level);
	return 0;
}

/* The listening socket; *ret_path: to be removed at the end, or NULL. */
static int open_socket(const struct config *c, const struct options *o,
		       const char **ret_path, struct err *e)
{
	int fd = o->socket_fd >= 0 ? o->socket_fd : systemd_socket();

	*ret_path = NULL;
	if (fd >= 0)
		return listen_inherited(fd, SOCK_SEQPACKET, e);
	*ret_path = c->socket;
	return server_listen(c->socket, c->socket_mode, c->socket_group, e);
}

static void on_signal(struct loop_io *io, uint32_t events)
{
	struct signals *s = (struct signals *)(void *)io;
	struct signalfd_siginfo info;

	(void)events;
	if (read(io->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		loop_stop(s->loop);
}

static int signals_init(struct signals *s, struct loop *l, struct err *e)
{
	sigset_t set;
	int r;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	r = sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -errno : 0;
	s->loop = l;
	s->io.fn = on_signal;
	s->io.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (r == 0 && s->io.fd < 0)
		r = -errno;
	if (r == 0)
		r = loop_io_add(l, &s->io, EPOLLIN);
	return r < 0 ? err_set(e, r, "signals: %s", err_name(r)) : 0;
}

static void on_dispatch(struct loop_task *t)
{
	job_dispatch(LIST_ENTRY(t, struct fetchd, dispatch));
}

static void on_dispatch_timer(struct loop_timer *t)
{
	job_dispatch(LIST_ENTRY(t, struct fetchd, dispatch_timer));
}

static void on_origin(void *arg, struct origin *o)
{
	const struct fetchd *d = arg;

	*origin_sched(o) = (struct sched_host){
		.breaker = &o->breaker,
		.max = d->cfg.connections_per_host,
	};
}

static int registry_set_up(struct fetchd *d)
{
	const struct registry_settings set = {
		.agent = "estargzd",
		.hosts_dir = d->cfg.hosts_dir,
		.docker_config = d->cfg.docker_config,
		.connect_timeout_ms = d->cfg.connect_timeout_ms,
		.stall_timeout_s = d->cfg.stall_timeout_s,
		.origin_bytes = sizeof(struct source),
		.origin_init = on_origin,
		.arg = d,
	};

	return registry_init(&d->reg, d->loop, &set);
}

static int fetchd_init(struct fetchd *d, struct err *e)
{
	int r;

	list_init(&d->blobs);
	list_init(&d->idle_blobs);
	list_init(&d->warms);
	list_init(&d->plays);
	list_init(&d->refers);
	list_init(&d->severals);
	d->dispatch.fn = on_dispatch;
	d->dispatch_timer.fn = on_dispatch_timer;
	d->started_ns = io_now_ns();
	sched_init(&d->sched, d->cfg.background_max_bytes_per_s);
	d->sha256 = sha256_new();
	d->loop = loop_new();
	if (d->sha256 == NULL || d->loop == NULL)
		return err_set(e, -ENOMEM, "cannot set up the event loop");
	r = registry_set_up(d);
	if (r < 0)
		return err_set(e, r, "cannot set up HTTP");
	if (d->cfg.metrics_address == NULL)
		return 0;
	return metrics_new(d, d->cfg.metrics_address, &d->metrics, e);
}

static void fetchd_done(struct fetchd *d)
{
	metrics_free(d->metrics);
	server_free(d->server);
	refer_drop_all(d);
	several_drop_all(d);
	warm_drop_all(d);
	play_drop_all(d);
	while (!list_empty(&d->blobs))
		blob_free(LIST_ENTRY(d->blobs.next, struct blob, node));
	registry_done(&d->reg);
	loop_free(d->loop);
	sha256_free(d->sha256);
	config_done(&d->cfg);
}

static int run(struct fetchd *d, const struct options *o, struct err *e)
{
	struct signals sig = {.io = {.fd = -1}};
	const char *path = NULL;
	int fd, r;

	r = configure(&d->cfg, o, e);
	if (r == 0)
		r = apply_options(&d->cfg, o, e);
	if (r < 0)
		return r;
	fd = open_socket(&d->cfg, o, &path, e);
	if (fd < 0)
		return fd;
	r = fetchd_init(d, e);
	if (r < 0)
		(void)close(fd);
	else
		r = server_new(d, fd, o->exit_when_idle, &d->server, e);
	if (r == 0)
		r = signals_init(&sig, d->loop, e);
	if (r == 0)
		r = sandbox_enter(e);
	if (r == 0) {
		log_info("msg=listening version=" VERSION " socket=%s",
			 path != NULL ? path : "inherited");
		systemd_notify("READY=1");
		r = loop_run(d->loop);
		if (r < 0)
			err_set(e, r, "event loop: %s", err_name(r));
		systemd_notify("STOPPING=1");
	}
	if (sig.io.fd >= 0)
		(void)close(sig.io.fd);
	server_free(TAKE_PTR(d->server));
	if (path != NULL)
		(void)listen_remove(path, SOCK_SEQPACKET, NULL);
	return r;
}

int main(int argc, char **argv)
{
	struct options o = {.socket_fd = -1};
	struct fetchd d = {0};
	struct err e = {0};
	int r = io_std_fds();

	if (r < 0)
		return EXIT_FAILURE;
	r = options_parse(argc, argv, &o);
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : 2;
	r = run(&d, &o, &e);
	if (d.loop != NULL)
		fetchd_done(&d);
	else
		config_done(&d.cfg);
	if (r < 0) {
		(void)fprintf(stderr, "estargzd: %s\n", e.text);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
