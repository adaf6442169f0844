/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of mount.estargz / estargzfs. */
#ifndef FS_OPTIONS_H
#define FS_OPTIONS_H

#include "common/base.h"
#include "common/digest.h"
#include "common/err.h"
#include "common/log.h"

#define OPTIONS_RUN_DIR "/run/estargz"
#define OPTIONS_FETCHER_DEFAULT OPTIONS_RUN_DIR "/fetcher.sock"
#define OPTIONS_READ_TIMEOUT_S 300u
#define OPTIONS_EVENTS_MAX MIB(1024)

enum options_action {
	OPTIONS_MOUNT,
	OPTIONS_HELP,
	OPTIONS_VERSION,
	OPTIONS_META /* meta_serve() on meta_fd */
};

/* Whether OPEN is answered: fs/passthru.h. */
enum options_open {
	OPTIONS_OPEN_AUTO,
	OPTIONS_OPEN_NOOPEN,
	OPTIONS_OPEN_PASSTHROUGH,
	OPTIONS_OPEN_N_
};

/**
 * struct options - what was asked for
 * @layer:	"N" or "sha256:…", NULL: the whole image
 * @mount_flags: MS_… of the mount words; MS_RDONLY always
 * @supervisor_fd: a socket to the supervisor (common/sup.h), or -1
 * @events:	file that what happens is appended to, or NULL
 * @events_max:	and how large that may become
 * @tail:	bytes of the TOC and footer of @layer, 0: not known
 * @read_timeout_s: a read waits at most this long for missing bytes
 */
struct options {
	enum options_action action;
	char *source;
	char *target;
	char *layer;
	char *root;
	char *fetcher;
	char *events;
	int supervisor_fd;
	int meta_fd;
	unsigned long mount_flags;
	uint32_t read_timeout_s;
	uint32_t tail;
	uint64_t events_max;
	enum log_level log_level;
	enum options_open open_mode;
	bool foreground;
	bool plain_http;
	bool noprefetch;
	bool notrace;
	bool nobackground;
	bool noreadahead;
	bool nonative;
	bool opaque_user;
	bool no_verify;
	bool has_digest;
	bool has_toc_digest;
	bool has_trace;
	bool has_manifest;
	struct digest digest;
	struct digest toc_digest;
	struct digest trace;
	struct digest manifest;
};

/**
 * options_parse() - from argv, with defaults filled in
 *
 * Return: 0, -EINVAL with one line in @e
 */
int options_parse(struct options *o, int argc, char **argv, struct err *e);
void options_done(struct options *o);

/* What --help prints; ends with a newline. */
extern const char options_help[];

#endif
