/* SPDX-License-Identifier: Apache-2.0 */
/* config.toml of estargz-snapshotter: estargz.toml(5). */
#ifndef SNAPSHOTTER_CONF_H
#define SNAPSHOTTER_CONF_H

#include "common/base.h"
#include "common/err.h"
#include "common/log.h"

#define CONFIG_BYTES_MAX KIB(256)

enum userxattr {
	USERXATTR_AUTO, /* what the kernel and our rights ask for */
	USERXATTR_YES,
	USERXATTR_NO
};

enum metadata {
	METADATA_AUTO,  /* merged and mounted by the kernel, where that works */
	METADATA_EROFS, /* the same, and it is an error where it does not */
	METADATA_FUSE,  /* never */
};

/* Keys have the names of the fields, but for those that a comment names. */
struct config {
	char *root;    /* /var/lib/estargz */
	char *address; /* /run/estargz/snapshotter.sock */
	enum log_level log_level;

	/* [fetcher] */
	char *fetcher_address; /* address: /run/estargz/fetcher.sock */
	bool fetcher_start; /* start: run an estargzd where none listens, true */
	char *fetcher_program; /* program: SBINDIR/estargzd */

	/* [layers] */
	bool lazy;             /* true; false: every layer is an ordinary one */
	bool prefetch;         /* true */
	bool background;       /* true */
	bool native;           /* true; complete ones are the kernel's affair */
	const char *open_mode; /* "auto": as estargzfs has it */
	char *estargzfs;       /* program: SBINDIR/mount.estargz */
	unsigned mount_timeout_s;  /* 40; then the layer is an ordinary one */
	unsigned read_timeout_s;   /* 300 */
	char *events_dir;          /* NULL: no events */
	uint64_t events_max_bytes; /* 256 MiB: of all files in it */
	bool scope; /* systemd unit of its own for each, where there is systemd */

	/* [cache] */
	uint64_t cache_max_bytes; /* max_bytes: 16 GiB; 0: no limit */

	/* [mount] */
	char **options; /* [@n_options] options: added to every overlay */
	size_t n_options;
	enum userxattr userxattr; /* "auto", "yes", "no" */
	enum metadata metadata;   /* "auto", "erofs", "fuse" */
};

/* Fills in the defaults. Return: 0, -ENOMEM. */
int config_init(struct config *c);
void config_done(struct config *c);

/**
 * config_parse() - apply a document to a configuration, and check it
 * @text:	[@len] TOML
 *
 * Return: 0; -EINVAL (unknown key or table, wrong type or value; @e names the
 * key, its table and where possible the line); -EBADMSG (not TOML); -ENOMEM
 */
int config_parse(struct config *c, const char *text, size_t len, struct err *e);

/* Whether values make sense as paths, sockets and mount options; for who has changed
 * some after config_parse(). Return: 0, -EINVAL with @e */
int config_check(const struct config *c, struct err *e);

#endif
