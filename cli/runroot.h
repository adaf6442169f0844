/* SPDX-License-Identifier: Apache-2.0 */
/* Files of an image's tree, which is hostile: no link leads out of it. */
#ifndef CLI_RUNROOT_H
#define CLI_RUNROOT_H

#include "common/base.h"
#include "common/buf.h"
#include "common/err.h"

/* openat2(2) with RESOLVE_IN_ROOT; close-on-exec. Return: descriptor, -errno */
int runroot_open(int root_fd, const char *path, int flags);

/* mkdir -p, links resolved inside the root. Return: 0, -errno */
int runroot_mkdir_p(int root_fd, const char *path);

/* Appends a regular file. Return: 0, -ENOENT, -EINVAL (no regular file),
 * -EOVERFLOW (above @b's maximum), -errno */
int runroot_read(int root_fd, const char *path, struct buf *b);

/**
 * struct runuser - who a process is
 * @groups:	[@n_groups] besides @gid
 */
struct runuser {
	uint32_t uid;
	uint32_t gid;
	uint32_t *groups;
	size_t n_groups;
};
void runuser_done(struct runuser *u);
#define CLEANUP_RUNUSER CLEANUP(runuser_done)

/**
 * runuser_find() - "USER[:GROUP]", each a name or a number
 * @passwd, @group: text of the image's files, NULL where it has none
 * @user:	"" is root
 *
 * A number need not be in the files; its group is 0 then. Groups that list the
 * user come with it, but where GROUP is given.
 * Source: OCI image-spec config.md, "User"
 * Return: 0, -ENOENT (no such name), -EINVAL, -ENOMEM
 */
int runuser_find(const char *passwd, const char *group, const char *user,
		 struct runuser *ret, struct err *e);

/* The same, from /etc/passwd and /etc/group below @root_fd. */
int runuser_in(int root_fd, const char *user, struct runuser *ret,
	       struct err *e);

#endif
