/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "daemon/snapshotter/scope.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/io.h"
#define LOG_MOD "scope"
#include "common/log.h"

#define PIDS_MAX 8u
#define TRIES 5u

/* The process and its children, which were made before it could be moved.
 * Those made later are where it is. */
static size_t family(pid_t pid, char (*ret)[16])
{
	CLEANUP_BUF struct buf b = BUF_INIT(KIB(4));
	char path[64];
	size_t n = 1;
	char *next;

	(void)snprintf(ret[0], sizeof(ret[0]), "%d", (int)pid);
	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children",
		       (int)pid, (int)pid);
	if (io_read_file(AT_FDCWD, path, &b) < 0 || b.p == NULL)
		return n;
	next = b.p;
	while (next != NULL && n < PIDS_MAX) {
		const char *word = strsep(&next, " ");

		if (*word != '\0' && strlen(word) < sizeof(ret[n]))
			(void)snprintf(ret[n++], sizeof(ret[0]), "%s", word);
	}
	return n;
}

static void call(struct scope_call *c);

/* A worker that is replaced meanwhile is gone when systemd looks for it. */
static void on_busctl(void *arg, int status)
{
	struct scope_call *c = arg;
	struct scope *sc = c->sc;

	if (status != 0 && ++c->tries < TRIES && kill(c->pid, 0) == 0) {
		call(c);
		return;
	}
	c->sc = NULL;
	if (status != 0 && !sc->failed)
		log_debug("status=%d msg=\"layers have no units of their own: "
			  "busctl failed\"",
			  status);
	sc->failed = status != 0;
}

static void call(struct scope_call *c)
{
	char pids[PIDS_MAX][16], name[64], description[256], count[16];
	/* DefaultDependencies=yes would end it before the containers when the
	 * machine goes down. */
	const char *argv[25 + PIDS_MAX] = {
		"busctl",
		"--quiet",
		"call",
		"org.freedesktop.systemd1",
		"/org/freedesktop/systemd1",
		"org.freedesktop.systemd1.Manager",
		"StartTransientUnit",
		"ssa(sv)a(sa(sv))",
		name,
		"fail",
		"4",
		"Description",
		"s",
		description,
		"DefaultDependencies",
		"b",
		"false",
		"CollectMode",
		"s",
		"inactive-or-failed",
		"PIDs",
		"au",
		count,
	};
	size_t n_pids, n = 0;
	struct err e = {0};

	n_pids = family(c->pid, pids);
	(void)snprintf(name, sizeof(name), "estargz-layer-%" PRId64 "-%u.scope",
		       c->id, c->serial);
	(void)snprintf(description, sizeof(description), "Lazy layer of %s",
		       c->source);
	(void)snprintf(count, sizeof(count), "%zu", n_pids);
	while (argv[n] != NULL)
		n++;
	for (size_t i = 0; i < n_pids; i++)
		argv[n++] = pids[i];
	argv[n++] = "0";
	assert(n < ARRAY_SIZE(argv));
	if (spawn(c->s, argv, -1, true, on_busctl, c, NULL, &e) < 0) {
		log_debug("msg=\"%s\"", e.text);
		c->sc = NULL;
	}
}

void scope_start(struct scope *sc, struct spawner *s, int64_t id,
		 unsigned serial, pid_t pid, const char *source)
{
	struct scope_call *c = sc->calls;

	if (!sc->on)
		return;
	while (c < sc->calls + SCOPE_CALLS && c->sc != NULL)
		c++;
	if (c == sc->calls + SCOPE_CALLS) {
		log_debug("msg=\"systemd is asked for too much at once\"");
		return;
	}
	*c = (struct scope_call){
		.sc = sc, .s = s, .id = id, .serial = serial, .pid = pid};
	(void)snprintf(c->source, sizeof(c->source), "%s", source);
	call(c);
}
