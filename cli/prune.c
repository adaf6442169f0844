/* SPDX-License-Identifier: Apache-2.0 */
/* estargz prune: removes caches of layers that nobody uses. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <json.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "common/err.h"
#include "common/io.h"
#include "common/layerdir.h"

static const char help[] =
	"Usage: estargz prune [--max-bytes SIZE] [--dry-run] [--json] "
	"[--root DIR]\n"
	"Remove the caches of layers that are neither mounted nor needed by a\n"
	"snapshot, least recently used first.\n"
	"\n"
	"  -m, --max-bytes SIZE  until all caches take at most SIZE: bytes, or\n"
	"                        with K, M, G, T behind [0: every unused one]\n"
	"  -n, --dry-run         only say what would be removed\n"
	"  -j, --json            a JSON object\n"
	"      --root DIR        state directory [/var/lib/estargz]\n"
	"  -h, --help            print this\n";

/* What the command line says. */
struct prune {
	const char *root;
	bool root_given;
	uint64_t max_bytes;
	bool dry_run;
	bool json;
	struct json_object *removed; /* an array */
};

static void note(void *arg, const char *name, uint64_t bytes)
{
	struct prune *p = arg;
	struct json_object *o;

	if (!p->json) {
		(void)printf("%s %s  %.1f MiB\n",
			     p->dry_run ? "would remove" : "removed", name,
			     (double)bytes / (double)MIB(1));
		return;
	}
	o = json_object_new_object();
	(void)json_object_object_add(o, "layer", json_object_new_string(name));
	(void)json_object_object_add(o, "bytes", json_object_new_uint64(bytes));
	(void)json_object_array_add(p->removed, o);
}

static void print_json(const struct prune *p, const struct layerdir_evicted *d)
{
	const struct {
		const char *key;
		uint64_t value;
	} numbers[] = {
		{"bytes_removed", d->bytes},   {"layers_removed", d->n},
		{"bytes_left", d->bytes_left}, {"layers_left", d->n_left},
		{"bytes_used", d->bytes_used}, {"layers_used", d->n_used},
	};
	struct json_object *o = json_object_new_object();

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		(void)json_object_object_add(
			o, numbers[i].key,
			json_object_new_uint64(numbers[i].value));
	(void)json_object_object_add(o, "dry_run",
				     json_object_new_boolean(p->dry_run));
	(void)json_object_object_add(o, "removed", json_object_get(p->removed));
	(void)puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	(void)json_object_put(o);
}

/* What mkfs(8) makes does not count. */
static bool is_empty(int fd)
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = own >= 0 ? fdopendir(own) : NULL;
	struct dirent *de;
	bool any = false;

	while (d != NULL && !any && (de = readdir(d)) != NULL)
		any = strcmp(de->d_name, ".") != 0 &&
		      strcmp(de->d_name, "..") != 0 &&
		      strcmp(de->d_name, "lost+found") != 0;
	if (d != NULL)
		(void)closedir(d);
	else if (own >= 0)
		(void)close(own);
	return d != NULL && !any;
}

/* Whether something was ever mounted with it, or it is for that: nothing else is
 * to be walked. */
static bool is_state(int fd)
{
	static const char *const names[] = {
		"layers/sha256", "layers/unverified", "traces/sha256",
		"manifests/sha256", "snapshots.db"};
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		any = any || faccessat(fd, names[i], F_OK, 0) == 0;
	return any || is_empty(fd);
}

static int run(struct prune *p)
{
	CLEANUP_CLOSE int fd =
		open(p->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct layerdir_evicted done;
	struct err e = {0};
	int r;

	/* Of the default one it only says that nothing was mounted yet. */
	if (fd < 0 && (errno != ENOENT || p->root_given))
		return cli_fail("prune", "%s: %s", p->root, err_name(errno));
	if (p->root_given && !is_state(fd))
		return cli_fail("prune",
				"%s: not a state directory: no layers in it",
				p->root);
	p->removed = json_object_new_array();
	r = layerdir_evict(p->root, p->max_bytes, p->dry_run, note, p, &done,
			   &e);
	if (r < 0)
		(void)cli_fail("prune", "%s", e.text);
	else if (p->json)
		print_json(p, &done);
	else
		(void)printf("%s %zu layer%s, %.1f MiB; left %zu, %.1f MiB, of "
			     "which in use %zu, %.1f MiB\n",
			     p->dry_run ? "would remove" : "removed", done.n,
			     done.n == 1 ? "" : "s",
			     (double)done.bytes / (double)MIB(1), done.n_left,
			     (double)done.bytes_left / (double)MIB(1),
			     done.n_used,
			     (double)done.bytes_used / (double)MIB(1));
	(void)json_object_put(p->removed);
	return r < 0 ? 1 : 0;
}

int cli_prune(int argc, char **argv)
{
	static const struct option longs[] = {
		{"max-bytes", required_argument, NULL, 'm'},
		{"dry-run", no_argument, NULL, 'n'},
		{"json", no_argument, NULL, 'j'},
		{"root", required_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct prune p = {.root = LAYERDIR_ROOT_DEFAULT};
	int c;

	while ((c = getopt_long(argc, argv, "m:njh", longs, NULL)) != -1) {
		switch (c) {
		case 'm':
			if (io_parse_bytes(optarg, &p.max_bytes) == 0)
				break;
			return cli_fail("prune",
					"--max-bytes %s: not a size, as 10GiB "
					"is",
					optarg);
		case 'n':
			p.dry_run = true;
			break;
		case 'j':
			p.json = true;
			break;
		case 'r':
			p.root = optarg;
			p.root_given = true;
			break;
		case 'h':
			(void)fputs(help, stdout);
			return 0;
		default:
			return 1;
		}
	}
	if (optind < argc)
		return cli_fail("prune", "%s: unexpected", argv[optind]);
	return run(&p);
}
